"""Which held-out faces give each other styles while a translator is trained: in its previews, and before its judge."""

from typing import NamedTuple

import numpy as np
import torch

from stylealign.batches.batch import Batch, take_faces
from stylealign.errors import counted
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say
from stylealign.translators.warp.fit import WarpConfig, fitting_donors

SHOWN = 6  # structures and styles of a preview


class HeldOut(NamedTuple):
    """The faces that a translator is watched on."""

    judged: Batch
    """Faces that are swapped before the judge"""
    donors: Batch | None
    """Row i gives face i its style; None: the judged faces give it to each other, by chance"""
    shown: Batch
    """The few of a preview"""


def held_out_faces(faces: Batch, bends_donor: bool, schema: LandmarkSchema, seed: int, where: str) -> HeldOut:
    """Faces by chance, or, for a translator that bends donors, those that fit, the nearest in shape first.

    Where fewer than 2 faces have a donor that fits, by chance all the same, which is said.
    """
    by_chance = HeldOut(faces, None, take_faces(faces, torch.arange(min(SHOWN, len(faces.image)))))
    if not bends_donor:
        return by_chance
    points = faces.landmarks.cpu().double().numpy()
    found = fitting_donors(points, points, SHOWN - 1, seed, np.arange(len(points)), schema, WarpConfig()).donors
    rows = np.flatnonzero(found[:, 0] >= 0)
    if len(rows) < 2:
        say(
            f"warning: {where}: {len(rows)} of {counted(len(points), 'face')} that the judge sees with a donor among "
            "them that can be bent onto them, so donors are taken by chance and the judge will find too much: expected "
            "more faces"
        )
        return by_chance
    most = rows[np.argmax((found[rows] >= 0).sum(axis=1))]  # the first that goes with the most others
    together = np.concatenate([[most], found[most][found[most] >= 0]])
    judged, donors, shown = (take_faces(faces, torch.from_numpy(i)) for i in (rows, found[rows, 0], together))
    return HeldOut(judged, donors, shown)
