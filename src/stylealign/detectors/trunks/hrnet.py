"""HRNet-W18 (Wang et al., TPAMI 2020) as a trunk: branches at strides 4 to 32 side by side, that tell each other what
they see after every few blocks. Names are those of the authors' classification networks. Knows no files and no heads.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.detectors.convolution import sides
from stylealign.detectors.resnet import BasicBlock, Bottleneck
from stylealign.detectors.trunks.mobile import init_convolutions, scaled

STRIDES = (4, 8, 16, 32)
BLOCKS, MODULES = 4, (1, 4, 3)  # blocks a branch, modules of stages 2 to 4


def _conv(channels_in: int, channels: int, kernel: int, stride: int, relu: bool = True) -> nn.Sequential:
    last: list[nn.Module] = [nn.ReLU()] if relu else []
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels), *last
    )


class Exchange(nn.Module):
    """Blocks in every branch, then each branch gets the sum of all, brought to its size."""

    def __init__(self, channels: list[int], first: int = 0):
        super().__init__()
        self.first = first  # of the branches that are told of the others and answered
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c, c, 1) for _ in range(BLOCKS))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._way(channels, j, i) for j in range(len(channels))) if i >= first else nn.Identity()
            for i in range(len(channels))
        )

    @staticmethod
    def _way(channels: list[int], source: int, target: int) -> nn.Module:
        if source > target:  # enlarged afterwards, to the target's own side
            return _conv(channels[source], channels[target], 1, 1, relu=False)
        steps = [
            _conv(channels[source], channels[source if k < target - 1 else target], 3, 2, relu=k < target - 1)
            for k in range(source, target)
        ]
        return nn.Sequential(*steps) if steps else nn.Identity()

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        found = []
        for i, ways in enumerate(self.fuse_layers):
            if not isinstance(ways, nn.ModuleList):
                continue
            total = maps[i]
            for j, way in enumerate(ways):
                if j != i:
                    part = way(maps[j])
                    if j > i:
                        part = F.interpolate(part, size=sides(maps[i]), mode="nearest")
                    total = total + part
            found.append(F.relu(total))
        return found


class HRNetW18(nn.Module):
    """(B, 3, S, S) -> features at strides `finest` to `cut`; cut after 16, stage 4 and its branch are left out."""

    def __init__(self, size: int, width: float, cut: int, finest: int = 4):
        super().__init__()
        stem = scaled(64, width)
        self.conv1, self.bn1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
        self.conv2, self.bn2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem)
        self.layer1 = nn.Sequential(
            Bottleneck(stem, stem, 1), *(Bottleneck(4 * stem, stem, 1) for _ in range(BLOCKS - 1))
        )
        self.num_stages = 3 if cut == 32 else 2
        before = [4 * stem]
        for stage in range(self.num_stages):
            channels = [scaled(18 * 2**i, width) for i in range(stage + 2)]
            ways: list[nn.Module] = [
                nn.Identity() if c == b and stage else _conv(b, c, 3, 1) for b, c in zip(before, channels, strict=False)
            ]
            ways.append(nn.Sequential(_conv(before[-1], channels[-1], 3, 2)))
            setattr(self, f"transition{stage + 1}", nn.ModuleList(ways))
            modules = [Exchange(channels) for _ in range(MODULES[stage])]
            if stage == self.num_stages - 1:
                modules[-1] = Exchange(channels, STRIDES.index(finest))
            setattr(self, f"stage{stage + 2}", nn.Sequential(*modules))
            before = channels
        init_convolutions(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(image)))
        maps = [self.layer1(F.relu(self.bn2(self.conv2(x))))]
        for stage in range(self.num_stages):
            ways = getattr(self, f"transition{stage + 1}")
            sources = [*maps, maps[-1]]
            maps = [way(source) for way, source in zip(ways, sources, strict=True)]
            for module in getattr(self, f"stage{stage + 2}"):
                maps = module(maps)
        return maps
