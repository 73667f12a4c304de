"""Style arms of light: the donor's broad light and colour on the face (`relight`), and drawn shadows (`shadow`).

Both multiply the odds of a colour, p / (1 - p) with p in [0, 1]: in the dark that is a gain, as light is, and towards
white it levels off as film does, so that nothing is clipped and no detail is lost. No pixel moves. They do not ask
which landmark is which.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.batches.camera import gaussian_matrix
from stylealign.batches.pixels import per_face, restyled, shift_logits, soft_inside
from stylealign.styling.alignment import donor_places, hull_distance, take

_CELLS = 20  # the light is taken from cells of a twentieth of the crop
_MAX_SHIFT = 2.5  # in logits: a factor of 12
_MAX_TINT = 0.8  # how far a colour may leave the grey shift
_WIDE = 7.0  # cells: how the face's own light goes on beyond the face


def _low_pass(picture: Tensor, face: Tensor, narrow: Tensor, wide: Tensor) -> Tensor:
    """The mean colour (B, 3, g, g) of the face round each cell; only cells of the `face` (B, 1, g, g) count.

    Beyond the face's edge it is the mean of the face's nearest cells.
    """
    weighted = torch.cat([picture * face, face], dim=1)
    near, far = (m[:, None] @ weighted @ m[:, None].transpose(2, 3) for m in (narrow, wide))
    mixed = near + 0.05 * far
    return mixed[:, :3] / mixed[:, 3:].clamp(min=1e-6)


def relight(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Give each face the light, shadows and tint of its donor: the low-pass colour of the donor's face.

    The donor is bent so that its landmarks lie on the content's. The shift in logits from the content's low-pass
    colour to the donor's is a field of 20 x 20 cells. Only skin is compared with skin (the landmarks' hull and
    forehead), and the face's own light goes on beyond its edge, so that no seam shows. Where either face has no
    landmarks the whole crops are compared as they lie. Draws: how fine the light is (a blur of 4 to 10 % of the crop)
    and how much of its colour comes along. After the local relighting of Shih et al. (2014), "Style transfer for
    headshot portraits", with one scale and no detail transfer.
    """
    size = content.image.shape[-1]
    draws = draws.to(content.image)
    to_cells = _CELLS / size
    here, there = ((points + 0.5) * to_cells - 0.5 for points in (content.landmarks, donors.landmarks))
    own, other = (F.adaptive_avg_pool2d(b.image.contiguous(), _CELLS).add(1).mul(0.5) for b in (content, donors))
    places, aligned = donor_places(here, there, _CELLS)
    other = take(other, places, padding="border")
    face = soft_inside(hull_distance(here, _CELLS) + 0.5, 2.0)
    face = torch.where(aligned[:, None, None, None], face, 1.0)
    sigma = 0.8 + 1.2 * draws[:, 0]
    narrow, wide = gaussian_matrix(sigma, _CELLS), gaussian_matrix(torch.full_like(sigma, _WIDE), _CELLS)
    own, other = (torch.logit(_low_pass(x, face, narrow, wide).clamp(0.02, 0.98)) for x in (own, other))
    shift = (other - own).clamp(-_MAX_SHIFT, _MAX_SHIFT)
    grey = shift.mean(dim=1, keepdim=True)
    tint = (shift - grey).clamp(-_MAX_TINT, _MAX_TINT)  # a blown-out cheek must not turn scarlet
    shift = grey + per_face(0.4 + 0.6 * draws[:, 1], shift) * tint
    shift = F.interpolate(shift * per_face(strength, shift), size=(size, size), mode="bilinear")
    return restyled(content, shift_logits(content.image, shift), strength > 0)


def shadow(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Cast a soft-edged shadow over each face: of a wall's edge, of something round, or of a blind. Looks at no donor.

    Draws: which, where, how wide, how sharp its edge (1 to 15 % of the crop), how dark (0.25 to 2 logits), and its
    colour, which is bluer or warmer than the lamp's as the sky's light is. What is not in the shadow gets a little
    brighter.
    """
    size = content.image.shape[-1]
    d = draws.to(content.image)
    axis = (torch.arange(size, dtype=d.dtype, device=d.device) + 0.5) / size - 0.5  # the crop is -0.5 ... 0.5
    x, y = axis[None, None, None, :], axis[None, None, :, None]
    angle = 2 * math.pi * d[:, 1]
    cos, sin = per_face(angle.cos(), d), per_face(angle.sin(), d)
    along, aside = cos * x + sin * y, cos * y - sin * x
    edge = along - per_face(0.5 * d[:, 2] - 0.25, d)
    centre = per_face(0.7 * d[:, 2] - 0.35, d)
    radii = per_face(0.12 + 0.28 * d[:, 3], d), per_face(0.12 + 0.28 * d[:, 4], d)
    length = (((along - centre) / radii[0]).square() + (aside / radii[1]).square()).sqrt()
    ellipse = (length - 1) * (radii[0] + radii[1]) / 2
    period = per_face(0.15 + 0.25 * d[:, 3], d)
    stripe = ((along / period + per_face(d[:, 2], d)).remainder(1.0) - 0.5).abs() * period - 0.25 * period
    kind = per_face(d[:, 0], d)
    distance = torch.where(kind < 0.4, edge, torch.where(kind < 0.75, ellipse, stripe))
    soft = per_face(0.01 + 0.14 * d[:, 5].square(), d)
    soft = torch.where(kind < 0.75, soft, torch.minimum(soft, 0.5 * period))
    dark = soft_inside(distance * size, soft * size)
    depth = per_face(-0.25 - 1.75 * d[:, 6], d) * (1 + 0.2 * (2 * per_face(d[:, 7:10], d) - 1))
    shift = dark * depth + (1 - dark) * per_face(0.5 * d[:, 10], d)
    return restyled(content, shift_logits(content.image, shift * per_face(strength, d)), strength > 0)
