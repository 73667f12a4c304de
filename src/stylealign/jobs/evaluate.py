"""The job `evaluate`: score detector runs and predictions made elsewhere on the same faces, in one table.

An arm is a name with one or several paths (seeds): run folders, prediction files or prediction folders. Every arm is
scored on every face of one split with one denominator, so that arms can be compared face by face. Scores are stored as
fractions and shown in per cent. This file knows no file format (predictions.py), no formula (metrics.py, scoring.py),
no model, and not what a table looks like (tables.py).
"""

import csv
import glob
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from stylealign.config import from_dict
from stylealign.data.atomic import partial_of, refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, warp, write_image
from stylealign.data.predictions import match_predictions, read_predictions, write_predictions
from stylealign.errors import UserError
from stylealign.evaluation.draw import ced_plot, contact_sheet, draw_landmarks, mean_face_plot
from stylealign.evaluation.scoring import compare, read_truth, score_arm
from stylealign.evaluation.tables import THRESHOLDS, show, slug, to_markdown
from stylealign.face.geometry import apply, crop_affine, landmark_box
from stylealign.face.sample import FaceSample, Prediction
from stylealign.face.schema import SCHEMAS, LandmarkSchema, convert
from stylealign.progress import say, track

FORMAT = 1
TILE = 192
MAX_DRAWN_ARMS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Score detectors and other people's predictions on the same faces: JSON, Markdown, PNG."""

    data: Path
    """Dataset folder with the true landmarks."""
    arms: tuple[str, ...]
    """What to score, `name=path` or `path`: a detector run folder, or predictions as a .csv or .jsonl file, a folder with
    predictions.jsonl, or a folder of .pts files. `*` is expanded. Several paths under one name are seeds of that arm."""
    out: Path
    """Folder to make: evaluation.json, evaluation.md, plots, pictures, per-face errors, predictions."""
    split: str = "test"
    """Split to score; `all` for every face of the dataset."""
    subset: str | None = None
    """Score only the faces with this attribute, such as `pose`."""
    denominator: Literal["auto", "inter_ocular", "inter_pupil", "box", "diagonal"] = "auto"
    """What errors are divided by; `auto` is what papers use on this mark-up: outer eye corners, for AFLW the face box."""
    baseline: str | None = None
    """Arm the others are compared with, face by face; the first one if not given."""
    visible_only: bool = False
    """Score only landmarks marked visible. The field counts all of them."""
    thirds: bool = False
    """Score the darkest, the most blurred and the patchiest third apart, measured on the pictures: for test sets that name no subsets."""
    pixels_from_one: bool = False
    """CSV predictions count pixels from 1: subtract 1. (.pts files always do, JSON lines never do.)"""
    convert: bool = False
    """Convert predictions of another mark-up to the dataset's where the conversion is known (98 to 68 points)."""
    flip: bool = False
    """Average each detector's answer with its answer on the mirrored face: 1 to 4 % less error (300-W), twice the time. The table says so;
    predictions read from files are taken as they are."""
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
                f"draw {self.draw}, seed {self.seed} and resamples {self.resamples}: expected 0 or more, 0 or more, and at least 100"
            )


class Arm(NamedTuple):
    """A named system and the paths of its seeds."""

    name: str
    paths: tuple[Path, ...]


# --------------------------------------------------------------------------------------------------------------------
# What to score


def parse_arms(texts: Iterable[str]) -> list[Arm]:
    """Turn `name=path` and `path` texts, with globs, into arms in the order given.

    Raises:
        UserError: a pattern without a match, or two plain paths that would get one name.
    """
    found: dict[str, list[Path]] = {}
    named: dict[str, bool] = {}
    for text in texts:
        name, equals, pattern = text.partition("=")
        explicit = bool(equals) and "/" not in name and not Path(text).exists()
        if not explicit:
            name, pattern = "", text
        paths = [Path(pattern)]
        if glob.has_magic(pattern) and not paths[0].exists():
            paths = [Path(match) for match in sorted(glob.glob(pattern)) if not match.endswith(".partial")]
        if not paths or not all(path.exists() for path in paths):
            half = any(partial_of(path).exists() for path in paths)
            raise UserError(
                f"arm {text!r}: there is no finished {pattern}" + (", only a half-written .partial" if half else "")
            )
        for path in paths:
            label = name or (
                path.parent.name if path.name == "predictions.jsonl" else path.stem if path.is_file() else path.name
            )
            if label in found and not (explicit and named[label]):
                raise UserError(
                    f"arm {text!r}: a second arm called {label!r} ({found[label][0]} and {path}); write name=path, with "
                    f"two names to compare them or one name if they are seeds of one system"
                )
            found.setdefault(label, []).append(path)
            named[label] = explicit
    arms = [Arm(name, tuple(paths)) for name, paths in found.items()]
    if len({slug(arm.name) for arm in arms}) < len(arms):
        raise UserError(f"arms {', '.join(found)}: two names differ only in characters that file names cannot hold")
    return arms


def is_run(path: Path) -> bool:
    """Whether a path is a run or checkpoint folder (a predictions folder holds neither file)."""
    return (path / "card.json").is_file() or (path / "config.yaml").is_file()


def _crop_text(path: Path, flip: bool) -> str:
    """The crop protocol of an arm's path in words, as every table must print it, and whether a detector looked twice."""
    if not is_run(path):
        return "not stated"
    from stylealign.face.crop import CropConfig
    from stylealign.training.weights import read_card

    crop = read_card(path).get("crop")
    said = from_dict(CropConfig, crop, f"{path / 'card.json'}: crop").describe() if crop else "not stated"
    return f"{said}, averaged with the mirrored face" if flip else said


def _fitted(
    landmarks: np.ndarray, source: str | None, schema: LandmarkSchema, where: str, may_convert: bool
) -> np.ndarray:
    """Check that (N, P', 2) predictions follow the dataset's schema, or convert them if that was asked for."""
    points = landmarks.shape[1]
    if source is None and points == schema.num_points:
        return landmarks
    if source == schema.name and points == schema.num_points:
        return landmarks
    said = f"{points} landmarks" + (f" of schema {source!r}" if source else "")
    wanted = f"{schema.num_points} of schema {schema.name!r}"
    if not may_convert:
        raise UserError(f"{where}: predictions have {said}, the dataset has {wanted}; --convert tries to convert them")
    if source is None:
        fitting = [name for name, known in SCHEMAS.items() if known.num_points == points]
        if len(fitting) != 1:
            raise UserError(
                f"{where}: predictions have {said}, the dataset has {wanted}, and no schema is named to convert from"
            )
        source = fitting[0]
    return convert(landmarks, source, schema.name)


def predictions_of(
    path: Path, faces: FaceDataset, samples: list[FaceSample], others: list[FaceSample], config: Evaluate
) -> np.ndarray:
    """(N, P, 2) predictions of one path for the faces, source px."""
    schema = faces.schema
    if is_run(path):
        from stylealign.predicting.on_datasets import predict_dataset
        from stylealign.training.devices import pick_device
        from stylealign.training.weights import read_card

        trained_on = read_card(path, "detector").get("schema")
        trained_on = trained_on.get("name") if isinstance(trained_on, Mapping) else trained_on
        if trained_on is not None and trained_on != schema.name and not config.convert:
            points = f"{SCHEMAS[trained_on].num_points} landmarks of " if trained_on in SCHEMAS else ""
            raise UserError(
                f"{path}: the run predicts {points}schema {trained_on!r}, the dataset has {schema.num_points} of schema "
                f"{schema.name!r}; --convert tries to convert them"
            )
        device = pick_device(config.accelerator)
        landmarks = np.asarray(predict_dataset(path, faces, device=device, flip_average=config.flip), np.float64)
        return _fitted(landmarks, trained_on, schema, str(path), config.convert)
    rows = match_predictions(read_predictions(path, config.pixels_from_one), samples, others, path)
    counts = {(len(row.landmarks), row.schema) for row in rows}
    if len(counts) > 1:
        first = rows[0]
        odd = next(row for row in rows if (len(row.landmarks), row.schema) != (len(first.landmarks), first.schema))
        raise UserError(
            f"{odd.where}: {len(odd.landmarks)} landmarks (schema {odd.schema}), but {first.where} has {len(first.landmarks)} (schema {first.schema})"
        )
    return _fitted(np.stack([row.landmarks for row in rows]), rows[0].schema, schema, rows[0].where, config.convert)


# --------------------------------------------------------------------------------------------------------------------
# Pictures and files


def _face_sheet(
    which: np.ndarray,
    samples: list[FaceSample],
    truth: np.ndarray,
    arms: Mapping[str, tuple[np.ndarray, np.ndarray]],
    schema: LandmarkSchema,
) -> np.ndarray:
    """A contact sheet of faces, each once per arm: truth in orange, the first seed's prediction in blue and white."""
    tiles, labels = [], []
    for i in track(which.tolist(), "drawing faces"):
        box = landmark_box(truth[i]) + np.array([-1, -1, 1, 1])  # a box with an area, even of coincident points
        crop_from_source = crop_affine(box, 1.45, TILE)
        try:
            face = warp(read_image(samples[i].image), crop_from_source, TILE)
        except UserError as error:
            raise UserError(f"{error}; it is needed to draw the face, and --draw 0 does without pictures") from None
        for name, (landmarks, nme) in arms.items():
            tiles.append(
                draw_landmarks(face, apply(crop_from_source, landmarks[i]), schema, apply(crop_from_source, truth[i]))
            )
            labels.append(f"{100 * nme[i]:.2f} % {name}\n{samples[i].id}")
    columns = len(arms) * max(1, 6 // len(arms))
    return contact_sheet(tiles, columns, labels)


def _mean_shape(truth: np.ndarray) -> np.ndarray:
    """(P, 2) mean of the faces, each centred and scaled to unit size."""
    centred = truth - truth.mean(axis=1, keepdims=True)
    size = np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True))
    return (centred / np.maximum(size, 1e-9)).mean(axis=0)


def _write(
    folder: Path,
    evaluation: Mapping[str, Any],
    samples: list[FaceSample],
    truth: np.ndarray,
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

    mean_errors = {name: nme.mean(axis=0) for name, nme in errors.items()}
    limit = max(THRESHOLDS)
    ced_plot(
        mean_errors,
        folder / "ced.png",
        limit,
        f"{evaluation['dataset']['name']}, {evaluation['dataset']['split']}, {len(samples)} faces",
    )
    per_point = {
        arm["name"]: np.array([np.nan if v is None else 100 * v for v in arm["per_point"]])
        for arm in evaluation["arms"]
    }
    mean_face_plot(
        schema, _mean_shape(truth), per_point, folder / "per_point.png", f"NME (%), {evaluation['denominator']}"
    )
    if draw:
        order = np.argsort(np.mean(list(mean_errors.values()), axis=0), kind="stable")
        count = min(draw, len(order))
        middle = max(0, (len(order) - count) // 2)
        shown = {name: (predicted[name][0], errors[name][0]) for name in list(predicted)[:MAX_DRAWN_ARMS]}
        picks = {"best": order[:count], "median": order[middle : middle + count], "worst": order[::-1][:count]}
        for name, which in picks.items():
            write_image(folder / f"{name}.png", _face_sheet(which, samples, truth, shown, schema))


def evaluate(config: Evaluate) -> dict[str, Any]:
    """Score every arm and write the output folder; returns what evaluation.json holds.

    Raises:
        UserError: the output folder exists, an arm cannot be read or misses a face, schemas differ, a face has no denominator.
    """
    refuse_existing(config.out)
    arms = parse_arms(config.arms)
    baseline = config.baseline or arms[0].name
    if baseline not in {arm.name for arm in arms}:
        raise UserError(f"baseline: no arm is called {baseline!r}; there are {', '.join(arm.name for arm in arms)}")
    dataset = FaceDataset.open(config.data)
    truth = read_truth(dataset, config.split, config.subset, config.denominator, config.visible_only, config.thirds)
    faces, samples = truth.faces, truth.samples

    others: list[FaceSample] = []
    if len(faces) < len(dataset) and not all(is_run(path) for arm in arms for path in arm.paths):
        scored = set(faces.ids())
        others = [sample for sample in dataset if sample.id not in scored]
    results: list[dict[str, Any]] = []
    predicted: dict[str, np.ndarray] = {}
    errors: dict[str, np.ndarray] = {}
    for arm in track(arms, "scoring arms"):
        predicted[arm.name] = np.stack([predictions_of(path, faces, samples, others, config) for path in arm.paths])
        figures, errors[arm.name] = score_arm(predicted[arm.name], truth, config.seed, config.resamples)
        crops = sorted({_crop_text(path, config.flip) for path in arm.paths})
        paths = [str(path) for path in arm.paths]
        results.append({"name": arm.name, "paths": paths, "seeds": len(paths), "crop": " / ".join(crops), **figures})
    paired = [
        {
            "arm": arm.name,
            "baseline": baseline,
            **compare(errors[arm.name], errors[baseline], config.seed, config.resamples, truth.subsets),
        }
        for arm in arms
        if arm.name != baseline
    ]
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
        _write(partial, evaluation, samples, truth.landmarks, predicted, errors, dataset.schema, config.draw)
    return evaluation


def main(config: Evaluate) -> None:
    """Score, and print the tables a person wants first."""
    show(evaluate(config))
    say(f"finished: {config.out}; every table in {config.out / 'evaluation.md'}")
