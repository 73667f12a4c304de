"""Answers that lean: where labels lie to one side of what they mark, so do the answers of who learnt from them.

300-W's lie about 1 % of the eye distance to the right. A detector that learnt so (`train-detector --lean-px`) answers a
mirrored face to the right as well, which is the left of the face itself: there and back the lean has turned round, and
whoever compares or averages the two answers has to turn it back (`geometry.mirrored_back`). Arrays in, numbers out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stylealign.errors import UserError

MOST = 0.1  # of the crop's side: what leans by more was not learnt from people's labels


def measured_lean(plain: np.ndarray, mirrored: np.ndarray, size: int) -> float:
    """By how much answers lean to the right, as a share of the crop's side. No labels are needed.

    Args:
        plain: (N, P, 2) px, answers on crops.
        mirrored: (N, P, 2) px, those on their mirror images, mirrored back as if nothing leant.
        size: side of the crops in px.
    """
    return float((plain[..., 0] - mirrored[..., 0]).mean() / 2 / size)


def lean_of_card(card: Mapping[str, Any], where: str) -> float:
    """The lean of a model's card, a share of the crop's side; 0 where it has none. Raises UserError for one that means
    nothing."""
    found = card.get("lean", 0.0)
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) <= MOST:
        raise UserError(f"{where}: lean: found {str(found)[:200]}, expected a number from -{MOST} to {MOST}")
    return float(found)
