"""COCO key-point JSON: images, annotations with `keypoints` [x, y, v, ...] and `bbox` [x, y, width, height].

v is 2 visible, 1 hidden, 0 not labelled. A face with every v 0 (or no keypoints) is unlabelled; one with some 0 is a
bad entry, since a face of a mark-up has all its points. A source is one .json or a folder of them (also in
`annotations/`); the split is in the file's name or, if there, in an annotation's own `split`. `attributes` (name ->
true/false) are kept. Coordinates count from 0.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.config import read_json
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.entry import (
    BadEntry,
    Entry,
    Ids,
    ReadOptions,
    checked_face,
    folder_of,
    image_root,
    split_of,
)
from stylealign.data.formats.writing import Pictures, WriteOptions, box_of, by_split, landmarks_of
from stylealign.data.image import image_size
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    folder = folder_of(source)
    found = sorted(folder.glob("*.json")) or sorted((folder / "annotations").glob("*.json"))
    if not found:
        raise UserError(f"{source}: found no .json in it or in its annotations folder")
    return found


def recognise(path: Path) -> bool:
    """Whether it is a .json file, or a folder with one in it."""
    return path.suffix.lower() == ".json" or (path.is_dir() and any(path.glob("*.json")))


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise UserError(f"{path}: expected COCO's lists `images` and `annotations`")
    return content


def count_points(source: Path) -> int:
    """Points a face of the first annotation that has any."""
    for path in _files(source):
        for annotation in _load(path)["annotations"]:
            if isinstance(annotation, Mapping) and annotation.get("keypoints"):
                return len(annotation["keypoints"]) // 3
    raise UserError(f"{source}: no annotation has keypoints; say with --schema which mark-up the faces are for")


def _array(values: Any, what: str, count: int | None = None) -> np.ndarray | str:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        return f"{what} is {str(values)[:60]}, expected numbers"
    if array.ndim != 1 or (count is not None and len(array) != count):
        return f"{what} has {array.size} numbers, expected {count}"
    return array


def _face(
    path: Path, number: int, annotation: Any, images: Mapping[Any, Any], ids: Ids, root: Path, options: ReadOptions
) -> Entry:
    where = f"{path}: annotations[{number}]"
    image = images.get(annotation.get("image_id")) if isinstance(annotation, Mapping) else None
    if not isinstance(image, Mapping) or not isinstance(image.get("file_name"), str):
        return BadEntry(where, "its image_id names no image with a file_name")
    name = image["file_name"]
    face = ids.of(name, number)
    count = options.schema.num_points
    landmarks = visible = box = None
    if annotation.get("keypoints"):
        values = _array(annotation["keypoints"], "keypoints", 3 * count)
        if isinstance(values, str):
            return BadEntry(where, f"{values} (3 x {count} of {options.schema.name})", face)
        flags = values[2::3]
        if not np.isin(flags, (0, 1, 2)).all():
            return BadEntry(where, "a keypoint's v is not 0, 1 or 2", face)
        if (flags > 0).all():
            landmarks, visible = values.reshape(-1, 3)[:, :2], flags == 2
        elif (flags > 0).any():
            missing = np.flatnonzero(flags == 0)
            return BadEntry(
                where, f"{len(missing)} of {count} landmarks are not labelled (v 0), the first is {missing[0]}", face
            )
    if annotation.get("bbox"):
        corner_size = _array(annotation["bbox"], "bbox", 4)
        if isinstance(corner_size, str):
            return BadEntry(where, corner_size, face)
        box = np.concatenate([corner_size[:2], corner_size[:2] + corner_size[2:]])
    attributes = annotation.get("attributes") or {}
    if not isinstance(attributes, Mapping):
        return BadEntry(where, f"attributes are {str(attributes)[:60]}, expected names with true or false", face)
    return checked_face(
        where, options, id=face, image=root / name, root=root, landmarks=landmarks, visible=visible, box_xyxy=box,
        attributes={str(k): v for k, v in attributes.items() if isinstance(v, bool)},
        split=str(annotation.get("split") or split_of(path.stem)),
    )  # fmt: skip


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face an annotation; ids are image paths without suffix, further faces of an image get their position."""
    ids = Ids()
    for path in _files(source):
        folder = path.parent.parent if path.parent.name == "annotations" else path.parent
        content, root = _load(path), image_root(folder, options, "images")
        images = {i.get("id"): i for i in content["images"] if isinstance(i, Mapping)}
        for n, annotation in enumerate(content["annotations"]):
            yield _face(path, n, annotation, images, ids, root, options)


def coco_content(faces: Iterable[tuple[FaceSample, str]], schema: LandmarkSchema) -> dict[str, Any]:
    """The JSON content of (face, its picture's file name). Beyond COCO an annotation has our id, split and attributes.

    Other readers ignore them. Faces of one file name share an image; pictures are opened for their sizes.
    """
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for sample, name in faces:
        width, height = image_size(sample.image)
        image = images.setdefault(name, {"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        visible = np.ones(schema.num_points, bool) if sample.visible is None else sample.visible
        x0, y0, x1, y1 = (round(float(v), 6) for v in box_of(sample))
        points = zip(landmarks_of(sample).tolist(), visible, strict=True)
        annotations.append({
            "id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0,
            "area": (x1 - x0) * (y1 - y0), "bbox": [x0, y0, x1 - x0, y1 - y0], "num_keypoints": schema.num_points,
            "keypoints": [v for (x, y), seen in points for v in (round(x, 6), round(y, 6), 2 if seen else 1)],
            "face_id": sample.id, "split": sample.split,
            "attributes": {k: bool(v) for k, v in sample.attributes.items()},
        })  # fmt: skip
    skeleton = sorted({(a + 1, b + 1) for c in schema.boundaries.values() for a, b in itertools.pairwise(c)})
    category = {
        "id": 1,
        "name": "face",
        "supercategory": "person",
        "keypoints": [f"{schema.name}_{i}" for i in range(schema.num_points)],
        "skeleton": [list(pair) for pair in skeleton],
    }
    return {"images": list(images.values()), "annotations": annotations, "categories": [category]}


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    """Write images/ and annotations/<split>.json a split."""
    pictures = Pictures(folder / "images", dataset, options)
    (folder / "annotations").mkdir()
    for split, samples in by_split(dataset):
        content = coco_content(((s, pictures.name_of(s.image)) for s in samples), dataset.schema)
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    """Write predictions_coco.json."""
    content = coco_content(((face, face.image.as_posix()) for face in faces), schema)
    (folder / "predictions_coco.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
