"""A translator from outside: one object in TRANSLATORS, and every verb, the help and the contract know it."""

import json
from pathlib import Path

import pytest

from builders import translator_contract as contract
from builders.outside_translator import ENTRY, TintedConfig, TintedLearningConfig
from builders.translator_contract import USE, job, prepared
from stylealign import cli
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image
from stylealign.jobs.train_translator.job import main
from stylealign.training.weights import read_card
from stylealign.translators import TRANSLATORS


@pytest.fixture(autouse=True)
def tinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that adds it."""
    monkeypatch.setitem(TRANSLATORS, "tinted", ENTRY)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("outside"))


def test_it_keeps_the_contract(here: Path, tmp_path: Path) -> None:
    for clause in USE:
        clause("tinted")
    contract.comes_back_from_its_folder_the_same("tinted", tmp_path / "untrained")
    main(job(here, "tinted", tmp_path / "run"))
    contract.a_run_leaves_what_every_run_leaves("tinted", tmp_path / "run")
    contract.a_killed_training_continued_is_bitwise_the_same("tinted", here, tmp_path / "run", tmp_path / "killed")
    contract.generate_makes_the_same_pictures_however_the_work_is_cut("tinted", here, tmp_path / "run", tmp_path)


def test_the_command_line_trains_it_draws_with_it_and_assesses_it(here: Path, tmp_path: Path) -> None:
    data, run = str(here / "data"), str(tmp_path / "run")
    trained = [
        "train-translator", "--data", data, "--run", run, "--model", "tinted", "--tinted.width", "3",
        "--tinted-learning.tint", "0.25", "--crop.size", "16", "--feature-detector", str(here / "features16"),
        "--judge", str(here / "judge16"), "--loop.steps", "2", "--loop.batch-size", "4", "--loop.accelerator", "cpu",
    ]  # fmt: skip
    assert cli.main(trained) == 0
    card = read_card(Path(run), "translator")
    assert (card["model"], card["config"]["tinted"]) == ("tinted", {"width": 3})
    assert card["config"]["tinted_learning"] == {"tint": 0.25}

    made = tmp_path / "made"
    rendered = [
        "generate", "--data", data, "--translator", run, "--out", str(made), "--styles-per-face", "2", "--sheets", "0",
        "--accept-gap", "--accelerator", "cpu",
    ]  # fmt: skip
    assert cli.main(rendered) == 0
    faces = FaceDataset.open(made)
    assert len(faces) == 16
    assert read_image(faces[0].image).shape == (16, 16, 3)

    out = tmp_path / "assessment"
    assessed = [
        "assess", "--data", data, "--translator", run, "--out", str(out), "--judge", str(here / "judge16"),
        "--split", "train", "--accelerator", "cpu",
    ]  # fmt: skip
    assert cli.main(assessed) == 0
    found = json.loads((out / "assessment.json").read_text(encoding="utf-8"))
    assert found["translator"]["model"] == "tinted"
    assert found["latent"]["units"] == 3
    assert "kl_nats" not in found["latent"]


def test_the_help_and_the_recipes_know_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train-translator", "--help-all"])
    help = capsys.readouterr().out
    assert "tinted: lays another picture's mean colour over the landmarks." in " ".join(help.split())
    assert "--tinted.width" in help
    recipe = tmp_path / "tinted.yaml"
    recipe.write_text("model: tinted\ntinted: {width: 5}\ntinted_learning: {tint: 0.1}\n", encoding="utf-8")
    config = cli.parse("train-translator", [str(recipe), "--data", "d", "--run", "r"])
    assert (config.network, config.learning) == (TintedConfig(width=5), TintedLearningConfig(tint=0.1))
