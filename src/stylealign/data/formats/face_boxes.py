"""Which of the boxes that are drawn in a picture is a face's, and the upright box round a turned one."""

from collections.abc import Sequence

import numpy as np

from stylealign.data.formats.face_labels import face_labels
from stylealign.face.geometry import apply, rotate_scale_affine


def turned_box(box: np.ndarray, degrees: float, about: np.ndarray) -> np.ndarray:
    """(4,) x0 y0 x1 y1 of the upright box round one that is turned clockwise, y down, about a point."""
    turn = rotate_scale_affine((float(about[0]), float(about[1])), degrees, 1.0)
    corners = apply(turn, box[[[0, 1], [2, 1], [0, 3], [2, 3]]])
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def box_round(points: np.ndarray, boxes: Sequence[np.ndarray | None], labels: Sequence[str]) -> int | None:
    """Which box is that of a face with these points: the smallest that their middle lies in; those called faces first.

    Args:
        points: (n, 2).
        boxes: (4,) x0 y0 x1 y1 each; None for one that is not to be had.
        labels: what each is called.
    """
    if not len(points):
        return None
    middle = points.mean(axis=0)
    fitting = {
        i: float(np.prod(box[2:] - box[:2]))
        for i, box in enumerate(boxes)
        if box is not None and (box[:2] <= middle).all() and (middle <= box[2:]).all()
    }
    called = face_labels(labels[i] for i in fitting)
    chosen = {i: area for i, area in fitting.items() if not called or labels[i] in called}
    return min(chosen, key=chosen.__getitem__) if chosen else None
