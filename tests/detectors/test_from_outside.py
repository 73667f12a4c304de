"""A detector that is one object in one table goes everywhere: training, study, models, export, the contract."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import tiny
from builders.detector_contract import DetectorContract
from builders.places import ROOT, SRC
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS
from stylealign.training.weights import read_card

TINY = ["--crop.size", "32", "--loop.steps", "2", "--loop.batch-size", "4", "--loop.preview-every", "0"]
CPU = ["--loop.accelerator", "cpu"]


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """The detector's name, while it is in the table."""
    from builders import outside_detector

    DETECTORS[outside_detector.NAME] = outside_detector.ENTRY  # importing the file has done so the first time
    yield outside_detector.NAME
    del DETECTORS[outside_detector.NAME]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return tiny.drawn(tmp_path_factory.mktemp("outside") / "drawn")


class TestTheContract(DetectorContract):
    pass


def test_it_is_trained_shown_and_exported(
    name: str, faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--real", str(faces.folder), "--run", str(tmp_path / "run"), "--model", name, "--outside.cells", "2"]
    assert main(["train-detector", *flags, *TINY, *CPU]) == 0, capsys.readouterr().err
    card = read_card(tmp_path / "run")
    assert (card["model"], card["network"]) == (name, {"cells": 2})
    assert main(["models", "--only", name, "--size", "32"]) == 0
    assert "Outside" in capsys.readouterr().out
    arm = f"mine={tmp_path / 'run'}"
    assert main(["evaluate", "--data", str(faces.folder), "--arms", arm, "--out", str(tmp_path / "evaluation")]) == 0
    pytest.importorskip("onnxruntime")
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "mine.onnx")]) == 0, capsys.readouterr().err


def test_an_unknown_network_s_help_would_not_list_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train-detector", "--help-all"])
    assert "--outside.cells" in capsys.readouterr().out
    del DETECTORS[name]
    try:
        assert main(["train-detector", "--run", "run", "--model", name]) == 2
        assert "resnet18" in capsys.readouterr().err
    finally:
        from builders import outside_detector

        DETECTORS[name] = outside_detector.ENTRY


def test_a_study_trains_it_in_processes_that_are_told_of_it(
    name: str,
    faces: FaceDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    recipe = tmp_path / "study.yaml"
    recipe.write_text(
        "detectors: {Mine: {model: outside}}\narms: {none: {}}\nseeds: [0]\naccelerator: cpu\n"
        "base: {crop: {size: 32}, loop: {steps: 2, batch_size: 4, preview_every: 0}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SRC), str(ROOT / "tests")]))
    monkeypatch.setenv("STYLEALIGN_PLUGINS", "builders.outside_detector")
    assert main(["study", str(recipe), "--data", str(faces.folder), "--out", "study"]) == 0, capfd.readouterr().err
    assert "Mine" in (tmp_path / "study" / "study.md").read_text()


def test_a_plugin_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STYLEALIGN_PLUGINS", "no_such_module")
    assert main(["models"]) == 2
    assert "STYLEALIGN_PLUGINS: no module named 'no_such_module'" in capsys.readouterr().err
