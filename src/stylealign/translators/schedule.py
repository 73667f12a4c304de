"""The learning rate of a translator over its training."""

from dataclasses import dataclass

from stylealign.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningRateConfig:
    """A flat start (after a warm-up, if any), then a straight line to the last step; Adam's betas go with it."""

    start: float = 1e-3
    """First learning rate."""
    end: float = 0.0
    """Learning rate at the last step."""
    flat_frac: float = 0.02
    """Share of training at the first learning rate: the release's 1,000 of 50,000 steps."""
    warmup_frac: float = 0.0
    """Share of training over which the rate rises linearly to its first value; none as released."""
    betas: tuple[float, float] = (0.5, 0.9)
    """Adam's betas."""

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end >= 0):
            raise UserError(f"learning rates start {self.start} and end {self.end} must be positive (end may be 0).")
        if not 0 <= self.warmup_frac <= self.flat_frac < 1:
            raise UserError(
                f"warmup_frac {self.warmup_frac} and flat_frac {self.flat_frac} must satisfy 0 <= warmup <= flat < 1."
            )


LEARNING_RATE_PRESETS = {
    "released": LearningRateConfig(),
    "paper": LearningRateConfig(start=1e-2, end=1e-4, flat_frac=0.0),
    "small": LearningRateConfig(flat_frac=0.5, warmup_frac=0.05),
}
"""released: the code (docs/paper_map.md 1.6). paper: UNVERIFIED, from memory of the paper's text and at odds with its
code. small: short runs."""


def learning_rate(step: int, steps: int, config: LearningRateConfig) -> float:
    """Learning rate of step `step` of `steps`."""
    warmup, flat = config.warmup_frac * steps, config.flat_frac * steps
    if step + 1 < warmup:
        return config.start * (step + 1) / warmup
    frac = min(max((step - flat) / (steps - flat), 0.0), 1.0)
    return config.start + (config.end - config.start) * frac


def released_lr(step: int, steps: int = 50_000) -> float:
    """The released schedule: 1e-3 flat to step 1,000 of 50,000, then linear to 0 (docs/paper_map.md 1.6)."""
    return learning_rate(step, steps, LEARNING_RATE_PRESETS["released"])
