"""Job: a dataset folder -> a published layout, so that other people's trainers can use our faces. Our readers read all of them back.

wflw   WFLW_images/, WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_<split>.txt (207 fields)
ibug   <split>/<face>.pts beside its image, counted from 1; splits/<split>.txt
coco   annotations/<split>.json, images/
list   <split>.txt in the original stylealign's form, images/
csv    <split>.csv with image,x0,y0,...; images/
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stylealign.data.atomic import refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import coco, csv, ibug, stylealign_list, wflw
from stylealign.data.formats.writing import WriteOptions
from stylealign.errors import UserError
from stylealign.progress import say

Format = Literal["wflw", "ibug", "coco", "list", "csv"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportDataset:
    """Write a dataset's labelled faces in a published layout."""

    data: Path
    """The dataset folder."""
    format: Format
    """wflw (98 points), ibug (.pts), coco (key-point JSON), list (the original stylealign's), csv."""
    out: Path
    """The folder to make."""
    split: str | None = None
    """Write this split only."""
    subset: str | None = None
    """Write this subset only."""
    images: Literal["copy", "link"] = "copy"
    """Copy the pictures, or make symbolic links to them."""
    frame: int | None = None
    """`list` only: write coordinates of a square frame of this side, as the original's 384, instead of pixels of the picture."""

    def __post_init__(self) -> None:
        if self.frame is not None and (self.format != "list" or self.frame < 1):
            raise ValueError(
                f"frame {self.frame} with format {self.format}: expected a side in pixels, and format list"
            )


WRITERS: dict[str, Callable[[FaceDataset, Path, WriteOptions], None]] = {
    "wflw": wflw.write,
    "ibug": ibug.write,
    "coco": coco.write,
    "list": stylealign_list.write,
    "csv": csv.write,
}


def main(config: ExportDataset) -> None:
    """Write the layout; the folder appears when it is whole."""
    refuse_existing(config.out)
    whole = FaceDataset.open(config.data)
    chosen = whole.select(split=config.split, subset=config.subset, labelled=True)
    schema = chosen.schema
    if config.format == "wflw" and schema.num_points != 98:
        raise UserError(
            f"{config.data}: {schema.num_points} landmarks of {schema.name}, expected the 98 that WFLW lists hold"
        )
    with whole_folder(config.out) as partial:
        WRITERS[config.format](chosen, partial, WriteOptions(images=config.images, frame=config.frame))
    left = len(whole) - len(chosen)
    say(
        f"wrote {len(chosen):,} faces to {config.out}"
        + (f" ({left:,} others left out: unlabelled or not of that split and subset)" if left else "")
    )
