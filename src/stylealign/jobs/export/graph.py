"""A detector's network -> an ONNX graph, in float32, float16 or int8. Knows networks and
graphs; no run folders, no data sets.

The graph is traced by torch's older exporter (`torch.onnx.export(dynamo=False)`), which every torch from 2.6 to 2.13
has: it takes a fifth of a second where the newer one takes six to thirty, needs no further package, and keeps the
number of faces free for every detector. Whoever calls compares the answers afterwards (job.py).
"""

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from stylealign.detectors.lab.messages import BlockConv
from stylealign.errors import UserError
from stylealign.evaluation.point_trust import PointTrust, stretched
from stylealign.predicting.onnx_network import INSTALL, start_session
from stylealign.progress import track

OPSET = 17  # of 2022: bilinear GridSample (16) and LayerNormalization (17) are in it
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What int8 is worth something for. A Relu or Clip (ReLU6) behind a layer becomes the range of its answer. Resampling,
# normalisations and what stands behind the last layer stay in float.
QUANTIZED = ("Conv", "Gemm", "Add", "MaxPool", "Relu", "Clip", "Flatten", "Reshape", "Concat")
MOST_MOVED = 1 / 640  # of the crop's side, by int8, in the mean: a tenth of a pixel at 64
JUDGED = 64  # crops that this is measured on
MOST_CHANNELS = 4  # of a picture


def import_onnx() -> Any:
    """The package onnx, or a sentence that says how it is installed."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f"export needs the package {error.name}, which is not installed: {INSTALL}") from None
    return onnx


class Answering(nn.Module):
    """(B, 3, S, S) -> landmarks (B, P, 2) px of the crop; of a network with heatmaps, confidences (B, P); of one that
    answers covariances and has a trust in them, calibrated ones (B, P, 2, 2) px^2.

    A confidence is the highest value of the landmark's map, held to 0 to 1. `names` says which there are.
    """

    temperature: Tensor

    def __init__(self, model: nn.Module, trust: PointTrust | None = None):
        super().__init__()
        self.model = model
        self.trust = trust if trust is not None and trust.basis == "covariance" else None
        self.names: list[str] = []
        self.register_buffer("temperature", torch.tensor(() if trust is None else trust.temperature))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        out = self.model(image)
        answers = {"landmarks": out.landmarks}
        if out.heatmaps is not None:
            answers["confidence"] = out.heatmaps.flatten(2).amax(dim=2).clamp(0, 1)
        if self.trust is not None:
            answers["covariance"] = self._calibrated(out.covariance)
        self.names = list(answers)
        return tuple(answers.values())

    def _calibrated(self, raw: Tensor) -> Tensor:
        """(B, P, 2, 2) as `PointTrust.calibrated`, in few nodes: entries are split off and joined by one each."""
        assert self.trust is not None
        num_points = int(raw.shape[1])
        xx, xy, _, yy = raw.reshape(-1, num_points, 4).split(1, dim=2)  # (B, P, 1)
        xx, xy, yy = stretched(xx, xy, yy, self.temperature[:, None], self.trust.typical, self.trust.power)
        return torch.cat([xx, xy, xy, yy], dim=2).reshape(-1, num_points, 2, 2)


def answering(model: nn.Module, trust: PointTrust | None = None) -> Answering:
    """A copy of a detector that answers plain tensors, on the CPU, in evaluation mode, ready to be traced.

    Convolutions between blocks of channels become the dense ones they are computed as, a constant instead of a scatter,
    and a normalisation after a linear layer goes into its weights (the tracer does it after convolutions).
    """
    found = Answering(copy.deepcopy(model), trust).cpu().float().eval().requires_grad_(False)
    for module in list(found.modules()):
        for name, child in module.named_children():
            if isinstance(child, BlockConv):
                weight = child.dense_weight()
                dense = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding=weight.shape[2] // 2)
                dense.weight, dense.bias = nn.Parameter(weight, False), nn.Parameter(child.bias, False)
                setattr(module, name, dense)
            elif isinstance(child, nn.Sequential):
                for i in range(len(child) - 1):
                    linear, norm = child[i], child[i + 1]
                    if isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                        child[i], child[i + 1] = fuse_linear_bn_eval(linear, norm), nn.Identity()
    return found.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


@torch.no_grad()
def trace(network: Answering, size: int) -> Any:
    """The float32 graph: input `image` (batch, 3, size, size), outputs `landmarks` and,
    where there are such, `confidence` and `covariance`."""
    onnx = import_onnx()
    image = torch.zeros(2, 3, size, size)
    network(image)
    names = network.names
    # It warns of sides that become constants, and of itself, the older one; what it
    # cannot do it prints, all of the graph.
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory() as folder,
    ):
        file = Path(folder) / "fp32.onnx"
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), file, input_names=["image"], output_names=names, opset_version=OPSET, dynamo=False,
            dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
        )  # fmt: skip
        graph = onnx.load(file)
    onnx.checker.check_model(graph)
    return graph


# --------------------------------------------------------------------------------------------------------------------
# What stays in float32


def kept_in_float(graph: Any, more: int = 0, first: int = 0) -> list[str]:
    """Names of the nodes that decide about fractions of a pixel and stay in float32: the last layers, and what is done
    with them. `more` layers before them stay too, counted from the answer backwards, and the `first` from the image on.

    A layer with weights is a last one where an output of the graph is reached without another one in between. What
    follows it, up to a next such layer, is in pixels: 8 bits would be a quarter, 16 a thirtieth of a pixel at 64. So is
    what does not depend on the image (mean shapes).
    """
    constants = {tensor.name for tensor in graph.graph.initializer}
    outputs = {output.name for output in graph.graph.output}
    weighted = [n for n in graph.graph.node if n.op_type in WEIGHTED and constants & set(n.input)]
    layers = {node.name for node in weighted}
    readers: dict[str, list[Any]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def behind(names: Iterable[str], through_layers: bool) -> dict[str, Any]:
        """Nodes that depend on tensors; layers with weights stop the walk unless it goes through them."""
        todo, found = list(names), dict[str, Any]()
        while todo:
            for reader in readers.get(todo.pop(), []):
                if reader.name not in found and (through_layers or reader.name not in layers):
                    found[reader.name] = reader
                    todo += reader.output
        return found

    from_image = behind(["image"], True)
    kept = dict.fromkeys(node.name for node in graph.graph.node if node.name not in from_image)
    for layer in weighted:
        after = behind(layer.output, False)
        if any(set(node.output) & outputs for node in (layer, *after.values())):
            kept |= dict.fromkeys([layer.name, *after])
    before = [layer for layer in weighted if layer.name not in kept]
    for layer in [*before[:first], *before[max(0, len(before) - more) :]]:
        kept |= dict.fromkeys([layer.name, *behind(layer.output, False)])
    return list(kept)


def halved(graph: Any) -> Any:
    """The graph in float16, its input, its outputs and what `kept_in_float` names in float32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights too small for 16 bits: they become the smallest there is
        # Sampling at places has no float16 form in the CPU's runtime.
        blocked = [*DEFAULT_OP_BLOCK_LIST, "GridSample"]
        return convert_float_to_float16(
            copy.deepcopy(graph), keep_io_types=True, op_block_list=blocked, node_block_list=kept_in_float(graph)
        )


# --------------------------------------------------------------------------------------------------------------------
# int8


class _Reader:
    """Crops for the calibration, a batch at a time (onnxruntime's CalibrationDataReader)."""

    def __init__(self, crops: np.ndarray, batch: int = 16):
        self._batches = iter([crops[i : i + batch] for i in range(0, len(crops), batch)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


def _sees_picture(graph: Any) -> int:
    """1 where the first layer with weights is a convolution of the picture's few channels, else 0."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type in WEIGHTED and (of := [shapes[name] for name in node.input if name in shapes]):
            return int(node.op_type == "Conv" and of[0][1] <= MOST_CHANNELS)
    return 0


def quantized(graph: Any, crops: np.ndarray) -> tuple[Any, int]:
    """The graph in static int8 (QDQ): weights int8 a channel, activations uint8 with the range that crops give them. A
    layer that sees the picture itself stays in float32: of three channels 8 bits gain no time, and lose some.

    Where that moves landmarks by more than MOST_MOVED of the crop's side in the mean, more layers stay in float32, at
    whichever end moves them less: from the image on, where a MobileNet has few channels of very different ranges, or
    from the answer backwards, which a ResNet needs whose last map is flattened into the answer. Some networks need
    none. Where no number of layers is enough, none is kept: what moves the landmarks then lies between the layers.

    Args:
        graph: of `trace`.
        crops: (N, 3, S, S) float32 in [-1, 1], such as the network will see.

    Returns:
        the graph, and how many layers beside the last ones and the picture's stay in float32.
    """
    seen, of_picture = crops[:JUDGED], _sees_picture(graph)
    truth = start_session(graph.SerializeToString()).run(["landmarks"], {"image": seen})[0]
    layers = sum(node.op_type in WEIGHTED for node in graph.graph.node)

    def tried(more: int, first: int) -> tuple[float, Any]:
        made = quantize(graph, crops, kept_in_float(graph, more, of_picture + first))
        found = start_session(made.SerializeToString()).run(["landmarks"], {"image": seen})[0]
        return float(np.linalg.norm((found - truth).reshape(-1, 2), axis=1).mean()), made

    allowed = MOST_MOVED * crops.shape[-1]
    moved, plain = tried(0, 0)
    if moved <= allowed:
        return plain, 0
    for count in track([*range(1, min(6, layers)), *range(6, layers, 3), layers], "trying more layers in float32"):
        moved, made = min((tried(*ends) for ends in ((0, count), (count, 0))), key=lambda found: found[0])
        if moved <= allowed:
            return made, count
    return plain, 0


def _tidied(graph: Any) -> Any:
    """Without constants that nothing reads: the bounds of a Clip that has become a range of 8 bits."""
    read = {name for node in graph.graph.node for name in node.input} | {o.name for o in graph.graph.output}
    unread = [node for node in graph.graph.node if node.op_type == "Constant" and not read & set(node.output)]
    for node in unread:
        graph.graph.node.remove(node)
    return graph


def quantize(graph: Any, crops: np.ndarray, kept: list[str]) -> Any:
    """The graph in static int8, without the nodes `kept`."""
    onnx = import_onnx()
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    CalibrationDataReader.register(_Reader)  # not its base class, which would have to be imported above
    level = logging.getLogger().level
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            logging.getLogger().setLevel(logging.ERROR)  # it advises preparations that the tracer has done
            quantize_static(
                copy.deepcopy(graph), path, _Reader(crops), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=list(QUANTIZED),
                nodes_to_exclude=kept, calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
        finally:
            logging.getLogger().setLevel(level)
        return _tidied(onnx.load(path))
