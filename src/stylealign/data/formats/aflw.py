"""AFLW with 19 points (Zhu et al., CVPR 2016's revision): AFLWinfo_release.mat beside the Flickr pictures of AFLW.

    AFLWinfo_release.mat   nameList, data (N, 38: 19 x then 19 y), bbox (N, 4: left right top bottom),
                           mask_new (N, 19: visible), ra (a permutation counted from 1: its first 20,000 are train,
                           the rest test)
    data/flickr/{0,2,3}/   pictures (also found as flickr/, images/ or directly in the folder)

Coordinates are used as published: where their pixels count from is not documented. The subset `frontal` has all
points visible.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylealign.data.formats.entry import (
    BadEntry,
    Entry,
    ReadOptions,
    checked_face,
    folder_of,
    image_root,
    stem_of,
)
from stylealign.data.matlab import read_mat
from stylealign.errors import UserError, counted

_MAT, _NUM_TRAIN = "AFLWinfo_release.mat", 20_000
_NAMES = ("nameList", "data", "bbox", "mask_new", "ra")


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield every face in the order of the file; ids are `<image without suffix>#<row>` (an image may hold several)."""
    path = source if source.is_file() else folder_of(source) / _MAT
    if not path.exists():
        raise UserError(f"{path}: no such file, expected the 19-point annotation")
    mat = read_mat(path, _NAMES)
    images, data, boxes, mask, order = (mat[n] for n in _NAMES)
    points = options.schema.num_points
    if (
        data.ndim != 2
        or data.shape[1] != 2 * points
        or boxes.shape != (len(data), 4)
        or mask.shape != (len(data), points)
        or images.size != len(data)
    ):
        raise UserError(
            f"{path}: nameList {images.shape}, data {data.shape}, bbox {boxes.shape}, mask_new {mask.shape}, "
            f"expected as many names as rows, {2 * points}, 4 and {counted(points, 'column')}"
        )
    if (
        any(values.dtype.kind not in "iuf" for values in (data, boxes, mask, order))
        or not (np.abs(order) < 2**53).all()
    ):
        raise UserError(f"{path}: data, bbox, mask_new or ra holds something else than numbers, expected numbers")
    train = set((np.asarray(order, dtype=np.int64).ravel()[:_NUM_TRAIN] - 1).tolist())
    root = image_root(folder_of(source), options, "data/flickr", "flickr", "images")
    for i, row in enumerate(data.astype(np.float64)):
        name = np.ravel(images.ravel()[i])
        if name.dtype.kind != "U" or len(name) != 1:
            yield BadEntry(f"{path}: row {i + 1}", "its name in nameList is no text, expected a picture's")
            continue
        image = str(name[0])
        left, right, top, bottom = boxes[i].astype(np.float64)
        visible = mask[i] > 0
        yield checked_face(
            f"{path}: row {i + 1}", options, id=f"{stem_of(image)}#{i + 1}", image=root / image, root=root,
            landmarks=row.reshape(2, points).T, box_xyxy=np.array([left, top, right, bottom]), visible=visible,
            attributes={"frontal": bool(visible.all())}, split="train" if i in train else "test",
        )  # fmt: skip
