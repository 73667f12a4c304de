"""How large a detector is: parameters and multiply-accumulates."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Size(NamedTuple):
    """How large a network is."""

    parameters: int
    """all of them"""
    trainable: int
    """those that learn; the others (a frozen generator) are only carried along"""
    macs: int
    """multiply-accumulates of one picture's answer"""


def describe(model: nn.Module, size: int) -> Size:
    """Count a detector's parameters, and its multiply-accumulates on one (3, size, size) picture.

    MACs are half the floating-point operations that torch.utils.flop_counter.FlopCounterMode counts in an evaluation
    pass: convolutions (transposed ones too), linear layers and matrix products. Normalisations, activations, pooling,
    resampling and sums are not counted, as is usual.
    """
    parameter = next(model.parameters())
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, size, size, device=parameter.device))
    finally:
        model.train(was_training)
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return Size(sum(n for n, _ in counts), sum(n for n, learns in counts if learns), counter.get_total_flops() // 2)
