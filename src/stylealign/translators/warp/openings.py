"""Openings of a face, the mouth and the eyes: how wide they are, and what a bent donor lacks there laid in.

A closed mouth shows no teeth, and a closed eye no iris: where the content's is open much wider than the donor's, the
content's own pixels are laid in, in the tone that the donor has round it. Coordinates are (x, y) px of the crop.
Knows no spline.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from stylealign.batches.pixels import known_points, soft_inside
from stylealign.face.schema import LandmarkSchema

WIDER = 1.4
"""How many times the donor's opening the content's has to be for the content's own pixels to be laid in."""
SLIT = 0.002
"""Area of an opening, in squared face sizes, below which there is nothing to see in it."""
_EDGES = (("left_eye_top", "left_eye_bottom"), ("right_eye_top", "right_eye_bottom"))
_LIPS = ("inner_upper_lip", "inner_lower_lip")
_EDGE, _RING = 0.02, 0.06  # softness of a seam, and width of the ring whose tone counts, in face sizes
_SKIN = (0.1, 0.2)  # the ring of skin whose colour tells the light, in face sizes
_CAST = 0.6  # how much of the difference of their skins is taken for the light's; the rest is that of two people
_GAIN = (0.5, 1.6)  # limits of the contrast that what is laid in takes on


class Opening(NamedTuple):
    """A mouth or an eye of a mark-up."""

    name: str
    outline: tuple[int, ...]
    """Landmarks round it, in order"""


def openings_of(schema: LandmarkSchema) -> tuple[Opening, ...]:
    """The eyes and the inner mouth, of a mark-up whose curves name their edges; of others none."""
    found = []
    for name, (top, bottom) in zip(("eye", "eye", "mouth"), (*_EDGES, _LIPS), strict=True):
        if top in schema.boundaries and bottom in schema.boundaries:
            upper, lower = schema.boundaries[top], schema.boundaries[bottom]
            found.append(Opening(name, (*upper, *(i for i in reversed(lower) if i not in upper))))
    return tuple(found)


def area(outline: Tensor) -> Tensor:
    """(...) px^2 inside of polygons (..., K, 2)."""
    x, y = outline.unbind(dim=-1)
    return 0.5 * (x * y.roll(-1, dims=-1) - x.roll(-1, dims=-1) * y).sum(dim=-1).abs()


def outline_distance(points: Tensor, outline: Tensor) -> Tensor:
    """(B, G) px from (B, G, 2) points to the nearest edge of (B, K, 2) polygons, negative inside."""
    x, y = points.unbind(dim=2)
    starts, ends = (corners.permute(1, 2, 0)[..., None] for corners in (outline, outline.roll(-1, dims=1)))
    square, inside = torch.full_like(x, math.inf), torch.zeros_like(x, dtype=torch.bool)
    for (start_x, start_y), (end_x, end_y) in zip(starts, ends, strict=True):  # edge by edge: a tenth of the time
        edge_x, edge_y = end_x - start_x, end_y - start_y
        to_x, to_y = x - start_x, y - start_y
        along = (to_x * edge_x + to_y * edge_y) / (edge_x * edge_x + edge_y * edge_y).clamp(min=1e-12)
        along = along.clamp_(0, 1)
        square = torch.minimum(square, (to_x - along * edge_x).square_().add_((to_y - along * edge_y).square_()))
        # Inside where a ray to the right crosses the outline an odd number of times.
        slope = edge_x / torch.where(edge_y == 0, 1e-12, edge_y)
        inside ^= ((start_y > y) != (end_y > y)) & (to_x < slope * to_y)
    return torch.where(inside, -square.sqrt(), square.sqrt())


def lacking(opening: Opening, content: Tensor, donors: Tensor, sizes: tuple[Tensor, Tensor]) -> Tensor:
    """(B,) bool: whether the content's opening is so much wider than the donor's that its own pixels are laid in.

    Args:
        opening: of the mark-up.
        content, donors: (B, P, 2) landmarks, each in px of its own crop; no where one is unknown.
        sizes: (B,) px of the two faces.
    """
    wide, narrow = (
        area(points[:, list(opening.outline)].double()) / size.square()
        for points, size in zip((content, donors), sizes, strict=True)
    )
    return (wide > SLIT) & (wide > WIDER * narrow)  # a comparison with NaN is False


def outlined(name: str, openings: tuple[Opening, ...], content: Tensor) -> Tensor:
    """(B,) bool: whether the outlines of all openings of that name are known in the content (B, P, 2): of both eyes, so
    that something can be laid in."""
    return known_points(content[:, [i for other in openings if other.name == name for i in other.outline]]).all(dim=1)


def lay_in(bent: Tensor, content: Tensor, landmarks: Tensor, outline: tuple[int, ...], sizes: Tensor) -> Tensor:
    """Bent donors with the content's own pixels in an opening, in the tone that the donor has round it.

    The tone is the mean and the deviation of lightness, and how much weaker colours are, in a ring round the opening:
    the lips, the lids. Not their hue: teeth do not take on what lips differ by. The light's colour is told by the skin
    farther out: an eye from a blue light would be cold in a face under a warm one.

    Args:
        bent, content: (B, 3, S, S) in [-1, 1], of the same structure.
        landmarks: (B, P, 2) px of both.
        outline: landmarks round the opening.
        sizes: (B,) px of the faces.
    """
    size = bent.shape[-1]
    axis = torch.arange(size, dtype=torch.float32, device=bent.device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(1, -1, 2).expand(len(bent), -1, -1)
    distance = outline_distance(grid, landmarks[:, list(outline)].float()).view(-1, 1, size, size)
    scale = sizes.float()[:, None, None, None]
    ring = ((distance > 0) & (distance < (_RING * scale).clamp(min=2))).float()

    skin = ((distance > _SKIN[0] * scale) & (distance < _SKIN[1] * scale)).float()

    def mean(values: Tensor, where: Tensor = ring) -> Tensor:
        return (values * where).sum(dim=(2, 3), keepdim=True) / where.sum(dim=(2, 3), keepdim=True).clamp(min=1)

    lights = [image.mean(dim=1, keepdim=True) for image in (bent, content)]
    means = [mean(light) for light in lights]
    spreads = [mean((light - m).square()).sqrt() for light, m in zip(lights, means, strict=True)]
    colours = [image - light for image, light in zip((bent, content), lights, strict=True)]
    strengths = [mean(colour.square().sum(dim=1, keepdim=True)).sqrt() for colour in colours]
    gain = (spreads[0] / spreads[1].clamp(min=1e-3)).clamp(*_GAIN)
    vivid = (strengths[0] / strengths[1].clamp(min=1e-3)).clamp(max=1)  # a photograph in grey has grey eyes
    cast = mean(colours[0], skin) - vivid * mean(colours[1], skin)
    toned = ((lights[1] - means[1]) * gain + means[0] + vivid * colours[1] + _CAST * cast).clamp(-1, 1)
    share = soft_inside(distance, (_EDGE * scale).clamp(min=1))
    return bent + share * (toned - bent)
