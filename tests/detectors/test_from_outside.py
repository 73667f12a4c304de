"""A detector that is one object in one table goes everywhere: training, study, models, export, the contract."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from builders import tiny
from builders.detector_contract import DetectorContract
from builders.places import ROOT, SRC
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS, DetectorOutput, build_detector, refuse_other_answers
from stylealign.face.schema import SCHEMAS
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


def test_a_plugin_that_cannot_be_imported_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "divides.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, sentence in (
        ("needs_more", "'needs_more' imports a module that is not there: 'not_installed_anywhere'"),
        ("divides", "'divides' cannot be imported: ZeroDivisionError: division by zero"),
    ):
        monkeypatch.setenv("STYLEALIGN_PLUGINS", module)
        assert main(["models"]) == 2
        assert f"STYLEALIGN_PLUGINS: {sentence}" in capsys.readouterr().err


IN_PYTHON = """
import sys, stylealign
detector = stylealign.load(sys.argv[1])
print(type(detector.network._model).__name__, stylealign.StyleTranslator.load("mycolour").keeps)
stylealign.StyleAugmentation(sys.argv[2], "mycolour"), stylealign.StyleAugmentation(sys.argv[2], "darker")
"""


def test_python_opens_what_plugins_add(name: str, faces: FaceDataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    flags = ["--real", str(faces.folder), "--run", str(run), "--model", name, "--outside.cells", "2", *TINY, *CPU]
    assert main(["train-detector", *flags]) == 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), str(ROOT / "tests")])}
    modules = "builders.outside_detector, builders.outside_colour,builders.outside_arm"

    def done(plugins: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", IN_PYTHON, str(run), str(faces.folder)]
        variables = {**environment, "STYLEALIGN_PLUGINS": plugins}
        return subprocess.run(command, capture_output=True, text=True, env=variables)

    with_them = done(modules)
    assert with_them.stdout.split() == ["Outside", "photo"], with_them.stderr
    without = done("")
    sentence = "unknown detector 'outside'; known: resnet18, wing, lab, san, dvln, fpn; of one of your own, "
    assert f"{sentence}STYLEALIGN_PLUGINS has to name the module" in without.stderr


def trained_with(
    answer: Callable[[Tensor], object], faces: FaceDataset, run: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """The exit status of a training of the outside detector whose last step is another one."""
    from builders import outside_detector

    class Slip(outside_detector.Outside):
        def forward(self, image: Tensor) -> DetectorOutput:
            return answer(super().forward(image).landmarks)  # type: ignore[return-value]

    entry = outside_detector.ENTRY._replace(build=lambda schemas, size, config: Slip(98, size, config))
    monkeypatch.setitem(DETECTORS, outside_detector.NAME, entry)
    flags = ["--real", str(faces.folder), "--run", str(run), "--model", outside_detector.NAME]
    return main(["train-detector", *flags, *TINY, *CPU])


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda points: points, "answered two crops by a Tensor of shape (2, 98, 2)"),
        (lambda points: {"landmarks": points}, "answered two crops by a dict"),
        (lambda points: DetectorOutput(points[:, :5]), "landmarks torch.float32 of shape (2, 5, 2)"),
        (lambda points: DetectorOutput(points.flatten(1)), "landmarks torch.float32 of shape (2, 196)"),
        (lambda points: DetectorOutput(points.long()), "landmarks torch.int64 of shape (2, 98, 2)"),
    ],
)
def test_an_answer_of_another_kind_is_refused_before_training(
    answer: Callable[[Tensor], object], found: str, name: str, faces: FaceDataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert trained_with(answer, faces, tmp_path / "run", monkeypatch) == 2
    said = capsys.readouterr().err
    assert f"detector 'outside': {'' if 'answered' in found else 'answered two crops by '}{found}" in said
    assert "expected a DetectorOutput whose landmarks have the shape (2, 98, 2), px of the crop" in said


def test_answers_that_are_shares_of_the_crop_are_warned_of(
    name: str,
    faces: FaceDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for word, answer in (("shares", lambda p: p / 32), ("pixels", lambda p: p)):
        assert trained_with(lambda p, a=answer: DetectorOutput(a(p)), faces, tmp_path / word, monkeypatch) == 0
        said = capsys.readouterr().err
        assert ("expected pixels of a crop of 32 px" in said) == (word == "shares"), said


def test_looking_at_the_first_answer_draws_no_numbers_and_moves_no_statistics(name: str) -> None:
    model = build_detector(name, (SCHEMAS["ibug68"],), 32, DETECTORS[name].config()).train()
    model.add_module("norm", torch.nn.BatchNorm2d(3))
    before, state = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
    refuse_other_answers(name, model, 68, 32, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
