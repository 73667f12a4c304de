"""Two uploaded photos -> their landmarks, and each face in the other's style. Knows no page.

Whatever is wrong with a photo becomes a sentence without a path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from stylealign.api.detector import Detector
from stylealign.api.translator import StyleTranslator
from stylealign.data.image import warp
from stylealign.data.predictions import PREDICTIONS_FILE
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import draw_landmarks
from stylealign.face import geometry
from stylealign.face.orientation import size_of_view
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.predicted_face import Face, largest, named
from stylealign.predicting.sources import read_photo
from stylealign.predicting.writing import write_formats

SHOWN_PX = 1280  # longer side of what is kept of a photo: enough to look at, and little to remember for every visitor
FACE_PX = 384  # side of the translated faces
NAMES = ("first", "second")

Keep = Literal["photo", "structure"]


@dataclass(frozen=True, slots=True, eq=False)
class PhotoWithFaces:
    """A photo, its faces, and the largest of them as it is shown."""

    path: str
    """the uploaded file"""
    image: np.ndarray
    """(h, w, 3) uint8, upright, at most SHOWN_PX"""
    landmarks: np.ndarray
    """(P, 2) of the largest face, in px of that"""
    faces: tuple[Face, ...]
    """all of them, as `predict` writes them: in px of the file, with its name"""


def open_photo(detector: Detector, path: str, max_pixels: int) -> PhotoWithFaces:
    """A photo with its faces. Raises UserError, whose sentence does not name the (temporary) file."""
    try:
        photo = read_photo(Path(path), max_pixels)
        faces = tuple(named(detector.predict(Path(path)), Path(path).name))
    except UserError as error:
        raise UserError(str(error).replace(f"{path}: ", "").replace(f"'{path}'", "it")) from None
    if not faces:
        raise UserError("no face found; a face that looks at the camera, upright and not too small, is found best")
    width, height = size_of_view(photo.view_from_source, photo.image.shape[1], photo.image.shape[0])
    s = min(1.0, SHOWN_PX / max(width, height))
    shape = max(1, round(width * s)), max(1, round(height * s))
    shown = geometry.compose(geometry.resize_affine(s), photo.view_from_source)
    landmarks = geometry.apply(shown, largest(faces).landmarks)
    return PhotoWithFaces(path, warp(photo.image, shown, shape), landmarks, faces)


def open_photos(
    detector: Detector, paths: tuple[str | None, str | None], before: Mapping[int, PhotoWithFaces], max_pixels: int
) -> tuple[dict[int, PhotoWithFaces], list[str]]:
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


def described(opened: Mapping[int, PhotoWithFaces]) -> list[str]:
    """A sentence about each photo: how many faces, and how sure the detector is of the one that is shown."""
    said = []
    for i, photo in sorted(opened.items()):
        shown = largest(photo.faces)
        several = "; the largest is taken" if len(photo.faces) > 1 else ""
        known = shown.confidence is not None
        sure = f"confidence {shown.confidence:.2f}" if known else "a detector without confidence"
        said.append(f"The {NAMES[i]} photo: {counted(len(photo.faces), 'face')}{several}; {sure}.")
    return said


def marked(photo: PhotoWithFaces, schema: LandmarkSchema) -> np.ndarray:
    """The photo round its face, with landmarks and curves."""
    x0, y0, x1, y1 = geometry.landmark_box(photo.landmarks)
    room = 0.6 * max(x1 - x0, y1 - y0)
    height, width = photo.image.shape[:2]
    left, top = max(0, int(x0 - room)), max(0, int(y0 - room))
    part = photo.image[top : min(height, int(y1 + room) + 1), left : min(width, int(x1 + room) + 1)]
    factor = max(1.0, 480 / max(part.shape[:2]))  # a small face is drawn on enlarged, so that dots stay dots
    affine = geometry.resize_affine(factor)
    drawn_on = warp(part, affine, (round(part.shape[1] * factor), round(part.shape[0] * factor)))
    return draw_landmarks(drawn_on, geometry.apply(affine, photo.landmarks - (left, top)), schema)


def swapped(
    translator: StyleTranslator, opened: Mapping[int, PhotoWithFaces], strength: float
) -> tuple[tuple[np.ndarray | None, np.ndarray | None], list[str]]:
    """The first face in the second's style, and the second in the first's: (FACE_PX, FACE_PX, 3) uint8 each.

    None, and a sentence, for one that the translator cannot make of these two faces; a sentence for one that may look
    wrong.
    """
    problems: dict[str, None] = {}

    def in_style_of(face: PhotoWithFaces, other: PhotoWithFaces) -> np.ndarray | None:
        try:
            made = translator.translate(
                face.image, face.landmarks, other.image, other.landmarks, strength=strength, size=FACE_PX
            )
        except UserError as error:
            problems[f"{str(error)[:1].upper()}{str(error)[1:]}."] = None
            return None
        if made.mirrored:
            problems["One photo is mirrored where it is bent onto the other, which fits better."] = None
        if made.doubt:
            problems[f"Look closely: {made.doubt}."] = None
        return made.crop

    return (in_style_of(opened[0], opened[1]), in_style_of(opened[1], opened[0])), list(problems)


def with_the_other_way(first: StyleTranslator, detector: Detector, accelerator: str) -> dict[Keep, StyleTranslator]:
    """A translator for each of the two things that can be kept: the given one, then for the other thing the one that
    `translate` takes; that is left out where it draws another mark-up than the detector's."""
    kept: Keep = "structure" if first.keeps == "photo" else "photo"
    other = StyleTranslator.load("warp" if kept == "structure" else None, accelerator=accelerator)
    fits = other.schema is None or other.schema == detector.schema
    return {first.keeps: first, **({kept: other} if fits else {})}


def files_of(opened: Mapping[int, PhotoWithFaces], schema: LandmarkSchema) -> dict[str, bytes]:
    """Name -> content of what `predict --formats csv` would write of these photos; none without a photo.

    Photos of one name are told apart by folders, `first/` and `second/`.
    """
    names = [photo.faces[0].image for photo in opened.values()]
    with TemporaryDirectory() as folder:
        with open(Path(folder) / PREDICTIONS_FILE, "w", encoding="utf-8") as file:
            for i, photo in sorted(opened.items()):
                name = photo.faces[0].image if len(set(names)) == len(names) else f"{NAMES[i]}/{photo.faces[0].image}"
                file.writelines(face.to_line(schema) for face in named(photo.faces, name))
        write_formats(Path(folder), ("csv",), schema)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())} if opened else {}
