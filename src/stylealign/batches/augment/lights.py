"""Augmentations of light and weather: shadows, slopes of light, lamps, fog, rain and snow before the face.

Light multiplies the odds of a value (`shift_logits`), so that nothing is clipped. Weather lies before the face and lets
it through: less than half of any place is hidden, so landmarks stay visible.
"""

import math

import torch
from torch import Tensor

from stylealign.batches.augment.operation import smooth_noise
from stylealign.batches.batch import Batch
from stylealign.batches.camera import motion_kernels
from stylealign.batches.pixels import face_generator, per_face, restyled, shift_logits, soft_inside


def axes(like: Tensor) -> tuple[Tensor, Tensor]:
    """x (1, 1, 1, S) and y (1, 1, S, 1) over the crop, -0.5 to 0.5."""
    size = like.shape[-1]
    axis = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) / size - 0.5
    return axis[None, None, None, :], axis[None, None, :, None]


def _lit(batch: Batch, shift: Tensor, strength: Tensor) -> Batch:
    return restyled(batch, shift_logits(batch.image, shift * per_face(strength, shift)), strength > 0)


def shadow(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Cast a soft-edged shadow over each face: of a wall's edge, of something round, or of a blind.

    Draws: which, where, how wide, how sharp its edge (1 to 15 % of the crop), how dark (0.25 to 2 logits), and its
    colour, which is bluer or warmer than the lamp's as the sky's light is. What is not in the shadow gets a little
    brighter.
    """
    size = batch.image.shape[-1]
    d = draws.to(batch.image)
    axis = (torch.arange(size, dtype=d.dtype, device=d.device) + 0.5) / size - 0.5  # the crop is -0.5 ... 0.5
    x, y = axis[None, None, None, :], axis[None, None, :, None]
    angle = 2 * math.pi * d[:, 1]
    cos, sin = per_face(angle.cos(), d), per_face(angle.sin(), d)
    along, aside = cos * x + sin * y, cos * y - sin * x
    edge = along - per_face(0.5 * d[:, 2] - 0.25, d)
    centre = per_face(0.7 * d[:, 2] - 0.35, d)
    radii = per_face(0.12 + 0.28 * d[:, 3], d), per_face(0.12 + 0.28 * d[:, 4], d)
    length = (((along - centre) / radii[0]).square() + (aside / radii[1]).square()).sqrt()
    ellipse = (length - 1) * (radii[0] + radii[1]) / 2
    period = per_face(0.15 + 0.25 * d[:, 3], d)
    stripe = ((along / period + per_face(d[:, 2], d)).remainder(1.0) - 0.5).abs() * period - 0.25 * period
    kind = per_face(d[:, 0], d)
    distance = torch.where(kind < 0.4, edge, torch.where(kind < 0.75, ellipse, stripe))
    soft = per_face(0.01 + 0.14 * d[:, 5].square(), d)
    soft = torch.where(kind < 0.75, soft, torch.minimum(soft, 0.5 * period))
    dark = soft_inside(distance * size, soft * size)
    depth = per_face(-0.25 - 1.75 * d[:, 6], d) * (1 + 0.2 * (2 * per_face(d[:, 7:10], d) - 1))
    shift = dark * depth + (1 - dark) * per_face(0.5 * d[:, 10], d)
    return restyled(batch, shift_logits(batch.image, shift * per_face(strength, d)), strength > 0)


def gradient(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Light from one side: bright there, dark on the other."""
    d = draws.to(batch.image)
    x, y = axes(batch.image)
    angle = 2 * math.pi * d[:, 0]
    along = per_face(angle.cos(), d) * x + per_face(angle.sin(), d) * y
    return _lit(batch, 4.0 * along, strength)


def lamp(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A round light of some colour on a part of the face."""
    image = batch.image
    d = draws.to(image)
    x, y = axes(image)
    squared = (x - per_face(0.7 * d[:, 0] - 0.35, d)).square() + (y - per_face(0.7 * d[:, 1] - 0.35, d)).square()
    near = (-squared / (2 * per_face(0.10 + 0.15 * d[:, 2], d).square())).exp()
    colour = 1 + 0.5 * (2 * per_face(d[:, 3:6], d) - 1)
    return _lit(batch, 1.8 * near * colour, strength)


def two_lights(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Lights of two colours, one from each side, as on a stage."""
    image = batch.image
    d = draws.to(image)
    x, y = axes(image)
    angle = 2 * math.pi * d[:, 0]
    along = per_face(angle.cos(), d) * x + per_face(angle.sin(), d) * y
    side = torch.sigmoid(10 * along)
    first, second = (1.5 * (2 * per_face(d[:, k : k + 3], d) - 1) for k in (1, 4))
    return _lit(batch, side * first + (1 - side) * second, strength)


def vignette(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Dark corners, round a place near the middle."""
    d = draws.to(batch.image)
    x, y = axes(batch.image)
    squared = (x - per_face(0.2 * d[:, 0] - 0.1, d)).square() + (y - per_face(0.2 * d[:, 1] - 0.1, d)).square()
    return _lit(batch, -6.0 * squared, strength)


def uneven_light(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Patches of light and shade, as under leaves."""
    size = batch.image.shape[-1]
    patches = smooth_noise(draws[:, 0], 1, 6, size, batch.image)
    return _lit(batch, 3.5 * (patches - 0.5), strength)


def _before(batch: Batch, colour: Tensor | float, alpha: Tensor, strength: Tensor) -> Batch:
    """Something that lets the face through: `alpha` (B, 1, S, S) below a half of a colour in [-1, 1]."""
    return restyled(batch, batch.image + alpha * (colour - batch.image), strength > 0)


def fog(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Fog: all colours drawn towards a light grey, in clouds."""
    image = batch.image
    clouds = smooth_noise(draws[:, 0], 1, 4, image.shape[-1], image)
    grey = per_face(0.3 + 0.6 * draws[:, 1], image)
    return _before(batch, grey, per_face(strength, image) * (0.28 + 0.21 * clouds), strength)


def _scattered(draws: Tensor, share: Tensor, size: int, like: Tensor) -> Tensor:
    """(B, 1, size, size): 0, and numbers in (0, 1] on a share (B,) of the pixels."""
    random = torch.stack([torch.rand(2, size, size, generator=face_generator(seed)) for seed in draws.cpu()]).to(like)
    return (random[:, :1] < per_face(share, like)) * (0.4 + 0.6 * random[:, 1:])


def _drawn_out(spots: Tensor, kernels: Tensor) -> Tensor:
    """(B, 1, S, S) spots, each drawn as its face's kernel (B, K, K); what leaves on one side comes in on the other."""
    size, reach = spots.shape[-1], kernels.shape[-1] // 2
    spread = torch.fft.rfft2(spots) * torch.fft.rfft2(kernels[:, None], s=(size, size))
    return torch.fft.irfft2(spread, s=(size, size)).roll((-reach, -reach), dims=(2, 3)).clamp(min=0)


def rain(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Streaks of rain, all slanting alike."""
    image = batch.image
    size = image.shape[-1]
    drops = _scattered(draws[:, 0], 0.012 * strength, size, image)
    angle = math.pi / 2 + (2 * draws[:, 1] - 1) * 0.5
    length = (0.10 + 0.06 * draws[:, 2]) * size
    kernels = motion_kernels(length.to(image), angle.to(image), math.ceil(0.08 * size) + 1)
    streaks = _drawn_out(drops, kernels / kernels.amax(dim=(1, 2), keepdim=True))
    return _before(batch, 0.7, 0.49 * (0.8 * streaks).clamp(max=1), strength)


def snow(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Flakes of snow, all of about one size."""
    image = batch.image
    size = image.shape[-1]
    flakes = _scattered(draws[:, 0], 0.02 * strength, size, image)
    reach = math.ceil(0.02 * size) + 1
    axis = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    away = (axis[:, None].square() + axis[None, :].square()).sqrt()
    discs = ((0.006 + 0.010 * draws[:, 1].to(image))[:, None, None] * size + 0.5 - away).clamp(0, 1)
    return _before(batch, 0.95, 0.49 * _drawn_out(flakes, discs).clamp(max=1), strength)
