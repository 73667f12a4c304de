"""A training that torchrun starts in two processes: what each has seen, and what both have when it is saved.

Not imported: `torch.distributed.run --nproc-per-node 2 two_processes.py FOLDER`. Each process writes rank<r>.json.
"""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from stylealign.training.ema import EMA
from stylealign.training.loop import LoopConfig, TrainState, fit, start_engine
from stylealign.training.run import Run


class Part:
    """A process's part of a batch: rank 0 sees 0 and 1, rank 1 sees 10 and 20."""

    def __init__(self, rank: int):
        self.values = torch.tensor([[[0.0], [1.0]], [[10.0], [20.0]]][rank])

    def to(self, device: torch.device) -> "Part":
        return self


def main(folder: Path) -> None:
    loop = LoopConfig(steps=3, batch_size=4, checkpoint_every=2, preview_every=0, accelerator="cpu")
    engine = start_engine(loop)
    run = Run.open(folder / "run", loop, engine.is_global_zero)
    engine.barrier()
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1))
    ema = EMA(net, 0.5)
    model, optimizer = engine.setup(net, torch.optim.SGD(net.parameters(), lr=0.1))
    state = TrainState(modules={"model": model}, optimizers={"model": optimizer}, ema=ema, card={"kind": "detector"})
    own, shared = [], []

    def update(part: Part, step: int) -> dict[str, Tensor]:
        shared.append(float(net[0].running_mean))  # before the step: shared after a save, this process's own otherwise
        loss = model(part.values).square().mean()
        optimizer.zero_grad()
        engine.backward(loss)
        optimizer.step()
        own.append(float(net[0].running_mean))
        return {"total": loss}

    fit(update, state=state, batches=lambda step: Part(engine.global_rank), config=loop, run=run, engine=engine)
    found = {
        "own": own, "before": shared, "mean": float(net[0].running_mean), "var": float(net[0].running_var),
        "ema_mean": float(ema.module[0].running_mean), "weight": float(net[1].weight),
    }  # fmt: skip
    (folder / f"rank{engine.global_rank}.json").write_text(json.dumps(found))
    engine.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
