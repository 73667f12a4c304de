"""A detector's run folder behind the interface of network.py, answered by torch."""

from pathlib import Path

import numpy as np
import torch

from stylealign.detectors.loaded import load_detector
from stylealign.evaluation.point_trust import base_of, trust_of_card
from stylealign.predicting.answer import Answer
from stylealign.training.devices import pick_device


class TorchNetwork:
    """A `network.LandmarkNetwork`. Confidences are the highest values of the heatmaps, where there are any."""

    def __init__(self, run: Path, accelerator: str = "cpu", threads: int | None = None):
        if threads is not None:
            torch.set_num_threads(min(threads, torch.get_num_threads()))
        self._device = pick_device(accelerator)
        loaded = load_detector(run, self._device)
        self._model, self.schema, self.crop, self.card = loaded.model, loaded.schema, loaded.crop, loaded.card
        self.upright, self.lean = loaded.upright, loaded.lean
        self.trust = trust_of_card(self.card, self.schema.num_points, f"{run}/card.json")

    @torch.inference_mode()
    def answer(self, crops: np.ndarray) -> Answer:
        image = torch.from_numpy(crops).to(self._device).contiguous(memory_format=torch.channels_last)
        out = self._model(image)
        peaks = None if out.heatmaps is None else out.heatmaps.flatten(2).amax(2).clamp(0, 1).float().cpu().numpy()
        covariance = None
        if self.trust is not None:
            raw = None if out.covariance is None else out.covariance.cpu().double().numpy()
            base = base_of(self.trust.basis, raw, peaks)
            covariance = None if base is None else self.trust.calibrated(base)
        return Answer(out.landmarks.cpu().double().numpy(), peaks, covariance)

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return self.answer(crops)[:2]
