"""The KL of `vunet`: how much a style says beyond what the structure map does, and the weight that steers it.

The KL is in nats, summed over all elements of the latents, and its weight is stated per nat against the *summed*
reconstruction:

    total = 3*S*S * sum_t weights.t * term_t  +  kl_weight * KL

The released code sets nats against the *mean* instead (`scale="mean"` in the "released" preset); `per_nat` converts.
With a weight that is a thousand times too small the decoder reads everything from the style and ignores the structure
map, while the reconstructions look perfect: log KL in nats, and heed `kl_warning`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stylealign.errors import UserError
from stylealign.translators.reconstruction import ReconstructionConfig, num_elements


def kl_nats(posterior: Sequence[Tensor], prior: Sequence[Tensor]) -> Tensor:
    """KL(q||p) in nats an image between Gaussians of unit variance, averaged over the batch (docs/paper_map.md 1.2).

    0.5 ||mu_q - mu_p||^2, summed over the elements of every scale.
    """
    per_scale = [
        0.5 * (q.float() - p.float()).square().flatten(1).sum(dim=1) for q, p in zip(posterior, prior, strict=True)
    ]  # (B,) each
    return torch.stack(per_scale).sum(dim=0).mean()


@dataclass(frozen=True, kw_only=True, slots=True)
class KLConfig:
    """The weight of one nat: a controller steering to `target_nats`, or with `target_nats: null` a fixed schedule."""

    target_nats: float | None = 120.0
    """KL the controller steers to. At 64 to 80 px, 100 to 200 nats follow the structure; thousands do not."""
    start: float = 0.02
    """First weight: low, since a style that costs much at once is never learnt (the posterior collapses)."""
    weight: float = 1.0
    """The schedule's last weight."""
    begin_frac: float = 0.5
    """Share of training at which the schedule's weight starts to rise linearly."""
    end_frac: float = 0.75
    """Share of training at which it reaches `weight`."""
    rate: float = 0.02
    """The controller's gain: log-weight moves by rate * log(KL / target) a step."""
    max_change: float = 0.02
    """Most the log-weight moves in a step: 0.02 is a factor of 7 in 100 steps."""
    min_weight: float = 1e-3
    """The controller's lowest weight."""
    max_weight: float = 1e3
    """The controller's highest weight."""

    def __post_init__(self) -> None:
        if self.target_nats is not None and self.target_nats <= 0:
            raise UserError(f"target_nats {self.target_nats} must be positive, or null for a fixed schedule.")
        if not 0 <= self.begin_frac <= self.end_frac <= 1:
            raise UserError(
                f"begin_frac {self.begin_frac} and end_frac {self.end_frac} must satisfy 0 <= begin <= end <= 1."
            )
        if not 0 < self.min_weight <= self.max_weight:
            raise UserError(
                f"min_weight {self.min_weight} and max_weight {self.max_weight} must satisfy 0 < min <= max."
            )
        if self.weight < 0 or self.start < 0:
            raise UserError(f"KL weight {self.weight} and start {self.start} must not be negative.")
        if self.target_nats is not None and not self.min_weight <= self.start <= self.max_weight:
            raise UserError(
                f"KL start {self.start} must lie between min_weight {self.min_weight} and max_weight {self.max_weight}."
            )


KL_PRESETS = {
    "released": KLConfig(target_nats=None, start=1e-6, weight=1.0, begin_frac=0.5, end_frac=0.75),
    "small": KLConfig(),
}
"""released: docs/paper_map.md 1.5, meaningful only with the released reconstruction. small: the controller."""


def kl_weight(step: int, steps: int, config: KLConfig) -> float:
    """The scheduled weight of step `step` of `steps`: `start`, then linearly up, then `weight`."""
    begin, end = config.begin_frac * steps, config.end_frac * steps
    if step >= end:
        return config.weight
    if step <= begin:
        return config.start
    return config.start + (config.weight - config.start) * (step - begin) / (end - begin)


class KLController(nn.Module):
    """The weight of one nat over training, by schedule or by feedback; its state is one number in a buffer.

    Feedback multiplies the weight up while KL is above the target and down while it is below, a bounded factor a step.
    """

    log_weight: Tensor

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("log_weight", torch.tensor(math.log(max(config.start, 1e-12)), dtype=torch.float64))

    def weight(self, step: int, steps: int) -> Tensor:
        """The weight to use at `step`: a scalar without gradient."""
        if self.config.target_nats is None:
            return torch.tensor(kl_weight(step, steps, self.config), device=self.log_weight.device)
        return self.log_weight.exp().float()

    @torch.no_grad()
    def update(self, nats: Tensor) -> None:
        """Move the weight after a step whose KL was `nats`; nothing when the weight is scheduled."""
        config = self.config
        if config.target_nats is None:
            return
        error = (nats.detach().double().clamp(min=1e-3) / config.target_nats).log()
        change = (config.rate * error).clamp(-config.max_change, config.max_change)
        self.log_weight.add_(change).clamp_(math.log(config.min_weight), math.log(config.max_weight))


def per_nat(weight: float, config: ReconstructionConfig, size: int) -> float:
    """A KL weight as it stands against the summed reconstruction: the number to log and compare between runs."""
    return weight * 3 * size * size / num_elements(config, size)


def kl_warning(nats: float, size: int) -> str | None:
    """A sentence when KL is so large that the style surely carries layout, else None.

    The threshold is 500 nats up to 80 px (measured on real faces at 64 to 80 px) and grows with the size above that
    (our guess). Networks that ignored the structure map stood at 2,200 nats, those that followed it at 100 to 170.
    """
    threshold = 500 * max(1.0, size / 80)
    if nats <= threshold:
        return None
    return (
        f"KL is {nats:.0f} nats at {size} px, above {threshold:.0f}: the style code is large enough to carry the "
        "face's layout, so translated faces may follow the style sample's landmarks instead of the label. Raise the KL "
        "weight or set target_nats, and judge by swap NME; reconstructions look perfect either way."
    )
