"""The head `pip`: which cell a landmark lies in, where in it, and where its neighbours lie (pixel-in-pixel, Jin, Liao &
Shao, IJCV 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stylealign.detectors.heads.parts import HeadConfig, Truth, square, started
from stylealign.detectors.heads.pyramid import Pyramid
from stylealign.detectors.output import DetectorOutput
from stylealign.errors import UserError

SURE = 1 / 8  # standard deviation in cells that even a map of one cell is given


class PIPHead(nn.Module):
    """Features -> landmarks, covariances, and in `stages` scores (B, P, n, n), offsets (B, 2, P, n, n) and neighbours'
    offsets (B, 2, P k, n, n) in cells from each cell's upper left corner.

    The answer is the mean of what the best cell says and what the best cells of those landmarks say whose neighbour it
    is (the paper's reverse neighbours). Neighbours are the nearest in the mean shape; buffer `neighbours` (P, k) holds
    them once training has begun. The covariance is that of all cells' proposals, each weighing what its score is.
    """

    neighbours: Tensor

    def __init__(
        self, channels: Sequence[int], stride: int, num_points: int, size: int, neck: int, config: HeadConfig,
        terms: Sequence[str],
    ):  # fmt: skip
        super().__init__()
        self.num_points, self.size, self.cells = num_points, size, -(-size // stride)
        k = min(config.neighbours, num_points - 1)
        if k < 1:
            raise UserError("head pip tells of a landmark's neighbours: expected a mark-up of at least 2 points")
        self.pyramid = Pyramid(channels, neck)
        self.points = started(nn.Conv2d(neck, num_points * (3 + 2 * k), 1), 0.1)  # scores, x, y, neighbours' x, y
        self.register_buffer("neighbours", _in_turn(num_points, k))

    def settle(self, mean_shape: Tensor) -> None:
        """Fill `neighbours` from a mean shape (P, 2).

        Those that came with the weights of another training stay: its channels tell of them and of no others.
        """
        if not torch.equal(self.neighbours, _in_turn(*self.neighbours.shape).to(self.neighbours)):
            return
        apart = torch.cdist(mean_shape[None].double(), mean_shape[None].double())[0].fill_diagonal_(torch.inf)
        self.neighbours.copy_(apart.argsort(dim=1, stable=True)[:, : self.neighbours.shape[1]])

    def forward(self, features: Sequence[Tensor], mean_shape: Tensor) -> DetectorOutput:
        x = self.pyramid(features)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            p, k, n, cell = self.num_points, self.neighbours.shape[1], self.cells, self.size / self.cells
            found = self.points(x.float())
            scores, offsets, others = found[:, :p], found[:, p : 3 * p], found[:, 3 * p :]
            offsets, others = offsets.unflatten(1, (2, p)), others.unflatten(1, (2, p * k))
            best = scores.flatten(2).argmax(dim=2)  # (B, P)
            corner = torch.stack([best % n, torch.div(best, n, rounding_mode="floor")], dim=1).float()  # (B, 2, P)
            mine = corner + at_cell(offsets, best)
            told = corner.repeat_interleave(k, dim=2) + at_cell(others, best.repeat_interleave(k, dim=1))  # (B, 2, P k)
            tells = self.neighbours.flatten()[:, None] == torch.arange(p, device=x.device)  # (P k, P)
            votes = tells.to(told.dtype)
            answer = (mine + told @ votes) / (1 + votes.sum(dim=0))  # (B, 2, P)
            landmarks = answer.transpose(1, 2) * cell - 0.5
            return DetectorOutput(
                landmarks,
                stages=(scores, offsets, others),
                covariance=self._covariance(scores, offsets, answer) * cell**2,
            )

    def _covariance(self, scores: Tensor, offsets: Tensor, answer: Tensor) -> Tensor:
        """(B, P, 2, 2) squared cells."""
        cells = torch.arange(self.cells, device=scores.device, dtype=scores.dtype)
        weights = scores.clamp_min(1e-3).flatten(2)
        weights = weights / weights.sum(dim=2, keepdim=True)
        dx = (cells + offsets[:, 0]).flatten(2) - answer[:, 0, :, None]  # (B, P, n n)
        dy = (cells[:, None] + offsets[:, 1]).flatten(2) - answer[:, 1, :, None]
        xx, xy, yy = ((weights * product).sum(dim=2) for product in (dx * dx, dx * dy, dy * dy))
        return square(xx + SURE**2, xy, yy + SURE**2)


def _in_turn(num_points: int, k: int) -> Tensor:
    """(P, k) the landmarks that follow in number: not settled yet, as no mean shape gives these to 3 or more."""
    return (torch.arange(num_points)[:, None] + torch.arange(1, k + 1)) % num_points


def at_cell(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, 2, N) values of (B, 2, N, n, n) maps, each at its own one of (B, N) cells."""
    index = cells[:, None, :, None].expand(-1, 2, -1, 1)
    return maps.flatten(3).gather(3, index)[..., 0]


def pip_term(head: nn.Module, out: DetectorOutput, truth: Truth) -> Tensor:
    """The paper's three losses: squared error of a landmark's scores, which shall be 1 in its cell and 0 elsewhere,
    the mean over cells; at that cell the absolute error of its place and of its neighbours', in cells, the mean
    over neighbours by their weights. Landmarks beyond the crop count to the nearest cell."""
    scores, offsets, others = out.stages
    n = scores.shape[-1]
    k = others.shape[2] // scores.shape[1]
    neighbours = head.neighbours
    assert isinstance(neighbours, Tensor)
    place = (truth.landmarks + 0.5) * (n / truth.size)  # (B, P, 2) cells from the crop's corner
    corner = place.detach().floor().clamp(0, n - 1)
    cell = (corner[..., 1] * n + corner[..., 0]).long()
    target = torch.zeros_like(scores).flatten(2).scatter_(2, cell[..., None], 1.0)
    score = (scores.flatten(2) - target).square().mean(dim=2)
    where = (place - corner).transpose(1, 2)
    mine = (at_cell(offsets, cell) - where).abs().mean(dim=1)
    told = at_cell(others, cell.repeat_interleave(k, dim=1)).unflatten(2, (-1, k))  # (B, 2, P, k)
    theirs = (place[:, neighbours] - corner[:, :, None]).permute(0, 3, 1, 2)
    known = truth.labelled.to(score.dtype)
    if truth.weight.numel():
        known = known * truth.weight
    known = known[:, neighbours]  # (B, P, k)
    apart = ((told - theirs).abs().mean(dim=1) * known).sum(dim=2) / known.sum(dim=2).clamp_min(1e-8)
    return truth.terms.pip_score * score + mine + apart


TERMS = {"pip": pip_term}
