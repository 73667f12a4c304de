"""Folders and files written as `<name>.partial` and renamed at the end: one that exists is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stylealign.errors import UserError


def partial_of(path: Path) -> Path:
    """Where a folder or a file is while it is being written."""
    if path.name in ("", ".."):
        raise UserError(f"{path}: expected a folder with a name of its own")
    return path.with_name(path.name + ".partial")


def refuse_existing(path: Path) -> None:
    """Never write over what is finished. Raises UserError where something of that name is."""
    if path.exists():
        raise UserError(f"{path}: already there; choose another --out, or remove it first")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes its name when the block ends, and is gone if the block does not end well."""
    refuse_existing(folder)
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)  # left by a stopped run of the same command; nothing finished is in it
    partial.mkdir(parents=True)
    try:
        yield partial
        os.rename(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file open for writing; an older one of that name stays until the block has ended well. Makes its folder."""
    partial = partial_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(partial, "wb") as file:
            yield file
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file of these bytes, or of this text as UTF-8, so that it is whole or not there."""
    with whole_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)
