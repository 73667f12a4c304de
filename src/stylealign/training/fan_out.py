"""Commands that are done beside each other, wherever that is: progress, time left, who failed, and a clean end.

A place (`processes.Pool` on this machine, `slurm.Queue` on others) starts commands and says when they have ended; what
is here is the same for both. A command that fails does not stop the others. Knows nothing of what the commands do.
"""

import contextlib
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from stylealign.errors import Stopped
from stylealign.progress import Pace, open_bars, say

SHOWN = 12  # commands that are named beside each other


class Job(NamedTuple):
    """One command."""

    name: str
    """for people"""
    kind: str
    """jobs of one kind are taken to go at one speed"""
    command: tuple[str, ...]
    log: Path
    """file that gets its output, appended"""
    steps: int
    """its length"""
    step: Callable[[], int]
    """how far it is"""
    processes: int = 1
    """of it, on each node; one machine's pool leaves it to the command to start them"""
    nodes: int = 1


class Place(Protocol):
    """Where commands run."""

    pause: float
    """seconds between looks"""
    slots: int
    """commands that run at a time, at most"""

    def start(self, waiting: deque[Job]) -> list[Job]:
        """Take from the front as many as may be started now, and start them."""

    def ended(self) -> list[tuple[Job, str]]:
        """Those that have ended since the last look, each with why it failed; an empty text: it did not."""

    def began(self, job: Job) -> tuple[float, int] | None:
        """When it began to run, by time.monotonic, and at which step; None while it waits."""

    def where(self, job: Job) -> str:
        """The machine that it runs on, or what it waits for, in a word or two; nothing where that needs no saying."""

    def stop(self, why: BaseException) -> None:
        """End what was started, or leave it to itself, as `why` asks for."""


def last_line(path: Path) -> str:
    """The last line of a log that is not empty; an empty text where there is none."""
    if not path.exists():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def why_failed(code: int, last: str) -> str:
    """Why a process failed, from its exit status (negative: a signal's number) and the last line it wrote."""
    if code < 0:
        return f"killed by signal {-code}{' (out of memory?)' if code == -9 else ''} after: {last or 'nothing said'}"
    return last or f"exit status {code}, nothing said"


def run_jobs(jobs: Sequence[Job], place: Place, what: str) -> dict[str, str]:
    """Run every job there; those that failed, by name, with the reason (usually the last line of their log)."""
    waiting, running, failed = deque(jobs), dict[str, Job](), dict[str, str]()
    speeds: dict[str, float] = {}  # seconds a step, by kind
    display = _bars(what, len(jobs)) if sys.stderr.isatty() else _lines(what, len(jobs))
    with display as show, _stopped_by_signals():
        try:
            while waiting or running:
                running |= {job.name: job for job in place.start(waiting)}
                ended = place.ended()
                over = {job.name: why for job, why in ended}
                for name, job in running.items():
                    began, done = place.began(job), job.steps if name in over else job.step()
                    if began is not None and done > began[1] and not over.get(name):
                        speeds[job.kind] = (time.monotonic() - began[0]) / (done - began[1])
                for job, why in ended:
                    began = place.began(running.pop(job.name))
                    if why:
                        failed[job.name] = why
                        say(f"{job.name}: failed: {why} (its log: {job.log})")
                    else:
                        say(
                            f"{job.name}: finished ({time.monotonic() - began[0]:.0f} s)"
                            if began
                            else f"{job.name}: finished"
                        )
                left = _time_left([*waiting, *running.values()], running, speeds, place.slots)
                show(len(jobs) - len(waiting) - len(running), {job: place.where(job) for job in running.values()}, left)
                if waiting or running:
                    time.sleep(place.pause)
        except BaseException as error:
            place.stop(error)
            raise
    return failed


def _time_left(
    jobs: Sequence[Job], running: Mapping[str, Job], speeds: Mapping[str, float], slots: int
) -> float | None:
    """Seconds for the jobs, from each kind's own speed (the mean of the known ones for a kind not yet
    seen); None before any is known."""
    if not speeds:
        return None
    usual = sum(speeds.values()) / len(speeds)
    steps = [job.steps - (job.step() if job.name in running else 0) for job in jobs]
    seconds = [left * speeds.get(job.kind, usual) for job, left in zip(jobs, steps, strict=True)]
    return max(sum(seconds) / max(1, min(slots, len(jobs))), max(seconds, default=0.0))


def clock(seconds: float | None) -> str:
    """Seconds as a person reads them: 45 s, 12 min, 3.5 h; ? where nobody knows."""
    if seconds is None:
        return "?"
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.0f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


Show = Callable[[int, Mapping[Job, str], float | None], None]


def _in_words(job: Job, where: str) -> str:
    return f"{job.name} {job.step()}/{job.steps}{f' ({where})' if where else ''}"


@contextlib.contextmanager
def _lines(what: str, total: int) -> Iterator[Show]:
    """A line now and then, for a log."""
    pace = Pace()

    def show(done: int, running: Mapping[Job, str], left: float | None) -> None:
        if pace.is_due():
            now = ", ".join(_in_words(job, where) for job, where in list(running.items())[:SHOWN])
            more = f" and {len(running) - SHOWN} more" if len(running) > SHOWN else ""
            say(f"{what}: {done} of {total} done, {clock(left)} left; {now}{more}")

    yield show


@contextlib.contextmanager
def _bars(what: str, total: int) -> Iterator[Show]:
    """A bar for all and one for each that runs, for a terminal."""
    bars = open_bars("left")
    whole = bars.add_task(what, total=total, left="")
    tasks: dict[str, Any] = {}

    def show(done: int, running: Mapping[Job, str], left: float | None) -> None:
        bars.update(whole, completed=done, left=f"{clock(left)} left")
        now = {job.name: (job, where) for job, where in list(running.items())[:SHOWN]}
        for name in [name for name in tasks if name not in now]:
            bars.remove_task(tasks.pop(name))
        for name, (job, where) in now.items():
            if name not in tasks:
                tasks[name] = bars.add_task(f"  {name}", total=job.steps, left="")
            bars.update(tasks[name], completed=job.step(), left=where)

    try:
        yield show
    finally:
        bars.stop()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise Stopped, so that children are not left behind."""
    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    before = {name: signal.signal(name, stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
