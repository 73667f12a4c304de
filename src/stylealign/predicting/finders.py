"""A picture -> where its faces are, as landmark boxes: the kind that detectors here are trained on.

Every finder draws boxes of its own kind. How they differ from the tight box round the landmarks was measured and is
undone here, so that no other file has to know which finder it was. Knows nothing of the network that answers.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stylealign.data.image import shrunk
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.predicting.mtcnn import BRISK, SMALLEST_PX, Mtcnn

SEARCHED_PX = 640  # longer side of the picture that finders see: a face a tenth of a picture wide is still 64 px
SMALLEST = 1 / 20  # of that side: MTCNN's smallest window at first look
LARGER_PX, SMALLER = 1280, 1 / 40  # the same of its second look, where it found nothing
QUICK_PX, QUICK = 320, 1 / 10  # the same of a quick look
OVERLAP = 0.3  # intersection over union above which two boxes are one face


class FoundFace(NamedTuple):
    """A face as a finder sees it."""

    box: np.ndarray
    """(4,) landmark box x0, y0, x1, y1, px of the searched picture: a square of the landmarks' longer side"""
    score: float
    """the finder's own; only scores of one finder can be compared"""
    by: str
    """which finder"""
    roll: float | None = None
    """degrees by which the face leans clockwise, by its eyes and mouth; None: the finder does not tell"""


class Mapping(NamedTuple):
    """A finder's box -> the landmark box, in the mean of the box's sides and in the face's own directions."""

    right: float
    """how far the centre moves"""
    down: float
    scale: float
    """the landmark box's side"""


# Medians over 498 faces of 300-W's training split and 300 of the YouTube faces' (MTCNN missed 2). With them the centre
# is off by 4 % of the landmark box's side (median), the side by 5 % (mean).
MTCNN_BOX = Mapping(0.020, 0.162, 0.92)

Finder = Callable[[np.ndarray], list[FoundFace]]


def roll_of(points: np.ndarray) -> float:
    """Degrees by which a face of (5, 2) points leans clockwise, -180 to 180: eyes, nose tip, mouth corners."""
    x, y = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    return float(np.degrees(np.arctan2(-x, y)))


def landmark_box_of(box: np.ndarray, roll: float, mapping: Mapping = MTCNN_BOX) -> np.ndarray:
    """(4,) the landmark box x0, y0, x1, y1 of a finder's box, for a face that leans by `roll` degrees clockwise."""
    side = float((box[2:] - box[:2]).mean())
    turn = np.radians(roll)
    right, down = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    centre = (box[:2] + box[2:]) / 2 + side * (mapping.right * right + mapping.down * down)
    half = mapping.scale * side / 2
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


def _full_size(box: np.ndarray, factor: float) -> np.ndarray:
    """A box of the shrunk picture in px of the picture itself."""
    return (box + 0.5) * factor - 0.5


class MtcnnFinder:
    """A `Finder`, MTCNN (mtcnn.py): its box places the landmark box, its five points tell which way the face leans.

    It looks at a picture of at most SEARCHED_PX for faces whose windows are a twentieth of it or larger, and only where
    there is none at a larger one, for smaller faces. `quick`: at a small picture, for large faces, once; a quarter of
    the work. The networks are opened when they are first asked; without their package that raises UserError.
    """

    def __init__(self, quick: bool = False):
        self.quick, self._networks = quick, Mtcnn(BRISK)

    def __call__(self, image: np.ndarray) -> list[FoundFace]:
        """The faces of an upright picture (H, W, 3) uint8 RGB."""
        if self.quick:
            return self._look(image, QUICK_PX, QUICK)
        found = self._look(image, SEARCHED_PX, SMALLEST)
        if found or max(image.shape[:2]) * SMALLEST <= SMALLEST_PX:  # smaller ones were looked for
            return found
        return self._look(image, LARGER_PX, SMALLER)

    def _look(self, image: np.ndarray, longest: int, smallest: float) -> list[FoundFace]:
        small, factor = shrunk(image, longest)
        seen = self._networks(small, smallest * max(small.shape[:2]))
        found = []
        for box, score, points in zip(seen.boxes, seen.scores, seen.points, strict=True):
            roll = roll_of(points)
            found.append(FoundFace(_full_size(landmark_box_of(box, roll), factor), float(score), "mtcnn", roll))
        return one_each(found)


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
        small, factor = shrunk(image, SEARCHED_PX)
        if not hasattr(mine, "net"):
            mine.net = cv2.FaceDetectorYN.create(str(path), "", (64, 64), score_threshold=least_score)
        mine.net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = mine.net.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        found = []
        for row in () if rows is None else rows:
            points = row[4:14].reshape(5, 2).astype(np.float64)
            box = _full_size(box_of_five(points), factor)
            found.append(FoundFace(box, float(row[14]), "yunet", roll_of(points)))
        return one_each(sorted(found, key=lambda f: -f.score))

    return find
