"""Job: a dataset folder -> a published layout, so that other people's trainers can use our faces.

`prepare` reads all of them back. The layouts themselves are in data/formats/, each beside what reads it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import FORMATS, WriteOptions, check_name, having, listed, taking
from stylealign.data.image import image_size
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.progress import say


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportDataset:
    """Write a dataset's labelled faces in a published layout."""

    data: Path
    """The dataset folder."""
    format: Annotated[
        str,
        tyro.conf.arg(
            constructor_factory=lambda: Literal[tuple(having("write"))],
            help=f"What to write.\n{listed({name: FORMATS[name].writes for name in having('write')})}",
        ),
    ]
    out: Path
    """The folder to make."""
    split: str | None = None
    """Write this split only."""
    subset: str | None = None
    """Write this subset only."""
    images: Literal["copy", "link"] = "copy"
    """Copy the pictures, or make symbolic links to them, which `prepare` reads with `--follow-links`."""
    frame: int | None = None
    """`list` only: write coordinates of a square frame of this side, as the original's 384, not of the picture."""

    def __post_init__(self) -> None:
        check_name("format", self.format, having("write"))
        if self.frame is not None and ("frame" not in FORMATS[self.format].flags or self.frame < 1):
            raise ValueError(
                f"frame {self.frame} with format {self.format}: expected a side in pixels, and format "
                + " or ".join(taking("frame"))
            )


def _refuse_other_files(dataset: FaceDataset) -> None:
    """Raise UserError for the first image that lies elsewhere than below the image root, or is no picture.

    What is exported is given away: no other file of the machine may be in it.
    """
    seen: set[Path] = set()
    for sample in dataset:  # each is refused where its image is not below the image root
        if sample.image not in seen and sample.image.exists():
            image_size(sample.image)
        seen.add(sample.image)


def _trusted_less(sample: FaceSample) -> bool:
    """Whether a labelled face, or a landmark of it that is there, counts less than a label."""
    points = sample.point_trust
    less = points is not None and bool((points[~sample.missing_points] < 1).any())
    return less or (sample.trust is not None and sample.trust < 1)


@making("out")
def main(config: ExportDataset) -> None:
    """Write the layout; the folder appears when it is whole."""
    refuse_existing(config.out)
    whole = FaceDataset.open(config.data)
    chosen = whole.select(split=config.split, subset=config.subset, labelled=True)
    entry, schema = FORMATS[config.format], chosen.schema
    assert entry.write is not None  # ExportDataset refuses the others
    if entry.num_points not in (None, schema.num_points):
        raise UserError(
            f"{config.data}: {counted(schema.num_points, 'landmark')} of {schema.name}, expected the "
            f"{entry.num_points} that format {config.format} holds"
        )
    _refuse_other_files(chosen)
    with whole_folder(config.out) as partial:
        entry.write(chosen, partial, WriteOptions(images=config.images, frame=config.frame))
    if doubted := sum(map(_trusted_less, chosen)):
        say(
            f"{counted(doubted, 'face has', 'faces have')} trust below 1, which no published layout can say: all of "
            "their landmarks are written as labels"
        )
    left = len(whole) - len(chosen)
    say(
        f"wrote {counted(len(chosen), 'face')} to {config.out}"
        + (f" ({left:,} others left out: unlabelled or not of that split and subset)" if left else "")
    )
