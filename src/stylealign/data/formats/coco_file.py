"""A COCO file, opened: its images by id, which categories are faces, and the sizes that it declares for its images.

Knows no face: coco.py reads those.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stylealign.config import read_json
from stylealign.data.formats.declared_fit import DeclaredSizes
from stylealign.data.formats.declared_size import Size
from stylealign.data.formats.entry import ReadOptions, below_root, folder_of, image_root, split_of
from stylealign.data.formats.face_labels import face_labels
from stylealign.data.formats.files import with_suffix
from stylealign.data.formats.sniff import COCO, kind_of
from stylealign.data.paths import spelled
from stylealign.errors import UserError


def json_files(folder: Path) -> list[Path]:
    """The .json files of a source: in it, in its annotations/, else in folders of splits (Roboflow's train/, valid/).

    Where some are COCO files those alone, else all.
    """
    found = with_suffix(folder, ".json") or with_suffix(folder / "annotations", ".json")
    if not any(kind_of(path) == COCO for path in found):
        below = [
            path for part in sorted(folder.glob("*/")) if not part.is_symlink() for path in with_suffix(part, ".json")
        ]
        found = [path for path in below if kind_of(path) == COCO] or found
    return [path for path in found if kind_of(path) == COCO] or found


def root_of(source: Path) -> Path:
    """The folder that holds the pictures of a source: of what lies in `annotations/`, the one above."""
    folder = folder_of(source)
    if folder.absolute().name != "annotations":
        return folder
    return folder.parent if folder.name else folder.absolute().parent


class CocoFiles(NamedTuple):
    """The files of a source that are read."""

    paths: list[Path]
    faces: frozenset[str] | None
    """Names of the categories that are faces, by those of all files; None: they do not tell"""
    left_out: list[Path]
    """Files without landmarks whose images others label with some, as COCO's instances_*.json"""


def coco_files(source: Path) -> CocoFiles:
    """The file, or the files of a folder. Several are looked into first: what one declares counts for all."""
    if source.is_file():
        return CocoFiles([source], None, [])
    found = json_files(folder_of(source))
    if not found:
        raise UserError(f"{source}: found no .json in it, in its annotations folder or in folders of splits")
    if len(found) == 1:
        return CocoFiles(found, None, [])
    return _looked_into(tuple(found), tuple((stat.st_mtime_ns, stat.st_size) for stat in map(os.stat, found)))


@functools.lru_cache(maxsize=4)
def _looked_into(found: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> CocoFiles:
    """Which of several files are read, asked once however often they are opened; `stamps` make changed ones new."""
    del stamps
    names: set[str] = set()
    with_points: set[str] = set()  # images of files that label points
    without: dict[Path, set[str]] = {}
    for path in found:
        content = _load(path)
        images = {str(image.get("file_name")) for image in content["images"] if isinstance(image, Mapping)}
        if any(annotation.get("keypoints") for annotation in _mappings(content["annotations"])):
            with_points |= images
            categories = _real(_mappings(content.get("categories")), content["annotations"])
            names |= {str(category.get("name", "")) for category in categories}
        else:
            without[path] = images
    left_out = [path for path, images in without.items() if images & with_points]
    chosen = face_labels(names) if len(names) > 1 else set()
    return CocoFiles([path for path in found if path not in left_out], frozenset(chosen) or None, left_out)


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


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
    within: str
    """The folder of a split that the file lies in, below the source; empty: none"""
    split: str
    """What the names of file and folder say"""

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


def _real(categories: list[Mapping[str, Any]], annotations: list[Any]) -> list[Mapping[str, Any]]:
    """The categories without Roboflow's first, the name of the project, over the others and without annotations."""
    over = {text for category in categories if isinstance(text := category.get("supercategory"), str)}
    used = {key_of(a.get("category_id")) for a in annotations if isinstance(a, Mapping)}
    return [c for c in categories if str(c.get("name")) not in over or key_of(c.get("id")) in used]


def _face_categories(
    categories: list[Mapping[str, Any]], annotations: list[Any], named: frozenset[str] | None
) -> frozenset[int | str] | None:
    """Ids of those that are called faces (or, where none is, heads; or people); None: nothing tells them apart.

    `named`: what faces are called by the categories of all files of the source.
    """
    categories = _real(categories, annotations)
    if named is None and len(categories) < 2:
        return None
    chosen = named or face_labels(str(category.get("name", "")) for category in categories)
    ids = [
        key
        for category in categories
        if str(category.get("name", "")) in chosen and (key := key_of(category.get("id"))) is not None
    ]
    return frozenset(ids) if ids or named else None


def open_coco(
    path: Path, faces: frozenset[str] | None, options: ReadOptions | None = None, source: Path | None = None
) -> CocoFile:
    """Open one of the files of a source; `faces` are the categories' names that `coco_files` found."""
    content = _load(path)
    folder = root_of(path)
    within = "" if source is None or folder == root_of(source) else folder.name
    categories = _mappings(content.get("categories"))
    return CocoFile(
        path,
        folder if options is None else image_root(folder, options, "images"),
        _images(path, content["images"]),
        content["annotations"],
        categories,
        _face_categories(categories, content["annotations"], faces),
        within,
        split_of(f"{within} {path.stem}"),
    )


def declared_size(image: Mapping[str, Any]) -> Size | None:
    """(width, height) that a file says of an image; None where it does not, or has no number above 0 there."""
    try:
        width, height = (int(image.get(side) or 0) for side in ("width", "height"))
    except (TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def image_path(source: CocoFile, name: str) -> Path:
    """Where an image lies: below the root or, as CVAT writes them, in the folder there that the file's name ends in."""
    path = spelled(below_root(source.root, name), source.root)
    if not path.exists():
        words = source.path.stem.split("_")
        for part in ("_".join(words[-1:]), "_".join(words[2:])):  # person_keypoints_<subset>
            if part and (source.root / part / name).exists():
                return source.root / part / name
    return path


def sizes_of(source: CocoFile, options: ReadOptions) -> DeclaredSizes:
    """What a file declares of its images' sizes, against the files."""
    return DeclaredSizes(
        lambda: (
            (image_path(source, image["file_name"]), declared_size(image))
            for image in source.images.values()
            if isinstance(image.get("file_name"), str)
        ),
        source.root,
        options,
    )
