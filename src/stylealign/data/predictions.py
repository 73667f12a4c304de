"""Predictions on disk: read those made anywhere (CSV, a folder of .pts, JSON lines), write our predictions.jsonl.

Reading gives predictions by the names their file has; matching puts them in the order of a dataset's faces. This file
does not know how predictions are made nor how they are scored.

Formats, all in pixels of the source image:
  CSV         a header `image,x0,y0,x1,y1,...` and a line per face; pixels count from 0 unless told otherwise
  .pts        a folder with one iBUG file per face, named as its image; pixels always count from 1
  JSON lines  {"id": "...", "schema": "wflw98", "landmarks": [[x, y], ...], "score": [...], "box_xyxy": [...]};
              "image" may stand for "id"; schema, score and box_xyxy may be absent; pixels count from 0
"""

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from stylealign.config import parse_json
from stylealign.data.atomic import partial_of
from stylealign.data.formats.entry import BadEntry
from stylealign.data.formats.ibug import parse_pts
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample, Prediction

PREDICTIONS_FILE = "predictions.jsonl"
_EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pts"}


# --------------------------------------------------------------------------------------------------------------------
# Reading


def _numbers(cells: Sequence[object], where: str) -> np.ndarray:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = math.nan if isinstance(cell, bool) else float(cell)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            values[i] = math.nan
        if not math.isfinite(values[i]):
            raise UserError(f"{where}: coordinate {i} is {cell!r}; expected a finite number")
    return values


def _csv_order(header: Sequence[str], where: str) -> np.ndarray:
    """Where each of x0, y0, x1, y1, ... stands in the line: files hold them interleaved, or all x and then all y."""
    columns: dict[tuple[int, str], int] = {}
    for column, name in enumerate(header[1:], start=1):
        match = re.fullmatch(r"([xy])_?(\d+)", name.strip().lower())
        if match is None or (int(match[2]), match[1]) in columns:
            raise UserError(
                f"{where}: column {column} is called {name!r}; expected a header image,x0,y0,x1,y1,... in which each "
                f"coordinate is named once"
            )
        columns[int(match[2]), match[1]] = column
    numbers = sorted({number for number, _ in columns})
    first = numbers[0] if numbers else 0
    if first not in (0, 1) or numbers != list(range(first, first + len(numbers))) or len(columns) != 2 * len(numbers):
        raise UserError(
            f"{where}: the header names {len(columns)} coordinates that are not x0,y0 ... without gaps; expected "
            f"image,x0,y0,x1,y1,..."
        )
    return np.array([columns[number, axis] for number in numbers for axis in "xy"])


def read_csv(path: Path, pixels_from_one: bool = False) -> list[Prediction]:
    """Read `image,x0,y0,x1,y1,...` lines; `pixels_from_one` subtracts 1 from every coordinate."""
    rows = []
    order: np.ndarray | None = None
    width = 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if not cells or not any(cell.strip() for cell in cells):
                continue
            if order is None:
                order, width = _csv_order(cells, where), len(cells)
                continue
            if len(cells) != width:
                raise UserError(f"{where}: the line has {len(cells)} fields; its header has {width}")
            values = _numbers(cells[1:], where)[order - 1].reshape(-1, 2)
            rows.append(Prediction(id=cells[0].strip(), landmarks=values - float(pixels_from_one), where=where))
    if not rows:
        raise UserError(f"{path}: no prediction in it; expected a header image,x0,y0,x1,y1,... and a line per face")
    return rows


def read_pts(path: Path) -> np.ndarray:
    """Read one iBUG .pts file, whose pixels count from 1: (P, 2) float64 (x, y) px counted from 0."""
    parsed = parse_pts(path)
    if isinstance(parsed, BadEntry):
        raise UserError(str(parsed))
    points, _ = parsed
    if not np.isfinite(points).all():
        raise UserError(
            f"{path}: point {int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])} is not a finite number"
        )
    return points - 1.0


def read_pts_folder(folder: Path) -> list[Prediction]:
    """Read every .pts file below a folder; a face is named by the file's path in the folder, without extension."""
    return [
        Prediction(id=file.relative_to(folder).with_suffix("").as_posix(), landmarks=read_pts(file), where=f"{file}")
        for file in sorted(folder.rglob("*.pts"))
    ]


def read_jsonl(path: Path) -> list[Prediction]:
    """Read predictions in our own format, one JSON object a line."""
    rows = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            record = parse_json(line, where)
            name = record.get("id", record.get("image")) if isinstance(record, dict) else None
            points = record.get("landmarks") if isinstance(record, dict) else None
            if not isinstance(name, str) or not isinstance(points, list) or not points:
                raise UserError(f'{where}: expected {{"id": "...", "landmarks": [[x, y], ...]}}')
            if not all(isinstance(point, list) and len(point) == 2 for point in points):
                raise UserError(f"{where}: 'landmarks' must be a list of [x, y] pairs")
            values = _numbers([value for point in points for value in point], where).reshape(-1, 2)
            rows.append(Prediction(id=name, landmarks=values, where=where, schema=record.get("schema")))
    if not rows:
        raise UserError(f"{path}: no prediction in it; expected one JSON object a line")
    return rows


def read_predictions(path: Path, pixels_from_one: bool = False) -> list[Prediction]:
    """Read a predictions file or folder, its format told by its name.

    Args:
        path: a .csv, .jsonl or .pts file, a folder holding predictions.jsonl, or a folder of .pts files.
        pixels_from_one: the CSV counts pixels from 1. (.pts always do; JSON lines never do.)

    Raises:
        UserError: nothing there, an unknown format, or a line that cannot be read, with file:line.
    """
    try:
        return _read(path, pixels_from_one)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a text file that can be read ({error})") from None


def _read(path: Path, pixels_from_one: bool) -> list[Prediction]:
    if path.is_dir():
        if (path / PREDICTIONS_FILE).is_file():
            return read_jsonl(path / PREDICTIONS_FILE)
        rows = read_pts_folder(path)
        if not rows:
            raise UserError(
                f"{path}: expected a run (card.json) or predictions ({PREDICTIONS_FILE}, .pts files) in this folder, "
                "found neither"
            )
        return rows
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder of predictions")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_csv(path, pixels_from_one)
    if suffix in (".jsonl", ".ndjson"):
        return read_jsonl(path)
    if suffix == ".pts":
        return [Prediction(id=path.stem, landmarks=read_pts(path), where=f"{path}")]
    raise UserError(f"{path}: unknown kind of predictions {suffix!r}; expected .csv, .jsonl or a folder of .pts files")


# --------------------------------------------------------------------------------------------------------------------
# Matching


def _bare(name: str) -> str:
    """The name without an image extension. Other dots belong to the name."""
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in _EXTENSIONS else path.as_posix()


class _Finder:
    """Finds the faces a name may mean.

    A name with folders must agree with the face's id or with the end of its image's path, since LFPW has an
    image_0001 in its training and in its test folder; a bare file name may mean any face of that file name.
    """

    def __init__(self, samples: Sequence[FaceSample]) -> None:
        self.by_id: dict[str, list[int]] = defaultdict(list)
        self.by_stem: dict[str, set[int]] = defaultdict(set)
        self.known: list[tuple[str, str]] = []
        for i, sample in enumerate(samples):
            bare_id, bare_image = _bare(sample.id), _bare(sample.image.as_posix())
            self.known.append((f"/{bare_id}", f"/{bare_image.lstrip('/')}"))
            self.by_id[sample.id].append(i)
            self.by_stem[PurePosixPath(bare_id).name].add(i)
            self.by_stem[PurePosixPath(bare_image).name].add(i)

    def __call__(self, name: str) -> list[int]:
        name = name.replace("\\", "/").removeprefix("./")
        bare = _bare(name)
        for key in (name, bare):
            if key in self.by_id:
                return self.by_id[key]
        rooted = f"/{bare.lstrip('/')}"

        def agree(i: int) -> bool:
            return any(known.endswith(rooted) for known in self.known[i]) or rooted.endswith(self.known[i][0])

        return sorted(i for i in self.by_stem.get(PurePosixPath(bare).name, ()) if agree(i))


def match_predictions(
    rows: Sequence[Prediction],
    samples: Sequence[FaceSample],
    others: Sequence[FaceSample] = (),
    path: Path | str = "predictions",
) -> list[Prediction]:
    """Put predictions in the order of `samples`, one each.

    A row names its face by id ("helen/testset/1_2", with or without an image extension), by the end of the image's
    path, or by the image's file name where only one face has it.

    Args:
        rows: what `read_predictions` gave.
        samples: the N faces to be scored.
        others: faces of the same dataset outside the scored selection; rows about them are passed over.
        path: the file, for messages.

    Raises:
        UserError: a row about no known face, a name that fits several faces, two rows for one face, or a face without
            a row.
    """
    find = _Finder([*samples, *others])
    chosen: dict[int, Prediction] = {}
    for row in rows:
        faces = find(row.id)
        if len(faces) > 1:
            several = ", ".join([*samples, *others][i].id for i in faces[:3])
            raise UserError(f"{row.where}: {row.id!r} fits {len(faces)} faces ({several}); name the face by its id")
        if not faces:
            raise UserError(f"{row.where}: {row.id!r} is no face of this dataset; the first is {samples[0].id!r}")
        if faces[0] in chosen:
            raise UserError(f"{row.where}: {row.id!r} is predicted twice, first at {chosen[faces[0]].where}")
        chosen[faces[0]] = row
    missing = [i for i in range(len(samples)) if i not in chosen]
    if missing:
        raise UserError(
            f"{path}: no prediction for {len(missing)} of {len(samples)} faces, first {samples[missing[0]].id!r}; "
            f"every face must be predicted, or the numbers are not comparable"
        )
    return [chosen[i] for i in range(len(samples))]


# --------------------------------------------------------------------------------------------------------------------
# Writing


def write_predictions(path: Path, predictions: Iterable[Prediction], schema: str) -> None:
    """Write predictions as JSON lines (pixels of the source image, counted from 0, four decimals).

    Args:
        path: the file; its folder must exist. Written beside and renamed, so a file that exists is whole.
        predictions: one per face.
        schema: name of the landmarks' numbering.
    """
    partial = partial_of(path)
    with partial.open("w", encoding="utf-8") as file:
        for prediction in predictions:
            record: dict[str, object] = {"id": prediction.id, "schema": schema}
            for key in ("landmarks", "score", "box_xyxy"):
                value = getattr(prediction, key)
                if value is not None:
                    record[key] = np.asarray(value, np.float64).round(4).tolist()
            file.write(json.dumps(record) + "\n")
    partial.replace(path)
