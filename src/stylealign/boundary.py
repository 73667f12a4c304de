"""Landmarks -> natural cubic curves. NumPy only; structure.py renders them.

A facial boundary is a curve through an ordered list of landmarks (LAB, CVPR 2018, section 3.1; METHOD 4.2).
"""

import numpy as np


def sample_curves(landmarks: np.ndarray, indices: tuple[int, ...], num: int) -> np.ndarray:
    """Sample the natural cubic spline through `landmarks[..., indices, :]` at `num` points equally spaced in chord length.

    landmarks (..., P, 2) -> (..., num, 2), the same units. Vectorised over the leading axes. Coincident neighbours (a closed
    eye) are kept apart by a tiny knot distance, so that degenerate faces give finite curves. Two points give a straight line.
    """
    points = np.asarray(landmarks, dtype=np.float64)[..., list(indices), :]  # (..., n, 2)
    lead, n = points.shape[:-2], points.shape[-2]
    points = points.reshape(-1, n, 2)
    chord = np.linalg.norm(np.diff(points, axis=1), axis=-1)  # (B, n-1)
    h = np.maximum(chord, 1e-6 * np.maximum(chord.sum(axis=1, keepdims=True), 1e-3))
    knots = np.concatenate([np.zeros((len(points), 1)), np.cumsum(h, axis=1)], axis=1)  # (B, n)

    # Second derivatives m of the natural spline: m_0 = m_{n-1} = 0 and, for every inner knot,
    # h_{i-1} m_{i-1} + 2 (h_{i-1} + h_i) m_i + h_i m_{i+1} = 6 (slope_i - slope_{i-1}).
    second = np.zeros_like(points)
    if n > 2:
        slope = np.diff(points, axis=1) / h[..., None]
        system = np.zeros((len(points), n - 2, n - 2))
        i = np.arange(n - 2)
        system[:, i, i] = 2 * (h[:, :-1] + h[:, 1:])
        system[:, i[:-1], i[1:]] = system[:, i[1:], i[:-1]] = h[:, 1:-1]
        second[:, 1:-1] = np.linalg.solve(system, 6 * np.diff(slope, axis=1))

    t = np.linspace(0, 1, num)[None] * knots[:, -1:]  # (B, num)
    segment = np.clip((t[:, :, None] >= knots[:, None, 1:-1]).sum(axis=2), 0, n - 2)  # (B, num)

    def take(values: np.ndarray, offset: int) -> np.ndarray:
        index = segment + offset
        return np.take_along_axis(values, index[..., None] if values.ndim == 3 else index, axis=1)

    width = take(h, 0)[..., None]
    right = (t - take(knots, 0))[..., None]  # distance from the left knot
    left = width - right
    curve = (
        (take(second, 0) * left**3 + take(second, 1) * right**3) / (6 * width)
        + (take(points, 0) / width - take(second, 0) * width / 6) * left
        + (take(points, 1) / width - take(second, 1) * width / 6) * right
    )
    return curve.reshape(*lead, num, 2)
