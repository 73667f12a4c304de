"""Each loss against values worked out by hand, and against a library where one has it."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, multivariate_normal

from stylealign.detectors.losses import (
    LossConfig,
    awing,
    awing_weights,
    coordinate_loss,
    gaussian_nll,
    gaussian_over,
    jensen_shannon,
    kullback_leibler,
    softwing,
    star,
)


def test_soft_wing_is_straight_below_its_start_and_joins_there() -> None:
    error = torch.tensor([0.0, 1.0, -1.5, 2.0, 4.5])
    # 2 - 20 ln(1 + 2 / .5) + 20 ln(1 + 4.5 / .5) = 2 + 20 ln 2
    expected = [0.0, 1.0, 1.5, 2.0, 2 + 20 * math.log(2)]
    torch.testing.assert_close(softwing(error), torch.tensor(expected), rtol=1e-5, atol=1e-5)
    assert torch.equal(coordinate_loss(error, LossConfig(kind="softwing")), softwing(error))
    assert softwing(torch.tensor(2.0 - 1e-5)) == pytest.approx(float(softwing(torch.tensor(2.0 + 1e-5))), abs=1e-3)
    with pytest.raises(ValueError, match="expected softwing_start, softwing_width and softwing_epsilon above 0"):
        LossConfig(softwing_start=0.0)


def test_adaptive_wing_by_hand() -> None:
    # Where the target is 1 and the answer .75: 14 ln(1 + .25 ^ 1.1). Where 0 and .25: 14 ln(1 + .25 ^ 2.1).
    found = awing(torch.tensor([0.75, 0.25]), torch.tensor([1.0, 0.0]))
    expected = [14 * math.log1p(0.25**1.1), 14 * math.log1p(0.25**2.1)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    # Beyond .5 straight: A = 14 / (1 + .5 ^ 2.1) * 2.1 * .5 ^ 1.1, C = .5 A - 14 ln(1 + .5 ^ 2.1).
    slope = 14 / (1 + 0.5**2.1) * 2.1 * 0.5**1.1
    assert float(awing(torch.tensor(0.9), torch.tensor(0.0))) == pytest.approx(
        slope * 0.9 - (0.5 * slope - 14 * math.log1p(0.5**2.1)), rel=1e-5
    )
    for target in (0.0, 0.3, 1.0):  # value and slope join
        at = torch.tensor([target + 0.5 - 1e-4, target + 0.5 + 1e-4], requires_grad=True)
        value = awing(at, torch.full((2,), target))
        value.sum().backward()
        assert at.grad is not None
        assert float((value[1] - value[0]).detach()) == pytest.approx(2e-4 * float(at.grad.mean()), rel=0.05)
        assert float(at.grad[0]) == pytest.approx(float(at.grad[1]), rel=1e-2)


def test_a_map_that_is_right_has_no_gradient_that_is_not_a_number() -> None:
    answer = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    awing(answer, answer.detach().clone()).sum().backward()
    assert answer.grad is not None
    assert bool(answer.grad.isfinite().all())


def test_cells_within_one_of_a_peak_weigh_eleven() -> None:
    target = torch.zeros(1, 1, 5, 5)
    target[0, 0, 2, 2], target[0, 0, 2, 3] = 1.0, 0.1
    weights = awing_weights(target)[0, 0]
    assert weights[1:4, 1:4].tolist() == [[11.0] * 3] * 3
    assert weights.sum() == 9 * 11 + 16


def test_jensen_shannon_and_kullback_leibler_are_scipys_and_a_pencils() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.25, 0.25])
    from_p, from_q = 0.5 * math.log(0.5 / 0.375), 0.25 * math.log(0.25 / 0.375) + 0.25 * math.log(0.25 / 0.125)
    by_hand = 0.5 * from_p + 0.5 * from_q
    assert float(jensen_shannon(p.clamp_min(1e-30).log(), q)) == pytest.approx(by_hand, abs=1e-6)
    torch.manual_seed(0)
    scores, shares = torch.randn(4, 30) * 3, torch.rand(4, 30).softmax(dim=1)
    found, p_all = jensen_shannon(scores.log_softmax(1), shares), scores.softmax(1).numpy()
    np.testing.assert_allclose(found.numpy(), jensenshannon(p_all, shares.numpy(), axis=1) ** 2, rtol=1e-4)
    np.testing.assert_allclose(
        kullback_leibler(scores.log_softmax(1), shares).numpy(), entropy(shares.numpy(), p_all, axis=1), rtol=1e-4
    )
    apart = jensen_shannon(torch.tensor([0.0, -70.0]), torch.tensor([0.0, 1.0]))
    assert float(apart) == pytest.approx(math.log(2), abs=1e-5)  # the largest there is


def test_a_gaussian_over_cells_sums_to_one_wherever_its_middle_lies() -> None:
    centres = torch.arange(8.0) * 4 + 1.5
    found = gaussian_over(centres, torch.tensor([13.5, -500.0]), 4.0)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2))
    assert float(found[0, 3] / found[0, 2]) == pytest.approx(math.exp(0.5), rel=1e-5)
    assert found[1, 0] == 1


def test_the_gaussian_s_likelihood_is_scipys() -> None:
    covariance = torch.tensor([[4.0, 1.5], [1.5, 2.0]])
    errors = torch.tensor([[0.0, 0.0], [1.0, -2.0], [3.0, 3.0]])
    expected = -multivariate_normal([0, 0], covariance.numpy()).logpdf(errors.numpy())
    np.testing.assert_allclose(gaussian_nll(errors, covariance.expand(3, 2, 2)).numpy(), expected, rtol=1e-5)
    unit = gaussian_nll(torch.tensor([3.0, 4.0]), torch.eye(2))
    assert float(unit) == pytest.approx(12.5 + math.log(2 * math.pi), rel=1e-6)


def test_star_by_hand() -> None:
    # Variances .04 and .01 along x and y: .2 / .2 + .3 / .1 + (.04 + .01) / 2.
    flat = torch.tensor([[0.04, 0.0], [0.0, 0.01]])
    assert float(star(torch.tensor([0.2, -0.3]), flat)) == pytest.approx(4.025, rel=1e-5)
    # The same turned, error and all.
    for degrees in (20, 45, 70, 130):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = torch.tensor([[c, -s], [s, c]])
        turned = star(turn @ torch.tensor([0.2, -0.3]), turn @ flat @ turn.T)
        assert float(turned) == pytest.approx(4.025, rel=1e-4)
    assert float(star(torch.tensor([0.2, -0.3]), flat, restriction=0.0)) == pytest.approx(4.0, rel=1e-5)


def test_star_and_likelihood_have_gradients_where_a_map_is_round() -> None:
    for loss in (star, gaussian_nll):
        covariance = (0.1 * torch.eye(2)).requires_grad_()
        error = torch.zeros(2, requires_grad=True)
        loss(error, covariance).backward()
        assert covariance.grad is not None
        assert error.grad is not None
        assert bool(covariance.grad.isfinite().all() and error.grad.isfinite().all())


def test_star_s_gradient_is_that_of_the_eigenvalues() -> None:
    torch.manual_seed(0)
    root = torch.randn(2, 2, dtype=torch.float64)
    covariance = (root @ root.T + 0.1 * torch.eye(2)).requires_grad_()
    error = torch.zeros(2, dtype=torch.float64)
    (found,) = torch.autograd.grad(star(error, covariance), covariance)
    (expected,) = torch.autograd.grad(0.5 * torch.linalg.eigvalsh(covariance).sum(), covariance)
    torch.testing.assert_close((found + found.T) / 2, (expected + expected.T) / 2)


def test_dsnt_is_kornias() -> None:
    dsnt = pytest.importorskip("kornia.geometry.subpix.dsnt")
    divergence = pytest.importorskip("kornia.losses").js_div_loss_2d
    from stylealign.detectors.heads.heatmap import moments

    torch.manual_seed(0)
    scores = 2 * torch.randn(2, 3, 16, 16)
    shares = dsnt.spatial_softmax2d(scores)
    torch.testing.assert_close(moments(scores, 16)[0], dsnt.spatial_expectation2d(shares, False))
    mean, std = 8 + 3 * torch.randn(2, 3, 2), torch.full((2, 3, 2), 1.5)
    target = dsnt.render_gaussian2d(mean, std, (16, 16), normalized_coordinates=False)
    found = jensen_shannon(scores.flatten(2).log_softmax(2), target.flatten(2))
    torch.testing.assert_close(found, divergence(shares, target, reduction="none"))
