"""The job `evaluate`: score detector runs and predictions made elsewhere on the same faces, in one table.

Every arm (arms.py) is scored on every face of one split with one denominator, so that arms can be compared face by
face. Scores are stored as fractions and shown in per cent. This file knows no file format (data/predictions.py), no
formula (evaluation/metrics.py, evaluation/scoring.py), no model, and not what a table looks like (tables.py).
"""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.convention import landmarks_elsewhere
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, warp, write_image
from stylealign.data.predictions import write_predictions
from stylealign.errors import UserError, counted, quoted
from stylealign.evaluation.draw import ced_plot, contact_sheet, draw_landmarks, mean_face_plot
from stylealign.evaluation.reliability import reliability
from stylealign.evaluation.scoring import Truth, compare, interval_over_seeds, median_offset, read_truth, score_arm
from stylealign.evaluation.tables import MIN_SEEDS, THRESHOLDS, slug
from stylealign.face.convention import shifts, typical_face
from stylealign.face.geometry import apply, landmark_box
from stylealign.face.orientation import shown_crop_affine
from stylealign.face.sample import FaceSample, Prediction
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.evaluate.arms import (
    Answered,
    ArmPaths,
    answers_of,
    crop_text,
    is_run,
    num_learnt_from,
    pairs_of,
    parse_arms,
)
from stylealign.jobs.evaluate.tables import show, to_markdown
from stylealign.progress import say, track

FORMAT = 1
TILE = 192
MAX_DRAWN_ARMS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Score detectors and other people's predictions on the same faces: JSON, Markdown, PNG."""

    data: Path
    """Dataset folder with the true landmarks."""
    arms: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=PATH ...")]
    """What to score, `name=path` or `path`: a detector run folder (or `compact` or `accurate`, the detectors in the
    package), or predictions as a .csv or .jsonl file, a folder with predictions.jsonl, or a folder of .pts files. `*`
    is expanded. Several paths under one name are seeds of that arm."""
    out: Path
    """Folder to make: evaluation.json, evaluation.md, plots, pictures, per-face errors, predictions."""
    split: str = "test"
    """Split to score; `all` for every face of the dataset."""
    subset: str | None = None
    """Score only the faces with this attribute, such as `pose`."""
    denominator: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """What errors are divided by: inter_ocular, inter_pupil, box, diagonal, landmark_box, or an anchor of your mark-up.
    `auto` is what papers use on it: outer eye corners, for COFW pupils, for AFLW the box."""
    baseline: str | None = None
    """Arm the others are compared with, face by face; the first one if not given."""
    visible_only: bool = False
    """Score only landmarks marked visible. The field counts all of them."""
    thirds: bool = False
    """Score the darkest, the most blurred and the patchiest third apart, measured on the pictures: for test sets that
    name no subsets."""
    pixels_from_one: bool = False
    """CSV predictions count pixels from 1: subtract 1. (.pts files always do, JSON lines never do.)"""
    convert: bool = False
    """Convert predictions of another mark-up to the dataset's where the conversion is known (98 to 68 points)."""
    flip: bool = False
    """Average each detector's answer with its answer on the mirrored face: 1 to 4 % less error (300-W), twice the
    time. The table says so; predictions read from files are taken as they are."""
    offset_from: str | None = None
    """Split on which each run's constant offset in px is measured, `train` say: a table then gives the errors without
    it too. People's labels lean: in 300-W 0.9 px to the right of where the mirrored pictures' would lie."""
    draw: int = 24
    """Faces on each of the pictures best.png, median.png and worst.png; 0 draws none and needs no images."""
    resamples: int = 2000
    """Bootstrap resamples behind each interval."""
    seed: int = 0
    """Seed of the bootstrap."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where detector runs predict."""

    def __post_init__(self) -> None:
        if not self.arms:
            raise ValueError(
                "arms: nothing to score; give a run folder or a predictions file, such as --arms ours=runs/ours"
            )
        if min(self.draw, self.seed) < 0 or self.resamples < 100:
            raise ValueError(
                f"draw {self.draw}, seed {self.seed} and resamples {self.resamples}: expected 0 or more, 0 or more, "
                "and at least 100"
            )


# --------------------------------------------------------------------------------------------------------------------
# Pictures and files


def _face_sheet(
    which: np.ndarray,
    samples: list[FaceSample],
    arms: Mapping[str, tuple[np.ndarray, np.ndarray]],
    schema: LandmarkSchema,
) -> np.ndarray:
    """A contact sheet of faces, each once per arm: truth in orange, the first seed's prediction in blue and white."""
    tiles, labels = [], []
    for i in track(which.tolist(), "drawing faces"):
        sample = samples[i]
        assert sample.landmarks is not None
        box = landmark_box(sample.landmarks[~sample.missing_points]).astype(np.float64)
        box += (-1, -1, 1, 1)  # so that it has an area, even of coincident points
        crop_from_source = shown_crop_affine(sample.orientation, box, 1.45, TILE)
        try:
            face = warp(read_image(sample.image), crop_from_source, TILE)
        except UserError as error:
            raise UserError(f"{error}; it is needed to draw the face, and --draw 0 does without pictures") from None
        there = apply(crop_from_source, sample.labels)
        for name, (landmarks, nme) in arms.items():
            tiles.append(draw_landmarks(face, apply(crop_from_source, landmarks[i]), schema, there))
            labels.append(f"{100 * nme[i]:.2f} % {name}\n{sample.id}")
    columns = len(arms) * max(1, 6 // len(arms))
    return contact_sheet(tiles, columns, labels)


def _mean_shape(labels: np.ndarray) -> np.ndarray:
    """(P, 2) mean of the faces (N, P, 2), each centred and scaled to unit size; NaN where no face has a label.

    A face that lacks labels, NaN, is laid on the mean of the others by those that it has.
    """
    there = np.isfinite(labels).all(axis=2, keepdims=True)  # (N, P, 1)
    count, of_face = there.sum(axis=0), there.sum(axis=1, keepdims=True)  # (P, 1), (N, 1, 1)

    def place_and_size(shapes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = np.where(there, shapes, 0).sum(axis=1, keepdims=True) / of_face
        size = np.sqrt((np.where(there, shapes - place, 0) ** 2).sum(axis=(1, 2), keepdims=True) / (2 * of_face))
        return place, np.maximum(size, 1e-9)

    place, size = place_and_size(labels)
    unit = np.where(there, (labels - place) / size, 0)
    mean = unit.sum(axis=0) / np.maximum(count, 1)
    for _ in range(0 if there.all() else 100):
        before = mean
        beside, large = place_and_size(np.broadcast_to(mean, labels.shape))
        mean = np.where(there, unit * large + beside, 0).sum(axis=0) / np.maximum(count, 1)
        known = mean[count[:, 0] > 0]
        mean = (mean - known.mean(axis=0)) / np.maximum(np.sqrt(known.var(axis=0).mean()), 1e-9)
        if np.abs(mean - before).max() < 1e-6:
            break
    return np.where(count > 0, mean, np.nan)


def _write(
    folder: Path,
    evaluation: Mapping[str, Any],
    samples: list[FaceSample],
    predicted: Mapping[str, np.ndarray],
    errors: Mapping[str, np.ndarray],
    schema: LandmarkSchema,
    draw: int,
) -> None:
    """Fill the output folder."""
    (folder / "evaluation.json").write_text(
        json.dumps(evaluation, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    (folder / "evaluation.md").write_text(to_markdown(evaluation), encoding="utf-8")
    with (folder / "per_face.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", *(f"{name}#{k}" for name, nme in errors.items() for k in range(len(nme)))])
        stacked = np.concatenate(list(errors.values()))  # (all seeds of all arms, N)
        for sample, row in zip(samples, stacked.T, strict=True):
            table.writerow([sample.id, *(f"{value:.6f}" for value in row)])
    for name, landmarks in predicted.items():
        for k, one in enumerate(landmarks):
            answers = (Prediction(id=s.id, landmarks=p) for s, p in zip(samples, one, strict=True))
            write_predictions(folder / f"predictions_{slug(name)}_{k}.jsonl", answers, schema.name)

    of_all_seeds = {name: nme.ravel() for name, nme in errors.items()}  # whose AUC is the mean of the seeds' AUC
    ced_plot(
        of_all_seeds,
        folder / "ced.png",
        curve_end(of_all_seeds),
        f"{evaluation['dataset']['name']}, {evaluation['dataset']['split']}, {counted(len(samples), 'face')}",
    )
    per_point = {
        arm["name"]: np.array([np.nan if v is None else 100 * v for v in arm["per_point"]])
        for arm in evaluation["arms"]
    }
    shape = _mean_shape(np.stack([sample.labels for sample in samples]).astype(np.float64))
    mean_face_plot(schema, shape, per_point, folder / "per_point.png", f"NME (%), {evaluation['denominator']}")
    if draw:
        order = np.argsort(np.mean([nme.mean(axis=0) for nme in errors.values()], axis=0), kind="stable")
        count = min(draw, len(order))
        middle = max(0, (len(order) - count) // 2)
        shown = {name: (predicted[name][0], errors[name][0]) for name in list(predicted)[:MAX_DRAWN_ARMS]}
        picks = {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}
        for name, which in picks.items():
            write_image(folder / f"{name}.png", _face_sheet(which, samples, shown, schema))


def curve_end(errors: Mapping[str, np.ndarray]) -> float:
    """Where the plot of cumulative errors ends: at the largest threshold of the tables, but where no arm has even half
    of the faces below 70 % of that, at three times the best arm's median, so that there is a curve to see.

    Args:
        errors: name -> (N,) NME of each face, fractions, of several seeds one after the other.
    """
    end, middle = max(THRESHOLDS), min(float(np.median(nme)) for nme in errors.values())
    return end if middle <= 0.7 * end else math.ceil(60 * middle) / 20


def _trust(answers: list[Answered], truth: Truth) -> dict[str, Any] | None:
    """How sure an arm is against how far it errs, over the faces of all its seeds; None where one does not say."""
    covariances = [each.covariance for each in answers if each.covariance is not None]
    if len(covariances) < len(answers):
        return None
    seeds, mask = len(answers), truth.mask
    return reliability(
        np.concatenate([each.landmarks for each in answers]), np.concatenate(covariances),
        np.tile(truth.landmarks, (seeds, 1, 1)), np.tile(truth.lengths, seeds), truth.faces.schema,
        None if mask is None else np.tile(mask, (seeds, 1)),
    )  # fmt: skip


def _without_offset(
    config: Evaluate, arm: ArmPaths, predicted: np.ndarray, truth: Truth, elsewhere: Truth
) -> dict[str, Any]:
    """An arm's error without the constant offset that its runs show on other faces."""
    offsets = []
    for path in arm.paths:
        answers = answers_of(
            path, elsewhere.faces, elsewhere.samples, accelerator=config.accelerator, flip=config.flip,
            convert=config.convert,
        )  # fmt: skip
        offsets.append(median_offset(answers.landmarks, elsewhere))
    away = np.stack(offsets)
    figures, _ = score_arm(predicted - away[:, None, None], truth, config.seed, config.resamples)
    return {
        "split": config.offset_from,
        "faces": len(elsewhere.samples),
        "offset_px": away.mean(axis=0).tolist(),
        "nme": figures["nme"],
    }


def _compared(
    config: Evaluate, arm: ArmPaths, base: ArmPaths, errors: Mapping[str, np.ndarray], truth: Truth
) -> dict[str, Any]:
    """An arm against the baseline, by their errors (seeds, N): over faces, and with MIN_SEEDS seeds or more of both
    over faces and seeds too."""
    nme, of_base, pairs = errors[arm.name], errors[base.name], pairs_of(arm, base)
    over_seeds = None
    if len(pairs) >= MIN_SEEDS:
        ours, theirs = (list(rows) for rows in zip(*pairs, strict=True))
        low, high = interval_over_seeds(nme[ours], of_base[theirs], config.seed, config.resamples)
        over_seeds = {"low": low, "high": high, "seeds": len(pairs)}
    found = compare(nme, of_base, config.seed, config.resamples, truth.subsets, pairs)
    return {"arm": arm.name, "baseline": base.name, **found, "over_seeds": over_seeds}


def _typical(landmarks: np.ndarray, truth: Truth) -> np.ndarray | None:
    """The typical face of labels or answers (N, P, 2), of the faces whose landmarks all count."""
    whole = slice(None) if truth.mask is None else truth.mask.all(axis=1)
    return typical_face(landmarks[whole], truth.faces.schema)


def evaluate(config: Evaluate) -> dict[str, Any]:
    """Score every arm and write the output folder; returns what evaluation.json holds.

    Raises:
        UserError: the output folder exists, an arm cannot be read or misses a face, schemas differ, or a face has no
            denominator.
    """
    refuse_existing(config.out)
    arms = parse_arms(config.arms)
    baseline = config.baseline or arms[0].name
    if baseline not in {arm.name for arm in arms}:
        raise UserError(f"baseline: no arm is called {baseline!r}; there are {quoted(arm.name for arm in arms)}")
    dataset = FaceDataset.open(config.data)
    truth = read_truth(dataset, config.split, config.subset, config.denominator, config.visible_only, config.thirds)
    faces, samples = truth.faces, truth.samples
    labelled = _typical(truth.landmarks, truth)

    elsewhere = None
    if config.offset_from is not None:
        elsewhere = read_truth(dataset, config.offset_from, None, config.denominator, config.visible_only)
    others: list[FaceSample] = []
    if len(faces) < len(dataset) and not all(is_run(path) for arm in arms for path in arm.paths):
        scored = set(faces.ids())
        others = [sample for sample in dataset if sample.id not in scored]
    results: list[dict[str, Any]] = []
    predicted: dict[str, np.ndarray] = {}
    errors: dict[str, np.ndarray] = {}
    for arm in track(arms, "scoring arms"):
        answers = [
            answers_of(
                path, faces, samples, others, accelerator=config.accelerator, flip=config.flip, convert=config.convert,
                pixels_from_one=config.pixels_from_one,
            )
            for path in arm.paths
        ]  # fmt: skip
        predicted[arm.name] = np.stack([each.landmarks for each in answers])
        figures, errors[arm.name] = score_arm(predicted[arm.name], truth, config.seed, config.resamples)
        figures["trust"] = _trust(answers, truth)
        if elsewhere is not None and all(is_run(path) for path in arm.paths):
            figures["without_offset"] = _without_offset(config, arm, predicted[arm.name], truth, elsewhere)
        figures["learnt_from"] = max(num_learnt_from(path, dataset, set(faces.ids())) for path in arm.paths)
        answered = _typical(predicted[arm.name].mean(axis=0), truth)
        figures["elsewhere"] = (
            "" if labelled is None or answered is None
            else landmarks_elsewhere(shifts(answered, labelled), dataset.schema)
        )  # fmt: skip
        crops = sorted({crop_text(path, config.flip) for path in arm.paths})
        paths = [str(path) for path in arm.paths]
        results.append({"name": arm.name, "paths": paths, "seeds": len(paths), "crop": " / ".join(crops), **figures})
    (base,) = (arm for arm in arms if arm.name == baseline)
    paired = [_compared(config, arm, base, errors, truth) for arm in arms if arm is not base]
    evaluation = {
        "format": FORMAT,
        "dataset": {**truth.describe(), "split": config.split, "subset": config.subset},
        "denominator": truth.denominator,
        "visible_only": config.visible_only,
        "arms": results,
        "baseline": baseline,
        "paired": paired,
    }
    with whole_folder(config.out) as partial:
        _write(partial, evaluation, samples, predicted, errors, dataset.schema, config.draw)
    return evaluation


@making("out")
def main(config: Evaluate) -> None:
    """Score, and print the tables a person wants first."""
    show(evaluate(config))
    say(f"finished: {config.out}; every table in {config.out / 'evaluation.md'}")
