"""Landmarks -> structure maps, the y of the paper: what of a face the translator must
keep. Batched tensors, any device.

Kinds: `points` draws all landmarks into ONE map, as the original (docs/paper_map.md 1.3: Gaussians of peak 1 and sigma
1 px, cut at 3 sigma, element-wise maximum), tiled to three channels; `boundaries` draws a map per facial curve
(docs/paper_map.md 4.2); `boundaries_points` those and, behind them, one map of all landmarks; `landmarks` a map per
landmark. Knows no files and no networks.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stylealign.errors import UserError, counted
from stylealign.face.curves import curve_segments
from stylealign.face.schema import LandmarkSchema

StructureKind = Literal["points", "boundaries", "boundaries_points", "landmarks"]
_PIECES_AT_ONCE = 1024  # what is measured at once fits a cache


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureConfig:
    """How landmarks are drawn into structure maps."""

    kind: StructureKind = "points"
    """points: one map of all landmarks, copied to three channels (the release). boundaries: a map per facial curve.
    boundaries_points: those and one map of all landmarks. landmarks: a map per landmark."""
    sigma: float = 1.0
    """Standard deviation of the drawing in pixels."""
    integer_centres: bool = False
    """Truncate landmarks to whole pixels, as the release does; loses up to a pixel of structure."""

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma}, expected above 0")


def num_structure_channels(kind: StructureKind, schema: LandmarkSchema) -> int:
    """Channels of `structure_maps` for a schema."""
    if kind in ("boundaries", "boundaries_points") and not schema.boundaries:
        raise UserError(
            f"schema {schema.name} has no boundaries: use --structure.kind points, or list its curves in the schema's "
            "YAML"
        )
    curves = len(schema.boundaries)
    return {"points": 3, "boundaries": curves, "boundaries_points": curves + 1, "landmarks": schema.num_points}[kind]


def gaussians(landmarks: Tensor, size: int, sigma: float) -> Tensor:
    """(B, P, 2) pixel landmarks -> (B, P, size, size) Gaussians of peak 1, zero beyond 3 sigma per axis.

    exp(-(dx^2 + dy^2) / 2 sigma^2) is a product of one factor per axis, so only B * P * 2 * size exponentials are
    taken. Landmarks that are not finite or far outside give an empty map.
    """
    pixels = torch.arange(size, device=landmarks.device, dtype=landmarks.dtype)
    distance = torch.nan_to_num(landmarks, nan=-1e6, posinf=1e6, neginf=-1e6)[..., None] - pixels  # (B, P, 2, size)
    axis = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= 3 * sigma)
    return axis[:, :, 1, :, None] * axis[:, :, 0, None, :]


def boundary_maps(landmarks: Tensor, size: int, sigma: float, schema: LandmarkSchema) -> Tensor:
    """(B, P, 2) -> (B, K, size, size): exp(-D^2 / 2 sigma^2) of the distance D to each curve, 0 beyond 3
    sigma (LAB's target; docs/paper_map.md 4.2).

    Every curve is cut into straight pieces it leaves by at most 0.02 px, and each piece is drawn into the pixels round
    it alone, so a batch costs what its curves are long, not what its maps are large. A curve with an unlabelled
    landmark gives an empty map; landmarks more than four maps away are taken to be four maps away. No gradient.
    """
    num_maps, reach = len(landmarks) * len(schema.boundaries), 3 * sigma
    points = landmarks.detach().cpu().double().numpy()
    points = np.where(np.isfinite(points), np.clip(points, -4.0 * size, 5.0 * size), np.nan)
    start, end, owner = curve_segments(points, tuple(schema.boundaries.values()), max(2.0, reach), tolerance=0.02)
    low, high = np.minimum(start, end), np.maximum(start, end)
    near = ((high >= -reach) & (low <= size - 1 + reach)).all(axis=1)
    start, end, owner, low, high = (a[near] for a in (start, end, owner, low, high))

    # Each piece has a window of whole pixels; windows hang over the map's edge into a
    # border, which is cut off at the end.
    corner = np.ceil(low - reach).astype(np.int64)  # (N, 2)
    window = int(np.floor(2 * reach + (high - low).max(initial=0.0))) + 1
    border = int(np.ceil(reach)) + window
    side = size + 2 * border
    first_pixel = (
        (owner * side + corner[:, 1] + border) * side + corner[:, 0] + border
    )  # (N,) in the maps one after another
    pieces = np.concatenate([start - corner, end - start], axis=1)  # relative to the window: float32 loses nothing

    device = landmarks.device
    maps = torch.zeros(num_maps * side * side, device=device)
    pixel = torch.arange(window, device=device)
    window_pixels = (pixel[:, None] * side + pixel).view(-1)
    for piece, pixels in zip(
        torch.from_numpy(pieces.astype(np.float32)).to(device).split(_PIECES_AT_ONCE),
        torch.from_numpy(first_pixel).to(device).split(_PIECES_AT_ONCE),
        strict=True,
    ):
        x, y = pixel - piece[:, 0, None], pixel - piece[:, 1, None]  # (N, W) from the piece's start
        dx, dy = piece[:, 2, None], piece[:, 3, None]
        squared_length = (dx.square() + dy.square()).clamp_min(1e-12)[:, :, None]
        dot = (y * dy)[:, :, None] + (x * dx)[:, None, :]  # (N, W, W)
        along = (dot / squared_length).clamp_(0, 1)  # of the piece, where it is nearest
        squared = y.square()[:, :, None] + x.square()[:, None, :] - along * (2 * dot - along * squared_length)
        drawn = torch.exp(squared / (-2 * sigma**2)) * (squared <= reach**2)
        maps.scatter_reduce_(0, (pixels[:, None] + window_pixels).view(-1), drawn.view(-1), "amax")
    maps = maps.view(len(landmarks), len(schema.boundaries), side, side)[
        :, :, border : border + size, border : border + size
    ]
    return maps.contiguous().to(landmarks.dtype)


def structure_maps(
    landmarks: Tensor,
    size: int,
    kind: StructureKind,
    schema: LandmarkSchema,
    sigma: float = 1.0,
    integer_centres: bool = False,
) -> Tensor:
    """(B, P, 2) crop-pixel landmarks -> (B, C, size, size) in [0, 1].

    `integer_centres` truncates coordinates to whole pixels, which loses up to a pixel of structure and is offered only
    to reproduce the original (docs/paper_map.md 1.3).
    """
    if landmarks.shape[1] != schema.num_points:
        raise UserError(
            f"structure map: found {counted(landmarks.shape[1], 'landmark')}, expected {schema.num_points} of "
            f"{schema.name}"
        )
    if integer_centres:
        landmarks = landmarks.trunc()
    if kind in ("boundaries", "boundaries_points"):
        num_structure_channels(kind, schema)
        lines = boundary_maps(landmarks, size, sigma, schema)
        if kind == "boundaries":
            return lines
        return torch.cat([lines, gaussians(landmarks, size, sigma).amax(dim=1, keepdim=True)], dim=1)
    maps = gaussians(landmarks, size, sigma)
    return maps if kind == "landmarks" else maps.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1)
