"""What `pseudo-label` is told."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from stylealign.jobs.pseudo_label.labelling import Labelling
from stylealign.training.cluster import Cluster, On


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoLabel(Labelling):
    """Label faces by an ensemble of finished detectors, each with a trust from how far they agree.

    Labels that the faces have are not looked at, but the new ones are measured against them.
    """

    match: Path | None = None
    """Labelled data set whose head poses the kept faces shall have, instead of mostly frontal ones."""
    match_split: str = "train"
    """Its split."""
    match_subset: str | None = None
    """Only its faces with this attribute."""
    match_bins: int = 9
    """Poses told apart."""
    as_split: str = "train"
    """Split that the labelled faces get."""
    jobs: int = 1
    """Parts of the faces that are looked at side by side, each by a process of its own."""
    on: On = "local"
    """Where: here, or on a cluster's nodes (`--cluster...`), a part for each of `cluster.array` jobs."""
    cluster: Cluster = field(default_factory=Cluster)
    part: Annotated[tuple[int, int] | None, tyro.conf.Suppress] = None
    """(k, n), recipe only, as `jobs` writes it: only ask about part k of n, and write the answers to the file `out`."""

    def __post_init__(self) -> None:
        Labelling.__post_init__(self)
        if self.match_bins < 1 or self.jobs < 1:
            raise ValueError(f"match_bins {self.match_bins} and jobs {self.jobs}: expected at least 1")
        if self.part is not None and not 0 <= self.part[0] < self.part[1]:
            raise ValueError(f"part is {self.part}, expected (k, n) with k from 0 to n - 1")
