"""Labelled faces in large numbers, drawn heads' landmarks without pictures of their own, in two ways of labelling."""

from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import write_image
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import IBUG68, LandmarkSchema, convert
from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.shape import head_points, project

LIPS = [61, 63, 65, 67]


def many_faces(count: int, seed: int = 0, widest: float = 20.0) -> np.ndarray:
    """(count, 68, 2) px: a drawn head in iBUG's points, turned, nodding, speaking, anywhere and of any size."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        person = Structure(yaw=rng.uniform(-widest, widest), pitch=rng.uniform(-8, 8), mouth_open=rng.uniform(0, 0.3))
        points = convert(project(person, head_points(person), 256), "wflw98", "ibug68")
        turn = rng.uniform(-0.3, 0.3)
        matrix = rng.uniform(0.3, 3) * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        found.append(points @ matrix.T + rng.uniform(-50, 500, 2))
    return np.stack(found)


def with_lips_marked_elsewhere(landmarks: np.ndarray, share: float) -> np.ndarray:
    """Inner lips nearer the mouth's middle by that share of the face's size."""
    moved = landmarks.copy()
    size = np.sqrt(np.prod(np.ptp(landmarks, axis=1), axis=1))[:, None, None]
    away = landmarks[:, LIPS] - landmarks[:, [62, 62, 66, 66]]
    moved[:, LIPS] -= share * size * away / np.linalg.norm(away, axis=2, keepdims=True)
    return moved


def many_as_dataset(
    folder: Path, landmarks: np.ndarray, schema: LandmarkSchema = IBUG68, made: bool = False
) -> FaceDataset:
    """A data set of such faces, all of one grey picture."""
    picture = folder.parent / "grey.png"
    if not picture.exists():
        write_image(picture, np.full((1600, 1600, 3), 128, np.uint8))
    source = Provenance(content_id="g", style_id=None, translator="t", seed=0) if made else None
    samples = [
        FaceSample(id=f"f{i}", image=picture, landmarks=points, provenance=source) for i, points in enumerate(landmarks)
    ]
    return write_dataset(folder, samples, schema=schema, name=folder.name)
