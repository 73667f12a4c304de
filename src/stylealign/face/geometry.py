"""Points, boxes, 2x3 affines, and shapes fitted to each other.

Every geometric operation on a face is one affine applied to image and landmarks together.

Points are (..., 2) arrays of (x, y) with pixel centres at integers; an affine named `<to>_from_<from>` is a (2, 3)
float64 array. Knows no images (image.warp does) and no tensors (augment/affine.py has the batched twin).
"""

import math
from typing import Any, TypeVar

import numpy as np

from stylealign.face import geometry


def apply(to_from: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map (..., 2) points through an affine."""
    return np.asarray(points, dtype=np.float64) @ to_from[:, :2].T + to_from[:, 2]


def compose(c_from_b: np.ndarray, b_from_a: np.ndarray) -> np.ndarray:
    """c_from_a (2, 3): first `b_from_a`, then `c_from_b`."""
    return np.hstack([c_from_b[:, :2] @ b_from_a[:, :2], (c_from_b[:, :2] @ b_from_a[:, 2] + c_from_b[:, 2])[:, None]])


def invert(to_from: np.ndarray) -> np.ndarray:
    """b_from_a -> a_from_b, (2, 3) each."""
    inverse = np.linalg.inv(to_from[:, :2])
    return np.hstack([inverse, -(inverse @ to_from[:, 2])[:, None]])


def landmark_box(landmarks: np.ndarray) -> np.ndarray:
    """The tight box x0, y0, x1, y1 round (P, 2) landmarks."""
    return np.concatenate([np.min(landmarks, axis=0), np.max(landmarks, axis=0)])


def square_of(landmarks: np.ndarray) -> np.ndarray:
    """(4,) the square round landmarks (P, 2), of their box's longer side, round its middle."""
    box = landmark_box(landmarks)
    centre, half = (box[:2] + box[2:]) / 2, max(box[2:] - box[:2]) / 2
    return np.concatenate([centre - half, centre + half])


def box_round(to_from: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(4,) the upright box round the image of a box (4,) under any affine."""
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)
    return landmark_box(apply(to_from, np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]])))


def angle_between(a: float, b: float) -> float:
    """Degrees, 0 to 180, between two directions in degrees."""
    return abs((a - b + 180) % 360 - 180)


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """The area that two (4,) boxes x0, y0, x1, y1 share over the area that they cover together, 0 to 1."""
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inner / max((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner, 1e-9))


def crop_affine(box_xyxy: np.ndarray, scale: float, size: int) -> np.ndarray:
    """crop_from_source (2, 3) of a square centred on the box, `scale` times its longer side, `size` px when cut.

    Pixel areas correspond: the crop's first pixel covers source area starting at the square's left edge, so that
    x_crop + 0.5 = (x + 0.5 - left) * size / side. (Mapping centres to corners instead shifts labels by half a pixel.)
    """
    x0, y0, x1, y1 = np.asarray(box_xyxy, dtype=np.float64)
    side = max(x1 - x0, y1 - y0) * scale
    if not (side > 0 and math.isfinite(side)):
        raise ValueError(f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) has no area")
    s = size / side
    left, top = (x0 + x1) / 2 + 0.5 - side / 2, (y0 + y1) / 2 + 0.5 - side / 2
    return np.array([[s, 0.0, s * (0.5 - left) - 0.5], [0.0, s, s * (0.5 - top) - 0.5]])


def resize_affine(factor: float) -> np.ndarray:
    """resized_from_picture (2, 3) of a picture `factor` times the size: pixel areas correspond, not corner pixels."""
    return np.array([[factor, 0.0, (factor - 1) / 2], [0.0, factor, (factor - 1) / 2]])


def flip_affine(width: int) -> np.ndarray:
    """flipped_from_image (2, 3) of an image of `width` px: x -> width - 1 - x, the last pixel becomes the first."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])


def rotate_scale_affine(
    centre: tuple[float, float], degrees: float, scale: float, shift: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """An affine (2, 3) that turns (positive: x towards y) and scales round `centre`, then shifts by pixels."""
    c, s = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    cx, cy = centre
    return np.array([[c, -s, cx - c * cx + s * cy + shift[0]], [s, c, cy - s * cx - c * cy + shift[1]]])


def scale_of(to_from: np.ndarray) -> float:
    """Length in the target of one pixel of the source (square root of the area ratio)."""
    return math.sqrt(abs(float(np.linalg.det(to_from[:, :2]))))


def similarity_fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity target_from_source (2, 3) of (P, 2) points: rotation, scale, shift, no mirror.

    Umeyama (1991), eq. 40-43, in two dimensions.
    """
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    a, b = source - mean_s, target - mean_t
    u, d, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, math.copysign(1.0, float(np.linalg.det(u @ vt)))])
    scale = float((d * sign).sum() / (a**2).sum())
    rotation = (u * sign) @ vt * scale
    return np.hstack([rotation, (mean_t - rotation @ mean_s)[:, None]])


def roll_between(upright: np.ndarray, landmarks: np.ndarray) -> float:
    """Degrees, above -180 to 180, by which a face's landmarks (P, 2) are turned against those of an upright face, by
    the similarity that fits best; positive: x towards y, clockwise as one sees it."""
    linear = similarity_fit(upright, landmarks)
    return math.degrees(math.atan2(linear[1, 0], linear[0, 0]))


def misfit(upright: np.ndarray, landmarks: np.ndarray) -> float:
    """How far landmarks (P, 2) are from a shape, wherever, however large and however turned they are: the root mean
    square distance after the best similarity, over the shape's `face_size`."""
    fitted = apply(similarity_fit(landmarks, upright), landmarks)
    return float(np.sqrt(((fitted - upright) ** 2).sum(axis=-1).mean()) / face_size(upright))


def align(shapes: np.ndarray) -> np.ndarray:
    """Shapes without place, size and turn, fitted to their own mean: generalised Procrustes analysis (Gower 1975).

    With a landmark as one complex number, turning and scaling a shape is multiplying by another, so the mean shape
    that all shapes fit best is the first singular vector of the centred shapes of unit size (Kent 1994), with nothing
    to iterate.

    Args:
        shapes: (N, P, 2), x to the right and y down; no NaN, none of a single place.

    Returns:
        (N, P, 2), centred, their mean of about unit size and as upright as the shapes are on average.
    """
    points = shapes[..., 0] + 1j * shapes[..., 1]
    points = points - points.mean(axis=1, keepdims=True)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    mean = np.linalg.svd(points, full_matrices=False)[2][0]  # (P,), turned by chance
    fit = points.conj() @ mean  # (N,) the least-squares fit of each to the mean: scale and turn
    back = (fit / np.abs(fit)).sum().conj()
    aligned = points * (fit * back / abs(back))[:, None]
    return np.stack([aligned.real, aligned.imag], axis=-1)


THINNEST = 1 / 4
"""Height of a landmark box over its width, or the other way round, that `face_size` counts at least: faces of any usual
mark-up are wider and higher than that, whatever way they look."""


def face_size(landmarks: np.ndarray) -> float:
    """Square root of the landmark box's width times height, px: a denominator that every mark-up has.

    The shorter side counts as THINNEST of the longer at least: landmarks in a line, such as two eyes, are not of no
    size where the line is level.
    """
    x0, y0, x1, y1 = geometry.landmark_box(landmarks)
    shorter, longer = min(x1 - x0, y1 - y0), max(x1 - x0, y1 - y0)
    return float(max(np.sqrt(max(shorter, THINNEST * longer) * longer), 1e-6))


A = TypeVar("A")


def mirrored_back(landmarks: A, size: int, order: np.ndarray, lean: float = 0.0) -> A:
    """Landmarks found on the mirror image of a crop, as landmarks of the crop itself.

    Args:
        landmarks: (..., P, 2) px of the mirrored crop, a NumPy array or a torch tensor.
        size: width of the crop in px.
        order: (P,) `LandmarkSchema.flip_permutation`.
        lean: by how much who found them answers to the right of what it marks, as a share of the width
            (evaluation/lean.py).

    Returns:
        (..., P, 2) px of the crop, renumbered, as found on the crop itself; a new array.
    """
    found: Any = landmarks[..., order.tolist(), :]  # type: ignore[index]  # a list as index copies, in NumPy and in torch
    found[..., 0] = size - 1 + 2 * lean * size - found[..., 0]
    return found
