"""A face's crop: cut round its box, and a data set's crops kept on disk. Knows no network."""

import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from stylealign.batches.batch import Batch, to_float
from stylealign.data.cache_file import cache_file, remove_left
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import image_size, read_image, warp
from stylealign.data.threads import on_every_core
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.orientation import shown_crop_affine
from stylealign.face.sample import FaceSample
from stylealign.progress import track


def box_of(sample: FaceSample, box: str) -> np.ndarray:
    """The box the crop is built on. Faces without a landmark and without a box use the whole picture."""
    if box == "landmarks" and sample.landmarks is not None and not sample.missing_points.all():
        return geometry.landmark_box(sample.landmarks[~sample.missing_points])
    if sample.box_xyxy is not None:
        return sample.box_xyxy
    if box == "given" and sample.landmarks is not None:
        raise UserError(f"face '{sample.id}' has no box: use --crop.box landmarks")
    width, height = image_size(sample.image)
    # A picture without any annotation is taken to hold its face in its middle 60 %, as portraits and face crops do.
    side = 0.6 * min(width, height)
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return np.array([cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2])


def sample_affine(sample: FaceSample, crop: CropConfig, margin: float = 1.0) -> np.ndarray:
    """crop_from_source (2, 3); `margin` widens the crop at the same resolution (its size is round(size * margin))."""
    size = round(crop.size * margin)
    try:
        return shown_crop_affine(sample.orientation, box_of(sample, crop.box), crop.scale * size / crop.size, size)
    except ValueError as error:
        raise UserError(f"face '{sample.id}' in {sample.image}: {error}") from None


def crop_sample(
    sample: FaceSample, crop: CropConfig, image: np.ndarray | None = None, margin: float = 1.0
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The face's crop (S, S, 3) uint8, its landmarks (P, 2) in crop pixels, and crop_from_source.

    A landmark that is no label, as one of trust 0, is NaN; an unlabelled face has None.
    """
    affine = sample_affine(sample, crop, margin)
    pixels = warp(read_image(sample.image) if image is None else image, affine, round(crop.size * margin))
    if sample.landmarks is None:
        return pixels, None, affine
    landmarks = geometry.apply(affine, sample.landmarks)
    landmarks[~sample.labelled_points] = np.nan
    return pixels, landmarks, affine


def cache_folder(folder: Path | None = None) -> Path:
    """The folder that crops are kept in, made where it is not there: `folder`, STYLEALIGN_CACHE, or a temporary one.

    Raises UserError where the temporary one belongs to another user, who could put other pictures into it.
    """
    given = folder or os.environ.get("STYLEALIGN_CACHE")
    if given:
        root = Path(given)
        root.mkdir(parents=True, exist_ok=True)
        return root
    user = os.getuid() if hasattr(os, "getuid") else 0
    root = Path(tempfile.gettempdir()) / f"stylealign-{user}"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = root.lstat()
    if hasattr(os, "getuid") and (found.st_uid != user or not stat.S_ISDIR(found.st_mode)):
        raise UserError(f"{root}: belongs to another user; name a folder of your own in STYLEALIGN_CACHE")
    return root


def _identity(path: Path) -> bytes:
    """What tells a picture's file from another that took its place: its path, length, times and number on the disk."""
    try:
        found = path.stat()
    except OSError:  # reading it will say so
        return f"{path}\n".encode(errors="surrogateescape")
    numbers = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return f"{path}\n{numbers}\n".encode(errors="surrogateescape")


def _holds(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file of the cache is whole: an array of this shape, every byte of it there."""
    try:
        return np.load(path, mmap_mode="r").shape == shape
    except (OSError, ValueError):  # not there, cut short, or not an array
        return False


def reserved_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new memory-mapped (N, S, S, 3) uint8 array in a file whose space is taken on the disk already.

    Writing to a map whose disk is full kills the process without a word. Raises UserError where there is no room.
    """
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    try:
        with open(path, "r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        needed = math.prod(shape) / 2**20
        raise UserError(
            f"{path.parent}: no room for crops of {needed:,.0f} MB ({error.strerror}); "
            "STYLEALIGN_CACHE names another folder"
        ) from None
    return images


class Labels(NamedTuple):
    """What a training is told of N faces beside their pixels, px of the crop with its margin."""

    landmarks: np.ndarray
    """(N, P, 2) float32; NaN: no label"""
    visible: np.ndarray
    """(N, P) bool"""
    trust: np.ndarray
    """(N,) float32, 1 where the data set does not say"""
    point_trust: np.ndarray
    """(N, P) float32, likewise"""
    affines: np.ndarray
    """(N, 2, 3) crop_from_source"""

    @classmethod
    def blank(cls, num: int, points: int) -> "Labels":
        """Of faces of which nothing is known yet."""
        return cls(
            np.full((num, points, 2), np.nan, dtype=np.float32), np.ones((num, points), dtype=bool),
            np.ones(num, dtype=np.float32), np.ones((num, points), dtype=np.float32), np.empty((num, 2, 3)),
        )  # fmt: skip

    def put(self, i: int, sample: FaceSample, landmarks: np.ndarray | None, affine: np.ndarray) -> None:
        """Face i, its landmarks in px of the crop. One of trust 0 is no label."""
        self.affines[i] = affine
        if landmarks is not None:
            self.landmarks[i] = landmarks
        if sample.visible is not None:
            self.visible[i] = sample.visible
        if sample.trust is not None:
            self.trust[i] = sample.trust
        if sample.point_trust is not None:
            self.point_trust[i] = sample.point_trust
            self.landmarks[i, sample.point_trust == 0] = np.nan

    def batch(self, images: np.ndarray, rows: Any, index: np.ndarray, weight: float) -> Batch:
        """Some of these faces with their crops (n, S, S, 3) uint8 and their positions, as a batch."""
        return Batch(
            image=to_float(torch.from_numpy(images)),
            landmarks=torch.from_numpy(self.landmarks[rows]),
            visible=torch.from_numpy(self.visible[rows]),
            crop_from_source=torch.from_numpy(self.affines[rows]),
            index=torch.from_numpy(np.asarray(index, dtype=np.int64)),
            weight=torch.from_numpy(self.trust[rows]) * weight,
            point_weight=torch.from_numpy(self.point_trust[rows]),
        )


class CropCache:
    """All crops of a data set: images (N, S, S, 3) uint8 memory-mapped, landmarks (N, P, 2), visible (N, P), affines
    (N, 2, 3), and how far the labels are trusted: trust (N,) and point_trust (N, P), 1 where the data set does not say.
    A landmark of trust 0 is no label: NaN.

    `margin` > 1 keeps context round the crop for rotations and shifts: S = round(size * margin). The images are cut
    once and found again in `folder` (default: STYLEALIGN_CACHE, or a folder of this user's in the system's temporary
    one) as long as nothing they are made from has changed: where each face is cut, and each picture's file.
    """

    def __init__(self, dataset: FaceDataset, crop: CropConfig, margin: float = 1.0, folder: Path | None = None):
        self.dataset, self.crop, self.margin = dataset, crop, margin
        self.size = round(crop.size * margin)
        self._labels = Labels.blank(len(dataset), dataset.schema.num_points)
        self.landmarks, self.visible, self.trust, self.point_trust, self.affines = self._labels
        files = hashlib.sha256()
        for i in range(len(dataset)):
            sample = dataset[i]
            self._describe(i, sample)
            files.update(_identity(sample.image))
        cut = hashlib.sha256(self.affines.tobytes()).hexdigest()
        key = json.dumps([3, crop.size, margin, cut, files.hexdigest()])
        path = cache_folder(folder) / f"crops-{hashlib.sha256(key.encode()).hexdigest()[:20]}.npy"
        remove_left(path.parent, "crops-*.npy")
        shape = (len(dataset), self.size, self.size, 3)
        if not _holds(path, shape):
            self._cut(path, shape)
        self.images = np.load(path, mmap_mode="r")

    def _cut(self, path: Path, shape: tuple[int, ...]) -> None:
        """Cut every face into one file, as a whole or not at all."""
        with cache_file(path) as partial:
            images = reserved_array(partial, shape)
            with closing(on_every_core(lambda i: self._cut_one(i, images), range(len(images)))) as cut:
                for _ in track(cut, "cutting crops", len(images)):
                    pass
            images.flush()

    def _cut_one(self, i: int, images: np.ndarray) -> None:
        images[i] = warp(read_image(self.dataset[i].image), self.affines[i], self.size)

    def _describe(self, i: int, sample: FaceSample) -> None:
        """Where face i is cut, and its labels in px of the crop."""
        affine = sample_affine(sample, self.crop, self.margin)
        landmarks = None if sample.landmarks is None else geometry.apply(affine, sample.landmarks)
        self._labels.put(i, sample, landmarks, affine)

    def __len__(self) -> int:
        return len(self.dataset)

    def label_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """((P, 2) sum of each landmark's labels in px of the crop without its margin, (P, 1) faces that have it)."""
        labelled = np.isfinite(self.landmarks).all(axis=2, keepdims=True)  # (N, P, 1)
        count = labelled.sum(axis=0)
        placed = np.where(labelled, self.landmarks - (self.size - self.crop.size) / 2, 0).sum(axis=0, dtype=np.float64)
        return placed, count

    def batch(self, indices: np.ndarray, index_offset: int = 0, weight: float = 1.0) -> Batch:
        """The crops at these positions, with their margin, as a batch."""
        return self._labels.batch(self.images[indices], indices, np.asarray(indices) + index_offset, weight)


class Labelled(Protocol):
    """Faces whose labels can be added up: a `CropCache`, or shards."""

    dataset: Any

    def label_sums(self) -> tuple[np.ndarray, np.ndarray]: ...


def mean_shape(caches: Sequence[Labelled], shares: list[float]) -> np.ndarray:
    """(P, 2) mean of the training labels in px of the crop (without its margin), sources weighted by their shares.

    A landmark that a source labels in no face (one that its pseudo-labels never trust, say) is the others' mean alone.

    Raises:
        UserError: a landmark that no face of any source has.
    """
    total, weight = np.zeros(2), np.zeros(1)
    for cache, share in zip(caches, shares, strict=True):
        placed, count = cache.label_sums()
        total = total + share * placed / np.maximum(count, 1)
        weight = weight + share * (count > 0)
    missing = np.flatnonzero(weight == 0)
    if missing.size:
        raise UserError(
            f"{caches[0].dataset.folder}: landmark {missing[0]} is labelled in no training face "
            f"({counted(missing.size, 'such landmark')}): of pseudo-labels, that their detectors agree nowhere; train "
            "those longer"
        )
    return total / weight
