"""Scores of landmarks from plain arrays, as `evaluate` gives them.

>>> import numpy as np
>>> from stylealign import evaluate_landmarks
>>> truth = np.array([[[10.0, 10], [30, 10], [20, 20], [12, 30], [28, 30]]])   # a face of the mark-up `five`
>>> found = evaluate_landmarks(truth + [1, 0], truth, "five", denominator="landmark_box", threshold=0.08)
>>> round(found.mean, 3), found.failure_rate, round(found.auc, 3)              # 1 px of a box of 20 px
(0.05, 0.0, 0.375)

Knows no files and no torch.
"""

from typing import Any, NamedTuple

import numpy as np

from stylealign.api.values import numbers_of
from stylealign.evaluation import metrics
from stylealign.face.schema import LandmarkSchema, get_schema


class LandmarkScores(NamedTuple):
    """Errors of landmarks. All but the name are fractions: 0.03 is 3 %."""

    nme: np.ndarray
    """(N,) each face's mean error over its denominator"""
    mean: float
    """of them: the NME"""
    failure_rate: float
    """Share of faces whose error is above the threshold"""
    auc: float
    """Area under the cumulative error curve up to the threshold, divided by it"""
    threshold: float
    denominator: str
    """What errors are divided by"""


def evaluate_landmarks(
    predicted: Any,
    truth: Any,
    schema: LandmarkSchema | str,
    *,
    denominator: str = "auto",
    threshold: float = 0.10,
    boxes: Any = None,
) -> LandmarkScores:
    """Compare predicted landmarks with true ones, both px of the same picture.

    Args:
        predicted: (N, P, 2) (x, y), an array, a list or a tensor (also one that has a gradient).
        truth: (N, P, 2) likewise; NaN, or masked, where nobody placed a point, which is then left out.
        schema: mark-up, or its name.
        denominator: inter_ocular, inter_pupil, box, diagonal or landmark_box; auto: what results on this mark-up are
            usually given with. A missing eye corner leaves no eye distance, which is refused.
        threshold: of failure rate and AUC, a fraction; papers take 0.08 on 300-W and 0.10 on WFLW.
        boxes: (N, 4) face boxes x0, y0, x1, y1, for `box` and `diagonal`.

    Raises:
        UserError: shapes that do not fit the mark-up, predictions that are no numbers, a face without a usable
            denominator or without any true point.
        ValueError: what holds other things than numbers.
    """
    schema = get_schema(schema) if isinstance(schema, str) else schema
    points, answers = numbers_of(truth, "truth"), numbers_of(predicted, "predicted")
    boxes = None if boxes is None else numbers_of(boxes, "boxes")
    kind = metrics.usual_denominator(schema, boxed=boxes is not None) if denominator == "auto" else denominator
    lengths = metrics.denominators(points, boxes, schema, kind)  # says what is wrong with the shape
    there = np.logical_not(np.isnan(points).any(axis=2))
    known = np.where(there[..., None], points, 0.0)
    nme = metrics.nme_per_face(answers, known, lengths, None if there.all() else there)
    failures, area = metrics.failure_rate(nme, threshold), metrics.auc(nme, threshold)
    return LandmarkScores(nme, float(nme.mean()), failures, area, threshold, kind)
