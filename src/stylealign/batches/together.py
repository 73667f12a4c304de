"""A batch that several processes share, learnt from as one process would: each holds every world-th face of it.

Inside `spread` (the training loop puts every update into it) random numbers are drawn for the whole batch by every
process, which keeps its own rows; sums, neighbours and normalisation are over the faces of all. So what a face goes
through does not depend on the number of processes. Outside of it, and in one process, everything is as it looks.
Every process must come through the same calls in the same order. Knows no network and no engine: torch alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

_rank, _world = 0, 1


@contextmanager
def spread(rank: int, world: int) -> Iterator[None]:
    """While it lasts, batches are parts: this process holds the faces rank, rank + world, ... of the whole ones."""
    global _rank, _world
    before = _rank, _world
    _rank, _world = rank, world
    try:
        yield
    finally:
        _rank, _world = before


def in_all(num: int) -> int:
    """Faces of the whole batch of which this process holds `num`."""
    return num * _world


def own(whole: Tensor, dim: int = 0) -> Tensor:
    """This process's rows of what there is for the whole batch, such as random numbers.

    What holds a batch several times, one after another, may come too: (k * faces, ...) -> (k * own faces, ...).
    """
    if _world == 1:
        return whole
    return whole[(slice(None),) * dim + (slice(_rank, None, _world),)]


class _Sum(torch.autograd.Function):
    """The sum over processes; gradients of all of them come back."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        summed = value.contiguous().clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Any:
        return _Sum.apply(gradient)


def _sum(value: Tensor) -> Tensor:
    return _Sum.apply(value)  # type: ignore[no-untyped-call]


def gathered(part: Tensor) -> Tensor:
    """The rows (B, ...) of all processes as one batch, in the order in which one process has them.

    Gradients flow back. Its memory is that of the whole batch.
    """
    if _world == 1:
        return part
    kind = torch.uint8 if part.dtype == torch.bool else part.dtype
    whole = torch.zeros(in_all(len(part)), *part.shape[1:], dtype=kind, device=part.device)
    whole[_rank::_world] = part.to(kind)
    return _sum(whole).to(part.dtype)


def rolled(part: Tensor, by: int) -> Tensor:
    """Each face's neighbour in the whole batch: row i gets row i - by, as torch.roll(part, by, 0) does alone."""
    if _world == 1:
        return part.roll(by, dims=0)
    return own(gathered(part).roll(by, dims=0))


@torch.no_grad()
def shared(value: Tensor) -> Tensor:
    """The mean over processes of a number such as the sum of a part's weights; no gradient.

    A sum over the part, divided by it, is this process's part of the whole batch's weighted mean: processes' losses
    (and gradients) are averaged, so that theirs is exactly that mean.
    """
    return value if _world == 1 else _sum(value.float()) / _world


def normal_like(part: Tensor) -> Tensor:
    """Unit Gaussian noise for a part, from torch's global generator: its rows of what the whole batch would get."""
    return torch.randn_like(part) if _world == 1 else own(torch.randn_like(_empty_whole(part)))


def dropout(part: Tensor, probability: float, training: bool) -> Tensor:
    """torch's dropout, with the mask that the whole batch would get."""
    if _world == 1 or not training or not probability:
        return F.dropout(part, probability, training)
    return part * own(F.dropout(torch.ones_like(_empty_whole(part)), probability, True))


def _empty_whole(part: Tensor) -> Tensor:
    """Room for the whole batch that lies in memory as the part does: random numbers are drawn in that order."""
    planes = part.ndim != 4 or part.is_contiguous()
    layout = torch.contiguous_format if planes else torch.channels_last
    shape = (in_all(len(part)), *part.shape[1:])
    return torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=layout)


class Dropout(nn.Dropout):
    """`dropout` as a layer."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p, self.training)


class _Normalised(torch.autograd.Function):
    """(x, weight, bias, eps) -> normalised over the faces of all processes, and the mean and the variance of all.

    Torch's own kernels do what goes over pictures; what is sent is two numbers a channel, forward and backward.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        num = x.numel() // x.shape[1]
        mean, var = torch.zeros_like(weight), torch.zeros_like(weight)
        if num > 1:
            F.batch_norm(x, mean, var, None, None, True, 1.0, eps)  # momentum 1: what is kept is this batch's
        else:
            mean.copy_(x.flatten())
        mean, var = mean.double(), var.double() * ((num - 1) / num)
        moments = torch.stack([mean, var + mean.square()])  # a variance is a difference of two of them: in double
        torch.distributed.all_reduce(moments)
        mean, square = (moments / _world).unbind()
        var = (square - mean.square()).clamp_min(0).to(x.dtype)
        mean = mean.to(x.dtype)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.num = eps, in_all(num)
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        x, weight, mean, var = ctx.saved_tensors
        # As if mean and variance were given; what goes through them is added below.
        to_x, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([to_bias, to_weight])
        torch.distributed.all_reduce(sums)
        of_gradient, of_product = sums / ctx.num
        deviation = (var + ctx.eps).rsqrt()
        slope = weight * deviation.square() * of_product
        offset = weight * deviation * of_gradient - slope * mean
        shape = (1, -1, *[1] * (x.ndim - 2))
        return to_x.sub_(offset.view(shape)).addcmul_(x, slope.view(shape), value=-1), to_weight, to_bias, None


class BatchNorm(_BatchNorm):
    """Batch normalisation over the faces of all processes, on any device (torch's own does so on GPUs alone).

    Its values are those of one process up to rounding. Parts must be of one size, as those of the loop are.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch normalisation of {input.ndim} dimensions, expected at least 2")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or _world == 1:
            return super().forward(input)
        weight = torch.ones(self.num_features, device=input.device) if self.weight is None else self.weight
        bias = torch.zeros_like(weight) if self.bias is None else self.bias
        out, mean, var = _Normalised.apply(input.float(), weight, bias, self.eps)  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None:
            num = in_all(input.numel() // input.shape[1])
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_((var * (num / max(1, num - 1))).to(self.running_var.dtype), share)
        return out.to(input.dtype)


def with_normalisation_together(module: nn.Module) -> nn.Module:
    """The module, every batch normalisation in it one of `BatchNorm`; weights, buffers and their names stay."""
    if isinstance(module, _BatchNorm):
        made = BatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats, device="meta"
        )
        made._parameters, made._buffers = module._parameters, module._buffers  # the very ones an optimizer holds
        return made.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, with_normalisation_together(child))
    return module
