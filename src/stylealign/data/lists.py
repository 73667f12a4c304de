"""Lists of faces that form splits and subsets of a source: a picture's path or a face's id a line."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from stylealign.data.formats.entry import BadEntry, lines_of, stem_of
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample


def named_lists(entries: Sequence[str], what: str) -> list[tuple[str, str]]:
    """[(name, list file)] of entries `name=list.txt`; ValueError for another. `what` is the flag they were given to."""
    pairs = []
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not (name and equals and path):
            raise ValueError(f"{what}: found {entry!r}, expected name=list.txt")
        pairs.append((name, path))
    return pairs


def _list_path(folder: Path, path: str) -> Path:
    found = folder / path if (folder / path).exists() else Path(path)
    if not found.is_file():
        raise UserError(f"{path}: no such list, neither in {folder} nor here")
    return found


class FaceLists:
    """Which faces the split and subset lists of a source name, and which of their lines named nothing.

    Entries are `name=list.txt`; a list is looked for in `folder`, the source's, and then where the command is run.
    """

    def __init__(self, folder: Path, splits: Sequence[str], subsets: Sequence[str]):
        self.split_of: dict[str, str] = {}
        self.subsets: dict[str, set[str]] = {}
        self._where: dict[str, dict[str, str]] = {}  # key -> {list: file:line}
        self._seen: set[str] = set()
        for split, key, where in self._lines(folder, named_lists(splits, "splits")):
            if self.split_of.setdefault(key, split) != split:
                raise UserError(
                    f"{where}: '{key}' is in split {split} and in split {self.split_of[key]}, expected one split a face"
                )
        for subset, key, _ in self._lines(folder, named_lists(subsets, "subsets")):
            self.subsets.setdefault(key, set()).add(subset)

    def _lines(self, folder: Path, named: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
        for name, file in named:
            path = _list_path(folder, file)
            for number, text in lines_of(path):
                key = stem_of(text)
                self._where.setdefault(key, {})[str(path)] = f"{path}:{number}"
                yield name, key, f"{path}:{number}"

    def mark(self, face: str) -> None:
        """Remember that the source has this face, good or bad."""
        self._seen.update((face, face.rpartition("#")[0]))

    def assign(self, sample: FaceSample, only_listed: bool) -> FaceSample | None:
        """The face with its split and subsets; None where it is in no split list and there are some.

        A list names a face by its id, or all faces of an image by the image's path, which is the id before its `#`.
        """
        self.mark(sample.id)
        keys = [sample.id]
        image = sample.id.rpartition("#")[0]
        if image and sample.image.with_suffix("").as_posix().endswith(image):  # else the '#' is part of a file name
            keys.append(image)
        split = next((self.split_of[key] for key in keys if key in self.split_of), None)
        if only_listed and split is None:
            return None
        named = sorted({name for key in keys for name in self.subsets.get(key, ())})
        attributes = {**sample.attributes, **dict.fromkeys(named, True)}
        return dataclasses.replace(sample, split=split or sample.split, attributes=attributes)

    def unmatched(self) -> Iterator[BadEntry]:
        """Every line of a list that names no face of the source, which has been read to its end."""
        for key in self._where.keys() - self._seen:
            for where in self._where[key].values():
                yield BadEntry(where, f"names '{key}', but the source has no face of that image or id", key)
