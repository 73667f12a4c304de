"""imglab, dlib's labelling tool: an .xml of images, each with boxes and the parts in them.

    <dataset><name>faces</name><comment/><images>
      <image file='a.jpg' width='60' height='40'>
        <box top='2' left='1' width='40' height='29'><label>face</label>
          <part name='00' x='10' y='20'/>...

A box with parts is a face; a part that is not there is missing, boxes with `ignore` are passed over. dlib counts pixels
from 0, in whole numbers. Ours stand beside them in attributes that dlib does not look at, and count as long as the
whole ones are their rounded selves: `exact`, `hidden` of a part, `flags` of a box.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.declared_size import Size
from stylealign.data.formats.entry import BadEntry, split_called, split_of
from stylealign.data.formats.named_points import Found, ToolFace
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.placing import PictureFinder
from stylealign.data.formats.sniff import IMGLAB
from stylealign.data.formats.tool_files import ToolFiles, ToolReader, each_file
from stylealign.data.formats.writing import (
    Pictures,
    WriteOptions,
    box_of,
    by_picture,
    by_split,
    landmarks_of,
    padded_names_of,
)
from stylealign.data.image import image_size
from stylealign.data.xml_elements import Element, read_elements, tag_text, text_element
from stylealign.errors import plain_number
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

_FLAGS = ("difficult", "occluded", "truncated")
_SPLIT = "split: "
_LAST_DECIMAL = 1e-4  # of `exact`
FILES = ToolFiles(IMGLAB, ".xml", "imglab file in it, expected an .xml with <dataset>", deep=False)


def _numbers(element: Element, names: Sequence[str]) -> np.ndarray | str:
    """The values of an element's attributes, or what is wrong with one."""
    values = np.empty(len(names))
    for i, name in enumerate(names):
        try:
            values[i] = plain_number(element.get(name) or "")
        except ValueError:
            return f"{name} of <{element.tag}> is {str(element.get(name))[:40]!r}, expected a number"
    return values


def _exact(element: Element, whole: Sequence[float], middles: Sequence[float]) -> Sequence[float]:
    """The numbers of `exact` where each may have been rounded to the whole one beside it; else those, moved since.

    `middles`: of what is rounded to a whole number, that minus the number.
    """
    words = element.attributes.get("exact", "").split()
    if len(words) != len(whole):
        return whole
    try:
        values = list(map(float, words))
    except ValueError:
        return whole
    for value, rounded, middle in zip(values, whole, middles, strict=True):
        if not abs(value - rounded - middle) <= 0.5 + _LAST_DECIMAL:  # NaN is not either
            return whole
    return values


def _points(parts: list[Element], path: Path) -> np.ndarray | BadEntry:
    """(n, 2) px of parts, or what is wrong with the first that has no place."""
    points: list[Sequence[float]] = []
    for part in parts:
        try:
            xy = plain_number(part.attributes["x"]), plain_number(part.attributes["y"])
        except (KeyError, ValueError):
            return BadEntry(f"{path}:{part.line}", str(_numbers(part, ("x", "y"))))
        points.append(_exact(part, xy, (0, 0)))  # rounded to the nearest
    return np.array(points).reshape(-1, 2)


def _face(box: Element, path: Path, name: str, written: str, image: Path, split: str, declared: Size | None) -> Found:
    where = f"{path}:{box.line}"
    place = _numbers(box, ("left", "top", "width", "height"))
    if isinstance(place, str):
        return BadEntry(where, place)
    parts = [child for child in box.children if child.tag == "part"]
    points = _points(parts, path)
    if isinstance(points, BadEntry):
        return points
    flags = dict.fromkeys((word for word in (box.get("flags") or "").split(";") if word), True)
    flags |= {flag: True for flag in _FLAGS if box.get(flag) in ("1", "true")}
    corners = (place[0], place[1], place[0] + place[2] - 1, place[1] + place[3] - 1)
    return ToolFace(
        where=where, written=written, number=box.line, image=image, name=name, split=split, declared=declared,
        points=points,
        names=tuple([part.attributes.get("name", "") for part in parts]),
        box=np.array(_exact(box, corners, (0.5, 0.5, -0.5, -0.5))),  # rounded outwards
        hidden=np.array([part.attributes.get("hidden") == "1" for part in parts]), attributes=flags,
    )  # fmt: skip


def _picture(name: str, path: Path, pictures: PictureFinder) -> Path:
    """The path of a picture; dlib writes names as bytes and says that they are Latin-1, whatever they are."""
    found = pictures.of(name, path.parent)
    if not found.exists() and not name.isascii():
        try:
            other = pictures.of(name.encode("latin-1").decode(), path.parent, written=name)
        except (UnicodeEncodeError, UnicodeDecodeError):
            return found
        return other if other.exists() else found
    return found


def _faces(path: Path, source: Path, pictures: PictureFinder, notes: Notes) -> Iterator[Found]:
    split = split_of(path.stem)
    for element in read_elements(path, "dataset", ("image", "comment")):
        if element.tag == "comment":
            words = element.words()
            split = split_called(words.removeprefix(_SPLIT)) if words.startswith(_SPLIT) else split
            continue
        where, name = f"{path}:{element.line}", element.get("file")
        if not name:
            yield BadEntry(where, "an image without a file")
            continue
        sides = _numbers(element, ("width", "height"))
        declared = None if isinstance(sides, str) or not ((sides >= 1) & (sides < 1e9)).all() else sides
        image = _picture(name, path, pictures)
        boxes = [child for child in element.children if child.tag == "box"]
        if not boxes:
            notes.add("images without a box passed over", where)
        for box in boxes:
            if box.get("ignore") in ("1", "true"):
                notes.add("boxes to be ignored passed over", f"{path}:{box.line}")
            elif not any(child.tag == "part" for child in box.children):
                notes.add("boxes without parts passed over", f"{path}:{box.line}")
            else:
                size = None if declared is None else (int(declared[0]), int(declared[1]))
                yield _face(box, path, pictures.name_of(image), name, image, split, size)


READER = ToolReader(FILES, each_file(FILES, _faces))


# --------------------------------------------------------------------------------------------------------------------
# Writing


def _whole(value: float) -> int:
    return math.floor(value + 0.5)


def _box_text(face: FaceSample, names: Sequence[str]) -> str:
    x0, y0, x1, y1 = box_of(face)
    left, top, right, bottom = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
    parts = [text_element("label", "face")]
    for i, (x, y) in enumerate(landmarks_of(face)):
        if not face.missing_points[i]:
            hidden = face.visible is not None and not face.visible[i]
            parts.append(tag_text("part", {
                "name": names[i], "x": _whole(x), "y": _whole(y), "exact": f"{x:.4f} {y:.4f}",
                "hidden": 1 if hidden else None,
            }))  # fmt: skip
    flags = [re.sub(";", ",", name) for name, on in face.attributes.items() if on]
    head = {
        "top": top, "left": left, "width": right - left + 1, "height": bottom - top + 1,
        "exact": f"{x0:.4f} {y0:.4f} {x1:.4f} {y1:.4f}", "flags": ";".join(flags) or None,
    }  # fmt: skip
    return tag_text("box", head, "".join(f"\n      {part}" for part in parts) + "\n    ")


def save(path: Path, pictures: Iterable[tuple[str, list[FaceSample]]], schema: LandmarkSchema, split: str) -> None:
    """Write one .xml of (an image's name seen from it, its faces)."""
    names = padded_names_of(schema)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write("<?xml version='1.0' encoding='UTF-8'?>\n<dataset>\n")
        file.write(f"{text_element('name', schema.name)}\n{text_element('comment', _SPLIT + split)}\n<images>\n")
        for name, faces in pictures:
            width, height = image_size(faces[0].image)
            boxes = "".join(f"\n    {_box_text(face, names)}" for face in faces)
            file.write(f"  {tag_text('image', {'file': name, 'width': width, 'height': height}, boxes)}\n")
        file.write("</images>\n</dataset>\n")


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write images/ and <split>.xml a split."""
    pictures = Pictures(folder / "images", dataset, options)
    for split, samples in by_split(dataset):
        named = ((f"images/{pictures.name_of(image)}", faces) for image, faces in by_picture(samples))
        save(folder / f"{split}.xml", named, dataset.schema, split)


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write predictions_imglab.xml, which leads to the pictures where they are."""
    start = os.path.abspath(folder)
    named = ((Path(os.path.relpath(os.path.abspath(image), start)).as_posix(), own) for image, own in by_picture(faces))
    save(folder / "predictions_imglab.xml", named, schema, "predicted")
