"""Boxes that the user gives, on the command line or in a file -> the boxes of a picture.

They are meant as landmark boxes (tight round brows, chin and cheeks), in px of the picture as stored, like all that
is written.

CSV         a header with image,x0,y0,x1,y1 (any order, other columns are passed over); a line a face
JSON        {"image.jpg": [[x0, y0, x1, y1], ...], ...}, or a list of {"image": ..., "box_xyxy": [...]}
JSON lines  an object a line with `image` (or `id`) and `box_xyxy`: our own predictions.jsonl is one

A picture whose list is empty is known to show no face. A picture is named by the path given to `predict`, or by the
end of it (the longest counts), if that is no other picture's. A file's suffix tells the layout; a pipe, as a shell's
`<(command)`, has none, and its text does.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from stylealign.config import parse_json, read_json, read_text
from stylealign.errors import UserError, counted, plain_number, quoted
from stylealign.face.geometry import landmark_box
from stylealign.face.sample import FaceSample

_COLUMNS = ("x0", "y0", "x1", "y1")


def checked_box(values: object, where: str) -> np.ndarray:
    """(4,) float64 x0, y0, x1, y1 with an area. Raises UserError saying where."""
    try:
        box = np.array([plain_number(v) for v in values], dtype=np.float64)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{where}: found {values!r}, expected a box of four numbers x0, y0, x1, y1") from None
    if box.shape != (4,) or not np.isfinite(box).all():
        raise UserError(f"{where}: found {values!r}, expected a box of four numbers x0, y0, x1, y1")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise UserError(
            f"{where}: box {_text(box)} has no area; expected x0 < x1 and y0 < y1 (corners, not width and height)"
        )
    return box


def _text(box: np.ndarray) -> str:
    return "(" + ", ".join(f"{v:g}" for v in box) + ")"


def refuse_outside(box: np.ndarray, width: int, height: int, where: str) -> None:
    """Raise UserError for a box whose centre is outside of its picture."""
    x, y = (box[:2] + box[2:]) / 2
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5) or not math.isfinite(x + y):
        raise UserError(f"{where}: box {_text(box)} lies outside of the picture of {width} x {height} pixels")


_Rows = Iterator[tuple[str, object, str]]
"""(picture's name, box as it stands there, where) a box; [] for a picture without one"""


def _csv_rows(lines: Iterable[str], path: Path) -> _Rows:
    reader = csv.DictReader(lines)
    names = [n.strip().lower().removeprefix("box_") for n in reader.fieldnames or []]
    if "image" not in names or not set(_COLUMNS) <= set(names):
        raise UserError(f"{path}: the header is {','.join(names)!r}, expected columns image,x0,y0,x1,y1")
    if "x2" in names:
        raise UserError(f"{path}: columns of landmarks (x2 among them), expected boxes: image,x0,y0,x1,y1")
    reader.fieldnames = names
    for row in reader:
        yield row["image"] or "", [row[c] for c in _COLUMNS], f"{path}:{reader.line_num}"


def _object_row(record: object, where: str) -> tuple[str, object, str]:
    if isinstance(record, dict):
        name, box = record.get("image", record.get("id")), record.get("box_xyxy", record.get("box"))
        if isinstance(name, str) and box is not None:
            return name, box, where
    raise UserError(f'{where}: expected {{"image": "...", "box_xyxy": [x0, y0, x1, y1]}}')


def _line_rows(lines: Iterable[str], path: Path) -> _Rows:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _object_row(parse_json(line, f"{path}:{number}"), f"{path}:{number}")


def _json_rows(content: Any, path: Path) -> _Rows:
    if isinstance(content, dict):
        for name, boxes in content.items():
            if not isinstance(boxes, list):
                raise UserError(f"{path}: {name}: found {boxes!r}, expected a list of boxes")
            for box in boxes if boxes and isinstance(boxes[0], list) else [boxes]:
                if boxes and box == []:
                    raise UserError(f"{path}: {name}: found {boxes!r}, expected a list of boxes")
                yield name, box, f"{path}: {name}"
    elif isinstance(content, list):
        for i, record in enumerate(content):
            yield _object_row(record, f"{path}: entry {i}")
    else:
        raise UserError(f"{path}: found {type(content).__name__}, expected an object or a list")


def _pipe_rows(path: Path) -> _Rows:
    text = read_text(path)
    if not text.lstrip().startswith(("{", "[")):
        return _csv_rows(io.StringIO(text, newline=""), path)
    first, _, _ = text.strip().partition("\n")
    try:
        a_line_each = bool({"box_xyxy", "box"} & parse_json(first, str(path)).keys())
    except (UserError, AttributeError):  # the first line is a part of JSON, or a list
        a_line_each = False
    return _line_rows(text.splitlines(), path) if a_line_each else _json_rows(parse_json(text, str(path), True), path)


def _rows(path: Path) -> _Rows:
    """The boxes of a file, whose name tells the layout, or of a pipe."""
    suffix = path.suffix.lower()
    if path.is_fifo():
        yield from _pipe_rows(path)
    elif suffix == ".csv":
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _csv_rows(file, path)
    elif suffix in (".jsonl", ".ndjson"):
        with path.open(encoding="utf-8-sig") as file:
            yield from _line_rows(file, path)
    elif suffix == ".json":
        yield from _json_rows(read_json(path), path)
    else:
        raise UserError(f"{path}: boxes in a {suffix or 'nameless'} file; expected .csv, .json or .jsonl")


class GivenBoxes(Protocol):
    """Where the boxes of a picture come from."""

    def of(self, name: str) -> list[np.ndarray]:
        """The (4,) boxes of the picture of that name; none where it is said to show no face. Raises UserError where
        nothing is said of it."""
        ...


class SameBoxes:
    """The same boxes for every picture: those of --box."""

    def __init__(self, boxes: Sequence[Sequence[float]]):
        self._boxes = [checked_box(box, f"--box, face {i + 1}") for i, box in enumerate(boxes)]

    def of(self, name: str) -> list[np.ndarray]:
        return self._boxes


class BoxFile:
    """The boxes of a file, asked for by picture.

    `pictures`: the names of all that will be asked for, so that a box which the ends of several of them fit is refused
    to each but the one that is named in full.
    """

    def __init__(self, path: Path, pictures: Iterable[str] = ()):
        if not path.is_file() and not path.is_fifo():
            raise UserError(f"{path}: no such file of boxes")
        self.path = path
        self._boxes: dict[str, list[np.ndarray]] = {}
        self._by_file: dict[str, set[str]] = {}
        try:
            for name, values, where in _rows(path):
                name = name.replace("\\", "/").removeprefix("./")
                known = self._boxes.setdefault(name, [])
                if values != []:
                    known.append(checked_box(values, where))
                self._by_file.setdefault(PurePosixPath(name).name, set()).add(name)
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path}: not a text file that can be read ({error})") from None

        self._askers: dict[str, set[str]] = {}
        for name in pictures:
            name = name.removeprefix("./")
            if len(fits := self._fitting(name)) == 1:
                self._askers.setdefault(fits[0], set()).add(name)

    def _fitting(self, name: str) -> list[str]:
        """The names in the file that fit a picture's: itself, or those with the longest end in common that is all of
        the one or of the other."""
        if name in self._boxes:
            return [name]
        rooted = f"/{name.lstrip('/')}"
        fits: dict[str, int] = {}
        for known in self._by_file.get(PurePosixPath(name).name, ()):
            other = f"/{known.lstrip('/')}"
            if rooted.endswith(other) or other.endswith(rooted):
                fits[known] = min(len(rooted), len(other))
        longest = max(fits.values(), default=0)
        return sorted(known for known, length in fits.items() if length == longest)

    def of(self, name: str) -> list[np.ndarray]:
        """The boxes of a picture. Raises UserError where it is not named, where several names of the file fit it, or
        where the one that does fits other pictures too."""
        name = name.removeprefix("./")
        fits = self._fitting(name)
        if len(fits) != 1:
            several = f"boxes under {counted(len(fits), 'fitting name')} ({', '.join(fits[:3])})"
            raise UserError(f"{name}: {several if fits else 'no box'} in {self.path}")
        others = sorted(self._askers.get(fits[0], set()) - {name})
        if others and fits[0] != name:
            more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
            raise UserError(
                f"{name}: {fits[0]!r} in {self.path} fits {quoted(others[:3])}{more} too; expected names that tell "
                "the pictures apart"
            )
        return self._boxes[fits[0]]


def write_boxes(path: Path, faces: Sequence[FaceSample]) -> None:
    """A file of boxes for `predict --boxes`: the boxes of the landmarks of these faces."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["image", "x0", "y0", "x1", "y1"])
        for face in faces:
            assert face.landmarks is not None
            box = landmark_box(face.landmarks[~face.missing_points])
            table.writerow([str(face.image.absolute()), *(f"{v:.2f}" for v in np.asarray(box, dtype=np.float64))])
