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
    if not found.is_file() and not found.is_fifo():  # a pipe, as a shell's <(command)
        raise UserError(f"{path}: no such list, neither in {folder} nor here")
    return found


def _as_line(text: str) -> tuple[str, str]:
    """What a line is kept under: its path with `/`, without the suffix of a picture, and that suffix or nothing."""
    key = stem_of(text)
    return key, Path(text).suffix.lower() if key != text.replace("\\", "/").removeprefix("./") else ""


class FaceLists:
    """Which faces the split and subset lists of a source name, and which of their lines named nothing.

    Entries are `name=list.txt`; a list is looked for in `folder`, the source's, and then where the command is run.
    `root`: the folder of the pictures, for sources whose faces have other ids than their pictures' paths.
    """

    def __init__(self, folder: Path, splits: Sequence[str], subsets: Sequence[str], root: Path | None = None):
        self._root = root
        self._splits: dict[str, dict[str, str]] = {}  # key -> {suffix of the line, or empty: split}
        self._subsets: dict[str, dict[str, set[str]]] = {}
        self._where: dict[str, dict[str, dict[str, str]]] = {}  # key -> {suffix: {list: file:line}}
        self._seen: set[tuple[str, str]] = set()
        for split, key, suffix, where in self._lines(folder, named_lists(splits, "splits")):
            known = self._splits.setdefault(key, {})
            for other, its in known.items():
                if its != split and (suffix == other or not suffix or not other):
                    raise UserError(
                        f"{where}: '{key}' is in split {split} and in split {its}, expected one split a face"
                    )
            known[suffix] = split
        for subset, key, suffix, _ in self._lines(folder, named_lists(subsets, "subsets")):
            self._subsets.setdefault(key, {}).setdefault(suffix, set()).add(subset)

    def _lines(self, folder: Path, named: list[tuple[str, str]]) -> Iterator[tuple[str, str, str, str]]:
        for name, file in named:
            path = _list_path(folder, file)
            for number, text in lines_of(path):
                key, suffix = _as_line(text)
                self._where.setdefault(key, {}).setdefault(suffix, {})[str(path)] = f"{path}:{number}"
                yield name, key, suffix, f"{path}:{number}"

    def mark(self, face: str) -> None:
        """Remember that the source has this face, which is a bad one."""
        for key in (face, face.rpartition("#")[0]):
            self._seen.update((key, suffix) for suffix in self._where.get(key, ()))
            self._seen.add(_as_line(key))

    def _meant(self, key: str, image: Path) -> list[str]:
        """The suffixes of lines about `key` that mean this picture: its own, or none; else, since lists are kept when
        pictures are saved in another form, one of which there is no picture."""
        suffixes, own = self._where.get(key, {}), image.suffix.lower()
        return [suffix for suffix in (own, "") if suffix in suffixes] or [
            suffix for suffix in suffixes if not any(image.with_suffix(s).exists() for s in (suffix, suffix.upper()))
        ]

    def assign(self, sample: FaceSample, only_listed: bool) -> FaceSample | None:
        """The face with its split and subsets; None where it is in no split list and there are some.

        A list names a face by its id, or all faces of an image by the image's path, which is the id before its `#`.
        """
        keys = [sample.id]
        image = sample.id.rpartition("#")[0]
        if image and sample.image.with_suffix("").as_posix().endswith(image):  # else the '#' is part of a file name
            keys.append(image)
        lines = [(key, suffix) for key in keys for suffix in self._meant(key, sample.image)]
        lines += [line for line in map(_as_line, keys) if line[1]]  # an id may end as a picture's name does
        if self._root is not None and sample.image.is_relative_to(self._root):
            line = _as_line(sample.image.relative_to(self._root).as_posix())
            lines += [line] if line[1] in self._where.get(line[0], {}) else []
        self._seen.update(lines)
        split = next((self._splits[key][s] for key, s in lines if s in self._splits.get(key, {})), None)
        if only_listed and split is None:
            return None
        named = sorted({name for key, s in lines for name in self._subsets.get(key, {}).get(s, ())})
        attributes = {**sample.attributes, **dict.fromkeys(named, True)}
        return dataclasses.replace(sample, split=split or sample.split, attributes=attributes)

    def unmatched(self) -> Iterator[BadEntry]:
        """Every line of a list that names no face of the source, which has been read to its end."""
        for key, suffixes in self._where.items():
            for suffix in suffixes:
                for where in () if (key, suffix) in self._seen else suffixes[suffix].values():
                    yield BadEntry(where, f"names '{key}{suffix}', but the source has no face of that image or id", key)
