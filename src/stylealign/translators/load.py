"""A trained translator, ready to use: what `generate` and everything after it speak to. Knows run folders, not training."""

from pathlib import Path

import torch
from torch import Tensor

from stylealign.batch import CropConfig
from stylealign.config import from_dict
from stylealign.run import load_model, load_weights, place
from stylealign.schema import LandmarkSchema, schema_from_dict
from stylealign.structure import StructureConfig, structure_maps
from stylealign.translators.vunet import VUNet, VUNetConfig


class LoadedTranslator:
    """Encode and decode with landmarks in crop pixels and images in [-1, 1]; the model is in eval mode and frozen."""

    def __init__(
        self,
        model: VUNet,
        schema: LandmarkSchema,
        crop: CropConfig,
        structure: StructureConfig,
        card: dict,
        device: torch.device,
    ):
        self.model = place(model, device).eval().requires_grad_(False)
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

    @torch.no_grad()
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        """Posterior means of (B, 3, S, S) images. Landmarks are needed only by a q(z|x,y) translator."""
        needs = self.model.config.posterior == "xy" and landmarks is not None
        return self.model.encode_style(
            image.to(self.device), self.structure_maps(landmarks) if needs and landmarks is not None else None
        )

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor) -> list[Tensor]:
        """Structure features of (B, P, 2) landmarks in crop pixels."""
        return self.model.encode_structure(self.structure_maps(landmarks))

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        """Images (B, 3, S, S), linear, of structure features in styles, pair by pair."""
        return self.model.decode(features, style, with_prior=False).image

    @torch.no_grad()
    def sample_prior(self, features: list[Tensor], generator: torch.Generator) -> Tensor:
        """Images in a style drawn from p(z|y)."""
        return self.model.decode(features, None, generator=generator).image


def load_translator(run: Path, device: torch.device | str = "cpu") -> LoadedTranslator:
    """Load a finished translator run (or one of its checkpoints)."""
    state, card = load_model(Path(run), "translator")
    where = f"{run}/card.json"
    config = card["config"] if isinstance(card.get("config"), dict) else {}
    model = VUNet(from_dict(VUNetConfig, config.get("vunet"), f"{where}: vunet"))
    load_weights(model, state, str(Path(run) / "model.safetensors"))
    return LoadedTranslator(
        model,
        schema_from_dict(card["schema"], f"{where}: schema"),
        from_dict(CropConfig, card["crop"], f"{where}: crop"),
        from_dict(StructureConfig, config.get("structure"), f"{where}: structure"),
        card,
        torch.device(device),
    )
