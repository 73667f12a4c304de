"""A tiny translator that the package does not know, with the one object that adds it to TRANSLATORS."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.batches.structure_maps import StructureConfig, num_structure_channels
from stylealign.face.schema import LandmarkSchema
from stylealign.training.optim import set_lr
from stylealign.translators import Preset, TranslatorEntry
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.learning import Learner, Learning


@dataclass(frozen=True, kw_only=True, slots=True)
class TintedConfig:
    """The shape of `tinted`."""

    width: int = 8
    """Channels of its hidden layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TintedLearningConfig:
    """How `tinted` learns."""

    tint: float = 0.5
    """Weight of the mean colour."""


class Tinted(nn.Module):
    """Draws structure maps in the mean colour of another picture."""

    def __init__(self, config: TintedConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.hidden, self.tint = nn.Conv2d(channels, config.width, 3, padding=1), nn.Linear(3, config.width)
        self.to_image = nn.Conv2d(config.width, 3, 3, padding=1)

    def forward(self, maps: Tensor, colour: Tensor) -> Tensor:
        return (
            self.to_image(torch.tanh(self.hidden(maps) + self.tint(colour)[:, :, None, None]))
            + colour[:, :, None, None]
        )


class LoadedTinted(LoadedTranslator):
    @torch.no_grad()
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        return [image.to(self.device).mean(dim=(2, 3))]

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        return [self.structure_maps(landmarks)]

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        return self.model(features[0], style[0])


def build(config: TintedConfig, size: int, structure: StructureConfig, schema: LandmarkSchema) -> Tinted:
    return Tinted(config, num_structure_channels(structure.kind, schema))


def learn(learning: Learning) -> Learner:
    reconstruction = learning.reconstruction
    reconstruction.calibrate(learning.first.image)
    model, optimizer = learning.engine.setup(learning.model, learning.adam_of(learning.model))

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        set_lr(optimizer, learning.lr_at(step))
        face = learning.vary(batch, step)
        made = model(learning.maps(face.landmarks), face.image.mean(dim=(2, 3)))
        terms = reconstruction(made, face.image)
        terms["tint"] = F.l1_loss(made.mean(dim=(2, 3)), face.image.mean(dim=(2, 3)))
        total = reconstruction.total(terms={k: v for k, v in terms.items() if k != "tint"}, size=learning.size)
        total = total + learning.own.tint * terms["tint"]
        optimizer.zero_grad(set_to_none=True)
        learning.engine.backward(total)
        optimizer.step()
        return {"total": total, **terms}

    modules: dict[str, nn.Module] = {"model": model, "reconstruction": reconstruction}
    return Learner(modules=modules, optimizers={"model": optimizer}, update=update)


ENTRY = TranslatorEntry(
    "lays another picture's mean colour over the landmarks.", build, TintedConfig,
    presets=(Preset("tiny", 16, TintedConfig(width=2)), Preset("small", 64, TintedConfig())),
    learn=learn, loaded=LoadedTinted, learning=TintedLearningConfig, learning_section="tinted_learning",
)  # fmt: skip
