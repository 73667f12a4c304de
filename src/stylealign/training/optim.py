"""Optimizers and learning rates of a training. Torch only: knows no model, no device and no data."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

TOKENS = ("cls_token", "pos_embed")
"""How names of weights end that stand for a place and multiply nothing"""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Which optimizer, and how its learning rate falls."""

    kind: Literal["adamw", "sgd"] = "adamw"
    """`sgd` has Nesterov momentum: what the detectors' papers use; AdamW needs less care."""
    momentum: float = 0.9
    """Of sgd."""
    schedule: Literal["cosine", "exponential", "steps"] = "cosine"
    """cosine: a short rise, then half a cosine to 0. exponential: from lr to lr x last_frac by equal factors.
    steps: x gamma at each milestone."""
    last_frac: float = 1e-3
    """Last over first learning rate (exponential)."""
    milestones: tuple[float, ...] = (0.6, 0.7, 0.8, 0.9)
    """Fractions of the training at which the learning rate falls (steps)."""
    gamma: float = 0.5
    """The factor at each milestone (steps)."""

    def __post_init__(self) -> None:
        if not (0 <= self.momentum < 1 and 0 < self.last_frac <= 1 and 0 < self.gamma <= 1):
            raise ValueError(
                f"momentum {self.momentum}, last_frac {self.last_frac}, gamma {self.gamma}: expected 0 to "
                "below 1, and above 0 to 1"
            )
        if not all(0 <= m <= 1 for m in self.milestones):
            raise ValueError(f"milestones {self.milestones}: expected fractions of the training, 0 to 1")


def cosine(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, then half a cosine from 1 to 0."""
    warmup = min(warmup, max(1, steps // 10))
    return (
        (step + 1) / warmup
        if step < warmup
        else 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
    )


def lr_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """The learning rate of update `step` (from 0) of `steps`, over the highest one."""
    if config.schedule == "cosine":
        return cosine(step, steps)
    if config.schedule == "exponential":
        return config.last_frac ** (step / max(1, steps - 1))
    return config.gamma ** sum(step >= m * steps for m in config.milestones)


def set_lr(optimizer: Any, lr: float) -> None:
    """Set the learning rate of every parameter group: `lr` times the group's own `lr_scale`, where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def make_optimizer(
    parameters: nn.Module | Iterable[dict[str, Any]], lr: float, weight_decay: float, config: OptimizerConfig
) -> torch.optim.Optimizer:
    """An optimizer of a module's trainable parameters, or of parameter groups made by the caller.

    Of a module, weights of convolutions and linear layers decay; biases, normalisations and a transformer's TOKENS do
    not. A group may hold `lr_scale` (see `set_lr`) and its own `weight_decay`.
    """
    if isinstance(parameters, nn.Module):
        trained = [
            (p, p.ndim > 1 and not n.endswith(TOKENS)) for n, p in parameters.named_parameters() if p.requires_grad
        ]
        groups: list[dict[str, Any]] = [
            {"params": [p for p, decays in trained if decays], "weight_decay": weight_decay},
            {"params": [p for p, decays in trained if not decays], "weight_decay": 0.0},
        ]
    else:
        groups = [{"weight_decay": weight_decay, **group} for group in parameters]
    groups = [group for group in groups if group["params"]]
    if config.kind == "adamw":
        # One pass over all weights: of a narrow network's step on a CPU the usual loop over tensors is a sixth.
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0)


def fuse(optimizer: torch.optim.Optimizer, fused: bool) -> None:
    """Make an optimizer go over all weights in one pass, or as torch chooses, as if it had been built so."""
    for group in optimizer.param_groups:
        group |= {"fused": fused or None, "foreach": None}
    # Torch's mark of one that takes precision 16-mixed's scale off gradients by itself, which the others refuse to do.
    optimizer._step_supports_amp_scaling = fused  # type: ignore[attr-defined]


@contextmanager
def clipped(optimizers: Iterable[Any], norm: float) -> Iterator[None]:
    """Scale gradients down to a norm at each step of the optimizers while the block runs; 0: leave them alone."""

    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        weights = [w for group in optimizer.param_groups for w in group["params"] if w.grad is not None]
        torch.nn.utils.clip_grad_norm_(weights, norm)

    with ExitStack() as hooks:
        for optimizer in optimizers if norm else ():
            inner = getattr(optimizer, "optimizer", optimizer)  # inside Fabric's
            hooks.callback(inner.register_step_pre_hook(clip).remove)
        yield


def lr_of(optimizers: Mapping[str, Any]) -> float:
    """The learning rate of the first optimizer, without the multiples that some of its groups have."""
    group = next(iter(optimizers.values())).param_groups[0]
    return float(group["lr"] / group.get("lr_scale", 1.0))
