"""One picture -> the spots where the network shall look: given boxes, the whole picture, or found; upright or turned.

Knows finders and views; no network and no files.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from stylealign.face import geometry
from stylealign.predicting.finders import Finder, Found
from stylealign.predicting.landmarks import Spot
from stylealign.predicting.orientation import map_box, size_of_view, turn_affine, view_of

Rotate = Literal["0", "90", "180", "270", "auto"]
TURNS = (0, 90, 180, 270)


class Places(NamedTuple):
    """Where to look in one picture."""

    spots: list[Spot]
    found_by: list[str]
    view_from_source: np.ndarray
    """(2, 3): how the picture was turned to be looked at"""


def whole_box(width: int, height: int, scale: float) -> np.ndarray:
    """The box whose crop of that scale is the whole picture (of its longer side, where it is not square)."""
    centre, half = np.array([(width - 1) / 2, (height - 1) / 2]), max(width, height) / scale / 2
    return np.concatenate([centre - half, centre + half])


def _region(view: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The picture round a box, twice as wide, as far as there is any."""
    centre, half = (box[:2] + box[2:]) / 2, max(box[2:] - box[:2])
    x0, y0 = np.maximum(np.floor(centre - half), 0).astype(int)
    x1, y1 = np.ceil(centre + half).astype(int) + 1
    return view[y0:y1, x0:x1]


def _best_turn(view: np.ndarray, finder: Finder) -> tuple[int, list[Found]]:
    """The quarter turn in which the finder is surest of a face (frontal before profile), and its faces; 0 where it finds none."""
    height, width = view.shape[:2]
    best: tuple[tuple[bool, float], int, list[Found]] = ((False, 0.0), 0, [])
    for degrees in TURNS:
        found = finder(view_of(view, turn_affine(degrees, width, height)))
        sure = max(((f.by != "profile", f.score) for f in found), default=(False, 0.0))
        if sure > best[0]:
            best = (sure, degrees, found)
    return best[1], best[2]


def places_in(
    image: np.ndarray,
    view_from_source: np.ndarray,
    *,
    finder: Finder | None,
    crop_scale: float,
    boxes: Sequence[np.ndarray] | None = None,
    whole: bool = False,
    rotate: Rotate = "0",
    most: int = 0,
) -> Places:
    """Where to look.

    Args:
        image: (H, W, 3) uint8 RGB, as stored.
        view_from_source: how the file says that it is held.
        finder: used where neither boxes nor `whole` are given, and for `rotate` "auto".
        crop_scale: of the model's crop contract; the size of the box of a `whole` picture.
        boxes: landmark boxes, px of the stored picture.
        whole: the picture is a crop of one face.
        rotate: degrees clockwise by which the picture must be turned to hold its faces upright; "auto" tries all four with the finder.
        most: keep the largest ones; 0: all.
    """
    height, width = image.shape[:2]
    view = view_of(image, view_from_source)
    view_height, view_width = view.shape[:2]
    found: list[Found] | None = None
    degrees = 0 if rotate == "auto" else int(rotate)
    if rotate == "auto":
        assert finder is not None
        if boxes:
            degrees, _ = _best_turn(_region(view, map_box(view_from_source, boxes[0])), finder)
        else:
            degrees, found = _best_turn(view, finder)
    if degrees:
        turn = turn_affine(degrees, view_width, view_height)
        view_from_source = geometry.compose(turn, view_from_source)
    if boxes is not None:
        found = [Found(map_box(view_from_source, box), 0.0, "given") for box in boxes]
    elif whole:
        found = [Found(whole_box(*size_of_view(view_from_source, width, height), crop_scale), 0.0, "whole")]
    elif found is None:
        assert finder is not None
        found = finder(view_of(image, view_from_source))
    if most:
        found = sorted(found, key=lambda f: -float((f.box[2:] - f.box[:2]).max()))[:most]
    return Places([Spot(image, f.box, view_from_source) for f in found], [f.by for f in found], view_from_source)
