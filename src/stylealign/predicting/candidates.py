"""One picture -> candidates, the places where a face may be: given boxes, the whole picture, or what a finder finds.

A picture that lies on its side is turned first. Knows finders and turned pictures; no network and no output.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    """Degrees clockwise by which pictures must be turned to hold faces upright; auto: try all four with the finder"""
    network_turns: bool = False
    """With `rotate` auto: the network tells itself which way up a face is (predicting/faces.py), so that the finder's
    word is only where to look"""
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


def _in_all_turns(view: np.ndarray, finder: Finder) -> dict[int, list[FoundFace]]:
    """What the finder finds in each quarter turn of a picture, px of the turned picture."""
    height, width = view.shape[:2]
    return {degrees: finder(view_of(view, turn_affine(degrees, width, height))) for degrees in TURNS}


def _surest(found: dict[int, list[FoundFace]]) -> int:
    """The turn in which the finder is surest of a face (frontal before profile), in degrees; 0 where it finds none.

    A finder also sees faces in the other turns of upright ones, so upright faces are given up only for what it is
    SURER times as sure of.
    """
    none = (False, 0.0)
    sure = {turn: max(((f.by != "profile", f.score) for f in faces), default=none) for turn, faces in found.items()}
    best = max(sure, key=lambda turn: sure[turn])
    (frontal, score), (upright, least) = sure[best], sure[0]
    return 0 if sure[best] == none or (upright == frontal and score < SURER * least) else best


def _turn_of_box(view: np.ndarray, box: np.ndarray, finder: Finder) -> tuple[int, bool]:
    """The turn of the face in a box by the finder alone, and whether it saw a face on the box in that turn."""
    part = _around(view, box)
    height, width = part.shape[:2]
    x0, y0 = np.maximum(np.floor((box[:2] + box[2:]) / 2 - max(box[2:] - box[:2])), 0).astype(int)
    there = box - np.array([x0, y0, x0, y0])
    seen = {}
    for turn, faces in _in_all_turns(part, finder).items():
        turned = map_box(turn_affine(turn, width, height), there)
        seen[turn] = [f for f in faces if geometry.intersection_over_union(f.box, turned) > SAME_PLACE]
    best = _surest(seen)
    return best, bool(seen[best])


def turned_photo(photo: Photo, degrees: int) -> Photo:
    """The photo in a view that is turned clockwise by a multiple of 90 degrees more."""
    if not degrees:
        return photo
    height, width = photo.image.shape[:2]
    turn = turn_affine(degrees, *size_of_view(photo.view_from_source, width, height))
    return photo._replace(view_from_source=geometry.compose(turn, photo.view_from_source))


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
        Candidates in the picture turned as `search.rotate` says. With `network_turns` some may be in the view that is
        not turned: a face that the finder sees upright is never given up for what it sees in another turn.

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
    found: dict[int, list[FoundFace]] = {}  # by turn
    placed = boxes is not None or search.whole_image
    if auto and not (placed and search.network_turns):
        assert search.finder is not None
        if boxes:
            degrees, seen = _turn_of_box(view, map_box(photo.view_from_source, boxes[0]), search.finder)
        else:
            turns = _in_all_turns(view, search.finder)
            degrees = _surest(turns)
            seen = bool(turns[degrees])
            found = {degrees: turns[degrees]}
            if degrees and search.network_turns:
                found[0] = turns[0]
        orientation = "found" if seen else "assumed"
    if boxes is not None:
        turned = turned_photo(photo, degrees)
        found = {degrees: [FoundFace(map_box(turned.view_from_source, box), 0.0, "given") for box in boxes]}
    elif search.whole_image:
        box = whole_box(*size_of_view(turned_photo(photo, degrees).view_from_source, width, height), search.crop_scale)
        found = {degrees: [FoundFace(box, 0.0, "whole")]}
    elif not auto:
        assert search.finder is not None
        found = {degrees: search.finder(view_of(photo.image, turned_photo(photo, degrees).view_from_source))}
    candidates: list[Candidate] = []
    kept: list[np.ndarray] = []  # boxes in the stored picture
    for turn, faces in found.items():
        turned = turned_photo(photo, turn)
        for face in faces:
            stored = map_box(geometry.invert(turned.view_from_source), face.box)
            if turn == degrees or all(geometry.intersection_over_union(stored, box) < SAME_PLACE for box in kept):
                candidates.append(Candidate(turned, face.box, face.by, orientation))
                kept.append(stored)
    if search.most:
        candidates = sorted(candidates, key=lambda c: -float((c.box[2:] - c.box[:2]).max()))[: search.most]
    return candidates
