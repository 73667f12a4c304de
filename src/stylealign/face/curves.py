"""Landmarks -> natural cubic curves. NumPy only; structure.py renders them.

A facial boundary is a curve through an ordered list of landmarks (LAB, CVPR 2018, section 3.1; docs/paper_map.md 4.2).
"""

from collections.abc import Sequence

import numpy as np


def _natural_spline(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, n, 2) points -> knot distances (N, n-1) and second derivatives (N, n, 2) at the knots of the natural spline.

    Knots are chord lengths. Coincident neighbours (a closed eye) are kept apart by a tiny knot distance, so that
    degenerate faces give finite curves.
    """
    num, n = points.shape[:2]
    chord = np.linalg.norm(np.diff(points, axis=1), axis=-1)
    h = np.maximum(chord, 1e-6 * np.maximum(chord.sum(axis=1, keepdims=True), 1e-3))

    # Second derivatives m of the natural spline: m_0 = m_{n-1} = 0 and, for every inner knot,
    # h_{i-1} m_{i-1} + 2 (h_{i-1} + h_i) m_i + h_i m_{i+1} = 6 (slope_i - slope_{i-1}).
    second = np.zeros_like(points)
    if n > 2:
        slope = np.diff(points, axis=1) / h[..., None]
        system = np.zeros((num, n - 2, n - 2))
        i = np.arange(n - 2)
        system[:, i, i] = 2 * (h[:, :-1] + h[:, 1:])
        system[:, i[:-1], i[1:]] = system[:, i[1:], i[:-1]] = h[:, 1:-1]
        second[:, 1:-1] = np.linalg.solve(system, 6 * np.diff(slope, axis=1))
    return h, second


def _between(first: np.ndarray, last: np.ndarray, bend: tuple[np.ndarray, np.ndarray], u: np.ndarray) -> np.ndarray:
    """The cubic from `first` to `last` (..., 2) at the fraction u (...) of the knot distance h.

    `bend` is h^2 / 6 times the second derivatives at both ends.
    """
    u = u[..., None]
    v = 1 - u
    return v * first + u * last + (v**3 - v) * bend[0] + (u**3 - u) * bend[1]


def sample_curves(landmarks: np.ndarray, indices: tuple[int, ...], num: int) -> np.ndarray:
    """Sample the natural cubic spline through `landmarks[..., indices, :]` at `num` points of equal chord length.

    landmarks (..., P, 2) -> (..., num, 2), the same units. Vectorised over the leading axes. Coincident neighbours (a
    closed eye) are kept apart by a tiny knot distance, so that degenerate faces give finite curves. Two points give a
    straight line.
    """
    points = np.asarray(landmarks, dtype=np.float64)[..., list(indices), :]  # (..., n, 2)
    lead, n = points.shape[:-2], points.shape[-2]
    points = points.reshape(-1, n, 2)
    h, second = _natural_spline(points)
    knots = np.concatenate([np.zeros((len(points), 1)), np.cumsum(h, axis=1)], axis=1)  # (B, n)
    t = np.linspace(0, 1, num)[None] * knots[:, -1:]  # (B, num)
    interval = np.clip((t[:, :, None] >= knots[:, None, 1:-1]).sum(axis=2), 0, n - 2)  # (B, num)

    def take(values: np.ndarray, offset: int) -> np.ndarray:
        index = interval + offset
        return np.take_along_axis(values, index[..., None] if values.ndim == 3 else index, axis=1)

    width = take(h, 0)
    sixth = width[..., None] ** 2 / 6
    bend = (take(second, 0) * sixth, take(second, 1) * sixth)
    curve = _between(take(points, 0), take(points, 1), bend, (t - take(knots, 0)) / width)
    return curve.reshape(*lead, num, 2)


def curve_segments(
    landmarks: np.ndarray, curves: Sequence[tuple[int, ...]], longest: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Straight pieces of all curves of all faces, few where a curve is short or straight.

    Args:
        landmarks: (B, P, 2); a curve with a landmark that is not finite gives no piece.
        curves: K ordered lists of landmarks.
        longest: no piece is longer.
        tolerance: no point of a curve is farther from its piece.

    Returns:
        Starts (N, 2), ends (N, 2) and, for each piece, face * K + curve (N,).
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    by_length: dict[int, list[int]] = {}  # curves of equally many points are solved together
    for k, curve in enumerate(curves):
        by_length.setdefault(len(curve), []).append(k)
    parts: list[tuple[np.ndarray, ...]] = []
    for n, members in by_length.items():
        points = landmarks[:, [curves[k] for k in members]].reshape(-1, n, 2)  # (B * members, n, 2)
        owner = (np.arange(len(landmarks))[:, None] * len(curves) + members).reshape(-1)
        known = np.isfinite(points).all(axis=(1, 2))
        points, owner = points[known], owner[known]
        h, second = _natural_spline(points)
        bend = second[:, :-1] * h[..., None] ** 2 / 6, second[:, 1:] * h[..., None] ** 2 / 6
        flat = (a.reshape(-1, 2) for a in (points[:, :-1], points[:, 1:], *bend))
        parts.append((*flat, np.repeat(owner, n - 1)))
    first, last, bend0, bend1, owner = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    # A curve runs no faster than |last - first| + 2 (|bend0| + |bend1|) a unit of u, and its second derivative, linear
    # in u, is at most 6 max(|bend0|, |bend1|); a chord over a distance d of u is off by at most d^2 / 8 of that.
    size0, size1 = np.linalg.norm(bend0, axis=-1), np.linalg.norm(bend1, axis=-1)
    fastest = np.linalg.norm(last - first, axis=-1) + 2 * (size0 + size1)
    pieces = np.maximum(fastest / longest, np.sqrt(0.75 * np.maximum(size0, size1) / tolerance))
    pieces = np.maximum(np.ceil(pieces), 1).astype(np.int64)
    which = np.repeat(np.arange(len(pieces)), pieces)
    number = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first, last, bend0, bend1, owner = (a[which] for a in (first, last, bend0, bend1, owner))
    start, end = (_between(first, last, (bend0, bend1), (number + i) / pieces[which]) for i in (0, 1))
    return start, end, owner
