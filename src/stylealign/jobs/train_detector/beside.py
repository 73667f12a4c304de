"""Trainings of detectors beside each other: each by the command that a person would type, here or on a cluster."""

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from stylealign.config import config_text, read_note
from stylealign.data.atomic import lock_of, partial_of, write_whole
from stylealign.data.lock import host_of
from stylealign.errors import UserError
from stylealign.jobs.train_detector import job
from stylealign.progress import say
from stylealign.training.cluster import Cluster, On
from stylealign.training.fan_out import Job, run_jobs
from stylealign.training.session import refuse_replaced_data
from stylealign.training.slurm import note_of, place_for


def step_of(run: Path) -> int:
    """How far a run is, from the tail of its metrics.jsonl."""
    path = partial_of(run) / "metrics.jsonl"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().splitlines()
    except OSError:  # not begun, or just renamed
        return 0
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return int(json.loads(line)["step"])
    return 0


def log_of(run: Path) -> Path:
    """What such a training says is in this file, beside its run and its recipe."""
    return run.with_name(f"{run.name}.log")


def node_of(run: Path) -> str:
    """The machine that a training is on now, or was on when it ended; empty where nobody knows."""
    return host_of(lock_of(run)) or str(read_note(note_of(log_of(run))).get("node") or "")


def command_of(config: job.DetectorJob, name: str, kind: str) -> Job:
    """A training as a command; writes its recipe beside the run. Those of one kind go at one speed."""
    run, loop = config.run, config.loop
    recipe = run.with_name(f"{run.name}.yaml")
    write_whole(recipe, config_text(config))
    command = (sys.executable, "-m", "stylealign", "train-detector", str(recipe.absolute()))  # never a flag: -o/s0.yaml

    def step() -> int:
        return loop.steps if (run / "card.json").exists() else step_of(run)

    return Job(name, kind, command, log_of(run), loop.steps, step, loop.devices, loop.num_nodes)


def train_all(
    configs: Mapping[str, job.DetectorJob], on: On, jobs: int, cluster: Cluster, folder: Path, what: str
) -> None:
    """Train detectors by name: one after another in this process, or beside each other where more than one may run.

    Raises UserError where one failed, after the others have ended.
    """
    if on == "local" and jobs == 1:
        for config in configs.values():
            job.main(config)
        return
    todo = {name: config for name, config in configs.items() if not (config.run / "card.json").exists()}
    for name, config in configs.items():
        if name not in todo:
            refuse_replaced_data(config.run, config)
    if todo:
        commands = [command_of(config, name, what) for name, config in todo.items()]
        failed = run_jobs(commands, place_for(on, jobs, cluster, folder), what)
        for name, why in failed.items():
            say(f"{name} failed: {why}")
        if failed:
            name, why = next(iter(failed.items()))
            raise UserError(f"{len(failed)} of {len(todo)} trainings failed, the first {name}: {why}; the same command "
                            "trains what failed again")  # fmt: skip
