"""A real SLURM of one node: cancelled jobs, a drained node, a controller that is restarted; the table is the same.

Slow, and it needs root and Debian's slurm-wlm and munge: where they are not, it is skipped. STYLEALIGN_SLURM_LOG names
a file that gets what was done and said.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.places import ROOT, SRC
from builders.tiny import drawn
from stylealign.config import from_dict
from stylealign.jobs.study.job import main
from stylealign.jobs.study.plan import Cell, Study
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.training.fan_out import Place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(shutil.which(name) for name in ("slurmctld", "slurmd", "munged", "apt-get")) or os.geteuid() != 0,
        reason="needs root and Debian's slurm-wlm and munge",
    ),
]
SCRIPT = ROOT / "scripts" / "slurm_one_node.sh"
STEPS = 80
PATIENCE = 1200.0  # seconds, on a machine that does other things too


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        patch.setenv("PYTHONPATH", str(SRC))
        patch.setenv("OMP_NUM_THREADS", "1")
        try:
            subprocess.run(["bash", str(SCRIPT), "start", str(folder)], check=True)
            yield folder
        finally:
            subprocess.run(["bash", str(SCRIPT), "stop", str(folder)], check=False)


class Log:
    """What happened when."""

    def __init__(self) -> None:
        self.began, self.lines = time.monotonic(), list[str]()

    def __call__(self, text: str) -> None:
        self.lines.append(f"{time.monotonic() - self.began:6.1f} s  {text}")


def wait_for(what: Callable[[], Any], study: subprocess.Popen) -> Any:
    until = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < until
        assert study.poll() is None, "the study ended first"
        time.sleep(0.1)
    return found


def in_queue(state: str) -> list[str]:
    """Numbers of the jobs in this state."""
    asked = subprocess.run(["squeue", "-h", "-r", "-t", state, "-o", "%i"], capture_output=True, text=True, check=True)
    return asked.stdout.split()


def at_work(out: Path) -> dict[str, Path]:
    """By job, the cells that have learnt something and are still at it."""
    found = {}
    for metrics in out.glob("cells/*/*/*.partial/metrics.jsonl"):
        note = json.loads(metrics.parent.with_suffix(".node.json").read_text())
        if note["status"] is None and metrics.stat().st_size:
            found[note["job"]] = metrics.parent
    return found


def table(out: Path) -> dict[str, Any]:
    """A study's result without the time it took."""
    result = json.loads((out / "study.json").read_text())
    for row in result["rows"]:
        del row["seconds_per_update"]
    return result


def in_this_process(cells: Sequence[Cell], place: Place) -> dict[str, str]:
    for cell in cells:
        train_detector(cell.config)
    return {}


def test_the_table_of_a_study_on_a_cluster_that_loses_jobs_is_that_of_one_process(
    cluster: Path, tmp_path: Path
) -> None:
    data = drawn(tmp_path / "faces").folder
    loop = {"steps": STEPS, "batch_size": 8, "log_every": 4, "checkpoint_every": 20, "preview_every": 0}
    recipe = {
        "data": str(data), "tests": ["test"], "seeds": [0, 1, 2, 3], "accelerator": "cpu",
        "base": {"crop": {"size": 32}, "resnet": {"width": 4}, "loop": loop},
        "detectors": {"A": {}, "B": {"lr": 1e-3}}, "cluster": {"cpus": 1, "minutes": 30},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(recipe))
    words = [sys.executable, "-m", "stylealign", "study", str(tmp_path / "study.yaml")]
    out, log, node = tmp_path / "on_cluster", Log(), socket.gethostname().partition(".")[0]

    def list_of() -> str:
        asked = subprocess.run([*words, "--out", str(out), "--list"], capture_output=True, text=True, check=True)
        return asked.stdout

    with open(tmp_path / "said", "wb") as said:
        study = subprocess.Popen([*words, "--out", str(out), "--on", "slurm"], stdout=said, stderr=said)
    try:
        first = next(iter(wait_for(lambda: at_work(out), study)))
        log(f"scancel {first}, which is learning")
        subprocess.run(["scancel", first], check=True)
        wait_for(lambda: first not in in_queue("pending,running,completing"), study)

        second = next(iter(wait_for(lambda: {n: p for n, p in at_work(out).items() if n != first}, study)))
        log(f"pre-empt {second}: SIGUSR1")
        asking = subprocess.Popen(["scancel", "--signal=USR1", second])  # tries for minutes where the job has just gone
        wait_for(lambda: second in in_queue("pending"), study)
        asking.kill()
        asking.wait()
        log(f"{second} has saved and is in the queue again; study --list:\n{list_of()}")

        log(f"drain {node}")
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=drain", "reason=test"], check=True)
        wait_for(lambda: not in_queue("running,completing"), study)
        log(f"nothing runs, {len(in_queue('pending'))} wait; resume {node}")
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=True)
        wait_for(lambda: in_queue("running"), study)

        log("restart slurmctld")
        subprocess.run(["bash", str(SCRIPT), "restart", str(cluster)], check=True)
        log(f"it answers; {len(in_queue('running'))} run, {len(in_queue('pending'))} wait")
        assert study.wait(PATIENCE) == 0
        log("the study has ended")
    finally:
        study.kill()
        log(f"the study said:\n{(tmp_path / 'said').read_text()}")
        if "STYLEALIGN_SLURM_LOG" in os.environ:
            Path(os.environ["STYLEALIGN_SLURM_LOG"]).write_text("\n".join(log.lines))
    told = (tmp_path / "said").read_text()
    assert f"job {first} is gone" in told
    assert "submitting it again" in told
    logs = "".join(path.read_text() for path in out.glob("cells/*/*/*.log"))
    assert logs.count("told to end") >= 2
    assert logs.count("continuing") >= 2, "they went on from their checkpoints"
    assert "8 of 8 finished" in list_of()
    assert list_of().count(node) >= 8

    main(from_dict(Study, {**recipe, "out": str(tmp_path / "alone")}), in_this_process)
    assert table(out) == table(tmp_path / "alone")
