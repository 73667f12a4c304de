"""Tiny hand-written data sets in the published layouts, for the tests of readers, prepare, check and export-dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stylealign.data.image import write_image
from stylealign.face.schema import SCHEMAS

WIDTH, HEIGHT = 60, 40


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Path:
    """A small picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
    return path


def points(num_points: int, seed: int = 0) -> np.ndarray:
    """(P, 2) landmarks inside the picture, with three decimals."""
    rng = np.random.default_rng((seed, num_points))
    return (rng.uniform(0.1, 0.9, (num_points, 2)) * [WIDTH, HEIGHT]).round(3)


def numbers(landmarks: np.ndarray, separator: str = " ") -> str:
    return separator.join(f"{v:.6f}" for v in landmarks.ravel())


def wflw_line(
    landmarks: np.ndarray, image: str, flags: Sequence[int] = (0, 0, 0, 0, 0, 0), box: str = "2 3 50 38"
) -> str:
    return f"{numbers(landmarks)} {box} {' '.join(map(str, flags))} {image}"


def wflw(root: Path, lines: Sequence[str], split: str = "test", newline: str = "\n") -> Path:
    """A WFLW folder with one 207-field list."""
    path = root / "WFLW_annotations" / "list_98pt_rect_attr_train_test" / f"list_98pt_rect_attr_{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode())
    (root / "WFLW_images").mkdir(exist_ok=True)
    return root


def pts(path: Path, landmarks: np.ndarray, header: bool = True) -> Path:
    """A .pts file of landmarks counted from 0 (the file counts from 1), and its picture."""
    picture(path.with_suffix(".png"))
    body = "".join(f"{x} {y}\n" for x, y in landmarks + 1)
    path.write_text(f"version: 1\nn_points: {len(landmarks)}\n{{\n{body}}}\n" if header else body)
    return path


def csv_text(rows: Sequence[tuple[str, np.ndarray]], num_points: int) -> str:
    header = ",".join(["image", *(f"{axis}{i}" for i in range(num_points) for axis in "xy")])
    return "\n".join([header, *(f"{image},{numbers(landmarks, ',')}" for image, landmarks in rows)]) + "\n"


OWN_SCHEMA = """
name: three
num_points: 3
flip_pairs: [[0, 1]]
boundaries: {eyes: [0, 1]}
anchors: {inter_ocular: [[0], [1]]}
"""


def own_schema(folder: Path) -> Path:
    """A mark-up of three points in a YAML file."""
    assert "three" not in SCHEMAS
    path = folder / "three.yaml"
    path.write_text(OWN_SCHEMA)
    return path
