"""How far a detector's error grows when its boxes are off. Every finder's boxes are.

Each face is cut round its box scaled, or shifted to four sides, and the mean NME of all faces is set against the exact
box's. With `--refine 1` the same, after one round of cutting again.
"""

from pathlib import Path
from typing import Any

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.evaluation.draw import COLOURS, new_figure, save_figure
from stylealign.evaluation.metrics import denominators, nme_per_face, usual_denominator
from stylealign.face.geometry import landmark_box
from stylealign.face.orientation import upright_affine
from stylealign.face.sample import FaceSample
from stylealign.jobs.calibrate.config import Calibrate
from stylealign.predicting.candidates import Candidate
from stylealign.predicting.landmarks import find_landmarks
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.sources import Photo
from stylealign.progress import track

SIDES = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}


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


def true_box(sample: FaceSample, kind: str) -> np.ndarray:
    assert sample.landmarks is not None
    if kind == "landmarks":
        return landmark_box(sample.landmarks)
    if sample.box_xyxy is None:
        raise UserError(f"face '{sample.id}' has no box, and this detector was trained on given boxes")
    return sample.box_xyxy.astype(np.float64)


def measure_boxes(config: Calibrate, network: LandmarkNetwork, faces: FaceDataset) -> dict[str, Any]:
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
        image, box = read_image(sample.image), true_box(sample, network.crop.box)
        photo = Photo(image, upright_affine(sample.orientation, image.shape[1], image.shape[0]))
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


def plot_boxes(found: dict[str, Any], path: Path) -> None:
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


def boxes_text(found: dict[str, Any]) -> str:
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
