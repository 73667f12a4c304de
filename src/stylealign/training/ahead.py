"""The batches of a training in order, and for a GPU each gathered while the one before is learnt from."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from stylealign.training.schedule import Schedule


def one_ahead(
    batches: Callable[[int], Any], first: int, schedule: Schedule, device: torch.device, pinned: bool
) -> Iterator[Any]:
    """Batches from `first` to the schedule's end, which may move; for a GPU each is gathered in a thread while the one
    before is learnt from.

    On a CPU gathering costs a hundredth of a step, and a second thread with its own team of
    workers made steps twice as long.
    """
    if device.type == "cpu":
        while first < schedule.end:
            yield batches(first)
            first += 1
        return

    def gathered(step: int) -> Any:
        batch = batches(step)
        return batch.pin_memory() if pinned and device.type == "cuda" else batch

    with ThreadPoolExecutor(1, "next-batch") as thread:
        upcoming = thread.submit(gathered, first) if first < schedule.end else None
        while upcoming is not None and first < schedule.end:
            batch, first = upcoming.result(), first + 1
            upcoming = thread.submit(gathered, first) if first < schedule.end else None
            yield batch
