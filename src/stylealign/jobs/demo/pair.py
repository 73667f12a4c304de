"""Two uploaded photos -> their landmarks, and each face in the other's style. Knows no page.

Whatever is wrong with a photo becomes a sentence without a path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stylealign.api.detector import Detector
from stylealign.api.translator import StyleTranslator
from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.evaluation.draw import draw_landmarks
from stylealign.face import geometry
from stylealign.face.orientation import size_of_view
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.predicted_face import Face, largest
from stylealign.predicting.sources import read_photo

SHOWN_PX = 1280  # longer side of what is kept of a photo: enough to look at, and little to remember for every visitor
FACE_PX = 384  # side of the translated faces
NAMES = ("first", "second")


@dataclass(frozen=True, slots=True, eq=False)
class PhotoWithFace:
    """A photo and its largest face."""

    path: str
    """the uploaded file"""
    image: np.ndarray
    """(h, w, 3) uint8, upright, at most SHOWN_PX"""
    face: Face
    """in px of that"""


def open_photo(detector: Detector, path: str, max_pixels: int) -> PhotoWithFace:
    """A photo with its largest face. Raises UserError, whose sentence does not name the (temporary) file."""
    try:
        photo = read_photo(Path(path), max_pixels)
    except UserError as error:
        raise UserError(str(error).replace(f"{path}: ", "").replace(f"'{path}'", "it")) from None
    width, height = size_of_view(photo.view_from_source, photo.image.shape[1], photo.image.shape[0])
    s = min(1.0, SHOWN_PX / max(width, height))
    shape = max(1, round(width * s)), max(1, round(height * s))
    image = warp(photo.image, geometry.compose(geometry.resize_affine(s), photo.view_from_source), shape)
    faces = detector.predict(image)
    if not faces:
        raise UserError("no face found; a face that looks at the camera, upright and not too small, is found best")
    return PhotoWithFace(path, image, largest(faces))


def open_photos(
    detector: Detector, paths: tuple[str | None, str | None], before: Mapping[int, PhotoWithFace], max_pixels: int
) -> tuple[dict[int, PhotoWithFace], list[str]]:
    """The photos that are there, by their number (0, 1), and a sentence about each that is there and has no face.

    `before` holds those that were opened already: each is opened once.
    """
    opened, problems = {}, []
    for i, path in enumerate(paths):
        if path is None:
            continue
        known = before.get(i)
        try:
            opened[i] = known if known is not None and known.path == path else open_photo(detector, path, max_pixels)
        except UserError as error:
            problems.append(f"The {NAMES[i]} photo: {error}.")
    return opened, problems


def marked(photo: PhotoWithFace, schema: LandmarkSchema) -> np.ndarray:
    """The photo round its face, with landmarks and curves."""
    x0, y0, x1, y1 = geometry.landmark_box(photo.face.landmarks)
    room = 0.6 * max(x1 - x0, y1 - y0)
    height, width = photo.image.shape[:2]
    left, top = max(0, int(x0 - room)), max(0, int(y0 - room))
    part = photo.image[top : min(height, int(y1 + room) + 1), left : min(width, int(x1 + room) + 1)]
    factor = max(1.0, 480 / max(part.shape[:2]))  # a small face is drawn on enlarged, so that dots stay dots
    affine = geometry.resize_affine(factor)
    drawn_on = warp(part, affine, (round(part.shape[1] * factor), round(part.shape[0] * factor)))
    return draw_landmarks(drawn_on, geometry.apply(affine, photo.face.landmarks - (left, top)), schema)


def swapped(
    translator: StyleTranslator, opened: Mapping[int, PhotoWithFace], strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """The first face in the second's style, and the second in the first's: (FACE_PX, FACE_PX, 3) uint8 each."""

    def in_style_of(face: PhotoWithFace, other: PhotoWithFace) -> np.ndarray:
        return translator.translate(
            face.image, face.face.landmarks, other.image, other.face.landmarks, strength=strength, size=FACE_PX
        ).crop

    return in_style_of(opened[0], opened[1]), in_style_of(opened[1], opened[0])
