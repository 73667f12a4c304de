"""Which faces are of one person (or video, or place): held out together, so that nobody is in train and in val.

A group is told by a pattern of file names, by folder, or by the column `group` of a CSV. Knows no pictures.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stylealign.data.carve import together
from stylealign.data.formats import csv
from stylealign.errors import UserError, counted, quoted
from stylealign.face.sample import FaceSample
from stylealign.progress import say

_LAST_NUMBER = re.compile(r"^(.*?)[-_. ]*[A-Za-z]{0,5}\d+$")
LEAST_GROUPS, LARGEST_SHARE, LEAST_MEAN = 4, 0.5, 1.5
"""A guess is taken where it makes so many groups, none with more of the faces than this share, of this mean size."""


class Groups(NamedTuple):
    """The group of each face, and how it was told."""

    of: dict[str, str]
    """id -> group"""
    by: str
    """In words"""
    guessed: bool
    key: Callable[[str], str]
    """Path of a picture without suffix -> its group"""

    @property
    def number(self) -> int:
        return len(set(self.of.values()))

    def holds(self, name: str, held: Collection[str]) -> bool:
        """Whether a picture that has no label, of this path without suffix, is of one of these groups; it may lie in
        another folder than theirs."""
        return self.key(name).rpartition("/")[2] in {group.rpartition("/")[2] for group in held}

    def note(self, held: Collection[str]) -> str:
        """What an error on these faces cannot tell, for a person; empty where each stands for itself."""
        number = len({self.of[face] for face in held})
        if number == len(held):
            return ""
        return (
            f"Those faces are of {counted(number, 'group')} ({self.by}), alike within one: expect more error "
            "on others, and a wider interval."
        )

    def sentence(self) -> str:
        """How faces are grouped, for a person."""
        if self.number == len(self.of):
            return f"{self.by}: each of {counted(len(self.of), 'face')} for itself"
        name, count = Counter(self.of.values()).most_common(1)[0]
        shown = f"{counted(self.number, 'group')} of {counted(len(self.of), 'face')}, the largest {name!r} of {count}"
        return f"{'guessed: ' if self.guessed else ''}held out by {self.by}: {shown}"


def names_of(faces: Sequence[FaceSample], root: Path) -> dict[str, str]:
    """id -> path of the face's picture below `root`, with '/' and without suffix; of a face that was made from another
    that of the other, or its id, so that both, and all that were made from it, are of one group."""
    names = {}
    for face in faces:
        if face.provenance is None:
            path = face.image
            relative = path.relative_to(root) if path.is_relative_to(root) else path
            names[face.id] = relative.with_suffix("").as_posix()
    for face in faces:
        if face.provenance is not None:
            names[face.id] = names.get(face.origin, face.origin)
    return names


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _numbered(name: str) -> str:
    match = _LAST_NUMBER.match(name)
    return match[1] if match and match[1] and not match[1].endswith("/") else name


def _plausible(groups: Mapping[str, str]) -> bool:
    sizes = Counter(groups.values())
    largest = max(sizes.values()) <= LARGEST_SHARE * len(groups)
    return len(sizes) >= LEAST_GROUPS and largest and len(groups) >= LEAST_MEAN * len(sizes)


def guess(names: Mapping[str, str]) -> Groups:
    """By folder, else by file name without its last number, else each picture for itself."""
    for by, key in (("folder", _folder), ("file name without its last number", _numbered)):
        found = {face: key(name) for face, name in names.items()}
        if _plausible(found):
            return Groups(found, by, True, key)
    return Groups(dict(names), "no two file names look like one person's (--group says what does)", True, str)


def _by_pattern(names: Mapping[str, str], pattern: str) -> Groups:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--group {pattern}: not a regular expression ({error})") from None
    if not any(compiled.search(name) for name in names.values()):
        raise UserError(
            f"--group {pattern}: matches none of {counted(len(names), 'name')}, the first "
            f"'{next(iter(names.values()))}'; expected a regular expression whose first bracket is the person, such as "
            "'(.+)_\\d+', or folder, column, none"
        )

    def key(name: str) -> str:
        match = compiled.search(name)
        return name if match is None else (match[1] or "" if compiled.groups else match[0])

    return Groups({face: key(name) for face, name in names.items()}, f"the pattern {pattern}", False, key)


def groups_of(faces: Sequence[FaceSample], how: str, root: Path, source: Path, reader: str) -> Groups:
    """The group of each face.

    Args:
        faces: labelled.
        how: auto, folder, column, none, or a regular expression of a picture's path without suffix.
        root: folder that holds all pictures.
        source: what was read, for the column.
        reader: its format.

    Raises:
        UserError: a pattern that matches nothing or is none, or a column that is not there.
    """
    names = names_of(faces, root)
    column = csv.groups(source) if reader == "csv" else {}
    if how == "column" or (how == "auto" and column):
        if not column:
            raise UserError(f"--group column: {source} has no column 'group'; expected one in a CSV")
        of = {face: column.get(face, face) for face in names}
        return Groups(of, "column 'group'", how == "auto", str)
    if how == "auto":
        return guess(names)
    if how == "none":
        return Groups(names, "--group none", False, str)
    if how == "folder":
        return Groups({face: _folder(name) for face, name in names.items()}, "folder", False, _folder)
    return _by_pattern(names, how)


def hold_out(groups: Mapping[str, str], share: float, seed: int) -> set[str]:
    """Ids of the faces to hold out: whole groups, in an order that the seed and their names decide, until their share
    is as near to `share` as groups allow. Some group always stays, and some is always held out.

    Raises UserError where there is but one group.
    """
    sizes = Counter(groups.values())
    if len(sizes) < 2:
        raise UserError(
            f"all {counted(len(groups), 'face')} are of one group, {next(iter(sizes), '')!r}: nothing can be held out; "
            "expected several groups (--group none takes every picture for one)"
        )
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    wanted, taken = max(1, round(share * len(groups))), set[str]()
    for name in order:
        if abs(wanted - sizes[name]) < abs(wanted) and len(taken) < len(sizes) - 1:
            taken.add(name)
            wanted -= sizes[name]
    taken = taken or {min(order, key=lambda name: sizes[name])}
    return {face for face, name in groups.items() if name in taken}


def _sharing(pool: Mapping[str, str], images: Mapping[str, Path]) -> dict[str, str]:
    """The groups of faces, those that share a picture, through however many, under the first of their names."""
    ids = list(pool)
    tied = together(range(len(ids)), [(os.fspath(images[face]), pool[face]) for face in ids])
    found: dict[str, str] = {}
    for rows in tied.values():
        first = min(pool[ids[row]] for row in rows)
        found |= {ids[row]: first for row in rows}
    if len(set(found.values())) < 2 <= len(set(pool.values())):
        raise UserError(
            f"all {counted(len(pool), 'face')} are of groups that share pictures, such as "
            f"{quoted(sorted(set(pool.values()))[:2])}: nothing can be held out; expected pictures of one group each "
            "(--group none takes every picture for one)"
        )
    return {face: found[face] for face in ids}


def splits_by_group(
    faces: Sequence[FaceSample], groups: Groups, share: float, seed: int, anew: bool = False
) -> dict[str, list[str]]:
    """Ids of each split, where faces have to be held out; empty where the source's own splits are kept.

    Args:
        faces: labelled.
        groups: of these faces.
        share: of those in train (and val) that are held out in val.
        seed: draws them.
        anew: where the source has a val, hold out others; else it is kept, and a warning says so where groups are in
            both.

    Groups that share a picture are held out together. Raises UserError where there is but one, or all share pictures.
    """
    own = {face.id: face.split for face in faces}
    if "val" in own.values() and not anew:
        both, held = in_both(groups.of, own)
        if both:
            say(
                f"warning: {both} of {held} `val` faces are of groups that are also in `train`, if {groups.by} tells "
                "them: their error is too good. --group holds out whole groups instead"
            )
        return {}
    pool = {face: group for face, group in groups.of.items() if own[face] in ("train", "val")}
    if not pool:
        return {}
    held_out = hold_out(_sharing(pool, {face.id: face.image for face in faces}), share, seed)
    others = {split: sorted(f for f in own if own[f] == split) for split in set(own.values()) - {"train", "val"}}
    return {"train": sorted(set(pool) - held_out), "val": sorted(held_out), **others}


def in_both(groups: Mapping[str, str], splits: Mapping[str, str]) -> tuple[int, int]:
    """(faces of split val whose group is also in split train, faces of split val)."""
    trained = {groups[face] for face, split in splits.items() if split == "train"}
    held = [face for face, split in splits.items() if split == "val"]
    return sum(groups[face] in trained for face in held), len(held)
