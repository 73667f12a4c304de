"""What a picture looks like, whoever is in it: style statistics that no translator was trained on. Knows no files.

Two features, both blind to where in the picture something is: colour and gradient statistics of a small pyramid, and
the mean and deviation of a frozen network's channels. Neither sees a landmark, yet neither is free of structure: an
open mouth has a colour.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.augment import warp
from stylealign.jobs.assess.images import as_saved, feature_distance, resize

SIDES = (32, 16, 8)
_UPPER = np.triu_indices(9)
# Columns of the statistics that are of colours alone, without their gradients: 9 at each resolution.
COLOURS = torch.from_numpy(np.flatnonzero(np.tile(np.concatenate([np.ones(3, bool), _UPPER[1] < 3]), len(SIDES))))


def style_statistics(images: Tensor) -> Tensor:
    """Style statistics (B, 144) of pictures (B, 3, H, W) in [-1, 1].

    At each of three resolutions the means of the colours, and the covariances of the nine numbers of a place (colours,
    differences to the right and down), as signed roots so that all are in units of colour.
    """
    found = []
    for side in SIDES:
        x = resize(as_saved(images), side).double()
        right, down = x[..., :-1, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, :-1]
        flat = torch.cat([x[..., :-1, :-1], right, down], dim=1).flatten(2)  # (B, 9, places)
        centred = flat - flat.mean(2, keepdim=True)
        covariance = centred @ centred.transpose(1, 2) / flat.shape[2]
        values = covariance[:, _UPPER[0], _UPPER[1]]
        found += [x.mean((2, 3)), values.sign() * values.abs().sqrt()]
    return torch.cat(found, dim=1)


def network_statistics(levels: Sequence[Tensor]) -> Tensor:
    """(B, 2 * channels): mean and standard deviation over the places of every channel of every level."""
    return torch.cat([f(level.double()) for level in levels for f in (_mean, _deviation)], dim=1)


def _mean(level: Tensor) -> Tensor:
    return level.mean((2, 3))


def _deviation(level: Tensor) -> Tensor:
    return level.std((2, 3), correction=0)


def ranks(queries: Tensor, gallery: Tensor) -> Tensor:
    """Places (n,) of gallery row i among all rows by distance to query i; 0 is the nearest, ties count against it.

    Every dimension is divided by its deviation over the gallery, so that none decides alone.
    """
    scale = gallery.std(0, correction=0)
    used = scale > 1e-9
    apart = torch.cdist(queries[:, used] / scale[used], gallery[:, used] / scale[used])
    own = apart.diagonal()[:, None]
    nearer = apart <= own
    nearer.fill_diagonal_(False)
    return nearer.sum(1)


def retrieval(queries: Tensor, gallery: Tensor) -> dict[str, float]:
    """How often the donor is nearest in style (`top1`) or among the five nearest (`top5`), and its mean place."""
    place = ranks(queries, gallery).double()
    return {
        "top1": float((place < 1).double().mean()),
        "top5": float((place < 5).double().mean()),
        "mean_place": float(place.mean() + 1),
    }


def recropped(images: Tensor, seed: int) -> Tensor:
    """The same pictures cut a little differently: turned up to 4 degrees, scaled and shifted up to 4 and 3 %.

    What a translator that gives the donor's own picture would score: the ceiling of retrieval.
    """
    draws = 2 * np.random.default_rng((seed, 31)).random((len(images), 4)) - 1
    size = images.shape[-1]
    angle, scale = np.deg2rad(4 * draws[:, 0]), np.exp(0.04 * draws[:, 1])
    c, s, middle = scale * np.cos(angle), scale * np.sin(angle), (size - 1) / 2
    linear = np.stack([np.stack([c, -s], 1), np.stack([s, c], 1)], 1)
    shift = middle + 0.03 * size * draws[:, 2:] - linear @ np.full(2, middle)
    return warp(images, torch.from_numpy(np.concatenate([linear, shift[:, :, None]], axis=2)), size)


def colour_distance(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of 4 x 4 thumbnails, in [0, 2], as the judge of `train-translator` measures it."""
    thumbnails = [torch.nn.functional.adaptive_avg_pool2d(x.clamp(-1, 1), 4) for x in (a, b)]
    return float((thumbnails[0] - thumbnails[1]).abs().mean())


def texture_distance(a: Tensor, b: Tensor) -> float:
    """Mean distance of `style_statistics`, in deviations of `b`'s faces per dimension."""
    x, y = style_statistics(a), style_statistics(b)
    scale = y.std(0, correction=0).clamp(min=1e-9)
    return float(((x - y) / scale).square().mean(1).sqrt().mean())


def diversity(sets: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
    """Mean feature distance between two pictures of a set, over all pairs of all sets; and the deviation between sets.

    Args:
        sets: for every set the levels of its k >= 2 pictures, each (k, C, h, w).
    """
    means = []
    for levels in sets:
        k = len(levels[0])
        i, j = torch.triu_indices(k, k, offset=1)
        means.append(float(feature_distance([x[i] for x in levels], [x[j] for x in levels]).mean()))
    return {"mean": float(np.mean(means)), "sd": float(np.std(means)), "sets": len(means)}
