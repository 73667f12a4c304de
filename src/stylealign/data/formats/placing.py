"""Where the picture lies that a tool's file names: beside it, below the source, or by the end of its name.

Tools keep the path that a picture had on the machine where it was labelled. Nothing is looked for outside of the
folder that the source, or the user, names. Knows no format.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from stylealign.data.formats.notes import Notes


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
        self._found: dict[tuple[str, Path], Path] = {}

    def of(self, name: str, beside: Path, *folders: Path) -> Path:
        """The path of a picture called `name` in a file of the folder `beside`, which lies below the root.

        First as it is written, seen from that folder or one of `folders`; then by the longest end of the name that
        is a file in one of these or in the root, and that is noted. A name that is nowhere is left as it is, for the
        checks that every picture goes through.
        """
        key = (name, beside)
        if key not in self._found:
            self._found[key] = self._search(name.replace("\\", "/"), beside, folders)
        return self._found[key]

    def _search(self, name: str, beside: Path, folders: tuple[Path, ...]) -> Path:
        if "\0" in name or not name:
            return self._root / name
        for folder in (*folders, beside, self._root):
            path = Path(os.path.normpath(folder / name))
            if path.is_relative_to(self._root) and os.path.lexists(path):
                return path
        for tail in _tails(name):
            for folder in (*folders, beside, self._root):
                path = folder / tail
                if path.is_relative_to(self._root) and os.path.lexists(path):
                    self._notes.add("pictures found by the end of the name that the file has", name)
                    return path
        first = Path(os.path.normpath((*folders, beside)[0] / name))
        return first if first.is_relative_to(self._root) else self._root / re.sub("^/+", "../", name)

    def name_of(self, path: Path) -> str:
        """A picture's path below the root, with `/`."""
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else path.as_posix()
