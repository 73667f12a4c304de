"""COCO key-point JSON: images, annotations with `keypoints` [x, y, v, ...] and `bbox` [x, y, width, height].

v is 2 visible, 1 hidden, 0 not labelled. A face with every v 0 (or no keypoints) is unlabelled; a landmark with v 0, or
at 0 0 or -1 -1, is missing. A source is one .json or a folder of them (also in `annotations/`); the split is in the
file's name or, if there, in an annotation's own `split`. `attributes` (name -> true/false) are kept, and so is
`face_id`, our id of a face, where all of a file's faces have one. Coordinates count from 0.

What a file says twice is compared: the declared size of an image with the file's, the key points' names of one category
with another's. Of several categories those called face are read (or else head, or person); crowds are not.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.coco_file import (
    CocoFile,
    coco_files,
    declared_size,
    image_path,
    json_files,
    key_of,
    open_coco,
    sizes_of,
)
from stylealign.data.formats.declared_fit import DeclaredSizes
from stylealign.data.formats.entry import (
    BadEntry,
    Entry,
    Ids,
    ReadOptions,
    checked_face,
    split_called,
)
from stylealign.data.formats.point_names import PointNames, in_order
from stylealign.data.formats.sniff import COCO, kind_of
from stylealign.data.formats.writing import Pictures, WriteOptions, box_of, by_split, landmarks_of, names_of
from stylealign.data.image import image_size
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.orientation import map_box
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema


def recognise(path: Path) -> bool:
    """Whether it is a .json file that is of no other known kind, or a folder that `read` finds a COCO file in."""
    if path.is_dir():
        return any(kind_of(found) == COCO for found in json_files(path))
    return path.suffix.lower() == ".json" and kind_of(path) in (COCO, None)


def count_points(source: Path) -> int:
    """Points a face of the first annotation of a face that has any."""
    files = coco_files(source)
    for path in files.paths:
        opened = open_coco(path, files.faces)
        for annotation in opened.annotations:
            if isinstance(annotation, Mapping) and opened.is_face(annotation):
                numbers = annotation.get("keypoints")
                if isinstance(numbers, list) and numbers:
                    return len(numbers) // 3
    raise UserError(f"{source}: no annotation has keypoints; say with --schema which mark-up the faces are for")


# --------------------------------------------------------------------------------------------------------------------
# Faces


def _array(values: Any, what: str, count: int | None = None) -> np.ndarray | str:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return f"{what} is {str(values)[:60]}, expected numbers"
    if array.ndim != 1 or (count is not None and len(array) != count):
        return f"{what} has {counted(array.size, 'number')}, expected {count}"
    return array


def _points(annotation: Mapping[str, Any], options: ReadOptions) -> np.ndarray | str | None:
    """(P, 3) x, y, v of an annotation, what is wrong with it, or None where it labels nothing."""
    if not annotation.get("keypoints"):
        return None
    count = options.schema.num_points
    values = _array(annotation["keypoints"], "keypoints", 3 * count)
    if isinstance(values, str):
        return f"{values} (3 x {count} of {options.schema.name})"
    flags = values[2::3]
    if not np.isin(flags, (0, 1, 2)).all():
        return "a keypoint's v is not 0, 1 or 2"
    if not flags.any():
        return None
    if annotation.get("num_keypoints") == 0:
        return f"num_keypoints is 0, but {int((flags > 0).sum())} of its keypoints have a v above 0"
    missing = np.flatnonzero(flags == 0)
    if len(missing) and options.missing == "refuse":
        return (
            f"{len(missing)} of {counted(count, 'landmark')} not labelled (v 0), the first is {missing[0]} "
            "(--missing keep reads faces without them)"
        )
    return values.reshape(-1, 3)


def _face(
    source: CocoFile, number: int, annotation: Any, order: np.ndarray | None, sizes: DeclaredSizes, ids: Ids | None,
    options: ReadOptions,
) -> Entry:  # fmt: skip
    """The face of an annotation; no `ids`: it has its own."""
    where = f"{source.path}: annotations[{number}]"
    key = key_of(annotation.get("image_id")) if isinstance(annotation, Mapping) else None
    image = None if key is None else source.images.get(key)
    if image is None or not isinstance(image.get("file_name"), str):
        return BadEntry(where, "its image_id names no image with a file_name")
    name = image["file_name"]
    path = image_path(source, name)
    below = path.relative_to(source.root).as_posix() if path.is_relative_to(source.root) else name
    if ids is None:
        face = annotation["face_id"]
    else:
        face = ids.of(f"{source.within}/{below}" if source.within else below, number)
    points = _points(annotation, options)
    if isinstance(points, str):
        return BadEntry(where, points, face)
    box = None
    if annotation.get("bbox"):
        corner_size = _array(annotation["bbox"], "bbox", 4)
        if isinstance(corner_size, str):
            return BadEntry(where, corner_size, face)
        box = np.concatenate([corner_size[:2], corner_size[:2] + corner_size[2:]])
    attributes = annotation.get("attributes") or {}
    if not isinstance(attributes, Mapping):
        return BadEntry(where, f"attributes are {str(attributes)[:60]}, expected names with true or false", face)
    fitted = sizes.fit(path, declared_size(image))
    if isinstance(fitted, str):
        return BadEntry(where, fitted, face)
    labels: dict[str, Any] = {}
    split = annotation.get("split")
    if points is not None:
        points = points if order is None else points[order]
        labels = {"landmarks": points[:, :2], "numbers": points[:, :2], "visible": points[:, 2] == 2}
        labels["missing"] = points[:, 2] == 0
    if fitted is not None and fitted.how:
        options.notes.add(f"faces' landmarks and boxes {' and '.join(fitted.how)}, {fitted.why}", face)
        if points is not None:
            labels["landmarks"] = geometry.apply(fitted.stored_from_declared, points[:, :2])
        box = None if box is None else map_box(fitted.stored_from_declared, box)
        labels["orientation"] = fitted.orientation
    return checked_face(
        where, options, id=face, image=path, root=source.root, box_xyxy=box,
        attributes={str(k): v for k, v in attributes.items() if isinstance(v, bool)},
        split=split_called(str(split)) if split else source.split, stored=fitted is not None, **labels,
    )  # fmt: skip


def _passed_over(source: CocoFile, annotation: Any, names: Mapping[int | str, str]) -> str | None:
    """Why an annotation is none of a face, in words; None: it is one."""
    if not isinstance(annotation, Mapping):
        return None
    category = key_of(annotation.get("category_id"))
    if not source.is_face(annotation) and (category in names or category is None):
        return f"annotations of the category {names[category] if category is not None else None!r} passed over"
    return "annotations of crowds (iscrowd) passed over" if annotation.get("iscrowd") in (1, True) else None


def _note_versions(source: CocoFile, seen: dict[str, str], options: ReadOptions) -> None:
    """Say which pictures Roboflow made of one photograph (`a_jpg.rf.1f2e.jpg`); `seen` holds each one's split."""
    for image in source.images.values():
        original, mark, _ = str(image.get("file_name")).rpartition(".rf.")
        if mark and original in seen:
            where = "in another split" if seen[original] != source.split else "in one split: keep them in one"
            options.notes.add(f"further versions of a photograph (Roboflow's .rf.) stand {where}", original)
        elif mark:
            seen[original] = source.split


def point_names(source: Path) -> Sequence[str]:
    """The names of the first category of faces that names its points."""
    files = coco_files(source)
    for path in files.paths:
        opened = open_coco(path, files.faces)
        for category in opened.categories:
            names = category.get("keypoints")
            if (
                (opened.faces is None or key_of(category.get("id")) in opened.faces)
                and isinstance(names, list)
                and names
            ):
                return in_order(str(name) for name in names)
    return ()


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face an annotation; ids are the file's own (`face_id`), else image paths without suffix, where further
    faces of an image get their position."""
    ids, order = Ids(), PointNames(options.schema.num_points, options.notes, options.point_names)
    versions: dict[str, str] = {}
    files = coco_files(source)
    for path in files.left_out:
        options.notes.add("COCO files without key points passed over, beside others of the same images", str(path))
    for path in files.paths:
        opened = open_coco(path, files.faces, options, source)
        _note_versions(opened, versions, options)
        sizes = sizes_of(opened, options)
        orders: dict[int | str | None, np.ndarray | None] = {}
        for n, category in enumerate(opened.categories):
            key = key_of(category.get("id"))
            if opened.faces is None or key in opened.faces:
                orders[key] = order.of(category.get("keypoints"), f"{path}: categories[{n}].keypoints")
        names = {key: str(c.get("name")) for c in opened.categories if (key := key_of(c.get("id"))) is not None}
        faces = [a for a in opened.annotations if not _passed_over(opened, a, names)]
        named = {key_of(a.get("image_id")) for a in faces if isinstance(a, Mapping)}
        for image in (image for key, image in opened.images.items() if key not in named):
            options.notes.add("images without a face passed over", f"{path}: {image.get('file_name')}")
        own = ids.own([a.get("face_id") if isinstance(a, Mapping) else None for a in faces])
        for n, annotation in enumerate(opened.annotations):
            where = f"{path}: annotations[{n}]"
            if why := _passed_over(opened, annotation, names):
                options.notes.add(why, where)
                continue
            category_id = key_of(annotation.get("category_id")) if isinstance(annotation, Mapping) else None
            if len(names) > 1 and category_id not in names:
                yield BadEntry(
                    where, f"its category_id is {category_id!r}, expected one of {', '.join(map(repr, names))}"
                )
                continue
            only = orders.get(category_id) if len(orders) != 1 else next(iter(orders.values()))
            yield _face(opened, n, annotation, only, sizes, None if own else ids, options)


def coco_content(
    faces: Iterable[tuple[FaceSample, str]],
    schema: LandmarkSchema,
    size_of: Callable[[Path], tuple[int, int]] = image_size,
) -> dict[str, Any]:
    """The JSON content of (face, its picture's file name). Beyond COCO an annotation has our id, split and attributes.

    Other readers ignore them. Faces of one file name share an image; pictures are opened for their sizes (`size_of`).
    """
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for sample, name in faces:
        width, height = size_of(sample.image)
        image = images.setdefault(name, {"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        there = ~sample.missing_points
        flags = np.where(there, 2 if sample.visible is None else np.where(sample.visible, 2, 1), 0)
        x0, y0, x1, y1 = (round(float(v), 6) for v in box_of(sample))
        points = zip(np.where(there[:, None], landmarks_of(sample), 0).tolist(), flags.tolist(), strict=True)
        annotations.append({
            "id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0,
            "area": (x1 - x0) * (y1 - y0), "bbox": [x0, y0, x1 - x0, y1 - y0], "num_keypoints": int(there.sum()),
            "keypoints": [value for (x, y), v in points for value in (round(x, 6), round(y, 6), v)],
            "face_id": sample.id, "split": sample.split,
            "attributes": {k: bool(v) for k, v in sample.attributes.items()},
        })  # fmt: skip
    skeleton = sorted({(a + 1, b + 1) for c in schema.boundaries.values() for a, b in itertools.pairwise(c)})
    category = {
        "id": 1,
        "name": "face",
        "supercategory": "person",
        "keypoints": list(names_of(schema)),
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
