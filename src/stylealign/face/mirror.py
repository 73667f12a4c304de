"""Guess a mark-up's mirror twins from annotated faces: which landmark becomes which when a face is mirrored.

Mirrored faces are faces: the mean shape, mirrored and renumbered, must be the mean shape again. The guess is the
renumbering for which it comes nearest, and a person has to look at it (init.py draws it).
"""

from collections.abc import Iterable

import numpy as np
from scipy.optimize import linear_sum_assignment

from stylealign.face.geometry import align

ROUNDS = 10
MIDLINE = 0.02
"""Of the shape's width: a point this near the mirror line is its own twin, even where a neighbour fits better."""
STEPS = np.linspace(-1.5, 1.5, 13)
"""Standard deviations by which the mean is moved."""
LYING = np.radians([45.0, 90.0, 135.0])
"""Where else than upright the mirror line is looked for."""
BETTER = 0.5
"""Of the residual: how much better a lying mirror line has to fit than an upright one. Few points have several."""


def mirror_twins(shapes: np.ndarray) -> tuple[np.ndarray, float]:
    """The guessed renumbering and how far it is from perfect.

    Points are told apart by place and by how much they move from face to face, which parts a lip's outer edge from
    its inner one. Few faces look to one side on average: the mean is also tried moved along its three main ways of
    varying, of which one is the turn of the head, and the most symmetric of these shapes decides.

    Args:
        shapes: (N, P, 2) px of N >= 1 faces, better upright: then points that are symmetric in several ways are told.

    Returns:
        (P,) int: landmark i of a mirrored face is `mirrored[twins[i]]`, with twins[twins[i]] = i; and the root mean
        square distance between that shape and its mirrored, renumbered self, over the shape's width.
    """
    turned = align(np.asarray(shapes, dtype=np.float64))
    mean = turned.mean(axis=0)
    moves = np.linalg.norm(turned.std(axis=0), axis=1)
    tried = [mean]
    if len(turned) > 2:
        _, deviations, modes = np.linalg.svd((turned - mean).reshape(len(turned), -1), full_matrices=False)
        for mode, deviation in zip(modes[:3], deviations[:3] / np.sqrt(len(turned)), strict=False):
            tried += [mean + step * deviation * mode.reshape(mean.shape) for step in STEPS if step]

    def best(angles: Iterable[float]) -> tuple[np.ndarray, float]:
        return min((_twins_of(shape, moves, angle) for angle in angles for shape in tried), key=lambda found: found[1])

    upright, lying = best([0.0]), best(LYING)
    return lying if lying[1] < BETTER * upright[1] else upright


def _twins_of(mean: np.ndarray, moves: np.ndarray, angle: float) -> tuple[np.ndarray, float]:
    """The renumbering found from a mirror line that is `angle` off the vertical, and its residual."""
    width = np.ptp(mean @ np.array([np.cos(angle), -np.sin(angle)]))  # across that line
    twins = np.arange(len(mean))
    for _ in range(ROUNDS):
        mirrored = _reflected(mean, angle)
        away = np.linalg.norm(mean[:, None] - mirrored[None], axis=2)
        cost = away**2 + (moves[:, None] - moves[None]) ** 2
        on_line = np.diag(away) < 2 * MIDLINE * width
        cost[np.diag_indices(len(cost))] = np.where(on_line, 0.0, cost.diagonal())
        found = _involution(linear_sum_assignment(cost)[1], cost)
        # The best line for these twins takes the shape onto its renumbered self.
        there = mean[found]
        along = (mean[:, 1] * there[:, 1] - mean[:, 0] * there[:, 0]).sum()
        across = (mean[:, 0] * there[:, 1] + mean[:, 1] * there[:, 0]).sum()
        angle = np.arctan2(across, along) / 2
        if np.array_equal(found, twins):
            break
        twins = found
    away = mean - _reflected(mean, angle)[twins]
    return twins, float(np.sqrt((away**2).sum(axis=1).mean()) / width)


def _reflected(points: np.ndarray, angle: float) -> np.ndarray:
    """(P, 2) points in a mirror line through the origin, `angle` off the vertical."""
    c, s = np.cos(2 * angle), np.sin(2 * angle)
    return points @ np.array([[-c, s], [s, c]])


def _involution(found: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """The nearest renumbering that undoes itself: pairs that chose each other stay, the others pair up by cost."""
    twins = np.where(found[found] == np.arange(len(found)), found, -1)
    free = [int(i) for i in np.flatnonzero(twins < 0)]
    while free:
        i, j = min(((i, j) for i in free for j in free), key=lambda pair: cost[pair])
        twins[i], twins[j] = j, i
        free = [k for k in free if k not in (i, j)]
    return twins


def flip_pairs(twins: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The pairs of a renumbering, the smaller number first."""
    return tuple((i, int(j)) for i, j in enumerate(twins) if i < j)
