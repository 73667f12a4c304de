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

from stylealign.batches.augment import AugmentConfig, augment
from stylealign.batches.batch import Batch, HeadBatches, join
from stylealign.batches.crops import CropCache, mean_shape
from stylealign.batches.source import BatchSource
from stylealign.config import to_dict
from stylealign.data.dataset import describe_data
from stylealign.detectors import DETECTORS, SECTIONS, build_detector
from stylealign.detectors.dvln import DVLNConfig
from stylealign.detectors.lab.network import LABConfig
from stylealign.detectors.learning import Learning
from stylealign.detectors.losses import LossConfig
from stylealign.detectors.resnet import ResNetConfig
from stylealign.detectors.san.network import SANConfig
from stylealign.detectors.wing import WingConfig
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.pose import BalanceConfig
from stylealign.jobs.train_styles import AuxiliaryStyles
from stylealign.predicting.validation import Validation
from stylealign.progress import say
from stylealign.styling.chain import StyleConfig
from stylealign.styling.on_the_fly import open_styling
from stylealign.training.devices import place
from stylealign.training.faces import (
    DataSource,
    epoch_of,
    head_batch_sizes,
    resolve_data,
    resolve_others,
    validation_faces,
)
from stylealign.training.loop import EMA, Engine, LoopConfig, TrainState, fit, restore, run_training
from stylealign.training.mean_teacher import TeacherConfig, num_unlabelled, ramp, taught, teacher_faces, trust_terms
from stylealign.training.optim import OptimizerConfig
from stylealign.training.run import Run
from stylealign.training.warm_start import said_of, start_from
from stylealign.training.weights import read_state

MARGIN = 1.25  # context round the crop for rotations and shifts


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
    other: tuple[Path, ...] = ()
    """Further data sets, of any mark-up, each with a head of its own (dvln)."""
    other_share: float = 0.5
    """Share of their faces in every batch, all of them together."""
    other_split: str = "train"
    """Their split."""
    model: Literal["resnet18", "wing", "lab", "san", "dvln"] = "resnet18"
    """Which network; its section below sets its shape."""
    resnet: ResNetConfig = field(default_factory=ResNetConfig)
    wing: WingConfig = field(default_factory=WingConfig)
    lab: LABConfig = field(default_factory=LABConfig)
    san: SANConfig = field(default_factory=SANConfig)
    styles: Path | None = None
    """A finished `train-styles` run, whose generators san looks through; not given: trained inside this run first."""
    san_styles: AuxiliaryStyles = field(default_factory=AuxiliaryStyles)
    dvln: DVLNConfig = field(default_factory=DVLNConfig)
    pretrained: Path | None = None
    """ImageNet weights with torchvision's names, .pth or .safetensors, for the part of the network they fit; needs full width."""
    init_from: Path | None = None
    """Run to take weights from: a detector of any mark-up, or an encoder (`pretrain`); what does not fit starts fresh."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    style: StyleConfig = field(default_factory=StyleConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    lr: float = 3e-3
    """Highest learning rate."""
    weight_decay: float = 0.05
    """On weights of convolutions and linear layers."""
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if self.data and (self.real or self.synthetic or self.subset):
            raise ValueError("data is given beside real, synthetic or subset: expected one way of naming the data sets")
        if not 0 <= self.synthetic_share <= 1:
            raise ValueError(f"synthetic_share is {self.synthetic_share}, expected 0 to 1")
        if not 0 < self.other_share < 1:
            raise ValueError(f"other_share is {self.other_share}, expected above 0 and below 1")
        if self.pretrained is not None and self.init_from is not None:
            raise ValueError("pretrained and init_from are both given: expected one start")
        if not (self.lr > 0 and self.weight_decay >= 0):
            raise ValueError(f"lr {self.lr} and weight_decay {self.weight_decay}: expected above 0, and at least 0")


def load_pretrained(model: nn.Module, name: str, path: Path) -> None:
    """Load a user's ImageNet weights into the part of a network that has torchvision's names."""
    load = DETECTORS[name].pretrained
    if load is None:
        having = ", ".join(known for known, detector in DETECTORS.items() if detector.pretrained)
        raise UserError(f"{path}: {name} has no part that ImageNet weights fit; --pretrained is for {having}")
    load(model, read_state(path), str(path))


def main(config: TrainDetector) -> None:
    """Train, evaluate, and leave a run folder."""
    run_training(config.run, config, config.loop, train)


def train(config: TrainDetector, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    loop, size = config.loop, config.crop.size
    network = getattr(config, SECTIONS[config.model])

    # Data: a mix a head (one head, but for networks that learn several mark-ups). The first process cuts the crops, the others find them.
    mixes = [resolve_data(config), *resolve_others(config)]
    orders = [epoch_of(mix, config.balance) for mix in mixes]
    schemas = tuple(mix[0][0].schema for mix in mixes)
    if config.other and config.model != "dvln":
        raise UserError(
            f"--other is for networks that learn several mark-ups (dvln); found it with --model {config.model}"
        )
    val_faces = validation_faces(config, schemas[0])
    unlabelled = None
    if config.teacher.data is not None:
        unlabelled = teacher_faces(config.teacher, schemas[0], config.model, loop.ema_decay)
    margin = MARGIN if config.augment.is_geometric else 1.0
    if not engine.is_global_zero:
        engine.barrier()
    caches = [[CropCache(faces, config.crop, margin) for faces, _, _ in mix] for mix in mixes]
    unlabelled_cache = None if unlabelled is None else CropCache(unlabelled, config.crop, margin)
    styling = open_styling(config.style, config.crop, margin, caches, schemas, val_faces, engine.device)
    if engine.is_global_zero:
        engine.barrier()
    validation = Validation(val_faces, config.crop) if val_faces is not None and engine.is_global_zero else None
    shares = [[share for _, share, _ in mix] for mix in mixes]
    place_in_world = (engine.global_rank, engine.world_size)
    num_taught = num_unlabelled(loop.batch_size, config.teacher.share, engine.world_size) if unlabelled else 0
    sizes = head_batch_sizes(loop.batch_size - num_taught, len(mixes) - 1, config.other_share)
    sources = [
        BatchSource(cache, share, num, loop.seed + 7919 * head, *place_in_world, order)
        for head, (cache, share, num, order) in enumerate(zip(caches, shares, sizes, orders, strict=True))
    ]

    if unlabelled_cache is not None:  # the last part of every batch
        sources.append(BatchSource([unlabelled_cache], [1.0], num_taught, loop.seed + 15485863, *place_in_world))

    # Model.
    torch.manual_seed(loop.seed)
    model = build_detector(config.model, schemas, size, network)
    if config.pretrained is not None:
        load_pretrained(model, config.model, config.pretrained)
    start = None if config.init_from is None else start_from(model, config.init_from, schemas[0])
    if start is not None:
        say(said_of(start))
    means = tuple(mean_shape(cache, share) for cache, share in zip(caches, shares, strict=True))
    model.mean_shape.copy_(torch.as_tensor(means[0]))  # type: ignore[union-attr,operator]
    model = place(model, "cpu").to(engine.device)
    learner = DETECTORS[config.model].learn(
        Learning(
            model=model, config=config, engine=engine, schemas=schemas, mean_shapes=means, size=size, faces=mixes[0][0][0],
            folder=run.folder,
        )
    )  # fmt: skip
    said = [describe_data(faces, share=round(share, 6), **more) for mix in mixes for faces, share, more in mix]
    extra: dict[str, Any] = {} if start is None else {"start": start}
    if unlabelled is not None:
        extra["teacher_data"] = describe_data(unlabelled)
    if styling is not None:
        extra["donors"] = styling.said
    state = TrainState(
        modules=learner.modules,
        optimizers=learner.optimizers,
        ema=EMA(model, loop.ema_decay) if loop.ema_decay else None,
        card={
            "kind": "detector", "model": config.model, "network": to_dict(network), "schema": schemas[0].to_dict(),
            "other_schemas": [schema.to_dict() for schema in schemas[1:]], "crop": to_dict(config.crop),
            "config": to_dict(config), "data": said, **extra, **learner.card,
        },
    )  # fmt: skip
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def vary(batch: Batch, step: int, head: int) -> Batch:
        key = (loop.seed, step, engine.global_rank, 7, *[head] * (head > 0))
        seed = int(np.random.default_rng(key).integers(2**62))
        return augment(batch, size, config.augment, torch.Generator().manual_seed(seed), schemas[head % len(schemas)])

    def gather(step: int) -> HeadBatches:
        batches = [source.batch(step) for source in sources]
        heads, rest = HeadBatches(batches[: len(mixes)]), batches[len(mixes) :]
        if styling is not None:
            heads = styling.with_donors(heads, loop.seed, step, engine.global_rank)
        return HeadBatches((*heads, *rest))

    def update(batches: HeadBatches, step: int) -> dict[str, Tensor]:
        key = (loop.seed, step, engine.global_rank)
        heads, blind = (batches, None) if unlabelled is None else (HeadBatches(batches[:-1]), batches[-1])
        if styling is not None:
            heads = styling.restyled(heads, *key)
        if blind is None:
            return learner.update(tuple(vary(batch, step, head) for head, batch in enumerate(heads)), step)
        assert state.ema is not None  # teacher_faces has seen to it, and to there being one head
        factor = config.teacher.weight * ramp(step, loop.steps, config.teacher.ramp_up)
        blind = taught(state.ema.module, blind, size, config.teacher, schemas[0], factor)
        terms = trust_terms(blind)
        if styling is not None:  # the teacher has seen them as they are
            blind = styling.restyled_among(blind, *key)
        return {**learner.update((join([vary(heads[0], step, 0), vary(blind, step, 1)]),), step), **terms}

    measured: dict[int, float] = {}  # step: NME

    def evaluate() -> dict[str, float]:
        assert validation is not None
        measured[state.step] = validation.nme(state.result())
        return {"nme": measured[state.step]}

    fit(
        update,
        state=state,
        batches=gather,
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
