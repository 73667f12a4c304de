"""CycleGAN (Zhu et al., ICCV 2017) between two photographic styles: generators,
discriminators, the pool of fakes, the losses.

The shapes and weights are those of SAN (Dong et al., CVPR 2018, section 3.1) and the code published with it; what is
smaller is for small crops and CPUs. Knows no files and no landmarks; train_styles.py is the job.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.together import gathered, own
from stylealign.errors import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorConfig:
    """The shape of the two generators."""

    width: int = 64
    """Channels of the first convolution; doubled by each of the two halvings."""
    blocks: int = 6
    """Residual blocks at a quarter of the resolution."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.blocks < 0:
            raise ValueError(
                f"generator of width {self.width} and {counted(self.blocks, 'block')}: expected at least 1, and at "
                "least 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class CycleGANConfig:
    """How the generators learn, and from which discriminators."""

    discriminator_width: int = 64
    """Channels of a discriminator's first convolution."""
    discriminator_layers: int = 3
    """Halvings of a discriminator: 3 makes it judge patches of 70 px, 2 of 34 px, 1 of 16 px."""
    cycle: float = 10.0
    """Weight of the way there and back."""
    identity: float = 0.1
    """Weight of leaving alone what has the style already, relative to `cycle`."""
    pool: int = 50
    """Fakes a discriminator remembers; 0: only the newest."""
    lr: float = 2e-4
    """Of Adam; constant for the first half of the training, then falling linearly to 0."""
    betas: tuple[float, float] = (0.5, 0.999)

    def __post_init__(self) -> None:
        if self.discriminator_width < 1 or self.discriminator_layers < 1 or self.pool < 0:
            raise ValueError(
                f"discriminators of width {self.discriminator_width} and "
                f"{counted(self.discriminator_layers, 'layer')}, pool {self.pool}: expected at least 1, 1 and 0"
            )
        if min(self.cycle, self.identity) < 0 or not self.lr > 0:
            raise ValueError(
                f"cycle {self.cycle}, identity {self.identity}, lr {self.lr}: expected 0 or more, lr above 0"
            )


def _normal(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases 0 (Zhu et al., section 7.2)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class ReflectPad(nn.Module):
    """Reflection padding that keeps channels-last images channels-last: torch's own returns
    planes, which slows the next layers."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, [self.width] * 4, mode="reflect")
        return padded.contiguous(memory_format=torch.channels_last)


class StyleBlock(nn.Module):
    """x + two reflected 3x3 convolutions with instance normalisation."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            ReflectPad(1), nn.Conv2d(channels, channels, 3, bias=False), nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            ReflectPad(1), nn.Conv2d(channels, channels, 3, bias=False), nn.InstanceNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Generator(nn.Module):
    """(B, 3, S, S) in [-1, 1] -> the same face in another style, same shape and range; S a multiple of 4, at least 8.

    No bias before a normalisation, which would take it away again.
    """

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        w = config.width

        def normalised(convolution: nn.Module, channels: int) -> list[nn.Module]:
            return [convolution, nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]

        def up(channels: int) -> nn.Module:
            return nn.ConvTranspose2d(2 * channels, channels, 3, 2, 1, output_padding=1, bias=False)

        self.layers = nn.Sequential(
            ReflectPad(3), *normalised(nn.Conv2d(3, w, 7, bias=False), w),
            *normalised(nn.Conv2d(w, 2 * w, 3, 2, 1, bias=False), 2 * w),
            *normalised(nn.Conv2d(2 * w, 4 * w, 3, 2, 1, bias=False), 4 * w),
            *(StyleBlock(4 * w) for _ in range(config.blocks)),
            *normalised(up(2 * w), 2 * w),
            *normalised(up(w), w),
            ReflectPad(3), nn.Conv2d(w, 3, 7), nn.Tanh(),
        )  # fmt: skip
        _normal(self)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Discriminator(nn.Module):
    """(B, 3, S, S) -> (B, 1, h, w): near 1 where a patch looks real. With 3 layers a patch
    is 70 px (Isola et al. 2017)."""

    def __init__(self, width: int, num_layers: int):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        channels = width
        for i in range(1, num_layers + 1):
            out = width * min(2**i, 8)
            stride = 2 if i < num_layers else 1
            layers += [
                nn.Conv2d(channels, out, 4, stride, 1, bias=False),
                nn.InstanceNorm2d(out),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels = out
        layers.append(nn.Conv2d(channels, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        _normal(self)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Translations(NamedTuple):
    """What both generators made of faces a of cluster A and b of cluster B."""

    fake_b: Tensor
    """G_A(a)"""
    fake_a: Tensor
    """G_B(b)"""
    back_a: Tensor
    """G_B(G_A(a))"""
    back_b: Tensor
    """G_A(G_B(b))"""
    same_b: Tensor
    """G_A(b)"""
    same_a: Tensor
    """G_B(a)"""


class Generators(nn.Module):
    """G_A takes faces of cluster A to the style of B, G_B the other way."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.a, self.b = Generator(config), Generator(config)

    def forward(self, a: Tensor, b: Tensor) -> Translations:
        """One pass for all that the losses need: (B, 3, S, S) each."""
        # Instance normalisation treats every face alone, so that two batches may go through as one.
        fake_b, same_b = self.a(torch.cat([a, b])).split([len(a), len(b)])
        fake_a, same_a = self.b(torch.cat([b, a])).split([len(b), len(a)])
        return Translations(fake_b, fake_a, self.b(fake_b), self.a(fake_a), same_b, same_a)

    def aggregate(self, image: Tensor) -> Tensor:
        """The style-aggregated face, (G_A(x) + G_B(x)) / 2 (SAN, section 3.1): (B, 3, S, S) in [-1, 1]."""
        return (self.a(image) + self.b(image)) / 2


class Discriminators(nn.Module):
    """D_A judges faces in the style of cluster A, D_B in that of B."""

    def __init__(self, config: CycleGANConfig):
        super().__init__()
        self.a = Discriminator(config.discriminator_width, config.discriminator_layers)
        self.b = Discriminator(config.discriminator_width, config.discriminator_layers)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(a), self.b(b)


class ImagePool(nn.Module):
    """The last fakes a generator made; a discriminator sees old ones too (Shrivastava et
    al. 2017; Zhu et al., section 4).

    The images are buffers and the draws come from torch's global generator, so that a training continued from a
    checkpoint ends in the same bytes. Of several processes, each has the fakes of all in its pool.
    """

    images: Tensor
    count: Tensor

    def __init__(self, num: int, size: int):
        super().__init__()
        self.num = num
        self.register_buffer("images", torch.zeros(num, 3, size, size))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def exchange(self, fakes: Tensor) -> Tensor:
        """Put (B, 3, S, S) fakes in, get as many out: each itself until the pool is full; then, every
        other time, an old one instead."""
        fakes = fakes.detach()
        if not self.num:
            return fakes
        fakes = gathered(fakes)
        held, out = int(self.count), fakes.clone()
        swap, place = torch.rand(len(fakes)).tolist(), torch.randint(self.num, (len(fakes),)).tolist()
        for i, fake in enumerate(fakes):
            if held < self.num:
                self.images[held] = fake
                held += 1
            elif swap[i] < 0.5:
                out[i] = self.images[place[i]]
                self.images[place[i]] = fake
        self.count.fill_(held)
        return own(out)


def generator_terms(
    made: Translations, a: Tensor, b: Tensor, judged_a: Tensor, judged_b: Tensor, config: CycleGANConfig
) -> dict[str, Tensor]:
    """The generators' losses, scalars: `adversarial` (least squares: fakes shall be judged 1), `cycle`,
    `identity`, weighted, and `total`.

    Args:
        made: of the faces `a` and `b`.
        a: (B, 3, S, S) faces of cluster A; b: of cluster B.
        judged_a: D_A's answer to `made.fake_a`; judged_b: D_B's to `made.fake_b`.
        config: the weights; identity weighs config.identity * config.cycle.
    """
    terms = {
        "adversarial": (judged_a - 1).square().mean() + (judged_b - 1).square().mean(),
        "cycle": config.cycle * (F.l1_loss(made.back_a, a) + F.l1_loss(made.back_b, b)),
        "identity": config.cycle * config.identity * (F.l1_loss(made.same_a, a) + F.l1_loss(made.same_b, b)),
    }
    return {**terms, "total": sum(terms.values(), torch.zeros((), device=a.device))}


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Least squares: real patches shall be judged 1, fakes 0; halved, so that discriminators learn
    at half the generators' pace."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def decayed(step: int, steps: int) -> float:
    """The learning rate's factor: 1 for the first half of the training, then linearly towards 0.

    >>> [decayed(step, 8) for step in (0, 3, 4, 6, 7)]
    [1.0, 1.0, 1.0, 0.5, 0.25]
    """
    half = steps / 2
    return min(1.0, (steps - step) / half)
