"""Weight-normalised convolutions with data-dependent initialisation, and the few blocks `vunet` is built from.

It knows no faces, losses or configs. Initialisation has two phases (docs/paper_map.md 3, "two-phase init"; Salimans &
Kingma 2016, section 3): construction draws every direction V ~ N(0, 0.05) and leaves gain 1 and bias 0; then one
forward pass inside `data_dependent_init(module)` sets gain = 1/std and bias = -mean/std per output channel from the
convolution's own pre-activation, and passes the normalised activation on, so that deeper layers see what they will
see in training.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches import together

_SMALLEST_STD = 1e-4  # below it a channel is constant on the first batch (an empty structure map): nothing to normalise


def normal_like(tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Unit Gaussian noise of `tensor`'s shape, drawn where `generator` lives: a seed means the same everywhere."""
    if generator is None:
        return together.normal_like(tensor)
    noise = torch.randn(tensor.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return noise.to(device=tensor.device, dtype=tensor.dtype)


def split_groups(tensor: Tensor) -> list[Tensor]:
    """(B, C, H, W) -> its four sub-lattices (B, C, H/2, W/2): group i has rows i//2::2 and columns i%2::2."""
    return [tensor[..., i // 2 :: 2, i % 2 :: 2] for i in range(4)]


def merge_groups(groups: list[Tensor]) -> Tensor:
    """Undo `split_groups`: four (B, C, H/2, W/2) -> (B, C, H, W)."""
    b, c, h, w = groups[0].shape
    stacked = torch.stack(groups, dim=2)  # (B, C, 4, h, w)
    return stacked.view(b, c, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c, 2 * h, 2 * w)


class WeightNormConv2d(nn.Module):
    """Convolution with weight gain * direction / ||direction||, one gain and one bias per output channel.

    Padding keeps the resolution at stride 1 and halves it at stride 2. (The released code pads stride-2 convolutions
    at the bottom and right only; here the padding is symmetric, which shifts nothing.)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.gain = nn.Parameter(torch.ones(out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.stride = stride
        self.padding = kernel_size // 2
        self.initialising = False
        nn.init.normal_(self.direction, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        unit = self.direction / torch.linalg.vector_norm(self.direction, dim=(1, 2, 3), keepdim=True)
        if self.initialising:
            return self._set_from_data(F.conv2d(x, unit, None, self.stride, self.padding))
        return F.conv2d(x, self.gain[:, None, None, None] * unit, self.bias, self.stride, self.padding)

    def _set_from_data(self, response: Tensor) -> Tensor:
        """This batch's `response` at mean 0 and deviation 1 per channel, after setting gain and bias to make it so."""
        std, mean = torch.std_mean(response.float(), dim=(0, 2, 3), correction=0)
        gain = torch.where(std > _SMALLEST_STD, 1 / std.clamp(min=_SMALLEST_STD), 1.0)
        with torch.no_grad():
            self.gain.copy_(gain)
            self.bias.copy_(-mean * gain)
        return (response - mean[:, None, None]) * gain[:, None, None]


@contextmanager
def data_dependent_init(module: nn.Module) -> Iterator[None]:
    """Inside this context a forward pass of `module` sets gains and biases, without gradients and dropout."""
    convs = [m for m in module.modules() if isinstance(m, WeightNormConv2d)]
    was_training = module.training
    module.eval()
    for conv in convs:
        conv.initialising = True
    try:
        with torch.no_grad():
            yield
    finally:
        for conv in convs:
            conv.initialising = False
        module.train(was_training)


class ResidualBlock(nn.Module):
    """y = x + Conv3x3(Dropout(ELU([x ; Nin(ELU(skip))]))), or without the skip's part (docs/paper_map.md 1.4)."""

    def __init__(self, channels: int, skip_channels: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.skip_nin = WeightNormConv2d(skip_channels, channels, kernel_size=1) if skip_channels else None
        self.conv = WeightNormConv2d(2 * channels if skip_channels else channels, channels)
        self.dropout = dropout

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        assert (skip is None) == (self.skip_nin is None), "a block takes a skip exactly when it was built for one"
        inner = x if self.skip_nin is None or skip is None else torch.cat([x, self.skip_nin(F.elu(skip))], dim=1)
        return x + self.conv(together.dropout(F.elu(inner), self.dropout, self.training))


class Upsample(nn.Module):
    """Double the resolution.

    "subpixel": a 3x3 convolution to four times the channels, then depth-to-space (the released code). "nearest":
    repeat pixels, then a 3x3 convolution: the same cost per weight read but four times the multiplications, and no
    checker pattern.
    """

    def __init__(self, in_channels: int, out_channels: int, mode: Literal["subpixel", "nearest"]) -> None:
        super().__init__()
        self.mode = mode
        self.conv = WeightNormConv2d(in_channels, 4 * out_channels if mode == "subpixel" else out_channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "subpixel":
            return F.pixel_shuffle(self.conv(x), 2)
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
