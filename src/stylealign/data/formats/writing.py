"""What every writer of a format is given and needs: options, faces split by split, pictures put into the layout.

The counterpart of entry.py, which is what readers are given. This file knows no format.
"""

import dataclasses
import itertools
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.declared_size import Size, shown
from stylealign.data.formats.entry import split_of, turn_of
from stylealign.data.image import image_size
from stylealign.data.paths import inside
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.orientation import map_box
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say, track


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteOptions:
    """How to write a data set."""

    images: Literal["copy", "link"] = "copy"
    """Copy the pictures, or make symbolic links to them."""
    frame: int | None = None
    """`list` only: side of the square frame that coordinates are written in; None: pixels of the picture."""


class Pictures:
    """Puts each picture once below a folder, under a name without blanks, since most lists are split at blanks."""

    def __init__(self, folder: Path, dataset: FaceDataset, options: WriteOptions):
        self._folder, self._root, self._mode = folder, dataset.image_root, options.images
        self._names: dict[tuple[Path, str], str] = {}
        self._taken: set[str] = set()

    def name_of(self, image: Path, name: str | None = None, within: str = "") -> str:
        """Put a picture below the folder, unless it is there; returns its path below it, with '/'.

        `name`, if given, is the path to use, without suffix: the picture is then put there even if it is there by
        another name. `within` names a folder to put it in; no other picture in it has its name but for the suffix, so
        that a file of labels may.
        """
        if name is None and (image, within) in self._names:
            return self._names[image, within]
        path = inside(self._root, image, "a picture to write")
        base = name if name is not None else path.relative_to(self._root).with_suffix("").as_posix()
        base = re.sub(r"\s", "_", base)
        base = f"{within}/{base}" if within else base
        result, n, suffix = f"{base}{image.suffix}", 1, "" if within else image.suffix
        key = f"{base}{suffix}"
        while key in self._taken:
            result, key, n = f"{base}_{n}{image.suffix}", f"{base}_{n}{suffix}", n + 1
        self._taken.add(key)
        self._names[image, within] = result
        target = inside(self._folder, result, "a picture to write")
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._mode == "link":
            os.symlink(os.path.abspath(image), target)
        else:
            shutil.copyfile(image, target)
        return result


def landmarks_of(sample: FaceSample) -> np.ndarray:
    """(P, 2) float64 px of a labelled face."""
    assert sample.landmarks is not None  # writers are given labelled faces only
    return sample.landmarks.astype(np.float64)


def whole_landmarks_of(sample: FaceSample, layout: str) -> np.ndarray:
    """`landmarks_of` for a layout that cannot say of a landmark that it is missing; UserError where one is."""
    missing = np.flatnonzero(sample.missing_points)
    if missing.size:
        raise UserError(
            f"face '{sample.id}': {counted(missing.size, 'landmark is missing', 'landmarks are missing')}, the first "
            f"is {missing[0]}, which {layout} cannot say; expected another --format (coco, csv, ibug), or a --subset "
            "of faces with all"
        )
    return landmarks_of(sample)


def box_of(sample: FaceSample) -> np.ndarray:
    """(4,) float64 px x0 y0 x1 y1: a face's own box, or that of its landmarks that are there."""
    if sample.box_xyxy is None:
        return geometry.landmark_box(landmarks_of(sample)[~sample.missing_points])
    return sample.box_xyxy.astype(np.float64)


class Shown(NamedTuple):
    """A picture's faces in a tool that shows pictures as EXIF turns them."""

    size: Size
    faces: list[FaceSample]
    """Their landmarks and boxes in px of the picture as shown"""


def as_shown(faces: list[FaceSample]) -> Shown:
    """What such a tool's file has of the faces of one picture, whose numbers count stored pixels."""
    image = faces[0].image
    turn, stored = turn_of(image), image_size(image)
    if turn == 1:
        return Shown(stored, faces)
    affine, size = shown(stored, turn)
    return Shown(
        size,
        [
            dataclasses.replace(
                face,
                landmarks=None if face.landmarks is None else geometry.apply(affine, landmarks_of(face)),
                box_xyxy=None if face.box_xyxy is None else map_box(affine, box_of(face)),
            )
            for face in faces
        ],
    )


def decimals(landmarks: np.ndarray, places: int = 6) -> list[str]:
    """(P, 2) -> 2 P numbers as text, x and y by turns, with this many decimal places."""
    return [f"{v:.{places}f}" for v in landmarks.ravel()]


def by_split(dataset: FaceDataset, by_name: bool = False) -> Iterator[tuple[str, Iterator[FaceSample]]]:
    """(split, its faces) of a data set, in the order in which splits first come; progress is displayed.

    `by_name`: the layout tells a split by the name of a file or folder alone; those that are no such are said.
    Raises UserError, before it gives the first, where a split's name could not be a file's name in a folder.
    """
    splits: dict[str, list[int]] = {}
    for i in range(len(dataset)):
        splits.setdefault(dataset.head(i)["split"], []).append(i)
    for split in splits:
        inside(dataset.folder, f"{split}.txt", f"{dataset.folder}: split {split!r} is to name a file")
    for split in splits:
        if by_name and split_of(split) != split:
            say(
                f"split '{split}' is told by a name alone, which our reader takes for {split_of(split)}; read its "
                f"file or folder alone, with --split {shlex.quote(split)}"
            )
    for split, rows in splits.items():
        yield split, track(dataset.take(rows), f"writing {split}", len(rows))


def by_picture(faces: Iterable[FaceSample]) -> Iterator[tuple[Path, list[FaceSample]]]:
    """(picture, its faces) of faces, in the order in which pictures first come."""
    pictures: dict[Path, list[FaceSample]] = {}
    for face in faces:
        pictures.setdefault(face.image, []).append(face)
    yield from pictures.items()


def names_of(schema: LandmarkSchema) -> tuple[str, ...]:
    """What a layout that names points calls each landmark: as the mark-up does, else by its name and number."""
    return schema.point_names or tuple(f"{schema.name}_{i}" for i in range(schema.num_points))


def padded_names_of(schema: LandmarkSchema) -> tuple[str, ...]:
    """The same with numbers of one length, for a tool that sorts names as texts."""
    width = len(str(schema.num_points - 1))
    return schema.point_names or tuple(f"{schema.name}_{i:0{width}}" for i in range(schema.num_points))


def file_below(folder: Path, name: str, suffix: str) -> Path:
    """The path of an output for the picture `name`: its path below `folder`, of another suffix; its folder is made.

    Where another picture, `a.png` beside `a.jpg`, has that already, it is the whole name and the suffix, or that and a
    number.
    """
    safe = name_below(name)
    return unused_below(folder, [str(PurePosixPath(safe).with_suffix("")), safe], suffix)


def name_below(name: str) -> str:
    """A relative path for a picture's name that leads nowhere else."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in ("/", "..", ".")) or "picture"


def unused_below(folder: Path, names: Sequence[str], suffix: str) -> Path:
    """The first path of these names that no output has yet, else the last name and a number; its folder is made."""
    further = (f"{names[-1]}~{number}" for number in itertools.count(2))
    path = next(p for name in itertools.chain(names, further) if not (p := folder / f"{name}{suffix}").exists())
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a UTF-8 text file of lines that end in LF; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
