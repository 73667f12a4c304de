"""The smallest drawn faces and configurations that go every way the real ones go, for tests of whole jobs."""

import dataclasses
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from stylealign.data.dataset import FaceDataset
from stylealign.detectors.resnet import ResNetConfig
from stylealign.face.crop import CropConfig
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.draw_faces import main as draw_faces
from stylealign.jobs.train_detector.job import DetectorJob, config_class
from stylealign.jobs.train_translator.job import TranslatorJob
from stylealign.jobs.train_translator.job import config_class as translator_config_class
from stylealign.jobs.train_translator.small_detectors import AuxiliaryConfig
from stylealign.training.loop import LoopConfig
from stylealign.translators.vunet.config import PRESETS

LOOP = LoopConfig(
    steps=6, batch_size=4, log_every=1, checkpoint_every=3, preview_every=3, ema_decay=0.9, accelerator="cpu"
)


@functools.cache
def _drawn_before() -> tempfile.TemporaryDirectory:
    """What this process has drawn, until it ends."""
    return tempfile.TemporaryDirectory(prefix="stylealign_drawn_")


def drawn(folder: Path, count: int = 24) -> FaceDataset:
    """About half of the faces in split train, a quarter each in val and test; PNG, so that no JPEG decoder has a say.

    Drawn once a process, for all tests that want so many under that name, and copied.
    """
    before = Path(_drawn_before().name) / str(count) / folder.name
    if not before.exists():
        draw_faces(DrawFaces(out=before, count=count, size=64, val_frac=0.25, test_frac=0.25, png=True))
    shutil.copytree(before, folder)
    return FaceDataset.open(folder)


def translator_job(run: Path, data: Path, loop: dict[str, Any] | None = None, **changes: Any) -> TranslatorJob:
    """A translator of 32 px, six steps, its features and judge two steps each."""
    config = translator_config_class()(
        data=data, run=run, vunet=PRESETS["tiny32"], crop=CropConfig(size=32, scale=1.6), init_batches=2, loop=LOOP,
        auxiliary=AuxiliaryConfig(steps=2, width=4, batch_size=4),
    )  # fmt: skip
    return dataclasses.replace(config, loop=dataclasses.replace(LOOP, **(loop or {})), **changes)


def detector_job(run: Path, data: Path, loop: dict[str, Any] | None = None, **changes: Any) -> DetectorJob:
    """A detector of 32 px and width 4, six steps."""
    config = config_class()(real=data, run=run, crop=CropConfig(size=32), resnet=ResNetConfig(width=4), loop=LOOP)
    return dataclasses.replace(config, loop=dataclasses.replace(LOOP, **(loop or {})), **changes)


OF_THE_MACHINE = ("seconds", "images_per_s", "memory_mb")
"""What two trainings that are alike need not share."""


def metrics_of(run: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what the machine has to do with."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in rows]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
