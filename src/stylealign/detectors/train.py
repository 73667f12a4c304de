"""The job `train-detector`: data sets in, a landmark detector out.

Real and synthetic faces meet here and only here: each data set has a fixed share of every batch, so that arms of a comparison
differ in what they see and never in how many updates they get.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from stylealign import metrics
from stylealign.augment import AugmentConfig, augment
from stylealign.batch import Batch, BatchSource, CropCache, CropConfig
from stylealign.config import to_dict
from stylealign.dataset import FaceDataset
from stylealign.detectors import build_detector
from stylealign.detectors.losses import LossConfig, landmark_loss, mean_error
from stylealign.detectors.predict import predict_crops
from stylealign.detectors.resnet import ResNetConfig, load_imagenet
from stylealign.draw import contact_sheet, draw_landmarks
from stylealign.errors import UserError
from stylealign.progress import say
from stylealign.run import Run, describe_data, place, read_tensors
from stylealign.schema import LandmarkSchema
from stylealign.training import EMA, Engine, LoopConfig, TrainState, cosine, fit, restore, run_training, set_lr

MARGIN = 1.25  # context round the crop for rotations and shifts
PREVIEW_FACES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """One data set of a mix."""

    path: Path
    """Data set folder."""
    split: str | None = "train"
    """Its faces of this split; null: of all splits."""
    subset: str | None = None
    """Only faces with this attribute."""
    share: float = 1.0
    """Its part of every batch, relative to the other shares."""

    def __post_init__(self) -> None:
        if not self.share >= 0:
            raise ValueError(f"share {self.share} of {self.path}: expected 0 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainDetector:
    """Train a landmark detector on real faces, synthetic faces, or a fixed mix of both."""

    run: Path
    """Run folder to make; the same command continues a stopped run."""
    real: Path | None = None
    """Data set of real faces."""
    synthetic: Path | None = None
    """Data set of synthetic faces (from `generate`)."""
    synthetic_share: float = 0.5
    """Share of synthetic faces in every batch; 0.25 to 0.5 is a good start."""
    mix: Literal["share", "concatenate"] = "share"
    """`concatenate` shuffles all faces together, as the paper does: with 8 styles a face, 8 of 9 are then synthetic."""
    real_split: str = "train"
    """Split of the real faces (and of the faces the synthetic ones were made from)."""
    subset: str | None = None
    """Only real faces with this attribute, such as a label budget, and synthetic faces made from them."""
    data: Annotated[tuple[DataSource, ...], tyro.conf.Suppress] = ()
    """Any number of data sets with shares, instead of `real` and `synthetic` (recipe only)."""
    val: Path | None = None
    """Data set to evaluate on; not given: the first data set."""
    val_split: str = "val"
    """Its split. No evaluation where `val` is not given and the first data set has no such split."""
    model: Literal["resnet18"] = "resnet18"
    resnet: ResNetConfig = field(default_factory=ResNetConfig)
    pretrained: Path | None = None
    """ImageNet weights with torchvision's names, .pth or .safetensors; needs width 64."""
    crop: CropConfig = field(default_factory=CropConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    lr: float = 3e-3
    """Highest learning rate of AdamW; it rises over the first updates and falls along a cosine."""
    weight_decay: float = 0.05
    """On weights of convolutions and of the last layer."""
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if self.data and (self.real or self.synthetic or self.subset):
            raise ValueError("data is given beside real, synthetic or subset: expected one way of naming the data sets")
        if not 0 <= self.synthetic_share <= 1:
            raise ValueError(f"synthetic_share is {self.synthetic_share}, expected 0 to 1")
        if not (self.lr > 0 and self.weight_decay >= 0):
            raise ValueError(f"lr {self.lr} and weight_decay {self.weight_decay}: expected above 0, and at least 0")


# --------------------------------------------------------------------------------------------------------------------
# Data


def _ids_by_split(dataset: FaceDataset) -> dict[str, str]:
    heads = (dataset.head(i) for i in range(len(dataset)))
    return {head["id"]: head["split"] for head in heads}


def synthetic_of(synthetic: FaceDataset, opened: FaceDataset, real: FaceDataset, config: TrainDetector) -> FaceDataset:
    """The synthetic faces that may be trained on beside `real`, a view of `opened`: labels of no other face of it may come in.

    Raises UserError where faces were made from another split. Under a label budget (`subset`), only faces made from its faces are kept.
    """
    split_of, allowed = _ids_by_split(opened), set(real.ids())
    kept = []
    for i in range(len(synthetic)):
        head = synthetic.head(i)
        content = (head.get("provenance") or {}).get("content_id")
        if content in split_of and split_of[content] != config.real_split:
            raise UserError(
                f"{synthetic.folder}: face '{head['id']}' was made from '{content}' of split {split_of[content]} of {opened.folder}, "
                f"expected faces of split {config.real_split} only: its label would be trained on"
            )
        if config.subset is None or content in allowed:
            kept.append(i)
    if not kept:
        raise UserError(f"{synthetic.folder}: no face made from one of subset {config.subset} of {opened.folder}")
    if len(kept) < len(synthetic):
        say(
            f"{synthetic.folder}: {len(kept)} of {len(synthetic)} faces were made from faces of {config.subset}; the others are left out"
        )
    return synthetic.take(kept)


def resolve_data(config: TrainDetector) -> list[tuple[FaceDataset, float, dict[str, Any]]]:
    """[(faces, share, what the card says)] of the mix; shares sum to 1 and data sets with share 0 are left out.

    Raises UserError where mark-ups differ, a selection is empty, or a synthetic face was made from a face that must not be seen.
    """
    if not (
        config.data or config.real or config.synthetic
    ):  # not in the config: a recipe may leave the data to the flags
        raise UserError("no data: give --real, --synthetic or both")
    found: list[tuple[FaceDataset, float, dict[str, Any]]] = []
    if config.data:
        for source in config.data:
            faces = FaceDataset.open(source.path).select(source.split, source.subset, labelled=True)
            found.append((faces, source.share, {"split": source.split, "subset": source.subset}))
    else:
        real_share = 1.0 if config.synthetic is None else 1.0 - config.synthetic_share
        chosen = {"split": config.real_split, "subset": config.subset}
        opened = real = None
        if config.real is not None:
            opened = FaceDataset.open(config.real)
            real = opened.select(config.real_split, config.subset, labelled=True)
            found.append((real, real_share, {"role": "real", **chosen}))
        if config.synthetic is not None:
            synthetic = FaceDataset.open(config.synthetic).select(labelled=True)
            if opened is not None and real is not None:
                synthetic = synthetic_of(synthetic, opened, real, config)
            found.append((synthetic, 1.0 - real_share if found else 1.0, {"role": "synthetic"}))
    if config.mix == "concatenate":
        found = [(faces, float(len(faces)), said) for faces, _, said in found]
    for faces, _, _ in found[1:]:
        first = found[0][0]
        if faces.schema != first.schema:
            raise UserError(
                f"{faces.folder} is annotated with {faces.schema.name} ({faces.schema.num_points} points), {first.folder} with "
                f"{first.schema.name} ({first.schema.num_points} points): expected one mark-up; `stylealign prepare` converts"
            )
    total = sum(share for _, share, _ in found)
    if total <= 0:
        raise UserError("the shares of all data sets are 0: nothing to train on")
    return [(faces, share / total, said) for faces, share, said in found if share > 0]


def validation_faces(config: TrainDetector, schema: LandmarkSchema) -> FaceDataset | None:
    """The labelled faces to evaluate on, or None where none were asked for and there are none."""
    first = config.data[0].path if config.data else config.real or config.synthetic
    assert first is not None
    opened = FaceDataset.open(config.val or first)
    if config.val is None and config.val_split not in opened.meta["splits"]:
        say(f"{first}: no split {config.val_split}; training goes without evaluation (--val names another data set)")
        return None
    if opened.schema != schema:
        raise UserError(f"{opened.folder}: annotated with {opened.schema.name}, the training faces with {schema.name}")
    return opened.select(config.val_split, labelled=True)


def mean_shape(caches: list[CropCache], shares: list[float]) -> np.ndarray:
    """(P, 2) mean of the training labels in px of the crop (without its margin), sources weighted by their shares."""
    weighted = [
        np.nanmean(c.landmarks - (c.size - c.crop.size) / 2, axis=0) * s for c, s in zip(caches, shares, strict=True)
    ]
    return np.sum(weighted, axis=0) / sum(shares)


# --------------------------------------------------------------------------------------------------------------------
# Evaluation


class Validation:
    """The validation faces, cut once: NME and a sheet to look at."""

    def __init__(self, faces: FaceDataset, crop: CropConfig):
        self.faces, self.schema = faces, faces.schema
        self.cache = CropCache(faces, crop)
        self.truth = faces.landmarks_array().astype(np.float64)
        given = [s.box_xyxy for s in faces if s.box_xyxy is not None]
        boxes = np.stack(given) if len(given) == len(faces) else None
        self.denominator = metrics.usual_denominator(self.schema)
        self.denominators = metrics.denominators(self.truth, boxes, self.schema, self.denominator, faces.ids())

    def nme(self, model: nn.Module) -> float:
        """Mean NME, a fraction."""
        return float(metrics.nme_per_face(predict_crops(model, self.cache), self.truth, self.denominators).mean())

    @torch.no_grad()
    def sheet(self, model: nn.Module) -> np.ndarray:
        """The first faces with predicted and true landmarks."""
        shown = np.arange(min(PREVIEW_FACES, len(self.cache)))
        batch = self.cache.batch(shown)
        was_training, device = model.training, next(model.parameters()).device
        predicted = model.eval()(batch.image.to(device)).landmarks.cpu().numpy()
        model.train(was_training)
        tiles = []
        for i in shown:
            # Enlarged, so that dots do not hide a small face; pixel areas correspond.
            k = max(1, 192 // self.cache.size)
            image = self.cache.images[i].repeat(k, axis=0).repeat(k, axis=1)
            place = [(points + 0.5) * k - 0.5 for points in (predicted[i], self.cache.landmarks[i])]
            tiles.append(draw_landmarks(image, place[0], self.schema, truth=place[1]))
        return contact_sheet(tiles, columns=4)


# --------------------------------------------------------------------------------------------------------------------
# The job


def _pretrained_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a .safetensors or a .pth file (weights only: nothing else is unpickled)."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch raises many kinds for a file that is not its own
        said = type(error).__name__  # its text is of many lines, and advises to unpickle whatever it is
        raise UserError(f"{path}: not a file of weights that torch can load without running code ({said})") from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: expected a state dict (names to tensors) of a ResNet-18")
    return state


def _optimizer(model: nn.Module, config: TrainDetector) -> torch.optim.Optimizer:
    """AdamW; biases and normalisations do not decay."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr)


def main(config: TrainDetector) -> None:
    """Train, evaluate, and leave a run folder."""
    run_training(config.run, config, config.loop, train)


def train(config: TrainDetector, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    loop, size = config.loop, config.crop.size

    # Data. The first process cuts the crops, the others find them.
    mix = resolve_data(config)
    datasets, shares = [faces for faces, _, _ in mix], [share for _, share, _ in mix]
    schema = datasets[0].schema
    val_faces = validation_faces(config, schema)
    margin = MARGIN if config.augment.is_geometric else 1.0
    if not engine.is_global_zero:
        engine.barrier()
    caches = [CropCache(faces, config.crop, margin) for faces in datasets]
    if engine.is_global_zero:
        engine.barrier()
    validation = Validation(val_faces, config.crop) if val_faces is not None and engine.is_global_zero else None
    source = BatchSource(caches, shares, loop.batch_size, loop.seed, engine.global_rank, engine.world_size)

    # Model.
    torch.manual_seed(loop.seed)
    model = build_detector(config.model, schema.num_points, size, config.resnet)
    if config.pretrained is not None:
        load_imagenet(model, _pretrained_state(config.pretrained), str(config.pretrained))  # type: ignore[arg-type]
    model.mean_shape.copy_(torch.as_tensor(mean_shape(caches, shares)))  # type: ignore[union-attr,operator]
    model = place(model, "cpu")
    model = model.to(engine.device)
    ema = EMA(model, loop.ema_decay) if loop.ema_decay else None
    wrapped, optimizer = engine.setup(model, _optimizer(model, config))
    said = [describe_data(faces, share=round(share, 6), **more) for faces, share, more in mix]
    state = TrainState(
        modules={"model": wrapped},
        optimizers={"model": optimizer},
        ema=ema,
        card={
            "kind": "detector", "model": config.model, "network": to_dict(config.resnet), "schema": schema.to_dict(),
            "crop": to_dict(config.crop), "config": to_dict(config), "data": said,
        },
    )  # fmt: skip
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        set_lr(optimizer, config.lr * cosine(step, loop.steps))
        seed = int(np.random.default_rng((loop.seed, step, engine.global_rank, 7)).integers(2**62))
        batch = augment(batch, size, config.augment, torch.Generator().manual_seed(seed), schema)
        out = wrapped(batch.image)
        loss = landmark_loss(out.landmarks, batch.landmarks, batch.visible, batch.weight, config.loss)
        optimizer.zero_grad(set_to_none=True)
        engine.backward(loss)
        optimizer.step()
        return {"total": loss, "error_px": mean_error(out.landmarks, batch.landmarks)}

    measured: dict[int, float] = {}  # step: NME

    def evaluate() -> dict[str, float]:
        assert validation is not None
        measured[state.step] = validation.nme(state.result())
        return {"nme": measured[state.step]}

    fit(
        update,
        state=state,
        batches=source.batch,
        config=loop,
        run=run,
        engine=engine,
        evaluate=evaluate if validation else None,
        preview=(lambda: validation.sheet(state.result())) if validation else None,
        what="training the detector",
    )

    # Result.
    if engine.is_global_zero:
        card = {**state.card, "step": state.step}
        if validation:
            faces, unit = validation.faces, validation.denominator
            nme = (
                measured.get(loop.steps) or evaluate()["nme"]
            )  # a run stopped after its last update has not measured yet
            card["val"] = {"nme": nme, "denominator": unit, **describe_data(faces, split=config.val_split)}
            say(
                f"NME on {len(faces)} faces of {faces.name} {config.val_split}: {nme:.2%} ({unit}, {config.crop.describe()})"
            )
        run.finish(state.result().state_dict(), card)
    engine.barrier()
