"""What an augmentation is: (faces, strength, draws) -> the same faces, elsewhere, in another light, or half covered.

A plain function, as a style arm is, without donors. There are three kinds:

- geometric: answers a `Motion` (motion.py), what moves where; many compose into one, so that pixels are resampled once.
- photometric: answers a batch in which `image` differs. What lies where does not change.
- occluding: answers a batch in which `image` differs, and `visible` where a landmark is covered.

Rules that tests hold every one to:

- Image and landmarks agree to a tenth of a pixel.
- `strength` 0 gives the face back; 1 is the most that the entry of the table says.
- Row i of the answer is a function of row i of the arguments alone: a batch equals its faces one by one.
- All randomness comes from `draws`, on the CPU, so that a seed means the same on every device. What needs more than
  NUM_DRAWS numbers (a field of noise) makes a CPU generator for each face with `face_generator` (batches/pixels.py).
- The arguments are not changed in place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stylealign.batches.augment.motion import Motion
from stylealign.batches.batch import Batch
from stylealign.batches.pixels import face_generator

NUM_DRAWS = 16
"""Columns of `draws`."""

Move = Callable[[Batch, Tensor, Tensor], Motion]
"""(batch, strength (B,) in [0, 1], draws (B, NUM_DRAWS) float64 on the CPU) -> what moves where in the crop"""
Look = Callable[[Batch, Tensor, Tensor], Batch]
"""(batch, strength, draws) -> the batch with another `image`, and `visible`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What others have to know of an operation."""

    function: Move | Look
    """The operation itself"""
    kind: Literal["geometric", "photometric", "occluding"]
    """What it may change"""
    summary: str
    """What it does to a face, in one plain line"""
    full: str
    """What strength 1 is; smaller strengths are less of it"""


def signs(draw: Tensor) -> Tensor:
    """-1 or 1 from draws in [0, 1)."""
    return torch.where(draw < 0.5, -1.0, 1.0).to(draw.dtype)


def smooth_noise(draw: Tensor, channels: int, cells: int, size: int, like: Tensor) -> Tensor:
    """(B, channels, size, size) smooth noise in [0, 1]: random numbers on cells x cells, a seed a face."""
    coarse = torch.stack(
        [torch.rand(channels, cells, cells, generator=face_generator(seed)) for seed in draw.cpu()]
    ).to(like)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True).clamp(0, 1)
