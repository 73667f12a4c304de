"""Trained translators, ready to use: read from their run folders by the table's entries."""

from pathlib import Path
from typing import Any

import torch

from stylealign.batches.structure_maps import StructureConfig
from stylealign.config import from_dict
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import schema_from_dict
from stylealign.training.weights import load_model, load_weights
from stylealign.translators import TRANSLATORS, build_translator
from stylealign.translators.base import LoadedTranslator

__all__ = ["LoadedTranslator", "load_translator"]


def load_translator(run: Path, device: torch.device | str = "cpu") -> LoadedTranslator:
    """Load a finished translator run (or one of its checkpoints). Raises UserError for anything else."""
    state, card = load_model(Path(run), "translator")
    where = f"{run}/card.json"
    name = card.get("model")
    if name not in TRANSLATORS:
        raise UserError(f"{where}: unknown translator '{name}'; known: {', '.join(TRANSLATORS)}")
    config = card["config"] if isinstance(card.get("config"), dict) else {}
    network: Any = from_dict(TRANSLATORS[name].config, config.get(name), f"{where}: {name}")
    schema = schema_from_dict(card["schema"], f"{where}: schema")
    crop = from_dict(CropConfig, card["crop"], f"{where}: crop")
    structure = from_dict(StructureConfig, config.get("structure"), f"{where}: structure")
    model = build_translator(name, network, crop.size, structure, schema)
    load_weights(model, state, str(Path(run) / "model.safetensors"))
    return TRANSLATORS[name].loaded(model, schema, crop, structure, card, torch.device(device))
