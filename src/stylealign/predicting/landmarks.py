"""Places in pictures -> landmarks: crops by the model's contract, batches across pictures, refinement rounds, mirror averaging.

Knows the network's interface and one affine a face; no files, no finders.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.geometry import face_size
from stylealign.predicting.network import LandmarkNetwork

SHIFT = 0.08  # of the box, of the second look of `followed`: within what detectors are trained to bear
# Measured with three detectors (SAN, ResNet-18 and LAB of 64 px) on half of 300-W's val: at most 1 % of the faces follow by more than this,
# and 73 to 84 % of boxes put into the corners of the same pictures do.
FOLLOWED = 0.5
HALF = 0.02  # mirror disagreement, in face sizes, at which a landmark's confidence is one half


class Spot(NamedTuple):
    """Where a face is thought to be."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, as stored"""
    box: np.ndarray
    """(4,) the landmark box x0, y0, x1, y1, in px of the view"""
    view_from_source: np.ndarray
    """(2, 3), see views.py"""


class Answer(NamedTuple):
    """What the network says of a spot."""

    landmarks: np.ndarray
    """(P, 2) float64 (x, y) px of the stored picture"""
    confidence: np.ndarray | None
    """(P,) in [0, 1]: heatmap peaks or, without those and with mirror averaging, 2 ** (-disagreement / 2 % of the face)"""
    box: np.ndarray
    """(4,) the box of the last crop, px of the view"""


def usable(box: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The box of found landmarks, or the start where it is three times smaller or larger: a detector that has lost the face."""
    ratio = (box[2:] - box[:2]).max() / (start[2:] - start[:2]).max()
    return box if 1 / 3 < ratio < 3 else start


def crops_of(network: LandmarkNetwork, spots: Sequence[Spot], boxes: Sequence[np.ndarray]) -> tuple[np.ndarray, list]:
    """(B, 3, S, S) float32 crops in [-1, 1], and crop_from_source of each."""
    size, scale = network.crop.size, network.crop.scale
    affines = [
        geometry.compose(geometry.crop_affine(box, scale, size), spot.view_from_source)
        for spot, box in zip(spots, boxes, strict=True)
    ]
    pixels = np.stack([warp(spot.image, affine, size) for spot, affine in zip(spots, affines, strict=True)])
    return np.ascontiguousarray((pixels.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)), affines


def _crop_answers(network: LandmarkNetwork, crops: np.ndarray, flip: bool) -> tuple[np.ndarray, np.ndarray | None]:
    landmarks, confidence = network(crops)
    if not flip:
        return landmarks, confidence
    order = network.schema.flip_permutation
    mirrored, mirrored_confidence = network(np.ascontiguousarray(crops[..., ::-1]))
    mirrored = mirrored[:, order].copy()
    mirrored[..., 0] = crops.shape[-1] - 1 - mirrored[..., 0]
    mean = (landmarks + mirrored) / 2
    if confidence is not None and mirrored_confidence is not None:
        return mean, (confidence + mirrored_confidence[:, order]) / 2
    apart = np.linalg.norm(landmarks - mirrored, axis=2) / np.array([face_size(p) for p in mean])[:, None]
    return mean, 2.0 ** (-apart / HALF)


def look(
    network: LandmarkNetwork,
    spots: Sequence[Spot],
    boxes: Sequence[np.ndarray],
    flip: bool = False,
    batch_size: int = 16,
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """One look at each spot, cut round `boxes`: landmarks (P, 2) px of the stored picture, confidences (P,) or None."""
    found: list[np.ndarray] = []
    sure: list[np.ndarray | None] = []
    for start in range(0, len(spots), batch_size):
        crops, affines = crops_of(network, spots[start : start + batch_size], boxes[start : start + batch_size])
        landmarks, confidence = _crop_answers(network, crops, flip)
        found += [geometry.apply(geometry.invert(a), p) for a, p in zip(affines, landmarks, strict=True)]
        sure += [None] * len(affines) if confidence is None else list(confidence)
    return found, sure


def answer(
    network: LandmarkNetwork, spots: Sequence[Spot], refine: int = 1, flip: bool = False, batch_size: int = 16
) -> list[Answer]:
    """Landmarks of every spot.

    Args:
        network: applies its own crop contract.
        spots: faces of any number of pictures; they are batched together.
        refine: rounds of cutting again round the landmarks found. A detector trained on another kind of box than its landmarks'
            (crop.box `given`) is never refined: the box of its answer is not the kind it knows.
        flip: average the last look with the mirror image's.
        batch_size: crops at a time.

    Raises:
        UserError: mirror averaging of a mark-up that knows no mirror twins.
    """
    if flip and not network.schema.flip_pairs:
        raise UserError(f"schema {network.schema.name} has no flip_pairs: answers on mirrored faces cannot be averaged")
    boxes = [np.asarray(spot.box, dtype=np.float64) for spot in spots]
    for _ in range(refine if network.crop.box == "landmarks" else 0):
        found, _ = look(network, spots, boxes, False, batch_size)
        views = [geometry.apply(spot.view_from_source, p) for spot, p in zip(spots, found, strict=True)]
        boxes = [usable(geometry.landmark_box(p), spot.box) for p, spot in zip(views, spots, strict=True)]
    found, sure = look(network, spots, boxes, flip, batch_size)
    return [Answer(*three) for three in zip(found, sure, boxes, strict=True)]


def followed(
    network: LandmarkNetwork, spots: Sequence[Spot], landmarks: Sequence[np.ndarray], batch_size: int = 16
) -> np.ndarray:
    """(n,) how far each answer goes along with its crop: 0 it stays on the picture, as on a face; 1 it hangs on the crop.

    A network always answers with a face; where there is none, its answer depends on where it was asked. Both looks are cut round the
    box of `landmarks` (px of the stored pictures), one shifted by SHIFT of its side to the right and down. The spots' own boxes are not used.
    """
    views = [geometry.apply(spot.view_from_source, p) for spot, p in zip(spots, landmarks, strict=True)]
    boxes = [geometry.landmark_box(p) for p in views]
    shifts = [SHIFT * (b[2:] - b[:2]).max() for b in boxes]
    moved = [b + s for b, s in zip(boxes, shifts, strict=True)]
    found, _ = look(network, [*spots, *spots], [*boxes, *moved], False, batch_size)
    n = len(spots)
    return np.array(
        [
            (
                geometry.apply(spots[i].view_from_source, found[n + i])
                - geometry.apply(spots[i].view_from_source, found[i])
            ).mean()
            / shifts[i]
            for i in range(n)
        ]
    )


def hanging(
    network: LandmarkNetwork, spots: Sequence[Spot], landmarks: Sequence[np.ndarray], batch_size: int = 16
) -> np.ndarray:
    """(n,) bool: whether each answer follows its crop by more than FOLLOWED, so that there is no face."""
    return followed(network, spots, landmarks, batch_size) > FOLLOWED
