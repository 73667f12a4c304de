import numpy as np
import pytest

from stylealign.errors import UserError
from stylealign.face.geometry import align, similarity_fit
from stylealign.face.geometry import apply as move
from stylealign.face.pose import BalanceConfig, coefficients, repeats


def heads(yaw: np.ndarray, points: int = 20, noise: float = 0.002, seed: int = 0) -> np.ndarray:
    """(N, P, 2) one rigid head seen from angles `yaw` (radians), with a little noise."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform(-1, 1, (3, points))
    turned = np.cos(yaw)[:, None] * x + np.sin(yaw)[:, None] * z
    shapes = np.stack([turned, np.broadcast_to(y, turned.shape)], axis=-1)
    return shapes + rng.normal(0, noise, shapes.shape)


def scattered(shapes: np.ndarray, seed: int = 1) -> np.ndarray:
    """Every shape turned, scaled and shifted by its own amounts."""
    rng = np.random.default_rng(seed)
    moved = []
    for one in shapes:
        angle, scale = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(-2, 2))
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        moved.append(move(np.array([[c, -s, rng.uniform(-300, 300)], [s, c, rng.uniform(-300, 300)]]), one))
    return np.stack(moved)


YAW = np.random.default_rng(5).normal(0, 0.35, 600).clip(-1.2, 1.2)
NINE = BalanceConfig(bins=9)


# --------------------------------------------------------------------------------------------------------------------
# Aligning


def test_place_size_and_rotation_of_a_face_change_nothing() -> None:
    shapes = heads(YAW[:200])
    np.testing.assert_array_equal(
        repeats(scattered(shapes), BalanceConfig(bins=5)), repeats(shapes, BalanceConfig(bins=5))
    )
    np.testing.assert_allclose(
        np.abs(coefficients(scattered(shapes))), np.abs(coefficients(shapes)), atol=1e-10, rtol=0
    )


def test_copies_of_one_shape_align_to_one_shape() -> None:
    aligned = align(scattered(np.repeat(heads(np.array([0.3]), noise=0.0), 10, axis=0)))
    np.testing.assert_allclose(aligned, np.broadcast_to(aligned[0], aligned.shape), atol=1e-12)


def test_aligned_shapes_are_fitted_to_their_own_mean() -> None:
    """Generalised Procrustes' fixed point: no similarity onto the mean, computed as Umeyama does, moves a shape."""
    aligned = align(scattered(heads(YAW[:40])))
    mean = aligned.mean(axis=0)
    mean /= np.linalg.norm(mean)
    for one in aligned:
        np.testing.assert_allclose(move(similarity_fit(one, mean), one), one, atol=1e-12)


def test_aligned_shapes_stand_as_upright_as_the_faces_did() -> None:
    shape = np.array([[0.0, 0.0], [4.0, 1.0], [2.0, 5.0]])
    left, right = (np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in (0.3, -0.3))
    aligned = align(np.stack([shape @ left, 2 * shape @ right + 7]))
    centred = shape - shape.mean(axis=0)
    np.testing.assert_allclose(aligned, np.broadcast_to(centred / np.linalg.norm(centred), aligned.shape), atol=1e-12)


# --------------------------------------------------------------------------------------------------------------------
# Yaw and the histogram


def test_a_planted_yaw_is_recovered() -> None:
    found = coefficients(scattered(heads(YAW)))
    assert abs(np.corrcoef(found, np.sin(YAW))[0, 1]) > 0.95


def test_another_component_is_another_coefficient() -> None:
    shapes = scattered(heads(YAW, noise=0.02))
    first, second = coefficients(shapes, 0), coefficients(shapes, 1)
    assert first.var() > second.var() > 0
    assert abs(np.corrcoef(first, second)[0, 1]) < 1e-6


def test_balancing_flattens_the_histogram_of_yaw() -> None:
    shapes = scattered(heads(YAW))
    times = repeats(shapes, NINE)
    yaw = np.abs(coefficients(shapes))
    before, edges = np.histogram(yaw, bins=9)
    after, _ = np.histogram(np.repeat(yaw, times), bins=edges)
    assert before.max() > 10 * before.min() > 0
    # round(r) / r lies between 2/3 (at r just below 1.5) and 4/3 (at r = 1.5, rounded up)
    assert after.min() >= before.max() * 2 / 3
    assert after.max() <= before.max() * 4 / 3
    assert times[yaw > edges[-2]].min() > times[yaw < edges[1]].max() == 1


def test_counts_by_hand() -> None:
    # One point slides sideways, by 0.01 on average: distances from the average are 0.007 to 0.013 (seven faces), 0.04,
    # 0.06 and 0.09.
    # Three bins from 0.007 to 0.09 hold 7, 2 and 1: once, 7 / 2 = 3.5 rounded up, 7 / 1.
    slide = np.array([0.0, 0.001, -0.001, 0.002, -0.002, 0.003, -0.003, 0.05, -0.05, 0.1])
    shapes = np.tile(np.array([[-1.0, -1], [1, -1], [0, 1], [0, -0.5]]), (10, 1, 1))
    shapes[:, 3, 0] = slide
    np.testing.assert_array_equal(repeats(shapes, BalanceConfig(bins=3)), [1] * 7 + [4] * 2 + [7])


def test_faces_that_lack_landmarks_are_shown_once_and_change_nothing_for_the_others() -> None:
    """Missing landmarks hold placeholders, here in the middle of the others: three faces in ten lack theirs."""
    shapes, gone = heads(YAW[:200]), np.zeros((200, 20), dtype=bool)
    rows = np.arange(200) % 10 < 3
    gone[np.ix_(rows, range(8))] = True
    held = np.where(gone[..., None], shapes[:, 8:].mean(axis=1, keepdims=True), shapes)
    found = repeats(held, NINE, ~gone)
    np.testing.assert_array_equal(found[rows], 1)
    np.testing.assert_array_equal(found[~rows], repeats(shapes[~rows], NINE))
    with pytest.raises(UserError, match=r"15 training faces with every landmark, of 24, for 9 bins.* to 7 or less"):
        repeats(held[:24], NINE, ~gone[:24])
    held[5] = 5.0
    with pytest.raises(UserError, match="all landmarks of face number 5 are one point"):
        repeats(held, NINE, ~gone)


def test_off_or_one_bin_repeats_nothing() -> None:
    shapes = heads(YAW[:10])
    for bins in (0, 1):
        found = repeats(shapes, BalanceConfig(bins=bins))
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, np.ones(10))
    np.testing.assert_array_equal(repeats(np.full((4, 5, 2), np.nan), BalanceConfig()), np.ones(4))  # off asks nothing


def test_faces_are_left_as_they_were() -> None:
    shapes = heads(YAW[:50])
    kept = shapes.copy()
    repeats(shapes, NINE)
    np.testing.assert_array_equal(shapes, kept)


# --------------------------------------------------------------------------------------------------------------------
# Bad input


def test_unlabelled_faces_are_refused() -> None:
    shapes = heads(YAW[:40])
    shapes[7] = np.nan
    shapes[9, 3, 1] = np.nan
    with pytest.raises(
        UserError, match=r"2 of 40 training faces without some landmarks \(the first is number 7\).*balance.bins to 0"
    ):
        repeats(shapes, NINE)


def test_too_few_faces_for_the_bins_are_refused() -> None:
    with pytest.raises(UserError, match=r"17 training faces for 9 bins.*set balance.bins to 8 or less"):
        repeats(heads(YAW[:17]), NINE)
    repeats(heads(YAW[:18]), NINE)


def test_too_few_points_or_components_are_refused() -> None:
    with pytest.raises(UserError, match="component 0 of 40 faces of 2 points, which have 0 components"):
        repeats(heads(YAW[:40], points=2), NINE)
    with pytest.raises(UserError, match="component 36 of 40 faces of 20 points, which have 36 components"):
        repeats(heads(YAW[:40]), BalanceConfig(bins=9, component=36))


def test_a_face_without_extent_is_refused() -> None:
    shapes = heads(YAW[:40])
    shapes[3] = 5.0
    with pytest.raises(UserError, match="all landmarks of face number 3 are one point"):
        repeats(shapes, NINE)


def test_numbers_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 or more"):
        BalanceConfig(bins=-1)
