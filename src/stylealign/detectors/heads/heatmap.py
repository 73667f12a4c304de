"""The head `heatmap`: a map a landmark, softmax over its cells, the mean place (DSNT, Nibali et al. 2018; integral
regression, Sun et al., ECCV 2018)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stylealign.detectors.convolution import sides
from stylealign.detectors.heads.parts import (
    HeadConfig,
    Truth,
    cell_places,
    coordinates_term,
    nll_term,
    star_term,
    started,
)
from stylealign.detectors.heads.pyramid import Pyramid
from stylealign.detectors.losses import awing, awing_weights, gaussian_over, jensen_shannon, kullback_leibler
from stylealign.detectors.output import DetectorOutput


class HeatmapHead(nn.Module):
    """Features -> landmarks, the maps' covariances, and in `stages` the (B, P, h, w) scores before the softmax.

    A map's second moments are its covariance; a twelfth of a squared cell is added, the variance within one, so that it
    is positive definite also where a single cell has all. The maps are not answered as `heatmaps`: their peaks say how
    narrow they are and are no confidences.
    """

    def __init__(
        self, channels: Sequence[int], stride: int, num_points: int, size: int, neck: int, config: HeadConfig,
        terms: Sequence[str],
    ):  # fmt: skip
        super().__init__()
        self.size = size
        self.pyramid = Pyramid(channels, neck)
        self.points = started(nn.Conv2d(neck, num_points, 1))

    def forward(self, features: Sequence[Tensor], mean_shape: Tensor) -> DetectorOutput:
        x = self.pyramid(features)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            scores = self.points(x.float())
            landmarks, covariance = moments(scores, self.size)
            return DetectorOutput(landmarks, stages=(scores,), covariance=covariance)


def moments(scores: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """(B, P, h, w) scores -> means (B, P, 2) px and covariances (B, P, 2, 2) px^2 of their softmax.

    All five sums over a map are one product of matrices: a sixth of an exported network's time went into taking them
    one after the other. Places are counted from the crop's middle, so that squares stay small.
    """
    height, width = sides(scores)
    num_points = int(scores.shape[1])
    shares = scores.reshape(-1, num_points, height * width).softmax(dim=2)
    middle = (size - 1) / 2
    x = (cell_places(width, size, scores) - middle).expand(height, width).flatten()
    y = (cell_places(height, size, scores) - middle)[:, None].expand(height, width).flatten()
    sums = shares @ torch.stack([x, y, x * x, x * y, y * y], dim=1)  # (B, P, 5)
    mean_x, mean_y, xx, xy, yy = sums.split(1, dim=2)  # (B, P, 1) each: few nodes, of which a traced graph is made
    cross = xy - mean_x * mean_y
    var_x = xx - mean_x * mean_x + (size / width) ** 2 / 12
    var_y = yy - mean_y * mean_y + (size / height) ** 2 / 12
    covariance = torch.cat([var_x, cross, cross, var_y], dim=2).reshape(-1, num_points, 2, 2)
    return torch.cat([mean_x, mean_y], dim=2) + middle, covariance


def targets(truth: Truth, height: int, width: int) -> tuple[Tensor, Tensor]:
    """(B, P, h) and (B, P, w): the shares of rows and columns under a Gaussian at each landmark; a map is their
    product."""
    xs, ys = (cell_places(n, truth.size, truth.landmarks) for n in (width, height))
    sigma = truth.terms.sigma
    return gaussian_over(ys, truth.landmarks[..., 1], sigma), gaussian_over(xs, truth.landmarks[..., 0], sigma)


def _flat(out: DetectorOutput, truth: Truth) -> tuple[Tensor, Tensor]:
    """Logarithms of the answered shares, and the target's, (B, P, h w)."""
    (scores,) = out.stages
    rows, columns = targets(truth, *sides(scores))
    return scores.flatten(2).log_softmax(dim=2), (rows[..., None] * columns[:, :, None]).flatten(2)


def js_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    return jensen_shannon(*_flat(out, truth))


def kl_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    return kullback_leibler(*_flat(out, truth))


def awing_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    """AWing of maps whose peaks shall be 1: the shares times 2 pi sigma^2 (in cells), as many as a whole Gaussian of
    height 1 sums to, against that Gaussian; the weighted mean over cells. Chosen: the published maps are no shares."""
    (scores,) = out.stages
    height, width = sides(scores)
    sigma = truth.terms.sigma
    whole = 2 * math.pi * sigma**2 * height * width / truth.size**2
    found = scores.flatten(2).softmax(dim=2).unflatten(2, (height, width)) * whole
    dx, dy = (
        (cell_places(n, truth.size, scores) - truth.landmarks[..., axis, None]) / sigma
        for axis, n in enumerate((width, height))
    )
    target = torch.exp(-0.5 * (dy.square()[..., None] + dx.square()[:, :, None]))
    return (awing_weights(target) * awing(found, target)).mean(dim=(2, 3))


TERMS = {
    "coordinates": coordinates_term, "js": js_term, "kl": kl_term, "awing": awing_term, "star": star_term,
    "nll": nll_term,
}  # fmt: skip
