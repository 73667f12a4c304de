"""What the flags of the loop give: seconds of an update with each of them over an update without.

    python benchmarks/loop_flags.py [--models resnet18:128 fpn:128] [--batch 16] [--updates 5] [--accelerator cpu]

An update is forward, the loss on coordinates, backward and the optimizer, of a resident batch of noise. CPU seconds of
this process on a CPU, seconds on a clock on a GPU; medians, the flags in turn. `compile` also says what its first
update took, with its compiler's processes.
"""

import argparse
import dataclasses
import os
import time
from typing import Any

import numpy as np
import torch

from stylealign.batches.batch import Batch
from stylealign.detectors import DETECTORS, build_detector
from stylealign.detectors.learning import Learning
from stylealign.detectors.losses import LossConfig
from stylealign.face.schema import IBUG68
from stylealign.training.devices import place
from stylealign.training.loop import LoopConfig, start_engine
from stylealign.training.optim import OptimizerConfig

FLAGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "--loop.precision bf16-mixed": {"precision": "bf16-mixed"},
    "--loop.no-channels-last": {"channels_last": False},
    "--loop.fused False": {"fused": False},
    "--loop.compile": {"compile": True},
    "--loop.compile --loop.precision bf16-mixed": {"compile": True, "precision": "bf16-mixed"},
}


def batch_of(num: int, size: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        image=(2 * torch.rand(num, 3, size, size, generator=generator) - 1).contiguous(
            memory_format=torch.channels_last
        ),
        landmarks=size * torch.rand(num, 68, 2, generator=generator),
        visible=torch.ones(num, 68, dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64).expand(num, 2, 3),
        index=torch.arange(num),
        weight=torch.ones(num),
    )


def now(device: torch.device) -> float:
    """Seconds of this process on a CPU, of a clock on a GPU that has done its work."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def learner_of(name: str, size: int, batch: int, loop: LoopConfig) -> tuple[Any, torch.device]:
    engine = start_engine(loop)
    torch.manual_seed(0)
    model = place(build_detector(name, (IBUG68,), size, DETECTORS[name].config()), engine.device)
    mean = np.full((68, 2), size / 2, dtype=np.float32)
    model.mean_shape.copy_(torch.as_tensor(mean))  # type: ignore[operator,union-attr]
    learning = Learning(
        model=model, engine=engine, loss=LossConfig(), optimizer=OptimizerConfig(), lr=1e-4, weight_decay=0.0,
        steps=1000, batch_size=batch, pretrained=False, schemas=(IBUG68,), mean_shapes=(mean,), size=size,
    )  # fmt: skip
    return DETECTORS[name].learn(learning), engine.device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet18:128", "fpn:128"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--accelerator", default="cpu")
    args = parser.parse_args()
    base = LoopConfig(accelerator=args.accelerator, batch_size=args.batch)
    print("| detector | flag | an update, s | over none | first update, s |\n|---|---|---:|---:|---:|")
    for which in args.models:
        name, size = which.split(":")
        learners, firsts = {}, {}
        for flag, values in FLAGS.items():
            learner, device = learner_of(name, int(size), args.batch, dataclasses.replace(base, **values))
            batch = batch_of(args.batch, int(size)).to(device)
            began, children = now(device), sum(os.times()[2:4])
            learner.update((batch,), 0)
            firsts[flag] = now(device) - began + sum(os.times()[2:4]) - children
            learners[flag] = learner
        times: dict[str, list[float]] = {flag: [] for flag in FLAGS}
        for step in range(1, args.updates + 1):
            for flag, learner in learners.items():
                began = now(device)
                learner.update((batch,), step)
                times[flag].append(now(device) - began)
        plain = float(np.median(times["as it is"]))
        for flag, found in times.items():
            seconds = float(np.median(found))
            print(f"| {name}, {size} px | {flag} | {seconds:.2f} | {seconds / plain:.2f} | {firsts[flag]:.1f} |")


if __name__ == "__main__":
    main()
