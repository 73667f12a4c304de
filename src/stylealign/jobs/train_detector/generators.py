"""The generators that san looks through: found in a finished `train-styles` run, or trained inside this one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from stylealign.batches.augment import AugmentConfig
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError, counted
from stylealign.face.crop import CropConfig
from stylealign.jobs import train_styles
from stylealign.progress import say
from stylealign.training.loop import LoopConfig


@dataclass(frozen=True, kw_only=True)
class StylesToTrain:
    """How generators are trained where no finished run of them is given."""

    run: Path
    """Run folder to make, inside the detector's half-written one"""
    styles: train_styles.AuxiliaryStyles
    generator: Any
    """Shape of the two generators, as the detector has them"""
    faces: FaceDataset
    """Data set whose pictures are looked at; labels are not"""
    split: str | None
    subset: str | None
    crop: CropConfig
    augment: AugmentConfig
    loop: LoopConfig
    """Of the detector: seed, precision and devices are taken from it"""


def train_generators(job: StylesToTrain) -> None:
    """Train the generators, or find them trained."""
    small, loop = job.styles, job.loop
    say(
        f"training the generators of san, {counted(small.steps, 'update')}: a finished train-styles run can be given "
        "with --styles"
    )
    train_styles.main(
        train_styles.TrainStyles(
            data=job.faces.folder, run=job.run, split=job.split, subset=job.subset, crop=job.crop, augment=job.augment,
            styles=small.styles, generator=job.generator, cyclegan=small.cyclegan,
            loop=LoopConfig(
                steps=small.steps, batch_size=small.batch_size, seed=loop.seed + 3003, ema_decay=0.0,
                precision=loop.precision,
                accelerator=loop.accelerator, devices=loop.devices, num_nodes=loop.num_nodes,
            ),
        )
    )  # fmt: skip


def load_generators(target: nn.Module, shape: Any, run: Path, size: int) -> None:
    """Fill a detector's generators from a finished `train-styles` run.

    Args:
        target: the generators.
        shape: their configuration.
        run: the finished run.
        size: side of the detector's crop in px.

    Raises UserError where they have another shape.
    """
    generators, card = train_styles.load_styles(run)
    state, own = generators.state_dict(), target.state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
        there = card["network"]
        raise UserError(
            f"{run}: its generators have blocks {there['blocks']} and width {there['width']}, this "
            f"detector's {shape.blocks} and {shape.width}; give --san.generator.width {there['width']} "
            f"--san.generator.blocks {there['blocks']}"
        )
    if card["crop"]["size"] != size:
        say(
            f"warning: {run}: its generators were trained on crops of {card['crop']['size']} px, this "
            f"detector's have {size}"
        )
    target.load_state_dict(state)
