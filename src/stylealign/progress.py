"""What a person at the terminal sees: progress for anything that takes over two seconds, and tables.

The one place that draws bars: `track` for a walk through things, `open_bars` for what shows
more, `Pace` for lines in a log. The one place that draws tables: `draw_table`. Names of the user's are shown as they
are: rich's markup is off.
"""

import atexit
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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

    def text(field: str) -> Any:
        return TextColumn(f"{{task.{field}}}", markup=False)

    more = [TimeRemainingColumn() if name == "time" else text(f"fields[{name}]") for name in columns]
    shown = [text("description"), BarColumn(), MofNCompleteColumn(), *more]
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
    """Tell the person at the terminal one line (standard error, so that standard output stays machine-readable).

    Where nobody can be told, because the reader of a pipe is gone or a log's disk is full, the work goes on.
    """
    with suppress(OSError, ValueError):  # ValueError: the stream is closed
        print(message, file=sys.stderr, flush=True)


def open_console() -> Any:
    """A rich console on standard output; 160 columns where that is no terminal and its width is not said (COLUMNS)."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160
    return console


def draw_table(
    console: Any, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], line_after: int | None = None
) -> None:
    """Print a table on a rich console; one that is too wide for it in parts, each beginning with the first column.

    `line_after`: number of the row that a line follows.
    """
    from rich.table import Table

    for part in _parts(header, rows, console.width):
        shown = Table(title=title, title_justify="left")
        for column, width in part:
            shown.add_column(header[column], justify="right" if column else "left", width=width, overflow="fold")
        for number, row in enumerate(rows):
            shown.add_row(*(row[column] for column, _ in part), end_section=number == line_after)
        console.print(shown)
        title = ""


def _parts(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[list[tuple[int, int]]]:
    """(column, its width) of the columns of each part. Cells break between words, and inside a word
    or in the first column only where there is no room for it."""
    from rich.cells import cell_len

    cells = [[name, *(row[i] for row in rows)] for i, name in enumerate(header)]
    whole = [max(map(cell_len, column)) for column in cells]
    words = [max((cell_len(word) for cell in column for word in cell.split()), default=0) for column in cells]
    edge, frame = 1, 3  # the last line of the table; a line and two blanks a column
    words[0] = min(whole[0], width // 2)
    room = left = width - edge - words[0] - frame
    words[1:] = [max(min(word, room - frame), 1) for word in words[1:]]
    parts = [[0]]
    for column in range(1, len(header)):
        if left < words[column] + frame and len(parts[-1]) > 1:
            parts.append([0])
            left = room
        parts[-1].append(column)
        left -= words[column] + frame
    for part in parts:
        spare = width - edge - sum(words[column] + frame for column in part)
        fitting = []
        for column in part:
            more = max(min(spare, whole[column] - words[column]), 0)
            spare -= more
            fitting.append((column, words[column] + more))
        yield fitting
