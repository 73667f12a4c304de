"""Commands side by side: so many child processes at a time, each with a log; progress, time left, and a clean end.

A child that fails does not stop the others. Ctrl-C (and SIGTERM) interrupts every child, which ends as if it had been
interrupted itself; where this process is killed, its children see that and end. Knows nothing of what the commands do.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stylealign.progress import Pace, open_bars, say

SECONDS_TO_END = 20.0  # for an interrupted child, before it is killed
SECONDS_BETWEEN_LOOKS = 0.2
ENDS_WITH_PARENT = "STYLEALIGN_ENDS_WITH_PARENT"  # environment of the children: see end_with_parent


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


class _Running(NamedTuple):
    job: Job
    process: subprocess.Popen
    started: float
    first: int
    """the step it began at"""


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_line(path: Path) -> str:
    """The last line of a log that is not empty; an empty text where there is none."""
    if not path.exists():
        return ""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _why(code: int, last: str) -> str:
    """Why a child process failed, from its exit status and the last line it wrote."""
    if code < 0:
        return f"killed by signal {-code}{' (out of memory?)' if code == -9 else ''} after: {last or 'nothing said'}"
    return last or f"exit status {code}, nothing said"


def run_jobs(jobs: Sequence[Job], processes: int, what: str) -> dict[str, str]:
    """Run every job, `processes` at a time; those that failed, by name, with the last line of their log.

    OMP_NUM_THREADS of the children is set to an even share of the cores unless the environment has it.
    """
    threads = str(max(1, num_cores() // processes))
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), ENDS_WITH_PARENT: "1"}
    waiting, running, failed = deque(jobs), dict[str, _Running](), dict[str, str]()
    speeds: dict[str, float] = {}  # seconds a step, by kind
    display = _bars(what, len(jobs)) if sys.stderr.isatty() else _lines(what, len(jobs))
    with display as show, _terminated_like_interrupted():
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    job = waiting.popleft()
                    running[job.name] = _start(job, environment)
                for name, each in list(running.items()):
                    code = each.process.poll()
                    done = each.job.step() if code is None else each.job.steps
                    if done > each.first and (code is None or code == 0):
                        speeds[each.job.kind] = (time.monotonic() - each.started) / (done - each.first)
                    if code is None:
                        continue
                    del running[name]
                    if code:
                        failed[name] = _why(code, last_line(each.job.log))
                        say(f"{name}: failed: {failed[name]} (its log: {each.job.log})")
                    else:
                        say(f"{name}: finished ({time.monotonic() - each.started:.0f} s)")
                show(
                    len(jobs) - len(waiting) - len(running),
                    list(running.values()),
                    _time_left(waiting, running, speeds, processes),
                )
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except BaseException:
            _stop(running.values())
            raise
    return failed


def _start(job: Job, environment: dict[str, str]) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab") as log:
        # A session of its own: a key pressed in the terminal reaches this process, which then tells the children once.
        # Inheritable files (a lock of data.atomic) stay open in the child; Python opens all others as not inheritable.
        # Its standard input ends when this process does.
        process = subprocess.Popen(
            job.command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment,
            close_fds=False,
            start_new_session=True,
        )  # fmt: skip
    return _Running(job, process, time.monotonic(), job.step())


def _stop(running: Any) -> None:
    """Interrupt what runs; kill what does not end."""
    for each in running:
        if each.process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(each.process.pid, signal.SIGINT)  # with the processes it may have started itself
            else:
                each.process.terminate()
    until = time.monotonic() + SECONDS_TO_END
    for each in running:
        try:
            each.process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()


def _time_left(
    waiting: Sequence[Job] | deque[Job], running: dict[str, _Running], speeds: dict[str, float], processes: int
) -> float | None:
    """Seconds, from each kind's own speed (the mean of the known ones for a kind not yet
    seen); None before any is known."""
    if not speeds:
        return None
    usual = sum(speeds.values()) / len(speeds)
    jobs = [(job, 0) for job in waiting] + [(each.job, each.job.step()) for each in running.values()]
    seconds = [(job.steps - done) * speeds.get(job.kind, usual) for job, done in jobs]
    return max(sum(seconds) / max(1, min(processes, len(jobs))), max(seconds, default=0.0))


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


Show = Callable[[int, list[_Running], float | None], None]


@contextlib.contextmanager
def _lines(what: str, total: int) -> Iterator[Show]:
    """A line now and then, for a log."""
    pace = Pace()

    def show(done: int, running: list[_Running], left: float | None) -> None:
        if pace.is_due():
            now = ", ".join(f"{each.job.name} {each.job.step()}/{each.job.steps}" for each in running)
            say(f"{what}: {done} of {total} done, {clock(left)} left; {now}")

    yield show


@contextlib.contextmanager
def _bars(what: str, total: int) -> Iterator[Show]:
    """A bar for all and one for each that runs, for a terminal."""
    bars = open_bars("left")
    whole = bars.add_task(what, total=total, left="")
    tasks: dict[str, Any] = {}

    def show(done: int, running: list[_Running], left: float | None) -> None:
        bars.update(whole, completed=done, left=f"{clock(left)} left")
        now = {each.job.name: each for each in running}
        for name in [name for name in tasks if name not in now]:
            bars.remove_task(tasks.pop(name))
        for name, each in now.items():
            if name not in tasks:
                tasks[name] = bars.add_task(f"  {name}", total=each.job.steps, left="")
            bars.update(tasks[name], completed=each.job.step())

    try:
        yield show
    finally:
        bars.stop()


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, so that children are not left behind."""
    names = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {name: signal.signal(name, interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


# --------------------------------------------------------------------------------------------------------------------
# In a child


def end_with_parent() -> None:
    """In a child of `run_jobs`: be interrupted as soon as the parent has ended, however it did.

    The parent holds the other end of this process's standard input and writes nothing: what comes is its end.
    """

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(SECONDS_TO_END)
        os._exit(130)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background had it ignored
    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()
