"""The network of `repaint`: a donor bent onto the content's landmarks, painted anew where it is not to be trusted.

The bending is that of `warp`; a mask says where its picture is drawn out, folded or lacks something (trust.py). A small
U-Net (Ronneberger et al., MICCAI 2015) sees the bent photograph, the mask and the content's structure maps and answers
what has to be added to the photograph there. The answer is multiplied by the mask, so that all else stays the donor's
own pixels. Nothing of the content's photograph is looked at. Knows no files and no losses.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.pixels import take
from stylealign.batches.structure_maps import StructureConfig, num_structure_channels
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.repaint.trust import untrusted
from stylealign.translators.warp.field import bend, pixel_places
from stylealign.translators.warp.network import LoadedWarp
from stylealign.translators.warp.openings import openings_of

LEAST_SIDE = 8  # of the coarsest features


@dataclass(frozen=True, kw_only=True, slots=True)
class RepaintConfig:
    """Shape of the network. The defaults are for 128 px and a CPU core."""

    fine: int = 8
    """Channels at full resolution, where most of the time goes."""
    width: int = 24
    """Channels after the first halving; doubled by each further one, up to `max_width`."""
    max_width: int = 96

    def __post_init__(self) -> None:
        if min(self.fine, self.width, self.max_width) < 1:
            raise ValueError(
                f"fine {self.fine}, width {self.width} and max_width {self.max_width}: expected at least 1 each"
            )


class Bent(NamedTuple):
    """Donors bent onto contents."""

    image: Tensor
    """(B, C, S, S) in [-1, 1]; the donor as it lies where too few landmarks are known in both"""
    mask: Tensor
    """(B, 1, S, S) in [0, 1]: 1 where it is not to be trusted"""


def bent_with_mask(
    landmarks: Tensor, donor: Tensor, donor_landmarks: Tensor, schema: LandmarkSchema, size: int
) -> Bent:
    """Donors (B, C, T, T) with landmarks (B, P, 2) bent onto contents of `size` px by their landmarks (B, P, 2).

    C is 3, or more where several pictures of the same landmarks are bent at a time.
    """
    found = bend(landmarks, donor_landmarks)
    places = pixel_places(found, size).to(donor)
    image = take(donor, places, mode="bicubic").clamp(-1, 1)
    return Bent(image, untrusted(found, places, landmarks, donor_landmarks, openings_of(schema)).to(donor))


class Block(nn.Module):
    """x + Conv(LeakyReLU(x)). No normalisation: it would take light and colours away."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(F.leaky_relu(x, 0.2))


class Repaint(nn.Module):
    """Bent donors (B, 3, S, S), masks (B, 1, S, S) and structure maps (B, C, S, S) -> pictures (B, 3, S, S).

    Fresh, it changes nothing: the last layer begins at 0.
    """

    def __init__(self, config: RepaintConfig, size: int, structure_channels: int) -> None:
        super().__init__()
        if size < 2 * LEAST_SIDE:
            raise UserError(f"size {size} must be at least {2 * LEAST_SIDE}.")
        self.config = config
        halvings = (size // LEAST_SIDE).bit_length() - 1
        widths = [config.fine, *(min(config.width * 2**level, config.max_width) for level in range(halvings))]
        self.first = nn.Conv2d(3 + 1 + structure_channels, widths[0], 3, padding=1)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.downs.append(nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(fine, coarse, 4, 2, 1), Block(coarse)))
            self.ups.append(nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(fine + coarse, fine, 3, padding=1)))
        self.middle = Block(widths[-1])
        self.last = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def added(self, image: Tensor, mask: Tensor, maps: Tensor) -> Tensor:
        """(B, 3, S, S) what is to be added to a picture where the mask says so."""
        x = self.first(torch.cat([image, 2 * mask - 1, maps], dim=1))
        passed = []
        for down in self.downs:
            passed.append(x)
            x = down(x)
        x = self.middle(x)
        for up, fine in zip(reversed(self.ups), reversed(passed), strict=True):
            x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([x, fine], dim=1))
        return 2 * torch.tanh(self.last(F.leaky_relu(x, 0.2)))

    def forward(self, image: Tensor, mask: Tensor, maps: Tensor) -> Tensor:
        return image + mask * self.added(image, mask, maps)


def build_repaint(config: RepaintConfig, size: int, structure: StructureConfig, schema: LandmarkSchema) -> Repaint:
    """The network for crops of `size` px and these structure maps."""
    return Repaint(config, size, num_structure_channels(structure.kind, schema))


class LoadedRepaint(LoadedWarp):
    """`repaint`, trained: content is landmarks, style the donor's photograph with its landmarks.

    The donors' crops may be of another side than the contents'.
    """

    model: Repaint
    needs_content = False  # type: ignore[assignment]

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        donor, theirs = style
        bent = bent_with_mask(features[0], donor, theirs, self.schema, self.crop.size)
        return self.model(bent.image, bent.mask, self.structure_maps(features[0])).contiguous()

    @torch.no_grad()
    def decode_on(self, features: list[Tensor], style: list[Tensor], image: Tensor) -> Tensor:
        """`decode` at the side of `image`: the donor is bent at that size, and what is painted is enlarged."""
        size, own = image.shape[-1], self.crop.size
        if size == own:
            return self.decode(features, style)
        donor, theirs = style
        bent = bent_with_mask(features[0], donor, theirs, self.schema, own)
        added = self.model.added(bent.image, bent.mask, self.structure_maps(features[0]))
        larger = bent_with_mask((features[0] + 0.5) * (size / own) - 0.5, donor, theirs, self.schema, size)
        wide = F.interpolate(added, size=(size, size), mode="bicubic", align_corners=False)
        return (larger.image + larger.mask * wide).contiguous()
