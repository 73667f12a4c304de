"""Where the picture lies that a tool's file names: beside it, below the source, or by the end of its name.

Tools keep the path that a picture had on the machine where it was labelled. Nothing is looked for outside of the
folder that the source, or the user, names. Knows no format.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from stylealign.data.formats.entry import BadEntry
from stylealign.data.formats.files import Beside
from stylealign.data.formats.named_points import Found, ToolFace
from stylealign.data.formats.notes import Notes
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.data.paths import spelled


def _tails(name: str) -> Iterator[str]:
    """A path's ends, the longest first, without what leads out: `c:/x/../a/b.jpg` -> a/b.jpg, b.jpg."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", ".") and not part.endswith(":")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    for i in range(len(parts)):
        yield "/".join(parts[i:])


class PictureFinder:
    """Finds the pictures of a source."""

    def __init__(self, root: Path, notes: Notes):
        """`root` is the folder that they lie below."""
        self._root, self._notes = root, notes
        self._found: dict[tuple[str, str, Path, tuple[Path, ...]], Path] = {}
        self._suffixes = Beside(sorted(IMAGE_SUFFIXES))
        self._exact: set[Path] = set()  # found as they are written
        self._by_end: dict[Path, dict[str, str]] = {}  # found by the end of a name: the names, by what they stand for

    def of(self, name: str, beside: Path, *folders: Path, written: str = "") -> Path:
        """The path of a picture called `name` in a file of the folder `beside`, which lies below the root.

        First as it is written, seen from that folder or one of `folders`; then by the longest end of the name that
        is a file in one of these or in the root, and that is noted. A name that is nowhere is left as it is, for the
        checks that every picture goes through. `written`: all that the file says, where `name` is a part of it.
        """
        written = written or name
        key = (name, written, beside, folders)
        if key not in self._found:
            self._found[key] = self._search(name.replace("\\", "/"), beside, folders, written)
        return self._found[key]

    def _lying(self, path: Path) -> Path | None:
        """The picture file of that path below the root; a name without a suffix gets that of the one file it fits."""
        if not path.is_relative_to(self._root):
            return None
        path = spelled(path, self._root)
        if os.path.lexists(path):
            return path
        if path.suffix.lower() not in IMAGE_SUFFIXES and path.name:
            fitting = self._suffixes.of(path.with_name(f"{path.name}.jpg")) if path.parent.is_dir() else []
            return fitting[0] if len(fitting) == 1 else None
        return None

    def _search(self, name: str, beside: Path, folders: tuple[Path, ...], written: str) -> Path:
        if "\0" in name or not name:
            return self._root / name
        places = (*folders, beside, self._root)
        for folder in places:
            if path := self._lying(Path(os.path.normpath(folder / name))):
                self._exact.add(path)
                return path
        for tail in _tails(name):
            for folder in places:
                if path := self._lying(folder / tail):
                    self._notes.add("pictures found by the end of the name that the file has", written)
                    means = os.path.normpath(beside / written.replace("\\", "/"))
                    self._by_end.setdefault(path, {})[means] = written
                    return path
        first = Path(os.path.normpath(places[0] / name))
        return first if first.is_relative_to(self._root) else self._root / re.sub("^/+", "../", name)

    def name_of(self, path: Path) -> str:
        """A picture's path below the root, with `/`."""
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else path.as_posix()

    def refused(self, faces: Iterable[Found]) -> list[Found]:
        """The faces, those refused whose picture was found by the end of a name that is that of another one too.

        Files that name `s1/a.jpg` and `s2/a.jpg`, where there is one a.jpg, would label one picture with the faces of
        two. A picture that lies where a name says is that name's, and nobody else's.
        """
        wrong: dict[tuple[Path, str], str] = {}
        for path, names in self._by_end.items():
            written = list(names.values())
            for name in written:
                if path in self._exact:
                    wrong[path, name] = f"no such image {name}; {path}, which has its name, is that of another entry"
                elif len(written) > 1:
                    other = next(n for n in written if n != name)
                    wrong[path, name] = (
                        f"images {name} and {other} are both found as {path}, expected a picture each (--images FOLDER "
                        "says where they lie)"
                    )
        return [
            BadEntry(face.where, wrong[face.image, face.written], face.name)
            if isinstance(face, ToolFace) and (face.image, face.written) in wrong
            else face
            for face in faces
        ]
