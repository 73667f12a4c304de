"""Scripts that pack faces and weights, and the one that uses a GPU for minutes."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.dots import dots
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import image_size
from stylealign.errors import UserError
from stylealign.face.geometry import landmark_box
from stylealign.face.schema import FIVE, SCHEMAS
from stylealign.training.seen import data_learnt
from stylealign.training.weights import read_card, read_tensors, save_model

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    out = tmp_path_factory.mktemp("faces") / "faces"
    assert main(["draw-faces", "--out", str(out), "--count", "24", "--size", "96"]) == 0
    return FaceDataset.open(out)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.mark.usefixtures("scripts")
def test_packed_crops_hold_the_faces_and_no_test_split(
    drawn: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pack_crops

    given = [f"drawn={drawn.folder}", "--out", str(tmp_path), "--size", "64"]
    monkeypatch.setattr(sys, "argv", ["pack_crops.py", *given])
    pack_crops.main()
    packed = FaceDataset.open(tmp_path / "drawn")
    assert packed.verify() == []
    assert {sample.split for sample in drawn} == {"train", "val", "test"}
    assert {sample.split for sample in packed} == {"train", "val"}
    sources = {sample.id: sample for sample in drawn}
    for sample in packed:
        source = sources[sample.id]
        assert max(image_size(sample.image)) <= 64
        assert sample.landmarks is not None
        assert source.landmarks is not None
        # A crop of 1.8 times the box: the box keeps that share of it, and the shape is only moved and scaled.
        box, own = landmark_box(sample.landmarks), landmark_box(source.landmarks)
        side = image_size(sample.image)[0]
        assert max(box[2:] - box[:2]) * 1.8 == pytest.approx(side, rel=0.03)
        scale = np.ptp(sample.landmarks, axis=0) / np.ptp(source.landmarks, axis=0)
        assert scale[0] == pytest.approx(scale[1], rel=1e-3)
        assert np.abs((sample.landmarks - box[:2]) - (source.landmarks - own[:2]) * scale[0]).max() < 0.05
    monkeypatch.setattr(sys, "argv", ["pack_crops.py", *given, "--most", "0.01"])
    with pytest.raises(SystemExit, match=r"MB, expected at most 0\.01: a smaller --size"):
        pack_crops.main()
    before = (tmp_path / "drawn" / "dataset.yaml").stat().st_mtime_ns
    monkeypatch.setattr(sys, "argv", ["pack_crops.py", *given])  # nothing to cut
    pack_crops.main()
    assert (tmp_path / "drawn" / "dataset.yaml").stat().st_mtime_ns == before
    monkeypatch.setattr(sys, "argv", ["pack_crops.py", *given[:-1], "32"])
    pack_crops.main()
    assert max(max(image_size(sample.image)) for sample in FaceDataset.open(tmp_path / "drawn")) == 32


@pytest.mark.usefixtures("scripts")
def test_minutes_are_not_spent_where_their_result_cannot_be_kept_and_always_leave_a_log(
    drawn: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import accelerator

    def failing(lease: accelerator.Lease) -> str:
        lease.run("evaluate", "--no-such-flag", limit=60)
        return ""

    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "300w").symlink_to(drawn.folder)
    out = tmp_path / "out"
    given = ["accelerator.py", "1", "detector", "--pack", str(tmp_path / "pack"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", given)
    monkeypatch.setitem(accelerator.WHAT, "detector", failing)
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path))
    with pytest.raises(SystemExit, match=r"stylealign evaluate ended with status 2: .*no-such-flag"):
        accelerator.main()
    assert "no-such-flag" in (out / "log.txt").read_text()
    for name in ("detector", "table.md"):
        (out / name).mkdir()
        with pytest.raises(SystemExit, match=f"out/{name}: exists, of an earlier call; choose another OUT"):
            accelerator.main()
        (out / name).rmdir()


@pytest.mark.usefixtures("scripts")
def test_weights_in_16_bits_answer_almost_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pack_weights

    from stylealign.training.weights import read_card, read_tensors

    run, out = ROOT / "src/stylealign/weights/compact", tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["pack_weights.py", str(run), str(out), "--data", "faces", "--half"])
    pack_weights.main()
    before, after = read_tensors(run / "model.safetensors"), read_tensors(out / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if tensor.is_floating_point():
            assert float((tensor.float() - after[name].float()).abs().max()) <= 1e-3 * float(tensor.abs().max())
    assert read_card(out)["data"][0]["name"] == "faces"


@pytest.mark.slow
@pytest.mark.parametrize("minutes", ["1", "0.05"])
def test_minutes_on_a_machine_leave_a_table_or_say_that_they_are_too_few(
    drawn: FaceDataset, tmp_path: Path, minutes: str
) -> None:
    pack, out = tmp_path / "pack", tmp_path / "out"
    python = [sys.executable, "scripts/pack_crops.py", f"300w={drawn.folder}", "--out", str(pack)]
    subprocess.run(python, cwd=ROOT, check=True)
    environment = {**os.environ, "PACK": str(pack), "OUT": str(out), "PYTHON": sys.executable}
    done = subprocess.run(
        ["scripts/accelerator.sh", minutes, "detector"], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    if minutes == "1":
        assert done.returncode == 0, done.stderr
        assert "NME %" in (out / "table.md").read_text()
        assert json.loads((out / "detector" / "card.json").read_text())["model"] == "fpn"
        assert (out / "detector" / "model.safetensors").stat().st_size < 15 << 20
    else:
        assert done.returncode == 1
        assert "0.05 minutes are too short for `detector`" in done.stderr
        assert sorted(path.name for path in out.iterdir()) == ["log.txt"]


@pytest.mark.usefixtures("scripts")
def test_averaged_weights_lie_between_and_other_networks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import average_weights

    runs = {name: tmp_path / name for name in ("a", "b", "other")}
    for number, (name, run) in enumerate(runs.items()):
        run.mkdir()
        tensors = {"w": torch.full((2, 3 + (name == "other")), float(number)), "count": torch.tensor(7 + number)}
        card = {"kind": "detector", "val": {"nme": 0.1}, "step": number, "data": [{"content_hash": name}]}
        save_model(run, tensors, {**card, "start": {"data": [{"content_hash": "start"}]}})

    def run(*words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["average_weights.py", *words])
        average_weights.main()

    run(str(tmp_path / "out"), f"{runs['a']}=1", f"{runs['b']}=3")
    found = read_tensors(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["w"], torch.full((2, 3), 0.75))
    assert found["count"] == 7
    card = read_card(tmp_path / "out")
    assert card["step"] == 0
    assert "val" not in card
    assert [one["content_hash"] for one in card["data"]] == ["a", "b"]
    assert [one["content_hash"] for one in data_learnt(card)] == ["a", "b", "start"]
    for words, said in (
        ([f"{runs['a']}=1", f"{runs['other']}=1"], "other names or shapes"),
        ([str(runs["a"])], "expected RUN=SHARE"),
        ([f"{runs['a']}=0"], "not all of them 0"),
    ):
        with pytest.raises(SystemExit, match=said):
            run(str(tmp_path / "none"), *words)
        assert not (tmp_path / "none").exists()


def test_the_lists_of_300w_part_its_faces_and_few_labels_lie_in_one_another() -> None:
    folder = ROOT / "scripts" / "lists_300w"
    lists = {path.stem: path.read_text(encoding="utf-8").split() for path in folder.glob("*.txt")}
    assert {name: len(faces) for name, faces in lists.items()} == {
        "train": 1812, "val": 200, "test_common": 554,
        "train_0050": 50, "train_0157": 157, "train_0315": 315, "train_0630": 630,
    }  # fmt: skip
    every = [face for name in ("train", "val", "test_common") for face in lists[name]]
    assert len(set(every)) == len(every)
    budgets = [set(lists[name]) for name in ("train_0050", "train_0157", "train_0315", "train_0630", "train")]
    assert all(few < more for few, more in itertools.pairwise(budgets))
    assert {face.rpartition("/")[0] for face in lists["test_common"]} == {"helen/testset", "lfpw/testset"}
    assert not any("testset" in face for name in ("train", "val") for face in lists[name])


def test_more_seeds_of_300w_are_trained_and_scored_in_a_folder_whose_name_has_a_space(tmp_path: Path) -> None:
    """With a stand-in for `stylealign` that makes the folders it is asked for and takes down what it was told."""
    stand_in, log, out = tmp_path / "stylealign", tmp_path / "log.jsonl", tmp_path / "my runs"
    stand_in.write_text(
        f"""#!{sys.executable}
import json, pathlib, sys
words = sys.argv[1:]
with open({str(log)!r}, "a") as file:
    file.write(json.dumps(words) + chr(10))
made = {{"prepare": "--out", "train-detector": "--run", "evaluate": "--out"}}.get(words[0])
if made:
    folder = pathlib.Path(words[words.index(made) + 1])
    folder.mkdir(exist_ok=words[0] == "train-detector")
    name = {{"train-detector": "card.json", "evaluate": "evaluation.json"}}.get(words[0], "dataset.yaml")
    if not (folder / name).exists():
        (folder / name).touch()
"""
    )
    stand_in.chmod(0o755)

    def told(seeds: str) -> list[list[str]]:
        log.write_text("")
        environment = {**os.environ, "STYLEALIGN": str(stand_in), "SEEDS": seeds, "JOBS": "1"}
        command = [ROOT / "scripts" / "reproduce_300w.sh", tmp_path, out]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return [json.loads(line) for line in log.read_text().splitlines()]

    first = [words for words in told("0") if words[0] in ("train-detector", "evaluate")]
    own = ["--real", f"{out}/data", "--run", f"{out}/detectors/real_s0", "--loop.seed", "0"]
    assert first[0] == ["train-detector", "300w/resnet18_64", *own]
    styled = [word.replace("real_s0", "avs_s0") for word in own]
    more = ["--synthetic", f"{out}/synthetic", "--synthetic-share", "0.5"]
    assert first[1] == ["train-detector", "300w/resnet18_64", *styled, *more]
    assert [words[4] for words in first[2:]] == ["val", "test_common"]
    assert "evaluate" not in [words[0] for words in told("0")]
    again = [words[0] for words in told("0 1")]
    assert again.count("train-detector") == 4
    assert again[-3:] == ["evaluate", "evaluate", "report"]


# --------------------------------------------------------------------------------------------------------------------
# Landmarks that nobody placed, in scripts and benchmarks


@pytest.mark.usefixtures("scripts")
def test_points_half_way_to_a_missing_one_are_missing(tmp_path: Path) -> None:
    from halfway_markup import faces, halfway

    base = dots(tmp_path / "dots", 2)
    there = np.arange(5) != 2
    lacking = dataclasses.replace(base[0], visible=there, point_trust=there.astype(np.float32))
    doubted = dataclasses.replace(base[1], point_trust=np.array([1, 0.5, 0.25, 1, 1]))
    write_dataset(tmp_path / "some", [lacking, doubted], schema=FIVE, name="some")
    pairs = np.array([(0, 1), (1, 2)])
    first, second = faces(FaceDataset.open(tmp_path / "some"), pairs)
    assert first.missing_points.tolist() == [False, True]
    assert second.point_trust is not None
    assert second.point_trust.tolist() == [0.5, 0.25]
    assert second.visible is None
    assert base[0].landmarks is not None
    assert first.landmarks == pytest.approx(np.array(base[0].landmarks)[pairs].mean(axis=1))
    assert len(halfway(SCHEMAS["ibug68"])[0]) > 60


def test_peers_are_asked_about_whole_faces_and_one_without_a_length_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from peers import errors, faces_of

    base = list(dots(tmp_path / "dots", 3, splits=("val",)))
    lacking = dataclasses.replace(base[1], point_trust=(np.arange(5) != 2).astype(np.float32))
    one_eyed = dataclasses.replace(base[2], landmarks=np.array(base[2].landmarks)[[0, 0, 2, 3, 4]])
    write_dataset(tmp_path / "some", [base[0], lacking, one_eyed], schema=FIVE, name="some")
    faces = faces_of(tmp_path / "some", "val")
    assert faces.ids() == ["dots0", "dots2"]
    with pytest.raises(UserError, match="'dots2'"):
        errors([], faces)
