"""The command line: help, recipes, flags, errors a person can act on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.places import ROOT
from stylealign.cli import SPINS, main, parse
from stylealign.jobs import VERBS

RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))


def test_top_level_help_and_import_do_not_load_torch() -> None:
    code = (
        "import sys, stylealign, stylealign.cli\n"
        "assert stylealign.cli.main(['--help']) == 0\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules and 'numpy' not in sys.modules, sorted(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_in_docs_is_what_the_verb_prints(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import write_help

    expected = (ROOT / "docs" / "jobs" / f"{verb}.txt").read_text(encoding="utf-8")
    assert write_help.help_text(verb) == expected, "run scripts/write_help.py"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_resolves(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = recipe.read_text().replace("\\\n#", "")  # a command may go on after a backslash
    command = next(line for line in text.splitlines() if line.strip("# ").startswith("stylealign "))
    verb, _, *flags = command.strip("# ").removeprefix("stylealign ").split()
    assert main([verb, str(recipe), *flags, "--dry-run"]) == 0, capsys.readouterr().err
    if verb == "study":  # its cells are read when it starts: read them now
        from stylealign.jobs.study.plan import plan

        assert plan(parse("study", [str(recipe), *flags]))
    if verb == "pipeline":  # its sections are read when their stage comes: read them now
        from stylealign.config import from_dict
        from stylealign.jobs.draw_faces import DrawFaces
        from stylealign.jobs.generate.job import Generate
        from stylealign.jobs.train_detector.job import TrainDetector
        from stylealign.jobs.train_translator.job import TrainTranslator

        config = parse("pipeline", [str(recipe), *flags])
        from_dict(DrawFaces, {**config.faces, "out": "x"}, "faces")
        from_dict(TrainTranslator, {**config.translator, "data": "x", "run": "x"}, "translator")
        from_dict(Generate, {**config.generate, "data": "x", "translator": "x", "out": "x"}, "generate")
        from_dict(TrainDetector, {**config.detector, "real": "x", "run": "x"}, "detector")


def test_flags_win_over_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("real: somewhere\nlr: 1e-4\nloop: {steps: 7}\n")
    assert main(["train-detector", str(recipe), "--run", "r", "--loop.steps", "9", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "steps: 9" in printed
    assert "lr: 0.0001" in printed  # PyYAML reads 1e-4 as a string


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian-detector"], "did you mean 'train-detector'"),
        (["evaluate", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["train-detector", "{recipe}", "--run", "r", "--real", "x"], "unknown key 'learning_rate'; did you mean 'lr'"),
    ],
)
def test_wrong_words_get_one_sentence_and_no_traceback(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("learning_rate: 1e-3\n")
    assert main([a.format(recipe=recipe) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(
    given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(os, "environ", {**given})
    main(["--version"])
    assert os.environ.get("GOMP_SPINCOUNT") == expected
