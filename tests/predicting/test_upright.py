"""Which way up a face is: told by the detector's own answers, said in every record, never turned the wrong way."""

from dataclasses import replace

import numpy as np
import pytest

from builders.dot_network import DotNetwork, UprightNetwork, find_dots
from builders.dots import PLACES, paint
from stylealign.face import geometry
from stylealign.face.orientation import turn_affine, view_of
from stylealign.predicting.candidates import TURNS, Candidate, Search, candidates_in
from stylealign.predicting.faces import find_faces
from stylealign.predicting.finders import FoundFace
from stylealign.predicting.landmarks import find_landmarks
from stylealign.predicting.sources import Photo
from stylealign.predicting.upright import right_way_up

EYE = np.eye(2, 3)


def turned_picture(degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """A dot face that has to be turned clockwise by that many degrees to be upright, and its landmarks."""
    landmarks = PLACES + np.array([50, 45])
    back = turn_affine(-degrees % 360, 100, 90)
    return view_of(paint(landmarks, 100, 90, np.array([30, 20, 40])), back), geometry.apply(back, landmarks)


def candidate(degrees: int, **fields: object) -> Candidate:
    image, landmarks = turned_picture(degrees)
    return Candidate(Photo(image, EYE), geometry.landmark_box(landmarks), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("degrees", TURNS)
def test_the_way_up_is_found_and_not_where_nothing_tells(degrees: int) -> None:
    for network, way in ((UprightNetwork(scale=2.2), degrees), (DotNetwork(scale=2.2), None)):
        asked = [candidate(degrees)]
        assert right_way_up(network, asked, find_landmarks(network, asked, 0), 0) == [way]


@pytest.mark.parametrize("degrees", TURNS[1:])
def test_a_face_that_is_not_upright_is_turned_or_doubted_or_left_out(degrees: int) -> None:
    network, (_, landmarks) = UprightNetwork(scale=2.2), turned_picture(degrees)
    seen = [candidate(degrees, found_by="frontal", orientation="assumed"), candidate(0, found_by="frontal")]
    (found,) = find_faces(network, [seen], 0)
    assert found.askew == (degrees,)  # and not a face at 110 % NME
    assert [face.orientation for face in found.faces] == ["found"]
    (found,) = find_faces(network, [seen], 0, turn=True)
    assert found.askew == ()
    assert [(face.orientation, face.upright_at) for face in found.faces] == [("found", None)] * 2
    assert np.abs(found.faces[0].landmarks - landmarks).max() < 0.3
    for orientation in ("assumed", "given"):  # a box of the user's is never dropped
        ((face,), *_) = find_faces(network, [[candidate(degrees, orientation=orientation)]], 0)[0]
        assert (face.orientation, face.upright_at) == (orientation, degrees)


def test_nothing_is_asked_without_the_check_or_without_mirror_twins() -> None:
    network = UprightNetwork(scale=2.2)
    seen = candidate(180, found_by="frontal", orientation="assumed")
    (face,) = find_faces(network, [[seen]], 0, check=False)[0].faces
    assert (face.orientation, face.upright_at, network.batches) == ("assumed", None, [1])
    network = UprightNetwork(scale=2.2)
    network.schema = replace(network.schema, flip_pairs=())
    (face,) = find_faces(network, [[seen]], 0)[0].faces
    assert face.orientation == "assumed"
    assert network.batches == [1, 2]  # the answer, and whether there is a face


def test_a_wrong_turn_of_the_finder_is_put_right() -> None:
    """A finder that is surest of the picture upside down, as where the top of a face is cut off."""
    image, landmarks = turned_picture(0)

    def finder(view: np.ndarray) -> list[FoundFace]:
        upside_down = view[:45].mean() < view[45:].mean()  # the mouth's dots are the brighter ones
        return [face._replace(score=2.0 if upside_down else 1.0) for face in find_dots(view)]

    first = finder(image)[0].score
    flip = 2.0 if first == 1.0 else 1.0

    def wrong(view: np.ndarray) -> list[FoundFace]:
        return [face._replace(score=3.0 if face.score == flip else 1.0) for face in finder(view)]

    asked = candidates_in(Photo(image, EYE), Search(crop_scale=2.2, finder=wrong, rotate="auto"))
    assert asked[0].photo.view_from_source[0, 0] == -1  # turned by 180 degrees
    (face,) = find_faces(UprightNetwork(scale=2.2), [asked], 0, turn=True)[0].faces
    assert face.orientation == "found"
    assert np.abs(face.landmarks - landmarks).max() < 0.3


@pytest.mark.parametrize(("rotate", "orientation"), [("0", "assumed"), ("90", "given"), ("auto", "assumed")])
def test_what_nobody_found_is_assumed(rotate: str, orientation: str) -> None:
    """`--rotate auto` with a box where the finder sees nothing in any turn."""
    image, landmarks = turned_picture(0)
    search = Search(crop_scale=2.2, finder=lambda _: [], rotate=rotate)  # type: ignore[arg-type]
    (asked,) = candidates_in(Photo(image, EYE), search, [geometry.landmark_box(landmarks)])
    assert asked.orientation == orientation
    (face,) = find_faces(DotNetwork(scale=2.2), [[asked]], 0, turn=rotate == "auto")[0].faces
    assert face.orientation == orientation
