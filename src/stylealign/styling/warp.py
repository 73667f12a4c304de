"""The style arm `warp`: a donor's photograph, bent onto the face's landmarks, in the face's place."""

import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.batches.pixels import per_face, restyled, shown_of
from stylealign.face.schema import LandmarkSchema
from stylealign.styling.arm import Arm
from stylealign.translators.warp.field import bend, of_rows
from stylealign.translators.warp.fit import ARM_SPACING, WarpConfig, faults
from stylealign.translators.warp.network import warped
from stylealign.translators.warp.openings import openings_of


def warp(schema: LandmarkSchema) -> Arm:
    """The arm for faces of a mark-up, which says where mouth and eyes are.

    A face whose landmarks are unknown, or whose donor's are, and one that the donor cannot be bent onto, is left
    alone. From a strength of 0.5 on all is the donor's; below, the two pictures are mixed. No draws.
    """
    limits, openings = WarpConfig(), openings_of(schema)

    def arm(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        found = bend(content.landmarks, donors.landmarks)
        refused = faults(found, content.landmarks, donors.landmarks, openings, limits.stretch, ARM_SPACING).refused(
            limits
        )
        strength = strength.to(content.image.device)
        rows = torch.nonzero(~refused & (strength > 0)).view(-1)
        if not len(rows):
            return content
        made, _ = warped(
            content.image[rows], content.landmarks[rows], donors.image[rows], donors.landmarks[rows], schema,
            found=of_rows(found, rows),
        )  # fmt: skip
        share = per_face((2 * strength[rows]).clamp(max=1), content.image)
        image = content.image.clone()
        image[rows] = torch.lerp(image[rows], made, share)
        answer = restyled(content, image, ~refused & (strength > 0))
        return shown_of(donors, answer, ~refused & (2 * strength >= 0.5))

    return arm
