"""Work in threads: results in order, computed some items ahead of who takes them."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def on_every_core(work: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    """The results of `map(work, items)`, in order, by as many threads as there are cores: for work that holds no lock,
    such as decoding and warping pictures. However many items there are, few are waited for at a time."""
    cores = num_cores()
    return ahead(work, items, cores, 2 * cores)
