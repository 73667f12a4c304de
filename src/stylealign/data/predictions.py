"""Predictions on disk: read those made anywhere (CSV, a folder of .pts, JSON lines), write our predictions.jsonl.

Reading gives predictions by the names their file has (evaluation/matching.py finds the faces they mean). This file does
not know how predictions are made nor how they are scored.

Formats, all in pixels of the source image:
  CSV         a header `image,x0,y0,x1,y1,...` and a line per face; pixels count from 0 unless told otherwise
  .pts        a folder with one iBUG file per face, named as its image; pixels always count from 1
  JSON lines  {"id": "...", "schema": "wflw98", "landmarks": [[x, y], ...], "score": [...], "box_xyxy": [...]};
              "image" may stand for "id"; schema, score and box_xyxy may be absent; pixels count from 0;
              "covariance": [[xx, xy, yy], ...] px^2 is read where it is there
"""

import csv
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.config import parse_json
from stylealign.data.atomic import partial_of
from stylealign.data.formats.entry import BadEntry
from stylealign.data.formats.files import with_suffix
from stylealign.data.formats.ibug import parse_pts
from stylealign.errors import UserError, counted, plain_number
from stylealign.face.covariance import not_positive
from stylealign.face.sample import Prediction

PREDICTIONS_FILE = "predictions.jsonl"


# --------------------------------------------------------------------------------------------------------------------
# Reading


def _numbers(cells: Sequence[object], where: str) -> np.ndarray:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = math.nan if isinstance(cell, bool) else plain_number(cell)
        except (TypeError, ValueError):
            values[i] = math.nan
        if not math.isfinite(values[i]):
            raise UserError(f"{where}: coordinate {i} is {cell!r}; expected a finite number")
    return values


def _csv_order(header: Sequence[str], where: str) -> np.ndarray:
    """Where each of x0, y0, x1, y1, ... stands in the line: files hold them interleaved, or all x and then all y."""
    columns: dict[tuple[int, str], int] = {}
    for column, name in enumerate(header[1:], start=1):
        match = re.fullmatch(r"([xy])_?(\d{1,6})", name.strip().lower())
        if match is None or (int(match[2]), match[1]) in columns:
            raise UserError(
                f"{where}: column {column} is called {name[:40]!r}; expected a header image,x0,y0,x1,y1,... in which "
                f"each coordinate is named once"
            )
        columns[int(match[2]), match[1]] = column
    numbers = sorted({number for number, _ in columns})
    first = numbers[0] if numbers else -1
    if first not in (0, 1) or numbers != list(range(first, first + len(numbers))) or len(columns) != 2 * len(numbers):
        raise UserError(
            f"{where}: the header names {counted(len(columns), 'coordinate')} that are not x0,y0 ... without gaps; "
            "expected image,x0,y0,x1,y1,..."
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
                raise UserError(f"{where}: the line has {counted(len(cells), 'field')}; its header has {width}")
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
        for file in with_suffix(folder, ".pts", deep=True)
    ]


def _covariance(found: Any, num_points: int, where: str) -> np.ndarray | None:
    """(P, 2, 2) px^2 of P triples xx, xy, yy; None where there are none."""
    if found is None:
        return None
    triples = isinstance(found, list) and all(isinstance(row, list) and len(row) == 3 for row in found)
    if not triples or len(found) != num_points:
        raise UserError(
            f"{where}: 'covariance' must be a list of {counted(num_points, 'triple')} [xx, xy, yy], one a landmark"
        )
    matrices = _numbers([value for row in found for value in row], where).reshape(-1, 3)[:, [0, 1, 1, 2]]
    matrices = matrices.reshape(-1, 2, 2)
    wrong = np.flatnonzero(not_positive(matrices))
    if wrong.size:
        point = int(wrong[0])
        raise UserError(
            f"{where}: covariance of landmark {point} is {found[point]}; expected xx, xy, yy of a positive matrix"
        )
    return matrices


def read_jsonl(path: Path) -> list[Prediction]:
    """Read predictions in our own format, one JSON object a line."""
    rows = []
    with path.open(encoding="utf-8-sig") as file:
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
            schema = record.get("schema")
            if schema is not None and not isinstance(schema, str):
                raise UserError(f"{where}: schema: found {str(schema)[:40]!r}, expected the name of a mark-up")
            values = _numbers([value for point in points for value in point], where).reshape(-1, 2)
            covariance = _covariance(record.get("covariance"), len(values), where)
            rows.append(Prediction(id=name, landmarks=values, covariance=covariance, where=where, schema=schema))
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
