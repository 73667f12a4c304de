"""Whether a detector is as unsure as it errs: expected against seen error, what is left without the least sure, and
errors along and across the contour.

Arrays in, plain dicts of fractions of the denominator and tables of them out. Knows no files and no models.

How much of the error is noise of the labels cannot be told from faces that were labelled once, so no share of it is
given; the expected errors along and across contain that noise, since they were fitted on labels that have it.
"""

from typing import Any

import numpy as np
from scipy.special import ellipe

from stylealign.evaluation.metrics import masked_mean
from stylealign.evaluation.point_trust import NEAR, point_confidence
from stylealign.evaluation.tables import Table
from stylealign.face.geometry import face_size
from stylealign.face.schema import LandmarkSchema

TITLES = ("Reliability", "Error that remains", "Along and across")
TENTHS = 10
DROPPED = (0.05, 0.1, 0.2)
INSIDE = 0.9
_REACH = -2 * np.log(1 - INSIDE)  # squared Mahalanobis distance within which that share of a Gaussian in a plane lies


def expected_distance(covariance: np.ndarray) -> np.ndarray:
    """(..., 2, 2) -> (...,) mean length of a Gaussian error, px: sqrt(2 a / pi) E(1 - b / a), a >= b being the
    eigenvalues and E the complete elliptic integral of the second kind (that of a circle: 1.2533 standard deviations).
    """
    values = np.linalg.eigvalsh(covariance)
    return np.sqrt(2 * values[..., 1] / np.pi) * ellipe(1 - values[..., 0] / values[..., 1])


def neighbours_on_curves(schema: LandmarkSchema) -> np.ndarray:
    """(n, 3) int: a landmark that has one contour through it, and the two landmarks that say where it runs.

    Inside of a curve those before and after it; at a loose end itself and its neighbour. Where two curves end
    together (the corners of eyes and mouth) no direction is the contour's.
    """
    inside: dict[int, tuple[int, int]] = {}
    ends: dict[int, list[tuple[int, int]]] = {}
    for curve in schema.boundaries.values():
        for before, point, after in zip(curve, curve[1:], curve[2:], strict=False):
            inside.setdefault(point, (before, after))
        ends.setdefault(curve[0], []).append((curve[0], curve[1]))
        ends.setdefault(curve[-1], []).append((curve[-2], curve[-1]))
    loose = {point: pairs[0] for point, pairs in ends.items() if len(pairs) == 1 and point not in inside}
    rows = [(point, *pair) for point, pair in sorted({**inside, **loose}.items())]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _deciles(expected: np.ndarray, seen: np.ndarray, squared: np.ndarray) -> list[dict[str, float]]:
    """Points in ten groups by expected error, the surest first."""
    rows = []
    for some in np.array_split(np.argsort(expected, kind="stable"), TENTHS):
        if len(some):
            rows.append({
                "points": len(some), "expected": float(expected[some].mean()), "seen": float(seen[some].mean()),
                "inside": float((squared[some] <= _REACH).mean()),
            })  # fmt: skip
    return rows


def _left(doubt: np.ndarray, seen: np.ndarray) -> list[dict[str, float]]:
    """Mean error once the most doubted are dropped, and once those that err most are."""
    rows = []
    for share in DROPPED:
        count = max(1, len(seen) - round(share * len(seen)))
        kept = np.argsort(doubt, kind="stable")[:count]
        rows.append({"dropped": share, "left": float(seen[kept].mean()), "best": float(np.sort(seen)[:count].mean())})
    return rows


def _directions(
    errors: np.ndarray, covariance: np.ndarray, truth: np.ndarray, known: np.ndarray, schema: LandmarkSchema
) -> dict[str, float] | None:
    """Mean errors along and across the contours, seen and expected; None where the mark-up has no curves."""
    rows = neighbours_on_curves(schema)
    if not len(rows):
        return None
    point, before, after = rows.T
    tangent = truth[:, after] - truth[:, before]  # (N, n, 2)
    length = np.linalg.norm(tangent, axis=-1)
    there = known[:, point] & known[:, before] & known[:, after] & (length > 0)
    if not there.any():
        return None
    along = tangent / np.maximum(length, 1e-12)[..., None]
    found: dict[str, float] = {"points": float(len(rows))}
    for name, axis in (("along", along), ("across", along[..., ::-1] * np.array([-1.0, 1.0]))):
        seen = np.abs((errors[:, point] * axis).sum(axis=-1))
        variance = np.einsum("npi,npij,npj->np", axis, covariance[:, point], axis)
        found[name] = float(seen[there].mean())
        found[f"expected_{name}"] = float(np.sqrt(2 / np.pi * variance[there]).mean())
    return found


def reliability(
    found: np.ndarray,
    covariance: np.ndarray,
    truth: np.ndarray,
    lengths: np.ndarray,
    schema: LandmarkSchema,
    mask: np.ndarray | None = None,
) -> dict[str, Any]:
    """What is to be known of how sure a detector is.

    Args:
        found: (N, P, 2) px.
        covariance: (N, P, 2, 2) px^2 of the same pixels, positive definite.
        truth: (N, P, 2) px.
        lengths: (N,) denominators, px.
        schema: knows the contours.
        mask: (N, P) landmarks that count, in what is expected as in what is seen; None: all.

    Returns:
        `deciles`, `points` and `faces` (what is left without the least sure), `near` (share of landmarks within 5 % of
        the face's size, expected and seen) and `directions` (None without contours). Errors are fractions of the
        denominator.
    """
    known = np.ones(truth.shape[:2], bool) if mask is None else mask
    errors = (found - truth) / lengths[:, None, None]
    scaled = covariance / (lengths**2)[:, None, None, None]
    seen, expected = np.linalg.norm(errors, axis=-1), expected_distance(scaled)
    squared = (errors * np.linalg.solve(scaled, errors[..., None])[..., 0]).sum(axis=-1)
    sizes = np.array([face_size(landmarks) for landmarks in found])
    confidence = point_confidence(covariance, sizes)
    near = np.linalg.norm(found - truth, axis=-1) <= NEAR * sizes[:, None]
    some = known.any(axis=1)
    doubt, per_face = -masked_mean(confidence, known, axis=1)[some], masked_mean(seen, known, axis=1)[some]
    return {
        "deciles": _deciles(expected[known], seen[known], squared[known]),
        "points": _left(expected[known], seen[known]),
        "faces": _left(doubt, per_face),
        "near": {"expected": float(confidence[known].mean()), "seen": float(near[known].mean())},
        "directions": _directions(errors, scaled, truth, known, schema),
    }


def tables_of(figures: dict[str, Any], name: str) -> list[Table]:
    """The tables of one arm's `reliability`, in per cent."""

    def percent(value: float) -> str:
        return f"{100 * value:.2f}"

    rows: list[tuple[str, ...]] = [
        (f"{i}", percent(row["expected"]), percent(row["seen"]), f"{row['seen'] / row['expected']:.2f}",
         f"{100 * row['inside']:.0f}")
        for i, row in enumerate(figures["deciles"], 1)
    ]  # fmt: skip
    near = figures["near"]
    ellipse = f"in the {100 * INSIDE:.0f} % ellipse, %"
    header: tuple[str, ...] = ("tenth", "expected error %", "seen error %", "seen / expected", ellipse)
    note = (
        f"Points in ten equal groups, the surest first. Within {100 * NEAR:g} % of the face's size: "
        f"{100 * near['expected']:.1f} % of the landmarks expected, {100 * near['seen']:.1f} % seen."
    )
    found = [Table(f"{TITLES[0]}: {name}", header, rows, note)]
    rows = [
        (f"{100 * p['dropped']:g} %", percent(p["left"]), percent(p["best"]), percent(f["left"]), percent(f["best"]))
        for p, f in zip(figures["points"], figures["faces"], strict=True)
    ]
    header = ("dropped", "points: error %", "at best", "faces: NME %", "at best")
    note = "What is left without the least sure points or faces; at best: without those that err most."
    found.append(Table(f"{TITLES[1]}: {name}", header, rows, note))
    directions = figures["directions"]
    if directions:
        rows = [
            (f"{way} the contour", percent(directions[way]), percent(directions[f"expected_{way}"]))
            for way in ("along", "across")
        ]
        note = (
            f"{directions['points']:.0f} points that have one contour through them. No share of label noise: faces "
            "labelled once do not tell it."
        )
        found.append(Table(f"{TITLES[2]}: {name}", ("error", "seen %", "expected %"), rows, note))
    return found
