"""Kills, simultaneous commands and full disks: what is lost, and what is left behind unnamed. Both should be nothing.

    python benchmarks/reliability.py                     20 kills, 10 pairs, a full disk at 20 points of each job
    python benchmarks/reliability.py --kills 2 --pairs 2 --disks 1 --seed 3

A kill is SIGKILL at a random moment; the same command then has to end with the bytes of a run that nobody stopped. Of
two commands of a pair one makes the folder and the other says who is at work on it. A full disk is a small one in
memory, of a random size, made in a user's own namespace (`unshare`; no rights are needed); the command has to end with
a sentence and leave nothing, or what the same command goes on from once there is room. About fifteen minutes.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

TRAIN = (
    "--crop.size 32 --resnet.width 8 --loop.steps 12 --loop.batch-size 4 --loop.checkpoint-every 3 --loop.log-every 3"
)


class Job(NamedTuple):
    """A command, and whether it goes on where it was stopped."""

    words: str
    """after `stylealign`; {out} is the folder to make"""
    goes_on: bool


JOBS = {
    "draw-faces": Job("draw-faces --count 24 --size 64 --out {out}", False),
    "prepare": Job("prepare --reader ibug --schema wflw98 --path written --copy --out {out}", False),
    "stress": Job("stress --data faces --split train --causes blur --strengths 1 3 --out {out}", False),
    "predict": Job("predict pictures --whole-image --draw --out {out}", False),
    "generate": Job("generate --data faces --style.preset free --crop.size 64 --styles-per-face 4 --out {out}", True),
    "train-detector": Job(f"train-detector --real faces {TRAIN} --loop.preview-every 3 --run {{out}}", True),
}


def in_process(arguments: list[str], log: Path) -> int:
    """Begin a command in a copy of this process, which has imported everything already; its number."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        with open(log, "wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = ["stylealign", *arguments]
        from stylealign.cli import main

        os._exit(main(arguments))
    finally:
        os._exit(99)


def ended(child: int) -> int:
    """Wait for a process; its exit status, below zero for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(folder: Path) -> dict[str, bytes]:
    """What must be the same in every run: all files, but for the clock in metrics and summaries."""
    timed = ("metrics.jsonl", "summary.json", "environment.json")
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in timed
    }


def steps_logged(folder: Path) -> list[int]:
    import json

    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row["step"] for row in rows if "total" in row]


def left_beside(out: Path) -> list[str]:
    """Names beside `out` that are not its own."""
    return sorted(p.name for p in out.parent.iterdir() if p != out)


class Bench:
    """One folder to work in, what each job makes undisturbed, and the faults found."""

    def __init__(self, folder: Path, rng: random.Random):
        self.folder, self.rng, self.faults = folder, rng, list[str]()
        self.whole: dict[str, tuple[dict[str, bytes], list[int], float, int]] = {}
        os.chdir(folder)
        self.run("draw-faces --count 30 --size 64 --out faces")
        self.run("export-dataset --data faces --format ibug --split train --out written")
        shutil.copytree("faces/images", "pictures")
        for name, job in JOBS.items():
            self.run(job.words.format(out="home/out"))  # the crops are cut
            self.clean()
            begun = time.monotonic()
            self.run(job.words.format(out="home/out"))
            seconds, out = time.monotonic() - begun, Path("home/out")
            size = sum(p.stat().st_size + 4096 for p in out.rglob("*"))
            self.whole[name] = content(out), steps_logged(out), seconds, size
            self.clean()
            print(f"{name}: {seconds:.1f} s, {size / 1e6:.2f} MB", flush=True)

    def clean(self) -> None:
        for path in Path("home").iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def run(self, words: str, expected: int = 0) -> None:
        status = ended(in_process(words.split(), Path("log")))
        if status != expected:
            raise SystemExit(f"{words}: status {status}\n{Path('log').read_text()}")

    def compare(self, name: str, what: str, out: Path) -> bool:
        """Note where a finished folder is not what an undisturbed run makes, or something lies beside it."""
        bytes_, steps, _, _ = self.whole[name]
        wrong = []
        if not out.exists():
            wrong.append("is not there")
        elif (found := content(out)) != bytes_:
            differing = [k for k in sorted({*found, *bytes_}) if found.get(k) != bytes_.get(k)]
            wrong.append(f"differs in {differing[:4]}")
        elif steps_logged(out) != steps:
            wrong.append(f"logged {steps_logged(out)}, not {steps}")
        if left_beside(out):
            wrong.append(f"beside it {left_beside(out)}")
        self.faults += [f"{name}: {what}: {out.name} {w}" for w in wrong]
        return not wrong

    def kill(self, name: str) -> str:
        """SIGKILL at a random moment, then the same command."""
        job, out = JOBS[name], Path("home/out")
        moment = self.rng.uniform(0, self.whole[name][2])
        child = in_process(job.words.format(out=out).split(), Path("log"))
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        status = ended(child)
        there = out.exists()
        again = ended(in_process(job.words.format(out=out).split(), Path("log")))
        if again not in ((0, 2) if there else (0,)):
            self.faults.append(f"{name}: killed after {moment:.2f} s, then {again}: {Path('log').read_text()}")
        fine = self.compare(name, f"killed after {moment:.2f} s", out)
        self.clean()
        return "wrong" if not fine else "ended before" if status != -signal.SIGKILL else "same bytes"

    def pair(self, name: str) -> str:
        """The same command twice, a random moment apart."""
        job, out, children = JOBS[name], Path("home/out"), []
        apart = self.rng.uniform(0, 0.9 * self.whole[name][2])
        for number in range(2):
            children.append(in_process(job.words.format(out=out).split(), Path(f"log{number}")))
            time.sleep(apart * (number == 0))
        statuses = sorted(map(ended, children))
        said = " ".join(Path(f"log{n}").read_text() for n in range(2))
        told = any(words in said for words in ("is at work on it", "already there", "nothing to do"))
        if 0 not in statuses or statuses[1] not in (0, 2) or not told:
            self.faults.append(f"{name}: two at once, {apart:.2f} s apart: statuses {statuses}: {said}")
        fine = self.compare(name, "two at once", out)
        self.clean()
        return "one made it, one was told" if fine else "wrong"

    def disk(self, name: str) -> str:
        """A disk that is full at a random moment, then the same command with room."""
        job, small = JOBS[name], Path("small")
        room = self.rng.randrange(16 << 10, self.whole[name][3])
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room},nr_inodes=100k", "tmpfs", small], check=True)
        try:
            # The same relative name as undisturbed: a run's configuration holds it.
            home = Path("home")
            home.rmdir()
            home.symlink_to(small)
            out = home / "out"
            status = ended(in_process(job.words.format(out=out).split(), Path("log")))
            lines = Path("log").read_text().strip().splitlines() or [""]
            left = sorted(p.name for p in small.iterdir())
            if status not in (0, 2) or (status and "No space left" not in lines[-1] and "no room" not in lines[-1]):
                self.faults.append(f"{name}: a disk of {room} bytes: status {status}: {lines[-3:]}")
            if status and left not in ([], ["out.partial"] if job.goes_on else []):
                self.faults.append(f"{name}: a disk of {room} bytes: left {left}")
            if status and left and "same command" not in lines[-1]:
                self.faults.append(f"{name}: a disk of {room} bytes: {left} and only: {lines[-1]}")
            subprocess.run(["mount", "-o", "remount,size=1g", small], check=True)
            if status:
                again = ended(in_process(job.words.format(out=out).split(), Path("log")))
                if again:
                    self.faults.append(f"{name}: a disk of {room} bytes, then room: {again}: {Path('log').read_text()}")
            fine = self.compare(name, f"a disk of {room} bytes", out)
            return "wrong" if not fine else "fitted" if not status else "gone on from" if left else "nothing left"
        finally:
            subprocess.run(["umount", small], check=True)
            home.unlink()
            home.mkdir()


def own_namespace() -> None:
    """Start this script anew where it may mount; without `unshare` go on, without full disks."""
    if "--inside" in sys.argv:
        return
    command = ["unshare", "-rm", sys.executable, *sys.argv, "--inside"]
    if shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0:
        sys.exit(subprocess.run(command, check=False).returncode)


def count(what: str, number: int, one: Callable[[str], str], names: list[str]) -> None:
    """Do it `number` times, over the jobs in turn, and print how each ended."""
    ends: dict[str, dict[str, int]] = {}
    for turn in range(number):
        name = names[turn % len(names)]
        end = one(name)
        ends.setdefault(name, {})[end] = ends.setdefault(name, {}).get(end, 0) + 1
    for name, how in ends.items():
        print(f"{what:<12}{name:<16}" + ", ".join(f"{n} {end}" for end, n in sorted(how.items())), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--disks", type=int, default=20, help="points of each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    own_namespace()
    # All that the jobs import, once, before the first copy of this process is made.
    import stylealign.jobs.export_dataset
    import stylealign.jobs.generate.job
    import stylealign.jobs.predict
    import stylealign.jobs.prepare
    import stylealign.jobs.stress
    import stylealign.jobs.train_detector.job  # noqa: F401

    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        for name in ("home", "small", "cache"):
            (Path(folder) / name).mkdir()
        os.environ["STYLEALIGN_CACHE"] = str(Path(folder) / "cache")
        bench = Bench(Path(folder), random.Random(given.seed))
        count("kills", given.kills, bench.kill, list(JOBS))
        count("pairs", given.pairs, bench.pair, list(JOBS))
        if given.inside:
            count("full disk", given.disks * len(JOBS), bench.disk, list(JOBS))
        else:
            print("no full disks: `unshare -rm` is not allowed here")
        os.chdir("/")
    for fault in bench.faults:
        print(f"fault: {fault}")
    print(f"{given.kills} kills, {given.pairs} pairs, {given.disks if given.inside else 0} full disks of each of "
          f"{len(JOBS)} jobs: {len(bench.faults)} faults")  # fmt: skip
    return bool(bench.faults)


if __name__ == "__main__":
    sys.exit(main())
