"""Whether two data sets of one mark-up mean the same places by its landmarks: `face/convention.py`, in sentences."""

from collections.abc import Mapping

import numpy as np

from stylealign.data.dataset import FaceDataset, evenly_spread
from stylealign.errors import UserError
from stylealign.face.convention import LIMIT, shifts, typical_face
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say

MOST_FACES = 2000
SHOWN = 6


def typical_of(faces: FaceDataset) -> np.ndarray | None:
    """`typical_face` of a view, from at most MOST_FACES of it, evenly spread; without faces made from others, which are
    labelled as those are."""
    found = []
    for i in evenly_spread(len(faces), MOST_FACES):
        face = faces[int(i)]
        if face.landmarks is not None and face.provenance is None and face.labelled_points.all():
            found.append(face.landmarks)
    return typical_face(np.stack(found), faces.schema) if found else None


def shifts_between(faces: FaceDataset, others: FaceDataset) -> np.ndarray | None:
    """(P, 2) by how much each landmark of `faces` lies beside that of `others`, as a share of the face's size, to the
    right and down in an upright face; None where it cannot be told.

    Raises UserError for other mark-ups.
    """
    if faces.schema != others.schema:
        raise UserError(
            f"{faces.folder} is of {faces.schema.name}, {others.folder} of {others.schema.name}: expected one mark-up"
        )
    one, other = typical_of(faces), typical_of(others)
    return None if one is None or other is None else shifts(one, other)


def landmarks_elsewhere(moved: np.ndarray, schema: LandmarkSchema) -> str:
    """The landmarks that lie elsewhere and by how much, in words; empty where none does."""
    far = np.linalg.norm(moved, axis=1)
    some = [int(i) for i in np.argsort(-far, kind="stable") if far[i] > LIMIT]
    if not some:
        return ""
    more = f" and {len(some) - SHOWN} more" if len(some) > SHOWN else ""
    names = ", ".join(schema.point_names[i] if schema.point_names else str(i) for i in some[:SHOWN])
    return f"{names}{more} by up to {far.max():.1%} of the face's size"


def say_of_other_ways(sets: Mapping[str, FaceDataset]) -> None:
    """Warn where data sets of one mark-up that are learnt together, by their names, are labelled in another way than
    the first of them that has a typical face."""
    typical = {name: typical_of(faces) for name, faces in sets.items()} if len(sets) > 1 else {}
    told = [(name, shape) for name, shape in typical.items() if shape is not None]
    for name, shape in told[1:]:
        first, other = told[0]
        if where := landmarks_elsewhere(shifts(shape, other), sets[name].schema):
            say(
                f"warning: {name}: its landmarks lie elsewhere than those of {first}, in faces seen from the front: "
                f"{where}. One network learns to tell the two kinds of pictures apart, and answers blurred or "
                "otherwise unlike ones in the other's way: `pseudo-label` labels one set in the way of the other, and "
                "dvln --other gives it a head of its own (docs/schemas.md)"
            )
