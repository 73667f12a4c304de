"""How many labels `stylealign suggest` saves against random choice, played through on labelled faces.

    python scripts/label_less.py play --data DATA --pretrained mobilenet_v2.pth --out results.json
    python scripts/label_less.py draw --results results.json --out docs/images/label_less.png

Split `train` of DATA is the pool, whose labels are looked up only for the faces chosen; `val` is measured on. Each seed
draws 50 faces, the same for both ways; 50 more are added a round, up to 315, at random or as `suggest` ranks what is
left. The detector of a round is the smallest that learns in a second, so that many seeds can be played: MobileNetV2
with ImageNet weights looks at a crop of 64 px and stays as it is; ridge regression of its features at strides 8, 16 and
32 gives the landmarks. Every face is seen in the same LOOKS crops, round its own box, turned, scaled and shifted a
little; they are all learnt from, and how far the answers to them differ is how unsure the detector is.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from stylealign.batches.batch import to_float
from stylealign.data.atomic import write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, warp
from stylealign.detectors.trunks import build_trunk, load_imagenet_trunk
from stylealign.evaluation import metrics
from stylealign.evaluation.draw import new_figure, save_figure
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.jobs.suggest.ranking import candidates_of, describe_face, suggested
from stylealign.predicting.ensemble import LookConfig, looks_of
from stylealign.progress import track
from stylealign.training.weights import read_state

BUDGETS = (50, 100, 150, 200, 250, 300, 315)
WAYS = ("random", "unsure", "suggest")
SIZE, SCALE, LOOKS, THUMB = 64, 1.4, 4, 96


@dataclass(frozen=True, kw_only=True)
class Play:
    """Train, choose, train again."""

    data: Path
    """Data set with splits train and val"""
    pretrained: Path
    """ImageNet weights of MobileNetV2"""
    out: Path
    """JSON: way -> seeds x budgets of NME on val"""
    seeds: int = 20
    ridge: float = 0.1
    """Of the regression, over the mean of its Gram matrix's diagonal"""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Draw the curve."""

    results: Path
    out: Path


class Seen:
    """Faces of a split, each in LOOKS crops: features, labels in crop px, the way home, and a small picture."""

    def __init__(self, faces: FaceDataset, trunk: torch.nn.Module):
        plain = looks_of(LookConfig(jitters=LOOKS - 1, flip=False), faces.schema)
        self.samples = list(faces)
        self.truth = faces.landmarks_array().astype(np.float64)
        features, self.labels, self.home, self.thumbs = [], [], [], []
        for sample, truth in track(zip(self.samples, self.truth, strict=True), "looking", len(self.samples)):
            image, box = read_image(sample.image), geometry.landmark_box(truth)
            cut = geometry.crop_affine(box, SCALE, SIZE)
            affines = [geometry.compose(look.affine(SIZE), cut) for look in plain]
            crops = torch.from_numpy(np.stack([warp(image, affine, SIZE) for affine in affines]))
            with torch.no_grad():
                found = trunk(to_float(crops).contiguous(memory_format=torch.channels_last))
            features.append(torch.cat([f.flatten(1) for f in found], dim=1).numpy())
            self.labels.append([geometry.apply(affine, truth).ravel() for affine in affines])
            self.home.append([geometry.invert(affine) for affine in affines])
            small = geometry.crop_affine(box, 1.8, THUMB)
            self.thumbs.append((warp(image, small, THUMB), small))
        self.features = np.stack(features).astype(np.float32)  # (N, LOOKS, F)
        self.labels = np.array(self.labels, dtype=np.float32)  # (N, LOOKS, 2P)


class Regression:
    """Ridge regression from features to landmarks in crop px."""

    def __init__(self, x: np.ndarray, y: np.ndarray, ridge: float):
        self.mean, self.shape = x.mean(axis=0), y.mean(axis=0)
        x = x - self.mean
        gram = x @ x.T
        gram[np.diag_indices(len(gram))] += ridge * np.trace(gram) / len(gram)
        self.weights = x.T @ np.linalg.solve(gram, y - self.shape)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) @ self.weights + self.shape


def in_source(seen: Seen, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(n, looks, P, 2) source px of answers (n, looks, 2P) in crop px."""
    points = found.reshape(*found.shape[:2], -1, 2).astype(np.float64)
    return np.stack(
        [
            [geometry.apply(home, p) for home, p in zip(seen.home[i], answers, strict=False)]
            for i, answers in zip(rows, points, strict=True)
        ]
    )


def choose(pool: Seen, chosen: list[int], model: Regression, schema: Any, count: int, way: str) -> list[int]:
    """The positions that are labelled next; labels of the faces not chosen are not looked at."""
    left = np.setdiff1d(np.arange(len(pool.samples)), chosen)
    answers = in_source(pool, left, model(pool.features[left]))
    bare = [FaceSample(id=pool.samples[i].id, image=pool.samples[i].image) for i in left]
    images, smalls = zip(*(pool.thumbs[i] for i in left), strict=True)
    there = np.stack([[geometry.apply(s, p) for p in a] for s, a in zip(smalls, answers, strict=True)])
    candidates = candidates_of(bare, images, there, schema)
    if way == "unsure":
        return [int(left[k]) for k in np.argsort([-c.unsure for c in candidates], kind="stable")[:count]]
    labelled = ((*pool.thumbs[i], pool.truth[i]) for i in chosen)
    known = np.stack([describe_face(image, geometry.apply(small, truth)) for image, small, truth in labelled])
    return [int(left[k]) for k in suggested(candidates, known, schema, count)]


def looked_at(config: Play) -> tuple[Seen, Seen, Any]:
    """The pool, the faces to measure on, and their mark-up."""
    faces = FaceDataset.open(config.data)
    trunk, _ = build_trunk("mobilenet_v2", SIZE, 1.0, 32, 8)
    load_imagenet_trunk(trunk, "mobilenet_v2", SIZE, read_state(config.pretrained), str(config.pretrained))
    trunk.eval()
    return (*(Seen(faces.select(split, labelled=True), trunk) for split in ("train", "val")), faces.schema)


def play(config: Play, pool: Seen, val: Seen, schema: Any) -> None:
    """All seeds and ways; results are written after each seed."""
    unit = metrics.usual_denominator(schema, boxed=False)
    lengths = metrics.denominators(val.truth, None, schema, unit, [s.id for s in val.samples])
    rows = np.arange(len(val.samples))
    results: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for seed in range(config.seeds):
        order = np.random.default_rng(seed).permutation(len(pool.samples))
        for way in WAYS:
            chosen, errors = list(order[: BUDGETS[0]]), []
            for budget, after in zip(BUDGETS, (*BUDGETS[1:], None), strict=True):
                x, y = (a[chosen].reshape(-1, a.shape[-1]) for a in (pool.features, pool.labels))
                model = Regression(x, y, config.ridge)
                found = in_source(val, rows, model(val.features[:, :1]))[:, 0]
                errors.append(float(metrics.nme_per_face(found, val.truth, lengths).mean()))
                if after is not None and way == "random":
                    chosen = list(order[:after])
                elif after is not None:
                    chosen += choose(pool, chosen, model, schema, after - budget, way)
            results[way].append(errors)
            print(seed, way, *(f"{e:.2%}" for e in errors), flush=True)
        write_whole(config.out, json.dumps({"budgets": BUDGETS, "nme": results}) + "\n")


def draw(config: Draw) -> None:
    """NME over labels, a line a way: mean and standard deviation over seeds; and the labels that are saved."""
    stored = json.loads(config.results.read_text())
    budgets, nme = stored["budgets"], {way: 100 * np.array(rows) for way, rows in stored["nme"].items()}
    figure = new_figure(6.4, 4)
    axes = figure.add_subplot()
    for (way, rows), colour in zip(nme.items(), ("#888888", "#d55e00", "#0072b2"), strict=True):
        spread = rows.std(axis=0, ddof=1) if len(rows) > 1 else np.zeros(len(budgets))
        axes.errorbar(budgets, rows.mean(axis=0), spread, label=way, color=colour, marker="o", capsize=3)
        apart = rows - nme["random"]
        error = apart.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.zeros(len(budgets))
        # Random choice of how many faces is as good: read off its mean curve.
        level = np.interp(rows.mean(axis=0), nme["random"].mean(axis=0)[::-1], budgets[::-1])
        for k, budget in enumerate(budgets):
            print(
                f"{way} {budget}: {rows[:, k].mean():.2f} ± {spread[k]:.2f}, minus random {apart[:, k].mean():+.3f} ± "
                f"{error[k]:.3f} (s.e., {len(rows)} seeds), as random with {level[k]:.0f}"
            )
    axes.set_xlabel("labelled faces")
    axes.set_ylabel("NME on val (%)")
    axes.legend(frameon=False)
    save_figure(figure, config.out)


if __name__ == "__main__":
    chosen = tyro.cli(Annotated[Play, tyro.conf.subcommand("play")] | Annotated[Draw, tyro.conf.subcommand("draw")])
    play(chosen, *looked_at(chosen)) if isinstance(chosen, Play) else draw(chosen)
