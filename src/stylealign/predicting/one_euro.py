"""Smoothing of points over time, and how much they tremble. Knows arrays of points and seconds.

The One-Euro filter (Casiez, Roussel and Vogel, CHI 2012) has little delay when a point moves fast and little jitter
when it rests.
"""

import math

import numpy as np


class OneEuro:
    """Filters (P, 2) points, each coordinate by itself, as published (algorithm 1): exponentially, with the cutoff
    frequency

        cutoff = min_cutoff + beta * |speed|,    alpha = 1 / (1 + 1 / (2 pi cutoff seconds))

    with `speed` itself filtered at `speed_cutoff`. Speeds are in face sizes a second, not px, so that one setting
    fits every resolution: `size` px of a call are one face.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 2.0, speed_cutoff: float = 1.0):
        """`min_cutoff` and `speed_cutoff` in Hz, `beta` in Hz a face size a second."""
        if not (min_cutoff > 0 and beta >= 0 and speed_cutoff > 0):
            raise ValueError(
                f"One-Euro filter of min_cutoff {min_cutoff}, beta {beta}, speed_cutoff {speed_cutoff}: "
                "expected above 0, at least 0, above 0"
            )
        self.min_cutoff, self.beta, self.speed_cutoff = min_cutoff, beta, speed_cutoff
        self._points: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, points: np.ndarray, seconds: float, size: float = 1.0) -> np.ndarray:
        """The (P, 2) smoothed points; `seconds` is the time since the call before (not used in the first call)."""
        points = np.asarray(points, dtype=np.float64)
        if self._points is None or self._speed is None:
            self._points, self._speed = points, np.zeros_like(points)
            return points
        speed = (points - self._points) / seconds / size
        share = _alpha(self.speed_cutoff, seconds)
        self._speed = share * speed + (1 - share) * self._speed
        shares = _alpha(self.min_cutoff + self.beta * np.abs(self._speed), seconds)
        self._points = shares * points + (1 - shares) * self._points
        return self._points


def _alpha(cutoff: float | np.ndarray, seconds: float) -> np.ndarray:
    return 1 / (1 + 1 / (2 * math.pi * np.asarray(cutoff) * seconds))


class Jitter:
    """How much tracks tremble: mean length of a landmark's second difference |x[t+1] - 2 x[t] + x[t-1]|, in face sizes.

    A face that moves evenly has none, whatever its speed; noise of standard deviation s on each coordinate has
    sqrt(6) s times sqrt(pi / 2), about 3.07 s.
    """

    def __init__(self) -> None:
        self._last: dict[int, list[tuple[int, np.ndarray]]] = {}
        self._sum, self._count = 0.0, 0

    def add(self, track: int, frame: int, points: np.ndarray, size: float) -> None:
        """A face's (P, 2) landmarks in a frame, `size` px large."""
        last = self._last.setdefault(track, [])
        last.append((frame, points))
        if len(last) == 3:
            (a, x), (b, y), (c, z) = last
            if c - b == b - a == 1:
                self._sum += float(np.linalg.norm(z - 2 * y + x, axis=1).mean()) / size
                self._count += 1
            del last[0]

    def forget(self, track: int) -> None:
        """A track has ended."""
        self._last.pop(track, None)

    @property
    def value(self) -> float | None:
        """None before three frames of a face in a row."""
        return self._sum / self._count if self._count else None
