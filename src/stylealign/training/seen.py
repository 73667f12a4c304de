"""Whose labels a training may see: faces made from others, and answers of models, bring theirs along.

Real faces are chosen by a split and a subset (a label budget). What was made from others of the same data set, or
labelled by detectors that learnt from others, is refused or left out. Knows no configuration.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from stylealign.data.dataset import FaceDataset, drawn_by, labellers_of, sources_of
from stylealign.data.shards import ShardedFaces
from stylealign.errors import UserError, counted
from stylealign.progress import say


def _as_described(
    synthetic: FaceDataset | ShardedFaces, opened: FaceDataset | ShardedFaces, split: str | None, subset: str | None
) -> FaceDataset | ShardedFaces:
    """`synthetic_of` where either are shards, whose faces are not looked at one by one: what is said of how the faces
    were made has to suffice."""
    how = synthetic.meta.get("how") or {}
    made = (how.get("inputs", {}).get("data") or {}).get("content_hash")
    used = how.get("config", {})
    if made == opened.content_hash:
        if split is not None and used.get("split") != split:
            raise UserError(
                f"{synthetic.folder}: made from split {used.get('split')} of {opened.folder}, expected split {split}: "
                "its labels would be trained on"
            )
        if subset is not None and used.get("subset") != subset:
            raise UserError(
                f"{synthetic.folder}: made from subset {used.get('subset') or 'all'} of {opened.folder}, expected "
                f"{subset}: shards are taken as a whole"
            )
    elif subset is not None:
        raise UserError(f"{synthetic.folder}: not made from {opened.folder}, of which only subset {subset} may be seen")
    return synthetic


def _ids_by_split(dataset: FaceDataset) -> dict[str, str]:
    heads = (dataset.head(i) for i in range(len(dataset)))
    return {head["id"]: head["split"] for head in heads}


def synthetic_of(
    synthetic: FaceDataset | ShardedFaces,
    opened: FaceDataset | ShardedFaces,
    real: FaceDataset | ShardedFaces,
    split: str | None,
    subset: str | None,
) -> FaceDataset | ShardedFaces:
    """The synthetic faces that may be trained on beside `real`, a view of `opened`: labels of
    no other face of it may come in.

    Raises UserError where faces were made from another split. Under a label budget (`subset`), only
    faces made from its faces are kept.
    """
    if not (isinstance(synthetic, FaceDataset) and isinstance(opened, FaceDataset) and isinstance(real, FaceDataset)):
        return _as_described(synthetic, opened, split, subset)
    split_of, allowed = _ids_by_split(opened), set(real.ids())
    kept = []
    for i in range(len(synthetic)):
        head = synthetic.head(i)
        content = (head.get("provenance") or {}).get("content_id")
        if split is not None and content in split_of and split_of[content] != split:
            raise UserError(
                f"{synthetic.folder}: face '{head['id']}' was made from '{content}' of split "
                f"{split_of[content]} of {opened.folder}, "
                f"expected faces of split {split} only: its label would be trained on"
            )
        if subset is None or content in allowed:
            kept.append(i)
    if not kept:
        raise UserError(f"{synthetic.folder}: no face made from one of subset {subset} of {opened.folder}")
    if len(kept) < len(synthetic):
        say(
            f"{synthetic.folder}: {len(kept)} of {counted(len(synthetic), 'face')} made from faces of {subset}; "
            "the others are left out"
        )
    return synthetic.take(kept)


def labels_seen(
    pseudo: FaceDataset | ShardedFaces, opened: FaceDataset | ShardedFaces, split: str | None, subset: str | None
) -> bool:
    """Whether a data set is pseudo-labelled, or made from one that is: its faces inherit no label of `opened`, but the
    detectors have learnt some.

    Raises UserError where one of them learnt from faces of `opened` outside of the split or the label
    budget (`subset`) trained on now; warns of a translator that did and drew the faces.
    """
    if said := seen_beyond(drawn_by(pseudo.meta), opened.content_hash, split, subset):
        say(
            f"warning: {pseudo.folder}: drawn by a translator that learnt from {said}: labels that must not be seen "
            "come in through it"
        )
    labellers = labellers_of(pseudo.meta)
    for detector in labellers:
        if said := seen_beyond(detector["data"], opened.content_hash, split, subset):
            raise UserError(
                f"{pseudo.folder}: labelled by {detector['run']}, which learnt from {said}: labels that must not be "
                "seen would come in through it"
            )
    merged = "verb" not in (pseudo.meta.get("how") or {})  # perhaps with faces whose labels are people's
    return bool(labellers) and not merged and opened.content_hash not in sources_of(pseudo.meta)


def is_made(meta: dict[str, Any]) -> bool:
    """Whether a data set's pictures or labels were made, not taken and placed by people. `trust` leaves both alone; of
    several that `prepare` merged some are people's."""
    verb = (meta.get("how") or {}).get("verb")
    return bool(sources_of(meta) or labellers_of(meta)) if verb == "trust" else verb is not None


def data_learnt(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a model's labels came from, as its card describes data: of its own training, and of those before it that it
    started from (`--init-from`), each once."""
    found: list[dict[str, Any]] = []
    for one in [*(card.get("data") or []), *((card.get("start") or {}).get("data") or [])]:
        if isinstance(one, dict) and not any(_same_faces(one, other) for other in found):
            found.append(one)
    return found


def _same_faces(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in ("content_hash", "split", "subset"))


def seen_beyond(learnt: Iterable[Mapping[str, Any]], content: str, split: str | None, subset: str | None) -> str:
    """What a model learnt from, by its card's `data`, of a data set of that content hash outside of a split or a label
    budget, in words; empty where nothing is outside."""
    for one in learnt:
        outside = (split is not None and one.get("split") != split) or (
            subset is not None and one.get("subset") != subset
        )
        if one.get("content_hash") == content and outside:
            its_split, its_subset, name = (one.get(key) for key in ("split", "subset", "name"))
            return (
                f"split {its_split or 'all'}, subset {its_subset or 'all'} of {name or content}, expected split "
                f"{split or 'all'}, subset {subset or 'all'}"
            )
    return ""


def say_more_seen(
    what: str, card: Mapping[str, Any], faces: FaceDataset | ShardedFaces, split: str | None, subset: str | None
) -> None:
    """Warn of a model of that card, such as one to start from, that learnt from labels which a training that sees these
    faces, a split and a subset of their data set, does not see."""
    if said := seen_beyond(data_learnt(card), faces.content_hash, split, subset):
        say(f"warning: {what} learnt from {said}: labels that must not be seen come in through it")


def say_held_out(what: str, faces: FaceDataset, which: str = "") -> None:
    """Warn of faces to be learnt from, with or without their labels, that detectors are measured on: `what` of a split,
    which is `which`."""
    if held_out := faces.held_out_splits():
        split = f"split {', '.join(held_out)}{which}"
        say(f"warning: {what} {split}: a detector trained on them must not be measured there")


def _origins(faces: FaceDataset, heads: list[dict[str, Any]]) -> dict[str, list[str | None]]:
    """Content hash of a data set -> of each of these faces, whose heads these are, the id that it, or what it was made
    from, has there."""
    made = [(head.get("provenance") or {}).get("content_id") for head in heads]
    return {**dict.fromkeys(sources_of(faces.meta), made), faces.content_hash: [head["id"] for head in heads]}


class Overlap(NamedTuple):
    """Which of some faces a training learns from."""

    seen: np.ndarray
    """(N,) bool"""
    folders: tuple[str, ...]
    """of the data sets that they are in"""

    @property
    def num_seen(self) -> int:
        return int(self.seen.sum())


def learnt_among(held_out: FaceDataset, learnt: Iterable[FaceDataset | ShardedFaces]) -> Overlap:
    """Which of some faces are learnt from: themselves, as what was made from them, or from another data set that has
    their picture. Of shards, which are not looked at face by face, whole splits are known."""
    heads = [held_out.head(i) for i in range(len(held_out))]
    origins = _origins(held_out, heads)
    seen, where = np.zeros(len(held_out), dtype=bool), []
    for faces in learnt:
        found = np.zeros(len(held_out), dtype=bool)
        if isinstance(faces, ShardedFaces):
            splits = {shard.split for shard in faces.shards} if faces.content_hash == held_out.content_hash else set()
            found |= [head["split"] in splits for head in heads]
        else:
            others = [faces.head(i) for i in range(len(faces))]
            theirs = _origins(faces, others)
            for content in origins.keys() & theirs.keys():
                ids = set(theirs[content]) - {None}
                found |= [one in ids for one in origins[content]]
            if faces.content_hash != held_out.content_hash:  # in one data set a picture may have several faces
                pictures = {head["digest"] for head in others}
                found |= [head["digest"] in pictures for head in heads]
        if found.any():
            where.append(str(faces.folder))
            seen |= found
    return Overlap(seen, tuple(dict.fromkeys(where)))


def say_measured_on(learnt: Iterable[FaceDataset | ShardedFaces], held_out: FaceDataset, split: str) -> None:
    """Warn where faces that a training is measured on, those of a split, are learnt from."""
    found = learnt_among(held_out, learnt)
    if found.num_seen:
        say(
            f"warning: {found.num_seen} of {counted(len(held_out), 'face')} of {held_out.folder}, split {split}, are "
            f"learnt from, themselves, their pictures or what was made from them ({', '.join(found.folders)}): a "
            "detector trained on them must not be measured there"
        )
