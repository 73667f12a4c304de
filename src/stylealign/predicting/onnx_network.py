"""A detector in an ONNX file, as `stylealign export` writes it: what its metadata says, its answers. Knows no torch.

metadata_props     kind "stylealign-detector", format "1", stylealign (version), model, model_hash, precision, and as
                   JSON: crop {size, scale, box}, schema, value_range [-1, 1], data (what it learnt from),
                   calibration (int8 only), trust (where the model has one), upright (the mean shape of
                   detectors that have learnt every roll), lean (where its answers do)
input image        (batch, 3, size, size) float32 RGB in [-1, 1]
output landmarks   (batch, P, 2) float32 (x, y) px of the crop, pixel centres at integers
output confidence  (batch, P) float32 in [0, 1], only of networks that make a heatmap a landmark: its peak
output covariance  (batch, P, 2, 2) float32 px^2 of the crop, calibrated, only of networks that answer one and whose
                   card has a trust
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.config import from_dict, parse_json
from stylealign.errors import UserError, counted
from stylealign.evaluation.lean import lean_of_card
from stylealign.evaluation.point_trust import base_of, refuse_not_positive, trust_of_card
from stylealign.face.crop import CropConfig
from stylealign.face.schema import schema_from_dict
from stylealign.predicting.answer import Answer

KIND, FORMAT = "stylealign-detector", "1"
INSTALL = "pip install 'stylealign[export]', or pip install onnx onnxruntime"
NEEDED = ("format", "stylealign", "model", "model_hash", "precision", "crop", "schema", "value_range")
JSON_KEYS = ("crop", "schema", "value_range", "data", "calibration", "trust", "upright", "lean")
OUTPUTS = (("landmarks",), ("landmarks", "confidence"), ("landmarks", "covariance"),
           ("landmarks", "confidence", "covariance"))  # fmt: skip


def to_metadata(
    card: Mapping[str, Any],
    precision: str,
    calibration: Mapping[str, Any] | None = None,
    upright: np.ndarray | None = None,
) -> dict[str, str]:
    """What an exported file says of itself, texts by key, from the card of a run (`calibration`: of int8 files;
    `upright`: `LandmarkNetwork.upright`)."""
    from stylealign import __version__

    values: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "stylealign": __version__,
        "model": card["model"],
        "model_hash": card["model_hash"],
        "precision": precision,
        "crop": card["crop"],
        "schema": card["schema"],
        "value_range": [-1, 1],
        "data": card.get("data", []),
    }
    if calibration is not None:
        values["calibration"] = dict(calibration)
    if upright is not None:
        values["upright"] = np.asarray(upright, np.float64).round(4).tolist()
    if card.get("trust") is not None:
        values["trust"] = card["trust"]
    if card.get("lean"):
        values["lean"] = card["lean"]
    return {key: json.dumps(value) if key in JSON_KEYS else str(value) for key, value in values.items()}


def read_metadata(texts: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The inverse of `to_metadata`. Raises UserError for a file that `stylealign export` did not write."""
    if texts.get("kind") != KIND:
        raise UserError(
            f"{path}: an ONNX file of another model (kind {texts.get('kind', 'not stated')!r} in its metadata, "
            f"expected {KIND!r}): expected one that `stylealign export` wrote"
        )
    for key in NEEDED:
        if key not in texts:
            raise UserError(f"{path}: no {key!r} in its metadata, expected what `stylealign export` writes")
    if texts["format"] != FORMAT:
        raise UserError(f"{path}: metadata of format {texts['format']}, expected {FORMAT}")
    found: dict[str, Any] = dict(texts)
    for key in JSON_KEYS:
        if key in texts:
            found[key] = parse_json(texts[key], f"{path}: its metadata's {key!r}")
    if found["value_range"] != [-1, 1]:
        raise UserError(f"{path}: expects values in {found['value_range']}, expected [-1, 1]")
    return found


def adds_in_32_bits(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor is known to have VNNI, which adds products of 8 bits without overflow. Linux says."""
    try:
        return "vnni" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def start_session(model: Path | bytes, threads: int | None = None, tiny_as_zero: bool = False) -> Any:
    """An onnxruntime session on the CPU, of `threads` threads within an operation (None: one a core).

    `tiny_as_zero`: numbers below 1e-38 count as 0, in this thread from then on; a network that was saved with such
    weights can take twenty times as long without.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"ONNX models need the package onnxruntime, which is not installed: {INSTALL}") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; they come back as exceptions
    if not adds_in_32_bits():
        # Else products of 8 bits are added in 16, which overflow: this takes the way that does not, in up to twice the
        # time, where VNNI is there too.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if tiny_as_zero:
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    given = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def _reason(error: Exception, path: Path) -> str:
    """What onnxruntime says of a file, in a few words."""
    said = re.sub(r"\[ONNXRuntimeError\] : \d+ : ", "", str(error)).replace(str(path), path.name)
    return " ".join(said.split())[:200] or "it does not say why"


def upright_of(card: Mapping[str, Any], num_points: int, where: str) -> np.ndarray | None:
    """(P, 2) px of the crop, where an ONNX file's metadata (or what stands beside a twin) has it. Raises UserError for
    what is no shape."""
    if card.get("upright") is None:
        return None
    try:
        shape = np.array(card["upright"], np.float64)
    except (TypeError, ValueError):
        shape = np.empty(0)
    if shape.shape != (num_points, 2) or not np.isfinite(shape).all() or np.ptp(shape, axis=0).min() <= 0:
        raise UserError(f"{where} 'upright': expected {counted(num_points, 'pair')} [x, y] of a face")
    return shape


class OnnxDetector:
    """A detector from an ONNX file. How far it agrees with the run it was made from, `stylealign export` has printed.

    Attributes:
        crop: how a face is cut from its picture, without which the answers mean nothing.
        schema: the mark-up of the landmarks.
        card: the metadata as plain values.
        hash: SHA-256 of the weights of the run.

    Raises UserError for a file that is missing, no ONNX, or of another model, and where onnxruntime is not installed.
    """

    def __init__(self, path: Path | str, threads: int | None = None):
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such file, expected an ONNX file that `stylealign export` wrote")
        try:
            self._session = start_session(path, threads)
        except UserError:
            raise
        except Exception as error:  # onnxruntime has a class for each of its states
            raise UserError(f"{path}: not an ONNX file that onnxruntime can load ({_reason(error, path)})") from None
        self._path, self._threads = path, threads
        self.card = read_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        self.crop: CropConfig = from_dict(CropConfig, self.card["crop"], f"{path}: crop")
        self.schema = schema_from_dict(self.card["schema"], f"{path}: schema")
        self.hash: str = self.card["model_hash"]
        names = [output.name for output in self._session.get_outputs()]
        inputs = [(i.name, list(i.shape[1:])) for i in self._session.get_inputs()]
        size = self.crop.size
        if inputs != [("image", [3, size, size])] or tuple(names) not in OUTPUTS:
            raise UserError(
                f"{path}: inputs {inputs} and outputs {names}, expected image (batch, 3, {size}, {size}) and landmarks"
            )
        self._names = names
        self.upright = upright_of(self.card, self.schema.num_points, f"{path}: its metadata's")
        self.trust = trust_of_card(self.card, self.schema.num_points, f"{path}: its metadata")
        self.lean = lean_of_card(self.card, f"{path}: its metadata")
        if "covariance" in names and (self.trust is None or self.trust.basis != "covariance"):
            raise UserError(
                f"{path}: an output covariance, expected a trust in its metadata that says what it is made from"
            )

    def __reduce__(self) -> tuple[type["OnnxDetector"], tuple[Path, int | None]]:
        """Pickled by its file, which is opened again: onnxruntime's session cannot be."""
        return OnnxDetector, (self._path.absolute(), self._threads)

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The first two parts of `answer`: (B, P, 2) float32 px of the crop, and (B, P) confidences or None."""
        return self.answer(crops)[:2]

    def answer(self, crops: np.ndarray) -> Answer:
        """Answer a batch.

        Args:
            crops: (B, 3, S, S) float32 RGB in [-1, 1], S = crop.size.

        Raises ValueError for another shape, UserError for a damaged graph and for a covariance that is none.
        """
        size = self.crop.size
        if crops.ndim != 4 or crops.shape[1:] != (3, size, size):
            raise ValueError(f"crops of shape {crops.shape}, expected (B, 3, {size}, {size})")
        if not len(crops):
            return Answer(np.empty((0, self.schema.num_points, 2), np.float32))
        try:
            found = self._session.run(None, {"image": np.ascontiguousarray(crops, np.float32)})
        except Exception as error:
            raise UserError(f"{self._path}: its graph cannot be computed ({_reason(error, self._path)})") from None
        points = (len(crops), self.schema.num_points)
        wanted = {"landmarks": (*points, 2), "confidence": points, "covariance": (*points, 2, 2)}
        shapes, expected = [np.shape(answer) for answer in found], [wanted[name] for name in self._names]
        if shapes != expected:
            raise UserError(f"{self._path}: answers of shapes {shapes}, expected {expected}")
        answers = dict(zip(self._names, found, strict=True))
        covariance, peaks = answers.get("covariance"), answers.get("confidence")
        if covariance is not None:
            covariance = covariance.astype(np.float64)
            refuse_not_positive(covariance, f"{self._path}: its answers")
        elif self.trust is not None and (base := base_of(self.trust.basis, None, peaks)) is not None:
            covariance = self.trust.calibrated(base)
        return Answer(answers["landmarks"], peaks, covariance)
