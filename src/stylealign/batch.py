"""Faces -> batches: the crop protocol, the cache of crops, and the weighted mix of data sets. Knows no model.

Crops are warped once (uint8, with a margin of context round the crop) and kept in a memory-mapped file; a batch is then an index
into it, and every geometric augmentation happens on the tensors (augment.py). A batch is a pure function of (seed, step), so
that a resumed run sees what an uninterrupted one would have seen.
"""

import hashlib
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylealign.data.dataset import FaceDataset
from stylealign.data.image import image_size, read_image, warp
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample
from stylealign.progress import track


class Batch(NamedTuple):
    """What models see. Coordinates are (x, y) pixels of the crop."""

    image: Tensor
    """(B, 3, H, W) in [-1, 1], RGB"""
    landmarks: Tensor
    """(B, P, 2) float32; NaN for unlabelled faces"""
    visible: Tensor
    """(B, P) bool"""
    crop_from_source: Tensor
    """(B, 2, 3) float64; its inverse takes predictions home"""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    """(B,) int64 position in the data set (or in the mix: the sources' positions one after another)"""
    weight: Tensor
    """(B,) float32 weight of the face in the loss"""
    point_weight: Tensor = torch.ones(0)
    """(B, P) float32 weight of each landmark within its face; empty: all 1"""

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(t.to(device, non_blocking=True) for t in self))

    def point_weights(self) -> Tensor:
        """(B, P) weight of each landmark within its face, written out."""
        return self.point_weight if self.point_weight.numel() else torch.ones_like(self.landmarks[..., 0])

    def weights(self) -> Tensor:
        """(B, P) weight of each landmark in the loss: the face's times its own."""
        return self.weight[:, None] * self.point_weights()


def join(batches: list[Batch]) -> Batch:
    """Batches one after another as one."""
    told = [batch._replace(point_weight=batch.point_weights()) for batch in batches]
    return Batch(*(torch.cat(tensors) for tensors in zip(*told, strict=True)))


def take_faces(batch: Batch, rows: Tensor) -> Batch:
    """Some faces of a batch; a field that is empty stays so."""
    return Batch(*(t[rows.to(t.device)] if len(t) == len(batch.image) else t for t in batch))


class HeadBatches(tuple[Batch, ...]):
    """A batch for each head of a network that learns several mark-ups."""

    def to(self, device: torch.device | str) -> "HeadBatches":
        return HeadBatches(batch.to(device) for batch in self)


def to_float(images: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in [-1, 1], channels-last in memory."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0).contiguous(memory_format=torch.channels_last)


def to_uint8(images: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8: clamped, then rounded, so that no colour wraps round."""
    assert bool(torch.isfinite(images).all()), "an image to be written must be finite"
    return (
        images.detach()
        .float()
        .add(1.0)
        .mul(127.5)
        .clamp(0, 255)
        .round()
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .contiguous()
    )


def box_of(sample: FaceSample, box: str) -> np.ndarray:
    """The box the crop is built on. Unlabelled faces without a box use the whole picture."""
    if box == "landmarks" and sample.landmarks is not None:
        return geometry.landmark_box(sample.landmarks)
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
        return geometry.crop_affine(box_of(sample, crop.box), crop.scale * size / crop.size, size)
    except ValueError as error:
        raise UserError(f"face '{sample.id}' in {sample.image}: {error}") from None


def crop_sample(
    sample: FaceSample, crop: CropConfig, image: np.ndarray | None = None, margin: float = 1.0
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The face's crop (S, S, 3) uint8, its landmarks (P, 2) in crop pixels (None if unlabelled), and crop_from_source."""
    affine = sample_affine(sample, crop, margin)
    pixels = warp(read_image(sample.image) if image is None else image, affine, round(crop.size * margin))
    return pixels, None if sample.landmarks is None else geometry.apply(affine, sample.landmarks), affine


class CropCache:
    """All crops of a data set: images (N, S, S, 3) uint8 memory-mapped, landmarks (N, P, 2), visible (N, P), affines (N, 2, 3),
    and how far the labels are trusted: trust (N,) and point_trust (N, P), 1 where the data set does not say. A landmark of trust 0
    is no label: NaN.

    `margin` > 1 keeps context round the crop for rotations and shifts: S = round(size * margin). Built once per (data, crop,
    margin) into `folder` (default: STYLEALIGN_CACHE or the system's temporary folder) and found again by content hash.
    """

    def __init__(self, dataset: FaceDataset, crop: CropConfig, margin: float = 1.0, folder: Path | None = None):
        self.dataset, self.crop, self.margin = dataset, crop, margin
        self.size = round(crop.size * margin)
        rows = np.array([dataset.row_number(i) for i in range(len(dataset))])
        key = json.dumps(
            [
                2,
                dataset.content_hash,
                crop.size,
                crop.scale,
                crop.box,
                margin,
                hashlib.sha256(rows.tobytes()).hexdigest(),
            ]
        )
        root = folder or Path(
            os.environ.get("STYLEALIGN_CACHE", Path(tempfile.gettempdir()) / f"stylealign-{os.getuid()}")
        )
        root.mkdir(parents=True, exist_ok=True)
        path = root / f"crops-{hashlib.sha256(key.encode()).hexdigest()[:20]}.npy"
        points = dataset.schema.num_points
        self.landmarks = np.full((len(dataset), points, 2), np.nan, dtype=np.float32)
        self.visible = np.ones((len(dataset), points), dtype=bool)
        self.trust = np.ones(len(dataset), dtype=np.float32)
        self.point_trust = np.ones((len(dataset), points), dtype=np.float32)
        self.affines = np.empty((len(dataset), 2, 3))
        shape = (len(dataset), self.size, self.size, 3)
        samples = range(len(dataset))
        if not path.exists():
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            try:
                with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # decoding and warping release the GIL
                    for i in track(pool.map(lambda i: self._fill(i, images), samples), "cutting crops", len(dataset)):
                        del i
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            images.flush()
            os.replace(partial, path)
        else:
            for i in samples:
                self._fill(i, None)
        self.images = np.load(path, mmap_mode="r")

    def _fill(self, i: int, images: np.ndarray | None) -> None:
        sample = self.dataset[i]
        if images is None:
            affine = sample_affine(sample, self.crop, self.margin)
        else:
            images[i], _, affine = crop_sample(sample, self.crop, margin=self.margin)
        self.affines[i] = affine
        if sample.landmarks is not None:
            self.landmarks[i] = geometry.apply(affine, sample.landmarks)
        if sample.visible is not None:
            self.visible[i] = sample.visible
        if sample.trust is not None:
            self.trust[i] = sample.trust
        if sample.point_trust is not None:
            self.point_trust[i] = sample.point_trust
            self.landmarks[i, sample.point_trust == 0] = np.nan

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: np.ndarray, index_offset: int = 0, weight: float = 1.0) -> Batch:
        """The crops at these positions, with their margin, as a batch."""
        return Batch(
            image=to_float(torch.from_numpy(self.images[indices])),
            landmarks=torch.from_numpy(self.landmarks[indices]),
            visible=torch.from_numpy(self.visible[indices]),
            crop_from_source=torch.from_numpy(self.affines[indices]),
            index=torch.from_numpy(np.asarray(indices, dtype=np.int64) + index_offset),
            weight=torch.from_numpy(self.trust[indices]) * weight,
            point_weight=torch.from_numpy(self.point_trust[indices]),
        )


@lru_cache(maxsize=16)  # a new order of a million faces would otherwise be drawn at every step
def _permutation(num: int, seed: int, source: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, source, epoch)).permutation(num)


def epoch_order(num: int, seed: int, source: int, start: int, count: int) -> np.ndarray:
    """Positions start..start+count of an endless walk through `num` faces, each epoch in a new seeded order."""
    out = np.empty(count, dtype=np.int64)
    done = 0
    while done < count:
        epoch, first = divmod(start + done, num)
        order = _permutation(num, seed, source, epoch)[first : first + count - done]
        out[done : done + len(order)] = order
        done += len(order)
    return out


class BatchSource:
    """A mix of crop caches in which source i has the fixed share shares[i] of every batch.

    Counts are whole faces that follow the shares over time (a share of 1/3 in a batch of 32 gives 11, 10, 11, ...).
    `rank` and `world` cut each global batch between processes: rank r takes every world-th face. `orders` names for each source the
    positions that make up one epoch, where that is not each face once (balance.py).
    """

    def __init__(
        self,
        caches: list[CropCache],
        shares: list[float],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        orders: list[np.ndarray] | None = None,
    ):
        if batch_size % world:
            raise UserError(f"batch_size {batch_size} cannot be divided between {world} processes")
        if not caches or len(caches) != len(shares) or min(shares) < 0 or sum(shares) <= 0:
            raise UserError(
                f"shares {shares}: expected a share of 0 or more for each of {len(caches)} data sets, not all 0"
            )
        self.caches, self.batch_size, self.seed, self.rank, self.world = caches, batch_size, seed, rank, world
        self._orders = orders or [np.arange(len(cache)) for cache in caches]
        # Each source's whole faces are in every batch; the few places left go, one at a time, to the source furthest behind.
        wanted = np.array(shares, dtype=np.float64) / sum(shares) * batch_size
        self._whole = np.floor(wanted + 1e-9).astype(np.int64)
        self._left_over = np.maximum(wanted - self._whole, 0.0)
        self._extra = [np.zeros(len(caches), dtype=np.int64)]  # given out before step 0, 1, 2, ...

    def counts(self, steps: int) -> np.ndarray:
        """How many faces of each source the first `steps` batches hold; every batch is full."""
        places = self.batch_size - int(self._whole.sum())
        while len(self._extra) <= steps:
            given = self._extra[-1].copy()
            due = self._left_over * len(self._extra)
            for _ in range(places):
                given[int(np.argmax(due - given))] += 1
            self._extra.append(given)
        return self._whole * steps + self._extra[steps]

    def indices(self, step: int) -> list[tuple[int, np.ndarray]]:
        """(source, positions) of the global batch number `step`."""
        before, after = self.counts(step), self.counts(step + 1)
        return [
            (i, order[epoch_order(len(order), self.seed, i, int(before[i]), int(after[i] - before[i]))])
            for i, order in enumerate(self._orders)
            if after[i] > before[i]
        ]

    def batch(self, step: int) -> Batch:
        """This process's part of batch number `step`."""
        offsets = np.cumsum([0] + [len(c) for c in self.caches])
        faces = [(i, int(p)) for i, positions in self.indices(step) for p in positions][self.rank :: self.world]
        parts = []
        for i, cache in enumerate(self.caches):
            positions = np.array([p for source, p in faces if source == i], dtype=np.int64)
            if len(positions):
                parts.append(cache.batch(positions, int(offsets[i])))
        return join(parts)
