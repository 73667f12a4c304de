"""Augmentations that hide a part of the picture, and say which landmarks are under it.

`visible` turns False where more than half of the place is hidden; the landmark keeps its label, and how a hidden label
weighs is decided by the training. Covers grow with the square root of the strength: the covered area grows with it.
Objects such as hands, glasses and hats are style arms (styling/occlude.py).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment.lights import axes
from stylealign.batches.augment.operation import smooth_noise
from stylealign.batches.batch import Batch
from stylealign.batches.camera import both_ways, gaussian_matrix
from stylealign.batches.pixels import face_generator, per_face, restyled, soft_inside, uncovered

_HOLES = 10  # cells a side of `holes`


def _covered(batch: Batch, front: Tensor, alpha: Tensor, strength: Tensor) -> Batch:
    """`front` (B, 3, S, S) laid over the faces where `alpha` (B, 1, S, S) says, and what can still be seen."""
    alpha = alpha * (per_face(strength, alpha) > 0)
    image = batch.image + alpha * (front - batch.image)
    return restyled(batch, image, strength > 0, uncovered(batch, alpha))


def _local(
    batch: Batch, strength: Tensor, draws: Tensor, reach: float = 0.36, upright: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates (B, 1, S, S) round a place of each crop, turned, in shares of the side over the root of the strength.

    The first three draws: the place, at most `reach` from the middle, and the turn.
    """
    d = draws.to(batch.image)
    x, y = axes(batch.image)
    grow = per_face(strength, d).clamp(0, 1).sqrt().clamp(min=1e-3)
    x, y = (x - per_face(reach * (2 * d[:, 0] - 1), d)) / grow, (y - per_face(reach * (2 * d[:, 1] - 1), d)) / grow
    if upright:
        x, y = x.expand(-1, -1, x.shape[-1], -1), y.expand(-1, -1, -1, y.shape[-2])
    else:
        angle = math.pi * d[:, 2]
        cos, sin = per_face(angle.cos(), d), per_face(angle.sin(), d)
        x, y = cos * x + sin * y, cos * y - sin * x
    return x, y, grow


def _edge(distance: Tensor, grow: Tensor, draw: Tensor) -> Tensor:
    """A mask of a signed distance in the units of `_local`, its edge a pixel to 4 % of the crop wide."""
    size = distance.shape[-1]
    return soft_inside(distance * grow * size, per_face(0.04 * size * draw.square(), distance))


def _plain(draws: Tensor, like: Tensor, first: int = 10) -> Tensor:
    """(B, 3, 1, 1) a plain colour."""
    return per_face(2 * draws[:, first : first + 3] - 1, like)


def _box(x: Tensor, y: Tensor, draws: Tensor) -> Tensor:
    """Signed distance to a rectangle of a quarter of the crop's area, more or less, 1:2.5 to 2.5:1."""
    d = draws.to(x)
    wide = (math.log(2.5) * (d[:, 3] - 0.5)).exp()
    side = 0.18 + 0.07 * d[:, 4]
    return torch.maximum(x.abs() - per_face(side * wide, x), y.abs() - per_face(side / wide, x))


def rectangle(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A plain rectangle."""
    x, y, grow = _local(batch, strength, draws, upright=True)
    return _covered(batch, _plain(draws, x), _edge(_box(x, y, draws), grow, 0 * draws[:, 0]), strength)


def noise_patch(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A rectangle of noise (random erasing)."""
    x, y, grow = _local(batch, strength, draws, upright=True)
    size = x.shape[-1]
    noise = torch.stack([torch.rand(3, size, size, generator=face_generator(seed)) for seed in draws[:, 9].cpu()])
    front = 2 * noise.to(batch.image) - 1
    return _covered(batch, front, _edge(_box(x, y, draws), grow, 0 * draws[:, 0]), strength)


def ellipse(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A plain ellipse, turned, its edge sharp or soft."""
    x, y, grow = _local(batch, strength, draws)
    rx, ry = (per_face(0.14 + 0.18 * draws[:, k], x) for k in (3, 4))
    distance = (((x / rx).square() + (y / ry).square()).sqrt() - 1) * torch.minimum(rx, ry)
    return _covered(batch, _plain(draws, x), _edge(distance, grow, draws[:, 5]), strength)


def polygon(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A plain convex piece with three to five corners."""
    x, y, grow = _local(batch, strength, draws)
    corners = 3 + (3 * draws[:, 3]).floor()
    distance = torch.full_like(x, -math.inf)
    for k in range(5):
        angle = 2 * math.pi * (k + 0.5 * draws[:, 4 + k]) / corners
        away = per_face(angle.cos(), x) * x + per_face(angle.sin(), x) * y - per_face(0.12 + 0.14 * draws[:, 4 + k], x)
        distance = torch.where(per_face(corners, x) > k, torch.maximum(distance, away), distance)
    return _covered(batch, _plain(draws, x), _edge(distance, grow, 0 * draws[:, 0]), strength)


def blob(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A piece with a ragged outline, cloudy inside, as of cloth, hair or leaves."""
    x, y, grow = _local(batch, strength, draws)
    size = x.shape[-1]
    noise = smooth_noise(draws[:, 9], 2, 9, size, x)
    distance = (x.square() + y.square()).sqrt() - 0.28 + 0.3 * (noise[:, :1] - 0.5)
    front = torch.lerp(_plain(draws, x), _plain(draws, x, 13), noise[:, 1:])
    return _covered(batch, front, _edge(distance, grow, draws[:, 5]), strength)


def bar(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A plain bar right across the picture, in any direction."""
    x, y, grow = _local(batch, strength, draws)
    distance = y.abs() - per_face(0.07 + 0.07 * draws[:, 3], y)
    return _covered(batch, _plain(draws, x), _edge(distance, grow, draws[:, 5]), strength)


def bars(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Parallel bars, as of a blind or a fence."""
    d = draws.to(batch.image)
    x, y = axes(batch.image)
    angle = math.pi * d[:, 2]
    along = per_face(angle.cos(), d) * x + per_face(angle.sin(), d) * y
    period = per_face(0.12 + 0.14 * d[:, 3], d)
    away = ((along / period + per_face(d[:, 4], d)).remainder(1.0) - 0.5).abs() * period
    width = 0.25 * period * per_face(strength, d)
    return _covered(batch, _plain(draws, d), soft_inside((away - width) * x.shape[-1], 1.0), strength)


def holes(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Many small squares, at random (hide and seek)."""
    size = batch.image.shape[-1]
    random = torch.stack(
        [torch.rand(1, _HOLES, _HOLES, generator=face_generator(seed)) for seed in draws[:, 9].cpu()]
    ).to(batch.image)
    mask = (random < per_face(0.4 * strength, random)).to(random)
    alpha = F.interpolate(mask, size=(size, size), mode="nearest")
    return _covered(batch, _plain(draws, alpha), alpha, strength)


def squares(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A regular grid of squares, turned (grid mask)."""
    d = draws.to(batch.image)
    x, y = axes(batch.image)
    angle = math.pi / 2 * d[:, 2]
    cos, sin = per_face(angle.cos(), d), per_face(angle.sin(), d)
    period = per_face(0.15 + 0.15 * d[:, 3], d)
    offsets = [per_face(d[:, k], d) for k in (0, 1)]
    away = [
        ((along / period + offset).remainder(1.0) - 0.5).abs() * period
        for along, offset in zip((cos * x + sin * y, cos * y - sin * x), offsets, strict=True)
    ]
    half = 0.3 * period * per_face(strength, d).sqrt()
    distance = torch.maximum(away[0], away[1]) - half
    return _covered(batch, _plain(draws, d), soft_inside(distance * x.shape[-1], 1.0), strength)


def cut_off(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """The picture ends there: a side of it is plain, or the last pixels before it drawn out."""
    size = batch.image.shape[-1]
    d = draws.to(batch.image)
    x, y = axes(batch.image)
    side = per_face((4 * d[:, 0]).floor(), d)
    along = torch.where(side == 0, x, torch.where(side == 1, -x, torch.where(side == 2, y, -y)))
    end = (0.5 - 0.4 * per_face(strength, d)).clamp(max=0.5)
    # The column or row where the picture ends, for every place beyond it.
    last = ((end + 0.5) * size - 1).floor().clamp(0, size - 1)[:, 0, 0, 0].long()
    rows = torch.arange(len(d), device=d.device)
    drawn_out = torch.where(
        side < 2,
        batch.image[rows, :, :, torch.where(side[:, 0, 0, 0] == 0, last, size - 1 - last)][:, :, :, None],
        batch.image[rows, :, torch.where(side[:, 0, 0, 0] == 2, last, size - 1 - last)][:, :, None],
    )
    front = torch.where(per_face(d[:, 1], d) < 0.5, _plain(draws, d), drawn_out)
    alpha = (along > end).to(d)
    return _covered(batch, front, alpha, strength)


def transplant(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A piece of the same picture laid over another part of it."""
    x, y, grow = _local(batch, strength, draws)
    size = x.shape[-1]
    rx, ry = (per_face(0.14 + 0.16 * draws[:, k], x) for k in (3, 4))
    distance = (((x / rx).square() + (y / ry).square()).sqrt() - 1) * torch.minimum(rx, ry)
    angle = 2 * math.pi * draws[:, 6]
    way = (0.30 + 0.15 * draws[:, 7, None]) * size * torch.stack([angle.cos(), angle.sin()], dim=1)
    axis = torch.arange(size, device=x.device)
    across, down = ((axis[None] + move[:, None].round().long().to(x.device)).remainder(size) for move in way.T)
    rows = torch.arange(len(x), device=x.device)[:, None, None]
    front = batch.image.permute(0, 2, 3, 1)[rows, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)
    return _covered(batch, front, _edge(distance, grow, draws[:, 5]), strength)


def mosaic(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A part of the picture in coarse squares, as of a face made unknown."""
    x, y, grow = _local(batch, strength, draws, upright=True)
    size = x.shape[-1]
    coarse = F.interpolate(F.adaptive_avg_pool2d(batch.image.contiguous(), 8), size=(size, size), mode="nearest")
    return _covered(batch, coarse, _edge(_box(x, y, draws), grow, 0 * draws[:, 0]), strength)


def smudge(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """A part of the picture blurred beyond telling, as by a finger on the lens."""
    x, y, grow = _local(batch, strength, draws)
    sigma = torch.full((len(x),), 0.07 * x.shape[-1], dtype=x.dtype, device=x.device)
    soft = both_ways(batch.image.contiguous(), gaussian_matrix(sigma, x.shape[-1]))
    rx, ry = (per_face(0.14 + 0.18 * draws[:, k], x) for k in (3, 4))
    distance = (((x / rx).square() + (y / ry).square()).sqrt() - 1) * torch.minimum(rx, ry)
    return _covered(batch, soft, _edge(distance, grow, 0.5 + 0.5 * draws[:, 5]), strength)


def glare(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """The sun in the lens: a white disc that fades out over the face."""
    x, y, _ = _local(batch, strength, draws, reach=0.45)
    radius = per_face(0.10 + 0.10 * draws[:, 3], x)
    away = (x.square() + y.square()).sqrt() / radius
    alpha = 1 / (1 + away.pow(4)) * per_face(strength.clamp(0, 1), x).sqrt()
    warm = torch.tensor([1.0, 0.95, 0.85], dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return _covered(batch, warm.expand(len(x), 3, 1, 1), alpha, strength)


def scratches(batch: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Thin scratches, light or dark, as on an old print."""
    d = draws.to(batch.image)
    size = batch.image.shape[-1]
    x, y = axes(batch.image)
    alpha = torch.zeros_like(batch.image[:, :1])
    for k in range(6):
        angle = math.pi * d[:, k]
        along = per_face(angle.cos(), d) * x + per_face(angle.sin(), d) * y - per_face(0.8 * d[:, 15 - k] - 0.4, d)
        line = (0.5 + per_face(strength, d) * 0.008 * size - along.abs() * size).clamp(0, 1)
        alpha = torch.maximum(alpha, line * (6 * per_face(strength, d) > k))
    colour = torch.where(per_face(d[:, 6], d) < 0.6, 0.9, -0.9)
    return _covered(batch, colour, alpha, strength)
