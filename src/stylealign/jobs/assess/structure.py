"""Where an independent detector finds the landmarks of swapped faces: the structure gap, and the drift of each point.

Everything is in NME of a named denominator (a fraction), from pixel positions in the crop. Knows no files.
"""

from typing import Any

import numpy as np

from stylealign.evaluation import metrics
from stylealign.face.schema import LandmarkSchema

FAILURE = 0.10


def lengths_of(landmarks: np.ndarray, schema: LandmarkSchema) -> tuple[np.ndarray, str]:
    """What errors are divided by, (N,) px of the crop, and its name: the denominator that is usual for this mark-up."""
    kind = metrics.usual_denominator(schema, boxed=False)
    return metrics.denominators(landmarks, None, schema, kind), kind


def drift(real: np.ndarray, swapped: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mean displacement (P, 2) of each point from the answers on real to those on swapped faces, over the length."""
    return ((swapped - real) / lengths[:, None, None]).mean(axis=0)


def structure_gap(
    real: np.ndarray, swapped: np.ndarray, truth: np.ndarray, donors: np.ndarray, schema: LandmarkSchema, seed: int
) -> dict[str, Any]:
    """A detector's NME on swapped faces beside its NME on the same real faces.

    Args:
        real: (N, P, 2) its answers on real faces, px of the crop.
        swapped: (N, P, 2) its answers on the same faces in another's style.
        truth: (N, P, 2) the faces' landmarks.
        donors: (N, P, 2) the landmarks of the faces that gave the style.
        schema: the mark-up, for parts and denominator.
        seed: of the bootstrap over faces, paired: what is resampled is the difference on each face.
    """
    lengths, kind = lengths_of(truth, schema)
    errors = {
        key: metrics.point_errors(found, truth) / lengths[:, None] for key, found in (("real", real), ("swap", swapped))
    }
    nme = {key: value.mean(axis=1) for key, value in errors.items()}
    more = errors["swap"] - errors["real"]  # (N, P)

    def interval(values: np.ndarray) -> dict[str, float]:
        return metrics.bootstrap_mean_interval(values, seed)._asdict()

    return {
        "faces": len(truth),
        "denominator": kind,
        "real_nme": float(nme["real"].mean()),
        "swap_nme": float(nme["swap"].mean()),
        "style_nme": float(metrics.nme_per_face(swapped, donors, lengths).mean()),
        "gap": interval(more.mean(axis=1)),
        "share_above_10": float((nme["swap"] > FAILURE).mean()),
        "real_share_above_10": float((nme["real"] > FAILURE).mean()),
        "parts": {
            part: {
                **{key: float(value[:, list(index)].mean()) for key, value in errors.items()},
                "gap": interval(more[:, list(index)].mean(axis=1)),
            }
            for part, index in schema.parts.items()
        },
        "per_point": more.mean(axis=0).tolist(),
        "drift": drift(real, swapped, lengths).tolist(),
    }


def structure_errors(found: np.ndarray, truth: np.ndarray, schema: LandmarkSchema) -> np.ndarray:
    """(N,) NME of answers (N, P, 2) against the landmarks."""
    return metrics.nme_per_face(found, truth, lengths_of(truth, schema)[0])


def gap_matrix(real: np.ndarray, swapped: np.ndarray, truth: np.ndarray, schema: LandmarkSchema) -> np.ndarray:
    """(n, m) NME of structure i in style j minus that of the real face i.

    Args:
        real: (n, P, 2) answers on the real faces.
        swapped: (n, m, P, 2) answers on every structure in every style.
        truth: (n, P, 2) landmarks of the structures.
        schema: the mark-up.
    """
    lengths, _ = lengths_of(truth, schema)
    before = metrics.nme_per_face(real, truth, lengths)
    after = [metrics.nme_per_face(column, truth, lengths) for column in swapped.transpose(1, 0, 2, 3)]
    return np.stack(after, axis=1) - before[:, None]
