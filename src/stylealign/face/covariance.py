"""Covariances (..., 2, 2) of points in a plane, px^2: moved as points are, mirrored, and what is none."""

import numpy as np


def isotropic(variance: np.ndarray) -> np.ndarray:
    """(..., ) variances -> (..., 2, 2) covariances without a direction."""
    return np.asarray(variance, np.float64)[..., None, None] * np.eye(2)


def mirrored_covariance(covariance: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(..., P, 2, 2) covariances answered on a mirrored crop, as of the crop itself; `order` is `flip_permutation`."""
    return covariance[..., order, :, :] * np.array([[1.0, -1.0], [-1.0, 1.0]])


def moved_covariance(covariance: np.ndarray, to_from: np.ndarray) -> np.ndarray:
    """(..., 2, 2) covariances through an affine (2, 3)."""
    linear = to_from[:, :2]
    return linear @ np.asarray(covariance, np.float64) @ linear.T


def not_positive(covariance: np.ndarray) -> np.ndarray:
    """(...,) bool: which of (..., 2, 2) are no covariance: not finite, not symmetric, or not positive definite."""
    xx, xy, yx, yy = (covariance[..., i, j] for i in (0, 1) for j in (0, 1))
    with np.errstate(invalid="ignore", over="ignore"):
        alike = np.abs(xy - yx) <= 1e-3 * np.sqrt(np.abs(xx * yy))
        return ~(np.isfinite(covariance).all(axis=(-2, -1)) & alike & (xx > 0) & (yy > 0) & (xx * yy > xy * yx))


def scales(covariance: np.ndarray) -> np.ndarray:
    """(..., 2, 2) covariances -> (...,) standard deviations: the root of the mean of both variances, px.

    A point is 1.25 of it away from the truth in the mean, where its covariance has no direction.
    """
    return np.sqrt((covariance[..., 0, 0] + covariance[..., 1, 1]) / 2)
