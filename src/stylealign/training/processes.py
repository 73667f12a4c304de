"""This machine as a place for commands: so many child processes at a time, each with a log.

Ctrl-C (and SIGTERM) interrupts every child, which ends as if it had been interrupted itself; where this process is
killed, its children see that and end.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from typing import NamedTuple

from stylealign.data.threads import num_cores
from stylealign.training.fan_out import Job, last_line, why_failed

SECONDS_TO_END = 20.0  # for an interrupted child, before it is killed
ENDS_WITH_PARENT = "STYLEALIGN_ENDS_WITH_PARENT"  # environment of the children: see end_with_parent


class _Child(NamedTuple):
    job: Job
    process: subprocess.Popen
    began: float
    first: int
    """the step it began at"""


class Pool:
    """`processes` children at a time.

    OMP_NUM_THREADS of the children is set to an even share of the cores unless the environment has it.
    """

    pause = 0.2

    def __init__(self, processes: int):
        self.slots = processes
        threads = os.environ.get("OMP_NUM_THREADS", str(max(1, num_cores() // processes)))
        self._environment = {**os.environ, "OMP_NUM_THREADS": threads, ENDS_WITH_PARENT: "1"}
        self._children: dict[str, _Child] = {}
        self._running: dict[str, subprocess.Popen] = {}

    def start(self, waiting: deque[Job]) -> list[Job]:
        started = []
        while waiting and len(self._running) < self.slots:
            job = waiting.popleft()
            child = self._children[job.name] = _Child(job, self._begin(job), time.monotonic(), job.step())
            self._running[job.name] = child.process
            started.append(job)
        return started

    def _begin(self, job: Job) -> subprocess.Popen:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log:
            # A session of its own: a key pressed in the terminal reaches this process, which then tells the children
            # once. Inheritable files (a lock of data.atomic) stay open in the child; Python opens all others as not
            # inheritable. Its standard input ends when this process does.
            return subprocess.Popen(
                job.command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=self._environment,
                close_fds=False,
                start_new_session=True,
            )  # fmt: skip

    def ended(self) -> list[tuple[Job, str]]:
        codes = {name: process.poll() for name, process in self._running.items()}
        found = []
        for name, code in codes.items():
            if code is not None:
                del self._running[name]
                job = self._children[name].job
                found.append((job, why_failed(code, last_line(job.log)) if code else ""))
        return found

    def began(self, job: Job) -> tuple[float, int] | None:
        child = self._children[job.name]
        return child.began, child.first

    def where(self, job: Job) -> str:
        return ""

    def stop(self, why: BaseException) -> None:
        """Interrupt what runs; kill what does not end."""
        for process in self._running.values():
            if process.poll() is None:
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGINT)  # with the processes it may have started itself
                else:
                    process.terminate()
        until = time.monotonic() + SECONDS_TO_END
        for process in self._running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# --------------------------------------------------------------------------------------------------------------------
# In a child


def end_with_parent() -> None:
    """In a child of a Pool: be interrupted as soon as the parent has ended, however it did.

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
