"""A picture -> where its faces are, as landmark boxes: the kind that detectors here are trained on.

Every finder draws boxes of its own kind. How they differ from the tight box round the landmarks was measured
(MAPPING) and is undone here, so that no other file has to know which finder it was. Knows no network.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.orientation import map_box

SEARCHED_PX = 640  # longer side of the picture that finders see: a face a tenth of a picture wide is still 64 px
# Smallest box looked for, in px of that picture: smaller ones cost most of the time.
SMALLEST_PX = {"frontal": 36, "profile": 48}
STEP, NEIGHBOURS = 1.1, 4  # of the cascades: size steps, and how many neighbouring hits make a face
OVERLAP = 0.3  # intersection over union above which two boxes are one face


class FoundFace(NamedTuple):
    """A face as a finder sees it."""

    box: np.ndarray
    """(4,) landmark box x0, y0, x1, y1, px of the searched picture: a square of the landmarks' longer side"""
    score: float
    """the finder's own; only scores of one finder can be compared"""
    by: str
    """which finder"""


class Mapping(NamedTuple):
    """A finder's box -> the landmark box: its centre moved by (dx, dy) sides, its side `scale` times as long."""

    dx: float
    dy: float
    scale: float


# Medians over 400 faces of 300-W's training split, cut out with 1.8 times their landmark box. There the frontal
# cascade found 89 % of the faces (standard deviation of its dx, dy, scale: 0.09, 0.04, 0.07) and put 1 box in 80
# pictures elsewhere; the profile cascade, on the picture and its mirror image, 24 % and 23 % (0.08, 0.05, 0.11). It
# finds faces turned to the left of the picture.
MAPPING = {
    "frontal": Mapping(0.0, 0.16, 0.90),
    "profile": Mapping(-0.095, 0.16, 0.81),
}

Finder = Callable[[np.ndarray], list[FoundFace]]


def landmark_box_of(kind: str, x: float, y: float, width: float, height: float) -> np.ndarray:
    """(4,) the landmark box x0, y0, x1, y1 of a finder's box whose first pixel is (x, y); all in px."""
    m = MAPPING[kind]
    side = max(width, height)
    centre = np.array([x + (width - 1) / 2 + m.dx * side, y + (height - 1) / 2 + m.dy * side])
    half = m.scale * side / 2
    return np.concatenate([centre - half, centre + half])


def one_each(found: list[FoundFace]) -> list[FoundFace]:
    """Non-maximum suppression: faces without those that overlap an earlier one by OVERLAP, or lie in it."""
    kept: list[FoundFace] = []
    for face in found:
        centre = (face.box[:2] + face.box[2:]) / 2

        def inside(other: FoundFace, centre: np.ndarray = centre) -> bool:
            return bool((other.box[:2] < centre).all() and (centre < other.box[2:]).all())

        if not any(geometry.intersection_over_union(face.box, other.box) > OVERLAP or inside(other) for other in kept):
            kept.append(face)
    return kept


def _small(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture shrunk to a longer side of at most SEARCHED_PX, and how many px of the picture a px of that is."""
    factor = max(image.shape[:2]) / SEARCHED_PX
    if factor <= 1:
        return image, 1.0
    shape = (max(1, round(image.shape[1] / factor)), max(1, round(image.shape[0] / factor)))
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA), factor


def _full_size(box: np.ndarray, factor: float) -> np.ndarray:
    """A box of the shrunk picture in px of the picture itself."""
    return (box + 0.5) * factor - 0.5


def cascade_finder() -> Finder:
    """OpenCV's bundled cascades (Viola and Jones, CVPR 2001): frontal, and profile on the picture and its mirror image.

    Of boxes that overlap, frontal ones are kept before profile ones, and larger margins before smaller. A cascade is
    not thread-safe, so each thread has its own.
    """
    mine = threading.local()

    def cascades() -> list[tuple[str, bool, cv2.CascadeClassifier]]:
        if not hasattr(mine, "cascades"):
            folder = Path(cv2.__file__).parent / "data"
            frontal, profile = (
                cv2.CascadeClassifier(str(folder / f"haarcascade_{name}.xml"))
                for name in ("frontalface_alt2", "profileface")
            )
            mine.cascades = [("frontal", False, frontal), ("profile", False, profile), ("profile", True, profile)]
        return mine.cascades

    def find(image: np.ndarray) -> list[FoundFace]:
        small, factor = _small(image)
        grey = cv2.equalizeHist(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
        found = []
        for kind, mirrored, cascade in cascades():
            seen = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
            boxes, _, margins = cascade.detectMultiScale3(
                seen, STEP, NEIGHBOURS, minSize=(SMALLEST_PX[kind],) * 2, outputRejectLevels=True
            )
            for box, margin in zip(boxes, np.ravel(margins), strict=True):
                mapped = landmark_box_of(kind, *(float(v) for v in box))
                if mirrored:
                    mapped = map_box(geometry.flip_affine(grey.shape[1]), mapped)
                found.append(FoundFace(_full_size(mapped, factor), float(margin), kind))
        return one_each(sorted(found, key=lambda f: (f.by != "frontal", -f.score)))

    return find


# Over 300-W's training labels, with the mean of each eye, the nose tip and the mouth's corners as the five points:
# the centre of the landmark box lies YUNET_DOWN of the way from between the eyes to between the mouth's corners, and
# its longer side is YUNET_SIDE times the sum of the eyes' distance and that way. (Medians of 1,812 faces, standard
# deviations 0.09 and 0.08; the centre is then off by 0.07 of the side, median. The points were the labels' own: YuNet
# itself was not at hand to be measured.)
YUNET_DOWN, YUNET_SIDE = 0.65, 1.144


def box_of_five(points: np.ndarray) -> np.ndarray:
    """(4,) the landmark box of (5, 2) points: eyes, nose tip, mouth corners, left and right in either order."""
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    centre = eyes + YUNET_DOWN * (mouth - eyes)
    half = YUNET_SIDE * (np.linalg.norm(points[1] - points[0]) + np.linalg.norm(mouth - eyes)) / 2
    return np.concatenate([centre - half, centre + half])


def yunet_finder(path: Path, least_score: float = 0.7) -> Finder:
    """YuNet (Wu et al., 2023) from the user's ONNX file: its five points place the landmark box.

    Its own box is not used. Raises UserError for a file that is missing or no YuNet.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected YuNet's ONNX file (face_detection_yunet_2023mar.onnx)")
    try:
        cv2.FaceDetectorYN.create(str(path), "", (64, 64)).detect(np.zeros((64, 64, 3), np.uint8))
    except cv2.error as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise UserError(f"{path}: not a YuNet face finder that OpenCV can load ({reason})") from None
    mine = threading.local()

    def find(image: np.ndarray) -> list[FoundFace]:
        small, factor = _small(image)
        if not hasattr(mine, "net"):
            mine.net = cv2.FaceDetectorYN.create(str(path), "", (64, 64), score_threshold=least_score)
        mine.net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = mine.net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        found = []
        for row in () if rows is None else rows:
            points = row[4:14].reshape(5, 2).astype(np.float64)
            found.append(FoundFace(_full_size(box_of_five(points), factor), float(row[14]), "yunet"))
        return one_each(sorted(found, key=lambda f: -f.score))

    return find
