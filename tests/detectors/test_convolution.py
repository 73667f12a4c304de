"""A depthwise convolution under a CPU's autocast: float32's numbers, bfloat16 out, nn.Conv2d's names and weights."""

import pytest
import torch
from torch import nn

from stylealign.detectors.convolution import Conv2d
from stylealign.detectors.trunks import build_trunk


@pytest.mark.parametrize("groups", [1, 8])
def test_it_is_nn_conv2d_without_autocast(groups: int) -> None:
    torch.manual_seed(0)
    ours, theirs = Conv2d(8, 8, 3, 1, 1, groups=groups), nn.Conv2d(8, 8, 3, 1, 1, groups=groups)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(ours(x), theirs(x))


def test_depthwise_is_computed_in_float32_and_answered_in_bfloat16() -> None:
    torch.manual_seed(0)
    depthwise, x = Conv2d(8, 8, 3, 1, 1, groups=8), torch.randn(2, 8, 6, 6)
    weight = depthwise.weight
    with torch.autocast("cpu", torch.bfloat16):
        out = depthwise(x)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, depthwise(x).bfloat16())
    (gradient,) = torch.autograd.grad(out.float().sum(), [weight])
    (exact,) = torch.autograd.grad(depthwise(x).sum(), [weight])
    assert torch.equal(gradient, exact)  # of bfloat16's own backward pass they differ


def test_every_depthwise_layer_of_the_mobile_trunks_is_one() -> None:
    for name in ("mobilenet_v2", "efficientnet_lite0"):
        trunk, _ = build_trunk(name, 64, 0.25, 32, 4)
        grouped = [part for part in trunk.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
        assert grouped
        assert all(isinstance(part, Conv2d) for part in grouped)
