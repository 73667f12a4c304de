"""A picture's size as an annotation declares it, against the file's: which pixels the annotation's numbers count.

Numbers count stored pixels. An annotation may have been made on the picture as a viewer turns it by EXIF, or before
the picture was made smaller: its declared size tells, and its numbers are brought to the stored pixels. Knows no
format.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from stylealign.data.image import orientation_of
from stylealign.face import geometry
from stylealign.face.orientation import size_of_view, upright_affine

Size = tuple[int, int]
_PNG, _HEAD = b"\x89PNG", 1 << 16
TURNED, SCALED = "turned as EXIF says", "scaled to the file's size"
SHOWN = "as the tool shows pictures"


class Fit(NamedTuple):
    """How an annotation's numbers become stored pixels."""

    stored_from_declared: np.ndarray
    """(2, 3)"""
    how: tuple[str, ...] = ()
    """What was done, in words; empty: nothing"""
    either: bool = False
    """The size is the same stored and turned by EXIF, which moves pixels all the same"""
    why: str = "by the declared size"
    """What told it, in words"""
    orientation: int = 1
    """EXIF's number of how the picture was held when it was annotated (`FaceSample.orientation`)"""


def orientation(path: Path) -> int:
    """The EXIF orientation, 1 to 8; of a PNG that in its first bytes, as Pillow decodes it to find a later one."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    return 1 if head.startswith(_PNG) and b"eXIf" not in head else orientation_of(path)


def cornered(affine: np.ndarray) -> np.ndarray:
    """The affine of numbers that count from the corner of the first pixel, not from its centre."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5]])
    return geometry.compose(half, geometry.compose(affine, geometry.invert(half)))


def shown(stored: Size, turn: int) -> tuple[np.ndarray, Size]:
    """(shown_from_stored of numbers that count from the corner, size) of a picture in a tool that turns it as EXIF
    says."""
    affine = upright_affine(turn, *stored)
    return cornered(affine), size_of_view(affine, *stored)


def _resized(old: Size, new: Size) -> bool:
    """Whether a picture of one size may be one of the other, resized: one factor for both sides, each rounded."""
    low = max((n - 1) / o for n, o in zip(new, old, strict=True))
    return low < min((n + 1) / o for n, o in zip(new, old, strict=True))


def _ratio(declared: Size, stored: Size) -> bool:
    """Whether the stored picture may be the declared one resized, or that one, it."""
    return _resized(declared, stored) or _resized(stored, declared)


def _scaling(declared: Size, stored: Size) -> np.ndarray:
    x, y = (s / d for s, d in zip(stored, declared, strict=True))  # pixel areas correspond
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])


def fit(declared: Size, stored: Size, turn: int) -> Fit | None:
    """How numbers counted in a picture of the declared (width, height) become pixels of the stored one; None: not.

    `turn` is the file's EXIF orientation. Where the size is the same turned, the numbers are taken as of the stored
    pixels, and `either` says so.
    """
    view_from_stored = upright_affine(turn, *stored)
    upright = size_of_view(view_from_stored, *stored)
    if declared == stored:
        return Fit(np.eye(2, 3), either=turn != 1 and upright == stored)
    back = geometry.invert(view_from_stored)
    if declared == upright:
        return Fit(back, (TURNED,), orientation=turn)
    as_stored, as_turned = _ratio(declared, stored), _ratio(declared, upright)
    if as_stored and as_turned and turn != 1:
        if upright != stored:  # nearly square: which of the two it is cannot be told
            return None
        return Fit(_scaling(declared, stored), (SCALED,), either=True)
    if as_stored:
        return Fit(_scaling(declared, stored), (SCALED,))
    if as_turned:
        return Fit(geometry.compose(back, _scaling(declared, upright)), (TURNED, SCALED), orientation=turn)
    return None


def turned(found: Fit, declared: Size, stored: Size, turn: int) -> Fit:
    """The other reading of a fit that may be `either`: the numbers count the picture as EXIF turns it."""
    back = geometry.invert(upright_affine(turn, *stored))
    return Fit(geometry.compose(back, _scaling(declared, stored)), (TURNED, *found.how), orientation=turn)


def sizes(declared: Size, stored: Size, turn: int) -> str:
    """Both sizes, for a sentence."""
    upright = size_of_view(upright_affine(turn, *stored), *stored)
    by_exif = f" ({upright[0]} x {upright[1]} as EXIF turns it)" if upright != stored else ""
    return f"declared {declared[0]} x {declared[1]}, but the file is {stored[0]} x {stored[1]}{by_exif}"
