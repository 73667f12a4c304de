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

from stylealign.data.formats.entry import Entry, ReadOptions, checked_face, folder_of, image_root, stem_of
from stylealign.errors import UserError

_MAT, _NUM_TRAIN = "AFLWinfo_release.mat", 20_000


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield every face in the order of the file; ids are `<image without suffix>#<row>` (an image may hold several)."""
    path = source if source.is_file() else folder_of(source) / _MAT
    if not path.exists():
        raise UserError(f"{path}: no such file, expected the 19-point annotation")
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    names = ("nameList", "data", "bbox", "mask_new", "ra")
    try:
        mat = loadmat(path, variable_names=names)
        images, data, boxes, mask, order = (mat[n] for n in names)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{path}: expected a MATLAB file with {', '.join(names)} ({error})") from None
    points = options.schema.num_points
    if (
        data.ndim != 2
        or data.shape[1] != 2 * points
        or boxes.shape != (len(data), 4)
        or mask.shape != (len(data), points)
    ):
        raise UserError(
            f"{path}: data {data.shape}, bbox {boxes.shape}, mask_new {mask.shape}, "
            f"expected {2 * points}, 4 and {points} columns"
        )
    train = set((np.asarray(order, dtype=np.int64).ravel()[:_NUM_TRAIN] - 1).tolist())
    root = image_root(folder_of(source), options, "data/flickr", "flickr", "images")
    for i, row in enumerate(data.astype(np.float64)):
        image = str(np.ravel(images.ravel()[i])[0])
        left, right, top, bottom = boxes[i].astype(np.float64)
        visible = mask[i] > 0
        yield checked_face(
            f"{path}: row {i + 1}", options, id=f"{stem_of(image)}#{i + 1}", image=root / image, root=root,
            landmarks=row.reshape(2, points).T, box_xyxy=np.array([left, top, right, bottom]), visible=visible,
            attributes={"frontal": bool(visible.all())}, split="train" if i in train else "test",
        )  # fmt: skip
