"""Pictures of a data set for the report: some faces of each split, cut round the face. Knows no page and no tensors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset, evenly_spread
from stylealign.data.image import encode_image, read_image, warp
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import contact_sheet
from stylealign.face.geometry import landmark_box
from stylealign.face.orientation import shown_crop_affine
from stylealign.face.sample import FaceSample

SHOWN = 8  # faces of a split
TILE, SCALE = 112, 1.6
MOST_SPLITS = 6


def _cut(sample: FaceSample) -> np.ndarray:
    """(TILE, TILE, 3) uint8: the face, or the whole picture where nobody says where the face is."""
    image = read_image(sample.image)
    points = None if sample.landmarks is None else sample.landmarks[~sample.missing_points]
    box, scale = (landmark_box(points) if points is not None and len(points) else sample.box_xyxy), SCALE
    if box is None or not (box[2:] > box[:2]).all():
        box, scale = np.array([0, 0, image.shape[1], image.shape[0]], float) - 0.5, 1.0
    return warp(image, shown_crop_affine(sample.orientation, box, scale, TILE), TILE)


def faces_by_split(folder: Path) -> Iterator[tuple[str, bytes]]:
    """A caption and a JPEG for each split of a data set: SHOWN faces, evenly spaced. Nothing of what cannot be read."""
    try:
        dataset = FaceDataset.open(folder)
        splits = [(name, dataset.select(name)) for name in list(dataset.meta["splits"])[:MOST_SPLITS]]
    except UserError:  # what is wrong with a data set is told by `check`; its figures stand here all the same
        return
    for name, faces in splits:
        places = evenly_spread(len(faces), SHOWN)
        tiles, labelled = [], 0
        for i in places:
            try:
                sample = faces[int(i)]
                tiles.append(_cut(sample))
                labelled += sample.landmarks is not None
            except UserError:
                continue
        if tiles:
            without = "" if labelled else ", without labels"
            caption = f"Split {name}: {counted(len(faces), 'face')}{without}"
            yield caption, encode_image(contact_sheet(tiles, SHOWN), ".jpg", 90)
