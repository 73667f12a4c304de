"""The network of `bilateral`: the face's own photograph in the light, colour and sharpness of another.

A small network looks at the content photograph and at the donor's style code and predicts an affine map of colours
for every cell of a coarse grid over (x, y, lightness); each pixel looks its own map up and applies it (HDRnet: Gharbi
et al., SIGGRAPH 2017, section 3). A Gaussian blur and noise follow; their strengths depend on how much fine detail
donor and content have. Nothing is drawn and nothing is moved: landmarks stay where they are, and glasses, hands and
hair stay in the picture. For the same reason it cannot sharpen a picture, or add to it what is not there. The network
knows no landmarks, files or losses.
"""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.batch import to_uint8
from stylealign.batches.structure_maps import StructureConfig
from stylealign.batches.together import rolled
from stylealign.data.image import LUMA
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.base import PAIRS_A_PASS, LoadedTranslator, pictures_at_once
from stylealign.translators.codes import CodeConfig, CodeEncoder
from stylealign.translators.regions import at_size, spread

LEAST_BLUR = 0.25  # px: neighbours weigh e^-8, below what 8 bits show


@dataclass(frozen=True, kw_only=True, slots=True)
class BilateralConfig:
    """Shape of the network. The defaults are for 64 px and a CPU core."""

    codes: CodeConfig = field(default_factory=CodeConfig)
    grid: int = 16
    """Cells along each side of the picture; it divides the picture's side by a power of two."""
    bins: int = 4
    """Cells along lightness."""
    width: int = 24
    """Channels after the first halving of the content; doubled by each further one, up to `max_width`."""
    max_width: int = 64
    max_blur: float = 0.03
    """Largest standard deviation of the blur, in sides of the picture (1.9 px of 64)."""
    max_noise: float = 0.2
    """Largest standard deviation of the noise, on images in [-1, 1]."""

    def __post_init__(self) -> None:
        if min(self.grid, self.bins, self.width, self.max_width) < 1:
            raise ValueError(
                f"grid {self.grid}, bins {self.bins}, width {self.width} and max_width {self.max_width}: expected at "
                "least 1 each"
            )
        if self.max_blur < 0 or self.max_noise < 0:
            raise ValueError(f"max_blur {self.max_blur} and max_noise {self.max_noise}: expected 0 or more")


def luma(image: Tensor) -> Tensor:
    """Lightness (B, 1, H, W) of RGB in [-1, 1], in [-1, 1]."""
    return (image * torch.tensor(LUMA, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def slice_grid(grid: Tensor, guide: Tensor) -> Tensor:
    """Each pixel's coefficients, trilinear: grid (B, K, D, h, w) and guide (B, 1, H, W) in [-1, 1] -> (B, K, H, W).

    The grid covers the picture cell by cell (pixel areas) and the guide's range bin by bin; beyond the centres of the
    outermost cells their values go on.
    """
    num, _, height, width = guide.shape
    y, x = ((torch.arange(n, device=guide.device, dtype=guide.dtype) * 2 + 1) / n - 1 for n in (height, width))
    places = torch.stack(
        [x.expand(num, height, width), y[:, None].expand(num, height, width), guide[:, 0]], dim=-1
    )  # (B, H, W, 3) as (x, y, lightness)
    found = F.grid_sample(grid, places[:, None], mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0]


def apply_affine(image: Tensor, coefficients: Tensor) -> Tensor:
    """Colours (B, 3, H, W) through a 3x4 affine map a pixel (B, 12, H, W); row c makes channel c of (r, g, b, 1)."""
    rows = coefficients.unflatten(1, (3, 4))
    return (rows[:, :, :3] * image[:, None]).sum(dim=2) + rows[:, :, 3]


def identity_grid(config: BilateralConfig, like: Tensor) -> Tensor:
    """(1, 12, D, h, w) whose every cell leaves colours alone."""
    affine = torch.eye(3, 4, device=like.device, dtype=like.dtype).reshape(1, 12, 1, 1, 1)
    return affine.expand(1, 12, config.bins, config.grid, config.grid)


def gaussian_blur(image: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Images (B, C, H, W) blurred by Gaussians of `sigma` (B,) px, cut at `radius` px; gradients flow to both."""
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(image.shape[1], dim=0)[:, None]  # (B C, 1, K)
    planes = F.pad(image.reshape(1, -1, *image.shape[-2:]), [radius] * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, :, None, :], groups=len(kernel))
    return F.conv2d(planes, kernel[:, :, :, None], groups=len(kernel)).view(image.shape)


def fineness(image: Tensor) -> Tensor:
    """How much detail pictures (B, 3, H, W) have at three scales: (B, 6) logarithms.

    Of what lightness loses between blurs of 0, 0.5, 1 and 2 px, the mean and the median magnitude. Edges raise the
    mean; noise, which is everywhere, raises the median too.
    """
    levels, found = [luma(image)], []
    for sigma in (0.5, 1.0, 2.0):
        levels.append(gaussian_blur(levels[0], torch.full_like(image[:, 0, 0, 0], sigma), 6))
        band = (levels[-2] - levels[-1]).abs().flatten(1)
        found += [band.mean(dim=1), band.median(dim=1).values]
    return torch.stack(found, dim=1).add(1e-3).log()


class Look(NamedTuple):
    """What the network decides for a face and a style."""

    grid: Tensor
    """(B, 12, D, h, w) affine maps of colours"""
    blur: Tensor
    """(B,) standard deviation, px"""
    noise: Tensor
    """(B,) standard deviation, on images in [-1, 1]"""


class Bilateral(nn.Module):
    """Content photographs and style codes -> the same photographs in other light. Images: (B, 3, S, S) in [-1, 1]."""

    def __init__(self, config: BilateralConfig, size: int) -> None:
        super().__init__()
        ratio = size // config.grid
        if size < 16 or ratio < 2 or ratio & (ratio - 1) or config.grid * ratio != size:
            raise UserError(f"size {size} must be the grid {config.grid} times a power of two (and at least 16).")
        self.config, self.size = config, size
        self.style_encoder = CodeEncoder(config.codes, size)
        layers: list[nn.Module] = []
        before, width = 3, config.width
        for _ in range(ratio.bit_length() - 1):
            layers += [nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)]
            before, width = width, min(2 * width, config.max_width)
        self.content = nn.Sequential(*layers)
        inner = config.max_width
        self.enter = nn.Conv2d(before + config.codes.region_size, inner, 3, padding=1)
        # Dilated, so that far cells count too: the light on a cheek depends on the whole face.
        self.convs = nn.ModuleList(nn.Conv2d(inner, inner, 3, padding=d, dilation=d) for d in (2, 4, 1))
        self.codes = nn.ModuleList(nn.Linear(config.codes.global_size + before, 2 * inner) for _ in self.convs)
        self.to_grid = nn.Conv2d(inner, 12 * config.bins, 1)
        self.quality = nn.Linear(12, 32)  # of the donor's fineness and the content's
        self.to_quality = nn.Linear(32, 2)
        with torch.no_grad():  # the first answer is the photograph itself, hardly blurred
            for parameter in (*self.to_grid.parameters(), *self.to_quality.parameters()):
                parameter.zero_()
            self.to_quality.bias.fill_(-2.0)

    @property
    def blur_radius(self) -> int:
        """Of the blur's kernel, px."""
        return max(1, round(3 * self.config.max_blur * self.size))

    def encode_style(self, image: Tensor, masks: Tensor | None = None) -> list[Tensor]:
        """Codes of pictures (B, 3, S, S): global (B, G), regional (B, R, C) and fineness (B, 6).

        The regional ones are 0 without masks (B, R, S, S).
        """
        return [*self.style_encoder(image, masks), fineness(image)]

    def encode_content(self, image: Tensor) -> list[Tensor]:
        """What `look` sees of the photograph: features (B, C, grid, grid) and fineness (B, 6)."""
        return [self.content(image), fineness(image)]

    def look(self, seen_content: list[Tensor], masks: Tensor, style: list[Tensor]) -> Look:
        """Each face's look, of `encode_content`, the content's regions (B, R, grid, grid) and the donor's codes."""
        (features, fine), (code, regional, donor_fine) = seen_content, style
        seen = torch.cat([code, features.mean(dim=(2, 3))], dim=1)  # the donor, and what there is to be changed
        x = self.enter(torch.cat([features, spread(regional, masks, self.config.grid)], dim=1))
        for conv, linear in zip(self.convs, self.codes, strict=True):
            gain, shift = linear(seen)[:, :, None, None].chunk(2, dim=1)
            x = x + conv(F.leaky_relu(x * (1 + gain) + shift, 0.2))
        offsets = self.to_grid(F.leaky_relu(x, 0.2)).unflatten(1, (12, self.config.bins))
        quality = torch.sigmoid(self.to_quality(F.leaky_relu(self.quality(torch.cat([donor_fine, fine], dim=1)), 0.2)))
        most = max(self.config.max_blur * self.size, LEAST_BLUR)
        return Look(
            grid=identity_grid(self.config, offsets) + offsets,
            blur=LEAST_BLUR + (most - LEAST_BLUR) * quality[:, 0],
            noise=self.config.max_noise * quality[:, 1],
        )

    def render(self, image: Tensor, look: Look, field: Tensor) -> Tensor:
        """The photograph through its colour maps, blurred, and noisy by the unit noise `field` (B, 1, S, S)."""
        coloured = apply_affine(image, slice_grid(look.grid, luma(image).clamp(-1, 1)))
        return gaussian_blur(coloured, look.blur, self.blur_radius) + look.noise[:, None, None, None] * field

    def forward(
        self,
        image: Tensor,
        masks: Tensor,
        field: Tensor,
        view: Tensor,
        view_masks: Tensor,
        forget: Tensor,
    ) -> tuple[Tensor, list[Tensor], Look]:
        """The training pass: each face's two photographs, the first in the style of its own view, the second in that of
        the face before it; and the codes and looks they were made by.

        Views with `forget` (B,) lose their regional codes.
        """
        style = self.encode_style(view, view_masks * (~forget)[:, None, None, None])
        donor = [torch.cat([s, rolled(s, 1)]) for s in style]
        look = self.look(self.encode_content(image), masks, donor)
        return self.render(image, look, field), donor, look


def build_bilateral(
    config: BilateralConfig, size: int, structure: StructureConfig, schema: LandmarkSchema
) -> Bilateral:
    """The network for crops of `size` px; it sees no structure maps."""
    return Bilateral(config, size)


def noise_fields(image: Tensor) -> Tensor:
    """Unit noise (B, 1, S, S) for pictures (B, 3, S, S), a function of each one's 8-bit pixels alone.

    So a face has the same noise whatever other faces are in the batch, and wherever it is computed.
    """
    fields = []
    for picture in to_uint8(image).cpu().numpy():
        seed = int.from_bytes(hashlib.sha256(picture.tobytes()).digest()[:7], "big")
        fields.append(torch.randn(1, *picture.shape[:2], generator=torch.Generator().manual_seed(seed)))
    return torch.stack(fields).to(image)


class LoadedBilateral(LoadedTranslator):
    """`bilateral`, trained: content is the photograph, style a global and, with known landmarks, regional codes."""

    model: Bilateral
    needs_content = keeps_photograph = True

    @torch.no_grad()
    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        masks = None if landmarks is None else self.region_masks(landmarks)
        return self.model.encode_style(image.to(self.device), masks)

    @torch.no_grad()
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        if image is None:
            raise UserError(
                f"translator '{self.card.get('model')}' changes the content's own photograph: encode_structure needs "
                "the image beside the landmarks"
            )
        image = image.to(self.device)
        masks = at_size(self.region_masks(landmarks), self.model.config.grid)
        return [image, *self.model.encode_content(image), masks, noise_fields(image)]

    @property
    def pairs_a_pass(self) -> int:
        """Many, for looks are small; `decode` renders some pictures at a time."""
        return PAIRS_A_PASS

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        image, seen, fine, masks, field = features
        look = self.model.look([seen, fine], masks, style)
        count = pictures_at_once(self.crop.size, image.device)
        parts = zip(*(x.split(count) for x in (image, field, *look)), strict=True)
        return torch.cat([self.model.render(some, Look(*looks), noise) for some, noise, *looks in parts])

    @torch.no_grad()
    def decode_on(self, features: list[Tensor], style: list[Tensor], image: Tensor) -> Tensor:
        """`decode` on larger pictures (B, 3, T, T) of the same faces.

        Each pixel finds its own colour map, so that the photograph keeps its detail; a blur beyond the least grows
        with the picture. At the translator's own size it is `decode`.
        """
        _, seen, fine, masks, _ = features
        image = image.to(self.device)
        look, ratio = self.model.look([seen, fine], masks, style), image.shape[-1] / self.crop.size
        coloured = apply_affine(image, slice_grid(look.grid, luma(image).clamp(-1, 1)))
        blur = LEAST_BLUR + (look.blur - LEAST_BLUR) * ratio
        blurred = gaussian_blur(coloured, blur, max(1, round(self.model.blur_radius * ratio)))
        return blurred + look.noise[:, None, None, None] * noise_fields(image)
