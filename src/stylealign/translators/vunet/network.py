"""The network of `vunet`: the paper's generator as released (docs/paper_map.md 1.2 to 1.4).

A VUNet: q(z|x) encodes an image into two small spatial latents, p(z|y) is an autoregressive prior inside the
structure decoder, and the decoder draws structure map y in style z. The network knows no landmarks, files or losses:
structure maps come from batches/structure_maps.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stylealign.batches.structure_maps import StructureConfig, num_structure_channels
from stylealign.config import to_dict
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.kl import kl_nats
from stylealign.translators.vunet.config import VUNetConfig
from stylealign.translators.vunet.layers import data_dependent_init
from stylealign.translators.vunet.parts import Decoded, Decoder, Encoder, StyleEncoder


class TranslatorOutput(NamedTuple):
    """A reconstruction with sampled style, and what the KL needs."""

    image: Tensor
    """(B, 3, S, S), linear."""
    posterior: list[Tensor]
    """Means of q(z|x) per latent, (B, C, h, w), the bottleneck's first."""
    prior: list[Tensor]
    """Means of p(z|y) per latent, teacher-forced with the sampled z."""


class VUNet(nn.Module):
    """Conditional VAE that draws a structure map in the style of another face (docs/paper_map.md 1.2 to 1.4).

    Images are (B, 3, S, S) RGB in [-1, 1], structure maps (B, structure_channels_in, S, S) in [0, 1]. Call
    `initialise` on a first batch before training.
    """

    initialised: Tensor

    def __init__(self, config: VUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.style_encoder = StyleEncoder(config)
        self.structure_encoder = Encoder(config.structure_channels_in, config.structure_width, config)
        self.decoder = Decoder(config)
        self.register_buffer("initialised", torch.tensor(False))
        self._seen_initialised = False  # so that the buffer is read, and a GPU waited for, only once

    def encode_style(self, image: Tensor, structure: Tensor | None = None) -> list[Tensor]:
        """Posterior means per latent, the bottleneck's first: (B, 3, S, S) -> [(B, C, 4, 4), (B, C, 8, 8)].

        `structure` is read only by a q(z|x,y) translator, which raises UserError without it.
        """
        means, _ = self.style_encoder(self._style_input(image, structure), sample=False, generator=None)
        return means

    def encode_structure(self, structure: Tensor) -> list[Tensor]:
        """Every block output of the structure encoder, full resolution first; what `decode` draws from."""
        return self.structure_encoder(structure)

    def decode(
        self,
        structure_features: list[Tensor],
        style: list[Tensor] | None = None,
        generator: torch.Generator | None = None,
        with_prior: bool = True,
    ) -> Decoded:
        """Pictures of `encode_structure`'s features in `style`; without one, in styles sampled from the prior p(z|y).

        For an n x n pass encode n styles and n structures once and give `index_features` of both. With a style the
        prior is not needed for the picture: `with_prior=False` skips it and gives the identical image.
        """
        return self.decoder(structure_features, style, generator, with_prior)

    def forward(self, image: Tensor, structure: Tensor, generator: torch.Generator | None = None) -> TranslatorOutput:
        """Reconstruct `image` from its structure map and a sample of its own style: the training pass."""
        if self.training and not self._seen_initialised:
            assert bool(self.initialised), "call initialise(model, image, structure) before training"
            self._seen_initialised = True
        means, latents = self.style_encoder(self._style_input(image, structure), sample=True, generator=generator)
        decoded = self.decode(self.encode_structure(structure), latents)
        return TranslatorOutput(decoded.image, means, decoded.prior)

    def translate(self, structure: Tensor, style_image: Tensor, style_structure: Tensor | None = None) -> Tensor:
        """Draw each structure map in the style (posterior mean) of the image beside it: -> (B, 3, S, S), linear."""
        style = self.encode_style(style_image, style_structure)
        return self.decode(self.encode_structure(structure), style, with_prior=False).image

    @staticmethod
    def interpolate(style_a: list[Tensor], style_b: list[Tensor], t: float) -> list[Tensor]:
        """Linear mix of two styles at every latent scale: t = 0 gives style_a, t = 1 gives style_b."""
        return [torch.lerp(a, b, t) for a, b in zip(style_a, style_b, strict=True)]

    def _style_input(self, image: Tensor, structure: Tensor | None) -> Tensor:
        if self.config.posterior == "x":
            return image
        if structure is None:
            raise UserError(
                "This translator's style encoder is q(z|x,y): style samples need landmarks for a structure map; "
                "use one trained with posterior 'x' for unlabelled style samples."
            )
        return torch.cat([image, structure], dim=1)


def initialise(model: VUNet, image: Tensor, structure: Tensor, generator: torch.Generator | None = None) -> None:
    """Set every gain and bias from one batch (the release uses 16 images); deterministic given `generator`."""
    with data_dependent_init(model):
        model(image, structure, generator)
    model.initialised.fill_(True)


def index_features(features: list[Tensor], index: Tensor) -> list[Tensor]:
    """Pick rows of structure features or of a style: n encodings -> one per (structure, style) pair."""
    return [feature.index_select(0, index) for feature in features]


def build_vunet(config: VUNetConfig, size: int, structure: StructureConfig, schema: LandmarkSchema) -> VUNet:
    """The network for crops of `size` px and these structure maps, whatever the configuration says of the two."""
    wanted = {"size": size, "structure_channels_in": num_structure_channels(structure.kind, schema)}
    return VUNet(VUNetConfig(**{**to_dict(config), **wanted}))


class LoadedVUNet(LoadedTranslator):
    """`vunet`, trained: content is its structure maps, style the posterior means of a picture."""

    model: VUNet
    has_prior = True

    @property
    def style_needs_landmarks(self) -> bool:
        return self.model.config.posterior == "xy"

    @torch.no_grad()
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        maps = self.structure_maps(landmarks) if self.style_needs_landmarks and landmarks is not None else None
        return self.model.encode_style(image.to(self.device), maps)

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        return self.model.encode_structure(self.structure_maps(landmarks))

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        return self.model.decode(features, style, with_prior=False).image

    @torch.no_grad()
    def sample_prior(self, features: list[Tensor], generator: torch.Generator) -> Tensor:
        return self.model.decode(features, None, generator=generator).image

    @torch.no_grad()
    def kl_nats(self, image: Tensor, landmarks: Tensor) -> float:
        generator = torch.Generator(self.device).manual_seed(0)
        out = self.model(image.to(self.device), self.structure_maps(landmarks), generator)
        return float(kl_nats(out.posterior, out.prior))
