"""Curves through landmarks: the natural cubic spline in chord length, as scipy has it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from stylealign.boundary import sample_curves
from stylealign.schema import SCHEMAS

number = st.floats(-100, 100, allow_nan=False)


@pytest.mark.parametrize("count", [3, 4, 5, 9, 33])
def test_the_curve_is_scipys_natural_spline(count: int) -> None:
    points = np.random.default_rng(count).uniform(0, 100, (count, 2))
    knots = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    want = CubicSpline(knots, points, bc_type="natural")(np.linspace(0, knots[-1], 77))
    np.testing.assert_allclose(sample_curves(points, tuple(range(count)), 77), want, atol=1e-9)


def test_two_points_give_a_straight_line() -> None:
    line = sample_curves(np.array([[0.0, 0], [9, 3]]), (0, 1), 4)
    np.testing.assert_allclose(line, [[0, 0], [3, 1], [6, 2], [9, 3]], atol=1e-12)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda s: s.name)
def test_curves_start_and_end_at_their_landmarks(schema) -> None:
    faces = np.random.default_rng(0).uniform(0, 64, (2, 3, schema.num_points, 2))
    given_faces = faces.copy()
    for curve in schema.boundaries.values():
        sampled = sample_curves(faces, curve, 20)
        assert sampled.shape == (2, 3, 20, 2)
        np.testing.assert_allclose(sampled[..., 0, :], faces[..., curve[0], :], atol=1e-9)
        np.testing.assert_allclose(sampled[..., -1, :], faces[..., curve[-1], :], atol=1e-9)
        np.testing.assert_allclose(sampled[1, 2], sample_curves(faces[1, 2], curve, 20), atol=1e-9)
    assert np.array_equal(faces, given_faces)


@given(st.lists(st.tuples(number, number), min_size=2, max_size=6), number, number, st.floats(0.1, 10))
def test_curves_move_and_grow_with_their_points(points: list, dx: float, dy: float, scale: float) -> None:
    face = np.array(points)
    if (np.linalg.norm(np.diff(face, axis=0), axis=1) < 1e-2).any():
        return  # coincident neighbours are kept apart by a distance that does not scale exactly
    indices = tuple(range(len(face)))
    moved = sample_curves(face * scale + [dx, dy], indices, 15)
    np.testing.assert_allclose(moved, sample_curves(face, indices, 15) * scale + [dx, dy], atol=1e-5)


def test_a_curve_backwards_is_the_same_curve() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (6, 2))
    forward, backward = sample_curves(points, (0, 1, 2, 3, 4, 5), 31), sample_curves(points, (5, 4, 3, 2, 1, 0), 31)
    np.testing.assert_allclose(forward, backward[::-1], atol=1e-9)


@given(st.lists(st.tuples(st.sampled_from([0.0, 5.0]), st.sampled_from([0.0, 5.0])), min_size=2, max_size=7))
def test_faces_with_coincident_points_give_finite_curves(points: list) -> None:
    curve = sample_curves(np.array(points), tuple(range(len(points))), 30)
    assert np.isfinite(curve).all()
    assert np.abs(curve).max() < 1e4
