"""A face in a photograph that may be turned: cut out at any size, and a face laid back in its place."""

from dataclasses import dataclass

import numpy as np
import torch

from stylealign.api.tensors import points_tensor
from stylealign.batches.pixels import soft_inside
from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.predicting.candidates import Candidate
from stylealign.predicting.sources import Photo
from stylealign.styling.alignment import hull_distance
from stylealign.styling.learned import SEAM

EDGE = 0.2  # of the square's side: how wide a pasted face fades into the photograph


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


def pasted(face: PlacedFace, crop: np.ndarray, scale: float) -> np.ndarray:
    """The stored picture (H, W, 3) with a crop (S, S, 3) uint8 of that scale laid in the face's place, its edge faded.

    Only the hull of the landmarks with a forehead is laid in, and nothing at the crop's border, however large the
    face is.
    """
    size = len(crop)
    distance = hull_distance(points_tensor(face.points(scale, size)), size)
    pixel = torch.arange(size, dtype=torch.float32)
    border = (torch.minimum(pixel, size - 1 - pixel) / max(1.0, SEAM * size)).clamp(0, 1)
    window = border[:, None] * border
    mask = (soft_inside(distance, EDGE * size)[0, 0] * window).numpy()
    home = geometry.invert(face.affine(scale, size))
    image = face.candidate.photo.image
    height, width = image.shape[:2]
    share = np.clip(warp(mask, home, (width, height)), 0, 1)[..., None]
    rows, columns = np.nonzero(share.max(axis=(1, 2)))[0], np.nonzero(share.max(axis=(0, 2)))[0]
    picture = image.copy()
    if not len(rows):
        return picture
    where = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    laid, ground = warp(crop, home, (width, height))[where].astype(np.float32), picture[where].astype(np.float32)
    picture[where] = np.round(ground + share[where] * (laid - ground)).clip(0, 255).astype(np.uint8)
    return picture
