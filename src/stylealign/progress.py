"""Progress for anything that takes over two seconds: bars on a terminal, a line now and then in a log.

The one place that draws bars: `track` for a walk through things, `open_bars` for what shows
more, `Pace` for lines in a log.
"""

import atexit
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15.0


class Pace:
    """Says when it is time for another line in a log."""

    def __init__(self) -> None:
        self.started = self.said = time.monotonic()

    def is_due(self) -> bool:
        """Whether SECONDS_BETWEEN_LINES have passed since the last line; the next one counts from now."""
        now = time.monotonic()
        if now - self.said <= SECONDS_BETWEEN_LINES:
            return False
        self.said = now
        return True

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started


def open_bars(*columns: str) -> Any:
    """Rich's bars on standard error, begun: a column for the description, a bar, done of all,
    and a text for each of `columns`.

    Call `stop()` at the end; an interrupted process gives the terminal its cursor back by itself. Columns are fields of
    `add_task` and `update`; "time" is the time that is left.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    more = [TimeRemainingColumn() if name == "time" else TextColumn(f"{{task.fields[{name}]}}") for name in columns]
    shown = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *more]
    bars = Progress(*shown, console=Console(stderr=True), transient=True)
    bars.start()
    atexit.register(bars.stop)
    return bars


def track(iterable: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield from `iterable`, showing progress on standard error; nothing is shown for work done within two seconds."""
    if total is None:
        total = len(iterable) if hasattr(iterable, "__len__") else None  # type: ignore[arg-type]
    if sys.stderr.isatty():
        bars = open_bars("time")
        task = bars.add_task(what, total=total)
        try:
            for item in iterable:
                yield item
                bars.advance(task)
        finally:
            bars.stop()
        return
    pace = Pace()
    for done, item in enumerate(iterable):
        if pace.is_due():
            say(f"{what}: {done}{'' if total is None else f' of {total}'} ({pace.seconds():.0f} s)")
        yield item


def say(message: str) -> None:
    """Tell the person at the terminal one line (standard error, so that standard output stays machine-readable)."""
    print(message, file=sys.stderr, flush=True)
