"""A face in a photograph that may be turned: cut out at any size, and a face laid back in its place."""

from dataclasses import dataclass

import cv2
import numpy as np

from stylealign.api.tensors import points_tensor
from stylealign.data.image import one_opencv_thread, warp
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.predicting.candidates import Candidate
from stylealign.predicting.sources import Photo
from stylealign.styling.alignment import hull_distance
from stylealign.styling.learned import SEAM

EDGE = 0.3  # of the square's side: how wide the look near a face fades into that of the rest
SPREAD = 24.0  # levels by which a face laid in may differ at its edge from what is there, and be spread over it
FADE = 0.06  # of a laid face's size: how wide its edge is faded
GAIN = (0.6, 1.6)  # limits of the contrast that it takes on


@dataclass(frozen=True, slots=True)
class PlacedFace:
    """Where a face is in its photograph, and its landmarks where they are known."""

    candidate: Candidate
    landmarks: np.ndarray | None
    """(P, 2) px of the stored picture"""

    def affine(self, scale: float, size: int) -> np.ndarray:
        """(2, 3) crop_from_source of a crop `size` px wide that shows `scale` times the face's box.

        Raises UserError for a face without an area.
        """
        try:
            return self.candidate.crop_from_source(scale, size)
        except ValueError as error:
            raise UserError(f"the face cannot be cut: {error}") from None

    def cut(self, scale: float, size: int) -> np.ndarray:
        """(size, size, 3) uint8: that crop."""
        return warp(self.candidate.photo.image, self.affine(scale, size), size)

    def points(self, scale: float, size: int) -> np.ndarray:
        """(P, 2) landmarks in px of that crop."""
        assert self.landmarks is not None
        return geometry.apply(self.affine(scale, size), self.landmarks)


def placed_by_landmarks(photo: Photo, landmarks: np.ndarray) -> PlacedFace:
    """The face of (P, 2) landmarks, px of the stored picture."""
    box = geometry.landmark_box(geometry.apply(photo.view_from_source, landmarks))
    return PlacedFace(Candidate(photo, box), landmarks)


def _ramp(size: int, width: float) -> np.ndarray:
    """(size, size) from 0 at the border of a square to 1 at `width` of its side from it, smoothly."""
    pixel = np.arange(size, dtype=np.float32)
    t = np.clip(np.minimum(pixel, size - 1 - pixel) / max(1.0, width * size), 0, 1)
    t = t * t * (3 - 2 * t)
    return t[:, None] * t


def pasted(face: PlacedFace, crop: np.ndarray, scale: float) -> np.ndarray:
    """The stored picture (H, W, 3) with the face of a crop (S, S, 3) uint8 of that scale in its face's place.

    What is laid in is the hull of the landmarks with a forehead, in the tone of what it covers, by its gradients (Perez
    et al., 2003): its edge has the photograph's colours. Where the two differ there all the same, as a hat's edge does
    from a forehead, gradients alone would burn the whole face out: by more than SPREAD they do not count, and the edge
    is faded. Nothing is laid at the crop's border or the picture's, however large the face is.
    """
    size = len(crop)
    distance = hull_distance(points_tensor(face.points(scale, size)), size)[0, 0].numpy()
    inside = ((distance < 0) & (_ramp(size, SEAM) > 0.5)).astype(np.float32)
    home = geometry.invert(face.affine(scale, size))
    picture = face.candidate.photo.image.copy()
    height, width = picture.shape[:2]
    hull = (warp(inside, home, (width, height)) > 0.5).astype(np.uint8)
    hull[[0, -1]] = hull[:, [0, -1]] = 0
    rows, columns = (np.flatnonzero(hull.any(axis=axis)) for axis in (1, 0))
    if len(rows) < 3 or len(columns) < 3:
        return picture
    # OpenCV solves on the mask's box alone, and wants a border round it.
    where = np.s_[max(0, rows[0] - 2) : rows[-1] + 3, max(0, columns[0] - 2) : columns[-1] + 3]
    laid, ground, mask = warp(crop, home, (width, height))[where], picture[where], hull[where]
    laid = _in_the_tone_of(ground, laid, mask)
    near = laid + np.clip(ground.astype(np.float32) - laid, -SPREAD, SPREAD)
    middle = tuple((int(lines[0]) + int(lines[-1])) // 2 - start.start for lines, start in zip(
        (columns, rows), (where[1], where[0]), strict=True))  # fmt: skip
    with one_opencv_thread():  # the last bits do not depend on the machine
        cloned = cv2.seamlessClone(_bytes(laid), _bytes(near), 255 * mask, middle, cv2.NORMAL_CLONE)
        share = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / max(1.0, FADE * np.sqrt(mask.sum()))
    share = np.clip(share, 0, 1)[..., None]
    picture[where] = _bytes(ground + share * (cloned.astype(np.float32) - ground))
    return picture


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.round(values).clip(0, 255).astype(np.uint8))


def _in_the_tone_of(ground: np.ndarray, laid: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32: a picture with the middle colour and the spread of lightness of another, in the mask."""
    ours, theirs = (picture[mask > 0].astype(np.float32) for picture in (laid, ground))
    spread = theirs.mean(axis=1).std() / max(float(ours.mean(axis=1).std()), 1.0)
    gain = np.float32(np.clip(spread, *GAIN))
    return (laid - np.median(ours, axis=0)) * gain + np.median(theirs, axis=0)


def in_its_look(face: PlacedFace, content: np.ndarray, made: np.ndarray, scale: float) -> np.ndarray:
    """The stored picture (H, W, 3) in the look that a crop of its face was given: no part of it keeps the old one.

    Near the face the change is what `made` differs by from `content`, (S, S, 3) uint8 crops of that scale; away from
    it, the affine map of colours that fits this change best, and between them one fades into the other. Added to the
    photograph's own pixels, it keeps their detail.
    """
    size = len(made)
    before, after = (crop.reshape(-1, 3).astype(np.float64) / 255 for crop in (content, made))
    ridge = 1e-3 * len(before) * np.eye(4)
    ridge[3, 3] = 0
    known = np.hstack([before, np.ones((len(before), 1))])
    change = np.linalg.solve(known.T @ known + ridge, known.T @ (after - before))  # 0 where nothing is known
    home, picture = geometry.invert(face.affine(scale, size)), face.candidate.photo.image
    height, width = picture.shape[:2]
    share = np.clip(warp(_ramp(size, EDGE), home, (width, height)), 0, 1)[..., None]
    near = warp(made.astype(np.float32) - content.astype(np.float32), home, (width, height))
    far = (picture.reshape(-1, 3) @ change[:3] + 255 * change[3]).reshape(picture.shape)
    return np.round(picture + share * near + (1 - share) * far).clip(0, 255).astype(np.uint8)
