"""Every detector can learn eight real faces by heart: where it cannot, something in its way of learning is broken."""

from pathlib import Path
from typing import Any

import pytest

from builders.places import DATA
from stylealign.batches.augment import NO_AUGMENTATION
from stylealign.detectors import DETECTORS
from stylealign.detectors.dvln import DVLNConfig
from stylealign.detectors.lab.config import LABConfig
from stylealign.detectors.resnet import ResNetConfig
from stylealign.detectors.san.cyclegan import CycleGANConfig, GeneratorConfig
from stylealign.detectors.san.network import SANConfig
from stylealign.detectors.wing import WingConfig
from stylealign.face.crop import CropConfig
from stylealign.jobs.prepare import Prepare
from stylealign.jobs.prepare import main as prepare
from stylealign.jobs.train_detector.job import TrainDetector, main
from stylealign.jobs.train_styles import AuxiliaryStyles, ClusterConfig
from stylealign.training.loop import LoopConfig
from stylealign.training.weights import read_card

SMALL: dict[str, dict[str, Any]] = {
    "resnet18": {"resnet": ResNetConfig(width=16)},
    "wing": {"wing": WingConfig(width=16)},
    "lab": {"lab": LABConfig(stacks=2, channels=32, depth=3, width=16, hidden=256, dropout=0.0)},
    "san": {
        "san": SANConfig(
            # Its last convolutions mix `hidden` (and `top`) channels into 69 maps: with 32 of them it stops at 1.8 %.
            generator=GeneratorConfig(width=4, blocks=1), width=8, features=32, hidden=96, top=128, kernel=3,
            sigma=1 / 16
        ),
        "lr": 1e-2,
        "san_styles": AuxiliaryStyles(
            steps=20, batch_size=2, styles=ClusterConfig(clusters=2, pair="two_largest", min_faces=1),
            cyclegan=CycleGANConfig(discriminator_width=4, discriminator_layers=1),
        ),
    },
    "dvln": {"dvln": DVLNConfig(width=16)},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_eight_real_faces_are_learnt_to_below_one_per_cent(name: str, tmp_path: Path) -> None:
    folder = DATA / "300w"
    if not folder.exists():
        pytest.skip("no real faces: STYLEALIGN_DATA names the folder of 300w/")
    lines = (folder / "splits" / "train.txt").read_text().splitlines()
    (tmp_path / "eight.txt").write_text("\n".join(lines[:: len(lines) // 7][:8]) + "\n")
    splits = (f"train={tmp_path / 'eight.txt'}",)
    prepare(Prepare(out=tmp_path / "data", reader="ibug", path=folder, splits=splits))
    config = TrainDetector(
        run=tmp_path / "run",
        real=tmp_path / "data",
        val_split="train",
        other=(tmp_path / "data",) if name == "dvln" else (),
        model=name,  # type: ignore[arg-type]
        crop=CropConfig(size=64),
        augment=NO_AUGMENTATION,
        weight_decay=0.0,
        loop=LoopConfig(
            steps=500 if name == "san" else 400, batch_size=8, ema_decay=0.9, preview_every=0, accelerator="cpu"
        ),
        **SMALL.get(name, {}),
    )
    main(config)
    card = read_card(tmp_path / "run")
    assert card["data"][0]["faces"] == 8
    assert card["val"]["nme"] < 0.01
