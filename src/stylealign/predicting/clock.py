"""What threads are busy with, in seconds."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds that threads were busy in each stage; a stage inside another is taken off the outer one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inner = threading.local()
        self._busy: dict[str, float] = defaultdict(float)
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        outer = getattr(self._inner, "seconds", 0.0)
        self._inner.seconds = 0.0
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            with self._lock:
                self._busy[stage] += seconds - self._inner.seconds
            self._inner.seconds = outer + seconds

    def summary(self, faces: int, pictures: int) -> dict[str, object]:
        """Wall time, speed, and each stage's busy seconds and share of all busy time."""
        wall = time.perf_counter() - self._start
        total = sum(self._busy.values()) or 1.0
        return {
            "wall_s": round(wall, 3),
            "pictures": pictures,
            "faces": faces,
            "pictures_per_s": round(pictures / wall, 2),
            "faces_per_s": round(faces / wall, 2),
            "stages": {k: {"busy_s": round(v, 3), "share": round(v / total, 3)} for k, v in self._busy.items()},
        }
