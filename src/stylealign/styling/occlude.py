"""Style arms that put something before the face: drawn objects (`occlude`) and parts of the donor (`occlude_aligned`).

Both say which landmarks they covered: `visible` turns False, the landmark keeps its label, and how a hidden label
weighs is decided by the training. They do not know the mark-up: eyes are taken to lie a quarter down the landmarks'
box and brows at its top, as in every mark-up with brows and a chin. On a tilted face
the glasses sit askew and hide as much; `visible` is read from what is drawn.
"""

import math

import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.batches.pixels import (
    face_boxes,
    face_generator,
    has_face,
    per_face,
    restyled,
    shift_logits,
    soft_inside,
    uncovered,
)
from stylealign.styling.alignment import donor_places, hull_distance, take
from stylealign.styling.context import face_tone

_EYES, _BROWS = 0.25, 0.02  # heights in the landmarks' box


def _circle(x: Tensor, y: Tensor, cx: float, cy: float, rx: float, ry: float) -> Tensor:
    """About the signed distance to an ellipse: exact for a circle, of the right size near any edge."""
    return ((((x - cx) / rx).square() + ((y - cy) / ry).square()).sqrt() - 1) * min(rx, ry)


def _stroke(x: Tensor, y: Tensor, start: tuple[float, float], end: tuple[float, float], radius: float) -> Tensor:
    """Signed distance to a stroke with round ends."""
    (ax, ay), (bx, by) = start, end
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return ((x - ax - t * dx).square() + (y - ay - t * dy).square()).sqrt() - radius


def _hand(x: Tensor, y: Tensor) -> Tensor:
    """A palm with four fingers, a thumb and an arm that leaves downwards; the unit is about a face's half width."""
    fingers = [
        ((-0.30, -0.1), (-0.40, -0.55)),
        ((-0.10, -0.15), (-0.13, -0.75)),
        ((0.10, -0.15), (0.13, -0.72)),
        ((0.29, -0.1), (0.38, -0.5)),
    ]
    shape = torch.minimum(_circle(x, y, 0, 0.15, 0.42, 0.45), _stroke(x, y, (0, 0.5), (0, 4), 0.3))
    for start, end in [*fingers, ((-0.3, 0.3), (-0.62, 0.0))]:
        shape = torch.minimum(shape, _stroke(x, y, start, end, 0.105))
    return shape


def _microphone(x: Tensor, y: Tensor) -> Tensor:
    return torch.minimum(_circle(x, y, 0, 0, 0.32, 0.32), _stroke(x, y, (0, 0.3), (0, 4), 0.13))


def _glasses(x: Tensor, y: Tensor) -> Tensor:
    """Two dark lenses, a bridge, temples; the eyes lie at (+-0.45, 0) of a face's half width."""
    lenses = torch.minimum(_circle(x, y, -0.46, 0.04, 0.36, 0.26), _circle(x, y, 0.46, 0.04, 0.36, 0.26))
    return torch.minimum(lenses, _stroke(x, y, (-1.0, -0.06), (1.0, -0.06), 0.035))


def _hat(x: Tensor, y: Tensor) -> Tensor:
    """Everything above a line over the brows, and the brim's shallow bow below it."""
    return torch.minimum(torch.maximum(y + 0.10, x.abs() - 1.35), _circle(x, y, 0, -0.12, 1.25, 0.2))


def _cells(draw: Tensor, size: int, cells: int) -> Tensor:
    """(2, size, size) smooth noise in [0, 1] of one face."""
    coarse = torch.rand(1, 2, cells, cells, generator=face_generator(draw))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[0]


def _paint(content: Batch, donors: Batch, draws: Tensor, kind: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) of what the objects are made of, all unevenly lit.

    That is a plain colour, stripes or cloth of two colours, or the donor's pixels.
    """
    size, d = content.image.shape[-1], draws.to(content.image)
    first, second = per_face(2 * d[:, 8:11] - 1, d), per_face(2 * d[:, [10, 12, 8]] - 1, d)
    skin = (donors.image[:, :, size * 2 // 5 : size * 3 // 5, size * 2 // 5 : size * 3 // 5]).mean(
        dim=(2, 3), keepdim=True
    )
    dark = -1 + 0.12 * (first + 1)
    noise = torch.stack([_cells(seed, size, 6) for seed in draws[:, 11].cpu()]).to(d)
    fill = per_face(d[:, 7], d)
    stripes = 0.5 + 0.5 * torch.sin((8 + 30 * fill) * (x + y * per_face(d[:, 12], d))).mul(4).clamp(-1, 1)
    cloth = (noise[:, :1] * 3 - 1).clamp(0, 1)
    t = torch.where(fill < 0.35, 0.0, torch.where(fill < 0.55, stripes, cloth))
    colour = torch.where(fill < 0.75, first + t * (second - first), donors.image)
    code = per_face(kind, d)
    colour = torch.where(code == 1, skin, torch.where(code == 4, dark, colour))
    return shift_logits(colour, 1.2 * (noise[:, 1:] - 0.5))


def occlude(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Put one drawn object before each face: an ellipse, a hand, a bar, a microphone, dark glasses or a hat.

    Objects are plain, striped, clouded or cut from the donor's picture; hands have the colour of the donor's middle.
    `strength` is the area they cover: their side grows with its square root. A face without landmarks is taken to fill
    the middle 60 % of the crop. Draws: kind, place, size, form, turn, edge (0.6 to 4 px in a crop of 80 px), material,
    colours.
    """
    size = content.image.shape[-1]
    d = draws.to(content.image)
    boxes = face_boxes(content.landmarks, size)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    middle = boxes[:, :2] + half
    grow = strength.to(d).clamp(0, 1).sqrt()
    kind = torch.searchsorted(
        torch.tensor([0.25, 0.45, 0.58, 0.72, 0.86], dtype=d.dtype, device=d.device), d[:, 0].contiguous(), right=True
    )
    # Where the object's origin lies (in half boxes from the middle), its unit in px, and its turn, kind by kind.
    u, v, w, turn = d[:, 1], d[:, 2], d[:, 3], 2 * d[:, 5] - 1
    side = half.mean(dim=1)
    at_x = torch.stack([1.8 * u - 0.9, 1.6 * u - 0.8, 1.6 * u - 0.8, 1.2 * u - 0.6, 0 * u, 0 * u])
    at_y = torch.stack([2 * v - 1.1, 1.3 * v, 2 * v - 1, 0.3 + 0.6 * v, 0 * v + 2 * _EYES - 1, 0 * v + 2 * _BROWS - 1])
    unit = torch.stack(
        [side, (0.6 + 0.5 * w) * side, side, (0.7 + 0.6 * w) * side, half[:, 0], (0.9 + 0.2 * w) * half[:, 0]]
    )
    angle = torch.stack([math.pi * turn, 1.2 * turn, math.pi * turn, 0.8 * turn, 0.1 * turn, 0.12 * turn])
    rows = torch.arange(len(d), device=d.device)
    cx, cy = middle[:, 0] + at_x[kind, rows] * half[:, 0], middle[:, 1] + at_y[kind, rows] * half[:, 1]
    scale, angle = (unit[kind, rows] * grow).clamp(min=1e-3), angle[kind, rows]
    axis = torch.arange(size, dtype=d.dtype, device=d.device)
    right, down = axis[None, None, :] - cx[:, None, None], axis[None, :, None] - cy[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    x, y = (cos * right + sin * down) / scale[:, None, None], (cos * down - sin * right) / scale[:, None, None]
    distance = torch.empty(len(d), size, size, dtype=d.dtype, device=d.device)
    radii = torch.stack([0.25 + 0.45 * w, 0.25 + 0.45 * d[:, 4]], dim=1)
    for number, shape in ((1, _hand), (3, _microphone), (4, _glasses), (5, _hat)):
        if len(some := torch.nonzero(kind == number).view(-1)):
            distance[some] = shape(x[some], y[some])
    if len(some := torch.nonzero(kind == 0).view(-1)):
        rx, ry = radii[some].T[:, :, None, None]
        distance[some] = ((x[some] / rx).square() + (y[some] / ry).square()).sqrt().sub(1) * torch.minimum(rx, ry)
    if len(some := torch.nonzero(kind == 2).view(-1)):
        distance[some] = y[some].abs() - (0.12 + 0.18 * w[some])[:, None, None]
    edge = size * (0.008 + 0.042 * d[:, 6].square())
    alpha = soft_inside((distance * scale[:, None, None])[:, None], per_face(edge, d))
    alpha = alpha * (per_face(strength, d) > 0)
    front = _paint(content, donors, draws, kind, x[:, None] / 2, y[:, None] / 2)
    image = content.image + alpha * (front - content.image)
    return restyled(content, image, strength > 0, uncovered(content, alpha))


def occlude_aligned(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Lay a region of the donor over the same region of the face: eyes with their glasses, a hat, a hand at the mouth.

    The donor is bent so that its landmarks lie on the content's: where its own nose or lips come along, they lie
    where the label says. `strength` is the region's size. Draws: which region (eyes, brow and above, lower face, left
    or right half), its exact edges and softness (2 to 8 % of the crop), and for half of the faces that the region
    takes on the colour which the content has along the seam. Faces whose landmarks, or whose donor's, are unknown are
    left alone.
    """
    size = content.image.shape[-1]
    d = draws.to(content.image)
    places, aligned = donor_places(content.landmarks, donors.landmarks, size)
    changed = aligned & (strength.to(d.device) > 0)
    front = take(donors.image, places)
    boxes = face_boxes(content.landmarks, size)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    middle = boxes[:, :2] + half
    # Regions as boxes in half boxes from the middle: x0, y0, x1, y1.
    regions = torch.tensor(
        [[-1.2, -0.95, 1.2, -0.15], [-1.5, -2.2, 1.5, -0.75], [-1.1, 0.1, 1.1, 1.3],
         [-1.3, -1.4, 0.0, 1.2], [0.0, -1.4, 1.3, 1.2]],
        dtype=d.dtype, device=d.device,
    )  # fmt: skip
    region = regions[(d[:, 0] * len(regions)).long()] + 0.3 * (d[:, 1:5] - 0.5)
    place, reach = (region[:, :2] + region[:, 2:]) / 2, (region[:, 2:] - region[:, :2]) / 2
    reach = reach * strength.to(d).clamp(0, 1).sqrt()[:, None]
    axis = torch.arange(size, dtype=d.dtype, device=d.device)
    centre, extent = middle + place * half, reach * half
    across = (axis[None, :] - centre[:, :1]).abs() - extent[:, :1]
    down = (axis[None, :] - centre[:, 1:]).abs() - extent[:, 1:]
    corner = 0.08 * size
    across, down = (across + corner)[:, None, :], (down + corner)[:, :, None]
    outside = (across.clamp(min=0).square() + down.clamp(min=0).square()).sqrt()
    distance = (outside + torch.maximum(across, down).clamp(max=0) - corner)[:, None]
    alpha = soft_inside(distance, per_face(size * (0.02 + 0.06 * d[:, 5]), d)) * per_face(changed, d)
    # Colour along the seam, on the face only: there the two pictures should agree.
    seam = (
        (alpha * (1 - alpha) + 1e-4)
        * soft_inside(hull_distance(content.landmarks, size), 0.03 * size)
        * per_face(has_face(content.landmarks), d)
    )
    tone = (face_tone(content.image, seam) - face_tone(front, seam)).clamp(-2, 2)
    front = shift_logits(front, tone * per_face(d[:, 6] < 0.5, d))
    image = content.image + alpha * (front - content.image)
    return restyled(content, image, changed, uncovered(content, alpha))
