"""Which face gets the style of which others, and which of its attributes a synthetic face inherits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stylealign.data.dataset import FaceDataset, sources_of
from stylealign.errors import UserError, counted
from stylealign.face.orientation import as_shown
from stylealign.face.sample import FaceSample
from stylealign.progress import say
from stylealign.styling.donors import of_others
from stylealign.translators.warp.fit import WarpConfig, fitting_donors

# Named subsets that belong to a picture's style and are therefore not inherited with its structure.
STYLE_ATTRIBUTES = frozenset({"illumination", "make_up", "makeup", "occlusion", "blur"})
_PAIRS = 1  # the stream of random numbers that draws donors


def other_donors(folder: Path, split: str | None, subset: str | None) -> FaceDataset:
    """The faces of a data set that is not the contents' own that give styles: of a split and a subset, or those that a
    training would take."""
    donors = FaceDataset.open(folder)
    return of_others(donors, split, folder) if subset is None else donors.select(split, subset)


class Paired(NamedTuple):
    """The donors of a data set's faces."""

    faces: np.ndarray
    """(N,) positions of the faces that are drawn"""
    pairs: np.ndarray
    """(N, k) positions of each one's donors"""


def paired_by_chance(contents: FaceDataset, donors: FaceDataset, k: int, seed: int) -> Paired:
    """`pair_styles` of every face."""
    pairs = pair_styles(len(contents), len(donors), k, seed, own_positions(contents, donors))
    return Paired(np.arange(len(contents)), pairs)


def paired_by_fit(
    contents: FaceDataset, donors: FaceDataset, landmarks: np.ndarray, styles: int, seed: int, config: WarpConfig, *,
    skip_unfit: bool, looks: Callable[[np.ndarray], np.ndarray] | None = None, left_out: str = "",
) -> Paired:  # fmt: skip
    """Donors of each face that can be bent onto it. Says what cannot be used, and how many pairs are refused.

    Args:
        contents, donors: the faces, and those that give styles.
        landmarks: (M, P, 2) of the donors, px of their pictures; NaN where unknown, or not to be used.
        styles: donors wanted of each face.
        seed: draws who is offered.
        config: how many are offered, and which pairs are refused.
        skip_unfit: leave out faces that fewer donors fit.
        looks: as `fitting_donors` asks for them.
        left_out: in brackets, why some donors cannot be used.

    Raises UserError where faces have fewer fitting donors than styles, unless those are to be left out.
    """
    usable = int(np.isfinite(landmarks).all(axis=2).any(axis=1).sum())
    if left_out:
        say(f"{usable} of {counted(len(donors), 'donor')} can be used{left_out}")
    own = own_positions(contents, donors)
    if usable - bool((own >= 0).any()) < styles:
        raise UserError(
            f"{donors.folder}: {usable} of {counted(len(donors), 'donor')} can be used{left_out}, and "
            f"styles_per_face asks for {styles} different ones a face, never the face itself: expected more donors "
            "or fewer styles"
        )
    held = (donors.head(j).get("orientation", 1) for j in range(len(donors)))
    shown = np.stack([as_shown(*each) for each in zip(landmarks, held, strict=True)])
    fitting = fitting_donors(labels_of(contents), shown, styles, seed, own, contents.schema, config, looks)
    short = fitting.short
    if len(short) and not skip_unfit:
        first = int(short[0])
        has = int((fitting.donors[first] >= 0).sum())
        raise UserError(
            f"{contents.folder}: {len(short)} of {counted(len(contents), 'face')} with fewer fitting donors than "
            f"the {counted(styles, 'style')} asked for; the first, '{contents.head(first)['id']}', has {has} of the "
            f"{min(config.offered, usable)} offered: ask for fewer --styles-per-face, offer more with "
            "--warp.offered or other --donors, or leave such faces out with --skip-unfit"
        )
    faces = np.setdiff1d(np.arange(len(contents)), short)
    tried, refused = fitting.tried[faces].sum(), fitting.refused[faces].sum()
    if not len(faces):
        raise UserError(
            f"{contents.folder}: none of {counted(len(contents), 'face')} has {counted(styles, 'donor')} to fit it"
        )
    say(f"{refused} of {counted(tried, 'pair')} looked at ({refused / tried:.0%}) cannot be bent: passed over")
    if len(short):
        say(
            f"{len(short)} of {counted(len(contents), 'face')} with fewer than {counted(styles, 'fitting donor')}: "
            "left out"
        )
    return Paired(faces, fitting.donors[faces])


def labels_of(faces: FaceDataset) -> np.ndarray:
    """(N, P, 2) px of the pictures as they were labelled, from some origin each; NaN where one is no label."""
    return np.stack([as_shown(sample.labels, sample.orientation) for sample in faces])


def pair_styles(num_contents: int, num_donors: int, k: int, seed: int, same: np.ndarray | None = None) -> np.ndarray:
    """Draw donors for each face: (num_contents, k) positions of k different ones, never the face itself.

    Row i is a function of (seed, i) only.

    Args:
        same: (num_contents,) position of each face among the donors, -1 where it is not one of them.

    Raises UserError where there are fewer donors than styles asked for.
    """
    same = np.full(num_contents, -1, dtype=np.int64) if same is None else same
    own = bool((same >= 0).any())
    if k > num_donors - own:
        but = ", one of which is the face itself" if own else ""
        raise UserError(
            f"styles_per_face needs {counted(k, 'different donor')} a face, but there are {num_donors}{but}: "
            f"ask for at most {num_donors - own}"
        )
    pairs = np.empty((num_contents, k), dtype=np.int64)
    for i, itself in enumerate(same):
        drawn = np.random.default_rng((seed, i, _PAIRS)).choice(num_donors - (itself >= 0), k, replace=False)
        pairs[i] = drawn + (drawn >= itself) if itself >= 0 else drawn
    return pairs


def own_positions(contents: FaceDataset, donors: FaceDataset) -> np.ndarray:
    """(N,) position of each content face among the donors, -1 where it is none of them.

    In one and the same data set a face is its id; where the contents were made from the donors, it is the one that each
    was made from, whose id its own begins with, or else its `origin`; in another data set it is the same picture (by
    digest) under the same name.
    """
    one, made = contents.content_hash == donors.content_hash, donors.content_hash in sources_of(contents.meta)

    def seen(head: dict[str, Any]) -> Any:
        return head["digest"], head["id"].rsplit("/", 1)[-1]

    def key(head: dict[str, Any]) -> Any:
        if one:
            return head["id"]
        if not made:
            return seen(head)
        name = head["id"]
        while name and name not in where:
            name = name.rpartition("@")[0]
        return name or (head.get("provenance") or {}).get("content_id")

    where: dict[Any, int] = {}
    for j in reversed(range(len(donors))):
        head = donors.head(j)
        where[head["id"] if one or made else seen(head)] = j
    return np.array([where.get(key(contents.head(i)), -1) for i in range(len(contents))], dtype=np.int64)


def inherited_attributes(sample: FaceSample) -> dict[str, bool]:
    """The attributes a translated face keeps: all but STYLE_ATTRIBUTES.

    Pose and expression belong to the structure; label budgets and one's own subsets say which label was used, so that
    the synthetic faces of a budget can be selected by its name.
    """
    return {k: v for k, v in sample.attributes.items() if k not in STYLE_ATTRIBUTES}
