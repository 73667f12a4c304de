"""The one training rhythm and the only file that knows devices, precision and processes (Lightning Fabric).

A job supplies `update(batch, step) -> named loss terms`, which owns forward, backward and optimizer; `fit`
owns the rhythm: log, evaluate, preview, checkpoint, resume, finish. Everything a step draws at random is a
function of (seed, step, process), so a killed run continued with the same command ends as if it had never
stopped. Knows no model and no loss.
"""

import atexit
import copy
import gc
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from stylealign.data.atomic import alone, partial_of
from stylealign.data.image import write_image
from stylealign.errors import UserError
from stylealign.progress import Pace, open_bars, say
from stylealign.training.run import Run

C = TypeVar("C")
Engine = Fabric  # what jobs call it, so that only this file names the library


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and on what a model is trained."""

    steps: int = 3000
    """Optimizer updates."""
    batch_size: int = 32
    """Faces an update, over all processes."""
    seed: int = 0
    log_every: int = 50
    """Steps between lines of metrics.jsonl (each the mean since the last)."""
    checkpoint_every: int = 500
    """Steps between checkpoints; the last two are kept."""
    preview_every: int = 500
    """Steps between preview pictures; 0: none."""
    evaluate_every: int = 0
    """Steps between evaluations on the validation split; 0: only at the end."""
    ema_decay: float = 0.998
    """Decay of the averaged weights that are evaluated and saved; 0: none."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Devices (or CPU processes) a node; under torchrun its own number counts."""
    num_nodes: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps {self.steps} and batch_size {self.batch_size}: expected at least 1")
        for name in ("seed", "log_every", "checkpoint_every", "preview_every", "evaluate_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}, expected 0 to below 1")


def start_engine(loop: LoopConfig) -> Fabric:
    """Start (or join) the processes of a run. The same command serves one CPU, several GPUs and,
    under torchrun, several nodes."""
    devices, nodes = loop.devices, loop.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    strategy = "ddp" if devices * nodes > 1 else "auto"
    try:
        engine = Fabric(
            accelerator=loop.accelerator, devices=devices, num_nodes=nodes, strategy=strategy, precision=loop.precision
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"cannot use {devices} {loop.accelerator} device(s): {error}") from None
    except Exception as error:  # Fabric's own MisconfigurationException is not exported
        if "Misconfiguration" not in type(error).__name__:
            raise
        raise UserError(f"cannot use {devices} {loop.accelerator} device(s): {error}") from None
    engine.launch()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        atexit.unregister(_leave_processes)  # once, also where a process trains several times
        atexit.register(_leave_processes)
    return engine


def _leave_processes() -> None:
    """End gloo's threads before Python ends: one that hands back a tensor after that aborts
    the process, whose work was done.

    Fabric does so for NCCL alone.
    """
    gc.collect()  # what still holds the process group, such as DDP's reducer, holds the threads
    if torch.distributed.is_initialized() and torch.distributed.get_backend() == "gloo":
        torch.distributed.destroy_process_group()


def seed_everything(*numbers: int) -> None:
    """Seed torch's and NumPy's global generators from a tuple such as (seed, step, rank)."""
    torch.manual_seed(int(np.random.default_rng([n % 2**32 for n in numbers]).integers(2**62)))


class EMA:
    """An exponentially averaged copy of a module's weights and floating buffers; early steps forget faster."""

    def __init__(self, module: nn.Module, decay: float):
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for mine, theirs in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


@dataclass(kw_only=True)
class TrainState:
    """Everything a stopped training needs to go on. `modules["model"]` is the model; wrapped
    modules are unwrapped when saved."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, Any]
    ema: EMA | None = None
    step: int = 0
    card: Mapping[str, Any] = field(default_factory=dict)

    def result(self) -> nn.Module:
        """The module to evaluate and save: the averaged weights where there are any."""
        return self.ema.module if self.ema else unwrap(self.modules["model"])

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "modules": {k: unwrap(m).state_dict() for k, m in self.modules.items()},
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
            "ema": self.ema.module.state_dict() if self.ema else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        for name, module in self.modules.items():
            unwrap(module).load_state_dict(state["modules"][name])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            # Stored tensors come back in rows, weights lie channels-last: a fused optimizer
            # walks through both in memory order.
            for parameter, kept in optimizer.state.items():
                for key, value in kept.items():
                    if value.shape == parameter.shape:
                        kept[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])


def mean_over_processes(engine: Fabric, value: Tensor) -> Tensor:
    """The mean of a scalar over all processes."""
    reduced = engine.all_reduce(value.detach())
    assert isinstance(reduced, Tensor)
    return reduced


def unwrap(module: Any) -> nn.Module:
    """The user's own module inside Fabric's wrapper."""
    from lightning_fabric.wrappers import _FabricModule

    return module.module if isinstance(module, _FabricModule) else module


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
def alone_among(engine: Fabric, target: Path) -> Iterator[None]:
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


def restore(state: TrainState, run: Run) -> bool:
    """Load the newest checkpoint of a half-written run; False where there is none."""
    saved = run.read_checkpoint()
    if saved is None:
        return False
    state.load_state_dict(saved)
    return True


def _one_ahead(batches: Callable[[int], Any], first: int, end: int, device: torch.device) -> Iterator[Any]:
    """Batches first..end; for a GPU each is gathered in a thread while the one before is learnt from.

    On a CPU gathering costs a hundredth of a step, and a second thread with its own team of
    workers made steps twice as long.
    """
    if device.type == "cpu":
        yield from (batches(step) for step in range(first, end))
        return
    with ThreadPoolExecutor(1, "next-batch") as thread:
        upcoming = thread.submit(batches, first) if first < end else None
        for step in range(first, end):
            assert upcoming is not None
            batch = upcoming.result()
            upcoming = thread.submit(batches, step + 1) if step + 1 < end else None
            yield batch


def fit(
    update: Callable[[Any, int], Mapping[str, Tensor]],
    *,
    state: TrainState,
    batches: Callable[[int], Any],
    config: LoopConfig,
    run: Run,
    engine: Fabric,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    preview: Callable[[], np.ndarray] | None = None,
    what: str = "training",
) -> None:
    """Call `update` until `config.steps`; log, evaluate, preview and checkpoint on the way; continue from `state.step`.

    `batches(step)` gives what has a `to(device)`: a Batch, or a Step. `update(batch, step)` returns named loss terms
    (scalars); a total that is not finite stops the run with the terms printed. `evaluate` and `preview` run on the
    first process. The last step always evaluates and checkpoints.
    """
    main = engine.is_global_zero
    if main:
        run.forget_after(state.step)
    bars = task = None
    if main and sys.stderr.isatty():
        bars = open_bars("time", "terms")
        task = bars.add_task(what, total=config.steps, completed=state.step, terms="")
    sums: dict[str, Tensor] = {}
    summed, pace, first = 0, Pace(), state.step
    for batch in _one_ahead(batches, state.step, config.steps, engine.device):
        step = state.step

        # One update.
        seed_everything(config.seed, step, engine.global_rank, 1)
        terms = update(batch.to(engine.device), step)
        if state.ema:
            state.ema.update(unwrap(state.modules["model"]), step)
        for name, value in terms.items():
            value = torch.as_tensor(value).detach().float()
            sums[name] = value if name not in sums else sums[name] + value
        summed += 1
        step = state.step = step + 1
        last = step == config.steps
        due = {
            k: last or (every and step % every == 0)
            for k, every in (("checkpoint", config.checkpoint_every), ("log", config.log_every))
        }

        # Log. A checkpoint closes the running mean too, so that resuming there changes no line.
        if due["log"] or due["checkpoint"]:
            means = {name: float(mean_over_processes(engine, total / summed)) for name, total in sums.items()}
            if not all(math.isfinite(v) for v in means.values()):
                raise UserError(
                    f"step {step}: a loss is not finite ({means}); lower lr, or start again from an earlier "
                    "checkpoint with it lowered"
                )
            if main:
                run.log(
                    step,
                    {**means, "images_seen": step * config.batch_size, "seconds": round(pace.seconds(), 3)},
                )
            sums, summed = {}, 0
            shown = "  ".join(f"{k} {v:.4g}" for k, v in list(means.items())[:6])
            if bars:
                bars.update(task, completed=step, terms=shown)
            elif main and (pace.is_due() or last):
                left = pace.seconds() / max(1, step - first) * (config.steps - step)
                say(f"{what}: step {step} of {config.steps}, {left:.0f} s left  {shown}")

        # Look and evaluate.
        if main and preview and (last or (config.preview_every and step % config.preview_every == 0)):
            write_image(run.folder / "previews" / f"step_{step:08d}.png", preview())
        if main and evaluate and (last or (config.evaluate_every and step % config.evaluate_every == 0)):
            run.log(step, {f"evaluate/{k}": v for k, v in evaluate().items()})

        # Save.
        if due["checkpoint"]:
            if main:
                run.write_checkpoint(step, state.result().state_dict(), state.card, state.state_dict())
            engine.barrier()
    if bars:
        bars.stop()
