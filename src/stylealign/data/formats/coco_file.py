"""A COCO file, opened: its images by id, which categories are faces, and the sizes that it declares for its images.

Knows no face: coco.py reads those.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stylealign.config import read_json
from stylealign.data.formats.declared_size import TURNED, Fit, Size, fit, sizes, turned
from stylealign.data.formats.entry import ReadOptions, folder_of, image_root, inspect_image, place_problem, turn_of
from stylealign.data.formats.files import with_suffix
from stylealign.errors import UserError

_FACES = ({"face", "faces"}, {"head", "heads"}, {"person", "persons", "people", "human", "humans"})


def coco_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    folder = folder_of(source)
    found = with_suffix(folder, ".json") or with_suffix(folder / "annotations", ".json")
    if not found:
        raise UserError(f"{source}: found no .json in it or in its annotations folder")
    return found


def key_of(value: Any) -> int | str | None:
    """An id that a file may use: a whole number or a text; None for anything else."""
    return value if isinstance(value, int | str) else None


class CocoFile(NamedTuple):
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
        return self.faces is None or key_of(annotation.get("category_id")) in self.faces


def _load(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in ("images", "annotations")):
        raise UserError(f"{path}: expected COCO's lists `images` and `annotations`")
    return content


def _images(path: Path, listed: list[Any]) -> dict[int | str, Mapping[str, Any]]:
    found: dict[int | str, Mapping[str, Any]] = {}
    for number, image in enumerate(listed):
        key = key_of(image.get("id")) if isinstance(image, Mapping) else None
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
            if (key := key_of(category.get("id"))) is not None
            and words & set(re.findall("[a-z]+", str(category.get("name", "")).lower()))
        ]
        if ids:
            return frozenset(ids)
    return None


def open_coco(path: Path, options: ReadOptions | None = None) -> CocoFile:
    content = _load(path)
    folder = path.parent.parent if path.parent.name == "annotations" else path.parent
    listed = content.get("categories")
    categories = [c for c in listed if isinstance(c, Mapping)] if isinstance(listed, list) else []
    return CocoFile(
        path,
        folder if options is None else image_root(folder, options, "images"),
        _images(path, content["images"]),
        content["annotations"],
        categories,
        _face_categories(categories),
    )


def _declared(image: Mapping[str, Any]) -> Size | None:
    """(width, height) that a file says of an image; None where it does not, or has no number above 0 there."""
    try:
        width, height = (int(image.get(side) or 0) for side in ("width", "height"))
    except (TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


class DeclaredSizes:
    """Brings the numbers of a file's annotations to stored pixels, by the sizes that it declares for its images."""

    def __init__(self, source: CocoFile, options: ReadOptions):
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
