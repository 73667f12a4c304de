"""Heatmaps of a cascade of convolutions: drawing the targets, scoring the maps, and
finding the landmarks in them again.

A map of stride s covers the crop with cells of s x s pixels; the centre of cell i is pixel
s i + (s - 1) / 2. Source of the
formulas: SAN (Dong et al., CVPR 2018, section 3.2) and the code published with it. Knows no network and no files.
"""

import torch
from torch import Tensor

from stylealign.batches.together import shared
from stylealign.detectors.convolution import sides

SMALLEST = 0.01  # what is lower in a target is set to 0


def cell_centres(num: int, stride: int, like: Tensor) -> Tensor:
    """(num,) float32 pixel coordinates of the centres of a row of cells, on the device of `like`."""
    return torch.arange(num, device=like.device, dtype=torch.float32) * stride + (stride - 1) / 2


def target_maps(landmarks: Tensor, num_cells: int, stride: int, sigma: float) -> Tensor:
    """Target maps of a cascade: a Gaussian for each landmark, exp(-d^2 / (2 sigma^2)), and
    the background, 1 - their maximum.

    Args:
        landmarks: (B, P, 2) (x, y) px of the crop. NaN: a map of zeros, and no part in the background.
        num_cells: side of the maps.
        stride: px a cell.
        sigma: of the Gaussians in px of the crop; values under 0.01 are set to 0.

    Returns:
        (B, P + 1, num_cells, num_cells) float32, the background last.
    """
    centres = cell_centres(num_cells, stride, landmarks)
    rows = torch.exp(
        -((centres - landmarks.float()[..., None]) ** 2) / (2 * sigma**2)
    )  # (B, P, 2, n): exp(-x^2), exp(-y^2)
    maps = (rows[:, :, 1, :, None] * rows[:, :, 0, None, :]).nan_to_num(0.0)
    maps = torch.where(maps < SMALLEST, 0.0, maps)
    return torch.cat([maps, 1 - maps.amax(dim=1, keepdim=True)], dim=1)


def map_weights(landmarks: Tensor, visible: Tensor, weight: Tensor, hidden_weight: float) -> Tensor:
    """(B, P + 1) weight of every map in the loss, the background last.

    Unlabelled landmarks (NaN) weigh nothing, hidden ones `hidden_weight` (0 as published). What the background of a
    face with some unlabelled landmarks weighs is not stated in anything readable; chosen: as much as any map, unless
    nothing is labelled. `weight` is (B,) of each face or (B, P) of each landmark; the background then weighs as much
    as its heaviest labelled landmark.
    """
    labelled = torch.isfinite(landmarks).all(dim=-1)
    weights = (weight if weight.ndim == 2 else weight[:, None]) * labelled
    seen = torch.where(visible, 1.0, hidden_weight) * weights
    return torch.cat([seen, weights.amax(dim=1, keepdim=True)], dim=1)


def map_loss(maps: Tensor, target: Tensor, weights: Tensor, faces: Tensor) -> Tensor:
    """Sum of the squared differences of one stage's maps, over twice the number of faces: a scalar.

    Summed over maps and cells, as published, and not averaged: plain SGD's learning rate belongs to that. AdamW does
    not see a constant factor, so that small settings need no other scale.

    Args:
        maps: (B, P + 1, h, w) answered.
        target: the same shape, of `target_maps`.
        weights: (B, P + 1), of `map_weights`.
        faces: (B,) weight of each face; their sum is the number of faces.
    """
    squares = (maps.float() - target).square().sum(dim=(2, 3))
    return (weights * squares).sum() / (2 * shared(faces.sum()).clamp_min(1e-8))


def decode(maps: Tensor, stride: int, radius: int = 3, floor: float = 0.0) -> Tensor:
    """Landmarks of heatmaps: the cell of the maximum, then the centroid of the values in the patch round it.

    Args:
        maps: (B, P, h, w), without the background.
        stride: px a cell.
        radius: the patch has 2 radius + 1 cells a side, cut at the border of the map.
        floor: values up to here count as 0 in the centroid (a network's map is never quite flat, and may be negative).

    Returns:
        (B, P, 2) float32 (x, y) px of the crop. A map without any value above `floor` gives the centre of its maximum's
        cell. Of equal maxima the first one counts, row by row.
    """
    maps = maps.float()
    height, width = sides(maps)
    best = maps.flatten(2).argmax(dim=2)  # (B, P)
    found = []
    values = torch.where(maps > floor, maps, 0.0)
    cells = [torch.arange(n, device=maps.device) for n in (width, height)]
    peak = [best % width, torch.div(best, width, rounding_mode="floor")]
    near = [(cell - p[..., None]).abs() <= radius for cell, p in zip(cells, peak, strict=True)]  # (B, P, w), (B, P, h)
    values = values * near[0][:, :, None, :] * near[1][:, :, :, None]
    total = values.sum(dim=(2, 3))
    for axis in (0, 1):  # x, then y
        moment = (values.sum(dim=2 + axis) * cells[axis]).sum(dim=2)
        cell = torch.where(total > 0, moment / total.clamp_min(1e-12), peak[axis].float())
        found.append(cell * stride + (stride - 1) / 2)
    return torch.stack(found, dim=2)
