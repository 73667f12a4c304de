"""The detector that came with the package, answered by OpenCV from the ONNX twin of its weights. Knows no torch.

`scripts/write_twin.py` writes the twin beside the weights, for one crop at a time:

twin.onnx   input image (1, 3, size, size) float32 RGB in [-1, 1]; outputs as of onnx_network.py
twin.json   model_hash: of the weights that it answers for; sha256: of twin.onnx; outputs: their names, in order;
            upright: the mean shape of a detector that has learnt every roll
"""

import hashlib
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stylealign.config import from_dict, read_json
from stylealign.errors import UserError
from stylealign.evaluation.lean import lean_of_card
from stylealign.evaluation.point_trust import base_of, trust_of_card
from stylealign.face.crop import CropConfig
from stylealign.face.schema import schema_from_dict
from stylealign.predicting.answer import Answer
from stylealign.predicting.onnx_network import upright_of

TWIN, ABOUT = "twin.onnx", "twin.json"


def twin_fits(folder: Path) -> bool:
    """Whether a folder of weights has a twin that is whole and answers for these very weights."""
    if not (folder / TWIN).is_file() or not (folder / ABOUT).is_file():
        return False
    try:
        card, about = read_json(folder / "card.json"), read_json(folder / ABOUT)
    except UserError:
        return False
    whole = hashlib.sha256((folder / TWIN).read_bytes()).hexdigest() == about.get("sha256")
    return bool(whole and card.get("model_hash") == about.get("model_hash"))


class TwinNetwork:
    """A `network.LandmarkNetwork` of a folder of which `twin_fits` is true; one crop at a time.

    OpenCV keeps a question and its answer in the network, so that each thread has one of its own.
    """

    def __init__(self, folder: Path):
        self.card: dict[str, Any] = read_json(folder / "card.json")
        self.schema = schema_from_dict(self.card["schema"], f"{folder}/card.json: schema")
        self.crop: CropConfig = from_dict(CropConfig, self.card["crop"], f"{folder}/card.json: crop")
        self.trust = trust_of_card(self.card, self.schema.num_points, f"{folder}/card.json")
        self.lean = lean_of_card(self.card, f"{folder}/card.json")
        about = read_json(folder / ABOUT)
        self.upright = upright_of(about, self.schema.num_points, f"{folder / ABOUT}:")
        self._names = about["outputs"]
        self._folder = folder
        self._mine = threading.local()
        self._network()  # a damaged file is found here, not at the first face

    def _network(self) -> cv2.dnn.Net:
        if not hasattr(self._mine, "network"):
            self._mine.network = cv2.dnn.readNetFromONNX(str(self._folder / TWIN))
        return self._mine.network

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_mine"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._mine = threading.local()

    def answer(self, crops: np.ndarray) -> Answer:
        """Answer a batch of crops (B, 3, S, S) float32 RGB in [-1, 1]."""
        if not len(crops):
            return Answer(np.empty((0, self.schema.num_points, 2)))
        network = self._network()
        found: dict[str, list[np.ndarray]] = {name: [] for name in self._names}
        for crop in crops:
            network.setInput(np.ascontiguousarray(crop[None], np.float32))
            for name, values in zip(self._names, network.forward(self._names), strict=True):
                found[name].append(values.astype(np.float64))
        answers = {name: np.concatenate(values) for name, values in found.items()}
        covariance, peaks = answers.get("covariance"), answers.get("confidence")
        if covariance is None and self.trust is not None:
            base = base_of(self.trust.basis, None, peaks)
            covariance = None if base is None else self.trust.calibrated(base)
        return Answer(answers["landmarks"], peaks, covariance)

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The first two parts of `answer`."""
        return self.answer(crops)[:2]
