"""What `calibrate` is told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrate:
    """Measure how a detector's NME changes with the scale and shift of face boxes, and print the curve and the safe
    range; or with the roll of the faces; or calibrate how sure it is of each point."""

    data: Path
    """Dataset folder with true landmarks."""
    out: Path
    """Folder to make."""
    model: Path | None = None
    """Run folder of a finished detector (but for trust also an .onnx file); not given: the one that came with the
    package."""
    what: Literal["boxes", "rolls", "trust"] = "boxes"
    """`rolls`: turn the faces, and their boxes with them, and count those answered in a wrong turn. `trust`: make what
    the detector says of how sure it is of each point true, on faces it has not learnt from; the folder made is the same
    model with that in its card. Training does so by itself where it has a `val` split."""
    split: str = "val"
    """Its split."""
    subset: str | None = None
    """Only faces with this attribute."""
    scales: tuple[float, ...] = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.6)
    """Sizes of the box, times the true one."""
    shifts: tuple[float, ...] = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.3)
    """Shifts of the box, in shares of its longer side; each to the left, right, up and down."""
    rolls: tuple[float, ...] = (0.0, 15.0, 30.0, 45.0, 60.0, 90.0, 135.0, 180.0)
    """Degrees by which faces are turned, every second one the other way round."""
    rotate: Literal["0", "auto"] = "0"
    """Of rolls, as in predict: auto turns faces that the detector's answers call askew. A detector that has learnt
    every roll turns them anyway."""
    growth: float = 0.05
    """NME may grow by this share within the safe range."""
    refine: int = 0
    """Rounds of cutting again, as in predict."""
    faces: int = 0
    """Take so many faces, evenly spread; 0: all."""
    batch_size: int = 64
    """Crops at a time."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        if any(s <= 0 for s in self.scales) or any(s <= 0 for s in self.shifts) or not (self.scales or self.shifts):
            raise ValueError(f"scales {self.scales} and shifts {self.shifts}: expected numbers above 0, at least one")
        if len(set(self.shifts)) < len(self.shifts):
            raise ValueError(f"shifts {self.shifts}: one is given twice, expected each once")
        if not self.rolls or not all(-180 <= roll <= 180 for roll in self.rolls):
            raise ValueError(f"rolls {self.rolls}: expected degrees of -180 to 180, at least one")
        if self.growth <= 0 or min(self.refine, self.faces) < 0 or self.batch_size < 1:
            raise ValueError(
                f"growth {self.growth}, refine {self.refine}, faces {self.faces}, batch_size {self.batch_size}: "
                "expected above 0, 0 or more, 0 or more, at least 1"
            )
