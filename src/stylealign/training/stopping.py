"""The signals by which a cluster says that a machine will be taken away, kept as a wish that a training looks at.

A cluster sends them some time before it kills: SIGTERM when a job is cancelled or pre-empted, SIGUSR1 or SIGUSR2 before
a time limit, as the job asked for. Knows no training.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


@contextlib.contextmanager
def told_to_end() -> Iterator[Callable[[], int]]:
    """While the block runs these signals end nothing; what is given says which came last, 0: none.

    In a thread that is not the main one Python can listen to no signal: it is always 0.
    """
    came = [0]

    def keep(number: int, _: Any) -> None:
        came[0] = number

    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.signal(number, keep) for number in SIGNALS}
    try:
        yield lambda: came[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
