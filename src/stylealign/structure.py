"""Landmarks -> structure maps, the y of the paper: what of a face the translator must keep. Batched tensors, any device.

Kinds: `points` draws all landmarks into ONE map, as the original (METHOD 1.3: Gaussians of peak 1 and sigma 1 px, cut at 3
sigma, element-wise maximum), tiled to three channels; `boundaries` draws a map per facial curve (METHOD 4.2); `landmarks` a map
per landmark. Knows no files and no networks.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stylealign.boundary import sample_curves
from stylealign.errors import UserError
from stylealign.schema import LandmarkSchema

StructureKind = Literal["points", "boundaries", "landmarks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureConfig:
    """How landmarks are drawn into structure maps."""

    kind: StructureKind = "points"
    """points: one map of all landmarks, copied to three channels (the release). boundaries: a map per facial curve.
    landmarks: a map per landmark."""
    sigma: float = 1.0
    """Standard deviation of the drawing in pixels."""
    integer_centres: bool = False
    """Truncate landmarks to whole pixels, as the release does; loses up to a pixel of structure."""

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma}, expected above 0")


def num_structure_channels(kind: StructureKind, schema: LandmarkSchema) -> int:
    """Channels of `structure_maps` for a schema."""
    if kind == "boundaries" and not schema.boundaries:
        raise UserError(
            f"schema {schema.name} has no boundaries: use --structure points, or list its curves in the schema's YAML"
        )
    return {"points": 3, "boundaries": len(schema.boundaries), "landmarks": schema.num_points}[kind]


def gaussians(landmarks: Tensor, size: int, sigma: float) -> Tensor:
    """(B, P, 2) pixel landmarks -> (B, P, size, size) Gaussians of peak 1, zero beyond 3 sigma per axis.

    exp(-(dx^2 + dy^2) / 2 sigma^2) is a product of one factor per axis, so only B * P * 2 * size exponentials are taken.
    Landmarks that are not finite or far outside give an empty map.
    """
    pixels = torch.arange(size, device=landmarks.device, dtype=landmarks.dtype)
    distance = torch.nan_to_num(landmarks, nan=-1e6, posinf=1e6, neginf=-1e6)[..., None] - pixels  # (B, P, 2, size)
    axis = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= 3 * sigma)
    return axis[:, :, 1, :, None] * axis[:, :, 0, None, :]


def boundary_maps(landmarks: Tensor, size: int, sigma: float, schema: LandmarkSchema) -> Tensor:
    """(B, P, 2) -> (B, K, size, size): exp(-D^2 / 2 sigma^2) of the distance D to each curve (LAB's target; METHOD 4.2).

    The distance is taken to segments between curve samples about a pixel apart, so it is exact to far below a pixel.
    """
    num = max(8, size // 2)
    points = landmarks.detach().cpu().double().numpy()
    maps = []
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    grid = torch.stack([x, y], dim=-1).reshape(1, -1, 1, 2).to(landmarks)  # (1, S*S, 1, 2)
    for curve in schema.boundaries.values():
        samples = torch.as_tensor(sample_curves(points, curve, num)).to(landmarks)  # (B, num, 2)
        start, step = samples[:, None, :-1], samples[:, None, 1:] - samples[:, None, :-1]
        nearest = []
        for b in range(
            len(samples)
        ):  # one face at a time: (S*S, num-1, 2) distances fit a cache, a batch of them does not
            along = (((grid[0] - start[b]) * step[b]).sum(-1) / step[b].square().sum(-1).clamp_min(1e-12)).clamp(0, 1)
            nearest.append((grid[0] - start[b] - along[..., None] * step[b]).square().sum(-1).amin(-1))
        squared = torch.stack(nearest).view(-1, size, size)
        maps.append(torch.exp(-squared / (2 * sigma**2)) * (squared <= (3 * sigma) ** 2))
    return torch.stack(maps, dim=1)


def structure_maps(
    landmarks: Tensor,
    size: int,
    kind: StructureKind,
    schema: LandmarkSchema,
    sigma: float = 1.0,
    integer_centres: bool = False,
) -> Tensor:
    """(B, P, 2) crop-pixel landmarks -> (B, C, size, size) in [0, 1].

    `integer_centres` truncates coordinates to whole pixels, which loses up to a pixel of structure and is offered only to
    reproduce the original (METHOD 1.3).
    """
    if landmarks.shape[1] != schema.num_points:
        raise UserError(
            f"structure map: found {landmarks.shape[1]} landmarks, expected {schema.num_points} of {schema.name}"
        )
    if integer_centres:
        landmarks = landmarks.trunc()
    if kind == "boundaries":
        num_structure_channels(kind, schema)
        return boundary_maps(landmarks, size, sigma, schema)
    maps = gaussians(landmarks, size, sigma)
    return maps if kind == "landmarks" else maps.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1)
