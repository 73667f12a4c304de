"""CVAT for images 1.1: an .xml of images, each with the shapes drawn in it.

    <annotations><version>1.1</version>
      <meta><task><labels><label><name>nose</name><type>points</type><parent>face</parent></label>...
      <image id="0" name="a.jpg" width="60" height="40">
        <skeleton label="face" group_id="1"><points label="nose" points="31.50,20.25" outside="0" occluded="1"/>...
        <points label="nose" points="31.50,20.25" occluded="0"/>          a landmark a shape, named by its label
        <points label="face" points="31.50,20.25;33.00,21.00;..."/>      or all of a face in one, in order
        <box label="face" xtl="1" ytl="2" xbr="40" ybr="30" group_id="1"/>

A skeleton is a face, and so is a shape of several points; single points are one face a `group_id`, or all of the image.
`occluded` is hidden; `outside` or not there is missing. A box is that of the face of its group, or that it lies round.
Attributes of the skeleton or box that are true or false are the face's. Coordinates are kept as they stand.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stylealign.data.formats.entry import BadEntry, folder_of, split_called, split_of
from stylealign.data.formats.face_boxes import box_round, turned_box
from stylealign.data.formats.face_labels import face_labels
from stylealign.data.formats.named_points import Found, ToolFace
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.placing import PictureFinder
from stylealign.data.formats.sniff import CVAT, KINDS, kind_of
from stylealign.data.formats.tool_files import Opened, ToolFiles, ToolReader
from stylealign.data.xml_elements import Element, read_elements
from stylealign.errors import UserError, plain_number, quoted

_PASSED = ("attribute",)
FILES = ToolFiles(CVAT, ".xml", "CVAT file in it or below it, expected an .xml with <annotations>")


def _files(source: Path) -> list[Path]:
    if video := next((path for path in FILES.candidates(source) if kind_of(path) == "cvat-video"), None):
        raise UserError(f"{video}: a CVAT file of a video, expected one of images: {KINDS['cvat-video'].advice}")
    return FILES.of(source)


# --------------------------------------------------------------------------------------------------------------------
# Shapes of an image


class _Shapes(NamedTuple):
    """What is drawn in one image."""

    whole: list[tuple[Element, list[Element]]]
    """Skeletons and shapes of several points, with their points"""
    single: dict[str, list[Element]]
    """Points of their own, by group"""
    boxes: list[Element]


def _number(text: str | None) -> float | None:
    try:
        return plain_number(text or "")
    except ValueError:
        return None


def _read_points(parts: list[Element]) -> tuple[np.ndarray, list[int]] | Element:
    """(n, 2) px of all elements' `points` and how many each has; or the first that holds something else."""
    texts = [part.attributes.get("points", "") for part in parts]
    counts = [text.count(";") + 1 for text in texts]
    if all(text.count(",") == count and "_" not in text for text, count in zip(texts, counts, strict=True)):
        try:
            values = np.array(";".join(texts).replace(",", ";").split(";") if texts else [], dtype=np.float64)
        except ValueError:
            pass
        else:
            return values.reshape(-1, 2), counts
    for part, text in zip(parts, texts, strict=True):
        pairs = [pair.split(",") for pair in text.split(";")]
        if not all(len(pair) == 2 and all(_number(value) is not None for value in pair) for pair in pairs):
            return part
    return parts[0]


def _sorted_shapes(image: Element, where: str, notes: Notes) -> _Shapes:
    shapes = _Shapes([], {}, [])
    for child in image.children:
        if child.tag == "skeleton":
            shapes.whole.append((child, [part for part in child.children if part.tag == "points"]))
        elif child.tag == "points" and ";" in (child.get("points") or ""):
            shapes.whole.append((child, [child]))
        elif child.tag == "points":
            shapes.single.setdefault(child.get("group_id") or "0", []).append(child)
        elif child.tag == "box":
            shapes.boxes.append(child)
        elif child.tag not in _PASSED:
            notes.add(f"shapes of kind {child.tag[:40]!r} passed over, expected points or skeletons", where)
    return shapes


def _box(element: Element) -> np.ndarray | None:
    """(4,) x0 y0 x1 y1 round a box, which may be turned about its middle; None where they are no numbers."""
    corners = [_number(element.get(side)) for side in ("xtl", "ytl", "xbr", "ybr")]
    turn = _number(element.get("rotation") or "0")
    if turn is None or any(value is None for value in corners):
        return None
    found = np.array(corners, dtype=np.float64)
    if not turn:
        return found
    return turned_box(found, turn, (found[:2] + found[2:]) / 2)


class _Box(NamedTuple):
    element: Element
    corners: np.ndarray | None
    """(4,) px; None where they are no numbers"""

    @property
    def group(self) -> str:
        return self.element.get("group_id") or "0"


def _box_of(boxes: list[_Box], group: str, points: np.ndarray) -> _Box | None:
    """The box of a face: of its group, else one without a group that its points' middle lies in."""
    if group != "0" and (own := next((box for box in boxes if box.group == group), None)):
        return own
    free = [box for box in boxes if box.group == "0"]
    chosen = box_round(points, [box.corners for box in free], [box.element.get("label") or "" for box in free])
    return None if chosen is None else free[chosen]


def _attributes(*elements: Element | None) -> dict[str, bool]:
    found = {}
    for element in elements:
        for child in element.children if element is not None else ():
            if child.tag != "attribute":
                continue
            name, value = child.get("name"), child.words().lower()
            if name and value in ("true", "false"):
                found[name] = value == "true"
    return found


def _true(element: Element, name: str) -> bool:
    return element.attributes.get(name, "0") in ("1", "true", "True")


class _Group(NamedTuple):
    shape: Element
    """The skeleton or first point"""
    parts: list[Element]
    group: str


def _groups(shapes: _Shapes) -> list[_Group]:
    whole = [_Group(shape, parts, shape.get("group_id") or "0") for shape, parts in shapes.whole]
    return whole + [_Group(parts[0], parts, group) for group, parts in shapes.single.items()]


def _image_faces(image: Element, path: Path, labels: set[str], common: dict[str, Any], notes: Notes) -> Iterator[Found]:
    """The faces of an image; of skeletons and shapes of several points only those with one of the labels, if any."""
    shapes = _sorted_shapes(image, f"{path}:{image.line}", notes)
    groups: list[_Group] = []
    for one in _groups(shapes):
        label = one.shape.get("label") or ""
        if labels and label not in labels and (one.shape, one.parts) in shapes.whole:
            notes.add(f"shapes of the label {label[:40]!r} passed over", f"{path}:{one.shape.line}")
        else:
            groups.append(one)
    boxes, used = [_Box(element, _box(element)) for element in shapes.boxes], set()
    for shape, parts, group in groups:
        where = f"{path}:{shape.line}"
        there = [part for part in parts if not _true(part, "outside")]
        read = _read_points(there)
        if isinstance(read, Element):
            yield BadEntry(
                f"{path}:{read.line}", f"points are {str(read.get('points'))[:60]!r}, expected numbers x,y;x,y"
            )
            continue
        points, counts = read
        box, corners = _box_of(boxes, group, points) or (None, None)
        if box is not None:
            used.add(id(box))
            if corners is None:
                yield BadEntry(f"{path}:{box.line}", "a box without numbers xtl, ytl, xbr, ybr")
                continue
        repeated = [part for part, count in zip(there, counts, strict=True) for _ in range(count)]
        yield ToolFace(
            where=where, number=shape.line, names=tuple(part.get("label") or "" for part in repeated), points=points,
            hidden=np.array([_true(part, "occluded") for part in repeated], dtype=bool), box=corners,
            attributes=_attributes(box, shape if shape.tag == "skeleton" else None), **common,
        )  # fmt: skip
    for box in shapes.boxes:
        if id(box) not in used:
            notes.add("boxes without points passed over", f"{path}:{box.line}")
    if not groups:
        notes.add("images without a face passed over", f"{path}:{image.line}")


# --------------------------------------------------------------------------------------------------------------------
# Files


class _Labels:
    """The labels that a file's <meta> declares."""

    def __init__(self) -> None:
        self.parts: dict[str, list[str]] = {}
        """Points of each skeleton, in order"""
        self.others: list[str] = []

    def add(self, meta: Element) -> None:
        """Take those of a <meta>, at whatever level they are, after those of files before."""
        todo = [meta]
        while todo:
            element = todo.pop()
            todo += reversed(element.children)
            name, parent = element.child("name"), element.child("parent")
            if element.tag == "label" and name is not None:
                known = self.others if parent is None else self.parts.setdefault(parent.words(), [])
                if name.words() not in known:
                    known.append(name.words())

    def order(self, names: set[str], drawn: set[str]) -> list[str]:
        """The declared names of points, in order: of a skeleton that is drawn, else of the labels of single points."""
        for skeleton, parts in self.parts.items():
            if skeleton in drawn and names <= set(parts):
                return parts
        return [name for name in self.others if name in names]


def _size(image: Element) -> tuple[int, int] | None:
    sides = [_number(image.get(side)) for side in ("width", "height")]
    if any(side is None or not 1 <= side <= 1e9 for side in sides):
        return None
    return int(sides[0] or 0), int(sides[1] or 0)


def _whole_labels(images: Iterable[Element]) -> set[str]:
    return {
        child.get("label") or ""
        for image in images
        for child in image.children
        if child.tag == "skeleton" or (child.tag == "points" and ";" in (child.get("points") or ""))
    }


def _read(path: Path, labels: _Labels, notes: Notes) -> list[Element]:
    """The images of a file, whose declared labels `labels` takes."""
    images: list[Element] = []
    for element in read_elements(path, "annotations", ("meta", "image", "version", "track")):
        if element.tag == "meta":
            labels.add(element)
        elif element.tag == "image":
            images.append(element)
        elif element.tag == "track":
            raise UserError(f"{path}:{element.line}: a track of a video, expected images: {KINDS['cvat-video'].advice}")
        elif element.words() not in ("1.0", "1.1"):
            notes.add(f"files of version {element.words()[:20]!r}, read as if 1.1", str(path))
    return images


def _chosen(drawn: set[str], labels: _Labels, source: Path) -> set[str]:
    """Of the labels of shapes of several points those that are faces; empty: nothing tells them apart.

    A skeleton that is declared and drawn nowhere counts as well: hands alone are no faces where faces were asked for.
    """
    known = drawn | labels.parts.keys()
    chosen = face_labels(known) if drawn and len(known) > 1 else set()
    if chosen and not chosen & drawn:
        raise UserError(
            f"{source}: shapes of the label {quoted(sorted(drawn))} alone are drawn, expected some of "
            f"{quoted(sorted(chosen))}, which it declares too"
        )
    return chosen


def _file_faces(
    path: Path, images: list[Element], source: Path, chosen: set[str], pictures: PictureFinder, notes: Notes
) -> Iterator[Found]:
    below = path.relative_to(source).with_suffix("").as_posix() if path != source else path.stem
    for image in images:
        name = image.get("name")
        if not name:
            yield BadEntry(f"{path}:{image.line}", "an image without a name")
            continue
        subset = image.get("subset") or ""
        is_folder = subset not in ("", ".", "..") and not set(subset) & set("/\\\0")
        folders = (path.parent / "images" / subset,) if is_folder else ()
        picture = pictures.of(name, path.parent, *folders, path.parent / "images")
        common = {
            "image": picture, "name": pictures.name_of(picture), "written": name, "declared": _size(image),
            "split": split_called(subset) if subset else split_of(below),
        }  # fmt: skip
        yield from _image_faces(image, path, chosen, common, notes)


def _opened(source: Path, notes: Notes, images: Path | None) -> Opened:
    """All that a source says; the labels of every file count for all."""
    root, labels = images or folder_of(source), _Labels()
    pictures = PictureFinder(root, notes)
    files = [(path, _read(path, labels, notes)) for path in _files(source)]
    drawn = _whole_labels(image for _, listed in files for image in listed)
    chosen = _chosen(drawn, labels, source)
    faces: list[Found] = []
    for path, listed in files:
        faces += _file_faces(path, listed, source, chosen, pictures, notes)
    names = {name for face in faces if isinstance(face, ToolFace) for name in face.names}
    return Opened(pictures.refused(faces), root, labels.order(names, chosen & drawn or drawn))


READER = ToolReader(FILES, _opened, upright=True)
