"""The parts of `vunet`: encoders of style and structure, the prior, and the decoder (docs/paper_map.md 1.4).

Posterior and prior are Gaussians of unit variance, so a distribution is its mean. Dropout is the one thing drawn from
torch's global generator; everything else random takes an explicit one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stylealign.translators.vunet.config import VUNetConfig
from stylealign.translators.vunet.layers import (
    ResidualBlock,
    Upsample,
    WeightNormConv2d,
    merge_groups,
    normal_like,
    split_groups,
)


class Decoded(NamedTuple):
    """What the decoder drew."""

    image: Tensor
    """(B, 3, S, S), linear: mostly in [-1, 1] but not bounded; batch.to_uint8 clamps."""
    prior: list[Tensor]
    """Prior means per latent, shaped as `style`; empty when they were not asked for."""
    style: list[Tensor]
    """The latents used: those given, or the sampled ones."""


class Encoder(nn.Module):
    """Residual blocks and stride-2 convolutions from full resolution to the bottleneck; keeps every block's output."""

    def __init__(self, in_channels: int, width: int, config: VUNetConfig) -> None:
        super().__init__()
        self.resolutions, self.blocks_per_scale = config.resolutions, config.blocks_per_scale
        widths = config.widths(width)
        self.stem = WeightNormConv2d(in_channels, widths[0], kernel_size=1)
        self.layers = nn.ModuleDict()
        for level, side in enumerate(self.resolutions):
            for i in range(config.blocks_per_scale):
                self.layers[f"{side}x{side}_block{i}"] = ResidualBlock(widths[level], dropout=config.dropout)
            if level + 1 < len(self.resolutions):
                self.layers[f"{side}x{side}_down"] = WeightNormConv2d(widths[level], widths[level + 1], stride=2)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, S, S) -> block outputs, full resolution first, `blocks_per_scale` for every resolution."""
        features = []
        x = self.stem(x)
        for side in self.resolutions:
            for i in range(self.blocks_per_scale):
                x = self.layers[f"{side}x{side}_block{i}"](x)
                features.append(x)
            if side != self.resolutions[-1]:
                x = self.layers[f"{side}x{side}_down"](x)
        return features


class StyleEncoder(nn.Module):
    """q(z|x) or q(z|x,y): an encoder, then upwards through the latent resolutions, each latent seeing the ones before
    it.

    The released network goes on for one more block and upsampling after the last latent, which nothing reads
    (docs/paper_map.md 2.8, trap 9); they are left out here, about 1.2 of its 48.2 million parameters.
    """

    def __init__(self, config: VUNetConfig) -> None:
        super().__init__()
        in_channels = 3 + (config.structure_channels_in if config.posterior == "xy" else 0)
        self.blocks_per_scale = config.blocks_per_scale
        self.encoder = Encoder(in_channels, config.style_width, config)
        widths = config.widths(config.style_width)[::-1]  # bottleneck first
        self.sides = config.resolutions[::-1][: config.num_latent_scales]
        self.stem = WeightNormConv2d(widths[0], widths[0], kernel_size=1)
        self.layers = nn.ModuleDict()
        for level, side in enumerate(self.sides):
            width = widths[level]
            self.layers[f"{side}x{side}_before"] = ResidualBlock(width, skip_channels=width, dropout=config.dropout)
            self.layers[f"{side}x{side}_mean"] = WeightNormConv2d(width, config.latent_channels)
            if side != self.sides[-1]:
                self.layers[f"{side}x{side}_after"] = ResidualBlock(
                    width, skip_channels=width + config.latent_channels, dropout=config.dropout
                )
                self.layers[f"{side}x{side}_up"] = Upsample(width, widths[level + 1], config.upsample)

    def forward(self, x: Tensor, sample: bool, generator: torch.Generator | None) -> tuple[list[Tensor], list[Tensor]]:
        """Posterior means, and latents: the means themselves, or drawn round them with `sample`."""
        features = self.encoder(x)
        means, latents = [], []
        h = self.stem(features[-1])
        for side in self.sides:
            skips = [features.pop() for _ in range(self.blocks_per_scale)]  # last block first
            h = self.layers[f"{side}x{side}_before"](h, skips[0])
            means.append(self.layers[f"{side}x{side}_mean"](h))
            latents.append(means[-1] + normal_like(means[-1], generator) if sample else means[-1])
            if side != self.sides[-1]:
                h = self.layers[f"{side}x{side}_after"](h, torch.cat([skips[-1], latents[-1]], dim=1))
                h = self.layers[f"{side}x{side}_up"](h)
        return means, latents


class AutoregressivePrior(nn.Module):
    """p(z|y) at one scale: four spatial sub-lattices in sequence, each one's mean depending on those before it."""

    def __init__(self, width: int, config: VUNetConfig) -> None:
        super().__init__()
        inner = width if config.prior_width is None else config.prior_width
        self.narrow = WeightNormConv2d(width, inner, kernel_size=1) if inner != width else nn.Identity()
        self.block = ResidualBlock(inner, dropout=config.dropout)
        self.means = nn.ModuleList(WeightNormConv2d(4 * inner, config.latent_channels) for _ in range(4))
        self.updates = nn.ModuleList(
            ResidualBlock(4 * inner, skip_channels=config.latent_channels, dropout=config.dropout) for _ in range(3)
        )

    def forward(self, h: Tensor, latent: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Decoder feature h (B, C, s, s) -> prior means and latent, both (B, latent_channels, s, s).

        With a `latent` each group is fed back from it (teacher forcing) and it is returned; without, groups are
        sampled.
        """
        feature = torch.cat(split_groups(self.block(self.narrow(h))), dim=1)
        given = None if latent is None else split_groups(latent)
        means, groups = [], []
        for i in range(4):
            means.append(self.means[i](feature))
            groups.append(means[i] + normal_like(means[i], generator) if given is None else given[i])
            if i < 3:
                feature = self.updates[i](feature, groups[i])
        return merge_groups(means), merge_groups(groups) if latent is None else latent


class Decoder(nn.Module):
    """From the bottleneck up: takes in every skip of the structure encoder, and latents at the lowest resolutions."""

    def __init__(self, config: VUNetConfig) -> None:
        super().__init__()
        self.blocks_per_scale = config.blocks_per_scale
        self.blocks_before_latent = (config.blocks_per_scale + 1) // 2
        self.sides = config.resolutions[::-1]  # bottleneck first
        self.latent_sides = self.sides[: config.num_latent_scales]
        widths = config.widths(config.structure_width)[::-1]
        self.stem = WeightNormConv2d(widths[0], widths[0], kernel_size=1)
        self.layers = nn.ModuleDict()
        for level, side in enumerate(self.sides):
            width = widths[level]
            for i in range(config.blocks_per_scale):
                self.layers[f"{side}x{side}_block{i}"] = ResidualBlock(
                    width, skip_channels=width, dropout=config.dropout
                )
            if side in self.latent_sides:
                self.layers[f"{side}x{side}_prior"] = AutoregressivePrior(width, config)
                self.layers[f"{side}x{side}_merge"] = WeightNormConv2d(
                    width + config.latent_channels, width, kernel_size=1
                )
            if side != config.size:
                self.layers[f"{side}x{side}_up"] = Upsample(width, widths[level + 1], config.upsample)
        self.to_image = WeightNormConv2d(widths[-1], 3)

    def forward(
        self, features: list[Tensor], style: list[Tensor] | None, generator: torch.Generator | None, with_prior: bool
    ) -> Decoded:
        skips = list(features)
        prior: list[Tensor] = []
        latents: list[Tensor] = []
        h = self.stem(features[-1])
        for side in self.sides:
            for i in range(self.blocks_per_scale):
                h = self.layers[f"{side}x{side}_block{i}"](h, skips.pop())
                if side in self.latent_sides and i + 1 == self.blocks_before_latent:
                    latent = None if style is None else style[len(latents)]
                    if latent is None or with_prior:
                        mean, latent = self.layers[f"{side}x{side}_prior"](h, latent, generator)
                        prior.append(mean)
                    latents.append(latent)
                    h = self.layers[f"{side}x{side}_merge"](torch.cat([h, latent], dim=1))
            if side != self.sides[-1]:
                h = self.layers[f"{side}x{side}_up"](h)
        return Decoded(self.to_image(h), prior, latents)
