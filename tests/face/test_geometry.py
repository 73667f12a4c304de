"""Affines and boxes, and the one test: picture and labels go through every operation together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylealign.data.image import warp
from stylealign.face import geometry as g
from stylealign.face.schema import SCHEMAS

number = st.floats(-50, 50, allow_nan=False)
affines = st.builds(
    lambda degrees, scale, dx, dy, shear, mirror: g.compose(
        g.rotate_scale_affine((3, 4), degrees, scale, (dx, dy)),
        np.array([[-1.0 if mirror else 1.0, shear, 2], [0, 1, -1]]),
    ),
    st.floats(-180, 180), st.floats(0.2, 5), number, number, st.floats(-1, 1), st.booleans(),
)  # fmt: skip
point_sets = st.lists(st.tuples(number, number), min_size=1, max_size=7).map(np.array)


@given(affines, point_sets)
def test_an_affine_undone_is_where_one_was(affine: np.ndarray, points: np.ndarray) -> None:
    np.testing.assert_allclose(g.apply(g.invert(affine), g.apply(affine, points)), points, atol=1e-8)


@given(affines, affines, point_sets)
def test_composing_is_applying_one_after_the_other(outer: np.ndarray, inner: np.ndarray, points: np.ndarray) -> None:
    np.testing.assert_allclose(
        g.apply(g.compose(outer, inner), points), g.apply(outer, g.apply(inner, points)), atol=1e-7
    )


@given(st.integers(1, 500), point_sets)
def test_mirroring_twice_is_where_one_was_and_swaps_first_and_last_pixel(width: int, points: np.ndarray) -> None:
    flip = g.flip_affine(width)
    np.testing.assert_allclose(g.apply(flip, g.apply(flip, points)), points, atol=1e-9)
    assert g.apply(flip, np.array([0.0, 3])).tolist() == [width - 1, 3]


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda s: s.name)
def test_a_face_mirrored_twice_is_the_face(schema) -> None:
    face = np.random.default_rng(0).uniform(0, 63, (schema.num_points, 2))

    def mirror(landmarks: np.ndarray) -> np.ndarray:
        return g.apply(g.flip_affine(64), landmarks)[schema.flip_permutation]

    np.testing.assert_allclose(mirror(mirror(face)), face, atol=1e-12)


boxes = st.tuples(number, number, st.floats(1, 80), st.floats(1, 80)).map(
    lambda b: np.array([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)


@given(boxes, st.floats(0.5, 3), st.integers(8, 256))
def test_a_crop_is_square_centred_and_as_large_as_said(box: np.ndarray, scale: float, size: int) -> None:
    crop = g.crop_affine(box, scale, size)
    side = scale * max(box[2] - box[0], box[3] - box[1])
    assert g.scale_of(crop) == pytest.approx(size / side)
    centre = (box[:2] + box[2:]) / 2
    np.testing.assert_allclose(g.apply(crop, centre), [(size - 1) / 2] * 2, atol=1e-6)
    # pixel areas correspond: half a pixel beyond the crop's edge pixels lies the square's edge
    np.testing.assert_allclose(g.apply(g.invert(crop), np.array([-0.5, -0.5])), centre - side / 2, atol=1e-6)


@given(boxes, st.floats(0.5, 3))
def test_crops_of_two_sizes_differ_by_their_ratio_of_areas(box: np.ndarray, scale: float) -> None:
    small, large = g.crop_affine(box, scale, 32), g.crop_affine(box, scale, 64)
    point = (box[:2] + box[2:]) / 3
    np.testing.assert_allclose(g.apply(large, point) + 0.5, 2 * (g.apply(small, point) + 0.5), atol=1e-6)


@pytest.mark.parametrize("box", [(3, 3, 3, 3), (5, 5, 2, 2), (0, 0, float("nan"), 4), (0, 0, float("inf"), 4)])
def test_a_box_of_no_area_is_refused(box: tuple) -> None:
    with pytest.raises(ValueError, match="has no area"):
        g.crop_affine(np.array(box, float), 1.4, 64)


def test_the_box_of_landmarks_is_tight() -> None:
    assert g.landmark_box(np.array([[1, 5], [3, 2], [2, 9]])).tolist() == [1, 2, 3, 9]


def test_the_size_of_a_face_is_the_root_of_its_box_and_never_that_of_a_line() -> None:
    assert g.face_size(np.array([[0, 0], [60, 0.0]])) == pytest.approx(30)  # two eyes at one height: 60 x 15
    assert g.face_size(np.array([[7, 5], [7, 45.0]])) == pytest.approx(20)
    assert g.face_size(np.array([[0, 0], [60, 30.0], [20, 15]])) == np.sqrt(60 * 30)
    sizes = [
        g.face_size(g.apply(g.rotate_scale_affine((0, 0), degrees, 1.0), np.array([[0, 0], [60, 0.0]])))
        for degrees in range(0, 180, 3)
    ]
    assert max(sizes) < 1.5 * min(sizes)
    for width, height in ((80.0, 20.0), (20.0, 80.0), (61.3, 59.7), (0.1, 0.3)):  # whole faces are as large as ever
        corners = np.array([[0, height], [width, 0], [width / 3, height / 2]])
        assert g.face_size(corners) == np.sqrt(width * height)
    assert g.face_size(np.zeros((1, 2))) == 1e-6


def test_rotation_turns_x_towards_y_round_its_centre() -> None:
    quarter = g.rotate_scale_affine((10, 10), 90, 1.0)
    np.testing.assert_allclose(g.apply(quarter, np.array([[10.0, 10], [11, 10]])), [[10, 10], [10, 11]], atol=1e-12)


@given(st.floats(-180, 180), st.floats(0.1, 5), number, number)
def test_the_fitted_similarity_is_the_one_that_was_applied(degrees: float, scale: float, dx: float, dy: float) -> None:
    source = np.random.default_rng(1).normal(size=(6, 2))
    applied = g.rotate_scale_affine((1, 2), degrees, scale, (dx, dy))
    np.testing.assert_allclose(g.similarity_fit(source, g.apply(applied, source)), applied, atol=1e-7)


def test_the_fitted_similarity_never_mirrors() -> None:
    source = np.random.default_rng(1).normal(size=(6, 2))
    assert np.linalg.det(g.similarity_fit(source, source * [-1, 1])[:, :2]) > 0


# --------------------------------------------------------------------------------------------------------- the one test


def dots(landmarks: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """One (size, size, 3) uint8 picture a landmark with a Gaussian dot there."""
    y, x = np.mgrid[:size, :size]
    d2 = (x - landmarks[:, 0, None, None]) ** 2 + (y - landmarks[:, 1, None, None]) ** 2
    return np.repeat((255 * np.exp(-d2 / (2 * sigma**2))).round().astype(np.uint8)[..., None], 3, axis=3)


def find_dot(picture: np.ndarray) -> np.ndarray:
    """Centre of mass (x, y)."""
    weight = picture[..., 0].astype(np.float64)
    y, x = np.mgrid[: len(picture), : picture.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def crop(scale: float, size: int = 64) -> np.ndarray:
    return g.crop_affine(np.array([50.0, 41.3, 149.2, 130]), scale, size)


OPERATIONS = {
    "crop at half size": (crop(1.6, 64), 64),
    "crop enlarged": (crop(1.1, 240), 240),
    "crop much smaller": (crop(1.9, 33), 33),
    "mirror": (g.flip_affine(192), 192),
    "rotate": (g.rotate_scale_affine((95.5, 95.5), 33, 1.0), 192),
    "crop, mirror, rotate": (
        g.compose(g.rotate_scale_affine((31.5, 31.5), -20, 1.1, (1.3, -0.7)), g.compose(g.flip_affine(64), crop(1.7))),
        64,
    ),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_dots_drawn_at_landmarks_are_found_where_the_labels_say(name: str) -> None:
    affine, size = OPERATIONS[name]
    landmarks = np.random.default_rng(2).uniform(70, 125, (12, 2))
    for landmark, picture in zip(landmarks, dots(landmarks, 192, 4.0), strict=True):
        found = find_dot(warp(picture, affine, size))
        assert np.abs(found - g.apply(affine, landmark)).max() < 0.1


def test_the_one_test_notices_a_mirror_that_is_one_pixel_off() -> None:
    landmark = np.array([100.0, 90])
    found = find_dot(warp(dots(landmark[None], 192, 4.0)[0], g.flip_affine(192), 192))
    assert abs(192 - landmark[0] - found[0]) > 0.9


def test_roll_and_misfit_of_a_face_against_an_upright_one() -> None:
    upright = np.array([[-10.0, -8], [10, -8], [0, 2], [-6, 10], [6, 10]])
    for degrees in (-170, -45, 0, 30, 180):
        moved = g.apply(g.rotate_scale_affine((3, 4), degrees, 2.5, (50, 20)), upright)
        assert g.angle_between(g.roll_between(upright, moved), degrees) < 1e-6
        assert g.misfit(upright, moved) < 1e-9
    assert g.misfit(upright, upright[[1, 0, 2, 3, 4]]) > 0.3
    assert [g.angle_between(a, b) for a, b in ((170, -170), (0, 180), (10, -15))] == [20, 180, 25]
    box = g.box_round(g.rotate_scale_affine((0, 0), 45, 1.0), np.array([-1.0, -1, 1, 1]))
    np.testing.assert_allclose(box, np.array([-1, -1, 1, 1]) * np.sqrt(2))
