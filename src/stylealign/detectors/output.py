"""What every detector answers. Knows no network."""

from typing import NamedTuple

from torch import Tensor


class DetectorOutput(NamedTuple):
    """A detector's answer for a batch of crops."""

    landmarks: Tensor
    """(B, P, 2) float32 (x, y) pixels of the crop"""
    heatmaps: Tensor | None = None
    """(B, P, h, w), where the detector makes such maps"""
