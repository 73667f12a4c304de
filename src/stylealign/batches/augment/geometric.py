"""Augmentations that move faces. Each answers a `Motion` of the crop as it is, round its middle; labels follow exactly.

Directions come from the draws, how far from the strength. None asks which landmark is which.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment.motion import Motion, count_of_nodes, evened, nodes, still
from stylealign.batches.augment.operation import signs
from stylealign.batches.batch import Batch
from stylealign.batches.pixels import face_boxes, face_generator

_ELASTIC_CELLS = 6
_DEPTH_CELLS, _DEPTH_REACH = 49, 2.2  # of the map of depth: nodes a side, and half its side in half boxes


def _numbers(strength: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Strength (B,) and draws as float64 on the CPU: matrices are the same on every device."""
    return strength.detach().cpu().double(), draws.detach().cpu().double()


def _round_middle(batch: Batch, linear: Tensor, shift: Tensor | None = None) -> Motion:
    """(B, 2, 2) linear maps round the crop's middle, then (B, 2) shifts in px."""
    matrix = still(len(linear))
    middle = (batch.image.shape[-1] - 1) / 2
    matrix[:, :2, :2] = linear
    matrix[:, :2, 2] = middle - middle * linear.sum(dim=2)
    if shift is not None:
        matrix[:, :2, 2] += shift
    return Motion(matrix)


def _two_by_two(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], dim=1), torch.stack([c, d], dim=1)], dim=1)


def _turned(angle: Tensor) -> Tensor:
    return _two_by_two(angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _bent(batch: Batch, field: Tensor) -> Motion:
    """A bend of (B, 2, G, G) displacements in px."""
    return Motion(still(len(field)), evened(field.to(batch.image.dtype), batch.image.shape[-1]))


def _planes(values: Tensor, like: Tensor) -> Tensor:
    """(B,) numbers as (B, 1, 1, 1), (B, 2) as (B, 2, 1, 1), of the dtype and on the device of `like`."""
    return values.to(like).reshape(len(values), -1, 1, 1)


def rotate(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Turn the picture, to either side."""
    s, d = _numbers(strength, draws)
    return _round_middle(batch, _turned(math.pi * s * signs(d[:, 0])))


def scale(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Make the face larger or smaller."""
    s, d = _numbers(strength, draws)
    factor = (0.5 * s * signs(d[:, 0])).exp()
    return _round_middle(batch, factor[:, None, None] * torch.eye(2, dtype=torch.float64))


def stretch(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Make the face wider and lower, or narrower and higher."""
    s, d = _numbers(strength, draws)
    factor = (0.2 * s * signs(d[:, 0])).exp()
    zero = torch.zeros_like(factor)
    return _round_middle(batch, _two_by_two(factor, zero, zero, 1 / factor))


def shift(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Move the face in any direction."""
    s, d = _numbers(strength, draws)
    angle = 2 * math.pi * d[:, 0]
    way = torch.stack([angle.cos(), angle.sin()], dim=1)
    return _round_middle(
        batch, torch.eye(2, dtype=torch.float64).repeat(len(s), 1, 1),
        0.25 * batch.image.shape[-1] * s[:, None] * way,
    )  # fmt: skip


def shear(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Lean the face: rows slide along themselves, or columns do."""
    s, d = _numbers(strength, draws)
    amount = 0.4 * s * signs(d[:, 0])
    one, rows = torch.ones_like(amount), d[:, 1] < 0.5
    return _round_middle(batch, _two_by_two(one, torch.where(rows, amount, 0), torch.where(rows, 0, amount), one))


def flip(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Mirror the face at any strength above 0; who applies it renumbers the landmarks (`augment` does)."""
    s, _ = _numbers(strength, draws)
    one = torch.ones_like(s)
    return _round_middle(batch, _two_by_two(torch.where(s > 0, -one, one), 0 * one, 0 * one, one))


def perspective(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Tilt the picture's plane about any axis through its middle, seen from one side's length away."""
    s, d = _numbers(strength, draws)
    size = batch.image.shape[-1]
    tilt, axis = math.radians(35) * s, 2 * math.pi * d[:, 0]
    turn = _turned(axis)
    zero, one = torch.zeros_like(s), torch.ones_like(s)
    plane = turn @ _two_by_two(tilt.cos(), zero, zero, one) @ turn.transpose(1, 2)
    middle = (size - 1) / 2
    there = still(len(s))
    there[:, :2, 2] = -middle
    tilted = still(len(s))
    tilted[:, :2, :2] = plane
    tilted[:, 2, :2] = (tilt.sin() / size)[:, None] * turn[:, :, 0]
    back = still(len(s))
    back[:, :2, 2] = middle
    matrix = back @ tilted @ there
    # A row of strength 0 is affine to the last bit; rounding would leave 1e-17 there.
    return Motion(torch.where(s[:, None, None] > 0, matrix, still(len(s))))


def elastic(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Bend the picture like rubber: random displacements of 6 x 6 places, smooth between them."""
    size = batch.image.shape[-1]
    random = torch.stack(
        [torch.randn(2, _ELASTIC_CELLS, _ELASTIC_CELLS, generator=face_generator(seed)) for seed in draws[:, 0].cpu()]
    ).to(batch.image)
    count = count_of_nodes(size)
    field = F.interpolate(random, size=(count, count), mode="bicubic", align_corners=True)
    return _bent(batch, field * _planes(0.02 * size * strength, field))


@lru_cache(maxsize=16)
def _plate(count: int) -> Tensor:
    """(count * count, 9): what each of 3 x 3 places moved by 1 moves each node by, by thin-plate splines.

    The border's 16 places stand still (Bookstein, 1989: a kernel r^2 log r with an affine part).
    """
    inner = np.stack(np.meshgrid([-0.45, 0, 0.45], [-0.45, 0, 0.45]), axis=-1).reshape(-1, 2)
    edge = np.linspace(-1, 1, 5)
    border = np.array([(x, y) for x in edge for y in edge if max(abs(x), abs(y)) == 1])
    places = np.concatenate([inner, border])
    axis = np.linspace(-1, 1, count)
    at = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        squared = ((a[:, None] - b[None]) ** 2).sum(axis=2)
        return np.where(squared > 0, squared * np.log(np.maximum(squared, 1e-12)), 0)

    def affine(a: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ones((len(a), 1)), a], axis=1)

    n = len(places)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = kernel(places, places)
    system[:n, n:], system[n:, :n] = affine(places), affine(places).T
    weights = np.linalg.solve(system, np.eye(n + 3)[:, :9])
    return torch.from_numpy(np.concatenate([kernel(at, places), affine(at)], axis=1) @ weights).float()


def thin_plate(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Push 3 x 3 places of the picture about, and bend the rest as a thin plate would; its border stays."""
    size = batch.image.shape[-1]
    count = count_of_nodes(size)
    random = torch.stack([torch.rand(2, 9, generator=face_generator(seed)) for seed in draws[:, 0].cpu()])
    pushed = (2 * random - 1).to(batch.image) * (0.08 * size * strength.to(batch.image))[:, None, None]
    field = pushed @ _plate(count).to(pushed).T
    return _bent(batch, field.view(-1, 2, count, count))


def wave(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Ripple the picture: stripes of it swing aside, in any direction."""
    size = batch.image.shape[-1]
    at, d = nodes(size, batch.image), draws.to(batch.image)
    angle, length = 2 * math.pi * d[:, 0], (0.4 + 0.5 * d[:, 1]) * size
    along = _planes(angle.cos(), at) * at[:, :1] + _planes(angle.sin(), at) * at[:, 1:]
    swing = (2 * math.pi * (along / _planes(length, at) + _planes(d[:, 2], at))).sin()
    side = torch.stack([-angle.sin(), angle.cos()], dim=1)
    return _bent(batch, _planes(0.03 * size * strength, at) * swing * _planes(side, at))


def lens(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """See the picture through a wide or a long lens: barrel or pincushion."""
    size = batch.image.shape[-1]
    away = nodes(size, batch.image) - (size - 1) / 2
    squared = away.square().sum(dim=1, keepdim=True) / (size / 2) ** 2
    amount = _planes(0.4 * strength.to(away) * signs(draws[:, 0]).to(away), away)
    return _bent(batch, amount * away * squared / (1 + squared))


def bulge(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Swell or pinch a part of the face."""
    size = batch.image.shape[-1]
    d = draws.to(batch.image)
    middle = (0.3 + 0.4 * d[:, :2]) * (size - 1)
    away = nodes(size, batch.image) - _planes(middle, batch.image)
    radius = _planes((0.10 + 0.10 * d[:, 2]) * size, away)
    near = (-away.square().sum(dim=1, keepdim=True) / (2 * radius.square())).exp()
    return _bent(batch, _planes(0.45 * strength.to(d) * signs(d[:, 3]), away) * away * near)


def twirl(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Twist the picture round a place near its middle, less further out."""
    size = batch.image.shape[-1]
    d = draws.to(batch.image)
    middle = (0.4 + 0.2 * d[:, :2]) * (size - 1)
    away = nodes(size, batch.image) - _planes(middle, batch.image)
    near = (-away.square().sum(dim=1, keepdim=True) / (2 * (0.25 * size) ** 2)).exp()
    angle = _planes(math.radians(25) * strength.to(d) * signs(d[:, 2]), away) * near
    cos, sin = angle.cos(), angle.sin()
    x, y = away[:, :1], away[:, 1:]
    return _bent(batch, torch.cat([cos * x - sin * y - x, sin * x + cos * y - y], dim=1))


@lru_cache(maxsize=1)
def mean_depth() -> Tensor:
    """(1, 1, n, n): how far each place of the mean face stands out, in half widths of its landmarks' box.

    The drawn head at rest is the mean shape: 98 landmarks in three dimensions. Between them the depth is a smooth
    thin-plate surface, and beyond them it falls to the depth of the ears; all is smoothed until a turn can show every
    place of it. The map reaches _DEPTH_REACH half boxes to every side; 0 is the axis about which a head turns.
    """
    from scipy.interpolate import RBFInterpolator  # not above: only a turn needs it
    from scipy.ndimage import gaussian_filter

    from stylealign.toyfaces import Structure, head_points

    points = head_points(Structure())
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    half = (high - low) / 2
    places = (points[:, :2] - (low + high) / 2) / half
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outside = np.concatenate([1.7 * ring, _DEPTH_REACH * 1.42 * ring])
    forehead = np.array([(x, -1.35) for x in (-0.5, 0.0, 0.5)])
    depths = np.concatenate([points[:, 2], np.full(3, 0.62), np.full(24, 0.0), np.full(24, 0.0)]) / half[0]
    surface = RBFInterpolator(np.concatenate([places, forehead, outside]), depths, smoothing=0.02)
    axis = np.linspace(-_DEPTH_REACH, _DEPTH_REACH, _DEPTH_CELLS)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    pivot = 0.35 / half[0]
    found = gaussian_filter(surface(grid).reshape(_DEPTH_CELLS, _DEPTH_CELLS), 3.0, mode="nearest") - pivot
    return torch.from_numpy(found[None, None]).float()


def turn(batch: Batch, strength: Tensor, draws: Tensor) -> Motion:
    """Turn the head aside, up or down: every place moves by its depth on the mean face, laid on the landmarks' box.

    A weak-perspective turn of a surface in front of its axis. Away from the head the picture stands still. What a turn
    would hide or bring to light is not drawn: the bend stays even (`evened`).
    """
    size = batch.image.shape[-1]
    d, at = draws.to(batch.image), nodes(size, batch.image)
    boxes = face_boxes(batch.landmarks.detach(), size).to(at)
    half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=1.0)
    middle, half = _planes((boxes[:, :2] + boxes[:, 2:]) / 2, at), _planes(half, at)
    way = 2 * math.pi * d[:, 0]
    most = torch.tensor([math.radians(20), math.radians(15)], dtype=d.dtype, device=d.device)
    angles = strength.to(d)[:, None] * most * torch.stack([way.cos(), way.sin()], dim=1)
    sine, cosine = _planes(angles.sin(), at), _planes(angles.cos(), at)
    depth = mean_depth().to(at).expand(len(d), -1, -1, -1)
    away = at - middle
    shown = away
    unit = half[:, :1]  # depth is in half widths
    for _ in range(2):  # the depth is that of the place which is shown: two rounds come near it
        grid = (shown / half / _DEPTH_REACH).permute(0, 2, 3, 1)
        z = F.grid_sample(depth, grid, mode="bilinear", padding_mode="border", align_corners=True) * unit
        shown = (away - z * sine) / cosine
    beyond = (away / half).square().sum(dim=1, keepdim=True).sqrt()
    head = ((2.1 - beyond) / 0.9).clamp(0, 1)
    return _bent(batch, (shown - away) * head * head * (3 - 2 * head))
