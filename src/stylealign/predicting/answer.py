"""What a detector answers about crops, whichever runs it. Knows no network."""

from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """What a detector answers about B crops."""

    landmarks: np.ndarray
    """(B, P, 2) (x, y) px of the crop, pixel centres at integers"""
    confidence: np.ndarray | None = None
    """(B, P) in [0, 1]: heatmap peaks; None where the model has none"""
    covariance: np.ndarray | None = None
    """(B, P, 2, 2) float64 px^2 of the crop, as `trust` of its card says (evaluation/point_trust.py); None where the
    card has none, or one that needs the mirrored face's answer"""
