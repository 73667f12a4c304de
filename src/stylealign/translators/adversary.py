"""A patch discriminator that learns beside a translator, update by update. Knows no translator and no files."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stylealign.training.loop import unwrap
from stylealign.training.optim import set_lr
from stylealign.translators.learning import Learning


class Adversary:
    """A discriminator with an optimizer of its own, at `lr` times the translator's learning rate.

    The translator's loss comes first (`judged`), then the discriminator's own update (`learn`).
    """

    module: nn.Module
    """Wrapped, for checkpoints"""
    optimizer: Optimizer

    def __init__(self, learning: Learning, discriminator: nn.Module, lr: float):
        self._engine, self._lr = learning.engine, lr
        discriminator = discriminator.to(learning.engine.device)
        wrapped: Any
        wrapped, self.optimizer = learning.engine.setup(discriminator, learning.adam_of(discriminator))
        self.module = wrapped

    def judged(self, made: Tensor) -> Tensor:
        """Its answers to what was made, for the translator's loss: it does not learn here, outside its wrapper, as
        there is no gradient of it to share between processes."""
        self.module.requires_grad_(False)
        with self._engine.autocast():
            return unwrap(self.module)(made)

    def learn(self, truth: Tensor, made: Tensor, lr: float, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """One update by a loss of its answers to the truth and to what was made, asked in one pass; the loss."""
        set_lr(self.optimizer, lr * self._lr)
        self.module.requires_grad_(True)
        answers = self.module(torch.cat([truth, made.detach()]))
        found = loss(answers[: len(truth)], answers[len(truth) :])
        self.optimizer.zero_grad(set_to_none=True)
        self._engine.backward(found)
        self.optimizer.step()
        return found
