"""Pictures stored on their side: EXIF orientations and quarter turns as exact affines, which map landmarks back.

A view is the picture as a person would hold it. `view_from_source` is an affine of the eight symmetries of a
rectangle, so that the turned picture is the same pixels in another order.
"""

from dataclasses import replace

import numpy as np

from stylealign.face import geometry
from stylealign.face.sample import FaceSample

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


def shown_crop_affine(orientation: int, box: np.ndarray, scale: float, size: int) -> np.ndarray:
    """crop_from_source (2, 3) of `geometry.crop_affine` round a box (4,) of the stored picture, cut from the view that
    an EXIF orientation makes of it."""
    if orientation == 1:
        return geometry.crop_affine(box, scale, size)
    view = _placed(_EXIF[orientation], 1, 1)  # where the view begins does not matter to a crop round a box in it
    return geometry.compose(geometry.crop_affine(map_box(view, box), scale, size), view)


def as_shown(points: np.ndarray, orientation: int) -> np.ndarray:
    """(P, 2) px of a stored picture as they lie to each other in the view of it, px from some origin."""
    return geometry.apply(_placed(_EXIF[orientation], 1, 1), points)


def shown_points(sample: FaceSample) -> np.ndarray | None:
    """(P, 2) landmarks of a face as whoever labelled it saw them lie to each other, px from some origin; None of a face
    without."""
    return None if sample.landmarks is None else as_shown(sample.landmarks, sample.orientation)


def shown_face(sample: FaceSample, width: int, height: int) -> tuple[FaceSample, np.ndarray]:
    """The face in px of the picture as it was labelled, and view_from_source (2, 3); (width, height) is the stored
    picture's size. Its `image` stays, and is that view no longer: for whoever makes another picture of it."""
    view = upright_affine(sample.orientation, width, height)
    if sample.orientation == 1:
        return sample, view
    landmarks = None if sample.landmarks is None else geometry.apply(view, sample.landmarks)
    box = None if sample.box_xyxy is None else map_box(view, sample.box_xyxy)
    return replace(sample, landmarks=landmarks, box_xyxy=box, orientation=1), view


def shown_picture(sample: FaceSample, image: np.ndarray) -> tuple[FaceSample, np.ndarray, np.ndarray]:
    """`shown_face` with its decoded picture: the face, the picture (H, W, 3) as it was labelled, view_from_source."""
    face, view = shown_face(sample, image.shape[1], image.shape[0])
    return face, view_of(image, view), view


def map_box(to_from: np.ndarray, box: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of a box's image under a view's affine (exact: quarter turns keep boxes boxes)."""
    corners = geometry.apply(to_from, np.asarray(box, dtype=np.float64).reshape(2, 2))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
