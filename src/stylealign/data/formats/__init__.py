"""Published layouts -> FaceSample. One file a format; each is a generator `read(source, options)` of faces and bad entries."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import aflw, coco, cofw, csv, folder, format1, ibug, stylealign_list, wflw
from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, schema_of_count
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema, get_schema

__all__ = ["READERS", "BadEntry", "Entry", "ReadOptions", "Reader", "schema_of"]


class Reader(NamedTuple):
    """A format."""

    read: Callable[[Path, ReadOptions], Iterator[Entry]]
    """Yields every face of a source, or what is wrong with it."""
    schema: str | Callable[[Path], int] | None
    """The mark-up the format has; or counts a source's points, which tells it; None: the source cannot tell."""
    summary: str
    """One line for people."""


READERS: dict[str, Reader] = {
    "wflw": Reader(wflw.read, "wflw98", "WFLW: list files with 207 or 197 fields, six subsets"),
    "ibug": Reader(ibug.read, "ibug68", "300-W and others: a .pts file beside each image"),
    "cofw": Reader(cofw.read, "cofw29", "COFW: pictures and points in .mat files, either version"),
    "aflw": Reader(aflw.read, "aflw19", "AFLW with 19 points: AFLWinfo_release.mat"),
    "coco": Reader(coco.read, coco.count_points, "COCO key-point JSON"),
    "csv": Reader(csv.read, csv.count_points, "CSV: image,x0,y0,x1,y1,..."),
    "list": Reader(
        stylealign_list.read, stylealign_list.count_points, "the original stylealign's list: x1 y1 ... xL yL filename"
    ),
    "folder": Reader(folder.read, None, "a folder of pictures without landmarks"),
    "dataset": Reader(format1.read, None, "a dataset folder of ours, to merge, convert or copy"),
}


def schema_of(reader: str, source: Path, named: str | None) -> LandmarkSchema | None:
    """The mark-up of a source: as named, else the format's own, else by counting; None for pictures without landmarks."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if reader == "dataset":
        schema = FaceDataset.open(source).schema
        if named is not None and get_schema(named) != schema:
            raise UserError(
                f"{source}: its landmarks are {schema.name}, found schema {named}; use --convert to change mark-ups"
            )
        return schema
    if named is not None:
        return get_schema(named)
    own = READERS[reader].schema
    return (
        None if own is None else get_schema(own) if isinstance(own, str) else schema_of_count(own(source), str(source))
    )
