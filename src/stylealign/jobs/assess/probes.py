"""What one code knows of the other: how well a ridge regression reads the landmarks or the style out of it.

The figure is R^2 on faces that the regression has not seen, against the mean of those it has: 1 is all, 0 nothing.
With few faces it is a lower bound of what is there. Beside it stands what the same regression reads out of the codes
of other faces, a shuffled control that must be about 0. Arrays in, numbers out.
"""

from typing import Any

import numpy as np

from stylealign.face.geometry import align
from stylealign.face.pose import coefficients

LAMBDAS = tuple(10.0**k for k in range(-4, 7))
REPEATS = 5
FAR = 5.0


def ridge_r2(x: np.ndarray, y: np.ndarray, seed: int, lambdas: tuple[float, ...] = LAMBDAS) -> float:
    """R^2 of a ridge regression of (N, K) `y` on (N, D) `x`: fitted on a random half of the rows, scored on the other.

    Columns of x are standardised on the first half and cut off at FAR deviations, so that a number which hardly
    varies there does not decide the other half. Lambda is the one of least leave-one-out error there, which for ridge
    is exact and free: e_i / (1 - h_ii) (Golub, Heath and Wahba 1979). Solved in the dual, so D may be any size. The
    R^2 pools the columns of y.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    order = np.random.default_rng((seed, 0xB0)).permutation(len(x))
    half = len(x) // 2
    fit, score = order[:half], order[half:]
    spread = x[fit].std(axis=0)
    used = spread > 1e-9 * max(1.0, float(np.abs(x).max()))
    if not used.any():
        return 0.0  # a code that says the same of every face
    z = np.clip((x[:, used] - x[fit][:, used].mean(axis=0)) / spread[used], -FAR, FAR) / np.sqrt(used.sum())
    mean = y[fit].mean(axis=0)
    target = y[fit] - mean
    values, vectors = np.linalg.eigh(z[fit] @ z[fit].T)
    values = np.maximum(values, 0.0)
    rotated = vectors.T @ target  # (half, K)
    errors = []
    for weight in lambdas:
        shrink = values / (values + weight)
        leverage = (vectors**2) @ shrink + 1 / half  # the mean is fitted too
        residual = target - vectors @ (shrink[:, None] * rotated)
        errors.append(float(((residual / np.maximum(1 - leverage, 1e-6)[:, None]) ** 2).sum()))
    best = lambdas[int(np.argmin(errors))]
    dual = vectors @ (rotated / (values + best)[:, None])
    answer = mean + z[score] @ (z[fit].T @ dual)
    total = ((y[score] - mean) ** 2).sum()
    return float(1 - ((y[score] - answer) ** 2).sum() / total) if total > 0 else 0.0


def probe(x: np.ndarray, y: np.ndarray, seed: int, repeats: int = REPEATS) -> dict[str, Any]:
    """Mean and deviation of `ridge_r2` over random halves, and the same with the rows of y dealt out to other faces."""
    found = [ridge_r2(x, y, seed + k) for k in range(repeats)]
    rng = np.random.default_rng((seed, 0xC0))
    control = [ridge_r2(x, y[rng.permutation(len(y))], seed + k) for k in range(repeats)]
    return {
        "r2": float(np.mean(found)),
        "sd": float(np.std(found)),
        "shuffled": float(np.mean(control)),
        "dimensions": int(x.shape[1]),
    }


def aligned_shapes(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (N, P, 2) -> shapes (N, 2P) without place, size and turn in the picture, in per cent of their size."""
    return 100 * align(landmarks).reshape(len(landmarks), -1)


def poses(landmarks: np.ndarray) -> np.ndarray:
    """The poses (N, 2), in deviations: the turn in the picture, and the first component of the aligned shapes.

    The latter is mostly the yaw (face/pose.py).
    """
    centred = landmarks - landmarks.mean(axis=1, keepdims=True)
    aligned = align(landmarks)
    turned = (centred[..., 0] + 1j * centred[..., 1]) * (aligned[..., 0] - 1j * aligned[..., 1])
    roll = np.angle(turned.sum(axis=1) / np.abs(turned.sum(axis=1)).clip(1e-12))
    roll = roll - np.angle(np.exp(1j * roll).mean())
    values = np.stack([np.angle(np.exp(1j * roll)), coefficients(landmarks)], axis=1)
    return (values - values.mean(axis=0)) / values.std(axis=0).clip(1e-12)
