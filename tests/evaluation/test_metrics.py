"""Metrics: worked out by hand, by properties, and against the faults that published evaluators have had."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylealign.errors import UserError
from stylealign.evaluation import metrics
from stylealign.face.geometry import apply, flip_affine, rotate_scale_affine
from stylealign.face.schema import AFLW19, COFW29, FIVE, IBUG68, WFLW98, LandmarkSchema

# Two eye corners and a chin.
THREE = LandmarkSchema(
    name="three", num_points=3, flip_pairs=((0, 1),), anchors={"inter_ocular": ((0,), (1,))}, parts={"eyes": (0, 1)}
)
TRUTH = np.array([[[0.0, 0.0], [40.0, 30.0], [10.0, 50.0]]])
BOX = np.array([[0.0, 0.0, 40.0, 90.0]])


def faces(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 100, (count, 3, 2)) + np.array([[0, 0], [200, 0], [100, 100]])
    return truth + rng.normal(0, 4, truth.shape), truth


def nme(
    predicted: np.ndarray, truth: np.ndarray, kind: str = "inter_ocular", schema: LandmarkSchema = THREE
) -> np.ndarray:
    return metrics.nme_per_face(predicted, truth, metrics.denominators(truth, None, schema, kind))


def test_the_nme_of_a_three_point_face_is_the_one_worked_out_by_hand() -> None:
    # Eye corners (0, 0) and (40, 30): distance sqrt(1600 + 900) = 50.
    # Errors: (3, 4) -> 5;  (0, -10) -> 10;  (0, 0) -> 0.  Mean 15 / 3 = 5.  NME = 5 / 50 = 0.1.
    predicted = TRUTH + np.array([[[3.0, 4.0], [0.0, -10.0], [0.0, 0.0]]])
    assert nme(predicted, TRUTH) == pytest.approx([0.1])
    np.testing.assert_allclose(metrics.point_errors(predicted, TRUTH), [[5, 10, 0]])
    # Only the first and the last point visible: mean 5 / 2, over 50.
    mask = np.array([[True, False, True]])
    assert metrics.nme_per_face(predicted, TRUTH, np.array([50.0]), mask) == pytest.approx([0.05])


def test_every_denominator_is_the_length_its_name_says() -> None:
    assert metrics.denominators(TRUTH, BOX, THREE, "box") == pytest.approx([60])  # sqrt(40 * 90)
    corners = np.array([[[10.0, 20], [50, 110], [30, 40]]])  # 40 wide, 90 high
    assert metrics.denominators(corners, None, THREE, "landmark_box") == pytest.approx([60])
    assert metrics.denominators(TRUTH, BOX, THREE, "diagonal") == pytest.approx([np.hypot(40, 90)])
    face = np.random.default_rng(0).uniform(0, 100, (1, 68, 2))
    pupils = face[0, 36:42].mean(axis=0) - face[0, 42:48].mean(axis=0)
    assert metrics.denominators(face, None, IBUG68, "inter_pupil") == pytest.approx([np.linalg.norm(pupils)])
    assert metrics.denominators(face, None, IBUG68, "inter_ocular") == pytest.approx(
        [np.linalg.norm(face[0, 36] - face[0, 45])]
    )
    face = np.random.default_rng(0).uniform(0, 100, (1, 98, 2))
    assert metrics.denominators(face, None, WFLW98, "inter_ocular") == pytest.approx(
        [np.linalg.norm(face[0, 60] - face[0, 72])]
    )


def test_the_usual_denominator_is_the_one_papers_use_on_the_mark_up() -> None:
    found = {s.name: metrics.usual_denominator(s) for s in (WFLW98, IBUG68, COFW29, AFLW19, FIVE)}
    assert found == {
        "wflw98": "inter_ocular", "ibug68": "inter_ocular", "cofw29": "inter_pupil", "aflw19": "box",
        "five": "inter_pupil",
    }  # fmt: skip
    bare = LandmarkSchema(name="bare", num_points=2)
    assert metrics.usual_denominator(bare) == "box"
    assert (
        metrics.usual_denominator(bare, boxed=False) == metrics.usual_denominator(AFLW19, boxed=False) == "landmark_box"
    )
    assert metrics.usual_denominator(WFLW98, boxed=False) == "inter_ocular"


@pytest.mark.parametrize(
    ("landmarks", "boxes", "kind", "message"),
    [
        (TRUTH * [[[1, 1], [0, 0], [1, 1]]], None, "inter_ocular", r"'anna'.*length is 0"),  # coincident eyes
        (TRUTH * np.nan, None, "inter_ocular", "'anna'.*nan"),
        (TRUTH, BOX[:, [2, 3, 0, 1]], "box", r"'anna'.*box is \[40"),  # both corners swapped: a positive product
        (TRUTH, BOX * [[1, 1, 0, 1]], "diagonal", "'anna'"),  # no width
        (TRUTH, BOX * np.nan, "box", "'anna'"),
        (TRUTH, None, "box", "needs face boxes"),
        (TRUTH, None, "inter_pupil", "no 'inter_pupil' anchor.*inter_ocular"),
        (TRUTH, None, "face", "unknown denominator 'face'.*inter_ocular"),
    ],
)
def test_a_face_without_a_usable_denominator_is_named(landmarks, boxes, kind, message) -> None:
    with pytest.raises(UserError, match=message):
        metrics.denominators(landmarks, boxes, THREE, kind, ["anna"])


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UserError, match=r"\(1, 2, 2\).*\(1, 3, 2\)"):
        metrics.point_errors(TRUTH[:, :2], TRUTH)
    with pytest.raises(UserError, match="row 0"):
        metrics.point_errors(TRUTH * np.nan, TRUTH)
    with pytest.raises(UserError, match="no visible landmark"):
        metrics.nme_per_face(TRUTH, TRUTH, np.ones(1), np.zeros((1, 3), bool))
    with pytest.raises(UserError, match="1 denominator expected"):
        metrics.nme_per_face(TRUTH, TRUTH, np.ones(2))
    for bad in (np.array([0.1, np.nan]), np.array([])):  # a NaN would count as a success at every threshold
        with pytest.raises(UserError, match="finite"):
            metrics.failure_rate(bad, 0.1)


def test_other_kinds_of_arrays_and_other_mark_ups_are_taken_or_said() -> None:
    truth = np.random.default_rng(0).uniform(0, 90, (2, 98, 2))
    moved = truth + np.array([3.0, 4.0])
    lengths = metrics.denominators(truth, None, WFLW98, "inter_ocular")
    for kind in (torch.from_numpy, np.ndarray.tolist):
        found = metrics.nme_per_face(kind(moved), kind(truth), kind(lengths))  # type: ignore[arg-type]
        np.testing.assert_allclose(found, 5 / lengths)
    with pytest.raises(UserError, match=r"shape \(2, 98, 2\), expected \(faces, 68, 2\) of ibug68"):
        metrics.denominators(truth, None, IBUG68, "inter_ocular")
    for wrong in (-lengths, 0 * lengths, np.nan * lengths):
        with pytest.raises(UserError, match="a denominator is not a number above 0"):
            metrics.nme_per_face(moved, truth, wrong)
    with pytest.raises(UserError, match=r"a mask of shape \(98,\), expected \(2, 98\)"):
        metrics.nme_per_face(moved, truth, lengths, np.ones(98, bool))


def test_ced_and_auc_of_three_errors_are_those_worked_out_by_hand() -> None:
    # Errors 0, 0.05, 0.2. The CED is 1/3 from 0 on, 2/3 from 0.05 on, 1 from 0.2 on.
    errors = np.array([0.2, 0.0, 0.05])
    np.testing.assert_allclose(
        metrics.ced(errors, np.array([0, 0.049, 0.05, 0.1, 0.2])), [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1]
    )
    # Area to 0.1: 0.05 * 1/3 + 0.05 * 2/3 = 0.05; over 0.1: 0.5.
    assert metrics.auc(errors, 0.1) == pytest.approx(0.5)
    # Area to 0.04: 0.04 / 3; over 0.04: 1/3.
    assert metrics.auc(errors, 0.04) == pytest.approx(1 / 3)
    # Area to 0.4: 0.05/3 + 0.15 * 2/3 + 0.2 = 0.31667; over 0.4: 0.79167.
    assert metrics.auc(errors, 0.4) == pytest.approx(0.791667, abs=1e-6)
    assert metrics.failure_rate(errors, 0.05) == pytest.approx(1 / 3)  # an error of exactly 0.05 is no failure
    assert metrics.percentiles(np.linspace(0, 1, 101), (90, 95, 99)) == pytest.approx({90: 0.9, 95: 0.95, 99: 0.99})


errors_strategy = st.lists(st.floats(0, 1), min_size=1, max_size=30).map(np.array)


@given(errors_strategy, st.floats(0.001, 1))
def test_failure_rate_is_what_the_ced_leaves(errors: np.ndarray, threshold: float) -> None:
    assert metrics.failure_rate(errors, threshold) == pytest.approx(1 - metrics.ced(errors, np.array([threshold]))[0])


@given(errors_strategy, st.floats(0.001, 1), st.floats(0.001, 1))
def test_auc_grows_with_the_threshold_and_falls_with_the_errors(errors: np.ndarray, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= metrics.auc(errors, low) <= metrics.auc(errors, high) + 1e-12 <= 1 + 2e-12
    assert metrics.auc(errors + 0.01, high) <= metrics.auc(errors, high) + 1e-12


@given(errors_strategy, st.floats(0.01, 1))
@settings(max_examples=30)
def test_auc_is_the_integral_of_the_ced(errors: np.ndarray, threshold: float) -> None:
    grid = (np.arange(20_000) + 0.5) / 20_000 * threshold
    assert metrics.auc(errors, threshold) == pytest.approx(metrics.ced(errors, grid).mean(), abs=1e-3)


@given(st.floats(-180, 180), st.floats(0.1, 10), st.floats(-500, 500), st.floats(-500, 500))
def test_nme_does_not_change_when_both_faces_are_moved_turned_and_scaled(
    degrees: float, scale: float, dx: float, dy: float
) -> None:
    predicted, truth = faces(4)
    moved = rotate_scale_affine((50, 50), degrees, scale, (dx, dy))
    np.testing.assert_allclose(nme(apply(moved, predicted), apply(moved, truth)), nme(predicted, truth), rtol=1e-8)


def test_nme_does_not_change_when_both_faces_are_mirrored() -> None:
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 200, (4, 98, 2))
    predicted = truth + rng.normal(0, 3, truth.shape)
    mirror, swap = flip_affine(256), WFLW98.flip_permutation
    mirrored = nme(apply(mirror, predicted)[:, swap], apply(mirror, truth)[:, swap], schema=WFLW98)
    np.testing.assert_allclose(mirrored, nme(predicted, truth, schema=WFLW98), rtol=1e-12)


def test_the_faults_of_published_evaluators_change_the_number() -> None:
    """Each of these has been published; an evaluator test that such a fault passes is worth nothing."""
    rng = np.random.default_rng(1)
    shape = rng.uniform(20, 120, (68, 2))
    shape[36], shape[45] = (40, 60), (100, 60)
    shape[37:42] = np.array([40, 60]) + rng.uniform(2, 14, (5, 2))
    shape[[42, 43, 44, 46, 47]] = np.array([100, 60]) - rng.uniform(2, 14, (5, 2))
    truth = shape + rng.normal(0, 2, (5, 68, 2))
    predicted = truth + rng.normal(0, 1, truth.shape)
    right = nme(predicted, truth, schema=IBUG68).mean()
    boxes = np.concatenate([truth.min(axis=1), truth.max(axis=1)], axis=1)
    mutants = {
        "inter-pupil for inter-ocular": nme(predicted, truth, "inter_pupil", IBUG68).mean(),
        "box for inter-ocular": metrics.nme_per_face(
            predicted, truth, metrics.denominators(truth, boxes, IBUG68, "box")
        ).mean(),
        "the predicted eyes as denominator": metrics.nme_per_face(
            predicted, truth, metrics.denominators(predicted, None, IBUG68, "inter_ocular")
        ).mean(),
        "eye corners counted from 1": metrics.nme_per_face(
            predicted, truth, np.linalg.norm(truth[:, 37] - truth[:, 46], axis=-1)
        ).mean(),
        "swapped eyes": nme(predicted[:, IBUG68.flip_permutation], truth, schema=IBUG68).mean(),
        "pixels counted from 1": nme(predicted + 1, truth, schema=IBUG68).mean(),
        "x and y exchanged": nme(predicted[..., ::-1], truth, schema=IBUG68).mean(),
        "squared distances": ((predicted - truth) ** 2).sum(-1).mean() / 60,
    }
    assert 0.005 < right < 0.05
    for name, wrong in mutants.items():
        assert abs(wrong - right) > 1e-5, name


def test_the_bootstrap_interval_is_reproducible_and_has_the_width_theory_gives() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    interval = metrics.bootstrap_mean_interval(values, seed=7)
    assert interval == metrics.bootstrap_mean_interval(values, seed=7)
    assert interval != metrics.bootstrap_mean_interval(values, seed=8)
    assert interval.mean == pytest.approx(values.mean())
    # The mean of n values has standard error s / sqrt(n); 95 % lie within 1.96 of it.
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert interval.high - interval.mean == pytest.approx(half, rel=0.1)
    assert interval.mean - interval.low == pytest.approx(half, rel=0.1)
    one = metrics.bootstrap_mean_interval(np.array([0.25]))
    assert (one.low, one.high) == (0.25, 0.25)


def test_the_bootstrap_in_blocks_draws_every_resample() -> None:
    values = np.random.default_rng(0).normal(0, 1, 3_000)  # 666 resamples a block: the last block is shorter
    interval = metrics.bootstrap_mean_interval(values, n=2000)
    half = 1.96 / np.sqrt(values.size)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)


def test_a_paired_comparison_sees_what_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.02, 0.2, 200)  # faces differ far more than systems do
    better = hard - 0.002 + rng.normal(0, 0.002, 200)
    paired = metrics.paired_interval(better, hard, seed=1)
    assert paired.low < paired.difference < paired.high < 0
    assert paired.difference == pytest.approx((better - hard).mean())
    assert paired.p_wilcoxon < 0.001
    assert paired.p_sign < 0.001
    assert paired.better + paired.worse == 200
    mirror = metrics.paired_interval(hard, better, seed=1)
    assert (mirror.difference, mirror.better) == (pytest.approx(-paired.difference), paired.worse)
    assert metrics.bootstrap_mean_interval(better).high > metrics.bootstrap_mean_interval(hard).low


def test_the_p_values_of_four_differences_and_a_tie_are_those_worked_out_by_hand() -> None:
    base = np.full(5, 1.0)
    errors = base + np.array([-0.125, -0.25, -0.375, 0.5, 0.0])  # binary fractions: nothing is rounded
    paired = metrics.paired_interval(errors, base)
    assert (paired.better, paired.worse) == (3, 1)
    # Of four coins three or more fall alike on one side: 5 of 16; the tie is no coin.
    assert paired.p_sign == pytest.approx(2 * 5 / 16)
    # Positive ranks add up to 4. So much or less do 7 of the 16 subsets of the ranks 1 to 4.
    assert paired.p_wilcoxon == pytest.approx(2 * 7 / 16)
    assert metrics.paired_interval(base, errors)[3:] == (paired.p_wilcoxon, paired.p_sign, 1, 3)


def test_a_system_compared_with_itself_is_neither_better_nor_worse() -> None:
    errors = np.array([0.1, 0.2, 0.3])
    assert metrics.paired_interval(errors, errors) == (0, 0, 0, 1, 1, 0, 0)
    with pytest.raises(UserError, match="same faces"):
        metrics.paired_interval(errors, errors[:2])
