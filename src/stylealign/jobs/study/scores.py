"""What a study found: every model's answers on every test set, scored and compared: what study.json holds.

Answers are stored under the hash of the model and of the data set, so that tables are made again without any network.
Scores are fractions. Trains nothing and prints nothing.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from stylealign.batches.crops import sample_affine
from stylealign.data.dataset import FaceDataset
from stylealign.data.predictions import read_predictions, write_predictions
from stylealign.detectors.loaded import load_detector
from stylealign.detectors.size import describe
from stylealign.evaluation.matching import match_predictions
from stylealign.evaluation.metrics import nme_per_face
from stylealign.evaluation.scoring import Truth, compare, interval_over_seeds, read_truth, score_arm
from stylealign.evaluation.tables import slugs
from stylealign.face.geometry import apply, invert
from stylealign.face.sample import Prediction
from stylealign.face.schema import convert
from stylealign.jobs.evaluate.arms import answers_of
from stylealign.jobs.study.plan import Cell, Row, Study
from stylealign.progress import track
from stylealign.training.weights import read_card, read_tensors

FORMAT = 1


class ScoredOn(NamedTuple):
    """Faces that models are scored on."""

    role: str
    """`val` to choose by, or `test`"""
    dataset: FaceDataset
    split: str

    @property
    def name(self) -> str:
        return f"{self.dataset.name} {self.split}"


# --------------------------------------------------------------------------------------------------------------------
# Models


def seconds_per_update(run: Path) -> float | None:
    """Median seconds of an update between the lines of a run's metrics.jsonl; None where it has fewer than two."""
    try:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return None
    timed = [(line["step"], line["seconds"]) for line in lines if "seconds" in line]
    pairs = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(timed) if b[0] > a[0] and b[1] > a[1]]
    return median(pairs) if pairs else None  # after a resumption the clock starts anew: such a pair is left out


def _trained_on(card: Mapping[str, Any]) -> str:
    """The data sets of a card and their shares of a batch, in words."""
    data = card["data"]
    heads = len({schema["name"] for schema in (card["schema"], *card.get("other_schemas", []))})
    shared = [f"{d['name']}" + (f" ({d['share']:.0%})" if len(data) > 1 and heads == 1 else "") for d in data]
    return " + ".join(shared)


def _labels(card: Mapping[str, Any]) -> int:
    """Labelled real faces a model learnt from, those of further heads apart."""
    return sum(d["faces"] for d in card["data"] if d.get("role") not in ("synthetic", "other"))


def _describe_row(row: Row, cells: Sequence[Cell]) -> dict[str, Any]:
    """What stands in front of a row's scores."""
    config, cards = cells[0].config, [read_card(cell.run, "detector") for cell in cells]
    size: dict[str, Any] = describe(load_detector(cells[0].run).model, config.crop.size)._asdict()
    known = [seconds for cell in cells if (seconds := seconds_per_update(cell.run)) is not None]
    trained_on = dict.fromkeys(_trained_on(card) for card in cards)  # several with `{budget}` in a path
    # Of a row trained for some minutes, as many as its machine made of them.
    steps = round(median(card["step"] for card in cards)) if config.minutes else config.loop.steps
    return {
        **row._asdict(), **size, "updates": steps, "batch_size": config.loop.batch_size,
        "seconds_per_update": median(known) if known else None, "crop": config.crop.describe(),
        "trained_on": " / ".join(trained_on),
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------------------
# Scores


def answers(study: Study, cell: Cell, part: str, truth: Truth) -> np.ndarray:
    """(N, P, 2) px: a cell's model on the faces of a test set, from the file it was written to in that part of
    `predictions`, or computed and written."""
    card = read_card(cell.run, "detector")
    made_from = json.dumps([card["model_hash"], truth.faces.content_hash, truth.faces.ids()])
    stamp = hashlib.sha256(made_from.encode()).hexdigest()[:12]
    folder = study.out / "predictions" / part / cell.run.parent.relative_to(study.out / "cells")
    path = folder / f"{cell.run.name}-{stamp}.jsonl"
    if not path.exists():
        landmarks = answers_of(
            cell.run, truth.faces, truth.samples, convert=study.convert, accelerator=study.accelerator
        ).landmarks
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{cell.run.name}-*.jsonl"):  # of a model that was trained anew since
            old.unlink()
        found = (Prediction(id=s.id, landmarks=p) for s, p in zip(truth.samples, landmarks, strict=True))
        write_predictions(path, found, truth.faces.schema.name)
    rows = match_predictions(read_predictions(path), truth.samples, (), path)
    return np.stack([row.landmarks for row in rows])


def mean_shape_nme(study: Study, cell: Cell, truth: Truth) -> float:
    """The NME of an answer that looks at nothing: the mean of the cell's training faces, put into each face's crop.

    What a network that has learnt nothing yet gives, and what its error is to be compared with.
    """
    shape = read_tensors(cell.run / "model.safetensors")["mean_shape"].double().numpy()
    crop, card = cell.config.crop, read_card(cell.run, "detector")
    if study.convert:
        shape = convert(shape, card["schema"]["name"], truth.faces.schema.name)
    placed = np.stack([apply(invert(sample_affine(sample, crop)), shape) for sample in truth.samples])
    return float(nme_per_face(placed, truth.landmarks, truth.lengths, truth.mask).mean())


def _pairs(rows: Sequence[Row], baseline: str) -> list[tuple[str, str]]:
    """Which rows are compared: each arm with the detector's first arm, and every row with the baseline."""
    names = {row.name for row in rows}
    own = [(row.name, row.plain) for row in rows if row.plain in names]
    return list(dict.fromkeys([*own, *((row.name, baseline) for row in rows if row.name != baseline)]))  # type: ignore[list-item]


def _compare(
    a: Mapping[int, np.ndarray], b: Mapping[int, np.ndarray], subsets: Mapping[str, np.ndarray], resamples: int
) -> dict[str, Any] | None:
    """Two rows' per-face errors by seed, on the seeds that both have; every interval over faces and seeds."""
    seeds = [seed for seed in a if seed in b]
    if not seeds:
        return None
    ours, theirs = (np.stack([errors[seed] for seed in seeds]) for errors in (a, b))
    found = compare(ours, theirs, 0, resamples, subsets, [(i, i) for i in range(len(seeds))])
    for name, part in found["subsets"].items():
        part["low"], part["high"] = interval_over_seeds(ours[:, subsets[name]], theirs[:, subsets[name]], 0, resamples)
    low, high = interval_over_seeds(ours, theirs, 0, resamples)
    return {
        **found,
        "low_faces": found["low"],
        "high_faces": found["high"],
        "low": low,
        "high": high,
        "common_seeds": seeds,
    }


def score_study(study: Study, rows: Sequence[Row], cells: Sequence[Cell], tests: Sequence[ScoredOn]) -> dict[str, Any]:
    """Score every finished cell on every test set; what study.json holds."""
    present = [row for row in rows if any(cell.row == row.name for cell in cells)]
    baseline = study.baseline or rows[0].name
    budgets = [budget for budget in study.budgets if any(cell.budget == budget for cell in cells)]
    sets: list[dict[str, Any]] = []
    parts = slugs(test.name for test in tests)
    for test in tests:
        truth = read_truth(test.dataset, test.split, None, study.denominator, thirds=study.thirds)
        blocks: list[dict[str, Any]] = []
        for budget in budgets:
            arms: list[dict[str, Any]] = []
            errors: dict[str, dict[int, np.ndarray]] = {}
            for row in track(present, f"scoring on {test.name}, labels {budget}"):
                found = [cell for cell in cells if (cell.row, cell.budget) == (row.name, budget)]
                if not found:
                    continue
                predicted = np.stack([answers(study, cell, parts[test.name], truth) for cell in found])
                figures, nme = score_arm(predicted, truth, 0, study.resamples)
                seeds = [cell.config.loop.seed for cell in found]
                errors[row.name] = dict(zip(seeds, nme, strict=True))
                card = read_card(found[0].run, "detector")
                arms.append({
                    "name": row.name, "seeds": len(seeds), "seed_numbers": seeds, "labels": _labels(card),
                    "trained_on": _trained_on(card), "mean_shape_nme": mean_shape_nme(study, found[0], truth),
                    **figures,
                })  # fmt: skip
            paired: list[dict[str, Any]] = []
            for name, base in _pairs(present, baseline):
                if (
                    name in errors
                    and base in errors
                    and (pair := _compare(errors[name], errors[base], truth.subsets, study.resamples))
                ):
                    paired.append({"arm": name, "baseline": base, **pair})
            blocks.append({"budget": budget, "arms": arms, "paired": paired})
        sets.append({
            "role": test.role, "name": test.name, "dataset": {**truth.describe(), "split": test.split},
            "denominator": truth.denominator, "blocks": blocks,
        })  # fmt: skip
    described = [_describe_row(row, [cell for cell in cells if cell.row == row.name]) for row in present]
    data = FaceDataset.open(study.data)
    return {
        "format": FORMAT, "data": {"name": data.name, "content_hash": data.content_hash}, "seeds": list(study.seeds),
        "budgets": budgets, "baseline": baseline, "equal_updates": study.equal_updates, "rows": described, "sets": sets,
    }  # fmt: skip
