"""Job: a dataset folder -> a published layout, so that other people's trainers can use our faces. Our readers read all of them back.

wflw   WFLW_images/, WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_<split>.txt (207 fields)
ibug   <split>/<face>.pts beside its image, counted from 1; splits/<split>.txt
coco   annotations/<split>.json, images/
list   <split>.txt in the original stylealign's form, images/
csv    <split>.csv with image,x0,y0,...; images/
"""

import csv
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stylealign.data.atomic import refuse_existing, whole_folder
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.wflw import ATTRIBUTES
from stylealign.data.image import image_size
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say, track

Format = Literal["wflw", "ibug", "coco", "list", "csv"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportDataset:
    """Write a dataset's labelled faces in a published layout."""

    data: Path
    """The dataset folder."""
    format: Format
    """wflw (98 points), ibug (.pts), coco (key-point JSON), list (the original stylealign's), csv."""
    out: Path
    """The folder to make."""
    split: str | None = None
    """Write this split only."""
    subset: str | None = None
    """Write this subset only."""
    images: Literal["copy", "link"] = "copy"
    """Copy the pictures, or make symbolic links to them."""
    frame: int | None = None
    """`list` only: write coordinates of a square frame of this side, as the original's 384, instead of pixels of the picture."""

    def __post_init__(self) -> None:
        if self.frame is not None and (self.format != "list" or self.frame < 1):
            raise ValueError(
                f"frame {self.frame} with format {self.format}: expected a side in pixels, and format list"
            )


class _Pictures:
    """Puts each picture once below a folder, under a name without blanks, since most lists are split at blanks."""

    def __init__(self, folder: Path, root: Path, mode: str):
        self._folder, self._root, self._mode = folder, root, mode
        self._names: dict[Path, str] = {}
        self._taken: set[str] = set()

    def name_of(self, image: Path, name: str | None = None) -> str:
        """The picture's path below the folder (`name` without suffix, if given), which is where it now is."""
        if name is None and image in self._names:
            return self._names[image]
        base = name if name is not None else image.relative_to(self._root).with_suffix("").as_posix()
        base = re.sub(r"\s", "_", base)
        result, n = f"{base}{image.suffix}", 1
        while result in self._taken:
            result, n = f"{base}_{n}{image.suffix}", n + 1
        self._taken.add(result)
        self._names[image] = result
        target = self._folder / result
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._mode == "link":
            os.symlink(os.path.abspath(image), target)
        else:
            shutil.copyfile(image, target)
        return result


def _landmarks(sample: FaceSample) -> np.ndarray:
    assert sample.landmarks is not None  # main takes labelled faces only
    return sample.landmarks.astype(np.float64)


def _box(sample: FaceSample) -> np.ndarray:
    return geometry.landmark_box(_landmarks(sample)) if sample.box_xyxy is None else sample.box_xyxy.astype(np.float64)


def _flat(landmarks: np.ndarray) -> list[str]:
    return [f"{v:.6f}" for v in landmarks.ravel()]


def wflw_line(sample: FaceSample, image: str) -> str:
    """207 fields. The box is rounded outwards to whole pixels, as in the published lists (many readers parse integers)."""
    x0, y0, x1, y1 = _box(sample)
    box = [str(int(v)) for v in (np.floor(x0), np.floor(y0), np.ceil(x1), np.ceil(y1))]
    flags = [str(int(sample.attributes.get(name, False))) for name in ATTRIBUTES]
    return " ".join([*_flat(_landmarks(sample)), *box, *flags, image])


def pts_text(landmarks: np.ndarray) -> str:
    """A .pts file of (P, 2) px counted from 0; it counts from 1."""
    points = "".join(f"{x:.6f} {y:.6f}\n" for x, y in landmarks + 1)
    return f"version: 1\nn_points: {len(landmarks)}\n{{\n{points}}}\n"


def list_line(sample: FaceSample, image: str, frame: int | None) -> str:
    """`x1 y1 ... xL yL filename`, in pixels or in a frame that the picture is thought to be resized to."""
    landmarks = _landmarks(sample)
    if frame is not None:
        landmarks = (landmarks + 0.5) * (frame / np.array(image_size(sample.image))) - 0.5
    return " ".join([*_flat(landmarks), image])


def coco_content(samples: Iterator[tuple[FaceSample, str]], schema: LandmarkSchema) -> dict[str, Any]:
    """COCO key-point JSON. Beyond COCO an annotation has our id, split and attributes; other readers ignore them."""
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for sample, name in samples:
        width, height = image_size(sample.image)
        image = images.setdefault(name, {"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        visible = np.ones(schema.num_points, bool) if sample.visible is None else sample.visible
        x0, y0, x1, y1 = (round(float(v), 6) for v in _box(sample))
        points = zip(_landmarks(sample).tolist(), visible, strict=True)
        annotations.append({
            "id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0, "area": (x1 - x0) * (y1 - y0),
            "bbox": [x0, y0, x1 - x0, y1 - y0], "num_keypoints": schema.num_points,
            "keypoints": [v for (x, y), seen in points for v in (round(x, 6), round(y, 6), 2 if seen else 1)],
            "face_id": sample.id, "split": sample.split, "attributes": {k: bool(v) for k, v in sample.attributes.items()},
        })  # fmt: skip
    names = [f"{schema.name}_{i}" for i in range(schema.num_points)]
    skeleton = sorted({(a + 1, b + 1) for c in schema.boundaries.values() for a, b in itertools.pairwise(c)})
    category = {
        "id": 1,
        "name": "face",
        "supercategory": "person",
        "keypoints": names,
        "skeleton": [list(s) for s in skeleton],
    }
    return {"images": list(images.values()), "annotations": annotations, "categories": [category]}


def _by_split(dataset: FaceDataset) -> Iterator[tuple[str, Iterator[FaceSample]]]:
    splits: dict[str, list[int]] = {}
    for i in range(len(dataset)):
        splits.setdefault(dataset.head(i)["split"], []).append(i)
    for split, rows in splits.items():
        yield split, track(dataset.take(rows), f"writing {split}", len(rows))


def _write_lines(path: Path, lines: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def _write_wflw(dataset: FaceDataset, folder: Path, config: ExportDataset) -> None:
    if dataset.schema.num_points != 98:
        raise UserError(
            f"{config.data}: {dataset.schema.num_points} landmarks of {dataset.schema.name}, expected the 98 that WFLW lists hold"
        )
    pictures = _Pictures(folder / "WFLW_images", dataset.image_root, config.images)
    for split, samples in _by_split(dataset):
        path = folder / "WFLW_annotations" / "list_98pt_rect_attr_train_test" / f"list_98pt_rect_attr_{split}.txt"
        _write_lines(path, (wflw_line(s, pictures.name_of(s.image)) for s in samples))


def _write_ibug(dataset: FaceDataset, folder: Path, config: ExportDataset) -> None:
    pictures = _Pictures(folder, dataset.image_root, config.images)
    for split, samples in _by_split(dataset):
        names = []
        for sample in samples:
            # a .pts belongs to an image by its name, so every face gets an image of its own
            safe = "/".join(part for part in Path(sample.id).parts if part not in ("..", "/"))
            names.append(pictures.name_of(sample.image, f"{split}/{safe}"))
            (folder / names[-1]).with_suffix(".pts").write_text(pts_text(_landmarks(sample)), encoding="ascii")
        _write_lines(folder / "splits" / f"{split}.txt", iter(names))


def _write_coco(dataset: FaceDataset, folder: Path, config: ExportDataset) -> None:
    pictures = _Pictures(folder / "images", dataset.image_root, config.images)
    for split, samples in _by_split(dataset):
        content = coco_content(((s, pictures.name_of(s.image)) for s in samples), dataset.schema)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_list(dataset: FaceDataset, folder: Path, config: ExportDataset) -> None:
    pictures = _Pictures(folder / "images", dataset.image_root, config.images)
    for split, samples in _by_split(dataset):
        _write_lines(folder / f"{split}.txt", (list_line(s, pictures.name_of(s.image), config.frame) for s in samples))


def _write_csv(dataset: FaceDataset, folder: Path, config: ExportDataset) -> None:
    pictures = _Pictures(folder / "images", dataset.image_root, config.images)
    header = ["image", *(f"{axis}{i}" for i in range(dataset.schema.num_points) for axis in "xy")]
    for split, samples in _by_split(dataset):
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([pictures.name_of(s.image), *_flat(_landmarks(s))] for s in samples)


FORMATS: dict[str, Callable[[FaceDataset, Path, ExportDataset], None]] = {
    "wflw": _write_wflw,
    "ibug": _write_ibug,
    "coco": _write_coco,
    "list": _write_list,
    "csv": _write_csv,
}


def main(config: ExportDataset) -> None:
    """Write the layout; the folder appears when it is whole."""
    refuse_existing(config.out)
    whole = FaceDataset.open(config.data)
    chosen = whole.select(split=config.split, subset=config.subset, labelled=True)
    with whole_folder(config.out) as partial:
        FORMATS[config.format](chosen, partial, config)
    left = len(whole) - len(chosen)
    say(
        f"wrote {len(chosen):,} faces to {config.out}"
        + (f" ({left:,} others left out: unlabelled or not of that split and subset)" if left else "")
    )
