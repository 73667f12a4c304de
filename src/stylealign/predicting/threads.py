"""Work in threads: an ordered look-ahead with a bounded queue, and a clock of what threads are busy with."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    depth: int,
    weigh: Callable[[T], float] | None = None,
    heaviest: float = float("inf"),
) -> Generator[R, None, None]:
    """The results of `map(work, items)`, in order, computed up to `depth` items ahead in `threads` threads.

    At most `depth` results wait to be taken; with `weigh`, at most as many as weigh `heaviest` together, or one.
    Whoever may not take them all (an exception) closes it: then no thread is at work any more.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Future[R], float]] = deque()
    total = 0.0
    try:
        for item in items:
            waiting.append((pool.submit(work, item), weigh(item) if weigh else 0.0))
            total += waiting[-1][1]
            while len(waiting) > depth or (total > heaviest and len(waiting) > 1):
                future, weight = waiting.popleft()
                total -= weight
                yield future.result()
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
