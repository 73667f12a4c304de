"""Where a stranger's file may lead: below the folder that it speaks of, and nowhere else. Knows paths and no format.

Every name that an input holds and that becomes a path goes through `inside` or `outside`: pictures of lists and of
data sets, `image_root`, splits and ids that name files.
"""

import functools
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stylealign.errors import UserError

FOLLOW_LINKS = "STYLEALIGN_FOLLOW_LINKS"
"""Set to 1 (by `--follow-links`, for the processes that a job starts as well): links may lead out of a folder."""


@contextmanager
def following_links(follow: bool) -> Iterator[None]:
    """Let links lead out of a folder while the block runs, if `follow`."""
    before = os.environ.get(FOLLOW_LINKS)
    if follow:
        os.environ[FOLLOW_LINKS] = "1"
    try:
        yield
    finally:
        if follow and before is None:
            del os.environ[FOLLOW_LINKS]


def outside(path: Path, root: Path) -> str | None:
    """What is wrong with a path that must lie below `root`, in words; None where it lies there, or would if it existed.

    It must do so as it is written, without `..`, and as the disk has it: `root` may be a link itself, and links below
    it may lead to another place below it, not out of it unless the user says so (FOLLOW_LINKS).
    """
    if "\0" in str(path):
        return f"{str(path)!r} does not name a file (a NUL in it)"
    if not path.is_relative_to(root) or ".." in (parts := path.relative_to(root).parts):
        return f"{path} does not lie below {root}"
    here = os.fspath(root)
    for part in parts:
        here = os.path.join(here, part)
        if os.path.islink(here):
            target, home = os.path.realpath(path), os.path.realpath(root)
            if os.environ.get(FOLLOW_LINKS) != "1" and not Path(target).is_relative_to(home):
                return f"{path} is a link that leads out of {root}, to {target} (--follow-links takes it all the same)"
            break
    return None


def spelled(path: Path, root: Path) -> Path:
    """The path as the disk spells it: a name of the same letters in another Unicode form, as archives from a Mac have
    it, is that name. A path that is there, does not lie below `root` or has no such file is answered as it is."""
    if str(path).isascii() or os.path.lexists(path) or outside(path, root):
        return path
    here = root
    for part in path.relative_to(root).parts:
        if not os.path.lexists(here / part):
            try:
                names = _composed(here, os.stat(here).st_mtime_ns)
            except OSError:
                return path
            part = names.get(unicodedata.normalize("NFC", part), part)
        here = here / part
    return here if os.path.lexists(here) else path


@functools.lru_cache(maxsize=256)
def _composed(folder: Path, stamp: int) -> dict[str, str]:
    """The names in a folder that are not ASCII, by their composed form."""
    del stamp
    return {unicodedata.normalize("NFC", name): name for name in os.listdir(folder) if not name.isascii()}


def inside(root: Path, name: str | Path, where: str) -> Path:
    """The path of what is called `name` below `root`. Raises UserError, that begins with `where`, as `outside` says."""
    path = root / name
    problem = outside(path, root)
    if problem:
        raise UserError(f"{where}: {problem}")
    return path
