"""What a trained detector is to everything in this package: crops in, landmarks out, and the crop contract of its card.

Knows no torch: `open_network` decides whether torch, onnxruntime or OpenCV answers.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stylealign.data.packaged import COMPACT, run_folder
from stylealign.errors import UserError
from stylealign.evaluation.point_trust import PointTrust
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.answer import Answer

NVIDIA = Path("/dev/nvidiactl")  # where it is, torch may find a processor that is faster than this one


class LandmarkNetwork(Protocol):
    """A detector ready to answer. A network and its answers are safe to use from one thread at a time."""

    @property
    def crop(self) -> CropConfig: ...
    @property
    def schema(self) -> LandmarkSchema: ...
    @property
    def card(self) -> dict[str, Any]: ...
    @property
    def trust(self) -> PointTrust | None:
        """What makes its answers' covariances true; None where it was never calibrated."""
        ...

    @property
    def lean(self) -> float:
        """By how much its answers lie to the right of what they mark, as a share of the crop's side: what
        `geometry.mirrored_back` has to know."""
        ...

    @property
    def upright(self) -> np.ndarray | None:
        """(P, 2) the mean shape of its training faces, for a detector that has learnt every roll and so answers a face
        however it is turned; None for others."""
        ...

    def answer(self, crops: np.ndarray) -> Answer:
        """Answer a batch of crops (B, 3, S, S) float32 RGB in [-1, 1], S = crop.size, and say how sure it is."""
        ...

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The first two parts of `answer`: landmarks (B, P, 2) px of the crop, and (B, P) confidences or None."""
        ...


def model_path(model: Path | None) -> Path:
    """The folder or file of a model: the one given, by its name where it came with the package; else `compact`."""
    if model is not None:
        return run_folder(model)
    if not (COMPACT / "card.json").exists():
        raise UserError("no detector came with this copy of stylealign: name one with --model (a finished run folder)")
    return COMPACT


def open_network(model: Path | None = None, accelerator: str = "cpu", threads: int | None = None) -> LandmarkNetwork:
    """Load a detector.

    Args:
        model: a finished detector run or a checkpoint folder; an ONNX file that `stylealign export` wrote, which
            onnxruntime runs on the CPU, without importing torch; or the name of a detector that came with the package,
            None: `compact`, which OpenCV answers from its ONNX twin, without torch, unless a graphics processor is
            asked for or there.
        accelerator: auto, cpu, cuda or mps.
        threads: how many this whole process may use for the network on the CPU; None: as many as there are.

    Raises:
        UserError: a folder that holds no detector, another kind of model, or weights that changed.
    """
    path = model_path(model)
    if path.suffix == ".onnx":
        from stylealign.predicting.onnx_network import OnnxDetector

        if accelerator not in ("auto", "cpu"):
            raise UserError(
                f"{path}: ONNX files run on the CPU here, not on {accelerator}; give the run folder instead"
            )
        return OnnxDetector(path, threads)
    in_package = model is None or path != model
    if in_package and (accelerator == "cpu" or (accelerator == "auto" and not NVIDIA.exists())):
        from stylealign.predicting import opencv_network

        if opencv_network.twin_fits(path):
            return opencv_network.TwinNetwork(path)
    from stylealign.predicting.torch_network import TorchNetwork

    return TorchNetwork(path, accelerator, threads)
