"""Style arms of light: the donor's broad light and colour on the face (`relight`), and drawn shadows (`shadow`).

Both multiply the odds of a colour, p / (1 - p) with p in [0, 1]: in the dark that is a gain, as light is, and towards
white it levels off as film does, so that nothing is clipped and no detail is lost. No pixel moves. They do not ask
which landmark is which.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment import lights
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
    """Cast a soft-edged shadow over each face, as the augmentation of that name does. Looks at no donor."""
    return lights.shadow(content, strength, draws)
