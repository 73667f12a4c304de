"""What is wrong with where landmarks and a box are said to be in a picture: asked by readers, and of a data set, which
anybody may have written."""

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.image import image_size
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample


def landmark_problem(landmarks: np.ndarray, size_wh: tuple[int, int], hint: str = "") -> str | None:
    """The first thing in words; None: they can be a face's.

    Args:
        landmarks: (P, 2) px of the picture.
        size_wh: its width and height in px.
        hint: what is said of coordinates of another picture size.
    """
    finite = np.isfinite(landmarks).all(axis=1)
    if not finite.all():
        i = int(np.flatnonzero(~finite)[0])
        return f"landmark {i} is ({landmarks[i, 0]:g}, {landmarks[i, 1]:g}), expected finite numbers"
    size = np.array(size_wh)
    far = ((landmarks < -size) | (landmarks > 2 * size)).any(axis=1)
    if far.any():
        i = int(np.flatnonzero(far)[0])
        x, y = landmarks[i]
        return (
            f"landmark {i} is at ({x:g}, {y:g}), more than one image side outside the {size_wh[0]} x {size_wh[1]} "
            f"image: are these the coordinates of another image size{hint}?"
        )
    if len(landmarks) > 1 and ((landmarks >= 0) & (landmarks <= 1)).all() and size.min() > 8:
        return (
            f"all landmarks lie within the first pixel, landmark 0 at ({landmarks[0, 0]:g}, {landmarks[0, 1]:g}): "
            "shares of the image's sides? Expected pixels"
        )
    if (np.ptp(landmarks, axis=0) <= 0).all():
        return f"all landmarks are at ({landmarks[0, 0]:g}, {landmarks[0, 1]:g}), expected a face"
    return None


def box_problem(box: np.ndarray, size_wh: tuple[int, int]) -> str | None:
    """The same of a box (4,): x0, y0, x1, y1 px of the picture."""
    with np.errstate(over="ignore"):
        kept = box.astype(np.float32)  # as a face keeps it: a number may be finite and too large for that
    if not np.isfinite(kept).all() or box[2] <= box[0] or box[3] <= box[1]:
        return f"box {tuple(float(v) for v in box)}, expected x0 < x1 and y0 < y1"
    if box[0] > size_wh[0] or box[1] > size_wh[1] or box[2] < 0 or box[3] < 0:
        return f"box {tuple(float(v) for v in box)} does not touch the {size_wh[0]} x {size_wh[1]} image"
    return None


def face_problem(sample: FaceSample, size_wh: tuple[int, int]) -> str | None:
    """The same of a face of a data set: of its landmarks that are there, and of its box."""
    if sample.landmarks is not None and not (missing := sample.missing_points).all():
        middle = sample.landmarks[~missing].mean(axis=0)  # in place of numbers that mean nothing
        if problem := landmark_problem(np.where(missing[:, None], middle, sample.landmarks), size_wh):
            return problem
    return None if sample.box_xyxy is None else box_problem(sample.box_xyxy, size_wh)


def _problem(sample: FaceSample) -> str | None:
    try:
        return face_problem(sample, image_size(sample.image))
    except UserError as error:
        return str(error)


def misplaced(faces: FaceDataset) -> list[str]:
    """Sentences on the faces of a data set whose landmarks or box cannot be where they are said to be in their picture,
    as readers refuse them. Reads every picture's header; their files are there."""
    return [
        f"{faces.folder / 'index.jsonl'}:{faces.row_number(i) + 1}: face '{sample.id}': {problem}"
        for i, sample in enumerate(faces)
        if (problem := _problem(sample)) is not None
    ]
