"""Our own dataset folder (format 1) as a source: to merge, convert to another mark-up, re-split or copy.

Nothing of a face is lost.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, inspect_image
from stylealign.data.placed import face_problem
from stylealign.data.rows import file_digest
from stylealign.face.schema import LandmarkSchema


def schema(source: Path) -> LandmarkSchema:
    """The mark-up that a dataset folder holds."""
    return FaceDataset.open(source).schema


def image_root(source: Path) -> Path:
    """The folder that its pictures are named relative to."""
    return FaceDataset.open(source).image_root


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield the faces of a dataset folder in its order."""
    dataset = FaceDataset.open(source)
    for i, sample in enumerate(dataset):
        size_wh = inspect_image(sample.image, options)
        problem = size_wh if isinstance(size_wh, str) else face_problem(sample, size_wh)
        if problem is None and file_digest(sample.image) != dataset.head(i)["digest"]:
            problem = f"{sample.image}: has changed since the data set was made, expected the picture it was made of"
        if problem is not None:
            yield BadEntry(f"{source / 'index.jsonl'}:{dataset.row_number(i) + 1}", problem, sample.id)
        else:
            yield sample if options.split is None else dataclasses.replace(sample, split=options.split)
