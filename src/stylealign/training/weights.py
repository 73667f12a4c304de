"""Weights, training states and cards as files: safetensors and JSON, nothing is unpickled. Knows no network."""

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from stylealign.config import read_json, to_dict
from stylealign.data.atomic import partial_of
from stylealign.data.packaged import run_folder
from stylealign.errors import UserError, counted

MAX_CARD = 16_000_000
"""Bytes of a card.json at most."""
_CARD_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "kind": ((str,), "a word"),
    "model": ((str,), "a name"),
    "model_hash": ((str,), "text"),
    "schema": ((dict, str), "a mark-up"),
    "crop": ((dict,), "a mapping"),
    "other_schemas": ((list,), "a list of mark-ups"),
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
    _refuse_packed(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception:  # torch raises many kinds, whose texts are of many lines and advise to unpickle whatever it is
        raise UserError(
            f"{path}: not a file of weights that torch can load without running code, or cut short; expected a "
            "state dict in .safetensors or .pth"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: expected a state dict (names to tensors)")
    return state


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file. A full disk is an OSError, as for any other file."""
    try:
        safetensors.torch.save_file(dict(tensors), path)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def _refuse_packed(path: Path) -> None:
    """Raise UserError for a zip file that unpacks to more than it is: torch packs nothing, so it is none of torch's."""
    try:
        with zipfile.ZipFile(path) as file:
            unpacked = sum(part.file_size for part in file.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # not a zip file; torch says what it is
    if unpacked > path.stat().st_size:
        raise UserError(
            f"{path}: unpacks to {counted(unpacked, 'byte')}, expected no more than it has, as torch saves weights"
        )


def save_model(folder: Path, state: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write model.safetensors and card.json (with the weights' hash)."""
    # clone: safetensors refuses tensors that share memory
    write_tensors(folder / "model.safetensors", {k: v.detach().cpu().contiguous().clone() for k, v in state.items()})
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    from stylealign import __version__

    text = json.dumps(
        {**to_dict(dict(card)), "stylealign": __version__, "model_hash": digest}, indent=2, ensure_ascii=False
    )
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def read_card(folder: Path, kind: str | None = None) -> dict[str, Any]:
    """card.json of a finished run, a checkpoint folder or a detector in the package by its name; `kind` ("detector",
    "translator") is what the caller needs."""
    folder = run_folder(folder)
    if not (folder / "card.json").exists():
        if partial_of(folder).exists():
            raise UserError(
                f"{folder}: its training has not finished ({partial_of(folder).name}); run the same "
                "command again to continue it"
            )
        raise UserError(
            f"{folder}: not a run folder (no card.json in it)" if folder.exists() else f"{folder}: no such run"
        )
    path = folder / "card.json"
    card = read_json(path, MAX_CARD)
    if not isinstance(card, dict) or "kind" not in card:
        raise UserError(f"{path}: no kind in it, expected the card of a {kind or 'model'}")
    for key, (types, expected) in _CARD_TYPES.items():
        if key in card and not isinstance(card[key], types):
            raise UserError(f"{path}: {key}: found {card[key]!r}, expected {expected}")
    if kind and card["kind"] != kind:
        raise UserError(f"{folder}: holds a {card['kind']}, expected a {kind}")
    return card


def load_model(
    folder: Path, kind: str, needed: tuple[str, ...] = ("schema", "crop")
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(weights, card) of what `read_card` reads. Raises UserError for another
    kind, a card without what is `needed`, or weights that changed."""
    folder = run_folder(folder)
    card = read_card(folder, kind)
    missing = [key for key in (*needed, "model_hash") if key not in card]
    if missing:
        raise UserError(f"{folder / 'card.json'}: missing key {', '.join(missing)}")
    path = folder / "model.safetensors"
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
