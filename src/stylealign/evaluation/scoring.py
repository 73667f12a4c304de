"""Predictions against the truth of a selection of faces: what `evaluate` and `study` say of an arm, and of two.

Arrays in, plain dicts of fractions out (what evaluation.json holds). Reads data sets; knows no file of predictions,
no model and not what a table looks like.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.wflw import ATTRIBUTES as WFLW_SUBSETS
from stylealign.errors import UserError, counted
from stylealign.evaluation import metrics
from stylealign.evaluation.hardness import measured_thirds
from stylealign.evaluation.tables import LEVELS, THRESHOLDS
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say, track


class Truth(NamedTuple):
    """The faces to be scored on, and what errors on them are divided by."""

    faces: FaceDataset
    """N faces, a view"""
    samples: list[FaceSample]
    landmarks: np.ndarray
    """(N, P, 2) float64 (x, y) px of the source image"""
    denominator: str
    """its name"""
    lengths: np.ndarray
    """(N,) the denominator of each face, px"""
    mask: np.ndarray | None
    """(N, P) landmarks that count; None: all"""
    subsets: dict[str, np.ndarray]
    """attribute -> (N,) bool"""
    left_out: int = 0
    """labelled faces of the selection that are not among them, as the ends of the denominator are not labelled"""
    unlabelled: int = 0
    """faces of the selection without landmarks"""

    def describe(self) -> dict[str, Any]:
        """Name, faces, points, mark-up and content hash of the data set, what is not scored, and what errors are
        divided by, for results."""
        dataset, schema = self.faces, self.faces.schema
        missing = [int((~sample.labelled_points).sum()) for sample in self.samples]
        return {"name": dataset.name, "faces": len(self.samples), "points": schema.num_points, "schema": schema.name,
                "content_hash": dataset.content_hash, "left_out": self.left_out, "unlabelled": self.unlabelled,
                "missing": {"landmarks": sum(missing), "faces": sum(lacking > 0 for lacking in missing)},
                "divided_by": metrics.describe_denominator(self.denominator, schema)}  # fmt: skip


def read_truth(
    dataset: FaceDataset,
    split: str = "test",
    subset: str | None = None,
    denominator: str = "auto",
    visible_only: bool = False,
    thirds: bool = False,
) -> Truth:
    """Read the labelled faces of a split (`all` for every face), or of a subset of it.

    With `thirds`, the darkest, the most blurred and the patchiest third are subsets like the data set's own. Faces
    on which the ends of the denominator are not labelled are left out, and said.

    Raises UserError where none is left or a face's denominator is labelled and wrong.
    """
    wanted = dataset.select(split=None if split == "all" else split, subset=subset)
    faces = labelled = wanted.select(labelled=True)
    if len(faces) < len(wanted):
        say(f"{len(wanted) - len(faces)} of {counted(len(wanted), 'face')} without landmarks, not scored")
    samples = list(track(faces, "reading faces", len(faces)))
    schema = dataset.schema
    truth = np.stack([np.asarray(sample.landmarks, np.float64) for sample in samples])
    boxed = all(sample.box_xyxy is not None for sample in samples)
    kind = metrics.usual_denominator(schema, boxed) if denominator == "auto" else denominator
    boxes = np.stack([np.full(4, np.nan) if sample.box_xyxy is None else sample.box_xyxy for sample in samples])
    there = _there(samples, truth.shape[1])
    if there is not None:
        of_faces = counted(int((~there).any(axis=1).sum()), "face")
        say(f"{counted(int((~there).sum()), 'landmark')} of {of_faces} missing and not scored")
    measured = truth if there is None else np.where(there[..., None], truth, np.nan)  # no distance to a missing point
    kind, rows = measured_by(measured, schema, kind, fixed=denominator != "auto")
    left_out = len(samples) - len(rows)
    if left_out:
        faces, samples = faces.take(rows), [samples[i] for i in rows]
        truth, measured, boxes = truth[rows], measured[rows], boxes[rows]
        there = None if there is None else there[rows]
    lengths = metrics.denominators(measured, boxes, schema, kind, [sample.id for sample in samples])
    mask = _visible(samples, truth.shape[1], there) if visible_only else there
    subsets = {
        name: np.array([sample.attributes.get(name, False) for sample in samples])
        for name in sorted(faces.subset_names(), key=_place)
    }
    if thirds:
        subsets |= measured_thirds(samples)
    return Truth(faces, samples, truth, kind, lengths, mask, subsets, left_out, len(wanted) - len(labelled))


def measured_by(measured: np.ndarray, schema: LandmarkSchema, kind: str, fixed: bool) -> tuple[str, list[int]]:
    """(what errors are divided by, rows of the faces that can be scored by it), of landmarks (N, P, 2), NaN where not
    labelled; says how many cannot.

    Where none can, and the kind is not the person's choice (`fixed`), it is the landmarks' box.

    Raises UserError where none can and it is.
    """
    if kind not in metrics.kinds_for(schema):
        return kind, list(range(len(measured)))  # refused by its name
    rows = np.flatnonzero(metrics.measurable(measured, schema, kind)).tolist()
    what = f"{kind} ({metrics.describe_denominator(kind, schema)})"
    if not rows and fixed:
        raise UserError(f"no face has both ends of {what} labelled: expected another denominator, such as landmark_box")
    if not rows:
        say(f"no face has both ends of {what} labelled: errors are divided by the landmarks' own box")
        return "landmark_box", list(range(len(measured)))
    if len(rows) < len(measured):
        say(
            f"{len(measured) - len(rows)} of {counted(len(measured), 'face')} left out: an end of {what} is not "
            "labelled"
        )
    return kind, rows


def _place(subset: str) -> tuple[int, str]:
    """Where a subset stands in tables: WFLW's six in the order they are published in, all others after them by name."""
    return (WFLW_SUBSETS.index(subset) if subset in WFLW_SUBSETS else len(WFLW_SUBSETS), subset)


def _there(samples: list[FaceSample], num_points: int) -> np.ndarray | None:
    """(N, P) bool: landmarks that are labelled, which those of trust 0 are not; None where all of all faces are."""
    some = [sample.point_trust for sample in samples]
    if not any(trust is not None and (trust == 0).any() for trust in some):
        return None
    mask = np.stack([np.ones(num_points, bool) if trust is None else trust > 0 for trust in some])
    empty = np.flatnonzero(~mask.any(axis=1))
    if empty.size:
        raise UserError(
            f"face {samples[empty[0]].id!r} has no landmark of trust above 0 ({counted(empty.size, 'such face')})"
        )
    return mask


def _visible(samples: list[FaceSample], num_points: int, there: np.ndarray | None) -> np.ndarray:
    """(N, P) bool: visible and `there`; refuses a dataset that does not say, since "all visible" would be a guess."""
    silent = [sample.id for sample in samples if sample.visible is None]
    if silent:
        raise UserError(
            f"--visible-only: {counted(len(silent), 'face does', 'faces do')} not say which landmarks are visible, "
            f"first {silent[0]!r}"
        )
    mask = np.stack([np.asarray(sample.visible, bool) for sample in samples])
    assert mask.shape == (len(samples), num_points)
    if there is not None:
        mask = mask & there
    hidden = np.flatnonzero(~mask.any(axis=1))
    if hidden.size:
        raise UserError(
            f"--visible-only: face {samples[hidden[0]].id!r} has no visible landmark "
            f"({counted(hidden.size, 'such face')})"
        )
    return mask


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation over seeds (none for one seed)."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd, "per_seed": [float(value) for value in values]}


def summarise(nme: np.ndarray, seed: int = 0, resamples: int = 2000) -> dict[str, Any]:
    """(S, N) per-face errors of S seeds -> figures with their sd over seeds and 95 % interval over faces."""

    def over_faces(per_face: np.ndarray) -> dict[str, Any]:
        interval = metrics.bootstrap_mean_interval(per_face.mean(axis=0), seed, resamples)
        return {**spread(per_face.mean(axis=1)), "low": interval.low, "high": interval.high}

    return {
        "faces": nme.shape[1],
        "nme": over_faces(nme),
        "failure_rate": {f"{t:.2f}": over_faces((nme > t).astype(np.float64)) for t in THRESHOLDS},
        "auc": {f"{t:.2f}": over_faces(np.stack([metrics.auc_per_face(row, t) for row in nme])) for t in THRESHOLDS},
        "percentiles": {
            str(level): spread([metrics.percentiles(row, [level])[level] for row in nme]) for level in LEVELS
        },
    }


def compare(
    nme: np.ndarray,
    base: np.ndarray,
    seed: int = 0,
    resamples: int = 2000,
    subsets: Mapping[str, np.ndarray] | None = None,
    pairs: Sequence[tuple[int, int]] = (),
) -> dict[str, Any]:
    """Compare (S, N) errors with a baseline's (S', N) on the same faces, and on each subset (N,) bool of them.

    Faces are the units of the interval and of the p values (each face's error averaged over seeds): how far the
    difference would vary with other faces. Of two or more `pairs` of rows that belong together, as those of one seed,
    `seeds` gives the mean difference and its standard error: how far it would vary with other training runs.
    """
    paired = metrics.paired_interval(nme.mean(axis=0), base.mean(axis=0), seed, resamples)
    result: dict[str, Any] = {
        **paired._asdict(),
        "relative": paired.difference / base.mean() if base.mean() > 0 else None,
        "seeds": None,
        "subsets": {},
    }
    for name, member in (subsets or {}).items():
        part = metrics.paired_interval(nme[:, member].mean(axis=0), base[:, member].mean(axis=0), seed, resamples)
        result["subsets"][name] = {"difference": part.difference, "low": part.low, "high": part.high}
    if len(pairs) > 1:
        differences = np.array([nme[ours].mean() - base[theirs].mean() for ours, theirs in pairs])
        error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
        result["seeds"] = {"mean": float(differences.mean()), "standard_error": error, "pairs": len(differences)}
    return result


def interval_over_seeds(nme: np.ndarray, base: np.ndarray, seed: int = 0, resamples: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean difference of two arms over faces and seeds, both drawn with replacement.

    How far the difference would vary with other faces and other training runs: the crossed ("pigeonhole") bootstrap
    of Owen (2007). With one seed it is the interval over faces. With few seeds (3 to 5) it is too narrow by about
    sqrt((S - 1) / S), as any bootstrap of few units is.

    Args:
        nme: (S, N) errors of the first arm, a row a seed.
        base: (S, N) errors of the second: the same seeds and faces in the same order.
        seed: seed of the resampling.
        resamples: how many.
    """
    difference = nme - base
    (seeds, faces), rng = difference.shape, np.random.default_rng((seed, 0x5EED5))
    draws = max(1, 2_000_000 // faces)  # a block at a time, as in metrics.bootstrap_mean_interval
    means = []
    for start in range(0, resamples, draws):
        count = min(draws, resamples - start)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), count)  # how often each is drawn
        of_faces = rng.multinomial(faces, np.full(faces, 1 / faces), count)
        means.append(((of_seeds @ difference) * of_faces).sum(axis=1) / (seeds * faces))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def median_offset(predicted: np.ndarray, truth: Truth) -> np.ndarray:
    """(2,) px: the middle of what the faces' predictions (N, P, 2) are off by on average, along x and along y.

    A detector that has learnt from mirrored faces answers alike on a picture and on its mirror image. Where people's
    labels do not (those of 300-W lie 0.9 px to the right), this is how far; the middle, as a few faces are far off.
    """
    away = predicted - truth.landmarks
    if truth.mask is not None:
        away = np.where(truth.mask[..., None], away, np.nan)
    return np.asarray(np.median(np.nanmean(away, axis=1), axis=0))


def score_arm(
    predicted: np.ndarray, truth: Truth, seed: int = 0, resamples: int = 2000
) -> tuple[dict[str, Any], np.ndarray]:
    """(S, N, P, 2) px predictions of an arm's S seeds -> its part of evaluation.json, and (S, N) per-face errors."""
    true, mask, schema = truth.landmarks, truth.mask, truth.faces.schema
    nme = np.stack([metrics.nme_per_face(one, true, truth.lengths, mask) for one in predicted])
    errors = np.stack([metrics.point_errors(one, true) for one in predicted]) / truth.lengths[:, None]  # (S, N, P)
    parts = {}
    for name, indices in schema.parts.items():
        some = list(indices)
        per_face = np.stack(
            [metrics.masked_mean(e[:, some], None if mask is None else mask[:, some], 1) for e in errors]
        )
        parts[name] = spread([float(np.nanmean(row)) for row in per_face]) if np.isfinite(per_face).any() else None
    per_point = np.stack([metrics.masked_mean(e, mask, 0) for e in errors]).mean(axis=0)  # (P,) NaN: never visible
    away = predicted - true
    offset = away.mean(axis=(0, 1, 2)) if mask is None else away[:, mask].mean(axis=(0, 1))
    return {
        **summarise(nme, seed, resamples),
        "subsets": {name: summarise(nme[:, member], seed, resamples) for name, member in truth.subsets.items()},
        "parts": parts,
        "per_point": [float(value) if np.isfinite(value) else None for value in per_point],
        "mean_offset_px": [float(value) for value in offset],
    }, nme
