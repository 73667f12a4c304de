"""Augmentations of the camera: out of focus, moved, few pixels, noise, compression, sharpening. Nothing moves.

How strong each fault is at strength 1 is a share of the crop's side, so that a face looks alike at every size. The
kernels are those of batches/camera.py.
"""

import math

import torch
from torch import Tensor

from stylealign.batches.augment.colours import luma_of, values_of, with_values
from stylealign.batches.augment.operation import smooth_noise
from stylealign.batches.batch import Batch
from stylealign.batches.camera import (
    both_ways,
    gaussian_matrix,
    jpeg,
    motion_kernels,
    resample_matrix,
    smear,
    unit_noise,
)
from stylealign.batches.pixels import face_generator, per_face, restyled


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    return both_ways(image.contiguous(), gaussian_matrix(sigma.to(image), image.shape[-1]))


def gaussian_blur(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A Gaussian blur."""
    size = batch.image.shape[-1]
    return restyled(batch, _blurred(batch.image, 0.03 * size * strength), strength > 0)


def motion_blur(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A camera or a face that moved, in any direction."""
    size = batch.image.shape[-1]
    length, angle = 0.12 * size * strength.to(batch.image), math.pi * draws[:, 0].to(batch.image)
    kernels = motion_kernels(length, angle, math.ceil(0.06 * size) + 1)
    return restyled(batch, smear(batch.image, kernels), strength > 0)


def defocus_blur(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A lens out of focus: every point becomes a disc."""
    size = batch.image.shape[-1]
    reach = math.ceil(0.04 * size) + 1
    axis = torch.arange(-reach, reach + 1, dtype=batch.image.dtype, device=batch.image.device)
    away = (axis[:, None].square() + axis[None, :].square()).sqrt()
    discs = (0.04 * size * strength.to(away)[:, None, None] + 0.5 - away).clamp(0, 1)
    return restyled(batch, smear(batch.image, discs / discs.sum(dim=(1, 2), keepdim=True)), strength > 0)


def few_pixels(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A small picture drawn up again: up to six times fewer pixels a side."""
    matrix = resample_matrix(1 + 5 * strength.to(batch.image), batch.image.shape[-1], tents=True)
    return restyled(batch, both_ways(batch.image.contiguous(), matrix), strength > 0)


def sharpen(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Edges drawn over: an unsharp mask of 1 % of the crop."""
    fine = batch.image - _blurred(batch.image, torch.full_like(strength, 0.01 * batch.image.shape[-1]))
    return restyled(batch, batch.image + per_face(3 * strength, fine) * fine, strength > 0)


def local_contrast(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Every part as contrasty as the next: an unsharp mask of 8 % of the crop."""
    broad = batch.image - _blurred(batch.image, torch.full_like(strength, 0.08 * batch.image.shape[-1]))
    return restyled(batch, batch.image + per_face(1.5 * strength, broad) * broad, strength > 0)


def gaussian_noise(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Noise of one strength everywhere, most of it in lightness, as in photographs."""
    noise = unit_noise(batch.image, draws[:, 0])
    return restyled(batch, batch.image + per_face(0.35 * strength, noise) * noise, strength > 0)


def colour_noise(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Noise of each pixel's each colour apart."""
    size = batch.image.shape[-1]
    noise = torch.stack([torch.randn(3, size, size, generator=face_generator(seed)) for seed in draws[:, 0].cpu()])
    return restyled(batch, batch.image + per_face(0.35 * strength, batch.image) * noise.to(batch.image), strength > 0)


def shot_noise(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """The noise of little light, boosted: its variance grows with the value, as that of counted photons."""
    values = values_of(batch)
    noise = unit_noise(values, draws[:, 0])
    return with_values(batch, values + per_face(0.3 * strength, values) * values.sqrt() * noise, strength)


def speckle(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Noise that multiplies: none in the dark."""
    values = values_of(batch)
    noise = unit_noise(values, draws[:, 0])
    return with_values(batch, values * (1 + per_face(0.4 * strength, values) * noise), strength)


def grain(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Film grain: grey clumps of a pixel or two, strongest in the middle tones."""
    values = values_of(batch)
    size = values.shape[-1]
    grey = torch.stack([torch.randn(1, size, size, generator=face_generator(seed)) for seed in draws[:, 0].cpu()])
    clumps = _blurred(grey.to(values), torch.full_like(strength, 0.9)) * 3.0  # a blur of 0.9 px leaves a third
    tones = 4 * luma_of(values) * (1 - luma_of(values))
    return with_values(batch, values + per_face(0.12 * strength, values) * clumps * tones, strength)


def salt_and_pepper(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Dead pixels: some white, some black."""
    size = batch.image.shape[-1]
    random = torch.stack([torch.rand(1, size, size, generator=face_generator(seed)) for seed in draws[:, 0].cpu()]).to(
        batch.image
    )
    share = per_face(0.1 * strength, random)
    end = torch.where(random < share / 2, -1.0, 1.0)
    return restyled(batch, torch.where(random < share, end, batch.image), strength > 0)


def row_noise(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Stripes of a bad sensor: each row, or each column, a little darker or brighter."""
    size = batch.image.shape[-1]
    rows = torch.stack([torch.randn(1, size, 1, generator=face_generator(seed)) for seed in draws[:, 0].cpu()])
    rows = rows.to(batch.image)
    stripes = torch.where(per_face(draws[:, 1] < 0.5, rows) > 0, rows, rows.transpose(2, 3))
    return restyled(batch, batch.image + per_face(0.2 * strength, rows) * stripes, strength > 0)


def blotches(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Clouds of wrong colour, as where a camera smooths its noise away in the dark."""
    size = batch.image.shape[-1]
    clouds = smooth_noise(draws[:, 0], 3, max(4, size // 6), size, batch.image) - 0.5
    return restyled(batch, batch.image + per_face(0.6 * strength, clouds) * clouds, strength > 0)


def jpeg_blocks(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Compress the picture as JPEG does: blocks of 8 x 8 pixels, few levels, half the pixels for colour."""
    quality = 95 - 90 * strength.to(batch.image)
    return restyled(batch, jpeg(batch.image, quality), strength > 0)


def washed_colour(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Colour of few pixels under lightness of all, as in video: it runs over the edges."""
    values = values_of(batch)
    luma = luma_of(values)
    colour = _blurred(values - luma, 0.06 * values.shape[-1] * strength)
    return with_values(batch, luma + colour, strength)
