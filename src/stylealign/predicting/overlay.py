"""Faces drawn on the picture as a person sees it. Knows no files."""

from collections.abc import Sequence

import cv2
import numpy as np

from stylealign.evaluation.draw import PREDICTED_RGB, draw_landmarks
from stylealign.face import geometry
from stylealign.face.geometry import face_size
from stylealign.face.orientation import map_box, view_of
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.predicted_face import Face
from stylealign.predicting.sources import Photo

LONGEST = 1600  # px of an overlay; larger pictures are drawn smaller


def overlay(photo: Photo, faces: Sequence[Face], schema: LandmarkSchema, longest: int | None = LONGEST) -> np.ndarray:
    """(h, w, 3) uint8: the upright view with curves, dots as large as the face asks for, and thin boxes.

    The longer side is at most `longest` px; None: as large as the picture is.
    """
    canvas = view_of(photo.image, photo.view_from_source)
    factor = 1.0 if longest is None else min(1.0, longest / max(canvas.shape[:2]))
    if factor < 1:
        size = (max(1, round(canvas.shape[1] * factor)), max(1, round(canvas.shape[0] * factor)))
        canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    shown = geometry.compose(geometry.resize_affine(factor), photo.view_from_source)
    for face in faces:
        placed = geometry.apply(shown, face.landmarks)
        x0, y0, x1, y1 = (int(v) for v in np.clip(map_box(shown, face.box).round(), -1e4, 1e4))
        canvas = draw_landmarks(canvas, placed, schema, radius=max(0.8, face_size(placed) / 110))
        cv2.rectangle(canvas, (x0, y0), (x1, y1), PREDICTED_RGB, 1, cv2.LINE_AA)
    return canvas
