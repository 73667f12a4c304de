"""Predictions of group photos: paired with the faces by place, said where names say otherwise, never silently wrong."""

from pathlib import Path

import numpy as np
import pytest

from stylealign.errors import UserError
from stylealign.evaluation.matching import match_predictions
from stylealign.face.sample import FaceSample, Prediction

FACE = np.array([[0.0, 0], [10, 0], [5, 5], [1, 10], [9, 10]])
LEFT, MIDDLE, RIGHT = ([x, 20.0] for x in (0.0, 40.0, 80.0))
NOWHERE = [400.0, 400.0]


def faces(*places: list[float], ids: tuple[str, ...] = ("in/group", "in/group#2", "in/group#3")) -> list[FaceSample]:
    """The faces of one picture, as a list names them: by their lines."""
    image = Path("/data/in/group.png")
    return [FaceSample(id=i, image=image, landmarks=FACE + p) for i, p in zip(ids, places, strict=False)]


def rows(*named: tuple[str, list[float]]) -> list[Prediction]:
    """Predictions half a pixel off a place."""
    return [
        Prediction(id=name, landmarks=FACE + place + 0.5, where=f"p:{k}") for k, (name, place) in enumerate(named, 1)
    ]


def errors(found: list[Prediction], samples: list[FaceSample]) -> list[float]:
    return [float(np.abs(f.landmarks - s.landmarks).max()) for f, s in zip(found, samples, strict=True)]


@pytest.mark.parametrize(
    "names",
    [
        ("in/group", "in/group#2", "in/group#3"),  # predict --formats pts: one to one, and wrong
        ("in/group.png", "in/group.png#2", "in/group.png#3"),  # predictions.jsonl and the CSV
        ("group.png", "group.png#2", "group.png#3"),
        ("group.png", "group.png", "group.png"),  # the picture's name, once a face
    ],
)
def test_faces_of_a_group_photo_are_paired_by_place(names: tuple[str, ...], capsys) -> None:
    truth = faces(LEFT, MIDDLE, RIGHT)
    found = match_predictions(rows(*zip(names, (RIGHT, LEFT, MIDDLE), strict=True)), truth)
    assert max(errors(found, truth)) <= 0.5
    said = capsys.readouterr().err
    assert ("matched by place" in said) == (names[1] == "in/group#2")  # names that meant other faces are said


def test_faces_cheek_to_cheek_are_paired_as_all_fit_best() -> None:
    truth = faces([0.0, 0.0], [4.0, 0.0], [8.0, 0.0])  # each overlaps its neighbour by 0.43
    found = match_predictions(
        rows(("group.png", [9.0, 0]), ("group.png#2", [5.0, 0]), ("group.png#3", [1.0, 0])), truth
    )
    assert max(errors(found, truth)) <= 1.5


def test_a_prediction_of_no_known_face_is_counted_and_named(capsys) -> None:
    truth = faces(LEFT, MIDDLE)
    four = rows(("group.png", MIDDLE), ("group.png#2", LEFT), ("group.png#3", RIGHT), ("group.png#4", NOWHERE))
    assert max(errors(match_predictions(four, truth), truth)) <= 0.5
    assert "2 predictions on no face" in (said := capsys.readouterr().err)
    assert "'group.png#3', 'group.png#4'" in said
    one = truth[:1]  # a picture with one labelled face, in which predict found two
    assert max(errors(match_predictions(four[:2], one), one)) <= 0.5


def test_a_face_without_a_prediction_is_refused_by_name() -> None:
    two = rows(("group.png", RIGHT), ("group.png#2", LEFT), ("group.png#3", NOWHERE))
    with pytest.raises(
        UserError, match=r"no prediction for 1 of 3 faces, first 'in/group#2' \(1 lie on no face: 'group.png#3'\)"
    ):
        match_predictions(two, faces(LEFT, MIDDLE, RIGHT))
    with pytest.raises(UserError, match="no prediction for 2 of 3 faces, first 'in/group#2', 'in/group#3'"):
        match_predictions(rows(("group.png", LEFT), ("group.png#2", NOWHERE)), faces(LEFT, MIDDLE, RIGHT))


def test_predictions_of_faces_that_are_not_scored_are_passed_over(capsys) -> None:
    left, middle, right = faces(LEFT, MIDDLE, RIGHT)
    three = rows(("group.png", MIDDLE), ("group.png#2", RIGHT), ("group.png#3", LEFT))
    assert errors(match_predictions(three, [right], [left, middle]), [right]) == [0.5]
    assert not capsys.readouterr().err


def test_a_bad_answer_keeps_its_name(capsys) -> None:
    """Pairing by place would hide that a detector answers badly: names of faces are believed as long as they may be."""
    truth = faces(LEFT, MIDDLE, RIGHT)
    bad = rows(("in/group", [12.0, 24]), ("in/group#2", [32.0, 20]), ("in/group#3", NOWHERE))
    assert [row.id for row in match_predictions(bad, truth)] == [s.id for s in truth]
    assert not capsys.readouterr().err
    both = rows(("in/group", MIDDLE), ("in/group#2", [42.0, 20]), ("in/group#3", RIGHT))  # the first on the second
    assert [row.id for row in match_predictions(both, truth)] == [s.id for s in truth]
    assert "on another face of the picture" in (said := capsys.readouterr().err)
    assert "'in/group'" in said


def test_missing_landmarks_do_not_say_where_a_face_is() -> None:
    trust = np.array([1.0, 1, 1, 1, 0])
    image = Path("group.png")
    truth = [
        FaceSample(id=f"f{k}", image=image, landmarks=np.vstack([(FACE + p)[:4], [[0, 0]]]), point_trust=trust)
        for k, p in enumerate((MIDDLE, RIGHT))
    ]
    found = match_predictions(rows(("group.png", RIGHT), ("group.png#2", MIDDLE)), truth)
    assert [row.id for row in found] == ["group.png#2", "group.png"]


def test_one_name_twice_is_refused() -> None:
    for twice in (("in/group", "in/group.png"), ("group.png#2", "group.png#2")):
        with pytest.raises(UserError, match="predicted twice, first at p:1"):
            match_predictions(
                rows(*((name, LEFT) for name in twice), ("in/group#3", RIGHT)), faces(LEFT, MIDDLE, RIGHT)
            )
