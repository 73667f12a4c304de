"""COCO key-point JSON: images, annotations with `keypoints` [x, y, v, ...] and `bbox` [x, y, width, height].

v is 2 visible, 1 hidden, 0 not labelled. A face with every v 0 (or no keypoints) is unlabelled; a landmark with v 0, or
at 0 0 or -1 -1, is missing. A source is one .json or a folder of them (also in `annotations/`); the split is in the
file's name or, if there, in an annotation's own `split`. `attributes` (name -> true/false) are kept. Coordinates count
from 0.

What a file says twice is compared: the declared size of an image with the file's, the key points' names of one category
with another's. Of several categories those called face are read (or else head, or person); crowds are not.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stylealign.config import read_json
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.declared_size import TURNED, Fit, Size, fit, sizes, turned
from stylealign.data.formats.entry import (
    BadEntry,
    Entry,
    Ids,
    ReadOptions,
    checked_face,
    folder_of,
    image_root,
    inspect_image,
    place_problem,
    split_of,
    turn_of,
)
from stylealign.data.formats.files import with_suffix
from stylealign.data.formats.point_names import PointNames
from stylealign.data.formats.writing import Pictures, WriteOptions, box_of, by_split, landmarks_of
from stylealign.data.image import image_size
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.orientation import map_box
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

_FACES = ({"face", "faces"}, {"head", "heads"}, {"person", "persons", "people", "human", "humans"})


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    folder = folder_of(source)
    found = with_suffix(folder, ".json") or with_suffix(folder / "annotations", ".json")
    if not found:
        raise UserError(f"{source}: found no .json in it or in its annotations folder")
    return found


def recognise(path: Path) -> bool:
    """Whether it is a .json file, or a folder with one in it."""
    return path.suffix.lower() == ".json" or (path.is_dir() and bool(with_suffix(path, ".json")))


def _key(value: Any) -> int | str | None:
    """An id that a file may use: a whole number or a text; None for anything else."""
    return value if isinstance(value, int | str) else None


class _Source(NamedTuple):
    """One file, opened."""

    path: Path
    root: Path
    """Of its pictures"""
    images: Mapping[int | str, Mapping[str, Any]]
    """By id"""
    annotations: list[Any]
    categories: list[Mapping[str, Any]]
    faces: frozenset[int | str] | None
    """Ids of the categories that are faces; None: the file has one category or none, and all are"""

    def is_face(self, annotation: Mapping[str, Any]) -> bool:
        """Whether an annotation is of a face, by its category."""
        return self.faces is None or _key(annotation.get("category_id")) in self.faces


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise UserError(f"{path}: expected COCO's lists `images` and `annotations`")
    return content


def _images(path: Path, listed: list[Any]) -> dict[int | str, Mapping[str, Any]]:
    found: dict[int | str, Mapping[str, Any]] = {}
    for number, image in enumerate(listed):
        key = _key(image.get("id")) if isinstance(image, Mapping) else None
        if key is None:
            continue  # an annotation that means it is refused as naming no image
        if key in found and found[key] != image:
            raise UserError(f"{path}: images[{number}]: the id {key!r} is that of another image too, expected one each")
        found[key] = image
    return found


def _face_categories(categories: list[Mapping[str, Any]]) -> frozenset[int | str] | None:
    """Ids of those that are called faces (or, where none is, heads; or people); None: nothing tells them apart."""
    if len(categories) < 2:
        return None
    for words in _FACES:
        ids = [
            key
            for category in categories
            if (key := _key(category.get("id"))) is not None
            and words & set(re.findall("[a-z]+", str(category.get("name", "")).lower()))
        ]
        if ids:
            return frozenset(ids)
    return None


def _open(path: Path, options: ReadOptions | None = None) -> _Source:
    content = _load(path)
    folder = path.parent.parent if path.parent.name == "annotations" else path.parent
    listed = content.get("categories")
    categories = [c for c in listed if isinstance(c, Mapping)] if isinstance(listed, list) else []
    return _Source(
        path,
        folder if options is None else image_root(folder, options, "images"),
        _images(path, content["images"]),
        content["annotations"],
        categories,
        _face_categories(categories),
    )


def count_points(source: Path) -> int:
    """Points a face of the first annotation of a face that has any."""
    for path in _files(source):
        opened = _open(path)
        for annotation in opened.annotations:
            if isinstance(annotation, Mapping) and opened.is_face(annotation):
                numbers = annotation.get("keypoints")
                if isinstance(numbers, list) and numbers:
                    return len(numbers) // 3
    raise UserError(f"{source}: no annotation has keypoints; say with --schema which mark-up the faces are for")


# --------------------------------------------------------------------------------------------------------------------
# Declared sizes


def _declared(image: Mapping[str, Any]) -> Size | None:
    """(width, height) that a file says of an image; None where it does not, or has no number above 0 there."""
    try:
        width, height = (int(image.get(side) or 0) for side in ("width", "height"))
    except (TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


class _Sizes:
    """Brings the numbers of a file's annotations to stored pixels, by the sizes that it declares for its images."""

    def __init__(self, source: _Source, options: ReadOptions):
        self._source, self._options = source, options
        self._upright: bool | str | None = None  # asked when needed

    def fit(self, image: Mapping[str, Any]) -> Fit | str | None:
        """How the numbers of an image become stored pixels, what is wrong, or None: nothing is declared or readable."""
        path, declared = self._source.root / image["file_name"], _declared(image)
        if declared is None or place_problem(path, self._source.root):
            return None
        stored = inspect_image(path, self._options)
        if isinstance(stored, str):
            return None  # checked_face says what is wrong with it
        turn = turn_of(path)
        found = fit(declared, stored, turn)
        if found is None:
            return f"image {path}: {sizes(declared, stored, turn)}: expected the size its landmarks are for"
        if found.either:
            upright = self._tool_turns()
            if upright is None:
                self._options.notes.add(
                    "pictures have the same size turned by EXIF; landmarks are taken as of the stored pixels", path.name
                )
            elif isinstance(upright, str):
                return f"image {path}: EXIF turns it; {upright}"
            elif upright:
                return turned(found, declared, stored, turn)
        return found

    def _tool_turns(self) -> bool | str | None:
        """Whether the file was annotated on pictures as EXIF turns them, by those whose size tells; None: none does."""
        if self._upright is None:
            seen = set()
            for image in self._source.images.values():
                declared, name = _declared(image), image.get("file_name")
                if (
                    declared is None
                    or not isinstance(name, str)
                    or place_problem(self._source.root / name, self._source.root)
                ):
                    continue
                stored = inspect_image(self._source.root / name, self._options)
                if isinstance(stored, str) or (turn := turn_of(self._source.root / name)) < 5:
                    continue
                found = fit(declared, stored, turn)
                if found is not None and not found.either:
                    seen.add(TURNED in found.how)
            self._upright = (
                "some declared sizes are as stored and some as turned, and this one may be either"
                if len(seen) > 1
                else next(iter(seen), "")
            )
        return None if self._upright == "" else self._upright


# --------------------------------------------------------------------------------------------------------------------
# Faces


def _array(values: Any, what: str, count: int | None = None) -> np.ndarray | str:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return f"{what} is {str(values)[:60]}, expected numbers"
    if array.ndim != 1 or (count is not None and len(array) != count):
        return f"{what} has {array.size} numbers, expected {count}"
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
            f"{len(missing)} of {count} landmarks are not labelled (v 0), the first is {missing[0]} "
            "(--missing keep reads faces without them)"
        )
    return values.reshape(-1, 3)


def _face(
    source: _Source, number: int, annotation: Any, order: np.ndarray | None, sizes: _Sizes, ids: Ids,
    options: ReadOptions,
) -> Entry:  # fmt: skip
    where = f"{source.path}: annotations[{number}]"
    key = _key(annotation.get("image_id")) if isinstance(annotation, Mapping) else None
    image = None if key is None else source.images.get(key)
    if image is None or not isinstance(image.get("file_name"), str):
        return BadEntry(where, "its image_id names no image with a file_name")
    name = image["file_name"]
    face = ids.of(name, number)
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
    fitted = sizes.fit(image)
    if isinstance(fitted, str):
        return BadEntry(where, fitted, face)
    labels: dict[str, Any] = {}
    if points is not None:
        points = points if order is None else points[order]
        labels = {"landmarks": points[:, :2], "numbers": points[:, :2], "visible": points[:, 2] == 2}
        labels["missing"] = points[:, 2] == 0
    if fitted is not None and fitted.how:
        options.notes.add(f"faces' landmarks and boxes {' and '.join(fitted.how)}, by the declared size", face)
        if points is not None:
            labels["landmarks"] = geometry.apply(fitted.stored_from_declared, points[:, :2])
        box = None if box is None else map_box(fitted.stored_from_declared, box)
    return checked_face(
        where, options, id=face, image=source.root / name, root=source.root, box_xyxy=box,
        attributes={str(k): v for k, v in attributes.items() if isinstance(v, bool)},
        split=str(annotation.get("split") or split_of(source.path.stem)), stored=fitted is not None, **labels,
    )  # fmt: skip


def _passed_over(source: _Source, annotation: Any, names: Mapping[int | str, str]) -> str | None:
    """Why an annotation is none of a face, in words; None: it is one."""
    if not isinstance(annotation, Mapping):
        return None
    category = _key(annotation.get("category_id"))
    if not source.is_face(annotation) and (category in names or category is None):
        return f"annotations of the category {names[category] if category is not None else None!r} passed over"
    return "annotations of crowds (iscrowd) passed over" if annotation.get("iscrowd") in (1, True) else None


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    """Yield a face an annotation; ids are image paths without suffix, further faces of an image get their position."""
    ids, order = Ids(), PointNames(options.schema.num_points, options.notes)
    for path in _files(source):
        opened = _open(path, options)
        sizes = _Sizes(opened, options)
        orders: dict[int | str | None, np.ndarray | None] = {}
        for n, category in enumerate(opened.categories):
            key = _key(category.get("id"))
            if opened.faces is None or key in opened.faces:
                orders[key] = order.of(category.get("keypoints"), f"{path}: categories[{n}].keypoints")
        names = {key: str(c.get("name")) for c in opened.categories if (key := _key(c.get("id"))) is not None}
        for n, annotation in enumerate(opened.annotations):
            where = f"{path}: annotations[{n}]"
            if why := _passed_over(opened, annotation, names):
                options.notes.add(why, where)
                continue
            category_id = _key(annotation.get("category_id")) if isinstance(annotation, Mapping) else None
            if len(names) > 1 and category_id not in names:
                yield BadEntry(
                    where, f"its category_id is {category_id!r}, expected one of {', '.join(map(repr, names))}"
                )
                continue
            only = orders.get(category_id) if len(orders) != 1 else next(iter(orders.values()))
            yield _face(opened, n, annotation, only, sizes, ids, options)


def coco_content(faces: Iterable[tuple[FaceSample, str]], schema: LandmarkSchema) -> dict[str, Any]:
    """The JSON content of (face, its picture's file name). Beyond COCO an annotation has our id, split and attributes.

    Other readers ignore them. Faces of one file name share an image; pictures are opened for their sizes.
    """
    images: dict[str, dict[str, Any]] = {}
    annotations: list[dict[str, Any]] = []
    for sample, name in faces:
        width, height = image_size(sample.image)
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
