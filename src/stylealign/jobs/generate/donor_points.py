"""Where the landmarks of donors are, and which donors may be used by them: for translators that bend the donor.

Labels are taken as they are, with the trust that they have. Faces without labels of the mark-up are looked at by a
detector, twice, the second time in the mirror: where it does not agree with itself, it is not believed.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from stylealign.data.dataset import FaceDataset
from stylealign.data.image import image_size
from stylealign.errors import UserError, counted
from stylealign.evaluation.trust import LEAST_TRUST, face_lengths, may_be_bent, spread, trust
from stylealign.face.geometry import face_size
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.ensemble import LookConfig, ask, load_ensemble, looks_of
from stylealign.predicting.network import model_path
from stylealign.progress import say

HALF = 0.02
"""Disagreement, a fraction of the usual denominator, at which a detector's landmarks are trusted by one half."""
_OUTSIDE = 0.05  # face sizes that a landmark may lie outside of the picture


class DonorPoints(NamedTuple):
    """The donors' landmarks."""

    landmarks: np.ndarray
    """(M, P, 2) px of each donor's picture; all NaN of one that is not used, single ones of missing landmarks"""
    said: list[str]
    """why others are not used, with counts"""


class Labels(NamedTuple):
    """What M donors' data set says of their landmarks."""

    landmarks: np.ndarray
    """(M, P, 2) px of each donor's picture; all NaN without labels of the mark-up, single ones of missing landmarks"""
    known: np.ndarray
    """(M,) bool: there are some"""
    trusted: np.ndarray
    """(M,) bool: they have enough trust to be used"""


def labels_of(donors: FaceDataset, schema: LandmarkSchema) -> Labels:
    """The labels of donors that are of the mark-up."""
    found = Labels(
        np.full((len(donors), schema.num_points, 2), np.nan), np.zeros(len(donors), bool), np.zeros(len(donors), bool)
    )
    for i, sample in enumerate(donors if donors.schema == schema else ()):
        if sample.landmarks is not None:
            found.landmarks[i], found.known[i], found.trusted[i] = sample.labels, True, may_be_bent(sample.trust)
    return found


def donor_points(
    donors: FaceDataset, schema: LandmarkSchema, detector: Path | None, device: torch.device
) -> DonorPoints:
    """The landmarks of all donors that may be used.

    Raises UserError where donors have no labels of the mark-up and the detector (None: the one in the package) finds
    another.
    """
    found, known, trusted = labels_of(donors, schema)
    unlabelled = np.flatnonzero(~known).tolist()
    said = []
    if unlabelled:
        found[unlabelled], believed, unreadable = _detected(donors.take(unlabelled), schema, detector, device)
        trusted[unlabelled] = believed
        said += [f"{unreadable} cannot be read"] * bool(unreadable)
    placed = np.isfinite(found).all(axis=2).any(axis=1)
    if doubted := int((placed & ~trusted).sum()):
        said.append(f"the landmarks of {doubted} are not trusted")
    found[~trusted] = np.nan
    if outside := _outside(donors, found):
        said.append(f"landmarks of {len(outside)} lie outside of their picture")
        found[outside] = np.nan
    return DonorPoints(found, said)


def _outside(donors: FaceDataset, landmarks: np.ndarray) -> list[int]:
    """The donors with a landmark outside of their picture."""
    rows = []
    for i in np.flatnonzero(np.isfinite(landmarks).all(axis=2).any(axis=1)):
        points = landmarks[i][np.isfinite(landmarks[i]).all(axis=1)]
        room = _OUTSIDE * face_size(points)
        if (points < -room).any() or (points > np.array(image_size(donors[int(i)].image)) - 1 + room).any():
            rows.append(int(i))
    return rows


def _detected(
    faces: FaceDataset, schema: LandmarkSchema, detector: Path | None, device: torch.device
) -> tuple[np.ndarray, np.ndarray, int]:
    """Landmarks (n, P, 2) by a detector, whether each is to be trusted, and how many pictures cannot be read."""
    faces.refuse_changed_images(range(len(faces)))
    run = model_path(detector)
    (loaded,) = load_ensemble([run], None, device)
    if loaded.schema != schema:
        whose = "the detector in the package" if detector is None else str(run)
        raise UserError(
            f"{faces.folder}: {counted(len(faces), 'donor has', 'donors have')} no landmarks of {schema.name}, and "
            f"{whose} finds {loaded.schema.name}: name a detector of the same mark-up with --judge, or label them with "
            "`pseudo-label`"
        )
    say(f"{counted(len(faces), 'donor has', 'donors have')} no labels: a detector looks for their landmarks")
    look = LookConfig(jitters=0 if schema.flip_pairs else 2)
    looks = dataclasses.replace(look, flip=bool(schema.flip_pairs))
    assert len(looks_of(looks, schema)) > 1, "one look cannot disagree with itself"
    answers = ask([loaded], faces, looks)
    points = answers.landmarks.mean(axis=1)
    lengths, _ = face_lengths(points, schema, [faces.head(int(i))["id"] for i in answers.positions])
    away = np.maximum(spread(answers.landmarks), answers.settled).mean(axis=1) / lengths
    found, believed = np.full((len(faces), schema.num_points, 2), np.nan), np.zeros(len(faces), bool)
    found[answers.positions], believed[answers.positions] = points, trust(away, HALF) >= LEAST_TRUST
    return found, believed, len(answers.unreadable)
