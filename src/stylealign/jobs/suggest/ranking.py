"""Which of many faces to label next: one of each kind that the labelled ones lack. Arrays in, an order out.

A face is described by two things that need no network of its own: its shape (the landmarks found, centred, of unit
size: pose and expression) and its look (the crop shrunk to LOOK px: light, skin, background). Both count alike. Faces,
labelled ones among them, are put into as many clusters as there will be labels (k-means); the face nearest to the
centre of each cluster without a label is suggested, largest clusters first. Of those that are suggested, the ones that
the detectors agree on least stand first in the list.

Taking the least sure faces themselves was measured to be worse than taking any (docs/label-less.md): they are odd ones.
Faces are looked at one group after another and a sample of them is kept, so memory does not grow with their number.
"""

import hashlib
import heapq
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.cluster.vq import kmeans2

from stylealign.evaluation.trust import face_lengths, spread
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

LOOK = 8
"""Side of the small picture that stands for a face's look, px."""
ROUNDS = 10
"""Of k-means."""
SEEN = 1.4
"""Side of the square that is shrunk to it, over the longer side of the landmarks' box."""


def describe_face(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(F,) float32: the shape of (P, 2) landmarks, source px, and the look of the picture (H, W, 3) uint8 round them.

    A missing landmark is NaN and counts as the shape's middle.
    """
    middle = np.nanmean(landmarks, axis=0)
    shape = np.nan_to_num(landmarks - middle)
    shape = shape / max(float(np.sqrt((shape**2).mean())), 1e-6)
    known = landmarks[np.isfinite(landmarks).all(axis=1)]
    box = geometry.landmark_box(known) + np.array([-1, -1, 1, 1])
    x0, y0, x1, y1 = box
    half = SEEN * max(x1 - x0, y1 - y0) / 2
    height, width = image.shape[:2]
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    left, right = (int(np.clip(v, 0, width - 1)) for v in (cx - half, cx + half))
    top, bottom = (int(np.clip(v, 0, height - 1)) for v in (cy - half, cy + half))
    part = image[top : bottom + 1, left : right + 1]
    look = cv2.resize(part, (LOOK, LOOK), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.concatenate([shape.ravel(), look.ravel()]).astype(np.float32)


def balanced(features: np.ndarray, num_points: int) -> np.ndarray:
    """(N, F) descriptions whose shapes and looks vary alike: each part over the standard deviation of all its values
    about their mean face."""
    parts = np.split(features, [2 * num_points], axis=1)
    centred = [part - part.mean(axis=0) for part in parts]
    return np.concatenate([c / max(float(np.sqrt((c**2).sum(axis=1).mean())), 1e-6) for c in centred], axis=1)


def choose_typical(features: np.ndarray, known: np.ndarray, count: int, seed: int = 0) -> list[int]:
    """Positions of `count` faces, one of each of the largest clusters without a labelled face, largest first.

    Args:
        features: (N, F) balanced descriptions of faces that may be chosen.
        known: (M, F) those of the faces labelled already; M may be 0.
        count: at most N are given. Where fewer clusters have no labelled face, the others follow.
        seed: of the clusters.
    """
    count = min(count, len(features))
    together = np.concatenate([features, known]).astype(np.float64)
    clusters = min(len(together), len(known) + count)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # an empty cluster is none that is asked for
        centres, cluster = kmeans2(together, clusters, iter=ROUNDS, minit="++", seed=seed)
    mine, labelled = cluster[: len(features)], set(cluster[len(features) :].tolist())
    sizes = np.bincount(mine, minlength=clusters)
    order = sorted(np.flatnonzero(sizes).tolist(), key=lambda c: (c in labelled, -sizes[c], c))
    away = np.linalg.norm(features - centres[mine], axis=1)
    chosen: list[int] = []
    turn = 0
    while len(chosen) < count:  # a second round only where there are fewer clusters than faces wanted
        for c in order:
            rows = np.flatnonzero(mine == c)
            if len(rows) > turn and len(chosen) < count:
                chosen.append(int(rows[np.argsort(away[rows], kind="stable")[turn]]))
        turn += 1
    return chosen


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A face that may be suggested."""

    sample: FaceSample
    landmarks: np.ndarray
    """(P, 2) source px, the detectors' mean answer"""
    unsure: float
    """Their disagreement, a fraction of the usual denominator"""
    features: np.ndarray
    """(F,) of describe_face"""


class Sample:
    """Keeps so many of any number of candidates that are shown to it: those whose ids have the smallest hash."""

    def __init__(self, most: int):
        self._most = most
        self._heap: list[tuple[int, str, Candidate]] = []
        self.seen = 0

    def add(self, candidate: Candidate) -> None:
        self.seen += 1
        digest = hashlib.sha256(candidate.sample.id.encode(errors="surrogateescape")).digest()
        entry = (-int.from_bytes(digest[:8], "big"), candidate.sample.id, candidate)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def kept(self) -> list[Candidate]:
        """In the order of their ids."""
        return [entry[2] for entry in sorted(self._heap, key=lambda entry: entry[1])]


def candidates_of(
    samples: Sequence[FaceSample], images: Iterable[np.ndarray], landmarks: np.ndarray, schema: LandmarkSchema
) -> list[Candidate]:
    """The candidates of a group of faces with their pictures and (n, M, P, 2) answers, source px."""
    found = landmarks.mean(axis=1)
    lengths, _ = face_lengths(found, schema, [sample.id for sample in samples])
    unsure = spread(landmarks).mean(axis=1) / lengths
    return [
        Candidate(sample=sample, landmarks=points, unsure=float(u), features=describe_face(image, points))
        for sample, image, points, u in zip(samples, images, found, unsure, strict=True)
    ]


def suggested(candidates: Sequence[Candidate], known: np.ndarray, schema: LandmarkSchema, count: int) -> list[int]:
    """Positions of the `count` candidates to label, the least sure first; `known` (M, F) describes labelled faces."""
    if not candidates:
        return []
    features = np.stack([candidate.features for candidate in candidates])
    together = balanced(np.concatenate([features, known.reshape(-1, features.shape[1])]), schema.num_points)
    chosen = choose_typical(together[: len(features)], together[len(features) :], count)
    return sorted(chosen, key=lambda i: -candidates[i].unsure)
