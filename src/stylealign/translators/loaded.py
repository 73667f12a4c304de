"""Translators, ready to use: read from their run folders by the table's entries, or opened by name."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stylealign.batches.structure_maps import StructureConfig
from stylealign.config import from_dict
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema, schema_from_dict
from stylealign.training.plugins import load_plugins, unknown
from stylealign.training.weights import load_model, load_weights
from stylealign.translators import TRANSLATORS, build_translator, trained_names, untrained_names
from stylealign.translators.base import LoadedTranslator

__all__ = ["LoadedTranslator", "load_translator", "named_translator", "open_translator", "open_untrained"]


def named_translator(translator: Path | str | None) -> str | None:
    """The translator that needs no training, where its name stands in a run folder's place; None for a run folder.

    Raises UserError where both may be meant: a folder of that name that holds a run.
    """
    load_plugins()
    name = str(translator)
    if name not in untrained_names():
        return None
    if (Path(name) / "card.json").exists():
        raise UserError(
            f"'{name}' is a translator that needs no training, and a run folder here is called so too: give that "
            f"folder's whole path, {Path(name).absolute()}, or call it otherwise"
        )
    return name


def open_untrained(
    name: str, schema: LandmarkSchema, crop: CropConfig, device: torch.device | str = "cpu"
) -> LoadedTranslator:
    """A translator that has nothing to learn, for faces of a mark-up that are cut by `crop`."""
    entry, structure = TRANSLATORS[name], StructureConfig()
    model = entry.build(entry.preset("small").network, crop.size, structure, schema)
    card: dict[str, Any] = {"kind": "translator", "model": name, "model_hash": _hash_of(name, model, schema)}
    return entry.loaded(model, schema, crop, structure, card, torch.device(device))


def _hash_of(name: str, model: nn.Module, schema: LandmarkSchema) -> str:
    """SHA-256 of all that an untrained translator's pictures depend on beside the faces and how they are cut."""
    found = hashlib.sha256(f"{name} {TRANSLATORS[name].version} {schema.to_dict()}".encode())
    for key, value in model.state_dict().items():  # weights that somebody else trained, which `build` reads
        found.update(key.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def open_translator(
    translator: Path | str, schema: LandmarkSchema, crop: CropConfig, device: torch.device | str = "cpu"
) -> LoadedTranslator:
    """The translator of a finished run; or one that needs no training, whose name stands in the folder's place, for
    faces of a mark-up that are cut by `crop`."""
    name = named_translator(translator)
    return load_translator(Path(translator), device) if name is None else open_untrained(name, schema, crop, device)


def load_translator(run: Path, device: torch.device | str = "cpu") -> LoadedTranslator:
    """Load a finished translator run (or one of its checkpoints). Raises UserError for anything else."""
    load_plugins()
    state, card = load_model(Path(run), "translator")
    where = f"{run}/card.json"
    name = card.get("model")
    if name not in trained_names():
        raise UserError(f"{where}: {unknown('translator', name, trained_names())}")
    config = card["config"] if isinstance(card.get("config"), dict) else {}
    network: Any = from_dict(TRANSLATORS[name].config, config.get(name), f"{where}: {name}")
    schema = schema_from_dict(card["schema"], f"{where}: schema")
    crop = from_dict(CropConfig, card["crop"], f"{where}: crop")
    structure = from_dict(StructureConfig, config.get("structure"), f"{where}: structure")
    model = build_translator(name, network, crop.size, structure, schema)
    load_weights(model, state, str(Path(run) / "model.safetensors"))
    return TRANSLATORS[name].loaded(model, schema, crop, structure, card, torch.device(device))
