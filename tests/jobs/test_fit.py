"""`fit`: from a folder of labelled faces to a detector and the commands that come next; groups; places; the choice."""

import csv
import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.dots import dots
from stylealign.cli import main
from stylealign.config import read_yaml
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.files import pictures_below
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema, get_schema
from stylealign.jobs.fit import choosing, looking
from stylealign.jobs.fit import job as fit
from stylealign.jobs.fit.after import next_page
from stylealign.jobs.fit.stopwatch import Stopwatch
from stylealign.jobs.fit.unlabelled import some_of
from stylealign.jobs.init import Init, commands_for
from stylealign.jobs.train_detector.job import TrainDetector
from stylealign.predicting.finders import FoundFace
from stylealign.predicting.places import Places, how_found, placed
from stylealign.training.devices import pick_device
from stylealign.training.schedule import Timed

# --------------------------------------------------------------------------------------------------------------------
# Places, pictures beside, the choice, the time


def test_how_faces_can_be_found_is_measured(tmp_path: Path) -> None:
    faces = list(dots(tmp_path / "data", 6))
    box = faces[0].landmarks
    assert box is not None

    def finds_all(image: np.ndarray) -> list[FoundFace]:
        return [FoundFace(np.array([*box.min(0), *box.max(0)]), 1.0, "test")]

    scale = 1.4
    assert how_found(faces[:1], finds_all, scale).how == "finder"
    nothing = how_found(faces, lambda image: [], scale)
    assert (nothing.found, nothing.asked) == (0.0, 6)
    assert nothing.how == ("whole" if nothing.whole >= 0.7 else "boxes")
    bare = [FaceSample(id=f.id, image=f.image) for f in faces]
    assert list(placed(iter(bare), "finder", lambda image: [], scale)) == []
    (whole,) = placed(iter(bare[:1]), "whole", finds_all, scale)
    assert whole.box_xyxy is not None
    assert whole.box_xyxy[2] - whole.box_xyxy[0] == pytest.approx(64 / scale, rel=0.6)


@pytest.mark.parametrize(
    ("name", "scale"), [("ibug68", 1.2), ("wflw98", 1.2), ("lapa106", 1.2), ("cofw29", 1.4), ("five", 1.4)]
)
def test_a_mark_up_that_goes_round_the_face_is_cut_closer(name: str, scale: float) -> None:
    schema = get_schema(name)
    chosen = choosing.choose("package", None, schema, 100, 600, 64, measure=lambda *_: 0.1)
    assert chosen.values["crop"] == {"size": 64, "scale": scale}


def test_some_pictures_are_taken_whatever_order_they_come_in(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "deep/c.PNG", "deep/d.png", ".hidden/e.png", "f.txt", "out/g.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    found = sorted(pictures_below(tmp_path, tmp_path / "out"))
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["a.png", "b.jpg", "deep/c.PNG", "deep/d.png"]
    chosen, count = some_of(iter(found), tmp_path, 2, {tmp_path / "a.png"})
    assert count == 3
    assert len(chosen) == 2
    assert some_of(reversed(found), tmp_path, 2, {tmp_path / "a.png"}) == (chosen, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "each", "size", "batch"),
    [(600, 0.2, 96, 32), (600, 1.0, 64, 32), (60, 1.0, 64, 16), (600, 0.2, 64, 32)],
    ids=["fast", "slow", "slower", "scratch"],
)
def test_size_and_batch_follow_the_time(
    seconds: float, each: float, size: int, batch: int, request: pytest.FixtureRequest
) -> None:
    """An update of 96 px takes `each` seconds here, one of 64 px half of that."""
    start = "scratch" if "scratch" in request.node.callspec.id else "package"
    schema = LandmarkSchema(name="x", num_points=5)
    choice = choosing.choose(
        start, None, schema, 200, seconds, measure=lambda v, s, side, n, _: each * (1 if side == 96 else 0.5) * n / 32
    )  # type: ignore[arg-type]
    assert choice.values["crop"]["size"] == size
    assert choice.values["loop"]["batch_size"] == batch
    assert choice.values["style"] == {"preset": "mixture"}
    assert ("init_from" in choice.values) == (start == "package")


def test_an_update_is_timed_where_the_training_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that does in 0.1 s what the processor does in 1 s gets the crop and the batch of its own speed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def measure(v: object, s: object, side: int, n: int, device: torch.device) -> float:
        return (0.1 if device.type == "cuda" else 1.0) * (1 if side == 96 else 0.5) * n / 32

    schema = LandmarkSchema(name="x", num_points=5)
    for accelerator, size, batch in (("cpu", 64, 16), ("cuda", 96, 32), ("auto", 96, 32)):
        choice = choosing.choose("package", None, schema, 200, 100, None, accelerator, measure)
        assert (choice.values["crop"]["size"], choice.values["loop"]["batch_size"]) == (size, batch)


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_an_update_of_the_bare_network_takes_time_and_no_chance(accelerator: str) -> None:
    values = {"model": "resnet18", "resnet": {"width": 4}}
    state = torch.get_rng_state()
    schema = LandmarkSchema(name="x", num_points=5)
    assert 0 < choosing.measure(values, schema, 32, 2, pick_device(accelerator)) < 60
    assert torch.equal(torch.get_rng_state(), state)


def test_the_time_goes_on_where_it_was_written_down(tmp_path: Path) -> None:
    seconds = [0.0]
    watch = Stopwatch(1, tmp_path, lambda: seconds[0])
    seconds[0] = 20.0
    watch.lap()
    seconds[0] = 50.0
    assert watch.left() == 10
    again = Stopwatch(1, tmp_path, lambda: 1000.0)
    assert again.used() == 20
    again.at_least(45)
    again.at_least(30)
    assert again.used() == 45


# --------------------------------------------------------------------------------------------------------------------
# The whole job


def write_csv(folder: Path, faces: FaceDataset, labelled: int) -> None:
    """Pictures of a data set as a person has them: two of each of many people, a CSV, some without labels."""
    folder.mkdir()
    with open(folder / "faces.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *(f"{axis}{i}" for i in range(faces.schema.num_points) for axis in "xy")])
        for i, face in enumerate(faces):
            name = f"person{'abcdefghijklmnop'[i // 2]}_{i % 2}.png"
            shutil.copy(face.image, folder / name)
            if i < labelled:
                assert face.landmarks is not None
                table.writerow([name, *face.landmarks.ravel().round(3)])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest network, a clock of the trainings that goes on by a second a look, no measuring of the machine."""
    seconds = iter(range(1_000_000))

    def values(start: str, pretrained: Path | None) -> dict[str, object]:
        return {"model": "resnet18", "resnet": {"width": 4}, "lr": 3e-3}

    def timed(minutes: float, length: int, folder: Path) -> Timed:
        return Timed(0.5, length, folder, clock=lambda: float(next(seconds)))

    monkeypatch.setattr(choosing, "network_values", values)
    monkeypatch.setattr(choosing, "measure", lambda *_: 0.01)
    monkeypatch.setattr(fit, "choose", lambda *a: choosing.choose(*a, measure=lambda *_: 0.01))
    monkeypatch.setattr("stylealign.jobs.train_detector.job.Timed", timed)


def test_from_a_folder_to_a_detector_and_what_to_type_next(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Faces that no finder finds, with others beside them that have no labels; then every command of next.md."""
    monkeypatch.chdir(tmp_path)
    write_csv(Path("mine"), dots(tmp_path / "dots", 20), labelled=16)
    before = sorted((p.name, p.read_bytes()) for p in Path("mine").iterdir())
    command = ["fit", "mine", "--minutes", "30", "--size", "32", "--accelerator", "cpu"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "guessed: held out by file name without its last number: 8 groups of 16 faces" in said
    assert said.splitlines()[-1].endswith("Next: the commands in mine_fit/next.md")
    out = Path("mine_fit")
    faces = FaceDataset.open(out / "data")
    groups = {split: {i[:7] for i in faces.select(split).ids()} for split in ("train", "val")}
    assert not groups["train"] & groups["val"]
    plan = read_yaml(out / "plan.yaml")
    assert sorted((p.name, p.read_bytes()) for p in Path("mine").iterdir()) == before
    names = {"data", "detector", "evaluation", "fit.yaml", "next.md", "pairs.png", "plan.yaml", "report.html"}
    assert names <= {p.name for p in out.iterdir()}
    if plan["places"]["how"] != "boxes":
        assert plan["unlabelled_faces"] == 4  # of two people of their own
        assert {"first", "pseudo", "unlabelled"} <= {p.name for p in out.iterdir()}
    evaluation = json.loads((out / "evaluation" / "evaluation.json").read_text())
    assert evaluation["dataset"]["faces"] == len(faces.select("val"))

    page, told = (out / "next.md").read_text(), "Those faces are of 1 group (file name without its last number)"
    assert told in page.splitlines()[2]
    assert told in (out / "report.html").read_text().partition("<h2")[0]
    commands = [
        line for block in re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL) for line in block.splitlines()
    ]
    places = plan["places"]
    finding = ["train-finder", "predict"] if places["found"] < 0.5 and places["whole"] < 0.7 else []
    assert [shlex.split(c)[1] for c in commands] in (
        ["predict", *finding, "export", "suggest", "fit"], ["predict", *finding, "export", "fit"],
    )  # fmt: skip
    for line in commands[:-1]:
        words = shlex.split(line)
        if words[1] == "train-finder" or "--finder" in words:  # twenty minutes
            assert main([*words[1:], "--dry-run"]) == 0
            continue
        if words[1] == "predict":
            assert "--no-check" in words  # of a detector after a few updates
        assert main(words[1:]) == 0, (line, capsys.readouterr().err)
    assert (out / "predictions" / "predictions.jsonl").read_text().count("\n") == min(3, len(faces.select("val")))
    assert shlex.split(commands[-1])[1:4] == ["fit", "mine", "--minutes"]

    page_before = (out / "next.md").stat().st_mtime_ns
    assert main(command) == 0  # finished: nothing to do
    assert (out / "next.md").stat().st_mtime_ns == page_before
    assert main([*command, "--seed", "3"]) == 2
    assert "holds a fit of another kind (seed: 0 there, 3 now)" in capsys.readouterr().err


def test_what_is_typed_next_is_no_flag_where_a_folder_begins_with_a_dash(tmp_path: Path) -> None:
    config, places, out = fit.Fit(path=Path("-mine"), group="-x(.+)"), Places("boxes", 3, 0.0, 0.0), Path("-fit")
    again = fit._again(config, out)
    assert shlex.split(again) == [
        "stylealign", "fit", "./-mine", "--minutes", "30", "--out", "./-fit_longer", "--group=-x(.+)",
    ]  # fmt: skip
    faces = list(dots(tmp_path / "dots", 2))
    for onnx in (True, False):
        page = next_page(fit.Result(out, out / "detector", "", False, places, faces, onnx, Path("-unlabelled"), again))
        commands = [c for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for c in block.splitlines()]
        assert len(commands) == 6
        assert [w for c in commands for w in shlex.split(c) if re.match("-(fit|mine|unlabelled)", w)] == []
    made = commands_for(Init(path=Path("-mine")), "csv", out, {}, 0, tmp_path / "a.png", places)
    assert " --path ./-mine " in made
    assert re.findall(r"[ =]-fit", made) == []


def test_pictures_without_labels_are_no_copies_of_labelled_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among them are those held out, which nothing may be learnt from."""
    write_csv(tmp_path / "mine", dots(tmp_path / "dots", 12), labelled=8)
    for i, path in enumerate(sorted((tmp_path / "mine").glob("*.png"))):
        shutil.copy(path, tmp_path / "mine" / f"{'abcdefghijkl'[i]}.png")
    monkeypatch.setattr(looking, "how_found", lambda *_: Places("whole", 8, 0.0, 1.0))
    config = fit.Fit(path=tmp_path / "mine", out=tmp_path / "out", minutes=30)
    (tmp_path / "out").mkdir()
    plan = looking.look(config, tmp_path / "out", Stopwatch(30, tmp_path / "out"))
    found = {face.image.name for face in FaceDataset.open(tmp_path / "out" / "unlabelled")}
    people = {f"person{letter}_{n}.png" for letter in "ef" for n in (0, 1)}
    assert found == people | {f"{letter}.png" for letter in "ijkl"}
    assert plan["unlabelled_faces"] == 8


def test_a_fit_begun_before_a_flag_was_added_is_the_same(tmp_path: Path) -> None:
    config = fit.Fit(path=tmp_path, out=tmp_path / "out")
    assert fit._begin(config, tmp_path / "out")
    saved = tmp_path / "out" / "fit.yaml"
    saved.write_text("".join(line for line in saved.read_text().splitlines(True) if not line.startswith("group:")))
    assert not fit._begin(config, tmp_path / "out")
    with pytest.raises(UserError, match=r"a fit of another kind \(group: 'auto' there, 'none' now\)"):
        fit._begin(dataclasses.replace(config, group="none"), tmp_path / "out")


def test_a_stopped_fit_goes_on_with_its_plan(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "mine", dots(tmp_path / "dots", 12), labelled=12)
    config = fit.Fit(path=tmp_path / "mine", out=tmp_path / "out", minutes=30, size=32, accelerator="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "finish", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            fit.main(config)
    plan = (tmp_path / "out" / "plan.yaml").read_bytes()
    weights = (tmp_path / "out" / "detector" / "model.safetensors").read_bytes()
    monkeypatch.setattr(fit, "look", None)  # not looked again
    fit.main(config)
    assert (tmp_path / "out" / "plan.yaml").read_bytes() == plan
    assert (tmp_path / "out" / "detector" / "model.safetensors").read_bytes() == weights
    assert (tmp_path / "out" / "next.md").exists()
    rows = (tmp_path / "mine" / "faces.csv").read_text().splitlines()
    name, x, *others = rows[-1].split(",")
    corrected = [*rows[:-1], ",".join([name, str(float(x) + 1), *others])]
    (tmp_path / "mine" / "faces.csv").write_text("\n".join(corrected))
    with pytest.raises(UserError, match="its labels have changed since this fit read them; choose another --out"):
        fit.main(config)


def test_a_fit_killed_before_it_had_planned_reads_the_labels_as_they_are_now(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "mine", dots(tmp_path / "dots", 12), labelled=12)
    out = tmp_path / "out"
    config = fit.Fit(path=tmp_path / "mine", out=out, minutes=30, size=32, accelerator="cpu")
    fit._begin(config, out)  # by a command that could not tidy up
    with monkeypatch.context() as patch:
        patch.setattr(fit, "choose", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            fit.main(config)
    before = FaceDataset.open(out / "data").landmarks_array()
    rows = [row.split(",") for row in (tmp_path / "mine" / "faces.csv").read_text().splitlines()]
    moved = [rows[0], *([name, *(str(float(x) + 1) for x in points)] for name, *points in rows[1:])]
    (tmp_path / "mine" / "faces.csv").write_text("\n".join(",".join(row) for row in moved))
    fit._plan(config, out, Stopwatch(30, out))
    np.testing.assert_allclose(FaceDataset.open(out / "data").landmarks_array(), before + 1, atol=1e-4)


def test_a_training_for_which_no_time_is_left_gets_some_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cutting the crops takes 5.5 minutes of 10, before the clock of the first training starts; a plan that has minutes
    below 0, as were written once, goes on."""
    seconds, trained = [0.0], []

    def training(config: TrainDetector) -> None:
        trained.append((config.run.name, config.minutes))
        seconds[0] += 330 + 60 * config.minutes

    monkeypatch.setattr(fit.detector, "main", training)
    monkeypatch.setattr(fit.pseudo_label, "main", lambda config: config.out.mkdir())
    plan = {
        "seconds_for_the_end": 12.0, "unlabelled_faces": 50, "minutes": {}, "seconds_looking": 60.0,
        "detector": {"model": "resnet18", "lr": 3e-3},
    }  # fmt: skip
    config = fit.Fit(path=Path("x"), minutes=10)
    watch = Stopwatch(10, tmp_path, clock=lambda: seconds[0])
    seconds[0] = 60.0
    fit.train(config, plan, tmp_path, watch)
    first = fit.FIRST_SHARE * (600 - 60 - 12) / 60
    assert trained == [("first", pytest.approx(first)), ("detector", fit.LEAST)]
    assert "detector is trained for 6 s all the same" in capsys.readouterr().err
    kept = read_yaml(tmp_path / "plan.yaml")
    assert kept["minutes"] == {"first": pytest.approx(first), "detector": fit.LEAST}

    kept["minutes"]["detector"] = -0.5533
    fit.train(config, kept, tmp_path, watch)
    assert trained[2:] == trained[:2]
    assert read_yaml(tmp_path / "plan.yaml")["minutes"] == {"first": pytest.approx(first), "detector": fit.LEAST}


def test_too_few_minutes_and_a_folder_without_labels_leave_nothing(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "mine", dots(tmp_path / "dots", 6), labelled=6)
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"--minutes 0\.01: .* which leaves no time for 30 updates.*; give --minutes \d"
    ):
        fit.main(fit.Fit(path=tmp_path / "mine", out=out, minutes=0.01, size=32))
    assert not out.exists()
    (tmp_path / "mine" / "faces.csv").unlink()
    with pytest.raises(UserError, match="found no annotation"):
        fit.main(fit.Fit(path=tmp_path / "mine", out=out))
    assert not out.exists()
