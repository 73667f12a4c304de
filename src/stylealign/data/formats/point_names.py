"""Key points' names against their order: the same names in another order are put into the first one.

Knows no format but that lists of names stand somewhere.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stylealign.data.formats.notes import Notes
from stylealign.errors import UserError, counted


class PointNames:
    """Puts key points into one order by the names that categories give them."""

    def __init__(self, num_points: int, notes: Notes, given: Sequence[str] = ()):
        """`given` are the names in the wanted order, where the user or the mark-up says it."""
        self._num, self._notes = num_points, notes
        self._names: list[str] = list(given)
        self._given = bool(given)
        self._first = "the list of names given" if given else ""  # where these names stand

    def of(self, names: Any, where: str) -> np.ndarray | None:
        """(P,) positions in the file's order of the points in the common one; None: they are in it, or not named.

        Names that are one word with the numbers from 0 (or 1), such as `p0`, tell the order by themselves; else the
        first file's is the common one. Raises UserError where the names do not fit each other.
        """
        if not names:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: found {str(names)[:60]}, expected names")
        if len(names) != self._num or len(set(names)) != self._num:
            raise UserError(
                f"{where}: {counted(len(set(names)), 'different name')}, expected {self._num}, one a landmark"
            )
        numbered = None if set(names) == set(self._names) else whole_numbers(names)
        common = [f"number {i}" for i in range(self._num)] if numbered is not None else self._names or names
        found = names if numbered is None else [f"number {numbered[name]}" for name in names]
        if not self._names or (numbered is not None and self._given):  # numbers tell more than names of another tool
            self._names, self._first, self._given = list(common), where, False
        if set(found) != set(self._names):
            at = next(i for i, name in enumerate(found) if name not in self._names)
            raise UserError(
                f"{where}: point {at} is called {names[at]!r}, a name that {self._first} does not have: expected the "
                "same names in all"
            )
        order = np.array([found.index(name) for name in self._names])
        if (order == np.arange(self._num)).all():
            return None
        self._notes.add("lists of key points' names are in another order; points are put in order by name", where)
        return order


def numbers_of_names(names: Iterable[str]) -> dict[str, int] | None:
    """The number of each name, where all are one word and different numbers, such as `p0`; None of others."""
    parts = {name: re.fullmatch(r"(.*?)(\d{1,6})", name) for name in names}
    found = {name: int(part[2]) for name, part in parts.items() if part}
    words = {part[1] for part in parts.values() if part}
    return found if len(found) == len(parts) == len(set(found.values())) and len(words) == 1 else None


def whole_numbers(names: Iterable[str]) -> dict[str, int] | None:
    """The landmark of each name, where their numbers are all from 0, or from 1, without a gap; None of others."""
    numbers = numbers_of_names(names)
    if numbers is None:
        return None
    first = min(numbers.values())
    whole = first in (0, 1) and max(numbers.values()) - first == len(numbers) - 1
    return {name: number - first for name, number in numbers.items()} if whole else None


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order in which their points are read: by their numbers, where these tell it, else as they stand."""
    names = list(names)
    numbers = whole_numbers(names)
    return names if numbers is None else sorted(names, key=numbers.__getitem__)
