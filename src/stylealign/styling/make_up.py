"""The style arm `make_up`: colours on lips, lids and cheeks. It is made for a mark-up, whose curves it paints along."""

import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.batches.pixels import known_points, per_face, restyled, shift_logits, soft_inside
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.styling.alignment import hull_distance
from stylealign.styling.arm import Arm

_NEEDED = ("outer_upper_lip", "outer_lower_lip", "left_eye_top", "right_eye_top")


def make_up(schema: LandmarkSchema) -> Arm:
    """The arm for faces of this mark-up; what it does is said at `paint` below.

    Raises:
        UserError: a mark-up without curves of the lips and the upper lids.
    """
    if lacking := [name for name in _NEEDED if name not in schema.boundaries]:
        raise UserError(f"schema {schema.name}: has no curve {lacking[0]}, which the arm make_up needs")
    curves = {name: list(points) for name, points in schema.boundaries.items()}
    lips = sorted({*curves["outer_upper_lip"], *curves["outer_lower_lip"]})
    inner = sorted({i for name in ("inner_upper_lip", "inner_lower_lip") for i in curves.get(name, [])})
    lids = (curves["left_eye_top"], curves["right_eye_top"])
    # The eyeball itself stays as it is, where the mark-up says where it ends.
    eyes = [sorted({*curves[f"{side}_eye_top"], *curves.get(f"{side}_eye_bottom", [])}) for side in ("left", "right")]
    corners = (curves["outer_upper_lip"][0], curves["outer_upper_lip"][-1])

    def paint(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        """Shift the colours of lips, lids and cheeks by up to 1.5, 1.5 and 0.7 logits. Looks at no donor.

        The shading under a colour stays. Edges lie a little off the labelled curves, by another distance for each face,
        or a detector would learn to look for paint. Faces with an unlabelled point in these curves are left alone.
        """
        size, points = content.image.shape[-1], content.landmarks
        d = draws.to(content.image)
        known = known_points(points)[:, sorted({*lips, *inner, *eyes[0], *eyes[1]})].all(dim=1)
        points = torch.where(known[:, None, None], points, 0.0)
        soft, off = per_face((0.01 + 0.02 * d[:, 0]) * size, d), per_face((0.02 * d[:, 1] - 0.01) * size, d)
        mouth = soft_inside(hull_distance(points[:, lips], size, forehead=0) + off, soft)
        if len(inner) > 2:
            mouth = mouth * (1 - soft_inside(hull_distance(points[:, inner], size, forehead=0) + off, soft))
        span = (points[:, lids[0]].mean(dim=1) - points[:, lids[1]].mean(dim=1)).norm(dim=1)
        axis = torch.arange(size, dtype=d.dtype, device=d.device)
        lid, cheek = torch.zeros_like(mouth), torch.zeros_like(mouth)
        for side, curve in enumerate(lids):
            along = points[:, curve[-1]] - points[:, curve[0]]
            up = torch.stack([along[:, 1], -along[:, 0]], dim=1)
            up = up * torch.where(up[:, 1:] > 0, -1.0, 1.0)  # whichever way the curve runs, up is up
            rise = (0.25 + 0.25 * d[:, 2])[:, None, None] * up[:, None]
            middle = points[:, curve].mean(dim=1, keepdim=True)
            arch = middle + 0.85 * (points[:, curve] - middle) + rise
            area = hull_distance(torch.cat([points[:, curve], arch], dim=1), size, forehead=0)
            area = soft_inside(area, 2 * soft)
            ball = soft_inside(hull_distance(points[:, eyes[side]], size, forehead=0) + off, soft)
            area = area * (1 - ball)
            lid = torch.maximum(lid, area)
            outer = curve[0] if side == 0 else curve[-1]
            centre = 0.5 * (points[:, outer] + points[:, corners[side]])
            away = (axis - centre[..., None]).square()  # (B, 2, S)
            width = (0.22 * span).clamp(min=1.0).square()[:, None, None]
            cheek = cheek + torch.exp(-0.5 * (away[:, 0, None, :] + away[:, 1, :, None]) / width)[:, None]
        shift = torch.zeros_like(content.image)
        for area, most, colour in ((mouth, 1.5, d[:, 3:6]), (lid, 1.5, d[:, 6:9]), (cheek, 0.7, d[:, 9:12])):
            shift = shift + area * per_face(most * (2 * colour - 1), d)
        image = shift_logits(content.image, shift * per_face(strength, d))
        return restyled(content, image, (strength.to(d.device) > 0) & known)

    return paint
