"""300-W and everything else in `.pts` files: one file a face beside its image, coordinates counted from 1 as in MATLAB.

    version: 1          the header and the braces may be missing: then the file is one `x y` a line
    n_points: 68
    {
    46.184 63.475
    }

A point `-1 -1` or `0 0` is missing. MERL-RAV writes those that a thing hides as negative numbers: a point far to the
left of and above the face, whose positive numbers lie in it, is such a one.

The folder tells the split: `testset` and `ibug` are test, everything else (`afw`, `trainset`) is train, as in the
300-W challenge.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face, lines_of, numbers_of, split_of
from stylealign.data.formats.files import Beside, with_suffix
from stylealign.data.formats.ibug_boxes import Boxes
from stylealign.data.formats.missing import missing_in
from stylealign.data.formats.writing import (
    Pictures,
    WriteOptions,
    by_split,
    landmarks_of,
    name_below,
    unused_below,
    write_lines,
)
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

_SUFFIX = ".pts"
_NEAR = 0.25
"""Of the longer side of a face's other points: how near to them a point outside of the picture may be."""


def parse_pts(path: Path) -> tuple[np.ndarray, str] | BadEntry:
    """(P, 2) coordinates as written (counted from 1) and the file:line of the first, or the bad line."""
    points: list[np.ndarray] = []
    first, announced, opened, closed = "", None, False, False
    for number, text in lines_of(path):
        where = f"{path}:{number}"
        key, colon, value = text.partition(":")
        if colon and not points:
            if key.strip().lower() == "n_points":
                if not value.strip().isdigit():
                    return BadEntry(where, f"n_points is {value.strip()!r}, expected a whole number")
                announced = int(value)
            continue
        if text in "{}":
            opened, closed = opened or text == "{", closed or text == "}"
            continue
        if closed:
            return BadEntry(where, f"found {text[:40]!r} after the closing brace, expected nothing")
        tokens = text.replace(",", " ").split()
        values = numbers_of(tokens)
        if len(tokens) != 2 or isinstance(values, str):
            return BadEntry(where, f"found {text[:60]!r}, expected two numbers x y")
        first = first or where
        points.append(values)
    if opened and not closed:
        return BadEntry(str(path), f"{counted(len(points), 'point')} and no closing brace: the file is cut short")
    if announced is not None and announced != len(points):
        return BadEntry(str(path), f"{counted(len(points), 'point')}, expected {announced} as its n_points says")
    if not points:
        return BadEntry(str(path), "no points in it")
    return np.stack(points), first


def recognise(path: Path) -> bool:
    """Whether it is a folder with a .pts file in it or below it."""
    return path.is_dir() and any(p.suffix.lower() == _SUFFIX for p in path.rglob("*"))


def count_points(source: Path) -> int:
    """Landmarks a face, of all .pts files below a folder that can be read. Raises UserError where they disagree."""
    counts: Counter[int] = Counter()
    examples: dict[int, Path] = {}
    for pts in with_suffix(source, _SUFFIX, deep=True):
        found = parse_pts(pts)
        if not isinstance(found, BadEntry):
            counts[len(found[0])] += 1
            examples.setdefault(len(found[0]), pts)
    if not counts:
        raise UserError(f"{source}: no readable .pts file in it or below it")
    if len(counts) > 1:
        found_in = ", ".join(
            f"{points} in {counted(files, 'file')} such as {examples[points]}" for points, files in counts.most_common()
        )
        raise UserError(f"{source}: numbers of points differ: {found_in}; expected one number in all")
    return next(iter(counts))


def image_of(pts: Path, images: Beside) -> Path | str:
    """The one image beside a .pts file, or what is wrong."""
    found = images.of(pts)
    if not found:
        return f"no such image {pts.with_suffix('.jpg')} (or another suffix) beside it"
    if len(found) > 1:
        return f"several images beside it: {', '.join(p.name for p in found)}, expected one"
    return found[0]


def _positive(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) numbers of a file without MERL-RAV's minus signs, and (P,) bool: the points that had them.

    A point left of and above the picture has two negative numbers too. It lies near the rest of its face, where a
    hidden one's would not; once a face has a point that can only be a hidden or a missing one, all are.
    """
    negative = (numbers < 0).all(axis=1)
    missing = missing_in(numbers)
    others = numbers[~negative & ~missing]
    doubtful = negative & ~missing
    if not doubtful.any() or len(others) < 2:
        return numbers, np.zeros(len(numbers), dtype=bool)
    low, high = others.min(axis=0), others.max(axis=0)
    margin = _NEAR * float((high - low).max())

    def away(points: np.ndarray) -> np.ndarray:
        return np.maximum(np.maximum(low - points, points - high), 0).max(axis=1)

    hidden = doubtful & (away(numbers) > margin) & (away(-numbers) <= margin)
    if hidden.any() or (missing & negative).any():
        hidden = doubtful
    return np.where(hidden[:, None], -numbers, numbers), hidden


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face for every `.pts` file below the folder, in sorted order. Ids are paths without suffix."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder, expected one with .pts files and their images below it")
    files = with_suffix(source, _SUFFIX, deep=True)
    if not files:
        raise UserError(f"{source}: found no .pts file in it or below it")
    images, beside, read_before = Beside(IMAGE_SUFFIXES), Beside((_SUFFIX,)), set[str]()
    boxes = Boxes(source, options.notes)
    for pts in files:
        relative = pts.relative_to(source)
        face = relative.with_suffix("").as_posix()
        if face in read_before:
            yield BadEntry(str(pts), f"the face stands twice: {', '.join(p.name for p in beside.of(pts))}", face)
            continue
        read_before.add(face)
        parsed = parse_pts(pts)
        if isinstance(parsed, BadEntry):
            yield BadEntry(parsed.where, parsed.message, face)
            continue
        image = image_of(pts, images)
        if isinstance(image, str):
            yield BadEntry(str(pts), image, face)
            continue
        numbers, first = parsed
        positive, hidden = _positive(numbers)
        if hidden.any():
            options.notes.add("faces have points with two negative numbers, read as hidden (MERL-RAV's way)", face)
        split = split_of(relative.parent.as_posix())
        yield checked_face(
            first, options, id=face, image=image, root=source, landmarks=positive - 1, numbers=numbers, split=split,
            visible=~hidden if hidden.any() else None, box_xyxy=boxes.of(face),
        )  # fmt: skip
    for image in with_suffix(source, *IMAGE_SUFFIXES, deep=True):
        if not beside.of(image):
            options.notes.add("pictures without a .pts beside them passed over", str(image.relative_to(source)))


def pts_text(sample: FaceSample) -> str:
    """The text of a face's .pts file, which counts from 1; a missing landmark is -1 -1."""
    landmarks = landmarks_of(sample)
    points = "".join(
        "-1 -1\n" if gone else f"{x:.6f} {y:.6f}\n"
        for (x, y), gone in zip(landmarks + 1, sample.missing_points, strict=True)
    )
    return f"version: 1\nn_points: {len(landmarks)}\n{{\n{points}}}\n"


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write <split>/<face>.pts beside its picture, and the pictures' names in splits/<split>.txt."""
    pictures = Pictures(folder, dataset, options)
    for split, samples in by_split(dataset, by_name=True):
        names = []
        for sample in samples:
            # a .pts belongs to an image by its name, so every face gets an image of its own
            parts = [part for part in Path(sample.id).parts if part not in ("..", "/")]
            safe = "/".join(parts)
            if split_of("/".join([split, *parts[:-1]])) != split_of(split):  # test/a of split train
                safe = "_".join(parts)
            names.append(pictures.name_of(sample.image, safe, within=split))
            (folder / names[-1]).with_suffix(".pts").write_text(pts_text(sample), encoding="ascii")
        write_lines(folder / "splits" / f"{split}.txt", names)


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write pts/<picture>.pts a face; a second face of `a.jpg` is `a#2.pts`. No name leads out of pts/."""
    for face in faces:
        bare = face.image.with_suffix("").as_posix() + face.id.removeprefix(face.image.as_posix())
        path = unused_below(folder / "pts", [name_below(bare), name_below(face.id)], ".pts")  # a.jpg and a.png
        path.write_text(pts_text(face), encoding="ascii")
