"""What an eye tells: whose hair, skin and background a picture shows, whether it is sharp, whether it could be real.

The features are means and deviations of a network's channels over a picture (style.py): they see hair and
texture, and not where anything is. With ImageNet weights they are features that no translator or judge was trained
with. Tensors in, plain values out; knows no files.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import Batch, take_faces
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.assess import images as likeness
from stylealign.jobs.assess import style
from stylealign.jobs.assess.drawn import face_region
from stylealign.jobs.assess.images import FeatureNetwork, levels_of
from stylealign.translators.judge import swap_partners
from stylealign.translators.warp.fit import WarpConfig, fitting_donors
from stylealign.translators.warp.look import SIDE, looks_of

_ROOM = 1.25  # of the hull of the landmarks, that what surrounds the face begins outside of
_LEAST = 20  # real faces, below which the distance of sets says nothing


class Donors(NamedTuple):
    """Who gives the faces of an assessment their styles."""

    batch: Batch
    """the donors, cut as the faces are"""
    partners: np.ndarray
    """(N,) position of each face's donor"""
    others: np.ndarray
    """(N, k) positions of k donors of each face, for its variety; -1 where it has no more"""
    own: bool
    """whether the donors are the faces themselves, at the same positions"""
    sheet: np.ndarray
    """positions of faces that go with each other, for the sheet of swaps; empty: any"""
    tried: int = 0
    """pairs looked at, where donors are chosen by fit"""
    refused: int = 0
    """those of them that cannot be drawn"""


def random_donors(
    faces: Batch, donors: Batch | None, styles: int, seed: int, same: np.ndarray | None = None
) -> Donors:  # fmt: skip
    """Donors by chance: the faces to each other in a seeded cyclic order, or at least 2 others, each once while they
    last. `same` (N,) is the position of each face among the donors, -1 where it is none: no face gets itself."""
    num, rng = len(faces.image), np.random.default_rng((seed, 61))
    if donors is None:
        strangers = [np.delete(np.arange(num), i) for i in range(num)]
        others = np.stack([rng.choice(among, min(styles, num - 1), replace=False) for among in strangers])
        return Donors(faces, swap_partners(num, seed), others, True, np.empty(0, np.int64))
    count = len(donors.image)
    same = np.full(num, -1) if same is None else same
    partners = np.concatenate([rng.permutation(count) for _ in range(-(-num // count))])[:num]
    for i in np.flatnonzero(partners == same):  # the two change donors, neither of which is then given itself
        free = np.flatnonzero((partners != same[i]) & (same != same[i]))
        if partners[i] != same[i]:
            continue  # it has changed already
        if len(free):
            j = free[0]
            partners[i], partners[j] = partners[j], partners[i]
        else:
            partners[i] = (same[i] + 1) % count
    k = min(styles, count)
    others = np.full((num, k), -1)
    for row, itself in zip(others, same, strict=True):
        drawn = rng.choice(count - (itself >= 0), min(k, count - (itself >= 0)), replace=False)
        row[: len(drawn)] = drawn + (drawn >= itself) if itself >= 0 else drawn
    return Donors(donors, partners, others, False, np.empty(0, np.int64))


def fitted_donors(
    faces: Batch, donors: Batch | None, styles: int, seed: int, schema: LandmarkSchema, sheet: int,
    same: np.ndarray | None = None,
) -> tuple[np.ndarray, Donors]:  # fmt: skip
    """The faces that have a donor which can be bent onto them, and their donors as `generate` chooses them: near in
    shape, different in look. Each face's partner is one of its donors, by the seed; `same` as of `random_donors`."""
    others, num, config = donors or faces, len(faces.image), WarpConfig()
    if same is None:
        same = np.arange(num) if donors is None else np.full(num, -1)
    own, theirs = (batch.landmarks.double().numpy() for batch in (faces, others))

    def seen(positions: np.ndarray) -> np.ndarray:
        small = likeness.resize(others.image[torch.from_numpy(positions)], SIDE)
        return looks_of(small.permute(0, 2, 3, 1).numpy())

    found = fitting_donors(own, theirs, styles, seed, same, schema, config, seen)
    rows = np.flatnonzero(found.donors[:, 0] >= 0)
    chosen = found.donors[rows]
    count = (chosen >= 0).sum(axis=1)
    which = np.random.default_rng((seed, 65)).random(len(rows))
    partners = chosen[np.arange(len(rows)), (which * count).astype(np.int64)]
    tried, refused = int(found.tried[rows].sum()), int(found.refused[rows].sum())
    together = np.empty(0, np.int64)
    if len(rows) > 1:
        some = int(np.random.default_rng((seed, 62)).integers(len(rows)))
        left = own[rows]
        near = fitting_donors(left[some : some + 1], left, min(sheet - 1, len(rows) - 1) or 1, seed, np.array([some]),
                              schema, config).donors[0]  # fmt: skip
        together = np.array([some, *near[near >= 0]])[:sheet]
    return rows, Donors(others, partners, chosen, False, together, tried, refused)


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """FID (Heusel et al., 2017) of features (m, D) and (n, D): the distance of two normal distributions.

    |mean difference|^2 + trace(A + B - 2 (A B)^1/2). Biased upwards with few pictures: compare at equal numbers.
    """
    x, y = x.double(), y.double()
    a, b = (torch.cov(rows.T) for rows in (x, y))
    root = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * root)


def sharpness(images: Tensor) -> Tensor:
    """(B,) mean difference of lightness to its surroundings of 3 x 3 pixels, of pictures (B, 3, H, W)."""
    light = likeness.as_saved(images).mean(dim=1, keepdim=True)
    return (light - torch.nn.functional.avg_pool2d(light, 3, 1, 1, count_include_pad=False)).abs().mean(dim=(1, 2, 3))


def masked(images: Tensor, landmarks: Tensor, inside: bool) -> Tensor:
    """Pictures of which only the face is left (the hull of its landmarks), or only what surrounds it; the rest grey."""
    points = landmarks.double().numpy()
    if not inside:
        middle = points.mean(axis=1, keepdims=True)
        points = (points - middle) * _ROOM + middle
    face = face_region(points, images.shape[-1]).bool()
    return torch.where(face if inside else ~face, images, 0.0)


def looks(
    faces: Batch, donors: Donors, made: Tensor, network: FeatureNetwork, gallery: int, seed: int
) -> dict[str, Any]:
    """What pictures `made` (N, 3, S, S) of the faces in their partners' styles keep of the donors."""
    _, first = np.unique(donors.partners, return_index=True)
    rows = torch.from_numpy(np.sort(first)[:gallery])
    theirs = take_faces(donors.batch, torch.from_numpy(donors.partners)[rows])

    def seen(images: Tensor, landmarks: Tensor, part: str) -> Tensor:
        shown = images if part == "whole" else masked(images, landmarks, part == "face")
        return style.network_statistics(levels_of(network, shown))

    kept = {}
    for part in ("whole", "face", "surroundings"):
        real = seen(theirs.image, theirs.landmarks, part)
        kept[part] = {
            "translator": style.retrieval(seen(made[rows], faces.landmarks[rows], part), real),
            "floor": style.retrieval(seen(faces.image[rows], faces.landmarks[rows], part), real),
        }
    fine = [sharpness(images).median() for images in (made, donors.batch.image[torch.from_numpy(donors.partners)])]
    return {
        "features": network.name, "donors": len(rows), "kept": kept, "sharpness": float(fine[0] / fine[1]),
        "pairs": {"tried": donors.tried, "refused": donors.refused}, **_distances(faces, donors, made, network, seed),
    }  # fmt: skip


def _distances(faces: Batch, donors: Donors, made: Tensor, network: FeatureNetwork, seed: int) -> dict[str, Any]:
    """KID and FID of the pictures made to real faces of which none gave a style, beside those of real faces to such."""
    order = np.random.default_rng((seed, 63)).permutation(len(made))
    apart = np.setdiff1d(np.arange(len(donors.batch.image)), donors.partners)
    if donors.own or len(apart) < _LEAST:  # half of the faces, and the others that gave these no style
        some = order[: len(made) // 2]
        source, apart = faces, np.setdiff1d(order[len(made) // 2 :], donors.partners[some] if donors.own else [])
    else:
        some, source = order, donors.batch
    apart = np.random.default_rng((seed, 64)).permutation(apart)
    count = min(len(some), len(apart))
    if count < _LEAST:
        return {"distances": None}
    some, apart = some[:count], apart[:count]

    def coarse(images: Tensor) -> Tensor:
        rows = levels_of(network, images)[-1].double().mean((2, 3))
        return torch.nn.functional.normalize(rows, dim=1) * rows.shape[1] ** 0.5

    drawn, real = coarse(made[torch.from_numpy(some)]), coarse(source.image[torch.from_numpy(apart)])
    styles = coarse(donors.batch.image[torch.from_numpy(donors.partners[some])])
    found = {}
    for name, x in (("translator", drawn), ("floor", styles)):
        value, sd = likeness.kid(x, real, seed)
        found[name] = {"kid": value, "kid_sd": sd, "fid": frechet_distance(x, real)}
    return {"distances": {"faces": count, **found}}
