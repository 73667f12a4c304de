"""Landmarks that a file says nobody placed: how formats write that, and what a face without some of them becomes.

A missing landmark is no coordinate. The user says whether a face that lacks one is refused or kept (`--missing`); a
kept one has trust 0 and is hidden there, and losses and scores leave it out. Knows no format.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from stylealign.errors import counted

Missing = Literal["refuse", "keep"]
_MARKS = (0.0, -1.0)
"""A landmark whose two numbers are both one of these is missing: nobody places one there exactly."""


def missing_in(numbers: np.ndarray) -> np.ndarray:
    """(P,) bool: which of (P, 2) numbers, as a file has them, stand for a missing landmark: 0 0, -1 -1 or NaN NaN."""
    marked = [(numbers == mark).all(axis=1) for mark in _MARKS]
    return np.any([*marked, np.isnan(numbers).all(axis=1)], axis=0)


def problem_of(missing: np.ndarray, numbers: np.ndarray, policy: Missing) -> str | None:
    """What to say of a face whose landmarks are `missing` (P,), `numbers` (P, 2) as its file has them; None: nothing.

    Keeping needs a landmark that is there.
    """
    count = int(missing.sum())
    if not count or (policy == "keep" and count < len(missing)):
        return None
    first = int(np.flatnonzero(missing)[0])
    x, y = numbers[first]
    found = f"landmark {first} is ({x:g}, {y:g}), which stands for a missing one"
    if count == len(missing):
        return f"{found}, as do all of them: expected a face"
    unlabelled = f"{count} of {counted(len(missing), 'landmark')} not labelled"
    return f"{found}; {unlabelled} (--missing keep reads faces without them)"


def without(landmarks: np.ndarray, missing: np.ndarray, visible: np.ndarray | None) -> Mapping[str, Any]:
    """Fields of a FaceSample that lacks landmarks: trust 0 and hidden there, numbers in the middle of the others.

    There they leave the box of the landmarks what it is. `landmarks` (P, 2), `missing` (P,) not all, `visible` (P,).
    """
    placed = landmarks.copy()
    placed[missing] = landmarks[~missing].mean(axis=0)
    seen = np.ones(len(missing), dtype=bool) if visible is None else np.asarray(visible, dtype=bool)
    return {"landmarks": placed, "visible": seen & ~missing, "point_trust": (~missing).astype(np.float32)}
