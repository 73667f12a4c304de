"""A trained detector, or a trained finder of faces, read back from its run folder, as its card describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from stylealign.batches.augment import AugmentConfig
from stylealign.config import from_dict
from stylealign.detectors import DETECTORS, build_detector
from stylealign.detectors.finder import CentreFinder, FinderConfig
from stylealign.errors import UserError
from stylealign.evaluation.lean import lean_of_card
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema, schema_from_dict
from stylealign.training.devices import place
from stylealign.training.plugins import load_plugins, unknown
from stylealign.training.weights import load_model, load_weights

EVERY_ROLL = 179.0  # degrees to either side


@dataclass(frozen=True, kw_only=True)
class LoadedDetector:
    """A trained detector and what its card says of it."""

    model: nn.Module
    """In evaluation mode; (B, 3, size, size) in [-1, 1] -> DetectorOutput"""
    schema: LandmarkSchema
    crop: CropConfig
    card: dict[str, Any]
    lean: float = 0.0
    """By how much its answers lie to the right of what they mark, as a share of the crop's side"""

    @property
    def upright(self) -> np.ndarray | None:
        """(P, 2) the mean shape of the faces that it learnt from, where it has learnt every roll; else None."""
        if learnt_roll(self.card) < EVERY_ROLL:
            return None
        shape: np.ndarray = self.model.mean_shape.cpu().double().numpy()  # type: ignore[union-attr,operator]
        return shape if np.isfinite(shape).all() and np.ptp(shape, axis=0).min() > 0 else None


def learnt_roll(card: Mapping[str, Any]) -> float:
    """Degrees of roll to either side that a detector saw in training: `roll` of its card, in older ones what the
    configuration there says of augmentation; 0 where neither is told."""
    found = card.get("roll")
    if isinstance(found, int | float) and not isinstance(found, bool):
        return float(found)
    try:
        return from_dict(AugmentConfig, card["config"]["augment"], "augment").roll
    except (KeyError, TypeError, UserError):
        return 0.0


def learnt_lean(card: Mapping[str, Any]) -> bool:
    """Whether a detector learnt from labels that it was told lean to one side (`train-detector --lean-px`)."""
    config = card.get("config")
    if not isinstance(config, Mapping):
        return False
    given = [part.get("lean_px") for part in config.get("data") or [] if isinstance(part, Mapping)]
    return any(isinstance(value, int | float) and value != 0 for value in (config.get("lean_px"), *given))


def load_detector(run: Path, device: torch.device | str = "cpu") -> LoadedDetector:
    """Load the detector of a finished run or a checkpoint folder, or one in the package by its name. Raises UserError
    for anything else."""
    load_plugins()
    state, card = load_model(run, "detector")
    schema = schema_from_dict(card["schema"], f"{run}/card.json: schema")
    crop = from_dict(CropConfig, card["crop"], f"{run}/card.json: crop")
    if card.get("model") not in DETECTORS:
        raise UserError(f"{run}/card.json: {unknown('detector', card.get('model'), DETECTORS)}")
    network: Any = from_dict(DETECTORS[card["model"]].config, card.get("network"), f"{run}/card.json: network")
    others = [
        schema_from_dict(s, f"{run}/card.json: other_schemas[{i}]") for i, s in enumerate(card.get("other_schemas", []))
    ]
    model = build_detector(card["model"], (schema, *others), crop.size, network)
    load_weights(model, state, str(run))
    model = place(model, device).eval()
    lean = lean_of_card(card, f"{run}/card.json")
    return LoadedDetector(model=model, schema=schema, crop=crop, card=card, lean=lean)


@dataclass(frozen=True, kw_only=True)
class LoadedFinder:
    """A trained finder of faces and what its card says of it."""

    model: CentreFinder
    """In evaluation mode"""
    least_score: float
    """Of what it takes for a face"""
    card: dict[str, Any]


def load_finder(run: Path, device: torch.device | str = "cpu") -> LoadedFinder:
    """Load the finder of a finished `train-finder` run or a checkpoint folder. Raises UserError for anything else."""
    state, card = load_model(Path(run), "finder", ("size", "network", "least_score"))
    size, least_score = card["size"], card["least_score"]
    if not (isinstance(size, int) and 32 <= size <= 4096 and size % 32 == 0):
        raise UserError(f"{run}/card.json: size: found {size!r}, expected a multiple of 32 from 32 to 4096")
    if not (isinstance(least_score, int | float) and 0 <= least_score <= 1):
        raise UserError(f"{run}/card.json: least_score: found {least_score!r}, expected 0 to 1")
    model = CentreFinder(size, from_dict(FinderConfig, card["network"], f"{run}/card.json: network"))
    load_weights(model, state, str(run))
    return LoadedFinder(model=place(model, device).eval(), least_score=float(least_score), card=card)
