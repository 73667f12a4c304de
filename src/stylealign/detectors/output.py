"""What every detector answers. Knows no network."""

from typing import NamedTuple

from torch import Tensor


class DetectorOutput(NamedTuple):
    """A detector's answer for a batch of crops."""

    landmarks: Tensor
    """(B, P, 2) float32 (x, y) pixels of the crop"""
    heatmaps: Tensor | None = None
    """(B, P, h, w), where the detector makes a map a landmark"""
    boundaries: Tensor | None = None
    """(B, K, h, w), where it makes a map a facial curve"""
    stages: tuple[Tensor, ...] = ()
    """What its stages, stacks or candidates answered, for intermediate supervision;
    each detector says in which order"""
    covariance: Tensor | None = None
    """(B, P, 2, 2) float32 px^2 of the crop, positive definite: how unsure the detector is of each landmark, where it
    says so; not calibrated"""
