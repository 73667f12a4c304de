"""A finder of faces that somebody trained (`train-finder`), behind the interface of finders.py, answered by torch."""

from pathlib import Path

import numpy as np
import torch

from stylealign.batches.batch import to_float
from stylealign.batches.canvases import fitted
from stylealign.detectors.finder import CentreFinder, squares_of
from stylealign.detectors.loaded import load_finder
from stylealign.predicting.finders import Finder, FoundFace, one_each
from stylealign.training.devices import pick_device

NAME = "trained"


@torch.inference_mode()
def find_by(model: CentreFinder, image: np.ndarray, least_score: float) -> list[FoundFace]:
    """The faces of a picture (H, W, 3) uint8 RGB, surest first, at most one where they overlap; none of a lower score.

    It looks at the whole picture as large as it was trained to.
    """
    canvas, factor = fitted(image, model.size)
    device = next(model.parameters()).device
    (found,) = squares_of(model(to_float(torch.from_numpy(canvas[None])).to(device)), model.size, least_score)
    boxes = (found.boxes + 0.5) / factor - 0.5
    return one_each([FoundFace(box, float(score), NAME) for box, score in zip(boxes, found.scores, strict=True)])


def trained_finder(run: Path, accelerator: str = "cpu") -> Finder:
    """The finder of a `train-finder` run. It does not tell which way a face leans. Raises UserError for a folder that
    holds none."""
    loaded = load_finder(run, pick_device(accelerator))
    return lambda image: find_by(loaded.model, image, loaded.least_score)
