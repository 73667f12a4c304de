"""Fuzz every reader: damaged inputs in child processes with limits on time and memory, and a table of what came of it.

    make fuzz                            100,000 inputs of seed 0
    make fuzz COUNT=5000 SEED=7          fewer, others
    PYTHONPATH=tests python -m fuzz --kinds coco,onnx --count 1000
    PYTHONPATH=tests python -m fuzz --one coco:123        one input again, with its traceback

Given again it goes on where it was stopped (`--out` holds what is done). Status 1 where there was a fault: an exception
that is no sentence, a crash, more than 5 s of CPU time, more than 1 GB of memory, or a file written outside of `out`.
"""

import argparse
import io
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

BATCH = 250
BATCHES = 10  # that a child reads
WALL_SECONDS = 300.0  # without an answer: hanging, with no CPU time used; a busy machine takes its time
HERE = Path(__file__).parent


class Broken(Exception):
    """A valid input is not read: nothing can be said of damaged ones."""


def environment() -> dict[str, str]:
    """Of children: this package and that, one thread."""
    here = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    memory = Path("/dev/shm")  # a disk takes longer to make and remove folders than they take to be read
    scratch = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    return {"FUZZ_SCRATCH": str(scratch), **os.environ, "PYTHONPATH": os.pathsep.join(here), "OMP_NUM_THREADS": "1",
            "OPENCV_LOG_LEVEL": "OFF"}  # fmt: skip


def write_seeds(work: Path, kinds: Iterable[str]) -> None:
    """Write the valid inputs of kinds that are not there yet, each as a whole."""
    from fuzz.kinds import KINDS, write_five

    os.environ["FUZZ_WORK"] = str(work)
    seeds = work / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    if not (work / "five").exists():
        write_five(work / "five")
    for name in kinds:
        if not (seeds / name).exists():
            made = work / "making" / name
            shutil.rmtree(work / "making", ignore_errors=True)
            made.mkdir(parents=True)
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                KINDS[name].write(made)
            made.rename(seeds / name)


class Child:
    """A child process that reads inputs; its death is blamed on the input it was at."""

    def __init__(self, work: Path, seed: int):
        self.work, self.seed = work, seed
        self.process: subprocess.Popen[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "fuzz.child", str(self.work), str(self.seed)]
        self.rest = b""
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())

    def _line(self) -> bytes | None:
        """The next answer; empty where the child has died, None where it hangs."""
        assert self.process is not None
        assert self.process.stdout is not None
        until = time.monotonic() + WALL_SECONDS
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                return b""
            self.rest += piece
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def run(self, task: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """An answer for each input of a task."""
        number, stop = task.get("start", 0), task.get("stop", 1)
        begun = number
        while number < stop:
            if self.process is None:
                self.process = self._start()
                begun = number
            assert self.process.stdin is not None
            if begun == number:
                self.process.stdin.write(json.dumps({**task, "start": number}).encode() + b"\n")
                self.process.stdin.flush()
                begun = -1
            line = self._line()
            if line:
                answer = json.loads(line)
                if "broken" in answer:
                    raise Broken(answer["broken"])
                yield answer
                number += 1
                continue
            if line is None:
                self.process.kill()
            self.process.wait()
            how = (
                f"no answer in {WALL_SECONDS:.0f} s"
                if line is None
                else f"died: {self._death(self.process.returncode)}"
            )
            folder = Path(environment()["FUZZ_SCRATCH"]) / f"fuzz-{self.process.pid}"
            given = folder.joinpath(*"abcdef", "in")
            if given.exists() and "folder" not in task:
                kept = self.work / "faults" / f"{task['kind']}-{number}"
                shutil.copytree(given, kept, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            self.process = None
            yield {
                "kind": task["kind"],
                "number": number,
                "verdict": "fault",
                "said": how,
                "cpu": 0,
                "wall": 0,
                "peak": 0,
            }
            number += 1
            begun = number

    @staticmethod
    def _death(code: int) -> str:
        import signal

        if code == -signal.SIGPROF:
            return "took over 5 s of CPU time"
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    def close(self) -> None:
        """Let the child end by itself."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait()
            self.process = None


def plan(count: int, names: list[str]) -> dict[str, int]:
    """How many inputs of each kind."""
    from fuzz.kinds import KINDS

    total = sum(KINDS[name].weight for name in names)
    return {name: max(1, round(count * KINDS[name].weight / total)) for name in names}


def summed(answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What a batch came to."""
    verdicts, faults, cpu, wall, peak = Counter[str](), [], 0.0, 0.0, 0.0
    for answer in answers:
        verdicts[answer["verdict"]] += 1
        cpu, wall, peak = max(cpu, answer["cpu"]), max(wall, answer["wall"]), max(peak, answer["peak"])
        if answer["verdict"] == "fault":
            faults.append([answer["number"], answer["said"]])
    return {**verdicts, "cpu": cpu, "wall": wall, "peak": peak, "faults": faults}


def show(batches: list[dict[str, Any]]) -> int:
    """Print the table and every kind of fault; how many faults."""
    rows: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(float))
    faults: dict[tuple[str, str], list[int]] = defaultdict(list)
    for batch in batches:
        for name in (batch["kind"], "all"):
            for key in ("fine", "sentence", "fault"):
                rows[name][key] += batch.get(key, 0)
            for key in ("cpu", "wall", "peak"):
                rows[name][key] = max(rows[name][key], batch[key])
        for number, said in batch["faults"]:
            faults[batch["kind"], said.split(": ")[0]].append(number)
            faults[batch["kind"], said.split(": ")[0]].sort()
    everything = rows.pop("all", None)
    print(
        f"{'kind':<16}{'inputs':>8}{'fine':>8}{'sentence':>10}{'fault':>7}{'most CPU s':>12}{'most s':>8}{'most MB':>9}"
    )
    for name, row in [*sorted(rows.items()), ("all", everything)]:
        if row:
            inputs = row["fine"] + row["sentence"] + row["fault"]
            print(f"{name:<16}{inputs:>8.0f}{row['fine']:>8.0f}{row['sentence']:>10.0f}{row['fault']:>7.0f}"
                  f"{row['cpu']:>12.2f}{row['wall']:>8.2f}{row['peak']:>9.0f}")  # fmt: skip
    said_of = {(b["kind"], n): said for b in batches for n, said in b["faults"]}
    for (kind, _), numbers in sorted(faults.items(), key=lambda item: -len(item[1])):
        print(f"fault {kind}:{numbers[0]} ({len(numbers)} such): {said_of[kind, numbers[0]]}")
    return sum(map(len, faults.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="only these, with commas between")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="what is done, and the inputs that failed")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="children side by side")
    parser.add_argument("--one", default="", help="KIND:NUMBER: read this input here, with its traceback")
    given = parser.parse_args()
    from fuzz.kinds import KINDS

    names = [given.one.split(":")[0]] if given.one else [n for n in given.kinds.split(",") if n] or list(KINDS)
    if unknown := [name for name in names if name not in KINDS]:
        parser.error(f"no kind is called {', '.join(unknown)}; there are {', '.join(KINDS)}")
    work = given.out.absolute() / f"seed-{given.seed}"
    write_seeds(work, names)
    if given.one:
        return read_one(work, given.seed, names[0], int(given.one.split(":")[1]))
    results = work / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    known = {(batch["kind"], batch["start"], batch["stop"]) for batch in done}
    tasks = [
        {"kind": name, "start": start, "stop": min(start + BATCH, count)}
        for name, count in plan(given.count, names).items()
        for start in range(0, count, BATCH)
    ]
    asked = {(task["kind"], task["start"], task["stop"]) for task in tasks}
    done = [batch for batch in done if (batch["kind"], batch["start"], batch["stop"]) in asked]
    todo = [task for task in tasks if (task["kind"], task["start"], task["stop"]) not in known]
    # A child loads what a kind needs once, and is let go of after a while: what it has leaked is no fault of an input.
    of_kind = {name: [task for task in todo if task["kind"] == name] for name in names}
    units = [mine[i : i + BATCHES] for mine in of_kind.values() for i in range(0, len(mine), BATCHES)]
    begun, lock = time.monotonic(), threading.Lock()

    def work_on(mine: list[dict[str, Any]]) -> None:
        child = Child(work, given.seed)
        for task in mine:
            batch = {**task, **summed(child.run(task))}
            with lock:
                done.append(batch)
                with open(results, "a") as file:
                    file.write(json.dumps(batch) + "\n")
                inputs = sum(b["stop"] - b["start"] for b in done)
                print(f"{inputs:>7} inputs, {sum(len(b['faults']) for b in done)} faults, "
                      f"{time.monotonic() - begun:.0f} s; {task['kind']}", file=sys.stderr)  # fmt: skip
        child.close()

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(work_on, units))
    print(f"seed {given.seed}")
    return bool(show(done))


def read_one(work: Path, seed: int, name: str, number: int) -> int:
    """Read one damaged input in this process, and let its exception be seen."""
    from fuzz.child import Reader
    from fuzz.kinds import KINDS

    reader = Reader(work, str(seed))
    reader.seeds[name] = sorted((work / "seeds" / name).iterdir())
    rng = reader.damaged(name, number)
    print(f"the input: {reader.folder / 'in'}")
    print(KINDS[name].read(reader.folder / "in", rng))
    return 0


if __name__ == "__main__":
    sys.exit(main())
