"""Landmark detectors: crops in, landmarks in crop px out (`DetectorOutput`). A new one is a
file and an entry of `DETECTORS`.

An entry says all that others ask of a detector: `train-detector` takes its section of the configuration and its
way of learning from here, `models` its sizes, `study`, `export`, the docs and the contract tests its name and
needs. Nothing else lists detectors.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from stylealign.detectors.dvln import DVLN, DVLNConfig, learn_dvln, load_trunk
from stylealign.detectors.fpn import FPN, FPNConfig, learn_fpn, load_imagenet_fpn
from stylealign.detectors.lab.config import LABConfig
from stylealign.detectors.lab.learning import learn_lab
from stylealign.detectors.lab.network import LAB
from stylealign.detectors.learning import Learner, Learning, learn_coordinates
from stylealign.detectors.on_trunk import IntoTrunk, build_regressor, learn_regressor
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNetConfig, load_imagenet
from stylealign.detectors.san.network import SAN, SANConfig, learn_san, load_vgg
from stylealign.detectors.wing import Wing, WingConfig, learn_wing
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.training.plugins import unknown

__all__ = ["DETECTORS", "Detector", "DetectorOutput", "Preset", "build_detector"]

Schemas = tuple[LandmarkSchema, ...]


class Preset(NamedTuple):
    """A network at one size."""

    title: str
    """what tables call it"""
    version: Literal["tiny", "small", "paper"]
    """`tiny` is the smallest network that goes every way the real one goes, for tests; `small` trains on a CPU core in
    minutes; `paper` is what was published, as far as it is known"""
    size: int
    """side of the crop, px"""
    network: Mapping[str, Any]
    """values of its section of `train-detector`; what is not named keeps its default"""


class Detector(NamedTuple):
    """What makes a detector, and what others have to know of it."""

    build: Callable[[Schemas, int, Any], nn.Module]
    """(mark-ups, side of the crop in px, its config) -> network with a buffer `mean_shape` (P, 2) px. The first mark-up
    is the one it answers in; only networks of several heads are given more."""
    config: type
    """The network's shape: a dataclass whose defaults are the published ones"""
    section: str
    """Key of that dataclass in `train-detector`'s configuration, and so the first part of its flags"""
    summary: str
    """What it is, in one plain line, for help and docs"""
    presets: tuple[Preset, ...]
    """Its sizes, small and as published, for tables, tests and measurements"""
    learn: Callable[[Learning], Learner] = learn_coordinates
    """How it learns"""
    pretrained: Callable[[nn.Module, Mapping[str, Tensor], str], None] | None = None
    """(network, state dict, the file's name) -> loads ImageNet weights into the part they fit: its trunk (trunks/), or
    layers of its own"""
    several_heads: bool = False
    """Whether it learns data sets of several mark-ups (`--other`), a head each"""
    coordinates_alone: bool = False
    """Whether landmarks and their weights are all it learns from, so that a mean teacher's can be learnt as well"""
    needs_curves: bool = False
    """Whether its mark-up must have curves (`boundaries`)"""
    style_generators: Callable[[nn.Module], nn.Module | None] | None = None
    """network -> the frozen part that a `train-styles` run fills before it learns; None where this one has none"""


def _first_mark_up(network: Callable[[int, int, Any], nn.Module]) -> Callable[[Schemas, int, Any], nn.Module]:
    """A network that only has to know how many points the first mark-up has."""
    return lambda schemas, size, config: network(schemas[0].num_points, size, config)


def _generators(network: nn.Module) -> nn.Module | None:
    assert isinstance(network, SAN)
    return network.generators


DETECTORS = {
    "resnet18": Detector(
        _first_mark_up(build_regressor), ResNetConfig, "resnet",
        "regression of coordinates from a crop by a ResNet-18: the baseline",
        presets=(
            Preset("ResNet-18", "tiny", 32, {"width": 4}),
            Preset("ResNet-18", "small", 64, {"width": 16}),
            Preset("ResNet-18's head on MobileNetV2", "small", 96, {"trunk": "mobilenet_v2"}),
            Preset("ResNet-18", "paper", 256, {}),
        ),
        learn=learn_regressor, pretrained=IntoTrunk("resnet", load_imagenet), coordinates_alone=True,
    ),
    "wing": Detector(
        _first_mark_up(Wing), WingConfig, "wing",
        "CNN-6, CNN-7 or ResNet-50 under the Wing loss, in one stage or two",
        presets=(
            Preset("Wing CNN-6", "tiny", 32, {"width": 4, "hidden": 16}),
            Preset("Wing CNN-6", "small", 64, {"width": 32}),
            Preset("Wing on MobileNetV2", "small", 96, {"trunk": "mobilenet_v2", "hidden": 512}),
            Preset("Wing CNN-6", "paper", 64, {"batch_norm": False}),
            Preset("Wing CNN-7", "paper", 128, {"network": "cnn7", "batch_norm": False}),
            Preset("Wing ResNet-50", "paper", 256, {"network": "resnet50"}),
        ),
        learn=learn_wing, pretrained=IntoTrunk("wing", load_imagenet), coordinates_alone=True,
    ),
    "lab": Detector(
        lambda schemas, size, config: LAB(schemas[0], size, config), LABConfig, "lab",
        "facial boundaries first, then landmarks that look along them",
        presets=(
            Preset(
                "LAB", "tiny", 32,
                {"stacks": 2, "channels": 8, "depth": 2, "width": 4, "hidden": 8, "adversarial_from": 0.5},
            ),
            Preset(
                "LAB", "small", 64,
                {"stacks": 1, "channels": 32, "depth": 3, "width": 16, "hidden": 256, "feature_fusion": 3,
                    "dropout": 0.0},
            ),
            Preset(
                "LAB on MobileNetV2", "small", 96,
                {
                    "trunk": "mobilenet_v2", "channels": 64, "width": 16, "hidden": 256, "grayscale": False,
                    "dropout": 0.0,
                },
            ),
            Preset("LAB", "paper", 256, {}),
        ),
        learn=learn_lab, pretrained=IntoTrunk("lab"), needs_curves=True,
    ),
    "san": Detector(
        _first_mark_up(SAN), SANConfig, "san",
        "a cascade of heatmaps over the face and its style-aggregated picture",
        presets=(
            Preset(
                "SAN", "tiny", 32,
                {"generator": {"width": 4, "blocks": 1}, "width": 2, "features": 4, "hidden": 4, "top": 8, "kernel": 3},
            ),
            Preset(
                "SAN", "small", 64,
                {
                    "generator": {"width": 8, "blocks": 3},
                    "width": 8, "features": 32, "hidden": 32, "top": 128, "kernel": 3, "sigma": 0.0625,
                },
            ),
            Preset(
                "SAN on MobileNetV2", "small", 96,
                {
                    "trunk": "mobilenet_v2", "generator": {"width": 8, "blocks": 3},
                    "features": 32, "hidden": 48, "top": 128, "kernel": 3, "sigma": 1 / 24,
                },
            ),
            Preset("SAN", "paper", 128, {"batch_norm": False}),
        ),
        learn=learn_san, pretrained=IntoTrunk("san", load_vgg), style_generators=_generators,
    ),
    "dvln": Detector(
        DVLN, DVLNConfig, "dvln",
        "one trunk for data sets of different mark-ups, a head each, and a choice of candidates",
        presets=(
            Preset("DVLN", "tiny", 32, {"width": 4, "embedding": 8, "candidates": 2, "evidence": 2, "hidden": 4}),
            Preset("DVLN", "small", 64, {"width": 16}),
            Preset("DVLN on MobileNetV2", "small", 96, {"trunk": "mobilenet_v2"}),
            Preset("DVLN", "paper", 256, {"dropout": 0.2}),
        ),
        learn=learn_dvln, pretrained=IntoTrunk("dvln", load_trunk), several_heads=True,
    ),
    "fpn": Detector(
        _first_mark_up(FPN), FPNConfig, "fpn",
        "any trunk under any head: a feature pyramid and a map a landmark, unless told otherwise",
        presets=(
            Preset("FPN MobileNetV2", "tiny", 32, {"width": 0.125, "neck": 8}),
            Preset("FPN MobileNetV2", "small", 64, {}),
            Preset("FPN MobileNetV2", "paper", 256, {}),
            Preset("FPN EfficientNet-Lite0", "paper", 256, {"trunk": "efficientnet_lite0"}),
            Preset("FPN HRNet-W18", "paper", 256, {"trunk": "hrnet_w18"}),
            Preset("FPN hourglass", "paper", 256, {"trunk": "hourglass", "loss": {"terms": ["star", "awing"]}}),
            Preset(
                "PIPNet ResNet-18", "paper", 256,
                {"trunk": "resnet18", "head": {"kind": "pip"}, "loss": {"terms": ["pip"]}},
            ),
            Preset(
                "SimCC ResNet-50", "paper", 256,
                {"trunk": "resnet50", "head": {"kind": "simcc"}, "loss": {"terms": ["kl"]}},
            ),
            Preset(
                "Coordinates ViT", "paper", 256,
                {"trunk": "vit_tiny", "head": {"kind": "coordinates"}, "loss": {"terms": ["coordinates", "nll"]}},
            ),
        ),
        learn=learn_fpn, pretrained=load_imagenet_fpn, coordinates_alone=True,
    ),
}  # fmt: skip


def presets() -> list[tuple[str, Preset]]:
    """(name of the detector, one of its sizes) of all detectors, in the table's order."""
    return [(name, preset) for name, detector in DETECTORS.items() for preset in detector.presets]


def having(what: str) -> str:
    """The names of the detectors whose entry has a field set, such as `pretrained`, for sentences."""
    return ", ".join(name for name, detector in DETECTORS.items() if getattr(detector, what))


def build_detector(name: str, schemas: Schemas, size: int, config: Any) -> nn.Module:
    """A detector with fresh weights; `size` is the crop's side in px. Raises UserError for a
    name that is not in the table."""
    if name not in DETECTORS:
        raise UserError(unknown("detector", name, DETECTORS))
    model = DETECTORS[name].build(schemas, size, config)
    points, found = schemas[0].num_points, getattr(model, "mean_shape", None)
    if found is None or tuple(found.shape) != (points, 2):
        has = "none" if found is None else f"one of shape {tuple(found.shape)}"
        raise UserError(f"detector '{name}': expected a network with a buffer mean_shape ({points}, 2), found {has}")
    return model


@torch.no_grad()
def refuse_other_answers(name: str, model: nn.Module, points: int, size: int, device: torch.device) -> None:
    """Raise UserError where a network's answer on two grey crops of `size` px is no `DetectorOutput` of so many points.

    The network is left as it was, and so are random numbers where it answers in evaluation mode as it should.
    """
    was_training = model.training
    found = model.eval()(torch.zeros(2, 3, size, size, device=device))
    model.train(was_training)
    wanted = f"a DetectorOutput whose landmarks have the shape (2, {points}, 2), px of the crop"
    if not isinstance(found, DetectorOutput):
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise UserError(
            f"detector '{name}': answered two crops by a {type(found).__name__}{shape}, expected {wanted} "
            "(stylealign.detectors.DetectorOutput)"
        )
    marks = found.landmarks
    if not isinstance(marks, Tensor) or marks.shape != (2, points, 2) or not marks.is_floating_point():
        has = f"{marks.dtype} of shape {tuple(marks.shape)}" if isinstance(marks, Tensor) else f"{marks!r:.60}"
        raise UserError(f"detector '{name}': answered two crops by landmarks {has}, expected {wanted}")
