"""Where the places of a crop go: a smooth bend, then a homography. One resampling, and labels that follow it exactly.

A motion says for every place of the answer which place of the crop it shows, and where a landmark of the crop goes.
Both come from the same numbers: a homography has an inverse, and a bend is a field of displacements so even that going
against it, step by step, converges. Motions compose; pixels are read once, at the end. Knows no augmentation.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment.affine import compose, warp
from stylealign.batches.batch import Batch

STEEPEST = 0.6
"""How many px a bend may change over a px. Below 1 no place is shown twice; a steeper bend is made smaller."""
_CELL = 4  # px between a bend's nodes, about; it is linear between them
_ROUNDS = 24  # STEEPEST ** 24 is five millionths


class Motion(NamedTuple):
    """Where the places of crops go: at q the bent crop shows what lay at q + bend(q), and then q goes to matrix q."""

    matrix: Tensor
    """(B, 3, 3) float64 on the CPU: a homography, moved_from_bent"""
    bend: Tensor | None = None
    """(B, 2, G, G) px on the crop's device: (x, y) displacements at nodes evenly over the crop; None: no bend"""


def count_of_nodes(size: int) -> int:
    """Nodes along a side of a crop of `size` px."""
    return max(2, round((size - 1) / _CELL) + 1)


def nodes(size: int, like: Tensor) -> Tensor:
    """(1, 2, G, G): (x, y) px of the nodes of a bend."""
    axis = torch.linspace(0, size - 1, count_of_nodes(size), dtype=like.dtype, device=like.device)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]


def still(count: int) -> Tensor:
    """(B, 3, 3) homographies that move nothing."""
    return torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)


def as_homography(affine: Tensor) -> Tensor:
    """(B, 2, 3) affines as (B, 3, 3) float64 homographies on the CPU."""
    last = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=torch.float64)
    return torch.cat([affine.cpu().double(), last.expand(len(affine), 1, 3)], dim=1)


def is_affine(matrix: Tensor) -> bool:
    """Whether (B, 3, 3) homographies are all affine."""
    return all(row == [0.0, 0.0, 1.0] for row in matrix[:, 2].tolist())


def evened(bend: Tensor, size: int) -> Tensor:
    """A bend (B, 2, G, G), made smaller where it is steeper than STEEPEST anywhere, face by face.

    Between nodes it is bilinear: its slope at any place is a mean of differences between neighbouring nodes.
    """
    step = (size - 1) / (bend.shape[-1] - 1)
    across = bend.diff(dim=3).square().sum(dim=1).amax(dim=(1, 2))
    down = bend.diff(dim=2).square().sum(dim=1).amax(dim=(1, 2))
    steepness = (across + down).sqrt() / step
    return bend * (STEEPEST / steepness.clamp(min=STEEPEST))[:, None, None, None]


def bent_by(bend: Tensor, places: Tensor, size: int) -> Tensor:
    """The displacements (B, ..., 2) px of a bend at `places` (B, ..., 2) px; beyond the crop those of its border."""
    grid = (places * (2 / (size - 1)) - 1).flatten(1, -2)[:, None].to(bend.dtype)
    found = F.grid_sample(bend, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found[:, :, 0].transpose(1, 2).reshape(places.shape)


def through(matrix: Tensor, places: Tensor) -> Tensor:
    """(B, N, 2) places through (B, 3, 3) homographies, in the precision of the places."""
    matrix = matrix.to(places.device, places.dtype)
    moved = places @ matrix[:, :, :2].transpose(1, 2) + matrix[:, None, :, 2]
    return moved[..., :2] / moved[..., 2:].clamp(min=1e-2)


def carried(motion: Motion, points: Tensor, size: int) -> Tensor:
    """Where points (B, N, 2) px of a crop of `size` px go; NaN stays NaN."""
    bent = points
    if motion.bend is not None:
        for _ in range(_ROUNDS):
            bent = points - bent_by(motion.bend, bent, size)
    return through(motion.matrix, bent.double()).to(points.dtype)


def carried_back(motion: Motion, points: Tensor, size: int) -> Tensor:
    """Which points of the crop of `size` px lie at `points` (B, N, 2) px of the answer: the inverse of `carried`."""
    bent = through(torch.linalg.inv(motion.matrix), points.double()).to(points.dtype)
    return bent if motion.bend is None else bent + bent_by(motion.bend, bent, size)


def resample(image: Tensor, motion: Motion, size: int) -> Tensor:
    """(B, C, S, S) crops moved, as (B, C, size, size): bilinear, border pixels replicated, every pixel read once."""
    if motion.bend is None and is_affine(motion.matrix):
        return warp(image, motion.matrix[:, :2].to(image.device), size)
    side = image.shape[-1]
    back = torch.linalg.inv(motion.matrix).to(image.dtype).to(image.device)
    axis = torch.arange(size, dtype=image.dtype, device=image.device)[None, :, None]
    across, down = axis * back[:, None, :, 0], axis * back[:, None, :, 1] + back[:, None, :, 2]
    places = across[:, None, :, :2] + down[:, :, None, :2]  # (B, size, size, 2)
    if not is_affine(motion.matrix):
        places = places / (across[:, None, :, 2:] + down[:, :, None, 2:]).clamp(min=1e-2)
    if motion.bend is not None:
        some = torch.nonzero(motion.bend.flatten(1).any(dim=1)).view(-1)
        places[some] = places[some] + bent_by(motion.bend[some], places[some], side)
    grid = places.add_(0.5).mul_(2 / side).sub_(1)
    return F.grid_sample(image.contiguous(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def nearest_affine(matrix: Tensor, middle: float) -> Tensor:
    """(B, 2, 3) affines that move places near (middle, middle) px as (B, 3, 3) homographies do; affine ones exactly."""
    if is_affine(matrix):
        return matrix[:, :2]
    place = torch.tensor([middle, middle, 1.0], dtype=matrix.dtype)
    moved = matrix @ place
    centre = moved[:, :2] / moved[:, 2:]
    linear = (matrix[:, :2, :2] - centre[:, :, None] * matrix[:, 2:, :2]) / moved[:, 2:, None]
    shift = centre - (linear @ place[:2, None])[..., 0]
    bent = torch.cat([linear, shift[..., None]], dim=2)
    flat = (matrix[:, 2:] == torch.tensor([0.0, 0.0, 1.0], dtype=matrix.dtype)).all(dim=2, keepdim=True)
    return torch.where(flat, matrix[:, :2], bent)


def move(batch: Batch, motion: Motion, size: int) -> Batch:
    """Crops and landmarks moved; the result is `size` px wide.

    `crop_from_source` is composed with the homography, which for a tilted crop is taken at its middle. A bend is not in
    it: of a bent or tilted face it is only near.
    """
    side = batch.image.shape[-1]
    affine = nearest_affine(motion.matrix, (side - 1) / 2).to(batch.crop_from_source.device)
    return batch._replace(
        image=resample(batch.image, motion, size),
        landmarks=carried(motion, batch.landmarks, side),
        crop_from_source=compose(affine.to(batch.crop_from_source.dtype), batch.crop_from_source),
    )
