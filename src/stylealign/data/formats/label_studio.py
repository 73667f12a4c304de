"""Label Studio: a .json list of tasks, each with a picture's address and the annotations' regions.

    [{"id": 1, "data": {"image": "/data/local-files/?d=images/a.png"}, "annotations": [{"result": [
        {"id": "f0", "type": "rectanglelabels", "original_width": 60, "original_height": 40, "image_rotation": 0,
         "value": {"x": 1.5, "y": 5, "width": 65, "height": 70, "rotation": 0, "rectanglelabels": ["face"]}},
        {"id": "f0p2", "type": "keypointlabels", "parentID": "f0", "original_width": 60, "original_height": 40,
         "value": {"x": 52.5, "y": 50.6, "keypointlabels": ["nose"]}},
        {"id": "f0p2", "type": "choices", "value": {"choices": ["hidden"]}}]}]}]

x and y are percent of the original width and height. Points of one `parentID`, a rectangle, are one face; others
are one face together. A choice of a region, `hidden` (or occluded, invisible), makes its point hidden; one that is not
there is missing. Choices of the rectangle and of the picture are the face's attributes. The tool's predictions are no
labels: tasks with nothing else are passed over. The split is `data.split`, or in the file's name.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from stylealign.config import read_json
from stylealign.data.formats.entry import BadEntry, split_called, split_of
from stylealign.data.formats.named_points import Found, ToolFace
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.placing import PictureFinder
from stylealign.data.formats.sniff import LABEL_STUDIO
from stylealign.data.formats.tool_files import ToolFiles, ToolReader, each_file
from stylealign.data.image import IMAGE_SUFFIXES

HIDDEN = ("hidden", "occluded", "invisible")
"""Choices of a point's region that say so; the first is what we write."""
_NUMBERS = (int, float)  # what JSON's numbers become; no bool
FILES = ToolFiles(LABEL_STUDIO, ".json", "Label Studio export in it or below it, expected a .json list of tasks")


def _address(data: Any) -> str | None:
    """The address of a task's picture: its `image`, else the first text that names a picture."""
    if not isinstance(data, Mapping):
        return None
    texts = [data.get("image"), *data.values()]
    named = [text for text in texts if isinstance(text, str) and Path(_paths(text)[0]).suffix.lower() in IMAGE_SUFFIXES]
    return named[0] if named else next((text for text in texts[:1] if isinstance(text, str)), None)


def _paths(address: str) -> list[str]:
    """The paths that an address may stand for, the likeliest first; uploads have a tag before their names."""
    try:
        parts = urlsplit(address.replace("\\", "/"))
        local = parse_qs(parts.query).get("d") if "local-files" in parts.path else None
    except ValueError:
        return [address]
    path = (local[0] if local else unquote(parts.path) or address).lstrip("/")
    folder, slash, name = path.rpartition("/")
    bare = re.sub(r"^[0-9a-f]{8}-", "", name)
    return [path] if bare == name or not bare else [path, f"{folder}{slash}{bare}"]


def _annotation(task: Mapping[str, Any], where: str, notes: Notes) -> list[Any] | str | None:
    """The regions of a task's last annotation that was not cancelled; None: it has none; text: what is wrong."""
    listed = task.get("annotations", task.get("completions"))
    if listed is not None and not isinstance(listed, list):
        return f"annotations are {str(listed)[:60]}, expected a list"
    kept = [one for one in listed or [] if isinstance(one, Mapping) and not one.get("was_cancelled")]
    if not kept:
        if task.get("predictions"):
            notes.add("tasks with predictions alone passed over, which nobody has looked at", where)
        else:
            notes.add("tasks without an annotation passed over", where)
        return None
    if len(kept) > 1:
        notes.add("tasks have several annotations, of which the last is taken", where)
    result = kept[-1].get("result")
    return result if isinstance(result, list) else f"result is {str(result)[:60]}, expected a list of regions"


class _Region:
    """One region of a result, its numbers in px."""

    __slots__ = ("id", "parent", "rotated", "size", "value")  # there is one a point

    def __init__(self, item: Mapping[str, Any]):
        value = item.get("value")
        self.value: Mapping[str, Any] = value if isinstance(value, dict) else {}
        self.id, self.parent = str(item.get("id")), item.get("parentID")
        sides: tuple[Any, Any] = item.get("original_width"), item.get("original_height")
        width, height = sides
        are_sides = type(width) in _NUMBERS and type(height) in _NUMBERS and 1 <= width < 1e9 and 1 <= height < 1e9
        self.size = (int(width), int(height)) if are_sides else None
        self.rotated = item.get("image_rotation") or 0

    def px(self, *keys: str) -> np.ndarray | str:
        """Values in percent as px of width (x, width) and height (y, height), or what is wrong."""
        if self.size is None:
            return "no original_width and original_height, expected the size that its percents are of"
        if self.rotated:
            return f"image_rotation is {str(self.rotated)[:20]}, expected 0: turn it back in the tool and export again"
        found = [self.value.get(key) for key in keys]
        if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e9 for v in found):
            return f"{', '.join(keys)} are {str(found)[:60]}, expected numbers in percent"
        return np.array(found, dtype=np.float64) / 100 * [self.size[key in ("y", "height")] for key in keys]

    def words(self, key: str) -> list[str]:
        """The texts of a list in its value, such as labels or choices."""
        found = self.value.get(key)
        return list(map(str, found)) if isinstance(found, list) else []


def _all_px(regions: list[_Region]) -> np.ndarray | str:
    """(n, 2) px of points, or what is wrong with the first that is no such."""
    values: list[tuple[Any, Any]] = [(region.value.get("x"), region.value.get("y")) for region in regions]
    plain = all([type(x) in _NUMBERS and type(y) in _NUMBERS and abs(x) < 1e9 > abs(y) for x, y in values])
    sizes = {region.size for region in regions}
    if plain and len(sizes) == 1 and None not in sizes and not any(region.rotated for region in regions):
        return np.array(values, dtype=np.float64) / 100 * np.array(next(iter(sizes)))  # all at once: ten times as fast
    found = []
    for region in regions:
        xy = region.px("x", "y")
        if isinstance(xy, str):
            return xy
        found.append(xy)
    return np.array(found).reshape(-1, 2)


def _corners(region: _Region) -> np.ndarray | str:
    """(4,) x0 y0 x1 y1 round a rectangle, which may be turned about its first corner."""
    found = region.px("x", "y", "width", "height")
    if isinstance(found, str):
        return found
    turn = region.value.get("rotation")
    angle = np.deg2rad(turn) if isinstance(turn, int | float) and abs(turn) < 1e6 else 0.0
    x, y, width, height = found
    along, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corners = np.array([x, y]) + np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ np.stack([width * along, height * down])
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])


def _labels(region: _Region, others: Mapping[str, list[str]], key: str) -> str:
    return next(iter(region.words(key) or others.get(region.id, [])), "")


def _task_faces(items: list[Any], where: str, common: dict[str, Any], number: int, notes: Notes) -> Iterator[Found]:
    points: dict[str | None, list[tuple[_Region, str]]] = {}
    boxes: dict[str, _Region] = {}
    choices: dict[str, list[str]] = {}
    labels: dict[str, list[str]] = {}
    dots: list[_Region] = []
    for item in items:
        if not isinstance(item, dict):
            yield BadEntry(where, f"a region is {str(item)[:60]}, expected a mapping")
            return
        kind = str(item.get("type"))
        region = _Region(item)
        if kind in ("keypointlabels", "keypoint"):
            dots.append(region)
        elif kind in ("rectanglelabels", "rectangle"):
            boxes[region.id] = region
        elif kind == "choices":
            choices.setdefault(region.id, []).extend(region.words("choices"))
        elif kind == "labels":
            labels[region.id] = region.words("labels")
        elif kind != "relation":
            notes.add(f"regions of kind {kind[:40]!r} passed over, expected key points", where)
    for region in dots:
        parent = str(region.parent) if region.parent is not None and str(region.parent) in boxes else None
        points.setdefault(parent, []).append((region, _labels(region, labels, "keypointlabels")))
    if list(points) == [None] and len(boxes) == 1:
        points = {next(iter(boxes)): points[None]}
    regions = {region.id for region in dots} | boxes.keys()
    hiding = frozenset(HIDDEN)
    common_flags = {word: True for id, words in choices.items() if id not in regions for word in words}
    if not points:
        notes.add("tasks without key points passed over", where)
    for n, (parent, own) in enumerate(points.items()):
        box = _corners(boxes[parent]) if parent is not None else None
        found = _all_px([region for region, _ in own])
        wrong = next((text for text in (box, found) if isinstance(text, str)), None)
        sizes = {region.size for region, _ in own}
        if wrong or len(sizes) != 1:
            yield BadEntry(where, wrong or f"original sizes {sorted(map(str, sizes))}, expected one for a picture")
            continue
        flags = {word: True for word in choices.get(str(parent), ())}
        yield ToolFace(
            where=where, number=1000 * number + n, names=tuple(name for _, name in own), points=np.asarray(found),
            hidden=np.array([not hiding.isdisjoint(choices.get(region.id, ())) for region, _ in own]),
            box=None if box is None else np.asarray(box), attributes=common_flags | flags, declared=next(iter(sizes)),
            **common,
        )  # fmt: skip


def _faces(path: Path, source: Path, pictures: PictureFinder, notes: Notes) -> Iterator[Found]:
    content = read_json(path)
    tasks = content if isinstance(content, list) else [content]
    below = path.relative_to(source).with_suffix("").as_posix() if path != source else path.stem
    for number, task in enumerate(tasks):
        where = f"{path}: tasks[{number}]"
        if not isinstance(task, Mapping):
            yield BadEntry(where, f"found {str(task)[:60]}, expected a task with data and annotations")
            continue
        items = _annotation(task, where, notes)
        if items is None:
            continue
        data = task.get("data")
        address = _address(data)
        if isinstance(items, str) or address is None:
            yield BadEntry(where, items if isinstance(items, str) else "no address of a picture in its data")
            continue
        paths = _paths(address)
        places_of = [pictures.of(name, path.parent, path.parent / "images") for name in paths]
        image = next((place for place in places_of if place.exists()), places_of[0])
        split = data.get("split") if isinstance(data, Mapping) else None
        common = {
            "image": image, "name": pictures.name_of(image),
            "split": split_called(split) if isinstance(split, str) else split_of(below),
        }  # fmt: skip
        yield from _task_faces(items, where, common, number, notes)


READER = ToolReader(FILES, each_file(FILES, _faces))
