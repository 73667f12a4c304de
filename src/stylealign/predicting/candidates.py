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
SURER = 2.0
SAME_PLACE = 0.3  # intersection over union of two boxes above which they are of one face
LYING = 50.0  # degrees by which a face leans, above which it is asked about in a turned picture
TURNED_PX = 320  # longer side of the picture that is turned where no face is found in it as it is held


class Candidate(NamedTuple):
    """A place in a picture where a face is thought to be. What the network is asked about."""

    photo: Photo
    """the picture, in the view that holds the face upright"""
    box: np.ndarray
    """(4,) landmark box x0, y0, x1, y1, px of that view, or of the view turned by `roll`"""
    found_by: str = "given"
    """given, whole, track, or the finder's name"""
    orientation: Orientation | None = None
    """how it is known that the view holds the face upright; None in a video, where nobody asked"""
    roll: float = 0.0
    """degrees clockwise by which the face is turned in the view: it is cut turned back by them"""

    @property
    def side(self) -> float:
        """Longer side of the box, px of the picture."""
        return float((self.box[2:] - self.box[:2]).max())

    @property
    def frame_from_source(self) -> np.ndarray:
        """(2, 3) affine from the stored picture to where the box is: the view, turned about its first pixel so that
        the face is upright."""
        view = self.photo.view_from_source
        return geometry.compose(geometry.rotate_scale_affine((0, 0), -self.roll, 1.0), view) if self.roll else view

    def crop_from_source(self, scale: float, size: int) -> np.ndarray:
        """(2, 3) affine from the stored picture to a crop `size` px wide that shows `scale` times the box."""
        return geometry.compose(geometry.crop_affine(self.box, scale, size), self.frame_from_source)


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
    network_turns: bool = False
    """With `rotate` auto: the network tells itself which way up a face is (predicting/faces.py), so that the finder's
    word is only where to look"""


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


def _in_turns(view: np.ndarray, finder: Finder, turns: Sequence[int] = TURNS) -> dict[int, list[FoundFace]]:
    """What the finder finds in quarter turns of a picture, px of the turned picture, by the turn."""
    height, width = view.shape[:2]
    return {degrees: finder(view_of(view, turn_affine(degrees, width, height))) for degrees in turns}


def _surest(found: dict[int, list[FoundFace]]) -> int:
    """The turn in which the finder is surest of a face that is upright, in degrees; 0 where it finds none.

    A finder also sees faces in other turns of upright ones, so upright faces are given up only for what it is SURER
    times as sure of.
    """
    none = (False, 0.0)
    sure = {
        turn: max(((abs(f.roll or 0.0) < LYING, f.score) for f in faces), default=none) for turn, faces in found.items()
    }
    best = max(sure, key=lambda turn: sure[turn])
    (is_upright, score), (as_held, least) = sure[best], sure.get(0, none)
    return 0 if sure[best] == none or (is_upright == as_held and score < SURER * least) else best


def _turn_of_box(view: np.ndarray, box: np.ndarray, finder: Finder) -> tuple[int, bool]:
    """The turn of the face in a box by the finder alone, and whether it saw a face on the box in that turn."""
    part = _around(view, box)
    height, width = part.shape[:2]
    x0, y0 = np.maximum(np.floor((box[:2] + box[2:]) / 2 - max(box[2:] - box[:2])), 0).astype(int)
    there = box - np.array([x0, y0, x0, y0])
    seen = {}
    for turn, faces in _in_turns(part, finder).items():
        placed = map_box(turn_affine(turn, width, height), there)
        seen[turn] = [f for f in faces if geometry.intersection_over_union(f.box, placed) > SAME_PLACE]
    best = _surest(seen)
    return best, bool(seen[best])


def turned_photo(photo: Photo, degrees: int) -> Photo:
    """The photo in a view that is turned clockwise by a multiple of 90 degrees more."""
    if not degrees:
        return photo
    height, width = photo.image.shape[:2]
    turn = turn_affine(degrees, *size_of_view(photo.view_from_source, width, height))
    return photo._replace(view_from_source=geometry.compose(turn, photo.view_from_source))


def turned(candidate: Candidate, degrees: int) -> Candidate:
    """The same place in the picture turned clockwise by a multiple of 90 degrees."""
    photo = turned_photo(candidate.photo, degrees)
    moved = geometry.compose(photo.view_from_source, geometry.invert(candidate.photo.view_from_source))
    return candidate._replace(photo=photo, box=map_box(moved, candidate.box))


def _candidate(photo: Photo, face: FoundFace, orientation: Orientation) -> Candidate:
    """A found face as a candidate; one that lies on its side or stands on its head is turned by quarters."""
    candidate = Candidate(photo, face.box, face.by, orientation)
    if orientation == "given" or face.roll is None or abs(face.roll) < LYING:
        return candidate
    return turned(candidate, -90 * round(face.roll / 90) % 360)._replace(orientation="found")


def _found_turned(view: np.ndarray, finder: Finder) -> tuple[int, list[FoundFace]]:
    """The quarter turn in which the finder finds upright faces in a small copy of the view, and those, px of the view
    turned by it; 0 and none where there are none."""
    height, width = view.shape[:2]
    factor = max(1.0, max(height, width) / TURNED_PX)
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(view, size, interpolation=cv2.INTER_AREA) if factor > 1 else view
    turns = _in_turns(small, finder, TURNS[1:])
    degrees = _surest(turns)
    found = [face for face in turns.get(degrees, []) if abs(face.roll or 0.0) < LYING]
    return degrees, [face._replace(box=(face.box + 0.5) * factor - 0.5) for face in found]


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
        view of their own. With `network_turns` a face that the finder sees as the picture is held is never given up for
        what it sees in another turn: both are candidates.

    Raises:
        UserError: a box outside of the picture.
    """
    height, width = photo.image.shape[:2]
    for box in boxes or ():
        refuse_outside(box, width, height, name)
    view = view_of(photo.image, photo.view_from_source)
    auto = search.rotate == "auto"
    degrees = 0 if search.rotate == "auto" else int(search.rotate)
    orientation: Orientation = "given" if degrees else "assumed"
    found: dict[int, list[FoundFace]] = {}  # by turn, the preferred one first
    placed = boxes is not None or search.whole_image
    if auto and not (placed and search.network_turns):
        assert search.finder is not None
        if boxes:
            degrees, seen = _turn_of_box(view, map_box(photo.view_from_source, boxes[0]), search.finder)
        else:
            turns = _in_turns(view, search.finder)
            degrees = _surest(turns)
            seen = bool(turns[degrees])
            found = {degrees: turns[degrees]}
            if degrees and search.network_turns:
                found[0] = turns[0]
        orientation = "found" if seen else "assumed"
    if boxes is not None:
        held = turned_photo(photo, degrees)
        found = {degrees: [FoundFace(map_box(held.view_from_source, box), 0.0, "given") for box in boxes]}
    elif search.whole_image:
        held = turned_photo(photo, degrees)
        box = whole_box(*size_of_view(held.view_from_source, width, height), search.crop_scale)
        found = {degrees: [FoundFace(box, 0.0, "whole")]}
    elif not auto:
        assert search.finder is not None
        faces = search.finder(view_of(photo.image, turned_photo(photo, degrees).view_from_source))
        if not faces and search.rotate == "0":
            degrees, faces = _found_turned(view, search.finder)
            orientation = "found" if faces else orientation
        found = {degrees: faces}
    candidates: list[Candidate] = []
    boxes_of_first: list[np.ndarray] = []  # px of the stored picture
    for turn, faces in found.items():
        held = turned_photo(photo, turn)
        home = geometry.invert(held.view_from_source)
        for face in faces:
            stored = map_box(home, face.box)
            if turn == degrees:
                boxes_of_first.append(stored)
            elif any(geometry.intersection_over_union(stored, box) > SAME_PLACE for box in boxes_of_first):
                continue
            candidates.append(_candidate(held, face, orientation))
    return candidates
