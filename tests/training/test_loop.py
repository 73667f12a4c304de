import contextlib
import csv
import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from builders.places import ROOT
from builders.tiny import OF_THE_MACHINE, metrics_of
from stylealign.batches import together
from stylealign.batches.batch import Batch
from stylealign.batches.source import BatchSource
from stylealign.config import first_difference
from stylealign.data.atomic import partial_of
from stylealign.errors import Stopped, UserError
from stylealign.training import run as run_module
from stylealign.training.ahead import one_ahead
from stylealign.training.devices import pick_device, said_of_precision, training_accelerator
from stylealign.training.ema import EMA
from stylealign.training.loop import (
    LoopConfig,
    TrainState,
    fit,
    normalised_together,
    restore,
    seed_everything,
    start_engine,
)
from stylealign.training.optim import OptimizerConfig, cosine, lr_factor, lr_of, set_lr
from stylealign.training.run import Run, commit
from stylealign.training.schedule import Schedule
from stylealign.training.weights import (
    flatten,
    load_model,
    load_weights,
    read_card,
    read_tensors,
    save_model,
    unflatten,
)

CPU: dict[str, Any] = {"accelerator": "cpu", "ema_decay": 0.0}


def batch_of(step: int) -> Batch:
    rng = torch.Generator().manual_seed(step)
    eye = torch.eye(2, 3, dtype=torch.float64)[None]
    return Batch(
        torch.randn(4, 3, generator=rng),
        torch.zeros(4, 1, 2),
        torch.ones(4, 1, dtype=torch.bool),
        eye,
        torch.arange(4),
        torch.ones(4),
    )


class Job:
    """The smallest training there is: a linear layer with dropout under `fit`."""

    def __init__(self, target: Path, loop: LoopConfig, update: Callable[[Batch, int], None] = lambda batch, step: None):
        self.loop, self.engine, self.hook = loop, start_engine(loop), update
        self.run = Run.open(target, loop)
        torch.manual_seed(loop.seed)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        ema = EMA(model, loop.ema_decay) if loop.ema_decay else None
        self.model, self.optimizer = self.engine.setup(model, torch.optim.AdamW(model.parameters(), lr=0.1))
        self.state = TrainState(
            modules={"model": self.model}, optimizers={"model": self.optimizer}, ema=ema, card={"kind": "detector"}
        )
        self.resumed = restore(self.state, self.run)
        self.stop_looking, self.errors = "", dict[int, float]()
        self.seen: list[int] = []
        self.looked: list[str] = []

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        self.hook(batch, step)
        self.seen.append(step)
        assert torch.equal(batch.image, batch_of(step).image)
        loss = self.model(batch.image).square().mean()
        self.optimizer.zero_grad()
        self.engine.backward(loss)
        self.optimizer.step()
        return {"total": loss, "step_number": torch.tensor(float(step))}

    def fit(self) -> "Job":
        fit(
            self.update, state=self.state, batches=batch_of, config=self.loop, run=self.run, engine=self.engine,
            evaluate=lambda: self.look("evaluate") or {"nme": self.errors.get(self.state.step, 0.5)},
            preview=lambda: self.look("preview") or np.zeros((4, 4, 3), np.uint8),
            epochs=lambda step: step / 8, best_by="nme",
        )  # fmt: skip
        return self

    def look(self, what: str) -> None:
        if f"{what} {self.state.step}" == self.stop_looking:
            raise KeyboardInterrupt
        self.looked.append(f"{what} {self.state.step}")

    def lines(self) -> list[dict[str, float]]:
        rows = [json.loads(line) for line in (self.run.folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in rows]

    def table(self) -> list[dict[str, str]]:
        with open(self.run.folder / "metrics.csv", encoding="utf-8", newline="") as file:
            return [{k: v for k, v in row.items() if k not in OF_THE_MACHINE} for row in csv.DictReader(file)]


def stop_at(step: int) -> Callable[[Batch, int], None]:
    def hook(batch: Batch, now: int) -> None:
        if now == step:
            raise KeyboardInterrupt

    return hook


def test_the_rhythm_logs_evaluates_previews_and_keeps_two_checkpoints(tmp_path: Path) -> None:
    loop = LoopConfig(steps=10, log_every=2, checkpoint_every=3, preview_every=4, evaluate_every=5, **CPU)
    job = Job(tmp_path / "run", loop).fit()
    assert job.seen == list(range(10))
    assert [p.name for p in job.run.checkpoints()] == ["step_00000009", "step_00000010"]
    assert job.looked == ["preview 4", "evaluate 5", "preview 8", "preview 10", "evaluate 10"]
    assert sorted(p.name for p in (job.run.folder / "previews").iterdir()) == [f"step_{s:08d}.png" for s in (4, 8, 10)]
    logged = [line for line in job.lines() if "total" in line]
    assert [line["step"] for line in logged] == [2, 3, 4, 6, 8, 9, 10]  # a checkpoint closes the mean too
    assert [line["step_number"] for line in logged] == [0.5, 2, 3, 4.5, 6.5, 8, 9]
    assert logged[-1]["images_seen"] == 320
    assert [line["step"] for line in job.lines() if "evaluate/nme" in line] == [5, 10]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_killed_run_continued_ends_as_if_never_stopped(tmp_path: Path, ema_decay: float) -> None:
    loop = LoopConfig(steps=9, log_every=2, checkpoint_every=3, evaluate_every=2, **{**CPU, "ema_decay": ema_decay})
    whole = Job(tmp_path / "whole", loop).fit()
    for stop in (5, 7):  # twice: two updates after a checkpoint, and one
        job = Job(tmp_path / "killed", loop, stop_at(stop))
        with pytest.raises(KeyboardInterrupt):
            job.fit()
    resumed = Job(tmp_path / "killed", loop)
    assert resumed.resumed
    assert resumed.state.step == 6
    resumed.fit()
    assert resumed.lines() == whole.lines()
    mine, theirs = flatten(resumed.state.state_dict()), flatten(whole.state.state_dict())
    assert mine[1] == theirs[1]
    for name, value in mine[0].items():
        assert torch.equal(value, theirs[0][name]), name


@pytest.mark.parametrize("where", ["preview", "evaluate"])
@pytest.mark.parametrize("step", [6, 9])
def test_a_stop_while_looking_loses_nothing_and_the_look_is_made_up_for(tmp_path: Path, where: str, step: int) -> None:
    loop = LoopConfig(steps=9, log_every=2, checkpoint_every=3, evaluate_every=3, preview_every=3, **CPU)
    whole = Job(tmp_path / "whole", loop).fit()
    job = Job(tmp_path / "killed", loop)
    job.stop_looking = f"{where} {step}"
    with pytest.raises(KeyboardInterrupt):
        job.fit()
    resumed = Job(tmp_path / "killed", loop)
    assert resumed.state.step == step
    resumed.fit()
    assert resumed.seen == list(range(step, 9))
    assert resumed.lines() == whole.lines()
    assert resumed.table() == whole.table()
    assert resumed.table()[-1]["evaluate/nme"] == "0.5"
    pictures = sorted(path.name for path in (resumed.run.folder / "previews").iterdir())
    assert pictures == [f"step_{s:08d}.png" for s in (3, 6, 9)]
    assert len(resumed.looked) == (2 if where == "preview" else 1) + 2 * (step == 6)  # what was looked at is not again


def test_the_best_evaluation_is_kept_beside_the_last_checkpoints(tmp_path: Path) -> None:
    loop = LoopConfig(steps=10, log_every=5, checkpoint_every=2, evaluate_every=2, preview_every=0, **CPU)
    errors = {2: 0.9, 4: 0.3, 6: 0.4, 8: 0.3, 10: 0.5}
    job = Job(tmp_path / "run", loop, stop_at(7))
    job.errors = errors
    with pytest.raises(KeyboardInterrupt):
        job.fit()
    job = Job(tmp_path / "run", loop)
    job.errors = errors
    job.fit()
    assert job.run.best("nme") == (4, 0.3)
    best = job.run.folder / "checkpoints" / "best"
    card = read_card(best, "detector")
    assert (card["step"], card["best"]) == (4, {"nme": 0.3})
    assert read_tensors(best / "model.safetensors").keys() == job.state.result().state_dict().keys()
    assert [p.name for p in job.run.checkpoints()] == ["step_00000008", "step_00000010"]
    (tmp_path / "end").mkdir()
    once = Job(tmp_path / "end" / "run", LoopConfig(steps=2, **CPU)).fit()  # evaluated at the end alone: the last is it
    assert not (once.run.folder / "checkpoints" / "best").exists()


@pytest.mark.parametrize(("norm", "moved"), [(0.0, 5.0), (2.0, 2.0), (7.0, 5.0)])
def test_gradients_longer_than_the_limit_are_scaled_down_to_it(tmp_path: Path, norm: float, moved: float) -> None:
    loop = LoopConfig(steps=1, clip_norm=norm, **CPU)
    engine, model = start_engine(loop), nn.Linear(1, 2, bias=False)
    model, optimizer = engine.setup(model, torch.optim.SGD(model.parameters(), lr=1.0))
    before = model.weight.detach().clone()

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        loss = (model.weight.flatten() * torch.tensor([3.0, 4.0])).sum()  # a gradient of norm 5
        optimizer.zero_grad()
        engine.backward(loss)
        optimizer.step()
        return {"total": loss}

    state = TrainState(modules={"model": model}, optimizers={"model": optimizer}, card={"kind": "detector"})
    run = Run.open(tmp_path / "run", loop)
    fit(update, state=state, batches=batch_of, config=loop, run=run, engine=engine)
    assert float((model.weight.detach() - before).norm()) == pytest.approx(moved, rel=1e-5)
    inner: Any = optimizer
    assert not inner.optimizer._optimizer_step_pre_hooks  # nothing is left behind


def test_lines_of_metrics_have_the_learning_rate_and_the_epoch(tmp_path: Path) -> None:
    job = Job(tmp_path / "run", LoopConfig(steps=4, log_every=2, **CPU)).fit()
    assert [(line["lr"], line["epoch"]) for line in job.lines() if "total" in line] == [(0.1, 0.25), (0.1, 0.5)]
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr_scale": 4.0}], lr=0.1)
    set_lr(optimizer, 0.02)
    assert lr_of({"model": optimizer}) == pytest.approx(0.02)


def test_epochs_are_how_often_the_first_source_was_shown(tmp_path: Path) -> None:
    caches: Any = [range(10), range(30)]
    source = BatchSource(caches, [0.5, 0.5], 8, 0)
    assert [source.epochs(steps) for steps in (0, 1, 5)] == [0.0, 0.4, 2.0]


def test_a_clone_says_its_commit_and_another_projects_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no clone")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert commit()["commit"] == head.strip()
    assert isinstance(commit()["changed"], bool)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    copy = tmp_path / ".venv" / "stylealign" / "training" / "run.py"
    copy.parent.mkdir(parents=True)
    copy.touch()
    (tmp_path / ".venv" / "stylealign" / "__init__.py").touch()
    monkeypatch.setattr(run_module, "__file__", str(copy))
    assert commit() == {}


@pytest.mark.parametrize(
    ("processes", "device", "kind"),
    [(2, "cuda", nn.SyncBatchNorm), (1, "cuda", nn.BatchNorm2d), (2, "cpu", together.BatchNorm)],
)
def test_batches_are_normalised_over_the_faces_of_all_processes(processes: int, device: str, kind: type) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weight, names = model[1].weight, list(model.state_dict())
    found: Any = normalised_together(model, processes, device)
    assert type(found[1]) is kind
    assert found[1].weight is weight  # what an optimizer holds
    assert list(found.state_dict()) == names


def test_the_flags_of_the_loop_reach_network_optimizer_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def ready(kind: type[torch.optim.Optimizer], **flags: Any) -> tuple[Any, Any]:
        net = nn.Sequential(nn.Conv2d(2, 3, 3)).to(memory_format=torch.channels_last)
        return start_engine(LoopConfig(**CPU, **flags)).setup(net, kind(net.parameters(), lr=0.1))

    image = torch.randn(2, 2, 6, 6).contiguous(memory_format=torch.channels_last)
    (model, _), (in_planes, _) = ready(torch.optim.SGD), ready(torch.optim.SGD, channels_last=False)
    seen: list[Tensor] = []
    for module in (model, in_planes):
        module.module[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        module(image)
    assert [x.is_contiguous() for x in seen] == [False, True]
    assert in_planes.module[0].weight.is_contiguous()
    in_planes.load_state_dict(model.state_dict())
    torch.testing.assert_close(in_planes(image), model(image))

    for kind, usual in ((torch.optim.SGD, None), (torch.optim.AdamW, None)):
        found = [ready(kind, fused=fused)[1].param_groups[0]["fused"] for fused in (None, True, False)]
        assert found == [usual, True, None]
    model, optimizer = ready(torch.optim.Adam, fused=True)
    model(image).square().mean().backward()
    optimizer.step()

    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    wrapped, _ = ready(torch.optim.SGD, compile=True)
    assert compiled == [wrapped.module]

    class Waiting(NamedTuple):
        step: int
        pinned: bool = False

        def pin_memory(self) -> "Waiting":
            return self._replace(pinned=True)

    gpu = torch.device("cuda")  # named alone: nothing is done on it
    for pinned in (True, False):
        given = list(one_ahead(Waiting, 1, Schedule(4), gpu, pinned))
        assert given == [Waiting(step, pinned) for step in (1, 2, 3)]


def test_a_term_that_begins_between_two_lines_is_the_mean_of_the_updates_that_had_it(tmp_path: Path) -> None:
    """As an adversary that joins at update 5: of the window 3 to 5 (lines at 3 and 6) only one has it. So it is after a
    stop, whose checkpoint keeps the window, one of an older version too."""
    loop = LoopConfig(steps=9, log_every=3, checkpoint_every=9, **CPU)

    class Joined(Job):
        def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
            late = {"late": torch.tensor(7.0)} if step >= 5 else {}
            return {**super().update(batch, step), **late}

    job = Joined(tmp_path / "run", loop).fit()
    assert [line.get("late") for line in job.lines() if "total" in line] == [None, 7, 7]
    numbers = [line["step_number"] for line in job.lines() if "total" in line]
    assert numbers == [1, 4, 7]

    def told(batch: Batch, step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        Joined(tmp_path / "stopped", loop, told).fit()
    again = Joined(tmp_path / "stopped", loop)
    assert again.state.summed == {"total": 1, "step_number": 1, "late": 1}
    old = {**again.state.state_dict(), "summed": 1}  # as checkpoints were
    again.state.load_state_dict(old)
    assert again.fit().lines() == job.lines()


@pytest.fixture
def sixteen_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Precision 16-mixed on the CPU too, where Fabric takes bf16-mixed for it."""
    made = "lightning_fabric.connector._Connector._check_and_init_precision"
    monkeypatch.setattr(made, lambda _: MixedPrecision("16-mixed", "cpu"))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("built", [True, None])
def test_optimizers_learn_under_scaled_losses_fused_or_not(
    sixteen_bits: None, kind: type[torch.optim.Optimizer], built: bool | None
) -> None:
    """However they were built; where a gradient overflows nothing is learnt, and the next loss is scaled by half."""
    weights = []
    for fused in (True, False):
        engine = start_engine(LoopConfig(**CPU, fused=fused, precision="16-mixed"))
        net = nn.Linear(1, 1, bias=False)
        nn.init.ones_(net.weight)
        model, optimizer = engine.setup(net, kind(net.parameters(), lr=0.1, fused=built))  # type: ignore[call-arg]
        for step in range(3):
            optimizer.zero_grad()
            engine.backward(model(torch.tensor([[2.0]])).sum())  # 2 x 65536 is beyond 16 bits
            optimizer.step()
            if step == 0:
                assert net.weight.item() == 1
        weights.append(net.weight.item())
    assert weights[0] == pytest.approx(weights[1])
    assert weights[0] < 1


def test_a_killed_run_of_16_bits_goes_on_with_the_scale_of_its_losses(sixteen_bits: None, tmp_path: Path) -> None:
    loop = LoopConfig(steps=9, log_every=2, checkpoint_every=3, precision="16-mixed", **CPU)
    whole = Job(tmp_path / "whole", loop).fit()
    with pytest.raises(KeyboardInterrupt):
        Job(tmp_path / "killed", loop, stop_at(7)).fit()
    resumed = Job(tmp_path / "killed", loop).fit()
    assert resumed.seen == [6, 7, 8]
    assert resumed.lines() == whole.lines()
    assert resumed.state.scaling == whole.state.scaling
    assert resumed.state.scaling["scale"] < 2**16  # which it begins with: a gradient has overflowed, and halved it
    assert flatten(resumed.state.state_dict())[1] == flatten(whole.state.state_dict())[1]
    old = {key: value for key, value in whole.state.state_dict().items() if key != "scaling"}
    whole.state.load_state_dict(old)  # as checkpoints were
    assert whole.state.scaling == {}


@pytest.mark.slow  # a minute of compiling
def test_a_compiled_training_learns_what_a_plain_one_does(tmp_path: Path) -> None:
    plain, compiled = (
        Job(tmp_path / name, LoopConfig(steps=3, log_every=1, **CPU, compile=name == "compiled")).fit()
        for name in ("plain", "compiled")
    )
    for mine, theirs in zip(compiled.lines(), plain.lines(), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    assert compiled.state.result().state_dict().keys() == plain.state.result().state_dict().keys()


def test_clipping_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="clip_norm is -1"):
        LoopConfig(clip_norm=-1.0)
    with pytest.raises(ValueError, match="expected bf16-mixed"):
        LoopConfig(clip_norm=1.0, precision="16-mixed")


def test_a_run_that_begins_anew_keeps_no_picture_and_no_best_of_what_it_was(tmp_path: Path) -> None:
    loop = LoopConfig(steps=6, checkpoint_every=0, evaluate_every=2, preview_every=2, **CPU)
    job = Job(tmp_path / "run", loop, stop_at(5))
    job.errors = {2: 0.1, 4: 0.2}  # easier faces than those of the next start
    with pytest.raises(KeyboardInterrupt):
        job.fit()
    again = Job(tmp_path / "run", loop)
    again.errors = {2: 0.5, 4: 0.4, 6: 0.6}
    assert not again.resumed
    again.fit()
    assert again.run.best("nme") == (4, 0.4)
    assert again.looked == ["preview 2", "evaluate 2", "preview 4", "evaluate 4", "preview 6", "evaluate 6"]


def test_a_loss_that_is_not_finite_stops_the_run_with_its_terms_and_saves_nothing(tmp_path: Path) -> None:
    job = Job(tmp_path / "run", LoopConfig(steps=6, log_every=10, checkpoint_every=2, **CPU))
    update = job.update
    job.update = lambda batch, step: {**update(batch, step), **({"total": torch.tensor(math.nan)} if step == 3 else {})}  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"step 4: a loss is not finite .*total.*nan.*step_number"):
        job.fit()
    assert [p.name for p in job.run.checkpoints()] == ["step_00000002"]


def test_a_failing_batch_is_reported_not_swallowed(tmp_path: Path) -> None:
    def broken(step: int) -> Batch:
        if step == 2:
            raise UserError("picture 7 is gone")
        return batch_of(step)

    job = Job(tmp_path / "run", LoopConfig(steps=6, **CPU))
    with pytest.raises(UserError, match="picture 7"):
        fit(job.update, state=job.state, batches=broken, config=job.loop, run=job.run, engine=job.engine)
    assert job.seen == [0, 1]


def test_ema_by_hand() -> None:
    module = nn.BatchNorm1d(1)
    ema = EMA(module, 0.5)
    module.train()
    average = {k: v.clone() for k, v in module.state_dict().items()}
    for step in range(12):
        with torch.no_grad():
            module.weight += 1.0
            module.running_mean += 2.0  # type: ignore[operator]
            module.num_batches_tracked += 1  # type: ignore[operator]
        ema.update(module, step)
        decay = min(0.5, (1 + step) / (10 + step))
        for key in ("weight", "running_mean"):
            average[key] = decay * average[key] + (1 - decay) * module.state_dict()[key]
            torch.testing.assert_close(ema.module.state_dict()[key], average[key])
    assert int(ema.module.state_dict()["num_batches_tracked"]) == 12
    assert not any(p.requires_grad for p in ema.module.parameters())
    assert not ema.module.training


def test_cosine_warms_up_peaks_and_ends_at_nothing() -> None:
    values = [cosine(step, 1000) for step in range(1000)]
    assert values[0] == pytest.approx(0.01)
    assert max(values) == values[100] == 1.0
    assert values[550] == pytest.approx(0.5)
    assert values[-1] < 1e-4
    assert cosine(0, 1) > 0


def test_the_published_schedules_by_hand() -> None:
    falling = OptimizerConfig(schedule="exponential", last_frac=0.01)
    assert [lr_factor(step, 3, falling) for step in range(3)] == pytest.approx([1, 0.1, 0.01])
    assert lr_factor(0, 1, falling) == 1
    in_steps = OptimizerConfig(schedule="steps", milestones=(0.5, 0.75), gamma=0.1)
    assert [lr_factor(step, 4, in_steps) for step in range(4)] == pytest.approx([1, 1, 0.1, 0.01])


def test_seeds_differ_by_every_number_and_repeat() -> None:
    def draw(*numbers: int) -> float:
        seed_everything(*numbers)
        return float(torch.rand(()))

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert len({draw(0, 1, 2), draw(1, 1, 2), draw(0, 2, 2), draw(0, 1, 3)}) == 4


def test_every_update_draws_other_numbers_and_the_same_ones_of_the_same_seed(tmp_path: Path) -> None:
    loop = {"steps": 6, "checkpoint_every": 3, "evaluate_every": 0, "preview_every": 0, **CPU}

    def drawn(name: str, seed: int, stop: int = 6) -> list[float]:
        found: list[float] = []

        def hook(batch: Batch, step: int) -> None:
            found.append(float(torch.rand(())))
            stop_at(stop)(batch, step)

        with contextlib.suppress(KeyboardInterrupt):
            Job(tmp_path / name, LoopConfig(seed=seed, **loop), hook).fit()
        return found

    whole = drawn("whole", 0)
    assert len(set(whole)) == 6
    assert not set(whole) & set(drawn("other", 1))
    assert drawn("stopped", 0, stop=4) == whole[:5]
    assert drawn("stopped", 0) == whole[3:]


@pytest.mark.parametrize("key", ["data", "teacher_data", "donors", "val_data"])
def test_a_run_does_not_go_on_where_any_of_its_data_sets_holds_other_faces(key: str, tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", LoopConfig(**CPU))
    sets = [{"name": "a", "content_hash": "1" * 64}, {"name": "b", "content_hash": "2" * 64}]
    run.write_checkpoint(1, {"w": torch.zeros(1)}, {key: sets}, {"step": 1})
    run.refuse_other_faces({key: sets})
    with pytest.raises(
        UserError, match=r"learnt from other faces than b holds now \(content hash 222222222222, found 3"
    ):
        run.refuse_other_faces({key: [sets[0], {**sets[1], "content_hash": "3" * 64}]})


def test_a_device_that_is_not_there_is_a_sentence() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda"):
            start_engine(LoopConfig(accelerator="cuda"))


def test_nothing_learns_on_an_apple_gpu(monkeypatch) -> None:
    """torch has no float64 there, in which batches say where their crops lie."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "mps"
    assert start_engine(LoopConfig(accelerator="auto")).device.type == training_accelerator("auto") == "cpu"
    with pytest.raises(UserError, match=r"accelerator mps: .*no float64.*expected cpu or cuda"):
        start_engine(LoopConfig(accelerator="mps"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_accelerator("auto") == "cuda"


def test_loops_without_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LoopConfig(steps=0)


# --------------------------------------------------------------------------------------------------------------------
# Run folders


def test_a_run_of_another_configuration_is_never_touched(tmp_path: Path) -> None:
    Run.open(tmp_path / "run", LoopConfig(steps=9))  # nothing was learnt: the corrected command takes its place
    Run.open(tmp_path / "run", LoopConfig(steps=3)).log(1, {"total": 1.0})
    with pytest.raises(UserError, match=r"another configuration \(steps: 3 there, 4 now\)"):
        Run.open(tmp_path / "run", LoopConfig(steps=4))
    run = Run.open(tmp_path / "run", LoopConfig(steps=3, accelerator="cpu", devices=2))  # where it runs is free
    run.finish({"w": torch.ones(1)}, {"kind": "detector"})
    assert Run.open(tmp_path / "run", LoopConfig(steps=3)).finished
    with pytest.raises(UserError, match="another configuration"):
        Run.open(tmp_path / "run", LoopConfig(steps=3, seed=1))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="not a run folder"):
        Run.open(tmp_path / "other", LoopConfig())


def test_the_first_differing_key_is_named() -> None:
    assert first_difference({"a": {"b": 1, "run": 2}}, {"a": {"b": 1, "run": 3}}) is None
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 2}}) == "a.b: 1 there, 2 now"
    assert first_difference({"a": 1}, {"a": 1, "c": 0}) == "c: None there, 0 now"
    assert first_difference({"loop": {"follow": []}}, {"loop": {"follow": ["wandb"]}}) is None  # who watches is free
    assert first_difference({"follow": 1.0}, {"follow": 0.0}) == "follow: 1.0 there, 0.0 now"  # a weight of `pretrain`


def test_states_survive_flattening() -> None:
    state = {"a": [{"b": torch.arange(3), "c": 1.5}, None], "d": {"0": True, "e": torch.tensor(2.0)}}
    tensors, plain = flatten(state)
    back = unflatten(tensors, json.loads(json.dumps(plain)))
    assert torch.equal(back["a"][0]["b"], torch.arange(3))
    assert back["a"][0]["c"] == 1.5
    assert back["a"][1] is None
    assert back["d"]["0"] is True
    assert float(back["d"]["e"]) == 2.0


def test_models_are_stored_with_their_hash(tmp_path: Path) -> None:
    save_model(tmp_path, {"w": torch.arange(4.0)}, {"kind": "detector", "schema": "five", "crop": {"size": 64}})
    state, card = load_model(tmp_path, "detector")
    assert torch.equal(state["w"], torch.arange(4.0))
    assert card["crop"] == {"size": 64}
    with pytest.raises(UserError, match="holds a detector, expected a translator"):
        read_card(tmp_path, "translator")
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(UserError, match="hash differs"):
        load_model(tmp_path, "detector")
    path.write_bytes(b"short")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_model(tmp_path, "detector")


def test_half_finished_and_missing_runs_are_told_apart(tmp_path: Path) -> None:
    Run.open(tmp_path / "run", LoopConfig())
    with pytest.raises(UserError, match="has not finished"):
        read_card(tmp_path / "run")
    with pytest.raises(UserError, match="no such run"):
        read_card(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"weight": torch.zeros(2, 3)}, "'bias' is missing"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"'weight' has shape \(2, 4\), expected \(2, 3\)"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "scale": torch.zeros(1)}, "unknown weight 'scale'"),
    ],
)
def test_weights_that_do_not_fit_are_named(state: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_weights(nn.Linear(3, 2), state, "run")


def test_metrics_of_steps_to_be_done_again_are_forgotten_and_cut_lines_dropped(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", LoopConfig())
    for step in (1, 2, 3):
        run.log(step, {"total": 0.5})
    with open(run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "to')
    run.forget_after(2)
    assert [json.loads(line)["step"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_a_training_that_is_told_to_end_saves_first_and_goes_on_to_the_same_weights(tmp_path: Path, name: str) -> None:
    number = getattr(signal, name)
    loop = LoopConfig(steps=12, batch_size=4, log_every=4, checkpoint_every=100, preview_every=0, **CPU)
    whole = Job(tmp_path / "whole", loop).fit()

    def tell(batch: Batch, step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        Job(tmp_path / "told", loop, tell).fit()
    assert stopped.value.status == 128 + number
    assert signal.getsignal(number) == before, "after the training the signal does what it did"
    again = Job(tmp_path / "told", loop).fit()
    assert again.resumed
    assert again.seen == list(range(7, 12)), "nothing that was learnt is learnt again"
    for mine, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    told, untold = (metrics_of(partial_of(tmp_path / name)) for name in ("told", "whole"))
    assert told == untold, "each line is a mean of the same updates"


@pytest.mark.parametrize(
    ("precision", "device", "machine", "capability", "said"),
    [
        ("bf16-mixed", "cpu", "x86_64", "AVX2", True),
        ("bf16-mixed", "cpu", "AMD64", "DEFAULT", True),
        ("bf16-mixed", "cpu", "x86_64", "AVX512", False),
        ("bf16-mixed", "cpu", "arm64", "DEFAULT", False),
        ("bf16-mixed", "cuda", "x86_64", "AVX2", False),
        ("32-true", "cpu", "x86_64", "AVX2", False),
    ],
)
def test_a_precision_that_the_processor_only_imitates_is_said(
    monkeypatch, precision: str, device: str, machine: str, capability: str, said: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert ("has no bfloat16" in said_of_precision(precision, torch.device(device))) == said


def test_a_training_tells_of_it_as_it_starts(monkeypatch, capsys) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    start_engine(LoopConfig(steps=1, precision="bf16-mixed", **CPU))
    assert "--loop.precision 32-true" in capsys.readouterr().err
