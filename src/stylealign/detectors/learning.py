"""How a detector learns: what the job gives it, what it gives back, and the usual way, a loss on coordinates.

A detector with a way of its own (LAB's adversary, SAN's cascade, DVLN's heads) has a function from
`Learning` to `Learner` in its own file; the job (jobs/train_detector) owns data, augmentation, rhythm, checkpoints and
evaluation, the same for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stylealign.batches.batch import Batch
from stylealign.detectors.losses import LossConfig, landmark_loss, mean_error
from stylealign.face.schema import LandmarkSchema
from stylealign.training.optim import OptimizerConfig, lr_factor, make_optimizer, set_lr

if TYPE_CHECKING:  # importing it for the name alone would take two seconds
    from stylealign.training.loop import Engine


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a way of learning is given."""

    model: nn.Module
    """On its device, not wrapped, `mean_shape` filled"""
    engine: "Engine"
    """Fabric: `setup(module, optimizer)` wraps, `backward(loss)` goes back"""
    loss: LossConfig
    optimizer: OptimizerConfig
    lr: float
    """Highest learning rate"""
    weight_decay: float
    steps: int
    """Updates of the whole training"""
    batch_size: int
    """Faces an update, over all processes"""
    pretrained: bool
    """Whether the network holds ImageNet weights of the user's"""
    schemas: tuple[LandmarkSchema, ...]
    """The mark-up of each head; one, but for DVLN"""
    mean_shapes: tuple[np.ndarray, ...]
    """(P, 2) px of the crop, one a head"""
    size: int
    """Side of the crop in px"""

    def optimizer_of(self, parameters: Any) -> torch.optim.Optimizer:
        """An optimizer of a module's parameters, or of groups of them."""
        return make_optimizer(parameters, self.lr, self.weight_decay, self.optimizer)

    def lr_at(self, step: int) -> float:
        """The learning rate of an update (from 0)."""
        return self.lr * lr_factor(step, self.steps, self.optimizer)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A way of learning, ready to go."""

    modules: dict[str, nn.Module]
    """All that must survive a kill; "model" is the wrapped network"""
    optimizers: dict[str, Any]
    update: Callable[[tuple[Batch, ...], int], dict[str, Tensor]]
    """(an augmented batch a head, step) -> named loss terms with `total` and `error_px`;
    owns forward, backward and steps"""
    card: dict[str, Any] = field(default_factory=dict)
    """What the model's card shall say beside the usual"""


def learn_coordinates(learning: Learning) -> Learner:
    """The usual way: one loss between predicted and labelled coordinates."""
    engine = learning.engine
    model, optimizer = engine.setup(learning.model, learning.optimizer_of(learning.model))

    def update(batches: tuple[Batch, ...], step: int) -> dict[str, Tensor]:
        (batch,) = batches
        set_lr(optimizer, learning.lr_at(step))
        out = model(batch.image)
        loss = landmark_loss(out.landmarks, batch.landmarks, batch.visible, batch.weights(), learning.loss)
        optimizer.zero_grad(set_to_none=True)
        engine.backward(loss)
        optimizer.step()
        return {"total": loss, "error_px": mean_error(out.landmarks, batch.landmarks)}

    return Learner(modules={"model": model}, optimizers={"model": optimizer}, update=update)
