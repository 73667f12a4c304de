"""Style codes that carry no layout: one global vector of the picture, and one of each region of the face (regions.py).

A vector pooled over a picture cannot say where a mouth is; the spatial latents of the released network can
(docs/design.md). Regional means are those of SEAN (Zhu et al., CVPR 2020, section 3.1), with soft masks from
landmarks for its segmentation. Knows no files and no losses.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.together import in_all, own, rolled, shared
from stylealign.errors import counted
from stylealign.translators.regions import REGIONS, pool


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeConfig:
    """The style encoder."""

    width: int = 24
    """Channels after the first halving; doubled by each further one up to `max_width`."""
    max_width: int = 96
    global_size: int = 96
    """Numbers of the code of the whole picture."""
    region_size: int = 16
    """Numbers of the code of each region; 0: no regional codes."""

    def __post_init__(self) -> None:
        if min(self.width, self.max_width, self.global_size) < 1 or self.region_size < 0:
            raise ValueError(
                f"codes of width {self.width} to {self.max_width}, {self.global_size} global and "
                f"{counted(self.region_size, 'regional number')}: "
                "expected at least 1 each, and 0 or more regional ones"
            )


class CodeEncoder(nn.Module):
    """(B, 3, S, S) -> global code (B, G) and regional codes (B, R, C). No normalisation: it would take style away.

    S is at least 16. A face whose masks are empty (nobody knows its landmarks) has regional codes of 0.
    """

    def __init__(self, config: CodeConfig, size: int) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        side, before, width = size, 3, config.width
        while side >= 8:
            layers.append(nn.Sequential(nn.Conv2d(before, width, 4, 2, 1), nn.LeakyReLU(0.2)))
            side, before, width = side // 2, width, min(2 * width, config.max_width)
        self.layers = nn.ModuleList(layers)
        regional = min(2 * config.width, config.max_width)  # channels at a quarter of the resolution
        self.to_global = nn.Linear(before + regional, config.global_size)
        self.to_region = nn.Linear(regional, config.region_size) if config.region_size else None

    def forward(self, image: Tensor, masks: Tensor | None) -> list[Tensor]:
        x, quarter = image, image
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == 1:
                quarter = x
        code = self.to_global(torch.cat([x.mean(dim=(2, 3)), quarter.mean(dim=(2, 3))], dim=1))
        if self.to_region is None:
            return [code, code.new_zeros(len(image), len(REGIONS), 0)]
        if masks is None:
            return [code, code.new_zeros(len(image), len(REGIONS), self.config.region_size)]
        known = (masks.sum(dim=(1, 2, 3)) > 0)[:, None, None]
        return [code, self.to_region(pool(quarter, masks)) * known]


def code_size(style: list[Tensor]) -> Tensor:
    """Mean square of all numbers of the codes: what keeps them small."""
    numbers = torch.cat([s.flatten(1) for s in style], dim=1)
    return numbers.square().mean()


def code_distance(style: list[Tensor], wanted: list[Tensor]) -> Tensor:
    """How far codes are from those wanted, in mean absolute differences between one wanted code and the next.

    1 is as wrong as another face. Wanted codes that differ by less than 0.01 count as 0.01 apart, and get no gradient.
    Regional codes that are 0 are not known (of faces without landmarks, or forgotten): nothing is to come to them, and
    nothing is compared with them. Where no wanted code and the next are both known, that term is 0.
    """
    terms = []
    for s, w in zip(style, wanted, strict=True):
        if s.numel():
            w = w.detach()
            wanted_known = _known(w)
            pairs = wanted_known & rolled(wanted_known, 1)
            apart = shared(_difference(w, rolled(w, 1), pairs))
            measured = shared(pairs.float().sum()) > 0
            term = _difference(s, w, _known(s) & wanted_known) / apart.clamp_min(0.01)
            terms.append(torch.where(measured, term, 0.0))
    return torch.stack(terms).mean()


def _known(codes: Tensor) -> Tensor:
    """(B,) bool: whose codes are known. Global ones (B, G) always are, regional ones (B, R, C) where they are not 0."""
    whole = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
    return whole if codes.ndim == 2 else (codes != 0).flatten(1).any(dim=1)


def _difference(one: Tensor, other: Tensor, counts: Tensor) -> Tensor:
    """Mean absolute difference of codes of the faces (B,) that count: this process's part of the whole batch's."""
    if in_all(1) == 1 and bool(counts.all()):
        return F.l1_loss(one, other)
    each = (one - other).abs().flatten(1).mean(dim=1)
    return (each * counts).sum() / shared(counts.float().sum()).clamp_min(1e-8)


def forget_regions(style: list[Tensor], probability: float) -> list[Tensor]:
    """Codes of which some faces' regional ones are 0, as those of donors without landmarks are.

    The faces are drawn from torch's global generator.
    """
    kept = own(torch.rand(in_all(len(style[0])), 1, 1)).to(style[0].device) >= probability
    return [style[0], style[1] * kept]


def roll(tensors: list[Tensor]) -> list[Tensor]:
    """The same tensors, each row moved to the next face."""
    return [rolled(t, 1) for t in tensors]
