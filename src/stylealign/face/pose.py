"""Pose-based data balancing (Feng et al., CVPR 2018, pdb.m): show turned heads more often, which are rare.

Works on labels alone, so it goes under any detector. Knows no images, no networks and no files.
"""

from dataclasses import dataclass

import numpy as np

from stylealign.errors import UserError, counted
from stylealign.face.geometry import align


@dataclass(frozen=True, kw_only=True, slots=True)
class BalanceConfig:
    """Repeat the faces of rare head poses."""

    bins: int = 0
    """Bins of the histogram of yaw; the authors' example has 9. 0: every face once."""
    component: int = 0
    """Principal component of the aligned shapes that is the yaw: 0 for dense mark-ups, 1 for the 19 points of AFLW."""

    def __post_init__(self) -> None:
        if self.bins < 0 or self.component < 0:
            raise ValueError(
                f"balance of {counted(self.bins, 'bin')} by component {self.component}: expected 0 or more of each"
            )


def coefficients(landmarks: np.ndarray, component: int = 0) -> np.ndarray:
    """(N,) coefficients of the aligned shapes along a principal component; their common sign is arbitrary.

    Component 0 is the yaw, the largest change of shape between faces once place, size and rotation in the picture are
    out.
    """
    shapes = align(landmarks).reshape(len(landmarks), -1)
    shapes = shapes - shapes.mean(axis=0)
    axis = np.linalg.svd(shapes, full_matrices=False)[2][component]
    return shapes @ axis


def repeats(landmarks: np.ndarray, config: BalanceConfig, labelled: np.ndarray | None = None) -> np.ndarray:
    """How often each face is to be shown so that every bin of |yaw| gets about as much as the fullest.

    A face in a bin of n is shown round(n of the fullest bin / n) times (a half rounds up). Bins are of equal width
    from the smallest to the largest |coefficient|; a bin of a single face may repeat it hundreds of times, in the
    original too, which is why faces are varied at random wherever they are shown. A face that lacks landmarks tells no
    pose: it is shown once, and in no bin.

    Args:
        landmarks: (N, P, 2), in any coordinates: place, size and rotation of a face change nothing.
        config: how many bins; 0 repeats nothing.
        labelled: (N, P) bool, which landmarks count as labels; not given: all.

    Returns:
        (N,) int64, 1 or more.

    Raises:
        UserError: where a labelled landmark is not a number or a face has no extent, or where there are too few whole
            faces or points.
    """
    num, points = landmarks.shape[:2]
    times = np.ones(num, dtype=np.int64)
    if config.bins == 0:
        return times
    landmarks = np.asarray(landmarks, dtype=np.float64)
    whole = np.ones(num, dtype=bool) if labelled is None else labelled.all(axis=1)
    incomplete = whole & ~np.isfinite(landmarks).all(axis=(1, 2))
    if incomplete.any():
        raise UserError(
            f"balancing by pose: {incomplete.sum()} of {counted(num, 'training face')} without some landmarks (the "
            f"first is number {np.argmax(incomplete)}), expected every landmark of every face: leave those faces out, "
            "or set balance.bins to 0"
        )
    lacking = "" if whole.all() else f" with every landmark, of {num},"
    num = int(whole.sum())
    if num < 2 * config.bins:
        raise UserError(
            f"balancing by pose: {counted(num, 'training face')}{lacking} for {counted(config.bins, 'bin')}, expected "
            f"at least two faces a bin: set balance.bins to {num // 2} or less, or to 0 for none"
        )
    most = min(num - 1, 2 * points - 4)  # aligning takes four degrees of freedom, the mean a face
    if config.component >= most:
        raise UserError(
            f"balancing by pose: component {config.component} of {counted(num, 'face')} of "
            f"{counted(points, 'point')}, which have "
            f"{counted(max(most, 0), 'component')} (the first is 0): set a lower balance.component, or balance.bins "
            "to 0"
        )
    flat = whole & (np.ptp(landmarks, axis=1) == 0).all(axis=1)
    if flat.any():
        raise UserError(
            f"balancing by pose: all landmarks of face number {np.argmax(flat)} are one point, expected a face: "
            "correct its labels"
        )
    yaw = np.abs(coefficients(landmarks[whole], config.component))
    sizes, edges = np.histogram(yaw, bins=config.bins)
    bins = np.searchsorted(edges[1:-1], yaw, side="right")  # the largest belongs to the last bin
    times[whole] = np.floor(sizes.max() / sizes[bins] + 0.5)
    return times
