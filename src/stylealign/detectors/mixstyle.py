"""MixStyle: in training, feature maps get each other's statistics, inside the detector instead of
before it (Zhou et al., ICLR 2021).

A layer without parameters. Its random numbers come from torch's global generator on the CPU, which the training seeds
before every update (training.fit), so that a continued run mixes as an uninterrupted one would. Knows no network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stylealign.batches.together import gathered, in_all, own


@dataclass(frozen=True, kw_only=True, slots=True)
class MixStyleConfig:
    """How often and how strongly statistics are mixed."""

    prob: float = 0.0
    """Share of updates in which a layer mixes; 0: never. 0.5 in the paper."""
    alpha: float = 0.1
    """Of the Beta(alpha, alpha) draw of each face's share: at 0.1 most faces are hardly changed or
    swapped whole, at 1 it is uniform."""

    def __post_init__(self) -> None:
        if not (0 <= self.prob <= 1 and self.alpha > 0):
            raise ValueError(f"mixstyle of prob {self.prob} and alpha {self.alpha}: expected 0 to 1, and above 0")


def mix_styles(x: Tensor, partner: Tensor, share: Tensor, eps: float = 1e-6) -> Tensor:
    """Equations 3 to 5: normalise each map, then give it a mix of its own statistics and its partner's.

    Args:
        x: (B, C, H, W) activations.
        partner: (B,) the face of the whole batch (batches/together.py) whose statistics face i gets.
        share: (B,) how much of its own it keeps.

    No gradient flows through the statistics.
    """
    with torch.no_grad():
        mean = x.mean(dim=(2, 3), keepdim=True)
        std = (x.var(dim=(2, 3), keepdim=True) + eps).sqrt()
        share = share.view(-1, 1, 1, 1).to(x)
        gain = (share * std + (1 - share) * gathered(std)[partner]) / std
        offset = share * mean + (1 - share) * gathered(mean)[partner] - gain * mean
    return x * gain + offset


class MixStyle(nn.Module):
    """The layer: the identity in evaluation, with prob 0, and for a batch of one."""

    def __init__(self, config: MixStyleConfig):
        super().__init__()
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        num = in_all(len(x))
        if not self.training or self.config.prob == 0 or num < 2:
            return x
        if float(torch.rand(())) >= self.config.prob:
            return x
        alpha = torch.full((num,), self.config.alpha)
        # On the CPU: a seed means the same on every device.
        share = own(torch.distributions.Beta(alpha, alpha).sample())
        return mix_styles(x, own(torch.randperm(num)).to(x.device), share)
