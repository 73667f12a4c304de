"""What kind of annotation a file is, by its first bytes: what a folder holds can be named before anything is read.

Knows what tools' files begin with and nothing of what is in them; `FORMATS` says which reader takes which.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LABELME, LABEL_STUDIO, COCO, CVAT, IMGLAB = "labelme", "label-studio", "coco", "cvat", "imglab"
_HEAD, _MOST_FILES = 1 << 16, 20_000


class FileKind(NamedTuple):
    """A kind of annotation file."""

    words: str
    """What one is, in words that follow a number"""
    advice: str = ""
    """How to come from it to something that is read; empty: a reader of the kind's name takes it"""


KINDS = {
    LABELME: FileKind("labelme files (.json with `shapes`)"),
    LABEL_STUDIO: FileKind("Label Studio exports (.json, a list of tasks)"),
    COCO: FileKind("COCO files (.json with `images` and `annotations`)"),
    CVAT: FileKind("CVAT files (.xml of images)"),
    IMGLAB: FileKind("imglab files (.xml of dlib)"),
    "cvat-video": FileKind("CVAT files of a video (.xml with `track`)", "export it as CVAT for images 1.1"),
    "label-studio-min": FileKind(
        "Label Studio exports in another form (JSON-MIN)", "export it as JSON, which keeps sizes and faces apart"
    ),
    "label-studio-cloud": FileKind(
        "Label Studio files of a cloud storage (.json, an annotation each)", "export the project as JSON"
    ),
    "via": FileKind(
        "VIA files (.json of the VGG Image Annotator)",
        "put its points into a CSV with the header image,x0,y0,x1,y1,...: its COCO export has a face's points apart",
    ),
    "vott": FileKind("VoTT files (.json of an asset)", "put its points into a CSV with the header image,x0,y0,..."),
    "voc": FileKind("Pascal VOC files (.xml)", "they hold boxes and no landmarks: label points"),
    "yolo": FileKind("YOLO label files (.txt)", "export COCO key points where they were made"),
    "zip": FileKind("archives (.zip)", "unpack them first"),
}  # fmt: skip


def _json(head: str) -> str | None:
    begin = head.lstrip("\ufeff \t\r\n")
    if re.match(r"\[\s*(\]|\{)", begin):
        if re.search(r'"(annotations|predictions|data)"\s*:\s*[\[{]', head):
            return LABEL_STUDIO
        return "label-studio-min" if re.search(r'"(kp-\d|keypointlabels|annotator|lead_time)"', head) else None
    if not begin.startswith("{"):
        return None
    if re.search(r'"asset"\s*:\s*\{', head) and re.search(r'"regions"\s*:', head):
        return "vott"
    if re.search(r'"_via_|"regions"\s*:', head):
        return "via"
    if re.search(r'"result"\s*:\s*\[', head) and not re.search(r'"images"\s*:\s*\[', head):
        within = re.search(r'"(annotations|predictions|completions)"\s*:\s*\[', head)
        return LABEL_STUDIO if within and not re.search(r'"task"\s*:\s*\{', head) else "label-studio-cloud"
    if re.search(r'"shapes"\s*:\s*\[', head):
        return LABELME
    if re.search(r'"(imagePath|imageData)"\s*:', head):
        return LABELME  # an older one, whose pixels come first
    if re.search(r'"(images|annotations|categories)"\s*:\s*\[', head):
        return COCO
    return None


def _xml(head: str) -> str | None:
    first = re.search(r"<([A-Za-z_][\w.-]*)", re.sub(r"<[?!][^>]*>", "", head))
    root = first[1] if first else ""
    if root == "annotations":
        return "cvat-video" if re.search(r"<track\b", head) else CVAT
    return {"dataset": IMGLAB, "annotation": "voc"}.get(root)


def _txt(head: str) -> str | None:
    lines = head.splitlines()[:5]
    numbers = [line.split() for line in lines if line.strip()]
    yolo = numbers and all(
        len(words) >= 5
        and re.fullmatch(r"\d{1,3}", words[0])
        and all(re.fullmatch(r"[01]?\.\d+|[012]", word) for word in words[1:])
        for words in numbers
    )  # fmt: skip
    return "yolo" if yolo else None


@functools.lru_cache(maxsize=1 << 16)
def _kind_of(path: Path, stamp: tuple[int, int]) -> str | None:
    del stamp
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return "zip"
    with open(path, "rb") as file:
        content = file.read(_HEAD)
    codec = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8"
    head = content.decode(codec, "replace")
    return _json(head) if suffix == ".json" else _xml(head) if suffix == ".xml" else _txt(head)


def kind_of(path: Path) -> str | None:
    """The name in KINDS of a file, or None where it is of none of them, or cannot be read."""
    if path.suffix.lower() not in (".json", ".xml", ".txt", ".zip"):
        return None
    try:
        stat = path.stat()
        return _kind_of(path, (stat.st_mtime_ns, stat.st_size)) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for number, path in enumerate(sorted(source.rglob("*"))):
        if number >= _MOST_FILES:
            return
        yield path


def kinds_in(source: Path) -> dict[str, list[Path]]:
    """The annotation files of known kinds in a folder and below it (or the one file), by kind."""
    found: dict[str, list[Path]] = {}
    for path in _files(source):
        if kind := kind_of(path):
            found.setdefault(kind, []).append(path)
    return found


def what_to_do(kind: str) -> str:
    """How files of a kind are read, or what to do first."""
    return KINDS[kind].advice or f"--reader {kind} reads them"


def in_words(kind: str, paths: list[Path]) -> str:
    """`12 labelme files (.json with `shapes`), first a/b.json`."""
    words = KINDS[kind].words
    if len(paths) == 1:
        words = re.sub(r"^((?:\S+ )*?)(file|export|archive)s\b", r"\1\2", words)
    return f"{len(paths):,} {words}, {'first ' if len(paths) > 1 else ''}{paths[0]}"
