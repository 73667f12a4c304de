"""Every detector and translator of the tables, tiny, trained for four updates by however many processes run this.

`torch.distributed.run --nproc-per-node N every_training.py DATA FOLDER [NAME ...]`; DATA is of `prepare`, run folders
are FOLDER/NAME. With STOP=n in the environment trainings are interrupted after n updates; the same command without it
goes on. Plain gradient descent, where that can be chosen: a rounding error then stays as small as it is, while Adam
makes a whole step of the smallest gradient.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builders import networks, translator_contract
from builders.tiny import drawn
from stylealign.batches.augment import AugmentConfig
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS
from stylealign.face.crop import CropConfig
from stylealign.jobs import train_styles
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_translator.job import main as train_translator
from stylealign.styling.chain import StyleConfig
from stylealign.training import loop
from stylealign.training.optim import OptimizerConfig
from stylealign.translators import trained_names

STEPS = 4
LOOP = {
    "steps": STEPS, "batch_size": 8, "log_every": 1, "checkpoint_every": 2, "preview_every": 0, "accelerator": "cpu",
}  # fmt: skip
EVERYTHING = "everything"
"""A detector with all that is drawn at random: dropout, MixStyle, styles, strong augmentation, a mean teacher"""
NAMES = (*DETECTORS, EVERYTHING, *trained_names())


def prepare(data: Path) -> None:
    """Faces, and what is trained beforehand: a translator's small detectors, the generators of san."""
    faces = drawn(data / "faces", 40)
    translator_contract.prepared(data / "translators")
    san = networks.job("san", data / "san", faces, **LOOP)
    train_styles.main(
        train_styles.TrainStyles(
            data=faces.folder, run=data / "styles", crop=san.crop, augment=san.augment, generator=san.san.generator,
            styles=san.san_styles.styles, cyclegan=san.san_styles.cyclegan,
            loop=dataclasses.replace(san.loop, steps=1, ema_decay=0.0),
        )
    )  # fmt: skip


def job_of(name: str, data: Path, run: Path) -> Any:
    """The tiny configuration of a name."""
    if name in trained_names():
        job = translator_contract.job(data / "translators", name, run)
        rate = dataclasses.replace(job.lr, start=1e-5, end=1e-6)
        return dataclasses.replace(job, lr=rate, loop=dataclasses.replace(job.loop, **LOOP))
    faces = FaceDataset.open(data / "faces")
    job = networks.job("resnet18" if name == EVERYTHING else name, run, faces, **LOOP)
    job = dataclasses.replace(job, optimizer=OptimizerConfig(kind="sgd", momentum=0.0), lr=1e-4)
    if name == "san":
        job = dataclasses.replace(job, styles=data / "styles")
    if name == "fpn":  # at 32 px its last maps are one cell: normalised over eight numbers, rounding errors grow
        job = dataclasses.replace(job, crop=CropConfig(size=64), lr=1e-6)
    if name == "lab":  # its gradients are large
        job = dataclasses.replace(job, lr=1e-5)
    if name != EVERYTHING:
        return job
    mixstyle = dataclasses.replace(job.resnet.mixstyle, prob=0.8)
    return dataclasses.replace(
        job, resnet=dataclasses.replace(job.resnet, dropout=0.3, mixstyle=mixstyle),
        style=StyleConfig(preset="free_jitter"),
        augment=AugmentConfig(noise=0.1, blur_prob=0.5, occlusion_prob=0.5, preset="strong"),
        teacher=dataclasses.replace(job.teacher, data=data / "faces", share=0.5),
    )  # fmt: skip


def stop_before(update: int) -> None:
    """Interrupt every process before it begins this update (from 0) of a training."""
    spread, begun = loop.spread, [0]

    @contextmanager
    def stopping(rank: int, world: int) -> Iterator[None]:
        if begun[0] == update:
            begun[0] = 0
            raise KeyboardInterrupt
        begun[0] += 1
        with spread(rank, world):
            yield

    loop.spread = stopping


def train(data: Path, folder: Path, *names: str) -> None:
    """Train what is named, or everything."""
    for name in names or NAMES:
        main = train_translator if name in trained_names() else train_detector
        try:
            main(job_of(name, data, folder / name))
        except KeyboardInterrupt:
            print(f"{name}: interrupted")


if __name__ == "__main__":
    if os.environ.get("STOP"):
        stop_before(int(os.environ["STOP"]))
    train(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
