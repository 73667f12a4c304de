"""Heads: a trunk's features in, landmarks and how sure each is out. One table; a new head is a file and an entry.

An entry says by which terms a head learns: every other combination is refused with a sentence. Knows no files.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import nn

from stylealign.detectors.heads import coordinates, heatmap, pip, simcc
from stylealign.detectors.heads.parts import HeadConfig, Term, TermsConfig, Truth
from stylealign.detectors.trunks import STRIDES

__all__ = ["HEADS", "Head", "HeadConfig", "TermsConfig", "Truth", "refuse_misfits"]


class Head(NamedTuple):
    """What makes a head."""

    build: Callable[..., nn.Module]
    """(channels of the features, stride of the finest, landmarks, side of the crop in px, channels of the pyramid,
    config, names of terms) -> network: (features, mean shape (P, 2) px) -> DetectorOutput with a covariance a point"""
    stride: Callable[[int, int], int]
    """(side of the crop in px, the trunk's last stride) -> stride of the finest features it reads, unless told"""
    terms: Mapping[str, Term]
    """What it can learn by"""
    summary: str
    reads_pyramid: bool = True


def _six_cells(size: int, cut: int) -> int:
    """The largest stride that leaves six cells a side."""
    return max([s for s in STRIDES if s <= cut and size >= 6 * s] or STRIDES[:1])


HEADS: Mapping[str, Head] = {
    "coordinates": Head(
        coordinates.CoordinatesHead,
        lambda size, cut: cut,
        coordinates.TERMS,
        "offsets from the mean shape by a linear layer",
        reads_pyramid=False,
    ),
    "heatmap": Head(heatmap.HeatmapHead, lambda size, cut: 4, heatmap.TERMS, "a map a landmark, its mean place"),
    "pip": Head(pip.PIPHead, _six_cells, pip.TERMS, "the best cell, the place in it, and what its neighbours say"),
    "simcc": Head(simcc.SimCCHead, lambda size, cut: 8, simcc.TERMS, "a row of bins for x and one for y"),
}


def refuse_misfits(head: HeadConfig, terms: TermsConfig, cut: int) -> None:
    """Raises ValueError for a term that the head does not learn by, and for a stride that the trunk does not answer."""
    known = HEADS[head.kind].terms
    for term in terms.terms:
        if term not in known:
            fits = ", ".join(name for name, entry in HEADS.items() if term in entry.terms)
            raise ValueError(
                f"head {head.kind} does not learn by {term}: expected {', '.join(known)}, or for {term} one of the "
                f"heads {fits}"
            )
    if head.stride is not None and not HEADS[head.kind].reads_pyramid:
        raise ValueError(f"head {head.kind} reads the last features: expected no head.stride, found {head.stride}")
    if head.stride is not None and head.stride > cut:
        raise ValueError(f"head.stride {head.stride} of a trunk cut after stride {cut}: expected at most that")
