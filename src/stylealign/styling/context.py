"""The style arm `context`: the face stays, and what surrounds it (hair, ears, clothes, background) is the donor's."""

import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.batches.pixels import has_face, per_face, restyled, shift_logits, soft_inside
from stylealign.styling.alignment import donor_places, hull_distance, take


def face_tone(image: Tensor, face: Tensor) -> Tensor:
    """(B, 3, 1, 1) logits of the mean colour of (B, 3, S, S) where `face` (B, 1, S, S) says."""
    mean = (image * face).sum(dim=(2, 3), keepdim=True) / face.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    return torch.logit(((mean + 1) / 2).clamp(0.02, 0.98))


def context(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Put each face before its donor's hair and background.

    The donor is bent so that its landmarks lie on the content's: its own face then lies under the content's, and its
    hair where hair belongs. Kept is the hull of the content's landmarks with a forehead, widened by up to 3 % of the
    crop, with a soft edge. The width differs from face to face, because a rim that is always as wide would tell a
    detector where the labelled outline is.

    Draws: the width kept, the softness of its edge, and whether the donor takes on the tone of the content's face (half
    of the faces), so that neck and face fit together. A strength below 1 mixes the two pictures outside. The crop of a
    donor without landmarks is used as it lies; a face without landmarks of its own is left alone.
    """
    size = content.image.shape[-1]
    d = draws.to(content.image)
    places, aligned = donor_places(content.landmarks, donors.landmarks, size)
    behind = take(donors.image, places)
    distance = hull_distance(content.landmarks, size)
    distance = torch.where(has_face(content.landmarks)[:, None, None, None], distance, 0.0)
    inside = soft_inside(distance + 0.03 * size, 0.04 * size)
    tone = (face_tone(content.image, inside) - face_tone(behind, inside)).clamp(-1.5, 1.5)
    fit = per_face((d[:, 2] < 0.5) & aligned, tone)
    behind = shift_logits(behind, tone * fit)
    width = 0.03 * d[:, 0]
    edge = torch.minimum(
        0.01 + 0.04 * d[:, 1], 2 * width + 0.02
    )  # so that inside the outline nothing of the donor shines through
    keep = soft_inside(distance - per_face(width * size, d), per_face(edge * size, d))
    mixed = content.image + (1 - keep) * per_face(strength, d) * (behind - content.image)
    return restyled(content, mixed, (strength.to(d.device) > 0) & has_face(content.landmarks))
