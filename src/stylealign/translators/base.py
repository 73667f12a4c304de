"""What all trained translators have in common: landmarks in crop pixels and images in [-1, 1] go in, pictures come out.

Content is encoded once, style once, and any pair of the two decoded; `translate` does the three for whoever has a
pair at hand. Some translators draw the content from its landmarks, others change its photograph (`needs_content`).
Knows no folders and no training.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from stylealign.batches.structure_maps import StructureConfig, structure_maps
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.training.devices import place
from stylealign.translators.regions import region_masks

PAIRS_A_PASS = 32


def pictures_at_once(size: int, device: torch.device) -> int:
    """Pictures of `size` px to be drawn at a time: of large ones so few that a CPU's caches hold them."""
    return PAIRS_A_PASS if size <= 64 or device.type != "cpu" else 8 if size <= 128 else 4


class LoadedTranslator(ABC):
    """A translator whose network is frozen and in evaluation mode. Each has a class of its own, beside its network."""

    needs_content = False
    """Whether `encode_structure` needs the content's photograph beside its landmarks."""
    keeps_photograph = False
    """Whether the content's own photograph is what is shown, in another look; else a face on its landmarks."""
    bends_donor = False
    """Whether the donor's photograph is shown, bent onto the content's landmarks: donors need landmarks, and have to
    fit (warp/fit.py)."""
    has_prior = False
    """Whether styles can be drawn from a distribution p(z|y), as `sample_prior` does."""

    def __init__(
        self,
        model: nn.Module,
        schema: LandmarkSchema,
        crop: CropConfig,
        structure: StructureConfig,
        card: dict[str, Any],
        device: torch.device,
    ):
        self.model: Any = place(model, device).eval().requires_grad_(False)
        self.schema, self.crop, self.structure, self.card, self.device = schema, crop, structure, card, device

    @property
    def hash(self) -> str:
        """SHA-256 of the weights."""
        return self.card["model_hash"]

    @property
    def style_needs_landmarks(self) -> bool:
        """Whether `encode_style` needs landmarks; where it does not, it may still use them."""
        return False

    def structure_maps(self, landmarks: Tensor) -> Tensor:
        """(B, P, 2) crop pixels -> (B, C, S, S)."""
        s = self.structure
        maps = structure_maps(
            landmarks.to(self.device), self.crop.size, s.kind, self.schema, s.sigma, s.integer_centres
        )
        return maps.contiguous(memory_format=torch.channels_last)

    def region_masks(self, landmarks: Tensor) -> Tensor:
        """(B, P, 2) crop pixels -> (B, R, S, S), see regions.py."""
        return region_masks(landmarks.to(self.device), self.crop.size, self.schema)

    @property
    def pairs_a_pass(self) -> int:
        """Pictures to be decoded at a time; part of what fixes their last bits."""
        return pictures_at_once(self.crop.size, self.device)

    @abstractmethod
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        """Style codes, one row a face, of images (B, 3, S, S) and, where they are known, their landmarks (B, P, 2)."""

    @abstractmethod
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        """Content features, one row a face, of landmarks (B, P, 2) in crop pixels, and of photographs (B, 3, S, S)
        where `needs_content` says so."""

    @abstractmethod
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        """Images (B, 3, S, S), not clamped, of content features in styles, pair by pair."""

    def decode_on(self, features: list[Tensor], style: list[Tensor], image: Tensor) -> Tensor | None:
        """`decode` on larger pictures (B, 3, T, T) of the same faces, whose detail is kept.

        None where a translator draws at its own size only.
        """
        return None

    def sample_prior(self, features: list[Tensor], generator: torch.Generator) -> Tensor:
        """Images (B, 3, S, S) of content features, each in a style drawn from p(z|y).

        Raises UserError where there is no prior.
        """
        raise UserError(
            f"translator '{self.card.get('model')}' has no prior to draw styles from: use mode transfer or interpolate"
        )

    def kl_nats(self, image: Tensor, landmarks: Tensor) -> float:
        """KL(q||p) in nats a face, how much styles say beyond the structure; only where there is a prior."""
        raise UserError(f"translator '{self.card.get('model')}' has no prior, and so no KL")

    def translate(
        self,
        content_images: Tensor | None,
        content_landmarks: Tensor,
        style_images: Tensor,
        style_landmarks: Tensor | None = None,
    ) -> Tensor:
        """Each content face in the style of the picture beside it: the whole way in one call.

        Args:
            content_images: (B, 3, S, S) in [-1, 1]; None will do for translators that draw from landmarks alone.
            content_landmarks: (B, P, 2) px of the crop.
            style_images: (B, 3, S, S), cut by the same protocol.
            style_landmarks: (B, P, 2) px, where anyone knows them.

        Returns:
            (B, 3, S, S), not clamped.
        """
        features = self.encode_structure(content_landmarks, content_images if self.needs_content else None)
        return self.decode(features, self.encode_style(style_images, style_landmarks))
