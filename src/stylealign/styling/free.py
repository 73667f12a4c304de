"""Free style arms: colours, contrasts and low frequencies taken from a donor, by statistics alone; nothing is trained.

Each is an `Arm` (arm.py). None of them moves a pixel: they map colours (jitter, histogram, adain), scale the bands of
a pyramid (adain_pyramid) or add a smooth picture (fda). They work on whole crops, so that pixels replicated beyond a
picture's border count as the rest does. They know no landmarks.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.data.image import LUMA

MAX_GAIN = 3.0
"""The largest factor of contrast, and 1 over the smallest: in a grey picture there are no colours to stretch, only
noise."""
PYRAMID_LEVELS = 4
BETA = (0.01, 0.05)
"""Range of FDA's beta, the half side of the swapped window over the picture's side. At the paper's 0.09 clouds of
colour cover faces, which the donor does not have."""
_BINS = 256
# Rows: lightness, red against blue, green against both. Orthonormal, and nearly decorrelated on photographs (Ohta et
# al., 1980).
_OPPONENT = ((3**-0.5, 3**-0.5, 3**-0.5), (2**-0.5, 0.0, -(2**-0.5)), (-(6**-0.5), 2 * 6**-0.5, -(6**-0.5)))


def _opponent(like: Tensor) -> Tensor:
    return torch.tensor(_OPPONENT, dtype=like.dtype, device=like.device)


def _per_face(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)"""
    return values.view(-1, 1, 1, 1)


def _map_colours(image: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """A (B, 3, 3) matrix and (B, 3) offset applied to the colours of (B, 3, H, W)."""
    return torch.baddbmm(offset[:, :, None], matrix, image.flatten(2)).view(image.shape)


def _signed(draws: Tensor, column: int, like: Tensor) -> Tensor:
    return (2 * draws[:, column] - 1).to(like)


def jitter(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Change hue, saturation, contrast, brightness and gamma strongly, at random. Looks at no donor.

    `strength` scales every range. At 1 they are: hue 90 degrees to either side, and up or down by a factor of e in
    saturation, e^0.6 in contrast, e^0.4 in brightness and e^0.5 in gamma. Hue turns colours round the grey axis,
    contrast is round the face's mean colour, gamma is of values in [0, 1].
    """
    image = content.image
    signed = [strength * _signed(draws, i, image) for i in range(5)]
    angle, saturation = signed[0] * (torch.pi / 2), signed[1].exp()
    contrast, brightness, gamma = (0.6 * signed[2]).exp(), (0.4 * signed[3]).exp(), (0.5 * signed[4]).exp()
    eye = torch.eye(3, dtype=image.dtype, device=image.device)
    # Rodrigues' rotation round (1, 1, 1) / sqrt(3).
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=image.dtype, device=image.device) / 3**0.5
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turn = cos * eye + sin * cross + (1 - cos) / 3
    luma = torch.tensor(LUMA, dtype=image.dtype, device=image.device).expand(3, 3)
    saturate = luma + saturation[:, None, None] * (eye - luma)
    matrix = (contrast * brightness)[:, None, None] * (saturate @ turn)
    values = (image.contiguous() + 1) / 2
    mean = values.mean(dim=(2, 3))  # the first three keep a face's mean but for its hue
    offset = ((1 - contrast) * brightness)[:, None] * (saturate @ turn @ mean[:, :, None]).squeeze(2)
    values = _map_colours(values, matrix, offset).clamp_(0, 1).pow_(_per_face(gamma))
    styled = values.mul_(2).sub_(1)
    return content._replace(image=torch.where(_per_face(strength) > 0, styled, image))


def _cumulative(rows: Tensor) -> Tensor:
    """(R, N) values 0 to 255 -> (R, 256) share of the row below the middle of each value's own pixels."""
    # Row by row: one count of all rows at once needs an index of 8 bytes a pixel, which takes four times as long.
    counts = torch.stack([torch.histc(row, _BINS, -0.5, _BINS - 0.5) for row in rows])
    return (counts.cumsum(dim=1) - counts / 2) / rows.shape[1]


def histogram(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Match histograms, channel by channel: each value becomes the donor's value of the same rank (Gonzalez and Woods).

    By cumulative histograms of 256 bins, linear between bins. `strength` blends the two pictures.
    """
    image = content.image.contiguous()
    rows = ((image.flatten(2) + 1) * 127.5).clamp_(0, 255).flatten(0, 1)
    donor = ((donors.image.contiguous().flatten(2) + 1) * 127.5).clamp_(0, 255).flatten(0, 1)
    ours, theirs = _cumulative(rows), _cumulative(donor)
    # Where in the donor's cumulative histogram each of our 256 values lies, and the value there.
    above = torch.searchsorted(theirs, ours.contiguous()).clamp_(1, _BINS - 1)
    low, high = theirs.gather(1, above - 1), theirs.gather(1, above)
    share = ((ours - low) / (high - low).clamp_min(1e-9)).clamp_(0, 1)
    table = above - 1 + share  # (R, 256)
    step = F.pad(table.diff(dim=1), (0, 1))
    below = rows.floor()
    at = below.long()
    matched = (table.gather(1, at) + step.gather(1, at) * (rows - below)).view(image.shape) / 127.5 - 1
    return content._replace(image=image + _per_face(strength) * (matched - image))


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3) mean and (B, 3, 3) covariance of the colours of (B, 3, H, W)."""
    colours = image.flatten(2)
    mean = colours.mean(dim=2)
    centred = colours - mean[:, :, None]
    return mean, centred @ centred.transpose(1, 2) / colours.shape[2]


def adain(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Give each opponent colour channel (lightness, red - blue, green - both) the donor's mean and standard deviation.

    AdaIN (Huang and Belongie, ICCV 2017, equation 8) on colours instead of features: Reinhard et al.'s colour
    transfer (2001). The space is orthonormal and nearly decorrelated, so that lightness and tint change apart.
    `strength` blends the two pictures.
    """
    image = content.image.contiguous()
    space = _opponent(image)
    (mean, spread), (donor_mean, donor_spread) = _moments(image), _moments(donors.image.contiguous())
    variance, donor_variance = (
        torch.einsum("ij,bjk,ik->bi", space, s, space).clamp_min(1e-6) for s in (spread, donor_spread)
    )
    gain = (donor_variance / variance).sqrt().clamp(1 / MAX_GAIN, MAX_GAIN)
    change = space.T @ (gain[:, :, None] * space) - torch.eye(3, dtype=image.dtype, device=image.device)
    offset = donor_mean - mean - (change @ mean[:, :, None]).squeeze(2)
    styled = image + _per_face(strength) * _map_colours(image, change, offset)
    return content._replace(image=styled.clamp_(-1, 1))


@lru_cache(maxsize=32)
def _halving(size: int) -> tuple[Tensor, Tensor]:
    """Two matrices for a row of `size` pixels: one halves it by means of two, the other doubles it again, bilinearly.

    Their shapes are (h, size) and (size, h), h = ceil(size / 2). As products with these, resampling on a CPU takes a
    third of the time of torch's pooling and interpolation.
    """
    small = -(-size // 2)
    down = F.avg_pool1d(torch.eye(size), 2, ceil_mode=True, count_include_pad=False).T.contiguous()
    up = F.interpolate(torch.eye(small)[:, None], scale_factor=2.0, mode="linear", align_corners=False)
    return down, up[:, 0, :size].T.contiguous()


def _resampled(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return rows.to(image) @ image @ columns.to(image).T


def _bands(image: Tensor, levels: int) -> list[Tensor]:
    """Laplacian pyramid of (B, C, H, W), fine to coarse: what each halving loses, then what is left."""
    bands = []
    for _ in range(levels):
        if min(image.shape[-2:]) < 2:
            break
        (down_y, up_y), (down_x, up_x) = (_halving(side) for side in image.shape[-2:])
        small = _resampled(image, down_y, down_x)
        bands.append(image - _resampled(small, up_y, up_x))
        image = small
    return [*bands, image]


def adain_pyramid(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """AdaIN in a Laplacian pyramid: each band gets the donor's standard deviation, the coarsest its mean too.

    In the channels of `adain`. Sharpness and grain come along with the colours. `strength` blends the two pictures.
    """
    space = _opponent(content.image)
    faces, change = [], None  # the change is of the content, in opponent colours, summed from the coarsest band up
    for batch in (content, donors):
        image = batch.image.contiguous()
        faces.append(_bands(_map_colours(image, space.expand(len(image), 3, 3), image.new_zeros(1, 3)), PYRAMID_LEVELS))
    for ours, theirs in zip(*(reversed(bands) for bands in faces), strict=True):
        mean, donor_mean = (band.mean(dim=(2, 3), keepdim=True) for band in (ours, theirs))
        variance, donor_variance = (
            (band.square().mean(dim=(2, 3), keepdim=True) - m.square()).clamp_min(1e-6)
            for band, m in ((ours, mean), (theirs, donor_mean))
        )
        gain = (donor_variance / variance).sqrt().clamp(1 / MAX_GAIN, MAX_GAIN) - 1
        if change is None:
            change = gain * (ours - mean) + donor_mean - mean
        else:
            change = _resampled(change, *(_halving(side)[1] for side in ours.shape[-2:])).addcmul_(gain, ours)
    assert change is not None
    change = _map_colours(change, space.T.expand(len(change), 3, 3), change.new_zeros(1, 3))
    styled = content.image + _per_face(strength) * change
    return content._replace(image=styled.clamp_(-1, 1))


@lru_cache(maxsize=32)
def _cosines(size: int, count: int) -> Tensor:
    """(count, size) float32: the first rows of the orthonormal discrete cosine transform (type II)."""
    pixel, row = torch.arange(size, dtype=torch.float64), torch.arange(count, dtype=torch.float64)
    basis = torch.cos(torch.pi / size * row[:, None] * (pixel + 0.5)) * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis.float()


def fda(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Fourier domain adaptation: give the face the donor's amplitudes at low frequencies, and keep the face's phases.

    Yang and Soatto, CVPR 2020, equation 1, with beta drawn from BETA. `strength` blends the two pictures. Two things
    are done otherwise than there:

    - The spectrum is that of the picture continued by its mirror images, which has no step at the border and so does
      not ring. Its amplitudes are those of the cosine transform and its phases the signs, so that only the few
      coefficients of the window are computed. For the same reason the window's last fifth fades out.
    - The channels are those of `adain`, and the mean colour becomes the donor's. Where red, green and blue are swapped
      apart, weak coefficients differ in sign and tint the face in spots.
    """
    image = content.image.contiguous()
    size = image.shape[-1]
    beta = (BETA[0] + (BETA[1] - BETA[0]) * draws[:, 0]).to(image)
    reach = (2 * beta * size).floor()  # the window's last frequency, in half cycles a picture
    count = min(size, int(2 * BETA[1] * size) + 1)
    basis, space = _cosines(size, count).to(image), _opponent(image)
    pair = basis @ torch.cat([image, donors.image.contiguous()]) @ basis.T  # (2 B, 3, K, K), lowest frequencies first
    ours, theirs = _map_colours(pair, space.expand(len(pair), 3, 3), pair.new_zeros(1, 3)).chunk(2)
    swapped = torch.where(ours >= 0, theirs.abs(), -theirs.abs())
    swapped[:, :, 0, 0] = theirs[:, :, 0, 0]
    frequency = torch.arange(count, device=image.device, dtype=image.dtype)
    fade = ((reach[:, None] + 1 - frequency) / (1 + reach[:, None] / 5)).clamp(0, 1)  # (B, K)
    change = _map_colours(
        (swapped - ours) * fade[:, None, :, None] * fade[:, None, None, :],
        space.T.expand(len(image), 3, 3), image.new_zeros(1, 3),
    )  # fmt: skip
    change = basis.T @ change @ basis
    return content._replace(image=(image + _per_face(strength) * change).clamp_(-1, 1))
