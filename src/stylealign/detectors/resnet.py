"""ResNet-18 and ResNet-50 that regress landmark coordinates, at any width and from small crops.

ResNet-18 is the baseline of the paper, ResNet-50 the large network under the Wing loss (wing.py). Parameters have
torchvision's names, so that a state dict of ImageNet weights loads; the last layer predicts each landmark's offset from
the mean shape of the training faces. Knows no files and no losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from stylealign.batches.together import Dropout
from stylealign.detectors.mixstyle import MixStyle, MixStyleConfig
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.trunk_choice import TrunkName, refuse_beside_trunk
from stylealign.errors import UserError

# Mean and standard deviation per channel, in [0, 1] units, of the inputs ImageNet weights were trained on.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig:
    """The network's shape."""

    width: int = 64
    """Channels of the first convolution; 64 is the usual network, 16 fits a CPU."""
    head: Literal["pool", "flatten"] | None = None
    """`pool`: the usual mean over places. `flatten`: every place has its own weights, better for small crops and few
    updates. Not given: flatten below 128 px, else pool."""
    max_pool: bool | None = None
    """Halve the resolution after the first convolution; not given: from 128 px upwards."""
    dropout: float = 0.0
    """Before the last layer."""
    mixstyle: MixStyleConfig = field(default_factory=MixStyleConfig)
    """In training, after the first and the second stage."""
    trunk: TrunkName | None = None
    """Regress from the last features of this trunk, one of fpn's, instead of a ResNet-18; --pretrained then takes its
    ImageNet weights."""
    trunk_width: float = 1.0
    """Of that trunk, over its usual one; ImageNet weights need 1."""

    def __post_init__(self) -> None:
        refuse_beside_trunk(self, "resnet", "width", "max_pool", "mixstyle")
        if self.width < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"resnet of width {self.width} and dropout {self.dropout}: expected at least 1, and 0 to below 1"
            )


class EveryOtherCell(nn.Conv2d):
    """A 1x1 convolution with a stride, of the cells that it reads.

    The same sums. oneDNN's for processors without AVX-512, asked for the weights' gradient of fewer than 8 channels in
    channels-last order, writes beside its memory (uxlfoundation/oneDNN issue 6035): wrong weights, a hang or a crash.
    """

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.stride
        return nn.functional.conv2d(x[:, :, ::down, ::right], self.weight, self.bias)


def _shortcut(channels_in: int, channels: int, stride: int) -> nn.Module | None:
    """The shortcut's 1x1 convolution, where it cannot be the input itself."""
    if stride == 1 and channels_in == channels:
        return None
    convolution = EveryOtherCell if channels_in < 8 else nn.Conv2d
    return nn.Sequential(convolution(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left)."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1x1 to `channels`, 3x3, 1x1 to four times as many, and a shortcut (He et al. 2016, figure 5 right).

    The stride is in the 3x3 convolution, as in torchvision and the weights trained with it;
    the paper has it in the first 1x1.
    """

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        out = self.expansion * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels_in, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px; use `ResNet18` or `ResNet50`.

    Buffer `mean_shape` (P, 2) px holds the mean of the training labels; the last layer's
    unit is a sixteenth of the crop.
    """

    title: ClassVar[str]
    block: ClassVar[type[BasicBlock] | type[Bottleneck]]
    num_blocks: ClassVar[tuple[int, int, int, int]]

    def __init__(self, num_points: int, size: int, config: ResNetConfig):
        super().__init__()
        self.num_points, self.size = num_points, size
        w = config.width
        self.conv1 = nn.Conv2d(3, w, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        self.relu = nn.ReLU(inplace=True)
        pool = size >= 128 if config.max_pool is None else config.max_pool
        self.maxpool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        channels_in = w
        for stage, num_blocks in enumerate(self.num_blocks):
            channels, blocks = w * 2**stage, []
            for i in range(num_blocks):
                blocks.append(self.block(channels_in, channels, 2 if i == 0 and stage > 0 else 1))
                channels_in = channels * self.block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.mixstyle = MixStyle(config.mixstyle)
        self.flatten = size < 128 if config.head is None else config.head == "flatten"
        halvings = 5 if pool else 4
        side = -(-size // 2**halvings)  # each halving rounds up
        self.dropout = Dropout(config.dropout)
        self.fc = nn.Linear(channels_in * (side * side if self.flatten else 1), 2 * num_points)
        self.register_buffer("mean_shape", torch.zeros(num_points, 2))
        self.init_weights()

    def init_weights(self) -> None:
        """He et al.'s normal draws for convolutions; the last layer starts near zero, so that
        training starts at the mean shape."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, std=0.1 * self.fc.in_features**-0.5)
        nn.init.zeros_(self.fc.bias)

    def stages(self) -> list[nn.Module]:
        """The four stages of blocks."""
        return [getattr(self, f"layer{i}") for i in range(1, 5)]

    def features(self, image: Tensor) -> list[Tensor]:
        """Activations after the stem and after each stage, fine to coarse: a frozen
        detector as a perceptual network."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        found = [x]
        for i, stage in enumerate(self.stages()):
            x = stage(x)
            found.append(x := self.mixstyle(x) if i < 2 else x)
        return found

    def forward(self, image: Tensor) -> DetectorOutput:
        x = self.features(image)[-1]
        x = x.flatten(1) if self.flatten else x.mean(dim=(2, 3))
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            offsets = self.fc(self.dropout(x.float())).view(-1, self.num_points, 2)
            return DetectorOutput(self.mean_shape + offsets * (self.size / 16))


class ResNet18(ResNet):
    """Two basic blocks a stage (He et al. 2016, table 1)."""

    title, block, num_blocks = "ResNet-18", BasicBlock, (2, 2, 2, 2)


class ResNet50(ResNet):
    """3, 4, 6 and 3 bottlenecks (He et al. 2016, table 1)."""

    title, block, num_blocks = "ResNet-50", Bottleneck, (3, 4, 6, 3)


def fold_normalisation(kernel: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """First weights that expect (x - mean) / std of values in [0, 1], for values in [-1, 1].

    Args:
        kernel: (O, 3, k, k).
        mean, std: (3,) in [0, 1] units.

    Returns:
        the kernel for such values, and (O,) what it no longer adds to every place: to be added to a bias, or taken from
        the running mean of a normalisation. The same outputs away from a zero-padded border.
    """
    kernel = kernel.float()
    offset = torch.einsum("oihw,i->o", kernel, (0.5 - mean) / std)
    return kernel * (0.5 / std).view(1, 3, 1, 1), offset


def load_imagenet(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load everything but the last layer from a state dict with torchvision's names and shapes (width 64).

    Args:
        model: a ResNet-18 or ResNet-50, or a detector made of such: each of them is loaded.
        state: the file's names and tensors.
        where: the file's name for messages.

    Raises UserError naming the first key that does not fit, and where `model` holds no such network.
    """
    networks = [module for module in model.modules() if isinstance(module, ResNet)]
    if not networks:
        raise UserError(
            f"{where}: ImageNet weights load into a ResNet-18 or ResNet-50, and this detector holds "
            "neither: choose such a "
            f"network, or train without pretrained weights"
        )
    for network in networks:
        _load_imagenet(network, state, where)


def _load_imagenet(model: ResNet, state: Mapping[str, Tensor], where: str) -> None:
    """The factor of `fold_normalisation` goes into the first convolution and the offset into the running mean of the
    normalisation after it."""
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.") and k != "mean_shape"}
    for key, value in own.items():
        if key not in state:
            if key.endswith("num_batches_tracked"):
                continue  # files older than torch 0.4.1 lack these counters
            raise UserError(f"{where}: weight '{key}' is missing; expected a {model.title} with torchvision's names")
        if state[key].shape != value.shape:
            found, expected = tuple(state[key].shape), tuple(value.shape)
            hint = "; ImageNet weights need width 64, as in --resnet.width 64" if key == "conv1.weight" else ""
            raise UserError(f"{where}: weight '{key}' has shape {found}, expected {expected} of a {model.title}{hint}")
    for key in state:
        if key not in own and not key.startswith("fc."):
            raise UserError(f"{where}: weight '{key}' is unknown; expected a {model.title} with torchvision's names")
    loaded = {k: v for k, v in state.items() if k in own}
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    loaded["conv1.weight"], offset = fold_normalisation(state["conv1.weight"], mean, std)
    loaded["bn1.running_mean"] = state["bn1.running_mean"] - offset
    model.load_state_dict(loaded, strict=False)
