"""The time a fit has used, over all commands that went on with it, and what it has to keep for its end."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from stylealign.config import read_json
from stylealign.data.atomic import write_whole
from stylealign.errors import UserError

FILE = "time.json"


class Stopwatch:
    """Seconds used of `minutes`. What is used is written at `lap`; a command that was stopped loses what came after."""

    def __init__(self, minutes: float, folder: Path, clock: Callable[[], float] = time.monotonic):
        self.total, self._path, self._clock = 60.0 * minutes, folder / FILE, clock
        before = 0.0
        if self._path.exists():
            try:
                before = float(read_json(self._path)["used"])
            except (LookupError, TypeError, ValueError):
                raise UserError(f"{self._path}: not the time of a fit; expected a number `used`") from None
        self._began = clock() - before

    def used(self) -> float:
        """Seconds since the first command began, as far as its laps know."""
        return self._clock() - self._began

    def left(self) -> float:
        """Seconds until the minutes are over."""
        return self.total - self.used()

    def at_least(self, seconds: float) -> None:
        """So much is known to be used: what a stopped command had done of a stage that was finished since."""
        self._began = min(self._began, self._clock() - seconds)

    def lap(self) -> None:
        """Write the time down."""
        write_whole(self._path, json.dumps({"used": round(self.used(), 2)}) + "\n")
