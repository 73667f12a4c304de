"""CSV with a header `image,x0,y0,x1,y1,...`, a line a face, pixels counted from 0 (so is YouTube Faces, 68 points).

A source is one .csv, or a folder whose `*.csv` name their split (train.csv, val.csv, test.csv); images lie in its
`images/` or in the folder. Optional columns: `split`, `group` (what `fit` holds out together, such as a person), and
`box_x0,box_y0,box_x1,box_y1`. A line whose coordinates are all empty is an unlabelled face; a landmark whose two cells
are empty, `nan`, 0 or -1 is missing. `unlabelled.txt` beside them lists images without landmarks, one a line: they get
the split `unlabelled`, so that nobody counts them by accident.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import (
    BadEntry,
    Entry,
    Ids,
    ReadOptions,
    below_root,
    checked_face,
    folder_of,
    image_root,
    lines_of,
    numbers_of,
    split_called,
    split_of,
)
from stylealign.data.formats.files import with_suffix
from stylealign.data.formats.writing import Pictures, WriteOptions, by_split, decimals, landmarks_of
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

UNLABELLED = "unlabelled.txt"
GROUP = "group"
"""Column of what is held out together, such as a person."""
_BOX = ("box_x0", "box_y0", "box_x1", "box_y1")


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = with_suffix(folder_of(source), ".csv")
    if not found and not (source / UNLABELLED).exists():
        raise UserError(f"{source}: found no .csv file in it, expected one with the header image,x0,y0,...")
    return found


def recognise(path: Path) -> bool:
    """Whether it is a .csv file, or a folder with one in it."""
    return path.suffix.lower() == ".csv" or (path.is_dir() and bool(with_suffix(path, ".csv")))


def _open_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not blank; spreadsheets write `;`, tabs or UTF-16 as well."""
    try:
        with open(path, "rb") as file:
            encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with open(path, encoding=encoding, errors="replace", newline="") as file:
            first = next((line for line in file if line.strip()), "")
            said = re.fullmatch(r"sep=([,;\t])", first.strip("\r\n "))
            other = next((mark for mark in ";\t" if mark in first and "," not in first), ",")
            file.seek(0)
            rows = csv.reader(file, delimiter=said[1] if said else other)
            for row in rows:
                if any(cell.strip() for cell in row) and not (said and rows.line_num == 1):
                    yield rows.line_num, [cell.strip() for cell in row]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error})") from None


def _columns(path: Path, header: list[str]) -> tuple[dict[str, int], int]:
    """Column of each name and the number of points, of a header that is as expected."""
    columns = {name.lower(): i for i, name in enumerate(header)}
    count = sum(name.startswith("x") for name in columns)
    coordinates = [f"{axis}{i}" for i in range(count) for axis in "xy"]
    known = {"image", "split", GROUP, *_BOX, *coordinates}
    boxes = _BOX if any(name in columns for name in _BOX) else ()
    missing = [name for name in ("image", *coordinates, *boxes) if name not in columns]
    unknown = [name for name in columns if name not in known]
    if missing or unknown or len(columns) != len(header):
        found = f"no column {missing[0]!r}" if missing else f"column {unknown[0]!r}" if unknown else "a column twice"
        raise UserError(
            f"{path}:1: {found} in {','.join(header)[:80]!r}, expected the header image,x0,y0,x1,y1,... "
            f"(and split, {GROUP}, {', '.join(_BOX)} if wanted)"
        )
    return columns, count


def count_points(source: Path) -> int:
    """Points a face of the first file, from its header."""
    for path in _files(source):
        for _, header in _open_rows(path):
            return _columns(path, header)[1]
    raise UserError(f"{source}: no .csv file with a header; say with --schema which mark-up the faces are for")


def groups(source: Path) -> dict[str, str]:
    """Id of each face that a row names -> its cell of the column `group`; empty where no file has one.

    Ids are given as `read` gives them: by the file's order, so that every row counts.
    """
    found, ids = dict[str, str](), Ids()
    headers = {path: next(_open_rows(path), (0, []))[1] for path in _files(source)}
    named = {path: _columns(path, header)[0] if header else {} for path, header in headers.items()}
    if not any(GROUP in columns for columns in named.values()):
        return found
    for path, columns in named.items():
        rows, header = _open_rows(path), headers[path]
        next(rows, None)
        for line, row in rows:
            if len(row) == len(header) and row[columns["image"]]:
                face = ids.of(row[columns["image"]], line)
                if GROUP in columns:
                    found[face] = row[columns[GROUP]]
    return found


def _faces(path: Path, root: Path, ids: Ids, options: ReadOptions) -> Iterator[Entry]:
    rows = _open_rows(path)
    try:
        _, header = next(rows)
    except StopIteration:
        raise UserError(f"{path}: empty, expected the header image,x0,y0,...") from None
    columns, count = _columns(path, header)
    if count != options.schema.num_points:
        raise UserError(
            f"{path}:1: {counted(count, 'point')}, expected {options.schema.num_points} of {options.schema.name}"
        )
    order = [columns[f"{axis}{i}"] for i in range(count) for axis in "xy"]
    boxes = [columns[name] for name in _BOX if name in columns]  # all or none
    for line, row in rows:
        where = f"{path}:{line}"
        if len(row) != len(header):
            yield BadEntry(where, f"{counted(len(row), 'field')}, expected {len(header)} as in the header")
            continue
        image = row[columns["image"]]
        if not image:
            yield BadEntry(where, "no image name")
            continue
        face = ids.of(image, line)
        cells, box_cells = [row[i] for i in order], [row[i] for i in boxes]
        pairs = zip(cells[::2], cells[1::2], strict=True)
        said = [cell if any(pair) else "nan" for pair in pairs for cell in pair]
        landmarks = numbers_of(said, "coordinate") if any(cells) else None
        box = numbers_of(box_cells, "box value") if any(box_cells) else None
        if isinstance(landmarks, str) or isinstance(box, str):
            yield BadEntry(where, landmarks if isinstance(landmarks, str) else str(box), face)
            continue
        split = row[columns["split"]] if "split" in columns else ""
        yield checked_face(
            where, options, id=face, image=below_root(root, image), root=root, box_xyxy=box,
            landmarks=None if landmarks is None else landmarks.reshape(-1, 2),
            split=split_called(split) if split else split_of(path.stem),
        )  # fmt: skip


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield the faces of every file, then the unlabelled ones; ids are image paths without suffix (see `Ids`)."""
    root, ids = image_root(folder_of(source), options, "images"), Ids()
    for path in _files(source):
        yield from _faces(path, root, ids, options)
    extra = source / UNLABELLED
    for line, image in lines_of(extra) if source.is_dir() and extra.exists() else ():
        yield checked_face(
            f"{extra}:{line}",
            options,
            id=ids.of(image, line),
            image=below_root(root, image),
            root=root,
            split="unlabelled",
        )


def write_table(
    path: Path,
    faces: Iterable[tuple[FaceSample, str]],
    schema: LandmarkSchema,
    places: int = 6,
    split: str | None = None,
) -> None:
    """Write one .csv of (face, name in its column `image`); coordinates have this many decimal places.

    The cells of a missing landmark are empty. `split`: that of all faces, for a column of it.
    """
    more = {} if split is None else {"split": split}
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", *more, *(f"{axis}{i}" for i in range(schema.num_points) for axis in "xy")])
        for sample, name in faces:
            missing = np.repeat(sample.missing_points, 2)
            cells = decimals(landmarks_of(sample), places)
            said = ("" if gone else cell for cell, gone in zip(cells, missing, strict=True))
            writer.writerow([name, *more.values(), *said])


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write images/ and <split>.csv a split."""
    pictures = Pictures(folder / "images", dataset, options)
    for split, samples in by_split(dataset):
        named = ((s, pictures.name_of(s.image)) for s in samples)
        told = split_of(split) == split  # by the file's name
        write_table(folder / f"{split}.csv", named, dataset.schema, split=None if told else split)


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write predictions.csv with four decimal places, as the faces have them; a face's name is its id."""
    write_table(folder / "predictions.csv", ((face, face.id) for face in faces), schema, places=4)
