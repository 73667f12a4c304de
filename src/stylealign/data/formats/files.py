"""Files of a source by their suffix, whatever its case: a face in a.PTS is one as in a.pts. Knows no format."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from stylealign.data.formats.notes import Notes
from stylealign.data.formats.sniff import KINDS, kind_of, what_to_do
from stylealign.data.image import IMAGE_SUFFIXES


def with_suffix(folder: Path, *suffixes: str, deep: bool = False) -> list[Path]:
    """Sorted files of a folder (and, `deep`, below it) whose suffix is one of these in small letters, in any case."""
    found = folder.rglob("*") if deep else folder.glob("*")
    return sorted(path for path in found if path.suffix.lower() in suffixes and path.is_file())


def find_images(folder: Path, notes: Notes | None = None) -> Iterator[Path]:
    """Every image file below a folder, in the same order on every machine; other files are noted as passed over.

    Files whose name begins with a dot are nobody's picture and are passed over without a word.
    """
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES:
            yield path
        elif notes is not None and not path.name.startswith("."):
            name, known = str(path.relative_to(folder)), kind_of(path)
            if known:
                notes.add(f"{KINDS[known].words} passed over: {what_to_do(known)}", name)
                continue
            kind = f"{path.suffix} files" if path.suffix else "files without a suffix"
            notes.add(f"{kind} passed over, being no picture of a kind that is read", name)


def pictures_below(folder: Path, without: Path | None = None) -> Iterator[Path]:
    """Every picture file below a folder, one at a time and in no order, for folders of any size.

    Nothing in folders and files whose name begins with a dot, behind links, or below `without`.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            left_out = without is not None and os.path.abspath(path) == os.path.abspath(without)
            if entry.name.startswith(".") or entry.is_symlink() or left_out:
                continue
            if entry.is_dir():
                yield from pictures_below(path, without)
            elif path.suffix.lower() in IMAGE_SUFFIXES and entry.is_file():
                yield path


class Beside:
    """Finds files by the name of one beside them, suffixes in any case; each folder is listed once."""

    def __init__(self, suffixes: Sequence[str]):
        self._suffixes = suffixes
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def of(self, path: Path) -> list[Path]:
        """Sorted files in the path's folder of the same name but for the suffix, which is one of the suffixes."""
        if path.parent not in self._listed:
            listed = self._listed[path.parent] = defaultdict(list)
            for found in with_suffix(path.parent, *self._suffixes):
                listed[found.stem].append(found)
        return self._listed[path.parent].get(path.stem, [])
