"""A trained translator, ready to use: one interface to all of them, with landmarks in crop pixels and images in [-1, 1].

Content is encoded once, style once, and any pair of the two decoded; `translate` does the three for whoever has a pair at hand. Some
translators draw the content from its landmarks, others change its photograph (`needs_content`). Knows no run folders and no training.
"""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from stylealign.batches.batch import to_uint8
from stylealign.batches.structure_maps import StructureConfig, structure_maps
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.training.devices import place
from stylealign.translators.bilateral import Bilateral
from stylealign.translators.regions import at_size, region_masks


class LoadedTranslator:
    """A translator with its model in eval mode and frozen; as it stands here that of `vunet`, the others change what is theirs."""

    needs_content = False
    """Whether `encode_structure` needs the content's photograph beside its landmarks."""

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

    @torch.no_grad()
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        """Style codes of (B, 3, S, S) images (vunet: posterior means). Landmarks (B, P, 2) are needed only by a q(z|x,y) vunet; codes
        by region are 0 without them."""
        needs = self.model.config.posterior == "xy" and landmarks is not None
        return self.model.encode_style(
            image.to(self.device), self.structure_maps(landmarks) if needs and landmarks is not None else None
        )

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        """Content features of (B, P, 2) landmarks in crop pixels, and of the photographs (B, 3, S, S) where they are needed."""
        return self.model.encode_structure(self.structure_maps(landmarks))

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        """Images (B, 3, S, S), not clamped, of content features in styles, pair by pair."""
        return self.model.decode(features, style, with_prior=False).image

    @torch.no_grad()
    def sample_prior(self, features: list[Tensor], generator: torch.Generator) -> Tensor:
        """Images in a style drawn from p(z|y). Raises UserError where a translator has no such distribution."""
        return self.model.decode(features, None, generator=generator).image

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


class LoadedSpade(LoadedTranslator):
    """`spade`: content is structure maps and regions, style a global and regional codes."""

    @torch.no_grad()
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        return self.model.encode_style(
            image.to(self.device), None if landmarks is None else self.region_masks(landmarks)
        )

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        return [self.structure_maps(landmarks), self.region_masks(landmarks)]

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        return self.model.decode(*features, style)

    def sample_prior(self, features: list[Tensor], generator: torch.Generator) -> Tensor:
        raise UserError(
            f"translator '{self.card.get('model')}' has no prior to draw styles from: use mode transfer or interpolate"
        )


class LoadedBilateral(LoadedSpade):
    """`bilateral`: content is the photograph itself."""

    model: Bilateral
    needs_content = True

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        if image is None:
            raise UserError(
                "translator 'bilateral' changes the content's own photograph: encode_structure needs the image beside the landmarks"
            )
        image = image.to(self.device)
        masks = at_size(self.region_masks(landmarks), self.model.config.grid)
        return [image, *self.model.encode_content(image), masks, noise_fields(image)]

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        image, seen, fine, masks, field = features
        return self.model.render(image, self.model.look([seen, fine], masks, style), field)


def noise_fields(image: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, 1, S, S) unit noise, a function of each picture's 8-bit pixels alone: the same face has the same noise
    whoever stands beside it in the batch, and wherever it is computed."""
    fields = []
    for picture in to_uint8(image).cpu().numpy():
        seed = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:7], "big")
        fields.append(torch.randn(1, *picture.shape[:2], generator=torch.Generator().manual_seed(seed)))
    return torch.stack(fields).to(image)
