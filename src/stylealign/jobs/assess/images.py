"""Likeness of pictures: PSNR, SSIM, distance in a network's features, and KID between sets of pictures. Knows no files.

Images are (B, 3, H, W) in [-1, 1], clamped here as they would be when saved. All figures are computed in float64.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.batch import to_float, to_uint8

MAX_PSNR = 100.0
"""dB; equal pictures have an infinite one, which no table can average."""
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004


class FeatureNetwork(NamedTuple):
    """A frozen network whose features pictures are compared in."""

    name: str
    """what it is, for the report"""
    levels: Callable[[Tensor], Sequence[Tensor]]
    """(B, 3, size, size) -> features (B, C, h, w), fine to coarse"""
    size: int
    """side of its input in px"""


def resize(images: Tensor, size: int) -> Tensor:
    """Images (B, 3, H, W) at (B, 3, size, size), antialiased.

    A picture made smaller so keeps no aliases that a network could take for features (Parmar et al. 2022).
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def as_saved(images: Tensor) -> Tensor:
    """Pictures rounded to 8 bits and back, so that drawn and photographed ones are compared alike."""
    return to_float(to_uint8(images))


def _unit(images: Tensor) -> Tensor:
    return (images.clamp(-1, 1).double() + 1) / 2


def psnr(images: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B,) peak signal-to-noise ratio in dB: 10 log10(1 / mean squared error in [0, 1]), at most MAX_PSNR.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        truth: the same shape.
        mask: (B, 1, H, W) of 0 and 1; only where it is 1 is compared.
    """
    error = (_unit(images) - _unit(truth)).square()
    mse = (
        error.mean((1, 2, 3))
        if mask is None
        else (error.mean(1, keepdim=True) * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
    )
    return (-10 * torch.log10(mse.clamp(min=10 ** (-MAX_PSNR / 10)))).clamp(max=MAX_PSNR)


def _window(device: torch.device) -> Tensor:
    x = torch.arange(_WINDOW, dtype=torch.float64, device=device) - _WINDOW // 2
    weights = torch.exp(-(x**2) / (2 * _SIGMA**2))
    return weights / weights.sum()


def ssim_map(images: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (B, 3, H - 10, W - 10) per channel, of windows that lie wholly inside (Wang et al. 2004).

    11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, dynamic range 1 of values in [0, 1].
    """
    assert min(images.shape[-2:]) >= _WINDOW, f"SSIM needs pictures of at least {_WINDOW} px"
    x, y = _unit(images), _unit(truth)
    window = _window(x.device)

    def blur(z: Tensor) -> Tensor:
        channels = z.shape[1]
        z = F.conv2d(z, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        return F.conv2d(z, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)

    mx, my, xx, yy, xy = blur(torch.cat([x, y, x * x, y * y, x * y], dim=1)).chunk(5, dim=1)
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    return luminance * (2 * (xy - mx * my) + c2) / ((xx - mx**2) + (yy - my**2) + c2)


def ssim(images: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B,) mean structural similarity; with a mask (B, 1, H, W) of the windows whose centre it covers."""
    values = ssim_map(images, truth).mean(1, keepdim=True)
    if mask is None:
        return values.mean((1, 2, 3))
    edge = _WINDOW // 2
    inner = mask[:, :, edge:-edge, edge:-edge].to(values)
    return (values * inner).sum((1, 2, 3)) / inner.sum((1, 2, 3))


def unit_features(levels: Sequence[Tensor]) -> list[Tensor]:
    """Features of every place scaled to unit length over the channels, as LPIPS compares them."""
    return [F.normalize(level.double(), dim=1, eps=1e-10) for level in levels]


def feature_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Squared distances (B,) of unit-length features, averaged over places, then over levels.

    LPIPS (Zhang et al. 2018) without its learnt weights, so that it can be had from any network. 0 for equal pictures,
    at most 4.
    """
    pairs = zip(unit_features(a), unit_features(b), strict=True)
    return torch.stack([(x - y).square().sum(1).mean((1, 2)) for x, y in pairs]).mean(0)


@torch.no_grad()
def levels_of(network: FeatureNetwork, images: Tensor, chunk: int = 32) -> list[Tensor]:
    """The network's features of any number of pictures, as saved and resized, on the CPU."""
    parts = [
        [level.float().cpu() for level in network.levels(resize(as_saved(part), network.size))]
        for part in images.split(chunk)
    ]
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def distances(network: FeatureNetwork, images: Tensor, truth: Tensor) -> Tensor:
    """(B,) feature distance of pictures, pair by pair."""
    return feature_distance(levels_of(network, images), levels_of(network, truth))


# ---------------------------------------------------------------------------------------------------------------------
# KID


def polynomial_mmd2(x: Tensor, y: Tensor) -> Tensor:
    """The unbiased squared maximum mean discrepancy of features (m, D) and (n, D).

    Its kernel is (a.b / D + 1)^3 (Binkowski et al. 2018). The mean over draws from one distribution is 0; single values
    may be negative. Needs two rows of each.
    """
    x, y = x.double(), y.double()
    (m, d), n = x.shape, len(y)
    assert m > 1, "an unbiased estimate needs two pictures of each kind"
    assert n > 1, "an unbiased estimate needs two pictures of each kind"

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / d + 1) ** 3

    xx, yy = kernel(x, x), kernel(y, y)
    within_x = (xx.sum() - xx.diagonal().sum()) / (m * (m - 1))
    within_y = (yy.sum() - yy.diagonal().sum()) / (n * (n - 1))
    return within_x + within_y - 2 * kernel(x, y).mean()


def kid(x: Tensor, y: Tensor, seed: int, block: int = 50, blocks: int = 40) -> tuple[float, float]:
    """Mean and standard deviation of `polynomial_mmd2` over `blocks` random subsets of `block` rows of each.

    Of half of the rows where that is fewer, so that the subsets differ.
    """
    generator = torch.Generator().manual_seed(seed)
    size = max(2, min(block, len(x) // 2, len(y) // 2))

    def some(rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:size]]

    values = torch.stack([polynomial_mmd2(some(x), some(y)) for _ in range(blocks)])
    return float(values.mean()), float(values.std())
