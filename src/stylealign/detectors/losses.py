"""Losses between predicted and labelled landmarks, in pixels of the network's input, and between maps and the Gaussians
they shall be. Knows no network."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stylealign.batches.together import shared
from stylealign.errors import UserError

LossKind = Literal["wing", "softwing", "smooth_l1", "l1", "l2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Which loss an error in coordinates has. All lengths are px of the network's input."""

    kind: LossKind = "wing"
    wing_width: float = 10.0
    """Errors below this are amplified (w of Feng et al. 2018)."""
    wing_epsilon: float = 2.0
    """Curvature below the width."""
    softwing_start: float = 2.0
    """Errors above this are amplified (omega 1 of Lin et al. 2021)."""
    softwing_width: float = 20.0
    """How much (omega 2)."""
    softwing_epsilon: float = 0.5
    """Curvature above the start."""
    smooth_l1_beta: float = 1.0
    """Where smooth L1 turns from square to straight."""
    hidden_weight: float = 1.0
    """Weight of landmarks marked as not visible."""

    def __post_init__(self) -> None:
        if min(self.wing_width, self.wing_epsilon, self.smooth_l1_beta) <= 0 or self.hidden_weight < 0:
            raise ValueError(
                "loss: expected wing_width, wing_epsilon and smooth_l1_beta above 0, hidden_weight at least 0"
            )
        if min(self.softwing_start, self.softwing_width, self.softwing_epsilon) <= 0:
            raise ValueError("loss: expected softwing_start, softwing_width and softwing_epsilon above 0")


def wing(error: Tensor, width: float = 10.0, epsilon: float = 2.0) -> Tensor:
    """Wing loss of each coordinate error (Feng et al. 2018, equation 5): w ln(1 + |e| / epsilon) below w, then |e| - C.

    C = w - w ln(1 + w / epsilon) joins the two. The constants w = 10 and epsilon = 2 belong to errors in pixels
    of an input of 64 to 256 px: with coordinates normalised to [0, 1] every error would be far below w, and
    both would have to shrink with it.
    """
    size = error.abs()
    constant = width - width * math.log1p(width / epsilon)
    return torch.where(size < width, width * torch.log1p(size / epsilon), size - constant)


def softwing(error: Tensor, start: float = 2.0, width: float = 20.0, epsilon: float = 0.5) -> Tensor:
    """Soft Wing loss of each coordinate error (Lin et al., TIP 2021; formula and constants as in mmpose): |e| below
    `start`, then width ln(1 + |e| / epsilon) + B.

    B = start - width ln(1 + start / epsilon) joins the two. Unlike Wing it leaves the smallest errors, which
    are the labels' own, unamplified.
    """
    size = error.abs()
    constant = start - width * math.log1p(start / epsilon)
    return torch.where(size < start, size, width * torch.log1p(size / epsilon) + constant)


def coordinate_loss(error: Tensor, config: LossConfig) -> Tensor:
    """The loss of every coordinate error (px), same shape."""
    if config.kind == "wing":
        return wing(error, config.wing_width, config.wing_epsilon)
    if config.kind == "softwing":
        return softwing(error, config.softwing_start, config.softwing_width, config.softwing_epsilon)
    if config.kind == "l2":
        return error.square()
    if config.kind == "l1":
        return error.abs()
    size, beta = error.abs(), config.smooth_l1_beta
    return torch.where(size < beta, 0.5 * error.square() / beta, size - 0.5 * beta)


def point_weights(target: Tensor, visible: Tensor, weight: Tensor, hidden_weight: float, dtype: torch.dtype) -> Tensor:
    """(B, P) what each landmark counts: nothing where unlabelled, `hidden_weight` times its weight where not visible.

    Arguments as of `landmark_loss`.
    """
    labelled = torch.isfinite(target).all(dim=-1)
    whole = weight if weight.ndim == 2 else weight[:, None]
    return whole.to(dtype) * torch.where(visible, 1.0, hidden_weight) * labelled


def landmark_loss(predicted: Tensor, target: Tensor, visible: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """Weighted mean loss over labelled coordinates; a scalar, 0 where nothing is labelled.

    Args:
        predicted: (B, P, 2) px.
        target: (B, P, 2) px; NaN where unlabelled, which never contributes, neither to the value nor to the gradient.
        visible: (B, P) bool; landmarks that are not visible weigh `config.hidden_weight`.
        weight: (B,) weight of each face, or (B, P) of each landmark; multiplying all of
            them by a factor changes nothing.
        config: which loss.

    Raises UserError for shapes that differ, which would broadcast.
    """
    if predicted.shape != target.shape:
        raise UserError(
            f"a network answers landmarks of shape {tuple(predicted.shape)}, expected {tuple(target.shape)}"
        )
    labelled = torch.isfinite(target).all(dim=-1)
    weights = point_weights(target, visible, weight, config.hidden_weight, predicted.dtype)  # (B, P)
    error = predicted - torch.where(labelled[..., None], target, predicted.detach())
    total = (weights * coordinate_loss(error, config).mean(dim=-1)).sum()
    return total / shared(weights.sum()).clamp_min(1e-8)


def mean_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of labelled landmarks in px of the input, for the log; a scalar."""
    labelled = torch.isfinite(target).all(dim=-1)
    distance = (predicted.detach() - torch.where(labelled[..., None], target, predicted.detach())).norm(dim=-1)
    return distance.sum() / shared(labelled.sum()).clamp_min(1)


# --------------------------------------------------------------------------------------------------------------------
# With a covariance a point


def gaussian_nll(error: Tensor, covariance: Tensor) -> Tensor:
    """-log of the Gaussian density at an error: (e' S^-1 e + ln det S) / 2 + ln 2 pi, without a solver.

    Args:
        error: (..., 2) px.
        covariance: (..., 2, 2) px^2, positive definite.

    Returns:
        (...).
    """
    a, b, d = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    x, y = error.unbind(dim=-1)
    determinant = a * d - b * b
    distance = (d * x * x - 2 * b * x * y + a * y * y) / determinant
    return 0.5 * (distance + determinant.log()) + math.log(2 * math.pi)


def star(error: Tensor, covariance: Tensor, restriction: float = 1.0) -> Tensor:
    """STAR loss (Zhou et al., CVPR 2023; as in the published code): the error along each axis of the covariance over
    its standard deviation, and the variances themselves, so that they do not grow to hide it.

    |v1'e| / sqrt(l1) + |v2'e| / sqrt(l2) + restriction (l1 + l2) / 2

    The distance is the absolute value; the published code's smooth L1 is that but for the smallest errors. No gradient
    goes through the directions v, so that round maps, which have none, do no harm; l = v'Sv has S's own gradient.

    Args:
        error: (..., 2), covariance: (..., 2, 2); both in halves of the crop (squared), the paper's units.

    Returns:
        (...).
    """
    a, b, d = covariance[..., 0, 0], covariance[..., 0, 1], covariance[..., 1, 1]
    angle = 0.5 * torch.atan2(2 * b, a - d).detach()
    c, s = angle.cos(), angle.sin()
    x, y = error.unbind(dim=-1)
    variances = torch.stack([a * c * c + 2 * b * c * s + d * s * s, a * s * s - 2 * b * c * s + d * c * c])
    variances = variances.clamp_min(1e-8)
    along = torch.stack([x * c + y * s, y * c - x * s])
    return (along.abs() / variances.sqrt()).sum(dim=0) + 0.5 * restriction * variances.sum(dim=0)


# --------------------------------------------------------------------------------------------------------------------
# Between distributions over cells


def gaussian_over(centres: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """(..., n) a Gaussian's shares of a row of n cells, that sum to 1 also where its mean lies far outside.

    Args:
        centres: (n,) of the cells, mean: (...), sigma: all px.
    """
    return (-0.5 * ((centres - mean[..., None]) / sigma).square()).softmax(dim=-1)


def jensen_shannon(log_p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats of distributions over the last dimension, as DSNT's regularisation has it
    (Nibali et al. 2018): KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2.

    Args:
        log_p: (..., n) logarithms of the answered shares.
        q: (..., n) the target's shares.
    """
    p = log_p.exp()
    log_m = (0.5 * (p + q)).clamp_min(1e-30).log()
    return 0.5 * ((p * (log_p - log_m)).sum(dim=-1) + (torch.xlogy(q, q) - q * log_m).sum(dim=-1))


def kullback_leibler(log_p: Tensor, q: Tensor) -> Tensor:
    """KL(q || p) in nats, as SimCC is trained with (Li et al., ECCV 2022). Arguments as of
    `jensen_shannon`."""
    return (torch.xlogy(q, q) - q * log_p).sum(dim=-1)


# --------------------------------------------------------------------------------------------------------------------
# Between maps whose peaks are 1


def awing(
    predicted: Tensor, target: Tensor, alpha: float = 2.1, omega: float = 14.0, epsilon: float = 1.0, theta: float = 0.5
) -> Tensor:
    """Adaptive Wing loss of each cell (Wang et al., ICCV 2019; constants as published), y the target in [0, 1]:

    omega ln(1 + |d / epsilon|^(alpha - y)) where |d| < theta, else A |d| - C; A and C join the two smoothly.
    """
    power = alpha - target
    size = (target - predicted).abs()
    ratio = theta / epsilon
    slope = omega / (1 + ratio**power) * power * ratio ** (power - 1) / epsilon
    constant = theta * slope - omega * torch.log1p(ratio**power)
    near = omega * torch.log1p((size / epsilon).clamp(1e-12, ratio) ** power)
    return torch.where(size < theta, near, slope * size - constant)


def awing_weights(target: Tensor, weight: float = 10.0) -> Tensor:
    """(B, P, h, w) weight of every cell: 1, and `weight` more within a cell of where the target is at least 0.2
    (the weighted loss map of Wang et al. 2019)."""
    widened = torch.nn.functional.max_pool2d(target, 3, 1, 1)
    return 1 + weight * (widened >= 0.2)
