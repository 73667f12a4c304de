"""How many updates a training has: a number given before, or as many as fit into so many minutes.

Learning rates, evaluations and the like follow the place in the schedule, from 0 to its length. With a given number of
updates the place is the update's number. With given minutes (`Timed`) the updates that fit are planned after the first
few, from how long those took, and planned anew where the machine turns out slower or faster since; every plan is
written down, and a stopped training that goes on keeps to the plans made before. Knows no model and no torch.
"""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stylealign.config import read_json
from stylealign.data.atomic import write_whole
from stylealign.errors import UserError, counted
from stylealign.progress import say

SCHEDULE_FILE = "schedule.json"
FIRST_UPDATES = 8
"""Updates after the first two (which make room for themselves) that the first plan is made from, at least."""
OFF = 0.03
"""Share of the minutes by which a plan may miss them before another is made."""
BETWEEN = 0.05
"""Share of the minutes between two plans, at least."""


class Schedule:
    """`end` updates, known from the start."""

    def __init__(self, end: int):
        self.end = self.length = end

    def place(self, step: int) -> int:
        """Where update `step` (from 0) stands in the schedule, 0 to `length`."""
        return step

    def is_due(self, step: int, every: int) -> bool:
        """Whether what is done every so often is to be done after `step` updates; it always is after the last."""
        passed = bool(every) and self.place(step) // every > self.place(step - 1) // every
        return step > 0 and (step == self.end or passed)

    def begin(self, step: int) -> None:
        """A training begins, or goes on after `step` updates."""

    def review(self, step: int) -> None:
        """`step` updates are done: plan anew if need be."""

    def saved(self, step: int) -> None:
        """What was learnt in `step` updates is safe on the disk."""

    def seconds_left(self, step: int) -> float | None:
        """Until the end, where the schedule knows it."""
        return None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Around what is no update: evaluations, pictures, checkpoints."""
        yield


class Plan(NamedTuple):
    """From update `step` on, where the schedule had come to `progress` (0 to 1), it goes evenly to 1 at `end`."""

    step: int
    progress: float
    end: int
    seconds: float
    """When it was made, since the start"""


class Timed(Schedule):
    """As many updates as fit into `minutes`, drawn over a schedule of `length` places.

    Args:
        minutes: of training, evaluations in it included.
        length: places of the schedule.
        folder: the run's; `schedule.json` there holds the plans, and the time used at each checkpoint.
        clock: gives seconds.
    """

    def __init__(self, minutes: float, length: int, folder: Path, clock: Callable[[], float] = time.monotonic):
        self.length, self._clock, self._path = length, clock, folder / SCHEDULE_FILE
        self._total = 60.0 * minutes
        self.plans = [Plan(0, 0.0, length, 0.0)]
        self._used: dict[int, float] = {0: 0.0}
        self._first = self._settled = 0
        self._started = clock()
        self._looked = self._longest = 0.0
        self._window: deque[tuple[int, float]] = deque()

    @property
    def end(self) -> int:  # type: ignore[override]
        return self.plans[-1].end

    @end.setter
    def end(self, value: int) -> None:
        raise AttributeError("the end of a timed schedule is planned")

    def _progress(self, step: int) -> float:
        plan = next(p for p in reversed(self.plans) if p.step <= max(step, 0))
        return min(1.0, plan.progress + (1 - plan.progress) * (step - plan.step) / max(1, plan.end - plan.step))

    def place(self, step: int) -> int:
        return int(self._progress(step) * self.length + 1e-9)

    def begin(self, step: int) -> None:
        if step and self._path.exists():
            stored = read_json(self._path)
            try:
                self.plans = [Plan(int(a), float(b), int(c), float(d)) for a, b, c, d in stored["plans"]]
                self._used = {int(key): float(value) for key, value in stored["used"].items() if int(key) <= step}
                used = self._used[max(self._used)]
            except (LookupError, TypeError, ValueError):
                raise UserError(
                    f"{self._path}: not the schedule of a training; expected the plans that train-detector wrote"
                ) from None
        else:
            used = 0.0
        self._started = self._clock() - used
        self._first, self._settled = step, max(step, self.plans[-1].step)
        self._window.clear()

    def _write(self) -> None:
        stored = {
            "minutes": round(self._total / 60, 4),
            "plans": [[p.step, round(p.progress, 9), p.end, round(p.seconds, 3)] for p in self.plans],
            "used": {str(step): round(seconds, 3) for step, seconds in self._used.items()},
        }
        write_whole(self._path, json.dumps(stored, indent=1) + "\n")

    def used(self) -> float:
        """Seconds of the training so far, those of earlier commands included."""
        return self._clock() - self._started

    def seconds_left(self, step: int) -> float | None:
        return max(0.0, self._total - self.used())

    def saved(self, step: int) -> None:
        self._used[step] = self.used()
        self._write()

    @contextmanager
    def looking(self) -> Iterator[None]:
        before = self._clock()
        try:
            yield
        finally:
            took = self._clock() - before
            self._looked += took
            self._longest = max(self._longest, took)

    def review(self, step: int) -> None:
        used, updating = self.used(), self.used() - self._looked
        self._window.append((step, updating))
        while len(self._window) > FIRST_UPDATES + 1 and self._window[0][1] < updating - 0.1 * self._total:
            self._window.popleft()
        if step < self._settled or step >= self.end:  # plans made before a stop are kept to
            return
        first, last = self._window[0], self._window[-1]
        if step - self._first <= 2:  # they make room for themselves
            self._window.clear()
            return
        unplanned, timed = len(self.plans) == 1, last[0] - first[0]
        late = (self.end - step) * (last[1] - first[1]) / max(1, timed)
        if used >= self._total and (used - self._total + late > OFF * self._total or unplanned):
            self._plan(step, step, used)
            return
        if timed < FIRST_UPDATES or (unplanned and last[1] - first[1] < min(3.0, 0.01 * self._total)):
            return
        if not unplanned and used - self.plans[-1].seconds < BETWEEN * self._total:
            return
        pace = (last[1] - first[1]) / timed
        done = self._progress(step)
        looking = self._longest + (self._looked * (1 - done) / done if done else 0.0)
        left = self._total - used - looking
        if unplanned or abs((self.end - step) * pace - left) > OFF * self._total:
            self._plan(step, step + max(1, round(left / max(pace, 1e-9))), used)

    def _plan(self, step: int, end: int, used: float) -> None:
        """Plan from here on. At `end` == `step`, time is over: this was the last update."""
        before = self.plans[-1]
        self.plans.append(Plan(step, self._progress(step), max(end, 1), used))
        self._write()
        first = len(self.plans) == 2
        if not first and abs(end - before.end) < 0.1 * before.end:
            return
        what = "planned" if first else f"planned anew (was {before.end:,})"
        say(f"{counted(end, 'update')} in {self._total / 60:g} minutes, {what} after {step:,} and {used:.0f} s")


def refuse_several_clocks(minutes: float, processes: int) -> None:
    """Raise UserError for minutes of several processes, also where torchrun has started them: each has a clock of its
    own, would make another number of updates, and would wait for the others for ever."""
    if minutes and processes > 1:
        raise UserError(f"minutes with {counted(processes, 'process')}: expected one process, whose clock counts")
