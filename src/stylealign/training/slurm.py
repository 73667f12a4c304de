"""A cluster under SLURM as a place for commands, by submitit: arrays of jobs, lost ones again, what the queue says.

submitit writes and submits the batch files and puts a job that must make room into the queue again. What it does not do
is here: a job that is gone without having ended (cancelled, its node lost) is submitted again; jobs that are still in
the queue after this process was killed are found and waited for; and the queue is asked by squeue, which every SLURM
has, not by sacct, which needs a data base. Nothing is unpickled in this process (see on_node.py).
"""

import contextlib
import getpass
import hashlib
import json
import shutil
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stylealign.config import read_note
from stylealign.data.atomic import write_whole
from stylealign.errors import Stopped, UserError, counted
from stylealign.progress import say
from stylealign.training.cluster import Cluster, On, asked, check_cluster
from stylealign.training.fan_out import Job, Place, last_line, why_failed
from stylealign.training.on_node import run_command, was_told_to_end
from stylealign.training.processes import Pool

SECONDS_UNSEEN = 15.0  # a job that the queue does not name for so long is gone: its note may come late on a shared disk
MOST_IN_ARRAY = 1000  # SLURM's own limit is 1001, unless a cluster has another


class InQueue(NamedTuple):
    """What the queue says of a job."""

    state: str
    """pending, running, completing, ..."""
    node: str
    reason: str
    """why it waits, as SLURM says it"""


class _Sent(NamedTuple):
    """A command that was submitted."""

    job: Job
    number: str
    """of the cluster's job, such as 17_3"""
    lost: int = 0
    """how often it was lost since it last learnt something"""
    at: int = 0
    """the step it was at when it was submitted"""


def _name_of(folder: Path) -> str:
    """What the queue calls the jobs of a folder."""
    return f"stylealign-{hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:10]}"


def queued(folder: Path) -> dict[str, InQueue] | None:
    """By number, the jobs of a folder that are in the queue; None where the queue does not answer."""
    listed = asked("squeue", "-h", "-r", "-u", getpass.getuser(), "-n", _name_of(folder), "-o", "%i|%T|%N|%r")
    if listed is None:
        return None
    rows = [line.split("|", 3) for line in listed.splitlines()]
    return {number: InQueue(state.lower(), node, reason) for number, state, node, reason in rows}


def note_of(log: Path) -> Path:
    """Where the node says how the command with this log is."""
    return log.with_suffix(".node.json")


def states_of(folder: Path) -> dict[str, str]:
    """By the command's name, what the queue says of the jobs that were submitted in `folder`/cluster; for a person."""
    numbers = read_note(folder / "cluster" / "jobs.json")
    now = queued(folder / "cluster") if numbers and shutil.which("squeue") else None
    if now is None:
        return dict.fromkeys(numbers, "the queue cannot be asked") if numbers else {}
    return {name: f"{now[number].state}, job {number}" for name, number in numbers.items() if number in now}


class Queue:
    """SLURM's queue. `engine` is submitit's name of what takes the jobs; its own stand-ins are for tests."""

    pause = 2.0

    def __init__(self, cluster: Cluster, folder: Path, engine: str = "slurm"):
        self.cluster, self.folder, self.engine, self.slots = cluster, folder, engine, cluster.array
        self._sent: dict[str, _Sent] = {}
        self._here: dict[str, Any] = {}  # submitit's jobs of a stand-in
        self._began: dict[str, tuple[float, int]] = {}
        self._unseen: dict[str, float] = {}
        self._now: dict[str, InQueue] | None = {}

    # ---- what run_jobs asks

    def start(self, waiting: deque[Job]) -> list[Job]:
        """All of them: SLURM keeps the order, and as many waiting as it must."""
        if not waiting:
            return []
        jobs = list(waiting)
        numbers, self._now = read_note(self.folder / "jobs.json"), self._look()
        if self._now is None:
            raise UserError("--on slurm: `squeue` does not answer; is the cluster's controller up?")
        found = {job.name: numbers[job.name] for job in jobs if numbers.get(job.name) in self._now}
        self._sent |= {job.name: _Sent(job, found[job.name], 0, job.step()) for job in jobs if job.name in found}
        if found:
            say(f"in the queue yet, of an earlier command: {counted(len(found), 'job')}")
        self._submit({job: 0 for job in jobs if job.name not in found})
        waiting.clear()
        return jobs

    def ended(self) -> list[tuple[Job, str]]:
        self._now = self._look()
        over, again = [], dict[Job, int]()
        for name, sent in list(self._sent.items()):
            note = read_note(note_of(sent.job.log))
            mine = note.get("job") == sent.number
            status = note.get("status") if mine else None
            if mine and note.get("ended") is None:
                self._began.setdefault(name, (time.monotonic(), sent.job.step()))
            elif status != 0:
                self._began.pop(name, None)  # it waits, again perhaps
            if status == 0:
                over.append((sent.job, ""))
            elif status is not None and status > 0 and not was_told_to_end(status):
                over.append((sent.job, why_failed(status, last_line(sent.job.log))))
            elif self._is_gone(sent):
                lost = 1 if sent.job.step() > sent.at else sent.lost + 1
                why = (
                    why_failed(status, last_line(sent.job.log)) if status else "its node was lost, or it was cancelled"
                )
                if lost > self.cluster.again:
                    over.append((sent.job, f"lost {counted(lost, 'time')} without learning anything more; {why}"))
                else:
                    say(f"{name}: job {sent.number} is gone ({why}); submitting it again")
                    again[sent.job] = lost
        for job, _ in over:
            del self._sent[job.name]
        self._submit(again)
        return over

    def began(self, job: Job) -> tuple[float, int] | None:
        return self._began.get(job.name)

    def where(self, job: Job) -> str:
        sent = self._sent.get(job.name)
        seen = (self._now or {}).get(sent.number) if sent else None
        if seen is None:
            return "" if self._now is not None else "the queue does not answer"
        return seen.node if seen.state == "running" else f"{seen.state}: {seen.reason}" if seen.reason else seen.state

    def stop(self, why: BaseException) -> None:
        """Ctrl-C, or a fault, cancels the jobs; a signal to this process alone (a closed terminal) leaves them."""
        if isinstance(why, Stopped):
            say(f"{counted(len(self._sent), 'job')} of the cluster go on; the same command waits for them")
            return
        for sent in self._sent.values():
            if sent.number in self._here:
                self._here[sent.number].cancel()
        numbers = [sent.number for sent in self._sent.values() if sent.number not in self._here]
        if numbers:
            asked("scancel", *numbers)
            say(f"cancelled on the cluster: {counted(len(numbers), 'job')}; the same command goes on")

    # ---- how

    def _look(self) -> dict[str, InQueue] | None:
        if self.engine == "slurm":
            return queued(self.folder)
        return {n: InQueue("running", "here", "") for n, job in self._here.items() if job.state == "RUNNING"}

    def _is_gone(self, sent: _Sent) -> bool:
        """Whether the queue has not named a job for some time; while it does not answer, nobody knows."""
        if self._now is None or sent.number in self._now:
            self._unseen.pop(sent.number, None)
            return False
        since = self._unseen.setdefault(sent.number, time.monotonic())
        return time.monotonic() - since >= SECONDS_UNSEEN

    def _submit(self, jobs: dict[Job, int]) -> None:
        """Submit commands, each with how often it was lost; those that need as many processes as one array."""
        groups: dict[tuple[int, int], list[Job]] = {}
        for job in jobs:
            groups.setdefault((job.nodes, job.processes), []).append(job)
        for (nodes, processes), group in groups.items():
            for first in range(0, len(group), MOST_IN_ARRAY):
                part = group[first : first + MOST_IN_ARRAY]
                for job, sent in zip(part, self._sent_to_cluster(part, nodes, processes), strict=True):
                    number = sent.job_id
                    self._sent[job.name] = _Sent(job, number, jobs[job], job.step())
                    self._began.pop(job.name, None)
                    if self.engine != "slurm":
                        self._here[number] = sent
                write_whole(
                    self.folder / "jobs.json",
                    json.dumps({**read_note(self.folder / "jobs.json"), **{n: s.number for n, s in self._sent.items()}})
                    + "\n",
                )

    def _sent_to_cluster(self, jobs: Sequence[Job], nodes: int, processes: int) -> list[Any]:
        """submitit's jobs. Each submission has a folder of its own, so that nobody else's pickles are in it."""
        import submitit

        cluster, folder = self.cluster, self.folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        limits = {} if self.engine == "debug" else {f"{self.engine}_max_num_timeout": 1000}
        executor = submitit.AutoExecutor(folder=folder, cluster=self.engine, **limits)
        wanted: dict[str, Any] = {
            "name": _name_of(self.folder), "timeout_min": cluster.minutes, "nodes": nodes, "tasks_per_node": processes,
            "gpus_per_node": cluster.gpus or None, "cpus_per_task": cluster.cpus, "mem_gb": cluster.memory_gb,
            "slurm_partition": cluster.partition, "slurm_array_parallelism": cluster.array,
            "slurm_signal_delay_s": cluster.notice, "slurm_setup": list(cluster.setup) or None,
            "slurm_additional_parameters": {"requeue": True, **_options(cluster.options)},
        }  # fmt: skip
        executor.update_parameters(**wanted)
        try:
            with executor.batch():
                sent = [executor.submit(run_command, list(job.command), *self._files(job)) for job in jobs]
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
            said = next((line for line in reversed(str(error).splitlines()) if "error:" in line), str(error))
            raise UserError(f"--on slurm: sbatch refuses: {said.partition('error:')[2].strip() or said}") from None
        return sent

    @staticmethod
    def _files(job: Job) -> tuple[str, str]:
        return str(job.log.absolute()), str(note_of(job.log).absolute())


def _options(options: Sequence[str]) -> dict[str, Any]:
    return {name: value or True for name, _, value in (option.partition("=") for option in options)}


def place_for(on: On, jobs: int, cluster: Cluster, folder: Path) -> Place:
    """Where a job's commands run: `jobs` at a time here, or on a cluster, whose files are in `folder`/cluster.

    Raises UserError where the cluster cannot be asked, or will not have such jobs.
    """
    if on == "local":
        return Pool(jobs)
    check_cluster(cluster)
    return Queue(cluster, folder / "cluster")
