"""Reconstruction, KL and the schedules a translator is trained with. It knows no networks, files or training loop.

How everything is scaled. Every reconstruction term is a mean over elements, so that its weight means the same at any size.
The weighted sum is multiplied by the number of image elements, 3*S*S: the *summed* reconstruction, which stands in nat-like
units (a pixel term of weight 1 is the negative log-likelihood of a unit Laplace distribution, up to a constant). The KL is in
nats, summed over all latent elements, and its weight is stated per nat against that summed reconstruction:

    total = 3*S*S * sum_t weights.t * term_t  +  kl_weight * KL

The released code sets nats against the *mean* instead (`scale="mean"` in the "released" preset); `per_nat` converts. Mis-scaled
by a factor of a thousand the decoder reads everything from the style and ignores the structure map while the
reconstructions look perfect, so log KL in nats and heed `kl_warning`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.errors import UserError

Features = Callable[[Tensor], list[Tensor]]
"""Images (B, 3, S, S) in [-1, 1] -> feature maps (B, C, h, w), of any resolutions; differentiable in the image."""

# ---------------------------------------------------------------------------------------------------------------------
# Reconstruction


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconstructionConfig:
    """Weights of the reconstruction terms. A term of weight 0 is neither computed nor reported."""

    pixel: float = 1.0
    """L1 between images in [-1, 1]."""
    gradient: float = 1.0
    """L1 between horizontal and vertical pixel differences, averaged over `gradient_scales` resolutions."""
    gradient_scales: int = 3
    """Resolutions of the gradient term: full, half, quarter..."""
    feature: float = 0.2
    """L1 between feature maps, added over the feature network's levels; 0 when there is none."""
    gram: float = 0.01
    """L1 between Gram matrices, added over the same levels."""
    calibrated: bool = True
    """Divide each level's feature and Gram term by its value between unrelated images of the first batch, so that 1 means
    "as wrong as another face" at every level. False: as they come (VGG on the caffe scale, as released)."""
    scale: Literal["sum", "mean"] = "sum"
    """"sum": the total is multiplied by 3*S*S. "mean": it is not, as in the released code."""

    def __post_init__(self) -> None:
        for key in ("pixel", "gradient", "feature", "gram"):
            if getattr(self, key) < 0:
                raise UserError(f"reconstruction weight {key} {getattr(self, key)} must not be negative.")
        if not self.pixel + self.gradient + self.feature + self.gram > 0:
            raise UserError("All reconstruction weights are 0: at least one must be positive.")
        if self.gradient_scales < 1:
            raise UserError(f"gradient_scales {self.gradient_scales} must be at least 1.")

    @property
    def needs_features(self) -> bool:
        return self.feature > 0 or self.gram > 0


RECONSTRUCTION_PRESETS = {
    "released": ReconstructionConfig(pixel=0, gradient=0, feature=5.0, gram=0.5, calibrated=False, scale="mean"),
    "detector_features": ReconstructionConfig(),
    "pixels": ReconstructionConfig(feature=0, gram=0),
}
"""released: VGG-19's input and five layers, features 1.0 and Gram 0.1, times 5 (METHOD 1.5; the pixel term is the input level).
detector_features: the default without VGG weights. pixels: needs no network at all."""


def gram_matrix(feature: Tensor) -> Tensor:
    """Channel products F^T F / (4HW) per image: (B, C, H, W) -> (B, C, C) (METHOD 1.5)."""
    _, _, h, w = feature.shape
    flat = feature.float().flatten(2)  # (B, C, HW)
    return flat @ flat.transpose(1, 2) / (4 * h * w)


def gradient_l1(image: Tensor, target: Tensor, scales: int) -> Tensor:
    """Mean L1 between the pixel differences (right and down) of two image batches, averaged over `scales` halvings."""
    error = image - target
    terms = []
    for scale in range(scales):
        if scale:
            error = F.avg_pool2d(error, 2)
        if min(error.shape[-2:]) < 2:
            break
        terms.append(
            (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        )
    return torch.stack(terms).mean()


def feature_l1(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean L1 per level: -> (levels,)."""
    return torch.stack([(a.float() - b.float()).abs().mean() for a, b in zip(features, targets, strict=True)])


def gram_l1(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Mean L1 between Gram matrices per level: -> (levels,)."""
    pairs = zip(features, targets, strict=True)
    return torch.stack([(gram_matrix(a) - gram_matrix(b)).abs().mean() for a, b in pairs])


class Reconstruction(nn.Module):
    """The reconstruction loss; its state is the per-level scales, set once by `calibrate` and saved with a checkpoint.

    `features` is kept out of the module's state: it is frozen and belongs to whoever made it.
    """

    feature_scale: Tensor
    gram_scale: Tensor

    def __init__(self, config: ReconstructionConfig, features: Features | None = None, num_levels: int = 0) -> None:
        super().__init__()
        if config.needs_features and features is None:
            raise UserError(
                "The reconstruction weights ask for feature or gram terms but there is no feature network: give a landmark "
                "detector or a VGG-19 weights file, or set both weights to 0."
            )
        assert num_levels > 0 or not config.needs_features, "say how many levels the feature network has"
        self.config = config
        self._features = (features,)  # in a tuple, so that a feature network that is a module is not registered here
        self.register_buffer("feature_scale", torch.ones(num_levels))
        self.register_buffer("gram_scale", torch.ones(num_levels))

    @torch.no_grad()
    def calibrate(self, image: Tensor) -> None:
        """Measure each level's terms between every image of a real batch (B >= 2) and its neighbour; nothing if not `calibrated`."""
        if not (self.config.calibrated and self.config.needs_features):
            return
        assert len(image) >= 2, "calibration compares images of a batch"
        real = self._levels(image)
        other = [level.roll(1, dims=0) for level in real]
        self.feature_scale.copy_(feature_l1(real, other).clamp(min=1e-8))
        self.gram_scale.copy_(gram_l1(real, other).clamp(min=1e-8))

    def forward(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Unweighted terms, each a mean per element: "pixel", "gradient", "feature", "gram" (those of positive weight)."""
        config, terms = self.config, {}
        image, target = image.float(), target.float()
        if config.pixel > 0:
            terms["pixel"] = (image - target).abs().mean()
        if config.gradient > 0:
            terms["gradient"] = gradient_l1(image, target, config.gradient_scales)
        if config.needs_features:
            with torch.no_grad():
                wanted = self._levels(target)
            # The output is linear. Where the pixel term holds it in range, the feature network sees the picture as it would be
            # saved: early outputs far outside send squared (Gram) terms up by a factor of a million, and training with them.
            drawn = self._levels(image.clamp(-1, 1) if config.pixel > 0 else image)
            if config.feature > 0:
                terms["feature"] = (feature_l1(drawn, wanted) / self.feature_scale).sum()
            if config.gram > 0:
                terms["gram"] = (gram_l1(drawn, wanted) / self.gram_scale).sum()
        return terms

    def total(self, terms: dict[str, Tensor], size: int) -> Tensor:
        """Weighted sum of `forward`'s terms for S = `size` px images, times 3*S*S unless `scale` is "mean"."""
        weighted = torch.stack([getattr(self.config, name) * term for name, term in terms.items()]).sum()
        return weighted * num_elements(self.config, size)

    def _levels(self, image: Tensor) -> list[Tensor]:
        (features,) = self._features
        assert features is not None
        levels = features(image)
        assert len(levels) == len(self.feature_scale), (
            f"{len(levels)} feature levels, expected {len(self.feature_scale)}"
        )
        return levels


def num_elements(config: ReconstructionConfig, size: int) -> int:
    """What the weighted means are multiplied by."""
    return 3 * size * size if config.scale == "sum" else 1


# ---------------------------------------------------------------------------------------------------------------------
# KL


def kl_nats(posterior: Sequence[Tensor], prior: Sequence[Tensor]) -> Tensor:
    """KL(q||p) in nats per image between unit-variance Gaussians: 0.5 ||mu_q - mu_p||^2 summed over elements and scales,
    averaged over the batch (METHOD 1.2)."""
    per_scale = [
        0.5 * (q.float() - p.float()).square().flatten(1).sum(dim=1) for q, p in zip(posterior, prior, strict=True)
    ]  # (B,) each
    return torch.stack(per_scale).sum(dim=0).mean()


@dataclass(frozen=True, kw_only=True, slots=True)
class KLConfig:
    """The weight of one nat: a controller steering to `target_nats`, or with `target_nats: null` a fixed schedule."""

    target_nats: float | None = 120.0
    """KL the controller steers to. 100-200 nats made structure-following translators at 64-80 px; thousands leak layout."""
    start: float = 0.02
    """First weight: low, because a style that costs much from the first step is never learned (the posterior collapses)."""
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
"""released: METHOD 1.5, meaningful only with the released reconstruction. small: the controller."""


def kl_weight(step: int, steps: int, config: KLConfig) -> float:
    """The scheduled weight of step `step` of `steps`: `start`, then linearly up, then `weight`. Pure."""
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

    The threshold is 500 nats up to 80 px (measured on real faces at 64-80 px), growing in proportion to the size above (our
    guess). Weak-KL networks that ignored the structure map stood at 2,200 nats, ones that followed it at 100-170.
    """
    threshold = 500 * max(1.0, size / 80)
    if nats <= threshold:
        return None
    return (
        f"KL is {nats:.0f} nats at {size} px, above {threshold:.0f}: the style code is large enough to carry the face's layout, so "
        "translated faces may follow the style sample's landmarks instead of the label. Raise the KL weight or set target_nats, "
        "and judge by swap NME; reconstructions look perfect either way."
    )


def translator_loss(
    reconstruction: Reconstruction,
    image: Tensor,
    target: Tensor,
    posterior: Sequence[Tensor],
    prior: Sequence[Tensor],
    weight: Tensor,
) -> dict[str, Tensor]:
    """All named terms of a training step: reconstruction terms (means), "kl" (nats), "reconstruction" (scaled) and "total".

    `weight` multiplies nats; "total" is what is optimised.
    """
    terms = reconstruction(image, target)
    summed = reconstruction.total(terms, target.shape[-1])
    nats = kl_nats(posterior, prior)
    return {**terms, "reconstruction": summed, "kl": nats, "total": summed + weight * nats}


# ---------------------------------------------------------------------------------------------------------------------
# Learning rate


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
"""released: METHOD 1.6, code. paper: UNVERIFIED, from memory of the paper's text and at odds with its code. small: short runs."""


def learning_rate(step: int, steps: int, config: LearningRateConfig) -> float:
    """Learning rate of step `step` of `steps`. Pure."""
    warmup, flat = config.warmup_frac * steps, config.flat_frac * steps
    if step + 1 < warmup:
        return config.start * (step + 1) / warmup
    frac = min(max((step - flat) / (steps - flat), 0.0), 1.0)
    return config.start + (config.end - config.start) * frac


def released_lr(step: int, steps: int = 50_000) -> float:
    """The released schedule: 1e-3 flat to step 1,000 of 50,000, then linear to 0 (METHOD 1.6)."""
    return learning_rate(step, steps, LEARNING_RATE_PRESETS["released"])
