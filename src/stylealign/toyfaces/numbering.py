"""Whether faces' landmarks lie where a built-in mark-up has them: own points of the same number mostly do not.

A face is compared with the drawn head's landmarks in that mark-up, seen from many sides, wherever it is, however large
and however turned in the picture. `misfit` is what then remains, as a share of the face's spread round its middle.
Medians: drawn faces 0.06 to 0.07, and up to 0.14 for four of them or in profile; the 206 faces of WFLW's test set that
are in some subset 0.12 to 0.15, those in large pose 0.15 to 0.18; 856 faces of 300-W 0.13 (0.09 as five
points). Shuffled points of 19 or more have 0.7 or more.

Five points tell less: shuffled, they have 0.35 or more once faces that lie on their side count as others, and the
middles of the brows look like pupils. So few never prove a mark-up, they only speak against it.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from stylealign.data.dataset import FaceDataset, evenly_spread
from stylealign.errors import counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import CONVERSIONS, SCHEMAS, LandmarkSchema
from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.shape import head_points, project

LIMIT = 0.3
"""Median misfit above which faces are none of the mark-up."""
LEAST_FACES, MOST_FACES = 4, 200
"""No verdict on fewer; of more so many are looked at, evenly spread."""
FEW_POINTS = 10
"""Fewer landmarks fit a face that lies on its side by chance, and say little about which points they are."""
_UPRIGHT = np.radians(60)
_YAWS, _PITCHES, _MOUTHS = np.arange(-90, 91, 15), (-30, -15, 0, 15, 30), (0.0, 0.8)

_Groups = tuple[tuple[int, ...], ...]


def _one_each(first: int, last: int) -> _Groups:
    return tuple((i,) for i in range(first, last + 1))


# Landmark -> those of the drawn head's 98 whose mean it is, about: good enough to tell a numbering, not to convert.
_FROM_98: dict[str, _Groups] = {
    "wflw98": _one_each(0, 97),
    "ibug68": CONVERSIONS["wflw98", "ibug68"][0],
    "five": CONVERSIONS["wflw98", "five"][0],
    "synthetics70": (*CONVERSIONS["wflw98", "ibug68"][0], (96,), (97,)),
    "cofw29": (
        (33,), (46,), (37,), (42,), (35,), (39, 40), (44,), (48, 49), (60,), (72,), (64,), (68,), (62,), (66,), (70,),
        (74,), (96,), (97,), (55,), (59,), (54,), (57,), (76,), (82,), (79,), (90,), (94,), (85,), (16,),
    ),
    "aflw19": (
        (33,), (35, 40), (37, 38), (42, 50), (44, 48), (46,), (60,), (96,), (64,), (68,), (97,), (72,), (55,), (54,),
        (59,), (76,), (90, 94), (82,), (16,),
    ),
    "lapa106": (
        *_one_each(0, 54), (51, 64), (52, 55), (55,), (55,), (56,), (57,), (58,), (59,), (59,), (52, 59), (51, 68),
        *_one_each(60, 67), (60, 64), *_one_each(68, 75), (68, 72), *_one_each(76, 95), (96,), (97,),
    ),
}  # fmt: skip


def drawn_as(schema: LandmarkSchema, landmarks: np.ndarray) -> np.ndarray:
    """(..., P, 2) the landmarks of a built-in mark-up, about, of drawn faces' 98 (..., 98, 2)."""
    return np.stack([landmarks[..., list(group), :].mean(axis=-2) for group in _FROM_98[schema.name]], axis=-2)


@lru_cache(maxsize=len(_FROM_98))
def _views(name: str) -> np.ndarray:
    """(V, P) complex: the drawn head's landmarks seen from V sides, with the mouth shut and open."""
    seen = [Structure(yaw=y, pitch=p, mouth_open=m) for m in _MOUTHS for y in _YAWS.tolist() for p in _PITCHES]
    points = drawn_as(SCHEMAS[name], np.stack([project(s, head_points(s), 256) for s in seen]))
    return points[..., 0] + 1j * points[..., 1]


def misfits(landmarks: np.ndarray, there: np.ndarray, schema: LandmarkSchema) -> np.ndarray:
    """How far each face's landmarks are from lying as a built-in mark-up's do on a head seen from any side.

    Args:
        landmarks: (N, P, 2) px; what stands at landmarks that are not there does not matter.
        there: (N, P) bool, three or more a face.
        schema: a built-in mark-up.

    Returns:
        (N,) 0 to 1: what the best similarity without mirroring leaves, root mean square, over that of the landmarks'
        distances from their middle.
    """
    views, weight = _views(schema.name), there.astype(np.float64)
    faces = np.where(there, landmarks[..., 0] + 1j * landmarks[..., 1], 0)
    number = weight.sum(axis=1, keepdims=True)
    faces = (faces - faces.sum(axis=1, keepdims=True) / number) * weight
    middles = weight @ views.T / number  # (N, V): of the landmarks that are there
    spread = weight @ (np.abs(views) ** 2).T - number * np.abs(middles) ** 2
    # A face's middle is at 0, so that the views' middles drop out of the products.
    product = faces @ views.conj().T
    size = (np.abs(faces) ** 2).sum(axis=1, keepdims=True)
    alike = np.abs(product) ** 2 / np.maximum(size * spread, 1e-12)
    if schema.num_points < FEW_POINTS:
        alike = np.where(np.abs(np.angle(product)) < _UPRIGHT, alike, 0)
    return np.sqrt(np.clip(1 - alike.max(axis=1), 0, 1))


def misfit(faces: Iterable[FaceSample], schema: LandmarkSchema) -> float | None:
    """The median of `misfits` over labelled faces with half of their landmarks, and four; None: fewer than LEAST_FACES
    are there, or the mark-up is none of the built-in ones."""
    if SCHEMAS.get(schema.name) != schema:
        return None
    kept = [
        (face.landmarks, face.labelled_points)
        for face in faces
        if face.landmarks is not None and face.labelled_points.sum() >= max(4, schema.num_points / 2)
    ]
    if len(kept) < LEAST_FACES:
        return None
    landmarks, there = (np.stack(values) for values in zip(*kept, strict=True))
    return float(np.median(misfits(landmarks.astype(np.float64), there, schema)))


def numbered_otherwise(faces: FaceDataset) -> str | None:
    """A warning, in a sentence, where the labelled faces of a data set or view have other points than its mark-up.

    None where they may have them, or where too few tell. At most MOST_FACES faces are read whole.
    """
    schema = faces.schema
    labelled = [i for i in range(len(faces)) if faces.head(i)["labelled"]]
    if not labelled:
        return None
    chosen = evenly_spread(len(labelled), MOST_FACES)
    found = misfit(faces.take(labelled[i] for i in chosen), schema)
    if found is None or found <= LIMIT:
        return None
    upright = " on upright faces" if schema.num_points < FEW_POINTS else ""
    return (
        f"the landmarks do not lie as those of {schema.name} do{upright} (misfit {found:.2f} by the median of "
        f"{counted(len(chosen), 'face')}, expected at most {LIMIT}): its mirror pairs, curves and error denominators "
        f"would be wrong for them. If these {counted(schema.num_points, 'point')} are a mark-up of your own, "
        "`stylealign init SOURCE` writes it from the source of the faces, and `stylealign prepare --schema FILE.yaml` "
        "takes it"
    )
