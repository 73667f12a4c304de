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
    """Degrees clockwise by which pictures must be turned to hold faces upright; auto: try all four with the finder"""
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


def _best_turn(view: np.ndarray, finder: Finder) -> tuple[int, list[FoundFace]]:
    """The quarter turn in which the finder is surest of a face (frontal before profile), in degrees, and its faces.

    0 where it finds none.
    """
    height, width = view.shape[:2]
    best: tuple[tuple[bool, float], int, list[FoundFace]] = ((False, 0.0), 0, [])
    for degrees in TURNS:
        found = finder(view_of(view, turn_affine(degrees, width, height)))
        sure = max(((f.by != "profile", f.score) for f in found), default=(False, 0.0))
        if sure > best[0]:
            best = (sure, degrees, found)
    return best[1], best[2]


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
        Candidates, all in one view: the picture turned as `search.rotate` says.

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
    if search.most:
        found = sorted(found, key=lambda f: -float((f.box[2:] - f.box[:2]).max()))[: search.most]
    turned = photo._replace(view_from_source=view_from_source)
    return [Candidate(turned, face.box, face.by, orientation) for face in found]
