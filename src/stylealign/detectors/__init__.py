"""Landmark detectors: crops in, landmarks in crop px out (`DetectorOutput`). A new one is a file and a line of `DETECTORS`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from stylealign.detectors.dvln import DVLN, DVLNConfig, learn_dvln, load_trunk
from stylealign.detectors.lab.learning import learn_lab
from stylealign.detectors.lab.network import LAB, LABConfig
from stylealign.detectors.learning import Learner, Learning, learn_coordinates
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNet18, ResNetConfig, load_imagenet
from stylealign.detectors.san.network import SAN, SANConfig, learn_san, load_vgg
from stylealign.detectors.wing import Wing, WingConfig, learn_wing
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema

__all__ = ["DETECTORS", "SECTIONS", "Detector", "DetectorOutput", "build_detector"]

Schemas = tuple[LandmarkSchema, ...]


class Detector(NamedTuple):
    """What makes a detector."""

    build: Callable[[Schemas, int, Any], nn.Module]
    """(mark-ups, side of the crop in px, its config) -> network with a buffer `mean_shape` (P, 2) px. The first mark-up is the one
    it answers in; only networks that learn several are given more."""
    config: type
    """The network's shape"""
    learn: Callable[[Learning], Learner] = learn_coordinates
    """How it learns"""
    pretrained: Callable[[Any, Mapping[str, Tensor], str], None] | None = None
    """(network, state dict, the file's name) -> loads ImageNet weights into the part they fit"""


def _resnet18(schemas: Schemas, size: int, config: ResNetConfig) -> nn.Module:
    return ResNet18(schemas[0].num_points, size, config)


def _wing(schemas: Schemas, size: int, config: WingConfig) -> nn.Module:
    return Wing(schemas[0].num_points, size, config)


def _lab(schemas: Schemas, size: int, config: LABConfig) -> nn.Module:
    return LAB(schemas[0], size, config)


def _san(schemas: Schemas, size: int, config: SANConfig) -> nn.Module:
    return SAN(schemas[0].num_points, size, config)


DETECTORS = {
    "resnet18": Detector(_resnet18, ResNetConfig, pretrained=load_imagenet),
    "wing": Detector(_wing, WingConfig, learn_wing, load_imagenet),
    "lab": Detector(_lab, LABConfig, learn_lab),
    "san": Detector(_san, SANConfig, learn_san, load_vgg),
    "dvln": Detector(DVLN, DVLNConfig, learn_dvln, load_trunk),
}
# The section of `train-detector`'s configuration that holds each network's shape.
SECTIONS = {"resnet18": "resnet", "wing": "wing", "lab": "lab", "san": "san", "dvln": "dvln"}


def build_detector(name: str, schemas: Schemas, size: int, config: Any) -> nn.Module:
    """A detector with fresh weights; `size` is the crop's side in px."""
    if name not in DETECTORS:
        raise UserError(f"unknown detector '{name}'; known: {', '.join(DETECTORS)}")
    return DETECTORS[name].build(schemas, size, config)
