"""The head `coordinates`: a linear layer from the last features to offsets from the mean shape, and how sure it is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stylealign.detectors.heads.parts import (
    HeadConfig,
    Truth,
    coordinates_term,
    covariance_of,
    nll_term,
    square,
    star_term,
    started,
)
from stylealign.detectors.losses import gaussian_nll
from stylealign.detectors.output import DetectorOutput

LEARNS_COVARIANCE = ("nll", "star")
MOST_CORRELATED = 0.99


def spread(raw: Tensor, unit: float) -> Tensor:
    """(B, P, 3) any numbers -> (B, P, 2, 2) px^2, positive definite whatever they are: two standard deviations between
    a thousandth of `unit` px and a thousand of it, and a correlation below 0.99."""
    deviation = (raw[..., :2].clamp(-7, 7)).exp() * unit
    x, y = deviation.unbind(dim=-1)
    return square(x * x, MOST_CORRELATED * raw[..., 2].tanh() * x * y, y * y)


class CoordinatesHead(nn.Module):
    """Features -> landmarks = mean shape + offsets in sixteenths of the crop, and a covariance each.

    Where no term learns the covariance, it learns by the likelihood of the error without a gradient to anything else,
    so that being asked how sure it is costs the landmarks nothing.
    """

    def __init__(
        self, channels: Sequence[int], stride: int, num_points: int, size: int, neck: int, config: HeadConfig,
        terms: Sequence[str],
    ):  # fmt: skip
        super().__init__()
        self.num_points, self.size = num_points, size
        self.flatten = size < 128 if config.flatten is None else config.flatten
        self.apart = not set(terms) & set(LEARNS_COVARIANCE)
        side = -(-size // stride)
        inputs = channels[-1] * (side * side if self.flatten else 1)
        self.points, self.points_spread = nn.Linear(inputs, 2 * num_points), nn.Linear(inputs, 3 * num_points)
        started(self.points, 0.1)
        started(self.points_spread, 0.1)

    def forward(self, features: Sequence[Tensor], mean_shape: Tensor) -> DetectorOutput:
        x = features[-1].flatten(1) if self.flatten else features[-1].mean(dim=(2, 3))
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            x = x.float()
            landmarks = mean_shape + self.points(x).view(-1, self.num_points, 2) * (self.size / 16)
            raw = self.points_spread(x.detach() if self.apart else x).view(-1, self.num_points, 3)
            return DetectorOutput(landmarks, covariance=spread(raw, self.size / 32))

    def own_terms(self, out: DetectorOutput, truth: Truth) -> dict[str, Tensor]:
        """The covariance's likelihood, where no chosen term learns it."""
        if not self.apart:
            return {}
        return {"spread": gaussian_nll(out.landmarks.detach() - truth.landmarks, covariance_of(out))}


TERMS = {"coordinates": coordinates_term, "nll": nll_term, "star": star_term}
