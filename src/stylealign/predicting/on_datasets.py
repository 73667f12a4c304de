"""A trained detector's answers on a data set, in source pixels: the crop protocol of its card, there and back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from stylealign.batches.batch import to_float
from stylealign.batches.crops import CropCache
from stylealign.data.dataset import FaceDataset
from stylealign.detectors.loaded import load_detector
from stylealign.errors import UserError
from stylealign.evaluation.lean import measured_lean
from stylealign.evaluation.point_trust import Basis, PointTrust, base_of, fit_trust, mirror_base, trust_of_card
from stylealign.face import geometry
from stylealign.face.covariance import mirrored_covariance, moved_covariance
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import track


class Answers(NamedTuple):
    """What a detector answers about N faces."""

    landmarks: np.ndarray
    """(N, P, 2) float64 px"""
    covariance: np.ndarray | None
    """(N, P, 2, 2) float64 px^2; None where nothing was asked for or known"""


def _as_it_is(base: np.ndarray) -> np.ndarray:
    return base


def _answer(
    model: nn.Module,
    crops: np.ndarray,
    schema: LandmarkSchema,
    flip_average: bool,
    basis: Basis | None,
    lean: float,
    calibrated: Callable[[np.ndarray], np.ndarray],
) -> Answers:
    """Landmarks of crops (B, S, S, 3) uint8, and what `calibrated` makes of raw bases (point_trust.py), px of the crop.

    `flip_average`: the mean with the mirrored crops' answers, whose distance is the basis `mirror`; `lean`: the
    model's. Each answer is calibrated before the mean is taken, as `predict` does (landmarks.averaged): a trust knows
    single answers.
    """
    device, size = next(model.parameters()).device, crops.shape[1]
    image = to_float(torch.from_numpy(crops)).to(device)
    out = model(image)
    landmarks = out.landmarks.cpu().double().numpy()
    base = None if basis is None else _base(basis, out)
    sure = None if base is None else calibrated(base)
    if not flip_average:
        return Answers(landmarks, sure)
    other = model(image.flip(3).contiguous(memory_format=torch.channels_last))
    mirrored = geometry.mirrored_back(other.landmarks.cpu().double().numpy(), size, schema.flip_permutation, lean)
    if sure is not None and basis is not None:
        sure = (sure + mirrored_covariance(calibrated(_base(basis, other)), schema.flip_permutation)) / 2
    elif basis == "mirror":
        sure = calibrated(mirror_base(landmarks, mirrored, size))
    return Answers((landmarks + mirrored) / 2, sure)


def _base(basis: Basis, out: Any) -> Any:
    raw = None if out.covariance is None else out.covariance.cpu().double().numpy()
    peaks = None if out.heatmaps is None else out.heatmaps.flatten(2).amax(2).clamp(0, 1).cpu().double().numpy()
    return base_of(basis, raw, peaks)


@torch.no_grad()
def _answer_all(
    model: nn.Module,
    cache: CropCache,
    batch_size: int,
    flip_average: bool,
    basis: Basis | None,
    lean: float,
    calibrated: Callable[[np.ndarray], np.ndarray] = _as_it_is,
) -> Answers:
    """Landmarks, and what `calibrated` makes of raw bases, px of the crops, of a cache without a margin. The model
    answers in evaluation mode."""
    schema = cache.dataset.schema
    if flip_average and not schema.flip_pairs:
        raise UserError(f"schema {schema.name} has no flip_pairs: predictions of mirrored faces cannot be averaged")
    was_training = model.training
    model.eval()
    found = []
    try:
        for start in track(range(0, len(cache), batch_size), "predicting landmarks"):
            crops = cache.images[start : start + batch_size].copy()
            found.append(_answer(model, crops, schema, flip_average, basis, lean, calibrated))
    finally:
        model.train(was_training)
    landmarks = np.concatenate([each.landmarks for each in found])
    bases = [each.covariance for each in found if each.covariance is not None]
    return Answers(landmarks, np.concatenate(bases) if bases else None)


def answer_crops(
    model: nn.Module,
    cache: CropCache,
    batch_size: int = 64,
    flip_average: bool = False,
    trust: PointTrust | None = None,
    lean: float = 0.0,
) -> Answers:
    """Source px: landmarks of the faces of a crop cache without a margin, and how sure the model is where a trust says.

    The model answers in evaluation mode. `lean` is the model's (evaluation/lean.py), for `flip_average` alone. Raises
    UserError for `flip_average` where the mark-up has no mirror twins.
    """
    basis, calibrated = (None, _as_it_is) if trust is None else (trust.basis, trust.calibrated)
    answers = _answer_all(model, cache, batch_size, flip_average, basis, lean, calibrated)
    homes = [geometry.invert(affine) for affine in cache.affines]
    landmarks = np.stack([geometry.apply(a, points) for a, points in zip(homes, answers.landmarks, strict=True)])
    if answers.covariance is None:
        return Answers(landmarks, None)
    moved = [moved_covariance(c, a) for a, c in zip(homes, answers.covariance, strict=True)]
    return Answers(landmarks, np.stack(moved))


def answer_dataset(
    run: Path,
    dataset: FaceDataset,
    *,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    flip_average: bool = False,
) -> Answers:
    """Predict every face of a data set (or a view of one), in its order.

    Args:
        run: a finished detector run or a checkpoint folder.
        dataset: faces; their boxes (or labels, as the crop protocol of the run says) place the crops.
        device: where to compute; not given: the CPU.
        batch_size: faces at a time.
        flip_average: average with the answer on the mirrored crop.

    Returns:
        landmarks (N, P, 2) source px, in the mark-up the detector was trained on, and covariances where its card has a
        trust (of the basis `mirror` only with `flip_average`).
    """
    loaded = load_detector(run, device or "cpu")
    if flip_average and dataset.schema != loaded.schema:
        raise UserError(
            f"{run}: trained on {loaded.schema.name}, the data set has {dataset.schema.name}: no mirror average"
        )
    trust = trust_of_card(loaded.card, loaded.schema.num_points, f"{run}/card.json")
    return answer_crops(loaded.model, CropCache(dataset, loaded.crop), batch_size, flip_average, trust, loaded.lean)


def calibrated_on(
    model: nn.Module, cache: CropCache, basis: Basis | None = None, lean: float = 0.0
) -> tuple[PointTrust, dict[str, float]] | None:
    """The trust that a model's answers on labelled faces ask for, and how likely its errors are by it.

    Args:
        model: a detector.
        cache: crops of labelled faces, without a margin.
        basis: what it is made from; not given: the model's covariances, or the peaks of its heatmaps, whichever it has.
        lean: the model's, for the basis `mirror`.

    Returns:
        what `fit_trust` returns; None where the model has no such basis.
    """
    for each in (basis,) if basis else ("covariance", "peaks"):
        answers = _answer_all(model, cache, 64, each == "mirror", each, lean)
        if answers.covariance is not None:
            truth = cache.landmarks.astype(np.float64)
            return fit_trust(answers.landmarks - truth, answers.covariance, each)
    return None


@torch.no_grad()
def lean_on(model: nn.Module, cache: CropCache) -> float:
    """By how much a model's answers lean to the right (`measured_lean`) on the faces of a crop cache without a margin,
    whose mark-up has mirror twins. Their labels are not looked at. The model answers in evaluation mode."""
    plain = _answer_all(model, cache, 64, False, None, 0.0).landmarks
    mean = _answer_all(model, cache, 64, True, None, 0.0).landmarks
    return measured_lean(plain, 2 * mean - plain, cache.size)
