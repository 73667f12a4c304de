"""The job `train-detector`: data sets in, a landmark detector out.

Each data set has a fixed share of every batch: arms differ in what they see and never in how many updates they get.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stylealign.batches.augment import augment
from stylealign.batches.batch import Batch, Step, join
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset, describe_data
from stylealign.data.image import write_image
from stylealign.data.shards import ShardedFaces
from stylealign.detectors import DETECTORS, build_detector, refuse_other_answers
from stylealign.detectors.learning import Learning
from stylealign.detectors.loaded import learnt_lean
from stylealign.errors import UserError, counted
from stylealign.jobs.train_detector.configuration import DetectorJob, config_class
from stylealign.jobs.train_detector.generators import StylesToTrain, load_generators, train_generators
from stylealign.jobs.train_detector.opened import open_faces
from stylealign.jobs.train_detector.pretrained import load_pretrained
from stylealign.jobs.train_detector.styled_sheet import styled_sheet
from stylealign.progress import say
from stylealign.training.devices import place
from stylealign.training.ema import EMA
from stylealign.training.loop import Engine, TrainState, fit, restore
from stylealign.training.mean_teacher import (
    labelled_by_teacher,
    ramp,
    trust_terms,
)
from stylealign.training.run import Run
from stylealign.training.schedule import Schedule, Timed, refuse_several_clocks
from stylealign.training.session import run_training
from stylealign.training.warm_start import describe_start, start_from

STYLES = "styles.png"
"""Among the previews: what style arms make of the first faces."""


def __getattr__(name: str) -> Any:
    if name == "TrainDetector":
        return config_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def network_of(config: DetectorJob) -> Any:
    """The section of the chosen detector."""
    return getattr(config, DETECTORS[config.model].section)


def fill_generators(config: DetectorJob, model: nn.Module, faces: FaceDataset | ShardedFaces, folder: Path) -> None:
    """Give a network that looks through style generators those of a run, or of one trained inside this one."""
    entry = DETECTORS[config.model]
    generators = entry.style_generators(model) if entry.style_generators else None
    if generators is None:
        return
    run, shape = config.styles, network_of(config).generator
    if run is None and not isinstance(faces, FaceDataset):
        raise UserError(
            f"{config.model} with {faces.folder}: its generators cannot be trained on shards; give --styles"
        )
    if run is None:
        assert isinstance(faces, FaceDataset)
        run = folder / "styles"
        split, subset = config.chosen_of(faces.folder)
        train_generators(
            StylesToTrain(
                run=run, styles=config.san_styles, generator=shape, faces=faces, split=split, subset=subset,
                crop=config.crop, augment=config.augment, loop=config.loop,
            )
        )  # fmt: skip
    load_generators(generators, shape, run, config.crop.size)


def main(config: DetectorJob) -> None:
    """Train, evaluate, and leave a run folder."""
    run_training(config.run, config, config.loop, train)


def train(config: DetectorJob, engine: Engine, run: Run) -> None:
    """The training itself, into an open run."""
    loop, size = config.loop, config.crop.size
    refuse_several_clocks(config.minutes, engine.world_size)
    schedule = Timed(config.minutes, loop.steps, run.folder) if config.minutes else Schedule(loop.steps)
    entry, network = DETECTORS[config.model], network_of(config)
    faces = open_faces(config, engine)
    schemas, styling, validation = faces.schemas, faces.styling, faces.validation

    # Model.
    torch.manual_seed(loop.seed)
    model = build_detector(config.model, schemas, size, network)
    if config.pretrained is not None:
        load_pretrained(model, config.model, config.pretrained)
    start = None if config.init_from is None else start_from(model, config.init_from, schemas[0], faces.mixes[0])
    if start is not None:
        say(describe_start(start))
    model.mean_shape.copy_(torch.as_tensor(faces.mean_shapes[0]))  # type: ignore[union-attr,operator]
    model = place(model, "cpu").to(engine.device)
    fill_generators(config, model, faces.mixes[0][0].faces, run.folder)
    refuse_other_answers(config.model, model, schemas[0].num_points, size, engine.device)
    learner = entry.learn(
        Learning(
            model=model,
            engine=engine,
            loss=config.loss,
            optimizer=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            steps=loop.steps,
            batch_size=loop.batch_size,
            pretrained=config.pretrained is not None,
            schemas=schemas,
            mean_shapes=faces.mean_shapes,
            size=size,
        )
    )

    # Its card, and what a stopped run has left.
    extra: dict[str, Any] = {} if start is None else {"start": start}
    if faces.unlabelled is not None:
        extra["teacher_data"] = describe_data(faces.unlabelled)
    if styling is not None:
        extra["donors"] = styling.donor_data
    card = {
        "kind": "detector",
        "model": config.model,
        "network": to_dict(network),
        "schema": schemas[0].to_dict(),
        "other_schemas": [schema.to_dict() for schema in schemas[1:]],
        "crop": to_dict(config.crop),
        "roll": config.augment.roll,
        "config": to_dict(config),
        "data": [
            describe_data(part.faces, share=round(part.share, 6), **part.described)
            for mix in faces.mixes
            for part in mix
        ],
        **({} if validation is None else {"val_data": describe_data(validation.faces, split=config.val_split)}),
        **extra,
        **learner.card,
    }
    ema = EMA(model, loop.ema_decay) if loop.ema_decay else None
    state = TrainState(modules=learner.modules, optimizers=learner.optimizers, ema=ema, card=card)
    if restore(state, run):
        say(f"continuing {config.run} at step {state.step}")

    def vary(batch: Batch, step: int, head: int) -> Batch:
        key = (loop.seed, step, 0, 7, *[head] * (head > 0))
        seed = int(np.random.default_rng(key).integers(2**62))
        return augment(batch, size, config.augment, torch.Generator().manual_seed(seed), schemas[head % len(schemas)])

    leans = learnt_lean(state.card)

    def gather(number: int) -> Step:
        step = Step(
            heads=tuple(source.batch(number) for source in faces.sources),
            unlabelled=None if faces.unlabelled_source is None else faces.unlabelled_source.batch(number),
        )
        part = (engine.global_rank, engine.world_size)
        return step if styling is None else styling.with_donors(step, loop.seed, number, 0, part=part)

    def update(step: Step, number: int) -> dict[str, Tensor]:
        key = (loop.seed, number, 0)
        heads = step.heads if styling is None else styling.restyled(step, *key)
        varied = tuple(vary(batch, number, head) for head, batch in enumerate(heads))
        if step.unlabelled is None:
            return learner.update(varied, schedule.place(number))
        assert state.ema is not None  # teacher_faces has seen to it, and to there being one head
        factor = config.teacher.weight * ramp(schedule.place(number), loop.steps, config.teacher.ramp_up)
        learnt = labelled_by_teacher(state.ema.module, step.unlabelled, size, config.teacher, schemas[0], factor, leans)
        terms = trust_terms(learnt)
        if styling is not None:  # the teacher has seen them as they are
            learnt = styling.restyled_among(learnt, *key)
        return {**learner.update((join([varied[0], vary(learnt, number, 1)]),), schedule.place(number)), **terms}

    if styling is not None and not state.step:
        first = gather(0)
        styled = styling.restyled(first, loop.seed, 0, 0)  # by all processes, of whose faces the first shows its own
        if engine.is_global_zero:
            offered = first.donors[0] if first.donors else None
            write_image(run.folder / "previews" / STYLES, styled_sheet(first.heads[0], offered, styled[0], size))

    measured: dict[int, float] = {}  # step: NME

    def evaluate() -> dict[str, float]:
        assert validation is not None
        if state.step and not any(measured):
            validation.warn_of_units(state.result())
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
        epochs=faces.sources[0].epochs,
        best_by="nme" if validation else "",
        what="training the detector",
        schedule=schedule,
    )

    # Result.
    if engine.is_global_zero:
        card = {**state.card, "step": state.step}
        described = card.pop("val_data", None)
        if validation:
            held_out, unit = validation.faces, validation.denominator
            nme = measured.get(state.step) or evaluate()["nme"]  # a run stopped after its last update has not measured
            if (best := run.best("nme"))[0]:  # it was evaluated on the way
                card["best"] = {"step": best[0], "nme": best[1]}
            card["val"] = validation.entry(nme, described or {})
            trust = validation.trust(state.result())
            if trust is not None:
                card["trust"] = {**trust, "data": described}
            if learnt_lean(card):
                card["lean"] = validation.lean(state.result())
            where = f"{counted(len(held_out), 'face')} of {held_out.name} {config.val_split}"
            say(f"NME on {where}: {nme:.2%} ({unit}, {config.crop.describe()})")
        run.finish(state.result().state_dict(), card)
    engine.barrier()
