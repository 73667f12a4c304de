"""Re-express a data set in a mark-up none of whose points it had: those half-way between neighbours on its curves.

    python scripts/halfway_markup.py DATA OUT

For measuring what a second data set of another mark-up is worth (recipe 300w/study_dvln): 68 points become 63.
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema


def halfway(schema: LandmarkSchema) -> tuple[np.ndarray, LandmarkSchema]:
    """(M, 2) pairs of neighbours on the curves, and the mark-up of the points between them with its mirror twins."""
    curves = schema.boundaries.values()
    pairs = sorted({(min(a, b), max(a, b)) for curve in curves for a, b in itertools.pairwise(curve)})
    flip = schema.flip_permutation
    twin = [pairs.index(tuple(sorted((int(flip[a]), int(flip[b]))))) for a, b in pairs]  # type: ignore[arg-type]
    flips = tuple((i, j) for i, j in enumerate(twin) if i < j)
    return np.array(pairs), LandmarkSchema(name=f"{schema.name}_halfway", num_points=len(pairs), flip_pairs=flips)


def faces(source: FaceDataset, pairs: np.ndarray) -> Iterator[FaceSample]:
    """The labelled faces in the new mark-up. A new point is visible where both old ones are, and trusted as the less
    trusted of them."""
    for sample in source:
        if sample.landmarks is not None:
            yield dataclasses.replace(
                sample,
                landmarks=sample.landmarks[pairs].mean(axis=1),
                visible=None if sample.visible is None else sample.visible[pairs].all(axis=1),
                point_trust=None if sample.point_trust is None else sample.point_trust[pairs].min(axis=1),
            )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source = FaceDataset.open(Path(sys.argv[1]))
    pairs, schema = halfway(source.schema)
    write_dataset(Path(sys.argv[2]), faces(source, pairs), schema=schema, name=Path(sys.argv[2]).name)
    print(f"{len(pairs)} points half-way between the {source.schema.num_points} of {source.schema.name}: {sys.argv[2]}")
