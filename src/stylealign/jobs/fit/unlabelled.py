"""Pictures without labels that lie beside the labelled ones: some of them, chosen by name, so that memory and time do
not grow with their number, as a data set whose faces are placed as the labelled ones can be found."""

import hashlib
import heapq
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import DatasetWriter
from stylealign.data.once import KnownPictures
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.finders import Finder
from stylealign.predicting.places import How, placed


def some_of(
    pictures: Iterator[Path], root: Path, most: int, known: KnownPictures | Collection[Path]
) -> tuple[list[Path], int]:
    """(some pictures, sorted; how many there are) of those that are not among the `known` ones: at most so many, whose
    path below `root` has the smallest hash, whatever order they come in."""
    heap: list[tuple[int, str]] = []
    count = 0
    for path in pictures:
        if path in known:
            continue
        count += 1
        name = path.relative_to(root).as_posix()
        key = -int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big")
        (heapq.heappush if len(heap) < most else heapq.heappushpop)(heap, (key, name))
    return sorted(root / name for _, name in heap), count


def write_unlabelled(
    pictures: list[Path], root: Path, out: Path, schema: LandmarkSchema, how: How, finder: Finder, scale: float
) -> int:
    """Write the pictures in which a face can be placed as a data set; returns how many. None: nothing is written."""
    samples = (FaceSample(id=path.relative_to(root).as_posix(), image=path, split="unlabelled") for path in pictures)
    found = placed(samples, how, finder, scale)
    first = next(found, None)
    if first is None:
        return 0
    with DatasetWriter(
        out, schema=schema, image_root=root, source=f"unlabelled pictures of {root}",
        how={"command": "fit"},
    ) as writer:  # fmt: skip
        writer.add(first)
        for sample in found:
            writer.add(sample)
    return len(FaceDataset.open(out))
