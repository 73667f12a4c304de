"""The hourglass (Newell et al., ECCV 2016) in the form that LAB and the trunk `hourglass` have. Knows no landmarks and
no losses."""

from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.detectors.convolution import sides


def halvings(side: int) -> int:
    """How often a map can be halved before a single cell is left, which batch normalisation could
    not learn from in a batch of one.

    >>> halvings(64), halvings(4), halvings(3), halvings(2)
    (5, 1, 1, 0)
    """
    return max(0, (side - 1).bit_length() - 1)


class Residual(nn.Module):
    """Pre-activated bottleneck: 1x1 to a quarter of the channels, 3x3, 1x1, and a shortcut (LAB issue 5:
    a quarter, not Newell's half)."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        middle = max(1, channels // 4)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels_in), nn.ReLU(inplace=True), nn.Conv2d(channels_in, middle, 1, bias=False),
            nn.BatchNorm2d(middle), nn.ReLU(inplace=True), nn.Conv2d(middle, middle, 3, 1, 1, bias=False),
            nn.BatchNorm2d(middle), nn.ReLU(inplace=True), nn.Conv2d(middle, channels, 1),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.shortcut(x)


class Hourglass(nn.Module):
    """(B, C, h, w) -> the same shape: down by two `depth` (1 or more) times and up again, a
    residual unit across at every scale."""

    def __init__(self, depth: int, channels: int):
        super().__init__()
        self.across = Residual(channels, channels)
        self.down = Residual(channels, channels)
        self.inner = Hourglass(depth - 1, channels) if depth > 1 else Residual(channels, channels)
        self.up = Residual(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        low = F.max_pool2d(x, 2, ceil_mode=True)  # odd sides keep their last row
        low = self.up(self.inner(self.down(low)))
        return self.across(x) + F.interpolate(low, size=sides(x), mode="nearest")
