"""What a camera does to a picture, as functions of tensors: blur, motion, few pixels, noise and JPEG's blocks.

Pictures lose sharpness, but nothing in them moves: every kernel is symmetric. Knows no landmarks.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.pixels import face_generator
from stylealign.data.image import LUMA

# ITU-T T.81 (the JPEG standard), annex K, tables K.1 and K.2.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *((99,) * 8 for _ in range(4)),
)  # fmt: skip
_YCC_FROM_RGB = (LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF 1.02
_RGB_FROM_YCC = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def gaussian_matrix(sigma: Tensor, size: int) -> Tensor:
    """Matrices (B, size, size) that blur one axis with a Gaussian of `sigma` (B,) px; each row sums to 1."""
    axis = torch.arange(size, dtype=sigma.dtype, device=sigma.device)
    away = (axis[:, None] - axis[None, :])[None]
    kernel = torch.exp(-0.5 * (away / sigma.clamp(min=1e-3)[:, None, None]).square())
    return kernel / kernel.sum(dim=2, keepdim=True)


@lru_cache(maxsize=16)
def dct_matrix(size: int) -> Tensor:
    """(size, size) orthonormal type-II DCT of every run of 8 along an axis: block-diagonal, size a multiple of 8."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None, :]
    block = torch.cos(math.pi / 8 * (n + 0.5) * k) * math.sqrt(2 / 8)
    block[0] *= math.sqrt(0.5)
    return torch.block_diag(*[block] * (size // 8))


def quantisation(table: tuple[tuple[int, ...], ...], quality: Tensor) -> Tensor:
    """The steps (B, 8, 8) of a standard table at `quality` (B,) in [1, 100], scaled as the IJG's JPEG library does."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)[:, None, None]
    base = torch.tensor(table, dtype=quality.dtype, device=quality.device)
    return ((base * scale + 50) / 100).floor().clamp(1, 255)


def _quantise(plane: Tensor, steps: Tensor) -> Tensor:
    """What rounding the coefficients of 8 x 8 blocks to multiples of `steps` (B, 8, 8) leaves of (B, C, h, w) planes.

    Planes are in units of 1 / 255 of the full range.
    """
    height, width = plane.shape[-2:]
    rows, columns = (-(-n // 8) * 8 for n in (height, width))
    padded = F.pad(plane, [0, columns - width, 0, rows - height], mode="replicate")
    down, across = dct_matrix(rows).to(plane), dct_matrix(columns).to(plane)
    tiled = steps.repeat(1, rows // 8, columns // 8)[:, None]
    coefficients = (down @ padded @ across.T / tiled).round() * tiled
    return (down.T @ coefficients @ across)[..., :height, :width]


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """What JPEG with halved chroma (4:2:0) leaves of (B, 3, H, W) images in [-1, 1] at `quality` (B,) in [1, 100].

    All that the format loses: by its colour space, subsampling and quantised 8 x 8 cosine transform.
    """
    to_ycc, to_rgb = (torch.tensor(m, dtype=image.dtype, device=image.device) for m in (_YCC_FROM_RGB, _RGB_FROM_YCC))
    height, width = image.shape[-2:]
    ycc = torch.einsum("ij,bjhw->bihw", to_ycc, image * 127.5)
    luma = (
        _quantise(ycc[:, :1] - 0.5, quantisation(LUMINANCE, quality)) + 0.5
    )  # the file's levels are 0 ... 255, its middle 128
    half = F.avg_pool2d(F.pad(ycc[:, 1:], [0, width % 2, 0, height % 2], mode="replicate"), 2)
    chroma = F.interpolate(_quantise(half, quantisation(CHROMINANCE, quality)), scale_factor=2.0, mode="bilinear")
    ycc = torch.cat([luma, chroma[..., :height, :width]], dim=1)
    return torch.einsum("ij,bjhw->bihw", to_rgb, ycc) / 127.5


def resample_matrix(factor: Tensor, size: int, tents: bool = False) -> Tensor:
    """Matrices (B, size, size) that average an axis down to size / factor pixels and draw it up again linearly.

    `factor` (B,) is any number from 1 up: samples lie evenly round the axis' middle, each the mean of its own stretch,
    so nothing moves. A spot between two samples may come to lie at one of them; with `tents` each sample is the
    tent-weighted mean of its own stretch and half of its neighbours', and every spot keeps its place.
    """
    few = (size / factor).round().clamp(min=2)
    axis = torch.arange(size, dtype=factor.dtype, device=factor.device)
    cell = torch.arange(size, dtype=factor.dtype, device=factor.device)[
        None, :, None
    ]  # at most `size` cells, those past `few` unused
    width = (size / few)[:, None, None]
    used = cell < few[:, None, None]
    overlap = torch.minimum((cell + 1) * width, axis + 1) - torch.maximum(cell * width, axis)
    down = overlap.clamp(min=0) * used / width
    at = ((axis[None, :, None] + 0.5) / width - 0.5).clamp(min=0).minimum(few[:, None, None] - 1)
    up = (1 - (at - cell.transpose(1, 2)).abs()).clamp(min=0) * used.transpose(1, 2)
    if tents:
        down = up.transpose(1, 2)
        down = down / down.sum(dim=2, keepdim=True).clamp(min=1e-6)
    return up @ down


def motion_kernels(length: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Antialiased lines (B, K, K), K = 2 radius + 1, of `length` (B,) px at `angle` (B,), each with a sum of 1.

    Length 0 is a dot.
    """
    axis = torch.arange(-radius, radius + 1, dtype=length.dtype, device=length.device)
    x, y = axis[None, None, :], axis[None, :, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, aside = (cos * x + sin * y).abs(), (cos * y - sin * x).abs()
    beyond = (along - length[:, None, None] / 2).clamp(min=0)
    kernel = (1 - (aside.square() + beyond.square()).sqrt()).clamp(min=0)
    return kernel / kernel.sum(dim=(1, 2), keepdim=True)


def smear(image: Tensor, kernels: Tensor) -> Tensor:
    """Each (3, S, S) image of a batch through its own kernel (K, K)."""
    radius = kernels.shape[-1] // 2
    planes = F.pad(image.contiguous(), [radius] * 4, mode="replicate").reshape(
        1, -1, *(s + 2 * radius for s in image.shape[-2:])
    )
    return F.conv2d(planes, kernels.repeat_interleave(3, dim=0)[:, None], groups=planes.shape[1]).view(image.shape)


def unit_noise(like: Tensor, seeds: Tensor) -> Tensor:
    """Unit noise (B, 3, S, S) from a seed a face; 70 % of its variance is common to the colours, as in photographs."""
    fields = torch.stack([torch.randn(4, *like.shape[-2:], generator=face_generator(seed)) for seed in seeds.cpu()])
    return (math.sqrt(0.7) * fields[:, :1] + math.sqrt(0.3) * fields[:, 1:]).to(like)


def both_ways(image: Tensor, matrix: Tensor) -> Tensor:
    """A (B, S, S) matrix along the columns and the rows of (B, 3, S, S)."""
    return matrix[:, None] @ image @ matrix[:, None].transpose(2, 3)
