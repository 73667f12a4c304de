"""What torch answers, on whatever device: an Apple GPU has no float64, so precision comes after the way home."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stylealign.detectors.finder import FinderOutput, squares_of
from stylealign.detectors.loaded import LoadedDetector
from stylealign.detectors.output import DetectorOutput
from stylealign.evaluation.point_trust import PointTrust
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE
from stylealign.predicting import torch_network
from stylealign.predicting.torch_network import TorchNetwork
from stylealign.translators.judge import answers


class OnApple(torch.Tensor):
    """A tensor as on `mps`: of float64 torch can make none there."""

    def double(self) -> Tensor:  # type: ignore[override]
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.as_subclass(torch.Tensor)


class FivePoints(nn.Module):
    """Answers the same five points about every crop, from an Apple GPU."""

    def forward(self, image: Tensor) -> DetectorOutput:
        num = len(image)
        points = torch.arange(10.0).view(1, 5, 2).expand(num, 5, 2)
        sure = torch.full((num, 5, 4, 4), 0.5)
        covariance = (torch.eye(2) * 4).expand(num, 5, 2, 2)
        landmarks, heatmaps, spread = (t.as_subclass(OnApple) for t in (points, sure, covariance))
        return DetectorOutput(landmarks, heatmaps=heatmaps, covariance=spread)


def test_an_apple_gpu_answers_landmarks_peaks_and_covariances(monkeypatch: pytest.MonkeyPatch) -> None:
    card = {"trust": PointTrust(basis="covariance", temperature=(1.0,), typical=4.0, power=1.0).to_dict()}
    loaded = LoadedDetector(model=FivePoints(), schema=FIVE, crop=CropConfig(size=16), card=card)
    monkeypatch.setattr(torch_network, "load_detector", lambda *_: loaded)
    found = TorchNetwork(Path("run")).answer(np.zeros((2, 3, 16, 16), np.float32))
    np.testing.assert_array_equal(found.landmarks[1], np.arange(10.0).reshape(5, 2))
    assert found.landmarks.dtype == np.float64
    assert found.covariance is not None
    np.testing.assert_allclose(found.covariance[0, 3], 4 * np.eye(2), atol=1e-5)
    np.testing.assert_array_equal(found.confidence, np.full((2, 5), 0.5))


def test_an_apple_gpu_judges_and_finds() -> None:
    np.testing.assert_array_equal(
        answers(FivePoints(), torch.zeros(1, 3, 16, 16), 16)[0], np.arange(10.0).reshape(5, 2)
    )
    centre = torch.full((1, 4, 4), -9.0)
    centre[0, 1, 2] = 5.0
    out = FinderOutput(*(t.as_subclass(OnApple) for t in (centre, torch.zeros(1, 4, 4), torch.zeros(1, 2, 4, 4))))
    assert [len(squares.boxes) for squares in squares_of(out, 32, 0.5)] == [1]
