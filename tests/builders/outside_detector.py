"""A detector that is not of this package: one linear layer on a coarse picture. Importing this file adds it to the
table, as STYLEALIGN_PLUGINS does."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stylealign.detectors import DETECTORS, Detector, Preset
from stylealign.detectors.output import DetectorOutput

NAME = "outside"


@dataclass(frozen=True, kw_only=True, slots=True)
class OutsideConfig:
    """The network's shape."""

    cells: int = 4
    """The picture is averaged to so many cells a side."""


class Outside(nn.Module):
    """(B, 3, size, size) -> landmarks (B, P, 2) px: the mean shape and a linear function of the coarse picture."""

    mean_shape: Tensor

    def __init__(self, num_points: int, size: int, config: OutsideConfig):
        super().__init__()
        self.coarse = nn.AvgPool2d(size // config.cells)
        self.stem = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4 * config.cells**2, 2 * num_points)
        self.register_buffer("mean_shape", torch.zeros(num_points, 2))

    def forward(self, image: Tensor) -> DetectorOutput:
        with torch.autocast(image.device.type, enabled=False):
            off = self.fc(self.coarse(self.stem(image.float())).flatten(1))
        return DetectorOutput(self.mean_shape + off.unflatten(1, (-1, 2)))


def _build(schemas: Any, size: int, config: OutsideConfig) -> nn.Module:
    return Outside(schemas[0].num_points, size, config)


PRESETS = tuple(Preset("Outside", version, 32, {}) for version in ("tiny", "small", "paper"))
ENTRY = Detector(_build, OutsideConfig, "outside", "a linear function of a coarse picture", PRESETS)
DETECTORS[NAME] = ENTRY
