"""The network of `spade`: landmarks are drawn in a style whose code carries no layout.

A style encoder pools a picture into one global code and one of each region of the face (codes.py). The decoder starts
from a learned 4x4 constant and grows to full size. At every resolution its features are normalised and modulated by
what the structure maps, the global code and the regional codes (laid down on the content's own regions) say there:
SPADE (Park et al., CVPR 2019) and SEAN (Zhu et al., CVPR 2020) in one small convolution. Resolution is doubled by
interpolation, so that no checker pattern can arise. The network knows no landmarks, files or losses: it is given maps
(batches/structure_maps.py) and masks (regions.py).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from stylealign.batches.structure_maps import StructureConfig, num_structure_channels
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.codes import CodeConfig, CodeEncoder, forget_regions, roll
from stylealign.translators.regions import spread

START = 4  # side of the learned constant


@dataclass(frozen=True, kw_only=True, slots=True)
class SpadeConfig:
    """Shape of the network. The defaults are for 64 px and a CPU core."""

    codes: CodeConfig = field(default_factory=CodeConfig)
    width: int = 20
    """Channels of the decoder at full resolution; doubles at every halving up to `max_width`."""
    max_width: int = 96
    hidden: int = 24
    """Channels between the conditions and the modulation."""

    def __post_init__(self) -> None:
        if min(self.width, self.max_width, self.hidden) < 1:
            raise ValueError(
                f"width {self.width}, max_width {self.max_width} and hidden {self.hidden}: expected at least 1 each"
            )


class Modulated(nn.Module):
    """x + Conv(LeakyReLU(norm(x) * (1 + gamma) + beta)), gamma and beta from the conditions of each pixel.

    norm is instance normalisation without weights: a face's features depend on no other face.
    """

    def __init__(self, channels: int, guide_channels: int, config: SpadeConfig) -> None:
        super().__init__()
        self.guide = nn.Conv2d(guide_channels, config.hidden, 3, padding=1)
        self.code = nn.Linear(config.codes.global_size, config.hidden)
        self.modulation = nn.Conv2d(config.hidden, 2 * channels, 3, padding=1)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, guide: Tensor, code: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.guide(guide) + self.code(code)[:, :, None, None], 0.2)
        gamma, beta = self.modulation(hidden).chunk(2, dim=1)
        return x + self.conv(F.leaky_relu(F.instance_norm(x) * (1 + gamma) + beta, 0.2))


class SpadeOutput(NamedTuple):
    """What the training pass gives. Row i of `swapped` has the structure of face i in the style of face i - 1."""

    image: Tensor
    """(B, 3, S, S) each structure in its own style (read from another view of it)"""
    swapped: Tensor
    """(B, 3, S, S) each structure in its neighbour's style"""
    style: list[Tensor]
    """the codes read from the views"""
    donor: list[Tensor]
    """the codes `swapped` was drawn in"""
    again: list[Tensor]
    """the codes read from `swapped`"""


class Spade(nn.Module):
    """Structure maps (B, C, S, S), region masks (B, R, S, S) and style codes -> pictures (B, 3, S, S) in (-1, 1)."""

    def __init__(self, config: SpadeConfig, size: int, structure_channels: int) -> None:
        super().__init__()
        if size < 16 or START * 2 ** ((size // START).bit_length() - 1) != size:
            raise UserError(f"size {size} must be {START} times a power of two (16, 32, 64, 128...).")
        self.config = config
        self.sides = [START * 2**i for i in range((size // START).bit_length())]
        self.style_encoder = CodeEncoder(config.codes, size)
        widths = [min(config.width * 2**level, config.max_width) for level in range(len(self.sides))][::-1]
        guide = structure_channels + config.codes.region_size
        self.constant = nn.Parameter(torch.randn(1, widths[0], START, START))
        self.ups, self.blocks = nn.ModuleDict(), nn.ModuleDict()
        for side, width, before in zip(self.sides, widths, [widths[0], *widths[:-1]], strict=True):
            if side != START:
                self.ups[f"{side}x{side}"] = nn.Conv2d(before, width, 3, padding=1)
            self.blocks[f"{side}x{side}"] = Modulated(width, guide, config)
        self.to_image = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def encode_style(self, image: Tensor, masks: Tensor | None = None) -> list[Tensor]:
        """Codes of pictures (B, 3, S, S): global (B, G), and regional (B, R, C), 0 without masks (B, R, S, S)."""
        return self.style_encoder(image, masks)

    def decode(self, maps: Tensor, masks: Tensor, style: list[Tensor]) -> Tensor:
        """Pictures (B, 3, S, S) of structure maps in styles, pair by pair."""
        code, regional = style
        x = self.constant.expand(len(maps), -1, -1, -1)
        for side in self.sides:
            name = f"{side}x{side}"
            if side != START:
                x = self.ups[name](F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
            # The maximum, so that a line one pixel wide is still there at a sixteenth of the resolution.
            guide = torch.cat([F.adaptive_max_pool2d(maps, side), spread(regional, masks, side)], dim=1)
            x = self.blocks[name](x, guide, code)
        return torch.tanh(self.to_image(F.leaky_relu(x, 0.2)))

    def forward(self, maps: Tensor, masks: Tensor, view: Tensor, view_masks: Tensor, forget: float) -> SpadeOutput:
        """The training pass. Styles are read from `view`, another warp of the same faces.

        A share `forget` of them is left without regional codes.
        """
        style = forget_regions(self.encode_style(view, view_masks), forget)
        donor = roll(style)
        both = [torch.cat(pair) for pair in zip(style, donor, strict=True)]
        image, swapped = self.decode(torch.cat([maps, maps]), torch.cat([masks, masks]), both).chunk(2)
        # Read by an encoder that does not learn here: it would learn to say the same of every picture.
        still = {name: value.detach() for name, value in self.style_encoder.named_parameters()}
        again = functional_call(self.style_encoder, still, (swapped, masks))
        return SpadeOutput(image, swapped, style, donor, again)


def build_spade(config: SpadeConfig, size: int, structure: StructureConfig, schema: LandmarkSchema) -> Spade:
    """The network for crops of `size` px and these structure maps."""
    return Spade(config, size, num_structure_channels(structure.kind, schema))


class LoadedSpade(LoadedTranslator):
    """`spade`, trained: content is maps and regions, style a global and, with known landmarks, regional codes."""

    model: Spade

    @torch.no_grad()
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        masks = None if landmarks is None else self.region_masks(landmarks)
        return self.model.encode_style(image.to(self.device), masks)

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        return [self.structure_maps(landmarks), self.region_masks(landmarks)]

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        maps, masks = features
        return self.model.decode(maps, masks, style)
