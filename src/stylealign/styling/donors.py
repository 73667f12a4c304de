"""Whose style a face may get: which faces of which data sets may be donors, and batches of them. Knows no arm.

A donor gives no label, but the network sees its picture all the same: pictures of faces that are held out of a
training (labelled faces of another split of its data sets, its validation faces) are refused or left out, and so are
those that were made from them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.batches.crops import CropCache
from stylealign.data.dataset import FaceDataset, sources_of
from stylealign.errors import UserError, counted
from stylealign.evaluation.trust import LEAST_TRUST
from stylealign.face.geometry import compose, flip_affine, mirrored_back
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say
from stylealign.training.seen import say_held_out
from stylealign.translators.warp.fit import descriptors, nearest, reference_shape


def _splits_of(faces: FaceDataset) -> set[str]:
    return {faces.head(i)["split"] for i in range(len(faces))}


@dataclass
class _HeldOut:
    """Faces whose pictures no network of a training may see."""

    digests: set[str] = field(default_factory=set)
    """of their pictures"""
    ids: dict[str, set[str]] = field(default_factory=dict)
    """content hash of a data set -> theirs in it"""

    def add(self, faces: FaceDataset, heads: Iterable[dict[str, Any]]) -> None:
        """Hold some faces of a data set out, by their index lines."""
        for head in heads:
            self.digests.add(head["digest"])
            self.ids.setdefault(faces.content_hash, set()).add(head["id"])

    def shown_in(self, faces: FaceDataset) -> list[int]:
        """Positions of the faces whose pictures are those, or were made from them."""
        inputs = (faces.meta.get("how") or {}).get("inputs") or {}
        sources = sources_of(faces.meta)
        made = set[str]().union(*(self.ids.get(source, ()) for source in sources))
        by_style = made.union(self.ids.get((inputs.get("donors") or {}).get("content_hash", ""), ()))
        found = []
        for i, head in enumerate(map(faces.head, range(len(faces)))):
            origin = head.get("provenance") or {}
            styles = (origin.get("style_id") or "").split(" + ")
            if head["digest"] in self.digests or origin.get("content_id") in made or not by_style.isdisjoint(styles):
                found.append(i)
        return found


def _held_out(faces: FaceDataset, trained_splits: set[str]) -> list[dict[str, Any]]:
    """Index lines of the labelled faces of splits that are not trained on: a detector could be measured on them."""
    heads = map(faces.head, range(len(faces)))
    return [head for head in heads if head["labelled"] and head["split"] not in trained_splits]


def donor_faces(
    donors: Sequence[Path], split: str | None, training: Sequence[FaceDataset], validation: FaceDataset | None
) -> list[FaceDataset]:
    """The faces of each donor data set that may give styles: those that the training does not hold out.

    Args:
        donors: folders of data sets.
        split: theirs. None: of a training data set the splits trained on, of others `train` where they have it, else
            all faces.
        training: the faces trained on, views of their data sets.
        validation: the faces evaluated on.

    Raises UserError where a held-out split is asked for, and where no face is left.
    """
    trained: dict[str, set[str]] = {}  # content hash of a training data set: its splits that are trained on
    for faces in training:
        trained.setdefault(faces.content_hash, set()).update(_splits_of(faces))
    held_out = _HeldOut()
    if validation is not None:
        held_out.add(validation, map(validation.head, range(len(validation))))
    if donors:
        for faces in {f.content_hash: f for f in training}.values():
            held_out.add(faces, _held_out(FaceDataset.open(faces.folder), trained[faces.content_hash]))
    chosen = []
    for path in donors:
        opened = FaceDataset.open(path)
        splits = trained.get(opened.content_hash)
        if splits is not None:
            chosen.append(_of_training(opened, split, splits, path))
        else:
            others = of_others(opened, split, path)
            say_held_out("pictures of", others, f" of {path} are donors")
            chosen.append(_not_held_out(others, held_out, path))
    if sum(map(len, chosen)) == 1:
        say(f"warning: one donor: every restyled face takes the style of '{chosen[0].head(0)['id']}'")
    return chosen


def _of_training(opened: FaceDataset, split: str | None, trained_splits: set[str], path: Path) -> FaceDataset:
    """The donors of a data set that is trained on: its splits that are trained on, or an unlabelled one."""
    if split is None:
        return opened.take(i for i in range(len(opened)) if opened.head(i)["split"] in trained_splits)
    if split in {head["split"] for head in _held_out(opened, trained_splits)}:
        raise UserError(
            f"style.donor_split: split {split} of {path} is not trained on (but {', '.join(sorted(trained_splits))}): "
            "its pictures may not be donors"
        )
    return opened.select(split)


def of_others(opened: FaceDataset, split: str | None, path: Path) -> FaceDataset:
    """The donors of a data set that is not trained on: a split, or its `train` where it has one, or all faces. Says how
    many are left alone where nobody asked for it."""
    if split is not None:
        return opened.select(split)
    faces = opened.training_faces()
    if left := len(opened) - len(faces):
        say(f"{path}: {counted(len(faces), 'face')} of split train taken as donors, the other {left} left alone")
    return faces


def _not_held_out(faces: FaceDataset, held_out: _HeldOut, path: Path) -> FaceDataset:
    """The faces whose pictures are not those that the training holds out, nor made from those."""
    if not held_out.digests:
        return faces
    shown = set(held_out.shown_in(faces))
    kept = [i for i in range(len(faces)) if i not in shown]
    if not kept:
        raise UserError(
            f"{path}: all {counted(len(faces), 'donor')} left out, pictures that the training holds out: expected "
            "others"
        )
    if len(kept) == len(faces):
        return faces
    left = len(faces) - len(kept)
    say(f"{path}: {left} of {counted(len(faces), 'donor')} left out: pictures that the training holds out")
    return faces.take(kept)


OFFERED = 20
"""Donors drawn for a face where they are chosen by fit, of which it gets the nearest in shape."""


class DonorPool:
    """Donors by number, of one or more data sets cut alike; their landmarks are NaN where their mark-up is another than
    `schema`. Those drawn by likeness are bent by their landmarks, which are NaN too where they are not trusted; with
    `mirrored` they may be mirrored, in a mark-up that says which landmarks are twins."""

    def __init__(self, caches: list[CropCache], schema: LandmarkSchema, mirrored: bool = False):
        self.caches, self.schema = caches, schema
        self.mirrored = mirrored and bool(schema.flip_pairs)
        self.ends = np.cumsum([len(cache) for cache in caches])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def batch(self, positions: np.ndarray) -> Batch:
        """The donors at these positions, in this order; `index` holds the positions."""
        num, points, size = len(positions), self.schema.num_points, self.caches[0].size
        images = np.empty((num, size, size, 3), dtype=np.uint8)
        landmarks = np.full((num, points, 2), np.nan, dtype=np.float32)
        visible, affines = np.ones((num, points), dtype=bool), np.empty((num, 2, 3))
        source = np.searchsorted(self.ends, positions, side="right")
        for i in np.unique(source):
            cache, rows = self.caches[i], source == i
            inside = positions[rows] - (self.ends[i] - len(cache))
            images[rows], affines[rows] = cache.images[inside], cache.affines[inside]
            if cache.dataset.schema == self.schema:
                landmarks[rows], visible[rows] = cache.landmarks[inside], cache.visible[inside]
        return Batch(
            image=to_planes(images), landmarks=torch.from_numpy(landmarks), visible=torch.from_numpy(visible),
            crop_from_source=torch.from_numpy(affines), index=torch.from_numpy(positions), weight=torch.ones(num),
        )  # fmt: skip

    def draw(
        self,
        key: tuple[int, ...],
        num: int,
        own: Tensor | None = None,
        like: Tensor | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> Batch:
        """`num` random donors, a function of `key`; with `part` (process, processes), those of that part of a batch.

        `own` (num,) is for faces that are in the pool themselves: their positions in it. No face gets itself. With
        `like` (num, P, 2), landmarks of the faces, each gets the nearest in shape of OFFERED random donors, of those
        whose landmarks are trusted; of as many mirrored ones besides, if the pool has them.
        """
        rank, world = part
        whole = num * world
        drawn = np.random.default_rng(key).random(whole if like is None else (OFFERED, whole))[..., rank::world]
        if own is None:
            position = (drawn * len(self)).astype(np.int64)
        else:
            position = (drawn * (len(self) - 1)).astype(np.int64)
            position = position + (position >= own.numpy())
        if like is None:
            return self.batch(position)
        reference, *shapes = self._shapes
        wanted = descriptors(like.numpy(), reference, self.schema)
        which = nearest(np.concatenate([each[position] for each in shapes]), wanted)
        chosen = position[which % OFFERED, np.arange(num)]
        donors = self.batch(chosen)
        donors.landmarks[torch.from_numpy(~self.trusted[chosen])] = torch.nan
        if self.mirrored:
            _mirror(donors, np.flatnonzero(which >= OFFERED), self.schema)
        return donors

    @cached_property
    def trusted(self) -> np.ndarray:
        """(M,) bool: the donors whose landmarks are trusted by LEAST_TRUST, or are people's labels."""
        return np.concatenate([cache.trust >= LEAST_TRUST for cache in self.caches])

    @cached_property
    def bendable(self) -> np.ndarray:
        """(M,) bool: the donors that can be bent by their landmarks, which are known in this mark-up and trusted."""
        return np.asarray(np.isfinite(self._shapes[1]).all(axis=1))

    @cached_property
    def _shapes(self) -> tuple[np.ndarray, ...]:
        """The mean shape of the donors, and the descriptors (M, D) of each; then those of each mirrored."""
        landmarks = np.full((len(self), self.schema.num_points, 2), np.nan, dtype=np.float32)
        for start, cache in zip((0, *self.ends), self.caches, strict=False):
            if cache.dataset.schema == self.schema:
                landmarks[start : start + len(cache)] = cache.landmarks
        landmarks[~self.trusted] = np.nan
        reference = reference_shape(landmarks)
        ways = [landmarks]
        if self.mirrored:
            ways.append(mirrored_back(landmarks, self.caches[0].size, self.schema.flip_permutation))
        return reference, *(descriptors(each, reference, self.schema) for each in ways)


def _mirror(donors: Batch, rows: np.ndarray, schema: LandmarkSchema) -> None:
    """Mirror the donors of these rows in place, their landmarks in the order of their twins."""
    size, order = donors.image.shape[-1], schema.flip_permutation
    which, flip = torch.from_numpy(rows), flip_affine(size)
    donors.image[which] = donors.image[which].flip(-1)
    donors.landmarks[which] = mirrored_back(donors.landmarks[which], size, order)
    donors.visible[which] = donors.visible[which][:, order.tolist()]
    for i in rows:
        donors.crop_from_source[i] = torch.from_numpy(compose(flip, donors.crop_from_source[i].numpy()))


def to_planes(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in [-1, 1], plane by plane, as arms work."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float().div_(127.5).sub_(1.0)
