"""Measured hardness: each measure rises with its cause and hardly with the face's size or place; thirds are thirds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stylealign.data.image import warp, write_image
from stylealign.evaluation.hardness import SIDE, measure, measured_thirds
from stylealign.face.geometry import apply, crop_affine, landmark_box
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.stress import stress_face
from stylealign.toyfaces import draw_face, random_structure, random_style


def cut(image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine = crop_affine(landmark_box(landmarks), 1.2, SIDE)
    return warp(image, affine, SIDE), apply(affine, landmarks)


def drawn(i: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(i)
    structure, style = random_structure(rng, max_yaw=20), random_style(rng, shift="studio")
    image, landmarks, _ = draw_face(structure, replace(style, occluder="none", glasses="none"), 192)
    return image, landmarks


@pytest.mark.parametrize(("cause", "name"), [("blur", "blurred"), ("occlusion", "patchy")])
def test_a_measure_rises_with_its_cause(cause: str, name: str) -> None:
    for i in range(4):
        image, landmarks = drawn(i)
        sample = FaceSample(id="x", image=Path("x.png"), landmarks=landmarks)
        found = []
        for strength in (0, 3, 4):
            hard = stress_face(image, sample, SCHEMAS["wflw98"], cause, strength, np.random.default_rng(3), 192, 2.2)
            found.append(measure(*cut(hard.image, hard.landmarks))[name])
        assert found[0] < min(found[1:]), (i, found)


def test_a_darker_picture_is_darker_and_no_more_blurred() -> None:
    crop, landmarks = cut(*drawn(0))
    light, dim = measure(crop, landmarks), measure(crop // 2, landmarks)
    assert dim["dark"] == pytest.approx(1 - (1 - light["dark"]) / 2, abs=0.01)
    assert dim["blurred"] == pytest.approx(light["blurred"], rel=0.05)


def test_thirds_hold_the_hardest_third_wherever_and_however_large_the_faces_are(tmp_path: Path) -> None:
    samples = []
    for i in range(7):
        image, landmarks = drawn(i)
        image = image if i < 4 else image // 4  # the last three are dark
        grow = 1 + i % 2  # every other one twice as large, in a corner of a larger picture
        canvas = np.zeros((image.shape[0] * 2 + 50,) * 2 + (3,), np.uint8)
        large = image.repeat(grow, axis=0).repeat(grow, axis=1)
        canvas[50 : 50 + large.shape[0], 30 : 30 + large.shape[1]] = large
        write_image(tmp_path / f"{i}.png", canvas)
        at = (landmarks + 0.5) * grow - 0.5 + (30, 50)
        samples.append(FaceSample(id=str(i), image=tmp_path / f"{i}.png", landmarks=at))
    thirds = measured_thirds(samples)
    assert list(thirds) == ["dark third", "blurred third", "patchy third"]
    assert {int(member.sum()) for member in thirds.values()} == {3}
    assert np.flatnonzero(thirds["dark third"]).tolist() == [4, 5, 6]


def test_where_the_numbers_of_missing_landmarks_lie_changes_nothing(tmp_path: Path) -> None:
    there = np.arange(98) % 7 > 0
    measured = []
    for far in ((0, 0), (5000, -5000), (90, 90)):
        samples = []
        for i in range(6):
            image, landmarks = drawn(i)
            write_image(tmp_path / f"{i}.png", image)
            samples.append(
                FaceSample(
                    id=str(i), image=tmp_path / f"{i}.png", landmarks=np.where(there[:, None], landmarks, far),
                    visible=there, point_trust=there.astype(np.float32),
                )
            )  # fmt: skip
        measured.append({name: member.tolist() for name, member in measured_thirds(samples).items()})
    assert measured[1:] == measured[:1] * 2


def test_one_face_and_coincident_landmarks_are_measured_all_the_same(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((40, 40, 3), 90, np.uint8))
    one = FaceSample(id="a", image=tmp_path / "a.png", landmarks=np.full((5, 2), 20.0))
    assert all(member.tolist() == [True] for member in measured_thirds([one]).values())
