"""What a GPU lent for minutes is used for: one job inside a time limit, from crops packed beforehand.

    scripts/accelerator.sh MINUTES WHAT            see there; this is what it runs

The job is tried for a few updates, from which the number of updates that fit is worked out. It is then trained in a
folder that nobody looks into, and only what is whole goes to OUT. Where the limit strikes all the same, the best
checkpoint so far is taken, and the table says so; without one, OUT gets the log alone.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from pack_weights import halved, packed_card  # beside this file

from stylealign.data.atomic import partial_of, write_whole
from stylealign.jobs.study.scores import seconds_per_update
from stylealign.training.weights import read_card, read_tensors, save_model

MOST_BYTES = 15 << 20  # of a file of weights
LARGE = torch.cuda.is_available()
TRIED = 120 if LARGE else 12  # updates of a trial
FEWEST = 1000 if LARGE else 10  # updates that are worth a table

ROWS: dict[str, dict[str, Any]] = {  # of `table`, the first ones where not all fit
    "ResNet-18": {"model": "resnet18", "resnet": {"width": 64 if LARGE else 16}, "lr": 2e-3 if LARGE else 6e-3},
    "fpn": {"model": "fpn", "fpn": {"trunk": "mobilenet_v2"}, "lr": 1e-3},
    "LAB": {"model": "lab", "lab": {} if LARGE else {"stacks": 1, "channels": 32, "depth": 3, "width": 16}, "lr": 2e-3},
    "Wing": {"model": "wing", "wing": {} if LARGE else {"width": 32}, "lr": 2e-3},
}


class TooShort(Exception):
    """The minutes do not reach for anything."""


class Lease:
    """The time there is, the folder for what is under way, and a log of all commands."""

    def __init__(self, minutes: float, pack: Path, out: Path, work: Path):
        self.begun, self.minutes = time.monotonic(), minutes
        self.until = self.begun + 60 * minutes
        self.pack, self.out, self.work = pack, out, work
        self.log = work / "log.txt"
        self.reserve = max(8.0, 3.6 * minutes)  # seconds at the end, for evaluation and files

    def left(self) -> float:
        """Seconds until all must be done."""
        return self.until - time.monotonic()

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.begun:6.1f} s  {text}"
        print(line, flush=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def run(self, *words: object, limit: float) -> bool:
        """Run a verb for at most `limit` seconds; whether it came to its end. Its output goes to the log."""
        command = [sys.executable, "-m", "stylealign", *map(str, words)]
        self.say("stylealign " + " ".join(map(str, words)))
        with self.log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                status = process.wait(max(limit, 1.0))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self.say(f"stopped: the limit of {limit:.0f} s")
                return False
        if status:
            tail = self.log.read_text(encoding="utf-8").splitlines()[-3:]
            raise SystemExit(f"stylealign {words[0]} ended with status {status}: {' '.join(tail)}")
        return True

    def tried(self, words: list[object], limit: float) -> tuple[float, float] | None:
        """Seconds of an update and seconds before the first one, by a trial of a few; None where it did not end."""
        trial, begun = self.work / "trial", time.monotonic()
        shutil.rmtree(trial, ignore_errors=True)
        few = ("--loop.steps", TRIED, "--loop.log-every", max(1, TRIED // 4), "--loop.preview-every", 0)
        if not self.run(*words, "--run", trial, *few, limit=limit):
            return None
        each = seconds_per_update(trial)
        if each is None:
            raise TooShort("the trial says no time of an update")
        return each, max(0.0, time.monotonic() - begun - TRIED * each)

    def steps_for(self, words: list[object]) -> int:
        """Updates of a training that fit into what is left, the reserve kept, by a trial of a few.

        Raises TooShort where they are fewer than make a table.
        """
        found = self.tried(words, self.left() - self.reserve)
        if found is None:
            raise TooShort(f"{TRIED} updates did not end in {self.minutes:g} minutes")
        each, before = found
        steps = int((self.left() - self.reserve - before) / (1.1 * each))
        self.say(f"{each:.3f} s an update, {before:.1f} s before the first: {steps} updates")
        if steps < FEWEST:
            used = time.monotonic() - self.begun
            needed = (used + self.reserve + before + 1.1 * FEWEST * each) / 60
            raise TooShort(f"{max(0, steps)} updates fit, expected at least {FEWEST}: at least {needed:.1f} minutes")
        return steps

    def train(self, words: list[object], run: Path, steps: int, every: int) -> Path | None:
        """Train; the finished run, or the best checkpoint of one that the limit stopped, or None."""
        more = ("--loop.steps", steps, "--loop.preview-every", 0, "--loop.checkpoint-every", every)
        if self.run(*words, "--run", run, *more, "--loop.evaluate-every", every, limit=self.left() - self.reserve):
            return run
        best = partial_of(run) / "checkpoints" / "best"
        return best if (best / "card.json").exists() else None

    def keep(self, run: Path, name: str) -> None:
        """Write a model to OUT/NAME: weights in 16 bits, card, metrics, each as a whole."""
        made = self.work / f"{name}.packed"
        made.mkdir()
        weights = {key: halved(tensor) for key, tensor in read_tensors(run / "model.safetensors").items()}
        save_model(made, weights, packed_card(read_card(run), [f"packed crops ({self.pack.name})"]))
        size = (made / "model.safetensors").stat().st_size
        if size > MOST_BYTES:
            self.say(f"{name}: {size:,} bytes of weights, more than {MOST_BYTES:,}: they stay behind")
            return
        for metrics in (run / "metrics.jsonl", run.parent.parent / "metrics.jsonl"):
            if metrics.exists():
                shutil.copyfile(metrics, made / "metrics.jsonl")
                break
        shutil.rmtree(self.out / f"{name}.partial", ignore_errors=True)
        shutil.copytree(made, self.out / f"{name}.partial")
        os.replace(self.out / f"{name}.partial", self.out / name)


def faces(pack: Path) -> list[dict[str, Any]]:
    """The recipe's `data`: 300-W, with video faces as a seventh of each batch where they were packed."""
    own, others = str(pack / "300w"), pack / "ytfaces"
    if not others.exists():
        return [{"path": own, "share": 1.0}]
    return [{"path": own, "share": 0.85}, {"path": str(others), "share": 0.15}]


def recipe(lease: Lease, name: str, values: dict[str, Any]) -> Path:
    path = lease.work / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def loop_of(batch: int) -> dict[str, Any]:
    precision = "bf16-mixed" if LARGE else "32-true"
    return {"batch_size": batch, "ema_decay": 0.999 if LARGE else 0.95, "precision": precision, "log_every": 50}


def detector(lease: Lease) -> str:
    """The best detector at 256 px (96 px on a CPU), evaluated on val."""
    pack, size = lease.pack, 256 if LARGE else 96
    values: dict[str, Any] = {
        "model": "fpn",
        "fpn": {"trunk": "mobilenet_v2", "neck": 128 if LARGE else 32, "loss": {"terms": ["coordinates", "js"]}},
        "lr": 2e-3 if LARGE else 1e-3,
        "weight_decay": 0.02,
        "crop": {"size": size, "scale": 1.4},
        "augment": {"preset": "any_roll", "shift": 0.08},
        "loop": loop_of(128 if LARGE else 16),
        "data": faces(pack),
    }
    if (pack / "portraits").exists():
        values["style"] = {"preset": "mixture", "donors": [str(pack / "portraits")]}
    if (pack / "imagenet.pth").exists():
        values["pretrained"] = str(pack / "imagenet.pth")
    words: list[object] = ["train-detector", recipe(lease, "detector", values)]
    steps = lease.steps_for(words)
    run = lease.train(words, lease.work / "detector", steps, max(1, steps // 6))
    if run is None:
        raise TooShort("the limit struck before the first evaluation: nothing is kept")
    lease.keep(run, "detector")
    table = lease.work / "evaluation"
    said = f"{read_card(run)['step']} of {steps} updates of {values['loop']['batch_size']} faces at {size} px.\n"
    data = ("--data", pack / "300w", "--split", "val")
    if lease.run("evaluate", *data, "--arms", f"detector={run}", "--out", table, limit=lease.left() - 2):
        return said + "\n" + (table / "evaluation.md").read_text(encoding="utf-8")
    return said + "\nNot evaluated: the limit struck.\n"


def table(lease: Lease) -> str:
    """Rows of the published table at equal updates, as many as fit, on val."""
    size = 256 if LARGE else 64
    base = {"crop": {"size": size, "scale": 1.4}, "loop": loop_of(64 if LARGE else 16)}
    rows, words, costs = dict(ROWS), {}, {}
    if (lease.pack / "imagenet.pth").exists():
        rows["fpn"] = {**rows["fpn"], "pretrained": str(lease.pack / "imagenet.pth")}
    for name, row in rows.items():
        words[name] = ["train-detector", recipe(lease, name, {**base, **row}), "--real", lease.pack / "300w"]
        found = lease.tried(words[name], (lease.left() - lease.reserve) / 2)
        if found is None:
            break
        costs[name] = found
    while costs:
        spare = lease.left() - lease.reserve - sum(before for _, before in costs.values())
        steps = int(spare / (1.15 * sum(each for each, _ in costs.values())))
        if steps >= FEWEST:
            break
        lease.say(
            f"{', '.join(costs)}: {max(0, steps)} updates each fit, expected at least {FEWEST}: the last row goes"
        )
        costs.popitem()
    if not costs:
        raise TooShort(f"not even one row of {FEWEST} updates fits into {lease.minutes:g} minutes")
    lease.say(f"{len(costs)} rows of {steps} updates: {', '.join(costs)}")
    arms = []
    for name in costs:
        run = lease.train(words[name], lease.work / name, steps, steps)
        if run is None:
            lease.say(f"{name}: the limit struck; this row and those after it are left out")
            break
        arms.append(f"{name}={run}")
    out = lease.work / "evaluation"
    data = ("--data", lease.pack / "300w", "--split", "val")
    if not arms or not lease.run("evaluate", *data, "--arms", *arms, "--out", out, limit=lease.left() - 2):
        raise TooShort("the limit struck before the evaluation: nothing is kept")
    said = f"{steps} updates of {base['loop']['batch_size']} faces at {size} px in every row, one seed.\n\n"
    return said + (out / "evaluation.md").read_text(encoding="utf-8")


def translator(lease: Lease) -> str:
    """The translator `spade` at 128 px (64 px on a CPU), with its judge's figures."""
    size = 128 if LARGE else 64
    loop = {**loop_of(32 if LARGE else 8), "ema_decay": 0.995}
    values: dict[str, Any] = {
        "model": "spade",
        "data": str(lease.pack / "300w"),
        "crop": {"size": size, "scale": 1.6},
        "structure": {"kind": "boundaries_points"},
        "reconstruction": {"pixel": 1.0, "gradient": 1.0, "feature": 0.4, "gram": 0.01},
        "auxiliary": {"steps": 2000 if LARGE else 10},
        "lr": {"start": 1.5e-3, "flat_frac": 0.6, "warmup_frac": 0.05, "betas": [0.5, 0.9]},
        "loop": loop,
    }
    words: list[object] = ["train-translator", recipe(lease, "translator", values)]
    steps = lease.steps_for(words)
    run = lease.train(words, lease.work / "translator", steps, max(1, steps // 4))
    if run is None:
        raise TooShort("the limit struck before the first checkpoint: nothing is kept")
    lease.keep(run, "translator")
    card = read_card(run)
    figures = json.dumps(card.get("val") or card.get("judge") or {}, indent=1)
    return f"{card['step']} of {steps} updates at {size} px. Figures of the judge on val:\n\n```\n{figures}\n```\n"


WHAT = {"detector": detector, "table": table, "translator": translator}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", type=float)
    parser.add_argument("what", choices=tuple(WHAT))
    parser.add_argument("--pack", type=Path, default=Path("build/accelerator"), help="made by pack_crops.py")
    parser.add_argument("--out", type=Path, default=Path("build/accelerator_out"), help="gets weights, table and log")
    given = parser.parse_args()
    if not given.minutes > 0:
        raise SystemExit(f"{given.minutes} minutes: expected more than 0")
    if not (given.pack / "300w" / "dataset.yaml").exists():
        raise SystemExit(f"{given.pack}: no 300w in it; scripts/pack_crops.py makes it")
    for there in (given.out / "table.md", given.out / given.what):
        if there.exists():  # said now: at the end the minutes would be gone
            raise SystemExit(f"{there}: exists, of an earlier call; choose another OUT, or remove it")
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1" if not LARGE else "8")
    with tempfile.TemporaryDirectory() as work:
        lease = Lease(given.minutes, given.pack, given.out, Path(work))
        os.environ["STYLEALIGN_CACHE"] = str(lease.work / "cache")
        card = torch.cuda.get_device_name() if LARGE else "CPU"
        lease.say(f"{given.what}, {given.minutes:g} minutes, {card}, torch {torch.__version__}")
        try:
            said = WHAT[given.what](lease)
            head = f"# {given.what}, {given.minutes:g} minutes of one {card}, torch {torch.__version__}\n\n"
            write_whole(given.out / "table.md", head + said)
            lease.say(f"wrote {given.out}, {lease.left():.0f} s before the limit")
        except TooShort as error:
            raise SystemExit(f"{given.minutes:g} minutes are too short for `{given.what}`: {error}") from None
        finally:
            write_whole(given.out / "log.txt", lease.log.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
