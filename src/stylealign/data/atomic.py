"""Folders and files written as `<name>.partial` and renamed at the end: one that exists is complete.

And by one command at a time: `<name>.lock` beside it is locked by the system from the maker's first look to its last
rename. The system lets go of it when the process ends, however it ends.
"""

import errno
import functools
import json
import os
import platform
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from stylealign.errors import UserError
from stylealign.progress import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

C = TypeVar("C")
R = TypeVar("R")
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))  # of a disk, a file, a user's share
SECONDS_FOR_CHILDREN = 30.0  # what a killed command has started ends within seconds
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


@contextmanager
def alone(target: Path, with_children: bool = False) -> Iterator[None]:
    """Hold the right to make `target`, a folder or a file, while the block runs; a block inside may ask for it again.

    Where nothing may be written beside `target`, nothing is held: the job itself will say so, or writes nothing.

    Args:
        target: what is made; `<target>.lock` is beside it meanwhile.
        with_children: children that `training.processes` starts hold it too, until the last of them has ended.

    Raises:
        UserError: another process holds it; says which command, and since when.
    """
    whole = Path(os.path.abspath(target))
    lock = Path(os.path.realpath(whole.parent)) / f"{whole.name}.lock"
    owner, depth = _held.get(lock, (threading.get_ident(), 0))
    if owner == threading.get_ident() and depth:
        _held[lock] = (owner, depth + 1)
        try:
            yield
        finally:
            _held[lock] = (owner, depth)
        return
    made = _make_folders(lock.parent)
    try:
        held = _take(lock, target)
        try:
            if held is not None:
                os.set_inheritable(held, with_children)
            _held[lock] = (threading.get_ident(), 1)
            yield
        finally:
            _held.pop(lock, None)
            if held is not None:
                with suppress(OSError):
                    lock.unlink()  # before it is let go: who waits for it looks whether it is still there
                os.close(held)
    finally:
        for folder in reversed(made):  # of a job that was refused
            with suppress(OSError):
                folder.rmdir()


def making(which: str | Callable[[Any], Path]) -> Callable[[Callable[[C], R]], Callable[[C], R]]:
    """For the `main(config)` of a job: it is alone with the folder or file that this field, or function, of `config`
    names, from its first look to its end."""

    def wrap(main: Callable[[C], R]) -> Callable[[C], R]:
        @functools.wraps(main)
        def guarded(config: C) -> R:
            with alone(which(config) if callable(which) else getattr(config, which)):
                return main(config)

        return guarded

    return wrap


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; the new ones, from the top. None where that cannot be: the job will say so."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return [path for path in reversed(missing) if path.is_dir()]


def _take(lock: Path, target: Path) -> int | None:
    """Lock the file: its descriptor, or None where there can be none. Raises UserError where another process has it."""
    if fcntl is None:
        _warn_once()
        return None
    told, until = False, time.monotonic() + SECONDS_FOR_CHILDREN
    while True:
        try:
            held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError:
            if lock.exists():  # another user's
                raise
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same(held, lock):
                with suppress(OSError):  # a full disk: held all the same
                    os.ftruncate(held, 0)
                    os.write(held, _about_this_process())
                return held
            os.close(held)  # its last holder has removed it between our two looks: lock the new one
        except BlockingIOError:
            os.close(held)
            who, ended = _holder(lock)
            if not ended or time.monotonic() > until:
                still = "what it has started is still at work on it" if ended else "is at work on it"
                raise UserError(f"{target}: {who} {still}; wait until that has ended, or end it") from None
            if not told:
                say(f"{target}: {who} has ended; waiting until what it has started ends too")
            told = True
            time.sleep(0.2)
        except OSError:  # no flock on this disk
            os.close(held)
            with suppress(OSError):
                lock.unlink()
            _warn_once()
            return None


@functools.lru_cache
def _warn_once() -> None:
    say("warning: this system, or this disk, cannot lock files: do not give the same command twice at once")


def _is_same(file: int, path: Path) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _about_this_process() -> bytes:
    """What a lock file says of its holder, as JSON."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "stylealign") or "python"
    about = {
        "command": " ".join([program, *sys.argv[1:]])[:500],
        "process": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    return (json.dumps(about) + "\n").encode()


def _holder(lock: Path) -> tuple[str, bool]:
    """Who holds a lock, in words, and whether that process is known to have ended (a child of it holds the lock)."""
    try:
        about: dict[str, Any] = json.loads(lock.read_text(encoding="utf-8"))
        command, process, host, since = (about[key] for key in ("command", "process", "host", "since"))
    except (OSError, ValueError, KeyError, TypeError):
        return "another command", False
    shown = "".join(c if c.isprintable() else " " for c in str(command))
    shown = shown if len(shown) <= 150 else f"{shown[:150]} ..."
    return f"`{shown}` (process {process} on {host}, since {since})", host == platform.node() and not _lives(process)


def _lives(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, OverflowError):
        return True
    return True
