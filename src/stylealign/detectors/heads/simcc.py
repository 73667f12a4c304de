"""The head `simcc`: a row of bins for x and one for y, finer than pixels (SimCC, Li et al., ECCV 2022)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stylealign.detectors.heads.parts import (
    HeadConfig,
    Truth,
    cell_places,
    coordinates_term,
    nll_term,
    square,
    star_term,
    started,
)
from stylealign.detectors.heads.pyramid import Pyramid
from stylealign.detectors.losses import gaussian_over, jensen_shannon, kullback_leibler
from stylealign.detectors.output import DetectorOutput


class SimCCHead(nn.Module):
    """Features -> landmarks, covariances, and in `stages` the scores of x and of y, (B, P, n) each.

    A map a landmark, flattened; two linear layers, shared by the landmarks, score the bins. The
    answer is the mean bin and not the best one as published, so that a loss on coordinates reaches it.
    """

    def __init__(
        self, channels: Sequence[int], stride: int, num_points: int, size: int, neck: int, config: HeadConfig,
        terms: Sequence[str],
    ):  # fmt: skip
        super().__init__()
        self.size = size
        self.pyramid = Pyramid(channels, neck)
        self.points = nn.Conv2d(neck, num_points, 1)
        cells, bins = (-(-size // stride)) ** 2, max(2, round(size * config.bins))
        self.to_x, self.to_y = nn.Linear(cells, bins), nn.Linear(cells, bins)
        started(self.points)
        started(self.to_x)
        started(self.to_y)

    def forward(self, features: Sequence[Tensor], mean_shape: Tensor) -> DetectorOutput:
        x = self.pyramid(features)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            maps = self.points(x.float()).flatten(2)
            rows = self.to_x(maps), self.to_y(maps)
            shares = [row.softmax(dim=2) for row in rows]
            centres = cell_places(rows[0].shape[2], self.size, x)
            means = [(share * centres).sum(dim=2) for share in shares]
            within = (self.size / len(centres)) ** 2 / 12  # the variance within a bin: never 0
            apart = [
                (share * (centres - mean[..., None]).square()).sum(dim=2) + within
                for share, mean in zip(shares, means, strict=True)
            ]
            covariance = square(apart[0], torch.zeros_like(apart[0]), apart[1])
            return DetectorOutput(torch.stack(means, dim=2), stages=rows, covariance=covariance)


def _each_axis(out: DetectorOutput, truth: Truth) -> list[tuple[Tensor, Tensor]]:
    """(logarithms of the answered shares, the target's) of x and of y."""
    found = []
    for axis, row in enumerate(out.stages):
        centres = cell_places(row.shape[2], truth.size, row)
        found.append((row.log_softmax(dim=2), gaussian_over(centres, truth.landmarks[..., axis], truth.terms.sigma)))
    return found


def js_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    return torch.stack([jensen_shannon(*pair) for pair in _each_axis(out, truth)]).sum(dim=0)


def kl_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    return torch.stack([kullback_leibler(*pair) for pair in _each_axis(out, truth)]).sum(dim=0)


TERMS = {"coordinates": coordinates_term, "js": js_term, "kl": kl_term, "star": star_term, "nll": nll_term}
