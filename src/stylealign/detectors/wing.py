"""The networks of the Wing loss (Feng et al., CVPR 2018): plain convolutional regressors of landmark
coordinates, in one stage or two.

The loss itself is losses.wing and goes under any detector; pose-based data balancing is face/pose.py. The last layer
predicts each landmark's offset from the mean shape of the training faces, in sixteenths of the crop, as in resnet.py:
our choice, the original predicts the coordinates. Knows no files.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.detectors.heads.parts import started
from stylealign.detectors.learning import Learner, Learning, learn_coordinates
from stylealign.detectors.losses import landmark_loss, mean_error
from stylealign.detectors.mixstyle import MixStyle, MixStyleConfig
from stylealign.detectors.on_trunk import LAST, LastFeatures, refuse_lone_faces
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNet50, ResNetConfig
from stylealign.detectors.trunk_choice import TrunkName, refuse_beside_trunk
from stylealign.detectors.trunks import build_trunk
from stylealign.training.optim import set_lr

_NUM_BLOCKS = {"cnn6": 5, "cnn7": 6}
_WIDENINGS = 4  # filters double from block to block this often: 32 .. 512


@dataclass(frozen=True, kw_only=True, slots=True)
class WingConfig:
    """The network's shape."""

    network: Literal["cnn6", "cnn7", "resnet50"] = "cnn6"
    """`cnn6`: five blocks, made for crops of 64 px. `cnn7`: six, for 128 px. `resnet50`: for 224 to 256 px."""
    width: int | None = None
    """Filters of the first convolution. Not given: 32 (512 at the fifth block) for the CNNs, as we know
    the paper without having read it again, and 64 for ResNet-50. The CNNs whose weights the authors
    released have twice as many filters."""
    hidden: int = 1024
    """Units of the CNNs' first fully connected layer (known as the width is)."""
    batch_norm: bool = True
    """Batch normalisation after each convolution of the CNNs. The original's have none, as far as we know; with it a
    short training ends clearly lower, at any learning rate tried, for the same time."""
    two_stage: bool = False
    """A second network of the same shape looks again at the face, turned upright and cut anew by the first
    one's landmarks, for twice the time. Pays where boxes are rough; crops cut by the labels already stand
    about where it would put them."""
    mixstyle: MixStyleConfig = field(default_factory=MixStyleConfig)
    """In training, after the first and the second block (or stage)."""
    trunk: TrunkName | None = None
    """The CNNs' fully connected layers on the last features of this trunk, one of fpn's; --pretrained then takes its
    ImageNet weights. With two stages each has a trunk of its own."""
    trunk_width: float = 1.0
    """Of that trunk, over its usual one; ImageNet weights need 1."""

    def __post_init__(self) -> None:
        refuse_beside_trunk(self, "wing", "network", "width", "batch_norm", "mixstyle")
        if (self.width is not None and self.width < 1) or self.hidden < 1:
            raise ValueError(f"wing of width {self.width} and hidden {self.hidden}: expected at least 1 of each")


def rescaled(width: float, epsilon: float, pixels_per_unit: float) -> tuple[float, float]:
    """The Wing loss's width and epsilon for coordinates that are not in pixels of the network's input.

    Both are lengths, so both shrink with the coordinates: wing(e / s; w / s, epsilon / s) * s = wing(e; w, epsilon).
    The loss comes out smaller by the factor s, and the learning rate has to grow by it under plain SGD (the authors
    advise the same: Wing-Loss issue 6). Not needed in this library, whose detectors all answer in pixels.

    Args:
        width: w in pixels, 10 in the paper.
        epsilon: in pixels, 2 in the paper.
        pixels_per_unit: s; the side of the input in pixels where coordinates run from 0 to 1.

    Returns:
        (w / s, epsilon / s).
    """
    if not pixels_per_unit > 0:
        raise ValueError(f"pixels_per_unit is {pixels_per_unit}, expected above 0")
    return width / pixels_per_unit, epsilon / pixels_per_unit


class WingCNN(nn.Module):
    """CNN-6 or CNN-7: (B, 3, size, size) -> offsets (B, P, 2) in crop px.

    Blocks of a 3x3 convolution, ReLU and 2x2 max-pooling, then two fully connected layers. Filters double up
    to the fifth block; how many the sixth of CNN-7 has is not stated in anything readable; chosen: as many as
    the fifth, so that the fully connected layers are those of CNN-6. Sides that do not halve are rounded up,
    so that small crops keep a cell.
    """

    def __init__(self, num_points: int, size: int, config: WingConfig):
        super().__init__()
        self.num_points, self.unit = num_points, size / 16
        blocks: list[nn.Module] = []
        channels_in, side = 3, size
        for i in range(_NUM_BLOCKS[config.network]):
            channels = (config.width or 32) * 2 ** min(i, _WIDENINGS)
            blocks.append(nn.Conv2d(channels_in, channels, 3, 1, 1, bias=not config.batch_norm))
            if config.batch_norm:
                blocks.append(nn.BatchNorm2d(channels))
            blocks += [nn.ReLU(inplace=True), nn.MaxPool2d(2, ceil_mode=True)]
            channels_in, side = channels, -(-side // 2)
        self.blocks = nn.Sequential(*blocks)
        self.mixstyle = MixStyle(config.mixstyle)
        self.hidden = nn.Linear(channels_in * side * side, config.hidden)
        self.fc = nn.Linear(config.hidden, 2 * num_points)
        self.init_weights()

    def init_weights(self) -> None:
        """He et al.'s normal draws; the last layer starts near zero, so that training starts at the mean shape."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.fc.weight, std=0.1 * self.fc.in_features**-0.5)

    def forward(self, image: Tensor) -> Tensor:
        x, pools = image, 0
        for layer in self.blocks:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pools += 1
                x = self.mixstyle(x) if pools <= 2 else x
        x = F.relu(self.hidden(x.flatten(1)))
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            return self.fc(x.float()).view(-1, self.num_points, 2) * self.unit


class WingResNet(nn.Module):
    """ResNet-50: (B, 3, size, size) -> offsets (B, P, 2) in crop px."""

    def __init__(self, num_points: int, size: int, config: WingConfig):
        super().__init__()
        self.resnet = ResNet50(num_points, size, ResNetConfig(width=config.width or 64, mixstyle=config.mixstyle))

    def forward(self, image: Tensor) -> Tensor:
        return self.resnet(image).landmarks  # its own mean shape stays 0


class WingTrunk(nn.Module):
    """The last features of a trunk under the fully connected layers of the CNNs: (B, 3, size, size) -> offsets (B, P,
    2) in crop px."""

    def __init__(self, num_points: int, size: int, config: WingConfig):
        super().__init__()
        assert config.trunk is not None
        self.num_points, self.unit = num_points, size / 16
        self.trunk, (channels,) = build_trunk(config.trunk, size, config.trunk_width, LAST, LAST)
        self.last = LastFeatures(channels, size, flatten=True)
        self.hidden = nn.Linear(self.last.numbers, config.hidden)
        self.fc = nn.Linear(config.hidden, 2 * num_points)
        started(self.hidden, 2**0.5)
        started(self.fc, 0.1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.hidden(self.last(self.trunk(image))))
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            return self.fc(x.float()).view(-1, self.num_points, 2) * self.unit


def upright(landmarks: Tensor, mean_shape: Tensor) -> Tensor:
    """(B, 2, 3) similarities that turn each face upright and bring it to where, and as large
    as, the mean shape is in the crop.

    The least-squares fit onto the mean shape (Procrustes), which averages over all landmarks; a crop by the tight box
    round them hangs on four, and in a trial on 300-W (800 updates, one seed) the second stage then gained a sixth as
    much. The zoom stays within a factor of two, so that a poor answer cannot zoom to nothing. What the original does
    exactly is not stated in anything readable beyond "rotates and crops again"; chosen.

    Args:
        landmarks: (B, P, 2) px.
        mean_shape: (P, 2) px.
    """
    centre, centre_mean = landmarks.mean(dim=1), mean_shape.mean(dim=0)
    a, b = landmarks - centre[:, None], mean_shape - centre_mean
    along = (a * b).sum(dim=(1, 2))
    across = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(dim=1)
    angle = torch.atan2(across, along)
    zoom = ((along.square() + across.square()).sqrt() / a.square().sum(dim=(1, 2)).clamp_min(1e-9)).clamp(0.5, 2.0)
    c, s = zoom * angle.cos(), zoom * angle.sin()
    linear = torch.stack([torch.stack([c, -s], dim=1), torch.stack([s, c], dim=1)], dim=1)  # (B, 2, 2)
    return torch.cat([linear, centre_mean[:, None] - linear @ centre[..., None]], dim=2)


def undo(similarity: Tensor) -> Tensor:
    """(B, 2, 3) inverses of similarities, without a solver."""
    inverse = similarity[:, :, :2].transpose(1, 2) / similarity[:, :, :2].square().sum(dim=(1, 2), keepdim=True) * 2
    return torch.cat([inverse, -inverse @ similarity[:, :, 2:]], dim=2)


def move(to_from: Tensor, landmarks: Tensor) -> Tensor:
    """Map (B, P, 2) landmarks through (B, 2, 3) affines."""
    return landmarks @ to_from[:, :, :2].transpose(1, 2) + to_from[:, None, :, 2]


def resample(image: Tensor, in_from_out: Tensor) -> Tensor:
    """Cut (B, C, S, S) again through (B, 2, 3) pixel affines: bilinear, border pixels replicated.

    augment.warp in the affine's own precision (not every device has float64) and with the inverse at hand. A pixel x of
    S lies at (2 x + 1) / S - 1 in the units of `grid_sample` with align_corners=False.
    """
    size, linear = image.shape[-1], in_from_out[:, :, :2]
    middle = linear.sum(dim=2, keepdim=True) * (size - 1) / 2 + in_from_out[:, :, 2:]  # where the middle comes from
    ticks = (2 * torch.arange(size, device=image.device, dtype=linear.dtype) + 1) / size - 1
    x, y = (linear[:, None, None, :, i] * t[..., None] for i, t in ((0, ticks[None, None]), (1, ticks[None, :, None])))
    # F.affine_grid, written out: an ONNX file then holds it with any number of faces.
    grid = x + y + ((2 * middle + 1) / size - 1)[:, None, None, :, 0]
    cut = F.grid_sample(image.contiguous(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.contiguous(memory_format=torch.channels_last)


class Wing(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px; `stages` holds the
    first stage's, where there are two.

    Buffer `mean_shape` (P, 2) px holds the mean of the training labels. No gradient goes from the second stage to the
    first: only where the second looks depends on it (Wing-Loss issue 11).
    """

    mean_shape: Tensor

    def __init__(self, num_points: int, size: int, config: WingConfig):
        super().__init__()
        plain = WingResNet if config.network == "resnet50" else WingCNN
        network: Callable[[int, int, WingConfig], nn.Module] = plain if config.trunk is None else WingTrunk
        self.first = network(num_points, size, config)
        self.second = network(num_points, size, config) if config.two_stage else None
        self.register_buffer("mean_shape", torch.zeros(num_points, 2))

    def forward(self, image: Tensor) -> DetectorOutput:
        found = self.mean_shape + self.first(image)
        if self.second is None:
            return DetectorOutput(found)
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            out_from_in = upright(found.float(), self.mean_shape)
            in_from_out = undo(out_from_in)
            again = resample(image.float(), in_from_out)
        landmarks = self.mean_shape + self.second(again)
        with torch.autocast(image.device.type, enabled=False):
            return DetectorOutput(move(in_from_out, landmarks.float()), stages=(found,))


def learn_wing(learning: Learning) -> Learner:
    """The usual way for one stage. For two, the losses of both stages' landmarks are summed; their weight is not stated
    in anything readable, nor whether the stages learn together; chosen: 1, together, as each has parameters of its own.
    """
    refuse_lone_faces(learning, "wing")
    if learning.model.second is None:
        return learn_coordinates(learning)
    engine = learning.engine
    model, optimizer = engine.setup(learning.model, learning.optimizer_of(learning.model))

    def update(batches: tuple[Batch, ...], step: int) -> dict[str, Tensor]:
        (batch,) = batches
        set_lr(optimizer, learning.lr_at(step))
        out = model(batch.image)
        first, second = (
            landmark_loss(found, batch.landmarks, batch.visible, batch.weights(), learning.loss)
            for found in (*out.stages, out.landmarks)
        )
        total = first + second
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()
        error = mean_error(out.landmarks, batch.landmarks)
        return {"total": total, "first": first, "second": second, "error_px": error}

    return Learner(modules={"model": model}, optimizers={"model": optimizer}, update=update)
