"""Faces seen from the side: the drawn head itself is the oracle, and the picture goes where the landmarks go."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.face.geometry import apply, crop_affine, landmark_box, rotate_scale_affine
from stylealign.face.schema import SCHEMAS, convert
from stylealign.toyfaces import Structure, draw_face, landmarks, random_structure, random_style
from stylealign.toyfaces.side_view import MISFIT, head_of, own_yaw, pose_of, side_view, turn_to

WFLW, IBUG = SCHEMAS["wflw98"], SCHEMAS["ibug68"]
SIZE = 160
STILL = np.array([[1.0, 0, 0], [0, 1, 0]])


def head(seed: int, **changes: float) -> Structure:
    structure = random_structure(np.random.default_rng(seed), max_yaw=1)
    return replace(structure, **{"yaw": 0.0, "pitch": 0.0, "roll": 0.0, **changes})


def picture(structure: Structure) -> np.ndarray:
    style = replace(random_style(np.random.default_rng(1), shift="studio"), occluder="none", glasses="none")
    return draw_face(structure, style, SIZE)[0]


@pytest.mark.parametrize("yaw", [-60, -35, 15, 30, 45, 60])
def test_landmarks_go_where_the_drawn_head_has_them_after_the_same_turn(yaw: float) -> None:
    for seed in range(3):
        frontal = head(seed)
        before, wanted = landmarks(frontal, SIZE), landmarks(replace(frontal, yaw=yaw), SIZE)
        unit = pose_of(before, WFLW).unit
        view = side_view(picture(frontal), before, WFLW, yaw, STILL, SIZE)
        away = (view.landmarks - wanted) / unit
        away[:, 0] -= np.median(away[33:60, 0])  # the drawn head turns about another axis, nearer to its nose
        before_turn = (landmarks(frontal, SIZE) - wanted) / unit
        before_turn[:, 0] -= np.median(before_turn[33:60, 0])
        assert np.abs(away).max() < 0.42, seed
        assert np.abs(away).mean() < 0.08
        assert np.abs(away).mean() < 0.45 * np.abs(before_turn).mean()


def test_no_turn_leaves_everything_where_it_is() -> None:
    frontal = head(0, roll=12.0, yaw=8.0)
    before, image = landmarks(frontal, SIZE), picture(frontal)
    view = side_view(image, before, WFLW, 0.0, STILL, SIZE)
    assert np.abs(view.landmarks - before).max() < 0.5
    assert view.visible.all()
    smooth = cv2.GaussianBlur(image, (0, 0), 1.5).astype(float)
    assert np.abs(cv2.GaussianBlur(view.image, (0, 0), 1.5) - smooth).mean() < 2.0


@pytest.mark.parametrize("roll", [0.0, 25.0])
@pytest.mark.parametrize("degrees", [-40.0, 40.0])
def test_a_dot_on_the_skin_is_seen_at_its_landmark_after_the_turn(roll: float, degrees: float) -> None:
    structure = head(2, roll=roll)
    before = landmarks(structure, SIZE).astype(np.float64)
    affine = crop_affine(landmark_box(before), 2.0, 128)
    plain = np.full((SIZE, SIZE, 3), 90, np.uint8)
    checked = 0
    near = head_of(WFLW)[:, 0] * np.sign(degrees) <= 0.05  # dots of the far half are half hidden
    for i in np.flatnonzero(near)[20::3]:
        y, x = np.mgrid[:SIZE, :SIZE]
        dot = np.exp(-((x - before[i, 0]) ** 2 + (y - before[i, 1]) ** 2) / (2 * 1.4**2))[..., None]
        image = (plain + dot * (255.0 - plain)).round().astype(np.uint8)
        view = side_view(image, before, WFLW, degrees, affine, 128)
        light = (view.image[..., 0].astype(float) - 90).clip(0)
        light[light < 8] = 0
        away = np.mgrid[:128, :128][::-1].transpose(1, 2, 0) - view.landmarks[i]
        light *= np.hypot(away[..., 0], away[..., 1]) < 6
        if not view.visible[i] or light.sum() < 200:  # on an edge that hides half of the dot
            continue
        found = (light[..., None] * away).sum(axis=(0, 1)) / light.sum()
        assert np.abs(found).max() < 1.3, (i, found)  # of 128 px: a dot is no point, and bends on a curved face
        checked += 1
    assert checked >= 8


def test_what_the_head_hides_lies_on_its_outline_and_is_said() -> None:
    frontal = head(1)
    before = landmarks(frontal, SIZE)
    view = side_view(picture(frontal), before, WFLW, 75.0, STILL, SIZE)
    far_eye = [68, 69, 70, 71, 72, 73, 74, 75]  # the image's right, which the nose has turned to
    hidden = ~view.visible
    assert hidden[far_eye].any()
    assert not hidden[[60, 61, 67, 33, 76]].any()  # the near eye, brow and corner of the mouth
    assert view.landmarks[hidden, 0].min() > view.landmarks[64, 0]  # beyond the near eye's inner corner
    far_contour = view.landmarks[18:33, 0]
    assert far_contour.min() > view.landmarks[62, 0]  # none left behind on the near cheek
    assert np.abs(np.diff(far_contour)).max() < 12  # one line


def test_turning_to_the_left_mirrors_turning_to_the_right() -> None:
    frontal = replace(head(0), gaze_x=0.0)
    before = landmarks(frontal, SIZE).astype(np.float64)
    mirrored = (before * (-1, 1) + (SIZE - 1, 0))[WFLW.flip_permutation]
    image = picture(frontal)
    right = side_view(image, before, WFLW, 50.0, STILL, SIZE)
    left = side_view(np.ascontiguousarray(image[:, ::-1]), mirrored, WFLW, -50.0, STILL, SIZE)
    back = (left.landmarks * (-1, 1) + (SIZE - 1, 0))[WFLW.flip_permutation]
    assert np.abs(back - right.landmarks).max() < 1.5
    assert np.abs(left.image[:, ::-1].astype(float) - right.image).mean() < 3


def test_mark_ups_that_the_head_knows_agree_and_others_are_refused() -> None:
    frontal = head(3)
    before, image = landmarks(frontal, SIZE), picture(frontal)
    dense = convert(side_view(image, before, WFLW, 35.0, STILL, SIZE).landmarks, "wflw98", "ibug68")
    sparse = side_view(image, convert(before, "wflw98", "ibug68"), IBUG, 35.0, STILL, SIZE).landmarks
    unit = pose_of(before, WFLW).unit
    assert np.median(np.linalg.norm(dense - sparse, axis=1)) / unit < 0.06
    five = side_view(image, convert(before, "wflw98", "five"), SCHEMAS["five"], 35.0, STILL, SIZE).landmarks
    assert np.linalg.norm(five - convert(dense, "ibug68", "five"), axis=1).max() / unit < 0.25
    for degrees in (35.0, 60.0):  # where few points tell little, the drawn head stands in
        few = side_view(image, convert(before, "wflw98", "five"), SCHEMAS["five"], degrees, STILL, SIZE).image
        many = side_view(image, before, WFLW, degrees, STILL, SIZE).image
        assert np.abs(few.astype(float) - many).mean() < 12.5
    with pytest.raises(UserError, match=r"aflw19.*wflw98, ibug68, five"):
        head_of(SCHEMAS["aflw19"])


def test_the_pose_is_the_drawn_head_s() -> None:
    for seed, yaw, roll in ((0, 20.0, 0.0), (1, -30.0, 15.0), (2, 5.0, -40.0)):
        pose = pose_of(landmarks(head(seed, yaw=yaw, roll=roll), SIZE), WFLW)
        assert abs(pose.angles[0] - yaw) < 8
        assert abs(pose.angles[2] - roll) < 4
        assert pose.misfit < MISFIT
    shuffled = np.random.default_rng(0).permutation(landmarks(head(0), SIZE))
    assert pose_of(shuffled, WFLW).misfit > 2 * MISFIT


def test_a_face_seen_in_profile_is_turned_no_further() -> None:
    for yaw in (72.0, -80.0):
        assert turn_to(80.0, own_yaw(landmarks(head(1, yaw=yaw), SIZE), WFLW), np.random.default_rng(0)) == 0
    for yaw in (0.0, 20.0, -35.0):
        points = landmarks(head(1, yaw=yaw), SIZE)
        assert own_yaw(points, WFLW) == pytest.approx(pose_of(points, WFLW).angles[0], abs=1)


@pytest.mark.parametrize("yaw", [0.0, 14.0, -25.0])
def test_the_far_half_is_never_seen_beyond_the_near_one(yaw: float) -> None:
    side = -1 if yaw < 0 else 1
    for seed in range(4):
        points = convert(landmarks(head(seed, yaw=yaw), SIZE), "wflw98", "ibug68")
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        far = side * (np.arange(SIZE) - pose_of(points, IBUG).shift[0]) > 0
        image[:, far] = 255
        for degrees in (40.0, 55.0, 70.0):
            shown = side_view(image, points, IBUG, side * degrees, STILL, SIZE).image[..., 0] > 128
            shown = shown if side > 0 else shown[:, ::-1]
            seen_far = np.logical_and.accumulate(shown[:, ::-1], axis=1)[:, ::-1]  # what goes on to the far edge
            assert (shown & ~seen_far).sum() <= 4 * SIZE // 10, (seed, degrees)


def test_a_turned_picture_is_turned_alike() -> None:
    frontal = head(4)
    before, image = landmarks(frontal, SIZE).astype(np.float64), picture(frontal)
    moved = rotate_scale_affine((SIZE / 2, SIZE / 2), 30.0, 1.0)
    level = side_view(image, before, WFLW, 45.0, STILL, SIZE)
    rolled = side_view(warp(image, moved, SIZE), apply(moved, before), WFLW, 45.0, STILL, SIZE)
    assert np.abs(apply(moved, level.landmarks) - rolled.landmarks).max() < 1.5


def test_the_far_half_of_the_face_disappears_behind_the_nose_and_the_background_goes_on() -> None:
    frontal = head(0)
    before = landmarks(frontal, SIZE).astype(np.float64)
    image = np.full((SIZE, SIZE, 3), (0, 0, 255), np.uint8)  # blue round a face whose far half is red
    outline = np.concatenate([before[:33], before[[46, 42, 37, 33]]])
    cv2.fillPoly(image, [np.rint(outline).astype(np.int32)], (0, 255, 0))
    red = (np.arange(SIZE) > before[51, 0]) & (image[..., 1] > 0)
    image[red] = (255, 0, 0)
    areas, blue = [], []
    for yaw in (0.0, 30.0, 60.0, 80.0):
        view = side_view(image, before, WFLW, yaw, STILL, SIZE)
        areas.append(int(((view.image[..., 0] > 128) & (view.image[..., 2] < 128)).sum()))
        bridge = view.landmarks[52]
        ahead = view.image[round(bridge[1]), round(bridge[0]) + 12 :]
        blue.append(float((ahead[:, 2] > 128).mean()))
    assert areas == sorted(areas, reverse=True)
    assert areas[2] < 0.4 * areas[0]
    assert areas[3] < 0.2 * areas[0]
    assert blue[3] > 0.9 > blue[0]
