"""MERL-RAV (Kumar et al., CVPR 2020): AFLW's pictures with 68 points, the sign of which tells what hides them.

    merl_rav_organized/{frontal,left,lefthalf,right,righthalf}/{trainset,testset}/image00012.{pts,jpg}

`x y` is seen, `-x -y` is hidden by a thing and lies at x, y, `-1 -1` is hidden by the head itself: nobody placed it,
so it is missing. The folder of the pose is an attribute. Pixels are counted from 1, as in other `.pts` files of these
68 points; the data set's page does not say.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face, split_of
from stylealign.data.formats.files import Beside, with_suffix
from stylealign.data.formats.ibug import image_of, parse_pts
from stylealign.data.formats.missing import missing_in
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.errors import UserError, counted

POSES = ("frontal", "left", "lefthalf", "right", "righthalf")


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face for every `.pts` file below the folder, in sorted order. Ids are paths without suffix."""
    files = with_suffix(source, ".pts", deep=True) if source.is_dir() else []
    if not files:
        raise UserError(f"{source}: found no .pts file in it or below it, expected the folder merl_rav_organized")
    if not with_suffix(source, *IMAGE_SUFFIXES, deep=True):
        raise UserError(
            f"{source}: {counted(len(files), '.pts file')} and no picture, expected both: these are the labels "
            "alone, which the "
            "data set's own script (organize_merl_rav_...) puts beside AFLW's pictures"
        )
    images = Beside(IMAGE_SUFFIXES)
    for pts in files:
        relative = pts.relative_to(source)
        face = relative.with_suffix("").as_posix()
        parsed = parse_pts(pts)
        image = image_of(pts, images)
        if isinstance(parsed, BadEntry) or isinstance(image, str):
            yield (
                BadEntry(parsed.where, parsed.message, face)
                if isinstance(parsed, BadEntry)
                else BadEntry(str(pts), str(image), face)
            )
            continue
        numbers, first = parsed
        hidden = (numbers < 0).all(axis=1) & ~missing_in(numbers)
        placed = np.where(hidden[:, None], -numbers, numbers) - 1
        parts = relative.parts
        yield checked_face(
            first, options, id=face, image=image, root=source, landmarks=placed, numbers=numbers, visible=~hidden,
            attributes={pose: pose in parts for pose in POSES} if set(POSES) & set(parts) else {},
            split=split_of(relative.parent.as_posix()),
        )  # fmt: skip
