"""LAB, Look at Boundary (Wu et al., CVPR 2018): boundaries are drawn first, then landmarks are
regressed from the picture and them.

The drawing network is hourglass.py, its messages messages.py, its adversary learning.py. Knows no files.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.together import Dropout
from stylealign.data.image import LUMA
from stylealign.detectors.lab.hourglass import BoundaryEstimator, Hourglass, Residual
from stylealign.detectors.lab.messages import boundary_tree
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import BasicBlock
from stylealign.errors import UserError, counted
from stylealign.face.schema import LandmarkSchema


@dataclass(frozen=True, kw_only=True, slots=True)
class LABConfig:
    """The network's shape, and how it learns."""

    stacks: int = 4
    """Hourglasses one after another; its authors: fewer of them hurts more than fewer channels."""
    channels: int = 256
    """Of the hourglasses; 32 fits a CPU."""
    depth: int = 4
    """How often each hourglass halves the map."""
    stride: int | None = None
    """Pixels of the crop per cell of the boundary maps. Not given: 2 below 128 px, else 4."""
    sigma: float = 1.0
    """Width of a drawn boundary in cells."""
    grayscale: bool = True
    """Look at brightness alone."""
    message_passing: bool = True
    """Boundaries tell each other what they see. False: the simplified model its authors call `wo_mp`."""
    message_kernel: int = 3
    """Side of the messages' convolutions."""
    width: int = 64
    """Channels of the regressor's first convolution; 16 fits a CPU."""
    max_pool: bool | None = None
    """The regressor halves the resolution after its first convolution; not given: from 128 px upwards."""
    hidden: int = 512
    """Channels of the convolution over the whole last map."""
    input_fusion: bool = True
    """The regressor sees the image times each boundary map beside the image."""
    feature_fusion: int = 4
    """How many of the regressor's four stages, counted from the last, are gated by the boundary maps."""
    dropout: float = 0.4
    """Before the last layer."""
    boundary_weight: float = 1.0
    """Of the squared error of the boundary maps, summed over a map's cells and over stacks."""
    adversarial_weight: float = 0.1
    """Of the adversary's loss. 0: no adversary."""
    adversarial_from: float = 0.75
    """Fraction of the training after which the adversary joins."""
    near: float = 1.5
    """A landmark is near its boundary within this many 64ths of the crop."""
    enough: float = 0.8
    """Maps are effective where at least this share of landmarks is near."""

    def __post_init__(self) -> None:
        if min(self.stacks, self.channels, self.depth, self.width, self.hidden) < 1:
            raise ValueError(
                f"lab of {counted(self.stacks, 'stack')}, {counted(self.channels, 'channel')}, depth {self.depth}, "
                f"width {self.width}, hidden {self.hidden}: expected at least 1 of each"
            )
        if self.stride not in (None, 2, 4) or self.message_kernel % 2 == 0 or not 0 <= self.feature_fusion <= 4:
            raise ValueError(
                f"lab with stride {self.stride}, message_kernel {self.message_kernel}, feature_fusion "
                f"{self.feature_fusion}: expected "
                "2, 4 or none, an odd number, and 0 to 4 stages"
            )
        if not (self.sigma > 0 and self.near > 0 and 0 <= self.dropout < 1):
            raise ValueError(
                f"lab with sigma {self.sigma}, near {self.near}, dropout {self.dropout}: expected above 0, "
                "above 0, 0 to below 1"
            )
        shares = (self.adversarial_from, self.enough)
        if min(self.boundary_weight, self.adversarial_weight) < 0 or not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                f"lab with boundary_weight {self.boundary_weight}, adversarial_weight "
                f"{self.adversarial_weight}, adversarial_from "
                f"{self.adversarial_from}, enough {self.enough}: expected weights of 0 or more, and 0 to 1"
            )

    def map_stride(self, size: int) -> int:
        """Pixels per cell of the boundary maps, for a crop of this side."""
        return self.stride or (4 if size >= 128 else 2)


def halvings(side: int) -> int:
    """How often a map can be halved before a single cell is left, which batch normalisation could
    not learn from in a batch of one.

    >>> halvings(64), halvings(4), halvings(3), halvings(2)
    (5, 1, 1, 0)
    """
    return max(0, (side - 1).bit_length() - 1)


def brightness(image: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 1, H, W), the luma of ITU-R BT.601."""
    return torch.einsum("bchw,c->bhw", image, image.new_tensor(LUMA))[:, None]


def input_fusion(image: Tensor, maps: Tensor) -> Tensor:
    """Each channel of the image, followed by it times each boundary map: (B, C, H, W), (B, K,
    h, w) -> (B, C * (1 + K), H, W).

    Maps are enlarged to the image bilinearly (cell i of stride s lies at pixel s i + (s - 1) /
    2). LAB, CVPR 2018, section 3.1.
    """
    factors = F.pad(maps, (0, 0, 0, 0, 1, 0), value=1.0)
    factors = F.interpolate(factors, size=image.shape[-2:], mode="bilinear", align_corners=False)
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


class BoundaryRegressor(nn.Module):
    """Image (B, C, size, size) and boundary maps (B, K, h, w) -> offsets (B, P, 2) in sixteenths of the crop.

    A ResNet-18's four stages; then a convolution over the whole last map (8x8 at 256 px) and a fully connected
    layer. The convolution's channels are not stated in anything readable, nor what follows it; chosen:
    `hidden`, layer normalisation and ReLU.
    """

    def __init__(self, channels_in: int, num_maps: int, num_points: int, size: int, config: LABConfig):
        super().__init__()
        self.num_points, self.fuse_input = num_points, config.input_fusion
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
        # One cell is left, so layer and not batch normalisation: a batch of one must learn too.
        self.whole = nn.Sequential(
            nn.Conv2d(before, config.hidden, side), nn.Flatten(), nn.LayerNorm(config.hidden), nn.ReLU(inplace=True)
        )
        self.dropout = Dropout(config.dropout)
        self.fc = nn.Linear(config.hidden, 2 * num_points)

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        if self.fuse_input:
            x = input_fusion(image, maps)
        else:
            x = torch.cat([image, F.interpolate(maps, size=image.shape[-2:], mode="bilinear", align_corners=False)], 1)
        x = self.stem(x)
        for stage, layers in enumerate(self.stages):
            x = layers(x)
            fusion = stage - (4 - len(self.fusions))
            if fusion >= 0:
                x = self.fusions[fusion](x, maps)
        x = self.whole(x)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            return self.fc(self.dropout(x.float())).view(-1, self.num_points, 2)


class LAB(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px, boundary maps (B, K, h, w) of the last
    stack; `stages` holds the maps of every stack, first to last.

    Buffer `mean_shape` (P, 2) px holds the mean of the training labels, as in resnet.py. The
    schema needs boundaries: UserError.
    """

    def __init__(self, schema: LandmarkSchema, size: int, config: LABConfig):
        super().__init__()
        num_maps = len(schema.boundaries)
        if num_maps == 0:
            raise UserError(
                f"lab draws facial boundaries, and schema {schema.name} has none: list its curves under "
                "`boundaries` in the schema's "
                "YAML, or choose another detector"
            )
        self.size, self.config = size, config
        channels_in, stride = 1 if config.grayscale else 3, config.map_stride(size)
        depth = max(1, min(config.depth, halvings(-(-size // stride))))
        self.estimator = BoundaryEstimator(
            channels_in, num_maps, stacks=config.stacks, channels=config.channels, depth=depth, stride=stride,
            parents=boundary_tree(schema) if config.message_passing else None,
            kernel=config.message_kernel,
        )  # fmt: skip
        self.regressor = BoundaryRegressor(channels_in, num_maps, schema.num_points, size, config)
        self.register_buffer("mean_shape", torch.zeros(schema.num_points, 2))
        self.init_weights()

    def init_weights(self) -> None:
        """He et al.'s normal draws for convolutions; the last layer starts near zero, so that
        training starts at the mean shape."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for stack in self.estimator.stacks:
            nn.init.normal_(stack.draw.weight, std=0.01)  # type: ignore[union-attr,arg-type]  # maps start empty
        nn.init.kaiming_normal_(self.regressor.whole[0].weight, nonlinearity="relu")  # type: ignore[arg-type]  # one place comes out
        fc = self.regressor.fc
        nn.init.normal_(fc.weight, std=0.1 * fc.in_features**-0.5)
        nn.init.zeros_(fc.bias)

    def forward(self, image: Tensor) -> DetectorOutput:
        if self.config.grayscale:
            image = brightness(image)
        maps = self.estimator(image)
        offsets = self.regressor(image, maps[-1])
        with torch.autocast(image.device.type, enabled=False):
            landmarks = self.mean_shape + offsets * (self.size / 16)
        return DetectorOutput(landmarks, boundaries=maps[-1], stages=maps)
