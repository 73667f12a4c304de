"""How a translator learns: what the job gives it and what it gives back.

Each translator has a function from `Learning` to `Learner`. The job `train-translator` does the rest, the same for
all of them: data, augmentation, when to log and save, previews and the judge. Knows no files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.augment import AugmentConfig
from stylealign.batches.batch import Batch
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.reconstruction import Reconstruction
from stylealign.translators.schedule import LearningRateConfig, learning_rate

if TYPE_CHECKING:  # importing it for the name alone would take two seconds
    from stylealign.training.loop import Engine


class Vary(Protocol):
    """Cuts a batch of crops with a margin to the network's size, varied at random."""

    def __call__(self, batch: Batch, step: int, view: int = 0, motions: AugmentConfig | None = None) -> Batch:
        """A function of (seed, step, view); `motions` None: the job's `augment`."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a way of learning is given."""

    model: nn.Module
    """Fresh, on the CPU, not wrapped"""
    own: Any
    """What can be set of the way of learning, of the class that the translator's entry names; None where it has none"""
    engine: "Engine"
    """Fabric: `setup(module, optimizer)` wraps, `backward(loss)` goes back"""
    schema: LandmarkSchema
    size: int
    """Side of the crop in px"""
    maps: Callable[[Tensor], Tensor]
    """Landmarks (B, P, 2) -> structure maps (B, C, S, S)"""
    vary: Vary
    first: Batch
    """Varied faces that are the same in every process, for first gains and for the scales of losses"""
    reconstruction: Reconstruction
    """On the device, not calibrated yet"""
    watch: "FrozenLandmarks | None"
    """A frozen detector, where the translator's losses ask for one; never the judge"""
    lr: LearningRateConfig
    steps: int
    """Updates of the whole training"""
    seed: int

    def adam_of(self, module: nn.Module) -> torch.optim.Optimizer:
        """Adam for a module's parameters, once they lie on the device."""
        parameters = module.to(self.engine.device).parameters()
        return torch.optim.Adam(parameters, lr=self.lr.start, betas=self.lr.betas)

    def lr_at(self, step: int) -> float:
        """The learning rate of an update (from 0)."""
        return learning_rate(step, self.steps, self.lr)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A way of learning, ready to go."""

    modules: dict[str, nn.Module]
    """All that must survive a kill; "model" is the wrapped network"""
    optimizers: dict[str, Any]
    update: Callable[[Batch, int], dict[str, Tensor]]
    """(a batch of crops with a margin, step) -> named loss terms with `total`; owns forward, backward and steps"""


class FrozenLandmarks:
    """A detector that does not learn: images (B, 3, S, S) of any size in [-1, 1] -> landmarks (B, P, 2) in their px.

    Gradients flow to the images, not to the detector.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        self.network, self.size = network.requires_grad_(False).eval(), size

    def __call__(self, image: Tensor) -> Tensor:
        scale = image.shape[-1] / self.size
        if scale != 1:
            image = F.interpolate(image, size=self.size, mode="bilinear", antialias=True)
        return (self.network(image).landmarks.float() + 0.5) * scale - 0.5


def landmark_drift(watch: FrozenLandmarks, made: Tensor, content: Tensor) -> Tensor:
    """How far a detector's landmarks on `made` lie from those on `content`: on average, in percent of the crop's side.

    They are compared with the detector's landmarks on the photograph and not with the labels, so that its own errors
    cost nothing. `content` gets no gradient.
    """
    with torch.no_grad():
        wanted = watch(content)
    off = watch(made.clamp(-1, 1)) - wanted
    distance = (off.square().sum(dim=-1) + 1e-12).sqrt() - 1e-6  # smooth where nothing is off
    return 100 * distance.mean() / made.shape[-1]
