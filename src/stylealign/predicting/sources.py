"""What the user named -> photos, videos, cameras, in order; and one photo read robustly. Finds no faces.

A picture is judged by its header before a pixel is decoded; whatever is wrong with it becomes a sentence with its name.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stylealign.data.image import IMAGE_SUFFIXES, MAX_PIXELS, orientation_of, read_image
from stylealign.errors import UserError
from stylealign.face.orientation import upright_affine
from stylealign.progress import say

NAMED = 5  # files in a sentence; further ones are counted
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


class Source(NamedTuple):
    """A picture file, a video file or a camera."""

    kind: Literal["photo", "video", "camera"]
    path: Path
    """the file; a camera's number as a path"""
    name: str
    """what it is called in outputs: the path as given"""


class Photo(NamedTuple):
    """A decoded picture."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, as stored"""
    view_from_source: np.ndarray
    """(2, 3): affine to the picture as it is held upright: its EXIF orientation, and turns (orientation.py)"""


def _printable(path: Path) -> str:
    """The path with bytes that are no UTF-8 written out (`caf\\udce9.png`): no JSON and no terminal takes them."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def _of_file(path: Path) -> Source:
    kind: Literal["photo", "video"] = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "photo"
    return Source(kind, path, path.as_posix())


def expand(inputs: Sequence[str]) -> tuple[list[Source], list[str]]:
    """What the user named -> sources, each once, and a sentence for each name that is wrong.

    Names are files, folders (all pictures and videos below them), globs and camera numbers. Files of a folder that are
    neither, by their suffix, are named to the person.
    """
    found: dict[str, Source] = {}
    wrong: list[str] = []

    def add(source: Source) -> None:
        try:
            source.name.encode("utf-8")
        except UnicodeEncodeError:
            wrong.append(f"{_printable(source.path)}: its name is no UTF-8, expected one that is: rename it")
        else:
            found.setdefault(source.name, source)

    for text in inputs:
        path = Path(text)
        if text.isdecimal() and not path.exists():
            found.setdefault(text, Source("camera", path, f"camera{text}"))
            continue
        paths = [path]
        if glob.has_magic(text) and not path.exists():
            paths = [Path(p) for p in sorted(glob.glob(text, recursive=True))]
            if not paths:
                wrong.append(f"{_printable(path)}: nothing is called so")
        for each in paths:
            if each.is_dir():
                inside, others = _in_folder(each)
                if not inside:
                    wrong.append(f"{_printable(each)}: no picture and no video in this folder")
                if others:
                    names = ", ".join(_printable(path.relative_to(each)) for path in others[:NAMED])
                    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
                    say(f"{_printable(each)}: passed over, no picture or video by its suffix: {names}{more}")
                for source in inside:
                    add(source)
            elif each.exists():
                add(_of_file(each))
            else:
                wrong.append(f"{_printable(each)}: no such file or folder")
    return list(found.values()), wrong


def _in_folder(folder: Path) -> tuple[list[Source], list[Path]]:
    """The pictures and videos below a folder, and its other files but for those whose name begins with a dot."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    others = [path for path in files if path.suffix.lower() not in known and not path.name.startswith(".")]
    return [_of_file(path) for path in files if path.suffix.lower() in known], others


def read_photo(path: Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """A decoded picture. Raises UserError where it is none, is cut short, or has more than `max_pixels` pixels."""
    try:
        image = read_image(path, max_pixels)
        height, width = image.shape[:2]
        return Photo(image, upright_affine(orientation_of(path, max_pixels), width, height))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
