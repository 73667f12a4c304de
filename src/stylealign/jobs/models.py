"""The job `models`: how large every detector is and, if asked for, how fast and how hungry,
at its small and its paper size.

The sizes are the presets of `DETECTORS`; the recipes small/ and paper/ train the same networks. MACs are
counted by torch's FlopCounterMode. Measuring happens in a fresh process for each line, so that one
network's memory is not another's.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stylealign.config import from_dict
from stylealign.detectors import DETECTORS, Preset, build_detector, presets
from stylealign.detectors.size import describe
from stylealign.errors import UserError, counted
from stylealign.evaluation.tables import Table, millions, print_table
from stylealign.face.crop import SIZES
from stylealign.face.schema import LandmarkSchema, get_schema
from stylealign.progress import open_console, say, track
from stylealign.training.devices import pick_device, place
from stylealign.training.plugins import unknown

BATCHES = (1, 16)
SHOWN = ("small", "paper")
SECONDS = 2.0  # measured for each figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """Print every detector's parameters and MACs, and what it costs to run and to train it."""

    size: int | None = None
    """Side of the crop in px; not given: each version's own."""
    schema: str = "ibug68"
    """Mark-up: a name such as wflw98, or a .yaml file. (68 and 98 stand for ibug68 and wflw98.)"""
    only: tuple[str, ...] = ()
    """Detectors to show, such as resnet18 lab; not given: all."""
    version: Literal["small", "paper"] | None = None
    """Only small or only paper sizes; not given: both."""
    measure: bool = False
    """Also measure images per second and peak memory, at batches of 1 and 16."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to measure."""

    def __post_init__(self) -> None:
        if self.size is not None and not SIZES[0] <= self.size <= SIZES[1]:
            raise ValueError(f"size is {self.size}, expected {SIZES[0]} to {SIZES[1]}")
        others = [name for name in self.only if name not in DETECTORS]
        if others:
            raise ValueError(f"only: {unknown('detector', others[0], DETECTORS)}")


def build(name: str, preset: Preset, schema: LandmarkSchema, size: int | None = None) -> nn.Module:
    """The network of a detector's preset with fresh weights, at another crop size if one is given."""
    config: Any = from_dict(DETECTORS[name].config, preset.network, preset.title)
    # A network of several mark-ups is shown as it learns the two that are used together most.
    other = get_schema("wflw98" if schema.name != "wflw98" else "ibug68")
    schemas = (schema, other) if DETECTORS[name].several_heads else (schema,)
    return build_detector(name, schemas, size or preset.size, config)


# --------------------------------------------------------------------------------------------------------------------
# Measuring


def peak_mb(device: torch.device) -> float | None:
    """Most memory this process has held so far, MB: on a CUDA device torch's tensors there, else the process itself."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        # ru_maxrss would be the parent's where that was larger: Linux keeps it over exec.
        with open("/proc/self/status", encoding="ascii") as file:
            return int(next(line for line in file if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def seconds_of(work: Callable[[], object], device: torch.device, seconds: float = SECONDS) -> float:
    """Median seconds of `work`, after one go that is not counted; as many goes as fit into `seconds`, at least two."""

    def once() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter() - start

    once()
    times = [once()]
    while len(times) < 2 or sum(times) < seconds:
        times.append(once())
    return median(times)


def plain_loss(out: Any, target: Tensor) -> Tensor:
    """A loss that sends a gradient through every answer of a network: what a step costs without its own losses."""
    extra = [maps.square().mean() for maps in (out.heatmaps, out.boundaries, *out.stages) if isinstance(maps, Tensor)]
    return torch.stack([(out.landmarks - target).abs().mean(), *extra]).sum()


def _warm(device: torch.device) -> None:
    """A step of a net of one weight: what torch loads only when a first step is taken (a tenth of a
    GB) is not the networks' memory."""
    net = nn.Conv2d(1, 1, 1).to(device)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.zeros(1, 1, 8, 8, device=device)).sum().backward()
    optimizer.step()


def measure(
    name: str, preset: Preset, schema: LandmarkSchema, size: int | None, batch: int, device: torch.device
) -> dict[str, Any]:
    """Images per second and peak memory (MB above what the libraries take) of inference and of training steps.

    A training step is forward, a plain loss on all answers, backward and AdamW; loading, augmentation and what
    is trained beside the detector (a discriminator, a generator) are not in it. A figure is None where the
    network takes no batch of that size.
    """
    _warm(device)
    before = 0.0 if device.type == "cuda" else peak_mb(device)
    model = place(build(name, preset, schema, size), device)
    side = size or preset.size
    image = (
        torch.rand(batch, 3, side, side, device=device).mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)
    )

    def over() -> float | None:
        peak = peak_mb(device)
        return None if peak is None or before is None else peak - before

    model.eval()
    with torch.no_grad():
        infer = seconds_of(lambda: model(image), device)
        target = model(image).landmarks
    found: dict[str, Any] = {"infer": batch / infer, "infer_mb": over(), "train": None, "train_mb": None}
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        plain_loss(model(image), target).backward()
        optimizer.step()

    try:
        found["train"] = batch / seconds_of(step, device)
        found["train_mb"] = over()
    except ValueError:  # batch normalisation of one picture's single numbers
        pass
    return found


def measure_apart(
    name: str, preset: Preset, schema: str, size: int | None, batch: int, accelerator: str
) -> dict[str, Any]:
    """`measure` in a fresh process."""
    code = "import sys; from stylealign.jobs.models import _child; _child(*sys.argv[1:])"
    request = json.dumps([name, preset._asdict(), schema, size, batch, accelerator])
    done = subprocess.run([sys.executable, "-c", code, request], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}: out of memory?"]
        say(f"{preset.title}, {preset.version}, batch {batch}: not measured ({last[0]})")
        return dict.fromkeys(("infer", "infer_mb", "train", "train_mb"))
    return json.loads(done.stdout.strip().splitlines()[-1])


def _child(request: str) -> None:
    name, preset, schema, size, batch, accelerator = json.loads(request)
    device = pick_device(accelerator)
    print(json.dumps(measure(name, Preset(**preset), get_schema(schema), size, batch, device)))


# --------------------------------------------------------------------------------------------------------------------
# The table


def _speed(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def model_table(config: Models) -> Table:
    """The table of `models`; with `measure`, its long version."""
    schema_name = {"68": "ibug68", "98": "wflw98"}.get(config.schema, config.schema)
    schema = get_schema(schema_name)
    header: tuple[str, ...] = ("model", "version", "crop px", "parameters M", "trainable M", "MACs M")
    if config.measure:
        for what in ("inference images/s", "inference MB", "training images/s", "training MB"):
            header += tuple(f"{what}, batch {batch}" for batch in BATCHES)
    rows = []
    chosen = [
        (name, preset)
        for name, preset in presets()
        if name in (config.only or DETECTORS) and preset.version in ((config.version,) if config.version else SHOWN)
    ]
    for name, preset in track(chosen, "measuring" if config.measure else "counting"):
        side = config.size or preset.size
        row: tuple[str, ...] = (preset.title, preset.version, str(side))
        try:
            size = describe(build(name, preset, schema, config.size), side)
        except UserError as error:  # a mark-up or a crop size that this network cannot have
            say(f"{preset.title}: {error}")
            rows.append((*row, *["-"] * (len(header) - len(row))))
            continue
        row += tuple(map(millions, size))
        if config.measure:
            found = [
                measure_apart(name, preset, schema_name, config.size, batch, config.accelerator) for batch in BATCHES
            ]
            row += tuple(_speed(f[key]) for key in ("infer", "infer_mb", "train", "train_mb") for f in found)
        rows.append(row)
    note = (
        f"{counted(schema.num_points, 'point')} ({schema.name}). MACs: multiply-accumulates of one picture, half the "
        "operations counted by torch.utils.flop_counter (convolutions, linear layers, matrix products)."
    )
    if config.measure:
        device = pick_device(config.accelerator)
        where = (
            torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{device.type}, {counted(torch.get_num_threads(), 'thread')}"
        )
        note += (
            f" Measured on {where}, torch {torch.__version__}, float32: medians. A training step is forward, a plain "
            "loss on every answer, backward "
            "and AdamW. MB: peak memory above the libraries' own."
        )
    return Table("Detectors", header, rows, note)


def main(config: Models) -> None:
    table = model_table(config)
    console = open_console()
    print_table(console, table)
    console.print(table.note)
