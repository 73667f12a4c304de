"""What every reader is given and gives: ReadOptions in, a FaceSample or a BadEntry per face out, after the same checks.

A reader never stops at a bad face: it yields a BadEntry naming file and line, and prepare.py decides whether that
ends the work. This file knows what a sane face is; it knows no format.
"""

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from stylealign.data.formats.declared_size import orientation
from stylealign.data.formats.missing import Missing, missing_in, problem_of, without
from stylealign.data.formats.notes import Notes
from stylealign.data.image import IMAGE_SUFFIXES, MAX_PIXELS, image_size, read_image
from stylealign.data.paths import outside, spelled
from stylealign.data.placed import box_problem, landmark_problem
from stylealign.errors import UserError, counted, plain_number
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """How to read a source."""

    schema: LandmarkSchema
    """The mark-up that landmarks are in; their count is checked against it."""
    split: str | None = None
    """Put every face into this split instead of the one the layout implies."""
    images: Path | None = None
    """Folder that image names are relative to; None: where the layout has them."""
    frame: int | None = None
    """`list` only: side of the square frame of the coordinates, scaled to each image's size; None: px of the image."""
    check_images: bool = True
    """Decode every image to the end, which finds those cut short; False reads headers only."""
    max_pixels: int = MAX_PIXELS
    """Refuse images with more pixels than this."""
    extract_to: Path | None = None
    """Folder for pictures that a container (`cofw`) holds."""
    point_names: tuple[str, ...] = ()
    """What the source calls each landmark, in the mark-up's order; empty: as the format can tell."""
    missing: Missing = "refuse"
    """Whether a face that lacks some of its landmarks is a bad entry, or kept with trust 0 there."""
    notes: Notes = field(default_factory=Notes)
    """Takes what readers have to say that is no fault of a face."""


@dataclass(frozen=True, slots=True)
class BadEntry:
    """One face that cannot be used, and why."""

    where: str
    """file:line (or the nearest thing the format has)."""
    message: str
    """What was found and what was expected."""
    face: str = ""
    """The id the face would have had, where that much could be read."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


Entry = FaceSample | BadEntry


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, stripped text) of every line that is not blank; LF or CRLF, with or without a byte-order mark.

    Bytes that are no UTF-8 become replacement characters, so that they end as one bad line rather than as an
    unreadable file.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if text := line.strip():
                    yield number, text
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def numbers_of(tokens: Sequence[str], what: str = "value") -> np.ndarray | str:
    """Parse tokens as (n,) float64, or say which one is no number."""
    values = np.empty(len(tokens))
    for i, token in enumerate(tokens):
        try:
            values[i] = plain_number(token)
        except ValueError:
            return f"{what} {i + 1} is {token[:40]!r}, expected a number"
    return values


def is_number(token: str) -> bool:
    """Whether a token parses as a number."""
    return not isinstance(numbers_of([token]), str)


def schema_of_count(count: int, where: str) -> LandmarkSchema:
    """The built-in mark-up with this many points (their counts all differ), or the advice to name one's own."""
    for schema in SCHEMAS.values():
        if schema.num_points == count:
            return schema
    known = ", ".join(f"{s.name} ({s.num_points})" for s in SCHEMAS.values())
    raise UserError(
        f"{where}: {counted(count, 'point')} a face is no built-in mark-up ({known}); name yours with --schema "
        "FILE.yaml"
    )


def folder_of(source: Path) -> Path:
    """The folder of a source that may be a folder or a file."""
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    return source if source.is_dir() else source.parent


def image_root(folder: Path, options: ReadOptions, *names: str) -> Path:
    """The folder that image names are relative to: as the user says, else the first of `names` in it, else `folder`."""
    return options.images or next((folder / name for name in names if (folder / name).is_dir()), folder)


def below_root(root: Path, name: str) -> Path:
    """Where a picture of a list lies: below the root, whose own name may stand before it, as `images/a.png`.

    A list made on Windows has `\\` for `/`.
    """
    path, parts = root / name, PurePath(name.replace("\\", "/"))
    others = (root / parts, root / parts.relative_to(root.name) if parts.is_relative_to(root.name) else path)
    return path if os.path.exists(path) else next((other for other in others if os.path.exists(other)), path)


def split_of(name: str) -> str:
    """The split a file or folder name speaks of: 'test' or 'val' as a word of it, otherwise 'train'.

    A number may follow the word, as in COCO's val2017.
    """
    words = "".join(c if c.isalnum() else " " for c in name.lower()).split()
    for split, names in (("test", "test|testset"), ("val", "val|valset|validation|valid")):
        if any(re.fullmatch(rf"({names})\d{{0,4}}", word) or (word, split) == ("ibug", "test") for word in words):
            return split
    return "train"


_SPLITS = {"train": ("", "train", "training", "trainset", "default"), "test": ("test", "testing", "testset"),
           "val": ("val", "valid", "validation", "valset")}  # fmt: skip


def split_called(name: str) -> str:
    """The split that a tool's own word for one means: `Validation` is val; a word of the user's stays what it is."""
    return next((split for split, words in _SPLITS.items() if name.lower() in words), name)


class Ids:
    """Gives each face its id: the image's path without suffix, and '#' and its line for further faces of that path."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def of(self, image: str, line: int) -> str:
        """The id of the face at `line` in `image` (relative path)."""
        stem = name = stem_of(image)
        while name in self._seen:  # another file of the source may have an entry of that line too
            name, line = f"{stem}#{line}", line + 1
        self._seen.add(name)
        return name

    def own(self, names: Sequence[object]) -> bool:
        """Take the ids that a file itself gives to its faces; False, and none is taken, unless each is a text and the
        id of one face alone."""
        texts = {name for name in names if isinstance(name, str) and name and is_text(name)}
        if not names or len(texts) < len(names) or texts & self._seen:
            return False
        self._seen |= texts
        return True


def stem_of(image: str) -> str:
    """An image's relative path with '/' and without its suffix."""
    image = image.replace("\\", "/").removeprefix("./")
    suffix = Path(image).suffix
    return image[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else image


@functools.lru_cache(maxsize=1 << 16)
def _inspect(path: Path, max_pixels: int, decode: bool, stamp: tuple[int, int]) -> tuple[int, int] | str:
    """(width, height) of an image or what is wrong with it; `stamp` makes a changed file a new question."""
    del stamp
    try:
        if decode:
            height, width = read_image(path, max_pixels).shape[:2]
        else:
            width, height = image_size(path)
            if width * height > max_pixels:
                return f"{path}: {width} x {height} pixels, expected at most {max_pixels:,} in all"
        return width, height
    except UserError as error:
        return str(error)


def inspect_image(path: Path, options: ReadOptions) -> tuple[int, int] | str:
    """(width, height) px of an image that can be used, or what is wrong with it. Decoded once for all its faces."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return f"no such image {path}"
    if not path.is_file():
        return f"{path} is not a file, expected an image"
    return _inspect(path, options.max_pixels, options.check_images, (stat.st_mtime_ns, stat.st_size))


def _points_of(schema: LandmarkSchema) -> str:
    return f"{schema.num_points} of {schema.name}"


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8, which bytes of a file name that are none cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def place_problem(image: Path, root: Path) -> str | None:
    """What is wrong with where an image lies, or with its name; to be asked before it is opened."""
    if not is_text(str(image)):
        return f"image {image}: its name is no UTF-8, expected one that is: rename it"
    problem = outside(image, root)
    return problem and f"image {problem}"


def turn_of(path: Path) -> int:
    """The EXIF orientation of a picture that can be read; asked once a file."""
    stat = path.stat()
    return _turn_of(path, (stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=1 << 16)
def _turn_of(path: Path, stamp: tuple[int, int]) -> int:
    del stamp
    return orientation(path)


def checked_face(
    where: str,
    options: ReadOptions,
    *,
    id: str,
    image: Path,
    root: Path,
    landmarks: np.ndarray | None = None,
    numbers: np.ndarray | None = None,
    missing: np.ndarray | None = None,
    box_xyxy: np.ndarray | None = None,
    stored: bool = False,
    **fields: Any,
) -> Entry:
    """The face, or a BadEntry naming the first thing wrong with it: its name, its image, its landmarks or its box.

    Args:
        where: file:line.
        options: what the reader was given.
        id: of the face.
        image: must lie below `root`.
        root: folder of the source's pictures.
        landmarks: (P, 2) (x, y) source pixels counted from 0.
        numbers: the landmarks as the file has them, (P, 2), where that differs; they tell missing ones.
        missing: (P,) those that the file says are missing in another way.
        box_xyxy: (4,) in the same pixels; one without width and height gives way to that of the landmarks.
        stored: the reader knows that the landmarks count stored pixels.
        fields: more of a FaceSample.
    """
    if problem := place_problem(image, root):
        return BadEntry(where, problem, id)
    image = spelled(image, root)
    size_wh = inspect_image(image, options)
    if isinstance(size_wh, str):
        return BadEntry(where, size_wh, id)
    if landmarks is not None:
        if landmarks.shape != (options.schema.num_points, 2):
            return BadEntry(where, f"{counted(len(landmarks), 'landmark')}, expected {_points_of(options.schema)}", id)
        numbers = landmarks if numbers is None else numbers
        absent = missing_in(numbers) if missing is None else missing | missing_in(numbers)
        if problem := problem_of(absent, numbers, options.missing):
            return BadEntry(where, problem, id)
        if absent.any():
            fields |= without(landmarks, absent, fields.get("visible"))
            landmarks = fields.pop("landmarks")
            options.notes.add("faces lack landmarks, which have point_trust 0 there", id)
        if problem := landmark_problem(landmarks, size_wh, " (see --frame)"):
            return BadEntry(where, problem, id)
        if not stored and turn_of(image) != 1:
            options.notes.add(
                "faces lie in pictures that EXIF turns; their landmarks are taken as of the pixels as stored", id
            )
        if box_xyxy is not None and (box_xyxy[:2] == box_xyxy[2:]).all():
            box_xyxy = geometry.landmark_box(landmarks)
            options.notes.add("faces have a box without width and height; the box of their landmarks is taken", id)
    else:
        fields.setdefault("orientation", turn_of(image))  # nobody has labelled it: as a person would see it
    if box_xyxy is not None and (problem := box_problem(box_xyxy, size_wh)):
        return BadEntry(where, problem, id)
    if options.split is not None:
        fields["split"] = options.split
    return FaceSample(id=id, image=image, landmarks=landmarks, box_xyxy=box_xyxy, **fields)
