"""labelme: a .json file a picture, with a shape of kind `point` a landmark, named by its label.

    {"version": "5.5.0", "flags": {}, "imagePath": "a.jpg", "imageHeight": 40, "imageWidth": 60, "imageData": null,
     "shapes": [{"label": "nose", "points": [[31.5, 20.25]], "group_id": 1, "shape_type": "point", "flags": {}}]}

Points with one `group_id` are one face; points without are one face together. A point whose flags say `hidden`,
`occluded` or `invisible` is hidden, one that is not there is missing. A shape of kind `rectangle` is the box of the
face of its group, without a group that of a face that lies in it; its flags are the face's attributes beside those of
the picture. The path in `imagePath` is seen from the .json file. Coordinates are kept as they stand, the split is in
the folder's name or in a `split` of the file.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stylealign.config import read_json
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.declared_size import Size
from stylealign.data.formats.entry import BadEntry, split_called, split_of
from stylealign.data.formats.face_boxes import box_round
from stylealign.data.formats.hidden import HIDDEN, says_hidden
from stylealign.data.formats.named_points import Found, ToolFace
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.placing import PictureFinder
from stylealign.data.formats.sniff import LABELME
from stylealign.data.formats.tool_files import ToolFiles, ToolReader, each_file
from stylealign.data.formats.writing import (
    Pictures,
    WriteOptions,
    as_shown,
    box_of,
    by_picture,
    by_split,
    file_below,
    names_of,
)
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

VERSION = "5.5.0"
_BOX, _NO_GROUP = "face", "None"
_NUMBERS = (int, float)  # what JSON's numbers become; no bool
FILES = ToolFiles(LABELME, ".json", "labelme file in it or below it, expected .json files with `shapes`")


def _size(content: Mapping[str, Any]) -> Size | None:
    sides = content.get("imageWidth"), content.get("imageHeight")
    width, height = (side if isinstance(side, int) and not isinstance(side, bool) else 0 for side in sides)
    return (width, height) if width > 0 and height > 0 else None


def _flags(flags: Any) -> dict[str, bool]:
    return {str(k): v for k, v in flags.items() if isinstance(v, bool)} if isinstance(flags, dict) else {}


def _hidden(flags: Mapping[str, bool]) -> bool | None:
    """Whether a point's flags say that it is; None: they do not say."""
    said = [on for name, on in flags.items() if says_hidden(name)]
    return any(said) if said else None


def _pair(points: Any) -> list[float] | None:
    """The one pair of numbers in a shape's `points`; None: something else is."""
    pair = points[0] if type(points) is list and len(points) == 1 else None
    is_pair = type(pair) is list and len(pair) == 2 and type(pair[0]) in _NUMBERS and type(pair[1]) in _NUMBERS
    return pair if is_pair else None


def _numbers(shape: Mapping[str, Any], count: int) -> np.ndarray | None:
    """(count, 2) float64 points of a shape, or None where they are no numbers."""
    try:
        points = np.array(shape.get("points"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return points if points.shape == (count, 2) else None


class _Box(NamedTuple):
    """A rectangle."""

    corners: np.ndarray
    """(4,) x0 y0 x1 y1"""
    label: str
    flags: dict[str, bool]


class _Group:
    """The shapes of one face, or all that have no group."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.points: list[list[float]] = []
        self.hidden: list[bool] = []
        self.says_hidden = False
        self.boxes: list[_Box] = []

    def add(self, shape: Mapping[str, Any], path: Path, number: int, notes: Notes) -> str | None:
        """Take a shape, the file's so-manieth; what is wrong with it."""
        kind = shape.get("shape_type") or "polygon"
        points = shape.get("points")
        if kind == "point" or (kind == "polygon" and isinstance(points, list) and len(points) == 1):
            pair = _pair(points)
            if pair is None:
                return f"points are {str(points)[:60]}, expected one pair of numbers"
            flags = _flags(shape.get("flags"))
            hidden = _hidden(flags) if flags else None
            for flag in (name for name, on in flags.items() if on and not says_hidden(name)):
                notes.add(f"flags {flag[:40]!r} of points passed over, expected {HIDDEN[0]}", _shape_at(path, number))
            self.names.append(str(shape.get("label")))
            self.points.append(pair)
            self.hidden.append(hidden is True)
            self.says_hidden |= hidden is not None
        elif kind == "rectangle":
            numbers = _numbers(shape, 2)
            if numbers is None:
                return f"points are {str(points)[:60]}, expected two corners"
            if self.boxes and shape.get("group_id") is not None:
                notes.add("rectangles beside the first of a face passed over", _shape_at(path, number))
            else:
                corners = np.concatenate([numbers.min(axis=0), numbers.max(axis=0)])
                self.boxes.append(_Box(corners, str(shape.get("label")), _flags(shape.get("flags"))))
        else:
            notes.add(f"shapes of kind {str(kind)[:40]!r} passed over, expected points", _shape_at(path, number))
        return None


def _with_boxes(groups: dict[str, _Group], path: Path, notes: Notes) -> list[tuple[_Group, _Box | None]]:
    """The groups that have points, each with the box of its group or, where it has none, a lone one that it lies in."""
    faces, lone = list[tuple[_Group, _Box | None]](), list[_Box]()
    for name, group in groups.items():
        own = group.boxes[0] if group.boxes and group.names and name != _NO_GROUP else None
        if group.names:
            faces.append((group, own))
        if own is None:
            lone += group.boxes
    for number, (face, box) in enumerate(faces):
        if box is None:
            points = np.array(face.points, dtype=np.float64).reshape(-1, 2)
            chosen = box_round(points, [each.corners for each in lone], [each.label for each in lone])
            faces[number] = face, None if chosen is None else lone.pop(chosen)
    for left in lone:
        notes.add(f"rectangles {left.label[:40]!r} without points passed over", str(path))
    return faces


def _shape_at(path: Path, number: int) -> str:
    return f"{path}: shapes[{number}]"


def _faces(path: Path, source: Path, pictures: PictureFinder, notes: Notes) -> Iterator[Found]:
    try:
        content = read_json(path)
    except UserError as error:
        yield BadEntry(str(path), str(error).removeprefix(f"{path}: "))
        return
    if not isinstance(content, Mapping) or not isinstance(content.get("shapes"), list):
        yield BadEntry(str(path), "expected a labelme file with a list `shapes`")
        return
    name = content.get("imagePath")
    if not isinstance(name, str):
        yield BadEntry(str(path), f"imagePath is {str(name)[:60]}, expected a picture's path")
        return
    groups: dict[str, _Group] = {}
    for number, shape in enumerate(content["shapes"]):
        wrong: str | None = "expected a shape with label and points"
        if isinstance(shape, dict):
            group_id = str(shape.get("group_id"))
            if group_id not in groups:
                groups[group_id] = _Group()
            wrong = groups[group_id].add(shape, path, number, notes)
        if wrong:
            yield BadEntry(_shape_at(path, number), wrong)
            return
    image, split = pictures.of(name, path.parent), content.get("split")
    below = path.relative_to(source).parent.as_posix() if path != source else ""
    faces = _with_boxes(groups, path, notes)
    if not faces:
        notes.add("labelme files without a point passed over", str(path))
    for number, (group, box) in enumerate(faces):
        yield ToolFace(
            where=str(path), number=number, image=image, name=pictures.name_of(image), written=name,
            names=tuple(group.names),
            points=np.array(group.points, dtype=np.float64).reshape(-1, 2),
            hidden=np.array(group.hidden) if group.says_hidden else None,
            box=None if box is None else box.corners, declared=_size(content),
            attributes=_flags(content.get("flags")) | ({} if box is None else box.flags),
            split=split_called(str(split)) if split else split_of(below),
        )  # fmt: skip


READER = ToolReader(FILES, each_file(FILES, _faces), upright=True)


def _shape(label: str, kind: str, points: list, group: int | None, flags: Mapping[str, bool]) -> dict[str, Any]:
    return {
        "label": label, "points": points, "group_id": group, "description": "", "shape_type": kind,
        "flags": dict(flags), "mask": None,
    }  # fmt: skip


def content_of(faces: list[FaceSample], image: str, schema: LandmarkSchema) -> dict[str, Any]:
    """The JSON content of a picture's faces; `image` is its path, seen from the file."""
    names, shapes = names_of(schema), []
    (width, height), faces = as_shown(faces)
    for number, face in enumerate(faces):
        assert face.landmarks is not None
        corners = box_of(face)
        alone = len(faces) == 1 and box_round(face.landmarks[~face.missing_points], [corners], [""]) is not None
        group = None if alone else number
        x0, y0, x1, y1 = (round(float(v), 4) for v in corners)
        shapes.append(_shape(_BOX, "rectangle", [[x0, y0], [x1, y1]], group, face.attributes))
        for i, (x, y) in enumerate(face.landmarks.tolist()):
            if not face.missing_points[i]:
                flags = {} if face.visible is None else {HIDDEN[0]: not face.visible[i]}
                shapes.append(_shape(names[i], "point", [[round(x, 4), round(y, 4)]], group, flags))
    return {
        "version": VERSION, "flags": {}, "shapes": shapes, "imagePath": image, "imageData": None,
        "imageHeight": height, "imageWidth": width,
    }  # fmt: skip


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write <split>/<picture>.json beside its picture; labelme opens the folder of a split."""
    pictures = Pictures(folder, dataset, options)
    for split, samples in by_split(dataset):
        for image, faces in by_picture(samples):
            path = folder / pictures.name_of(image, within=split)
            content = content_of(faces, path.name, dataset.schema)
            if split_of(path.relative_to(folder).parent.as_posix()) != split:  # test/a.png of split train
                content["split"] = split
            _save(path.with_suffix(".json"), content)


def _save(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, default=bool), encoding="utf-8")


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write labelme/<picture>.json a picture, which leads to the picture where it is."""
    for image, own in by_picture(faces):
        path = file_below(folder / "labelme", image.as_posix(), ".json")
        relative = os.path.relpath(os.path.abspath(image), os.path.abspath(path.parent))
        _save(path, content_of(own, Path(relative).as_posix(), schema))
