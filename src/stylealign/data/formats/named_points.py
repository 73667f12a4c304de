"""Faces as labelling tools have them, points with names, become faces of a mark-up, points in its order.

A tool's reader makes `ToolFace`s of its files; this file decides which point is which landmark, by the names alone
wherever there are any, and says what it took. Knows no format.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.data.formats.declared_fit import DeclaredSizes
from stylealign.data.formats.declared_size import Size
from stylealign.data.formats.entry import BadEntry, Entry, Ids, ReadOptions, checked_face
from stylealign.data.formats.point_names import in_order, numbers_of_names, whole_numbers
from stylealign.data.formats.writing import names_of, padded_names_of
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.orientation import map_box
from stylealign.face.schema import SCHEMAS


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolFace:
    """One face as a tool's file has it."""

    where: str
    """file:line, or the nearest thing the format has"""
    number: int
    """Within its file; sets the ids of a picture's faces apart"""
    image: Path
    name: str
    """The image's path below the folder of the source, of which the face's id is made"""
    written: str
    """The image as the file names it"""
    names: tuple[str, ...]
    """What each point is called; all alike where points have no names of their own"""
    points: np.ndarray
    """(n, 2) px as the file has them"""
    hidden: np.ndarray | None = None
    """(n,) bool; None: the file does not say"""
    box: np.ndarray | None = None
    """(4,) x0 y0 x1 y1"""
    attributes: Mapping[str, bool] = field(default_factory=dict)
    split: str = "train"
    declared: Size | None = None
    """(width, height) that the file says its picture has"""


Found = ToolFace | BadEntry


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts p2 before p10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", name.lower())]


class Names:
    """What the points of a source are called, and how often and where first."""

    def __init__(self, faces: Iterable[Found]):
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}
        self.unnamed = False
        """All points of each face are called alike: only their order tells them apart"""
        self.most = 0
        """Points of the face that has most"""
        seen: dict[tuple[str, ...], list[str]] = {}  # where faces stand whose points are called so
        for face in faces:
            if isinstance(face, ToolFace) and face.names:
                seen.setdefault(face.names, []).append(face.where)
        alike = True
        for points, places in seen.items():
            self.most = max(self.most, len(points))
            different = dict.fromkeys(points)
            for name in different:
                self._counts[name] = self._counts.get(name, 0) + len(places)
                self._first.setdefault(name, places[0])
            alike = alike and len(different) == 1
        self.unnamed = alike and self.most > 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def rarest(self) -> str:
        """The name of fewest faces, in words for a sentence."""
        name = min(self._counts, key=lambda name: (self._counts[name], name))
        all_faces = counted(max(self._counts.values()), "face")
        return f"{name!r} stands in {self._counts[name]} of {all_faces}, {self._first[name]}"


def num_points(faces: Sequence[Found], declared: Sequence[str], source: Path, notes: Iterable[str] = ()) -> int:
    """Landmarks a face of a source, by its points' names; `declared` are those that its own list of labels has.

    `notes` is what was said when it was opened, for the sentence about one without points.
    """
    names = Names(faces)
    if not names.most:
        wrong = next((f"; {face}" for face in faces if isinstance(face, BadEntry)), "")
        wrong = wrong or next((f"; {note}" for note in notes if "passed over" in note), "")
        raise UserError(
            f"{source}: no face in it has points; say with --schema which mark-up the faces are for{wrong[:500]}"
        )
    if names.unnamed:
        return names.most
    if declared and set(names) <= set(declared):
        return len(declared)
    numbers = numbers_of_names(names)
    return len(names) if numbers is None else max(numbers.values()) + (min(numbers.values()) == 0)


def ordered_names(faces: Sequence[Found], declared: Sequence[str]) -> tuple[str, ...]:
    """The names of a source's points in the order in which they are read where nobody gives one; empty: unnamed."""
    names = Names(faces)
    if names.unnamed or not names.most:
        return ()
    if declared and set(names) <= set(declared):
        return tuple(in_order(declared))
    return tuple(sorted(names, key=natural))


def _order(names: Names, declared: Sequence[str], source: Path, options: ReadOptions) -> dict[str, int] | None:
    """Landmark of each name; None: points have no names of their own."""
    schema, given = options.schema, options.point_names
    if given:
        if set(names) and not set(names) & set(given):
            raise UserError(
                f"{source}: no point is called {given[0]!r} or another of the {counted(len(given), 'name')} given; "
                f"they are called {', '.join(list(names)[:5])}"
            )
        return {name: i for i, name in enumerate(given)}
    if names.unnamed or not names.most:
        return None
    count = schema.num_points
    for written in (names_of(schema), padded_names_of(schema)):  # as our writers call them
        if set(names) <= set(written):
            return {name: i for i, name in enumerate(written)}
    fits = bool(declared) and set(names) <= set(declared) and len(declared) == count
    if fits and count > 1 and (numbers := whole_numbers(declared)):  # those of faces alone may begin later
        return numbers
    numbers = numbers_of_names(names)
    if numbers is not None and len(names) > 1:
        low, high = min(numbers.values()), max(numbers.values())
        if low == 0 and high < count:
            return numbers
        if low and high == count:
            return {name: number - 1 for name, number in numbers.items()}
        if not fits:
            raise UserError(
                f"{source}: its points are numbered from {low} to {high}, expected 0 to {count - 1} or 1 to {count} of "
                f"{schema.name}; --point-names FILE says which name is which landmark"
            )
    if fits:
        for name in declared:
            options.notes.add("names of points, in the order that the file declares", name)
        return {name: i for i, name in enumerate(declared)}
    if len(names) != count:
        raise UserError(
            f"{source}: {counted(len(names), 'different name')} of points, expected {count} of {schema.name}: "
            f"{names.rarest()}; --point-names FILE says which name is which landmark"
        )
    if schema in SCHEMAS.values() and count > 1:
        raise UserError(
            f"{source}: its points are called {', '.join(list(names)[:3])}, ..., which does not tell which landmark of "
            f"{schema.name} each is; expected numbers, or --point-names FILE with a name a line in its order"
        )
    ordered = sorted(names, key=natural)
    for name in ordered:
        options.notes.add("names of points, in the order of the alphabet", name)
    return {name: i for i, name in enumerate(ordered)}


class _Placer:
    """Puts a face's points in order."""

    def __init__(self, order: dict[str, int] | None, options: ReadOptions):
        self._order, self._options = order, options
        self._rows: dict[tuple[str, ...], np.ndarray | str] = {}

    def _rows_of(self, names: tuple[str, ...]) -> np.ndarray | str:
        """Landmark of each point, -1 for one of another name; or what is wrong."""
        count = self._options.schema.num_points
        if self._order is None:
            if len(names) == count:
                return np.arange(count)
            return (
                f"{counted(len(names), 'point')} called {names[0][:40]!r}, expected {count} of "
                f"{self._options.schema.name}: without names of their own none may be missing"
            )
        rows = np.array([self._order.get(name, -1) for name in names])
        known = rows[rows >= 0]
        if len(set(known.tolist())) < len(known):
            twice = next(name for name in names if names.count(name) > 1 and name in self._order)
            return f"point {twice[:40]!r} stands {counted(names.count(twice), 'time')} in one face, expected once"
        return rows

    def __call__(self, face: ToolFace) -> tuple[np.ndarray, np.ndarray, np.ndarray | None] | str | None:
        """(P, 2) landmarks, NaN where none is; (P,) missing; (P,) visible or None. None: unlabelled; text: wrong."""
        if not face.names:
            return None
        if face.names not in self._rows:
            self._rows[face.names] = self._rows_of(face.names)
        rows = self._rows[face.names]
        if isinstance(rows, str):
            return rows
        known = rows >= 0
        count = self._options.schema.num_points
        landmarks = np.full((count, 2), np.nan)
        landmarks[rows[known]] = face.points[known]
        others = [] if known.all() else [n for n, there in zip(face.names, known, strict=True) if not there]
        for name in dict.fromkeys(others):
            self._options.notes.add(f"points called {name[:40]!r} passed over, which is none of the names", face.where)
        missing = np.isnan(landmarks).any(axis=1)
        if missing.any() and (self._options.missing == "refuse" or missing.all()):
            first = int(np.flatnonzero(missing)[0])
            called = next((f" {name[:40]!r}" for name, i in (self._order or {}).items() if i == first), "")
            other = f"; it has {others[0][:40]!r}, which is none of their names" if others else ""
            return (
                f"{int(missing.sum())} of {counted(count, 'landmark')} not labelled, the first is "
                f"{first}{called}{other} (--missing keep reads faces without them)"
            )
        visible = None
        if face.hidden is not None:
            visible = np.zeros(count, dtype=bool)
            visible[rows[known]] = ~face.hidden[known]
        return landmarks, missing, visible


def entries(
    faces: Iterable[Found],
    root: Path,
    source: Path,
    options: ReadOptions,
    declared: Sequence[str] = (),
    upright: bool = False,
) -> Iterator[Entry]:
    """The faces of a source, each checked as every reader's are, its points in the mark-up's order.

    Args:
        faces: all of the source.
        root: the folder below which pictures must lie.
        source: for messages.
        options: what the reader was given.
        declared: the points' names in the order in which the source's own list of labels has them, if it has one.
        upright: the tool shows pictures as EXIF turns them, and counts from the corner of the first pixel.
    """
    found = list(faces)
    names = Names(found)
    place = _Placer(_order(names, declared, source, options), options)
    if names.unnamed:
        options.notes.add(
            "sources whose points have no names of their own: taken in the order they stand in", str(source)
        )
    sizes = DeclaredSizes(
        lambda: ((face.image, face.declared) for face in found if isinstance(face, ToolFace)), root, options, upright
    )
    ids = Ids()
    for face in found:
        if isinstance(face, BadEntry):
            yield face
            continue
        id = ids.of(face.name, face.number)
        placed = place(face)
        if isinstance(placed, str):
            yield BadEntry(face.where, placed, id)
            continue
        fitted = sizes.fit(face.image, face.declared)
        if isinstance(fitted, str):
            yield BadEntry(face.where, fitted, id)
            continue
        labels: dict[str, Any] = {}
        box = face.box
        if placed is not None:
            landmarks, missing, visible = placed
            labels = {"landmarks": landmarks, "numbers": landmarks, "missing": missing, "visible": visible}
        if fitted is not None and fitted.how:
            options.notes.add(f"faces' landmarks and boxes {' and '.join(fitted.how)}, {fitted.why}", id)
            if placed is not None:
                labels["landmarks"] = geometry.apply(fitted.stored_from_declared, placed[0])
            box = None if box is None else map_box(fitted.stored_from_declared, box)
            labels["orientation"] = fitted.orientation
        yield checked_face(
            face.where, options, id=id, image=face.image, root=root, box_xyxy=box, attributes=dict(face.attributes),
            split=face.split, stored=fitted is not None, **labels,
        )  # fmt: skip
