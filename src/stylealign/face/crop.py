"""The crop contract: how a face is cut from its picture. Stored with every model.

Knows no tensors, so that it can be read without torch.
"""

from dataclasses import dataclass
from typing import Literal

SIZES = (8, 4096)
"""The least and the most side of a crop, px."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CropConfig:
    """How a face is cut from its picture. Stored with every model: results of different crops are not comparable."""

    size: int = 128
    """Side of the square network input in pixels."""
    scale: float = 1.4
    """Side of the square over the longer side of the box."""
    box: Literal["landmarks", "given"] = "landmarks"
    """`landmarks`: the tight box round the labels (optimistic: a detector's is worse). `given`: the data set's box."""

    def __post_init__(self) -> None:
        if not (SIZES[0] <= self.size <= SIZES[1] and self.scale > 0):
            raise ValueError(
                f"crop of size {self.size} and scale {self.scale}: expected a size of at least {SIZES[0]} and at most "
                f"{SIZES[1]}, and a scale above 0"
            )

    def describe(self) -> str:
        """One line for tables."""
        return (
            f"square of {self.scale:g} x the {'landmark' if self.box == 'landmarks' else 'given'} box, {self.size} px"
        )
