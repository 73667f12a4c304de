"""The job `study`: cells that are planned, trained once, continued, extended; numbers that anyone can compute again."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from builders.dots import dots
from builders.places import ROOT
from builders.tiny import drawn, tree
from stylealign.cli import find_recipe, parse
from stylealign.config import from_dict, merged, read_yaml
from stylealign.config import plain as plain_of
from stylealign.data.atomic import alone
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.evaluation import metrics
from stylealign.evaluation.scoring import interval_over_seeds
from stylealign.evaluation.tables import slugs
from stylealign.jobs import export_dataset
from stylealign.jobs.export_dataset import ExportDataset
from stylealign.jobs.study.job import check_unchanged, main
from stylealign.jobs.study.plan import Study, plan, row_name, rows_of
from stylealign.jobs.study.scores import seconds_per_update
from stylealign.jobs.study.tables import curve_names, protocol, verdicts
from stylealign.jobs.train_detector.beside import command_of
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.training.fan_out import Job, last_line, run_jobs
from stylealign.training.processes import Pool

LOOP = {"steps": 2, "batch_size": 4, "log_every": 1, "checkpoint_every": 0, "preview_every": 0, "accelerator": "cpu"}
LISTS = Path("WFLW_annotations") / "list_98pt_rect_attr_train_test"
BASE = {"crop": {"size": 32}, "resnet": {"width": 4}, "loop": LOOP}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("study") / "faces").folder


def study_of(data: Path, out: Path, **changes: Any) -> Study:
    """Two rows by one seed, or what `changes` make of it."""
    values: dict[str, Any] = {
        "data": str(data), "out": str(out), "base": BASE, "tests": ["test"], "resamples": 100, "accelerator": "cpu",
        "detectors": {"A": {}, "B": {"lr": 1e-3}}, **changes,
    }  # fmt: skip
    return from_dict(Study, values)


class Here:
    """Trains in this process, and remembers what."""

    def __init__(self, stop_after: int | None = None):
        self.trained: list[str] = []
        self.stop_after = stop_after

    def __call__(self, cells, place) -> dict[str, str]:
        for cell in cells:
            if self.stop_after == len(self.trained):
                raise KeyboardInterrupt
            train_detector(cell.config)
            self.trained.append(cell.name)
        return {}


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two rows and two seeds."""
    out = tmp_path_factory.mktemp("study") / "out"
    main(study_of(data, out, seeds=[0, 1]), Here())
    return out


# --------------------------------------------------------------------------------------------------------------------
# Planning


def test_names_in_any_script_have_folders_of_their_own(data: Path, tmp_path: Path) -> None:
    study = study_of(data, tmp_path / "out", detectors={"基准": {}, "风格": {}, "Rés 18 (a_b)": {}})
    assert [cell.run.parent.parent.name for cell in plan(study)] == ["基准", "风格", "Rés-18-a-b"]


def test_rows_are_named_by_their_arm_and_detector() -> None:
    assert row_name("LAB", "AVS({detector})") == "AVS(LAB)"
    assert row_name("LAB", "jitter") == "LAB, jitter"


def test_cells_are_detectors_by_arms_by_budgets_by_seeds_with_overrides_on_top(tmp_path: Path) -> None:
    study = study_of(
        tmp_path / "d", tmp_path / "o", synthetic=str(tmp_path / "s"), seeds=[3, 4], budgets=["all", "few"],
        arms={"{detector}": {}, "AVS({detector})": {"synthetic_share": 0.25, "loop": {"ema_decay": 0.5}}},
    )  # fmt: skip
    cells = plan(study)
    assert [row.name for row in rows_of(study)] == ["A", "B", "AVS(A)", "AVS(B)"]
    assert len(cells) == 4 * 2 * 2
    assert [c.config.loop.seed for c in cells] == [3] * 8 + [4] * 8  # seed by seed: a stopped study is a balanced one
    assert len({c.run for c in cells}) == len(cells)
    last = cells[-1]
    assert last.name == "AVS(B), few, seed 4"
    assert last.run == tmp_path / "o" / "cells" / "AVS-B" / "few" / "s4"
    assert (last.config.lr, last.config.synthetic_share, last.config.subset) == (1e-3, 0.25, "few")
    assert (last.config.loop.ema_decay, last.config.loop.steps, last.config.resnet.width) == (0.5, 2, 4)
    assert (last.config.real, last.config.synthetic) == (tmp_path / "d", tmp_path / "s")
    plain = cells[0].config
    assert (plain.synthetic, plain.subset, plain.lr) == (None, None, 3e-3)
    chosen = plan(study_of(tmp_path / "d", tmp_path / "o", rows=["B", "A"]))
    assert [cell.row for cell in chosen] == ["B", "A"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"detectors": {"A": {}, "B": {"loop": {"steps": 3}}}}, r"'B' has 3 updates of 4 faces, row 'A' "
                                                                r"2 of 4.*equal_updates"),
        ({"detectors": {"A": {}, "B": {"loop": {"batch_size": 8}}}}, r"'B' has 2 updates of 8 faces"),
        ({"detectors": {"A": {"learning": 1}}}, r"row 'A': unknown key 'learning'"),
        ({"rows": ["C"]}, r"no row is called 'C'; there are 'A', 'B'"),
        ({"baseline": "C"}, r"no row is called 'C'"),
        ({"rows": ["A"], "baseline": "B"}, r"baseline 'B' is not among the rows 'A': expected a --baseline of these"),
        ({"base": {**BASE, "run": "here"}}, r"run: the study sets it"),
        ({"base": {"loop": {**LOOP, "seed": 1}}}, r"loop.seed: the study sets it"),
        ({"arms": {"{detector}": {}, "AVS({detector})": {"synthetic_share": 0.5}}}, r"'AVS\(A\)' needs synthetic "
                                                                                    r"faces; give --synthetic"),
        ({"detectors": {"A b": {}, "A-b": {}}}, r"names differ only in case, or in characters"),
        ({"detectors": {"Warp": {}, "warp": {}}}, r"names differ only in case, or in characters"),
        ({"detectors": {"A": {}, "B": {"minutes": 2.5}}}, r"row 'B' is trained for 2.5 min, .*needs equal updates"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_made(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        plan(study_of(tmp_path / "d", tmp_path / "o", **changes))
    assert not (tmp_path / "o").exists()


def test_a_budget_reaches_the_studys_own_faces_among_an_arms_data_sets(tmp_path: Path) -> None:
    own = {"path": str(tmp_path / "d"), "share": 0.5}
    arms = {"{detector}": {}, "more": {"data": [own, {"path": "made"}]}}
    budget, all_labels = (
        plan(study_of(tmp_path / "d", tmp_path / "o", detectors={"A": {}}, arms=arms, budgets=[b]))
        for b in ("few", "all")
    )
    assert [c.config.subset for c in budget] == ["few", None]
    assert [source.subset for source in budget[1].config.data] == ["few", None]
    assert [source.subset for source in all_labels[1].config.data] == [None, None]
    with pytest.raises(UserError, match=r"'A, more': .*d is not among its `data`: the label budget few"):
        plan(
            study_of(
                tmp_path / "d",
                tmp_path / "o",
                detectors={"A": {}},
                arms={**arms, "more": {"data": [{"path": "made"}]}},
                budgets=["few"],
            )
        )


def test_an_arm_may_have_other_faces_for_each_budget(tmp_path: Path) -> None:
    arms = {"{detector}": {}, "more": {"synthetic": "made_{budget}/data", "style": {"donors": ["{budget}"]}}}
    cells = plan(study_of(tmp_path / "d", tmp_path / "o", detectors={"A": {}}, arms=arms, budgets=["few", "all"]))
    assert [str(c.config.synthetic) for c in cells] == ["None", "made_few/data", "None", "made_all/data"]
    assert [str(d) for c in cells for d in c.config.style.donors] == ["few", "all"]


def test_unequal_updates_are_allowed_where_asked_for(tmp_path: Path) -> None:
    detectors = {"A": {}, "B": {"loop": {"steps": 3}}}
    cells = plan(study_of(tmp_path / "d", tmp_path / "o", detectors=detectors, equal_updates=False))
    assert [c.config.loop.steps for c in cells] == [2, 3]


@pytest.mark.parametrize(
    "changes", [{"seeds": [0, 0]}, {"seeds": []}, {"jobs": 0}, {"detectors": {}}, {"tests": ["a", "a"]}]
)
def test_a_study_that_says_nothing_or_says_it_twice_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        study_of(tmp_path / "d", tmp_path / "o", **changes)


def test_missing_data_is_said_before_the_first_training(data: Path, tmp_path: Path) -> None:
    others = dots(tmp_path / "dots", 4, splits=("test",), name="dots").folder
    faults: list[tuple[dict[str, Any], str]] = [
        ({"tests": ["night"]}, "no face with split 'night'"),
        ({"tests": [f"{tmp_path}/wflw:test"]}, "wflw: not a dataset folder"),
        ({"budgets": ["all", "budget_9"]}, r"cell 'A, budget_9, seed 0': .*budget_9"),
        (
            {"detectors": {"A": {}, "B": {"synthetic": str(tmp_path / "gone")}}},
            r"cell 'B, all, seed 0': .*gone: not a dataset",
        ),
        ({"detectors": {"A": {}, "B": {"pretrained": str(tmp_path / "w.pth")}}}, r"'B, .*w.pth: no such file"),
        ({"detectors": {"A": {}, "B": {"styles": str(tmp_path / "s")}}}, r"'B, all, seed 0': styles .*s: no such file"),
        ({"detectors": {"A": {}, "B": {"init_from": str(tmp_path / "i")}}}, r"'B, .*init_from .*i: no such file"),
        ({"detectors": {"A": {}, "B": {"teacher": {"data": str(tmp_path / "t")}}}}, r"'B, .*: .*t: not a dataset"),
        (
            {"detectors": {"A": {}, "B": {"style": {"preset": "mixture", "donors": [str(tmp_path / "t")]}}}},
            r"cell 'B, all, seed 0': .*t: not a dataset",
        ),
        (
            {"detectors": {"A": {"style": {"arms": [{"kind": "translator", "run": str(tmp_path / "r")}]}}}},
            r"cell 'A, all, seed 0': .*r: no such run",
        ),
        ({"tests": ["val"]}, "two are called"),
        (
            {"tests": [f"{others}:test"]},
            r"'A, .*: dots test: predictions have 98 landmarks of schema 'wflw98', the dataset has 5 of .*--convert",
        ),
        ({"val_split": "dev", "tests": []}, r"faces: no split 'dev', there are '.*; expected --val-split or --tests"),
        ({"val_split": "dev", "val_only": True}, r"no split 'dev', there are '.*; expected --val-split to name one"),
    ]
    with pytest.raises(UserError, match="not a dataset folder"):
        main(study_of(tmp_path / "none", tmp_path / "o"), Here())
    for changes, said in faults:
        trained = Here()
        with pytest.raises(UserError, match=said):
            main(study_of(data, tmp_path / "o", **changes), trained)
        assert not trained.trained
        assert not (tmp_path / "o").exists()


def test_recipe_and_flags_make_a_study(data: Path, tmp_path: Path, monkeypatch) -> None:
    recipe = tmp_path / "study.yaml"
    recipe.write_text("detectors: {A: {model: resnet18}}\nbase: {loop: {steps: 2}}\nseeds: [0, 1]\n")
    flags = ["--data", str(data), "--out", "o", "--jobs", "2", "--tests", "test", "x:y", "--no-train", "--list"]
    study = parse("study", [str(recipe), *flags])
    assert (study.jobs, study.tests, study.seeds, study.train, study.list) == (2, ("test", "x:y"), (0, 1), False, True)
    assert plan(study)[0].config.loop.steps == 2


# --------------------------------------------------------------------------------------------------------------------
# WFLW's table, from the published files to study.md


def test_the_rows_of_wflws_table_stand_as_published_and_differ_in_the_faces_alone(tmp_path: Path) -> None:
    for name in ("wflw/small/study", "wflw/paper/study"):
        study = parse("study", [name, "--data", "d", "--synthetic", "s", "--out", str(tmp_path / "out")])
        cells = plan(study)
        published = ["DVLN", "LAB", "SAN", "Wing", "ResNet-18", "AVS(ResNet-18)", "AVS(LAB)", "AVS(SAN)"]
        assert [row.name for row in rows_of(study)] == published
        assert {cell.config.loop.seed for cell in cells} == {0, 1, 2}
        assert {(c.config.crop.scale, c.config.crop.box) for c in cells} == {(1.25, "given")}  # one protocol
        plain = {cell.row: plain_of(cell.config) for cell in cells if cell.config.loop.seed == 0}
        for row, values in plain.items():
            if row.startswith("AVS"):
                changed = {key for key, value in values.items() if plain[row[4:-1]][key] != value}
                assert changed <= {"run", "synthetic", "synthetic_share", "mix"}
                assert values["mix"] == ("concatenate" if "paper" in name else "share")
        style = parse("train-styles", [name.replace("study", "styles"), "--data", "d", "--run", "r"])
        san = next(cell.config for cell in cells if cell.row == "SAN")
        assert (style.crop, style.generator) == (san.crop, san.san.generator)  # type: ignore[attr-defined]
        assert san.styles == tmp_path / "styles"


@pytest.mark.skipif(not shutil.which("bash"), reason="a script of bash")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SIZE": "huge"}, "SIZE is huge, expected small or paper"),
        ({"SIZE": "paper"}, "SIZE=paper needs VGG16, the file of ImageNet weights that SAN starts from"),
        ({"STYLEALIGN": "true", "OTHER": "gone"}, "gone: no such file or folder"),
    ],
)
def test_the_script_says_what_is_missing_before_it_begins(given: dict[str, str], said: str, tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "scripts" / "reproduce_wflw.sh"), str(tmp_path), str(tmp_path / "out")]
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith("VGG")}, **given}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert said in done.stderr
    assert not (tmp_path / "out" / "data").exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bash"), reason="a script of bash")
def test_the_script_makes_the_published_table_from_wflws_files(tmp_path: Path) -> None:
    faces = drawn(tmp_path / "drawn", 60)
    export_dataset.main(ExportDataset(data=faces.folder, format="wflw", out=tmp_path / "wflw"))
    (tmp_path / "wflw" / LISTS / "list_98pt_rect_attr_val.txt").unlink()  # WFLW has none
    tiny_crop, loop = "crop: {size: 32, scale: 1.25, box: given}", "batch_size: 4, log_every: 1, preview_every: 0"
    (tmp_path / "styles.yaml").write_text(
        f"{tiny_crop}\ngenerator: {{width: 4, blocks: 1}}\n"
        "cyclegan: {discriminator_width: 4, discriminator_layers: 1}\n"
        f"loop: {{steps: 2, ema_decay: 0, {loop}}}\n"
    )
    (tmp_path / "translator.yaml").write_text(
        "crop: {size: 32, scale: 1.6}\nauxiliary: {steps: 2, width: 4, batch_size: 4}\ninit_batches: 1\n"
        "vunet: {size: 32, style_width: 8, structure_width: 8, max_width: 16, latent_channels: 4, prior_width: 4, "
        "blocks_per_scale: 1, dropout: 0, upsample: nearest}\n"
        f"loop: {{steps: 2, {loop}}}\n"
    )
    study = read_yaml(find_recipe("wflw/small/study"))
    study["base"] |= {"crop": {"size": 32, "scale": 1.25, "box": "given"}}
    study["base"]["loop"] = {"steps": 2, "batch_size": 4, "preview_every": 0, "accelerator": "cpu"}
    for name, values in {
        "DVLN": {"dvln": {"width": 4}}, "LAB": {"lab": {"channels": 8, "depth": 2, "width": 4, "hidden": 8}},
        "SAN": {"san": {"generator": {"width": 4, "blocks": 1}, "width": 4, "features": 8, "hidden": 8, "top": 8}},
        "Wing": {"wing": {"width": 4, "hidden": 8}}, "ResNet-18": {"resnet": {"width": 4}},
    }.items():  # fmt: skip
        study["detectors"][name] = merged(study["detectors"][name], values)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    stylealign = tmp_path / "stylealign"
    stylealign.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stylealign "$@"\n')
    stylealign.chmod(0o755)
    out = tmp_path / "out"
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "STYLEALIGN": str(stylealign),
        "STYLEALIGN_CACHE": str(tmp_path / "cache"), "OTHER": str(faces.folder), "SEEDS": "0", "VAL": "0.2",
        "STUDY": str(tmp_path / "study.yaml"), "STYLES": str(tmp_path / "styles.yaml"),
        "TRANSLATOR": str(tmp_path / "translator.yaml"), "GENERATE_FLAGS": "--accept-gap --sheets 0",
        "STUDY_FLAGS": "--resamples 100", "STYLES_FLAGS": "--styles.clusters 2",
    }  # fmt: skip
    command = ["bash", str(ROOT / "scripts" / "reproduce_wflw.sh"), str(tmp_path / "wflw"), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    table = (out / "study" / "study.md").read_text()
    for title in ("NME %", "FR@10 %", "AUC@10 %"):
        block = table[table.index(f"### {title}") :].split("\n\n")[1].splitlines()
        rows = [line.split(" | ")[0].strip("| ") for line in block[2:]]
        assert rows == ["DVLN", "LAB", "SAN", "Wing", "ResNet-18", "AVS(ResNet-18)", "AVS(LAB)", "AVS(SAN)"]
        columns = [cell.split(" (")[0] for cell in block[0].strip("| ").split(" | ") if " (" in cell]
        published = ["full", "pose", "expression", "illumination", "make-up", "occlusion", "blur"]
        assert columns == [name for name in published if name in columns]
        assert len(columns) > 3
    assert "square of 1.25 x the given box, 32 px" in table
    assert "has not learnt" in table
    card = json.loads((out / "study" / "cells" / "AVS-SAN" / "all" / "s0" / "card.json").read_text())
    assert [(data["role"], data["share"]) for data in card["data"]] == [("real", 0.5), ("synthetic", 0.5)]
    synthetic = FaceDataset.open(out / "synthetic")
    translator = json.loads((out / "translator" / "card.json").read_text())
    assert translator["data"][0]["split"] == "train"
    assert len(synthetic) == 8 * FaceDataset.open(out / "data").meta["splits"]["train"]
    before = tree(out / "study" / "cells")
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert again.returncode == 0, again.stderr[-2000:]
    assert tree(out / "study" / "cells") == before


# --------------------------------------------------------------------------------------------------------------------
# Training what is not finished


def test_a_finished_study_is_left_alone_and_a_new_seed_trains_only_itself(
    data: Path, done: Path, tmp_path: Path, capsys
) -> None:
    before = tree(done / "cells")
    again = Here()
    main(study_of(data, done, seeds=[0, 1]), again)
    assert not again.trained
    assert tree(done / "cells") == before
    more = Here()
    main(study_of(data, done, seeds=[0, 1, 2], rows=["B"]), more)
    assert more.trained == ["B, all, seed 2"]
    now = tree(done / "cells")
    assert {path: now[path] for path in before} == before
    capsys.readouterr()
    main(study_of(data, done, seeds=[0, 1, 2], list=True), again)
    shown = capsys.readouterr().out
    assert "5 of 6 finished" in shown
    assert "to do" in shown
    main(study_of(data, done, seeds=[0, 1, 2], train=False), again)
    assert not again.trained


def test_a_precision_that_slows_every_cell_is_said_once(data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    base = {**BASE, "loop": {**LOOP, "precision": "bf16-mixed"}}
    with pytest.raises(SystemExit):  # every cell is said to have failed
        main(
            study_of(data, tmp_path / "out", base=base), lambda cells, place: {cell.name: "not here" for cell in cells}
        )
    assert capsys.readouterr().err.count("this processor has no bfloat16") == 1


def test_a_finished_cell_under_another_configuration_is_named_and_kept(data: Path, done: Path) -> None:
    before = tree(done / "cells")
    changed = {"A": {}, "B": {"lr": 2e-3}}
    with pytest.raises(UserError, match=r"cell 'B, all, seed 0': .*lr: 0.001 there, 0.002 now"):
        main(study_of(data, done, seeds=[0, 1], detectors=changed), Here())
    assert tree(done / "cells") == before


def test_a_cell_trained_on_faces_that_have_changed_since_is_refused(data: Path, done: Path, tmp_path: Path) -> None:
    import shutil

    out = tmp_path / "copy"
    shutil.copytree(done / "cells" / "A" / "all" / "s0", out / "cells" / "A" / "all" / "s0")
    card = out / "cells" / "A" / "all" / "s0" / "card.json"
    card.write_text(card.read_text().replace(FaceDataset.open(data).content_hash, "0" * 64))
    with pytest.raises(UserError, match=r"'A, all, seed 0'.*trained on other faces"):
        main(study_of(data, out, detectors={"A": {}}), Here())


def test_faces_that_have_changed_are_noticed_among_several_data_sets_too(data: Path, tmp_path: Path) -> None:
    sources = [{"path": str(data)}, {"path": "unused", "share": 0}]
    (cell,) = plan(study_of(data, tmp_path / "out", detectors={"A": {"data": sources}}))
    cell.run.mkdir(parents=True)
    (cell.run / "card.json").write_text(
        json.dumps({"kind": "detector", "data": [{"content_hash": FaceDataset.open(data).content_hash}]})
    )
    check_unchanged(cell)
    (cell.run / "card.json").write_text(json.dumps({"kind": "detector", "data": [{"content_hash": "0" * 64}]}))
    with pytest.raises(UserError, match=r"'A, all, seed 0': .*s0 was trained on other faces than .*faces holds now"):
        check_unchanged(cell)


def test_a_stopped_study_continues_and_ends_as_if_it_had_not_been(data: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    study = study_of(data, out, seeds=[0, 1])
    first, second = Here(stop_after=1), Here()
    with pytest.raises(KeyboardInterrupt):
        main(study, first)
    main(study, second)
    assert first.trained + second.trained == ["A, all, seed 0", "B, all, seed 0", "A, all, seed 1", "B, all, seed 1"]
    for cell in plan(study):
        whole = done / cell.run.relative_to(out) / "model.safetensors"
        assert (cell.run / "model.safetensors").read_bytes() == whole.read_bytes()


def test_a_folder_of_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "thesis.doc").write_text("dear")
    with pytest.raises(UserError, match="not a study's folder"):
        main(study_of(data, tmp_path / "o"), Here())


def test_a_study_whose_folder_begins_like_a_flag_trains_its_cells_by_commands_that_can_be_meant(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (cell,) = plan(study_of(data, Path("-o"), detectors={"A": {}}))
    words = command_of(cell.config, cell.name, cell.row).command
    assert parse(words[3], list(words[4:])).run == cell.run


@pytest.mark.slow  # 14 s; tests/detectors/test_from_outside.py trains a study in processes too
def test_processes_train_side_by_side_and_one_that_fails_loses_none_of_the_others(
    data: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    study = study_of(data, tmp_path / "o", detectors={"A": {}, "B": {"pretrained": str(tmp_path / "bad.pth")}}, jobs=2)
    with pytest.raises(SystemExit) as stop:
        main(study)
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "cell 'B, all, seed 0' failed: stylealign train-detector: " in said
    assert "bad.pth: not a file of weights" in said
    result = json.loads((tmp_path / "o" / "study.json").read_text())
    assert [row["name"] for row in result["rows"]] == ["A"]
    alone_ = tmp_path / "o" / "cells" / "A" / "all"
    assert {path.name for path in alone_.iterdir()} == {"s0", "s0.yaml", "s0.log"}
    assert "finished" in (alone_ / "s0.log").read_text()
    assert read_yaml(alone_ / "s0" / "config.yaml")["loop"]["steps"] == 2


# --------------------------------------------------------------------------------------------------------------------
# Numbers


def test_the_table_is_what_anyone_computes_from_the_predictions(data: Path, done: Path) -> None:
    main(study_of(data, done, seeds=[0, 1]), Here())
    result = json.loads((done / "study.json").read_text())
    truth = {}
    for line in (data / "index.jsonl").read_text().splitlines():
        face = json.loads(line)
        truth[face["id"]] = (face["split"], np.array(face["landmarks"], np.float32), face.get("attributes", {}))
    assert [(one["role"], one["name"]) for one in result["sets"]] == [("val", "faces val"), ("test", "faces test")]
    for one in result["sets"]:
        errors: dict[str, list[dict[str, float]]] = {}
        for row in ("A", "B"):
            for seed in (0, 1):
                (path,) = (done / "predictions" / one["name"].replace(" ", "-") / row / "all").glob(f"s{seed}-*.jsonl")
                answers = [json.loads(line) for line in path.read_text().splitlines()]
                mine = {}
                for answer in answers:
                    split, points, _ = truth[answer["id"]]
                    assert split == one["dataset"]["split"]
                    eyes = np.hypot(*(points[60] - points[72]))  # outer eye corners of WFLW
                    mine[answer["id"]] = float(np.hypot(*(np.array(answer["landmarks"]) - points).T).mean() / eyes)
                assert set(mine) == {i for i, (split, _, _) in truth.items() if split == one["dataset"]["split"]}
                errors.setdefault(row, []).append(mine)
        (block,) = one["blocks"]
        for arm in block["arms"]:
            means = [np.mean(list(each.values())) for each in errors[arm["name"]]]
            assert arm["nme"]["mean"] == pytest.approx(np.mean(means))
            assert arm["nme"]["sd"] == pytest.approx(abs(means[0] - means[1]) / np.sqrt(2))
            failures = [np.mean([e > 0.1 for e in each.values()]) for each in errors[arm["name"]]]
            assert arm["failure_rate"]["0.10"]["mean"] == pytest.approx(np.mean(failures))
            for name, figures in arm["subsets"].items():
                of_subset = [
                    np.mean([e for i, e in each.items() if truth[i][2].get(name)]) for each in errors[arm["name"]]
                ]
                assert figures["nme"]["mean"] == pytest.approx(np.mean(of_subset))
        (pair,) = block["paired"]
        difference = np.mean([[b[i] - a[i] for i in a] for a, b in zip(errors["A"], errors["B"], strict=True)])
        assert (pair["arm"], pair["baseline"]) == ("B", "A")
        assert pair["difference"] == pytest.approx(difference)
        assert pair["low"] <= pair["difference"] <= pair["high"]
    table = (done / "study.md").read_text()
    test = result["sets"][1]["blocks"][0]["arms"][0]["nme"]
    assert f"| {100 * test['mean']:.2f} ± {100 * test['sd']:.2f} |" in table
    for fact in (
        "inter_ocular",
        "square of 1.4 x the landmark box, 32 px",
        "split test",
        "Seeds: 2",
        "Updates: 2 of 4",
        "faces.",
        "MACs M",
    ):
        assert fact in table, fact
    assert "to choose by" in table


def test_tables_are_made_again_without_any_network(data: Path, done: Path, monkeypatch) -> None:
    from stylealign.jobs.study import scores

    def never(*_, **__):
        raise AssertionError("a model was asked again")

    main(study_of(data, done, seeds=[0, 1]), Here())
    before = (done / "study.json").read_text()
    monkeypatch.setattr(scores, "answers_of", never)
    main(study_of(data, done, seeds=[0, 1]), Here())
    assert (done / "study.json").read_text() == before


def test_test_sets_whose_names_no_folder_can_tell_apart_keep_their_answers(
    data: Path, tmp_path: Path, monkeypatch
) -> None:
    import shutil

    from stylealign.jobs.study import scores

    tests = []
    for name in ("a,b", "a;b"):
        meta = shutil.copytree(data, tmp_path / name) / "dataset.yaml"
        meta.write_text(meta.read_text().replace("name: faces\n", f"name: {name}\n"))
        tests.append(f"{meta.parent}:test")
    study = study_of(data, tmp_path / "o", detectors={"A": {}}, tests=tests)
    main(study, Here())
    monkeypatch.setattr(scores, "answers_of", None)  # asked again, it fails
    main(study, Here())
    parts = sorted(path.name for path in (tmp_path / "o" / "predictions").iterdir())
    assert parts == ["a-b-test", "a-b-test-2", "faces-val"]


def test_choosing_leaves_the_tests_unopened(data: Path, tmp_path: Path) -> None:
    main(study_of(data, tmp_path / "o", detectors={"A": {}}, val_only=True), Here())
    assert [one["role"] for one in json.loads((tmp_path / "o" / "study.json").read_text())["sets"]] == ["val"]
    assert [path.name for path in (tmp_path / "o" / "predictions").iterdir()] == ["faces-val"]


def test_label_budgets_make_blocks_and_a_curve_and_arms_are_compared_with_the_first(data: Path, tmp_path: Path) -> None:
    study = study_of(
        data, tmp_path / "o", detectors={"A": {}}, arms={"{detector}": {}, "slow": {"lr": 1e-4}},
        budgets=["all", "make_up"], val_only=True
    )  # fmt: skip
    main(study, Here())
    (one,) = json.loads((tmp_path / "o" / "study.json").read_text())["sets"]
    assert [block["budget"] for block in one["blocks"]] == ["all", "make_up"]
    labels = [block["arms"][0]["labels"] for block in one["blocks"]]
    assert labels[0] == 12
    assert 0 < labels[1] < 12
    assert {arm["trained_on"] for block in one["blocks"] for arm in block["arms"]} == {"faces"}
    assert [(p["arm"], p["baseline"]) for p in one["blocks"][1]["paired"]] == [("A, slow", "A")]
    assert (tmp_path / "o" / "nme_faces-val.png").exists()


def test_a_table_says_what_its_own_budget_learnt_from() -> None:
    row = {"name": "A", "crop": "square", "updates": 2, "batch_size": 4, "trained_on": "d + made_few / d + made_all"}
    data = {"name": "d", "split": "test", "faces": 6, "points": 5, "schema": "five", "content_hash": "0"}
    one = {"name": "d test", "dataset": data, "denominator": "inter_pupil"}

    def said(**more: str) -> str:
        arm = {"name": "A", "labels": 8, "seeds": 1, **more}
        return protocol({"rows": [row]}, one, {"budget": "few", "arms": [arm]})

    assert "Labels: few (8 faces) of d + made_few. Updates" in said(trained_on="d + made_few")
    assert "(8 faces) of d + made_few / d + made_all. Updates" in said()  # scored before arms said so
    assert "(five), all landmarks. Denominator" in said()
    data |= {"missing": {"landmarks": 3, "faces": 1}, "unlabelled": 0}
    assert "(five), all landmarks but 3 missing ones of 1 face. Denominator" in said()


def test_names_told_apart_by_numbers_stay_apart_whatever_the_names() -> None:
    names = ["a b", "a,b-2", "a-b", "A b", "a b", "c"]
    found = slugs(names)
    assert found == {"a b": "a-b", "a,b-2": "a-b-2", "a-b": "a-b-3", "A b": "A-b-4", "c": "c"}


def test_test_sets_whose_names_no_file_can_tell_apart_have_a_curve_each(tmp_path: Path) -> None:
    def one(name: str, nme: float) -> dict[str, Any]:
        arm = {"name": "A", "nme": {"mean": nme}}
        blocks = [{"budget": str(n), "arms": [{**arm, "labels": n}], "paired": []} for n in (4, 8)]
        return {"name": name, "role": "test", "blocks": blocks}

    names = ["лица test", "лица, test", "d test"]
    result = {"sets": [one(name, 0.1 * i) for i, name in enumerate(names, start=1)]}
    assert list(curve_names(result).values()) == ["nme_лица-test.png", "nme_лица-test-2.png", "nme_d-test.png"]


@pytest.mark.parametrize(
    ("difference", "low", "high", "said"),
    [
        (-0.5, -0.7, -0.3, "AVS(A), the best arm on d val, pays here, by 0.50 points (0.30 to "
                           "0.70; 3 seeds), against A."),
        (+0.2, +0.1, +0.3, "AVS(A), the best arm on d val, does not pay here: it costs 0.20 points (0.10 to "
                           "0.30; 3 seeds), against A."),
        (-0.1, -0.3, +0.1, "AVS(A), the best arm on d val, does not surely pay here: -0.10 points (-0.30 to "
                           "+0.10; 3 seeds), against A."),
    ],
)  # fmt: skip
def test_the_verdict_is_on_the_arm_chosen_on_val(difference: float, low: float, high: float, said: str) -> None:
    rows = [{"name": "A", "plain": None}, {"name": "A, jitter", "plain": "A"}, {"name": "AVS(A)", "plain": "A"}]

    def block(nme: list[float]) -> dict[str, Any]:
        arms = [
            {"name": row["name"], "nme": {"mean": mean / 100}, "mean_shape_nme": 0.10}
            for row, mean in zip(rows, nme, strict=True)
        ]
        found = {"difference": difference / 100, "low": low / 100, "high": high / 100, "common_seeds": [0, 1, 2]}
        return {
            "budget": "all",
            "arms": arms,
            "paired": [{"arm": r["name"], "baseline": "A", **found} for r in rows[1:]],
        }

    val = {"role": "val", "name": "d val", "blocks": [block([5.0, 4.9, 4.8])]}
    test = {"role": "test", "name": "d test", "blocks": [block([5.0, 4.0, 4.5])]}  # here jitter is best: not asked
    assert verdicts({"rows": rows, "sets": [val, test]}, test, test["blocks"][0]) == [said]
    (alone,) = verdicts({"rows": rows, "sets": [test]}, test, test["blocks"][0])
    assert alone.startswith("A, jitter, the best arm on d test, these very faces, ")
    assert verdicts({"rows": rows[:1], "sets": [val]}, val, {**val["blocks"][0], "paired": []}) == []


@pytest.mark.parametrize(
    ("seeds", "nme", "mean_shape", "lacking"),
    [
        (1, 5.0, 10.0, "it takes at least 3 seeds of both."),
        (2, 5.0, 10.0, "it takes at least 3 seeds of both."),
        (3, 5.1, 10.0, "A has not learnt (NME 5.10 % on d val, expected at most half of the mean shape's 10.00 %; "
                       "train it longer)."),
        (1, 9.0, 10.0, "it takes at least 3 seeds of both and A has not learnt (NME 9.00 % on d val, expected at most "
                       "half of the mean shape's 10.00 %; train it longer)."),
        (3, 5.0, None, "the study was scored before the mean shape's error was measured (the same command does it)."),
        (3, 5.0, 10.0, None),
    ],
)  # fmt: skip
def test_no_verdict_without_seeds_and_a_base_that_has_learnt(
    seeds: int, nme: float, mean_shape: float | None, lacking: str | None
) -> None:
    rows = [{"name": "A", "plain": None}, {"name": "AVS(A)", "plain": "A"}]
    arms: list[dict[str, Any]] = [
        {"name": "A", "nme": {"mean": nme / 100}}, {"name": "AVS(A)", "nme": {"mean": nme / 100 - 0.0418}}
    ]  # fmt: skip
    if mean_shape is not None:
        arms[0]["mean_shape_nme"] = mean_shape / 100
    pair = {
        "arm": "AVS(A)", "baseline": "A", "difference": -0.0418, "low": -0.05, "high": -0.04,
        "common_seeds": list(range(seeds)),
    }  # fmt: skip
    val = {"role": "val", "name": "d val", "blocks": [{"budget": "all", "arms": arms, "paired": [pair]}]}
    (said,) = verdicts({"rows": rows, "sets": [val]}, val, val["blocks"][0])  # type: ignore[index]
    if lacking is None:
        assert "pays here, by 4.18 points" in said
    else:
        assert "pays here" not in said
        assert "differs from A by -4.18 points (-5.00 to -4.00; " in said
        assert said.endswith(f"whether it pays cannot be said yet: {lacking}")


def test_the_mean_shapes_error_is_the_mean_of_the_training_faces_in_each_crop(data: Path, done: Path) -> None:
    main(study_of(data, done, seeds=[0, 1]), Here())
    faces = {split: FaceDataset.open(data).select(split) for split in ("train", "val")}

    def placed(landmarks: np.ndarray) -> tuple[np.ndarray, float]:  # the centre and side of a face's crop
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        return (low + high) / 2, float((high - low).max())

    shape = np.mean([(p - placed(p)[0]) / placed(p)[1] for p in faces["train"].landmarks_array()], axis=0)
    errors = []
    for landmarks in faces["val"].landmarks_array():
        centre, side = placed(landmarks)
        distances = np.linalg.norm(shape * side + centre - landmarks, axis=1)
        errors.append(distances.mean() / np.linalg.norm(landmarks[60] - landmarks[72]))
    val = json.loads((done / "study.json").read_text())["sets"][0]
    assert val["blocks"][0]["arms"][0]["mean_shape_nme"] == pytest.approx(np.mean(errors), rel=1e-3)


def test_columns_are_full_and_the_subsets_in_the_published_order(data: Path, done: Path) -> None:
    main(study_of(data, done, seeds=[0, 1]), Here())
    header = next(line for line in (done / "study.md").read_text().splitlines() if "| full (" in line)
    names = [cell.split(" (")[0] for cell in header.split("| ")[6:]]
    published = ["full", "pose", "expression", "illumination", "make-up", "occlusion", "blur"]
    assert names == [name for name in published if name in names]
    assert len(names) > 3


def test_the_list_says_on_which_machine_a_cell_is_or_was(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_of(data, tmp_path / "o", list=True)
    first, second = plan(study)
    first.run.parent.mkdir(parents=True)
    first.run.with_name("s0.node.json").write_text(json.dumps({"node": "node7", "status": 143}))
    with alone(second.run):
        main(study)
    lines = capsys.readouterr().out.splitlines()
    assert [word in line for word, line in zip(("node7", platform.node()), lines[-4:-2], strict=True)] == [True, True]


def test_a_cluster_that_is_not_there_is_said_before_anything_is_made(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^--on slurm"):
        main(study_of(data, tmp_path / "o", on="slurm"), Here())
    assert not (tmp_path / "o").exists()


def test_what_rows_need_may_lie_beside_the_study(tmp_path: Path) -> None:
    detectors = {"A": {"pretrained": "{beside}/w.pth", "style": {"donors": ["{beside}/{budget}"]}}}
    (cell,) = plan(study_of(tmp_path / "d", tmp_path / "o" / "study", detectors=detectors))
    assert cell.config.pretrained == tmp_path / "o" / "w.pth"
    assert cell.config.style.donors == (tmp_path / "o" / "all",)


def test_an_interval_over_seeds_and_faces_holds_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.02, 0.1, (4, 300))
    assert interval_over_seeds(base + 0.01, base) == pytest.approx((0.01, 0.01))
    # Of two seeds with differences 0 and 1 on every face, the mean of two draws is 0, 1/2 or 1.
    seeds = np.zeros((2, 50)) + np.array([[0.0], [1.0]])
    assert interval_over_seeds(seeds, np.zeros_like(seeds)) == (0.0, 1.0)
    # One seed: the interval over faces.
    one = rng.normal(0.01, 0.02, (1, 300))
    found, known = interval_over_seeds(one, np.zeros_like(one)), metrics.bootstrap_mean_interval(one[0])
    assert found == pytest.approx((known.low, known.high), abs=3e-4)


def test_seconds_of_an_update_leave_out_the_gap_of_a_resumption(tmp_path: Path) -> None:
    rows = [(10, 1.0), (20, 2.0), (30, 3.0), (40, 0.5), (50, 1.6)]  # the clock began anew after step 30
    lines = [json.dumps({"step": step, "seconds": seconds}) for step, seconds in rows]
    lines.insert(2, json.dumps({"step": 20, "evaluate/nme": 0.1}))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    assert seconds_per_update(tmp_path) == pytest.approx(0.1)
    assert seconds_per_update(tmp_path / "none") is None


# --------------------------------------------------------------------------------------------------------------------
# Child processes


def job(tmp_path: Path, name: str, code: str) -> Job:
    return Job(name, "k", (sys.executable, "-c", code), tmp_path / f"{name}.log", 1, lambda: 0)


def test_jobs_run_side_by_side_with_a_log_each_and_a_share_of_the_cores(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    meet = (
        "import os, pathlib, time; here = pathlib.Path({here!r}); here.touch()\n"
        "while not pathlib.Path({there!r}).exists(): time.sleep(.01)\n"
        "print(os.environ['OMP_NUM_THREADS'])"
    )
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    jobs = [job(tmp_path, "A", meet.format(here=a, there=b)), job(tmp_path, "B", meet.format(here=b, there=a))]
    jobs.append(job(tmp_path, "C", "import sys; print('said much'); print('why it failed'); sys.exit(2)"))
    jobs.append(job(tmp_path, "D", "import os; os.kill(os.getpid(), 9)"))
    failed = run_jobs(jobs, Pool(2), "test")
    assert set(failed) == {"C", "D"}
    assert failed["C"] == "why it failed"
    assert "signal 9" in failed["D"]
    assert last_line(tmp_path / "A.log") == str(max(1, len(os.sched_getaffinity(0)) // 2))


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_an_interrupted_study_leaves_no_process_behind(tmp_path: Path, how: str) -> None:
    child = (
        f"import os, time; pid = {str(tmp_path / 'pid')!r}; open(pid + '.new', 'w').write(str(os.getpid())); "
        "os.rename(pid + '.new', pid); time.sleep(60)"
    )
    code = (
        # A shell starts what it runs in the background deaf to SIGINT, and Python keeps it so.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, pathlib; from stylealign.training.fan_out import Job, run_jobs\n"
        "from stylealign.training.processes import Pool\n"
        f"run_jobs([Job('x', 'k', (sys.executable, '-c', {child!r}), pathlib.Path({str(tmp_path / 'log')!r}), 1, "
        "lambda: 0)], Pool(1), 'test')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    parent.send_signal(getattr(signal, how))
    _, said = parent.communicate(timeout=30)
    assert (b"KeyboardInterrupt" if how == "SIGINT" else b"Stopped: 15") in said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_a_killed_study_has_started_ends_and_the_next_study_waits_for_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL tells no child; the child, which sees its standard input end, is interrupted as by hand."""
    pid, out = tmp_path / "pid", tmp_path / "out"
    child = (
        "import os, time; from stylealign.training.processes import end_with_parent; end_with_parent()\n"
        f"open({str(pid)!r} + '.new', 'w').write(str(os.getpid())); os.rename({str(pid)!r} + '.new', {str(pid)!r})\n"
        "try: time.sleep(60)\n"
        f"finally: time.sleep(1); open({str(tmp_path / 'ended')!r}, 'w').close()"
    )
    code = (
        "import sys, pathlib; from stylealign.training.fan_out import Job, run_jobs\n"
        "from stylealign.training.processes import Pool\n"
        "from stylealign.data.atomic import alone\n"
        f"with alone(pathlib.Path({str(out)!r}), with_children=True):\n"
        f"    run_jobs([Job('x', 'k', (sys.executable, '-c', {child!r}), pathlib.Path({str(tmp_path / 'log')!r}), 1, "
        "lambda: 0)], Pool(1), 'test')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 30
    while not pid.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    with alone(out):
        assert (tmp_path / "ended").exists()
        assert "waiting until what it has started ends too" in capfd.readouterr().err
    assert "KeyboardInterrupt" in (tmp_path / "log").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"pid", "log", "ended"}
