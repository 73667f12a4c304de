"""A face at any roll, by a network that has learnt every roll: told by its first answer, cut again turned, recorded."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders.dot_network import DotNetwork, UprightNetwork
from builders.dots import PLACES, paint
from builders.networks import make
from stylealign.batches.augment import AugmentConfig, OperationConfig
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import write_image
from stylealign.detectors.loaded import LoadedDetector, learnt_roll
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.orientation import turn_affine, view_of
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, SCHEMAS
from stylealign.jobs.calibrate.config import Calibrate
from stylealign.jobs.calibrate.rolls import measure_rolls, table_of_rolls, turned_face
from stylealign.predicting.candidates import TURNS, Candidate, Search, candidates_in
from stylealign.predicting.faces import find_faces
from stylealign.predicting.finders import FoundFace
from stylealign.predicting.landmarks import TURN, find_landmarks
from stylealign.predicting.onnx_network import read_metadata, to_metadata, upright_of
from stylealign.predicting.predicted_face import Face
from stylealign.predicting.sources import Photo
from stylealign.predicting.tracking import TrackConfig, Tracker

EYE, GROUND = np.eye(2, 3), np.array([30, 20, 40])
ROLLS = (0, 12, 40, -75, 90, 135, 180, -170)


class Roller(DotNetwork):
    """Knows every roll; what it saw last is kept."""

    def __init__(self) -> None:
        super().__init__(size=80, scale=2.2)  # large enough for its dots to be seen in a crop of a face that leans
        self.upright = PLACES
        self.leans: list[float] = []

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        found, sure = super().__call__(crops)
        self.leans = [geometry.roll_between(PLACES, points) for points in found]
        return found, sure


def rolled(degrees: float, width: int = 100, centre: tuple[float, float] = (50, 50)) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a dot face turned clockwise, and its landmarks."""
    landmarks = geometry.apply(geometry.rotate_scale_affine((0, 0), degrees, 1.0), PLACES) + np.array(centre)
    return paint(landmarks, width, 100, GROUND), landmarks


@pytest.mark.parametrize("refine", [0, 1])
@pytest.mark.parametrize("degrees", ROLLS)
def test_a_face_of_any_roll_is_answered_in_an_upright_crop_and_recorded(degrees: float, refine: int) -> None:
    image, landmarks = rolled(degrees)
    network = Roller()
    asked = Candidate(Photo(image, EYE), geometry.landmark_box(landmarks), orientation="assumed")
    (face,) = find_faces(network, [[asked]], refine)[0].faces
    assert np.abs(face.landmarks - landmarks).max() < 0.3
    assert face.roll is not None
    assert geometry.angle_between(face.roll, degrees) < 1
    assert (face.orientation, face.upright_at) == ("found", None)
    assert geometry.angle_between(network.leans[-1], 0 if abs(degrees) > TURN else degrees) < 1
    inside = geometry.landmark_box(landmarks)
    assert (face.box[:2] < inside[:2] + 0.5).all()
    assert (face.box[2:] > inside[2:] - 0.5).all()
    line = face.to_line(FIVE)
    assert f'"roll": {round(face.roll, 1)}' in line
    assert Face.from_line(line).roll == round(face.roll, 1)


def test_upright_faces_are_cut_as_by_any_other_network_and_no_crop_more() -> None:
    image, landmarks = rolled(8)
    asked = [Candidate(Photo(image, EYE), geometry.landmark_box(landmarks), "frontal")]
    plain, roller = DotNetwork(size=80, scale=2.2), Roller()
    before, after = find_landmarks(plain, asked)[0], find_landmarks(roller, asked)[0]
    np.testing.assert_array_equal(before.landmarks, after.landmarks)
    np.testing.assert_array_equal(before.box, after.box)
    assert roller.batches == plain.batches
    assert before.roll is None


def test_an_answer_that_is_no_face_is_asked_for_in_the_other_quarter_turns() -> None:
    image, landmarks = rolled(110)
    box = geometry.landmark_box(landmarks)

    class Blinkered(Roller):
        """Sees nothing in crops of faces that lean by more than 60 degrees, and answers the same place for all."""

        def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            found, sure = super().__call__(crops)
            for points, lean in zip(found, self.leans, strict=True):
                if abs(lean) > 60:
                    points[:] = points.mean(axis=0) + np.random.default_rng(0).normal(0, 1, points.shape)
            return found, sure

    for refine in (0, 1):
        network = Blinkered()
        (face,) = find_landmarks(network, [Candidate(Photo(image, EYE), box)], refine)
        assert np.abs(face.landmarks - landmarks).max() < 0.3
        assert network.batches[1] == 3
    upright = find_landmarks(Blinkered(), [Candidate(Photo(rolled(10)[0], EYE), box)])[0]
    assert upright.roll == pytest.approx(10, abs=1)


def test_such_a_network_is_not_asked_which_way_up_a_face_is() -> None:
    counts = []
    for knows in (False, True):
        image, landmarks = rolled(0)
        network = UprightNetwork(scale=2.2)
        network.upright = PLACES if knows else None
        find_faces(network, [[Candidate(Photo(image, EYE), geometry.landmark_box(landmarks), "frontal", "assumed")]])
        counts.append(sum(network.batches))
    assert counts == [5, 4]  # two answers, two for whether there is a face; and before, one on the mirrored face


def test_a_given_box_that_is_not_of_landmarks_is_turned_round_its_middle_and_keeps_its_size() -> None:
    image, landmarks = rolled(120)
    network = Roller()
    network.crop = CropConfig(size=100, scale=1.4, box="given")
    box = np.array([20.0, 22, 80, 78])
    (face,) = find_landmarks(network, [Candidate(Photo(image, EYE), box)], 1)
    assert np.abs(face.landmarks - landmarks).max() < 0.3
    assert face.roll == pytest.approx(120, abs=1)
    middle = (face.box[:2] + face.box[2:]) / 2
    np.testing.assert_allclose(middle, [50, 50])
    assert network.leans[-1] == pytest.approx(0, abs=1)


def test_a_rolled_face_in_a_turned_view_and_through_a_video() -> None:
    image, landmarks = rolled(-100)
    view = turn_affine(90, 100, 100)
    asked = Candidate(Photo(image, view), geometry.landmark_box(geometry.apply(view, landmarks)))
    (face,) = find_landmarks(Roller(), [asked])
    assert np.abs(face.landmarks - landmarks).max() < 0.3
    assert face.roll == pytest.approx(-100, abs=1)  # of the stored picture

    network = Roller()
    tracker = Tracker(network, lambda picture: [FoundFace(np.array([30.0, 30, 70, 70]), 1.0, "frontal")], TrackConfig())
    for number in range(8):  # turns by 25 degrees a frame, all the way round
        image, landmarks = rolled(25 * number, centre=(50 + number, 50))
        (face,) = tracker(image, number / 10)
        assert np.abs(face.landmarks - landmarks).max() < 0.3
    assert (tracker.num_tracks, tracker.num_lost) == (1, 0)


# --------------------------------------------------------------------------------------------------------------------
# What a card says


def test_the_roll_that_was_learnt_follows_from_the_augmentation() -> None:
    assert AugmentConfig().roll == 25
    assert AugmentConfig(preset="strong").roll == pytest.approx(25 + 36)
    assert AugmentConfig(preset="any_roll").roll == 180
    half = OperationConfig(name="rotate", prob=0.3, strength=(0.0, 0.5))
    assert AugmentConfig(rotation=10, ops=(half, replace(half, prob=0.0, strength=(0.0, 1.0)))).roll == 100
    assert learnt_roll({"roll": 61.0}) == 61
    assert learnt_roll({"config": {"augment": {"preset": "any_roll"}}}) == 180  # a card from before it said so
    assert learnt_roll({}) == learnt_roll({"config": {"augment": {"nonsense": 1}}}) == 0


def test_only_a_detector_that_has_learnt_every_roll_has_an_upright_shape() -> None:
    model = make("resnet18")
    common = {"model": model, "schema": SCHEMAS["ibug68"], "crop": CropConfig(size=32)}
    assert LoadedDetector(card={"roll": 61.0}, **common).upright is None
    upright = LoadedDetector(card={"roll": 180.0}, **common).upright
    np.testing.assert_allclose(upright, model.mean_shape)  # type: ignore[arg-type]
    model.mean_shape.fill_(torch.nan)  # type: ignore[union-attr,operator]
    assert LoadedDetector(card={"roll": 180.0}, **common).upright is None


def test_an_onnx_file_carries_the_upright_shape() -> None:
    card = {"model": "fpn", "model_hash": "0", "crop": {"size": 32, "scale": 1.4, "box": "landmarks"},
            "schema": FIVE.to_dict()}  # fmt: skip
    path = Path("m.onnx")
    read = read_metadata(to_metadata(card, "fp32", upright=PLACES), path)
    np.testing.assert_array_equal(upright_of(read, 5, "m"), PLACES)  # type: ignore[arg-type]
    assert upright_of(read_metadata(to_metadata(card, "fp32"), path), 5, "m") is None
    for wrong in ([[1, 2]], [[1, 2]] * 5, "x", [[1, 2, 3]] * 5):
        with pytest.raises(UserError, match=r"m\.onnx: its metadata's 'upright': expected 5 pairs"):
            upright_of({**read, "upright": wrong}, 5, "m.onnx: its metadata's")


# --------------------------------------------------------------------------------------------------------------------
# --rotate auto


def finder_that_sees(turns: dict[int, list[FoundFace]]) -> Any:
    """A finder that answers by the turn that it is asked about: all four, one after another."""
    asked = itertools.cycle(TURNS)
    return lambda view: turns.get(next(asked), [])


def frontal(*box: float, score: float = 1.0) -> FoundFace:
    return FoundFace(np.array(box, float), score, "frontal")


def test_auto_never_turns_an_upright_face_for_what_a_finder_sees_in_another_turn() -> None:
    upright, elsewhere = frontal(38, 38, 62, 62, score=5), frontal(5, 5, 25, 25, score=9)
    photo, finder = Photo(rolled(0)[0], EYE), finder_that_sees({0: [upright], 90: [elsewhere]})
    alone = Search(crop_scale=2.2, finder=finder, rotate="auto")
    assert [c.box.tolist() for c in candidates_in(photo, alone)] == [upright.box.tolist()]
    on_it, turned = frontal(12, 12, 36, 36, score=5), frontal(12, 12, 36, 36, score=9)  # of the part round the box
    sees = finder_that_sees({0: [on_it], 90: [turned], 180: [elsewhere._replace(score=99)]})
    (given,) = candidates_in(photo, replace(alone, finder=sees), [upright.box])
    np.testing.assert_array_equal(given.photo.view_from_source, EYE)
    assert given.orientation == "found"

    surer = finder_that_sees({0: [upright], 90: [elsewhere._replace(score=99)]})
    both = candidates_in(photo, replace(alone, finder=surer, network_turns=True))  # the network says which is one
    assert [c.box.tolist() for c in both] == [elsewhere.box.tolist(), upright.box.tolist()]
    found = find_faces(UprightNetwork(scale=2.2), [both], turn=True)[0].faces
    assert len(found) == 1
    np.testing.assert_allclose(found[0].landmarks, rolled(0)[1], atol=0.3)


def test_with_a_given_box_the_network_alone_says_which_way_up_the_face_is() -> None:
    def never(view: np.ndarray) -> list[FoundFace]:
        raise AssertionError("the finder has no say")

    search = Search(crop_scale=2.2, finder=never, rotate="auto", network_turns=True)
    for degrees in (0, 90, 180, 270):
        image, landmarks = rolled(degrees)
        asked = candidates_in(Photo(image, EYE), search, [geometry.landmark_box(landmarks)])
        for network in (UprightNetwork(scale=2.2), Roller()):
            (face,) = find_faces(network, [asked], turn=True)[0].faces
            np.testing.assert_allclose(face.landmarks, landmarks, atol=0.3)
            assert face.orientation == "found"


def test_a_picture_on_its_side_is_still_found() -> None:
    image, landmarks = rolled(0)
    side = view_of(image, turn_affine(270, 100, 100))  # to be turned clockwise by 90
    finder = finder_that_sees({90: [frontal(38, 38, 62, 62)]})
    for tells in (False, True):
        search = Search(crop_scale=2.2, finder=finder, rotate="auto", network_turns=tells)
        (candidate,) = candidates_in(Photo(side, EYE), search)
        assert candidate.orientation == "found"
        home = geometry.apply(geometry.invert(turn_affine(90, 100, 100)), landmarks)
        (face,) = find_faces(UprightNetwork(scale=2.2), [[candidate]], turn=True)[0].faces
        np.testing.assert_allclose(face.landmarks, home, atol=0.3)


# --------------------------------------------------------------------------------------------------------------------
# calibrate --what rolls


def test_turned_faces_are_measured_and_wrong_turns_counted(tmp_path: Path) -> None:
    samples = []
    for i in range(3):
        image, landmarks = rolled(5 * i, width=120, centre=(60 + i, 50))
        write_image(tmp_path / f"{i}.png", image)
        samples.append(FaceSample(id=f"{i}", image=tmp_path / f"{i}.png", landmarks=landmarks, split="val"))
    faces = write_dataset(tmp_path / "faces", samples, schema=FIVE, name="faces", source="drawn", licence="none")
    config = Calibrate(data=tmp_path / "faces", out=tmp_path / "out", what="rolls", rolls=(0, 60, 180), refine=1)
    knows = measure_rolls(config, Roller(), faces)
    assert [row["roll"] for row in knows["rolls"]] == [0, -60, 180]
    assert all(row["wrong"] == 0 and row["nme"] < 0.02 for row in knows["rolls"])
    assert knows["learnt_every_roll"]

    class Blind(DotNetwork):
        """Draws an upright face whatever it sees."""

        def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
            return super().__call__(np.zeros_like(crops))

    blind = measure_rolls(config, Blind(scale=2.2), faces)
    assert [row["wrong"] for row in blind["rolls"]] == [0, 1, 1]
    table = table_of_rolls({**blind, "faces": 3, "split": "val"})
    assert table.rows[2][0] == "180"
    assert table.rows[2][4] == "100.0"
    assert "has not learnt every roll" in table.note

    moved = turned_face(np.asarray(rolled(0)[0]), replace_box(samples[0]), 90, "given")
    assert np.ptp(moved.box.reshape(2, 2), axis=0) == pytest.approx(np.full(2, 40 * moved.size))
    with pytest.raises(ValueError, match="expected degrees of -180 to 180"):
        Calibrate(data=tmp_path, out=tmp_path / "x", rolls=(200,))


def replace_box(sample: FaceSample) -> FaceSample:
    return replace(sample, box_xyxy=np.array([30.0, 30, 70, 70]))
