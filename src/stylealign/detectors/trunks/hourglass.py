"""A stacked hourglass (Newell et al., ECCV 2016) as a trunk, of the parts that LAB's has. Knows no files, no heads."""

from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.detectors.hourglass import Hourglass, Residual, halvings
from stylealign.detectors.trunks.mobile import init_convolutions, scaled

STACKS, CHANNELS, DEPTH = 2, 256, 3


class HourglassTrunk(nn.Module):
    """(B, 3, S, S) -> features at strides `finest` to `cut`.

    Two hourglasses at a quarter of the crop, each added to what it was given; coarser features are pooled from the last
    one, a residual unit each (chosen: an hourglass shows one resolution, and heads ask for several).
    """

    def __init__(self, size: int, width: float, cut: int, finest: int = 4):
        super().__init__()
        channels, self.skipped = scaled(CHANNELS, width), finest.bit_length() - 3
        quarter, half = max(1, channels // 4), max(1, channels // 2)
        depth = max(1, min(DEPTH, halvings(-(-size // 4))))
        self.stem = nn.Sequential(
            nn.Conv2d(3, quarter, 7, 2, 3, bias=False), nn.BatchNorm2d(quarter), nn.ReLU(inplace=True),
            Residual(quarter, half), nn.MaxPool2d(2, ceil_mode=True), Residual(half, half), Residual(half, channels),
        )  # fmt: skip
        self.stacks = nn.ModuleList(
            nn.Sequential(
                Hourglass(depth, channels), Residual(channels, channels),
                nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels),
            )
            for _ in range(STACKS)
        )  # fmt: skip
        self.coarser = nn.ModuleList(Residual(channels, channels) for _ in range(3 if cut == 32 else 2))
        init_convolutions(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        for stack in self.stacks:
            x = x + stack(x)
        found = [x]
        for layer in self.coarser:
            found.append(layer(F.max_pool2d(found[-1], 2, ceil_mode=True)))
        return found[self.skipped :]
