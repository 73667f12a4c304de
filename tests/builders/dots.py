"""Faces for tests that need learnable pictures in milliseconds: five coloured dots on a plain ground, schema `five`."""

from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import write_image
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import FIVE

PLACES = np.array([[-12.0, -10], [12, -10], [0, 2], [-9, 14], [9, 14]])
COLOURS = np.array([[255, 40, 40], [40, 255, 40], [60, 60, 255], [255, 255, 60], [60, 255, 255]])


def paint(landmarks: np.ndarray, width: int, height: int, ground: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with a Gaussian dot of sigma 2 px at each landmark."""
    y, x = np.mgrid[:height, :width]
    image = np.broadcast_to(ground, (height, width, 3)).astype(np.float64)
    for (px, py), colour in zip(landmarks, COLOURS, strict=True):
        alpha = np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)[..., None]
        image = image + alpha * (colour - image)
    return image.round().clip(0, 255).astype(np.uint8)


def dots(
    folder: Path, count: int = 12, seed: int = 0, splits: tuple[str, ...] = ("train", "train", "val"),
    name: str = "dots",
    made_from: list[str] | None = None, attributes: dict[str, tuple[str, ...]] | None = None,
) -> FaceDataset:  # fmt: skip
    """Write a data set of `count` dot faces; splits repeat. `made_from` makes them
    synthetic faces of these content ids."""
    rng = np.random.default_rng(seed)
    pictures = folder.parent / f"{folder.name}_pictures"
    pictures.mkdir(parents=True)
    samples = []
    for i in range(count):
        width, height = 80 + int(rng.integers(20)), 90
        landmarks = PLACES * rng.uniform(0.9, 1.2) + [width / 2, height / 2] + rng.normal(0, 3, (5, 2))
        path = pictures / f"{i}.png"
        write_image(path, paint(landmarks, width, height, rng.integers(0, 120, 3)))
        content = None if made_from is None else made_from[i % len(made_from)]
        samples.append(
            FaceSample(
                id=f"{name}{i}",
                image=path,
                landmarks=landmarks,
                box_xyxy=(width / 2 - 25, 20, width / 2 + 25, 70),
                split=splits[i % len(splits)],
                attributes={key: f"{name}{i}" in ids for key, ids in (attributes or {}).items()},
                provenance=content and Provenance(content_id=content, style_id=None, translator="t", seed=0),
            )
        )
    return write_dataset(folder, samples, schema=FIVE, name=name)
