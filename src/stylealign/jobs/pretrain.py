"""The job `pretrain`: pictures of faces in, a detector's trunk out that knows geometry from style, without a label.

Two views of each face, moved and bent differently: the geometry of one, in other colours, and the style of the other
must draw the first again (encoder.py). A linear probe, from the points of labelled faces to their landmarks, says
before and after what the trunk knows.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment import AugmentConfig, augment, centre_crop, invert, random_affines, transform, warp
from stylealign.batches.batch import Batch, to_uint8
from stylealign.batches.crops import CropCache
from stylealign.batches.source import BatchSource
from stylealign.batches.together import in_all, own
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.describe import whole_faces
from stylealign.detectors.encoder import Encoder, EncoderConfig, elastic, picture_loss, unbend
from stylealign.errors import UserError
from stylealign.evaluation.draw import contact_sheet, draw_landmarks
from stylealign.evaluation.trust import face_lengths
from stylealign.face.crop import CropConfig
from stylealign.progress import say
from stylealign.training.devices import place
from stylealign.training.ema import EMA
from stylealign.training.loop import Engine, LoopConfig, TrainState, fit, restore
from stylealign.training.optim import OptimizerConfig, lr_factor, make_optimizer, set_lr
from stylealign.training.run import Run
from stylealign.training.seen import say_held_out
from stylealign.training.session import run_training

MARGIN = 1.25
GRID = 4  # control points a side of the elastic warp
SHOWN = 8
RIDGE = 0.03  # of the number of faces


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrain:
    """Train a detector's trunk on pictures without labels: what moves apart from what it looks like."""

    run: Path
    """Run folder to make; the same command continues a stopped run. `train-detector --init-from` takes its weights."""
    data: tuple[Path, ...]
    """Data sets of one mark-up; labels serve to cut the crops and for the probe, never for learning."""
    split: str | None = None
    """Only faces of this split (of data sets that have it)."""
    probe: Path | None = None
    """Labelled data set for the linear probe. No probe where none is given."""
    probe_train: str = "train"
    """Split that the probe is fitted on."""
    probe_subset: str | None = None
    """Only its faces with this attribute, such as a label budget."""
    probe_val: str = "val"
    """Split that it is measured on."""
    crop: CropConfig = field(default_factory=CropConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    rotation: float = 20.0
    """Degrees, to either side, by which each view is turned."""
    scale: float = 0.15
    """Natural logarithm of each view's size factor."""
    shift: float = 0.06
    """Share of the crop's side by which each view is moved."""
    bend: float = 0.03
    """Standard deviation of the elastic warp's control points, over the crop's side."""
    colour: float = 0.3
    """Brightness and contrast factors of the view whose geometry is read, which may not tell the style."""
    follow: float = 1.0
    """Weight of the distance between a view's points and the other's, both taken back to the
    picture, over the crop's side."""
    lr: float = 2e-3
    weight_decay: float = 0.01
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("data: found none, expected at least one data set")
        if min(self.rotation, self.scale, self.shift, self.bend, self.follow, self.weight_decay) < 0 or self.lr <= 0:
            raise ValueError(
                "rotation, scale, shift, bend, follow and weight_decay: expected at least 0, and lr above 0"
            )


class View(NamedTuple):
    """A face, turned, scaled, moved, then bent."""

    image: Tensor
    """(B, 3, size, size)"""
    affine: Tensor
    """(B, 2, 3) float64 to its pixels (before the bend) from those of the margin crop"""
    offsets: Tensor
    """(B, 2, GRID, GRID) of `elastic`"""

    def to_crop(self, points: Tensor) -> Tensor:
        """(B, K, 2) in [0, 1] of the view -> in px of the margin crop, where both views of a face agree."""
        return transform(invert(self.affine), unbend(points, self.offsets) * self.image.shape[-1] - 0.5)


def views(batch: Batch, size: int, config: Pretrain, generator: torch.Generator) -> tuple[View, View]:
    """Two views of margin crops, each turned, scaled, moved and bent on its own; both or neither mirrored."""
    num = len(batch.image)
    draws = own(torch.rand(2, in_all(num), 5, generator=generator), dim=1)
    draws[1, :, 4] = draws[0, :, 4]  # a mirrored face is another face: left and right would be mixed up
    bends = config.bend * own(torch.randn(2, in_all(num), 2, GRID, GRID, generator=generator), dim=1)
    motion = AugmentConfig(rotation=config.rotation, scale=config.scale, shift=config.shift)
    made = []
    for draw, bend in zip(draws, bends, strict=True):
        affine = random_affines(draw, batch.image.shape[-1], size, motion).to(batch.image.device)
        offsets = bend.to(batch.image)
        made.append(View(elastic(warp(batch.image, affine, size), offsets), affine, offsets))
    return made[0], made[1]


def in_other_colours(image: Tensor, config: Pretrain, generator: torch.Generator, schema: Any) -> Tensor:
    """The same picture, brighter or darker, often grey."""
    num, device = len(image), image.device
    still = AugmentConfig(
        rotation=0, scale=0, shift=0, flip=False, colour=config.colour, grey_prob=0.3, blur_prob=0.1, occlusion_prob=0
    )
    nothing = Batch(
        image, image.new_full((num, schema.num_points, 2), float("nan")),
        torch.ones(num, schema.num_points, dtype=torch.bool, device=device),
        torch.eye(2, 3, dtype=torch.float64, device=device).expand(num, 2, 3), torch.arange(num, device=device),
        torch.ones(num, device=device),
    )  # fmt: skip
    return augment(nothing, image.shape[-1], still, generator, schema).image


class Probe:
    """Ridge regression from the encoder's points to the landmarks of labelled faces, in crop px."""

    def __init__(self, config: Pretrain, schema: Any):
        assert config.probe is not None
        opened = FaceDataset.open(config.probe)
        if opened.schema != schema:
            raise UserError(f"--probe {config.probe}: its mark-up is {opened.schema.name}, expected {schema.name}")
        train = opened.select(config.probe_train, config.probe_subset, labelled=True)
        self.train = CropCache(whole_faces(train, "the probe's training"), config.crop)
        self.val = CropCache(whole_faces(opened.select(config.probe_val, labelled=True), "the probe"), config.crop)
        self.lengths, self.unit = face_lengths(self.val.landmarks.astype(np.float64), schema, self.val.dataset.ids())

    @torch.no_grad()
    def nme(self, model: Encoder) -> float:
        """Mean NME of the validation faces, a fraction."""
        was_training, device = model.training, next(model.parameters()).device
        model.eval()

        def features(cache: CropCache) -> np.ndarray:
            parts = [
                model.points(cache.batch(rows).image.to(device)).flatten(1).cpu().numpy()
                for rows in np.split(np.arange(len(cache)), range(64, len(cache), 64))
            ]
            return np.concatenate(parts).astype(np.float64)

        x, target = features(self.train), self.train.landmarks.reshape(len(self.train), -1).astype(np.float64)
        mean_x, scale, mean_y = x.mean(axis=0), x.std(axis=0) + 1e-9, target.mean(axis=0)
        z = (x - mean_x) / scale  # points that hardly move, as a fresh network's, count as much as others
        weights = np.linalg.solve(z.T @ z + RIDGE * len(z) * np.eye(z.shape[1]), z.T @ (target - mean_y))
        found = ((features(self.val) - mean_x) / scale @ weights + mean_y).reshape(self.val.landmarks.shape)
        model.train(was_training)
        return float((np.linalg.norm(found - self.val.landmarks, axis=2).mean(axis=1) / self.lengths).mean())


def main(config: Pretrain) -> None:
    """Train, and leave a run folder of kind `encoder`."""
    run_training(config.run, config, config.loop, train)


def train(config: Pretrain, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    loop, size = config.loop, config.crop.size
    sets = [FaceDataset.open(path) for path in config.data]
    schema = sets[0].schema
    for path, faces in zip(config.data, sets, strict=True):
        if faces.schema != schema:
            raise UserError(
                f"{path}: its mark-up is {faces.schema.name}, expected {schema.name} as {config.data[0]} has"
            )
    if config.split is not None and not any(config.split in faces.meta["splits"] for faces in sets):
        sets[0].select(config.split)  # says which splits there are
    sets = [faces.select(config.split) if config.split in faces.meta["splits"] else faces for faces in sets]
    for path, faces in zip(config.data, sets, strict=True):
        say_held_out(f"--data {path} shows pictures of", faces)
    if not engine.is_global_zero:
        engine.barrier()
    caches = [CropCache(faces, config.crop, MARGIN) for faces in sets]
    probe = Probe(config, schema) if config.probe is not None and engine.is_global_zero else None
    if engine.is_global_zero:
        engine.barrier()
    shares = [float(len(faces)) for faces in sets]
    source = BatchSource(caches, shares, loop.batch_size, loop.seed, engine.global_rank, engine.world_size)

    torch.manual_seed(loop.seed)
    net = place(Encoder(size, config.encoder), engine.device)
    before = probe.nme(net) if probe else None
    optimizer = make_optimizer(net, config.lr, config.weight_decay, config.optimizer)
    model, optimizer = engine.setup(net, optimizer)
    state = TrainState(
        modules={"model": model}, optimizers={"model": optimizer},
        ema=EMA(net, loop.ema_decay) if loop.ema_decay else None,
        card={
            "kind": "encoder", "model": "encoder", "network": to_dict(config.encoder), "schema": schema.to_dict(),
            "crop": to_dict(config.crop),
            "config": to_dict(config), "data": [describe_data(faces) for faces in sets],
        },
    )  # fmt: skip
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        seed = int(np.random.default_rng((loop.seed, step, 0, 11)).integers(2**62))
        generator = torch.Generator().manual_seed(seed)
        set_lr(optimizer, config.lr * lr_factor(step, loop.steps, config.optimizer))
        target, style = views(batch, size, config, generator)
        drawn, points, others = model(in_other_colours(target.image, config, generator, schema), style.image)
        picture = picture_loss(drawn, target.image)
        apart = (target.to_crop(points) - style.to_crop(others)).norm(dim=-1).mean() / size
        loss = picture + config.follow * apart
        optimizer.zero_grad(set_to_none=True)
        engine.backward(loss)
        optimizer.step()
        return {"total": loss, "picture": picture, "apart": apart}

    @torch.no_grad()
    def sheet() -> np.ndarray:
        """A face a column: its picture with the K points, the style view, what was drawn of both."""
        result: Any = state.result()
        was_training = result.training
        result.eval()
        batch = caches[0].batch(np.arange(min(SHOWN, len(caches[0]))))
        plain = centre_crop(batch, size).image.to(engine.device)
        _, style = views(batch, size, config, torch.Generator().manual_seed(0))
        drawn, found, _ = result(plain, style.image.to(engine.device))
        points, drawn = found.cpu().numpy() * size - 0.5, F.interpolate(drawn, size=(size, size))
        result.train(was_training)
        k = max(1, 128 // size)
        rows = [
            to_uint8(t.clamp(-1, 1)).cpu().numpy().repeat(k, axis=1).repeat(k, axis=2)
            for t in (plain, style.image, drawn)
        ]
        first = [draw_landmarks(image, (p + 0.5) * k - 0.5) for image, p in zip(rows[0], points, strict=True)]
        return contact_sheet([*first, *rows[1], *rows[2]], columns=len(first))

    def evaluate() -> dict[str, float]:
        assert probe is not None
        return {"probe_nme": probe.nme(state.result())}  # type: ignore[arg-type]

    fit(
        update, state=state, batches=source.batch, config=loop, run=run, engine=engine,
        evaluate=evaluate if probe else None, preview=sheet,
        epochs=source.epochs, what="pre-training",
    )  # fmt: skip
    if engine.is_global_zero:
        card = {**state.card, "step": state.step}
        if probe is not None:
            after = evaluate()["probe_nme"]
            card["probe"] = {"nme": after, "random_nme": before, "denominator": probe.unit, "faces": len(probe.val)}
            say(f"linear probe: NME {after:.2%} ({probe.unit}), {before:.2%} from the random trunk it started as")
        run.finish(state.result().state_dict(), card)
    engine.barrier()
