"""Data sets and run folders written by the version before load, predict, generate and go on training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from builders.places import ROOT
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.predicting.on_datasets import answer_dataset
from stylealign.training.weights import read_card

OLD = ROOT / "tests" / "fixtures" / "v0.1.0"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The old folders, copied to where the commands that made them ran."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def test_data_sets_are_whole_and_hold_what_they_held() -> None:
    for name, count in (("faces", 10), ("synthetic", 7)):
        faces = FaceDataset.open(OLD / name)
        assert faces.verify() == []
        assert len(faces) == count
        assert faces.landmarks_array().shape == (count, 98, 2)
    made = FaceDataset.open(OLD / "synthetic")[0]
    assert made.provenance is not None
    assert made.provenance.content_id == FaceDataset.open(OLD / "faces").select("train").ids()[0]


def test_a_detector_gives_the_landmarks_it_gave() -> None:
    found = answer_dataset(OLD / "detector", FaceDataset.open(OLD / "faces")).landmarks
    expected = np.array(json.loads((OLD / "predictions.json").read_text()))  # written by that version
    np.testing.assert_allclose(found[:2, :5], expected, atol=1e-3)


def test_a_translator_makes_the_faces_it_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "generate --data faces --translator translator --out again --styles-per-face 1 --sheets 0 --accept-gap"
    assert main([*command.split(), "--accelerator", "cpu"]) == 0, capsys.readouterr().err
    old, new = FaceDataset.open(here / "synthetic"), FaceDataset.open(here / "again")
    assert new.ids() == old.ids()
    np.testing.assert_array_equal(new.landmarks_array(), old.landmarks_array())
    assert (new[0].provenance, new[0].attributes) == (old[0].provenance, old[0].attributes)


@pytest.mark.parametrize("job", ["train-detector detector", "train-translator translator"])
def test_a_finished_run_is_found_finished(job: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb, run = job.split()
    assert main([verb, f"{run}/config.yaml"]) == 0, capsys.readouterr().err
    assert "already trained with this configuration" in capsys.readouterr().err


def test_a_stopped_training_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-detector", "stopped.partial/config.yaml"]) == 0, capsys.readouterr().err
    assert "continuing stopped at step 1" in capsys.readouterr().err
    assert read_card(here / "stopped")["step"] == 2
    # Nothing but when it was stopped sets it apart from the run that was not.
    whole, stopped = (here / run / "model.safetensors" for run in ("detector", "stopped"))
    assert whole.stat().st_size == stopped.stat().st_size
