"""The job `train-translator`: a data set in, a translator and a judge's verdict on its swapped faces out.

Two small detectors are trained beside it on the same training split, unless the user names others. The features of
one serve as the perceptual loss where no VGG-19 weights are given, and translators that ask for that keep its
landmarks where they are. The other is the judge, which the translator never learns from: its NME on faces drawn in a
stranger's style, beside its NME on the same real faces, says whether the translator may be used. What differs between
translators is in `TRANSLATORS`.
"""

import copy
import dataclasses
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stylealign.batches.augment import NO_AUGMENTATION, AugmentConfig, augment, centre_crop
from stylealign.batches.batch import Batch, to_uint8
from stylealign.batches.crops import CropCache
from stylealign.batches.source import BatchSource
from stylealign.batches.structure_maps import StructureConfig, structure_maps
from stylealign.config import to_dict, with_sections
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.describe import whole_faces
from stylealign.detectors.loaded import load_detector
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import style_sheet
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.train_translator.donors import held_out_faces
from stylealign.jobs.train_translator.small_detectors import (
    AuxiliaryConfig,
    SmallDetectors,
    check_given_detectors,
    judge_run,
    open_features,
)
from stylealign.progress import say
from stylealign.training.devices import place
from stylealign.training.ema import EMA
from stylealign.training.loop import Engine, LoopConfig, TrainState, fit, restore, seed_everything
from stylealign.training.run import Run
from stylealign.training.seen import learnt_among
from stylealign.training.session import run_training
from stylealign.translators import TRANSLATORS, TranslatorEntry, build_translator, trained_names
from stylealign.translators.judge import judge_swaps, verdict
from stylealign.translators.kl import kl_warning
from stylealign.translators.learning import Learning
from stylealign.translators.reconstruction import Reconstruction, ReconstructionConfig
from stylealign.translators.schedule import LEARNING_RATE_PRESETS, LearningRateConfig
from stylealign.translators.swapping import decode_grid, encode_contents


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslatorJob:
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
    extra: tuple[Path, ...] = ()
    """Further data sets of the same mark-up to learn from, such as faces with pseudo-labels; labelled faces only. The
    small detectors and the judge never see them."""
    extra_share: float = 0.5
    """Share of their faces in every batch, all of them together."""
    extra_split: str | None = "train"
    """Their split; null: all faces."""
    model: str = "vunet"
    """Which entry of TRANSLATORS; its sections set its shape and its losses (`config_class` adds them for each)."""
    structure: StructureConfig = field(default_factory=StructureConfig)
    crop: CropConfig = field(default_factory=lambda: CropConfig(size=64, scale=1.6))
    augment: AugmentConfig = field(
        default_factory=lambda: dataclasses.replace(NO_AUGMENTATION, rotation=10, scale=0.06, shift=0.03, flip=True)
    )
    """The release uses none; with few faces, mirroring and small motions keep the network from learning them by
    heart."""
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    lr: LearningRateConfig = LEARNING_RATE_PRESETS["small"]
    vgg19: Path | None = None
    """torchvision's or Keras' VGG-19 weights, for the perceptual loss of the release."""
    perceptual: Path | None = None
    """ImageNet weights of MobileNetV2 (torchvision's file) or EfficientNet-Lite0, whose features serve as the
    perceptual loss in VGG-19's place; or `package`: those of an installed package."""
    feature_detector: Path | None = None
    """A detector run whose features serve as the perceptual loss; trained here where neither this, `vgg19` nor
    `perceptual` is given. Translators whose losses have a weight `landmark` also ask it whether landmarks stay where
    they are."""
    judge: Path | None = None
    """A detector run to judge swapped faces; trained here (another seed) where not given. It must not have seen
    synthetic faces."""
    judge_faces: int = 200
    """Faces the judge sees."""
    auxiliary: AuxiliaryConfig = field(default_factory=AuxiliaryConfig)
    init_batches: int = 4
    """Batches whose pre-activations set the data-dependent initial gains."""
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2000, batch_size=16, ema_decay=0.995))

    def __post_init__(self) -> None:
        given = [key for key in ("vgg19", "perceptual", "feature_detector") if getattr(self, key)]
        if len(given) > 1 and not (self.watches and len(given) == 2 and given[1] == "feature_detector"):
            raise ValueError(f"{' and '.join(given)} are both given: expected one")
        if not 0 < self.extra_share < 1:
            raise ValueError(f"extra_share is {self.extra_share}, expected above 0 and below 1")
        if self.init_batches * self.loop.batch_size < 2:
            raise ValueError(
                f"init_batches {self.init_batches} of batch_size {self.loop.batch_size}: expected at least 2 faces to "
                "start from"
            )

    @property
    def network(self) -> Any:
        """The section of the chosen translator's network."""
        return getattr(self, self.model)

    @property
    def learning(self) -> Any:
        """The section of its way of learning; None where it has none."""
        entry = TRANSLATORS[self.model]
        return None if entry.learning is None else getattr(self, entry.learning_section)

    @property
    def watches(self) -> bool:
        """Whether the translator's losses ask a frozen detector for landmarks."""
        return TRANSLATORS[self.model].watches(self.learning)


def config_class() -> type[TranslatorJob]:
    """`TrainTranslator`: the job's configuration with the sections of each translator of the table as it is now."""
    return _config_class(tuple((name, TRANSLATORS[name]) for name in trained_names()))


@lru_cache
def _config_class(entries: tuple[tuple[str, TranslatorEntry], ...]) -> type[TranslatorJob]:
    sections = {name: {name: entry.preset("small").network, **entry.sections} for name, entry in entries}
    help = " ".join(f"{name}: {entry.summary}" for name, entry in entries)
    return with_sections(TranslatorJob, "TrainTranslator", "model", help, "vunet", sections)


def __getattr__(name: str) -> Any:
    if name == "TrainTranslator":
        return config_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def extra_faces(config: TranslatorJob, schema: LandmarkSchema) -> list[FaceDataset]:
    """The labelled faces of the further data sets. Raises UserError for another mark-up."""
    found = []
    for path in config.extra:
        faces = FaceDataset.open(path)
        if faces.schema != schema:
            raise UserError(
                f"{path}: holds {faces.schema.name} ({counted(faces.schema.num_points, 'point')}), but {config.data} "
                f"holds {schema.name} ({counted(schema.num_points, 'point')}): expected the same mark-up"
            )
        found.append(faces.select(config.extra_split, labelled=True))
    return found


def weights_warning(config: TranslatorJob) -> str | None:
    """What to say of loss weights that are meant for VGG-19 where no VGG-19 is given; None where there is nothing."""
    reconstruction = config.reconstruction
    if config.vgg19 is not None or reconstruction.calibrated or not reconstruction.needs_features:
        return None
    return (
        f"reconstruction.feature {reconstruction.feature:g} and gram {reconstruction.gram:g} are uncalibrated weights, "
        "meant for VGG-19's features as released, and --vgg19 FILE is missing: another network's features stand in, "
        "whose size is another, so pictures are weighed against the KL in a way that nobody chose "
        "(--reconstruction.calibrated weighs them anew)"
    )


def main(config: TranslatorJob) -> None:
    """Train, judge, and leave a run folder."""
    run_training(config.run, config, config.loop, train)


def train(config: TranslatorJob, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    opened = FaceDataset.open(config.data)
    schema = opened.schema
    faces = opened.select(config.split, config.subset, labelled=True)
    has_val = config.val_split in opened.meta["splits"]
    val_faces = opened.select(config.val_split, labelled=True) if has_val else faces
    val_faces = whole_faces(val_faces, "what the judge sees")
    val_faces = val_faces.take(range(min(len(val_faces), config.judge_faces)))
    if len(faces) < 2:
        raise UserError(
            f"{config.data}: {len(faces)} labelled face in split {config.split}; a translator needs at least 2, and "
            "hundreds to be of use"
        )
    if len(val_faces) < 2:
        raise UserError(
            f"{config.data}: {len(val_faces)} labelled face in split {config.val_split} (judge_faces "
            f"{config.judge_faces}); the judge needs at least 2 to swap"
        )
    extra = extra_faces(config, schema)
    learnt = learnt_among(val_faces, (faces, *extra)).num_seen
    if engine.is_global_zero and has_val and learnt:
        say(
            f"warning: {learnt} of {counted(len(val_faces), 'face')} of split {config.val_split} that the judge sees "
            "are learnt from: its figures are not of held-out faces"
        )
    if engine.is_global_zero and (warning := weights_warning(config)):
        say(f"warning: {warning}")
    size, structure, kind = config.crop.size, config.structure, TRANSLATORS[config.model]
    val = centre_crop(CropCache(val_faces, config.crop).batch(np.arange(len(val_faces))), size).to(engine.device)
    held = held_out_faces(val, kind.loaded.bends_donor, schema, config.loop.seed, str(config.data))
    torch.manual_seed(config.loop.seed)
    model: Any = place(build_translator(config.model, config.network, size, structure, schema), "cpu")
    small = SmallDetectors(
        data=config.data, split=config.split, subset=config.subset, crop=config.crop, auxiliary=config.auxiliary,
        loop=config.loop, vgg19=config.vgg19, perceptual=config.perceptual,
        feature_detector=config.feature_detector, judge=config.judge,
    )  # fmt: skip
    needed = config.reconstruction.needs_features
    check_given_detectors(small, schema, needed)
    features = open_features(small, run.folder, engine.device, features=needed, watches=config.watches)
    judge = load_detector(judge_run(small, run.folder), device=engine.device)

    # Data: crops with room for the small motions.
    caches = [CropCache(part, config.crop, margin=1.25) for part in (faces, *extra)]
    own = 1.0 - (config.extra_share if extra else 0.0)
    counts = [len(part) / sum(map(len, extra)) for part in extra]
    shares = [own, *(config.extra_share * count for count in counts)]
    source = BatchSource(
        caches, shares, config.loop.batch_size, config.loop.seed, engine.global_rank, engine.world_size
    )

    def maps_of(landmarks: Tensor) -> Tensor:
        maps = structure_maps(landmarks, size, structure.kind, schema, structure.sigma, structure.integer_centres)
        return maps.contiguous(memory_format=torch.channels_last)

    def vary(batch: Batch, step: int, view: int = 0, motions: AugmentConfig | None = None) -> Batch:
        key = (config.loop.seed, step, 0, 5, *[view] * (view > 0))
        seed = int(np.random.default_rng(key).integers(2**62))
        return augment(batch, size, motions or config.augment, torch.Generator().manual_seed(seed), schema)

    # Model.
    first = BatchSource(caches, shares, min(config.init_batches * config.loop.batch_size, 64), config.loop.seed).batch(
        0
    )
    first = vary(first, 2**31 - 1)
    reconstruction = Reconstruction(config.reconstruction, features.network, features.num_levels).to(engine.device)
    assert kind.learn is not None  # those that have nothing to learn are not offered
    # What is drawn now, such as a discriminator's weights, must not depend on whether the small detectors were trained
    # by this process or found finished.
    seed_everything(config.loop.seed, 0, 0, 2)
    learner = kind.learn(
        Learning(
            model=model, own=config.learning, engine=engine, schema=schema, size=size, maps=maps_of,
            vary=vary, first=first, reconstruction=reconstruction, watch=features.watch, lr=config.lr,
            steps=config.loop.steps, seed=config.loop.seed,
        )
    )  # fmt: skip
    state = TrainState(
        modules=learner.modules,
        optimizers=learner.optimizers,
        ema=EMA(model, config.loop.ema_decay) if config.loop.ema_decay else None,
        card={
            "kind": "translator", "model": config.model, "schema": schema.to_dict(), "crop": to_dict(config.crop),
            "config": {**to_dict(config), config.model: to_dict(model.config)}, "perceptual": features.name,
            "data": [
                describe_data(faces, split=config.split, subset=config.subset),
                *(
                    describe_data(part, split=config.extra_split, share=share)
                    for part, share in zip(extra, shares[1:], strict=True)
                ),
            ],
        },
    )  # fmt: skip
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def loaded(module: nn.Module) -> Any:
        return kind.loaded(module, schema, config.crop, structure, dict(state.card), engine.device)

    def preview() -> np.ndarray:
        """Rows: structures; columns: styles."""
        translator = loaded(copy.deepcopy(state.result()))  # a copy: what is loaded learns no more
        image, landmarks = held.shown.image, held.shown.landmarks
        n = len(image)
        content = encode_contents(translator, landmarks, image)
        images = decode_grid(translator, content, translator.encode_style(image, landmarks)).flatten(0, 1)
        real = to_uint8(image).cpu().numpy()
        return style_sheet(list(real), list(real), list(to_uint8(images).cpu().numpy().reshape(n, n, size, size, 3)))

    state.modules["model"].train()
    fit(
        learner.update, state=state, batches=source.batch, config=config.loop, run=run, engine=engine,
        preview=preview if len(val_faces) > 1 else None, epochs=source.epochs, what="translator",
    )  # fmt: skip

    # The verdict.
    if engine.is_global_zero:
        result = state.result().eval()
        figures = judge_swaps(
            loaded(copy.deepcopy(result)), held.judged, judge.model, judge.crop.size, schema, config.loop.seed,
            donors=held.donors,
        )  # fmt: skip
        figures["held_out"] = has_val and not learnt
        figures["judge"] = "given" if config.judge else "trained on the same split with another seed"
        nats = next((line["kl"] for line in reversed(read_metrics(run.folder)) if "kl" in line), None)
        if nats is not None:
            figures["kl_nats"] = nats
            warning = kl_warning(nats, size)
            if warning:
                say(f"warning: {warning}")
        if not has_val:
            say(f"warning: {config.data} has no split {config.val_split}: the judge looked at training faces")
        (run.folder / "judge.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        say(f"judge: {verdict(figures)}" + ("" if nats is None else f" (KL {nats:.0f} nats)"))
        run.finish(result.state_dict(), {**state.card, "step": state.step, "judge": figures})
    engine.barrier()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
