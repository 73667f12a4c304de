"""The job `export`: a trained detector as an ONNX file that carries its crop, its mark-up and its hash,
and proof that it answers alike.

What the graph is made of stands in graph.py, what runs it without torch in predicting/onnx_network.py. Here it is
compared with the network it came from: landmarks in px, NME on a split, file size, latency.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import tyro

from stylealign.batches.batch import to_float
from stylealign.batches.crops import CropCache
from stylealign.data.atomic import making, refuse_existing, write_whole
from stylealign.data.dataset import FaceDataset, evenly_spread
from stylealign.data.image import warp
from stylealign.data.packaged import run_folder
from stylealign.detectors.loaded import LoadedDetector, load_detector
from stylealign.errors import UserError, counted
from stylealign.evaluation.point_trust import PointTrust, refuse_not_positive, trust_of_card
from stylealign.evaluation.tables import Table, print_table
from stylealign.face import geometry
from stylealign.face.covariance import scales
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.export.graph import Answering, answering, halved, import_onnx, quantized, trace
from stylealign.predicting.onnx_network import start_session, to_metadata
from stylealign.predicting.validation import Validation
from stylealign.progress import open_console, say, track
from stylealign.training.seen import data_learnt

PARITY = 0.01  # px by which float32 may differ from PyTorch
SCALE_PARITY = 0.01  # share of itself by which the scale of a point may
BATCHES, THREADS = (1, 16), (1, 2)
TURNS = 4  # of each model in a latency figure
SECONDS = 2.0  # of a latency figure, shared by its turns

Answer = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write a trained detector as an ONNX file, and show that it answers as the detector does."""

    run: tyro.conf.Positional[Path]
    """Finished detector run or checkpoint folder, or `compact` or `accurate`, which came with the package."""
    out: Path
    """File to make, ending in .onnx."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """`fp16` halves the file (for GPUs and phones; a CPU gains nothing else), `int8` makes it a quarter and needs
    --calibrate. The last layers, which decide about fractions of a pixel, stay in float32."""
    calibrate: Path | None = None
    """Dataset whose crops set the ranges of int8, such as the one the detector learnt from."""
    calibrate_split: str = "train"
    """Its split; `all` for every face."""
    calibrate_faces: Annotated[int, tyro.conf.arg(metavar="INT")] = 256
    """How many of them, evenly spread."""
    data: Path | None = None
    """Dataset with landmarks to measure NME on."""
    split: str = "val"
    """Its split; `all` for every face."""
    latency: bool = False
    """Also measure milliseconds a call, at batches of 1 and 16 and with 1 and 2 threads."""

    def __post_init__(self) -> None:
        if self.out.suffix != ".onnx":
            raise ValueError(f"out is {self.out}, expected a name that ends in .onnx")
        if self.precision == "int8" and self.calibrate is None:
            raise ValueError(
                "int8 takes its ranges from real crops: give --calibrate DATASET, such as the one "
                "the detector learnt from"
            )
        if self.calibrate_faces < 1:
            raise ValueError(f"calibrate_faces is {self.calibrate_faces}, expected at least 1")


class Model(NamedTuple):
    """One of the things compared."""

    name: str
    answer: Answer
    """(B, 3, S, S) float32 -> [landmarks (B, P, 2) px of the crop, perhaps confidences (B, P), perhaps covariances
    (B, P, 2, 2) px^2, which are the last]"""
    with_threads: Callable[[int], Answer]
    size: int
    """Bytes of its file"""


# --------------------------------------------------------------------------------------------------------------------
# What is compared


def torch_model(loaded: LoadedDetector, path: Path, trust: PointTrust | None = None) -> Model:
    """The detector itself, as a user of torch would call it."""
    network = Answering(loaded.model, trust)

    @torch.inference_mode()
    def answer(crops: np.ndarray) -> list[np.ndarray]:
        image = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
        return [found.numpy() for found in network(image)]

    def with_threads(threads: int) -> Answer:
        torch.set_num_threads(threads)
        return answer

    return Model("PyTorch", answer, with_threads, path.stat().st_size)


def onnx_model(name: str, graph: Any) -> Model:
    """A graph in onnxruntime."""
    content = graph.SerializeToString()

    def with_threads(threads: int | None) -> Answer:
        session = start_session(content, threads)
        return lambda crops: session.run(None, {"image": crops})

    return Model(name, with_threads(None), with_threads, len(content))


def batches(answer: Answer, crops: np.ndarray, batch: int) -> np.ndarray:
    """(N, P, 2) landmarks, `batch` crops at a time."""
    return np.concatenate([answer(crops[i : i + batch])[0] for i in range(0, len(crops), batch)])


def as_crops(cache: CropCache, count: int | None = None) -> np.ndarray:
    """(N, 3, S, S) float32 in [-1, 1] of a crop cache, or `count` of them evenly spread."""
    rows = evenly_spread(len(cache), len(cache) if count is None else count)
    return to_float(torch.from_numpy(cache.images[rows])).contiguous(memory_format=torch.contiguous_format).numpy()


def drawn_crops(crop: CropConfig, count: int = 16) -> np.ndarray:
    """(N, 3, S, S) crops of drawn faces, for a comparison where no data set is at hand."""
    from stylealign.toyfaces import FaceOptions, draw_face, face_of

    found = []
    for i in range(count):
        structure, style, _ = face_of(FaceOptions(), i)
        image, landmarks, _ = draw_face(structure, style, max(64, crop.size))
        found.append(
            warp(image, geometry.crop_affine(geometry.landmark_box(landmarks), crop.scale, crop.size), crop.size)
        )
    return to_float(torch.from_numpy(np.stack(found))).contiguous(memory_format=torch.contiguous_format).numpy()


# --------------------------------------------------------------------------------------------------------------------
# Comparing


def check_parity(first: Model, second: Model, crops: np.ndarray) -> dict[int, float]:
    """Largest difference in px by batch size. Raises UserError where it is above PARITY: such a file is not written."""
    found = {}
    for batch in BATCHES:
        apart = np.abs(batches(second.answer, crops, batch) - batches(first.answer, crops, batch))
        found[batch] = float(apart.max())
        if not found[batch] <= PARITY:
            face, point, axis = np.unravel_index(np.nan_to_num(apart, nan=np.inf).argmax(), apart.shape)
            raise UserError(
                f"the {second.name} answers differ by {found[batch]:.4f} px from {first.name}'s at batch "
                f"{batch} (face {face}, "
                f"landmark {point}, {'xy'[axis]}), expected at most {PARITY} px: nothing was written"
            )
    return found


def check_scales(first: Model, second: Model, crops: np.ndarray) -> float | None:
    """Largest difference of the points' scales as a share of the first's; None where they answer no covariance.

    Raises UserError where it is above SCALE_PARITY: such a file is not written.
    """
    batch = crops[: BATCHES[-1]]
    covariances = [model.answer(batch)[-1] for model in (first, second)]
    if covariances[0].ndim != 4:
        return None
    refuse_not_positive(covariances[0], first.name)
    before, after = (scales(covariance.astype(np.float64)) for covariance in covariances)
    apart = float(np.nan_to_num(np.abs(after / before - 1), nan=np.inf).max())
    if not apart <= SCALE_PARITY:
        raise UserError(
            f"the {second.name} answers' scales differ by {100 * apart:.2f} % from {first.name}'s, expected at most "
            f"{100 * SCALE_PARITY:g} %: nothing was written"
        )
    return apart


def nme_of(model: Model, validation: Validation) -> float:
    """Mean NME of a model on the validation faces, a fraction."""
    crops = as_crops(validation.cache)
    found = [
        geometry.apply(geometry.invert(affine), points.astype(np.float64))
        for affine, points in zip(validation.cache.affines, batches(model.answer, crops, BATCHES[-1]), strict=True)
    ]
    return validation.nme_of(np.stack(found))


def latencies(models: list[Model], crops: np.ndarray) -> dict[tuple[str, int, int], float]:
    """Median milliseconds a call by (model, batch, threads).

    Models take turns, TURNS each, so that a busy machine slows all of them alike; within a turn one has the cores to
    itself (the threads of onnxruntime go on turning for a while after an answer, and would take torch's time).
    """
    found = {}
    threads_before = torch.get_num_threads()
    try:
        cases = [(batch, threads) for batch in BATCHES for threads in THREADS]
        for batch, threads in track(cases, "measuring latency"):
            given = np.resize(crops, (batch, *crops.shape[1:]))
            times: dict[str, list[float]] = {model.name: [] for model in models}
            for _ in range(TURNS):
                for model in models:
                    answer = model.with_threads(threads)
                    answer(given)  # caches and allocators
                    answer(given)
                    begun = time.perf_counter()
                    while (start := time.perf_counter()) - begun < SECONDS / TURNS:
                        answer(given)
                        times[model.name].append(time.perf_counter() - start)
                    del answer
            for name, values in times.items():
                found[name, batch, threads] = 1000 * statistics.median(values)
    finally:
        torch.set_num_threads(threads_before)
    return found


# --------------------------------------------------------------------------------------------------------------------
# The job


def _faces(path: Path, split: str, schema: LandmarkSchema | None = None) -> FaceDataset:
    faces = FaceDataset.open(path)
    if schema is not None and faces.schema != schema:
        raise UserError(f"{path}: annotated with {faces.schema.name}, the detector answers in {schema.name}")
    return faces.select(None if split == "all" else split, labelled=None if schema is None else True)


def _write(graph: Any, texts: dict[str, str], out: Path) -> None:
    """Write the file as a whole or not at all."""
    del graph.metadata_props[:]
    for key, value in texts.items():
        graph.metadata_props.add(key=key, value=value)
    graph.producer_name, graph.producer_version = "stylealign", texts["stylealign"]
    write_whole(out, graph.SerializeToString())


def table_of(
    models: list[Model],
    reference: np.ndarray,
    crops: np.ndarray,
    nme: dict[str, float],
    latency: dict[tuple[str, int, int], float],
) -> Table:
    """What there is to know of each model, a line each."""
    header: tuple[str, ...] = ("model", "MB", "px from PyTorch, mean", "largest")
    header += ("NME %",) if nme else ()
    cases = [(batch, threads) for batch in BATCHES for threads in THREADS] if latency else []
    header += tuple(f"ms, batch {batch}, {counted(threads, 'thread')}" for batch, threads in cases)
    rows = []
    for model in models:
        apart = np.linalg.norm(batches(model.answer, crops, BATCHES[-1]) - reference, axis=2)
        row: tuple[str, ...] = (model.name, f"{model.size / 1e6:.2f}", f"{apart.mean():.5f}", f"{apart.max():.5f}")
        row += (f"{100 * nme[model.name]:.3f}",) if nme else ()
        rows.append((*row, *(f"{latency[model.name, batch, threads]:.2f}" for batch, threads in cases)))
    return Table("Export", header, rows, "")


@making("out")
def main(config: Export) -> None:
    """Run the job. Raises UserError for whatever cannot be meant, and where the float32 file
    answers otherwise than the network."""
    import_onnx()
    refuse_existing(config.out)
    loaded = load_detector(config.run)
    schema, crop = loaded.schema, loaded.crop
    # Read everything that may be wrong before anything is made.
    seen = None if config.data is None else Validation(_faces(config.data, config.split, schema), crop)
    calibration, described = None, None
    if config.precision == "int8":
        assert config.calibrate is not None
        faces = _faces(config.calibrate, config.calibrate_split)
        calibration = as_crops(CropCache(faces, crop), config.calibrate_faces)
        described = {"name": faces.name, "split": config.calibrate_split, "faces": len(calibration),
            "content_hash": faces.content_hash}  # fmt: skip
    crops = drawn_crops(crop) if seen is None else as_crops(seen.cache, 64)

    trust = trust_of_card(loaded.card, schema.num_points, f"{config.run}/card.json")
    graph = trace(answering(loaded.model, trust), crop.size)
    weights = run_folder(config.run) / "model.safetensors"
    models = [torch_model(loaded, weights, trust), onnx_model("ONNX fp32", graph)]
    parity = check_parity(models[0], models[1], crops)
    parity_of_scales = check_scales(models[0], models[1], crops)
    where = "drawn faces" if seen is None else f"faces of {config.data}, {config.split}"
    print(
        f"parity, ONNX fp32 and PyTorch, {len(crops)} {where}: "
        + ", ".join(f"{apart:.6f} px at batch {batch}" for batch, apart in parity.items())
        + f" (at most {PARITY} allowed)"
        + ("" if parity_of_scales is None else f"; scales of points: {100 * parity_of_scales:.4f} %")
    )
    if config.precision != "fp32":
        say(f"making {config.precision}")
        if calibration is None:
            graph = halved(graph)
        else:
            graph, more = quantized(graph, calibration)
            if more:
                layers = counted(more, "more layer stays", "more layers stay")
                say(f"{layers} in float32: in 8 bits the landmarks would move")
        models.append(onnx_model(f"ONNX {config.precision}", graph))
    nme = {} if seen is None else {model.name: nme_of(model, seen) for model in models}
    latency = latencies(models, crops) if config.latency else {}
    table = table_of(models, batches(models[0].answer, crops, BATCHES[-1]), crops, nme, latency)
    card = {**loaded.card, "data": data_learnt(loaded.card)}  # a file is not started from others: all in one list
    _write(graph, to_metadata(card, config.precision, described, loaded.upright), config.out)
    console = open_console()
    print_table(console, table)
    if seen is not None:
        console.print(
            f"NME: {counted(len(seen.faces), 'face')} of {config.data}, split {config.split}; denominator "
            f"{seen.denominator}; {crop.describe()}."
        )
    say(f"finished: {config.out}")
