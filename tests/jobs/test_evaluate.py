"""The job evaluate: numbers that are known beforehand, files that are complete, faults that are refused."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.answers import predict
from builders.dots import dots
from builders.many_faces import LIPS, many_as_dataset, many_faces, with_lips_marked_elsewhere
from builders.places import DATA, SRC
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.describe import describe
from stylealign.data.image import write_image
from stylealign.data.predictions import write_predictions
from stylealign.errors import UserError
from stylealign.evaluation.metrics import auc, failure_rate
from stylealign.face.sample import FaceSample, Prediction
from stylealign.face.schema import FIVE, IBUG68, WFLW98, convert
from stylealign.jobs.evaluate import job
from stylealign.jobs.evaluate.arms import ArmPaths, num_learnt_from, pairs_of, parse_arms
from stylealign.jobs.evaluate.job import Evaluate, curve_end, evaluate, main
from stylealign.jobs.evaluate.tables import protocol_line, tables
from stylealign.jobs.prepare import Prepare
from stylealign.jobs.prepare import main as prepare
from stylealign.jobs.stress import Stress
from stylealign.jobs.stress import main as make_harder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 faces, 8 of them `test`, 3 of those `pose`; predictions off by 1 % and by 3 % of the eye distance."""
    root = tmp_path_factory.mktemp("evaluate")
    data = dots(
        root / "data", 12, splits=("test", "test", "train"), name="d", attributes={"pose": ("d0", "d1", "d3", "d2")}
    )
    for name, error in (("good", 0.01), ("bad", 0.03), ("bad_s1", 0.05)):
        predict(root / f"{name}.jsonl", data, error)
    return root


def test_the_curve_ends_where_papers_end_it_unless_there_is_nothing_to_see() -> None:
    usual, poor = np.array([0.03, 0.05, 0.2]), np.array([0.15, 0.16, 0.4])
    assert curve_end({"a": usual, "b": poor}) == 0.10
    assert curve_end({"b": poor, "c": 2 * poor}) == 0.5


def test_errors_known_beforehand_come_out(folder: Path, tmp_path: Path) -> None:
    arms = (f"good={folder}/good.jsonl", f"bad={folder}/bad.jsonl", f"bad={folder}/bad_s1.jsonl")
    found = evaluate(Evaluate(data=folder / "data", arms=arms, out=tmp_path / "out", draw=2, resamples=200))
    good, bad = found["arms"]
    assert found["denominator"] == "inter_pupil"
    assert (found["dataset"]["faces"], good["seeds"], bad["seeds"]) == (8, 1, 2)
    assert good["nme"]["mean"] == pytest.approx(0.01, rel=1e-3)
    assert good["nme"]["sd"] is None
    assert bad["nme"]["mean"] == pytest.approx(0.04, rel=1e-3)  # mean over the two seeds, 0.03 and 0.05
    assert bad["nme"]["sd"] == pytest.approx(0.02 / np.sqrt(2), rel=1e-3)
    assert good["auc"]["0.10"]["mean"] == pytest.approx(0.9, rel=1e-3)
    assert good["failure_rate"]["0.08"]["mean"] == 0
    assert good["mean_offset_px"][0] > 0.1
    assert good["mean_offset_px"][1] == pytest.approx(0, abs=1e-3)
    assert {name: part["mean"] for name, part in good["parts"].items()} == pytest.approx(
        dict.fromkeys(("nose", "eyes", "mouth"), 0.01), rel=1e-3
    )
    assert good["per_point"] == pytest.approx([0.01] * 5, rel=1e-3)
    assert good["subsets"]["pose"]["faces"] == 3  # d2 is a pose too, but of the training split
    (pair,) = found["paired"]
    assert (pair["arm"], pair["baseline"], pair["better"], pair["worse"]) == ("bad", "good", 0, 8)
    assert pair["difference"] == pytest.approx(0.03, rel=1e-3)
    assert pair["seeds"] is None  # one seed cannot be paired with two


@pytest.mark.parametrize(
    ("learnt", "split", "count"),
    [
        ({"split": "train"}, "test", 0),
        ({"split": "train"}, "train", 4),
        ({"split": "train"}, "all", 4),
        ({"split": None}, "test", 8),
        ({"split": None, "subset": "pose"}, "test", 3),
        ({"split": "train", "content_hash": "another"}, "train", 0),
    ],
)
def test_a_run_that_learnt_from_the_faces_it_is_scored_on_is_told(
    folder: Path, tmp_path: Path, learnt: dict[str, str | None], split: str, count: int
) -> None:
    data = FaceDataset.open(folder / "data")
    scored = data if split == "all" else data.select(split)
    card = {"kind": "detector", "data": [{"content_hash": data.content_hash, **learnt}]}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert num_learnt_from(tmp_path, data, set(scored.ids())) == count
    assert num_learnt_from(folder / "good.jsonl", data, set(scored.ids())) == 0
    later = {"kind": "detector", "data": [], "start": {"data": card["data"]}}  # trained on, from that one
    (tmp_path / "card.json").write_text(json.dumps(later))
    assert num_learnt_from(tmp_path, data, set(scored.ids())) == count


def test_faces_learnt_from_are_known_in_another_data_set_too(folder: Path, tmp_path: Path) -> None:
    data = FaceDataset.open(folder / "data")
    train = list(data.select("train"))
    stress = Stress(data=data.folder, out=tmp_path / "harder", split="train", causes=("blur",), strengths=(0, 2))
    make_harder(stress)
    harder = FaceDataset.open(stress.out)
    copies = write_dataset(tmp_path / "copies", [*data][:6], schema=FIVE, name="copies")
    ids = {face.id for face in [*data][:6]}
    own = {"name": "d", "content_hash": data.content_hash, "faces": len(train), "split": "train", "subset": None}
    run = tmp_path / "run"
    run.mkdir()

    def learnt(scored: FaceDataset, described: dict[str, Any], config: dict[str, Any]) -> int:
        (run / "card.json").write_text(json.dumps({"kind": "detector", "data": [described], "config": config}))
        return num_learnt_from(run, scored, set(scored.ids()))

    there, gone = {"real": str(data.folder)}, {"real": str(tmp_path / "gone")}
    assert len(harder) == 2 * len(train)
    for config in (there, gone, {"data": [{"path": str(data.folder)}]}):
        assert learnt(harder, own, config) == len(harder)
    assert learnt(harder, {**own, "split": "test", "faces": 8}, there) == 0
    assert learnt(harder, {**own, "split": "test", "faces": 8}, gone) == 0
    assert learnt(harder, {**own, "subset": "few"}, gone) == 0  # which of them, nobody knows any more
    shared = sum(face.id in ids for face in train)
    assert 0 < shared < len(copies)
    assert learnt(copies, own, there) == shared  # by their pictures
    assert learnt(copies, own, gone) == 0
    # The other way round: faces that a training learnt from were made from those scored on.
    made: dict[str, Any] = {"name": "h", "content_hash": harder.content_hash, "faces": len(harder), "role": "synthetic"}
    for split, count in (("train", len(train)), ("test", 0)):
        assert learnt(data.select(split), made, {"synthetic": str(harder.folder)}) == count
    assert learnt(data.select("train"), {**made, "faces": 3}, {"synthetic": str(harder.folder)}) == 0  # which 3?


def test_the_tables_say_who_learnt_from_the_faces_scored_on(folder: Path, tmp_path: Path) -> None:
    found = evaluate(
        Evaluate(data=folder / "data", arms=(f"good={folder}/good.jsonl",), out=tmp_path / "out", draw=0, resamples=100)
    )
    assert "Learnt from" not in protocol_line(found)
    found["arms"][0]["learnt_from"] = 3
    assert "Learnt from these very faces: good from 3 of 8; its error says little of others." in protocol_line(found)


@pytest.mark.parametrize("encoding", ["ascii", "ascii:replace", "cp1252"])
def test_a_terminal_that_lacks_a_letter_is_told_all_the_same(folder: Path, tmp_path: Path, encoding: str) -> None:
    arms = [f"günther\u2713={folder}/bad.jsonl", f"günther\u2713={folder}/bad_s1.jsonl"]
    command = ["evaluate", "--data", f"{folder}/data", "--arms", *arms, "--out", f"{tmp_path}/out", "--draw", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "stylealign", *command, "--resamples", "100"], capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(SRC), "PYTHONIOENCODING": encoding, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"fault" not in done.stderr
    shown = {
        "ascii": (r"g\xfcnther\u2713", "4.00 +- 1.41"), "ascii:replace": ("g?nther?", "4.00 ? 1.41"),
        "cp1252": (r"günther\u2713", "4.00 ± 1.41"),
    }  # fmt: skip
    name, spread = shown[encoding]
    assert name in done.stdout.decode(encoding.split(":")[0])
    assert spread in done.stdout.decode(encoding.split(":")[0])
    assert "4.00 ± 1.41" in (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")


def test_the_output_folder_is_complete_and_says_the_same_everywhere(folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    main(Evaluate(data=folder / "data", arms=(f"g|1={folder}/good.jsonl",), out=out, draw=2, resamples=200))
    names = {
        "evaluation.json",
        "evaluation.md",
        "ced.png",
        "per_point.png",
        "worst.png",
        "median.png",
        "best.png",
        "per_face.csv",
    }
    assert {p.name for p in out.iterdir()} == names | {"predictions_g-1_0.jsonl"}
    assert not (tmp_path / "out.partial").exists()
    markdown = (out / "evaluation.md").read_text(encoding="utf-8")
    shown = capsys.readouterr().out  # the first tables, drawn for a terminal
    assert "g|1" in shown
    assert "1.000" in shown
    assert "| g\\|1 | 1 | 1.000 |" in markdown
    with (out / "per_face.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "g|1#0"]
    assert len(rows) == 9
    assert [float(row[1]) for row in rows[1:]] == pytest.approx([0.01] * 8, rel=1e-3)
    # What it writes, it reads: the same predictions give the same numbers.
    again = evaluate(
        Evaluate(
            data=folder / "data", arms=(f"x={out}/predictions_g-1_0.jsonl",), out=tmp_path / "2", draw=0, resamples=200
        )
    )
    saved = json.loads((out / "evaluation.json").read_text())
    assert again["arms"][0]["nme"]["mean"] == pytest.approx(saved["arms"][0]["nme"]["mean"], abs=1e-6)
    assert not (tmp_path / "2" / "worst.png").exists()


def test_measured_thirds_are_subsets_with_paired_differences_of_their_own(folder: Path, tmp_path: Path) -> None:
    arms = (f"good={folder}/good.jsonl", f"bad={folder}/bad.jsonl")
    found = evaluate(Evaluate(data=folder / "data", arms=arms, out=tmp_path / "o", thirds=True, draw=0, resamples=200))
    assert set(found["arms"][0]["subsets"]) == {"pose", "dark third", "blurred third", "patchy third"}
    assert found["arms"][0]["subsets"]["dark third"]["faces"] == 3  # of 8
    (pair,) = found["paired"]
    assert {name: part["difference"] for name, part in pair["subsets"].items()} == pytest.approx(
        dict.fromkeys(found["arms"][0]["subsets"], 0.02), rel=1e-3
    )
    (shown,) = (table for table in tables(found) if table.title == "Paired differences per subset")
    assert shown.rows[0][:2] == ("bad - good", "+2.00 (+2.00 to +2.00)")


def test_the_full_set_and_its_subsets_stand_in_one_table(folder: Path, tmp_path: Path) -> None:
    arms = (f"good={folder}/good.jsonl", f"bad={folder}/bad.jsonl")
    found = evaluate(Evaluate(data=folder / "data", arms=arms, out=tmp_path / "o", thirds=True, draw=0, resamples=200))
    subsets = [table for table in tables(found) if table.title.endswith("% per subset")]
    assert [table.title for table in subsets] == ["NME % per subset", "FR@10 % per subset", "AUC@10 % per subset"]
    for table, figure in zip(subsets, ("nme", "failure_rate", "auc"), strict=True):
        assert [name.split(" (")[0] for name in table.header[:3]] == ["arm", "full", "pose"]  # published ones first
        for row, arm in zip(table.rows, found["arms"], strict=True):
            value = arm[figure] if figure == "nme" else arm[figure]["0.10"]
            assert row[1] == f"{100 * value['mean']:.2f}"
            assert len(row) == len(table.header)


def test_every_table_says_what_it_was_measured_on(folder: Path, tmp_path: Path) -> None:
    arms = (f"a={folder}/good.jsonl", f"b={folder}/bad.jsonl")
    found = evaluate(
        Evaluate(data=folder / "data", arms=arms, out=tmp_path / "o", subset="pose", draw=0, resamples=200)
    )
    shown = tables(found)
    assert {t.title for t in shown} >= {"Errors", "Paired comparison", "NME % per subset", "NME % per facial part"}
    for table in shown:
        for fact in (
            "d, ",
            "split test",
            "subset pose",
            "3 faces",
            "inter_pupil",
            "Crop: not stated",
            "Seeds: 1",
            "five",
        ):
            assert fact in table.note, (table.title, fact)
        assert all(len(row) == len(table.header) for row in table.rows)


def test_seeds_of_two_arms_are_paired_in_order(folder: Path, tmp_path: Path) -> None:
    arms = (f"a={folder}/good.jsonl", f"a={folder}/bad.jsonl", f"b={folder}/bad*.jsonl")
    found = evaluate(Evaluate(data=folder / "data", arms=arms, out=tmp_path / "o", draw=0, resamples=200, baseline="b"))
    (pair,) = found["paired"]
    # 0.01 - 0.03 and 0.03 - 0.05
    assert pair["seeds"] == {
        "mean": pytest.approx(-0.02, rel=1e-3),
        "standard_error": pytest.approx(0, abs=1e-5),
        "pairs": 2,
    }


def test_three_seeds_have_an_interval_over_faces_and_seeds(folder: Path, tmp_path: Path) -> None:
    for i, error in enumerate((0.02, 0.025, 0.06)):
        predict(tmp_path / f"a{i}.jsonl", FaceDataset.open(folder / "data"), error)
    names = ("good", "bad", "bad_s1")
    arms = (*(f"a={tmp_path}/a{i}.jsonl" for i in range(3)), *(f"b={folder}/{name}.jsonl" for name in names))
    common = {"data": folder / "data", "draw": 0, "resamples": 500, "baseline": "b"}
    found = evaluate(Evaluate(arms=arms, out=tmp_path / "o", **common))
    (pair,) = found["paired"]
    assert pair["difference"] == pytest.approx(0.005, rel=1e-2)  # of the seeds: +0.010, -0.005, +0.010
    assert pair["low"] > 0  # every face has the same error
    over = pair["over_seeds"]
    assert [over["low"], over["high"], over["seeds"]] == pytest.approx([-0.005, 0.01, 3], rel=1e-3)
    (table,) = (table for table in tables(found) if table.title == "Paired comparison")
    assert (table.header[-1], table.rows[0][-1]) == ("95 % over faces and seeds", "-0.500 to +1.000")
    fewer = evaluate(Evaluate(arms=(*arms[:2], *arms[3:5]), out=tmp_path / "p", **common))
    assert fewer["paired"][0]["over_seeds"] is None
    (table,) = (table for table in tables(fewer) if table.title == "Paired comparison")
    assert table.header[-1] == "seed pairs, mean ± s.e."


def test_runs_are_paired_by_the_seeds_that_their_cards_name(tmp_path: Path) -> None:
    def arm(name: str, *seeds: int | None) -> ArmPaths:
        paths = []
        for i, seed in enumerate(seeds):
            path = tmp_path / f"{name}{i}"
            path.mkdir()
            config = {} if seed is None else {"config": {"loop": {"seed": seed}}}
            (path / "card.json").write_text(json.dumps({"kind": "detector", **config}))
            paths.append(path)
        return ArmPaths(name, tuple(paths))

    def files(name: str, count: int) -> ArmPaths:
        return ArmPaths(name, tuple(tmp_path / f"{name}{i}.jsonl" for i in range(count)))

    ours = arm("ours", 10, 2, 1)
    assert pairs_of(ours, arm("theirs", 1, 10, 2)) == [(2, 0), (1, 2), (0, 1)]
    for other in (arm("fewer", 1, 2), arm("others", 1, 2, 3), arm("silent", 1, 2, None), arm("twice", 1, 2, 2)):
        assert pairs_of(ours, other) == pairs_of(other, ours) == []
    assert pairs_of(ours, files("f", 3)) == []
    assert pairs_of(files("f", 3), files("g", 3)) == [(0, 0), (1, 1), (2, 2)]
    assert pairs_of(files("f", 3), files("g", 2)) == []


def test_the_curve_of_several_seeds_has_the_rates_of_the_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, np.ndarray] = {}
    monkeypatch.setattr(job, "ced_plot", lambda curves, path, limit, title: drawn.update(curves))
    data = FaceDataset.open(folder / "data")
    predict(tmp_path / "far.jsonl", data, 0.19)
    arms = (f"a={folder}/good.jsonl", f"a={tmp_path}/far.jsonl")
    (arm,) = evaluate(Evaluate(data=folder / "data", arms=arms, out=tmp_path / "o", draw=0, resamples=200))["arms"]
    assert arm["failure_rate"]["0.10"]["mean"] == 0.5  # none of the errors averaged over the seeds is above 0.10
    assert failure_rate(drawn["a"], 0.10) == 0.5
    assert auc(drawn["a"], 0.10) == pytest.approx(arm["auc"]["0.10"]["mean"]) == pytest.approx(0.45, rel=1e-3)


def test_pictures_and_printed_sizes_do_not_depend_on_the_numbers_of_missing_landmarks(tmp_path: Path, capsys) -> None:
    base = list(dots(tmp_path / "base", 4, splits=("test",)))
    answers = [Prediction(id=face.id, landmarks=np.add(face.landmarks, (1, 0))) for face in base]
    write_predictions(tmp_path / "p.jsonl", answers, "five")
    pictures, said = [], []
    for i, far in enumerate(((0, 0), (4000, -3000))):
        faces = []
        for k, face in enumerate(base):
            there = np.arange(5) != (4 if k % 2 else 9)
            landmarks = np.where(there[:, None], face.landmarks, far)
            faces.append(replace(face, landmarks=landmarks, visible=there, point_trust=there.astype(np.float32)))
        data = write_dataset(tmp_path / f"data{i}", faces, schema=FIVE, name="d")
        out = tmp_path / f"out{i}"
        evaluate(Evaluate(data=data.folder, arms=(f"p={tmp_path}/p.jsonl",), out=out, draw=2, resamples=100))
        pictures.append({path.name: path.read_bytes() for path in sorted(out.glob("*.png"))})
        capsys.readouterr()
        describe(data)
        said.append(capsys.readouterr().out)
    assert list(pictures[0]) == ["best.png", "ced.png", "median.png", "per_point.png", "worst.png"]
    assert pictures[0] == pictures[1]
    assert "longer side" in said[0]
    assert said[0] == said[1]


def test_the_mean_face_is_that_of_the_labels_that_are_there() -> None:
    shape = np.array([[-1.0, -1], [1, -1], [0, 0.5], [-1, 1.5], [1, 1.5]])
    labels = np.stack([shape * size + (50, 70) for size in (10, 20, 40)])
    whole = job._mean_shape(labels)
    labels[0, 0] = labels[1, 4] = np.nan
    assert job._mean_shape(labels) == pytest.approx(whole, abs=1e-4)
    labels[:, 2] = np.nan
    assert np.isnan(job._mean_shape(labels)).all(axis=1).tolist() == [False, False, True, False, False]


def test_a_named_denominator_and_a_split_are_obeyed(folder: Path, tmp_path: Path) -> None:
    config = Evaluate(
        data=folder / "data",
        arms=(f"{folder}/good.jsonl",),
        out=tmp_path / "o",
        denominator="box",
        split="all",
        draw=0,
        resamples=200,
    )
    found = evaluate(config)
    assert found["dataset"]["faces"] == 12
    data = FaceDataset.open(folder / "data")
    pupils = np.linalg.norm(data.landmarks_array()[:, 0] - data.landmarks_array()[:, 1], axis=-1)
    assert found["arms"][0]["nme"]["mean"] == pytest.approx((0.01 * pupils / 50).mean(), rel=1e-3)  # boxes of 50 x 50
    assert found["arms"][0]["name"] == "good"


def test_only_visible_landmarks_count_when_asked(tmp_path: Path) -> None:
    base = dots(tmp_path / "base", 2, splits=("test",))
    visible = np.array([True, True, True, False, True])
    seen = [FaceSample(id=s.id, image=s.image, landmarks=s.landmarks, visible=visible, split="test") for s in base]
    write_dataset(tmp_path / "seen", seen, schema=FIVE, name="seen")
    answers = []
    for sample in base:
        landmarks = np.array(sample.landmarks)
        landmarks[3] += 20
        answers.append(Prediction(id=sample.id, landmarks=landmarks))
    write_predictions(tmp_path / "p.jsonl", answers, "five")
    common = {"arms": (f"{tmp_path}/p.jsonl",), "draw": 0, "resamples": 200}
    all_points = evaluate(Evaluate(data=tmp_path / "seen", out=tmp_path / "1", **common))["arms"][0]
    some = evaluate(Evaluate(data=tmp_path / "seen", out=tmp_path / "2", visible_only=True, **common))["arms"][0]
    assert all_points["nme"]["mean"] > 0.1
    assert some["nme"]["mean"] == pytest.approx(0, abs=1e-5)
    assert some["per_point"][3] is None
    assert all_points["mean_offset_px"] == pytest.approx([4, 4], rel=1e-4)  # 20 px in one of five landmarks
    assert some["mean_offset_px"] == pytest.approx([0, 0], abs=1e-3)
    with pytest.raises(UserError, match=r"do(es)? not say which landmarks are visible, first 'dots0'"):
        evaluate(Evaluate(data=tmp_path / "base", out=tmp_path / "3", visible_only=True, **common))


def test_an_existing_folder_is_refused_before_any_work(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="already there; choose another --out"):
        evaluate(Evaluate(data=tmp_path / "nowhere", arms=("x",), out=folder))


def test_arms_are_named_globbed_and_kept_apart(tmp_path: Path) -> None:
    for name in ("run_s0", "run_s1", "run_s2.partial", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "predictions.jsonl").touch()
    arms = parse_arms([f"ours={tmp_path}/run_s*", f"{tmp_path}/other/predictions.jsonl"])
    assert [(a.name, [p.name for p in a.paths]) for a in arms] == [
        ("ours", ["run_s0", "run_s1"]),
        ("other", ["predictions.jsonl"]),
    ]
    assert [a.name for a in parse_arms([f"{tmp_path}/run_s*"])] == ["run_s0", "run_s1"]
    for texts, message in (
        ([f"x={tmp_path}/none*"], "no finished"),
        ([f"x={tmp_path}/run_s2"], "only a half-written .partial"),
        ([f"{tmp_path}/other", f"{tmp_path}/other/predictions.jsonl"], "second arm called 'other'"),
        ([f"a b={tmp_path}/other", f"a-b={tmp_path}/run_s0"], "file names cannot hold"),
    ):
        with pytest.raises(UserError, match=message):
            parse_arms(texts)
    with pytest.raises(UserError, match="baseline: no arm is called 'x'; there are 'other'"):
        evaluate(Evaluate(data=tmp_path, arms=(f"{tmp_path}/other",), out=tmp_path / "o", baseline="x"))


def test_predictions_of_another_mark_up_are_converted_only_when_asked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(10, 50, (3, 98, 2)).astype(np.float32)
    picture = dots(tmp_path / "dots", 1)[0].image
    small = convert(truth, "wflw98", "ibug68")
    faces = [FaceSample(id=f"f{i}", image=picture, landmarks=p, split="test") for i, p in enumerate(small)]
    write_dataset(tmp_path / "data", faces, schema=IBUG68, name="small")
    answers = [Prediction(id=f"f{i}", landmarks=p) for i, p in enumerate(truth)]
    write_predictions(tmp_path / "named.jsonl", answers, "wflw98")
    header = "image," + ",".join(f"x{i},y{i}" for i in range(98))
    lines = [f"f{i}," + ",".join(str(v) for v in p.ravel()) for i, p in enumerate(truth)]
    (tmp_path / "bare.csv").write_text("\n".join([header, *lines]))
    for path in (tmp_path / "named.jsonl", tmp_path / "bare.csv"):
        common = {"data": tmp_path / "data", "arms": (str(path),), "draw": 0, "resamples": 200}
        with pytest.raises(
            UserError, match=r":\d+: predictions have 98 landmarks.*dataset has 68 of schema 'ibug68'.*--convert"
        ):
            evaluate(Evaluate(out=tmp_path / "o", **common))
        found = evaluate(Evaluate(out=tmp_path / f"o_{path.stem}", convert=True, **common))
        assert found["arms"][0]["nme"]["mean"] == pytest.approx(0, abs=1e-4)
    assert not (tmp_path / "o").exists()


def test_a_run_predicts_and_its_crop_stands_in_the_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stylealign.predicting import on_datasets as module

    def perfect(run: Path, dataset: FaceDataset, *, device: object, flip_average: bool) -> module.Answers:
        return module.Answers(dataset.landmarks_array().astype(np.float64) + flip_average, None)

    monkeypatch.setattr(module, "answer_dataset", perfect)
    run = tmp_path / "run"
    run.mkdir()
    card = {"kind": "detector", "schema": FIVE.to_dict(), "crop": {"size": 32, "scale": 1.5, "box": "given"}}
    (run / "card.json").write_text(json.dumps(card))
    arms = (f"ours={run}", f"theirs={folder}/good.jsonl")
    common = {"data": folder / "data", "arms": arms, "draw": 0, "resamples": 200, "accelerator": "cpu"}
    found = evaluate(Evaluate(out=tmp_path / "o", **common))
    assert found["arms"][0]["nme"]["mean"] == 0
    assert "1.5 x the given box, 32 px" in found["arms"][0]["crop"]
    assert "theirs: not stated" in tables(found)[0].note
    twice = evaluate(Evaluate(out=tmp_path / "twice", flip=True, **common))
    assert twice["arms"][0]["nme"]["mean"] > 0
    assert twice["arms"][1]["nme"] == found["arms"][1]["nme"]
    assert "32 px, averaged with the mirrored face; theirs: not stated" in tables(twice)[0].note
    assert all("without_offset" not in arm for arm in twice["arms"])
    shifted = evaluate(Evaluate(out=tmp_path / "shifted", flip=True, offset_from="train", **common))  # off by 1 px
    less = shifted["arms"][0]["without_offset"]
    assert (less["split"], less["faces"], less["nme"]["mean"]) == ("train", 4, pytest.approx(0, abs=1e-9))
    assert less["offset_px"] == [pytest.approx(1.0), pytest.approx(1.0)]
    assert "without_offset" not in shifted["arms"][1], "a file of predictions says nothing of other faces"
    (row,) = next(table for table in tables(shifted) if table.title == "Without the constant offset").rows
    assert (row[0], *row[2:]) == ("ours", "0.000", "(+1.00, +1.00)")
    with pytest.raises(UserError, match="split"):
        evaluate(Evaluate(out=tmp_path / "p", offset_from="tarin", **common))
    (run / "card.json").write_text(json.dumps({**card, "schema": WFLW98.name}))
    with pytest.raises(UserError, match="98 landmarks of schema 'wflw98', the dataset has 5 of schema 'five'"):
        evaluate(Evaluate(out=tmp_path / "p", **common))
    (run / "card.json").write_text(json.dumps({**card, "kind": "translator"}))
    with pytest.raises(UserError, match="holds a translator, expected a detector"):
        evaluate(Evaluate(out=tmp_path / "p", **common))


def test_a_missing_picture_is_named_with_the_way_out(tmp_path: Path) -> None:
    data = dots(tmp_path / "data", 1, splits=("test",))
    predict(tmp_path / "p.jsonl", data, 0.01)
    data[0].image.unlink()
    with pytest.raises(UserError, match=r"0\.png.*--draw 0"):
        evaluate(Evaluate(data=tmp_path / "data", arms=(f"{tmp_path}/p.jsonl",), out=tmp_path / "o", resamples=200))
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_published_predictions_on_300w_common_score_as_published(tmp_path: Path) -> None:
    source = DATA / "300w"
    if not source.is_dir():
        pytest.skip("no 300-W here; STYLEALIGN_DATA names the folder that holds 300w/")
    prepare(
        Prepare(
            out=tmp_path / "common",
            reader="ibug",
            path=source,
            splits=("test=splits/test_common.txt",),
            check_images=False,
        )
    )
    expected = {"spiga": 2.587, "mobilefacenet": 3.049, "pfld": 3.297}
    arms = tuple(f"{name}={source}/predictions_{name}_common.csv" for name in expected)
    found = evaluate(Evaluate(data=tmp_path / "common", arms=arms, out=tmp_path / "out", draw=0))
    assert found["dataset"]["faces"] == 554
    assert found["denominator"] == "inter_ocular"
    assert {arm["name"]: round(100 * arm["nme"]["mean"], 3) for arm in found["arms"]} == expected
    assert all(arm["failure_rate"]["0.08"]["mean"] == 0 for arm in found["arms"])
    # The fault this guards against: counting from the wrong pixel moves every one of them.
    shifted = evaluate(Evaluate(data=tmp_path / "common", arms=arms, out=tmp_path / "o1", draw=0, pixels_from_one=True))
    for arm, name in zip(shifted["arms"], expected, strict=True):
        assert abs(100 * arm["nme"]["mean"] - expected[name]) > 0.05


def test_missing_landmarks_are_not_scored_and_no_distance_is_measured_to_them(tmp_path: Path, capsys) -> None:
    """Landmarks of trust 0 are places in the file and no landmarks: `-1 -1` in a .pts, empty cells elsewhere."""
    points = np.array([[30.0, 30], [70, 30], [50, 50], [35, 70], [65, 70]])

    def data(missing: int) -> Path:
        trust, there = np.ones(5), points.copy()
        trust[missing], there[missing] = 0, [-1, -1]
        write_image(tmp_path / "a.png", np.zeros((100, 100, 3), np.uint8))
        face = FaceSample(id="a", image=tmp_path / "a.png", landmarks=there, point_trust=trust, split="test")
        write_dataset(tmp_path / f"data{missing}", [face], schema=FIVE, name="d")
        return tmp_path / f"data{missing}"

    write_predictions(tmp_path / "p.jsonl", [Prediction(id="a", landmarks=points + np.array([2, 0]))], "five")
    found = evaluate(Evaluate(data=data(4), arms=(f"p={tmp_path}/p.jsonl",), out=tmp_path / "out", draw=0))
    (arm,) = found["arms"]
    assert arm["nme"]["mean"] == pytest.approx(2 / 40)
    assert arm["mean_offset_px"] == pytest.approx([2, 0])
    assert arm["per_point"][4] is None
    assert "1 landmark of 1 face missing" in capsys.readouterr().err
    eyeless = data(0)
    with pytest.raises(UserError, match="no face has both ends of inter_pupil"):
        evaluate(
            Evaluate(
                data=eyeless, arms=(f"p={tmp_path}/p.jsonl",), out=tmp_path / "o", draw=0, denominator="inter_pupil"
            )
        )
    found = evaluate(Evaluate(data=eyeless, arms=(f"p={tmp_path}/p.jsonl",), out=tmp_path / "o", draw=0))
    assert found["denominator"] == "landmark_box"
    assert found["arms"][0]["nme"]["mean"] == pytest.approx(2 / (35 * 40) ** 0.5)


def test_tables_say_how_many_landmarks_are_missing_and_how_many_faces_have_none(tmp_path: Path) -> None:
    base = list(dots(tmp_path / "base", 6, splits=("test",)))
    faces = [replace(base[0], landmarks=None), *base[1:4]]
    faces += [replace(face, point_trust=np.array([1, 1, 0, 0.5, k])) for k, face in enumerate(base[4:])]
    write_dataset(tmp_path / "some", faces, schema=FIVE, name="some")
    predict(tmp_path / "p.jsonl", FaceDataset.open(tmp_path / "base"), 0.01)
    common = {"arms": (f"p={tmp_path}/p.jsonl",), "draw": 0, "resamples": 100}
    found = evaluate(Evaluate(data=tmp_path / "some", out=tmp_path / "out", **common))
    assert found["dataset"]["missing"] == {"landmarks": 3, "faces": 2}  # of trust 0
    assert found["dataset"]["unlabelled"] == 1
    said = "(five), all landmarks but 3 missing ones of 2 faces, 1 face without landmarks left out. Denominator"
    assert said in protocol_line(found)
    whole = evaluate(Evaluate(data=tmp_path / "base", out=tmp_path / "whole", **common))
    assert "(five), all landmarks. Denominator" in protocol_line(whole)
    older = {key: value for key, value in whole["dataset"].items() if key not in ("missing", "unlabelled")}
    assert protocol_line({**whole, "dataset": older}) == protocol_line(whole)


def test_answers_that_lie_elsewhere_in_every_face_are_said(tmp_path: Path) -> None:
    labelled = many_faces(80)
    data = many_as_dataset(tmp_path / "data", labelled)
    noise = np.random.default_rng(0).normal(0, 1, labelled.shape)
    head = ",".join(["id", *(f"{axis}{i}" for i in range(68) for axis in "xy")])
    for name, points in (("near", labelled + noise), ("lips", with_lips_marked_elsewhere(labelled, 0.05) + noise)):
        rows = [",".join([i, *(f"{v:.3f}" for v in np.ravel(p))]) for i, p in zip(data.ids(), points, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join([head, *rows]) + "\n")
    arms = tuple(f"{name}={tmp_path / name}.csv" for name in ("near", "lips"))
    near, lips = evaluate(Evaluate(data=data.folder, split="train", arms=arms, out=tmp_path / "out"))["arms"]
    assert near["elsewhere"] == ""
    assert sorted(map(int, lips["elsewhere"].split(" by ")[0].split(", "))) == LIPS
    assert lips["elsewhere"].endswith("% of the face's size")
    assert "answers lie elsewhere than these labels: lips: " in (tmp_path / "out" / "evaluation.md").read_text()
