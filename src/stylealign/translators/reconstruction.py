"""The reconstruction loss of a translator: terms between a made picture and the true one. Knows no networks, no files.

Every term is a mean over elements, so that its weight means the same at any size. The weighted sum is multiplied by
the number of image elements, 3*S*S: the *summed* reconstruction, which stands in units like nats (a pixel term of
weight 1 is the negative log-likelihood of a unit Laplace distribution, up to a constant). The released code does not
multiply (`scale="mean"`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.errors import UserError, counted

Features = Callable[[Tensor], list[Tensor]]
"""Images (B, 3, S, S) in [-1, 1] -> feature maps (B, C, h, w), of any resolutions; differentiable in the image."""


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
    """Divide each level's feature and Gram term by its value between unrelated images of the first batch, so that 1
    means "as wrong as another face" at every level. False: as they come (VGG on the caffe scale, as released)."""
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
"""released: VGG-19's input and five layers, features 1.0 and Gram 0.1, times 5 (docs/paper_map.md 1.5; the pixel term
is the input level). detector_features: the default without VGG weights. pixels: needs no network at all."""


def gram_matrix(feature: Tensor) -> Tensor:
    """Channel products F^T F / (4HW) per image: (B, C, H, W) -> (B, C, C) (docs/paper_map.md 1.5)."""
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
                "The reconstruction weights ask for feature or gram terms but there is no feature network: give a "
                "landmark detector or a VGG-19 weights file, or set both weights to 0."
            )
        assert num_levels > 0 or not config.needs_features, "say how many levels the feature network has"
        self.config = config
        self._features = (features,)  # in a tuple, so that a feature network that is a module is not registered here
        self.register_buffer("feature_scale", torch.ones(num_levels))
        self.register_buffer("gram_scale", torch.ones(num_levels))

    @torch.no_grad()
    def calibrate(self, image: Tensor) -> None:
        """Set each level's scale to its terms between every image of a real batch (B >= 2) and its neighbour.

        Does nothing if the configuration is not `calibrated`.
        """
        if not (self.config.calibrated and self.config.needs_features):
            return
        assert len(image) >= 2, "calibration compares images of a batch"
        real = self._levels(image)
        other = [level.roll(1, dims=0) for level in real]
        self.feature_scale.copy_(feature_l1(real, other).clamp(min=1e-8))
        self.gram_scale.copy_(gram_l1(real, other).clamp(min=1e-8))

    def forward(self, image: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Unweighted terms, each a mean: those of "pixel", "gradient", "feature" and "gram" that have a weight."""
        config, terms = self.config, {}
        image, target = image.float(), target.float()
        if config.pixel > 0:
            terms["pixel"] = (image - target).abs().mean()
        if config.gradient > 0:
            terms["gradient"] = gradient_l1(image, target, config.gradient_scales)
        if config.needs_features:
            with torch.no_grad():
                wanted = self._levels(target)
            # The output is linear. Where the pixel term holds it in range, the feature network sees the picture as it
            # would be saved: early outputs far outside send squared (Gram) terms up by a factor of a million, and
            # training with them.
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
            f"{counted(len(levels), 'feature level')}, expected {len(self.feature_scale)}"
        )
        return levels


def num_elements(config: ReconstructionConfig, size: int) -> int:
    """What the weighted means are multiplied by."""
    return 3 * size * size if config.scale == "sum" else 1
