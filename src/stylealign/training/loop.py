"""The one training rhythm and the only file that knows devices, precision and processes (Lightning Fabric).

A job supplies `update(batch, step) -> named loss terms`, which owns forward, backward and optimizer; `fit`
owns the rhythm: log, evaluate, preview, checkpoint, resume, finish. Everything a step draws at random is a
function of (seed, step) and of a face's place in the batch (batches/together.py), so that a killed run continued with
the same command ends as if it had never stopped, in however many processes. Knows no model and no loss.
"""

import atexit
import gc
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from stylealign.batches.together import spread, with_normalisation_together
from stylealign.data.image import write_image
from stylealign.errors import Stopped, UserError, counted
from stylealign.progress import Pace, open_bars, say
from stylealign.training.ahead import one_ahead
from stylealign.training.devices import said_of_precision, training_accelerator
from stylealign.training.ema import EMA
from stylealign.training.following import Follow, memory_mb, open_followers, refuse_missing, write_table
from stylealign.training.optim import clipped, fuse, lr_of
from stylealign.training.run import EVALUATED, Run
from stylealign.training.schedule import Schedule
from stylealign.training.stopping import told_to_end

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
    clip_norm: float = 0.0
    """Gradients of an optimizer whose norm is larger are scaled down to it; 0: no limit."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    compile: bool = False
    """Compile the networks that learn (torch.compile): a minute or more at the start, then fewer passes over memory."""
    channels_last: bool = True
    """Keep pictures and weights channels-last, the faster layout for convolutions on CPUs and GPUs."""
    fused: bool | None = None
    """Optimizers go over all weights in one pass. Not given: AdamW does, the others (Adam, SGD) do not."""
    pinned: bool = True
    """Beside a GPU, the next batch waits in pinned memory, from which it is copied while the GPU computes."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: cuda where there is a CUDA device, else cpu. On mps nothing can learn: torch has no float64 there."""
    devices: int = 1
    """Devices (or CPU processes) a node; under torchrun its own number counts."""
    num_nodes: int = 1
    follow: tuple[Follow, ...] = ()
    """Also show numbers and previews in these, where they are installed: TensorBoard (its files are in
    `<run>/tensorboard`), Weights & Biases (offline, unless WANDB_MODE says otherwise)."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps {self.steps} and batch_size {self.batch_size}: expected at least 1")
        for name in ("seed", "log_every", "checkpoint_every", "preview_every", "evaluate_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}, expected 0 to below 1")
        if not 0 <= self.clip_norm < math.inf:
            raise ValueError(f"clip_norm is {self.clip_norm}, expected a norm above 0, or 0 for no limit")
        refuse_missing(self.follow)
        if self.clip_norm and self.precision == "16-mixed":
            raise ValueError("clip_norm with precision 16-mixed, whose gradients are scaled: expected bf16-mixed")


class _Processes(Fabric):
    """Fabric, whose networks normalise over the faces of all processes, and learn as the configuration says."""

    def __init__(self, loop: LoopConfig, **more: Any):
        super().__init__(accelerator=training_accelerator(loop.accelerator), precision=loop.precision, **more)
        self.loop = loop

    def setup(self, module: nn.Module, *optimizers: Any, **more: Any) -> Any:
        module = normalised_together(module, self.world_size, self.device.type)
        if not self.loop.channels_last:
            module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            module.register_forward_pre_hook(_in_planes)
        if self.loop.fused is not None:
            for optimizer in optimizers:
                fuse(optimizer, self.loop.fused)
        if self.loop.compile:
            module.compile()
        return super().setup(module, *optimizers, **more)


def _in_planes(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a network, pictures colour by colour."""
    return tuple(x.contiguous() if isinstance(x, Tensor) else x for x in inputs)


def normalised_together(module: nn.Module, processes: int, device: str) -> nn.Module:
    """The module with batch normalisation over the faces of all processes: torch's own on GPUs, ours elsewhere.

    Weights and their names stay what they were.
    """
    if processes == 1:
        return module
    if device == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return with_normalisation_together(module)


def start_engine(loop: LoopConfig) -> Fabric:
    """Start (or join) the processes of a run. The same command serves one CPU, several GPUs and,
    under torchrun, several nodes. Raises UserError for devices that are not there or on which nothing can learn."""
    devices, nodes = loop.devices, loop.num_nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    # Buffers, such as the statistics of batch normalisation, are the same in all processes without being sent.
    strategy = DDPStrategy(broadcast_buffers=False) if devices * nodes > 1 else "auto"
    try:
        with warnings.catch_warnings():
            # Where a cluster takes jobs, Fabric advises to give every command by srun: `--on slurm` is ours.
            warnings.filterwarnings("ignore", "The `srun` command is available")
            engine = _Processes(loop, devices=devices, num_nodes=nodes, strategy=strategy)
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"cannot use {counted(devices, f'{loop.accelerator} device')}: {error}") from None
    except Exception as error:  # Fabric's own MisconfigurationException is not exported
        if "Misconfiguration" not in type(error).__name__:
            raise
        raise UserError(f"cannot use {counted(devices, f'{loop.accelerator} device')}: {error}") from None
    engine.launch()
    if engine.is_global_zero and (slow := said_of_precision(loop.precision, engine.device)):
        say(slow)
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
    """Seed torch's global generator from a tuple such as (seed, step)."""
    torch.manual_seed(int(np.random.default_rng([n % 2**32 for n in numbers]).integers(2**62)))


@dataclass(kw_only=True)
class TrainState:
    """Everything a stopped training needs to go on. `modules["model"]` is the model; wrapped
    modules are unwrapped when saved."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, Any]
    ema: EMA | None = None
    step: int = 0
    card: Mapping[str, Any] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Loss terms, each summed over so many updates since the last line of the log (`summed`): those that had it"""
    summed: dict[str, int] = field(default_factory=dict)
    scaling: dict[str, Any] = field(default_factory=dict)
    """Of precision 16-mixed: by how much losses are scaled now, and for how long they have been (torch's GradScaler)"""

    def result(self) -> nn.Module:
        """The module to evaluate and save: the averaged weights where there are any."""
        return self.ema.module if self.ema else unwrap(self.modules["model"])

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "modules": {k: unwrap(m).state_dict() for k, m in self.modules.items()},
            "optimizers": {k: o.state_dict() for k, o in self.optimizers.items()},
            "ema": self.ema.module.state_dict() if self.ema else {},
            "sums": self.sums,
            "summed": self.summed,
            "scaling": self.scaling,
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
        self.sums, summed = dict(state.get("sums", {})), state.get("summed", {})
        self.summed = dict.fromkeys(self.sums, summed) if isinstance(summed, int) else dict(summed)  # one number once
        self.scaling = dict(state.get("scaling", {}))


def mean_over_processes(engine: Fabric, value: Tensor) -> Tensor:
    """The mean of a scalar over all processes."""
    reduced = engine.all_reduce(value.detach())
    assert isinstance(reduced, Tensor)
    return reduced


def _agreed(engine: Fabric, number: int) -> int:
    """The signal by which this process was told to end, or SIGTERM where only another was; 0 where none was."""
    told = float(mean_over_processes(engine, torch.tensor(float(number > 0), device=engine.device))) > 0
    return (number or signal.SIGTERM) if told else 0


def unwrap(module: Any) -> nn.Module:
    """The user's own module inside Fabric's wrapper."""
    from lightning_fabric.wrappers import _FabricModule

    return module.module if isinstance(module, _FabricModule) else module


def restore(state: TrainState, run: Run) -> bool:
    """Load the newest checkpoint of a half-written run; False where there is none.

    Raises UserError where a data set that it learnt from holds other faces now.
    """
    saved = run.read_checkpoint()
    if saved is None:
        return False
    run.refuse_other_faces(state.card)
    state.load_state_dict(saved)
    return True


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
    epochs: Callable[[int], float] | None = None,
    best_by: str = "",
    what: str = "training",
    schedule: Schedule | None = None,
) -> None:
    """Call `update` until `config.steps`, or until the schedule's end; log, evaluate, preview and checkpoint on the
    way; continue from `state.step`.

    `batches(step)` gives what has a `to(device)`: a Batch, or a Step. `update(batch, step)` returns named loss terms
    (scalars); a total that is not finite stops the run with the terms printed. `evaluate` and `preview` run on the
    first process, after what was learnt is saved: one that is stopped in them loses nothing, and makes them up for when
    it continues. The last step always evaluates and checkpoints. `epochs(step)` says how often the data were seen.
    With `best_by`, one of the numbers that `evaluate` gives, the weights with the smallest are kept beside the last.
    How often things are done is counted in places of the schedule, which are updates unless it is `Timed`.
    Raises Stopped, after a checkpoint, where a signal says that the machine will be taken away: after the update that
    it came in, or of several processes, which must agree, at the next line of the log.
    """
    main, precision = engine.is_global_zero, engine.strategy.precision
    if state.scaling:
        precision.load_state_dict(state.scaling)
    schedule = schedule or Schedule(config.steps)
    schedule.begin(state.step)
    if main:
        run.forget_after(state.step)
    followers = open_followers(config.follow, run.folder, state.step) if main else []
    bars = task = None
    if main and sys.stderr.isatty():
        bars = open_bars("time", "terms")
        task = bars.add_task(what, total=schedule.end, completed=state.step, terms="")

    def record(step: int, values: Mapping[str, float]) -> None:
        run.log(step, values)
        for follower in followers:
            follower.numbers(step, values)

    def look(step: int) -> None:
        """Preview and evaluate if it is time and was not done before."""
        picture = run.folder / "previews" / f"step_{step:08d}.png"
        if preview and schedule.is_due(step, config.preview_every) and not picture.exists():
            shown = preview()
            write_image(picture, shown)
            for follower in followers:
                follower.picture(step, shown)
        if evaluate and schedule.is_due(step, config.evaluate_every) and not run.has_evaluated(step):
            values = evaluate()
            if best_by and config.evaluate_every and values[best_by] < run.best(best_by)[1]:
                run.write_best(step, state.result().state_dict(), state.card, {best_by: values[best_by]})
            record(step, {f"{EVALUATED}{k}": v for k, v in values.items()})

    if main:
        look(state.step)
    with clipped(state.optimizers.values(), config.clip_norm), told_to_end() as told:
        pace, first, sums, counts = Pace(), state.step, state.sums, state.summed
        for batch in one_ahead(batches, state.step, schedule, engine.device, config.pinned):
            step = state.step

            # One update.
            seed_everything(config.seed, step, 0, 1)
            with spread(engine.global_rank, engine.world_size):
                terms = update(batch.to(engine.device), step)
            if state.ema:
                state.ema.update(unwrap(state.modules["model"]), step)
            for name, value in terms.items():
                value = torch.as_tensor(value).detach().float()
                sums[name] = value if name not in sums else sums[name].to(value.device) + value
                counts[name] = counts.get(name, 0) + 1
            step = state.step = step + 1
            schedule.review(step)
            last = step == schedule.end
            save, log = (schedule.is_due(step, every) for every in (config.checkpoint_every, config.log_every))
            end = told()
            if engine.world_size > 1:
                end = _agreed(engine, end) if save or log else 0

            # Log. A checkpoint that is due closes the running mean too; one for a signal keeps it, and changes no line.
            if log or save:
                means = {name: float(mean_over_processes(engine, total / counts[name])) for name, total in sums.items()}
                if not all(math.isfinite(v) for v in means.values()):
                    raise UserError(f"step {step}: a loss is not finite ({means}); begin another run with a lower lr")
                if main:
                    epoch = {} if epochs is None else {"epoch": round(epochs(step), 4)}
                    seen = {"images_seen": step * config.batch_size, **epoch, "lr": lr_of(state.optimizers)}
                    seconds = pace.seconds()
                    speed = (step - first) * config.batch_size / max(seconds, 1e-9)
                    machine = {"images_per_s": round(speed, 1), **memory_mb(engine.device)}
                    record(step, {**means, **seen, "seconds": round(seconds, 3), **machine})
                sums.clear()
                counts.clear()
                shown = "  ".join(f"{k} {v:.4g}" for k, v in list(means.items())[:6])
                if main:
                    shown += f"  {machine['images_per_s']:.0f} images/s  {machine.get('memory_mb', 0):.0f} MB"
                if bars:
                    bars.update(task, completed=step, total=schedule.end, terms=shown)
                elif main and (pace.is_due() or last):
                    left = schedule.seconds_left(step)
                    left = pace.seconds() / max(1, step - first) * (schedule.end - step) if left is None else left
                    say(f"{what}: step {step} of {schedule.end}, {left:.0f} s left  {shown}")

            # Save, then look: whatever happens while looking, nothing learnt is lost.
            with schedule.looking():
                if save or end:
                    state.scaling = precision.state_dict()
                    if main:
                        run.write_checkpoint(step, state.result().state_dict(), state.card, state.state_dict())
                        schedule.saved(step)
                    engine.barrier()
                if end:
                    raise Stopped(end)
                if main:
                    look(step)
                    if save:
                        write_table(run.folder)
    if main:
        write_table(run.folder)  # also where the last update was made and saved by an earlier command
    for follower in followers:
        follower.close()
    if bars:
        bars.stop()
