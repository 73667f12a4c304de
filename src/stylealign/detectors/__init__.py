"""Landmark detectors: crops in, landmarks in crop px out (`DetectorOutput`). A new one is a file and a line of `DETECTORS`."""

from typing import Any

from torch import nn

from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.errors import UserError

__all__ = ["DETECTORS", "DetectorOutput", "build_detector"]

# name: (network, its config). A network is built from (num_points, size, config) and has a buffer `mean_shape` (P, 2) px.
DETECTORS: dict[str, tuple[type[nn.Module], type]] = {"resnet18": (ResNet18, ResNetConfig)}


def build_detector(name: str, num_points: int, size: int, config: Any) -> nn.Module:
    """A detector with fresh weights; `size` is the crop's side in px."""
    if name not in DETECTORS:
        raise UserError(f"unknown detector '{name}'; known: {', '.join(DETECTORS)}")
    network, _ = DETECTORS[name]
    return network(num_points, size, config)
