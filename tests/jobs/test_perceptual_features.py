"""`train-translator --perceptual`: ImageNet features of a small network in VGG-19's place."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from builders.dots import dots
from builders.tiny import LOOP, detector_job, metrics_of, translator_job
from stylealign.detectors.trunks import build_trunk
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_translator.job import TranslatorJob, main
from stylealign.jobs.train_translator.small_detectors import (
    AuxiliaryConfig,
    SmallDetectors,
    check_given_detectors,
    open_features,
)
from stylealign.training.weights import read_card
from stylealign.translators.reconstruction import Reconstruction, ReconstructionConfig


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dot faces (data) and a judge that knows next to nothing."""
    folder = tmp_path_factory.mktemp("perceptual")
    dots(folder / "data", 9)
    crop = CropConfig(size=32, scale=1.6)
    train_detector(detector_job(folder / "judge", folder / "data", {"steps": 1}, crop=crop))
    return folder


def job(here: Path, run: Path, **changes: Any) -> TranslatorJob:
    """One step."""
    return translator_job(run, here / "data", {"steps": 1, "preview_every": 0}, judge=here / "judge", **changes)


@pytest.mark.parametrize(
    ("trunk", "title"), [("mobilenet_v2", "MobileNetV2"), ("efficientnet_lite0", "EfficientNet-Lite0")]
)
def test_imagenet_features_of_a_small_network_serve_in_vgg19_s_place(trunk: str, title: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    file = tmp_path / "weights.pth"
    torch.save({k: v for k, v in build_trunk(trunk, 32, 1.0, 32)[0].state_dict().items() if k != "spread"}, file)
    small = SmallDetectors(
        data=tmp_path, split="train", subset=None, crop=CropConfig(size=32), auxiliary=AuxiliaryConfig(), loop=LOOP,
        vgg19=None, perceptual=file, feature_detector=None, judge=None,
    )  # fmt: skip
    check_given_detectors(small, FIVE, features=True)
    found = open_features(small, tmp_path, torch.device("cpu"), features=True, watches=False)
    assert found.name == f"{title} (weights.pth)"
    assert found.watch is None
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert [level.shape[-1] for level in found.network(image)] == [16, 8, 4, 2, 1]
    # Weighed as VGG-19's: 1 at every level is as wrong as another face.
    loss = Reconstruction(ReconstructionConfig(pixel=0, gradient=0), found.network, found.num_levels)
    loss.calibrate(image)
    assert float(loss(image, image.roll(1, 0))["feature"]) == pytest.approx(5)
    made = image.clone().requires_grad_()
    loss(made, image.roll(1, 0))["feature"].backward()
    assert made.grad is not None
    assert float(made.grad.abs().max()) > 0


def test_a_file_that_cannot_serve_is_named_before_anything_is_trained(tmp_path: Path, here: Path) -> None:
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "other.pth")
    for name, sentence in (("none.pth", "none.pth: no such file"), ("other.pth", "expected the ImageNet weights of")):
        config = job(here, tmp_path / "run", perceptual=tmp_path / name)
        with pytest.raises(UserError, match=sentence):
            main(config)
    with pytest.raises(ValueError, match="vgg19 and perceptual are both given: expected one"):
        dataclasses.replace(config, vgg19=tmp_path / "vgg19.pth")
    spade = dataclasses.replace(config, model="spade", feature_detector=here / "judge")
    assert spade.watches, "its losses ask the detector for landmarks, and the file for features"


def test_imagenet_features_teach_a_translator(tmp_path: Path, here: Path) -> None:
    torch.save(build_trunk("mobilenet_v2", 32, 1.0, 32)[0].state_dict(), tmp_path / "mobilenet.pth")
    config = job(here, tmp_path / "run", perceptual=tmp_path / "mobilenet.pth")
    main(config)
    assert read_card(tmp_path / "run")["perceptual"] == "MobileNetV2 (mobilenet.pth)"
    assert not (tmp_path / "run" / "features").exists()
    assert metrics_of(tmp_path / "run")[0]["feature"] > 0
