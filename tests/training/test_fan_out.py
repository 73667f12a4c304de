"""Commands on a cluster: submitit's stand-ins for one, and SLURM's own commands as scripts that say what a test needs.

A real SLURM: test_slurm.py.
"""

import json
import os
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from stylealign.errors import Stopped, UserError
from stylealign.training import slurm
from stylealign.training.cluster import Cluster, check_cluster, minutes_of
from stylealign.training.fan_out import Job, run_jobs
from stylealign.training.on_node import run_command, was_told_to_end
from stylealign.training.slurm import Queue, note_of, place_for, states_of

submitit = pytest.importorskip("submitit")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "SECONDS_UNSEEN", 0.2)
    monkeypatch.setattr(Queue, "pause", 0.05)


def job(folder: Path, name: str, code: str) -> Job:
    return Job(name, "k", (sys.executable, "-c", code), folder / f"{name}.log", 1, lambda: 0)


# Each of these ends at once, but for the middle one, which is told by its own hand that its node will be taken away.
FAILS = "import sys; print('said much'); print('why it failed'); sys.exit(2)"
DIES_ONCE = "import os, pathlib; p = pathlib.Path({here!r}); p.exists() or (p.touch(), os.kill(os.getpid(), 9))"
MAKES_ROOM_ONCE = """
import os, pathlib, signal, sys, time
marks = pathlib.Path({here!r})
if not marks.exists():
    signal.signal(signal.SIGUSR1, lambda *_: (marks.touch(), sys.exit(128 + signal.SIGUSR1)))
    os.kill(os.getppid(), signal.SIGUSR1)
    time.sleep(60)
print("went on")
"""


def test_commands_of_a_cluster_end_fail_are_lost_and_make_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Side by side, by submitit's local executor."""
    jobs = [
        job(tmp_path, "fails", FAILS),
        job(tmp_path, "dies once", DIES_ONCE.format(here=str(tmp_path / "died"))),
        job(tmp_path, "makes room", MAKES_ROOM_ONCE.format(here=str(tmp_path / "room"))),
    ]
    queue = Queue(Cluster(again=1, minutes=1), tmp_path / "cluster", "local")
    failed = run_jobs(jobs, queue, "test")
    assert failed == {"fails": "why it failed"}
    said = capsys.readouterr().err
    assert said.count("is gone (killed by signal 9 (out of memory?) after: nothing said); submitting it again") == 1
    assert (tmp_path / "makes room.log").read_text() == "went on\n"
    note = json.loads(note_of(jobs[0].log).read_text())
    assert note["node"] == os.uname().nodename
    assert note["status"] == 2
    assert note["ended"] >= note["began"]
    pickles = list((tmp_path / "cluster").rglob("*_submitted.pkl"))
    assert len(pickles) == 4
    assert all(b"run_command" in path.read_bytes() and len(path.read_bytes()) < 2000 for path in pickles)


def test_what_runs_on_a_node_needs_nothing_but_words(tmp_path: Path) -> None:
    command, log = [sys.executable, "-c", "print('here')"], tmp_path / "deep" / "a.log"
    (tmp_path / "deep").mkdir()
    sent = submitit.DebugExecutor(tmp_path / "pickles").submit(run_command, command, str(log), str(note_of(log)))
    assert sent.result() == 0
    assert log.read_text() == "here\n"
    assert json.loads(note_of(log).read_text())["status"] == 0


def test_which_ends_are_a_wish_to_go_on() -> None:
    assert [status for status in (0, 1, 2, 3, 130, 137, 138, 140, 143, -9, -15, -10) if was_told_to_end(status)] == [
        138, 140, 143, -15, -10,
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------------------
# SLURM's commands, as scripts


class Scripts:
    """A folder of commands that is all there is on PATH beside the system's own."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()

    def say(self, name: str, code: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{code}\n")
        path.chmod(0o755)


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    found = Scripts(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{found.folder}:/bin" if not Path("/bin/sbatch").exists() else str(found.folder))
    for name in ("cat", "sh", "cp", "tail"):
        found.say(name, f'exec {next(p for p in (f"/bin/{name}", f"/usr/bin/{name}") if Path(p).exists())} "$@"')
    found.say("sinfo", "echo 'main|1-00:00:00'; echo 'short|10:00'; echo 'long|infinite'")
    found.say("srun", "exit 1")
    found.say("squeue", f"cat {tmp_path / 'queue'}")
    found.say("sbatch", f"cp $1 {tmp_path / 'sent.sh'}; echo Submitted batch job 7")
    found.say("scancel", f"echo $@ >> {tmp_path / 'cancelled'}")
    (tmp_path / "queue").touch()
    return found


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        (Cluster(partition="gpu"), "cluster.partition: no partition is called 'gpu'; there are long, main, short"),
        (Cluster(partition="short", minutes=11), "partition short gives a job 10 at most"),
        (Cluster(partition="main", minutes=1441), "partition main gives a job 1440 at most"),
        (Cluster(minutes=2), "cluster.minutes is 2: a job would end before its first checkpoint; .* at least 3"),
    ],
)
def test_what_a_cluster_will_not_do_is_said_before_anything_is_submitted(
    scripts: Scripts, tmp_path: Path, cluster: Cluster, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        place_for("slurm", 1, cluster, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "sent.sh").exists()


def test_a_machine_without_a_cluster_is_told_from_one_whose_cluster_is_down(scripts: Scripts) -> None:
    check_cluster(Cluster(partition="main,long"))
    scripts.say("sinfo", "echo slurm_load_partitions: Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(UserError, match="`sinfo` does not answer"):
        check_cluster(Cluster())
    (scripts.folder / "sbatch").unlink()
    with pytest.raises(UserError, match=r"this machine has no `sbatch`; give the command where .* or leave --on out"):
        check_cluster(Cluster())


def test_jobs_are_asked_for_as_told_and_found_again_by_a_later_command(
    scripts: Scripts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job(tmp_path, name, "pass") for name in "abc"]
    cluster = Cluster(
        partition="main", minutes=90, gpus=1, cpus=6, memory_gb=16, array=2, notice=240, options=("account=lab",),
        setup=("module load cuda",), again=1,
    )  # fmt: skip
    queue = Queue(cluster, tmp_path / "out" / "cluster")
    assert queue.start(deque(jobs)) == jobs
    batch = (tmp_path / "sent.sh").read_text().splitlines()
    for line in (
        "partition=main", "time=90", "gpus-per-node=1", "cpus-per-task=6", "mem=16GB", "array=0-2%2",
        "signal=USR2@240", "account=lab", "requeue", "nodes=1", "ntasks-per-node=1",
    ):  # fmt: skip
        assert f"#SBATCH --{line}" in batch
    assert "module load cuda" in batch

    # The terminal is closed: they stay, and a later command finds two of them; the third has ended.
    queue.stop(Stopped(1))
    assert "3 jobs of the cluster go on" in capsys.readouterr().err
    (tmp_path / "queue").write_text("7_0|RUNNING|n1|None\n7_1|PENDING||Priority\n")
    note_of(jobs[2].log).write_text(json.dumps({"job": "7_2", "node": "n2", "status": 0}))
    assert states_of(tmp_path / "out") == {"a": "running, job 7_0", "b": "pending, job 7_1"}
    (tmp_path / "sent.sh").unlink()
    again = Queue(cluster, tmp_path / "out" / "cluster")
    again.start(deque(jobs[:2]))
    assert not (tmp_path / "sent.sh").exists(), "what is in the queue is not submitted a second time"
    assert again.ended() == []
    assert [again.where(each) for each in jobs[:2]] == ["n1", "pending: Priority"]

    # One is cancelled by somebody else; the queue stops answering in between, which loses nobody.
    (tmp_path / "queue").write_text("7_0|RUNNING|n1|None\n")
    scripts.say("squeue", "exit 1")
    assert again.ended() == []
    time.sleep(0.3)
    assert again.ended() == []
    scripts.say("squeue", f"cat {tmp_path / 'queue'}")
    assert again.ended() == []
    time.sleep(0.3)
    assert again.ended() == []
    assert (tmp_path / "sent.sh").exists()
    assert "job 7_1 is gone (its node was lost, or it was cancelled); submitting it again" in capsys.readouterr().err
    assert again.ended() == []
    time.sleep(0.3)
    lost = "lost 2 times without learning anything more; its node was lost, or it was cancelled"
    assert again.ended() == [(jobs[1], lost)]
    again.stop(KeyboardInterrupt())
    assert (tmp_path / "cancelled").read_text() == "7_0\n"


def test_what_sbatch_refuses_is_one_sentence_and_leaves_no_files(scripts: Scripts, tmp_path: Path) -> None:
    scripts.say("sbatch", "echo 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1")
    queue = Queue(Cluster(), tmp_path / "cluster")
    with pytest.raises(UserError, match=r"^--on slurm: sbatch refuses: Batch job submission failed: Invalid account$"):
        queue.start(deque([job(tmp_path, "a", "pass")]))
    assert not list((tmp_path / "cluster").iterdir())


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("30", 30), ("10:30", 10.5), ("1:00:00", 60), ("2-00:00:00", 2880), ("1-12", 2160), ("infinite", float("inf"))],
)
def test_slurms_time_limits(text: str, minutes: float) -> None:
    assert minutes_of(text) == minutes
