"""Augmentations of colour: each maps the colours of a face to others, the same everywhere in the picture.

Values are in [0, 1] here. Which of two ways, up or down, comes from the draws, how far from the strength.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment.operation import signs
from stylealign.batches.batch import Batch
from stylealign.batches.pixels import per_face, restyled, shift_logits
from stylealign.data.image import LUMA

_BINS = 64
# Each order of red, green and blue but the first.
_ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def values_of(batch: Batch) -> Tensor:
    """(B, 3, S, S) in [0, 1]."""
    return batch.image.add(1).mul_(0.5).clamp_(0, 1)


def luma_of(values: Tensor) -> Tensor:
    """(B, 1, S, S) lightness of (B, 3, S, S) colours."""
    weights = torch.tensor(LUMA, dtype=values.dtype, device=values.device).view(1, 3, 1, 1)
    return (values * weights).sum(dim=1, keepdim=True)


def with_values(batch: Batch, values: Tensor, strength: Tensor) -> Batch:
    """The batch with other colours in [0, 1] where `strength` is above 0."""
    return restyled(batch, values.mul(2).sub_(1), strength > 0)


def _up_or_down(strength: Tensor, draws: Tensor, most: float, like: Tensor) -> Tensor:
    """(B, 1, 1, 1) `most` times the strength, up or down."""
    return per_face(most * strength.to(like) * signs(draws[:, 0]).to(like), like)


def brightness(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Multiply all values by one factor."""
    values = values_of(batch)
    return with_values(batch, values * _up_or_down(strength, draws, math.log(1.6), values).exp(), strength)


def exposure(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Expose longer or shorter: the odds of every value are multiplied, so that nothing is clipped."""
    shift = _up_or_down(strength, draws, 1.5, batch.image)
    return restyled(batch, shift_logits(batch.image, shift), strength > 0)


def contrast(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Spread values round the face's mean, or draw them together."""
    values = values_of(batch)
    mean = values.mean(dim=(1, 2, 3), keepdim=True)
    return with_values(batch, mean + (values - mean) * _up_or_down(strength, draws, 0.7, values).exp(), strength)


def gamma(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Raise values to a power: lighter or darker in the middle tones."""
    values = values_of(batch)
    return with_values(batch, values.pow(_up_or_down(strength, draws, 0.8, values).exp()), strength)


def saturation(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Colours stronger, or paler."""
    values = values_of(batch)
    grey_ = luma_of(values)
    amount = strength.to(values)
    factor = torch.where(draws[:, 0].to(values) < 0.5, 1 - 0.9 * amount, 1 + 1.5 * amount)
    return with_values(batch, grey_ + (values - grey_) * per_face(factor, values), strength)


def hue(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Turn all hues round the grey axis."""
    values = values_of(batch)
    angle = _up_or_down(strength, draws, math.pi, values)[:, :, 0]
    eye = torch.eye(3, dtype=values.dtype, device=values.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=values.dtype, device=values.device) / 3**0.5
    matrix = angle.cos() * eye + angle.sin() * cross + (1 - angle.cos()) / 3  # Rodrigues, round (1, 1, 1)
    turned = (matrix @ values.flatten(2)).view(values.shape)
    return with_values(batch, turned, strength)


def temperature(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Warmer light, or colder: red up and blue down, or the other way round."""
    red = torch.tensor([1.0, 0.1, -1.0], dtype=batch.image.dtype, device=batch.image.device).view(1, 3, 1, 1)
    shift = _up_or_down(strength, draws, 1.0, batch.image) * red
    return restyled(batch, shift_logits(batch.image, shift), strength > 0)


def cast(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A cast of any colour over the picture, as bright as before."""
    angle = 2 * math.pi * draws[:, 0]
    thirds = torch.tensor([0.0, 1.0, 2.0], dtype=angle.dtype, device=angle.device) * (2 * math.pi / 3)
    shift = per_face((angle[:, None] - thirds).cos(), batch.image) * per_face(1.2 * strength, batch.image)
    return restyled(batch, shift_logits(batch.image, shift), strength > 0)


def grey(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Take the colours away."""
    values = values_of(batch)
    return with_values(
        batch, torch.lerp(values, luma_of(values).expand_as(values), per_face(strength, values)), strength
    )


def sepia(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """An old photograph: shades of one colour, brown, blue or green."""
    values = values_of(batch)
    tints = torch.tensor([[0.35, 0.0, -0.45], [-0.4, 0.0, 0.4], [-0.1, 0.25, -0.25]], dtype=values.dtype)
    tint = per_face(tints[(3 * draws[:, 0]).long().cpu()], values)
    toned = shift_logits(luma_of(values).mul(2).sub(1).expand_as(values), 1.6 * tint).add(1).mul(0.5)
    return with_values(batch, torch.lerp(values, toned, per_face(strength, values)), strength)


def channel_shuffle(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Give red, green and blue each other's values."""
    values = values_of(batch)
    order = torch.tensor(_ORDERS)[(len(_ORDERS) * draws[:, 0]).long().cpu()].to(values.device)
    shuffled = values.contiguous().gather(1, order[:, :, None, None].expand_as(values))
    return with_values(batch, torch.lerp(values, shuffled, per_face(strength, values)), strength)


def channel_drop(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Take one of red, green and blue away, down to a tenth."""
    values = values_of(batch)
    chosen = F.one_hot((3 * draws[:, 0]).long(), 3).to(values)
    return with_values(batch, values * (1 - 0.9 * per_face(chosen, values) * per_face(strength, values)), strength)


def posterise(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Leave few levels a channel."""
    values = values_of(batch)
    steps = per_face((255 * (4 / 255) ** strength.to(values)).round(), values)
    return with_values(batch, (values * steps).round() / steps, strength)


def solarise(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Fold bright values back: what is brighter than a threshold gets darker the brighter it was."""
    values = values_of(batch)
    threshold = per_face(1 - 0.5 * strength, values)
    return with_values(batch, threshold - (values - threshold).abs(), strength)


def equalise(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Make all levels of lightness equally common: each colour goes where its lightness ranks."""
    values = values_of(batch).contiguous()
    luma = luma_of(values).flatten(1)
    bins = (luma * _BINS).long().clamp_(0, _BINS - 1)
    counts = torch.zeros(len(values), _BINS, dtype=values.dtype, device=values.device)
    counts = counts.scatter_add_(1, bins, torch.ones_like(luma))
    curve = F.pad(counts.cumsum(dim=1) / luma.shape[1], (1, 0))  # at the bins' edges, 0 to 1
    at = values.flatten(1) * _BINS
    below = at.long().clamp_(0, _BINS - 1)
    low, high = curve.gather(1, below), curve.gather(1, below + 1)
    found = (low + (high - low) * (at - below)).view(values.shape)
    return with_values(batch, torch.lerp(values, found, per_face(strength, values)), strength)


def auto_contrast(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Stretch each channel over the whole range: two standard deviations to either side of its mean."""
    values = values_of(batch)
    mean = values.mean(dim=(2, 3), keepdim=True)
    spread = values.std(dim=(2, 3), keepdim=True).clamp(min=0.02)
    stretched = (0.5 + (values - mean) / (4 * spread)).clamp(0, 1)
    return with_values(batch, torch.lerp(values, stretched, per_face(strength, values)), strength)
