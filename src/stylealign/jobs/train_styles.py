"""The job `train-styles`: faces in, two generators out that take a face from one
photographic style to another and back.

The faces need no labels. They are grouped by how they look (detectors/san/photo_styles.py), and a CycleGAN
(cyclegan.py) learns between two of the groups. The style-aggregated detector (san) looks at a face and at the mean
of what the two generators make of it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from stylealign.batches.augment import AugmentConfig, augment
from stylealign.batches.batch import Batch, Step, to_float, to_uint8
from stylealign.batches.crops import CropCache
from stylealign.batches.source import BatchSource
from stylealign.config import from_dict, to_dict
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.image import write_image
from stylealign.detectors.resnet import ResNet18, ResNetConfig, load_imagenet
from stylealign.detectors.san.cyclegan import (
    CycleGANConfig,
    Discriminators,
    GeneratorConfig,
    Generators,
    ImagePool,
    decayed,
    discriminator_loss,
    generator_terms,
)
from stylealign.detectors.san.photo_styles import pooled_features, standardised, style_clusters, style_statistics
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import contact_sheet
from stylealign.face.crop import CropConfig
from stylealign.progress import say
from stylealign.training.devices import place
from stylealign.training.ema import EMA
from stylealign.training.loop import Engine, LoopConfig, TrainState, fit, restore, unwrap
from stylealign.training.optim import set_lr
from stylealign.training.run import Run
from stylealign.training.session import run_training
from stylealign.training.weights import load_model, load_weights, read_state

MARGIN = 1.25  # context round the crop for rotations and shifts
SHOWN = 4  # faces of each cluster on the sheets


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """How faces are grouped by style, and between which groups the generators learn."""

    clusters: int = 3
    """Groups; those of SAN."""
    pair: Literal["smallest_largest", "two_largest"] = "smallest_largest"
    """As in SAN's script; its author advises the two largest where the smallest is tiny."""
    imagenet: Path | None = None
    """A ResNet-18's ImageNet weights (.pth or .safetensors) to see styles with; without one, statistics
    of light, colour and sharpness."""
    min_faces: int = 8
    """Each group of the pair needs as many."""

    def __post_init__(self) -> None:
        if self.clusters < 2 or self.min_faces < 1:
            raise ValueError(f"clusters {self.clusters} and min_faces {self.min_faces}: expected at least 2 and 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainStyles:
    """Train the two generators of the style-aggregated detector."""

    data: Path
    """Data set folder; its faces need no labels."""
    run: Path
    """Run folder to make; the same command continues a stopped run."""
    split: str | None = "train"
    """Faces of this split; null: of all."""
    subset: str | None = None
    """Only faces with this attribute, such as a label budget."""
    crop: CropConfig = field(default_factory=CropConfig)
    """As the detector's: it looks at its own crops through the generators."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """As the detector's; only what moves a face counts here: rotation, scale, shift, flip, geometric `ops`. Light,
    colour, sharpness and covers are what is to be learnt."""
    styles: ClusterConfig = field(default_factory=ClusterConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    cyclegan: CycleGANConfig = field(default_factory=CycleGANConfig)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=9000, ema_decay=0.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class AuxiliaryStyles:
    """The generators trained inside a detector's run, where no finished run of them is given."""

    steps: int = 1500
    """Updates."""
    batch_size: int = 8
    """Faces of each of the two groups an update."""
    styles: ClusterConfig = field(default_factory=ClusterConfig)
    cyclegan: CycleGANConfig = field(
        default_factory=lambda: CycleGANConfig(discriminator_width=16, discriminator_layers=2)
    )


@torch.no_grad()
def find_clusters(cache: CropCache, config: ClusterConfig, seed: int, device: torch.device) -> list[np.ndarray]:
    """Positions of the faces of each style, the smallest group first.

    Raises UserError where a group between which generators shall learn has too few faces.
    """
    network = None
    if config.imagenet is not None:
        network = ResNet18(1, cache.crop.size, ResNetConfig(head="pool"))
        load_imagenet(network, read_state(config.imagenet), str(config.imagenet))
        network = place(network, device).eval()
    parts: list[list[torch.Tensor]] = []
    for start in range(0, len(cache), 64):
        image = to_float(torch.from_numpy(cache.images[start : start + 64].copy())).to(device)
        parts.append(style_statistics(image) if network is None else pooled_features(network, image))
    groups = [torch.cat(group) for group in zip(*parts, strict=True)]
    found = style_clusters(standardised(groups), config.clusters, seed)
    smaller = min(len(cluster) for cluster in choose_pair(found, config))
    if smaller < config.min_faces:
        hint = " or --styles.pair two_largest" if config.pair == "smallest_largest" and len(found) > 2 else ""
        raise UserError(
            f"{cache.dataset.folder}: {counted(len(cache), 'face')} make clusters of "
            f"{', '.join(str(len(c)) for c in found)}; expected at least {config.min_faces} in each of the two to "
            f"learn between: give more faces, fewer clusters (--styles.clusters){hint}"
        )
    return found


def choose_pair(clusters: list[np.ndarray], config: ClusterConfig) -> tuple[np.ndarray, np.ndarray]:
    """The faces of cluster A, the smaller one, and of cluster B."""
    return clusters[0 if config.pair == "smallest_largest" else -2], clusters[-1]


def cluster_sheet(cache: CropCache, clusters: list[np.ndarray], pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Faces of each cluster, one cluster a row, spread over it."""
    columns = 2 * SHOWN
    tiles, labels = [], []
    for cluster in clusters:
        chosen = cluster[np.linspace(0, len(cluster) - 1, columns).astype(int)]
        role = {id(pair[0]): " A", id(pair[1]): " B"}.get(id(cluster), "")
        tiles += [cache.images[i] for i in chosen]
        labels += [f"{counted(len(cluster), 'face')}{role}", *[""] * (columns - 1)]
    return contact_sheet(tiles, columns, labels)


def main(config: TrainStyles) -> None:
    """Group the faces, train the generators, and leave a run folder."""
    run_training(config.run, config, config.loop, train)


def train(config: TrainStyles, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    loop, size = config.loop, config.crop.size

    # Data: the two clusters, each in its own endless order. The first process cuts the crops, the others find them.
    faces = FaceDataset.open(config.data).select(config.split, config.subset)
    varied = config.augment.motions_alone()
    margin = MARGIN if varied.is_geometric else 1.0
    if not engine.is_global_zero:
        engine.barrier()
    plain = CropCache(faces, config.crop)
    clusters = find_clusters(plain, config.styles, loop.seed, engine.device)
    pair = choose_pair(clusters, config.styles)
    caches = [CropCache(faces.take(members), config.crop, margin) for members in pair]
    if engine.is_global_zero:
        engine.barrier()
        write_image(run.folder / "previews" / "clusters.png", cluster_sheet(plain, clusters, pair))
    sizes = [len(cluster) for cluster in clusters]
    say(f"styles: clusters of {', '.join(map(str, sizes))} faces; learning between {len(pair[0])} and {len(pair[1])}")
    sources = [
        BatchSource([cache], [1.0], loop.batch_size, loop.seed + 7919 * i, engine.global_rank, engine.world_size)
        for i, cache in enumerate(caches)
    ]

    # Models.
    torch.manual_seed(loop.seed)
    generators = place(Generators(config.generator), "cpu").to(engine.device)
    discriminators = place(Discriminators(config.cyclegan), "cpu").to(engine.device)
    adam = [
        torch.optim.Adam(module.parameters(), lr=config.cyclegan.lr, betas=config.cyclegan.betas)
        for module in (generators, discriminators)
    ]
    wrapped, optimizer = engine.setup(generators, adam[0])
    wrapped_judges, optimizer_judges = engine.setup(discriminators, adam[1])
    pools = [ImagePool(config.cyclegan.pool, size).to(engine.device) for _ in range(2)]
    state = TrainState(
        ema=EMA(generators, loop.ema_decay) if loop.ema_decay else None,
        modules={"model": wrapped, "discriminators": wrapped_judges, "pool_a": pools[0], "pool_b": pools[1]},
        optimizers={"model": optimizer, "discriminators": optimizer_judges},
        card={
            "kind": "styles", "model": "cyclegan", "network": to_dict(config.generator),
            "schema": faces.schema.to_dict(),
            "crop": to_dict(config.crop), "clusters": sizes, "pair": [len(members) for members in pair],
            "config": to_dict(config),
            "data": [describe_data(faces, split=config.split, subset=config.subset)],
        },
    )  # fmt: skip
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def vary(batch: Batch, step: int, side: int) -> torch.Tensor:
        seed = int(np.random.default_rng((loop.seed, step, 0, 11, side)).integers(2**62))
        return augment(batch, size, varied, torch.Generator().manual_seed(seed), faces.schema).image

    def update(groups: Step, step: int) -> dict[str, torch.Tensor]:
        a, b = (vary(batch, step, side) for side, batch in enumerate(groups.heads))
        for o in (optimizer, optimizer_judges):
            set_lr(o, config.cyclegan.lr * decayed(step, loop.steps))

        # Generators, against discriminators that stand still (outside their wrapper: there is
        # nothing to share between processes).
        discriminators.requires_grad_(False)
        made = wrapped(a, b)
        with engine.autocast():
            judged = unwrap(wrapped_judges)(made.fake_a, made.fake_b)
        terms = generator_terms(made, a, b, judged[0].float(), judged[1].float(), config.cyclegan)
        optimizer.zero_grad(set_to_none=True)
        engine.backward(terms["total"])
        optimizer.step()

        # Discriminators, real and fake in one pass (instance normalisation treats every picture alone).
        discriminators.requires_grad_(True)
        fakes = [pool.exchange(fake) for pool, fake in zip(pools, (made.fake_a, made.fake_b), strict=True)]
        answers = wrapped_judges(torch.cat([a, fakes[0]]), torch.cat([b, fakes[1]]))
        losses = [discriminator_loss(*answer.float().split(len(a))) for answer in answers]
        optimizer_judges.zero_grad(set_to_none=True)
        engine.backward(losses[0] + losses[1])
        optimizer_judges.step()
        return {**terms, "discriminator_a": losses[0], "discriminator_b": losses[1]}

    shown = np.concatenate([members[np.linspace(0, len(members) - 1, SHOWN).astype(int)] for members in pair])

    @torch.no_grad()
    def preview() -> np.ndarray:
        result = state.result()
        assert isinstance(result, Generators)
        real = to_float(torch.from_numpy(plain.images[shown])).to(engine.device)
        rows = [real, result.a(real), result.b(real), result.aggregate(real)]
        tiles = [tile for row in zip(*(to_uint8(images).cpu().numpy() for images in rows), strict=True) for tile in row]
        labels = ["face", "G_A", "G_B", "aggregated"] + [""] * (len(tiles) - 4)
        return contact_sheet(tiles, 4, labels)

    fit(
        update, state=state, batches=lambda step: Step(tuple(source.batch(step) for source in sources)), config=loop,
        run=run,
        engine=engine, preview=preview, epochs=sources[0].epochs, what="training the styles",
    )  # fmt: skip
    if engine.is_global_zero:
        run.finish(state.result().state_dict(), {**state.card, "step": state.step})
    engine.barrier()


def load_styles(run: Path) -> tuple[Generators, dict[str, Any]]:
    """The generators of a finished `train-styles` run, frozen and in evaluation mode, and its card.
    Raises UserError for anything else."""
    state, card = load_model(Path(run), "styles")
    model = Generators(from_dict(GeneratorConfig, card.get("network"), f"{run}/card.json: network"))
    load_weights(model, state, str(run))
    return model.eval().requires_grad_(False), card
