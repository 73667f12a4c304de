"""What the heads share: their configuration, what a loss term is given, places of cells. Knows no files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from stylealign.detectors.losses import LossConfig, coordinate_loss, gaussian_nll, star
from stylealign.detectors.output import DetectorOutput

HeadKind = Literal["coordinates", "heatmap", "pip", "simcc"]
L = TypeVar("L", nn.Linear, nn.Conv2d)
TermKind = Literal["coordinates", "js", "kl", "awing", "star", "nll", "pip"]


def started(layer: L, gain: float = 1.0) -> L:
    """A linear layer or 1x1 convolution that begins with normal weights, whose sums vary by `gain`, and no offsets."""
    nn.init.normal_(layer.weight, std=gain * layer.weight[0].numel() ** -0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadConfig:
    """How landmarks come out of the features."""

    kind: HeadKind = "heatmap"
    """`heatmap`: a map a landmark, its mean place. `coordinates`: offsets from the mean shape. `simcc`: a row of bins
    for x and one for y. `pip`: the best cell, the place in it, and what neighbours say."""
    stride: Literal[4, 8, 16, 32] | None = None
    """Pixels a cell of the features it reads. Not given: 4 for heatmap, 8 for simcc, for pip the largest that leaves 6
    cells a side; coordinates reads the last ones."""
    flatten: bool | None = None
    """Of coordinates: every place has its own weights, instead of their mean. Not given: below 128 px."""
    bins: float = 2.0
    """Of simcc: bins a pixel (the paper's splitting factor)."""
    neighbours: int = 10
    """Of pip: how many of its nearest landmarks each cell tells of."""

    def __post_init__(self) -> None:
        if not self.bins > 0 or self.neighbours < 1:
            raise ValueError(
                f"head with bins {self.bins} and neighbours {self.neighbours}: expected above 0, at least 1"
            )


# Chosen on val of 300-W: docs/results.md, "Which trunk, head and loss".
USUAL_WEIGHTS: dict[TermKind, float] = {"js": 10.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class TermsConfig:
    """What the network learns by: a sum of terms, each a mean over labelled landmarks."""

    terms: tuple[TermKind, ...] = ("coordinates", "js")
    """`coordinates`: by `loss.kind` (wing, softwing, smooth_l1, l1, l2). `js`, `kl`: of maps or rows, to a Gaussian.
    `awing`: of maps. `star`, `nll`: the error under the answered covariance. `pip`: what pip learns by."""
    weights: tuple[float, ...] = ()
    """Of the terms, in their order. Not given: 10 for js, so that maps become narrow early, 1 for each other one."""
    sigma: float = 4.0
    """Of those Gaussians, px of the crop; 4 is a cell of heatmaps."""
    star_restriction: float = 1.0
    """Of the variances in star."""
    pip_score: float = 10.0
    """Of the cells' scores beside places and neighbours in pip, as in the code published with it."""

    def __post_init__(self) -> None:
        if not self.terms or len(set(self.terms)) < len(self.terms):
            raise ValueError(f"terms {', '.join(self.terms) or 'none'}: expected one or more, each once")
        if self.weights and (len(self.weights) != len(self.terms) or min(self.weights) <= 0):
            raise ValueError(
                f"weights {', '.join(map(str, self.weights))} for terms {', '.join(self.terms)}: expected one above 0 "
                "for each"
            )
        if not self.sigma > 0 or min(self.star_restriction, self.pip_score) < 0:
            raise ValueError("loss: expected sigma above 0, star_restriction and pip_score at least 0")

    def weighted(self) -> list[tuple[TermKind, float]]:
        """(term, its weight) in order."""
        usual = tuple(USUAL_WEIGHTS.get(term, 1.0) for term in self.terms)
        return list(zip(self.terms, self.weights or usual, strict=True))


class Truth(NamedTuple):
    """What a term is given beside the answer."""

    landmarks: Tensor
    """(B, P, 2) px; where unlabelled, the answer itself, without a gradient"""
    labelled: Tensor
    """(B, P) bool"""
    loss: LossConfig
    terms: TermsConfig
    size: int
    """Side of the crop in px"""
    weight: Tensor = torch.ones(0)
    """(B, P) what each landmark counts within its face, where a term looks at others beside its own; empty: all 1"""


Term = Callable[[nn.Module, DetectorOutput, Truth], Tensor]
"""(head, answer, truth) -> (B, P)"""


def cell_places(num: int, size: float, like: Tensor) -> Tensor:
    """(num,) px of the crop: centres of a row of cells that covers it."""
    return (torch.arange(num, device=like.device, dtype=torch.float32) + 0.5) * (size / num) - 0.5


def square(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
    """(..., 2, 2) symmetric matrices [[a, b], [b, d]]."""
    return torch.stack([torch.stack([a, b], dim=-1), torch.stack([b, d], dim=-1)], dim=-2)


def covariance_of(out: DetectorOutput) -> Tensor:
    assert out.covariance is not None
    return out.covariance


def coordinates_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    """The loss of both coordinates' errors, by `loss.kind`."""
    return coordinate_loss(out.landmarks - truth.landmarks, truth.loss).mean(dim=-1)


def nll_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    """The Gaussian negative log-likelihood of the error under the answered covariance, px."""
    return gaussian_nll(out.landmarks - truth.landmarks, covariance_of(out))


def star_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    """STAR in its paper's units, halves of the crop."""
    half = truth.size / 2
    error, covariance = (out.landmarks - truth.landmarks) / half, covariance_of(out) / half**2
    return star(error, covariance, truth.terms.star_restriction)
