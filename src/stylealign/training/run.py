"""Run folder: what one training leaves behind, and how models are stored and found again.

    config.yaml        the resolved configuration, enough to run again
    environment.json   versions and machine
    metrics.jsonl      a line of numbers every few steps; metrics.csv is the same as a table (following.py)
    schedule.json      of a training of so many minutes (schedule.py)
    previews/          pictures on the way
    checkpoints/       step_00000500/{model.safetensors, card.json, train_state.safetensors,
    train_state.json}, the last two kept; best/{model.safetensors, card.json}, the best at an evaluation on the way
    model.safetensors  the result, with card.json beside it: kind, schema, crop, configuration, data, hash

A run is written as `<name>.partial` and renamed when it has finished. Of a finished run that was trained for longer,
the earlier result is checkpoints/finished_00004000. Weights and states are safetensors and JSON:
nothing is unpickled. Knows no model.
"""

import json
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylealign.config import config_text, first_difference, parse_json, plain, read_json, refuse_another, saved_config
from stylealign.data.atomic import partial_of, write_whole
from stylealign.errors import UserError, counted
from stylealign.progress import say
from stylealign.training.schedule import SCHEDULE_FILE
from stylealign.training.weights import flatten, read_tensors, save_model, unflatten, write_tensors

KEPT_CHECKPOINTS = 2
EVALUATED = "evaluate/"
"""Before the names of an evaluation's numbers in metrics.jsonl."""


def _has_work(folder: Path) -> bool:
    """Whether anything was learnt in a half-written run, or in a run inside it."""
    return any(folder.rglob("metrics.jsonl")) or any(folder.rglob("*.safetensors"))


def _steps_before(target: Path, now: Mapping[str, Any], cls: type) -> int:
    """The steps of a finished run whose configuration differs in nothing but that it now asks for more; else 0, also of
    one trained for so many minutes, whose steps are places of its schedule."""
    if not (target / "card.json").exists() or not (target / "config.yaml").exists():
        return 0
    if (target / SCHEDULE_FILE).exists():
        return 0
    there = saved_config(target / "config.yaml", cls)
    try:
        before, wanted = there["loop"]["steps"], now["loop"]["steps"]
        longer = {**there, "loop": {**there["loop"], "steps": wanted}}
    except (KeyError, TypeError):
        return 0
    return before if before < wanted and first_difference(longer, now) is None else 0


def _begin_extension(target: Path, partial: Path, now: Mapping[str, Any], done: int) -> None:
    """Copy a finished run into a half-written one of another configuration: its result becomes a checkpoint."""
    last = target / "checkpoints" / f"step_{done:08d}"
    if not (last / "train_state.safetensors").exists():
        raise UserError(
            f"{target}: finished after {counted(done, 'step')}, and {last}, from which a longer training would go on, "
            "is gone; choose another --run"
        )
    copy = target.with_name(f"{target.name}.copying")
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(target, copy)
        kept = copy / "checkpoints" / f"finished_{done:08d}"
        kept.mkdir()
        for name in ("model.safetensors", "card.json"):
            os.rename(copy / name, kept / name)
        write_whole(copy / "config.yaml", config_text(now))
        os.rename(copy, partial)
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    say(
        f"{target}: had finished after {counted(done, 'step')} and goes on to {now['loop']['steps']}; from here the "
        f"learning rate is that of step {done} of the longer training, so the end is not that of one trained so long "
        "from the start"
    )


class Run:
    """A run folder being written. `folder` is the `.partial` one until `finish`."""

    def __init__(self, target: Path, folder: Path, finished: bool):
        self.target, self.folder, self.finished = target, folder, finished

    @classmethod
    def open(cls, target: Path, config: Any, main_process: bool = True) -> "Run":
        """Start a run, continue a half-written one, or find it finished (`run.finished`).

        Raises UserError where a folder of that name holds a run of another configuration: nothing is
        overwritten. A start that came to nothing (refused inputs, a key pressed in time) is no run yet, and the
        corrected command takes its place. A finished run whose configuration asks for more steps now goes on from its
        last checkpoint, in a copy; it stays what it was until the longer training has finished.
        """
        target = Path(target)
        partial = partial_of(target)
        now = plain(config)
        stale = False
        done = _steps_before(target, now, type(config))
        for folder in (target, partial):
            if folder == target and done:
                if main_process and not partial.exists():
                    _begin_extension(target, partial, now, done)
            elif (folder / "config.yaml").exists():
                there = saved_config(folder / "config.yaml", type(config))
                stale = folder == partial and not _has_work(partial) and first_difference(there, now) is not None
                if not stale:
                    remedy = "choose another --run or remove it"
                    refuse_another(there, now, f"{folder}: holds a run of another configuration", remedy)
                if folder == target:
                    return cls(target, target, True)
            elif folder == target and folder.exists():
                raise UserError(f"{folder}: exists and is not a run folder; choose another --run")
        run = cls(target, partial, False)
        if main_process:
            try:
                (partial / "previews").mkdir(parents=True, exist_ok=True)
                if stale or not (partial / "config.yaml").exists():
                    write_whole(partial / "config.yaml", config_text(now))
                write_whole(partial / "environment.json", json.dumps(environment(), indent=2) + "\n")
            except BaseException:
                run.abandon()
                raise
        return run

    def abandon(self) -> bool:
        """Remove the folder if nothing was learnt in it, as when the user's input was refused; whether it was so."""
        kept = self.checkpoints()
        unchanged = kept and (self.folder / "checkpoints" / kept[-1].name.replace("step", "finished")).exists()
        if self.finished or (_has_work(self.folder) and not unchanged):  # unchanged: a copy of the finished run
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps that a resumed run will do again (and a line cut short by a kill). One that begins
        again at step 0 may see other faces: pictures and best weights of the earlier start go too."""
        if step == 0:
            shutil.rmtree(self.folder / "checkpoints" / "best", ignore_errors=True)
            for picture in (self.folder / "previews").glob("step_*.png"):
                picture.unlink()
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = []
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(UserError, LookupError, TypeError):
                    if parse_json(line, str(path))["step"] <= step:
                        kept.append(line + "\n")
            write_whole(path, "".join(kept))  # as a whole: a full disk or a kill now would lose every line

    def has_evaluated(self, step: int) -> bool:
        """Whether metrics.jsonl has an evaluation at this step."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = (json.loads(line) for line in lines if f'"{EVALUATED}' in line)
        return any(row["step"] == step for row in rows)

    def best(self, name: str) -> tuple[int, float]:
        """(step, value) of the best evaluation so far by the number `name`; (0, infinity) before the first."""
        path = self.folder / "checkpoints" / "best" / "card.json"
        if not path.exists():
            return 0, math.inf
        card = json.loads(path.read_text(encoding="utf-8"))
        return card["step"], card["best"][name]

    def write_best(
        self, step: int, model: Mapping[str, Tensor], card: Mapping[str, Any], values: Mapping[str, float]
    ) -> None:
        """Keep these weights as the best so far, in place of those before: a model like any other."""
        folder = self.folder / "checkpoints" / "best"
        partial = partial_of(folder)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            save_model(partial, model, {**card, "step": step, "best": dict(values)})
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(p for p in (self.folder / "checkpoints").glob("step_*") if re.fullmatch(r"step_\d+", p.name))

    def write_checkpoint(
        self, step: int, model: Mapping[str, Tensor], card: Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint as a whole or not at all, and let go of the oldest ones."""
        folder = self.folder / "checkpoints" / f"step_{step:08d}"
        partial = partial_of(folder)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            save_model(partial, model, {**card, "step": step})
            tensors, plain = flatten(state)
            write_tensors(partial / "train_state.safetensors", tensors)
            (partial / "train_state.json").write_text(json.dumps(plain), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def read_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint's training state, or None."""
        found = self.checkpoints()
        if not found:
            return None
        plain = read_json(found[-1] / "train_state.json")
        tensors = read_tensors(found[-1] / "train_state.safetensors")
        try:
            return unflatten(tensors, plain)
        except (LookupError, TypeError, ValueError):
            raise UserError(
                f"{found[-1] / 'train_state.json'}: not the state of a training that belongs to the tensors beside it; "
                f"remove {found[-1]}, and the same command goes on from the checkpoint before"
            ) from None

    def refuse_other_faces(self, card: Mapping[str, Any]) -> None:
        """Raises UserError where the newest checkpoint learnt from other faces than a card's data sets hold now, or was
        measured on others."""
        before = read_json(self.checkpoints()[-1] / "card.json")
        for key in ("data", "teacher_data", "donors", "val_data"):
            for then, now in zip(_data_sets(before, key), _data_sets(card, key), strict=False):
                if then.get("content_hash") != now.get("content_hash"):
                    raise UserError(
                        f"{self.folder}: learnt from other faces than {now.get('name')} holds now (content hash "
                        f"{str(then.get('content_hash'))[:12]}, found {str(now.get('content_hash'))[:12]}): give it "
                        "back its data set, choose another --run or remove it"
                    )

    def finish(self, model: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
        """Write the result and give the folder its final name."""
        save_model(self.folder, model, card)
        replaced = self.target.with_name(f"{self.target.name}.replaced")
        if self.target.exists():  # the shorter run that this one has gone on from
            os.rename(self.target, replaced)
        os.rename(self.folder, self.target)
        shutil.rmtree(replaced, ignore_errors=True)
        self.folder, self.finished = self.target, True
        say(f"finished: {self.target}")


def commit() -> dict[str, Any]:
    """The commit that this package runs from, and whether its files differ from it; nothing where it is no clone's."""
    package = Path(__file__).parents[1]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(package), *words], capture_output=True, text=True, check=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    if not git("ls-files", "--error-unmatch", "__init__.py"):  # in another project's clone, such as a .venv in it
        return {}
    return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "--", "."))}


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    from stylealign import __version__

    return {
        "stylealign": __version__,
        **commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def _data_sets(card: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """What a card says of the data sets under a key, of which there are several, one or none."""
    found = card.get(key) or []
    return [found] if isinstance(found, Mapping) else list(found)
