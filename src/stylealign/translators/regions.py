"""Soft regions of a face from its landmarks: where a style code is pooled, and where it is laid down again.

Six regions whose masks sum to 1 in every pixel of a labelled face: eyes, mouth and brows round their landmarks, skin
an ellipse round the face, hair what lies round and above it, background the rest. They are for colours and light,
which do not end at a landmark, so they are soft and rough on purpose. Knows no images, networks or files.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.face.schema import LandmarkSchema

REGIONS = ("eyes", "mouth", "brows", "skin", "hair", "background")
PART_SIGMA = 0.10  # of a facial part round its landmarks, in half sides of the face's box (the mean of its two)
FOREHEAD = 0.2  # what of the landmarks' height lies above the brows
HAIR = 1.6  # size of the hair's ellipse in faces


def _frame(landmarks: Tensor, schema: LandmarkSchema) -> tuple[Tensor, Tensor, Tensor]:
    """A face's frame: centre (B, 2) px, unit vectors (B, 2, 2) to its right and up, half sides (B, 2) px along them.

    Up is from the mouth to the eyes; where the mark-up names neither, the picture's.
    """
    up = torch.tensor([0.0, -1.0], dtype=landmarks.dtype, device=landmarks.device).expand(len(landmarks), 2)
    if {"eyes", "mouth"} <= schema.parts.keys():
        eyes, mouth = (landmarks[:, list(schema.parts[part])].mean(dim=1) for part in ("eyes", "mouth"))
        length = (eyes - mouth).norm(dim=1, keepdim=True)
        up = torch.where(length > 1e-3, (eyes - mouth) / length.clamp_min(1e-3), up)
    axes = torch.stack([torch.stack([-up[:, 1], up[:, 0]], dim=1), up], dim=1)
    along = landmarks @ axes.transpose(1, 2)  # (B, P, 2) right, up
    low, high = along.amin(dim=1), along.amax(dim=1)
    high = high + torch.tensor([0.0, FOREHEAD], device=high.device, dtype=high.dtype) * (high - low)
    centre = (((low + high) / 2)[:, None] @ axes)[:, 0]
    return centre, axes, ((high - low) / 2).clamp_min(1.0)


def region_masks(landmarks: Tensor, size: int, schema: LandmarkSchema) -> Tensor:
    """(B, P, 2) crop px -> (B, 6, size, size) in [0, 1], in the order of REGIONS, summing to 1 in every pixel.

    A face with a landmark that is not finite gets zeros everywhere: its regions are not known. A part that the
    mark-up does not name stays empty. No gradient.
    """
    known = torch.isfinite(landmarks).all(dim=(1, 2))
    points = torch.where(known[:, None, None], landmarks.detach().float(), torch.zeros_like(landmarks).float())
    centre, axes, half = _frame(points, schema)
    pixel = torch.arange(size, device=points.device, dtype=points.dtype)
    offset_x, offset_y = pixel - centre[:, :1], pixel - centre[:, 1:]  # (B, size) each
    right, up = (
        (axes[:, k, 0, None, None] * offset_x[:, None, :] + axes[:, k, 1, None, None] * offset_y[:, :, None])
        / half[:, k, None, None]
        for k in (0, 1)
    )  # (B, size, size): 1 at the edge of the face

    def ellipse(radius: float) -> Tensor:
        return ((radius - (right**2 + up**2).sqrt()) / 0.2 + 0.5).clamp(0, 1)

    sigma = (PART_SIGMA * half.mean(dim=1))[:, None, None]
    soft = {"skin": ellipse(1.0), "hair": ellipse(HAIR) * (up / 0.4 + 0.5).clamp(0, 1)}
    for part in ("eyes", "mouth", "brows"):
        of_part = points[:, list(schema.parts.get(part, ()))]
        if of_part.shape[1]:
            # A product of one factor per axis, as in batches/structure_maps.py; wider, and without a cut.
            x, y = (torch.exp(-((of_part[:, :, k, None] - pixel) ** 2) / (2 * sigma**2)) for k in (0, 1))
            soft[part] = (y[:, :, :, None] * x[:, :, None, :]).amax(dim=1)
    left = torch.ones_like(right)
    masks = []
    for region in REGIONS[:-1]:
        masks.append(left * soft.get(region, torch.zeros_like(left)))
        left = left - masks[-1]
    return torch.stack([*masks, left], dim=1) * known[:, None, None, None]


def at_size(masks: Tensor, side: int) -> Tensor:
    """Masks (B, R, S, S) averaged down to (B, R, side, side)."""
    return masks if masks.shape[-1] == side else F.adaptive_avg_pool2d(masks, side)


def pool(features: Tensor, masks: Tensor) -> Tensor:
    """The mean feature of every region: (B, C, h, w) and masks (B, R, S, S) -> (B, R, C); 0 where a region is empty."""
    weights = at_size(masks, features.shape[-1]).flatten(2)  # (B, R, hw)
    return weights @ features.flatten(2).transpose(1, 2) / weights.sum(dim=2, keepdim=True).clamp_min(1e-4)


def spread(codes: Tensor, masks: Tensor, side: int) -> Tensor:
    """Lay codes (B, R, C) down where their regions are: (B, C, side, side), mixed where masks (B, R, S, S) overlap."""
    weights = at_size(masks, side).flatten(2)
    return (codes.transpose(1, 2) @ weights).unflatten(2, (side, side))
