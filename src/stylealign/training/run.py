"""Run folder: what one training leaves behind, and how models are stored and found again.

    config.yaml        the resolved configuration, enough to run again
    environment.json   versions and machine
    metrics.jsonl      a line of numbers every few steps
    previews/          pictures on the way
    checkpoints/       step_00000500/{model.safetensors, card.json, train_state.safetensors,
    train_state.json}, the last two kept
    model.safetensors  the result, with card.json beside it: kind, schema, crop, configuration, data, hash

A run is written as `<name>.partial` and renamed when it has finished. Weights and states are safetensors and JSON:
nothing is unpickled. Knows no model.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from stylealign.config import first_difference, parse_json, plain, read_json, refuse_another, saved_config
from stylealign.data.atomic import partial_of, write_whole
from stylealign.errors import UserError
from stylealign.progress import say
from stylealign.training.weights import flatten, read_tensors, save_model, unflatten, write_tensors

KEPT_CHECKPOINTS = 2


def _has_work(folder: Path) -> bool:
    """Whether anything was learnt in a half-written run, or in a run inside it."""
    return any(folder.rglob("metrics.jsonl")) or any(folder.rglob("*.safetensors"))


class Run:
    """A run folder being written. `folder` is the `.partial` one until `finish`."""

    def __init__(self, target: Path, folder: Path, finished: bool):
        self.target, self.folder, self.finished = target, folder, finished

    @classmethod
    def open(cls, target: Path, config: Any, main_process: bool = True) -> "Run":
        """Start a run, continue a half-written one, or find it finished (`run.finished`).

        Raises UserError where a folder of that name holds a run of another configuration: nothing is
        overwritten. A start that came to nothing (refused inputs, a key pressed in time) is no run yet, and the
        corrected command takes its place.
        """
        target = Path(target)
        partial = partial_of(target)
        now = plain(config)
        stale = False
        for folder in (target, partial):
            if (folder / "config.yaml").exists():
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
                    write_whole(partial / "config.yaml", yaml.safe_dump(now, sort_keys=False, allow_unicode=True))
                write_whole(partial / "environment.json", json.dumps(environment(), indent=2) + "\n")
            except BaseException:
                run.abandon()
                raise
        return run

    def abandon(self) -> bool:
        """Remove the folder if nothing was learnt in it, as when the user's input was refused; whether it was so."""
        if self.finished or _has_work(self.folder):
            return False
        shutil.rmtree(self.folder, ignore_errors=True)
        return True

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps that a resumed run will do again (and a line cut short by a kill)."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = []
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(UserError, LookupError, TypeError):
                    if parse_json(line, str(path))["step"] <= step:
                        kept.append(line + "\n")
            write_whole(path, "".join(kept))  # as a whole: a full disk or a kill now would lose every line

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

    def finish(self, model: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
        """Write the result and give the folder its final name."""
        save_model(self.folder, model, card)
        os.rename(self.folder, self.target)
        self.folder, self.finished = self.target, True
        say(f"finished: {self.target}")


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    from stylealign import __version__

    return {
        "stylealign": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }
