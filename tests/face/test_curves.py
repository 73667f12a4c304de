"""Curves through landmarks: the natural cubic spline in chord length, as scipy has it, and its rendering."""

import dataclasses
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from stylealign.batches.structure_maps import boundary_maps
from stylealign.face.curves import curve_segments, sample_curves
from stylealign.face.schema import SCHEMAS, LandmarkSchema

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


@settings(max_examples=60)
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


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0.0, 5.0]), st.sampled_from([0.0, 5.0])), min_size=2, max_size=7))
def test_faces_with_coincident_points_give_finite_curves(points: list) -> None:
    curve = sample_curves(np.array(points), tuple(range(len(points))), 30)
    assert np.isfinite(curve).all()
    assert np.abs(curve).max() < 1e4


# --------------------------------------------------------------------------------------------------------------------
# Rendering, against scipy's spline walked in small steps


def squared_distances(points: np.ndarray, curve: tuple[int, ...], size: int) -> np.ndarray:
    """(size, size) squared distances of pixel centres to the nearest of 5,000 places on scipy's spline."""
    points = points[list(curve)]
    knots = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    places = CubicSpline(knots, points, bc_type="natural")(np.linspace(0, knots[-1], 5000))
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).reshape(-1, 2)  # rows of y, columns of x
    return cKDTree(places).query(pixels)[0].reshape(size, size) ** 2


def face_like(seed: int, num_points: int, size: int) -> np.ndarray:
    """Landmarks that wind through the whole map: far rougher than a face's."""
    return np.random.default_rng(seed).uniform(-0.1 * size, 1.1 * size, (num_points, 2))


@pytest.mark.parametrize(("size", "sigma"), [(16, 1.0), (32, 1.0), (32, 2.5), (48, 0.6)])
def test_maps_are_gaussians_of_the_true_distance(size: int, sigma: float) -> None:
    schema = LandmarkSchema(
        name="wild", num_points=9, boundaries={"a": (0, 1), "b": (2, 3, 4), "c": (8, 6, 0, 5, 7, 1), "d": (4, 5, 6)}
    )
    faces = np.stack([face_like(seed, 9, size) for seed in range(3)])
    maps = boundary_maps(torch.as_tensor(faces), size, sigma, schema).numpy()
    assert maps.shape == (3, 4, size, size)
    assert (maps.max(axis=(2, 3)) > 0.5).mean() > 0.8
    for face, drawn in zip(faces, maps, strict=True):
        for curve, got in zip(schema.boundaries.values(), drawn, strict=True):
            distance = np.sqrt(squared_distances(face, curve, size))
            inside = distance < 3 * sigma - 0.05
            found = sigma * np.sqrt(-2 * np.log(got[inside]))  # how far the map says the curve is
            assert np.abs(found - distance[inside]).max(initial=0.0) < 0.05
            assert (got[distance > 3 * sigma + 0.05] == 0).all()


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda s: s.name)
def test_every_schema_is_drawn_face_by_face_and_curve_by_curve(schema) -> None:
    faces = torch.as_tensor(np.random.default_rng(1).uniform(4, 28, (4, schema.num_points, 2)), dtype=torch.float32)
    maps = boundary_maps(faces, 32, 1.0, schema)
    assert maps.shape == (4, len(schema.boundaries), 32, 32)
    assert float(maps.max()) <= 1
    assert torch.equal(boundary_maps(faces[2:3], 32, 1.0, schema)[0], maps[2])
    alone = dataclasses.replace(schema, flip_pairs=(), boundaries=dict([list(schema.boundaries.items())[-1]]))
    assert torch.equal(boundary_maps(faces, 32, 1.0, alone)[:, 0], maps[:, -1])


def test_what_cannot_be_drawn_gives_empty_maps() -> None:
    schema = LandmarkSchema(name="two", num_points=4, boundaries={"a": (0, 1), "b": (2, 3)})
    faces = torch.tensor(
        [
            [[4, 4], [9, 4], [float("nan"), 3], [5, 5]],
            [[1e9, 4], [1e9, 9], [3, 3], [3, 3]],
            [[-50, 4], [80, 4], [20, 20], [float("inf"), 0]],
        ]
    )  # fmt: skip
    maps = boundary_maps(faces, 16, 1.0, schema)
    assert bool(torch.isfinite(maps).all())
    assert [[bool(m.any()) for m in face] for face in maps] == [[True, False], [False, True], [True, False]]
    assert float(maps[1, 1, 3, 3]) == 1.0  # coincident points are a dot
    torch.testing.assert_close(maps[2, 0, 4], torch.ones(16))  # a line that comes from far outside
    assert boundary_maps(faces[:0], 16, 1.0, schema).shape == (0, 2, 16, 16)


def test_pieces_leave_the_curve_by_no_more_than_the_tolerance() -> None:
    faces = np.stack([face_like(seed, 7, 40) for seed in range(5)])
    curve = (3, 1, 0, 6, 2)
    start, end, owner = curve_segments(faces, ((0, 1), curve), longest=3.0, tolerance=0.02)
    assert np.linalg.norm(end - start, axis=1).max() <= 3.0
    for b in range(5):
        mine = owner == b * 2 + 1
        np.testing.assert_allclose(start[mine][0], faces[b, 3], atol=1e-9)
        np.testing.assert_allclose(end[mine][:-1], start[mine][1:], atol=1e-9)  # one after another
        np.testing.assert_allclose(end[mine][-1], faces[b, 2], atol=1e-9)
        places = sample_curves(faces[b], curve, 1000)
        step = end[mine] - start[mine]
        offset = places[:, None] - start[mine]
        along = np.clip((offset * step).sum(-1) / (step**2).sum(-1), 0, 1)
        assert np.linalg.norm(offset - along[..., None] * step, axis=-1).min(axis=1).max() < 0.021


def test_a_batch_of_maps_costs_what_its_curves_are_long() -> None:
    faces = torch.as_tensor(np.random.default_rng(0).uniform(0, 32, (32, 68, 2)), dtype=torch.float32)
    seconds = []
    for _ in range(3):
        started = time.process_time()
        boundary_maps(faces * 0.2 + 12, 32, 1.0, SCHEMAS["ibug68"])
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.15  # 0.01 s; face by face and curve by curve it was 0.4 s
