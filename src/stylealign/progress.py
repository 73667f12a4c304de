"""Progress for anything that takes over two seconds: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


def track(iterable: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield from `iterable`, showing progress on standard error; nothing is shown for work done within two seconds."""
    if total is None:
        total = len(iterable) if hasattr(iterable, "__len__") else None  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(iterable, what, total=total, console=Console(stderr=True), transient=True)
        return
    start = said = time.monotonic()
    for done, item in enumerate(iterable):
        now = time.monotonic()
        if now - said > SECONDS_BETWEEN_LINES:
            said = now
            print(
                f"{what}: {done}{'' if total is None else f' of {total}'} ({now - start:.0f} s)",
                file=sys.stderr,
                flush=True,
            )
        yield item


def say(message: str) -> None:
    """Tell the person at the terminal one line (standard error, so that standard output stays machine-readable)."""
    print(message, file=sys.stderr, flush=True)
