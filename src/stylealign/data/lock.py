"""A lock that is a file: it says whose it is, and its time says that its holder lives. Knows no job.

Two things keep a second command off. The system's own lock on the open file (flock), where the disk has one: the system
lets go of it when the process ends, however it ends; but many shared disks keep it to one machine. And a sign of life:
the holder touches the file every SECONDS_A_BEAT. Who finds a file of another machine watches it, by its own clock, so
that no two clocks need agree: one that is touched is refused, one that is not for SECONDS_STALE is taken over. A holder
that was taken for dead all the same (a machine that slept) sees at its next beat that the file is another's, and ends.
"""

import _thread
import contextlib
import functools
import json
import os
import platform
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from stylealign.config import read_note
from stylealign.errors import UserError
from stylealign.progress import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SECONDS_FOR_CHILDREN = 30.0  # what a killed command has started ends within seconds
SECONDS_A_BEAT = 10.0
SECONDS_STALE = 120.0
SECONDS_TO_SETTLE = 2.0  # in which a second machine that takes over the same file at the same time has written to it
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class Held(NamedTuple):
    """A lock file that this process holds."""

    path: Path
    target: Path
    """what is made meanwhile, for messages"""
    file: int
    """its descriptor"""
    token: str
    """what the file says while it is ours"""


_beating: list[Held] = []
_beats = threading.Condition()
_beater: threading.Thread | None = None

# --------------------------------------------------------------------------------------------------------------------
# What a lock file says


@functools.lru_cache
def boot() -> str:
    """What tells this machine, since it was started, from others that may have its name; empty where nobody knows."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _about_this_process(token: str) -> bytes:
    """What a lock file says of its holder, as JSON."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "stylealign") or "python"
    about = {
        "command": " ".join([program, *sys.argv[1:]])[:500],
        "process": os.getpid(),
        "host": platform.node(),
        "boot": boot(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "token": token,
    }
    return (json.dumps(about) + "\n").encode()


def host_of(lock: Path) -> str:
    """The machine whose process holds a lock, so far as its file says; empty where there is none."""
    return str(read_note(lock).get("host") or "")


def _in_words(about: dict[str, Any]) -> str:
    """Who holds a lock."""
    if not {"command", "process", "host", "since"} <= about.keys():
        return "another command"
    shown = "".join(c if c.isprintable() else " " for c in str(about["command"]))
    shown = shown if len(shown) <= 150 else f"{shown[:150]} ..."
    job = f" of SLURM job {about['job']}" if about.get("job") else ""
    return f"`{shown}` (process {about['process']}{job} on {about['host']}, since {about['since']})"


def _of_this_machine(about: dict[str, Any]) -> bool:
    return about.get("host") == platform.node() and about.get("boot", boot()) == boot()


def _lives(process: Any) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, OverflowError):
        return True
    return True


# --------------------------------------------------------------------------------------------------------------------
# Taking and letting go


def take(lock: Path, target: Path) -> Held | None:
    """Make the lock file ours, or find it left by a holder that is gone. None where no file can be made there.

    Raises UserError while another process holds it: says which command, where, and since when.
    """
    began, told = time.monotonic(), False
    while (opened := _open(lock)) is not None:
        file, new = opened
        keep = False
        try:
            locked = flock(file, new)
            about = {} if new else read_note(lock)
            if locked is False:
                told = _wait_for_children(about, target, told, began)
                continue
            if not is_same(file, lock):  # removed by its last holder between our two looks
                continue
            if not about and not new and time.monotonic() < began + SECONDS_TO_SETTLE:  # its maker writes to it now
                continue
            free = new or (locked and (not about or _of_this_machine(about)))
            if not free and not _watched_in_vain(lock, target):
                continue
            token = uuid.uuid4().hex
            with contextlib.suppress(OSError):  # a full disk: held all the same
                os.ftruncate(file, 0)
                os.write(file, _about_this_process(token))
                os.fsync(file)
            if not free:
                time.sleep(SECONDS_TO_SETTLE)
                if read_note(lock).get("token", token) != token:  # taken over by a third machine at the same moment
                    continue
            keep = True
            held = Held(lock, target, file, token)
            _begin_to_beat(held)
            return held
        finally:
            if not keep:
                os.close(file)
                time.sleep(0.02)
    return None


def _open(lock: Path) -> tuple[int, bool] | None:
    """The file's descriptor, and whether it was made now; None where none can be. Never through a link."""
    while True:
        try:
            return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o644), True
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):  # removed since
                return os.open(lock, os.O_RDWR | _NO_LINK), False
        except OSError:
            return None


def _wait_for_children(about: dict[str, Any], target: Path, told: bool, began: float) -> bool:
    """Raise UserError, unless the holder has ended and only what it has started may still hold the file; says so."""
    ended = _of_this_machine(about) and not _lives(about.get("process"))
    if not ended or time.monotonic() > began + SECONDS_FOR_CHILDREN:
        still = "what it has started is still at work on it" if ended else "is at work on it"
        raise UserError(f"{target}: {_in_words(about)} {still}; wait until that has ended, or end it")
    if not told:
        say(f"{target}: {_in_words(about)} has ended; waiting until what it has started ends too")
    time.sleep(0.2)
    return True


def let_go(held: Held) -> None:
    """Remove the lock file, unless another has taken it over since."""
    with _beats:
        _beating.remove(held)
        _beats.notify_all()
    ours = read_note(held.path).get("token") in (held.token, None)
    if fcntl is None:  # Windows removes no open file
        os.close(held.file)
    with contextlib.suppress(OSError):
        if ours:
            held.path.unlink()  # before it is let go: who waits for it looks whether it is still there
    if fcntl is not None:
        os.close(held.file)


def flock(file: int, new: bool) -> bool | None:
    """The system's own lock on an open file: whether we have it now; None where the system or the disk has none.

    Who has just made the file waits for one that looks at it before anything is in it.
    """
    if fcntl is None:
        return None
    for _ in range(25 if new else 1):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            return None
        else:
            return True
    return False


def is_same(file: int, path: Path) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _sign_of_life(lock: Path) -> tuple[int, int] | None:
    """What changes with every beat; None where the file is gone. Opens it: a network disk then asks the other end."""
    try:
        file = os.open(lock, os.O_RDONLY | _NO_LINK)
    except FileNotFoundError:
        return None
    try:
        about = os.fstat(file)
        return about.st_mtime_ns, about.st_ino
    finally:
        os.close(file)


def _watched_in_vain(lock: Path, target: Path) -> bool:
    """Watch a file of another machine: True if nothing touched it for SECONDS_STALE, False if it went away.

    Raises UserError as soon as something touches it.
    """
    who, first, began = _in_words(read_note(lock)), _sign_of_life(lock), time.monotonic()
    say(f"{target}: {who} has left its lock; waiting {SECONDS_STALE:.0f} s for a sign of life")
    while first is not None and time.monotonic() < began + SECONDS_STALE:
        time.sleep(min(1.0, SECONDS_A_BEAT / 4))
        now = _sign_of_life(lock)
        if now is None:
            return False
        if now != first:
            raise UserError(f"{target}: {who} is at work on it; wait until that has ended, or end it")
    if first is not None:
        say(f"{target}: {who} gave no sign of life for {SECONDS_STALE:.0f} s; taking over")
    return first is not None


# --------------------------------------------------------------------------------------------------------------------
# The sign of life


def _begin_to_beat(held: Held) -> None:
    global _beater
    with _beats:
        _beating.append(held)
        if _beater is None or not _beater.is_alive():  # the second: after a fork
            _beater = threading.Thread(target=_beat, name="lock-beat", daemon=True)
            _beater.start()
        _beats.notify_all()  # a new file is touched at once, not when the others are due


def _beat() -> None:
    """Touch every file that is held, until none is; end this process where one of them has become another's."""
    global _beater
    while True:
        with _beats:
            _beats.wait(SECONDS_A_BEAT)
            if not _beating:
                _beater = None
                return
            now = list(_beating)
        for held in now:
            token = read_note(held.path).get("token")
            if token in (held.token, None):  # None: it says nothing, on a full disk
                with contextlib.suppress(OSError):
                    os.utime(held.path)
            elif held in _beating:
                say(
                    f"{held.target}: {_in_words(read_note(held.path))} has taken it over, since this process gave no "
                    f"sign of life for {SECONDS_STALE:.0f} s; ending"
                )
                _end()


def is_taken_over() -> bool:
    """Whether something that this process makes has become another's, so that it is told to end by no person."""
    return any(read_note(held.path).get("token") not in (held.token, None) for held in list(_beating))


def _end() -> None:
    """End this process as Ctrl-C would, or as `kill` does where Ctrl-C is ignored: a shell starts what it leaves in
    the background deaf to it."""
    if callable(signal.getsignal(signal.SIGINT)):
        if hasattr(signal, "pthread_kill"):  # wakes the main thread, whatever it waits for
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        else:
            _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGTERM)
