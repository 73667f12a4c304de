"""What style arms and augmentations share: one face's numbers as planes, masks and their edges, what a cover hides.

Everything is batched, computed face by face, and safe where landmarks are NaN. Coordinates are (x, y) px of the crop.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.batch import Batch

MIN_POINTS = 3
"""Known landmarks from which on it can be said where the face is."""


def known_points(landmarks: Tensor) -> Tensor:
    """(B, P) bool: which of (B, P, 2) landmarks are numbers."""
    return torch.isfinite(landmarks).all(dim=-1)


def has_face(landmarks: Tensor) -> Tensor:
    """(B,) bool: whether enough landmarks are known to say where the face is."""
    return known_points(landmarks).sum(dim=1) >= MIN_POINTS


def face_boxes(landmarks: Tensor, size: int) -> Tensor:
    """(B, 4) x0, y0, x1, y1 round the known landmarks; the middle 60 % of the crop for faces without any."""
    known = known_points(landmarks)[..., None]
    low = torch.where(known, landmarks, math.inf).amin(dim=1)
    high = torch.where(known, landmarks, -math.inf).amax(dim=1)
    boxes = torch.cat([low, high], dim=1)
    guess = torch.tensor([0.2, 0.2, 0.8, 0.8], dtype=boxes.dtype, device=boxes.device) * (size - 1)
    return torch.where(has_face(landmarks)[:, None], boxes, guess)


def soft_inside(distance: Tensor, softness: Tensor | float) -> Tensor:
    """A mask of a signed distance (negative inside): 1 inside, 0 outside, its edge at least one pixel wide.

    Args:
        distance: px.
        softness: width of the edge, px.
    """
    t = (0.5 - distance / torch.as_tensor(softness, dtype=distance.dtype, device=distance.device).clamp(min=1.0)).clamp(
        0, 1
    )
    return t * t * (3 - 2 * t)


def uncovered(content: Batch, alpha: Tensor) -> Tensor:
    """Which landmarks can still be seen under something laid over the face: (B, P) bool.

    Those of `content.visible` where `alpha` (B, 1, S, S), how much of the picture it hides, is at most a half.
    """
    size = alpha.shape[-1]
    places = torch.where(known_points(content.landmarks)[..., None], content.landmarks, -2.0 * size)
    grid = ((places + 0.5) * (2 / size) - 1)[:, :, None]
    cover = F.grid_sample(alpha, grid.to(alpha.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
    return content.visible & (cover[:, 0, :, 0] <= 0.5)


def take(image: Tensor, places: Tensor, padding: str = "reflection", mode: str = "bilinear") -> Tensor:
    """(B, C, S, S) pixels of `image` (B, C, H, W) at `places` (B, S, S, 2) px."""
    height, width = image.shape[-2:]
    unit = torch.tensor([2 / width, 2 / height], dtype=places.dtype, device=places.device)
    return F.grid_sample(
        image.contiguous(), (places + 0.5) * unit - 1, mode=mode, padding_mode=padding, align_corners=False
    )


def per_face(values: Tensor, like: Tensor) -> Tensor:
    """(B,) or (B, C) numbers as (B, C, 1, 1) of the dtype and device of `like`."""
    return values.to(like).reshape(len(values), -1, 1, 1)


def restyled(content: Batch, image: Tensor, changed: Tensor, visible: Tensor | None = None) -> Batch:
    """The answer of an arm: `content` with another image, clamped, where `changed` (B,) holds, and as it was elsewhere.

    `visible` (B, P) is taken for the same faces; None leaves it as it was.
    """
    changed = changed.to(image.device)
    picture = torch.where(changed[:, None, None, None], image.clamp(-1, 1), content.image)
    answer = content._replace(image=picture.contiguous(memory_format=torch.channels_last))
    if visible is None:
        return answer
    return answer._replace(visible=torch.where(changed[:, None], visible, content.visible))


def shown_of(donors: Batch, answer: Batch, shown: Tensor) -> Batch:
    """An arm's answer, in whose faces of the rows `shown` (B,) a bent donor is seen: what lies over its landmarks lies
    over the face's, and where one of its landmarks is not known, the picture does not show the face's in its place,
    which is no label then (NaN). No arm uncovers what was hidden."""
    shown = shown.to(answer.visible.device)[:, None]
    lost = (shown & ~known_points(donors.landmarks))[..., None]
    landmarks = answer.landmarks.masked_fill(lost, math.nan)
    return answer._replace(landmarks=landmarks, visible=answer.visible & ~(shown & ~donors.visible))


def face_generator(draw: Tensor) -> torch.Generator:
    """A CPU generator for one face, seeded by one of its draws (a scalar in [0, 1))."""
    return torch.Generator().manual_seed(int(float(draw) * 2**53))


def shift_logits(image: Tensor, shift: Tensor) -> Tensor:
    """Multiply the odds of every colour by exp(shift): logit(p') = logit(p) + shift; exactly 0 and 1 stay."""
    gain = shift.exp()
    p = image.add(1).mul_(0.5).clamp_(0, 1)
    return (gain * p / (1 + (gain - 1) * p)).mul_(2).sub_(1)
