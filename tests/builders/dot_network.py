"""A detector that needs no training: it finds the five coloured dots of dots.py in a crop, and knows no torch.

Where a dot is not to be seen it answers with its usual place in the crop, as trained networks do.
"""

import numpy as np

from builders.dots import COLOURS, PLACES
from stylealign.evaluation.point_trust import PointTrust, base_of
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE, LandmarkSchema
from stylealign.predicting.answer import Answer
from stylealign.predicting.finders import FoundFace


class DotNetwork:
    """See stylealign.predicting.network.LandmarkNetwork."""

    def __init__(self, size: int = 48, scale: float = 1.8):
        self.crop = CropConfig(size=size, scale=scale)
        self.card: dict[str, object] = {}
        self.trust: PointTrust | None = None
        self.upright: np.ndarray | None = None
        self.lean = 0.0
        self.schema: LandmarkSchema = FIVE
        self.batches: list[int] = []

    def answer(self, crops: np.ndarray) -> Answer:
        landmarks, sure = self(crops)
        base = None if self.trust is None else base_of(self.trust.basis, None, sure)
        covariance = None if self.trust is None or base is None else self.trust.calibrated(base)
        return Answer(landmarks, sure, covariance)

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        assert crops.dtype == np.float32
        assert crops.shape[1:] == (3, self.crop.size, self.crop.size)
        self.batches.append(len(crops))
        y, x = np.mgrid[: self.crop.size, : self.crop.size]
        usual = PLACES / 24 * self.crop.size / self.crop.scale + (self.crop.size - 1) / 2
        found = np.empty((len(crops), 5, 2))
        sure = np.empty((len(crops), 5))
        for i, crop in enumerate(crops):
            pixels = (crop.transpose(1, 2, 0) + 1) * 127.5
            for k, colour in enumerate(COLOURS):
                weight = np.exp(-((pixels - colour) ** 2).sum(axis=2) / (2 * 25.0**2))
                weight[weight < 0.05] = 0
                total = weight.sum()
                sure[i, k] = min(1.0, total)
                found[i, k] = usual[k] if total < 0.5 else ((x * weight).sum() / total, (y * weight).sum() / total)
        return found, sure


class UprightNetwork(DotNetwork):
    """Knows left and right as trained networks do: by the place in an upright face, whatever colour it has there.

    In a face that is not upright it goes by colour, so that the mirrored crop gets another answer.
    """

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        found, sure = super().__call__(crops)
        for points in found:
            if points[3:, 1].mean() - points[:2, 1].mean() > self.crop.size / 5:
                for pair in ([0, 1], [3, 4]):
                    points[pair] = points[pair][np.argsort(points[pair, 0])]
        return found, sure


def find_dots(image: np.ndarray) -> list[FoundFace]:
    """A finder of one dot face: a box round every pixel that is brighter than the ground."""
    y, x = np.nonzero(image.max(axis=2) > 200)
    if not len(x):
        return []
    centre = np.array([(x.min() + x.max()) / 2, (y.min() + y.max()) / 2])
    half = max(x.max() - x.min(), y.max() - y.min(), 12) / 2
    return [FoundFace(np.concatenate([centre - half, centre + half]), 1.0, "frontal")]
