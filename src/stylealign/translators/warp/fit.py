"""Which donors can be bent onto a face, and which fit it best: by landmarks alone. Knows no pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.pixels import MIN_POINTS
from stylealign.face.geometry import align, face_size
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import track
from stylealign.translators.warp.field import Bend, bend, determinants, donor_places, of_rows
from stylealign.translators.warp.openings import Opening, area, lacking, openings_of, outline_distance, outlined

_OPEN = 0.3  # weight of the width of mouth and eyes beside the shape
_SPACING, _REACH = 0.04, 1.0  # of the places where the map is looked at, in face sizes from the middle
ARM_SPACING = 0.08
"""The same inside of a training, where it has to be fast."""
_SHUT = 0.004  # squared face sizes: area below which an opening nearly touches
_NEAR = 0.2  # face sizes: what is nearer to a landmark than that is the face
_STREAM = 41  # of random numbers, that draws the donors offered
_FEW = 4  # pairs that are gone through at once, not from what is quickly seen on
_AT_ONCE = 32  # pairs that are looked at together where those before were refused


@dataclass(frozen=True, kw_only=True, slots=True)
class WarpConfig:
    """Which donors `warp` takes, and when it refuses a pair."""

    offered: int = 1000
    """Donors drawn for each face, by the seed, of which the nearest in shape may be taken: those of the same pose, with
    mouth and eyes as wide open. More fit better."""
    variety: float = 0.03
    """Share of those offered that fit well enough: of them, so many as are asked for are taken that differ most in
    look. More differ more and fit less; 0: the nearest in shape, whatever they look like."""
    stretch: float = 4.0
    """Times that an area of the donor's face may be enlarged."""
    stretched: float = 0.02
    """Share of the face that may be enlarged more than that."""
    apart: float = 0.02
    """How far, in face sizes, a landmark may come to lie beside its place. Only lips and lids that touch in the content
    and not in the donor do at all."""

    def __post_init__(self) -> None:
        if self.offered < 1:
            raise ValueError(f"offered is {self.offered}, expected at least 1")
        if not 0 <= self.variety <= 1:
            raise ValueError(f"variety is {self.variety}, expected 0 to 1")
        if self.stretch <= 1 or not 0 <= self.stretched <= 1 or self.apart <= 0:
            raise ValueError(
                f"stretch {self.stretch}, stretched {self.stretched} and apart {self.apart}: expected above 1, from 0 "
                "to 1, and above 0"
            )


class Faults(NamedTuple):
    """What is wrong with some maps."""

    unknown: Tensor
    """(B,) bool: too few landmarks are known in both"""
    folded: Tensor
    """(B,) bool: somewhere the map turns over"""
    stretched: Tensor
    """(B,) share of the face that is enlarged too much"""
    apart: Tensor
    """(B,) how far off the worst landmark lies, in face sizes"""

    def refused(self, config: WarpConfig) -> Tensor:
        """(B,) bool: whether the pair is refused."""
        return self.unknown | self.folded | (self.stretched > config.stretched) | (self.apart > config.apart)

    def reason(self, config: WarpConfig) -> str:
        """Why the first pair is refused."""
        if bool(self.unknown[0]):
            return "too few landmarks are known in both"
        if bool(self.folded[0]):
            return "the picture would fold over itself, as of heads that are turned to other sides"
        if float(self.stretched[0]) > config.stretched:
            return (
                f"{float(self.stretched[0]):.0%} of the face is enlarged over {config.stretch:g} times, as of heads "
                "that are turned differently"
            )
        return "a mouth or an eye that is shut in the one is open in the other"


def _places(device: torch.device, spacing: float, every: int = 1) -> Tensor:
    axis = torch.arange(-_REACH, _REACH + 1e-6, spacing, dtype=torch.float64, device=device)[::every]
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(-1, 2)


def faults(
    found: Bend, content: Tensor, donors: Tensor, openings: tuple[Opening, ...], stretch: float,
    spacing: float = _SPACING,
) -> Faults:  # fmt: skip
    """What is wrong with the maps `found` from (B, P, 2) content landmarks to the donors'.

    They are looked at on a grid of `spacing` face sizes.
    """
    folded, stretched = _bent_wrong(found, content, donors, openings, stretch, _places(content.device, spacing))
    return Faults(~found.ok, folded, stretched, _apart(found, content, donors))


def _bent_wrong(
    found: Bend, content: Tensor, donors: Tensor, openings: tuple[Opening, ...], stretch: float, at: Tensor
) -> tuple[Tensor, Tensor]:
    """(B,) whether the map folds at one of the places (G, 2), and the share of those on the face that are enlarged more
    than `stretch` times.

    Openings do not count where the content's own pixels are laid in, nor inside of lips and lids that nearly touch.
    """
    values, square = determinants(found, at)
    source = torch.nan_to_num(content.double())
    looked_at = torch.ones_like(values, dtype=torch.bool)
    px = at[None] * found.content[:, None, 2:] + found.content[:, None, :2]
    for opening in openings:
        outline = source[:, list(opening.outline)]
        laid = lacking(opening, content, donors, (found.content[:, 2], found.donor[:, 2]))
        laid &= outlined(opening.name, openings, content)
        shut = area(outline) < _SHUT * found.content[:, 2].square()
        rows = torch.nonzero(laid | shut).view(-1)
        if len(rows):
            inside = outline_distance(px[rows], outline[rows]) < 0.01 * found.content[rows, 2:]
            looked_at[rows] &= ~inside
    face = looked_at & (square < _NEAR**2)
    stretched = ((values < 1 / stretch) & face).sum(dim=1) / face.sum(dim=1).clamp(min=1)
    return ((values <= 0) & looked_at).any(dim=1), stretched


def _apart(found: Bend, content: Tensor, donors: Tensor) -> Tensor:
    """(B,) how far off its place the worst landmark lies, in face sizes."""
    source, target = (torch.nan_to_num(points.double()) for points in (content, donors))
    miss = (donor_places(found, source) - target).norm(dim=-1) / found.donor[:, 2:]
    return torch.where(found.known, miss, 0.0).amax(dim=1)


def reference_shape(landmarks: np.ndarray) -> np.ndarray:
    """(P, 2) the mean shape of whole faces (N, P, 2), its face size 1; of one where there is no other, else 0."""
    whole = np.isfinite(landmarks).all(axis=(1, 2))
    whole &= (np.ptp(np.where(whole[:, None, None], landmarks, 0.0), axis=1) > 0).all(axis=1)
    if not whole.any():
        return np.zeros(landmarks.shape[1:])
    shape = align(np.asarray(landmarks[whole], np.float64)).mean(axis=0)
    return shape / face_size(shape)


def descriptors(landmarks: np.ndarray, reference: np.ndarray, schema: LandmarkSchema) -> np.ndarray:
    """(N, D): numbers of faces (N, P, 2) that are near where shapes, and the widths of mouth and eyes, are alike.

    Each shape is turned, scaled and moved onto the reference (P, 2), so that place, size and a turn in the picture
    count nothing. What is not known of a face is taken from the reference; a face of which too little is known is far
    from every other (its numbers are infinite).
    """
    landmarks = np.asarray(landmarks, np.float64)
    known = np.isfinite(landmarks).all(axis=2)
    shape, to = (np.nan_to_num(landmarks) @ [1, 1j]) * known, np.broadcast_to(reference @ [1, 1j], known.shape) * known
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    middle = to.sum(axis=1, keepdims=True) / count
    shape, to = ((z - z.sum(axis=1, keepdims=True) / count) * known for z in (shape, to))
    power = (np.abs(shape) ** 2).sum(axis=1, keepdims=True)
    turn = (shape.conj() * to).sum(axis=1, keepdims=True) / np.maximum(power, 1e-12)
    placed = np.where(known, shape * turn + middle, reference @ [1, 1j])
    openings = openings_of(schema)
    wide = [_width(np.stack([placed.real, placed.imag], axis=-1)[:, list(o.outline)]) for o in openings]
    points = np.sqrt(known.shape[1])
    found = np.concatenate([placed.real / points, placed.imag / points, _OPEN * np.stack([*wide], axis=1)
                            if wide else np.empty((len(placed), 0))], axis=1)  # fmt: skip
    found[(known.sum(axis=1) < MIN_POINTS) | (power[:, 0] <= 0)] = np.inf
    return found


def nearest(offered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(N,) which of the descriptors offered (K, N, D) to each face is nearest to its own (N, D).

    The first where none of them is known, or the face's own is not.
    """
    with np.errstate(invalid="ignore"):  # unknown ones are infinitely far from all
        apart = np.nan_to_num(np.square(offered - wanted).sum(axis=2), nan=np.inf)
    return apart.argmin(axis=0)


def _width(outline: np.ndarray) -> np.ndarray:
    """(N,) how wide openings of outlines (N, K, 2) are: their area over the square of their length."""
    length = np.linalg.norm(outline[:, :, None] - outline[:, None], axis=-1).max(axis=(1, 2))
    return area(torch.from_numpy(outline)).numpy() / np.maximum(length, 1e-9) ** 2


class Fitting(NamedTuple):
    """The donors of some faces."""

    donors: np.ndarray
    """(N, k) positions of the donors of each face, the nearest first; -1 where no more can be bent onto it"""
    tried: np.ndarray
    """(N,) pairs looked at"""
    refused: np.ndarray
    """(N,) those of them that cannot be bent"""

    @property
    def short(self) -> np.ndarray:
        """Positions of the faces that have fewer than k."""
        return np.flatnonzero((self.donors < 0).any(axis=1))


def fitting_donors(
    contents: np.ndarray, donors: np.ndarray, k: int, seed: int, same: np.ndarray, schema: LandmarkSchema,
    config: WarpConfig, looks: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Fitting:  # fmt: skip
    """The k donors of each face that are near it in shape, can be bent onto it, and differ in look.

    Of each face so many donors as `config.offered` are drawn by the seed. The nearest comes first; the next ones are
    those of the nearest `config.variety` that look least like the ones before (farthest-first: Gonzalez, 1985), and
    then the nearest of all others. Row i is a function of (seed, i), the landmarks and the looks.

    Args:
        contents, donors: (N, P, 2) and (M, P, 2) landmarks, each in px of its own picture; NaN where unknown.
        k: donors wanted.
        same: (N,) position of each face among the donors, -1 where it is none of them.
        schema: the mark-up.
        config: how many are offered, and which are refused.
        looks: positions (m,) of donors -> (m, D) numbers that are near where donors look alike (look.py); asked once,
            of all that may be taken, where it matters. None: looks do not count.
    """
    reference = reference_shape(np.concatenate([contents, donors]))
    ours, theirs = (descriptors(points, reference, schema) for points in (contents, donors))
    usable = np.flatnonzero(np.isfinite(theirs).all(axis=1))
    seen: np.ndarray | None = None
    if looks is not None and k > 1 and config.variety > 0 and len(usable):
        found = looks(usable)
        seen = np.zeros((len(donors), found.shape[1]))
        seen[usable] = found
    rows, openings = np.full((len(contents), k), -1, np.int64), openings_of(schema)
    tried, refused = np.zeros((2, len(contents)), np.int64)
    for i, itself in enumerate(track(same, "finding donors that fit", len(same))):
        if not np.isfinite(ours[i]).all():
            continue
        drawn = np.random.default_rng((seed, i, _STREAM)).permutation(usable[usable != itself])[: config.offered]
        queue = drawn[np.argsort(np.linalg.norm(theirs[drawn] - ours[i], axis=1), kind="stable")]

        def fit(some: np.ndarray, own: np.ndarray = contents[i : i + 1]) -> np.ndarray:
            return ~refused_pairs(np.repeat(own, len(some), axis=0), donors[some], openings, config)

        near = 0 if seen is None else max(k, round(config.variety * len(drawn)))
        taken, tried[i] = _differing(queue[:near], k, fit, seen) if seen is not None else ([], 0)
        refused[i] = tried[i] - len(taken)
        start, count = near, k
        while len(taken) < k and start < len(queue):
            some = queue[start : start + count]
            fits = fit(some)
            for first in range(0, len(some), k):  # as if k at a time were looked at
                if len(taken) < k:
                    part, good = some[first : first + k], fits[first : first + k]
                    taken += part[good][: k - len(taken)].tolist()
                    tried[i] += len(part)
                    refused[i] += (~good).sum()
            start, count = start + count, count if fits.any() or count >= _AT_ONCE else 2 * count
        rows[i, : len(taken)] = taken
    return Fitting(rows, tried, refused)


def _differing(
    near: np.ndarray, k: int, fit: Callable[[np.ndarray], np.ndarray], looks: np.ndarray
) -> tuple[list[int], int]:
    """Of positions (n,) of donors, the nearest first: the first that fits, then up to k in all that fit, each the one
    whose look is farthest from that of any before it. Beside them how many were looked at."""
    taken: list[int] = []
    apart = np.full(len(near), np.inf)
    for tried in range(len(near)):
        if len(taken) == k:
            return taken, tried
        at = int(apart.argmax()) if taken else tried
        if fit(near[at : at + 1])[0]:
            taken.append(int(near[at]))
            apart = np.minimum(apart, np.linalg.norm(looks[near] - looks[near[at]], axis=1))
        apart[at] = -1  # asked once
    return taken, len(near)


def refused_pairs(
    contents: np.ndarray, donors: np.ndarray, openings: tuple[Opening, ...], config: WarpConfig
) -> np.ndarray:
    """(B,) bool: which of the pairs of landmarks (B, P, 2) cannot be bent.

    What is quickly seen is looked at first: landmarks that come to lie apart, then, of more than a few pairs, folds in
    every fourth row and column of the grid. Of heads turned to other sides hardly one needs more.
    """
    source, target = torch.from_numpy(np.ascontiguousarray(contents)), torch.from_numpy(np.ascontiguousarray(donors))
    found = bend(source, target)
    refused = ~found.ok | (_apart(found, source, target) > config.apart)
    for every in (4, 1) if len(contents) > _FEW else (1,):
        rows = torch.nonzero(~refused).view(-1)
        if len(rows):
            at = _places(source.device, _SPACING, every)
            folded, stretched = _bent_wrong(
                of_rows(found, rows), source[rows], target[rows], openings, config.stretch, at
            )  # fmt: skip
            refused[rows] = folded if every > 1 else folded | (stretched > config.stretched)
    return refused.numpy()
