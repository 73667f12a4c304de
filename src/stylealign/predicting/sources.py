"""What the user named -> photos, videos, cameras, in order; and one photo read robustly. Finds no faces.

A picture is judged by its header before a pixel is decoded; whatever is wrong with it becomes a sentence with its name.
"""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stylealign.data.atomic import lock_of, partial_of
from stylealign.data.image import IMAGE_SUFFIXES, MAX_PIXELS, orientation_of, read_image
from stylealign.data.predictions import PREDICTIONS_FILE
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


def expand(inputs: Sequence[str], out: Path | None = None) -> tuple[list[Source], list[str]]:
    """What the user named -> sources, each once, and a sentence for each name that is wrong.

    Names are files, folders (all pictures and videos below them), globs and camera numbers. Files of a folder that are
    neither, by their suffix, are named to the person. `out`, the folder that answers go to, may lie in one of them.
    """
    made = () if out is None else (out, partial_of(out), lock_of(out), out.with_name(f"{out.name}.lock"))
    leave = frozenset(map(os.path.abspath, made))
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
                inside, others, apart = _in_folder(each, leave)
                _say_passed_over(each, others, "no picture or video by its suffix")
                _say_passed_over(each, apart, "a link to a folder or to nothing, or a folder of `predict`'s answers")
                if not inside:
                    wrong.append(f"{_printable(each)}: no picture and no video in this folder")
                for source in inside:
                    add(source)
            elif each.exists():
                add(_of_file(each))
            else:
                wrong.append(f"{_printable(each)}: no such file or folder")
    return list(found.values()), wrong


def _say_passed_over(folder: Path, passed: Sequence[Path], what: str) -> None:
    """Name what of a folder is not looked at, if anything."""
    if passed:
        names = ", ".join(_printable(path.relative_to(folder)) for path in passed[:NAMED])
        more = f" and {len(passed) - NAMED} more" if len(passed) > NAMED else ""
        say(f"{_printable(folder)}: passed over, {what}: {names}{more}")


def _in_folder(folder: Path, leave: frozenset[str]) -> tuple[list[Source], list[Path], list[Path]]:
    """The pictures and videos below a folder, its other files, and what else is there: links to folders or to nothing,
    and folders that hold answers of ours.

    Nothing whose name begins with a dot (a Mac's `._a.jpg`), and nothing at the paths of `leave`.
    """
    files: list[Path] = []
    apart: list[Path] = []
    todo = [folder]
    while todo:
        for path in todo.pop().iterdir():
            if path.name.startswith(".") or os.path.abspath(path) in leave:
                continue
            if path.is_dir() and not path.is_symlink() and not _holds_answers(path):
                todo.append(path)
            else:
                (files if path.is_file() else apart).append(path)
    known = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    inside = [_of_file(path) for path in sorted(files) if path.suffix.lower() in known]
    return inside, sorted(path for path in files if path.suffix.lower() not in known), sorted(apart)


def _holds_answers(folder: Path) -> bool:
    return (folder / PREDICTIONS_FILE).exists() and (folder / "summary.json").exists()


def read_photo(path: Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """A decoded picture. Raises UserError where it is none, is cut short, or has more than `max_pixels` pixels."""
    try:
        image = read_image(path, max_pixels)
        height, width = image.shape[:2]
        return Photo(image, upright_affine(orientation_of(path, max_pixels), width, height))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
