"""What `predict` leaves behind: predictions.jsonl while it works, other layouts from it at the end.

The folder is written as `<name>.partial` and renamed when it is whole. Knows neither networks nor finders.
"""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from stylealign.data.formats.coco import coco_content
from stylealign.data.formats.csv import write_table
from stylealign.data.formats.ibug import pts_text
from stylealign.data.formats.wflw import wflw_line
from stylealign.data.formats.writing import landmarks_of, write_lines
from stylealign.data.predictions import PREDICTIONS_FILE
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.predicted_face import Face


def refuse_formats(formats: tuple[str, ...], schema: LandmarkSchema, moving: bool) -> None:
    """Raise UserError for a layout that cannot hold these predictions, before any work is done."""
    if "wflw" in formats and schema.num_points != 98:
        raise UserError(f"--formats wflw: the detector answers in {schema.num_points} points, WFLW lists hold 98")
    if moving and (without := [f for f in formats if f != "csv"]):
        raise UserError(f"--formats {without[0]}: frames of a video have no picture files to name; expected csv")


def read_faces(folder: Path) -> Iterator[Face]:
    """The faces of a folder's predictions.jsonl, one at a time."""
    with open(folder / PREDICTIONS_FILE, encoding="utf-8") as file:
        yield from map(Face.from_line, file)


def _samples(folder: Path) -> Iterator[FaceSample]:
    """The same as what writers of data sets take."""
    for face in read_faces(folder):
        yield FaceSample(id=face.id, image=Path(face.image), landmarks=face.landmarks, split="predicted")


def _inside(name: str) -> PurePosixPath:
    """A relative path for a picture's name that leads nowhere else."""
    return PurePosixPath(*(p for p in PurePosixPath(name.replace("\\", "/")).parts if p not in ("/", "..", ".")))


def safe_name(name: str, suffix: str) -> str:
    """A path below a folder for an output of this name: `a/b.jpg#2` -> `a/b.jpg#2.pts`."""
    path = _inside(name).as_posix() or "picture"
    return path + suffix


def _bare_id(sample: FaceSample) -> str:
    """The id without the picture's suffix, so that `a.pts` belongs to `a.jpg`; a second face is `a#2`."""
    return str(sample.image.with_suffix("").as_posix()) + sample.id.removeprefix(sample.image.as_posix())


def _write_pts(folder: Path, schema: LandmarkSchema) -> None:
    for sample in _samples(folder):
        path = folder / "pts" / safe_name(_bare_id(sample), ".pts")
        if path.exists():  # a.jpg and a.png
            path = folder / "pts" / safe_name(sample.id, ".pts")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pts_text(landmarks_of(sample)), encoding="ascii")


def _write_wflw(folder: Path, schema: LandmarkSchema) -> None:
    lines = (wflw_line(sample, sample.image.as_posix().replace(" ", "_")) for sample in _samples(folder))
    write_lines(folder / "list_98pt_rect_attr_predicted.txt", lines)


def _write_coco(folder: Path, schema: LandmarkSchema) -> None:
    content = coco_content(((s, s.image.as_posix()) for s in _samples(folder)), schema)
    (folder / "predictions_coco.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_csv(folder: Path, schema: LandmarkSchema) -> None:
    write_table(folder / "predictions.csv", ((sample, sample.id) for sample in _samples(folder)), schema, places=4)


LAYOUTS = {"pts": _write_pts, "wflw": _write_wflw, "coco": _write_coco, "csv": _write_csv}
"""(folder, schema) -> writes the layout of that name beside the folder's predictions.jsonl"""


def write_formats(folder: Path, formats: tuple[str, ...], schema: LandmarkSchema) -> None:
    """Read predictions.jsonl of the folder again and write it as the layouts asked for.

    pts    pts/<id>.pts a face, counted from 1, as everywhere
    wflw   list_98pt_rect_attr_predicted.txt; blanks in names become `_`; attributes are 0
    coco   predictions_coco.json
    csv    predictions.csv: image,x0,y0,...; a face's name is its id
    """
    for name, write in LAYOUTS.items():
        if name in formats:
            write(folder, schema)
