"""A training as a job: its processes, its run folder, and the lock that keeps another command off it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from stylealign.data.atomic import alone, partial_of
from stylealign.errors import UserError
from stylealign.progress import say
from stylealign.training.loop import Engine, LoopConfig, mean_over_processes, start_engine
from stylealign.training.run import Run

C = TypeVar("C")


def run_training(target: Path, config: C, loop: LoopConfig, train: Callable[[C, Engine, Run], None]) -> None:
    """Start the processes, open (or continue) the run folder, and `train` into it.

    A run that has finished with this configuration is left alone; one that ends before anything was learnt, because
    it is refused or interrupted or the disk is full, leaves nothing. What was learnt stays, for the same command.
    Raises UserError while another command is at work on the same run.
    """
    engine = start_engine(loop)
    with alone_among(engine, target), going_on_later(target):
        run = Run.open(target, config, engine.is_global_zero)
        if run.finished:
            say(f"{target}: already trained with this configuration; nothing to do")
            return
        engine.barrier()
        try:
            train(config, engine, run)
        except BaseException:
            if engine.is_global_zero:
                run.abandon()
            raise


@contextmanager
def alone_among(engine: Engine, target: Path) -> Iterator[None]:
    """`alone` for all processes of a job: the first holds the lock, and every one is refused where it is not given."""
    refused = ""
    with ExitStack() as stack:
        if engine.is_global_zero:
            try:
                stack.enter_context(alone(target))
            except UserError as error:
                refused = str(error)
        if engine.world_size > 1 and float(mean_over_processes(engine, torch.tensor(float(bool(refused))))) > 0:
            refused = refused or f"{target}: another command is at work on it, as the first process says"
        if refused:
            raise UserError(refused)
        yield


@contextmanager
def going_on_later(target: Path) -> Iterator[None]:
    """For a job that keeps its half-written folder: an OSError, such as a full disk, says that and what to do."""
    try:
        yield
    except OSError as error:
        where = error.filename = error.filename or str(partial_of(target))
        if not partial_of(target).exists():
            raise
        raise UserError(
            f"{where}: {error.strerror or error}; what is done is kept in {partial_of(target)}, and the same command "
            "goes on from there"
        ) from error
