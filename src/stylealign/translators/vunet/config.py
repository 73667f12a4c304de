"""The shape of `vunet`, and the sizes it was published and is used in. In Python the defaults are the released
256 px network."""

from dataclasses import dataclass
from typing import Literal

from stylealign.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class VUNetConfig:
    """Shape of the network. The recipe `vunet_released` is the released 256 px one (about 47 million parameters)."""

    size: int = 256
    """Side of the square image in pixels: the bottleneck times a power of two."""
    structure_channels_in: int = 3
    """Channels of the structure map; the release draws all landmarks into one map and copies it to three channels."""
    style_width: int = 128
    """Channels of the style encoder at full resolution; doubles at every halving up to `max_width`."""
    structure_width: int = 32
    """Channels of the structure encoder and decoder at full resolution; doubles at every halving up to `max_width`."""
    max_width: int = 128
    """Most channels at any resolution."""
    latent_channels: int = 128
    """Channels of each latent."""
    prior_width: int | None = None
    """Channels of the autoregressive prior's feature before space-to-depth multiplies them by four; None: the
    decoder's own width, as released. The prior matters to the KL and to random styles only, and is most of the
    released parameters."""
    bottleneck: int = 4
    """Side of the coarsest resolution, and of the first latent."""
    num_latent_scales: int = 2
    """Latents, at the bottleneck and at each doubling after it: 4x4 and 8x8 as released."""
    blocks_per_scale: int = 2
    """Residual blocks per resolution."""
    dropout: float = 0.1
    """Dropout probability inside residual blocks while training."""
    posterior: Literal["x", "xy"] = "x"
    """x: styles need no landmarks (released code); xy: the style encoder also sees the structure map (paper)."""
    upsample: Literal["subpixel", "nearest"] = "subpixel"
    """How the decoder doubles resolution: "subpixel" as released may leave a checker pattern, "nearest" leaves none."""

    def __post_init__(self) -> None:
        ratio = self.size / self.bottleneck
        if ratio < 2 or ratio != 2 ** (len(self.resolutions) - 1):
            raise UserError(
                f"size {self.size} must be the bottleneck {self.bottleneck} times a power of two (64, 128, 256...)."
            )
        if self.bottleneck < 2 or self.bottleneck % 2:
            raise UserError(f"bottleneck {self.bottleneck} must be even: the prior cuts latents into 2x2 sub-lattices.")
        if not 1 <= self.num_latent_scales < len(self.resolutions):
            raise UserError(
                f"num_latent_scales {self.num_latent_scales} must be from 1 to {len(self.resolutions) - 1}, "
                f"one fewer than the resolutions of a {self.size} px network."
            )
        for key in (
            "structure_channels_in",
            "style_width",
            "structure_width",
            "max_width",
            "latent_channels",
            "blocks_per_scale",
        ):
            if getattr(self, key) < 1:
                raise UserError(f"{key} {getattr(self, key)} must be at least 1.")
        if self.prior_width is not None and self.prior_width < 1:
            raise UserError(f"prior_width {self.prior_width} must be at least 1, or left out for the decoder's width.")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout {self.dropout} must be in [0, 1).")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Full resolution first: (256, 128, ..., 4)."""
        sides = [self.size]
        while sides[-1] // 2 >= self.bottleneck:
            sides.append(sides[-1] // 2)
        return tuple(sides)

    def widths(self, width: int) -> tuple[int, ...]:
        """Channels per resolution of a path that starts with `width`."""
        return tuple(min(width * 2**level, self.max_width) for level in range(len(self.resolutions)))

    @property
    def latent_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """(C, h, w) of every latent, the bottleneck's first."""
        return tuple(
            (self.latent_channels, self.bottleneck * 2**i, self.bottleneck * 2**i)
            for i in range(self.num_latent_scales)
        )


PRESETS = {
    "released": VUNetConfig(),
    "medium128": VUNetConfig(size=128, style_width=64, latent_channels=64, prior_width=32, upsample="nearest"),
    "small64": VUNetConfig(
        size=64,
        style_width=16,
        structure_width=16,
        max_width=64,
        latent_channels=32,
        prior_width=16,
        blocks_per_scale=1,
        dropout=0.0,
        upsample="nearest",
    ),
    "tiny32": VUNetConfig(
        size=32,
        style_width=8,
        structure_width=8,
        max_width=32,
        latent_channels=8,
        prior_width=8,
        blocks_per_scale=1,
        dropout=0.0,
        upsample="nearest",
    ),
}
"""released: docs/paper_map.md 1.4. medium128: one GPU. small64: a CPU core or two. tiny32: tests and demonstrations."""
