"""What a job of a cluster runs on its node: one command, its output into its log, and a note of where and how it ended.

submitit hands a function over by pickling it. What is pickled here is the name of `run_command` and plain words: no
object of ours, and nothing that anyone sent. Reads the signals by which a cluster takes a node away.
"""

import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stylealign.data.atomic import write_whole
from stylealign.training.stopping import SIGNALS


def was_told_to_end(status: int) -> bool:
    """Whether an exit status (negative: a signal's number) is that of a command that one of these signals has ended."""
    return status in {code for number in SIGNALS for code in (128 + number, -number)}


def run_command(command: Sequence[str], log: str, note: str) -> int:
    """Run a command on a node; its exit status.

    SIGUSR1 and SIGUSR2 (the time limit is near, or another's job goes first) and SIGTERM are handed on; a training then
    saves and ends (training/stopping.py). After that the job is put into the queue again, by submitit, unless it was
    cancelled.

    Args:
        command: words.
        log: file that gets its output, appended.
        note: JSON file that says job, node, when it began and ended, exit status (None while it runs).
    """
    from submitit import JobEnvironment

    place, told = JobEnvironment(), [0]
    os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
    about: dict[str, Any] = {"job": place.job_id, "node": platform.node(), "began": time.time()}
    about |= {"ended": None, "status": None}
    if place.global_rank == 0:
        write_whole(Path(note), json.dumps(about) + "\n")
    again: Any = signal.getsignal(signal.SIGUSR2)  # submitit's: it puts the job into the queue again
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        child = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def hand_on(number: int, _: Any) -> None:
        told[0] = number
        child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    lost = bool(told[0]) and was_told_to_end(status)
    if place.global_rank == 0:
        write_whole(Path(note), json.dumps({**about, "ended": time.time(), "status": status}) + "\n")
    if lost and (told[0] != signal.SIGTERM or _is_pre_empted(place.job_id)) and callable(again):
        again(signal.SIGUSR2, None)  # does not come back, but for a process that is not the first of its job
    return status


def _same_again(command: Sequence[str], log: str, note: str) -> Any:
    """What submitit shall run when the job comes from the queue again: the same; it goes on from its checkpoint."""
    from submitit.helpers import DelayedSubmission

    return DelayedSubmission(run_command, command, log, note)


run_command.checkpoint = _same_again  # type: ignore[attr-defined]


def _is_pre_empted(job: str) -> bool:
    """Of a job that got SIGTERM: whether it is still to run (another's goes first), or was cancelled by a person."""
    try:
        asked = subprocess.run(["squeue", "-h", "-j", job, "-o", "%T"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.stdout.strip() in ("RUNNING", "PREEMPTED", "SUSPENDED")
