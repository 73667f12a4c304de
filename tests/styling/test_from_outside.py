"""A style arm from outside: one object in ARMS, and every verb, the help and the contract know it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from builders import tiny
from builders.arm_contract import CHECKS, case_of, drawn_faces
from builders.places import ROOT, SRC
from stylealign.cli import main
from stylealign.config import from_dict
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import WFLW98
from stylealign.styling.arms import ARMS
from stylealign.styling.chain import ArmConfig, StyleConfig, draw_arms, open_chain
from stylealign.training.weights import read_card

TINY = [
    "--crop.size", "32", "--resnet.width", "4", "--loop.steps", "2", "--loop.batch-size", "4",
    "--loop.preview-every", "0", "--loop.accelerator", "cpu",
]  # fmt: skip


@pytest.fixture(autouse=True)
def darker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that adds it."""
    from builders import outside_arm

    ARMS.pop(outside_arm.NAME, None)  # importing the file has added it for good
    monkeypatch.setitem(ARMS, "darker", outside_arm.ENTRY)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return tiny.drawn(tmp_path_factory.mktemp("outside") / "drawn", 40)


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    batches = drawn_faces(tmp_path)
    for check in CHECKS:
        check(case_of("darker", batches))


def test_the_command_line_trains_with_it_renders_with_it_and_assesses_it(
    faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(faces.folder), str(tmp_path / "run")
    trained = ["train-detector", "--real", data, "--run", run, "--style.preset", "darker", *TINY]
    assert main(trained) == 0, capsys.readouterr().err
    assert read_card(tmp_path / "run")["config"]["style"]["preset"] == "darker"

    rendered = [
        "generate", "--data", data, "--style.preset", "darker", "--crop.size", "32", "--out", str(tmp_path / "made"),
        "--styles-per-face", "1", "--sheets", "0", "--image-format", "png", "--accelerator", "cpu",
    ]  # fmt: skip
    assert main(rendered) == 0, capsys.readouterr().err
    made = FaceDataset.open(tmp_path / "made")
    assert {sample.provenance.translator for sample in made} == {"darker"}
    assert {sample.provenance.style_id for sample in made} == {None}
    before = np.mean([read_image(sample.image).mean() for sample in faces.select("train")])
    assert np.mean([read_image(sample.image).mean() for sample in made]) < 0.8 * before

    assessed = [
        "assess", "--data", data, "--arm", "darker", "--judge", run, "--out", str(tmp_path / "assessment"),
        "--faces", "8", "--gallery", "2", "--styles", "2", "--sheet-size", "2", "--accelerator", "cpu",
    ]  # fmt: skip
    assert main(assessed) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "assessment" / "assessment.json").read_text(encoding="utf-8"))
    assert found["translator"]["model"] == "arm darker"


def test_chains_hold_it() -> None:
    values = {"arms": [{"kind": "adain"}, {"kind": "darker"}, {"kind": "darker", "group": 1}]}
    config = from_dict(StyleConfig, values)
    assert config.needs_donors()
    chain = open_chain(config, 1.0, CropConfig(size=32), WFLW98, torch.device("cpu"))
    assert [link.kinds for link in chain] == [("adain", "darker"), ("darker",)]
    assert {draw_arms(chain, torch.Generator().manual_seed(i))[0] for i in range(8)} == {0, 1}
    alone = StyleConfig(preset="darker")
    assert alone.groups() == [(ArmConfig(kind="darker"),)]
    assert not alone.needs_donors()
    with pytest.raises(UserError, match=r"there are none, free, .*make_up, darker"):
        from_dict(StyleConfig, {"preset": "dark"})


def test_the_help_lists_it_where_a_plug_in_adds_it() -> None:
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), str(ROOT / "tests")]), "COLUMNS": "200",
        "STYLEALIGN_PLUGINS": "builders.outside_arm",
    }  # fmt: skip
    command = [sys.executable, "-m", "stylealign", "generate", "--help-all"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "darker (less light)." in " ".join(done.stdout.split())
