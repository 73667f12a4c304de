"""Faces -> batches: the crop protocol, the cache of crops, and the weighted mix of data sets. Knows no model.

Crops are warped once (uint8, with a margin of context round the crop) and kept in a memory-mapped file; a batch is then
an index into it, and every geometric augmentation happens on the tensors (augment/). A batch is a pure function of
(seed, step), so that a resumed run sees what an uninterrupted one would have seen.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """What models see. Coordinates are (x, y) pixels of the crop."""

    image: Tensor
    """(B, 3, H, W) in [-1, 1], RGB"""
    landmarks: Tensor
    """(B, P, 2) float32; NaN for unlabelled faces"""
    visible: Tensor
    """(B, P) bool"""
    crop_from_source: Tensor
    """(B, 2, 3) float64; its inverse takes predictions home (of faces that `augment` bent or tilted: nearly)"""
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    """(B,) int64 position in the data set (or in the mix: the sources' positions one after another)"""
    weight: Tensor
    """(B,) float32 weight of the face in the loss"""
    point_weight: Tensor = torch.ones(0)
    """(B, P) float32 weight of each landmark within its face; empty: all 1"""
    lean: Tensor = torch.zeros(0)
    """(B,) float32 px of the source picture by which a person's landmarks lie to the right of where the mirrored
    picture's would (`DataSource.lean_px`); empty: all 0"""
    right: Tensor = torch.zeros(0)
    """(B, 2) float32 of length 1, px of the source picture: where that right is. The picture was labelled as EXIF turns
    it, and is stored otherwise; empty: all (1, 0)"""

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(*(t.to(device, non_blocking=True) for t in self))

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU can be copied to while it computes."""
        return Batch(*(t.pin_memory() for t in self))

    def point_weights(self) -> Tensor:
        """(B, P) weight of each landmark within its face, written out."""
        return self.point_weight if self.point_weight.numel() else torch.ones_like(self.landmarks[..., 0])

    def leans(self) -> Tensor:
        """(B,) lean of the labels, written out."""
        return self.lean if self.lean.numel() else torch.zeros_like(self.weight)

    def rights(self) -> Tensor:
        """(B, 2) to the right of the pictures as they were labelled, written out."""
        return self.right if self.right.numel() else torch.eye(2)[0].to(self.weight).expand(len(self.weight), 2)

    def weights(self) -> Tensor:
        """(B, P) weight of each landmark in the loss: the face's times its own."""
        return self.weight[:, None] * self.point_weights()


def join(batches: list[Batch]) -> Batch:
    """Batches one after another as one."""
    full = [
        batch._replace(point_weight=batch.point_weights(), lean=batch.leans(), right=batch.rights())
        for batch in batches
    ]
    return Batch(*(torch.cat(tensors) for tensors in zip(*full, strict=True)))


def right_of(crop_from_source: Tensor) -> Tensor:
    """(B, 2) `Batch.right` of crops as they were cut, upright as the picture was labelled: along their x axis."""
    axis = torch.linalg.inv(crop_from_source[:, :, :2])[:, :, 0]
    return (axis / axis.norm(dim=1, keepdim=True)).float()


def take_faces(batch: Batch, rows: Tensor) -> Batch:
    """Some faces of a batch; a field that is empty stays so."""
    return Batch(*(t[rows.to(t.device)] if len(t) == len(batch.image) else t for t in batch))


class Step(NamedTuple):
    """The faces of one update."""

    heads: tuple[Batch, ...]
    """A batch for each head of a network that learns several mark-ups, or for each group of faces; most have one"""
    donors: tuple[Batch, ...] = ()
    """A batch of donors of style for each head, row i for face i; empty where no style arm looks at one"""
    unlabelled: Batch | None = None
    """Faces that a mean teacher labels"""

    def to(self, device: torch.device | str) -> "Step":
        return Step(
            tuple(batch.to(device) for batch in self.heads),
            tuple(batch.to(device) for batch in self.donors),
            None if self.unlabelled is None else self.unlabelled.to(device),
        )

    def pin_memory(self) -> "Step":
        return Step(
            tuple(batch.pin_memory() for batch in self.heads),
            tuple(batch.pin_memory() for batch in self.donors),
            None if self.unlabelled is None else self.unlabelled.pin_memory(),
        )


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
