"""A training as a job: its processes, its run folder, and the lock that keeps another command off it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from stylealign.config import plain, read_json, read_yaml
from stylealign.data.atomic import alone, partial_of
from stylealign.data.shards import INDEX
from stylealign.errors import UserError
from stylealign.progress import say
from stylealign.training.loop import Engine, LoopConfig, mean_over_processes, start_engine
from stylealign.training.run import Run
from stylealign.training.weights import read_card

C = TypeVar("C")
LEARNT_FROM = ("data", "real", "synthetic", "other", "extra", "donors", "val")
"""Keys of a training's configuration that name data sets whose content hashes its card holds."""


def run_training(target: Path, config: C, loop: LoopConfig, train: Callable[[C, Engine, Run], None]) -> None:
    """Start the processes, open (or continue) the run folder, and `train` into it.

    A run that has finished with this configuration is left alone; one that ends before anything was learnt, because
    it is refused or interrupted or the disk is full, leaves nothing. What was learnt stays, for the same command.
    Raises UserError while another command is at work on the same run, and where a finished run has learnt from other
    faces than its data sets hold now.
    """
    engine = start_engine(loop)
    with alone_among(engine, target), going_on_later(target):
        run = Run.open(target, config, engine.is_global_zero)
        if run.finished:
            refuse_replaced_data(target, config)
            say(f"{target}: already trained with this configuration; nothing to do")
            return
        engine.barrier()
        try:
            train(config, engine, run)
        except BaseException:
            if engine.is_global_zero:
                run.abandon()
            raise


def _named(values: Any, keys: tuple[str, ...], below: bool = False) -> Iterator[str]:
    """The texts of a configuration that stand under one of the keys, at whatever depth."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _named(value, keys, below or key in keys)
    elif isinstance(values, list):
        for value in values:
            yield from _named(value, keys, below)
    elif below and isinstance(values, str):
        yield values


def _hashes(card: Any) -> Iterator[str]:
    """Every content hash in a card."""
    for key, value in card.items() if isinstance(card, Mapping) else ():
        if key == "content_hash":
            yield str(value)
        else:
            yield from _hashes(value)
    for value in card if isinstance(card, list) else ():
        yield from _hashes(value)


def replaced_data(target: Path, config: Any) -> tuple[str, str] | None:
    """A data set that a finished run has learnt from and that holds other faces since, and its content hash now.

    One that is named and was not learnt from (a share of 0, donors without a style arm) is none: all that the card
    names is still there.
    """
    learnt = set(_hashes(read_card(target)))
    metas = [
        (name, read(Path(name, file)))
        for name in _named(plain(config), LEARNT_FROM)
        for file, read in (("dataset.yaml", read_yaml), (INDEX, read_json))
        if Path(name, file).is_file()
    ]
    now = {name: str(meta.get("content_hash")) for name, meta in metas}
    if not learnt - set(now.values()):
        return None
    return next(((name, content) for name, content in now.items() if content not in learnt), None)


def refuse_replaced_data(target: Path, config: Any) -> None:
    """Raises UserError where a data set that a finished run has learnt from holds other faces since."""
    found = replaced_data(target, config)
    if found:
        raise UserError(
            f"{target}: has finished, and learnt from other faces than {found[0]} holds now (content hash "
            f"{found[1][:12]}, which its card does not name): choose another --run to learn from them, or remove it"
        )


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
