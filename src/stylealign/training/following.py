"""Numbers and pictures of a training for those who watch it: a table, TensorBoard, Weights & Biases.

`metrics.csv` is metrics.jsonl as a table, written anew whenever something is saved. TensorBoard
(`pip install 'stylealign[track]'`) and wandb are only used where they are asked for and installed; wandb stays on this
machine unless WANDB_MODE says otherwise. Knows no model.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from stylealign.data.atomic import write_whole
from stylealign.errors import UserError

Follow = Literal["tensorboard", "wandb"]
INSTALL = {"tensorboard": "pip install 'stylealign[track]'", "wandb": "pip install wandb"}


class Follower(Protocol):
    """What shows a training while it runs."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None: ...
    def picture(self, step: int, rgb: np.ndarray) -> None: ...
    def close(self) -> None: ...


class _TensorBoard:
    """Event files in `<run>/tensorboard`."""

    def __init__(self, folder: Path, first: int):
        from torch.utils.tensorboard import SummaryWriter

        # What a stopped run had shown beyond its last checkpoint is shown again, so it is purged.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first + 1 if first else None)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, step: int, rgb: np.ndarray) -> None:
        self._writer.add_image("val faces", rgb, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of wandb's, in `<run>/wandb`."""

    def __init__(self, folder: Path, first: int):
        import wandb

        name = folder.name.removesuffix(".partial")
        mode = os.environ.get("WANDB_MODE", "offline")
        self._wandb, self._run = wandb, wandb.init(project="stylealign", name=name, dir=str(folder), mode=mode)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def picture(self, step: int, rgb: np.ndarray) -> None:
        self._run.log({"val faces": self._wandb.Image(rgb)}, step=step)

    def close(self) -> None:
        self._run.finish()


def refuse_missing(names: Iterable[Follow]) -> None:
    """Raise UserError for one that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"--loop.follow {name}: not installed; get it with: {INSTALL[name]}")


def open_followers(names: Iterable[Follow], folder: Path, first: int) -> list[Follower]:
    """The named ones, of a run folder whose training goes on after `first` updates."""
    refuse_missing(names)
    made: dict[str, Callable[[Path, int], Follower]] = {"tensorboard": _TensorBoard, "wandb": _Wandb}
    return [made[name](folder, first) for name in names]


def memory_mb(device: torch.device) -> dict[str, float]:
    """The most memory that this process has held so far, MB: the GPU's where it trains on one. Nothing where the
    system does not say."""
    if device.type == "cuda":
        return {"memory_mb": round(torch.cuda.max_memory_allocated(device) / 1e6, 1)}
    try:
        import resource
    except ImportError:  # Windows
        return {}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"memory_mb": round(most / (1e6 if sys.platform == "darwin" else 1e3), 1)}


def write_table(folder: Path) -> None:
    """Write metrics.csv, a line a step, of metrics.jsonl; a line cut short by a kill is passed over."""
    rows: dict[int, dict[str, float]] = {}
    names: dict[str, None] = {"step": None}
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
            rows.setdefault(values["step"], {}).update(values)
        except (ValueError, LookupError, TypeError):
            continue
        names |= dict.fromkeys(values)
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, list(names), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows[step] for step in sorted(rows))
    write_whole(folder / "metrics.csv", buffer.getvalue())
