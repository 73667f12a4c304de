"""Style arms inside a training: donors for every batch, and the batch restyled, as functions of (seed, step).

Restyling comes before `augment`, on upright crops with their margin, so that donors, landmarks and arms share one
frame. Knows no network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from stylealign.batches.batch import Batch, Step
from stylealign.batches.crops import CropCache
from stylealign.batches.shards import ShardCache
from stylealign.batches.together import rolled
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.errors import UserError, counted
from stylealign.evaluation.trust import LEAST_TRUST
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say
from stylealign.styling.arms import ARMS
from stylealign.styling.chain import Link, StyleConfig, chooses_by_fit, open_chain, restyle
from stylealign.styling.donors import DonorPool, donor_faces

_DONORS, _ARMS = 11, 13  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class Styling:
    """The style of a training, opened: a chain of arms and a pool of donors for each head."""

    chains: tuple[tuple[Link, ...], ...]
    pools: tuple[DonorPool, ...]
    """Empty where no arm looks at a donor"""
    own: bool
    """Whether the pools are the training faces themselves, at the positions batches give them"""
    donor_data: list[dict[str, Any]] = field(default_factory=list)
    """Description of each named donor data set, for the card"""

    def with_donors(self, step: Step, *key: int, part: tuple[int, int] = (0, 1)) -> Step:
        """The same faces, with donors for each head where an arm looks at one; `part` says which part of the batch
        they are: (process, processes)."""
        if not self.pools:
            return step
        donors = tuple(
            pool.draw(
                (*key, _DONORS, head), len(batch.image), batch.index if self.own else None,
                batch.landmarks if chooses_by_fit(chain) else None, part,
            )
            for head, (pool, batch, chain) in enumerate(zip(self.pools, step.heads, self.chains, strict=True))
        )  # fmt: skip
        return step._replace(donors=donors)

    def restyled(self, step: Step, *key: int) -> tuple[Batch, ...]:
        """The batch of each head in its donors' styles."""
        donors = step.donors or (None,) * len(self.chains)
        found = []
        for head, (batch, donor, chain) in enumerate(zip(step.heads, donors, self.chains, strict=True)):
            seed = int(np.random.default_rng((*key, _ARMS, head)).integers(2**62))
            found.append(restyle(batch, donor, chain, torch.Generator().manual_seed(seed)))
        return tuple(found)

    def restyled_among(self, batch: Batch, *key: int) -> Batch:
        """Faces that have no donors of their own, each in the style of the next one, by the first head's chain."""
        seed = int(np.random.default_rng((*key, _ARMS, len(self.chains))).integers(2**62))
        donors = Batch(*(rolled(t, -1) if len(t) else t for t in batch))
        return restyle(batch, donors, self.chains[0], torch.Generator().manual_seed(seed))


def open_styling(
    style: StyleConfig,
    crop: CropConfig,
    margin: float,
    caches: Sequence[Sequence[CropCache | ShardCache]],
    schemas: Sequence[LandmarkSchema],
    validation: FaceDataset | None,
    device: torch.device,
) -> Styling | None:
    """The style of a training, or None where there is none.

    Args:
        style: which arms and donors, on how many faces.
        crop, margin: how faces are cut, and how much wider than the network sees them.
        caches: the training faces of each head, cut with `crop` and `margin`, as named donors will be.
        schemas: the mark-up of each head.
        validation: the faces evaluated on, which may not be donors.
        device: where learned arms work.
    """
    if not style.groups() or style.prob == 0:
        return None
    chains = tuple(open_chain(style, style.prob, crop, schema, device) for schema in schemas)
    if style.mirror:
        _say_unmirrored(chains, schemas)
    if not style.needs_donors():
        if style.donors:
            say("style.donors: no arm of this chain looks at a donor; they are left alone")
        return Styling(chains=chains, pools=(), own=False)
    loose = [[cache for cache in cut if isinstance(cache, CropCache)] for cut in caches]
    for cut in caches:
        if shards := [cache.dataset for cache in cut if isinstance(cache, ShardCache)]:
            raise UserError(
                f"style with {shards[0].folder}: arms that look at donors need data set folders, found shards; "
                "expected an arm without donors, or faces that `generate` styled beforehand"
            )
    if not style.donors:
        for cut in loose:
            _refuse_too_few(sum(map(len, cut)))
        pools = tuple(DonorPool(cut, schema, style.mirror) for cut, schema in zip(loose, schemas, strict=True))
        _say_bendable(chains, pools)
        return Styling(chains=chains, pools=pools, own=True)
    trained_on = [cache.dataset for cut in loose for cache in cut]
    faces = donor_faces(style.donors, style.donor_split, trained_on, validation)
    donor_caches = [CropCache(donors, crop, margin) for donors in faces]
    pools = tuple(DonorPool(donor_caches, schema, style.mirror) for schema in schemas)
    _say_bendable(chains, pools)
    return Styling(chains=chains, pools=pools, own=False, donor_data=[describe_data(donors) for donors in faces])


def _say_bendable(chains: Sequence[tuple[Link, ...]], pools: Sequence[DonorPool]) -> None:
    """Say how many donors are left out where arms bend them, for want of trust or of landmarks. Raises UserError where
    that is all of them."""
    for chain, pool in zip(chains, pools, strict=True):
        doubted, known = int((~pool.trusted).sum()), int(pool.bendable.sum())
        if not chooses_by_fit(chain):
            continue
        of = counted(len(pool), "donor")
        lacking = len(pool) - doubted - known
        without = f"style: {lacking} of {of} without landmarks of {pool.schema.name}"
        said = f"style: the landmarks of {doubted} of {of} are not trusted"
        if not known and not doubted:
            raise UserError(
                f"{without}, and an arm bends donors by theirs: expected some with landmarks, as `stylealign "
                "pseudo-label` writes for pictures without labels"
            )
        if not known:
            raise UserError(
                f"{said} (below {LEAST_TRUST}), and an arm bends donors by theirs: expected some that are, as by a "
                "larger --half of `pseudo-label`"
            )
        if lacking or doubted:
            say(f"{'; '.join([without] * bool(lacking) + [said] * bool(doubted))}: they are not bent")
        return


def _say_unmirrored(chains: Sequence[tuple[Link, ...]], schemas: Sequence[LandmarkSchema]) -> None:
    """Say where donors that were to be mirrored will not be."""
    if not any(chooses_by_fit(chain) for chain in chains):
        say("style.mirror: no arm of this chain bends donors; none are mirrored")
    for schema in schemas:
        if not schema.flip_pairs:
            say(f"style.mirror: {schema.name} does not say which landmarks are twins; its donors are not mirrored")


def _refuse_too_few(num_faces: int) -> None:
    """Raises UserError for training faces that are to give each other styles where there is only one of them."""
    if num_faces < 2:
        alone = [name for name, entry in ARMS.items() if not entry.looks_at_donor]
        raise UserError(
            f"style: {num_faces} face to take styles from, and it is the one to be restyled: expected at least 2, or "
            f"other faces in style.donors ({', '.join(alone)} need none)"
        )
