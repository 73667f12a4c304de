"""What a cluster under SLURM is asked for, and what it will not do, said before anything is submitted."""

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Literal

from stylealign.errors import UserError

On = Literal["local", "slurm"]
SECONDS_TO_BEGIN = 60  # until a training learns: Python, torch, data, crops


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """What SLURM is asked for, for each job (`--on slurm`)."""

    partition: str | None = None
    """Where jobs are queued; not given: the cluster's own choice."""
    minutes: int = 240
    """Time limit of a job. One that is not done by then saves, and goes on in the queue."""
    gpus: int = 0
    """GPUs a node."""
    cpus: int = 4
    """Cores a process."""
    memory_gb: float | None = None
    """Memory a node; not given: the cluster's own choice."""
    array: int = 100
    """Jobs that run at a time, at most."""
    again: int = 3
    """How often a job that is lost without having learnt anything more is submitted again."""
    notice: int = 120
    """Seconds before the time limit at which a job is told to save."""
    options: tuple[str, ...] = ()
    """More of sbatch's, as in `account=lab` or `constraint=a100`."""
    setup: tuple[str, ...] = ()
    """Lines of shell before each job, as in `module load cuda`."""

    def __post_init__(self) -> None:
        least = {"minutes": 1, "gpus": 0, "cpus": 1, "array": 1, "again": 0, "notice": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"cluster.{name} is {getattr(self, name)}, expected at least {low}")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise ValueError(f"cluster.memory_gb is {self.memory_gb}, expected above 0")
        for option in self.options:
            if not re.fullmatch(r"[a-z][a-z-]*(=.+)?", option):
                raise ValueError(f"cluster.options: found {option!r}, expected an option of sbatch such as account=lab")


# --------------------------------------------------------------------------------------------------------------------
# Before anything is submitted


def asked(*words: str) -> str | None:
    """What a command of SLURM prints; None where it does not answer."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def minutes_of(text: str) -> float:
    """SLURM's way to write a time limit (infinite, minutes, min:s, h:min:s, days-h:min:s) in minutes."""
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        return float("inf")
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        parts += [0] * (3 - len(parts))
    elif len(parts) < 3:
        parts = [0, *parts, *[0] * (2 - len(parts))]
    return int(days or 0) * 1440 + parts[0] * 60 + parts[1] + parts[2] / 60


def check_cluster(cluster: Cluster) -> None:
    """Raise UserError for what SLURM would refuse, or would take and never do."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--on slurm needs the package submitit: pip install 'stylealign[cluster]'")
    if shutil.which("sbatch") is None:
        raise UserError(
            "--on slurm: this machine has no `sbatch`; give the command where the cluster takes jobs (a login node), "
            "or leave --on out"
        )
    if cluster.minutes * 60 < SECONDS_TO_BEGIN + cluster.notice:
        least = -(-(SECONDS_TO_BEGIN + cluster.notice) // 60)
        raise UserError(
            f"cluster.minutes is {cluster.minutes}: a job would end before its first checkpoint; it takes up to "
            f"{SECONDS_TO_BEGIN} s to begin and is told to save {cluster.notice} s before the end (cluster.notice), so "
            f"expected at least {least}"
        )
    listed = asked("sinfo", "-h", "-o", "%R|%l")
    if listed is None:
        raise UserError("--on slurm: `sinfo` does not answer; is the cluster's controller up?")
    limits = {name: minutes_of(limit) for name, _, limit in (line.partition("|") for line in listed.split())}
    if cluster.partition is None:
        return
    for name in cluster.partition.split(","):
        if name not in limits:
            raise UserError(
                f"cluster.partition: no partition is called {name!r}; there are {', '.join(sorted(limits))}"
            )
        if cluster.minutes > limits[name]:
            raise UserError(
                f"cluster.minutes is {cluster.minutes}: partition {name} gives a job {limits[name]:g} at most"
            )
