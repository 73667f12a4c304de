"""Where a bent donor is not to be trusted: by the map and the landmarks alone, before any picture is looked at.

Not trusted is what the donor shows too little of: where its photograph is drawn out in some direction (a cheek that a
turned head hides, lips over an open mouth), where the map folds, openings that are much wider in the content, and the
line between lips or lids that touch in the content and not in the donor. Coordinates are (x, y) px of the crop.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.pixels import soft_inside
from stylealign.translators.warp.field import Bend, donor_places
from stylealign.translators.warp.openings import Opening, lacking, outline_distance

DRAWN_OUT = (1.7, 3.0)
"""How many times the photograph may be drawn out before it is not trusted at all, and from where on it is doubted."""
_SOFT = 0.02  # face sizes: width of the mask's edge
_PARTED = 0.008  # face sizes: how far lips that touch may be torn off their places before what is between them shows


def least_stretch(places: Tensor, scale: Tensor) -> Tensor:
    """How much of the donor, in its narrowest direction, lies between a pixel and the next: (B, S, S), 0 at folds.

    1 is as large a share of the donor's face as of the content's; a half is a photograph drawn out twice.

    Args:
        places: (B, S, S, 2) px of the donors, one for each pixel.
        scale: (B,) size of the donor's face over that of the content's.
    """
    down, right = torch.gradient(places, dim=(1, 2))
    unit = scale.to(places)[:, None, None, None].clamp_min(1e-6)
    down, right = down / unit, right / unit
    area = right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]
    squares = right.square().sum(dim=-1) + down.square().sum(dim=-1)
    # The smaller singular value of the 2 x 2 slopes: area over the larger one.
    larger = ((squares + (squares.square() - 4 * area.square()).clamp_min(0).sqrt()) / 2).clamp_min(1e-12).sqrt()
    return (area / larger).clamp_min(0)


def untrusted(
    found: Bend, places: Tensor, content: Tensor, donors: Tensor, openings: tuple[Opening, ...]
) -> Tensor:  # fmt: skip
    """(B, 1, S, S) in [0, 1]: 1 where the bent donor has to be painted anew, 0 where it stays a photograph.

    Args:
        found: the maps from contents to donors.
        places: (B, S, S, 2) what they say of each pixel.
        content, donors: (B, P, 2) landmarks, each in px of its own crop.
        openings: of the mark-up.

    A face of which too few landmarks are known is trusted everywhere.
    """
    size = places.shape[1]
    sizes = found.content[:, 2], found.donor[:, 2]
    low, high = (1 / times for times in reversed(DRAWN_OUT))
    mask = ((high - least_stretch(places, sizes[1] / sizes[0])) / (high - low)).clamp(0, 1)[:, None]
    # Slopes are those of single pixels: a doubt is spread to its surroundings before it is softened.
    mask = F.max_pool2d(mask, 3, 1, 1)
    axis = torch.arange(size, dtype=torch.float32, device=places.device)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(1, -1, 2)
    soft = (_SOFT * sizes[0].float()).clamp_min(1)[:, None]
    for opening in openings:
        index = list(opening.outline)
        torn = _torn(found, content, donors)[:, index].amax(dim=1).float()
        lacks = lacking(opening, content, donors, sizes)
        whole = found.known[:, index].all(dim=1)  # else nobody knows where it is
        rows = torch.nonzero((lacks | (torn > _PARTED * sizes[1])) & whole).view(-1)
        if not len(rows):
            continue
        distance = outline_distance(grid.expand(len(rows), -1, -1), content[rows][:, index].float())
        # Past the outline by as much as what lies between parted lips reaches, in px of the content.
        reach = torch.where(torn > _PARTED * sizes[1], torn * (sizes[0] / sizes[1]).float(), 0.0)[rows, None]
        inside = soft_inside(distance - reach - soft[rows] / 2, soft[rows])
        mask[rows] = torch.maximum(mask[rows], inside.view(-1, 1, size, size))
    mask = F.avg_pool2d(F.pad(mask, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return mask * found.ok[:, None, None, None]


def _torn(found: Bend, content: Tensor, donors: Tensor) -> Tensor:
    """(B, P) px of the donor by which each landmark comes to lie beside its place; 0 where it is unknown."""
    miss = donor_places(found, torch.nan_to_num(content.double())) - torch.nan_to_num(donors.double())
    return torch.where(found.known, miss.norm(dim=-1), 0.0)
