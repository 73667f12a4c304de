"""A training of so many minutes keeps to them on a fast, a slow and a changing machine. The clock is a counter."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from stylealign.errors import UserError
from stylealign.jobs import train_finder
from stylealign.jobs.train_detector import job as train_detector
from stylealign.training.schedule import Schedule, Timed, refuse_several_clocks


class Machine:
    """A clock that goes on by what is done: `pace(step)` seconds an update, and so many for a look."""

    def __init__(self, pace: Callable[[int], float], look: float = 0.0):
        self.pace, self.look, self.now = pace, look, 0.0

    def __call__(self) -> float:
        return self.now

    def train(self, schedule: Schedule, step: int = 0, every: int = 125, until: int | None = None) -> int:
        """The loop's calls, in the loop's order; stops after `until` updates as if killed."""
        schedule.begin(step)
        while step < schedule.end and step != until:
            self.now += self.pace(step)
            step += 1
            schedule.review(step)
            if schedule.is_due(step, every):
                with schedule.looking():
                    schedule.saved(step)
                    self.now += self.look
        return step


def timed(folder: Path, clock: Machine, minutes: float = 10) -> Timed:
    return Timed(minutes, 1000, folder, clock)


@pytest.mark.parametrize(
    ("pace", "look"),
    [
        pytest.param(lambda step: 0.2, 0.0, id="idle"),
        pytest.param(lambda step: 0.02, 1.0, id="fast, looks cost"),
        pytest.param(lambda step: 6.0, 20.0, id="100 updates"),
        pytest.param(lambda step: 5.0 if step < 2 else 0.5, 4.0, id="a slow start"),
        pytest.param(lambda step: 0.2 if step < 1200 else 0.5, 5.0, id="busy from the middle on"),
        pytest.param(lambda step: 0.5 if step < 400 else 0.2, 5.0, id="idle from the middle on"),
        pytest.param(lambda step: 0.5 if step % 200 < 100 else 0.2, 5.0, id="busy now and then"),
    ],
)
def test_the_minutes_are_kept_on_any_machine(tmp_path: Path, pace: Callable[[int], float], look: float) -> None:
    machine = Machine(pace, look)
    schedule = timed(tmp_path, machine)
    steps = machine.train(schedule)
    assert machine.now == pytest.approx(600, rel=0.05)
    assert schedule.place(steps) == schedule.length  # what follows the schedule has come to its end
    places = [schedule.place(step) for step in range(steps)]
    assert places == sorted(places)


def test_a_steady_machine_keeps_its_first_plan(tmp_path: Path) -> None:
    machine = Machine(lambda step: 0.2)
    machine.train(timed(tmp_path, machine))
    stored = json.loads((tmp_path / "schedule.json").read_text())
    assert len(stored["plans"]) == 2
    assert stored["plans"][0][:3] == [0, 0.0, 1000]
    assert stored["plans"][1][2] == pytest.approx(3000, abs=3)


def test_a_machine_that_stops_for_long_ends_with_the_next_update(tmp_path: Path) -> None:
    machine = Machine(lambda step: 0.2 if step != 1000 else 500.0)
    assert machine.train(timed(tmp_path, machine)) == 1001


def test_a_stopped_training_goes_on_with_its_plans_and_its_time(tmp_path: Path) -> None:
    machine = Machine(lambda step: 0.2 if step < 1200 else 0.5, 5.0)
    whole = timed(tmp_path / "whole", machine)
    end = machine.train(whole)

    first = Machine(machine.pace, 5.0)
    first.train(timed(tmp_path / "cut", first), until=1500)  # past its last checkpoint, and past the second plan
    stored = json.loads((tmp_path / "cut" / "schedule.json").read_text())
    saved = max(int(step) for step in stored["used"])
    assert saved < 1500
    second = Machine(machine.pace, 5.0)
    again = timed(tmp_path / "cut", second)
    assert second.train(again, step=saved) == pytest.approx(end, rel=0.03)
    kept = [p for p in whole.plans if p.step < 1500]
    assert again.plans[: len(kept)] == [pytest.approx(p, abs=1e-3) for p in kept]
    assert stored["used"][str(saved)] + second.now == pytest.approx(600, rel=0.05)


def test_a_given_number_of_updates_is_every_so_many_and_the_last() -> None:
    schedule = Schedule(10)
    assert [step for step in range(11) if schedule.is_due(step, 4)] == [4, 8, 10]
    assert [step for step in range(11) if schedule.is_due(step, 0)] == [10]
    assert schedule.place(7) == 7


def test_minutes_are_of_one_process_whoever_started_the_others(tmp_path: Path) -> None:
    """Each process has a clock of its own: they would make different numbers of updates, and wait for each other."""
    with pytest.raises(UserError, match="minutes with 2 processes: expected one process, whose clock counts"):
        refuse_several_clocks(1.5, processes=2)
    refuse_several_clocks(1.5, processes=1)
    refuse_several_clocks(0.0, processes=2)
    engine, run = SimpleNamespace(world_size=2), SimpleNamespace(folder=tmp_path)  # as torchrun makes them
    for train, config in (
        (train_detector.train, train_detector.config_class()(run=tmp_path, real=tmp_path, minutes=1.5)),
        (train_finder.train, train_finder.TrainFinder(run=tmp_path, data=tmp_path, minutes=1.5)),
    ):
        with pytest.raises(UserError, match="minutes with 2 processes: expected one process, whose clock counts"):
            train(config, engine, run)  # type: ignore[operator]


def test_a_schedule_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "schedule.json").write_text('{"plans": [[1, 2]]}')
    with pytest.raises(UserError, match=r"schedule\.json: not the schedule of a training"):
        timed(tmp_path, Machine(lambda step: 1.0)).begin(5)
