"""Pictures stored on their side: EXIF orientations and quarter turns as exact affines, which map landmarks back.

A view is the picture as a person would hold it. `view_from_source` is an affine of the eight symmetries of a
rectangle, so that the turned picture is the same pixels in another order.
"""

import numpy as np

from stylealign.face import geometry

# orientation: linear part of view_from_source (x to the right, y down); the shift follows from the picture's size.
_EXIF = {
    1: ((1, 0), (0, 1)), 2: ((-1, 0), (0, 1)), 3: ((-1, 0), (0, -1)), 4: ((1, 0), (0, -1)),
    5: ((0, 1), (1, 0)), 6: ((0, -1), (1, 0)), 7: ((0, -1), (-1, 0)), 8: ((0, 1), (-1, 0)),
}  # fmt: skip
_TURNS = {0: _EXIF[1], 90: _EXIF[6], 180: _EXIF[3], 270: _EXIF[8]}


def _placed(linear: tuple[tuple[int, int], tuple[int, int]], width: int, height: int) -> np.ndarray:
    """Put the image of the (width, height) rectangle into the quadrant of positive coordinates."""
    matrix = np.array(linear, dtype=np.float64)
    corners = np.array([[0, 0], [width - 1, height - 1]], dtype=np.float64) @ matrix.T
    return np.hstack([matrix, -corners.min(axis=0)[:, None]])


def upright_affine(orientation: int, width: int, height: int) -> np.ndarray:
    """view_from_source (2, 3) of an EXIF orientation, for a stored picture of that size."""
    return _placed(_EXIF[orientation], width, height)


def turn_affine(degrees: int, width: int, height: int) -> np.ndarray:
    """Turn a picture clockwise by 0, 90, 180 or 270 degrees."""
    return _placed(_TURNS[degrees], width, height)


def size_of_view(view_from_source: np.ndarray, width: int, height: int) -> tuple[int, int]:
    """(width, height) of the view."""
    return (width, height) if view_from_source[0, 0] != 0 else (height, width)


def view_of(image: np.ndarray, view_from_source: np.ndarray) -> np.ndarray:
    """The (H, W, ...) picture's pixels in the view's order; the picture itself where nothing moves."""
    swapped = view_from_source[0, 0] == 0
    view = image.swapaxes(0, 1) if swapped else image
    flip_x = view_from_source[0, :2].sum() < 0
    flip_y = view_from_source[1, :2].sum() < 0
    return np.ascontiguousarray(view[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def map_box(to_from: np.ndarray, box: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of a box's image under a view's affine (exact: quarter turns keep boxes boxes)."""
    corners = geometry.apply(to_from, np.asarray(box, dtype=np.float64).reshape(2, 2))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
