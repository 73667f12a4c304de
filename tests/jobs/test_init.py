"""`init`: mirror twins guessed from shapes; other jobs take what it writes; the tutorial's blocks run as they stand."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from builders.dots import dots
from builders.places import ROOT
from stylealign.cli import main
from stylealign.config import read_yaml
from stylealign.face import geometry
from stylealign.face.mirror import flip_pairs, mirror_twins
from stylealign.face.schema import SCHEMAS, convert
from stylealign.toyfaces import landmarks, random_structure

TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.fixture(scope="module")
def shapes() -> np.ndarray:
    return np.stack([landmarks(random_structure(np.random.default_rng(seed)), 256) for seed in range(40)])


def pairs_of(schema: str) -> set[tuple[int, int]]:
    return {(min(pair), max(pair)) for pair in SCHEMAS[schema].flip_pairs}


@pytest.mark.parametrize("schema", ["wflw98", "ibug68", "five"])
@pytest.mark.parametrize("num", [10, 40])
def test_the_twins_of_known_mark_ups_are_found(shapes: np.ndarray, schema: str, num: int) -> None:
    points = shapes[:num] if schema == "wflw98" else np.stack([convert(s, "wflw98", schema) for s in shapes[:num]])
    twins, residual = mirror_twins(points)
    assert set(flip_pairs(twins)) == pairs_of(schema)
    assert np.array_equal(twins[twins], np.arange(len(twins)))
    assert residual < 0.03


def test_numbering_size_place_and_a_turn_of_the_camera_change_nothing(shapes: np.ndarray) -> None:
    order = np.random.default_rng(0).permutation(98)
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    twins, _ = mirror_twins(3 * shapes[:, order] @ turn + 50)
    found = {(min(p), max(p)) for p in ((int(order[i]), int(order[j])) for i, j in flip_pairs(twins))}
    assert found == pairs_of("wflw98")


@pytest.mark.parametrize("schema", ["wflw98", "ibug68", "five"])
@pytest.mark.parametrize("degrees", [-20, 45, 90, 130, 180, 250])
def test_twins_are_found_however_faces_lie(shapes: np.ndarray, schema: str, degrees: float) -> None:
    turn = geometry.rotate_scale_affine((0.0, 0.0), degrees, 1.0)
    points = [shape if schema == "wflw98" else convert(shape, "wflw98", schema) for shape in shapes]
    twins, residual = mirror_twins(np.stack([geometry.apply(turn, each) for each in points]))
    assert set(flip_pairs(twins)) == pairs_of(schema)
    assert residual < 0.03


def test_three_points_by_hand() -> None:
    twins, residual = mirror_twins(np.array([[[0.0, 0.0], [5.0, 8.0], [10.0, 0.0]]]))
    assert twins.tolist() == [2, 1, 0]
    assert residual < 1e-9


def test_points_of_one_place_are_told_apart_by_how_they_move() -> None:
    def mouth(open_by: float) -> list[list[float]]:  # upper lip's edge and the lower's, which moves: left, then right
        return [[-4, 0], [4, 0], [-2, -5], [2, -5], [-1, 2], [-1, 2.1 + open_by], [1, 2 + open_by], [1, 2.1]]

    twins, _ = mirror_twins(np.array([mouth(open_by) for open_by in (-1.0, -0.5, 0.0, 0.5, 1.0)]))
    assert twins.tolist() == [1, 0, 3, 2, 7, 6, 5, 4]


def test_two_points_of_the_midline_beside_each_other_are_no_twins() -> None:
    points = [[-1.0, 0.0], [1.0, 0.0], [-0.5, 1.0], [0.5, 1.0], [0.015, 2.0], [-0.015, 2.0]]  # lips that touch
    twins, _ = mirror_twins(np.array([points]))
    assert twins.tolist() == [1, 0, 3, 2, 4, 5]


def test_the_tutorial_s_blocks_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With fewer faces and updates; everything else is what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"```(bash|python)\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["bash", "python", "bash", "bash", "bash", "bash", "bash"]

    def said_by_init() -> str:
        return (tmp_path / "my-data_stylealign" / "commands.sh").read_text(encoding="utf-8")

    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "tutorial", "exec"), {})
            continue
        for line in text.replace("--count 300", "--count 24").replace(" \\\n  ", " ").splitlines():
            program, *words = shlex.split(line)
            if program == "cp":
                assert words[0] == "-r"
                import shutil

                shutil.copytree(words[1], words[2])
                continue
            assert program == "stylealign"
            if words[0] == "fit":  # test_fit.py runs one
                words += ["--dry-run"]
            if words[0] == "train-finder" or "--finder" in words:  # of what fit made, which was not run here
                words += ["--dry-run"]
            elif words[0] == "predict":
                words[1] = shlex.split(said_by_init().splitlines()[-1])[2]
                words += ["--no-check"]  # after two updates it answers no face
            if words[0] == "train-detector":
                words += [
                    "--loop.steps",
                    "2",
                    "--loop.batch-size",
                    "4",
                    "--resnet.width",
                    "4",
                    "--crop.size",
                    "32",
                    "--loop.accelerator",
                    "cpu",
                ]
            assert main(words) == 0, capsys.readouterr().err
    made = tmp_path / "my-data_stylealign"
    assert (made / "evaluation" / "evaluation.md").exists()
    assert (made / "pairs.png").exists()
    schema = read_yaml(made / "schema.yaml")
    order = [0, 8, 16, 24, 32, 33, 37, 42, 46, 54, 55, 57, 59, 60, 64, 68, 72, 76, 79, 82, 85, 96, 97]
    known = pairs_of("wflw98")
    assert schema["num_points"] == 23
    assert {tuple(sorted((order[a], order[b]))) for a, b in schema["flip_pairs"]} == {
        p for p in known if set(p) <= set(order)
    }
    # What the page shows is what was printed.
    said = (made / "commands.sh").read_text(encoding="utf-8").replace(f"{made.absolute()}/", "my-data_stylealign/")
    for line in "".join(text for _, text in blocks[-2:]).replace(" \\\n  ", " ").splitlines():
        assert re.sub(r"my-data/\S+", "", line) in re.sub(r"\S*my-data/\S+|# .*", "", said)
    assert (made / "detector.onnx").exists()
    assert (made / "predictions" / "predictions.jsonl").read_text(encoding="utf-8").count("\n") == 1

    # What is wrong is said, and nothing is written.
    before = sorted(tmp_path.iterdir())
    for words, sentence in (
        ("init my-data --out x --points 22", "my-data: 23 points a face, not the 22 of --points"),
        ("init my-data", "my-data_stylealign: already there"),
        ("init my-data --out x --eyes 3 30", "expected two different landmarks from 0 to 22"),
        ("init nowhere", "nowhere: no such file or folder"),
        ("init cache", "found no annotation"),
        ("init my-data_stylealign/data --out x", "a data set folder already, expected annotations as they were made"),
    ):
        assert main(words.split()) == 2
        assert sentence in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_pts_files_that_disagree_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, count in (("a", 3), ("b", 4)):
        (tmp_path / f"{name}.pts").write_text("\n".join(f"{i} {i + 1}" for i in range(count)) + "\n")
    assert main(["init", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert "numbers of points differ" in said
    assert "a.pts" in said
    assert "b.pts" in said
    assert not (tmp_path / "x").exists()


def test_faces_without_boxes_and_without_eyes_are_measured_by_their_landmarks_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path / "cache"))
    faces = dots(tmp_path / "made", 12)
    rows = []
    for sample in faces:
        target = tmp_path / "my-data" / sample.image.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(sample.image.read_bytes())
        rows.append(",".join([target.name, *(f"{v:.3f}" for v in np.ravel(sample.landmarks))]))
    head = ",".join(["image", *(f"{axis}{i}" for i in range(5) for axis in "xy")])
    (tmp_path / "my-data" / "labels.csv").write_text("\n".join([head, *rows]) + "\n")
    assert main(["init", "my-data"]) == 0, capsys.readouterr().err
    short = ["--loop.steps", "2", "--loop.batch-size", "4", "--loop.preview-every", "0", "--loop.accelerator", "cpu"]
    for line in (tmp_path / "my-data_stylealign" / "commands.sh").read_text().splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["stylealign"]:
            more = short if words[1] == "train-detector" else []
            assert main([*words[1:], *more]) == 0, capsys.readouterr().err
    (found,) = (tmp_path).rglob("evaluation.json")
    assert json.loads(found.read_text())["denominator"] == "landmark_box"
