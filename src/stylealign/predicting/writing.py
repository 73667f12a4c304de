"""What `predict` leaves behind: predictions.jsonl while it works, other layouts from it at the end.

The folder is written as `<name>.partial` and renamed when it is whole. Knows neither networks nor finders.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from stylealign.data.formats.coco import coco_content
from stylealign.data.formats.ibug import pts_text
from stylealign.data.formats.wflw import wflw_line
from stylealign.data.predictions import PREDICTIONS_FILE
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

FORMATS = ("pts", "wflw", "coco", "csv")


class FaceRecord(NamedTuple):
    """A line of predictions.jsonl."""

    image: str
    """the picture or video as given to `predict`"""
    landmarks: np.ndarray
    """(P, 2) px of the stored picture or frame"""
    box: np.ndarray
    """(4,) landmark box that the last crop was cut round, px of the stored picture"""
    found_by: str
    """frontal, profile, yunet, given, whole or track"""
    confidence: np.ndarray | None = None
    """(P,) in [0, 1]"""
    face: int = 0
    """number within the picture"""
    frame: int | None = None
    """of a video, counted from 0"""
    time: float | None = None
    """s, of a video"""
    track: int | None = None
    """the same person's number from frame to frame"""
    raw: np.ndarray | None = None
    """(P, 2) before smoothing, where there was any"""

    @property
    def id(self) -> str:
        """The picture's name; `@frame` in a video; `#2` for its second face and so on (in a video `#track`)."""
        frame = "" if self.frame is None else f"@{self.frame}"
        number = self.face if self.track is None else self.track
        return f"{self.image}{frame}" + (f"#{number + 1}" if number else "")

    def line(self, schema: LandmarkSchema) -> str:
        """One JSON object: four decimals, absent keys where nothing is known."""
        record: dict[str, Any] = {"id": self.id, "image": self.image, "schema": schema.name}
        for key in ("face", "frame", "track"):
            if getattr(self, key) is not None:
                record[key] = getattr(self, key)
        if self.time is not None:
            record["time"] = round(self.time, 4)
        record |= {"found_by": self.found_by, "box_xyxy": _numbers(self.box), "landmarks": _numbers(self.landmarks)}
        if self.confidence is not None:
            record["score"] = _numbers(self.confidence)
        if self.raw is not None:
            record["landmarks_raw"] = _numbers(self.raw)
        return json.dumps(record, ensure_ascii=False) + "\n"


def _numbers(values: np.ndarray) -> list:
    return np.asarray(values, np.float64).round(4).tolist()


def refuse_formats(formats: tuple[str, ...], schema: LandmarkSchema, moving: bool) -> None:
    """Raise UserError for a layout that cannot hold these predictions, before any work is done."""
    if "wflw" in formats and schema.num_points != 98:
        raise UserError(f"--formats wflw: the detector answers in {schema.num_points} points, WFLW lists hold 98")
    if moving and (without := [f for f in formats if f != "csv"]):
        raise UserError(f"--formats {without[0]}: frames of a video have no picture files to name; expected csv")


def _samples(folder: Path) -> Iterator[FaceSample]:
    with open(folder / PREDICTIONS_FILE, encoding="utf-8") as file:
        for line in file:
            r = json.loads(line)
            yield FaceSample(id=r["id"], image=Path(r["image"]), landmarks=np.array(r["landmarks"]), split="predicted")


def _inside(name: str) -> PurePosixPath:
    """A relative path for a picture's name that leads nowhere else."""
    return PurePosixPath(*(p for p in PurePosixPath(name.replace("\\", "/")).parts if p not in ("/", "..", ".")))


def safe_name(name: str, suffix: str) -> str:
    """A path below a folder for an output of this name: `a/b.jpg#2` -> `a/b.jpg#2.pts`."""
    path = _inside(name).as_posix() or "picture"
    return path + suffix


def write_formats(folder: Path, formats: tuple[str, ...], schema: LandmarkSchema) -> None:
    """Read predictions.jsonl of the folder again and write it as the layouts asked for.

    pts    pts/<id>.pts a face, counted from 1, as everywhere
    wflw   list_98pt_rect_attr_predicted.txt; blanks in names become `_`; attributes are 0
    coco   predictions_coco.json
    csv    predictions.csv: image,x0,y0,...; a face's name is its id
    """
    if "pts" in formats:
        for sample in _samples(folder):
            path = folder / "pts" / safe_name(_bare_id(sample), ".pts")
            if path.exists():  # a.jpg and a.png
                path = folder / "pts" / safe_name(sample.id, ".pts")
            path.parent.mkdir(parents=True, exist_ok=True)
            assert sample.landmarks is not None
            path.write_text(pts_text(sample.landmarks.astype(np.float64)), encoding="ascii")
    if "wflw" in formats:
        with open(folder / "list_98pt_rect_attr_predicted.txt", "w", encoding="utf-8", newline="\n") as file:
            for sample in _samples(folder):
                file.write(wflw_line(sample, sample.image.as_posix().replace(" ", "_")) + "\n")
    if "coco" in formats:
        content = coco_content(((s, s.image.as_posix()) for s in _samples(folder)), schema)
        (folder / "predictions_coco.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    if "csv" in formats:
        with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as table:
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(["image", *(f"{axis}{i}" for i in range(schema.num_points) for axis in "xy")])
            for sample in _samples(folder):
                assert sample.landmarks is not None
                writer.writerow([sample.id, *(f"{v:.4f}" for v in sample.landmarks.ravel())])


def _bare_id(sample: FaceSample) -> str:
    """The id without the picture's suffix, so that `a.pts` belongs to `a.jpg`; a second face is `a#2`."""
    return str(sample.image.with_suffix("").as_posix()) + sample.id.removeprefix(sample.image.as_posix())
