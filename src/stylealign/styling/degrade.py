"""Style arms of the camera: blur, motion, few pixels, noise and JPEG's blocks; at random, or as bad as the donor's.

Pictures lose sharpness, but nothing in them moves: every kernel is symmetric. Knows no landmarks.
"""

import math

import torch
from torch import Tensor

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
from stylealign.batches.pixels import per_face, restyled
from stylealign.data.image import LUMA

# Blurs tried by degrade_like, as shares of the crop.
_SIGMAS = (0.0, 0.003, 0.005, 0.007, 0.010, 0.013, 0.017, 0.022, 0.028)
_NOISE_PART = 0.25  # radius in cycles a pixel that parts fine detail from coarse


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
        put(rows, both_ways(image[rows], gaussian_matrix(sigma, size)))
    if len(rows := faces(1)):
        length = numbers(amount[rows] * (0.03 + 0.06 * draws[rows, 7]) * size)
        angle = numbers(math.pi * draws[rows, 8])
        put(rows, smear(image[rows], motion_kernels(length, angle, math.ceil(0.045 * size) + 1)))
    if len(rows := faces(2)):
        factor = numbers(1 + amount[rows] * (1 + 2 * draws[rows, 9]))
        put(rows, both_ways(image[rows], resample_matrix(factor, size)))
    if len(rows := faces(3)):
        sigma = numbers(amount[rows] * (0.04 + 0.18 * draws[rows, 10].square()))
        put(rows, image[rows] + per_face(sigma, image) * unit_noise(image[rows], draws[rows, 11]))
    if len(rows := faces(4)):
        quality = numbers(95 - amount[rows] * (55 + 30 * draws[rows, 12]))
        put(rows, jpeg(image[rows], quality))
    answer = content.image.clone()
    answer[some.to(answer.device)] = image
    return restyled(content, answer, strength > 0)


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=image.dtype, device=image.device)
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
        both_ways(content.image.contiguous(), gaussian_matrix(sigma, size)),
        content.image,
    )
    left = noise_level(_luma(image))
    more = amount * (other_noise.square() - left.square()).clamp(min=0).sqrt().clamp(max=0.3)
    # 0.3 of the noise's variance is each colour's own: in luma 0.7 + 0.3 * (0.299^2 + 0.587^2 + 0.114^2) of it is left.
    more = more / math.sqrt(0.7 + 0.3 * sum(w * w for w in LUMA))
    noisy = torch.nonzero((more > 0.004).cpu()).view(-1)
    if len(noisy):
        rows = noisy.to(image.device)
        image = image.clone()
        image[rows] = image[rows] + per_face(more[rows], image) * unit_noise(image[rows], draws.cpu()[noisy, 0])
    return restyled(content, image, (amount > 0) & ((sigma > 0.2) | (more > 0.004)))
