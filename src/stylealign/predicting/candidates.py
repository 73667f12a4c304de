"""One picture -> candidates, the places where a face may be: given boxes, the whole picture, or what a finder finds.

A picture that lies on its side is turned first. Knows finders and turned pictures; no network and no output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from stylealign.face import geometry
from stylealign.face.orientation import map_box, size_of_view, turn_affine, view_of
from stylealign.predicting.finders import Finder, FoundFace
from stylealign.predicting.given_boxes import refuse_outside
from stylealign.predicting.sources import Photo

Rotate = Literal["0", "90", "180", "270", "auto"]
Orientation = Literal["given", "found", "assumed"]
TURNS = (0, 90, 180, 270)
LYING = 50.0  # degrees by which a face leans, above which it is asked about in a turned picture
TURNED_PX = 320  # longer side of the picture that is turned where no face is found in it as it is held


class Candidate(NamedTuple):
    """A place in a picture where a face is thought to be. What the network is asked about."""

    photo: Photo
    """the picture, in the view that holds the face upright"""
    box: np.ndarray
    """(4,) landmark box x0, y0, x1, y1, px of that view"""
    found_by: str = "given"
    """given, whole, track, or the finder's name"""
    orientation: Orientation | None = None
    """how it is known that the view holds the face upright; None in a video, where nobody asked"""

    def crop_from_source(self, scale: float, size: int) -> np.ndarray:
        """(2, 3) affine from the stored picture to a crop `size` px wide that shows `scale` times the box."""
        return geometry.compose(geometry.crop_affine(self.box, scale, size), self.photo.view_from_source)


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """How candidates are looked for in a picture."""

    crop_scale: float
    """Of the model's crop contract: says how large the box of a whole picture is"""
    finder: Finder | None = None
    """Used where neither boxes nor `whole_image` are given, and for `rotate` auto; None where it is not needed"""
    whole_image: bool = False
    """The picture is a crop of one face"""
    rotate: Rotate = "0"
    """Degrees clockwise by which pictures must be turned to hold faces upright; auto: try all four with the finder.
    0: the others are only tried, on a small copy, where there is no face in the picture as it is held"""
    most: int = 0
    """Keep so many of the largest; 0: all"""


def whole_box(width: int, height: int, scale: float) -> np.ndarray:
    """(4,) the box whose crop of that scale is the whole picture (of its longer side, where it is not square), px."""
    centre, half = np.array([(width - 1) / 2, (height - 1) / 2]), max(width, height) / scale / 2
    return np.concatenate([centre - half, centre + half])


def _around(view: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The part of a picture round a box, twice as wide, as far as there is any."""
    centre, half = (box[:2] + box[2:]) / 2, max(box[2:] - box[:2])
    x0, y0 = np.maximum(np.floor(centre - half), 0).astype(int)
    x1, y1 = np.ceil(centre + half).astype(int) + 1
    return view[y0:y1, x0:x1]


def _best_turn(view: np.ndarray, finder: Finder, turns: Sequence[int] = TURNS) -> tuple[int, list[FoundFace]]:
    """The quarter turn in which the finder is surest of a face that is upright, in degrees, and its faces.

    0 where it finds none.
    """
    height, width = view.shape[:2]
    best: tuple[tuple[bool, float], int, list[FoundFace]] = ((False, 0.0), 0, [])
    for degrees in turns:
        found = finder(view_of(view, turn_affine(degrees, width, height)))
        sure = max(((abs(f.roll or 0.0) < LYING, f.score) for f in found), default=(False, 0.0))
        if sure > best[0]:
            best = (sure, degrees, found)
    return best[1], best[2]


def turned(candidate: Candidate, degrees: int) -> Candidate:
    """The same place in the picture turned clockwise by a multiple of 90 degrees."""
    photo = candidate.photo
    height, width = photo.image.shape[:2]
    turn = turn_affine(degrees, *size_of_view(photo.view_from_source, width, height))
    return candidate._replace(
        photo=photo._replace(view_from_source=geometry.compose(turn, photo.view_from_source)),
        box=map_box(turn, candidate.box),
    )


def _candidate(photo: Photo, face: FoundFace, orientation: Orientation) -> Candidate:
    """A found face as a candidate; one that lies on its side or stands on its head is turned by quarters."""
    candidate = Candidate(photo, face.box, face.by, orientation)
    if orientation == "given" or face.roll is None or abs(face.roll) < LYING:
        return candidate
    return turned(candidate, -90 * round(face.roll / 90) % 360)._replace(orientation="found")


def _found_turned(view: np.ndarray, finder: Finder, view_from_source: np.ndarray) -> tuple[list[FoundFace], np.ndarray]:
    """What the finder finds in a small copy of the view turned by quarters, and turned_from_source.

    Nothing, and the affine as it was, where it finds no face that is upright then.
    """
    height, width = view.shape[:2]
    factor = max(1.0, max(height, width) / TURNED_PX)
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(view, size, interpolation=cv2.INTER_AREA) if factor > 1 else view
    degrees, found = _best_turn(small, finder, TURNS[1:])
    found = [face for face in found if abs(face.roll or 0.0) < LYING]
    if not found:
        return [], view_from_source
    larger = [face._replace(box=(face.box + 0.5) * factor - 0.5) for face in found]
    return larger, geometry.compose(turn_affine(degrees, width, height), view_from_source)


def candidates_in(
    photo: Photo, search: Search, boxes: Sequence[np.ndarray] | None = None, name: str = ""
) -> list[Candidate]:
    """Where faces may be in a picture.

    Args:
        photo: the picture in the view that its file asks for.
        search: how to look.
        boxes: (4,) landmark boxes, px of the stored picture, which are then the candidates; None: look for faces.
        name: the picture's, for messages.

    Returns:
        Candidates in the picture turned as `search.rotate` says; those that lie in it, by their finder's points, in a
        view of their own.

    Raises:
        UserError: a box outside of the picture.
    """
    height, width = photo.image.shape[:2]
    for box in boxes or ():
        refuse_outside(box, width, height, name)
    view_from_source = photo.view_from_source
    view = view_of(photo.image, view_from_source)
    found: list[FoundFace] | None = None
    degrees = 0 if search.rotate == "auto" else int(search.rotate)
    orientation: Orientation = "given" if degrees else "assumed"
    if search.rotate == "auto":
        assert search.finder is not None
        if boxes:
            degrees, seen = _best_turn(_around(view, map_box(view_from_source, boxes[0])), search.finder)
        else:
            degrees, seen = _best_turn(view, search.finder)
            found = seen
        orientation = "found" if seen else "assumed"
    if degrees:
        turn = turn_affine(degrees, view.shape[1], view.shape[0])
        view_from_source = geometry.compose(turn, view_from_source)
    if boxes is not None:
        found = [FoundFace(map_box(view_from_source, box), 0.0, "given") for box in boxes]
    elif search.whole_image:
        box = whole_box(*size_of_view(view_from_source, width, height), search.crop_scale)
        found = [FoundFace(box, 0.0, "whole")]
    elif found is None:
        assert search.finder is not None
        found = search.finder(view_of(photo.image, view_from_source))
        if not found and search.rotate == "0":
            found, view_from_source = _found_turned(view, search.finder, view_from_source)
            orientation = "found" if found else orientation
    if search.most:
        found = sorted(found, key=lambda f: -float((f.box[2:] - f.box[:2]).max()))[: search.most]
    seen_as = photo._replace(view_from_source=view_from_source)
    return [_candidate(seen_as, face, orientation) for face in found]
