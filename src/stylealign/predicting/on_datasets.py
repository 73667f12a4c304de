"""A trained detector's answers on a data set, in source pixels: the crop protocol of its card, there and back."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stylealign.batches.batch import to_float
from stylealign.batches.crops import CropCache
from stylealign.data.dataset import FaceDataset
from stylealign.detectors.loaded import load_detector
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import track


def _answer(model: nn.Module, image: Tensor, schema: LandmarkSchema, flip_average: bool) -> Tensor:
    """(B, P, 2) crop px from (B, 3, S, S) crops; `flip_average`: the mean with the mirrored crops' answers."""
    landmarks = model(image).landmarks.double()
    if not flip_average:
        return landmarks
    mirrored = model(image.flip(3).contiguous(memory_format=torch.channels_last)).landmarks.double()
    return (landmarks + geometry.mirrored_back(mirrored, image.shape[-1], schema.flip_permutation)) / 2


@torch.no_grad()
def predict_crops(model: nn.Module, cache: CropCache, batch_size: int = 64, flip_average: bool = False) -> np.ndarray:
    """(N, P, 2) float64 source px: landmarks of the faces of a crop cache without a margin.

    The model answers in evaluation mode. Raises UserError for `flip_average` where the mark-up has no mirror twins.
    """
    schema = cache.dataset.schema
    if flip_average and not schema.flip_pairs:
        raise UserError(f"schema {schema.name} has no flip_pairs: predictions of mirrored faces cannot be averaged")
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found = []
    try:
        for start in track(range(0, len(cache), batch_size), "predicting landmarks"):
            image = to_float(torch.from_numpy(cache.images[start : start + batch_size].copy())).to(device)
            landmarks = _answer(model, image, schema, flip_average).cpu().numpy()
            affines = cache.affines[start : start + batch_size]
            found += [geometry.apply(geometry.invert(a), points) for a, points in zip(affines, landmarks, strict=True)]
    finally:
        model.train(was_training)
    return np.stack(found)


def predict_dataset(
    run: Path,
    dataset: FaceDataset,
    *,
    device: torch.device | str | None = None,
    batch_size: int = 64,
    flip_average: bool = False,
) -> np.ndarray:
    """Predict every face of a data set (or a view of one), in its order.

    Args:
        run: a finished detector run or a checkpoint folder.
        dataset: faces; their boxes (or labels, as the crop protocol of the run says) place the crops.
        device: where to compute; not given: the CPU.
        batch_size: faces at a time.
        flip_average: average with the answer on the mirrored crop.

    Returns:
        (N, P, 2) float64 (x, y) source px, in the mark-up the detector was trained on.
    """
    loaded = load_detector(run, device or "cpu")
    if flip_average and dataset.schema != loaded.schema:
        raise UserError(
            f"{run}: trained on {loaded.schema.name}, the data set has {dataset.schema.name}: no mirror average"
        )
    return predict_crops(loaded.model, CropCache(dataset, loaded.crop), batch_size, flip_average)
