"""Landmark metrics: NME with a named denominator, failure rate, CED, AUC, percentiles, intervals, paired tests.

Arrays in, numbers out. This file knows nothing of files, datasets, detectors or tables. Everything is a fraction
(0.026, not 2.6 %); whoever prints multiplies by 100. The definitions are those of the field: NME is the mean
point-to-point distance of a face over a denominator of that face, the failure rate at t is the share of faces with
NME > t, the CED is its complement, and the AUC at t is the area under the CED up to t, divided by t (the 300-W
challenge uses t = 0.08, WFLW t = 0.10).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stylealign.errors import UserError, counted
from stylealign.face.schema import LandmarkSchema

DENOMINATORS: dict[str, str] = {
    "inter_ocular": "distance of the outer eye corners",
    "inter_pupil": "distance of the eye centres",
    "box": "sqrt(width * height) of the given face box",
    "diagonal": "diagonal of the given face box",
    "landmark_box": "sqrt(width * height) of the true landmarks' own box",
}
_USUAL = {
    "aflw19": "box",  # profile faces, on which the eye corners may coincide: papers divide by the face size
    "cofw29": "inter_pupil",  # what most papers on it divide by
}


# --------------------------------------------------------------------------------------------------------------------
# Distances and denominators


def point_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance of every predicted landmark from its true place.

    Args:
        predicted: (N, P, 2) landmarks (x, y), px.
        truth: (N, P, 2) landmarks in the same pixels.

    Returns:
        (N, P) float64, px.

    Raises:
        UserError: the shapes differ, or a coordinate is not a finite number.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or truth.ndim != 3 or truth.shape[-1] != 2:
        raise UserError(
            f"predictions of shape {predicted.shape} cannot be compared with true landmarks of shape {truth.shape}; "
            f"both must be (faces, points, 2)"
        )
    for name, values in (("predicted", predicted), ("true", truth)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        if bad.size:
            raise UserError(
                f"{counted(bad.size, 'face has', 'faces have')} {name} landmarks that are not finite numbers, first "
                f"in row {bad[0]}"
            )
    return np.linalg.norm(predicted.astype(np.float64) - truth.astype(np.float64), axis=-1)


def usual_denominator(schema: LandmarkSchema, boxed: bool = True) -> str:
    """Return the denominator results on this mark-up are usually given with: what "auto" means.

    A distance of the eyes where the mark-up names one, else the first length of its own. Where it is the face box, and
    not every face has one (`boxed` False), it is the box of the landmarks.
    """
    eyes = (kind for kind in ("inter_ocular", "inter_pupil", *schema.anchors) if kind in schema.anchors)
    usual = _USUAL.get(schema.name) or next(eyes, "box")
    return "landmark_box" if usual == "box" and not boxed else usual


def kinds_for(schema: LandmarkSchema) -> tuple[str, ...]:
    """The denominators that may be named for a mark-up: the usual ones and its own lengths."""
    return tuple(dict.fromkeys((*DENOMINATORS, *schema.anchors)))


def describe_denominator(kind: str, schema: LandmarkSchema) -> str:
    """What a denominator is, for captions: a length of the mark-up's own is told by its landmarks."""
    if kind in DENOMINATORS:
        return DENOMINATORS[kind]
    first, second = (
        f"landmark {side[0]}" if len(side) == 1 else f"the middle of landmarks {', '.join(map(str, side))}"
        for side in schema.anchors[kind]
    )
    return f"distance of {first} from {second}"


def length_of(described: Mapping[str, Any], kind: str) -> str:
    """What a denominator is, by a stored description of a data set or, of an old one, by its name."""
    return str(described.get("divided_by") or DENOMINATORS.get(kind, kind))


def divided_by(described: Mapping[str, Any], kind: str) -> str:
    """The same for captions: and how many faces lack it."""
    what = length_of(described, kind)
    left_out = described.get("left_out") or 0
    return f"{what}; {counted(left_out, 'face')} without it left out" if left_out else what


def measurable(landmarks: np.ndarray, schema: LandmarkSchema, kind: str) -> np.ndarray:
    """Return which faces (N,) have the ends of a denominator labelled, of (N, P, 2) landmarks, NaN where not labelled.

    A profile often lacks the corner of one eye. What is labelled and wrong (a length of 0) counts as measurable:
    `denominators` refuses it.
    """
    known = np.isfinite(landmarks).all(axis=2)
    if kind in ("box", "diagonal"):
        return np.ones(len(known), bool)
    if kind == "landmark_box":
        return np.asarray(known.any(axis=1))
    ends = [i for side in schema.anchors.get(kind, ()) for i in side]
    return np.asarray(known[:, ends].all(axis=1))


def denominators(
    landmarks: np.ndarray,
    boxes: np.ndarray | None,
    schema: LandmarkSchema,
    kind: str,
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """Return the length each face's error is divided by.

    Args:
        landmarks: (N, P, 2) true landmarks (x, y), px.
        boxes: (N, 4) given face boxes as x0, y0, x1, y1, px; needed for "box" and "diagonal" only.
        schema: the numbering of the landmarks; its anchors name the two ends of an eye distance.
        kind: "inter_ocular", "inter_pupil", "box" (sqrt(w * h)), "diagonal", "landmark_box", or an anchor of the
            mark-up's own.
        ids: names of the faces, for messages.

    Returns:
        (N,) float64, px, every one positive.

    Raises:
        UserError: unknown kind, landmarks of another number than the schema's, a schema without that anchor, or a face
            whose length is zero or not a number.
    """
    landmarks = np.asarray(landmarks)
    if landmarks.ndim != 3 or landmarks.shape[1:] != (schema.num_points, 2):
        raise UserError(
            f"landmarks of shape {landmarks.shape}, expected (faces, {schema.num_points}, 2) of {schema.name}"
        )
    if kind not in (known := kinds_for(schema)):
        raise UserError(f"unknown denominator {kind!r}: expected one of {', '.join(known)}")
    if kind in ("box", "diagonal"):
        if boxes is None:
            raise UserError(f"denominator {kind!r} needs face boxes and none were given")
        size_wh = np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2]  # (N, 2)
        # A box with swapped corners has two negative sides and a positive product: refuse it below as zero.
        size_wh = np.where((size_wh > 0).all(axis=1, keepdims=True), size_wh, 0.0)
        lengths = np.sqrt(size_wh.prod(axis=1)) if kind == "box" else np.linalg.norm(size_wh, axis=1)
    elif kind == "landmark_box":
        size_wh = (np.nanmax(landmarks, axis=1) - np.nanmin(landmarks, axis=1)).astype(np.float64)
        lengths = np.sqrt(size_wh.prod(axis=1))
    else:
        if kind not in schema.anchors:
            anchors = ", ".join(schema.anchors) or "none"
            raise UserError(
                f"schema {schema.name!r} has no {kind!r} anchor (it has: {anchors}); use denominator "
                "'box', 'diagonal' or 'landmark_box'"
            )
        first, second = (landmarks[:, list(side)].astype(np.float64).mean(axis=1) for side in schema.anchors[kind])
        lengths = np.linalg.norm(first - second, axis=-1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if bad.size:
        face = ids[bad[0]] if ids is not None else f"row {bad[0]}"
        if kind in ("box", "diagonal"):
            assert boxes is not None
            found = f"its box is {np.asarray(boxes)[bad[0]].tolist()}"
        else:
            found = f"that length is {lengths[bad[0]]:g}"
        raise UserError(
            f"face {face!r} has no usable {kind} denominator ({describe_denominator(kind, schema)}): {found}; "
            f"{counted(bad.size, 'such face')}; correct the annotation or choose another denominator"
        )
    return lengths


def masked_mean(values: np.ndarray, mask: np.ndarray | None, axis: int) -> np.ndarray:
    """Return the mean along an axis over the entries where `mask` is true; NaN where there are none."""
    if mask is None:
        return values.mean(axis=axis)
    count = mask.sum(axis=axis)
    total = np.where(mask, values, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def nme_per_face(
    predicted: np.ndarray, truth: np.ndarray, denominators: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Return each face's normalised mean error, NME_i = 1/P sum_p |predicted_ip - truth_ip| / d_i.

    Args:
        predicted: (N, P, 2) landmarks (x, y), px.
        truth: (N, P, 2) landmarks, same pixels.
        denominators: (N,) d_i, px.
        mask: (N, P) bool, the landmarks that count; all of them when None, as the field does.

    Returns:
        (N,) float64 fractions.

    Raises:
        UserError: shapes that do not fit, a denominator that is not above 0, or a face with no landmark that counts.
    """
    errors = point_errors(predicted, truth)
    denominators = np.asarray(denominators)
    if mask is not None and np.shape(mask) != errors.shape:
        raise UserError(f"a mask of shape {np.shape(mask)}, expected {errors.shape}, a value a landmark")
    if not (np.isfinite(denominators) & (denominators > 0)).all():
        raise UserError("a denominator is not a number above 0")
    if denominators.shape != errors.shape[:1]:
        raise UserError(
            f"{counted(errors.shape[0], 'denominator')} expected, one a face, got shape {denominators.shape}"
        )
    means = masked_mean(errors, mask, axis=1)
    empty = np.flatnonzero(np.isnan(means))
    if empty.size:
        raise UserError(
            f"{counted(empty.size, 'face has', 'faces have')} no visible landmark to score, first in row {empty[0]}"
        )
    return means / denominators


# --------------------------------------------------------------------------------------------------------------------
# Summaries of per-face errors


def _checked(nme: np.ndarray) -> np.ndarray:
    """A NaN compares false with every threshold and would count as a success: refuse it, and refuse nothing."""
    nme = np.asarray(nme, np.float64)
    if nme.ndim != 1 or nme.size == 0 or not np.isfinite(nme).all():
        raise UserError(f"expected at least one finite error per face in one row, got shape {nme.shape}")
    return nme


def failure_rate(nme: np.ndarray, threshold: float) -> float:
    """Return the share of faces whose NME exceeds `threshold` (a fraction)."""
    return float((_checked(nme) > threshold).mean())


def ced(nme: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the cumulative error distribution: for each threshold the share of faces with NME <= threshold."""
    ordered = np.sort(_checked(nme))
    return np.searchsorted(ordered, np.asarray(thresholds, np.float64), side="right") / ordered.size


def auc(nme: np.ndarray, threshold: float) -> float:
    """Return the area under the CED from 0 to `threshold`, divided by `threshold`: 1 is perfect, 0 is hopeless.

    The CED is a step function, so its integral is exact and needs no grid: a face with error e adds a step that is 1
    from e to the threshold, an area of max(0, threshold - e).
    """
    return float(auc_per_face(nme, threshold).mean())


def auc_per_face(nme: np.ndarray, threshold: float) -> np.ndarray:
    """Return (N,) contributions whose mean is the AUC, so that the AUC can be bootstrapped over faces as a mean."""
    if not threshold > 0:
        raise UserError(f"the AUC needs a threshold above zero, got {threshold}")
    return np.maximum(0.0, threshold - _checked(nme)) / threshold


def percentiles(nme: np.ndarray, levels: Sequence[int] = (90, 95, 99)) -> dict[int, float]:
    """Return the error below which 90, 95 and 99 % of the faces lie (linear between order statistics)."""
    values = np.percentile(_checked(nme), list(levels))
    return {level: float(value) for level, value in zip(levels, values, strict=True)}


# --------------------------------------------------------------------------------------------------------------------
# Uncertainty over faces


class Interval(NamedTuple):
    """A mean and the ends of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """Comparison of two error arrays on the same faces; negative differences mean that the first is better."""

    difference: float
    """Mean of first - second."""
    low: float
    """Lower end of the 95 % bootstrap interval of the difference."""
    high: float
    """Upper end."""
    p_wilcoxon: float
    """Two-sided Wilcoxon signed-rank test."""
    p_sign: float
    """Two-sided sign test."""
    better: int
    """Faces on which the first has the smaller error."""
    worse: int
    """Faces on which it has the larger one."""


def bootstrap_mean_interval(values: np.ndarray, seed: int = 0, n: int = 2000, level: float = 0.95) -> Interval:
    """Return the mean of `values` and its percentile bootstrap interval over faces (Efron, 1979).

    Args:
        values: (N,) one number per face.
        seed: seed of the resampling; the interval is a pure function of values, seed, n and level.
        n: number of resamples.
        level: coverage.
    """
    values = _checked(values)
    rng = np.random.default_rng((seed, 0xB007))
    means = np.empty(n)
    rows = max(1, 2_000_000 // values.size)  # a block of resamples at a time: 16 MB, not n * N numbers
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        means[start:stop] = values[rng.integers(0, values.size, (stop - start, values.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def paired_interval(a: np.ndarray, b: np.ndarray, seed: int = 0, n: int = 2000) -> Paired:
    """Compare two systems on the same faces: mean difference a - b, its bootstrap interval, two p values.

    Args:
        a: (N,) error of the first system on each face.
        b: (N,) error of the second on the same faces in the same order.
        seed: seed of the resampling.
        n: number of resamples.

    Raises:
        UserError: the arrays differ in length.
    """
    from scipy.stats import binomtest, wilcoxon  # half a second to import, and only comparisons need it

    a, b = _checked(a), _checked(b)
    if a.shape != b.shape:
        raise UserError(f"a paired comparison needs the same faces in both: got {a.size} and {b.size}")
    difference = a - b
    interval = bootstrap_mean_interval(difference, seed, n)
    better, worse = int((difference < 0).sum()), int((difference > 0).sum())
    if better + worse == 0:
        return Paired(*interval, 1.0, 1.0, 0, 0)
    p_sign = float(binomtest(better, better + worse).pvalue)
    p_wilcoxon = float(wilcoxon(difference[difference != 0]).pvalue)
    return Paired(*interval, p_wilcoxon, p_sign, better, worse)
