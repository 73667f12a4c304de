"""The job `train-translator`: a data set in, a translator out, with an independent judge's verdict on its swapped faces.

Two small detectors are trained beside it on the same training split, unless the user names others: one whose features serve as
the perceptual loss where no VGG-19 weights are given, and a judge that never meets the translator until the end. The judge's NME
on faces drawn in a stranger's style, beside its NME on the same real faces, says whether the translator may be used.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylealign.augment import AugmentConfig, augment, centre_crop
from stylealign.batch import Batch, BatchSource, CropCache, CropConfig, to_uint8
from stylealign.config import to_dict
from stylealign.dataset import FaceDataset
from stylealign.detectors import train as detector_job
from stylealign.detectors.predict import load_detector
from stylealign.detectors.resnet import ResNetConfig
from stylealign.draw import style_sheet
from stylealign.errors import UserError
from stylealign.optim import set_lr
from stylealign.progress import say
from stylealign.run import Run, describe_data, place
from stylealign.schema import LandmarkSchema
from stylealign.structure import StructureConfig, num_structure_channels, structure_maps
from stylealign.training import (
    EMA,
    Engine,
    LoopConfig,
    TrainState,
    fit,
    mean_over_processes,
    restore,
    run_training,
)
from stylealign.translators.judge import judge_swaps, verdict
from stylealign.translators.losses import (
    LEARNING_RATE_PRESETS,
    KLConfig,
    KLController,
    LearningRateConfig,
    Reconstruction,
    ReconstructionConfig,
    kl_warning,
    learning_rate,
    num_elements,
    translator_loss,
)
from stylealign.translators.perceptual import FrozenFeatures, load_vgg19
from stylealign.translators.vunet import PRESETS, VUNet, VUNetConfig, index_features, initialise

FEATURE_LAYERS = ("layer1", "layer2", "layer3")


@dataclass(frozen=True, kw_only=True, slots=True)
class AuxiliaryConfig:
    """The small detectors trained beside a translator (features and judge)."""

    steps: int = 1000
    """Updates of each."""
    width: int = 16
    """Width of their ResNet-18; 64 is the usual one."""
    batch_size: int = 32
    lr: float = 3e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTranslator:
    """Train a translator on a data set's labelled faces."""

    data: Path
    """Data set folder (from `prepare` or `draw-faces`)."""
    run: Path
    """Run folder to make; the same command continues a stopped run."""
    split: str = "train"
    subset: str | None = None
    """Use only the faces with this attribute, such as a label budget."""
    val_split: str = "val"
    """Faces for previews and for the judge; the training split is used, and said so, where there is no such split."""
    vunet: VUNetConfig = PRESETS["small64"]
    """The network. Its size and number of structure channels follow `crop` and `structure`."""
    structure: StructureConfig = field(default_factory=StructureConfig)
    crop: CropConfig = field(default_factory=lambda: CropConfig(size=64, scale=1.6))
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(
            rotation=10,
            scale=0.06,
            shift=0.03,
            flip=True,
            colour=0.0,
            blur_prob=0.0,
            occlusion_prob=0.0,
            noise=0.0,
            grey_prob=0.0,
        )
    )
    """The release uses none; with few faces, mirroring and small motions keep the network from learning them by heart."""
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    kl: KLConfig = field(default_factory=KLConfig)
    lr: LearningRateConfig = LEARNING_RATE_PRESETS["small"]
    vgg19: Path | None = None
    """torchvision's or Keras' VGG-19 weights, for the perceptual loss of the release."""
    feature_detector: Path | None = None
    """A detector run whose features serve as the perceptual loss; trained here where neither this nor `vgg19` is given."""
    judge: Path | None = None
    """A detector run to judge swapped faces; trained here (another seed) where not given. It must not have seen synthetic faces."""
    judge_faces: int = 200
    """Faces the judge sees."""
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    init_batches: int = 4
    """Batches whose pre-activations set the data-dependent initial gains."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2000, batch_size=16, ema_decay=0.995))

    def __post_init__(self) -> None:
        if self.vgg19 and self.feature_detector:
            raise ValueError("vgg19 and feature_detector are both given: expected one")
        if self.init_batches * self.loop.batch_size < 2:
            raise ValueError(
                f"init_batches {self.init_batches} of batch_size {self.loop.batch_size}: expected at least 2 faces to start from"
            )


def train_auxiliary(config: TrainTranslator, run: Path, seed_offset: int, what: str) -> Path:
    """Train (or find finished) one of the small detectors, on real faces only and at the translator's own crop."""
    a = config.auxiliary
    say(f"training the {what}: ResNet-18 of width {a.width}, {a.steps} updates, real faces only")
    detector_job.main(
        detector_job.TrainDetector(
            real=config.data,
            real_split=config.split,
            subset=config.subset,
            run=run,
            crop=config.crop,
            resnet=ResNetConfig(width=a.width, head="flatten", max_pool=False),
            lr=a.lr,
            loop=LoopConfig(
                steps=a.steps, batch_size=a.batch_size, seed=config.loop.seed + seed_offset, preview_every=0,
                accelerator=config.loop.accelerator, devices=config.loop.devices, num_nodes=config.loop.num_nodes,
            ),
        )
    )  # fmt: skip
    return run


def feature_network(config: TrainTranslator, folder: Path, device: torch.device) -> tuple[Any, int, str]:
    """(features, number of levels, name) for the perceptual loss."""
    if not config.reconstruction.needs_features:
        return None, 0, "none"
    if config.vgg19:
        vgg = load_vgg19(config.vgg19)
        return vgg.to(device), vgg.num_levels, f"VGG-19 ({config.vgg19.name})"
    run = config.feature_detector or train_auxiliary(config, folder / "features", 1001, "feature detector")
    loaded = load_detector(run)
    name = f"layers of a landmark detector trained on the same split ({len(FEATURE_LAYERS)} levels)"
    return FrozenFeatures(loaded.model, FEATURE_LAYERS).to(device), len(FEATURE_LAYERS), name


def check_given_detectors(config: TrainTranslator, schema: LandmarkSchema) -> None:
    """Refuse detectors of the user's that cannot serve, before anything is trained.

    The judge looks at the translator's own crops, resized: one that was trained on tighter or wider crops, or on crops round
    another box, would misjudge real and swapped faces alike.
    """
    for run in (config.feature_detector, config.judge):
        if run is not None and (found := load_detector(run).schema) != schema:
            raise UserError(
                f"{run}: a detector of {found.name} ({found.num_points} points), but {config.data} holds {schema.name} ({schema.num_points} points)"
            )
    if config.judge is not None:
        crop = load_detector(config.judge).crop
        if (crop.scale, crop.box) != (config.crop.scale, config.crop.box):
            raise UserError(
                f"judge {config.judge}: trained on a {crop.describe()}, the translator's is a {config.crop.describe()}: expected the same "
                "scale and box (sizes may differ)"
            )


def main(config: TrainTranslator) -> None:
    """Train, judge, and leave a run folder."""
    run_training(config.run, config, config.loop, train)


def train(config: TrainTranslator, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    opened = FaceDataset.open(config.data)
    schema = opened.schema
    faces = opened.select(config.split, config.subset, labelled=True)
    held_out = config.val_split in opened.meta["splits"]
    val_faces = opened.select(config.val_split, labelled=True) if held_out else faces
    val_faces = val_faces.take(range(min(len(val_faces), config.judge_faces)))
    if len(faces) < 2:
        raise UserError(
            f"{config.data}: {len(faces)} labelled face in split {config.split}; a translator needs at least 2, and hundreds to be of use"
        )
    if len(val_faces) < 2:
        raise UserError(
            f"{config.data}: {len(val_faces)} labelled face in split {config.val_split} (judge_faces {config.judge_faces}); the judge needs at least 2 to swap"
        )
    size, structure = config.crop.size, config.structure
    wanted = {"size": size, "structure_channels_in": num_structure_channels(structure.kind, schema)}
    network = VUNetConfig(**{**to_dict(config.vunet), **wanted})
    check_given_detectors(config, schema)

    features, num_levels, feature_name = feature_network(config, run.folder, engine.device)
    judge_run = config.judge or train_auxiliary(config, run.folder / "judge", 2002, "judge")
    judge = load_detector(judge_run, device=engine.device)

    # Data: crops with room for the small motions.
    caches = [CropCache(faces, config.crop, margin=1.25)]
    source = BatchSource(caches, [1.0], config.loop.batch_size, config.loop.seed, engine.global_rank, engine.world_size)

    def maps_of(landmarks: Tensor) -> Tensor:
        maps = structure_maps(landmarks, size, structure.kind, schema, structure.sigma, structure.integer_centres)
        return maps.contiguous(memory_format=torch.channels_last)

    def augmented(batch: Batch, step: int, rank: int) -> Batch:
        seed = int(np.random.default_rng((config.loop.seed, step, rank, 5)).integers(2**62))
        return augment(batch, size, config.augment, torch.Generator().manual_seed(seed), schema)

    val = centre_crop(CropCache(val_faces, config.crop).batch(np.arange(len(val_faces))), size).to(engine.device)
    val_maps = maps_of(val.landmarks)

    # Model. The initial gains come from one fixed batch, the same in every process.
    torch.manual_seed(config.loop.seed)
    model = place(VUNet(network), "cpu")
    first = BatchSource(caches, [1.0], min(config.init_batches * config.loop.batch_size, 64), config.loop.seed).batch(0)
    first = augmented(first, 2**31 - 1, 0)
    initialise(model, first.image, maps_of(first.landmarks), torch.Generator().manual_seed(config.loop.seed))
    model, kl = model.to(engine.device), KLController(config.kl).to(engine.device)
    reconstruction = Reconstruction(config.reconstruction, features, num_levels).to(engine.device)
    reconstruction.calibrate(first.image.to(engine.device))
    ema = EMA(model, config.loop.ema_decay) if config.loop.ema_decay else None
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr.start, betas=config.lr.betas)
    wrapped, optimizer = engine.setup(model, optimizer)
    state = TrainState(
        modules={"model": wrapped, "kl": kl, "reconstruction": reconstruction},
        optimizers={"model": optimizer},
        ema=ema,
        card={
            "kind": "translator", "model": "vunet", "schema": schema.to_dict(), "crop": to_dict(config.crop),
            "config": {**to_dict(config), "vunet": to_dict(network)}, "perceptual": feature_name,
            "data": [describe_data(faces, split=config.split, subset=config.subset)],
        },
    )  # fmt: skip
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        set_lr(optimizer, learning_rate(step, config.loop.steps, config.lr))
        batch = augmented(batch, step, engine.global_rank)
        out = wrapped(batch.image, maps_of(batch.landmarks))
        weight = kl.weight(step, config.loop.steps)
        terms = translator_loss(reconstruction, out.image, batch.image, out.posterior, out.prior, weight)
        optimizer.zero_grad(set_to_none=True)
        engine.backward(terms["total"])
        optimizer.step()
        kl.update(mean_over_processes(engine, terms["kl"]))
        elements = num_elements(config.reconstruction, size)
        return {**terms, "kl_weight_per_nat": weight * (3 * size * size / elements)}

    shown = torch.arange(min(6, len(val_faces)), device=engine.device)

    def averaged() -> VUNet:
        result = state.result().eval()
        assert isinstance(result, VUNet)
        return result

    @torch.no_grad()
    def preview() -> np.ndarray:
        result = averaged()
        n = len(shown)
        style = result.encode_style(val.image[shown], val_maps[shown])
        content = result.encode_structure(val_maps[shown])
        index = torch.arange(n, device=engine.device)
        rows, columns = index.repeat_interleave(n), index.repeat(n)  # row: structure; column: style
        images = result.decode(index_features(content, rows), index_features(style, columns), with_prior=False).image
        state.modules["model"].train()
        real = to_uint8(val.image[shown]).cpu().numpy()
        return style_sheet(list(real), list(real), list(to_uint8(images).cpu().numpy().reshape(n, n, size, size, 3)))

    wrapped.train()
    fit(
        update, state=state, batches=source.batch, config=config.loop, run=run, engine=engine,
        preview=preview if len(val_faces) > 1 else None, what="translator",
    )  # fmt: skip

    # The verdict.
    if engine.is_global_zero:
        result = averaged()
        figures = judge_swaps(result, val, val_maps, judge.model, judge.crop.size, schema, config.loop.seed)
        figures["held_out"] = held_out
        figures["judge"] = "given" if config.judge else "trained on the same split with another seed"
        nats = next((line["kl"] for line in reversed(read_metrics(run.folder)) if "kl" in line), float("nan"))
        figures["kl_nats"] = nats
        warning = kl_warning(nats, size)
        if warning:
            say(f"warning: {warning}")
        if not held_out:
            say(f"warning: {config.data} has no split {config.val_split}: the judge looked at training faces")
        (run.folder / "judge.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        say(f"judge: {verdict(figures)} (KL {nats:.0f} nats)")
        run.finish(result.state_dict(), {**state.card, "step": state.step, "judge": figures})
    engine.barrier()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
