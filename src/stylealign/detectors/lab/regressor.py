"""LAB's regressor: landmarks from the picture, or from a trunk's features, and the boundaries drawn in it (LAB, CVPR
2018, section 3.1). Knows no losses and no files."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.together import Dropout
from stylealign.detectors.convolution import sides
from stylealign.detectors.hourglass import Hourglass, Residual, halvings
from stylealign.detectors.lab.config import LABConfig
from stylealign.detectors.resnet import BasicBlock


def input_fusion(image: Tensor, maps: Tensor) -> Tensor:
    """Each channel of the image, followed by it times each boundary map: (B, C, H, W), (B, K,
    h, w) -> (B, C * (1 + K), H, W). A trunk's features serve as an image does.

    Maps are enlarged to the image bilinearly (cell i of stride s lies at pixel s i + (s - 1) /
    2). LAB, CVPR 2018, section 3.1.
    """
    factors = F.pad(maps, (0, 0, 0, 0, 1, 0), value=1.0)
    factors = F.interpolate(factors, size=sides(image), mode="bilinear", align_corners=False)
    return torch.cat([channel * factors for channel in image.split(1, dim=1)], dim=1)


def average_to(maps: Tensor, features: Tensor) -> Tensor:
    """(B, K, H, W) maps at the size of (B, C, h, w) features: the mean of what each place
    covers, or the value it lies in.

    ONNX has no pooling to a given size; an export gets the same as products with two matrices of means.
    """
    if not torch.onnx.is_in_onnx_export():
        return F.adaptive_avg_pool2d(maps, (features.shape[2], features.shape[3]))
    for axis in (2, 3):
        cells, places = int(maps.shape[axis]), int(features.shape[axis])
        means = torch.zeros(places, cells)
        for i in range(places):
            covered = slice(i * cells // places, -(-(i + 1) * cells // places))
            means[i, covered] = 1 / (covered.stop - covered.start)
        if places != cells:
            maps = torch.from_numpy(means.numpy()) @ maps if axis == 2 else maps @ torch.from_numpy(means.T.numpy())
    return maps


class FeatureFusion(nn.Module):
    """F_out = F (+) F x T(M (+) F), (+) concatenating: features (B, C, h, w), maps (B, K, H, W) -> (B, 2 C, h, w).

    T is a small hourglass and a sigmoid (LAB, CVPR 2018, section 3.1): which features lie where they should.
    Maps are brought to the features' size by averaging (repeating, where they are smaller). T's width and
    depth are not stated in anything readable; chosen: half the features' channels, and one halving, none
    where that would leave a single cell.
    """

    def __init__(self, channels: int, num_maps: int, side: int):
        super().__init__()
        depth, half = min(1, halvings(side)), max(1, channels // 2)
        self.gate = nn.Sequential(
            nn.Conv2d(channels + num_maps, half, 1), Hourglass(depth, half) if depth else Residual(half, half),
            nn.BatchNorm2d(half), nn.ReLU(inplace=True), nn.Conv2d(half, channels, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:
        maps = average_to(maps, features)
        return torch.cat([features, features * self.gate(torch.cat([maps, features], dim=1))], dim=1)


class WholeMap(nn.Module):
    """What ends either regressor: a convolution over the whole last map (8x8 at 256 px) and a fully connected layer.

    The convolution's channels are not stated in anything readable, nor what follows it; chosen: `hidden`, layer
    normalisation and ReLU.
    """

    def end_with(self, before: int, side: int, num_points: int, config: LABConfig) -> None:
        """Make the layers, for last maps of `before` channels and `side` cells."""
        self.num_points = num_points
        # One cell is left, so layer and not batch normalisation: a batch of one must learn too.
        self.whole = nn.Sequential(
            nn.Conv2d(before, config.hidden, side), nn.Flatten(), nn.LayerNorm(config.hidden), nn.ReLU(inplace=True)
        )
        self.dropout = Dropout(config.dropout)
        self.fc = nn.Linear(config.hidden, 2 * num_points)

    def offsets(self, x: Tensor) -> Tensor:
        """(B, before, side, side) -> (B, P, 2)."""
        x = self.whole(x)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            return self.fc(self.dropout(x.float())).view(-1, self.num_points, 2)


class BoundaryRegressor(WholeMap):
    """Image (B, C, size, size) and boundary maps (B, K, h, w) -> offsets (B, P, 2) in sixteenths of the crop.

    A ResNet-18's four stages, then `WholeMap`.
    """

    def __init__(self, channels_in: int, num_maps: int, num_points: int, size: int, config: LABConfig):
        super().__init__()
        self.fuse_input = config.input_fusion
        w, pool = config.width, size >= 128 if config.max_pool is None else config.max_pool
        seen = channels_in * (1 + num_maps) if config.input_fusion else channels_in + num_maps
        self.stem = nn.Sequential(
            nn.Conv2d(seen, w, 7, 2, 3, bias=False), nn.BatchNorm2d(w), nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1) if pool else nn.Identity(),
        )  # fmt: skip
        side, before = -(-size // (4 if pool else 2)), w
        self.stages, self.fusions = nn.ModuleList(), nn.ModuleList()
        for stage in range(4):
            channels, stride = w * 2**stage, 1 if stage == 0 else 2
            self.stages.append(nn.Sequential(BasicBlock(before, channels, stride), BasicBlock(channels, channels, 1)))
            side, before = -(-side // stride), channels
            if stage >= 4 - config.feature_fusion:
                self.fusions.append(FeatureFusion(channels, num_maps, side))
                before = 2 * channels
        self.end_with(before, side, num_points, config)

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        if self.fuse_input:
            x = input_fusion(image, maps)
        else:
            x = torch.cat([image, F.interpolate(maps, size=sides(image), mode="bilinear", align_corners=False)], 1)
        x = self.stem(x)
        for stage, layers in enumerate(self.stages):
            x = layers(x)
            fusion = stage - (4 - len(self.fusions))
            if fusion >= 0:
                x = self.fusions[fusion](x, maps)
        return self.offsets(x)


class FeatureRegressor(WholeMap):
    """A trunk's features, fine to coarse, and boundary maps (B, K, h, w) -> offsets (B, P, 2) in sixteenths of the
    crop.

    What LAB's regressor is to the image, on a trunk (ours): the finest features and they times each boundary map are
    what it begins with (input fusion), residual blocks lead down from stride to stride, each added to the trunk's
    features there (the way down of PANet, Liu et al., CVPR 2018), and the boundary maps gate what each gives (feature
    fusion). So ImageNet's features reach the last layer at every stride, and what the maps say reaches all of them.
    """

    def __init__(
        self, channels: Sequence[int], num_maps: int, num_points: int, size: int, stride: int, config: LABConfig
    ):
        super().__init__()
        self.fuse_input = config.input_fusion
        first = channels[0] * (1 + num_maps) if config.input_fusion else channels[0] + num_maps
        widths = [config.width * 2**i for i in range(len(channels))]
        self.read = nn.ModuleList(
            nn.Sequential(nn.Conv2d(given, w, 1, bias=False), nn.BatchNorm2d(w))
            for given, w in zip((first, *channels[1:]), widths, strict=True)
        )
        side, before = -(-size // stride), widths[0]
        self.stages, self.fusions = nn.ModuleList(), nn.ModuleList()
        for stage, w in enumerate(widths):
            step = 1 if stage == 0 else 2
            self.stages.append(BasicBlock(before, w, step))
            side, before = -(-side // step), w
            if stage >= len(widths) - config.feature_fusion:
                self.fusions.append(FeatureFusion(w, num_maps, side))
                before = 2 * w
        self.end_with(before, side, num_points, config)

    def forward(self, features: Sequence[Tensor], maps: Tensor) -> Tensor:
        finest = input_fusion(features[0], maps) if self.fuse_input else torch.cat([features[0], maps], dim=1)
        x = F.relu(self.read[0](finest))
        for stage, layers in enumerate(self.stages):
            x = layers(x)
            x = x if stage == 0 else F.relu(x + self.read[stage](features[stage]))
            fusion = stage - (len(self.stages) - len(self.fusions))
            if fusion >= 0:
                x = self.fusions[fusion](x, maps)
        return self.offsets(x)
