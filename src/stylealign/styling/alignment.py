"""Where things are on two faces: which place of the donor is which place of the content, and what lies inside a face.

Everything is batched, computed face by face, and safe where landmarks are NaN. Coordinates are (x, y) px of the crop.
Knows no style.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.pixels import MIN_POINTS, face_boxes, known_points
from stylealign.batches.pixels import take as take  # arms take it from here

FOREHEAD = 0.30
"""How far it is from the topmost landmarks (the brows) to most people's hair, as a share of the height that the
landmarks span."""
_RIDGE = 0.1  # pull of the affine towards the similarity, as a share of the points' variance


def donor_affine(content: Tensor, donors: Tensor) -> tuple[Tensor, Tensor]:
    """The affine that takes a place of each content face to the same place of its donor.

    It is the least-squares affine, drawn by a ridge towards the least-squares similarity (without a mirror): a head
    turned otherwise is squeezed, but few or nearly collinear points bring no wild shear. Uses the points known in both.

    Args:
        content, donors: (B, P, 2) landmarks.

    Returns:
        (B, 2, 3) donor_from_content and (B,) bool: whether it could be fitted; the identity where not.
    """
    known = known_points(content) & known_points(donors)
    ok = known.sum(dim=1) >= MIN_POINTS
    weight = known[..., None].double()
    count = weight.sum(dim=1).clamp(min=1)
    source, target = (torch.where(known[..., None], points, 0.0).double() for points in (content, donors))
    mean_s, mean_t = source.sum(dim=1) / count, target.sum(dim=1) / count
    a, b = (source - mean_s[:, None]) * weight, (target - mean_t[:, None]) * weight
    spread = (a * a).sum(dim=(1, 2))
    ok = ok & (spread > 1e-6)
    spread = spread.clamp(min=1e-6)
    cos = (a * b).sum(dim=(1, 2)) / spread
    sin = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(dim=1) / spread
    similar = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    identity = torch.eye(2, dtype=torch.float64, device=content.device)
    ridge = (_RIDGE * spread / 2)[:, None, None]
    linear = (b.transpose(1, 2) @ a + ridge * similar) @ torch.linalg.inv(a.transpose(1, 2) @ a + ridge * identity)
    linear = torch.where(ok[:, None, None], linear, identity)
    shift = torch.where(ok[:, None], mean_t - (linear @ mean_s[..., None])[..., 0], 0.0)
    return torch.cat([linear, shift[..., None]], dim=2).to(content.dtype), ok


def _bend(grid: Tensor, points: Tensor, residual: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """A smooth field: (B, N, 2) at `grid` (B, N, 2), equal to `residual` (B, P, 2) at `points` (B, P, 2), 0 far away.

    Gaussian-weighted means (Nadaraya, 1964; Watson, 1964) of width `sigma`; what these leave over is fitted in the same
    way with half and then with a quarter of the width.
    """
    there, here = (torch.exp(torch.cdist(at, points).square_().mul_(-0.5 / sigma**2)) for at in (grid, points))
    field = torch.zeros_like(grid)
    for level in range(3):
        if level:  # half the width is the fourth power of a Gaussian
            there, here = there.square_().square_(), here.square_().square_()
        at_grid, at_points = ((k @ torch.cat([residual * weight, weight], dim=2)) for k in (there, here))
        field = field + at_grid[..., :2] / (at_grid[..., 2:] + 0.05)
        residual = residual - at_points[..., :2] / (at_points[..., 2:] + 0.05)
    return field


def donor_places(content: Tensor, donors: Tensor, size: int, bend: bool = True) -> tuple[Tensor, Tensor]:
    """For each pixel of the content, the place of the donor that is the same place of a face.

    An affine for the whole face. With `bend`, a smooth field is added that brings the donor's landmarks onto the
    content's, to a fraction of a cell of five pixels, and fades out away from the face.

    Returns:
        (B, S, S, 2) px of the donor's crop, and (B,) bool as of `donor_affine` (the identity map where False).
    """
    affine, ok = donor_affine(content, donors)
    axis = torch.arange(size, dtype=content.dtype, device=content.device)
    linear = affine[:, :, :2]
    across, down = (
        linear[:, None, None, :, 0] * axis[None, None, :, None],
        linear[:, None, None, :, 1] * axis[None, :, None, None],
    )
    places = across + down + affine[:, None, None, :, 2]
    if not bend:
        return places, ok
    known = known_points(content) & known_points(donors) & ok[:, None]
    source, target = (torch.where(known[..., None], points, 0.0) for points in (content, donors))
    residual = target - (source @ linear.transpose(1, 2) + affine[:, None, :, 2])
    cells = max(8, size // 5)
    centres = (torch.arange(cells, dtype=content.dtype, device=content.device) + 0.5) * size / cells - 0.5
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).view(1, -1, 2)
    field = _bend(grid.expand(len(content), -1, 2), source, residual, known[..., None].to(content.dtype), 0.10 * size)
    field = F.interpolate(field.transpose(1, 2).reshape(-1, 2, cells, cells), size=(size, size), mode="bilinear")
    return places + field.permute(0, 2, 3, 1), ok


def hull_distance(landmarks: Tensor, size: int, forehead: float = FOREHEAD, num_directions: int = 24) -> Tensor:
    """Signed distance to the convex hull of each face's landmarks, negative inside, by its support function.

    The hull is taken as the half planes that bound it in `num_directions` directions, which makes it larger by a factor
    of at most 1 / cos(pi / num_directions) (1 % for 24). The distance is exact where the nearest part of the outline is
    a straight edge, and too small at corners.

    Args:
        landmarks: (B, P, 2) px; unknown ones do not count.
        size: side of the crop in px.
        forehead: how far the face goes on above its topmost landmark (FOREHEAD); 0 for the landmarks' own hull.

    Returns:
        (B, 1, S, S) px; 4 S everywhere for a face without landmarks.
    """
    known = known_points(landmarks)
    points = torch.where(known[..., None], landmarks, 0.0)
    boxes = face_boxes(landmarks, size)
    rise = forehead * (boxes[:, 3] - boxes[:, 1])
    middle = (boxes[:, :1] + boxes[:, 2:3]) / 2
    # The forehead: the same points moved up, and drawn in, since the skull is narrower there.
    higher = torch.stack([middle + 0.85 * (points[..., 0] - middle), points[..., 1] - rise[:, None]], dim=-1)
    cells = size // 2 if size >= 64 else size  # the distance is nearly linear: half the pixels are enough
    axis = (torch.arange(cells, dtype=landmarks.dtype, device=landmarks.device) + 0.5) * size / cells - 0.5
    distance = torch.full((len(landmarks), cells, cells), -math.inf, dtype=landmarks.dtype, device=landmarks.device)
    for k in range(num_directions):
        angle = 2 * math.pi * k / num_directions
        dx, dy = math.cos(angle), math.sin(angle)
        reach = torch.where(known, dx * points[..., 0] + dy * points[..., 1], -math.inf).amax(dim=1)
        if forehead:
            above = torch.where(known, dx * higher[..., 0] + dy * higher[..., 1], -math.inf).amax(dim=1)
            reach = torch.maximum(reach, above)
        plane = (dx * axis)[None, None, :] + ((dy * axis)[None, :] - reach[:, None])[..., None]
        torch.maximum(distance, plane, out=distance)
    distance = torch.where(known.any(dim=1)[:, None, None], distance, 4.0 * size)[:, None]
    return distance if cells == size else F.interpolate(distance, size=(size, size), mode="bilinear")
