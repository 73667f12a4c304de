"""Files of a cache: several commands may make the same one at the same time, each under a name of its own, and its
bytes are the same whoever made it. So nobody waits, and the last to end stays.

    <name>.<kernel>-<random>.partial    while it is made; the system's lock (flock) says that its maker lives

A process number would not do for a name: two containers that share a folder have the same ones. What a killed command
has left is told by its lock, which the system lets go of; but many network disks keep that lock to one machine, so of
another machine's files only those are taken for left that nothing has written to for a day.
"""

import hashlib
import os
import platform
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stylealign.data.lock import boot, flock, is_same

SECONDS_LEFT = 86_400.0


def _kernel() -> str:
    """What tells the system whose locks these are from that of another machine; containers of one machine share it."""
    return hashlib.sha256((boot() or platform.node()).encode()).hexdigest()[:8]


@contextmanager
def cache_file(path: Path) -> Iterator[Path]:
    """An empty file that no other process writes to. It takes the name `path`, in place of one that is there, when the
    block ends well, and is gone if it does not. Raises OSError where none can be made."""
    partial, file = _new(path)
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        if file is not None:
            os.close(file)


def _new(path: Path) -> tuple[Path, int | None]:
    """A new file beside `path`, and the descriptor that holds its lock; None where the system has no locks."""
    while True:
        partial = path.with_name(f"{path.name}.{_kernel()}-{uuid.uuid4().hex[:16]}.partial")
        file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        locked = flock(file, True)
        if locked and is_same(file, partial):
            return partial, file
        os.close(file)
        if locked is None:
            return partial, None  # Windows neither renames nor removes an open file
        with suppress(OSError):  # one who looks for what was left has taken it for that
            partial.unlink()


def remove_left(folder: Path, names: str) -> None:
    """Remove what killed commands have left of files whose names have this pattern: what nobody holds."""
    for left in folder.glob(f"{names}.*.partial"):
        with suppress(OSError):
            file = os.open(left, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                locked = flock(file, False)
                old = time.time() - os.fstat(file).st_mtime > SECONDS_LEFT
                if locked and (old or f".{_kernel()}-" in left.name):
                    left.unlink()  # while it is ours: who has just made it waits, and sees that it is gone
            finally:
                os.close(file)
            if locked is None and old:
                left.unlink()
