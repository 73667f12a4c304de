"""Run folder: what one training leaves behind, and how models are stored and found again.

    config.yaml        the resolved configuration, enough to run again
    environment.json   versions and machine
    metrics.jsonl      a line of numbers every few steps
    previews/          pictures on the way
    checkpoints/       step_00000500/{model.safetensors, card.json, train_state.safetensors, train_state.json}, the last two kept
    model.safetensors  the result, with card.json beside it: kind, schema, crop, configuration, data, hash

A run is written as `<name>.partial` and renamed when it has finished. Weights and states are safetensors and JSON: nothing is
unpickled. Knows no model.
"""

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor, nn

from stylealign.config import read_yaml, to_dict
from stylealign.data.atomic import partial_of, write_whole
from stylealign.errors import UserError
from stylealign.progress import say

M = TypeVar("M", bound=nn.Module)
KEPT_CHECKPOINTS = 2
# What may differ between the start of a run and its continuation without changing its result.
FREE_KEYS = {"run", "accelerator", "devices", "num_nodes"}


def pick_device(accelerator: str = "auto") -> torch.device:
    """The device for jobs of one process (evaluate, generate): cuda, else mps, else cpu, or the one named."""
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError("--accelerator cuda: this torch sees no CUDA device; use cpu, or install a CUDA build of torch")
    return torch.device(accelerator)


def place(module: M, device: torch.device | str) -> M:
    """Move a module to a device, its weights channels-last (the faster layout for convolutions on CPUs and GPUs)."""
    return module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def first_difference(a: Any, b: Any, path: str = "") -> str | None:
    """Name the first key in which two configurations differ, with both values."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(k for k in b if k not in a)]:
            if key not in FREE_KEYS:
                found = first_difference(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
                if found:
                    return found
        return None
    return None if a == b else f"{path}: {a!r} there, {b!r} now"


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

        Raises UserError where a folder of that name holds a run of another configuration: nothing is overwritten. A start that
        came to nothing (refused inputs, a key pressed in time) is no run yet, and the corrected command takes its place.
        """
        target = Path(target)
        partial = partial_of(target)
        # Through YAML's own round trip, so that both sides hold the same plain values.
        now = yaml.safe_load(yaml.safe_dump(to_dict(config)))
        stale = False
        for folder in (target, partial):
            if (folder / "config.yaml").exists():
                difference = first_difference(read_yaml(folder / "config.yaml"), now)
                stale = bool(difference) and folder == partial and not _has_work(partial)
                if difference and not stale:
                    raise UserError(
                        f"{folder}: holds a run of another configuration ({difference}); choose another --run or remove it"
                    )
                if folder == target:
                    return cls(target, target, True)
            elif folder == target and folder.exists():
                raise UserError(f"{folder}: exists and is not a run folder; choose another --run")
        if main_process:
            (partial / "previews").mkdir(parents=True, exist_ok=True)
            if stale or not (partial / "config.yaml").exists():
                write_whole(partial / "config.yaml", yaml.safe_dump(now, sort_keys=False, allow_unicode=True))
            (partial / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
        return cls(target, partial, False)

    def abandon(self) -> None:
        """Remove a folder in which nothing was learnt: what the user gave was refused."""
        if not _has_work(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps that a resumed run will do again (and a line cut short by a kill)."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = []
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
                except json.JSONDecodeError:
                    continue
            path.write_text("".join(kept), encoding="utf-8")

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
        partial.mkdir(parents=True)
        save_model(partial, model, {**card, "step": step})
        tensors, plain = flatten(state)
        safetensors.torch.save_file(tensors, partial / "train_state.safetensors")
        (partial / "train_state.json").write_text(json.dumps(plain), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def read_checkpoint(self) -> dict[str, Any] | None:
        """The newest checkpoint's training state, or None."""
        found = self.checkpoints()
        if not found:
            return None
        plain = json.loads((found[-1] / "train_state.json").read_text(encoding="utf-8"))
        return unflatten(read_tensors(found[-1] / "train_state.safetensors"), plain)

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


def flatten(state: Any, path: str = "") -> tuple[dict[str, Tensor], Any]:
    """Split nested dicts and lists into tensors by path and plain values in which '@path' marks a tensor's place."""
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach().cpu().contiguous().clone()
            return f"@{path}"
        if isinstance(value, Mapping):
            return {
                "keys": [[type(k).__name__, k] for k in value],
                "values": [walk(v, f"{path}/{k}") for k, v in value.items()],
            }
        if isinstance(value, list | tuple):
            return [walk(v, f"{path}/{i}") for i, v in enumerate(value)]
        return value

    return tensors, walk(state, path)


def unflatten(tensors: Mapping[str, Tensor], plain: Any) -> Any:
    """The inverse of `flatten` (tuples come back as lists)."""
    if isinstance(plain, dict):
        keys = [int(k) if kind == "int" else k for kind, k in plain["keys"]]
        return {k: unflatten(tensors, v) for k, v in zip(keys, plain["values"], strict=True)}
    if isinstance(plain, list):
        return [unflatten(tensors, v) for v in plain]
    if isinstance(plain, str) and plain.startswith("@"):
        return tensors[plain[1:]]
    return plain


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; anything else is refused with a sentence."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file, or cut short ({error})") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors or a .pth file (weights only: nothing else is unpickled)."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch raises many kinds for a file that is not its own
        said = type(error).__name__  # its text is of many lines, and advises to unpickle whatever it is
        raise UserError(f"{path}: not a file of weights that torch can load without running code ({said})") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: expected a state dict (names to tensors)")
    return state


def save_model(folder: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write model.safetensors and card.json (with the weights' hash)."""
    # clone: safetensors refuses tensors that share memory
    safetensors.torch.save_file(
        {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}, folder / "model.safetensors"
    )
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    from stylealign import __version__

    text = json.dumps(
        {**to_dict(dict(card)), "stylealign": __version__, "model_hash": digest}, indent=2, ensure_ascii=False
    )
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """card.json of a finished run or checkpoint folder; `kind` ("detector", "translator") is what the caller needs."""
    folder = Path(folder)
    if not (folder / "card.json").exists():
        if partial_of(folder).exists():
            raise UserError(
                f"{folder}: its training has not finished ({partial_of(folder).name}); run the same command again to continue it"
            )
        raise UserError(
            f"{folder}: not a run folder (no card.json in it)" if folder.exists() else f"{folder}: no such run"
        )
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{folder / 'card.json'}: not valid JSON ({error})") from None
    if not isinstance(card, dict) or "kind" not in card:
        raise UserError(f"{folder / 'card.json'}: no kind in it, expected the card of a {kind or 'model'}")
    if kind and card["kind"] != kind:
        raise UserError(f"{folder}: holds a {card['kind']}, expected a {kind}")
    return card


def load_model(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, card) of a finished run or checkpoint folder. Raises UserError for another kind, or weights that changed."""
    card = read_card(folder, kind)
    missing = [key for key in ("schema", "crop", "model_hash") if key not in card]
    if missing:
        raise UserError(f"{Path(folder) / 'card.json'}: missing key {', '.join(missing)}")
    path = Path(folder) / "model.safetensors"
    state = read_tensors(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != card["model_hash"]:
        raise UserError(f"{path}: the weights are not those card.json was written for (hash differs)")
    return state, card


def load_weights(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load weights strictly; the first key that does not fit is named."""
    own = model.state_dict()
    for key in [*own, *(k for k in state if k not in own)]:
        if key not in state:
            raise UserError(f"{where}: weight '{key}' is missing: it belongs to another model or configuration")
        if key not in own:
            raise UserError(f"{where}: unknown weight '{key}': it belongs to another model or configuration")
        if own[key].shape != state[key].shape:
            raise UserError(
                f"{where}: weight '{key}' has shape {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
            )
    model.load_state_dict(dict(state))
