"""Drawn faces, of which the true answer of every swap is known: the structure of one drawn in the style of another.

A data set of `draw-faces` holds its options, and face i is a function of those and of i: nothing more has to be
stored. Knows the data set and the drawing, no translator.
"""

import re
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import to_float
from stylealign.batches.crops import crop_sample
from stylealign.config import from_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import one_opencv_thread, read_image
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.jobs.assess.images import FeatureNetwork, distances, psnr, ssim
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.toyfaces import draw_face, face_of

SOURCE = "drawn by stylealign draw-faces"
_SAME = 8.0  # grey levels a stored JPEG may differ from its drawing, on average
_FACE = 1.06  # the face region: the convex hull of the landmarks, this much wider


def is_drawn(data: FaceDataset) -> bool:
    """Whether a data set was made by `draw-faces`."""
    return data.meta.get("source") == SOURCE and isinstance(data.meta.get("how"), dict)


def _options(data: FaceDataset) -> DrawFaces:
    known = {f.name for f in fields(DrawFaces)}
    how = {k: v for k, v in data.meta["how"].items() if k in known}
    return from_dict(DrawFaces, {**how, "out": str(data.folder)}, f"{data.folder}/dataset.yaml: how")


def true_swaps(data: FaceDataset, contents: np.ndarray, donors: np.ndarray, crop: CropConfig) -> np.ndarray:
    """Pictures (n, S, S, 3) uint8 of drawn faces contents[k] in the style of faces donors[k], cut as the contents are.

    Raises UserError where the data set's own faces cannot be drawn again, as with a changed id or another version's
    drawing.
    """
    options = _options(data)
    found: dict[int, Any] = {}
    for i in {int(i) for i in np.concatenate([contents, donors])}:
        name = re.fullmatch(r"(face|unlabelled)(\d{6,})", str(data.head(i)["id"]))
        if name is None:
            raise UserError(
                f"{data.folder}: face '{data.head(i)['id']}' has not the name draw-faces gave it, so it cannot be "
                "drawn again"
            )
        found[i] = face_of(options, int(name[2]), name[1] == "unlabelled")
    with one_opencv_thread():
        first = int(contents[0])
        again = draw_face(found[first][0], found[first][1], options.size)[0].astype(float)
        stored = read_image(data[first].image).astype(float)
        if again.shape != stored.shape or np.abs(again - stored).mean() > _SAME:
            raise UserError(
                f"{data.folder}: face '{data.head(first)['id']}' is drawn differently by this version of draw-faces: "
                "draw the data set anew"
            )
        made = []
        for c, d in zip(contents.tolist(), donors.tolist(), strict=True):
            drawn = draw_face(found[c][0], found[d][1], options.size)[0]
            made.append(crop_sample(data[c], crop, image=drawn)[0])
    return np.stack(made)


def face_region(landmarks: np.ndarray, size: int) -> Tensor:
    """Landmarks (N, P, 2) px -> (N, 1, size, size) of 0 and 1: their convex hull, a little widened."""
    masks = np.zeros((len(landmarks), 1, size, size), np.uint8)
    for mask, points in zip(masks, landmarks, strict=True):
        middle = points.mean(axis=0)
        hull = cv2.convexHull(((points - middle) * _FACE + middle).astype(np.float32))
        cv2.fillConvexPoly(mask[0], np.round(hull).astype(np.int32), 1)
    return torch.from_numpy(masks)


def distance_to_truth(
    answers: dict[str, Tensor], truth: np.ndarray, landmarks: np.ndarray, network: FeatureNetwork
) -> dict[str, Any]:
    """How near each answer is to the true pictures: on the whole crop, and on the face with the truth put in round it.

    Args:
        answers: name -> (n, 3, S, S) in [-1, 1].
        truth: (n, S, S, 3) uint8.
        landmarks: (n, P, 2) px of the content faces, whose region it is.
        network: for the feature distance.
    """
    true = to_float(torch.from_numpy(truth))
    region = face_region(landmarks, true.shape[-1])

    def figures(images: Tensor, mask: Tensor | None) -> dict[str, float]:
        shown = images if mask is None else torch.where(mask.bool(), images, true)
        return {
            "psnr": float(psnr(images, true, mask).mean()),
            "ssim": float(ssim(images, true, mask).mean()),
            "feature_distance": float(distances(network, shown, true).mean()),
        }

    return {
        "faces": len(truth),
        **{name: {"whole": figures(images, None), "face": figures(images, region)} for name, images in answers.items()},
    }
