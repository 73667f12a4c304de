"""Which faces a detector learns from, in which shares, and which it is measured on. Reads data sets; knows no network.

Real and synthetic faces meet here and only here. A synthetic face inherits its label, so one made from a face that must
not be seen (another split, beyond the label budget) is refused or left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

from stylealign.data.dataset import FaceDataset, sources_of
from stylealign.data.shards import ShardedFaces, holds_shards
from stylealign.errors import UserError, counted
from stylealign.face.pose import BalanceConfig, repeats
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say
from stylealign.training.seen import is_made, labels_seen, say_more_seen, synthetic_of


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """One data set of a mix."""

    path: Path
    """Data set folder."""
    split: str | None = "train"
    """Its faces of this split; null: of all splits."""
    subset: str | None = None
    """Only faces with this attribute."""
    share: float = 1.0
    """Its part of every batch, relative to the other shares."""
    lean_px: float = 0.0
    """As `--lean-px`, of this data set."""

    def __post_init__(self) -> None:
        if not self.share >= 0:
            raise ValueError(f"share {self.share} of {self.path}: expected 0 or more")
        if not abs(self.lean_px) <= 10:
            raise ValueError(f"lean_px {self.lean_px} of {self.path}: expected -10 to 10")


@dataclass(frozen=True, kw_only=True, slots=True)
class FacesConfig:
    """Which faces a detector learns from, in which shares, and which it is measured on."""

    real: Path | None = None
    """Data set of real faces: a folder, or shards (of `prepare --shards`) in a folder or at an address such as
    s3://bucket/faces."""
    synthetic: Path | None = None
    """Data set of synthetic faces (from `generate`), or shards of them."""
    synthetic_share: float = 0.5
    """Share of synthetic faces in every batch; 0.25 to 0.5 is a good start."""
    mix: Literal["share", "concatenate"] = "share"
    """`concatenate` shuffles all faces together, as the paper does: with 8 styles a face, 8 of 9 are then synthetic."""
    real_split: str = "train"
    """Split of the real faces (and of the faces the synthetic ones were made from)."""
    subset: str | None = None
    """Only real faces with this attribute, such as a label budget, and synthetic faces made from them."""
    data: Annotated[tuple[DataSource, ...], tyro.conf.Suppress] = ()
    """Any number of data sets with shares, instead of `real` and `synthetic` (recipe only)."""
    lean_px: float = 0.0
    """How many pixels of their pictures the real labels lie to the right of where people would have put them in the
    mirrored picture (`evaluate` measures it: 300-W 0.9). A mirrored face's labels are then set right by twice as much,
    so that half of a batch no longer contradicts the other half."""
    val: Path | None = None
    """Data set to evaluate on; not given: the first data set."""
    val_split: str = "val"
    """Its split. No evaluation where `val` is not given and the first data set has no such split."""
    other: tuple[Path, ...] = ()
    """Further data sets, of any mark-up, each with a head of its own; for networks that learn several mark-ups."""
    other_share: float = 0.5
    """Share of their faces in every batch, all of them together."""
    other_split: str = "train"
    """Their split."""

    def __post_init__(self) -> None:
        if self.data and (self.real or self.synthetic or self.subset):
            raise ValueError("data is given beside real, synthetic or subset: expected one way of naming the data sets")
        if not abs(self.lean_px) <= 10:
            raise ValueError(f"lean_px is {self.lean_px}, expected -10 to 10")
        if self.data and self.lean_px:
            raise ValueError("lean_px is given beside data: expected it in the entries of data")
        if not 0 <= self.synthetic_share <= 1:
            raise ValueError(f"synthetic_share is {self.synthetic_share}, expected 0 to 1")
        if not 0 < self.other_share < 1:
            raise ValueError(f"other_share is {self.other_share}, expected above 0 and below 1")

    def chosen_of(self, folder: Path) -> tuple[str | None, str | None]:
        """(split, subset) of the real faces used of a data set folder; of synthetic faces all: (None, None)."""
        chosen = {source.path: (source.split, source.subset) for source in self.data}
        if self.real is not None:
            chosen[self.real] = (self.real_split, self.subset)
        return chosen.get(folder, (None, None))


class Part(NamedTuple):
    """One data set of a mix."""

    faces: FaceDataset | ShardedFaces
    share: float
    """of every batch"""
    described: dict[str, Any]
    """what the card says of it, beside what describes any data set"""
    lean_px: float = 0.0


Mix = list[Part]


def open_faces(path: Path) -> FaceDataset | ShardedFaces:
    """A data set folder, or shards in a folder or at an address."""
    return ShardedFaces.open(path) if holds_shards(path) else FaceDataset.open(path)


def _sources(config: FacesConfig) -> Mix:
    """The data sets of a `data:` recipe; one that was made from another of them keeps only
    what that one's choice allows."""
    opened = [open_faces(source.path) for source in config.data]
    chosen = [
        faces.select(source.split, source.subset, labelled=True)
        for faces, source in zip(opened, config.data, strict=True)
    ]
    for i, faces in enumerate(opened):
        made_from = sources_of(faces.meta)
        for j, source in enumerate(config.data):
            if i != j and labels_seen(faces, opened[j], source.split, source.subset):
                continue
            if i != j and opened[j].content_hash in made_from:
                chosen[i] = synthetic_of(chosen[i], opened[j], chosen[j], source.split, source.subset)
    described = [
        {
            "role": "synthetic" if is_made(faces.meta) else "real",
            "split": source.split,
            "subset": source.subset,
        }
        for faces, source in zip(opened, config.data, strict=True)
    ]
    return [
        Part(faces, source.share, more, source.lean_px)
        for faces, source, more in zip(chosen, config.data, described, strict=True)
    ]


def say_more_seen_than(mix: Sequence[Part], what: str, card: Mapping[str, Any]) -> None:
    """Warn of a model of that card, `what`, that learnt from labels which the real faces of a mix leave out."""
    for part in mix:
        if part.described.get("role") == "real":
            say_more_seen(what, card, part.faces, part.described["split"], part.described["subset"])


def resolve_data(config: FacesConfig) -> Mix:
    """The data sets of the first head; shares sum to 1 and data sets with share 0 are left out.

    Raises UserError where mark-ups differ, a selection is empty, or a synthetic face was made
    from a face that must not be seen.
    """
    if not (
        config.data or config.real or config.synthetic
    ):  # not in the config: a recipe may leave the data to the flags
        raise UserError("no data: give --real, --synthetic or both")
    found: Mix = []
    if config.data:
        found = _sources(config)
    else:
        real_share = 1.0 if config.synthetic is None else 1.0 - config.synthetic_share
        chosen = {"split": config.real_split, "subset": config.subset}
        opened = real = None
        if config.real is not None:
            opened = open_faces(config.real)
            real = opened.select(config.real_split, config.subset, labelled=True)
            found.append(Part(real, real_share, {"role": "real", **chosen}, config.lean_px))
        if config.synthetic is not None:
            synthetic = open_faces(config.synthetic).select(labelled=True)
            allowed = opened is not None and labels_seen(synthetic, opened, config.real_split, config.subset)
            if opened is not None and real is not None and not allowed:
                synthetic = synthetic_of(synthetic, opened, real, config.real_split, config.subset)
            found.append(Part(synthetic, 1.0 - real_share if found else 1.0, {"role": "synthetic"}))
    if config.mix == "concatenate":
        found = [part._replace(share=float(len(part.faces))) for part in found]
    for faces in (part.faces for part in found[1:]):
        first = found[0].faces
        if faces.schema != first.schema:
            raise UserError(
                f"{faces.folder} is annotated with {faces.schema.name} ({counted(faces.schema.num_points, 'point')}), "
                f"{first.folder} with {first.schema.name} ({counted(first.schema.num_points, 'point')}): expected one "
                "mark-up; `stylealign prepare` converts, and --model dvln --other learns several"
            )
    total = sum(part.share for part in found)
    if total <= 0:
        raise UserError("the shares of all data sets are 0: nothing to train on")
    return [part._replace(share=part.share / total) for part in found if part.share > 0]


def resolve_others(config: FacesConfig) -> list[Mix]:
    """The mix of each further head: one data set each, of any mark-up (`other`, for networks that learn several)."""
    mixes: list[Mix] = []
    for path in config.other:
        faces = open_faces(path).select(config.other_split, labelled=True)
        mixes.append([Part(faces, 1.0, {"role": "other", "split": config.other_split})])
    return mixes


def epoch_of(mix: Mix, config: BalanceConfig) -> list[np.ndarray | None]:
    """The positions that make up an epoch of each data set of a mix: those of rare head poses several times, or None
    for each face once."""
    found: list[np.ndarray | None] = []
    for faces in (part.faces for part in mix):
        once = None
        if config.bins:
            if isinstance(faces, ShardedFaces):
                raise UserError(f"balance.bins with {faces.folder}: shards are not looked at face by face; expected 0")
            labelled = faces.labelled_array()
            times = repeats(faces.landmarks_array(), config, labelled)
            lacking = int((~labelled.all(axis=1)).sum())
            once = np.repeat(np.arange(len(faces)), times)
            say(
                f"{faces.folder}: balancing by pose shows {counted(len(faces), 'face')} {counted(len(once), 'time')} "
                f"an epoch, one of them {counted(times.max(), 'time')}"
                + (f"; {counted(lacking, 'face')} without some landmarks once" if lacking else "")
            )
        found.append(once)
    return found


def head_batch_sizes(batch_size: int, num_others: int, other_share: float) -> tuple[int, ...]:
    """How many faces of a batch each head gets: the first what the others leave, the
    others equal parts of `other_share`.

    >>> head_batch_sizes(32, 0, 0.5), head_batch_sizes(32, 1, 0.25), head_batch_sizes(32, 2, 0.5)
    ((32,), (24, 8), (16, 8, 8))
    """
    each = round(batch_size * other_share / num_others) if num_others else 0
    sizes = (batch_size - each * num_others, *[each] * num_others)
    if min(sizes) < 1:
        raise UserError(
            f"a batch of {counted(batch_size, 'face')} with other_share {other_share} for "
            f"{counted(num_others, 'data set')} gives the heads {', '.join(map(str, sizes))} of them: expected at "
            "least 1 each"
        )
    return sizes


def validation_faces(config: FacesConfig, schema: LandmarkSchema) -> FaceDataset | None:
    """The labelled faces to evaluate on; None where no data set was named for it and the first has no such split."""
    first = config.data[0].path if config.data else config.real or config.synthetic
    assert first is not None
    if config.val is None and holds_shards(first):
        say(f"{first}: shards; training goes without evaluation (--val names a data set folder)")
        return None
    opened = FaceDataset.open(config.val or first)
    if config.val is None and config.val_split not in opened.meta["splits"]:
        say(f"{first}: no split {config.val_split}; training goes without evaluation (--val names another data set)")
        return None
    if opened.schema != schema:
        raise UserError(f"{opened.folder}: annotated with {opened.schema.name}, the training faces with {schema.name}")
    return opened.select(config.val_split, labelled=True)
