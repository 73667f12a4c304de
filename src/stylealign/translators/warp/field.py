"""Where in the donor's picture each place of the content lies: a thin-plate spline through their landmarks.

The spline (Bookstein, 1989) takes every landmark of the content to the donor's and bends as little as it can between
them. A ring of anchors round the face follows the similarity that fits the landmarks best, so that far from the face
the picture is only turned, scaled and moved. Lips and lids that touch in the content are one place to the spline: what
lies between them in the donor would have to vanish. Everything is batched and computed face by face.
Coordinates are (x, y) px of the crops. Knows no pictures and no mark-up.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stylealign.batches.pixels import MIN_POINTS, known_points

TOUCH = 0.01
"""Distance of two landmarks of the content, in face sizes, below which they count as one place."""
_RING, _ANCHORS = 1.5, 16  # radius of the ring of anchors, in face sizes, and their number
_RIDGE = 1e-6  # keeps two landmarks in one place from a singular matrix
_CHUNK = 2**19  # numbers of one intermediate array


class Bend(NamedTuple):
    """A map from content to donor, a row a pair."""

    centres: Tensor
    """(B, N, 2) the landmarks and anchors of the content, in face sizes from the middle of the face"""
    weights: Tensor
    """(B, N + 3, 2) of the centres, then of 1, x and y"""
    content: Tensor
    """(B, 3) x, y of the middle of the content's landmarks and the face's size, px"""
    donor: Tensor
    """(B, 3) the same of the donor"""
    known: Tensor
    """(B, P) bool: landmarks known in both"""
    ok: Tensor
    """(B,) bool: whether there are enough of them; the identity where not"""


def _frame(points: Tensor, known: Tensor) -> Tensor:
    """(B, 3): middle of the known landmarks' box, and the root of its area, px; 0, 0, 1 where there is no face."""
    low = torch.where(known[..., None], points, math.inf).amin(dim=1)
    high = torch.where(known[..., None], points, -math.inf).amax(dim=1)
    size = (high - low).clamp(min=1e-3).prod(dim=1).sqrt()
    frame = torch.cat([(low + high) / 2, size[:, None]], dim=1)
    there = (known.sum(dim=1) >= MIN_POINTS)[:, None]
    return torch.where(there, frame, torch.tensor([0.0, 0.0, 1.0], dtype=points.dtype, device=points.device))


def _kernel(square: Tensor) -> Tensor:
    """r^2 log r^2, the spline's kernel twice over, of squared distances (which are overwritten)."""
    square = square.clamp_(min=1e-18)
    return torch.log(square).mul_(square)


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """(B, N, M) squared distances, by differences: exactly 0 of a place to itself."""
    across, down = (a[..., i, None] - b[..., i].contiguous()[:, None] for i in (0, 1))
    return across.square_().addcmul_(down, down)


def _times(weights: Tensor, kernel: Tensor) -> Tensor:
    """(B, G, K) sums over N of (B, N, K) weights times a (B, N, G) kernel; few rows by many columns is fast."""
    return (weights.transpose(1, 2).contiguous() @ kernel).transpose(1, 2)


def bend(content: Tensor, donors: Tensor) -> Bend:
    """The map from each content to its donor, of (B, P, 2) landmarks; unknown ones (NaN) do not count."""
    known = known_points(content) & known_points(donors)
    ok = known.sum(dim=1) >= MIN_POINTS
    known = known & ok[:, None]
    source, target = (torch.where(known[..., None], points.double(), 0.0) for points in (content, donors))
    frames = _frame(source, known), _frame(target, known)
    source, target = (
        (p - f[:, None, :2]) / f[:, None, 2:] * known[..., None] for p, f in zip((source, target), frames, strict=True)
    )
    # What touches is one place: the mean of all that lies there, in both.
    weight = known[..., None].double()
    together = (_squares(source, source) < TOUCH**2) * weight * weight.transpose(1, 2)
    together = together / together.sum(dim=2, keepdim=True).clamp(min=1)
    source, target = together @ source, together @ target
    # The anchors, by the least-squares similarity of the landmarks.
    count = weight.sum(dim=1).clamp(min=1)
    mean_s, mean_t = source.sum(dim=1) / count, target.sum(dim=1) / count
    a, b = (source - mean_s[:, None]) * weight, (target - mean_t[:, None]) * weight
    spread = a.square().sum(dim=(1, 2)).clamp(min=1e-12)
    cos = torch.where(ok, (a * b).sum(dim=(1, 2)) / spread, 1.0)
    sin = torch.where(ok, (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(dim=1) / spread, 0.0)
    linear = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    turn = 2 * math.pi * torch.arange(_ANCHORS, dtype=source.dtype, device=source.device) / _ANCHORS
    ring = _RING * torch.stack([turn.cos(), turn.sin()], dim=1).expand(len(source), -1, -1)
    ring_target = (ring - mean_s[:, None]) @ linear.transpose(1, 2) + mean_t[:, None]
    centres, places = torch.cat([source, ring], dim=1), torch.cat([target, ring_target], dim=1)
    counted = torch.cat([weight, torch.ones_like(ring[..., :1])], dim=1)
    return Bend(centres, _solve(centres, places, counted), *frames, known, ok)


def _solve(centres: Tensor, places: Tensor, counted: Tensor) -> Tensor:
    """(B, N + 3, 2) weights of the spline through (B, N, 2) places at their centres; those not counted weigh 0."""
    num = centres.shape[1]
    kernel = _kernel(_squares(centres, centres)) * counted * counted.transpose(1, 2)
    kernel = kernel + torch.diag_embed((1 - counted[..., 0]) + _RIDGE)
    plane = torch.cat([torch.ones_like(centres[..., :1]), centres], dim=2) * counted
    system = torch.zeros(len(centres), num + 3, num + 3, dtype=centres.dtype, device=centres.device)
    system[:, :num, :num], system[:, :num, num:], system[:, num:, :num] = kernel, plane, plane.transpose(1, 2)
    wanted = torch.cat([places * counted, places.new_zeros(len(places), 3, 2)], dim=1)
    return torch.linalg.solve(system, wanted)


def donor_places(found: Bend, points: Tensor) -> Tensor:
    """(B, G, 2) px of the donors' crops for (B, G, 2) px of the contents', in the map's own precision."""
    at = (points.to(found.centres) - found.content[:, None, :2]) / found.content[:, None, 2:]
    num = found.centres.shape[1]
    parts = []
    for part in at.split(max(1, _CHUNK // (num * len(at))), dim=1):
        bent = _times(found.weights[:, :num], _kernel(_squares(found.centres, part)))
        parts.append(bent + found.weights[:, num : num + 1] + part @ found.weights[:, num + 1 :])
    return torch.cat(parts, dim=1) * found.donor[:, None, 2:] + found.donor[:, None, :2]


def determinants(found: Bend, at: Tensor) -> tuple[Tensor, Tensor]:
    """How many times its area the map gives each place: (B, G) at (G, 2) places, in face sizes from the middle.

    1 where a place is as large a share of the donor's face as of the content's, 0 or less where the map folds. Beside
    it the squared distance (B, G) to the nearest landmark.
    """
    num, points = found.centres.shape[1], found.known.shape[1]
    pulls = found.weights[:, :num]
    # A slope is sum_n 2 (log r_n^2 + 1) (x - c_n) w_n, which two products of matrices give.
    pulls = torch.cat([pulls, found.centres[..., :1] * pulls, found.centres[..., 1:] * pulls], dim=2)
    values, nearest = [], []
    for part in at.split(max(1, _CHUNK // (num * len(found.centres)))):
        square = _squares(found.centres, part.expand(len(found.centres), -1, -1))
        nearest.append(torch.where(found.known[..., None], square[:, :points], math.inf).amin(dim=1))
        whole, by_x, by_y = _times(pulls, torch.log(square.clamp_(min=1e-18)).add_(1).mul_(2)).split(2, dim=2)
        along_x = part[:, :1] * whole - by_x + found.weights[:, num + 1, None]
        along_y = part[:, 1:] * whole - by_y + found.weights[:, num + 2, None]
        values.append(along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0])
    return torch.cat(values, dim=1), torch.cat(nearest, dim=1)


def of_rows(found: Bend, rows: Tensor) -> Bend:
    """The maps of some of the pairs."""
    return Bend(*(values[rows] for values in found))


def pixel_places(found: Bend, size: int) -> Tensor:
    """(B, size, size, 2) float32 px of the donors' crops, one for each pixel of the contents'; good to 0.01 px."""
    axis = torch.arange(size, dtype=torch.float32, device=found.centres.device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(1, -1, 2)
    single = Bend(*(t.float() if t.is_floating_point() else t for t in found))
    return donor_places(single, grid.expand(len(found.centres), -1, -1)).view(-1, size, size, 2)
