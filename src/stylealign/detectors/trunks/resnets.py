"""ResNet-18 and ResNet-50 (He et al., CVPR 2016) as trunks, of the blocks of detectors/resnet.py and with torchvision's
names. Knows no files and no heads."""

from functools import partial

from torch import Tensor, nn

from stylealign.detectors.resnet import BasicBlock, Bottleneck
from stylealign.detectors.trunks.mobile import init_convolutions, scaled


class ResNetTrunk(nn.Module):
    """(B, 3, S, S) -> features at strides `finest` to `cut`; its pool stays at any crop."""

    def __init__(
        self, size: int, width: float, cut: int, finest: int = 4, *, block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
    ):  # fmt: skip
        super().__init__()
        channels_in = scaled(64, width)
        self.conv1 = nn.Conv2d(3, channels_in, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.num_stages, self.finest = (4 if cut == 32 else 3), finest
        for stage in range(self.num_stages):
            channels, layers = scaled(64, width) * 2**stage, []
            for i in range(blocks[stage]):
                layers.append(block(channels_in, channels, 2 if i == 0 and stage > 0 else 1))
                channels_in = channels * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        init_convolutions(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        x, found = self.maxpool(self.relu(self.bn1(self.conv1(image)))), []
        for stage in range(self.num_stages):
            x = getattr(self, f"layer{stage + 1}")(x)
            if 4 * 2**stage >= self.finest:
                found.append(x)
        return found


resnet18 = partial(ResNetTrunk, block=BasicBlock, blocks=(2, 2, 2, 2))
resnet50 = partial(ResNetTrunk, block=Bottleneck, blocks=(3, 4, 6, 3))
