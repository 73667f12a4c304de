"""Style arms of the camera: blur, motion, few pixels, noise and JPEG's blocks; at random, or as bad as the donor's.

Pictures lose sharpness, but nothing in them moves: every kernel is symmetric. Knows no landmarks.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.data.image import LUMA
from stylealign.styling.alignment import per_face, restyled
from stylealign.styling.arm import face_generator
from stylealign.styling.light import gaussian_matrix

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
# Blurs tried by degrade_like, as shares of the crop.
_SIGMAS = (0.0, 0.003, 0.005, 0.007, 0.010, 0.013, 0.017, 0.022, 0.028)
_NOISE_PART = 0.25  # radius in cycles a pixel that parts fine detail from coarse


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


def resample_matrix(factor: Tensor, size: int) -> Tensor:
    """Matrices (B, size, size) that average an axis down to size / factor pixels and draw it up again linearly.

    `factor` (B,) is any number from 1 up: samples lie evenly round the axis' middle, each the mean of its own stretch,
    so nothing moves.
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


def _smear(image: Tensor, kernels: Tensor) -> Tensor:
    """Each (3, S, S) image of a batch through its own kernel (K, K)."""
    radius = kernels.shape[-1] // 2
    planes = F.pad(image.contiguous(), [radius] * 4, mode="replicate").reshape(
        1, -1, *(s + 2 * radius for s in image.shape[-2:])
    )
    return F.conv2d(planes, kernels.repeat_interleave(3, dim=0)[:, None], groups=planes.shape[1]).view(image.shape)


def _noise(like: Tensor, seeds: Tensor) -> Tensor:
    """Unit noise (B, 3, S, S) from a seed a face; 70 % of its variance is common to the colours, as in photographs."""
    fields = torch.stack([torch.randn(4, *like.shape[-2:], generator=face_generator(seed)) for seed in seeds.cpu()])
    return (math.sqrt(0.7) * fields[:, :1] + math.sqrt(0.3) * fields[:, 1:]).to(like)


def _both_ways(image: Tensor, matrix: Tensor) -> Tensor:
    """A (B, S, S) matrix along the columns and the rows of (B, 3, S, S)."""
    return matrix[:, None] @ image @ matrix[:, None].transpose(2, 3)


def degrade(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Take each picture with a worse camera: out of focus, moved, few pixels, noisy, compressed. Looks at no donor.

    Every face gets one fault, and each of the others with a chance of a fifth, in the order in which a camera makes
    them. At strength 1: a Gaussian of 0.8 to 2.5 % of the crop, a smear of 3 to 9 %, 2 to 4 times fewer pixels a side,
    noise of standard deviation 0.04 to 0.22 (in [-1, 1]), JPEG quality 10 to 40. A smaller strength makes each fault
    smaller.
    """
    size = content.image.shape[-1]
    some = torch.nonzero(strength.cpu() > 0).view(-1)
    if not len(some):
        return content
    draws = draws[some.to(draws.device)].cpu()
    amount = strength.cpu()[some].double()
    main = (draws[:, 0] * 5).floor()
    image = content.image[some.to(content.image.device)].contiguous()

    def faces(fault: int) -> Tensor:
        return torch.nonzero((main == fault) | (draws[:, 1 + fault] < 0.2)).view(-1)

    def put(rows: Tensor, changed: Tensor) -> None:
        image[rows.to(image.device)] = changed.clamp(-1, 1)

    def numbers(values: Tensor) -> Tensor:
        return values.to(image)

    if len(rows := faces(0)):
        sigma = numbers(amount[rows] * (0.008 + 0.017 * draws[rows, 6]) * size)
        put(rows, _both_ways(image[rows], gaussian_matrix(sigma, size)))
    if len(rows := faces(1)):
        length = numbers(amount[rows] * (0.03 + 0.06 * draws[rows, 7]) * size)
        angle = numbers(math.pi * draws[rows, 8])
        put(rows, _smear(image[rows], motion_kernels(length, angle, math.ceil(0.045 * size) + 1)))
    if len(rows := faces(2)):
        factor = numbers(1 + amount[rows] * (1 + 2 * draws[rows, 9]))
        put(rows, _both_ways(image[rows], resample_matrix(factor, size)))
    if len(rows := faces(3)):
        sigma = numbers(amount[rows] * (0.04 + 0.18 * draws[rows, 10].square()))
        put(rows, image[rows] + per_face(sigma, image) * _noise(image[rows], draws[rows, 11]))
    if len(rows := faces(4)):
        quality = numbers(95 - amount[rows] * (55 + 30 * draws[rows, 12]))
        put(rows, jpeg(image[rows], quality))
    answer = content.image.clone()
    answer[some.to(answer.device)] = image
    return restyled(content, answer, strength > 0)


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor(_YCC_FROM_RGB[0], dtype=image.dtype, device=image.device)
    return torch.einsum("j,bjhw->bhw", weights, image)


def noise_level(luma: Tensor) -> Tensor:
    """The standard deviation (B,) of white noise in (B, H, W) pictures: a median of their second differences.

    Immerkaer (1996), "Fast noise variance estimation", with a median instead of the mean, since a face has edges. The
    mask [[1, -2, 1], [-2, 4, -2], [1, -2, 1]] does not answer to slopes and has norm 6; the median absolute value of a
    normal number is 0.6745 standard deviations.
    """
    second = luma[:, :, :-2] - 2 * luma[:, :, 1:-1] + luma[:, :, 2:]
    mixed = second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:]
    return mixed.flatten(1).abs().median(dim=1).values / (0.6745 * 6)


def sharpness_curve(luma: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """The share of fine detail (B, G) in (B, S, S) pictures after a Gaussian blur of each of `sigmas` (G,) px.

    It is the energy above a quarter cycle a pixel over the energy from 0.03 up, of the Hann-windowed spectrum, from
    which the level of `noise` (B,) is subtracted. A blur multiplies a spectrum by exp(-(2 pi sigma f)^2), so the curve
    costs one transform.
    """
    size = luma.shape[-1]
    window = torch.hann_window(size, periodic=False, dtype=luma.dtype, device=luma.device)
    window = window[:, None] * window[None, :]
    centred = (luma - luma.mean(dim=(1, 2), keepdim=True)) * window
    power = torch.fft.rfft2(centred).abs().square()
    power = (power - (noise.square() * window.square().sum())[:, None, None]).clamp(min=0)
    fy, fx = torch.fft.fftfreq(size, device=luma.device)[:, None], torch.fft.rfftfreq(size, device=luma.device)[None, :]
    squared = (fx.square() + fy.square()).to(luma)
    gain = torch.exp(-((2 * math.pi * sigmas[:, None, None]) ** 2) * squared)
    gain = gain * (squared > 0.03**2)
    fine = gain * (squared > _NOISE_PART**2)
    total = torch.einsum("bhw,ghw->bg", power, gain)
    return torch.einsum("bhw,ghw->bg", power, fine) / total.clamp(min=1e-12)


def degrade_like(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Make each picture as soft and as noisy as its donor's; a donor that is sharper and cleaner changes nothing.

    Sharpness is the share of fine detail (`sharpness_curve`), noise is measured by `noise_level`. The blur is the one
    after which the content's share equals the donor's (at most a Gaussian of 2.8 % of the crop); then noise is added up
    to the donor's variance. One draw seeds the noise.
    """
    size = content.image.shape[-1]
    own, other = _luma(content.image), _luma(donors.image)
    own_noise, other_noise = noise_level(own), noise_level(other)
    sigmas = torch.tensor(_SIGMAS, dtype=own.dtype, device=own.device) * size
    curve = sharpness_curve(own, own_noise, sigmas).log2()
    wanted = sharpness_curve(other, other_noise, sigmas[:1]).log2()
    # The curve falls with the blur: find the last tried blur that is still too sharp, and go a part of the way on.
    curve = torch.cummin(curve.clamp(min=-40), dim=1).values
    last = (curve > wanted).sum(dim=1, keepdim=True).clamp(1, len(_SIGMAS) - 1)
    before, after = curve.gather(1, last - 1), curve.gather(1, last)
    part = ((before - wanted) / (before - after).clamp(min=1e-6)).clamp(0, 1)[:, 0]
    amount = strength.to(own)
    sigma = amount * (sigmas[last[:, 0] - 1] + part * (sigmas[last[:, 0]] - sigmas[last[:, 0] - 1]))
    image = torch.where(
        per_face(sigma > 0.2, own) > 0,
        _both_ways(content.image.contiguous(), gaussian_matrix(sigma, size)),
        content.image,
    )
    left = noise_level(_luma(image))
    more = amount * (other_noise.square() - left.square()).clamp(min=0).sqrt().clamp(max=0.3)
    # 0.3 of the noise's variance is each colour's own: in luma 0.7 + 0.3 * (0.299^2 + 0.587^2 + 0.114^2) of it is left.
    more = more / math.sqrt(0.7 + 0.3 * sum(w * w for w in _YCC_FROM_RGB[0]))
    noisy = torch.nonzero((more > 0.004).cpu()).view(-1)
    if len(noisy):
        rows = noisy.to(image.device)
        image = image.clone()
        image[rows] = image[rows] + per_face(more[rows], image) * _noise(image[rows], draws.cpu()[noisy, 0])
    return restyled(content, image, (amount > 0) & ((sigma > 0.2) | (more > 0.004)))
