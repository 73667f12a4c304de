"""300-W and everything else in `.pts` files: one file a face beside its image, coordinates counted from 1 as in MATLAB.

    version: 1          the header and the braces may be missing: then the file is one `x y` a line
    n_points: 68
    {
    46.184 63.475
    }

The folder tells the split: `testset` and `ibug` are test, everything else (`afw`, `trainset`) is train, as in the
300-W challenge.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import BadEntry, Entry, ReadOptions, checked_face, lines_of, numbers_of, split_of
from stylealign.data.formats.writing import Pictures, WriteOptions, by_split, landmarks_of, write_lines
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema


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
        return BadEntry(str(path), f"{len(points)} points and no closing brace: the file is cut short")
    if announced is not None and announced != len(points):
        return BadEntry(str(path), f"{len(points)} points, expected {announced} as its n_points says")
    if not points:
        return BadEntry(str(path), "no points in it")
    return np.stack(points), first


def recognise(path: Path) -> bool:
    """Whether it is a folder with a .pts file in it or below it."""
    return path.is_dir() and next(path.rglob("*.pts"), None) is not None


def count_points(source: Path) -> int:
    """Landmarks a face, of all .pts files below a folder that can be read. Raises UserError where they disagree."""
    counts: Counter[int] = Counter()
    examples: dict[int, Path] = {}
    for pts in sorted(source.rglob("*.pts")):
        found = parse_pts(pts)
        if not isinstance(found, BadEntry):
            counts[len(found[0])] += 1
            examples.setdefault(len(found[0]), pts)
    if not counts:
        raise UserError(f"{source}: no readable .pts file in it or below it")
    if len(counts) > 1:
        found_in = ", ".join(
            f"{points} in {files} files such as {examples[points]}" for points, files in counts.most_common()
        )
        raise UserError(f"{source}: numbers of points differ: {found_in}; expected one number in all")
    return next(iter(counts))


def _image_of(pts: Path) -> Path | str:
    suffixes = [s for lower in IMAGE_SUFFIXES for s in (lower, lower.upper())]
    found = [p for s in suffixes if (p := pts.with_suffix(s)).exists()]
    if not found:
        return f"no such image {pts.with_suffix('.jpg')} (or another suffix) beside it"
    if len({p.name.lower() for p in found}) > 1:
        return f"several images beside it: {', '.join(p.name for p in found)}, expected one"
    return found[0]


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face for every `.pts` file below the folder, in sorted order. Ids are paths without suffix."""
    if not source.is_dir():
        raise UserError(f"{source}: no such folder, expected one with .pts files and their images below it")
    found = False
    for pts in sorted(source.rglob("*.pts")):
        found = True
        relative = pts.relative_to(source)
        face = relative.with_suffix("").as_posix()
        parsed = parse_pts(pts)
        if isinstance(parsed, BadEntry):
            yield BadEntry(parsed.where, parsed.message, face)
            continue
        image = _image_of(pts)
        if isinstance(image, str):
            yield BadEntry(str(pts), image, face)
            continue
        landmarks, first = parsed
        split = split_of(relative.parent.as_posix())
        yield checked_face(first, options, id=face, image=image, root=source, landmarks=landmarks - 1, split=split)
    if not found:
        raise UserError(f"{source}: found no .pts file in it or below it")


def pts_text(landmarks: np.ndarray) -> str:
    """The text of a .pts file, which counts from 1, of (P, 2) px counted from 0."""
    points = "".join(f"{x:.6f} {y:.6f}\n" for x, y in landmarks + 1)
    return f"version: 1\nn_points: {len(landmarks)}\n{{\n{points}}}\n"


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write <split>/<face>.pts beside its picture, and the pictures' names in splits/<split>.txt."""
    pictures = Pictures(folder, dataset, options)
    for split, samples in by_split(dataset):
        names = []
        for sample in samples:
            # a .pts belongs to an image by its name, so every face gets an image of its own
            safe = "/".join(part for part in Path(sample.id).parts if part not in ("..", "/"))
            names.append(pictures.name_of(sample.image, f"{split}/{safe}"))
            (folder / names[-1]).with_suffix(".pts").write_text(pts_text(landmarks_of(sample)), encoding="ascii")
        write_lines(folder / "splits" / f"{split}.txt", names)


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write pts/<picture>.pts a face; a second face of `a.jpg` is `a#2.pts`. No name leads out of pts/."""
    for face in faces:
        bare = face.image.with_suffix("").as_posix() + face.id.removeprefix(face.image.as_posix())
        path = folder / "pts" / f"{_inside(bare)}.pts"
        if path.exists():  # a.jpg and a.png
            path = folder / "pts" / f"{_inside(face.id)}.pts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pts_text(landmarks_of(face)), encoding="ascii")


def _inside(name: str) -> str:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return "/".join(part for part in parts if part not in ("/", "..", ".")) or "picture"
