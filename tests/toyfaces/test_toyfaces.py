"""Drawn faces: landmarks depend on structure alone, lie on what is drawn, and a data set is a function of its seed."""

from dataclasses import FrozenInstanceError, fields, replace
from typing import get_args

import cv2
import numpy as np
import pytest

from stylealign import toyfaces
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face.curves import sample_curves
from stylealign.face.schema import SCHEMAS
from stylealign.jobs import draw_faces
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.toyfaces import (
    Structure,
    Style,
    attributes,
    draw_face,
    draw_swap_sheet,
    mirror_structure,
    random_structure,
    random_style,
)
from stylealign.toyfaces.style import Background, Beard, Glasses, Hair, Occluder, Tone

SCHEMA = SCHEMAS["wflw98"]
# Strong colours and soft frontal light: every step from one part to the next is a step in colour.
PLAIN = Style(
    hair="bald", hair_colour=(0.05, 0.04, 0.04), lipstick=1.0, lipstick_colour=(0.55, 0.02, 0.10), flush=0.0, age=0.0,
    gloss=0.0, lashes=0.0, ambient=0.8, lamp=0.25, light_azimuth=0.0, background_colours=((0.1, 0.3, 0.9),) * 2,
    clothes=(0.1, 0.3, 0.9),
)  # fmt: skip
STEPS = (
    "contour", "left_brow_top", "right_brow_top", "left_brow_bottom", "right_brow_bottom", "left_eye_bottom",
    "right_eye_bottom", "outer_upper_lip", "outer_lower_lip",
)  # fmt: skip
LINES = ("left_eye_top", "right_eye_top", "nose_bottom", "inner_upper_lip", "inner_lower_lip")
POSES = {
    "frontal": Structure(),
    "turned": Structure(yaw=25, roll=10, pitch=5),
    "turned and smiling": Structure(yaw=-20, smile=0.3, roll=-8, face_width=1.05, brow_raise=0.5),
}


def some_faces(num: int, seed: int = 0) -> list[tuple[Structure, Style]]:
    generators = [np.random.default_rng((seed, i)) for i in range(num)]
    return [(random_structure(rng), random_style(rng)) for rng in generators]


def across(image: np.ndarray, landmarks: np.ndarray, boundary: str) -> tuple[np.ndarray, np.ndarray]:
    """Colours (D, n, 3) on lines across a boundary, and the distances (D,) from it in pixels."""
    curve = sample_curves(landmarks, SCHEMA.boundaries[boundary], 60)[4:-4]
    tangent = np.gradient(curve, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    distance = np.arange(-5, 5.01, 0.25)
    where = (curve[None] + distance[:, None, None] * normal[None]).astype(np.float32)
    smooth = cv2.GaussianBlur(image, (0, 0), 0.7).astype(np.float32)
    return cv2.remap(smooth, where[..., 0], where[..., 1], cv2.INTER_LINEAR), distance


def steepness(image: np.ndarray, landmarks: np.ndarray, boundary: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean change of colour over 0.75 px at each distance from a boundary."""
    colours, distance = across(image, landmarks, boundary)
    return np.abs(colours[3:] - colours[:-3]).sum(axis=-1).mean(axis=1), (distance[3:] + distance[:-3]) / 2


def test_structure_and_style_share_no_field_and_are_frozen():
    assert not {f.name for f in fields(Structure)} & {f.name for f in fields(Style)}
    with pytest.raises(FrozenInstanceError):
        Structure().yaw = 3.0  # type: ignore[misc]


def test_landmarks_are_exactly_the_same_in_every_style():
    structures = [s for s, _ in some_faces(2)]
    choices = {
        "hair": Hair,
        "beard": Beard,
        "background": Background,
        "glasses": Glasses,
        "occluder": Occluder,
        "tone": Tone,
    }
    base = replace(PLAIN, background_colours=((0.1, 0.3, 0.9), (0.8, 0.8, 0.2)))
    styles = [replace(base, **{name: value}) for name, kind in choices.items() for value in get_args(kind)]
    styles += [replace(PLAIN, blur=2.0), replace(PLAIN, motion=4.0), replace(PLAIN, downscale=4.0, noise=0.1, jpeg=20)]
    styles += [style for _, style in some_faces(4)]
    for structure in structures:
        pictures = set()
        for style in styles:
            image, landmarks, visible = draw_face(structure, style, 40)
            assert image.shape == (40, 40, 3)
            assert image.dtype == np.uint8
            assert landmarks.dtype == np.float32
            assert visible.dtype == np.bool_
            assert np.array_equal(landmarks, toyfaces.landmarks(structure, 40))
            pictures.add(image.tobytes())
        assert len(pictures) >= len(styles) - 6 + 1  # the six defaults among the choices are one picture


def test_drawing_is_deterministic():
    for structure, style in some_faces(3, seed=5):
        first, second = draw_face(structure, style, 64), draw_face(structure, style, 64)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("pose", POSES)
def test_landmarks_lie_on_the_edges_that_are_drawn(pose):
    image, landmarks, _ = draw_face(POSES[pose], PLAIN, 256)
    for boundary in STEPS:
        change, distance = steepness(image, landmarks, boundary)
        assert abs(distance[change.argmax()]) <= 1.2, boundary
    for boundary in LINES:
        colours, distance = across(image, landmarks, boundary)
        assert abs(distance[colours.sum(axis=-1).mean(axis=1).argmin()]) <= 1.5, boundary


@pytest.mark.parametrize("pose", POSES)
def test_landmarks_moved_by_two_pixels_would_lie_on_edges_no_more(pose):
    image, landmarks, _ = draw_face(POSES[pose], PLAIN, 256)

    def strength(moved: np.ndarray, boundary: str) -> float:
        change, distance = steepness(image, moved, boundary)
        return float(change[np.abs(distance) < 0.6].mean())

    for boundary in (b for b in STEPS if "eye" not in b):  # an iris has edges of its own above the lid
        for step in (-2, 2):  # the contour's sides stand upright, everything else lies
            move = np.array((step, 0) if boundary == "contour" else (0, step), np.float32)
            assert strength(landmarks + move, boundary) < 0.8 * strength(landmarks, boundary), (boundary, step)


def test_an_open_mouth_is_dark_or_toothed_inside_and_lips_surround_it():
    image, landmarks, _ = draw_face(Structure(mouth_open=0.8), PLAIN, 256)

    def mean_inside(indices: list[int]) -> np.ndarray:
        area = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(area, [np.rint(landmarks[indices]).astype(np.int32)], 255)
        return image[cv2.erode(area, np.ones((3, 3), np.uint8)) > 0].mean(axis=0)

    lips = mean_inside([76, 77, 78, 79, 80, 81, 82, 92, 91, 90, 89, 88])
    assert lips[0] > lips[1] + 60  # red
    hole = image[tuple(np.rint(landmarks[[90, 94]] @ [[0, 1], [1, 0]]).astype(int).mean(axis=0).astype(int))]
    assert hole.max() < 100
    assert landmarks[94, 1] - landmarks[90, 1] > 20


def test_pupils_are_the_darkest_of_open_eyes():
    for gaze in (-0.6, 0.0, 0.6):
        structure = Structure(gaze_x=gaze, eye_height=1.2)
        image, landmarks, _ = draw_face(structure, PLAIN, 256)
        for pupil, corners in ((96, (60, 64)), (97, (68, 72))):
            x, y = np.rint(landmarks[pupil]).astype(int)
            assert image[y, x].max() < 60
            white = (landmarks[corners[int(gaze < 0)]] * 0.35 + landmarks[pupil] * 0.65).astype(int)
            assert image[white[1], white[0]].max() > image[y, x].max()


def test_a_shut_eye_has_its_lids_together_and_its_pupil_between_them():
    points = toyfaces.landmarks(Structure(eye_closed_left=1.0), 200)
    assert np.abs(points[[61, 62, 63]] - points[[67, 66, 65]]).max() < 2.0
    assert abs(points[96, 1] - points[62, 1]) < 1.0
    assert points[74, 1] - points[70, 1] > 5


def test_pupils_stay_between_the_lids():
    for structure, _ in some_faces(60):
        upright = replace(structure, roll=0.0, yaw=0.0, pitch=0.0)
        points = toyfaces.landmarks(upright, 256)
        for pupil, top, bottom in ((96, 62, 66), (97, 70, 74)):
            assert points[top, 1] - 1 <= points[pupil, 1] <= points[bottom, 1] + 1


def test_the_mirrored_structure_has_the_mirrored_landmarks():
    size = 128
    for structure, _ in some_faces(20):
        points = toyfaces.landmarks(structure, size)
        mirrored = toyfaces.landmarks(mirror_structure(structure), size)
        flipped = points[SCHEMA.flip_permutation] * [-1, 1] + [size - 1, 0]
        np.testing.assert_allclose(mirrored, flipped, atol=1e-4)
        assert mirror_structure(mirror_structure(structure)) == structure


def test_the_picture_of_the_mirrored_structure_is_the_mirrored_picture():
    structure = Structure(yaw=25, roll=-6, smile=0.5, gaze_x=0.4)
    image, _, _ = draw_face(structure, PLAIN, 128)
    mirrored, _, _ = draw_face(mirror_structure(structure), PLAIN, 128)
    difference = np.abs(image[:, ::-1].astype(int) - mirrored.astype(int))
    assert difference.mean() < 1.5
    assert np.abs(image.astype(int) - mirrored.astype(int)).mean() > 5


def test_landmarks_are_numbered_as_wflw_numbers_them():
    p = toyfaces.landmarks(Structure(), 200)
    assert p[0, 0] < p[16, 0] < p[32, 0]
    assert p[16, 1] == p[:, 1].max()
    assert p[33, 0] < p[37, 0] < p[42, 0] < p[46, 0]
    assert (p[[34, 35, 36], 1] < p[[41, 40, 39], 1]).all()
    assert p[60, 0] < p[96, 0] < p[64, 0] < p[51, 0] < p[68, 0] < p[97, 0] < p[72, 0]
    assert (np.diff(p[51:55, 1]) > 0).all()
    assert (np.diff(p[55:60, 0]) > 0).all()
    assert (np.diff(p[76:83, 0]) > 0).all()
    assert (np.diff(p[82:88, 0]) < 0).all()
    assert p[79, 1] <= p[90, 1] <= p[94, 1] <= p[85, 1]


def test_a_turned_head_moves_the_nose_towards_the_far_side_and_narrows_it():
    frontal, turned = (toyfaces.landmarks(Structure(yaw=yaw), 200) for yaw in (0, 40))
    assert turned[32, 0] - turned[54, 0] < 0.3 * (turned[54, 0] - turned[0, 0])
    assert np.ptp(turned[68:76, 0]) < 0.85 * np.ptp(frontal[68:76, 0])


def test_nearly_all_landmarks_are_in_the_frame_and_steps_are_finite():
    points = np.stack([toyfaces.landmarks(s, 100) for s, _ in some_faces(200)])
    assert np.isfinite(points).all()
    inside = ((points >= 0) & (points <= 99)).all(axis=-1)
    assert inside.mean() > 0.995
    assert inside.all(axis=-1).mean() > 0.95
    sizes = np.ptp(points, axis=1).max(axis=-1)
    assert 40 < sizes.min() < sizes.max() < 90


def test_occluders_and_dark_lenses_make_landmarks_invisible_and_nothing_else_does():
    size = 96
    _, _, clear = draw_face(Structure(), PLAIN, size)
    assert clear.all()
    _, _, sun = draw_face(Structure(), replace(PLAIN, glasses="sun"), size)
    assert not sun[60:76].any()
    assert sun[76:96].all()
    _, _, bar = draw_face(Structure(), replace(PLAIN, occluder="bar", occluder_x=0.0, occluder_y=1.0), size)
    assert not bar[[79, 90, 94]].any()
    assert bar[60:76].all()
    for occluder in ("hand", "microphone"):
        _, _, hidden = draw_face(Structure(), replace(PLAIN, occluder=occluder, occluder_x=0.1, occluder_y=1.0), size)
        assert 5 < (~hidden).sum() < 60, occluder


@pytest.mark.parametrize(
    ("name", "structure", "style"),
    [
        ("pose", {"yaw": 45.0}, {}),
        ("expression", {"mouth_open": 0.8}, {}),
        ("expression", {"eye_closed_left": 1.0}, {}),
        ("illumination", {}, {"exposure": 0.35}),
        ("illumination", {}, {"light_colour": (1.0, 0.5, 0.5)}),
        ("make_up", {}, {"lipstick": 0.8}),
        ("occlusion", {}, {"occluder": "hand"}),
        ("blur", {}, {"blur": 1.5}),
    ],
)
def test_each_attribute_follows_its_own_parameters(name, structure, style):
    plain = attributes(Structure(), Style())
    assert list(plain) == ["pose", "expression", "illumination", "make_up", "occlusion", "blur"]
    assert not any(plain.values())
    changed = attributes(Structure(**structure), Style(**style))
    assert [key for key, on in changed.items() if on] == [name]


def test_random_faces_have_every_attribute_sometimes_and_none_always():
    rows = [attributes(*face) for face in some_faces(300)]
    for name in rows[0]:
        assert 0.04 < np.mean([row[name] for row in rows]) < 0.5, name
    assert all(
        attributes(Structure(), random_style(np.random.default_rng(i), shift="dark"))["illumination"] for i in range(50)
    )


def test_random_structure_keeps_to_the_largest_yaw_and_can_be_neutral():
    calm = [random_structure(np.random.default_rng(i), max_yaw=20, expression=0, placement=0) for i in range(100)]
    assert max(abs(s.yaw) for s in calm) <= 20
    assert {(s.smile, s.mouth_open, s.eye_closed_left, s.scale) for s in calm} == {(0.0, 0.0, 0.0, 0.58)}


def test_the_swap_sheet_holds_structure_j_in_style_i_at_row_i_column_j():
    faces = some_faces(2)
    structures, styles = [f[0] for f in faces], [f[1] for f in faces]
    sheet = draw_swap_sheet(structures, styles, 48)
    assert sheet.shape == (144, 144, 3)

    def cell(row: int, column: int) -> np.ndarray:
        return sheet[48 * row : 48 * row + 48, 48 * column : 48 * column + 48]

    assert np.array_equal(cell(1, 2), draw_face(structures[1], styles[0], 48)[0])
    assert np.array_equal(cell(0, 2), draw_face(structures[1], styles[1], 48)[0])
    assert np.array_equal(cell(2, 0), draw_face(structures[1], styles[1], 48)[0])


def test_the_job_writes_a_data_set_whose_faces_do_not_depend_on_the_count(tmp_path):
    draw_faces.main(DrawFaces(out=tmp_path / "few", count=6, size=48, seed=3, png=True))
    draw_faces.main(DrawFaces(out=tmp_path / "many", count=10, unlabelled=4, size=48, seed=3, png=True))
    few, many = FaceDataset.open(tmp_path / "few"), FaceDataset.open(tmp_path / "many")
    assert len(few) == 6
    assert len(many) == 14
    assert few.schema.name == "wflw98"
    assert many.verify() == []
    for i in range(6):
        one, other = few[i], many[i]
        assert (one.id, one.split, dict(one.attributes)) == (other.id, other.split, dict(other.attributes))
        assert np.array_equal(one.landmarks, other.landmarks)
        assert np.array_equal(one.visible, other.visible)
        assert one.image.read_bytes() == other.image.read_bytes()
        assert one.box_xyxy.tolist() == [*one.landmarks.min(axis=0), *one.landmarks.max(axis=0)]
    assert len({sample.image.read_bytes() for sample in many}) == 14
    unlabelled = many.select(labelled=False)
    assert len(unlabelled) == 4
    assert {s.split for s in unlabelled} == {"train"}
    assert all(s.landmarks is None and s.visible is None and s.box_xyxy is not None for s in unlabelled)


def test_splits_are_filled_evenly_and_another_seed_draws_other_faces():
    splits = [toyfaces.split_of(i, 0.1, 0.2) for i in range(1000)]
    assert abs(splits.count("val") - 100) <= 2
    assert abs(splits.count("test") - 200) <= 2
    assert abs(splits[:20].count("test") - 4) <= 1
    one, other = (toyfaces.face_of(DrawFaces(out="x", seed=seed), 0)[:2] for seed in (0, 1))
    assert one != other


def test_the_planted_shift_darkens_the_test_faces_and_leaves_structures_alone():
    light, dark = (DrawFaces(out="x", style_shift=shift) for shift in ("none", "dark"))
    for i in range(30):
        structure, style, split = toyfaces.face_of(light, i)
        shifted_structure, shifted_style, shifted_split = toyfaces.face_of(dark, i)
        assert (shifted_structure, shifted_split) == (structure, split)
        assert (shifted_style == style) == (split != "test")
    assert toyfaces.face_of(dark, 0, unlabelled=True)[1].exposure <= 0.9
    index = next(i for i in range(30) if toyfaces.face_of(dark, i)[2] == "test")
    structure, night, _ = toyfaces.face_of(dark, index)
    assert draw_face(structure, night, 64)[0].mean() < 100


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"count": 0}, "count: found 0"),
        ({"size": 8}, "size: found 8"),
        ({"val_frac": 0.9, "test_frac": 0.2}, "val_frac"),
        ({"max_yaw": 80}, "max_yaw"),
    ],
)
def test_impossible_options_are_refused_with_a_sentence(values, words):
    with pytest.raises(UserError, match=words):
        DrawFaces(out="x", **values)


def test_a_finished_data_set_is_not_overwritten(tmp_path):
    config = DrawFaces(out=tmp_path / "faces", count=1, size=32)
    draw_faces.main(config)
    with pytest.raises(UserError, match="already there"):
        draw_faces.main(config)
