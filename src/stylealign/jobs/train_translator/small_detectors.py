"""The small detectors beside a translator: one for features and for watching landmarks, and the judge. Trained here unless given."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stylealign.detectors.loaded import load_detector
from stylealign.detectors.resnet import ResNetConfig
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.train_detector import job as detector_job
from stylealign.progress import say
from stylealign.training.loop import LoopConfig
from stylealign.translators.learning import FrozenLandmarks
from stylealign.translators.perceptual import FrozenFeatures, load_vgg19

if TYPE_CHECKING:
    from stylealign.jobs.train_translator.job import TrainTranslator

FEATURE_LAYERS = ("layer1", "layer2", "layer3")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuxiliaryConfig:
    """The small detectors trained beside a translator (features and judge)."""

    steps: int = 1000
    """Updates of each."""
    width: int = 16
    """Width of their ResNet-18; 64 is the usual one."""
    batch_size: int = 32
    lr: float = 3e-3


def train_auxiliary(config: "TrainTranslator", run: Path, seed_offset: int, what: str) -> Path:
    """Train (or find finished) one of the small detectors, on real faces only and at the translator's own crop."""
    a = config.auxiliary
    say(f"training the {what}: ResNet-18 of width {a.width}, {a.steps} updates, real faces only")
    detector_job.main(
        detector_job.TrainDetector(
            real=config.data,
            real_split=config.split,
            subset=config.subset,
            run=run,
            crop=config.crop,
            resnet=ResNetConfig(width=a.width, head="flatten", max_pool=False),
            lr=a.lr,
            loop=LoopConfig(
                steps=a.steps, batch_size=a.batch_size, seed=config.loop.seed + seed_offset, preview_every=0,
                accelerator=config.loop.accelerator, devices=config.loop.devices, num_nodes=config.loop.num_nodes,
            ),
        )
    )  # fmt: skip
    return run


def feature_network(
    config: "TrainTranslator", folder: Path, device: torch.device
) -> tuple[Any, int, str, FrozenLandmarks | None]:
    """(features, number of levels, name) for the perceptual loss, and the detector that watches landmarks, if one is asked for."""
    needs = config.reconstruction.needs_features
    detector = None
    if config.watches or (needs and not config.vgg19):
        run = config.feature_detector or train_auxiliary(config, folder / "features", 1001, "feature detector")
        detector = load_detector(run, device)
    watch = FrozenLandmarks(copy.deepcopy(detector.model), detector.crop.size) if config.watches and detector else None
    if needs and config.vgg19:
        vgg = load_vgg19(config.vgg19)
        return vgg.to(device), vgg.num_levels, f"VGG-19 ({config.vgg19.name})", watch
    if needs and detector:
        name = f"layers of a landmark detector trained on the same split ({len(FEATURE_LAYERS)} levels)"
        return FrozenFeatures(detector.model, FEATURE_LAYERS).to(device), len(FEATURE_LAYERS), name, watch
    return None, 0, "none", watch


def check_given_detectors(config: "TrainTranslator", schema: LandmarkSchema) -> None:
    """Refuse detectors of the user's that cannot serve, before anything is trained.

    The judge looks at the translator's own crops, resized: one that was trained on tighter or wider crops, or on crops round
    another box, would misjudge real and swapped faces alike.
    """
    given = {run: load_detector(run) for run in (config.feature_detector, config.judge) if run is not None}
    for run, detector in given.items():
        if (found := detector.schema) != schema:
            raise UserError(
                f"{run}: a detector of {found.name} ({found.num_points} points), but {config.data} holds {schema.name} ({schema.num_points} points)"
            )
    if config.judge is not None:
        crop = given[config.judge].crop
        if (crop.scale, crop.box) != (config.crop.scale, config.crop.box):
            raise UserError(
                f"judge {config.judge}: trained on a {crop.describe()}, the translator's is a {config.crop.describe()}: expected the same "
                "scale and box (sizes may differ)"
            )
