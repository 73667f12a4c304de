"""Harder faces: the same at strength 0, harder with every step by a measured quantity, labels where the face is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from builders.dots import COLOURS, PLACES, dots, paint
from builders.tiny import tree
from stylealign import toyfaces
from stylealign.data.atomic import partial_of
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.face.geometry import apply, crop_affine, landmark_box
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, SCHEMAS
from stylealign.jobs import draw_faces
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.stress import CAUSES, ON_REQUEST, Stress, main, stress_face
from stylealign.toyfaces import draw_face, raise_cause, random_structure, random_style
from stylealign.toyfaces.causes import CAUSES as DRAWN_CAUSES

SCHEMA = SCHEMAS["wflw98"]
SIZE, SCALE = 128, 2.2


@pytest.fixture(scope="module")
def faces() -> list[tuple[np.ndarray, FaceSample]]:
    """Three drawn pictures without faults of their own, and their samples."""
    made = []
    for i in range(3):
        rng = np.random.default_rng(i)
        structure, style = random_structure(rng, max_yaw=20), random_style(rng, shift="studio")
        image, landmarks, _ = draw_face(structure, replace(style, occluder="none", glasses="none"), 160)
        made.append((image, FaceSample(id=str(i), image=Path("x.png"), landmarks=landmarks)))
    return made


def versions(face: tuple[np.ndarray, FaceSample], cause: str) -> Iterator:
    return (stress_face(*face, SCHEMA, cause, s, np.random.default_rng(7), SIZE, SCALE) for s in range(5))


def detail(image: np.ndarray) -> float:
    """Mean squared slope two pixels apart: less after any blur, however blocky."""
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64), (0, 0), 1.0)
    return float(np.square(np.diff(grey[::2, ::2], axis=0)).mean() + np.square(np.diff(grey[::2, ::2], axis=1)).mean())


@pytest.mark.parametrize("cause", [*CAUSES, *ON_REQUEST])
def test_strength_0_is_the_plain_crop_and_every_step_is_further_from_it(cause: str, faces: list) -> None:
    for face in faces:
        image, sample = face
        affine = crop_affine(landmark_box(sample.landmarks), SCALE, SIZE)
        plain, *harder = versions(face, cause)
        assert np.abs(plain.image.astype(int) - warp(image, affine, SIZE)).max() <= 1
        assert np.allclose(plain.moved, affine, atol=1e-9)
        away = [np.abs(h.image.astype(int) - plain.image).mean() for h in harder]
        assert away == sorted(away), away
        assert away[0] > 0.1
        again = list(versions(face, cause))
        assert all(np.array_equal(a.image, b.image) for a, b in zip([plain, *harder], again, strict=True))


def test_the_named_quantity_rises_with_the_strength(faces: list) -> None:
    for face in faces:
        fine = [detail(h.image) for h in versions(face, "blur")]
        assert fine == sorted(fine, reverse=True)
        covered = [0 if h.visible is None else int((~h.visible).sum()) for h in versions(face, "occlusion")]
        assert covered == sorted(covered)
        assert covered[0] == 0 < covered[4]
        narrow = [float(np.ptp(h.landmarks[60:76, 0])) for h in versions(face, "pose")]  # the eyes come together
        assert narrow == sorted(narrow, reverse=True)
        assert narrow[4] < 0.6 * narrow[0]
        tilts = [h.landmarks[72] - h.landmarks[60] for h in versions(face, "tilt")]  # outer eye corners
        angles = [abs(np.degrees(np.arctan2(t[1], t[0]) - np.arctan2(tilts[0][1], tilts[0][0]))) for t in tilts]
        assert angles == sorted(angles)
        assert 25 < angles[4] < 55
        lit = [h.image[..., :].astype(float).mean(axis=2) for h in versions(face, "illumination")]
        sides = [abs(np.log((x[40:90, 40:64].mean() + 1) / (x[40:90, 64:88].mean() + 1))) for x in lit]
        assert sides[4] > sides[0] + 0.15  # one side of the face is darker than the other


def test_landmarks_move_with_the_tilted_picture() -> None:
    """Dots are painted, the picture tilted, and each dot found again by its colour where its landmark says."""
    landmarks = 2.0 * PLACES + 100
    picture = paint(landmarks, 200, 200, np.array([20, 20, 20]))
    sample = FaceSample(id="a", image=Path("x.png"), landmarks=landmarks)
    for strength in range(5):
        harder = stress_face(picture, sample, FIVE, "tilt", strength, np.random.default_rng(3), 160, 2.2)
        for place, colour in zip(harder.landmarks, COLOURS, strict=True):
            likeness = np.clip(1 - np.abs(harder.image.astype(float) - colour).sum(axis=2) / 150, 0, 1)
            y, x = np.mgrid[:160, :160]
            found = [(likeness * x).sum() / likeness.sum(), (likeness * y).sum() / likeness.sum()]
            assert found == pytest.approx(place, abs=0.4)


def test_what_is_called_hidden_is_where_the_picture_changed(faces: list) -> None:
    for face in faces:
        plain, *harder = versions(face, "occlusion")
        for h in harder:
            change = np.abs(h.image.astype(int) - plain.image).max(axis=2)
            at = np.rint(h.landmarks).astype(int)
            assert (change[at[:, 1], at[:, 0]][~h.visible] > 4).mean() > 0.9
            assert (change[at[:, 1], at[:, 0]][h.visible] > 12).mean() < 0.15  # a thing's soft shadow, or its very edge


def test_painted_lips_are_where_the_lips_are(faces: list) -> None:
    plain, *_, full = versions(faces[0], "make_up")
    change = np.abs(full.image.astype(int) - plain.image).sum(axis=2)
    upper = np.concatenate([full.landmarks[76:83], full.landmarks[92:87:-1]])
    lower = np.concatenate(
        [full.landmarks[82:88], full.landmarks[[76]], full.landmarks[[88]], full.landmarks[[95, 94, 93, 92]]]
    )
    lips = np.zeros(change.shape, np.uint8)
    for polygon in (upper, lower):
        cv2.fillPoly(lips, [np.rint(polygon).astype(np.int32)], 1)
    inside = cv2.erode(lips, np.ones((2, 2), np.uint8)) > 0
    chin = np.rint(full.landmarks[16]).astype(int)
    assert change[inside].mean() > 30
    assert change[chin[1] + 4 :, :].max() <= 3
    sample = FaceSample(id="a", image=Path("x.png"), landmarks=PLACES + 50)
    with pytest.raises(UserError, match="five: has no curve outer_upper_lip"):
        stress_face(faces[0][0], sample, FIVE, "make_up", 2, np.random.default_rng(0), SIZE, SCALE)


def test_the_job_makes_a_split_for_each_cause_and_strength_and_the_same_twice(tmp_path: Path) -> None:
    draw_faces.main(
        DrawFaces(out=tmp_path / "data", count=10, unlabelled=2, size=64, val_frac=0.4, test_frac=0, png=True)
    )
    data = FaceDataset.open(tmp_path / "data")
    config = Stress(
        data=tmp_path / "data", out=tmp_path / "hard", causes=("blur", "tilt"), strengths=(0, 3), size=64, png=True
    )
    main(config)
    hard = FaceDataset.open(tmp_path / "hard")
    assert hard.meta["splits"] == {"blur_0": 4, "blur_3": 4, "tilt_0": 4, "tilt_3": 4}
    assert not hard.verify()
    assert not partial_of(config.out).exists()
    assert [s.id for s in hard.select("blur_3")] == [f"{s.id}@blur_3" for s in data.select("val")]
    for before, after in zip(data.select("val"), hard.select("blur_3"), strict=True):
        assert dict(after.attributes) == dict(before.attributes)
        assert after.provenance.content_id == before.id
        moved = np.array(after.provenance.crop_from_source)
        assert np.allclose(apply(moved, before.landmarks), after.landmarks, atol=1e-3)
        assert (landmark_box(after.landmarks)[2:] - landmark_box(after.landmarks)[:2]).max() * SCALE == pytest.approx(
            64, rel=1e-4
        )
    main(replace(config, out=tmp_path / "again"))
    ignoring_name = ("dataset.yaml",)
    one, other = ({k: v for k, v in tree(tmp_path / n).items() if k not in ignoring_name} for n in ("hard", "again"))
    assert one == other
    # A face's stress does not depend on which others are taken.
    main(replace(config, out=tmp_path / "train", split="train", causes=("blur",), strengths=(3,)))
    assert len(FaceDataset.open(tmp_path / "train")) == 6
    with pytest.raises(UserError, match="hard"):
        main(config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"causes": ("fog",)}, "found 'fog', expected tilt"),
        ({"causes": ("expression",)}, "cannot be made to laugh; draw-faces"),
        ({"strengths": (5,)}, "expected numbers from 0 to 4"),
        ({"strengths": ()}, "at least one"),
        ({"scale": 0.5}, "scale 0.5"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(values: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Stress(data=Path("x"), out=Path("y"), **values)


def test_a_mark_up_without_eyes_and_a_split_without_labels_are_refused(tmp_path: Path) -> None:
    dots(tmp_path / "dots", count=3)
    with pytest.raises(UserError, match="no curve outer_upper_lip"):
        main(Stress(data=tmp_path / "dots", out=tmp_path / "hard", causes=("make_up",)))
    assert not (tmp_path / "hard").exists()
    draw_faces.main(
        DrawFaces(
            out=tmp_path / "u", count=1, unlabelled=1, unlabelled_split="donors", size=32, test_frac=0, val_frac=0
        )
    )
    with pytest.raises(UserError, match="that is labelled"):
        main(Stress(data=tmp_path / "u", out=tmp_path / "hard", split="donors"))


# --------------------------------------------------------------------------------------------------------------------
# Drawn faces


@pytest.mark.parametrize("cause", DRAWN_CAUSES)
def test_a_drawn_cause_changes_its_own_half_alone_and_more_with_every_step(cause: str) -> None:
    for i in range(2):
        rng = np.random.default_rng(i)
        structure, style = random_structure(rng, max_yaw=15), random_style(rng, shift="studio")
        made = [raise_cause(structure, style, cause, s, np.random.default_rng(i)) for s in range(5)]
        moves = cause in ("pose", "expression")
        assert all((t == style) if moves else (s == structure) for s, t in made)
        pictures = [draw_face(*face, 36) for face in made]
        if moves:
            away = [np.abs(p[1] - pictures[0][1]).mean() for p in pictures]
        elif cause == "occlusion":
            away = [int((~p[2]).sum()) for p in pictures]
        else:
            away = [np.abs(p[0].astype(int) - pictures[0][0]).mean() for p in pictures]
        assert away == sorted(away), (cause, away)
        assert away[4] > away[0]
        attribute = toyfaces.attributes(*made[4])
        assert attribute[cause], (cause, attribute)
        assert not toyfaces.attributes(*made[0])[cause]


def test_only_test_faces_are_given_the_cause_and_shifted_splits_wear_the_shift() -> None:
    plain = DrawFaces(out=Path("x"))
    hard = replace(plain, cause="expression", strength=3)
    for i in range(20):
        before, after = toyfaces.face_of(plain, i), toyfaces.face_of(hard, i)
        assert (before == after) == (before[2] != "test")
        assert toyfaces.face_of(hard, i, unlabelled=True) == toyfaces.face_of(plain, i, unlabelled=True)
    shifted = replace(plain, style_shift="studio_street", val_shift=True, unlabelled_split="donors", val_frac=0.3)
    same = replace(shifted, style_shift="none")
    for i in range(20):
        structure, style, split = toyfaces.face_of(shifted, i)
        assert (structure, split) == toyfaces.face_of(same, i)[::2]
        assert (style.noise > 0) == (split in ("val", "test"))  # the studio's camera has none
        assert (style.exposure * (style.ambient + style.lamp) > 0.95 and style.blur == 0) == (split == "train")
        _, style, split = toyfaces.face_of(shifted, i, unlabelled=True)
        assert split == "donors"
        assert style.noise > 0


def test_impossible_drawings_are_refused() -> None:
    for values, words in (
        ({"cause": "fog"}, "cause: found 'fog'"),
        ({"strength": 7}, "strength: found 7"),
        ({"unlabelled_split": ""}, "a word"),
    ):
        with pytest.raises(UserError, match=words):
            DrawFaces(out=Path("x"), **values)
