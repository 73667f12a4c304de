"""Pictures with labelled faces -> square canvases to learn from where faces are.

A canvas shows one picture, or four side by side, each turned, scaled and moved so that a face of it is anywhere and of
any size, or a picture as it is. Every canvas is a function of (seed, step, process). Knows no network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import to_float
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, shrunk
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.orientation import map_box, upright_affine, view_of

KEPT_BYTES = 512 * 2**20  # of shrunk pictures, so that most need not be decoded again
INSIDE = 0.5  # share of a face's box that must lie in its part of the canvas for the face to count as shown


@dataclass(frozen=True, kw_only=True, slots=True)
class CanvasConfig:
    """How pictures are laid on canvases."""

    smallest: float = 0.06
    """Side of the smallest face shown, over the canvas's."""
    largest: float = 0.7
    """Of the largest."""
    rotation: float = 20.0
    """Degrees to either side."""
    flip: bool = True
    """Mirror every other picture."""
    colour: float = 0.3
    """Brightness and contrast vary by so much."""
    four: float = 0.4
    """Share of the canvases that show four pictures."""
    whole: float = 0.25
    """Share of those that show one as it is, as large as it fits."""

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest <= 1:
            raise ValueError(
                f"canvas.smallest {self.smallest} and largest {self.largest}: expected above 0, in order, at most 1"
            )
        if not (0 <= self.rotation <= 180 and 0 <= self.colour < 1):
            raise ValueError(
                f"canvas.rotation {self.rotation} and colour {self.colour}: expected 0 to 180, and 0 to below 1"
            )
        if not (min(self.four, self.whole) >= 0 and self.four + self.whole <= 1):
            raise ValueError(f"canvas.four {self.four} and whole {self.whole}: expected shares of at most 1 together")


class Labelled(NamedTuple):
    """A picture's faces, px of the file."""

    path: Path
    faces: list[np.ndarray]
    """of each face to learn the landmarks (P, 2) that have labels"""
    unknown: list[np.ndarray]
    """(4,) boxes of faces that are not to be learnt and not to be taken for none"""
    orientation: int = 1
    """EXIF's, by which the picture is shown"""


def labelled_pictures(dataset: FaceDataset, split: str | None) -> list[Labelled]:
    """The pictures of a split with their labelled faces. Faces of other splits and those that have only a box are
    unknown. Raises UserError where no picture has a labelled face."""
    chosen: dict[Path, Labelled] = {}
    for sample in dataset:
        picture = chosen.setdefault(sample.image, Labelled(sample.image, [], [], sample.orientation))
        if sample.landmarks is not None and sample.labelled_points.sum() > 1:
            landmarks = sample.landmarks[sample.labelled_points].astype(np.float64)
            if split is None or sample.split == split:
                picture.faces.append(landmarks)
            else:
                picture.unknown.append(geometry.square_of(landmarks))
        elif sample.box_xyxy is not None:
            picture.unknown.append(sample.box_xyxy.astype(np.float64))
    found = [p for p in chosen.values() if any(np.ptp(face, axis=0).max() > 0 for face in p.faces)]
    if not found:
        raise UserError(
            f"{dataset.folder}: no labelled face{'' if split is None else f' in split {split}'}, expected at least one "
            f"with two landmarks; it has splits {dataset.meta['splits']}"
        )
    return found


class Picture(NamedTuple):
    """A picture as it is shown, shrunk, its faces and unknown places with it."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB"""
    faces: list[np.ndarray]
    unknown: list[np.ndarray]


class Pictures:
    """Labelled pictures, decoded when they are asked for, turned as they are shown, and shrunk to `longest` px; what
    fits is kept.

    `others(image)` says, (4,) boxes, where an unlabelled face may be; those that are not on a labelled one are unknown.
    """

    def __init__(
        self, pictures: Sequence[Labelled], longest: int, others: Callable[[np.ndarray], list[np.ndarray]] | None
    ):
        self._pictures, self._longest, self._others = pictures, longest, others
        self._kept: dict[int, Picture] = {}
        self._room = KEPT_BYTES

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, i: int) -> Picture:
        if i in self._kept:
            return self._kept[i]
        path, faces, unknown, orientation = self._pictures[i]
        stored = read_image(path)
        view = upright_affine(orientation, stored.shape[1], stored.shape[0])
        image, factor = shrunk(view_of(stored, view), self._longest)
        faces = [(geometry.apply(view, face) + 0.5) / factor - 0.5 for face in faces]
        unknown = [(map_box(view, box) + 0.5) / factor - 0.5 for box in unknown]
        if self._others is not None:
            known = [geometry.square_of(face) for face in faces] + unknown
            unknown = unknown + [
                box
                for box in self._others(image)
                if not any(geometry.intersection_over_union(box, other) > 0.2 for other in known)
            ]
        found = Picture(image, faces, unknown)
        if image.nbytes <= self._room:
            self._kept[i] = found
            self._room -= image.nbytes
        return found


def fitted(image: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """(size, size, 3) a canvas with the whole picture in its upper left, grey elsewhere, and px of the canvas per px of
    the picture."""
    height, width = image.shape[:2]
    factor = size / max(height, width)
    shape = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    canvas = np.full((size, size, 3), 127, np.uint8)
    canvas[: shape[1], : shape[0]] = small
    return canvas, factor


class Canvas(NamedTuple):
    """A square picture to learn from."""

    image: np.ndarray
    """(size, size, 3) uint8 RGB"""
    faces: np.ndarray
    """(n, 4) squares of the faces, px"""
    unknown: np.ndarray
    """(m, 4) boxes in which there may be faces"""


def draw_canvas(pictures: Pictures, size: int, config: CanvasConfig, rng: np.random.Generator) -> Canvas:
    """A canvas of one picture, or of four."""
    kind = rng.random()
    parts, whole = 2 if kind < config.four else 1, kind > 1 - config.whole
    side = size // parts
    image = np.empty((size, size, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    faces: list[np.ndarray] = []
    unknown: list[np.ndarray] = []
    for part in range(parts * parts):
        picture = pictures[int(rng.integers(len(pictures)))]
        corner = side * np.array([part % parts, part // parts])
        to_from = _whole(picture, size, config, rng) if whole else _view(picture, side, size, config, rng)
        shown = _warped(picture.image, to_from, side, image[0, 0])
        image[corner[1] : corner[1] + side, corner[0] : corner[0] + side] = _in_other_light(shown, config, rng)
        for square in (geometry.square_of(geometry.apply(to_from, face)) for face in picture.faces):
            inside = np.clip(square, -0.5, side - 0.5)
            share = np.prod(inside[2:] - inside[:2]) / max(np.prod(square[2:] - square[:2]), 1e-9)
            (faces if share > INSIDE else unknown).append((square if share > INSIDE else inside) + np.tile(corner, 2))
        for box in picture.unknown:
            inside = np.clip(geometry.box_round(to_from, box), -0.5, side - 0.5)
            unknown.append(inside + np.tile(corner, 2))
    return Canvas(image, np.array(faces).reshape(-1, 4), np.array(unknown).reshape(-1, 4))


def _whole(picture: Picture, size: int, config: CanvasConfig, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) affine from a picture to a canvas as `fitted` has it, every other one mirrored."""
    height, width = picture.image.shape[:2]
    affine = geometry.resize_affine(size / max(height, width))
    return geometry.compose(affine, geometry.flip_affine(width)) if config.flip and rng.random() < 0.5 else affine


def _view(picture: Picture, side: int, whole: int, config: CanvasConfig, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) affine from a picture to a part of a canvas `side` px wide (the canvas is `whole`), which shows one of its
    faces whole."""
    mirror = np.eye(2, 3)
    if config.flip and rng.random() < 0.5:
        mirror = geometry.flip_affine(picture.image.shape[1])
    square = geometry.square_of(geometry.apply(mirror, picture.faces[int(rng.integers(len(picture.faces)))]))
    largest = min(config.largest * whole, 0.9 * side)
    wanted = float(np.exp(rng.uniform(np.log(min(config.smallest * whole, largest)), np.log(largest))))
    scale = wanted / max(float(square[2] - square[0]), 1e-6)
    middle = (square[:2] + square[2:]) / 2
    turned = geometry.rotate_scale_affine((0.0, 0.0), float(rng.uniform(-1, 1)) * config.rotation, scale)
    place = rng.uniform(wanted / 2, side - wanted / 2, 2) - 0.5
    turned[:, 2] += place - geometry.apply(turned, middle)
    return geometry.compose(turned, mirror)


def _warped(image: np.ndarray, to_from: np.ndarray, side: int, colour: np.ndarray) -> np.ndarray:
    """(side, side, 3) the picture through an affine; of one colour beyond its border."""
    scale = geometry.scale_of(to_from)
    if scale < 0.67:  # else bilinear sampling would skip pixels
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        exact = np.array([[size[0] / image.shape[1], 0, 0], [0, size[1] / image.shape[0], 0]], np.float64)
        exact[:, 2] = (exact[[0, 1], [0, 1]] - 1) / 2
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        to_from = geometry.compose(to_from, geometry.invert(exact))
    border = tuple(float(c) for c in colour)
    return cv2.warpAffine(
        image, to_from, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border
    )


def _in_other_light(image: np.ndarray, config: CanvasConfig, rng: np.random.Generator) -> np.ndarray:
    contrast, brightness = 1 + config.colour * rng.uniform(-1, 1, 2)
    mean = float(image.mean())
    return np.clip((image.astype(np.float32) - mean) * contrast + mean * brightness, 0, 255).astype(np.uint8)


class CanvasBatch(NamedTuple):
    """A batch of canvases."""

    image: Tensor
    """(B, 3, size, size) float32 RGB in [-1, 1]"""
    faces: list[np.ndarray]
    """of each canvas"""
    unknown: list[np.ndarray]

    def to(self, device: torch.device) -> "CanvasBatch":
        return self._replace(image=self.image.to(device))


def canvas_batch(pictures: Pictures, count: int, size: int, config: CanvasConfig, key: tuple[int, ...]) -> CanvasBatch:
    """A batch of canvases, the same for the same key."""
    rng = np.random.default_rng(key)
    drawn = [draw_canvas(pictures, size, config, rng) for _ in range(count)]
    images = to_float(torch.from_numpy(np.stack([c.image for c in drawn])))
    return CanvasBatch(images, [c.faces for c in drawn], [c.unknown for c in drawn])
