"""A small feature pyramid (Lin et al., CVPR 2017): what a trunk sees at every stride, together at one."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.detectors.convolution import Conv2d, sides


def _separable(channels: int) -> list[nn.Module]:
    """A depthwise 3x3 and a 1x1 convolution (Howard et al. 2017), each with its normalisation and ReLU."""
    return [
        Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False), nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
    ]  # fmt: skip


def _enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(..., h, w) maps at another size; twice as large by the factor, which needs no other node in a traced graph."""
    height, width = sides(x)
    if size == (2 * height, 2 * width):
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class Pyramid(nn.Module):
    """Features, fine to coarse -> (B, width, h, w) at the finest's stride.

    1x1 convolutions bring each to the same channels; from the coarsest on, bilinear doubling, the next one added, two
    depthwise-separable convolutions.
    """

    def __init__(self, channels: Sequence[int], width: int):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.refine = nn.ModuleList(
            nn.Sequential(*_separable(width), *_separable(width)) for _ in range(max(1, len(channels) - 1))
        )
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                fan_in = conv.in_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
                lateral = any(conv is layer for layer in self.lateral)
                nn.init.normal_(conv.weight, std=((1 if lateral else 2) / fan_in) ** 0.5)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = self.lateral[-1](features[-1])
        if len(features) == 1:
            return self.refine[0](x)
        for i in reversed(range(len(features) - 1)):
            larger = _enlarged(x, sides(features[i]))
            x = self.refine[i](larger + self.lateral[i](features[i]))
        return x
