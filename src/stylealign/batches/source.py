"""Which faces are in which batch: data sets in fixed shares, an order that depends on the seed alone."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from stylealign.batches.augment.affine import centre_crop
from stylealign.batches.batch import Batch, join, right_of
from stylealign.batches.crops import CropCache
from stylealign.batches.shards import ShardCache
from stylealign.errors import UserError, counted


@lru_cache(maxsize=16)  # a new order of a million faces would otherwise be drawn at every step
def _permutation(num: int, seed: int, source: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, source, epoch)).permutation(num)


def epoch_order(num: int, seed: int, source: int, start: int, count: int) -> np.ndarray:
    """Positions start..start+count of an endless walk through `num` faces, each epoch in a new seeded order."""
    out = np.empty(count, dtype=np.int64)
    done = 0
    while done < count:
        epoch, first = divmod(start + done, num)
        order = _permutation(num, seed, source, epoch)[first : first + count - done]
        out[done : done + len(order)] = order
        done += len(order)
    return out


class BatchSource:
    """A mix of crop caches and shards in which source i has the fixed share shares[i] of every batch.

    Counts are whole faces that follow the shares over time (a share of 1/3 in a batch of 32 gives 11, 10, 11, ...).
    `rank` and `world` cut each global batch between processes: rank r takes every world-th face. `orders` names for
    each source the positions that make up one epoch, where that is not each face once (face/pose.py), `leans` for each
    the px by which its labels lean to the right (`training.faces.DataSource.lean_px`). Shards have an order of their
    own; where sources were cut with different margins, such as shards beside a folder, all faces get the narrowest.
    """

    def __init__(
        self,
        caches: Sequence[CropCache | ShardCache],
        shares: list[float],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        orders: Sequence[np.ndarray | None] | None = None,
        leans: list[float] | None = None,
    ):
        if batch_size % world:
            raise UserError(f"batch_size {batch_size} cannot be divided between {world} processes")
        if not caches or len(caches) != len(shares) or min(shares) < 0 or sum(shares) <= 0:
            raise UserError(
                f"shares {shares}: expected a share of 0 or more for each of {counted(len(caches), 'data set')}, not "
                "all 0"
            )
        self.caches, self.batch_size, self.seed, self.rank, self.world = caches, batch_size, seed, rank, world
        self._leans = leans or [0.0] * len(caches)
        self._orders = orders or [None] * len(caches)
        # Each source's whole faces are in every batch; the few places left go, one at a
        # time, to the source furthest behind.
        wanted = np.array(shares, dtype=np.float64) / sum(shares) * batch_size
        self._whole = np.floor(wanted + 1e-9).astype(np.int64)
        self._left_over = np.maximum(wanted - self._whole, 0.0)
        self._extra = [np.zeros(len(caches), dtype=np.int64)]  # given out before step 0, 1, 2, ...

    def counts(self, steps: int) -> np.ndarray:
        """How many faces of each source the first `steps` batches hold; every batch is full."""
        places = self.batch_size - int(self._whole.sum())
        while len(self._extra) <= steps:
            given = self._extra[-1].copy()
            due = self._left_over * len(self._extra)
            for _ in range(places):
                given[int(np.argmax(due - given))] += 1
            self._extra.append(given)
        return self._whole * steps + self._extra[steps]

    def epochs(self, steps: int) -> float:
        """How many times the first `steps` batches have shown the first source."""
        first = self._orders[0]
        return int(self.counts(steps)[0]) / (len(self.caches[0]) if first is None else len(first))

    def _walk(self, i: int, start: int, count: int) -> np.ndarray:
        """Positions start .. start + count of source i's endless walk."""
        cache, order = self.caches[i], self._orders[i]
        if isinstance(cache, ShardCache):
            return cache.walk(self.seed, i, start, count)
        if order is None:
            return epoch_order(len(cache), self.seed, i, start, count)
        return order[epoch_order(len(order), self.seed, i, start, count)]

    def indices(self, step: int) -> list[tuple[int, np.ndarray]]:
        """(source, positions) of the global batch number `step`."""
        before, after = self.counts(step), self.counts(step + 1)
        return [
            (i, self._walk(i, int(before[i]), int(after[i] - before[i])))
            for i in range(len(self.caches))
            if after[i] > before[i]
        ]

    def batch(self, step: int) -> Batch:
        """This process's part of batch number `step`."""
        offsets = np.cumsum([0] + [len(c) for c in self.caches])
        faces = [(i, int(p)) for i, positions in self.indices(step) for p in positions][self.rank :: self.world]
        side, parts = min(cache.size for cache in self.caches), []
        for i, cache in enumerate(self.caches):
            positions = np.array([p for source, p in faces if source == i], dtype=np.int64)
            if len(positions):
                part = centre_crop(cache.batch(positions, int(offsets[i])), side)
                if lean := self._leans[i]:
                    part = part._replace(lean=torch.full_like(part.weight, lean), right=right_of(part.crop_from_source))
                parts.append(part)
        return join(parts)
