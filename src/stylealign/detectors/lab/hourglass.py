"""Stacked hourglasses that draw facial boundaries (LAB, CVPR 2018, section 3.2), or a trunk and a pyramid that do.

Image in, a map per boundary and stack out. Knows no landmarks, no losses and no training.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from stylealign.detectors.heads.pyramid import Pyramid
from stylealign.detectors.hourglass import Hourglass, Residual
from stylealign.detectors.lab.messages import BlockConv, MessagePassing, levels


class Stack(nn.Module):
    """An hourglass and what it draws: (B, C, h, w) -> maps (B, K, h, w), the next stack's
    input, and what each boundary knows.

    With a tree, features are split by boundary. Each boundary gets a message from itself in the stack before
    (inter-level messages, 1x1 convolutions), then from the other boundaries (intra-level messages), and its map is
    drawn from its own features. Without (`parents` None), maps are drawn from all features at once, as in Newell et
    al. Depth 0 leaves the hourglass out: what comes in is what a map is drawn from.
    """

    def __init__(
        self, num: int, channels: int, depth: int, parents: Sequence[int] | None, kernel: int, first: bool, last: bool
    ):
        super().__init__()
        self.hourglass = nn.Sequential(
            Hourglass(depth, channels), Residual(channels, channels),
            nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
        ) if depth else nn.Identity()  # fmt: skip
        drawn_from, self.split, self.from_before, self.messages = channels, None, None, None
        self.draw: nn.Module = nn.Conv2d(channels, num, 1)
        if parents is not None:
            each = max(2, channels // num)
            drawn_from = num * each
            self.split = nn.Sequential(nn.Conv2d(channels, drawn_from, 1, bias=False), nn.BatchNorm2d(drawn_from))
            # Features lie level by level, root first; only the maps are in the schema's order.
            order = [(place, boundary) for place, boundary in enumerate(i for level in levels(parents) for i in level)]
            if not first:
                self.from_before = BlockConv([(i, i) for i in range(num)], num, num, each, each, 1)
                # What comes in has gone through messages, which no normalisation holds: passed on at full strength it
                # grows five times a stack, to 6,000 at the fourth. From nothing, every stack starts as the first does.
                nn.init.zeros_(self.from_before.weight)
            self.messages = MessagePassing(parents, each, kernel)
            self.draw = BlockConv(order, num, num, each, 1, 1)
        self.merge = None if last else nn.Conv2d(drawn_from, channels, 1)
        self.remap = None if last else nn.Conv2d(num, channels, 1)

    def forward(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        features = self.hourglass(x)
        if self.split is not None and self.messages is not None:
            features = self.split(features)
            if self.from_before is not None:
                features = features + self.from_before(before)
            features = self.messages(features)
        maps = self.draw(features)
        if self.merge is not None and self.remap is not None:
            x = x + self.merge(features) + self.remap(maps)
        return maps, x, features


class BoundaryEstimator(nn.Module):
    """(B, 1 or 3, size, size) -> boundary maps of every stack, first to last, each (B,
    K, size / stride, size / stride).

    Args:
        channels_in: of the image.
        num: boundaries K.
        stacks: hourglasses one after another.
        channels: of the hourglasses.
        depth: how often each halves the map.
        stride: of the maps, 2 or 4.
        parents: the tree messages are passed along; None: no messages.
        kernel: of the messages.
    """

    def __init__(
        self, channels_in: int, num: int, *, stacks: int, channels: int, depth: int, stride: int,
        parents: Sequence[int] | None, kernel: int = 3,
    ):  # fmt: skip
        super().__init__()
        quarter, half = max(1, channels // 4), max(1, channels // 2)
        self.stem = nn.Sequential(
            nn.Conv2d(channels_in, quarter, 7, 2, 3, bias=False), nn.BatchNorm2d(quarter), nn.ReLU(inplace=True),
            Residual(quarter, half), nn.MaxPool2d(2) if stride == 4 else nn.Identity(),
            Residual(half, half), Residual(half, channels),
        )  # fmt: skip
        self.stacks = nn.ModuleList(
            Stack(num, channels, depth, parents, kernel, first=i == 0, last=i == stacks - 1) for i in range(stacks)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x, features, found = self.stem(image), None, []
        for stack in self.stacks:
            maps, x, features = stack(x, features)
            found.append(maps)
        return tuple(found)


class PyramidEstimator(nn.Module):
    """A trunk's features, fine to coarse -> boundary maps at the finest's stride, as `BoundaryEstimator` answers them
    with one stack: a pyramid stands where its hourglass does, and messages pass as they do there."""

    def __init__(
        self, trunk_channels: Sequence[int], num: int, *, channels: int, parents: Sequence[int] | None, kernel: int = 3
    ):
        super().__init__()
        self.pyramid = Pyramid(trunk_channels, channels)
        self.stacks = nn.ModuleList([Stack(num, channels, 0, parents, kernel, first=True, last=True)])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps, _, _ = self.stacks[0](self.pyramid(features), None)
        return (maps,)
