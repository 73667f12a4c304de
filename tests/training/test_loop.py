import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stylealign.batches.batch import Batch
from stylealign.config import first_difference
from stylealign.errors import UserError
from stylealign.training.loop import EMA, LoopConfig, TrainState, fit, restore, seed_everything, start_engine
from stylealign.training.optim import cosine
from stylealign.training.run import Run
from stylealign.training.weights import flatten, load_model, load_weights, read_card, save_model, unflatten

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
            evaluate=lambda: self.looked.append(f"evaluate {self.state.step}") or {"nme": 0.5},
            preview=lambda: self.looked.append(f"preview {self.state.step}") or np.zeros((4, 4, 3), np.uint8),
        )  # fmt: skip
        return self

    def lines(self) -> list[dict[str, float]]:
        rows = [json.loads(line) for line in (self.run.folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


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


def test_seeds_differ_by_every_number_and_repeat() -> None:
    def draw(*numbers: int) -> float:
        seed_everything(*numbers)
        return float(torch.rand(()))

    assert draw(0, 1, 2) == draw(0, 1, 2)
    assert len({draw(0, 1, 2), draw(1, 1, 2), draw(0, 2, 2), draw(0, 1, 3)}) == 4


def test_a_device_that_is_not_there_is_a_sentence() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda"):
            start_engine(LoopConfig(accelerator="cuda"))


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
