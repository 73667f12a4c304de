"""A convolution whose depthwise form is as fast in bfloat16 as the rest of a network, and the sides of maps."""

import torch
from torch import Tensor, nn


class Conv2d(nn.Conv2d):
    """nn.Conv2d, computed in float32 where it has groups and a CPU's autocast asks for bfloat16.

    A CPU's backward pass of depthwise convolutions in bfloat16 takes several times as long as in float32. Weights and
    their names are nn.Conv2d's.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.groups == 1 or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))


def sides(maps: Tensor) -> tuple[int, int]:
    """Height and width of (..., h, w) maps as numbers: while a network is traced they become constants of the graph.

    Crops are of one size. Read from `shape` there, they would be computed anew by dozens of small nodes in every call.
    """
    height, width = maps.shape[-2:]
    return int(height), int(width)
