"""Where faces are: a trunk, a pyramid, and for each cell of a map whether a face's centre lies in it, how large the
face is and where in the cell (Zhou et al., "Objects as Points", 2019). What is learnt, and how it is read. Knows no
files and no pictures but tensors.

A face is the square of its landmarks' longer side, round the middle of their box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.detectors.convolution import Conv2d
from stylealign.detectors.fpn import TrunkName
from stylealign.detectors.heads.pyramid import Pyramid
from stylealign.detectors.trunks import build_trunk

STRIDE = 4  # px of the picture from one cell to the next, as in the paper
FEW = 0.1  # how sure the untrained network is of a face anywhere
SPREAD, LEAST_SPREAD = 0.05, 0.6  # the Gaussian round a centre: over the face's side, and at least, cells
MOST = 100  # faces in a picture


@dataclass(frozen=True, kw_only=True, slots=True)
class FinderConfig:
    """The network's shape."""

    trunk: TrunkName = "mobilenet_v2"
    """What looks at the picture."""
    width: float = 1.0
    """Of the trunk, over its usual one; ImageNet weights need 1."""
    neck: int = 64
    """Channels of the pyramid between trunk and head."""

    def __post_init__(self) -> None:
        if not self.width > 0 or self.neck < 1:
            raise ValueError(f"finder of width {self.width} and neck {self.neck}: expected above 0, and at least 1")


class FinderOutput(NamedTuple):
    """An answer for each cell, H = W = size / STRIDE."""

    centre: Tensor
    """(B, H, W) logit of a face's centre lying in the cell"""
    side: Tensor
    """(B, H, W) natural logarithm of the face's side over the picture's"""
    offset: Tensor
    """(B, 2, H, W) x and y of the centre from the cell's middle, cells"""


class CentreFinder(nn.Module):
    """(B, 3, size, size) pictures in [-1, 1] -> FinderOutput."""

    def __init__(self, size: int, config: FinderConfig):
        super().__init__()
        self.size, self.config = size, config
        self.trunk, channels = build_trunk(config.trunk, size, config.width, 32, STRIDE)
        self.pyramid = Pyramid(channels, config.neck)
        last = nn.Conv2d(config.neck, 4, 1)
        self.head = nn.Sequential(
            Conv2d(config.neck, config.neck, 3, 1, 1, bias=False), nn.BatchNorm2d(config.neck), nn.ReLU(inplace=True),
            last,
        )  # fmt: skip
        nn.init.normal_(last.weight, std=1e-3)
        with torch.no_grad():
            assert last.bias is not None
            last.bias.copy_(torch.tensor([np.log(FEW / (1 - FEW)), np.log(0.3), 0.0, 0.0]))

    def forward(self, image: Tensor) -> FinderOutput:
        out = self.head(self.pyramid(self.trunk(image)))
        return FinderOutput(out[:, 0], out[:, 1], out[:, 2:])


class Centres(NamedTuple):
    """What a batch of pictures shall be answered."""

    heat: Tensor
    """(B, H, W) 1 at the centre of a face, less round it"""
    counts: Tensor
    """(B, H, W) 1, or 0 where it is not known whether there is a face"""
    at: Tensor
    """(N, 3) int64 picture, row and column of each face's cell"""
    side: Tensor
    """(N,) as of FinderOutput, at those cells"""
    offset: Tensor
    """(N, 2)"""


def centres_of(faces: Sequence[np.ndarray], unknown: Sequence[np.ndarray], size: int) -> Centres:
    """The labels of pictures `size` px wide.

    Args:
        faces: of each picture (n, 4) squares x0, y0, x1, y1 px; what lies outside of the picture is left out.
        unknown: of each picture (m, 4) boxes in which nothing is asked of the answer, but at faces' centres.
    """
    cells = size // STRIDE
    heat = np.zeros((len(faces), cells, cells), np.float32)
    counts = np.ones_like(heat)
    rows, columns = np.mgrid[:cells, :cells]
    at, sides, offsets = [], [], []
    for i, (squares, hidden) in enumerate(zip(faces, unknown, strict=True)):
        for box in hidden:
            x0, y0, x1, y1 = np.clip((box + 0.5) / STRIDE, 0, cells)
            counts[i, int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = 0
        for box in squares:
            x, y = ((box[:2] + box[2:]) / 2 + 0.5) / STRIDE - 0.5  # cells, middles at integers
            column, row = round(float(x)), round(float(y))
            side = float((box[2:] - box[:2]).max())
            if not (0 <= column < cells and 0 <= row < cells and side > 0):
                continue
            spread = max(LEAST_SPREAD, SPREAD * side / STRIDE)
            bump = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * spread**2))
            heat[i] = np.maximum(heat[i], bump)
            counts[i, bump > FEW] = 1
            at.append((i, row, column))
            sides.append(np.log(side / size))
            offsets.append((x - column, y - row))
    return Centres(
        torch.from_numpy(heat), torch.from_numpy(counts), torch.tensor(at, dtype=torch.int64).reshape(-1, 3),
        torch.tensor(sides, dtype=torch.float32), torch.tensor(offsets, dtype=torch.float32).reshape(-1, 2),
    )  # fmt: skip


def finder_terms(out: FinderOutput, truth: Centres) -> dict[str, Tensor]:
    """Each term of the loss, a scalar: the focal loss of the centres (equation 1 of the paper, alpha 2, beta 4), and
    the mean distance of sides and offsets at the centres. Where `counts` is 0, nothing is learnt."""
    centre = out.centre.float()
    found = torch.sigmoid(centre)
    is_centre = torch.zeros_like(truth.heat)
    picture, row, column = truth.at.unbind(1)
    is_centre[picture, row, column] = 1
    hit = is_centre * (1 - found).square() * F.softplus(-centre)
    false = (1 - is_centre) * (1 - truth.heat) ** 4 * found.square() * F.softplus(centre)
    number = max(1, len(truth.at))
    return {
        "centre": (truth.counts * (hit + false)).sum() / number,
        "side": (out.side.float()[picture, row, column] - truth.side).abs().sum() / number,
        "offset": (out.offset.float()[picture, :, row, column] - truth.offset).abs().sum() / (2 * number),
    }


class Squares(NamedTuple):
    """Faces in a picture, surest first."""

    boxes: np.ndarray
    """(n, 4) squares x0, y0, x1, y1 px"""
    scores: np.ndarray
    """(n,) 0 to 1"""


def squares_of(out: FinderOutput, size: int, least_score: float) -> list[Squares]:
    """The faces of each picture of a batch: cells that are surer than the eight round them, and sure enough."""
    score = torch.sigmoid(out.centre.float())
    peak = score == F.max_pool2d(score[:, None], 3, 1, 1)[:, 0]
    found = []
    for i in range(len(score)):
        row, column = torch.nonzero(peak[i] & (score[i] >= least_score), as_tuple=True)
        sure = score[i, row, column]
        order = torch.argsort(-sure, stable=True)[:MOST]
        row, column, sure = row[order], column[order], sure[order]
        cell = torch.stack([column, row], 1) + out.offset[i, :, row, column].float().T
        centre = (cell + 0.5) * STRIDE - 0.5
        half = size * torch.exp(out.side[i, row, column].float().clamp(-6, 1))[:, None] / 2
        found.append(
            Squares(torch.cat([centre - half, centre + half], 1).cpu().double().numpy(), sure.cpu().double().numpy())
        )
    return found
