"""300W-LP and AFLW2000-3D (Zhu et al., CVPR 2016): a .mat beside each picture, points of a fitted 3D face.

    AFW/AFW_134212_1_0.{jpg,mat}    300W-LP: `pt2d` (2, 68); faces turned further have _1, _2, ... at the end
    image00002.{jpg,mat}            AFLW2000-3D: `pt3d_68` (3, 68) of the fitted face, `pt2d` (2, 21) placed by hand

The mark-up decides which is read: 68 points are `pt2d` where it has so many, else `pt3d_68` without its depth; a
mark-up of 21 points of your own reads AFLW2000-3D's `pt2d`. MATLAB counts from 1, as the authors' own drawing of the
points does, so 1 is subtracted; a point `-1 -1` is missing.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face, split_of
from stylealign.data.formats.files import Beside, with_suffix
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.data.matlab import read_mat
from stylealign.errors import UserError, counted

_VARIABLES = ("pt2d", "pt3d_68")


def _points(path: Path, count: int) -> np.ndarray | str:
    """(P, 2) numbers as the file has them, of the first variable with so many points; or what is wrong."""
    found: list[str] = []
    for name in _VARIABLES:
        try:
            values = read_mat(path, (name,))[name]
        except UserError as error:
            if found and "no pt3d_68 in it" in str(error):
                break
            return str(error).removeprefix(f"{path}: ")
        if values.shape in ((2, count), (3, count)) and values.dtype.kind in "iuf":
            return values[:2].T.astype(np.float64)
        found.append(f"{name} of {' x '.join(map(str, values.shape))}")
    return f"found {' and '.join(found)}, expected 2 x {count} or 3 x {counted(count, 'number')}"


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face for every .mat with a picture beside it, in sorted order. Ids are paths without suffix."""
    files = with_suffix(source, ".mat", deep=True) if source.is_dir() else []
    if not files:
        raise UserError(f"{source}: found no .mat file in it or below it, expected one beside each picture")
    images, any_face = Beside(IMAGE_SUFFIXES), False
    for path in files:
        relative = path.relative_to(source)
        found = images.of(path)
        if not found:
            options.notes.add(".mat files without a picture beside them passed over", relative.as_posix())
            continue
        any_face = True
        face = relative.with_suffix("").as_posix()
        if len(found) > 1:
            yield BadEntry(
                str(path), f"several images beside it: {', '.join(p.name for p in found)}, expected one", face
            )
            continue
        numbers = _points(path, options.schema.num_points)
        if isinstance(numbers, str):
            yield BadEntry(str(path), numbers, face)
            continue
        yield checked_face(
            str(path), options, id=face, image=found[0], root=source, landmarks=numbers - 1, numbers=numbers,
            split=split_of(relative.parent.as_posix()),
        )  # fmt: skip
    if not any_face:
        raise UserError(f"{source}: {counted(len(files), '.mat file')} and no picture beside one, expected both")
