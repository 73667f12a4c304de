"""A disk that is full at some byte: nothing half-written is left, or what the same command goes on from.

The disk is played by the system's limit on the size of a file, which fails the write of any library as a full disk
does. benchmarks/reliability.py fills real ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from builders.tiny import detector_job, drawn, metrics_of, tree
from stylealign.batches.crops import CropCache
from stylealign.cli import main
from stylealign.config import save_config
from stylealign.data.dataset import FaceDataset
from stylealign.jobs import predict
from stylealign.predicting.sources import Source
from stylealign.predicting.video import Video, VideoWriter

resource = pytest.importorskip("resource")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes while the block runs: writing more is an OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn(tmp_path_factory.mktemp("data") / "drawn")


@pytest.mark.parametrize("size", [0, 500, 3000, 9000])
def test_a_data_set_that_does_not_fit_leaves_nothing(
    size: int, faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a picture is copied, while the index is written, and while it is closed."""
    command = [
        "prepare",
        "--reader",
        "dataset",
        "--path",
        str(faces.folder),
        "--copy",
        "--out",
        str(tmp_path / "new" / "out"),
    ]
    with files_of_at_most(size):
        assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "File too large" in said
    assert str(tmp_path / "new" / "out.partial") in said
    assert list(tmp_path.iterdir()) == []
    assert main(command) == 0


def test_a_training_that_does_not_fit_goes_on_once_there_is_room(
    faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, size = (
        detector_job(tmp_path / "run", faces.folder),
        4000,
    )  # a checkpoint has more; metrics and configuration less
    save_config(job, tmp_path / "job.yaml")
    command = ["train-detector", str(tmp_path / "job.yaml")]
    for split in ("train", "val"):  # the crops are cut
        CropCache(faces.select(split), job.crop, 1.25 if split == "train" else 1.0)
    with files_of_at_most(size):
        assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "File too large" in said
    assert said.endswith(f"what is done is kept in {tmp_path / 'run.partial'}, and the same command goes on from there")
    assert not list((tmp_path / "run.partial").rglob("*.partial"))
    assert {p.name for p in tmp_path.iterdir()} == {"job.yaml", "run.partial"}
    assert main(command) == 0
    again = tmp_path / "again"
    again.mkdir()
    (tmp_path / "run").rename(again / "run")
    assert main(command) == 0
    assert metrics_of(tmp_path / "run") == metrics_of(again / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (again / "run" / "model.safetensors").read_bytes()


def test_a_training_that_cannot_begin_leaves_nothing(
    faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_config(detector_job(tmp_path / "run", faces.folder), tmp_path / "job.yaml")
    with files_of_at_most(100):
        assert main(["train-detector", str(tmp_path / "job.yaml")]) == 2
    assert "File too large" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"job.yaml"}


def test_faces_that_do_not_fit_are_made_once_there_is_room(
    faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["--style.preset", "free", "--crop.size", "32", "--styles-per-face", "2", "--sheets", "0"]
    one, two = (["generate", "--data", str(faces.folder), "--out", str(tmp_path / n / "out"), *rest] for n in "ab")
    with files_of_at_most(3000):  # pictures fit, the lines of a unit do not
        assert main(one) == 2
    assert "the same command goes on from there" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["out.partial"]
    assert main(one) == 0
    assert main(two) == 0
    assert tree(tmp_path / "a" / "out") == tree(tmp_path / "b" / "out")


def test_a_drawn_video_that_does_not_fit_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV, which writes it, says nothing: an overlay without its end, which no player opens, was called done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "MtcnnFinder", lambda quick=False: lambda _: [])
    frames = np.random.default_rng(0).integers(0, 255, (8, 64, 96, 3), np.uint8)
    writer = VideoWriter(tmp_path / "a.mp4", 25)
    for frame in frames:
        writer.write(frame)
    writer.close()
    command = ["predict", "a.mp4", "--draw"]
    with files_of_at_most((tmp_path / "a.mp4").stat().st_size // 2):
        assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.endswith(
        "predictions.partial/drawn/a_landmarks.mp4: 0 of 8 frames can be read again: the disk may be full"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert main(command) == predict.LEFT_OUT  # there is no face in it
    assert Video(Source("video", Path("predictions/drawn/a_landmarks.mp4"), "drawn")).expected == 8
