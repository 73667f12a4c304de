"""How sure a detector is of each point: calibration finds what was hidden in drawn errors, and tables tell it."""

from typing import Any

import numpy as np
import pytest
import torch

from stylealign.errors import UserError
from stylealign.evaluation.point_trust import (
    PointTrust,
    base_of,
    face_confidence,
    fit_trust,
    mirror_base,
    refuse_not_positive,
    stretched,
    trust_of_card,
)
from stylealign.evaluation.reliability import expected_distance, neighbours_on_curves, reliability
from stylealign.face import geometry
from stylealign.face.covariance import isotropic, mirrored_covariance, moved_covariance, not_positive, scales
from stylealign.face.schema import SCHEMAS, LandmarkSchema
from stylealign.predicting.predicted_face import Face


def covariances(rng: np.random.Generator, faces: int, points: int) -> np.ndarray:
    """(N, P, 2, 2) of any direction, standard deviations of 0.5 to 4 px."""
    angle = rng.uniform(0, np.pi, (faces, points))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(*angle.shape, 2, 2)
    values = np.exp(rng.uniform(np.log(0.25), np.log(16), (faces, points, 2)))
    return turn @ (values[..., None] * turn.swapaxes(-1, -2))


def errors_of(rng: np.random.Generator, covariance: np.ndarray) -> np.ndarray:
    """(N, P, 2) Gaussian errors."""
    return (np.linalg.cholesky(covariance) @ rng.standard_normal((*covariance.shape[:-1], 1)))[..., 0]


def test_a_temperature_of_two_is_found() -> None:
    rng = np.random.default_rng(0)
    base = covariances(rng, 400, 5)
    trust, fit = fit_trust(errors_of(rng, 2 * base), base, "covariance")
    assert len(trust.temperature) == 1
    assert trust.power == 1.0
    assert trust.temperature[0] == pytest.approx(2, rel=0.06)  # of 4,000 squares: 2 % is one standard deviation
    np.testing.assert_allclose(trust.calibrated(base), trust.temperature[0] * base, rtol=1e-5)
    assert fit["surprise"] < fit["surprise_before"]


def test_a_power_and_a_temperature_a_point_are_found_where_they_are_there() -> None:
    rng = np.random.default_rng(1)
    truth = covariances(rng, 400, 4)
    values, axes = np.linalg.eigh(truth)
    squeezed = axes @ (np.sqrt(values)[..., None] * axes.swapaxes(-1, -2))  # a raw answer that is too even
    trust, _ = fit_trust(errors_of(rng, truth), squeezed, "covariance")
    assert trust.power == pytest.approx(2, abs=0.1)
    found = trust.calibrated(squeezed)
    assert np.median(np.abs(np.log(scales(found) / scales(truth)))) < 0.05

    each = np.array([0.5, 1.0, 2.0, 8.0])
    trust, _ = fit_trust(errors_of(rng, each[:, None, None] * truth), truth, "covariance")
    np.testing.assert_allclose(trust.temperature, each, rtol=0.15)


def test_few_faces_get_one_temperature_and_unlabelled_landmarks_say_nothing() -> None:
    rng = np.random.default_rng(2)
    base = covariances(rng, 12, 6)
    errors = errors_of(rng, base)
    known = np.ones((12, 6), bool)
    known[:, 5] = False
    errors[:, 5] = np.nan
    trust, _ = fit_trust(errors, base, "covariance", known)
    assert len(trust.temperature) == 1
    assert trust.power == 1.0
    assert 0.5 < trust.temperature[0] < 2
    with pytest.raises(UserError, match="no landmark of these faces is labelled"):
        fit_trust(errors[:, 5:], base[:, 5:], "covariance")


def test_arrays_and_tensors_are_stretched_alike_and_as_eigenvalues_are() -> None:
    base = covariances(np.random.default_rng(3), 7, 3)
    base[0, 0] = 3 * np.eye(2)  # without a direction
    trust = PointTrust(basis="covariance", temperature=(0.5, 1.0, 3.0), typical=2.0, power=1.7)
    values, axes = np.linalg.eigh(base)
    wanted = np.array(trust.temperature)[:, None] * 2.0 * (values / 2.0) ** 1.7
    expected = axes @ (wanted[..., None] * axes.swapaxes(-1, -2))
    np.testing.assert_allclose(trust.calibrated(base), expected, rtol=1e-5, atol=1e-6)
    tensor = torch.from_numpy(base)
    xx, xy, yy = stretched(
        tensor[..., 0, 0], tensor[..., 0, 1], tensor[..., 1, 1], torch.tensor(trust.temperature), 2.0, 1.7
    )
    np.testing.assert_allclose(
        torch.stack([xx, xy, yy]).numpy(), expected.reshape(7, 3, 4).transpose(2, 0, 1)[[0, 1, 3]]
    )


def test_covariances_move_as_points_do() -> None:
    rng = np.random.default_rng(4)
    covariance = np.array([[9.0, 2.0], [2.0, 1.0]])
    points = rng.multivariate_normal((0, 0), covariance, 200_000)
    affine = geometry.rotate_scale_affine((5.0, 3.0), 30.0, 2.0, (1.0, 4.0))
    np.testing.assert_allclose(
        moved_covariance(covariance, affine), np.cov(geometry.apply(affine, points).T), rtol=0.05
    )
    back = mirrored_covariance(np.stack([covariance, np.eye(2)]), np.array([1, 0]))
    np.testing.assert_array_equal(back[1], [[9.0, -2.0], [-2.0, 1.0]])


def test_a_lower_peak_is_a_wider_base() -> None:
    base = base_of("peaks", None, np.array([1.0, 0.5, 0.0]))
    assert base is not None
    assert scales(base).tolist() == [1, 2, 100]  # one over the peak, of a peak of a hundredth at least
    assert base_of("covariance", None, np.ones(3)) is None


def test_two_answers_are_as_unsure_as_they_are_apart_and_a_hundredth_of_the_crop_where_they_agree() -> None:
    base = mirror_base(np.array([[10.0, 10.0], [40.0, 50.0]]), np.array([[13.0, 14.0], [40.0, 50.0]]), 200)
    np.testing.assert_allclose(base, [29 * np.eye(2), 4 * np.eye(2)])  # 5² + 2², and 2² px²


def test_the_confidence_of_a_face_is_the_share_of_landmarks_near_the_truth() -> None:
    rng = np.random.default_rng(5)
    covariance = isotropic(rng.uniform(1, 6, (3000, 4)) ** 2)
    near = np.linalg.norm(errors_of(rng, covariance), axis=-1) < 0.05 * 80
    assert face_confidence(covariance, np.full(3000, 80.0)).mean() == pytest.approx(near.mean(), abs=0.01)


def test_two_eyes_are_as_sure_however_the_face_is_turned() -> None:
    covariance = np.tile(np.eye(2), (2, 1, 1))

    def confidence(degrees: float) -> float:
        eyes = 30 * np.array([[-1.0, -1], [1, 1]]) * [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]
        face = Face(landmarks=eyes, box=np.zeros(4), score=None, covariance=covariance, found_by="given")
        return float(face.confidence or 0)

    level = 1 - np.exp(-((0.05 * 30) ** 2) / 2)  # 60 px apart: a size of 30 px
    assert [confidence(0), confidence(90)] == pytest.approx([level, level])
    assert all(level - 0.05 < confidence(degrees) < level + 0.25 for degrees in range(0, 180, 5))


def test_what_is_no_covariance_is_refused_by_its_landmark() -> None:
    good = np.tile(np.array([[2.0, 1.0], [1.0, 2.0]]), (3, 2, 1, 1))
    assert not not_positive(good).any()
    for bad in ([[1.0, 2.0], [2.0, 1.0]], [[np.nan, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]], [[2.0, 1.0], [-1, 2]]):
        wrong = good.copy()
        wrong[2, 1] = bad
        with pytest.raises(UserError, match=r"answers: covariance of landmark 1 of face 2: found .* positive definite"):
            refuse_not_positive(wrong, "answers")


@pytest.mark.parametrize(
    "change",
    [
        {"basis": "hope"}, {"temperature": [1.0, 2.0]}, {"temperature": [-1.0]}, {"power": -1}, {"typical": "x"},
        {"power": None},
    ],
)  # fmt: skip
def test_a_card_whose_trust_means_nothing_is_refused(change: dict[str, object]) -> None:
    trust = PointTrust(basis="covariance", temperature=(1.5,), typical=4.0, power=2.0)
    card = {"trust": {**trust.to_dict(), "data": {"name": "faces"}}}
    assert trust_of_card(card, 5, "card.json") == trust
    assert trust_of_card({}, 5, "card.json") is None
    with pytest.raises(UserError, match=r"card\.json: trust: found .* expected a basis \(covariance, peaks, mirror\)"):
        trust_of_card({"trust": {**card["trust"], **change}}, 5, "card.json")


# --------------------------------------------------------------------------------------------------------------------
# Tables


def test_the_expected_distance_is_the_mean_length_of_the_error() -> None:
    rng = np.random.default_rng(6)
    for covariance in (np.diag([4.0, 4.0]), np.diag([9.0, 0.01]), np.array([[5.0, 2.0], [2.0, 1.0]])):
        drawn = np.linalg.norm(rng.multivariate_normal((0, 0), covariance, 100_000), axis=1).mean()
        assert expected_distance(covariance) == pytest.approx(drawn, rel=0.01)


def drawn_answers(factor: float, hidden: float = 0.0) -> dict[str, Any]:
    """The figures of a detector whose errors have `factor` squared times the covariance that it answers. A share
    `hidden` of the landmarks is not labelled, and it is a third as sure of those."""
    rng = np.random.default_rng(7)
    schema, faces = SCHEMAS["ibug68"], 150
    truth = 100 * rng.uniform(0, 1, (1, 68, 2)) + rng.normal(0, 1, (faces, 68, 2))
    sureness = np.exp(rng.uniform(-0.7, 0.7, (faces, 1, 1, 1)))  # some faces are harder
    covariance = covariances(rng, faces, 68) * sureness
    if not hidden:
        found = truth + factor * errors_of(rng, covariance)
        return reliability(found, covariance, truth, np.full(faces, 60.0), schema)
    known = rng.random((faces, 68)) >= hidden * rng.uniform(0, 2, (faces, 1))  # more of them in some faces
    known[0] = False
    covariance = np.where(known[..., None, None], covariance, 9 * covariance)
    found = truth + factor * errors_of(rng, covariance)
    return reliability(
        found, covariance, np.where(known[..., None], truth, np.nan), np.full(faces, 60.0), schema, known
    )


def test_a_calibrated_detector_has_a_diagonal_table_and_one_that_is_too_sure_has_not() -> None:
    figures = drawn_answers(1.0)
    assert [row["points"] for row in figures["deciles"]] == [1020] * 10
    for row in figures["deciles"]:
        assert row["seen"] / row["expected"] == pytest.approx(1, abs=0.08)
        assert row["inside"] == pytest.approx(0.9, abs=0.04)
    assert figures["near"]["expected"] == pytest.approx(figures["near"]["seen"], abs=0.01)
    assert figures["directions"]["along"] == pytest.approx(figures["directions"]["expected_along"], rel=0.05)
    assert figures["directions"]["across"] == pytest.approx(figures["directions"]["expected_across"], rel=0.05)
    for row in drawn_answers(2.0)["deciles"]:
        assert row["seen"] / row["expected"] == pytest.approx(2, abs=0.16)


def test_without_the_least_sure_less_error_is_left_and_never_less_than_at_best() -> None:
    figures = drawn_answers(1.0)
    for kind in ("points", "faces"):
        rows = figures[kind]
        assert [row["dropped"] for row in rows] == [0.05, 0.1, 0.2]
        assert rows[0]["left"] > rows[1]["left"] > rows[2]["left"]
        assert all(row["left"] >= row["best"] for row in rows)
    mean = np.mean([row["seen"] for row in figures["deciles"]])
    assert figures["points"][2]["left"] < 0.9 * mean


def test_landmarks_without_labels_count_neither_in_what_is_expected_nor_in_what_is_seen() -> None:
    """A detector that is unsure of them, and right to be, is as calibrated without them; nor do they say which faces
    err most: those whose labelled landmarks it is sure of are kept."""
    figures = drawn_answers(1.0, hidden=0.4)
    assert figures["near"]["expected"] == pytest.approx(figures["near"]["seen"], abs=0.01)
    for row, whole in zip(figures["faces"], drawn_answers(1.0)["faces"], strict=True):
        assert row["left"] == pytest.approx(row["best"], rel=0.03)
        assert row["left"] == pytest.approx(whole["left"], rel=0.1)


def test_errors_are_told_apart_along_and_across_the_contour() -> None:
    """A contour that runs to the right, and an error of 3 px along it and 1 px across."""
    schema = LandmarkSchema(name="line", num_points=4, boundaries={"line": (0, 1, 2, 3)})
    truth = np.stack([np.arange(4) * 10.0, np.zeros(4)], axis=1)[None].repeat(2, axis=0)
    covariance = np.tile(np.diag([4.0, 1.0]), (2, 4, 1, 1))
    figures = reliability(truth + np.array([3.0, 1.0]), covariance, truth, np.full(2, 100.0), schema)["directions"]
    assert figures["points"] == 4
    assert (figures["along"], figures["across"]) == pytest.approx((0.03, 0.01))
    assert figures["expected_along"] == pytest.approx(0.02 * np.sqrt(2 / np.pi))
    assert figures["expected_across"] == pytest.approx(0.01 * np.sqrt(2 / np.pi))
    # The corners of eyes and mouth, where two contours end together, have no direction.
    points = set(neighbours_on_curves(SCHEMAS["ibug68"])[:, 0].tolist())
    assert not points & {36, 39, 42, 45, 48, 54, 60, 64}
    assert {0, 16, 8, 37, 51, 66} <= points
    bare = LandmarkSchema(name="bare", num_points=4)
    assert reliability(truth, covariance, truth, np.full(2, 100.0), bare)["directions"] is None
