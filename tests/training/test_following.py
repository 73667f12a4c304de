"""What shows a training while it runs: a table always, TensorBoard and wandb where asked for and installed."""

import csv
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from builders.tiny import detector_job, drawn
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.jobs.train_detector import job as detector
from stylealign.training import following
from stylealign.training.following import open_followers, write_table
from stylealign.training.loop import LoopConfig
from stylealign.training.schedule import Timed


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn(tmp_path_factory.mktemp("following") / "faces", 12)


class Noted:
    """Stands for a run of wandb's, and for TensorBoard's writer."""

    def __init__(self, *words: Any, **more: Any):
        self.given, self.numbers, self.pictures, self.closed = (words, more), [], [], False

    def log(self, values: dict[str, Any], step: int) -> None:
        self.pictures.append(step) if "val faces" in values else self.numbers.append((step, *values))

    def finish(self) -> None:
        self.closed = True


def test_the_table_has_a_line_a_step_and_a_column_a_name(tmp_path: Path) -> None:
    lines = [{"step": 2, "total": 3.0}, {"step": 4, "total": 2.0}, {"step": 4, "evaluate/nme": 0.5}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6, "tot'
    (tmp_path / "metrics.jsonl").write_text(text)
    write_table(tmp_path)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert rows == [
        {"step": "2", "total": "3.0", "evaluate/nme": ""},
        {"step": "4", "total": "2.0", "evaluate/nme": "0.5"},
    ]


def test_a_training_shows_its_numbers_and_pictures(
    faces: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb is a stand-in here: what it is given, and that it stays on this machine."""
    runs: list[Noted] = []
    fake = ModuleType("wandb")
    fake.__spec__ = following.find_spec("json")  # any: it is installed
    fake.init = lambda **more: runs.append(Noted(**more)) or runs[-1]  # type: ignore[attr-defined]
    fake.Image = lambda rgb: rgb.shape  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = tmp_path / "run"
    detector.main(detector_job(run, faces.folder, {"follow": ("wandb",), "preview_every": 3, "evaluate_every": 3}))
    (noted,) = runs
    assert noted.given[1]["mode"] == "offline"
    assert noted.closed
    assert noted.pictures == [3, 6]
    stored = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert noted.numbers == [(line["step"], *(name for name in line if name != "step")) for line in stored]
    trained = [line for line in stored if "total" in line]
    assert all(line["images_per_s"] > 0 and line["memory_mb"] > 10 for line in trained)
    assert (run / "metrics.csv").read_text().count("\n") == 1 + len({line["step"] for line in stored})


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (board,) = open_followers(("tensorboard",), tmp_path, 0)
    board.numbers(1, {"total": 2.0})
    board.picture(1, np.zeros((8, 8, 3), np.uint8))
    board.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("total")] == [(1, 2.0)]
    assert events.Tags()["images"] == ["val faces"]


def test_what_is_not_installed_is_named_before_anything_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"tensorboard: not installed; get it with: pip install 'stylealign\[track\]'"):
        LoopConfig(follow=("tensorboard",))


def test_a_detector_trained_for_minutes_ends_with_them(
    faces: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by a second whenever it is looked at; the same command finds it finished."""
    seconds = iter(range(100_000))
    kept: list[Timed] = []

    def timed(minutes: float, length: int, folder: Path) -> Timed:
        kept.append(Timed(minutes, length, folder, clock=lambda: float(next(seconds))))
        return kept[-1]

    monkeypatch.setattr(detector, "Timed", timed)
    config = detector_job(tmp_path / "run", faces.folder, {"steps": 40, "checkpoint_every": 10}, minutes=2.0)
    detector.main(config)
    (schedule,) = kept
    assert schedule.used() == pytest.approx(120, rel=0.1)
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["step"] == schedule.end != 40
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2])
    assert last["lr"] < 0.01 * 3e-3  # the schedule came to its end
    detector.main(config)
    assert len(kept) == 1
