"""The command line: help, recipes, flags, errors a person can act on."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from builders.places import ROOT, SRC
from stylealign import cli
from stylealign.cli import SPINS, find_recipe, main, parse, recipes
from stylealign.flags import closest
from stylealign.jobs import VERBS


def test_top_level_help_and_import_do_not_load_torch() -> None:
    code = (
        "import sys, stylealign, stylealign.cli\n"
        "assert stylealign.cli.main(['--help']) == 0\n"
        "assert not {'torch', 'cv2', 'numpy', 'tyro', 'yaml'} & sys.modules.keys(), sorted(sys.modules)\n"
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


def test_help_shows_what_people_use_first_and_help_all_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as stop:
            main(["predict", flag])
        assert stop.value.code == 0
        said[flag] = capsys.readouterr().out
    first, every = ([line for line in said[flag].splitlines() if line.startswith("  --")] for flag in said)
    assert len(first) == 10 < len(every)
    assert first[0].split()[:2] == ["--out", "PATH"]
    assert "--track.smooth" in said["--help-all"]
    assert f"--help-all shows {len(every) - 10} more flags" in said["--help"]
    assert said["--help"].startswith("usage: stylealign predict PHOTO ... [--flags]")
    for text in said.values():
        assert "None" not in text
        assert "[STR" not in text


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&- >&-"])
def test_the_work_is_done_where_nobody_can_be_told_of_it(stderr: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m stylealign draw-faces --out faces --count 3 --size 48 {stderr}"
    found = subprocess.run(["sh", "-c", command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(SRC)}, check=False)
    assert found.returncode == 0
    assert (tmp_path / "faces" / "dataset.yaml").exists()
    wrong = command.replace("--count 3", "--count none")
    found = subprocess.run(["sh", "-c", wrong], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(SRC)}, check=False)
    assert found.returncode == 2


def test_help_is_written_for_people() -> None:
    for path in sorted((ROOT / "docs" / "jobs").glob("*.txt")):  # compared with what the verbs print elsewhere
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("  -"):
                assert "None" not in line.partition("   ")[0], f"{path.name}: {line}"
                assert line.count("{") == line.count("}"), f"{path.name}: {line}"
                assert len(line) <= 112, f"{path.name}: {line}"
    readers = (ROOT / "docs" / "jobs" / "prepare.txt").read_text(encoding="utf-8")
    assert re.search(r"^  --reader NAME +Its format\.\n +wflw: WFLW: .*\n +cofw: COFW: ", readers, re.MULTILINE)


def test_a_wrong_flag_or_value_is_said_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        ("predict a.jpg --modle x", "unknown --modle; did you mean --model?"),
        ("predict --drow", "unknown --drow; did you mean --draw?"),
        ("predict a.jpg --zebra 3", "unknown --zebra ("),
        ("predict a.jpg --rotate 45", "--rotate: found '45', expected 0, 90, 180, 270 or auto ("),
        ("predict a.jpg --formats csf", "found 'csf', expected wflw, csv, "),
        ("predict a.jpg --box 79 87 279", "--box: found '79 87 279', expected values of another number or kind ("),
        ("translate a.jpg b.jpg --keep both", "--keep: found 'both', expected photo or structure ("),
        ("train-detector --augment.scale", "--augment.scale: found no value ("),
        ("predict a.jpg --formats csf", "; did you mean csv? ("),
        ("predict a.jpg --faces many", "--faces: found 'many', expected a whole number ("),
        ("predict a.jpg --least-confidence large", "found 'large', expected a number ("),
        ("fit faces --eyes 13", "--eyes: found '13', expected 2 whole numbers ("),
        ("fit faces --eyes left right", "--eyes: found 'left right', expected 2 whole numbers ("),
        ("fit faces --eyes", "--eyes: found '', expected 2 whole numbers ("),
        ("fit faces --size large", "--size: found 'large', expected a whole number ("),
        ("prepare --reader csv --path a --out b --box-frac half", "--box-frac: found 'half', expected a number ("),
        ("train-detector --real a --run b --loss.wing-width nan", "--loss.wing-width: found nan, expected a num"),
        ("pretrain --data a --run b --rotation nan", "--rotation: found nan, expected a number ("),
        ("predict a.jpg --box 0 0 9 nan", "--box: found nan, expected a number ("),
    ):
        assert main(words.split()) == 2
        assert sentence in (said := capsys.readouterr().err), said
    known = ["--loop.steps", "--styles", "--pretrain.steps", "--model"]
    assert closest("--steps=5", known) == ["--loop.steps", "--pretrain.steps"]
    assert closest("--modl", known) == ["--model"]
    assert closest("--nothing-like-it", known) == []


def test_the_flags_that_help_names_first_exist() -> None:
    from stylealign.flags import _tyros_help
    from stylealign.verb_help import FIRST, SHOWN, known_flags

    for verb, names in FIRST.items():
        known = known_flags(_tyros_help(VERBS[verb].config_class(), [], None, {}))
        assert {f"--{name}" for name in names} <= set(known), verb
        assert len(names) <= SHOWN


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("--modle", "--model"), ("--ot", "--out"), ("--whole-imag", "--whole-image"), ("--track.smoth", "--track.smooth")],
)
def test_a_flag_that_is_none_is_answered_by_the_closest(
    wrong: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "a.png", wrong]) == 2
    assert f"unknown {wrong}; did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_resolves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = recipes()[name].read_text(encoding="utf-8").replace("\\\n#", "")  # a command may go on after a backslash
    assert "\n#     --" not in text, "flags of a command that does not go on"
    command = next(line for line in text.splitlines() if line.strip("# ").startswith("stylealign "))
    verb, named, *flags = command.strip("# ").removeprefix("stylealign ").split()
    assert named == name, "the command in its header"
    assert main([verb, name, *flags, "--dry-run"]) == 0, capsys.readouterr().err
    if verb == "study":  # its cells are read when it starts: read them now
        from stylealign.jobs.study.plan import plan

        assert plan(parse("study", [name, *flags]))
    if verb == "pipeline":  # its sections are read when their stage comes: read them now
        from stylealign.config import from_dict
        from stylealign.jobs.draw_faces import DrawFaces
        from stylealign.jobs.generate.job import Generate
        from stylealign.jobs.train_detector.job import TrainDetector
        from stylealign.jobs.train_translator.job import TrainTranslator

        config = parse("pipeline", [name, *flags])
        from_dict(DrawFaces, {**config.faces, "out": "x"}, "faces")
        from_dict(TrainTranslator, {**config.translator, "data": "x", "run": "x"}, "translator")
        from_dict(Generate, {**config.generate, "data": "x", "translator": "x", "out": "x"}, "generate")
        from_dict(TrainDetector, {**config.detector, "real": "x", "run": "x"}, "detector")


@pytest.mark.parametrize(
    "given", ["small/lab", "small/lab.yaml", "recipes/small/lab.yaml", "recipes/small/lab", "./recipes/small/lab.yaml"]
)
def test_a_recipe_of_the_package_is_found_by_its_name(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(given) == recipes()["small/lab"]
    assert parse("train-detector", [given, "--real", "data", "--run", "run"]).model == "lab"


def test_a_file_of_the_users_comes_before_a_recipe_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()  # a folder is no recipe
    assert find_recipe("tiny") == recipes()["tiny"]
    (tmp_path / "ci").write_text("seeds: [7]\n")
    assert find_recipe("ci") == Path("ci")


def test_a_photograph_is_never_taken_for_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("predict", ["tiny", "--out", "found"]).inputs == ("tiny",)
    assert parse("translate", ["tiny", "ci", "--out", "sheet.png"]).inputs == ("tiny", "ci")
    assert parse("check", ["tiny"]).path == Path("tiny")
    assert parse("check", ["mine.yaml"]).path == Path("mine.yaml")


def test_the_list_of_recipes_names_each_with_its_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recipes"]) == 0
    listed = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in listed] == list(recipes())
    assert [line for line in listed if line[-1] not in ".?"] == []  # a whole sentence
    assert all(len(line.split()) > 3 for line in listed)


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
        (
            ["train-detector", "lab", "--run", "r"],
            "did you mean paper/lab or small/lab? (`stylealign --recipes` lists them)",
        ),
        (
            ["pipeline", "tyni", "--out", "o"],
            "tyni: no such file, and no recipe in the package has this name; did you mean tiny",
        ),
        (["train-detector", "{folder}", "--run", "r"], "a folder, not a recipe"),
        (["train-detector", "{recipe}", "--run", "r", "--real", "x"], "unknown key 'learning_rate'; did you mean 'lr'"),
    ],
)
def test_wrong_words_get_one_sentence_and_no_traceback(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("learning_rate: 1e-3\n")
    assert main([a.format(recipe=recipe, folder=tmp_path) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "least"),
    [
        ("models", 8), ("fit faces", 8), ("check faces", 16), ("draw-faces --out o", 32),
        ("stress --data faces --out o", 32), ("turn-heads --data faces --out o", 32),
        ("pretrain --data faces --run o", 8), ("translate a.jpg b.jpg", 16),
    ],
)  # fmt: skip
def test_a_side_that_no_picture_can_have_is_refused_before_any_work(
    words: str, least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = "--crop.size" if words.startswith("pretrain") else "--size"
    for size in (-4, 0, least - 1, 4097, 10**9):
        assert main([*words.split(), flag, str(size), "--dry-run"]) == 2
        assert str(size) in (said := capsys.readouterr().err), said
        assert str(least) in said
    assert main([*words.split(), flag, str(least), "--dry-run"]) == 0


@pytest.mark.parametrize("verb", VERBS)
def test_an_interrupted_command_says_whether_it_goes_on(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parse", interrupted)
    assert main([verb]) == 130
    said = capsys.readouterr().err.strip().rpartition(", and the same command ")[2]
    keep = {  # those of docs/reliability.md that keep what is done
        "train-detector", "train-finder", "train-translator", "train-styles", "pretrain", "generate", "pipeline",
        "self-train", "study", "fit",
    }  # fmt: skip
    some = {"pseudo-label": "begins anew, but for what --jobs or --on has finished"}
    assert said == some.get(verb, "goes on" if verb in keep else "begins anew")


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


def test_what_comes_next_is_a_command_that_there_is() -> None:
    """Every verb but those that say so themselves, or end a way, has one; its fields and its flags exist."""
    silent = {name for name, verb in VERBS.items() if not verb.then}
    assert silent == {"fit", "init", "suggest", "check", "models", "demo", "calibrate"}
    for name, verb in VERBS.items():
        fields = {field.name for field in dataclasses.fields(verb.config_class())}
        assert set(re.findall(r"{(\w+)}", verb.then)) <= fields, name
        for command in re.findall(r"stylealign ([a-z-]+[^,]*)", verb.then):
            words = command.split()
            assert words[0] in VERBS, name
            known = {field.name.replace("_", "-") for field in dataclasses.fields(VERBS[words[0]].config_class())}
            assert {word[2:] for word in words if word.startswith("--")} <= known, (name, command)


def test_what_comes_next_has_the_paths_that_were_given() -> None:
    class Config:
        out, run = Path("my faces"), None

    verb = VERBS["draw-faces"]
    assert "--real 'my faces' --run" in verb.next_words(Config)
    assert VERBS["train-detector"].next_words(Config) == ""  # nothing to name
    Config.out = Path("-o")  # given as ./-o, which a Path forgets
    assert "--real ./-o --run" in verb.next_words(Config)
