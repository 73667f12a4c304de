"""What the user named -> photos, videos, cameras, in order; and one photo read robustly. Finds no faces.

A picture is judged by its header before a pixel is decoded; whatever is wrong with it becomes a sentence with its name.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stylealign.data.image import IMAGE_SUFFIXES, MAX_PIXELS, orientation_of, read_image
from stylealign.errors import UserError
from stylealign.face.orientation import upright_affine

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


def _of_file(path: Path) -> Source:
    kind: Literal["photo", "video"] = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "photo"
    return Source(kind, path, path.as_posix())


def expand(inputs: Sequence[str]) -> tuple[list[Source], list[str]]:
    """What the user named -> sources, each once, and a sentence for each name that is wrong.

    Names are files, folders (all pictures and videos below them), globs and camera numbers.
    """
    found: dict[str, Source] = {}
    wrong: list[str] = []
    for text in inputs:
        path = Path(text)
        if text.isdecimal() and not path.exists():
            found.setdefault(text, Source("camera", path, f"camera{text}"))
            continue
        paths = [path]
        if glob.has_magic(text) and not path.exists():
            paths = [Path(p) for p in sorted(glob.glob(text, recursive=True))]
            if not paths:
                wrong.append(f"{text}: nothing is called so")
        for each in paths:
            if each.is_dir():
                inside = list(_in_folder(each))
                if not inside:
                    wrong.append(f"{each}: no picture and no video in this folder")
                for source in inside:
                    found.setdefault(source.name, source)
            elif each.exists():
                found.setdefault(each.as_posix(), _of_file(each))
            else:
                wrong.append(f"{each}: no such file or folder")
    return list(found.values()), wrong


def _in_folder(folder: Path) -> Iterator[Source]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and path.is_file():
            yield _of_file(path)


def read_photo(path: Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """A decoded picture. Raises UserError where it is none, is cut short, or has more than `max_pixels` pixels."""
    try:
        image = read_image(path, max_pixels)
        height, width = image.shape[:2]
        return Photo(image, upright_affine(orientation_of(path, max_pixels), width, height))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
