"""What the readers of labelling tools' files have in common: which files of a source are the tool's, and what is asked
of all faces in them. Knows no format."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from stylealign.data.formats.entry import Entry, ReadOptions, folder_of
from stylealign.data.formats.files import with_suffix
from stylealign.data.formats.named_points import Found, entries, num_points, ordered_names
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.placing import PictureFinder
from stylealign.data.formats.sniff import in_words, kind_of, what_to_do
from stylealign.errors import UserError


class ToolFiles(NamedTuple):
    """Which files are a tool's."""

    kind: str
    """Their name in sniff.KINDS"""
    suffix: str
    wanted: str
    """What was not found and what was expected, the end of a sentence"""
    deep: bool = True
    """Whether folders below a folder are looked into"""

    def candidates(self, source: Path) -> list[Path]:
        """The file itself, or every file of the suffix in a folder."""
        return [source] if source.is_file() else with_suffix(folder_of(source), self.suffix, deep=self.deep)

    def of(self, source: Path) -> list[Path]:
        """The file itself, whatever it is, or the tool's files in a folder. Raises UserError where there is none."""
        found = self.candidates(source)
        chosen = found if source.is_file() else [path for path in found if kind_of(path) == self.kind]
        if not chosen:
            known = next(((path, kind) for path in found if (kind := kind_of(path))), None)
            lying = "" if known is None else f"; there is {in_words(known[1], [known[0]])}: {what_to_do(known[1])}"
            raise UserError(f"{source}: found no {self.wanted}{lying}")
        return chosen

    def recognise(self, path: Path) -> bool:
        """Whether it is a file of the tool, or a folder with one in it."""
        if path.is_file():
            return kind_of(path) == self.kind
        return any(kind_of(found) == self.kind for found in with_suffix(path, self.suffix, deep=self.deep))


class Opened(NamedTuple):
    """All that a source says."""

    faces: list[Found]
    root: Path
    """The folder of its pictures"""
    declared: Sequence[str] = ()
    """The names of points in the order in which its own list of labels has them, if it has one"""


def each_file(
    files: ToolFiles, faces_of: Callable[[Path, Path, PictureFinder, Notes], Iterator[Found]]
) -> Callable[[Path, Notes, Path | None], Opened]:
    """How a source is opened whose files stand for themselves; `faces_of` reads (a file, the source, its pictures)."""

    def opened(source: Path, notes: Notes, images: Path | None) -> Opened:
        root = images or folder_of(source)
        pictures = PictureFinder(root, notes)
        faces = [face for path in files.of(source) for face in faces_of(path, source, pictures, notes)]
        return Opened(pictures.refused(faces), root)

    return opened


class _Kept(NamedTuple):
    """A source that was opened, until somebody reads it."""

    key: object
    """The source, its folder of pictures, and its files as they were"""
    opened: Opened
    notes: Notes


@dataclass(frozen=True, slots=True)
class ToolReader:
    """A tool's reader, as FORMATS wants it.

    Who does not know the mark-up asks for the number of points or for their names, and reads then: all files are
    parsed once for that, and what they say is kept until it is read.
    """

    files: ToolFiles
    opened: Callable[[Path, Notes, Path | None], Opened]
    """(source, notes, folder of pictures where one was named) -> all that it says"""
    upright: bool = False
    """Whether the tool shows pictures as EXIF turns them, and counts from the corner of the first pixel"""
    _kept: list[_Kept] = field(default_factory=list, repr=False, compare=False)
    """The last source whose points were counted or named; at most one"""

    def recognise(self, path: Path) -> bool:
        """Whether it is a file of the tool, or a folder with one."""
        return self.files.recognise(path)

    def count_points(self, source: Path) -> int:
        """Landmarks a face, by the names that are declared or, where none are, by those of all points."""
        found = self._keep(source)
        return num_points(found.faces, found.declared, source, self._kept[0].notes)

    def point_names(self, source: Path) -> tuple[str, ...]:
        """The points' names in the order in which they are read; empty: they have no names of their own."""
        found = self._keep(source)
        return ordered_names(found.faces, found.declared)

    def read(self, source: Path, options: ReadOptions) -> Iterator[Entry]:
        """Yield every face of the source; ids are pictures' paths without suffix (see `Ids`)."""
        kept = self._kept.pop() if self._kept else None
        if kept is not None and kept.key == self._key(source, options.images):
            options.notes.take(kept.notes)
            found = kept.opened
        else:
            kept = None
            found = self.opened(source, options.notes, options.images)
        yield from entries(found.faces, found.root, source, options, found.declared, self.upright)

    def _keep(self, source: Path) -> Opened:
        """What a source says, its pictures where the layout has them; parsed unless that has just been done."""
        key = self._key(source, None)
        if not self._kept or self._kept[0].key != key:
            self._kept.clear()
            notes = Notes()
            self._kept.append(_Kept(key, self.opened(source, notes, None), notes))
        return self._kept[0].opened

    def _key(self, source: Path, images: Path | None) -> object:
        """Equal as long as the same files say the same."""
        paths = self.files.candidates(source)
        stamps = [(path, stat.st_mtime_ns, stat.st_size) for path, stat in zip(paths, map(os.stat, paths), strict=True)]
        return os.getcwd(), source, images, stamps
