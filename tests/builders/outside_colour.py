"""A translator that is not in the package and needs no training: it lends a photograph another one's mean colour.

Importing it adds it to the table, as `STYLEALIGN_PLUGINS=builders.outside_colour stylealign ...` does.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from stylealign.errors import UserError
from stylealign.translators import TRANSLATORS, LoadedTranslator, Preset, TranslatorEntry

NAME = "mycolour"


@dataclass(frozen=True, kw_only=True, slots=True)
class NothingToSet:
    """It has no shape."""


class Nothing(nn.Module):
    """A network without weights."""

    config = NothingToSet()


class LoadedColour(LoadedTranslator):
    """The content's photograph, moved to the donor's mean colour."""

    needs_content = keeps_photograph = True

    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        return [image.mean(dim=(2, 3), keepdim=True)]

    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        if image is None:
            raise UserError(f"translator '{NAME}' recolours the content's own photograph: it needs the image")
        return [image]

    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        (image,), (colour,) = features, style
        return image - image.mean(dim=(2, 3), keepdim=True) + colour

    def decode_on(self, features: list[Tensor], style: list[Tensor], image: Tensor) -> Tensor | None:
        return image - features[0].mean(dim=(2, 3), keepdim=True) + style[0]


def build(*_: Any) -> nn.Module:
    return Nothing()


PRESETS = (Preset("tiny", 16, NothingToSet()), Preset("small", 64, NothingToSet()))
ENTRY = TranslatorEntry(
    "moves a photograph to another's mean colour.", build, NothingToSet, PRESETS, learn=None, loaded=LoadedColour
)
TRANSLATORS[NAME] = ENTRY
