"""Losses between predicted and labelled landmarks, in pixels of the network's input. Knows no network."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossKind = Literal["wing", "smooth_l1", "l1", "l2"]


@dataclass(frozen=True, kw_only=True, slots=True)
class LossConfig:
    """Which loss an error in coordinates has. All lengths are px of the network's input."""

    kind: LossKind = "wing"
    wing_width: float = 10.0
    """Errors below this are amplified (w of Feng et al. 2018)."""
    wing_epsilon: float = 2.0
    """Curvature below the width."""
    smooth_l1_beta: float = 1.0
    """Where smooth L1 turns from square to straight."""
    hidden_weight: float = 1.0
    """Weight of landmarks marked as not visible."""

    def __post_init__(self) -> None:
        if min(self.wing_width, self.wing_epsilon, self.smooth_l1_beta) <= 0 or self.hidden_weight < 0:
            raise ValueError(
                "loss: expected wing_width, wing_epsilon and smooth_l1_beta above 0, hidden_weight at least 0"
            )


def wing(error: Tensor, width: float = 10.0, epsilon: float = 2.0) -> Tensor:
    """Wing loss of each coordinate error (Feng et al. 2018, equation 5): w ln(1 + |e| / epsilon) below w, then |e| - C.

    C = w - w ln(1 + w / epsilon) joins the two. The constants w = 10 and epsilon = 2 belong to errors in pixels
    of an input of 64 to 256 px: with coordinates normalised to [0, 1] every error would be far below w, and
    both would have to shrink with it.
    """
    size = error.abs()
    constant = width - width * math.log1p(width / epsilon)
    return torch.where(size < width, width * torch.log1p(size / epsilon), size - constant)


def coordinate_loss(error: Tensor, config: LossConfig) -> Tensor:
    """The loss of every coordinate error (px), same shape."""
    if config.kind == "wing":
        return wing(error, config.wing_width, config.wing_epsilon)
    if config.kind == "l2":
        return error.square()
    if config.kind == "l1":
        return error.abs()
    size, beta = error.abs(), config.smooth_l1_beta
    return torch.where(size < beta, 0.5 * error.square() / beta, size - 0.5 * beta)


def landmark_loss(predicted: Tensor, target: Tensor, visible: Tensor, weight: Tensor, config: LossConfig) -> Tensor:
    """Weighted mean loss over labelled coordinates; a scalar, 0 where nothing is labelled.

    Args:
        predicted: (B, P, 2) px.
        target: (B, P, 2) px; NaN where unlabelled, which never contributes, neither to the value nor to the gradient.
        visible: (B, P) bool; landmarks that are not visible weigh `config.hidden_weight`.
        weight: (B,) weight of each face, or (B, P) of each landmark; multiplying all of
            them by a factor changes nothing.
        config: which loss.
    """
    labelled = torch.isfinite(target).all(dim=-1)
    weights = (
        (weight if weight.ndim == 2 else weight[:, None]).to(predicted.dtype)
        * torch.where(visible, 1.0, config.hidden_weight)
        * labelled
    )  # (B, P)
    error = predicted - torch.where(labelled[..., None], target, predicted.detach())
    total = (weights * coordinate_loss(error, config).mean(dim=-1)).sum()
    return total / weights.sum().clamp_min(1e-8)


def mean_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of labelled landmarks in px of the input, for the log; a scalar."""
    labelled = torch.isfinite(target).all(dim=-1)
    distance = (predicted.detach() - torch.where(labelled[..., None], target, predicted.detach())).norm(dim=-1)
    return distance.sum() / labelled.sum().clamp_min(1)
