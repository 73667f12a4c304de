"""A patch discriminator with spectral norm, and its hinge losses (Miyato et al., ICLR 2018; Isola et al., CVPR 2017).

SAN's own, with instance normalisation and least squares as published, is in detectors/san/cyclegan.py. Knows no files
and no landmarks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """(B, 3, S, S) -> logits (B, 1, h, w), positive where a patch looks real.

    After two halvings of the resolution a patch is of 18 px, after three of 38 px. No normalisation over a picture or
    a batch, so that a patch's answer depends on nothing but the patch.
    """

    def __init__(self, width: int, halvings: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for i in range(halvings):
            layers += [spectral_norm(nn.Conv2d(before, width * 2**i, 4, 2, 1)), nn.LeakyReLU(0.2)]
            before = width * 2**i
        layers += [spectral_norm(nn.Conv2d(before, before, 3, 1, 1)), nn.LeakyReLU(0.2)]
        layers.append(spectral_norm(nn.Conv2d(before, 1, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of max(0, 1 - real) + max(0, 1 + fake) over patches."""
    return F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """Minus the mean logit of what was made."""
    return -torch.mean(fake.float())
