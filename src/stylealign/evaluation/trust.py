"""From disagreement to trust, and who is kept. Arrays in, numbers out; knows no files, no networks.

Disagreement is a distance over a length of the face (inter-ocular, usually), a fraction as every error here. Trust is

    t(d) = 2 ** (-d / half)

so that it is 1 at full agreement, 1/2 at a disagreement of `half`, 1/4 at twice that. A rank within the data set
would be as monotone, but a face's rank changes with its company: the same number would not mean the same in two data
sets or in two rounds.
"""

from collections.abc import Sequence

import numpy as np

from stylealign.errors import UserError, counted
from stylealign.evaluation import metrics
from stylealign.face.pose import coefficients
from stylealign.face.schema import LandmarkSchema

LEAST_TRUST = 0.5
"""Trust of a face at least, where its photograph is to be bent by its landmarks."""
CURVE_LEVELS = np.arange(0.05, 1.001, 0.05)


def may_be_bent(trust: float | None) -> bool:
    """Whether a photograph may be bent by landmarks of this trust; None: they are people's."""
    return trust is None or trust >= LEAST_TRUST


def trust(disagreement: np.ndarray, half: float) -> np.ndarray:
    """2 ** (-disagreement / half), elementwise; both are fractions of the same length."""
    return np.exp2(-np.asarray(disagreement, dtype=np.float64) / half)


def face_and_point_trust(disagreement: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """(N,) trust of each face and (N, P) of each point on top of it, from the points' disagreement (N, P).

    A face is trusted by its mean disagreement, a point by what it disagrees beyond that: the product, which the loss
    weighs by, is the trust of the larger of the two, so that no point is trusted more than its face, and the face's
    part is counted once.
    """
    faces = disagreement.mean(axis=1)
    return trust(faces, half), trust(np.maximum(disagreement - faces[:, None], 0.0), half)


def spread(answers: np.ndarray) -> np.ndarray:
    """(N, M, P, 2) answers of M members -> (N, P) px: their mean distance from their mean."""
    return np.linalg.norm(answers - answers.mean(axis=1, keepdims=True), axis=-1).mean(axis=1)


def face_lengths(landmarks: np.ndarray, schema: LandmarkSchema, ids: Sequence[str]) -> tuple[np.ndarray, str]:
    """((N,) px, its name) of the usual denominator of a mark-up.

    Where that is a box, it is the box of the landmarks, as faces need not have one of their own.
    """
    kind = metrics.usual_denominator(schema, boxed=False)
    return metrics.denominators(landmarks, None, schema, kind, ids), kind


def keep_curve(disagreement: np.ndarray, error: np.ndarray | None = None) -> list[dict[str, float]]:
    """What each threshold would keep: a row for every twentieth part of the faces.

    Args:
        disagreement: (N,) of each face.
        error: (N,) NME of the labels where the truth is known.

    Returns:
        Rows of `kept` (share), `max_disagreement` (the threshold that keeps it), `mean_disagreement` of the kept and,
        with `error`, `mean_error` of the kept and `mean_error_of_dropped` of the rest, where there is a rest.
    """
    order = np.argsort(disagreement, kind="stable")
    rows = []
    for level in CURVE_LEVELS:
        count = max(1, round(level * len(order)))
        kept, rest = order[:count], order[count:]
        row = {
            "kept": count / len(order),
            "max_disagreement": float(disagreement[kept[-1]]),
            "mean_disagreement": float(disagreement[kept].mean()),
        }
        if error is not None:
            row["mean_error"] = float(error[kept].mean())
            if len(rest):
                row["mean_error_of_dropped"] = float(error[rest].mean())
        rows.append(row)
    return rows


def choose(disagreement: np.ndarray, keep: float, max_disagreement: float | None, what: str) -> np.ndarray:
    """(n,) positions of the faces to keep, ascending: the `keep` share that agrees best, none above `max_disagreement`.

    Raises UserError with the threshold and the curve where that is nobody.
    """
    order = np.argsort(disagreement, kind="stable")[: round(keep * len(disagreement))]
    if max_disagreement is not None:
        order = order[disagreement[order] <= max_disagreement]
    if not len(order):
        asked = f"max_disagreement {max_disagreement}" if max_disagreement is not None else f"keep {keep}"
        at = ", ".join(f"{q}% at {np.percentile(disagreement, q):.4f}" for q in (10, 25, 50, 75, 90))
        raise UserError(
            f"{what}: {asked} drops all {counted(len(disagreement), 'face')}; the least disagreement is "
            f"{disagreement.min():.4f}; would be kept: {at}"
        )
    return np.sort(order)


def match_poses(
    landmarks: np.ndarray, disagreement: np.ndarray, wanted: np.ndarray, count: int, bins: int
) -> tuple[np.ndarray, int]:
    """Positions of about `count` faces with head poses spread as those of `wanted`, the most agreed on of each pose.

    Frontal faces are agreed on best, so that a plain threshold keeps them and drops turned heads. Poses are bins of
    equal width of the first principal coefficient (the yaw) of both sets' shapes together, with its sign: a left and
    a right profile are two poses.

    Args:
        landmarks: (N, P, 2) of the faces to choose from.
        disagreement: (N,) theirs.
        wanted: (W, P, 2) of the labelled faces.
        count: how many to keep if every pose has enough.
        bins: how many.

    Returns:
        (n,) positions, ascending, and how many places no face could fill.
    """
    yaw = coefficients(np.concatenate([wanted, landmarks]))
    edges = np.linspace(yaw[: len(wanted)].min(), yaw[: len(wanted)].max(), bins + 1)[1:-1]
    bin_of = np.searchsorted(edges, yaw, side="right")
    exact = np.bincount(bin_of[: len(wanted)], minlength=bins) / len(wanted) * count
    quota = np.floor(exact).astype(int)
    over = np.argsort(quota - exact, kind="stable")[: count - quota.sum()]  # the largest remainders get what is left
    quota[over] += 1
    chosen, mine = [], bin_of[len(wanted) :]
    for number in range(bins):
        members = np.flatnonzero(mine == number)
        chosen.append(members[np.argsort(disagreement[members], kind="stable")][: quota[number]])
    found = np.sort(np.concatenate(chosen))
    return found, max(0, count - len(found))
