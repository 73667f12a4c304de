"""300-W's face boxes: `bounding_boxes_<set>[_<part>].mat`, MATLAB files that come apart from the pictures.

    bounding_boxes   a cell a face: imgName, bb_detector and bb_ground_truth, each x0 y0 x1 y1

`bounding_boxes_lfpw_trainset.mat` is about lfpw/trainset. `bb_detector`, which a detector gave, is the face's box;
`bb_ground_truth` is the landmarks' own, which anybody can compute.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stylealign.data.formats.notes import Notes
from stylealign.data.matlab import read_mat
from stylealign.errors import UserError, counted

_PREFIX, _VARIABLE = "bounding_boxes_", "bounding_boxes"
_EXPECTED = "a structure of imgName, a text, and bb_detector, x0 y0 x1 y1"


class _File(NamedTuple):
    set: str
    """afw, helen, ibug, lfpw"""
    part: str
    """trainset, testset, or nothing"""
    boxes: dict[str, np.ndarray]
    """a picture's name, see `_key` -> (4,) box"""


def _key(name: str) -> str:
    """A picture's name as both sides may write it: without suffix, blanks and capitals."""
    return Path(name).stem.replace(" ", "").lower()


def _read(path: Path) -> dict[str, np.ndarray]:
    """The detector's box of every picture of a file."""
    found: dict[str, np.ndarray] = {}
    for number, cell in enumerate(read_mat(path, [_VARIABLE], structures=True)[_VARIABLE].ravel(order="F"), start=1):
        face: Any = cell.item() if isinstance(cell, np.ndarray) and cell.size == 1 else cell
        name, box = (face.get(key) for key in ("imgName", "bb_detector")) if isinstance(face, dict) else (None, None)
        if name is None or box is None or name.dtype.kind != "U" or name.size != 1 or box.dtype.kind not in "iuf":
            raise UserError(f"{path}: cell {number} of {_VARIABLE} is another thing than {_EXPECTED}")
        if box.size != 4:
            raise UserError(f"{path}: cell {number} of {_VARIABLE}: a box of {counted(box.size, 'number')}, expected 4")
        found[_key(str(name.item()))] = box.ravel().astype(np.float64) - 1  # MATLAB counts from 1
    return found


class Boxes:
    """The boxes of every bounding-box file below a source."""

    def __init__(self, source: Path, notes: Notes):
        self._notes = notes
        self._files = []
        for path in sorted(source.rglob(f"{_PREFIX}*.mat")):
            name, _, part = path.stem.removeprefix(_PREFIX).lower().partition("_")
            self._files.append(_File(name, part, _read(path)))

    def of(self, face: str) -> np.ndarray | None:
        """The (4,) box of a face, named by its picture's path below the source; None where no file has one for it."""
        if not self._files:
            return None
        *folders, name = face.lower().split("/")
        mine = [file for file in self._files if file.set in folders and _key(f"{name}.x") in file.boxes]
        if any(file.part in folders for file in mine):
            mine = [file for file in mine if file.part in folders]
        if len(mine) == 1:
            return mine[0].boxes[_key(f"{name}.x")]
        what = "stand in several bounding-box files: their" if mine else "stand in no bounding-box file: their"
        self._notes.add(f"faces {what} landmarks' box is all there is", face)
        return None
