"""The job `calibrate`: how far a detector's error grows when its boxes are off (every finder's are), or how sure it is.

Boxes: each face of a split is cut round its box scaled, or shifted to four sides, and the mean NME of all faces is set
against the exact box's. With `--refine 1` the same, after one round of cutting again.

    calibration.json    every number;  calibration.png  the two curves

Trust (`--what trust`): what the detector says of how sure it is of each point is made true on a split
(evaluation/point_trust.py). The folder is the same model, with that in its card.

    card.json, model.safetensors;  calibration.json  every number
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.describe import whole_faces
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.evaluation.draw import COLOURS, new_figure, save_figure
from stylealign.evaluation.metrics import denominators, nme_per_face, usual_denominator
from stylealign.evaluation.point_trust import BASES
from stylealign.evaluation.tables import print_table, wide_console
from stylealign.face.geometry import landmark_box
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.candidates import Candidate
from stylealign.predicting.landmarks import find_landmarks
from stylealign.predicting.network import LandmarkNetwork, model_path, open_network
from stylealign.predicting.sources import Photo
from stylealign.progress import say, track

SIDES = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrate:
    """Measure how a detector's NME changes with the scale and shift of face boxes, and print the curve and the safe
    range; or calibrate how sure it is of each point."""

    data: Path
    """Dataset folder with true landmarks."""
    out: Path
    """Folder to make."""
    model: Path | None = None
    """Run folder of a finished detector (for boxes also an .onnx file); not given: the one that came with the
    package."""
    what: Literal["boxes", "trust"] = "boxes"
    """`trust`: make what the detector says of how sure it is of each point true, on faces it has not learnt from; the
    folder made is the same model with that in its card. Training does so by itself where it has a `val` split."""
    split: str = "val"
    """Its split."""
    subset: str | None = None
    """Only faces with this attribute."""
    scales: tuple[float, ...] = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.6)
    """Sizes of the box, times the true one."""
    shifts: tuple[float, ...] = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.3)
    """Shifts of the box, in shares of its longer side; each to the left, right, up and down."""
    growth: float = 0.05
    """NME may grow by this share within the safe range."""
    refine: int = 0
    """Rounds of cutting again, as in predict."""
    faces: int = 0
    """Take so many faces, evenly spread; 0: all."""
    batch_size: int = 64
    """Crops at a time."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    def __post_init__(self) -> None:
        if any(s <= 0 for s in self.scales) or any(s <= 0 for s in self.shifts) or not (self.scales or self.shifts):
            raise ValueError(f"scales {self.scales} and shifts {self.shifts}: expected numbers above 0, at least one")
        if self.growth <= 0 or min(self.refine, self.faces) < 0 or self.batch_size < 1:
            raise ValueError(
                f"growth {self.growth}, refine {self.refine}, faces {self.faces}, batch_size {self.batch_size}: "
                "expected above 0, 0 or more, 0 or more, at least 1"
            )


def jittered(box: np.ndarray, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """A box scaled round its centre and shifted by shares of its longer side."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    centre = centre + np.array(shift) * (box[2:] - box[:2]).max()
    return np.concatenate([centre - scale * half, centre + scale * half])


def safe_range(at: np.ndarray, values: np.ndarray, limit: float, start: float) -> tuple[float, float]:
    """The stretch of `at` round `start` on which `values` stay below `limit`, its ends interpolated between neighbours.

    Args:
        at: (n,) rising, `start` among them.
        values: (n,) with values at `start` below the limit.

    Returns:
        Its ends; the outermost of `at` where the limit is not met on that side.
    """
    first = int(np.flatnonzero(at == start)[0])
    ends = []
    for step in (-1, 1):
        i = first
        while 0 <= i + step < len(at) and values[i + step] < limit:
            i += step
        if 0 <= i + step < len(at):
            share = (limit - values[i]) / (values[i + step] - values[i])
            ends.append(float(at[i] + share * (at[i + step] - at[i])))
        else:
            ends.append(float(at[i]))
    return ends[0], ends[1]


def _true_box(sample: FaceSample, kind: str) -> np.ndarray:
    assert sample.landmarks is not None
    if kind == "landmarks":
        return landmark_box(sample.landmarks)
    if sample.box_xyxy is None:
        raise UserError(f"face '{sample.id}' has no box, and this detector was trained on given boxes")
    return sample.box_xyxy.astype(np.float64)


def measure(config: Calibrate, network: LandmarkNetwork, faces: FaceDataset) -> dict[str, Any]:
    """The content of calibration.json: NME (fractions) at every scale and shift, and the safe range.

    Each picture is decoded once.
    """
    cases: list[tuple[str, float, float, tuple[float, float]]] = [("exact", 1.0, 1.0, (0.0, 0.0))]
    cases += [("scale", s, s, (0.0, 0.0)) for s in config.scales if s != 1]
    cases += [("shift", s, 1.0, (s * x, s * y)) for s in config.shifts for x, y in SIDES.values()]
    boxed = all(faces[i].box_xyxy is not None for i in range(len(faces)))
    denominator = usual_denominator(network.schema, boxed)
    errors = np.empty((len(faces), len(cases)))
    for i in track(range(len(faces)), "calibrating"):
        sample = faces[i]
        photo, box = Photo(read_image(sample.image), np.eye(2, 3)), _true_box(sample, network.crop.box)
        candidates = [Candidate(photo, jittered(box, scale, shift)) for _, _, scale, shift in cases]
        answers = find_landmarks(network, candidates, config.refine, False, config.batch_size)
        found = np.stack([face.landmarks for face in answers])
        truth = np.repeat(sample.landmarks[None].astype(np.float64), len(cases), axis=0)  # type: ignore[index]
        boxes = None if sample.box_xyxy is None else np.repeat(sample.box_xyxy[None], len(cases), axis=0)
        errors[i] = nme_per_face(
            found, truth, denominators(truth, boxes, network.schema, denominator, [sample.id] * len(cases))
        )
    means = errors.mean(axis=0)
    scale = sorted([(1.0, means[0])] + [(a, m) for (k, a, _, _), m in zip(cases, means, strict=True) if k == "scale"])
    sides = {
        s: [m for (k, a, _, _), m in zip(cases, means, strict=True) if k == "shift" and a == s] for s in config.shifts
    }
    shift = [(0.0, float(means[0])), *sorted((s, float(np.mean(m))) for s, m in sides.items())]
    limit = means[0] * (1 + config.growth)
    scale_at, scale_nme = np.array(scale).T
    shift_at, shift_nme = np.array(shift).T
    low, high = safe_range(scale_at, scale_nme, limit, 1.0)
    _, far = safe_range(shift_at, shift_nme, limit, 0.0)
    return {
        "nme": float(means[0]),
        "denominator": denominator,
        "growth": config.growth,
        "refine": config.refine,
        "scale": [[float(a), float(m)] for a, m in scale],
        "shift": [[float(a), float(m)] for a, m in shift],
        "shift_by_side": {f"{s:g}": dict(zip(SIDES, map(float, m), strict=True)) for s, m in sides.items()},
        "safe_scale": [low, high],
        "safe_shift": far,
    }  # fmt: skip


def _plot(found: dict[str, Any], path: Path) -> None:
    figure = new_figure(7.6, 3.2)
    labels = {"scale": "box size, times the true one", "shift": "box shift, share of its side"}
    for axes, (key, label) in zip(figure.subplots(1, 2, sharey=True), labels.items(), strict=True):
        at, values = np.array(found[key]).T
        low, high = found["safe_scale"] if key == "scale" else (0.0, found["safe_shift"])
        axes.axvspan(low, high, color=COLOURS[2], alpha=0.15, linewidth=0)
        axes.plot(at, 100 * values, color=COLOURS[0], marker="o", markersize=3)
        axes.axhline(100 * found["nme"] * (1 + found["growth"]), color=COLOURS[6], linewidth=0.8, linestyle="--")
        axes.set(xlabel=label, ylabel="NME (%)" if key == "scale" else "")
        axes.set_yscale("log")
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def table(found: dict[str, Any]) -> str:
    """The curves and the safe range for the terminal."""
    lines = [f"NME at the exact box: {100 * found['nme']:.2f} %"]
    for key, head in (("scale", "box size"), ("shift", "box shift")):
        lines.append(f"{head:>10}  NME %   growth")
        lines += [f"{at:>10.2f}  {100 * v:5.2f}  {100 * (v / found['nme'] - 1):+6.1f} %" for at, v in found[key]]
    low, high = found["safe_scale"]
    lines.append(
        f"NME grows by less than {100 * found['growth']:g} % for boxes of {low:.2f} to {high:.2f} times the true size, "
        f"and shifts up to {found['safe_shift']:.3f} of it"
    )
    return "\n".join(lines)


def _faces(config: Calibrate, schema: LandmarkSchema) -> FaceDataset:
    """The faces to calibrate on, of the detector's mark-up."""
    faces = FaceDataset.open(config.data).select(split=config.split, subset=config.subset, labelled=True)
    faces = whole_faces(faces, "the calibration")
    if faces.schema != schema:
        raise UserError(
            f"{config.data}: faces of {faces.schema.name} ({faces.schema.num_points} points), the detector answers in "
            f"{schema.name} ({schema.num_points} points): expected one mark-up"
        )
    if 0 < config.faces < len(faces):
        faces = faces.take(np.linspace(0, len(faces) - 1, config.faces).round().astype(int).tolist())
    return faces


def calibrate_trust(config: Calibrate) -> None:
    """Fit the trust, write the model with it, print what it is worth on these faces."""
    from stylealign.batches.crops import CropCache  # torch, which the boxes' measurement with an ONNX file needs not
    from stylealign.detectors.loaded import load_detector
    from stylealign.evaluation.reliability import reliability, tables_of
    from stylealign.predicting.on_datasets import answer_crops, calibrated_on
    from stylealign.training.devices import pick_device
    from stylealign.training.weights import load_model, save_model

    path = model_path(config.model)
    if path.suffix == ".onnx":
        raise UserError(f"{path}: an ONNX file has no card to put a trust in, expected the run folder it was made from")
    loaded = load_detector(path, pick_device(config.accelerator))
    schema = loaded.schema
    faces = _faces(config, schema)
    cache = CropCache(faces, loaded.crop)
    fitted = calibrated_on(loaded.model, cache)
    if fitted is None and schema.flip_pairs:
        fitted = calibrated_on(loaded.model, cache, "mirror")
        say(
            "this detector answers neither covariances nor heatmaps: how sure it is, it says by the mirrored face alone"
        )
    if fitted is None:
        raise UserError(
            f"{path}: this detector answers neither covariances nor heatmaps, and {schema.name} has no mirror twins to "
            "ask it about the mirrored face: nothing to calibrate"
        )
    trust, fit = fitted
    answers = answer_crops(loaded.model, cache, config.batch_size, trust.basis == "mirror", trust)
    assert answers.covariance is not None
    truth = faces.landmarks_array().astype(np.float64)
    boxes = [sample.box_xyxy for sample in faces if sample.box_xyxy is not None]
    boxed = len(boxes) == len(faces)
    denominator = usual_denominator(schema, boxed)
    lengths = denominators(truth, np.stack(boxes) if boxed else None, schema, denominator, faces.ids())
    figures = reliability(answers.landmarks, answers.covariance, truth, lengths, schema, faces.labelled_array())
    described = {**trust.to_dict(), **fit, "data": describe_data(faces, split=config.split)}
    state, card = load_model(path, "detector")
    with whole_folder(config.out) as partial:
        save_model(partial, state, {**card, "trust": described})
        content = {"trust": described, "denominator": denominator, **figures}
        (partial / "calibration.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for table in tables_of(figures, path.name):
        print_table(wide_console(), table)
    temperature = np.array(trust.temperature)
    say(
        f"from {BASES[trust.basis]}: {'a temperature' if len(temperature) == 1 else 'temperatures'} of "
        + (f"{temperature[0]:.3g}" if len(temperature) == 1 else f"{temperature.min():.3g} to {temperature.max():.3g}")
        + f", power {trust.power:.2f}, on {len(faces)} faces ({denominator}): an error surprises by "
        f"{fit['surprise']:.3f} nats, before by {fit['surprise_before']:.3f}"
    )
    say(f"wrote {config.out}: the same detector with this trust in its card")


@making("out")
def main(config: Calibrate) -> None:
    """Measure, print, write."""
    refuse_existing(config.out)
    if config.what == "trust":
        calibrate_trust(config)
        return
    network = open_network(config.model, config.accelerator)
    faces = _faces(config, network.schema)
    found = measure(config, network, faces)
    found |= {
        "faces": len(faces),
        "split": config.split,
        "data": faces.content_hash,
        "model_hash": network.card.get("model_hash"),
    }
    with whole_folder(config.out) as partial:
        (partial / "calibration.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        _plot(found, partial / "calibration.png")
    print(table(found))
    say(f"wrote {config.out}")
