"""All that a detector's training looks at: data sets, donors of styles, validation faces, opened and cut."""

from dataclasses import dataclass

import numpy as np

from stylealign.batches.augment import MARGIN
from stylealign.batches.crops import CropCache, mean_shape
from stylealign.batches.shards import open_cache
from stylealign.batches.source import BatchSource
from stylealign.data.convention import say_of_other_ways
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS, having
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.train_detector.configuration import DetectorJob
from stylealign.predicting.validation import Validation
from stylealign.styling.chain import trained_arms
from stylealign.styling.on_the_fly import Styling, open_styling
from stylealign.training.faces import (
    Mix,
    epoch_of,
    head_batch_sizes,
    resolve_data,
    resolve_others,
    say_more_seen_than,
    validation_faces,
)
from stylealign.training.loop import Engine
from stylealign.training.mean_teacher import teacher_faces, unlabelled_in_batch
from stylealign.training.seen import say_measured_on
from stylealign.training.weights import read_card


@dataclass(frozen=True, kw_only=True)
class Faces:
    """All that a training looks at, opened and cut."""

    mixes: list[Mix]
    """The data sets of each head; one head, but for networks that learn several mark-ups"""
    schemas: tuple[LandmarkSchema, ...]
    """The mark-up of each head"""
    mean_shapes: tuple[np.ndarray, ...]
    """(P, 2) px of the crop, one a head"""
    sources: list[BatchSource]
    """Where each head's part of a batch comes from"""
    unlabelled: FaceDataset | None
    """The faces that a mean teacher labels"""
    unlabelled_source: BatchSource | None
    styling: Styling | None
    """Style arms and their donors"""
    validation: Validation | None
    """Of the first process alone"""


def unlabelled_faces(config: DetectorJob, schema: LandmarkSchema) -> FaceDataset | None:
    """The faces of the mean teacher, where there is one."""
    if config.teacher.data is None:
        return None
    if not DETECTORS[config.model].coordinates_alone:
        raise UserError(
            f"teacher.data with --model {config.model}: a teacher's landmarks are learnt by a loss on coordinates "
            f"alone; expected one of {having('coordinates_alone')}"
        )
    return teacher_faces(config.teacher, schema, config.loop.ema_decay)


def open_faces(config: DetectorJob, engine: Engine) -> Faces:
    """Open the data sets, cut their crops and open the styles. The first process cuts, the others find what it cut."""
    loop = config.loop
    mixes = [resolve_data(config), *resolve_others(config)]
    orders = [epoch_of(mix, config.balance) for mix in mixes]
    schemas = tuple(mix[0].faces.schema for mix in mixes)
    if config.other and not DETECTORS[config.model].several_heads:
        raise UserError(
            f"--other is for networks that learn several mark-ups ({having('several_heads')}); found it with "
            f"--model {config.model}"
        )
    val_faces = validation_faces(config, schemas[0])
    unlabelled = unlabelled_faces(config, schemas[0])
    margin = MARGIN if config.augment.is_geometric else 1.0
    if engine.is_global_zero:
        if val_faces is not None:
            say_measured_on((part.faces for mix in mixes for part in mix), val_faces, config.val_split)
        say_of_other_ways({str(p.faces.folder): p.faces for p in mixes[0] if isinstance(p.faces, FaceDataset)})
        for run in trained_arms(config.style):
            say_more_seen_than(mixes[0], f"style arm {run}", read_card(run, "translator"))
    else:
        engine.barrier()
    caches = [[open_cache(part.faces, config.crop, margin) for part in mix] for mix in mixes]
    unlabelled_cache = None if unlabelled is None else CropCache(unlabelled, config.crop, margin)
    styling = open_styling(config.style, config.crop, margin, caches, schemas, val_faces, engine.device)
    if engine.is_global_zero:
        engine.barrier()

    shares = [[part.share for part in mix] for mix in mixes]
    place_in_world = (engine.global_rank, engine.world_size)
    num_unlabelled = unlabelled_in_batch(loop.batch_size, config.teacher.share, engine.world_size) if unlabelled else 0
    sizes = head_batch_sizes(loop.batch_size - num_unlabelled, len(mixes) - 1, config.other_share)
    sources = [
        BatchSource(cache, share, num, loop.seed + 7919 * head, *place_in_world, order, [part.lean_px for part in mix])
        for head, (cache, share, num, order, mix) in enumerate(zip(caches, shares, sizes, orders, mixes, strict=True))
    ]
    unlabelled_source = None
    if unlabelled_cache is not None:
        unlabelled_source = BatchSource(
            [unlabelled_cache], [1.0], num_unlabelled, loop.seed + 15485863, *place_in_world
        )
    return Faces(
        mixes=mixes,
        schemas=schemas,
        mean_shapes=tuple(mean_shape(cache, share) for cache, share in zip(caches, shares, strict=True)),
        sources=sources,
        unlabelled=unlabelled,
        unlabelled_source=unlabelled_source,
        styling=styling,
        validation=Validation(val_faces, config.crop) if val_faces is not None and engine.is_global_zero else None,
    )
