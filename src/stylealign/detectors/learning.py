"""How a detector learns: what the job gives it, what it gives back, and the usual way, a loss on coordinates.

A detector with a way of its own (LAB's adversary, SAN's cascade, DVLN's heads) has a function from `Learning` to `Learner` in its
own file; the job (train.py) owns data, augmentation, rhythm, checkpoints and evaluation, the same for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from stylealign.batches.batch import Batch
from stylealign.data.dataset import FaceDataset
from stylealign.detectors.losses import landmark_loss, mean_error
from stylealign.face.schema import LandmarkSchema
from stylealign.training.optim import lr_factor, make_optimizer, set_lr

if TYPE_CHECKING:
    from stylealign.jobs.train_detector.job import TrainDetector
    from stylealign.training.loop import Engine


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a way of learning is given."""

    model: nn.Module
    """On its device, not wrapped, `mean_shape` filled"""
    config: "TrainDetector"
    engine: "Engine"
    """Fabric: `setup(module, optimizer)` wraps, `backward(loss)` goes back"""
    schemas: tuple[LandmarkSchema, ...]
    """The mark-up of each head; one, but for DVLN"""
    mean_shapes: tuple[np.ndarray, ...]
    """(P, 2) px of the crop, one a head"""
    size: int
    """Side of the crop in px"""
    faces: FaceDataset
    """The training faces of the first head (the first data set of its mix), for auxiliary trainings"""
    folder: Path
    """The half-written run; auxiliary runs go into folders of it"""


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A way of learning, ready to go."""

    modules: dict[str, nn.Module]
    """All that must survive a kill; "model" is the wrapped network"""
    optimizers: dict[str, Any]
    update: Callable[[tuple[Batch, ...], int], dict[str, Tensor]]
    """(an augmented batch a head, step) -> named loss terms with `total` and `error_px`; owns forward, backward and steps"""
    card: dict[str, Any] = field(default_factory=dict)
    """What the model's card shall say beside the usual"""


def lr_at(step: int, config: "TrainDetector") -> float:
    """The learning rate of an update (from 0)."""
    return config.lr * lr_factor(step, config.loop.steps, config.optimizer)


def learn_coordinates(learning: Learning) -> Learner:
    """The usual way: one loss between predicted and labelled coordinates."""
    config, engine = learning.config, learning.engine
    optimizer = make_optimizer(learning.model, config.lr, config.weight_decay, config.optimizer)
    model, optimizer = engine.setup(learning.model, optimizer)

    def update(batches: tuple[Batch, ...], step: int) -> dict[str, Tensor]:
        (batch,) = batches
        set_lr(optimizer, lr_at(step, config))
        out = model(batch.image)
        loss = landmark_loss(out.landmarks, batch.landmarks, batch.visible, batch.weights(), config.loss)
        optimizer.zero_grad(set_to_none=True)
        engine.backward(loss)
        optimizer.step()
        return {"total": loss, "error_px": mean_error(out.landmarks, batch.landmarks)}

    return Learner(modules={"model": model}, optimizers={"model": optimizer}, update=update)
