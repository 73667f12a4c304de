"""Formats of annotated faces: each is a file here, which reads and perhaps writes it, and an entry of `FORMATS`.

An entry says all that others ask of a format: `prepare --reader`, `export-dataset --format`, `predict --formats` and
`init` take names, needs and flags from here, and so do their error texts and the contract test of all formats.
Nothing else lists formats.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import (
    aflw,
    coco,
    coco_file,
    cofw,
    csv,
    cvat,
    cvat_writing,
    face_synthetics,
    folder,
    format1,
    ibug,
    imglab,
    label_studio,
    label_studio_writing,
    labelme,
    lapa,
    merl_rav,
    stylealign_list,
    w300_lp,
    wflw,
)
from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, folder_of, schema_of_count
from stylealign.data.formats.sniff import KINDS, in_words, kinds_in
from stylealign.data.formats.tool_files import ToolReader
from stylealign.data.formats.writing import WriteOptions
from stylealign.errors import UserError, counted, quoted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema, get_schema

__all__ = [
    "FORMATS",
    "BadEntry",
    "Entry",
    "Format",
    "Predicted",
    "ReadOptions",
    "WriteOptions",
    "format_of",
    "schema_of",
]


class Predicted(NamedTuple):
    """How `predict --formats` writes faces it found, whose pictures stay where they are."""

    name: str
    """Of the choice"""
    write: Callable[[Path, Iterable[FaceSample], LandmarkSchema], None]
    """(folder, faces, their mark-up) -> writes a file or files into the folder. A face's `image` is the picture's
    name as given to `predict`, its `id` that name with `@frame` and `#number` where there are several faces of it"""
    num_points: int | None = None
    """Landmarks that a face must have; None: any number"""
    frames: bool = False
    """Whether it can name a frame of a video, which is no picture file"""


class Format(NamedTuple):
    """What reads a format, what writes it, and what others have to know of it."""

    summary: str
    """One plain line: what it is"""
    source: str
    """What `prepare --path` names, in words"""
    read: Callable[[Path, ReadOptions], Iterator[Entry]]
    """(source, options) -> every face of the source, or what is wrong with one"""
    schema: str | Callable[[Path], LandmarkSchema] | None = None
    """The mark-up its faces have unless the user names another; or what reads the mark-up that a source itself holds"""
    count_points: Callable[[Path], int] | None = None
    """Counts a source's landmarks a face, which tells the mark-up where `schema` does not; neither: the user must"""
    recognise: Callable[[Path], bool] | None = None
    """Whether a path looks like this format, which `format_of` asks; such an entry needs `count_points`"""
    point_names: Callable[[Path], Sequence[str]] | None = None
    """What a source calls its points, in the order in which they are read; empty: they are not named"""
    flags: tuple[str, ...] = ()
    """Flags of `prepare` that not every format has: `images`, `frame`, `point_names`"""
    image_root: Callable[[Path], Path] = folder_of
    """source -> a folder that holds all its pictures"""
    holds_pictures: bool = False
    """Whether pictures are inside its files, so that they have to be extracted into the data set"""
    write: Callable[[FaceDataset, Path, WriteOptions], None] | None = None
    """(labelled faces, folder, options) -> writes them into the empty folder, for `read` to find; None: only read"""
    writes: str = ""
    """What `write` makes, in words"""
    num_points: int | None = None
    """Landmarks that a face must have to be written; None: any number"""
    keeps: tuple[str, ...] = ()
    """Fields of FaceSample that are read back as they were written, besides landmarks and split"""
    rounding: float = 0.01
    """How far a landmark may move when it is written and read back, px"""
    predicted: Predicted | None = None
    """How `predict --formats` writes it; None: it does not"""


def _tool(
    summary: str,
    source: str,
    reader: ToolReader,
    write: Callable[[FaceDataset, Path, WriteOptions], None],
    writes: str,
    predicted: Predicted,
) -> Format:
    """A labelling tool's format: its points have names, and it tells what is hidden, attributes and boxes."""
    return Format(
        summary, source, reader.read, count_points=reader.count_points, recognise=reader.recognise,
        point_names=reader.point_names, flags=("images", "point_names"), write=write, writes=writes,
        keeps=("visible", "attributes", "box_xyxy"), predicted=predicted,
    )  # fmt: skip


FORMATS: dict[str, Format] = {
    "wflw": Format(
        "WFLW: list files with 207 or 197 fields, six subsets",
        "the folder that holds WFLW_images and WFLW_annotations, or one list file",
        wflw.read, schema="wflw98", flags=("images",), image_root=wflw.image_root,
        write=wflw.write, writes="WFLW_images/ and a list of 207 fields a split, for faces of 98 points",
        num_points=98, keeps=("attributes", "box_xyxy"),
        predicted=Predicted("wflw", wflw.write_predicted, num_points=98),
    ),
    "cofw": Format(
        "COFW: pictures and points in .mat files, either version",
        "a .mat file, or the folder of both",
        cofw.read, schema="cofw29", holds_pictures=True,
    ),
    "aflw": Format(
        "AFLW with 19 points: AFLWinfo_release.mat",
        "AFLWinfo_release.mat, or its folder",
        aflw.read, schema="aflw19", flags=("images",),
    ),
    "merl-rav": Format(
        "MERL-RAV: .pts files whose signs tell what is hidden",
        "the folder merl_rav_organized, or another with its .pts beside the pictures",
        merl_rav.read, schema="ibug68",
    ),
    "lapa": Format(
        "LaPa: a text file of 106 points a picture",
        "the folder with train/, val/ and test/, or one of them",
        lapa.read, schema="lapa106",
    ),
    "face-synthetics": Format(
        "Microsoft's FaceSynthetics: *_ldmks.txt of 70 points",
        "a folder with the pictures and their *_ldmks.txt, at any depth",
        face_synthetics.read, schema="synthetics70",
    ),
    "300w-lp": Format(
        "300W-LP and AFLW2000-3D: a .mat beside each picture",
        "a folder with .mat files beside the pictures, at any depth",
        w300_lp.read, schema="ibug68",
    ),
    "csv": Format(
        "CSV: image,x0,y0,x1,y1,...",
        "a .csv file, or a folder of them",
        csv.read, count_points=csv.count_points, recognise=csv.recognise, flags=("images",),
        write=csv.write, writes="images/ and <split>.csv with image,x0,y0,...",
        predicted=Predicted("csv", csv.write_predicted, frames=True),
    ),
    "cvat": _tool(
        "CVAT for images 1.1: .xml files",
        "a CVAT .xml file, or a folder of an export of a task or project, unpacked",
        cvat.READER, write=cvat_writing.write,
        writes="<split>/annotations.xml, its images/, and the label that a CVAT task needs",
        predicted=Predicted("cvat", cvat_writing.write_predicted),
    ),
    "labelme": _tool(
        "labelme: a .json file a picture",
        "a folder with labelme's .json files beside the pictures, at any depth, or one file",
        labelme.READER, write=labelme.write, writes="<split>/<picture>.json beside its picture",
        predicted=Predicted("labelme", labelme.write_predicted),
    ),
    "label-studio": _tool(
        "Label Studio: a .json list of tasks",
        "a Label Studio export (JSON), or a folder with one and the pictures",
        label_studio.READER,
        write=label_studio_writing.write, writes="tasks/<split>.json, images/, and the configuration of a project",
        predicted=Predicted("label-studio", label_studio_writing.write_predicted),
    ),
    "imglab": _tool(
        "imglab, dlib's tool: .xml files",
        "an imglab .xml file, or a folder of them",
        imglab.READER,
        write=imglab.write, writes="images/ and <split>.xml, in whole pixels for dlib and exactly beside them",
        predicted=Predicted("imglab", imglab.write_predicted),
    ),
    "coco": Format(
        "COCO key-point JSON, also as Roboflow and CVAT write it",
        "a COCO .json file, a folder of them, or a root with train/, valid/, test/",
        coco.read, count_points=coco.count_points, recognise=coco.recognise, point_names=coco.point_names,
        flags=("images", "point_names"), image_root=coco_file.root_of,
        write=coco.write, writes="images/ and annotations/<split>.json",
        keeps=("visible", "attributes", "box_xyxy", "id"), predicted=Predicted("coco", coco.write_predicted),
    ),
    "ibug": Format(
        "300-W and others: a .pts file beside each image",
        "a folder with .pts files beside the pictures, at any depth",
        ibug.read, schema="ibug68", count_points=ibug.count_points, recognise=ibug.recognise,
        write=ibug.write, writes="<split>/<face>.pts beside its picture, counted from 1, and splits/<split>.txt",
        predicted=Predicted("pts", ibug.write_predicted),
    ),
    "list": Format(
        "the original stylealign's list: x1 y1 ... xL yL filename",
        "a .txt list, or a folder of them",
        stylealign_list.read, count_points=stylealign_list.count_points, flags=("images", "frame"),
        write=stylealign_list.write, writes="images/ and <split>.txt in the original stylealign's form",
    ),
    "folder": Format(
        "a folder of pictures without landmarks",
        "a folder with pictures, at any depth",
        folder.read,
    ),
    "dataset": Format(
        "a dataset folder of ours, to merge, convert or copy",
        "a dataset folder",
        format1.read, schema=format1.schema, image_root=format1.image_root,
    ),
}  # fmt: skip


def having(what: str) -> list[str]:
    """The names of the formats whose entry has a field set, such as `write`, in the table's order."""
    return [name for name, entry in FORMATS.items() if getattr(entry, what)]


def taking(flag: str) -> list[str]:
    """The names of the formats that have a flag which not all have, such as `frame`."""
    return [name for name, entry in FORMATS.items() if flag in entry.flags]


def predicted() -> dict[str, Predicted]:
    """The choices of `predict --formats` by their names."""
    return {entry.predicted.name: entry.predicted for entry in FORMATS.values() if entry.predicted is not None}


def listed(words: Mapping[str, str]) -> str:
    """Names and what is said of each, a line each, for help texts."""
    return "\n".join(f"{name}: {text}" for name, text in words.items())


def check_name(key: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, with a suggestion, for a name that is not a known one; `key` is the flag it came by."""
    known = list(known)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise ValueError(
            f"{key}: found {name!r}, expected one of {quoted(known)}"
            + (f"; did you mean '{close[0]}'?" if close else "")
        )


def format_of(path: Path) -> str:
    """The name of the one format that a source looks like.

    Raises UserError where it looks like none, and says what lies there; or like several, with what to do.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    tried = {name: FORMATS[name] for name in having("recognise")}
    found = [name for name, entry in tried.items() if entry.recognise is not None and entry.recognise(path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{path}: looks like {counted(len(found), 'format')} at once, {' and '.join(found)}{_lying_in(path)}; "
            "expected one: give a folder, or the file, of one of them"
        )
    raise UserError(
        f"{path}: found no annotation{_lying_in(path)}; expected landmarks in one of the formats {', '.join(tried)} "
        "(`stylealign prepare --help` says what each looks like; --reader folder takes pictures without landmarks)"
    )


def _lying_in(path: Path, known: bool = True) -> str:
    """The annotation files of a folder, in words that follow another; those that no reader takes with what to do."""
    words = []
    for kind, files in kinds_in(path).items():
        advice = KINDS[kind].advice
        if known or advice:
            words.append(in_words(kind, files) + (f" ({advice})" if advice else ""))
    return f": {'; '.join(words)}" if words else ""


def _refuse_another(name: str, source: Path) -> None:
    """Raise UserError where a source does not look like the format it is to be read as, but like another."""
    entry = FORMATS[name]
    if entry.recognise is None or entry.recognise(source):
        return
    others = [other for other in having("recognise") if FORMATS[other].recognise(source)]  # type: ignore[misc]
    if others:
        raise UserError(
            f"{source}: expected {entry.source}, found that of another format{_lying_in(source)}; "
            f"--reader {' or '.join(others)} reads it"
        )


def counts_points(name: str, named: str | None) -> bool:
    """Whether nothing but the number of points tells the mark-up of a source in the format `name`."""
    entry = FORMATS[name]
    return named is None and entry.schema is None and entry.count_points is not None


def schema_of(name: str, source: Path, named: str | None) -> LandmarkSchema | None:
    """The mark-up of a source in the format `name`: the one the user named, else the format's own, else by counting.

    None where the source cannot tell it, such as pictures without landmarks.
    """
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    _refuse_another(name, source)
    entry = FORMATS[name]
    if callable(entry.schema):
        schema = entry.schema(source)
        if named is not None and get_schema(named) != schema:
            raise UserError(
                f"{source}: its landmarks are {schema.name}, found schema {named}; use --convert to change mark-ups"
            )
        return schema
    known = entry.schema if named is None else named
    if known is not None:
        return get_schema(known)
    return None if entry.count_points is None else schema_of_count(entry.count_points(source), str(source))
