"""Reads damaged inputs one after the other and says what came of each: one JSON line an input, in the order asked for.

    python -m fuzz.child WORK SEED < tasks

A task is a line of JSON: {"kind", "start", "stop"}, or {"kind", "folder"} for an input as it is. WORK/seeds holds valid
inputs. A crash is seen by the parent: the input whose line is missing.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

SECONDS = 5.0  # of CPU time an input
MEGABYTES = 1000  # of memory, with all that is loaded
MORE_MEGABYTES = 1200  # of address space, above what the reader has mapped when it has read a valid input
LONGEST = 2000  # characters of a sentence
PARTS = ("in", "out")


def fault_of(error: BaseException) -> str:
    """A fault's kind: the exception, and where in the package it came from; the same for all inputs that meet it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/stylealign/" in f.filename] or frames
    where = f"{ours[-1].filename.rpartition('/stylealign/')[2]}:{ours[-1].lineno} {ours[-1].name}" if ours else "?"
    return f"{type(error).__name__} at {where}: {str(error)[:150]}"


def judged(read: Any, folder: Path, rng: random.Random, lines: bool) -> tuple[str, str]:
    """Read an input: ("fine" | "sentence" | "fault", what was said)."""
    from stylealign.errors import UserError

    try:
        read(folder, rng)
        return "fine", ""
    except UserError as error:
        said = str(error)
        if len(said) > LONGEST:
            return "fault", f"a sentence of {len(said):,} characters: {said[:100]}"
        if not said.strip() or ("\n" in said and not lines):
            return "fault", f"not one line: {said[:150]!r}"
        if named := re.search(r"\b[A-Z]\w+(Error|Exception|Warning)\b", said.replace(str(folder), "")):
            return "fault", f"names {named[0]}: {said[-150:]}"
        return "sentence", said
    except OSError as error:
        if error.filename is not None and error.strerror:  # the command line makes a sentence of these two
            return "sentence", f"{error.filename}: {error.strerror}"
        return "fault", fault_of(error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return "fault", fault_of(error)


def peak_megabytes() -> float:
    """The most memory this process has held since `forget_peak`, or a child of it ever."""
    found = (
        re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text()) if os.path.exists("/proc/self") else None
    )
    own = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def forget_peak() -> None:
    with suppress(OSError):  # Linux only; elsewhere the most memory ever counts
        Path("/proc/self/clear_refs").write_text("5")


def cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class Reader:
    """A folder deep enough that what climbs out of it is seen, and the kinds that were warmed up."""

    def __init__(self, work: Path, seed: str):
        self.work, self.seed = work, seed
        self.top = Path(os.environ.get("FUZZ_SCRATCH", work)) / f"fuzz-{os.getpid()}"
        self.folder = self.top.joinpath(*"abcdef")
        self.folder.mkdir(parents=True)
        self.seeds: dict[str, list[Path]] = {}

    def warm(self, name: str) -> None:
        """Read each valid input, which must be fine, and then limit memory."""
        if name in self.seeds:
            return
        from fuzz.kinds import KINDS

        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.seeds[name] = sorted((self.work / "seeds" / name).iterdir())
        for seed in self.seeds[name]:
            self.place(seed)
            verdict, said = judged(KINDS[name].read, self.folder / "in", random.Random(0), True)
            if verdict != "fine":
                raise SystemExit(f"{name}: the valid input {seed} is not read: {said}")
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = mapped + MORE_MEGABYTES * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def place(self, seed: Path) -> None:
        for part in PARTS:
            shutil.rmtree(self.folder / part, ignore_errors=True)
        shutil.copytree(seed, self.folder / "in", symlinks=True)
        (self.folder / "out").mkdir()

    def damaged(self, name: str, number: int) -> random.Random:
        """Make input `number` of a kind; the generator that goes on from there."""
        from fuzz.kinds import KINDS
        from fuzz.mutations import damage_folder

        rng = random.Random(f"{self.seed} {name} {number}")
        self.place(rng.choice(self.seeds[name]))
        found = sorted(p for p in (self.folder / "in").glob(KINDS[name].damaged) if p.is_file() and not p.is_symlink())
        damage_folder(self.folder / "in", found, rng)
        return rng

    def escaped(self) -> list[str]:
        """What lies above the folder that the input may use."""
        found = []
        for parent in (self.folder, *self.folder.parents):
            allowed = PARTS if parent == self.folder else tuple("abcdef")
            found += [str(parent / name) for name in os.listdir(parent) if name not in allowed]
            if parent == self.top:
                return found
        return found

    def read(self, name: str, rng: random.Random) -> dict[str, Any]:
        """Read what is in place."""
        from fuzz.kinds import KINDS

        forget_peak()
        begun, used = time.monotonic(), cpu_seconds()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # nobody handles SIGPROF: it ends the process, in C code too
        verdict, said = judged(KINDS[name].read, self.folder / "in", rng, name.startswith(("check", "export")))
        signal.setitimer(signal.ITIMER_PROF, 0)
        used, peak = cpu_seconds() - used, peak_megabytes()
        if used > SECONDS:
            verdict, said = "fault", f"took {used:.1f} s of CPU time"
        if peak > MEGABYTES:
            verdict, said = "fault", f"took {peak:.0f} MB of memory"
        if away := self.escaped():
            verdict, said = "fault", f"wrote {away[:3]}"
            for path in away:
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        found = {"verdict": verdict, "cpu": round(used, 3), "wall": round(time.monotonic() - begun, 3)}
        return {**found, "peak": round(peak), **({"said": said} if verdict == "fault" else {})}


def main() -> None:
    work, seed = Path(sys.argv[1]), sys.argv[2]
    answers = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    if "FUZZ_SHOW" not in os.environ:
        os.dup2(nothing, 2)
    sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    warnings.simplefilter("ignore")
    os.environ["FUZZ_WORK"] = str(work)
    reader = Reader(work, seed)
    for line in sys.stdin:
        task = json.loads(line)
        name = task["kind"]
        try:
            reader.warm(name)
        except SystemExit as error:
            print(json.dumps({"broken": str(error)}), file=answers, flush=True)
            return
        for number in range(task.get("start", 0), task.get("stop", 1)):
            if "folder" in task:
                reader.place(Path(task["folder"]))
                rng = random.Random(0)
            else:
                rng = reader.damaged(name, number)
            kept = work / "faults" / f"{name}-{number}"
            found = reader.read(name, rng)
            if found["verdict"] == "fault" and "folder" not in task:
                reader.damaged(name, number)
                shutil.copytree(reader.folder / "in", kept, symlinks=True, dirs_exist_ok=True)
            print(json.dumps({"kind": name, "number": number, **found}), file=answers, flush=True)
    shutil.rmtree(reader.top, ignore_errors=True)


if __name__ == "__main__":
    main()
