"""Folders and files written as `<name>.partial` and renamed at the end: one that exists is complete.

And by one command at a time: `<name>.lock` beside it is held (lock.py) from the maker's first look to its last rename.
"""

import errno
import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from stylealign.data.lock import let_go, take
from stylealign.errors import UserError

C = TypeVar("C")
R = TypeVar("R")
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # of a disk, a file, a user's share
_held: dict[Path, tuple[int, int]] = {}  # lock file: thread that holds it, and how many blocks of that thread


def partial_of(path: Path) -> Path:
    """Where a folder or a file is while it is being written."""
    if path.name in ("", ".."):
        raise UserError(f"{path}: expected a folder with a name of its own")
    return path.with_name(path.name + ".partial")


def refuse_existing(path: Path) -> None:
    """Never write over what is finished. Raises UserError where something of that name is."""
    if path.exists():
        raise UserError(f"{path}: already there; choose another --out, or remove it first")


def _refuse_link_to_nothing(target: Path) -> None:
    """Raises UserError where `target`, or a folder above it, is a link to what is not there: nothing can be made below
    such a link, and what took its place would not be where it leads."""
    for path in (target, *target.parents):
        if path.is_symlink() and not path.exists():
            leads = f"a link to {path.parent / os.readlink(path)}, which is not there"
            raise UserError(f"{path}: {leads}; name that place itself, or remove the link")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes its name when the block ends, and is gone if the block does not end well.

    No other process fills it at the same time (`alone`).
    """
    partial = partial_of(folder)
    with alone(folder):
        refuse_existing(folder)
        shutil.rmtree(partial, ignore_errors=True)  # left by a stopped run of the same command; nothing finished in it
        try:
            partial.mkdir(parents=True)
            yield partial
            os.rename(partial, folder)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError) and (error.filename is None or error.errno in _FULL):
                error.filename = str(partial)  # who copies names the file that was read
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


# --------------------------------------------------------------------------------------------------------------------
# One command at a time


def lock_of(target: Path) -> Path:
    """The file beside a folder or file that says who makes it now."""
    whole = Path(os.path.abspath(target))
    return Path(os.path.realpath(whole.parent)) / f"{whole.name}.lock"


@contextmanager
def alone(target: Path, with_children: bool = False) -> Iterator[None]:
    """Hold the right to make `target`, a folder or a file, while the block runs; a block inside may ask for it again.

    Where nothing may be written beside `target`, nothing is held: the job itself will say so, or writes nothing.
    A command on another machine that shares the disk is kept off too, and one that died there holds nobody up for long.

    Args:
        target: what is made; `<target>.lock` is beside it meanwhile.
        with_children: children that `training.processes` starts hold it too, until the last of them has ended.

    Raises:
        UserError: another process holds it; says which command, and since when. Or it is a link to nothing.
    """
    lock = lock_of(target)
    owner, depth = _held.get(lock, (threading.get_ident(), 0))
    if owner == threading.get_ident() and depth:
        _held[lock] = (owner, depth + 1)
        try:
            yield
        finally:
            _held[lock] = (owner, depth)
        return
    _refuse_link_to_nothing(target)
    made = _make_folders(lock.parent)
    try:
        held = take(lock, target)
        try:
            if held is not None:
                os.set_inheritable(held.file, with_children)
            _held[lock] = (threading.get_ident(), 1)
            yield
        finally:
            _held.pop(lock, None)
            if held is not None:
                let_go(held)
    finally:
        for folder in reversed(made):  # of a job that was refused
            with suppress(OSError):
                folder.rmdir()


def making(
    which: str | Callable[[Any], Path], with_children: bool = False
) -> Callable[[Callable[[C], R]], Callable[[C], R]]:
    """For the `main(config)` of a job: it is alone with the folder or file that this field, or function, of `config`
    names, from its first look to its end; `with_children` as of `alone`."""

    def wrap(main: Callable[[C], R]) -> Callable[[C], R]:
        @functools.wraps(main)
        def guarded(config: C) -> R:
            with alone(which(config) if callable(which) else getattr(config, which), with_children):
                return main(config)

        return guarded

    return wrap


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; the new ones, from the top. None where that cannot be: the job will say so."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return [path for path in reversed(missing) if path.is_dir()]
