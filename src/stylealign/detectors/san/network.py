"""SAN, the style-aggregated network (Dong et al., CVPR 2018): a cascade of heatmaps that sees every face twice, as it
is and with its photographic style averaged away by two frozen generators (cyclegan.py).

`aggregate: false` leaves the second look out: the plain cascade, a convolutional pose machine (Wei et al., CVPR
2016) on VGG-16. Knows no files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stylealign.batches.batch import Batch
from stylealign.detectors.heads.pyramid import Pyramid
from stylealign.detectors.heatmap import decode, map_loss, map_weights, target_maps
from stylealign.detectors.learning import Learner, Learning
from stylealign.detectors.losses import mean_error
from stylealign.detectors.on_trunk import LAST, refuse_lone_faces
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import IMAGENET_MEAN, IMAGENET_STD, fold_normalisation
from stylealign.detectors.san.cyclegan import GeneratorConfig, Generators
from stylealign.detectors.trunk_choice import TrunkName, refuse_beside_trunk
from stylealign.detectors.trunks import build_trunk
from stylealign.errors import UserError
from stylealign.progress import say
from stylealign.training.optim import set_lr

# VGG-16's convolutions up to conv4_3, in widths of the first one; "pool" halves. Order and indices are torchvision's.
_TRUNK = (1, 1, "pool", 2, 2, "pool", 4, 4, 4, "pool", 8, 8, 8)
_STAGES_LR, _BIAS_LR = 4.0, 2.0  # learning rates of stages 2 and 3, and of biases, over the rest's (published)


@dataclass(frozen=True, kw_only=True, slots=True)
class SANConfig:
    """The network's shape."""

    aggregate: bool = True
    """Look at the style-aggregated face as well; off: the plain cascade, without generators."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    """Of the two generators; those of a finished `train-styles` run must have this shape."""
    width: int = 64
    """Channels of the first convolution of the VGG-16 trunk; 64 as published."""
    features: int = 128
    """Channels that the stages see of each look at the face."""
    hidden: int = 128
    """Channels inside the stages. Their last convolution mixes them into a map a landmark and one more:
    with fewer channels than maps the maps cannot all be right at once (at 64 px with 68 points 32 are
    still worth it, for their speed)."""
    top: int = 512
    """Channels of stage 1's first 1x1 convolution."""
    kernel: int = 7
    """Side of the wide convolutions of stages 2 and 3."""
    stride: Literal[4, 8] | None = None
    """Pixels a cell of the maps. Not given: 8 as published from 128 px upwards, else 4, so that 64 px
    have the paper's 16 x 16 cells."""
    batch_norm: bool = True
    """Batch normalisation after each convolution but the last of a stage. The published network has none and starts
    from ImageNet weights; from nothing, a plain VGG with 20 layers more behind it hardly learns."""
    sigma: float = 1 / 32
    """Of the Gaussians in the target maps, over the crop's side: 4 px of 128 as published."""
    patch: int = 3
    """The centroid is taken over 2 x patch + 1 cells a side."""
    trunk: TrunkName | None = None
    """Look through this trunk, one of fpn's, and a small pyramid with `features` channels instead of VGG-16;
    --pretrained then takes its ImageNet weights."""
    trunk_width: float = 1.0
    """Of that trunk, over its usual one; ImageNet weights need 1."""

    def __post_init__(self) -> None:
        refuse_beside_trunk(self, "san", "width")
        if min(self.width, self.hidden, self.top, self.patch) < 1 or self.features < 1:
            raise ValueError("san: expected width, features, hidden, top and patch of at least 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"san.kernel is {self.kernel}, expected an odd number")
        if not self.sigma > 0:
            raise ValueError(f"san.sigma is {self.sigma}, expected above 0")


def _conv(channels_in: int, channels: int, kernel: int, batch_norm: bool) -> list[nn.Module]:
    """A convolution that keeps the resolution, its normalisation, ReLU. Its bias stays, as
    torchvision's VGG with and without has it."""
    norm: list[nn.Module] = [nn.BatchNorm2d(channels)] if batch_norm else []
    return [nn.Conv2d(channels_in, channels, kernel, 1, kernel // 2), *norm, nn.ReLU(inplace=True)]


def _chain(channels: list[int], kernels: list[int], batch_norm: bool) -> nn.Sequential:
    """Convolutions one after another, the last without normalisation and ReLU."""
    layers: list[nn.Module] = []
    for channels_in, out, kernel in zip(channels[:-2], channels[1:-1], kernels[:-1], strict=True):
        layers += _conv(channels_in, out, kernel, batch_norm)
    return nn.Sequential(*layers, nn.Conv2d(channels[-2], channels[-1], kernels[-1], 1, kernels[-1] // 2))


class SAN(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px, `heatmaps` (B, P, h, h) of the last stage.

    `stages` holds the (B, P + 1, h, h) maps of stage 1 on the face, stage 1 on its aggregated image, stage
    2 and stage 3 (without `aggregate`: stage 1, 2, 3); the last map of each is the background. The side
    must be a multiple of the stride.
    """

    mean_shape: Tensor

    def __init__(self, num_points: int, size: int, config: SANConfig):
        super().__init__()
        self.num_points, self.size, self.config = num_points, size, config
        self.stride = config.stride or (8 if size >= 128 else 4)
        if size % self.stride:
            raise UserError(
                f"a crop of {size} px: san's maps have cells of {self.stride} px, expected a multiple of that"
            )
        self.generators = Generators(config.generator).requires_grad_(False) if config.aggregate else None
        norm, f, h, maps = config.batch_norm, config.features, config.hidden, num_points + 1

        self.features, self.narrow = self._look(config) if config.trunk is None else self._look_on_trunk(config)
        self.stage1 = _chain([f, h, h, h, h, config.top, maps], [3, 3, 3, 3, 1, 1], norm)
        looks = 2 if config.aggregate else 1
        wide = [config.kernel] * 3 + [3] * 4 + [1, 1]
        self.stage2 = _chain([looks * (f + maps), *[h] * 8, maps], wide, norm)
        self.stage3 = _chain([looks * f + maps, *[h] * 8, maps], wide, norm)
        self.register_buffer("mean_shape", torch.zeros(num_points, 2))
        self.init_weights()

    def _look(self, config: SANConfig) -> tuple[nn.Module, nn.Module]:
        """VGG-16 to conv4_3, and what brings its 512 channels down to `features`."""
        norm = config.batch_norm
        layers, channels_in, halvings = list[nn.Module](), 3, 0
        for step in _TRUNK:
            if step == "pool":
                halvings += 1
                # A pool that is left out keeps its place, so that names stay torchvision's.
                layers.append(nn.MaxPool2d(2) if 2**halvings <= self.stride else nn.Identity())
            else:
                channels = config.width * int(step)
                layers += _conv(channels_in, channels, 3, norm)
                channels_in = channels
        # 512 -> 256 -> 128 as published: between the two, half of what comes in.
        half = channels_in // 2 or 1
        return nn.Sequential(*layers), nn.Sequential(
            *_conv(channels_in, half, 3, norm), *_conv(half, config.features, 3, norm)
        )

    def _look_on_trunk(self, config: SANConfig) -> tuple[nn.Module, nn.Module]:
        """A trunk's features from the maps' stride on, and the pyramid that brings them together."""
        assert config.trunk is not None
        trunk, channels = build_trunk(config.trunk, self.size, config.trunk_width, LAST, self.stride)
        return trunk, Pyramid(channels, config.features)

    def init_weights(self) -> None:
        """With batch normalisation He et al.'s normal draws. Without, those for VGG, to be replaced by ImageNet
        weights, and N(0, 0.01) behind it, as published. Biases 0. A trunk and its pyramid have their own."""
        others = ("generators.",) if self.config.trunk is None else ("generators.", "features.", "narrow.")
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and not name.startswith(others):
                if self.config.batch_norm or name.startswith("features."):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                else:
                    nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for stage in (self.stage1, self.stage2, self.stage3):
            last = stage[-1]
            assert isinstance(last, nn.Conv2d)
            nn.init.normal_(last.weight, std=0.01)  # a target map is 0 nearly everywhere

    def train(self, mode: bool = True) -> "SAN":
        """The generators stay as they were trained."""
        super().train(mode)
        if self.generators is not None:
            self.generators.eval()
        return self

    @torch.no_grad()
    def looks(self, image: Tensor) -> Tensor:
        """The faces, and behind them in the batch their aggregated images: (B or 2 B, 3, size, size)."""
        return image if self.generators is None else torch.cat([image, self.generators.aggregate(image)])

    def forward(self, image: Tensor) -> DetectorOutput:
        seen = self.narrow(self.features(self.looks(image)))  # both looks through the same weights, as one batch
        first = self.stage1(seen)
        num = len(first) // len(image)
        features = torch.cat(seen.chunk(num), dim=1)
        firsts = first.chunk(num)
        second = self.stage2(torch.cat([features, *firsts], dim=1))
        third = self.stage3(torch.cat([features, second], dim=1))
        heatmaps = third[:, :-1]
        with torch.autocast(image.device.type, enabled=False):
            landmarks = decode(heatmaps, self.stride, self.config.patch)
        return DetectorOutput(landmarks, heatmaps=heatmaps, stages=(*firsts, second, third))

    def targets(self, landmarks: Tensor) -> Tensor:
        """(B, P, 2) px -> (B, P + 1, h, h), what every stage is to answer."""
        return target_maps(landmarks, self.size // self.stride, self.stride, self.config.sigma * self.size)


def load_vgg(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load the trunk, VGG-16's conv1_1 to conv4_3, from a state dict with torchvision's names
    (vgg16, or vgg16_bn with `batch_norm`).

    Factor and offset of `fold_normalisation` go into the first convolution. Raises UserError naming the first key that
    does not fit.
    """
    assert isinstance(model, SAN)
    network = "vgg16_bn" if model.config.batch_norm else "vgg16"
    loaded = {}
    for key, value in model.features.state_dict().items():
        found = state.get(f"features.{key}")
        if found is None and key.endswith("num_batches_tracked"):
            continue
        if found is None or found.shape != value.shape:
            what = "is missing" if found is None else f"has shape {tuple(found.shape)}, expected {tuple(value.shape)}"
            raise UserError(
                f"{where}: weight 'features.{key}' {what}; expected torchvision's {network} for san of width 64 "
                f"({'without' if model.config.batch_norm else 'with'} --san.batch-norm it is "
                f"vgg16{'' if model.config.batch_norm else '_bn'})"
            )
        loaded[key] = found.float() if found.is_floating_point() else found
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    loaded["0.weight"], offset = fold_normalisation(loaded["0.weight"], mean, std)
    loaded["0.bias"] = loaded["0.bias"] + offset
    model.features.load_state_dict(loaded, strict=False)


def parameter_groups(model: SAN, weight_decay: float) -> Iterator[dict[str, Any]]:
    """The published multiples of the learning rate: biases twice, stages 2 and 3 four times, their biases eight
    times; no decay of biases. (Parameters of normalisations, which the published network has not, go with the biases'
    decay and the weights' rate.)"""
    for late in (False, True):
        parts = (model.stage2, model.stage3) if late else (model.features, model.narrow, model.stage1)
        named = [(name, p, p.ndim) for part in parts for name, p in part.named_parameters()]
        biases = [m.bias for part in parts for m in part.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
        known = {id(p) for p in biases}
        weights = [p for _, p, ndim in named if ndim > 1]
        norms = [p for _, p, ndim in named if ndim <= 1 and id(p) not in known]
        scale = _STAGES_LR if late else 1.0
        yield {"params": weights, "lr_scale": scale, "weight_decay": weight_decay}
        yield {"params": biases, "lr_scale": scale * _BIAS_LR, "weight_decay": 0.0}
        yield {"params": norms, "lr_scale": scale, "weight_decay": 0.0}


def learn_san(learning: Learning) -> Learner:
    """The sum of the stages' map losses. With `optimizer.kind: sgd`, the published multiples of the learning rate.

    What the detector learns with AdamW has no multiples: its steps do not depend on the size of gradients, which is
    what they are for. Hidden landmarks weigh `loss.hidden_weight`; 0 is the published mask.
    """
    engine, network = learning.engine, learning.model
    assert isinstance(network, SAN)
    refuse_lone_faces(learning, "san")
    if not learning.pretrained:
        say("san: no ImageNet weights given (--pretrained); the trunk starts from nothing, unlike the published one")
    by_hand = learning.optimizer.kind == "sgd"
    parameters: Any = parameter_groups(network, learning.weight_decay) if by_hand else network
    model, optimizer = engine.setup(network, learning.optimizer_of(parameters))
    names = [*(["original", "aggregated"] if network.generators is not None else ["stage1"]), "stage2", "stage3"]

    def update(batches: tuple[Batch, ...], step: int) -> dict[str, Tensor]:
        (batch,) = batches
        set_lr(optimizer, learning.lr_at(step))
        out = model(batch.image)
        target = network.targets(batch.landmarks)
        weights = map_weights(batch.landmarks, batch.visible, batch.weights(), learning.loss.hidden_weight)
        losses = {
            name: map_loss(maps, target, weights, batch.weight) for name, maps in zip(names, out.stages, strict=True)
        }
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()
        return {"total": total, **losses, "error_px": mean_error(out.landmarks, batch.landmarks)}

    return Learner(modules={"model": model}, optimizers={"model": optimizer}, update=update)
