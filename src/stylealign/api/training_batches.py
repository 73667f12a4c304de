"""Batches of a training for anybody's own loop: crops of a data set's faces, varied as `train-detector` varies them.

>>> import itertools
>>> from stylealign import training_batches
>>> for batch in itertools.islice(training_batches(donors, size=64, batch_size=4), 3):
...     shape = batch.image.shape, batch.landmarks.shape
>>> shape                                              # images in [-1, 1], landmarks in px of them
(torch.Size([4, 3, 64, 64]), torch.Size([4, 5, 2]))

Knows no network.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from stylealign.api.values import whole
from stylealign.batches.augment import MARGIN, AugmentConfig, augment
from stylealign.batches.batch import Batch
from stylealign.batches.crops import CropCache
from stylealign.batches.source import BatchSource
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face.crop import SIZES, CropConfig

_STREAM = 7  # of random numbers: the one of train-detector


def training_batches(
    faces: FaceDataset | Path | str,
    *,
    size: int = 128,
    scale: float = 1.4,
    batch_size: int = 32,
    augment_by: AugmentConfig | None = None,
    seed: int = 0,
    first: int = 0,
) -> Iterator[Batch]:
    """Batches without end: every face once an epoch, in a new order, cut out and varied (mirrored, turned, coloured).

    The first call cuts all crops into the cache (`STYLEALIGN_CACHE`, or the system's temporary folder).

    Args:
        faces: a data set or its folder. Where some faces are of the split `train`, those are taken and no others;
            `faces.select("val")` has none of them, and is taken as it is.
        size: side of the crops, px.
        scale: side of the crop over that of the landmarks' box.
        batch_size: faces in each.
        augment_by: what may happen to a face, such as `AugmentConfig(flip=True, rotation=15)` of
            `stylealign.batches.augment`; None: what `train-detector` does where nothing is said. Mirrored faces have
            their landmarks renumbered.
        seed: each batch is a function of the faces, the arguments and its number alone.
        first: number of the first batch, to go on from.

    Yields:
        `image` (B, 3, size, size) RGB in [-1, 1], `landmarks` (B, P, 2) px of that, NaN where a point is missing,
        `visible` (B, P), `weights()` (B, P) of each landmark in a loss (a face's trust times its points'), and
        `crop_from_source` (B, 2, 3), whose inverse takes landmarks back to the picture.

    Raises:
        UserError: no face, or a folder that holds none.
        ValueError: a size, scale, batch size, seed or first number that is none.
    """
    opened = FaceDataset.open(faces) if isinstance(faces, Path | str) else faces
    faces = opened.training_faces()  # a data set opened and given as a whole has its test faces with it
    if not len(faces):
        raise UserError("training batches: no face; expected a data set with some")
    config, crop = augment_by or AugmentConfig(), CropConfig(size=whole(size, "size", SIZES[0]), scale=scale)
    batch_size, seed, first = whole(batch_size, "batch_size", 1), whole(seed, "seed", 0), whole(first, "first", 0)
    return _batches(faces, crop, config, batch_size, seed, first)


def _batches(
    faces: FaceDataset, crop: CropConfig, config: AugmentConfig, batch_size: int, seed: int, number: int
) -> Iterator[Batch]:
    source = BatchSource([CropCache(faces, crop, MARGIN if config.is_geometric else 1.0)], [1.0], batch_size, seed)
    while True:
        drawn = int(np.random.default_rng((seed, number, 0, _STREAM)).integers(2**62))
        generator = torch.Generator().manual_seed(drawn)
        yield augment(source.batch(number), crop.size, config, generator, faces.schema)
        number += 1
