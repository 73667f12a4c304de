"""The small detectors beside a translator, trained here unless given: for features and landmarks, and the judge."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stylealign.detectors.loaded import load_detector
from stylealign.detectors.resnet import ResNetConfig
from stylealign.errors import UserError, counted
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.train_detector import job as detector_job
from stylealign.jobs.train_detector.pretrained import open_known_trunk
from stylealign.progress import say
from stylealign.training.loop import LoopConfig
from stylealign.translators.learning import FrozenLandmarks
from stylealign.translators.perceptual import FrozenFeatures, load_vgg19

FEATURE_LAYERS = ("layer1", "layer2", "layer3")
IMAGENET_LAYERS = {
    "mobilenet_v2": ("features.1", "features.3", "features.6", "features.13", "features.17"),
    "efficientnet_lite0": ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.10", "_blocks.15"),
}
"""The last layer at each stride, 2 to 32, of the trunks whose ImageNet features may serve in VGG-19's place."""
_TITLES = {"mobilenet_v2": "MobileNetV2", "efficientnet_lite0": "EfficientNet-Lite0"}


@dataclass(frozen=True, kw_only=True, slots=True)
class AuxiliaryConfig:
    """The small detectors trained beside a translator (features and judge)."""

    steps: int = 1000
    """Updates of each."""
    width: int = 16
    """Width of their ResNet-18; 64 is the usual one."""
    batch_size: int = 32
    lr: float = 3e-3


@dataclass(frozen=True, kw_only=True)
class SmallDetectors:
    """What the small detectors are trained on and how, and those that the user gives in their place."""

    data: Path
    """The translator's first data set: real faces only"""
    split: str
    subset: str | None
    crop: CropConfig
    """The translator's own"""
    auxiliary: AuxiliaryConfig
    loop: LoopConfig
    """Of the translator: seed and devices are taken from it"""
    vgg19: Path | None
    """VGG-19 weights of the user's, for the perceptual loss"""
    perceptual: Path | None
    """A smaller network's ImageNet weights, for the same"""
    feature_detector: Path | None
    """A finished detector run in the place of the feature detector"""
    judge: Path | None
    """A finished detector run in the place of the judge"""


class Features(NamedTuple):
    """What a translator's losses look through."""

    network: Any
    """images -> levels of features; None where no loss asks for any"""
    num_levels: int
    name: str
    """for the card"""
    watch: FrozenLandmarks | None
    """The detector that watches landmarks, where the losses ask for one"""


def train_small_detector(small: SmallDetectors, run: Path, seed_offset: int, what: str) -> Path:
    """Train (or find finished) a small detector on real faces, at the translator's own crop; returns its run."""
    a, loop = small.auxiliary, small.loop
    say(f"training the {what}: ResNet-18 of width {a.width}, {counted(a.steps, 'update')}, real faces only")
    detector_job.main(
        detector_job.TrainDetector(
            real=small.data,
            real_split=small.split,
            subset=small.subset,
            run=run,
            crop=small.crop,
            resnet=ResNetConfig(width=a.width, head="flatten", max_pool=False),
            lr=a.lr,
            loop=LoopConfig(
                steps=a.steps, batch_size=a.batch_size, seed=loop.seed + seed_offset, preview_every=0,
                accelerator=loop.accelerator, devices=loop.devices, num_nodes=loop.num_nodes,
            ),
        )
    )  # fmt: skip
    return run


def judge_run(small: SmallDetectors, folder: Path) -> Path:
    """The judge's run: the user's, else one trained inside `folder`, the translator's half-written run."""
    return small.judge or train_small_detector(small, folder / "judge", 2002, "judge")


def open_features(small: SmallDetectors, folder: Path, device: torch.device, features: bool, watches: bool) -> Features:
    """Open, or first train inside `folder`, what a translator's losses look through.

    Args:
        small: the small detectors.
        folder: the translator's half-written run.
        device: where they work.
        features: whether the reconstruction compares features.
        watches: whether the losses ask a detector for landmarks.
    """
    detector = None
    if watches or (features and not (small.vgg19 or small.perceptual)):
        run = small.feature_detector or train_small_detector(small, folder / "features", 1001, "feature detector")
        detector = load_detector(run, device)
    watch = FrozenLandmarks(copy.deepcopy(detector.model), detector.crop.size) if watches and detector else None
    if features and small.vgg19:
        vgg = load_vgg19(small.vgg19)
        return Features(vgg.to(device), vgg.num_levels, f"VGG-19 ({small.vgg19.name})", watch)
    if features and small.perceptual:
        name, trunk = open_known_trunk(list(IMAGENET_LAYERS), small.perceptual, small.crop.size)
        network = FrozenFeatures(trunk, IMAGENET_LAYERS[name]).to(device)
        return Features(network, network.num_levels, f"{_TITLES[name]} ({small.perceptual.name})", watch)
    if features and detector:
        name = f"layers of a landmark detector trained on the same split ({counted(len(FEATURE_LAYERS), 'level')})"
        network = FrozenFeatures(detector.model, FEATURE_LAYERS, detector.crop.size).to(device)
        return Features(network, len(FEATURE_LAYERS), name, watch)
    return Features(None, 0, "none", watch)


def check_given_detectors(small: SmallDetectors, schema: LandmarkSchema, features: bool) -> None:
    """Refuse detectors, and weights, of the user's that cannot serve, before anything is trained.

    `features`: whether the reconstruction compares features.

    The judge looks at the translator's own crops, resized: one that was trained on tighter or wider crops, or on
    crops round another box, would misjudge real and swapped faces alike.
    """
    given = {run: load_detector(run) for run in (small.feature_detector, small.judge) if run is not None}
    for run, detector in given.items():
        if (found := detector.schema) != schema:
            raise UserError(
                f"{run}: a detector of {found.name} ({counted(found.num_points, 'point')}), but {small.data} holds "
                f"{schema.name} ({counted(schema.num_points, 'point')})"
            )
    if features and small.perceptual is not None:
        open_known_trunk(list(IMAGENET_LAYERS), small.perceptual, small.crop.size)
    if features and small.feature_detector and not (small.vgg19 or small.perceptual):
        there = dict(given[small.feature_detector].model.named_modules())
        if missing := [name for name in FEATURE_LAYERS if name not in there]:
            raise UserError(
                f"{small.feature_detector}: a '{given[small.feature_detector].card.get('model')}' has no {missing[0]} "
                "whose features could serve as the perceptual loss: name a resnet with --feature-detector, or "
                "ImageNet weights with --perceptual or --vgg19"
            )
    if small.judge is not None:
        crop = given[small.judge].crop
        if (crop.scale, crop.box) != (small.crop.scale, small.crop.box):
            raise UserError(
                f"judge {small.judge}: trained on a {crop.describe()}, the translator's is a {small.crop.describe()}: "
                "expected the same scale and box (sizes may differ)"
            )
