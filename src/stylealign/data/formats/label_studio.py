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

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, unquote_plus, urlsplit

import numpy as np

from stylealign.config import read_json
from stylealign.data.formats.entry import BadEntry, split_called, split_of
from stylealign.data.formats.face_boxes import box_round, turned_box
from stylealign.data.formats.hidden import HIDDEN, says_hidden
from stylealign.data.formats.named_points import Found, ToolFace
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.placing import PictureFinder
from stylealign.data.formats.sniff import LABEL_STUDIO
from stylealign.data.formats.tool_files import ToolFiles, ToolReader, each_file
from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.errors import counted, quoted

_QUOTED = re.compile(r"(?:[^\s&#?%]|%[0-9A-Fa-f]{2})*")
"""A path as it may stand in an address"""
_NUMBERS = (int, float)  # what JSON's numbers become; no bool
FILES = ToolFiles(LABEL_STUDIO, ".json", "Label Studio export in it or below it, expected a .json list of tasks")


def _has_suffix(path: str) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def _is_picture(text: Any) -> bool:
    return isinstance(text, str) and any(map(_has_suffix, _paths(text)))


def _address(data: Any, shown_by: str, page: int | None) -> tuple[str, str]:
    """(address of the picture that a task's regions lie on, empty) or (empty, what is wrong).

    `shown_by` is the regions' `to_name`, the tag of the labelling configuration that shows the picture, mostly called
    as its entry of `data`; `page` their `item_index`, which of a list of pictures it is.
    """
    data = data if isinstance(data, Mapping) else {}
    pictures = {
        str(key): value
        for key, value in data.items()
        if _is_picture(value) or (isinstance(value, list) and value and all(map(_is_picture, value)))
    }
    key = next((key for key in (shown_by, "image") if key in pictures), None)
    if key is None and len(pictures) == 1:
        key = next(iter(pictures))
    if key is None and pictures:
        return "", f"its data has several pictures, {quoted(pictures)}, and to_name {shown_by[:40]!r} is none of them"
    if key is None:
        text = data.get("image")
        return (text, "") if isinstance(text, str) else ("", "no address of a picture in its data")
    if not isinstance(pictures[key], list):
        return (pictures[key], "") if not page else ("", f"item_index is {page}, but {key!r} is one picture")
    if page is None and len(pictures[key]) > 1:
        return "", f"{key!r} is a list of {counted(len(pictures[key]), 'picture')}, but its regions have no item_index"
    index = page or 0
    return (pictures[key][index], "") if index < len(pictures[key]) else ("", f"no picture {page} in {key!r}")


def _paths(address: str) -> list[str]:
    """The paths that an address may stand for, the likeliest first; uploads have a tag before their names.

    An address in which everything is quoted that has to be is decoded, as the tool and a browser do. One with a bare
    `&`, `#` or `%` in the picture's name was put together without quoting: its text is the likelier path.
    """
    address = address.replace("\\", "/")
    try:
        parts = urlsplit(address)
    except ValueError:
        return [address]
    local = re.search(r"[?&]d=(.*)", address) if "local-files" in parts.path else None
    text = local[1] if local else re.sub(r"^[a-z0-9.+-]+://[^/]*", "", address)
    cut = re.split("[&#]" if local else "[?#]", text)[0]
    if parts.scheme in ("http", "https") and not local:
        text = cut
    named = text if _has_suffix(text) else cut  # what follows a mark may be of the name
    decoded = unquote_plus(named) if local else unquote(named)
    likeliest = (decoded, text) if _QUOTED.fullmatch(text) else (text, decoded)
    paths = dict.fromkeys(path.lstrip("/") for path in likeliest if path.strip("/"))
    return [path for each in paths for path in _bare(each, uploads=not local)] or [address]


def _bare(path: str, uploads: bool) -> list[str]:
    """The path; of an upload also that without the tag before its name."""
    folder, slash, name = path.rpartition("/")
    bare = re.sub(r"^[0-9a-f]{8}-", "", name) if uploads and "upload" in folder.split("/") else name
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

    __slots__ = ("id", "page", "parent", "rotated", "shown_by", "size", "value")  # there is one a point

    def __init__(self, item: Mapping[str, Any]):
        value = item.get("value")
        self.value: Mapping[str, Any] = value if isinstance(value, dict) else {}
        self.id, self.parent = str(item.get("id")), item.get("parentID")
        page = item.get("item_index")
        self.shown_by = str(item.get("to_name"))
        self.page = page if isinstance(page, int) and not isinstance(page, bool) and page >= 0 else None
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
    """(4,) x0 y0 x1 y1 px round a rectangle, which may be turned about its first corner."""
    found = region.px("x", "y", "width", "height")
    if isinstance(found, str):
        return found
    turn = region.value.get("rotation")
    degrees = float(turn) if isinstance(turn, int | float) and abs(turn) < 1e6 else 0.0
    return turned_box(np.concatenate([found[:2], found[:2] + found[2:]]), degrees, found[:2])


def _name(region: _Region, others: Mapping[str, list[str]], where: str, notes: Notes) -> tuple[str, bool]:
    """(label of a point, whether another of its labels says that it is hidden)."""
    words = region.words("keypointlabels") or others.get(region.id, [])
    if len(words) < 2:
        return (words[0] if words else ""), False
    names = [word for word in words if not says_hidden(word)]
    for word in names[1:]:
        notes.add(f"labels {word[:40]!r} of points that have another before it passed over", where)
    return (names or words)[0], len(names) < len(words)


class _Regions(NamedTuple):
    """The regions of one picture of a task, by kind."""

    dots: list[_Region]
    boxes: dict[str, _Region]
    """By id; so are the next two"""
    choices: dict[str, list[str]]
    labels: dict[str, list[str]]


def _regions(items: list[Any], where: str, notes: Notes) -> dict[tuple[str, int | None], _Regions] | str:
    """The regions of a task, by the picture that they lie on: its tag and its place in a list; or what is wrong."""
    found: dict[tuple[str, int | None], _Regions] = {}
    for item in items:
        if not isinstance(item, dict):
            return f"a region is {str(item)[:60]}, expected a mapping"
        kind = str(item.get("type"))
        if kind == "relation":
            continue
        region = _Region(item)
        own = found.setdefault((region.shown_by, region.page), _Regions([], {}, {}, {}))
        if kind in ("keypointlabels", "keypoint"):
            own.dots.append(region)
        elif kind in ("rectanglelabels", "rectangle"):
            own.boxes[region.id] = region
        elif kind == "choices":
            own.choices.setdefault(region.id, []).extend(region.words("choices"))
        elif kind == "labels":
            own.labels[region.id] = region.words("labels")
        else:
            notes.add(f"regions of kind {kind[:40]!r} passed over, expected key points", where)
    return found


def _picture_faces(
    regions: _Regions, flags: dict[str, bool], where: str, common: dict[str, Any], number: int, notes: Notes
) -> Iterator[Found]:
    """The faces of one picture of a task; `flags` are the attributes of all of them."""
    points: dict[str | None, list[tuple[_Region, str, bool]]] = {}
    for region in regions.dots:
        parent = str(region.parent) if region.parent is not None and str(region.parent) in regions.boxes else None
        points.setdefault(parent, []).append((region, *_name(region, regions.labels, where, notes)))
    free = {id: box for id, box in regions.boxes.items() if id not in points}
    for n, (parent, own) in enumerate(points.items()):
        found = _all_px([region for region, _, _ in own])
        box = None
        if parent is None and not isinstance(found, str):
            parent, box = _lone_box(found, free, regions.labels)
            free = {id: box for id, box in free.items() if id != parent}
        elif parent is not None:
            box = _corners(regions.boxes[parent])
        wrong = next((text for text in (box, found) if isinstance(text, str)), None)
        sizes = {region.size for region, _, _ in own}
        if wrong or len(sizes) != 1:
            yield BadEntry(where, wrong or f"original sizes {sorted(map(str, sizes))}, expected one for a picture")
            continue
        own_flags = {word: True for word in regions.choices.get(str(parent), ())}
        yield ToolFace(
            where=where, number=1000 * number + n, names=tuple(name for _, name, _ in own), points=np.asarray(found),
            hidden=np.array([
                hidden or any(map(says_hidden, regions.choices.get(region.id, ()))) for region, _, hidden in own
            ]),
            box=None if box is None else np.asarray(box), attributes=flags | own_flags, declared=next(iter(sizes)),
            **common,
        )  # fmt: skip
    dots = {region.id for region in regions.dots}
    for word in (word for id, words in regions.choices.items() if id in dots for word in words):
        if not says_hidden(word):
            notes.add(f"choices {word[:40]!r} of points passed over, expected {HIDDEN[0]}", where)
    for _ in free:
        notes.add("rectangles without points passed over", where)


def _lone_box(
    points: np.ndarray, boxes: Mapping[str, _Region], labels: Mapping[str, list[str]]
) -> tuple[str | None, np.ndarray | str | None]:
    """(id, corners) of the rectangle that (n, 2) points lie in which belong to none, or what is wrong with one."""
    corners = {id: _corners(box) for id, box in boxes.items()}
    if wrong := next(((id, found) for id, found in corners.items() if isinstance(found, str)), None):
        return wrong
    called = [" ".join(box.words("rectanglelabels") or labels.get(id, [])) for id, box in boxes.items()]
    chosen = box_round(points, [np.asarray(found) for found in corners.values()], called)
    return (None, None) if chosen is None else list(corners.items())[chosen]


def _picture(address: str, beside: Path, pictures: PictureFinder) -> Path:
    """The picture of an address, the first of its paths at which one lies, else the first of all."""
    names = _paths(address)
    places = (pictures.of(name, beside, beside / "images", written=address) for name in names)
    return next((place for place in places if os.path.exists(place)), None) or pictures.of(
        names[0], beside, beside / "images", written=address
    )


def _task_faces(
    items: list[Any],
    task: Mapping[str, Any],
    path: Path,
    below: str,
    number: int,
    pictures: PictureFinder,
    notes: Notes,
) -> Iterator[Found]:
    """The faces of a task with these regions, on whichever of its pictures they lie."""
    where, data = f"{path}: tasks[{number}]", task.get("data")
    found = _regions(items, where, notes)
    if isinstance(found, str):
        yield BadEntry(where, found)
        return
    labelled = {key: own for key, own in found.items() if own.dots}
    if not labelled:
        notes.add("tasks without key points passed over", where)
    split = data.get("split") if isinstance(data, Mapping) else None
    for (shown_by, page), own in labelled.items():
        address, wrong = _address(data, shown_by, page)
        if not wrong and len({tag for tag, _ in labelled}) > 1 and shown_by not in (data or {}):
            wrong = f"its regions lie on several pictures, and to_name {shown_by[:40]!r} is no entry of its data"
        if wrong:
            yield BadEntry(where, wrong)
            continue
        image = _picture(address, path.parent, pictures)
        common = {
            "image": image, "name": pictures.name_of(image), "written": address,
            "split": split_called(split) if isinstance(split, str) else split_of(below),
        }  # fmt: skip
        regions = {region.id for region in own.dots} | own.boxes.keys()
        flags = {word: True for id, words in own.choices.items() if id not in regions for word in words}
        yield from _picture_faces(own, flags, where, common, number, notes)


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
        if isinstance(items, str):
            yield BadEntry(where, items)
        elif items is not None:
            yield from _task_faces(items, task, path, below, number, pictures, notes)


READER = ToolReader(FILES, each_file(FILES, _faces), upright=True)
