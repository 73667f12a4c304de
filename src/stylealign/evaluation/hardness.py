"""How dark, blurred and patchy a photographed face is, measured on its picture, to score thirds of a test set apart.

A test set that says nothing of its pictures (300-W) can so be read like one that does (WFLW's illumination, blur,
occlusion). docs/results.md says how well each measure finds the faces that people marked.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from stylealign.data.image import read_image, warp
from stylealign.face.geometry import apply, crop_affine, landmark_box
from stylealign.face.sample import FaceSample
from stylealign.progress import track

SIDE = 128  # px of the crop measured on, 1.2 times the landmarks' box
_NEAR = 0.05  # of the box's longer side: what lies nearer to a landmark is brow, eye, nose or mouth, not bare skin


def measure(crop: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """Measure a (S, S, 3) uint8 RGB crop of a face with its (P, 2) landmarks, crop px; larger is harder.

    `dark`: one minus the median brightness inside the landmarks' hull, in [0, 1].
    `blurred`: how little fine detail there is for the coarse detail found; minus the ratio of two bands' standard
        deviations there.
    `patchy`: nine tenths of the bare skin lie nearer than this to its median colour (CIE L*a*b*, lightness by half):
        hair, hands, glasses and things before the face, and hard shadows, whichever it is.
    """
    picture = crop.astype(np.float32) / 255
    hull = np.zeros(crop.shape[:2], np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.rint(landmarks).astype(np.int32)), 1)
    inside = hull > 0
    grey = picture.mean(axis=2)
    one, two, four = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (1.0, 2.0, 4.0))
    coarse = max(float((two - four)[inside].std()), 1e-4)

    skin, near = hull.copy(), round(_NEAR * float(np.ptp(landmarks, axis=0).max()))
    for x, y in np.rint(landmarks).astype(int):
        cv2.circle(skin, (int(x), int(y)), near, 0, -1)
    colours = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[skin > 0] * np.array((0.5, 1, 1), np.float32)
    away = np.linalg.norm(colours - np.median(colours, axis=0), axis=1) if len(colours) else np.zeros(1)
    return {
        "dark": 1 - float(np.median(grey[inside])),
        "blurred": -float((grey - one)[inside].std()) / coarse,
        "patchy": float(np.percentile(away, 90)),
    }


def measured_thirds(samples: Sequence[FaceSample]) -> dict[str, np.ndarray]:
    """Which of N labelled faces are the darkest, the most blurred and the patchiest third: name -> (N,) bool. Landmarks
    that nobody placed take no part.

    Raises:
        UserError: a picture that cannot be read.
    """
    found: list[dict[str, float]] = []
    for sample in track(samples, "measuring pictures"):
        assert sample.landmarks is not None
        placed = sample.landmarks[~sample.missing_points]
        box = landmark_box(placed) + np.array([-1, -1, 1, 1])  # a box with an area, even of coincident points
        crop_from_source = crop_affine(box, 1.2, SIDE)
        crop = warp(read_image(sample.image), crop_from_source, SIDE)
        found.append(measure(crop, apply(crop_from_source, placed)))
    count = -(-len(found) // 3)
    thirds: dict[str, np.ndarray] = {}
    for name in found[0]:
        hardest = np.argsort([-one[name] for one in found], kind="stable")[:count]
        thirds[f"{name} third"] = np.isin(np.arange(len(found)), hardest)
    return thirds
