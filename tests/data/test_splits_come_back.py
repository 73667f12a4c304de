"""Faces that are written in a layout come back in their own split, wherever their pictures lay."""

from pathlib import Path

import numpy as np
import pytest

from builders.layouts import picture, points
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, ReadOptions, WriteOptions, having
from stylealign.face.sample import FaceSample
from stylealign.face.schema import WFLW98

SPEAKING = {"test/a": "train", "ibug/b": "val", "val/c": "test", "train/d": "test", "e": "train"}
"""Picture -> split: folders that speak of another split than the face's"""
OWN = {"f": "night", "night/f": "night", "test/g": "night", "h": "test_hard", "i j/k": "by day", "by day/k": "by day"}
"""Words of a user's own"""
BY_NAME = ("wflw", "list", "ibug")
"""Layouts that tell a split by a name alone"""


def written(name: str, splits: dict[str, str], folder: Path) -> tuple[FaceDataset, Path]:
    samples = [
        FaceSample(id=image, image=picture(folder / "pictures" / f"{image}.png", seed=i), landmarks=points(98, i),
                   split=split)
        for i, (image, split) in enumerate(splits.items())
    ]  # fmt: skip
    dataset = write_dataset(folder / "dataset", samples, schema=WFLW98, image_root=folder / "pictures")
    out, write = folder / "out", FORMATS[name].write
    out.mkdir()
    assert write is not None
    write(dataset, out, WriteOptions())
    return dataset, out


def refuse_others(name: str, dataset: FaceDataset, out: Path) -> None:
    """Assert that each face is read with its own picture, landmarks and split."""
    found = list(FORMATS[name].read(out, ReadOptions(schema=WFLW98)))
    assert [str(entry) for entry in found if not isinstance(entry, FaceSample)] == []
    faces = [entry for entry in found if isinstance(entry, FaceSample)]
    assert len(faces) == len(dataset)
    by_picture = {face.image.read_bytes(): face for face in faces}
    for face in dataset:
        back = by_picture[face.image.read_bytes()]
        assert back.landmarks is not None
        assert face.landmarks is not None
        assert np.abs(back.landmarks - face.landmarks).max() < 0.01, face.id
        assert back.split == face.split, face.id


@pytest.mark.parametrize("name", having("write"))
def test_folders_of_pictures_that_speak_of_another_split(name: str, tmp_path: Path) -> None:
    refuse_others(name, *written(name, SPEAKING, tmp_path))


@pytest.mark.parametrize("name", [name for name in having("write") if name not in BY_NAME])
def test_splits_of_a_user_s_own(name: str, tmp_path: Path) -> None:
    refuse_others(name, *written(name, OWN, tmp_path))


@pytest.mark.parametrize("name", BY_NAME)
def test_what_a_name_alone_cannot_tell_is_said(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(name, SPEAKING | OWN, tmp_path)
    said = capsys.readouterr().err
    assert "split 'night' is told by a name alone, which our reader takes for train" in said
    assert "split 'by day'" in said
    assert "--split 'by day'" in said
    assert "split 'test'" not in said
