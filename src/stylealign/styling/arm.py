"""What a style arm is: (faces, donors of style) -> the same faces in another look.

An arm is a plain function. It gets a batch of upright crops and as many donors, row i the donor of face i, and
answers a batch in which only `image` differs (`visible` where it lays something over a landmark). `restyle` (chain.py)
calls it, on the fly in training and in `generate` alike. Rules that tests hold every arm to:

- Landmarks are the content's, untouched, and the picture still shows the face there; those that a bent donor lacks are
  NaN, for nobody knows whether it does.
- `strength` 0 gives the content's picture back; 1 is the arm at its fullest.
- Row i of the answer is a function of row i of the arguments alone: a batch equals its faces one by one.
- All randomness comes from `draws`, so that a seed means the same on every device. An arm that needs more than
  NUM_DRAWS numbers (a field of noise) makes a CPU generator for each face with `face_generator`.
- The arguments are not changed in place.
"""

from typing import Protocol

from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.batches.pixels import face_generator as face_generator  # arms take it from here

NUM_DRAWS = 16
"""Columns of `draws`."""


class Arm(Protocol):
    """A way of restyling faces."""

    def __call__(self, content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        """Restyle a batch.

        Args:
            content: (B, 3, S, S) images in [-1, 1], their landmarks in px of the crop (NaN where unlabelled).
            donors: B faces of the same size, cut by the same protocol; their landmarks are NaN where nobody knows
                them, and an arm that needs them then answers that face unchanged.
            strength: (B,) in [0, 1].
            draws: (B, NUM_DRAWS) uniform in [0, 1), float64, on the CPU.

        Returns:
            `content` with another `image`.
        """
