"""One picture and its landmarks as the tensors that translators and style arms take: batches of one."""

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import Batch, to_float


def image_tensor(pixels: np.ndarray) -> Tensor:
    """(S, S, 3) uint8 -> (1, 3, S, S) float in [-1, 1]."""
    return to_float(torch.from_numpy(pixels)[None])


def points_tensor(points: np.ndarray) -> Tensor:
    """(P, 2) -> (1, P, 2) float32."""
    return torch.from_numpy(points.astype(np.float32))[None]


def face_batch(pixels: np.ndarray, points: np.ndarray) -> Batch:
    """A face (S, S, 3) uint8 with landmarks (P, 2) px of it as a batch of one, stored plane by plane, as arms work."""
    return Batch(
        image=image_tensor(pixels).contiguous(),
        landmarks=points_tensor(points),
        visible=torch.ones(1, len(points), dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64)[None],
        index=torch.zeros(1, dtype=torch.int64),
        weight=torch.ones(1),
    )
