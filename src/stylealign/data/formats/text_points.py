"""Points in a text file, `x y` a line, perhaps their number in the first: LaPa and FaceSynthetics write them so."""

from pathlib import Path

import numpy as np

from stylealign.data.formats.entry import BadEntry, lines_of, numbers_of
from stylealign.errors import UserError, counted


def read_points(path: Path, has_count: bool) -> tuple[np.ndarray, str] | BadEntry:
    """((P, 2) numbers as written, file:line of the first), or what is wrong.

    `has_count` says that the first line is their number, which is compared.
    """
    points: list[np.ndarray] = []
    announced, first = None, ""
    try:
        for number, text in lines_of(path):
            where = f"{path}:{number}"
            tokens = text.replace(",", " ").split()
            if has_count and announced is None:
                if len(tokens) != 1 or not text.isdecimal() or len(text) > 6:
                    return BadEntry(where, f"found {text[:60]!r}, expected the number of points")
                announced = int(text)
                continue
            values = numbers_of(tokens)
            if len(tokens) != 2 or isinstance(values, str):
                return BadEntry(where, f"found {text[:60]!r}, expected two numbers x y")
            points.append(values)
            first = first or where
    except UserError as error:
        return BadEntry(str(path), str(error).removeprefix(f"{path}: "))
    if announced is not None and announced != len(points):
        return BadEntry(str(path), f"{counted(len(points), 'point')}, expected {announced} as its first line says")
    return (np.stack(points), first) if points else BadEntry(str(path), "no points in it")
