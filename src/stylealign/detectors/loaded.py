"""A trained detector read back from its run folder, as its card describes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stylealign.config import from_dict
from stylealign.detectors import DETECTORS, build_detector
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema, schema_from_dict
from stylealign.training.devices import place
from stylealign.training.weights import load_model, load_weights


@dataclass(frozen=True, kw_only=True)
class LoadedDetector:
    """A trained detector and what its card says of it."""

    model: nn.Module
    """In evaluation mode; (B, 3, size, size) in [-1, 1] -> DetectorOutput"""
    schema: LandmarkSchema
    crop: CropConfig
    card: dict[str, Any]


def load_detector(run: Path, device: torch.device | str = "cpu") -> LoadedDetector:
    """Load the detector of a finished run or a checkpoint folder. Raises UserError for anything else."""
    state, card = load_model(Path(run), "detector")
    schema = schema_from_dict(card["schema"], f"{run}/card.json: schema")
    crop = from_dict(CropConfig, card["crop"], f"{run}/card.json: crop")
    if card.get("model") not in DETECTORS:
        raise UserError(f"{run}/card.json: unknown detector '{card.get('model')}'; known: {', '.join(DETECTORS)}")
    network: Any = from_dict(DETECTORS[card["model"]].config, card.get("network"), f"{run}/card.json: network")
    others = [
        schema_from_dict(s, f"{run}/card.json: other_schemas[{i}]") for i, s in enumerate(card.get("other_schemas", []))
    ]
    model = build_detector(card["model"], (schema, *others), crop.size, network)
    load_weights(model, state, str(run))
    model = place(model, device).eval()
    return LoadedDetector(model=model, schema=schema, crop=crop, card=card)
