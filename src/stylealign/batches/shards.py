"""Shards as a training reads them: faces in a seeded order that touches a few shards at a time, decoded for each batch.

What `CropCache` is for a data set folder, without anything that grows with the number of faces. An epoch goes through
the shards in an order of its own, WINDOW of them at a time, and through the faces of a window in a random order: a
face's place is a function of (seed, epoch), so that a training is resumed to the face, and shared by processes as any.
"""

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylealign.batches.batch import Batch
from stylealign.batches.crops import CropCache, Labels, sample_affine
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import encode_image, read_image, warp
from stylealign.data.shards import Packed, ShardConfig, ShardedFaces, ShardWriter
from stylealign.data.threads import num_cores, on_every_core
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.orientation import map_box
from stylealign.face.sample import FaceSample
from stylealign.progress import track

WINDOW = 8
"""Shards whose faces are shuffled together, and held in memory (twice as many while one window follows another)."""


class ShardCache:
    """Shards where a training expects the crops of a data set: `walk` says which faces come next, `batch` gives them.

    Raises UserError for shards that were cut otherwise than the training asks for.
    """

    def __init__(self, faces: ShardedFaces, crop: CropConfig, margin: float = 1.0):
        if faces.crop != crop or faces.margin < margin:
            raise UserError(
                f"{faces.address}: its faces were cut as {faces.crop.describe()}, {faces.margin:g} times as wide; "
                f"expected {crop.describe()}, at least {margin:g} times: give the training that crop, or make other "
                "shards"
            )
        self.dataset, self.crop, self.margin = faces, crop, faces.margin
        self.size = round(crop.size * faces.margin)
        self._counts = np.array([shard.faces for shard in faces.shards], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self._held: OrderedDict[int, Future[list[Packed]]] = OrderedDict()
        self._reader = ThreadPoolExecutor(1, "next-shard")
        # Beside a GPU several faces are decoded at once; a CPU has the network to compute.
        self._decoders = ThreadPoolExecutor(min(8, num_cores())) if torch.cuda.is_available() else None
        self._window = lru_cache(maxsize=3)(self._new_window)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def label_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """As that of CropCache, from the sums that the shards' index holds."""
        sums = self.dataset.label_sums()
        count = sums.num[:, None]
        return sums.sum - (self.size - self.crop.size) / 2 * count, count

    # ---------------------------------------------------------------------------------------------------------------
    # Order

    def _shards_of(self, seed: int, source: int, epoch: int, number: int) -> np.ndarray:
        """The shards of a window of an epoch; none after the last."""
        order = np.random.default_rng((seed, source, epoch)).permutation(len(self._counts))
        return order[number * WINDOW : (number + 1) * WINDOW]

    def _new_window(self, seed: int, source: int, epoch: int, number: int) -> np.ndarray:
        """The positions of a window's faces, in the order in which they come."""
        shards = self._shards_of(seed, source, epoch, number)
        faces = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in shards])
        return np.random.default_rng((seed, source, epoch, number)).permutation(faces)

    def walk(self, seed: int, source: int, start: int, count: int) -> np.ndarray:
        """Positions start .. start + count of an endless walk through the faces, each epoch in a new seeded order."""
        found: list[np.ndarray] = []
        while count > 0:
            epoch, at = divmod(start, len(self))
            order = np.random.default_rng((seed, source, epoch)).permutation(len(self._counts))
            ends = np.cumsum([self._counts[order[i : i + WINDOW]].sum() for i in range(0, len(order), WINDOW)])
            number = int(np.searchsorted(ends, at, side="right"))
            faces = self._window(seed, source, epoch, number)
            first = at - int(ends[number] - len(faces))
            found.append(faces[first : first + count])
            if first + count > len(faces) // 2:
                last = number + 1 == len(ends)
                self._ask_for(self._shards_of(seed, source, epoch + last, 0 if last else number + 1))
            start, count = start + len(found[-1]), count - len(found[-1])
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    # ---------------------------------------------------------------------------------------------------------------
    # Bytes

    def _ask_for(self, shards: np.ndarray) -> None:
        """Read shards in the background, and let go of those that were used longest ago."""
        for shard in map(int, shards):
            if shard not in self._held:
                self._held[shard] = self._reader.submit(self.dataset.read, self.dataset.shards[shard])
            self._held.move_to_end(shard)
        while len(self._held) > 2 * WINDOW:
            self._held.popitem(last=False)

    def _packed(self, position: int) -> Packed:
        shard = int(np.searchsorted(self._starts, position, side="right")) - 1
        if shard not in self._held:
            self._ask_for(np.array([shard]))
        self._held.move_to_end(shard)
        return self._held[shard].result()[position - int(self._starts[shard])]

    def _decoded(self, packed: Packed) -> tuple[np.ndarray, FaceSample, np.ndarray]:
        sample, affine = self.dataset.face(packed)
        image = read_image(sample.image, content=packed.image)
        if image.shape != (self.size, self.size, 3):
            found = f"a picture of {image.shape[1]} x {image.shape[0]} px"
            raise UserError(f"{packed.where}: {found}, expected {self.size} x {self.size} (crop and margin)")
        return image, sample, affine

    def batch(self, indices: np.ndarray, index_offset: int = 0, weight: float = 1.0) -> Batch:
        """The faces at these positions, with their margin, as a batch."""
        images = np.empty((len(indices), self.size, self.size, 3), dtype=np.uint8)
        labels = Labels.blank(len(indices), self.dataset.schema.num_points)
        packed = [self._packed(int(position)) for position in indices]
        decoded = map(self._decoded, packed) if self._decoders is None else self._decoders.map(self._decoded, packed)
        for i, (image, sample, affine) in enumerate(decoded):
            images[i] = image
            labels.put(i, sample, sample.landmarks, affine)
        return labels.batch(images, slice(None), np.asarray(indices) + index_offset, weight)


def open_cache(faces: FaceDataset | ShardedFaces, crop: CropConfig, margin: float = 1.0) -> CropCache | ShardCache:
    """What batches are made from, of either kind of data set."""
    return ShardCache(faces, crop, margin) if isinstance(faces, ShardedFaces) else CropCache(faces, crop, margin)


# --------------------------------------------------------------------------------------------------------------------
# Making


def _cut(sample: FaceSample, config: ShardConfig) -> tuple[FaceSample, bytes, np.ndarray]:
    """A face in px of its crop, the crop's file, and crop_from_source."""
    affine = sample_affine(sample, config.crop, config.margin)
    pixels = warp(read_image(sample.image), affine, round(config.crop.size * config.margin))
    moved: dict[str, Any] = {"orientation": 1}  # the crop's
    if sample.landmarks is not None:
        moved["landmarks"] = geometry.apply(affine, sample.landmarks)
    if sample.box_xyxy is not None:
        moved["box_xyxy"] = map_box(affine, sample.box_xyxy)
    return replace(sample, **moved), encode_image(pixels, f".{config.image_format}", config.quality), affine


def pack(dataset: FaceDataset, folder: Path, faces: int, config: ShardConfig) -> None:
    """Write a data set's faces into a folder as shards of so many faces, in its order."""
    meta = dataset.meta
    described = {
        "name": dataset.name, "source": meta.get("source", ""), "licence": meta.get("licence", ""),
        "how": meta.get("how") or {}, "content_hash": dataset.content_hash,
    }  # fmt: skip
    writer = ShardWriter(
        folder, schema=dataset.schema, crop=config.crop, margin=config.margin, faces=faces, described=described
    )

    with closing(on_every_core(lambda i: _cut(dataset[i], config), range(len(dataset)))) as cut:
        for sample, image, affine in track(cut, "cutting shards", len(dataset)):
            writer.add(sample, image, f".{config.image_format}", affine)
    writer.finish()
