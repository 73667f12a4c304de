"""Latency, size and error of ONNX landmark networks side by side: ours, and whatever others a user names.

    python benchmarks/peers.py --data runs/300w/data --split val --out peers compact.onnx old.onnx peers.yaml

Files that `stylealign export` wrote say themselves how a face is cut for them. Of another network's file, a YAML file
says it, a list of

    - name: MobileFaceNet
      file: mobilefacenet.onnx     # beside the YAML file
      scale: 1.1                   # side of the square crop over the longer side of the landmarks' box
      shift: [0, 0]                # of its centre, in shares of that side
      values: [-1, 1]              # what black and white are; or mean: [r, g, b] and std: [r, g, b] of 0 to 1
      channels: rgb                # or bgr
      output: 0                    # which of its outputs
      points: fraction             # of the crop, (0, 0) its corner; or pixels of the crop

    - name: dlib                   # a shape predictor of dlib (`pip install dlib-bin`), which is told where a face is
      file: shape_predictor_68_face_landmarks.dat
      scale: 1.0                   # of the square that it is told, which is the middle half of the crop
      size: 320                    # side of that crop

Every network has the same faces and one thread; single crops go round among the networks, so that a busy machine slows
all alike, and medians are taken. Parameters and MACs are counted in the graph (convolutions and products of matrices).
Writes OUT/peers.md and OUT/peers.png, error over latency.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from stylealign.config import read_yaml
from stylealign.data.atomic import write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.data.describe import whole_faces
from stylealign.data.image import read_image, warp
from stylealign.errors import UserError
from stylealign.evaluation.draw import COLOURS, new_figure, save_figure
from stylealign.evaluation.metrics import denominators, nme_per_face, usual_denominator
from stylealign.face.geometry import apply, crop_affine, invert, landmark_box
from stylealign.predicting.onnx_network import read_metadata, start_session
from stylealign.progress import say, track

KEYS = {"name", "file", "scale", "shift", "values", "mean", "std", "channels", "output", "points"}
OF_DLIB = {"name", "file", "scale", "shift", "size"}


class Peer(NamedTuple):
    """A network, and how a face is cut for it."""

    name: str
    file: Path
    scale: float
    shift: tuple[float, float]
    offset: np.ndarray
    """(3,) subtracted from pixels of 0 to 1"""
    factor: np.ndarray
    """(3,) then multiplied with"""
    bgr: bool
    output: int
    fraction: bool
    session: Any
    size: int


def _opened(file: Path) -> tuple[Any, int]:
    """A session of one thread, and the side of the crop that it takes."""
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        session = start_session(file, threads=1, tiny_as_zero=True)
    except UserError:
        raise
    except Exception as error:  # onnxruntime has a class for each of its states
        raise UserError(
            f"{file}: not an ONNX file that onnxruntime can load ({' '.join(str(error).split())[:150]})"
        ) from None
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not isinstance(shape[2], int):
        raise UserError(f"{file}: input of shape {shape}, expected (batch, 3, size, size)")
    return session, shape[2]


def ours(file: Path) -> Peer:
    """A file that `stylealign export` wrote."""
    session, size = _opened(file)
    crop = read_metadata(session.get_modelmeta().custom_metadata_map, file)["crop"]
    return Peer(
        file.stem, file, float(crop["scale"]), (0.0, 0.0), np.full(3, 0.5), np.full(3, 2.0), False, 0, False, session,
        size,
    )  # fmt: skip


class ShapePredictor:
    """dlib's regression trees (Kazemi and Sullivan, CVPR 2014), asked as an ONNX session is."""

    def __init__(self, file: Path, size: int):
        try:
            import dlib
        except ImportError:
            raise UserError(f"{file}: a shape predictor needs dlib: pip install dlib-bin") from None
        if not file.is_file():
            raise UserError(f"{file}: no such file")
        quarter = size // 4
        self.predictor = dlib.shape_predictor(str(file))
        self.face = dlib.rectangle(quarter, quarter, size - quarter - 1, size - quarter - 1)

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image")]

    def run(self, outputs: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """A (1, 3, S, S) crop of 0 to 255 -> [(P, 2) pixels of it]."""
        crop = np.ascontiguousarray(feed["image"][0].transpose(1, 2, 0).round().astype(np.uint8))
        return [np.array([(point.x, point.y) for point in self.predictor(crop, self.face).parts()], np.float64)]


def of_dlib(entry: Mapping[str, Any], where: Path) -> Peer:
    """A shape predictor that a YAML file describes, by keys that are known."""
    file, size = where.parent / str(entry["file"]), int(entry.get("size", 320))
    x, y = entry.get("shift", (0, 0))
    return Peer(
        str(entry["name"]), file, 2 * float(entry.get("scale", 1.0)), (float(x) / 2, float(y) / 2), np.zeros(3),
        np.full(3, 255.0), False, 0, False, ShapePredictor(file, size), size,
    )  # fmt: skip


def described(entry: Mapping[str, Any], where: Path) -> Peer:
    """A network that a YAML file describes."""
    predictor = isinstance(entry, dict) and str(entry.get("file", "")).endswith(".dat")
    keys = OF_DLIB if predictor else KEYS
    if not isinstance(entry, dict) or not {"name", "file"} <= entry.keys() <= keys:
        raise UserError(f"{where}: {str(entry)[:200]}: expected name, file and, of {', '.join(sorted(keys))}, any")
    if predictor:
        return of_dlib(entry, where)
    session, size = _opened(where.parent / str(entry["file"]))
    low, high = entry.get("values", (0, 1))
    offset, factor = np.full(3, -low / (high - low)), np.full(3, float(high - low))
    if "mean" in entry or "std" in entry:
        offset, factor = np.array(entry.get("mean", (0, 0, 0)), float), 1 / np.array(entry.get("std", (1, 1, 1)), float)
    x, y = entry.get("shift", (0, 0))
    for key, expected in (("channels", ("rgb", "bgr")), ("points", ("fraction", "pixels"))):
        if entry.get(key, expected[0]) not in expected:
            raise UserError(f"{where}: {key} of {entry['name']} is {entry[key]!r}, expected {' or '.join(expected)}")
    return Peer(
        str(entry["name"]), where.parent / str(entry["file"]), float(entry.get("scale", 1.0)), (float(x), float(y)),
        offset, factor, entry.get("channels") == "bgr", int(entry.get("output", 0)),
        entry.get("points", "fraction") == "fraction", session, size,
    )  # fmt: skip


def all_of(paths: list[Path]) -> list[Peer]:
    """Every network named, in order. Raises UserError for what cannot be read, or two of one name."""
    peers: list[Peer] = []
    for path in paths:
        if path.suffix in (".yaml", ".yml"):
            listed = read_yaml(path)
            if not isinstance(listed, list) or not listed:
                raise UserError(f"{path}: expected a list of networks")
            peers += [described(entry, path) for entry in listed]
        else:
            peers.append(ours(path))
    names = [peer.name for peer in peers]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two networks are called {repeated[0]}: rename a file, or its entry")
    return peers


def input_of(peer: Peer, image: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1, 3, S, S) what the network sees of a face, and the affine from picture to crop."""
    affine = crop_affine(landmark_box(landmarks), peer.scale, peer.size)
    affine[:, 2] -= np.array(peer.shift) * peer.size
    crop = warp(image, affine, peer.size)[..., :: -1 if peer.bgr else 1]
    values = (crop.astype(np.float64) / 255 - peer.offset) * peer.factor
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32), affine


def answer(peer: Peer, seen: np.ndarray, affine: np.ndarray, num_points: int) -> np.ndarray:
    """(P, 2) landmarks in pixels of the picture."""
    found = np.asarray(peer.session.run(None, {peer.session.get_inputs()[0].name: seen})[peer.output], np.float64)
    if found.size != 2 * num_points:
        raise UserError(f"{peer.file}: answers of {found.size} numbers, expected {2 * num_points}")
    points = found.reshape(num_points, 2)
    return apply(invert(affine), points * peer.size - 0.5 if peer.fraction else points)


def counted(file: Path) -> tuple[float | None, float | None]:
    """Parameters and MACs of one crop, in millions; MACs None where shapes are not known, both for no network."""
    if file.suffix == ".dat":
        return None, None
    model = onnx.load(file)
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    parameters = sum(w.size for w in weights.values() if w.dtype.kind in "fiu" and w.ndim > 0)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    inferred = shape_inference.infer_shapes(model, data_prop=True)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    }
    total = 0.0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "QLinearConv", "Gemm", "MatMul"):
            continue
        kernel = weights.get(node.input[3 if node.op_type == "QLinearConv" else 1])
        out = shapes.get(node.output[0])
        if kernel is None and node.op_type == "Conv":  # between a pair that rounds it
            source = next((n for n in model.graph.node if n.output[0] == node.input[1]), None)
            kernel = weights.get(source.input[0]) if source is not None else None
        if kernel is None or not out or 0 in out[1:]:
            if node.op_type in ("Gemm", "MatMul"):
                continue
            return parameters / 1e6, None
        if node.op_type in ("Conv", "QLinearConv"):
            total += float(np.prod(out[1:])) * float(np.prod(kernel.shape[1:]))
        else:
            total += float(kernel.size) * float(np.prod(out[1:-1] or [1]))
    return parameters / 1e6, total / 1e6


def faces_of(data: Path, split: str) -> FaceDataset:
    """The faces of a split all of whose landmarks are labelled."""
    return whole_faces(FaceDataset.open(data).select(split, labelled=True), "the comparison")


def errors(peers: list[Peer], faces: FaceDataset) -> dict[str, np.ndarray]:
    """name -> (N,) NME over the usual length of the mark-up, fractions."""
    found: dict[str, list[np.ndarray]] = {peer.name: [] for peer in peers}
    truth = faces.landmarks_array().astype(np.float64)
    for i in track(range(len(faces)), "asking the networks", len(faces)):
        image = read_image(faces[i].image)
        for peer in peers:
            found[peer.name].append(answer(peer, *input_of(peer, image, truth[i]), truth.shape[1]))
    lengths = denominators(truth, None, faces.schema, usual_denominator(faces.schema, boxed=False), faces.ids())
    return {name: nme_per_face(np.stack(points), truth, lengths) for name, points in found.items()}


def latencies(peers: list[Peer], rounds: int) -> dict[str, float]:
    """name -> median milliseconds of one crop, the networks in turn."""
    noise = np.random.default_rng(0)
    seen = {p.name: noise.random((1, 3, p.size, p.size), np.float32) * np.float32(p.factor.max()) for p in peers}
    times: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in track(range(rounds + 5), "timing", rounds + 5):
        for peer in peers:
            begun = time.perf_counter()
            peer.session.run(None, {peer.session.get_inputs()[0].name: seen[peer.name]})
            if number >= 5:
                times[peer.name].append(1e3 * (time.perf_counter() - begun))
    return {name: float(np.median(values)) for name, values in times.items()}


def plot(rows: list[dict[str, Any]], path: Path, faces: str) -> None:
    """Error over latency; a dot's area is the file's size, up to 20 MB."""
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    for i, row in enumerate(rows):
        axes.scatter(row["ms"], row["nme"], s=20 + 25 * min(row["mb"], 20), color=COLOURS[i % len(COLOURS)], alpha=0.7)
        axes.annotate(f"{row['name'][:40]} ({row['mb']:.1f} MB)", (row["ms"], row["nme"]), textcoords="offset points",
                      xytext=(8, (6, -14)[i % 2]), fontsize=8)  # fmt: skip
    axes.set(
        xlabel="milliseconds a crop, one thread",
        ylabel=f"NME (%), {faces}",
        xlim=(0, 1.5 * max(row["ms"] for row in rows)),
    )
    axes.margins(x=0.25, y=0.2)
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="+", help="ONNX files of ours, YAML files that describe others")
    parser.add_argument("--data", type=Path, required=True, help="data set whose faces are asked about")
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets peers.md and peers.png")
    parser.add_argument("--rounds", type=int, default=200, help="timed crops of each network")
    given = parser.parse_args()
    peers = all_of(given.networks)
    faces = faces_of(given.data, given.split)
    error, ms = errors(peers, faces), latencies(peers, given.rounds)
    rows = []
    for peer in peers:
        parameters, macs = counted(peer.file)
        mb = peer.file.stat().st_size / 1e6
        rows.append({"name": peer.name, "size": peer.size, "mb": mb, "parameters": parameters, "macs": macs,
                     "ms": ms[peer.name], "nme": 100 * float(error[peer.name].mean())})  # fmt: skip
    lines = [
        "| network | crop px | file MB | parameters M | MACs M | ms a crop | NME % |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        macs = "-" if row["macs"] is None else f"{row['macs']:.0f}"
        parameters = "-" if row["parameters"] is None else f"{row['parameters']:.2f}"
        lines.append(
            f"| {row['name']} | {row['size']} | {row['mb']:.1f} | {parameters} | {macs} | {row['ms']:.2f} | "
            f"{row['nme']:.2f} |"
        )
    said = (
        f"\n{len(faces)} faces of {faces.name}, {given.split}; NME over {usual_denominator(faces.schema, False)}, "
        "crops by the landmarks' box, each network's own. "
        f"One thread, {given.rounds} single crops of each in turn, medians.\n"
    )
    given.out.mkdir(parents=True, exist_ok=True)
    write_whole(given.out / "peers.md", "\n".join(lines) + "\n" + said)
    plot(rows, given.out / "peers.png", f"{len(faces)} faces")
    say("\n".join(lines) + "\n" + said)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
