"""How the faces of somebody's pictures can be found: by a finder, as the whole picture, or only by given boxes.

Measured on labelled faces, so that nobody has to know whether theirs are what a finder of human faces finds. Pictures
without labels are then placed the same way. Knows no network.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from stylealign.data.image import orientation_of, read_image
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.orientation import map_box, shown_picture, upright_affine, view_of
from stylealign.face.sample import FaceSample
from stylealign.predicting.candidates import whole_box
from stylealign.predicting.finders import Finder

How = Literal["finder", "whole", "boxes"]
ENOUGH = 0.7
"""Share of the labelled faces that a way has to find before it is used."""
SAME = 0.4
"""Intersection over union with the box of the landmarks above which a place is the face's."""


class Places(NamedTuple):
    """How faces can be found, and how that was measured."""

    how: How
    asked: int
    """Labelled faces that were looked at"""
    found: float
    """Share of them that the finder finds"""
    whole: float
    """Share of them that fill their picture as a crop of one face does"""

    @property
    def flags(self) -> str:
        """What `predict` needs to be told, beside the boxes where there must be some."""
        return " --whole-image" if self.how == "whole" else ""

    def sentence(self) -> str:
        """What was found out, for a person."""
        said = f"a finder of human faces finds {self.found:.0%} of {counted(self.asked, 'labelled face')}"
        if self.how == "finder":
            return f"{said}: `predict` can look for them"
        if self.how == "whole":
            return f"{said}, and {self.whole:.0%} fill their picture: `predict --whole-image` takes each for one face"
        return f"{said}, and {self.whole:.0%} fill their picture: `predict` needs boxes (--boxes)"


def how_found(faces: Sequence[FaceSample], finder: Finder, scale: float, most: int = 40) -> Places:
    """Measure on labelled faces, evenly spread over those given.

    Args:
        faces: labelled; pictures that cannot be read are passed over.
        finder: of human faces.
        scale: side of the detector's crop over the box.
        most: how many are looked at.
    """
    hits, fills, asked = 0, 0, 0
    for sample in faces[:: max(1, len(faces) // most)][:most]:
        assert sample.landmarks is not None
        try:
            image = read_image(sample.image)
        except UserError:
            continue
        asked += 1
        sample, image, _ = shown_picture(sample, image)
        assert sample.landmarks is not None
        truth = geometry.square_of(sample.landmarks[~sample.missing_points])
        hits += any(geometry.intersection_over_union(face.box, truth) > SAME for face in finder(image))
        whole = whole_box(image.shape[1], image.shape[0], scale)
        fills += geometry.intersection_over_union(whole, truth) > SAME
    found, whole_share = hits / max(1, asked), fills / max(1, asked)
    how: How = "boxes"
    if max(found, whole_share) >= ENOUGH:
        how = "finder" if found >= ENOUGH and found >= whole_share - 0.1 else "whole"
    return Places(how, asked, found, whole_share)


def placed(faces: Iterator[FaceSample], how: How, finder: Finder, scale: float) -> Iterator[FaceSample]:
    """Unlabelled faces with the box they can be cut by; those in which none is found are left out, and so are pictures
    that cannot be read. A face that has a box keeps it.

    >>> list(placed(iter([]), "whole", lambda image: [], 1.4))
    []
    """
    for sample in faces:
        if sample.box_xyxy is not None:
            yield sample
            continue
        try:
            image = read_image(sample.image)
            turn = orientation_of(sample.image)
        except UserError:
            continue
        view = upright_affine(turn, image.shape[1], image.shape[0])
        if how == "whole":
            box = whole_box(image.shape[1], image.shape[0], scale)
        else:
            found = finder(view_of(image, view))
            if not found:
                continue
            box = max(found, key=lambda face: float((face.box[2:] - face.box[:2]).max())).box
            box = map_box(geometry.invert(view), box)
        yield FaceSample(id=sample.id, image=sample.image, box_xyxy=box, split=sample.split, orientation=turn)
