"""What `evaluate` scores: texts like `name=path` -> arms of the comparison, and a path of an arm -> its predictions.

An arm is a name with one or several paths (seeds): run folders, prediction files or prediction folders.
"""

import glob
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stylealign.config import from_dict
from stylealign.data.atomic import partial_of
from stylealign.data.dataset import FaceDataset, sources_of
from stylealign.data.packaged import run_folder
from stylealign.data.predictions import read_predictions
from stylealign.errors import UserError, counted, quoted
from stylealign.evaluation.matching import match_predictions
from stylealign.evaluation.tables import share_a_folder
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema
from stylealign.face.schema import convert as convert_landmarks


class ArmPaths(NamedTuple):
    """An arm of the comparison: a name, and where each of its seeds is."""

    name: str
    paths: tuple[Path, ...]
    """Run folders, prediction files or prediction folders"""


def parse_arms(texts: Iterable[str]) -> list[ArmPaths]:
    """Turn `name=path` and `path` texts, with globs, into arms in the order given; a path may be the name of a detector
    in the package.

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
        paths = [run_folder(pattern)]
        if glob.has_magic(pattern) and not paths[0].exists():
            paths = [Path(match) for match in sorted(glob.glob(pattern)) if not match.endswith((".partial", ".lock"))]
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
                    f"arm {text!r}: a second arm called {label!r} ({found[label][0]} and {path}); write name=path, "
                    "with two names to compare them or one name if they are seeds of one system"
                )
            if path in found.get(label, ()):
                raise UserError(f"arm {text!r}: {path} is in it already, expected each seed once")
            found.setdefault(label, []).append(path)
            named[label] = explicit
    arms = [ArmPaths(name, tuple(paths)) for name, paths in found.items()]
    if share_a_folder(arm.name for arm in arms):
        raise UserError(
            f"arms {quoted(found)}: two names differ only in case, or in characters that file names cannot hold"
        )
    return arms


def is_run(path: Path) -> bool:
    """Whether a path is a run or checkpoint folder (a predictions folder holds neither file)."""
    return (path / "card.json").is_file() or (path / "config.yaml").is_file()


def crop_text(path: Path, flip: bool) -> str:
    """The crop protocol of an arm's path in words, as every table must print it, and whether answers are averaged."""
    if not is_run(path):
        return "not stated"
    from stylealign.face.crop import CropConfig
    from stylealign.training.weights import read_card

    crop = read_card(path).get("crop")
    said = from_dict(CropConfig, crop, f"{path / 'card.json'}: crop").describe() if crop else "not stated"
    return f"{said}, averaged with the mirrored face" if flip else said


def seed_of(path: Path) -> int | None:
    """The seed that an arm's path was trained with, as its card says; None of predictions, and where it does not."""
    if not is_run(path):
        return None
    from stylealign.training.weights import read_card

    found: Any = read_card(path).get("config")
    for key in ("loop", "seed"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, int) else None


def pairs_of(arm: ArmPaths, baseline: ArmPaths) -> list[tuple[int, int]]:
    """Which paths of two arms belong together, by their places: those of one seed, in the order of the seeds, where
    both arms were trained with the same ones. Predictions made before name no seed: where no path of either arm is a
    run, and both have as many, they belong together in the order given. Else none do."""
    if not any(is_run(path) for path in (*arm.paths, *baseline.paths)):
        same = len(arm.paths) == len(baseline.paths)
        return [(i, i) for i in range(len(arm.paths))] if same else []
    ours, theirs = ({seed_of(path): i for i, path in enumerate(each.paths)} for each in (arm, baseline))
    one_each = len(ours) == len(arm.paths) and len(theirs) == len(baseline.paths)
    if None in ours or ours.keys() != theirs.keys() or not one_each:
        return []
    return [(ours[seed], theirs[seed]) for seed in sorted(seed for seed in ours if seed is not None)]


def _data_of(card: Mapping[str, Any]) -> dict[str, FaceDataset]:
    """Content hash -> the data sets that the configuration of a run's card names and that are still where they were."""
    config = card.get("config")
    if not isinstance(config, Mapping):
        return {}
    sources, others = config.get("data"), config.get("other")
    named = [config.get("real"), config.get("synthetic"), *(others if isinstance(others, list) else ())]
    named += [each.get("path") for each in (sources if isinstance(sources, list) else ()) if isinstance(each, Mapping)]
    found = {}
    for folder in named:
        if isinstance(folder, str) and (Path(folder) / "dataset.yaml").is_file():
            try:
                opened = FaceDataset.open(Path(folder))
            except UserError:  # it is another's by now, or shards
                continue
            found[opened.content_hash] = opened
    return found


def _made_of(faces: FaceDataset, learnt: Mapping[str, Any]) -> np.ndarray:
    """(N,) bool: which faces were made from others that were learnt from, as far as their data set says of which split
    and subset of its source it was made."""
    how = faces.meta.get("how") or {}
    used = how.get("config") or {}
    if learnt.get("content_hash") not in sources_of(faces.meta)[:1] or any(
        learnt.get(key) not in (None, used.get(key)) for key in ("split", "subset")
    ):
        return np.zeros(len(faces), bool)
    return np.array([faces.head(i).get("provenance") is not None for i in range(len(faces))])


def num_learnt_from(path: Path, dataset: FaceDataset, faces: set[str]) -> int:
    """How many of some faces of a data set, by their ids, a run or one that it started from learnt from: themselves, as
    what was made from them or what they were made from, or from another data set that has their picture.

    As far as its card says: data sets that it names by their content hash are looked into where its configuration says
    where they are and they still are there.
    """
    from stylealign.training.seen import data_learnt, learnt_among
    from stylealign.training.weights import read_card

    if not is_run(path):
        return 0
    card = read_card(path)
    held_out = dataset.take(i for i, face in enumerate(dataset.ids()) if face in faces)
    opened = {**_data_of(card), dataset.content_hash: dataset}
    seen, views = np.zeros(len(held_out), dtype=bool), []
    for learnt in data_learnt(card):
        there = opened.get(str(learnt.get("content_hash")))
        if there is None:
            seen |= _made_of(held_out, learnt)
            continue
        view = there.select(learnt.get("split"), learnt.get("subset"), labelled=True)
        if there is dataset or learnt.get("faces") == len(view):  # else of a part that the card does not name
            views.append(view)
    return int((seen | learnt_among(held_out, views).seen).sum())


def fitted(
    landmarks: np.ndarray, source: str | None, schema: LandmarkSchema, where: str, may_convert: bool
) -> np.ndarray:
    """Check that (N, P', 2) predictions follow the dataset's schema, or convert them if that was asked for."""
    points = landmarks.shape[1]
    if source is None and points == schema.num_points:
        return landmarks
    if source == schema.name and points == schema.num_points:
        return landmarks
    said = counted(points, "landmark") + (f" of schema {source!r}" if source else "")
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
    return convert_landmarks(landmarks, source, schema.name)


class Answered(NamedTuple):
    """What one path of an arm says of N faces."""

    landmarks: np.ndarray
    """(N, P, 2) float64 px of the source images"""
    covariance: np.ndarray | None
    """(N, P, 2, 2) px^2 of how sure it is; None where it does not say of all faces, and of converted landmarks"""


def answers_of(
    path: Path,
    faces: FaceDataset,
    samples: list[FaceSample],
    others: Sequence[FaceSample] = (),
    *,
    accelerator: str = "auto",
    flip: bool = False,
    convert: bool = False,
    pixels_from_one: bool = False,
) -> Answered:
    """What one path of an arm predicts of N faces, and how sure it is.

    Args:
        path: a detector's run folder, which predicts them now, or predictions made before.
        faces: the faces, a view of their data set.
        samples: the same, read.
        others: faces of the data set that are not scored: predictions of those are passed over.
        accelerator: where a detector predicts.
        flip: average a detector's answer with that on the mirrored face.
        convert: turn predictions of another mark-up into the data set's, where that is known.
        pixels_from_one: a CSV counts pixels from 1.
    """
    schema = faces.schema
    if is_run(path):
        from stylealign.predicting.on_datasets import answer_dataset
        from stylealign.training.devices import pick_device
        from stylealign.training.weights import read_card

        trained_on = read_card(path, "detector").get("schema")
        trained_on = trained_on.get("name") if isinstance(trained_on, Mapping) else trained_on
        if trained_on is not None and trained_on != schema.name and not convert:
            points = f"{counted(SCHEMAS[trained_on].num_points, 'landmark')} of " if trained_on in SCHEMAS else ""
            raise UserError(
                f"{path}: the run predicts {points}schema {trained_on!r}, the dataset has {schema.num_points} of "
                f"schema {schema.name!r}; --convert tries to convert them"
            )
        device = pick_device(accelerator)
        answers = answer_dataset(path, faces, device=device, flip_average=flip)
        landmarks = fitted(answers.landmarks, trained_on, schema, str(path), convert)
        return Answered(landmarks, answers.covariance if landmarks is answers.landmarks else None)
    rows = match_predictions(read_predictions(path, pixels_from_one), samples, others, path)
    counts = {(len(row.landmarks), row.schema) for row in rows}
    if len(counts) > 1:
        first = rows[0]
        odd = next(row for row in rows if (len(row.landmarks), row.schema) != (len(first.landmarks), first.schema))
        raise UserError(
            f"{odd.where}: {counted(len(odd.landmarks), 'landmark')} (schema {odd.schema}), but {first.where} has "
            f"{len(first.landmarks)} (schema {first.schema})"
        )
    found = np.stack([row.landmarks for row in rows])
    landmarks = fitted(found, rows[0].schema, schema, rows[0].where, convert)
    covariances = [row.covariance for row in rows if row.covariance is not None]
    whole = len(covariances) == len(rows) and landmarks is found
    return Answered(landmarks, np.stack(covariances) if whole else None)
