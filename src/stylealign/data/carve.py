"""Splits carved out of the training faces by seed, whole pictures at a time: for published data without a `val`."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from stylealign.data.rows import file_digest
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample

CARVED_FROM = "train"


def named_shares(entries: Sequence[str]) -> dict[str, float]:
    """{split: share} of entries `val=0.05`; ValueError for another, or for shares that leave nothing to train on."""
    shares: dict[str, float] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        try:
            share = float(text)
        except ValueError:
            share = 0.0
        if not (name and equals and 0 < share < 1) or name in shares or name == CARVED_FROM:
            raise ValueError(
                f"carve: found {entry!r}, expected another split than {CARVED_FROM}, once, and a share between 0 and "
                "1, such as val=0.05"
            )
        shares[name] = share
    if sum(shares.values()) >= 1:
        raise ValueError(f"carve: {', '.join(entries)} leaves no face in {CARVED_FROM}, expected shares below 1 in all")
    return shares


def together(rows: Sequence[int], pairs: Sequence[tuple[str, str]]) -> dict[str, list[int]]:
    """Rows by the least picture among those that (picture, face) pairs tie together, through however many."""
    least: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while least.setdefault(key, key) != key:
            key = least[key]
        return key

    for picture, face in pairs:
        one, other = sorted((root(("0", picture)), root(("1", face))))  # pictures come before faces
        least[other] = one
    found: dict[str, list[int]] = {}
    for row, (picture, _) in zip(rows, pairs, strict=True):
        found.setdefault(root(("0", picture))[1], []).append(row)
    return found


def carved(samples: Iterable[FaceSample], shares: Mapping[str, float], seed: int) -> list[FaceSample]:
    """The same faces in the same order, some of split train in new splits.

    A split gets its share of the labelled training faces, to the nearest face that whole pictures allow. Pictures are
    taken in an order that their content and the seed decide, so that faces of one picture (or of two files with the
    same content) stay together, on every machine and in whatever order they were read. So do all that were made from
    one face, and that face.

    Args:
        samples: all faces, held in memory.
        shares: split -> its share of the labelled faces of split train.
        seed: draws another choice.

    Raises:
        UserError: a split is there already, or its share is less than one picture's faces.
    """
    faces = list(samples)
    digest = lru_cache(maxsize=None)(file_digest)
    for face in faces:
        if face.split in shares:
            raise UserError(f"carve: split {face.split} is there already: face '{face.id}' is in it")
    rows = [i for i, face in enumerate(faces) if face.split == CARVED_FROM]
    pictures = together(rows, [(digest(faces[i].image), faces[i].origin) for i in rows])
    labelled = {key: sum(faces[i].landmarks is not None for i in rows) for key, rows in pictures.items()}
    order = sorted(
        (key for key in pictures if labelled[key]), key=lambda key: hashlib.sha256(f"{seed} {key}".encode()).digest()
    )
    total = sum(labelled.values())
    for split, share in shares.items():
        wanted, taken = round(share * total), list[str]()
        for key in order:
            if labelled[key] <= wanted:
                taken.append(key)
                wanted -= labelled[key]
        if not taken:
            raise UserError(
                f"carve: {split}={share:g} of {counted(total, 'labelled face')} of split {CARVED_FROM} is less than "
                "one picture of them holds, expected a larger share"
            )
        order = [key for key in order if key not in set(taken)]
        for i in (i for key in taken for i in pictures[key]):
            faces[i] = dataclasses.replace(faces[i], split=split)
    return faces
