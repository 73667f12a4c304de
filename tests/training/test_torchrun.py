"""Two processes under torchrun: the documented command of every verb that trains, and statistics that are shared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.places import ROOT, SRC
from builders.tiny import drawn, metrics_of
from stylealign.training.weights import read_card, read_tensors

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
LOOP = ("--loop.steps", "2", "--loop.batch-size", "4", "--loop.log-every", "1", "--loop.accelerator", "cpu")
TINY = ("--crop.size", "32")
VERBS = {
    "train-detector": ("--real", "DATA", "--resnet.width", "4", *TINY, *LOOP),
    "train-translator": (
        "--data", "DATA", "--crop.size", "32", "--vunet.size", "32", "--vunet.style-width", "8",
        "--vunet.structure-width", "8", "--vunet.max-width", "16", "--vunet.latent-channels", "4",
        "--vunet.prior-width", "4", "--vunet.blocks-per-scale", "1", "--auxiliary.steps", "2", "--auxiliary.width", "4",
        "--auxiliary.batch-size", "4", "--init-batches", "1", *LOOP,
    ),
    "train-styles": (
        "--data", "DATA", "--split", "None", "--styles.clusters", "2", "--styles.pair", "two_largest",
        "--generator.width", "4", "--generator.blocks", "1", "--cyclegan.discriminator-width", "4",
        "--cyclegan.discriminator-layers", "1", *TINY, *LOOP,
    ),
    "pretrain": ("--data", "DATA", *TINY, *LOOP),
}  # fmt: skip


def torchrun(*words: str, cwd: Path) -> str:
    """Standard error of a command that two processes have run."""
    environment = {
        **os.environ, "PYTHONPATH": str(SRC), "OMP_NUM_THREADS": "1", "STYLEALIGN_CACHE": str(cwd / "cache"),
    }  # fmt: skip
    done = subprocess.run(
        [*TORCHRUN, *words], env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=540
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("torchrun") / "faces", 40).folder


@pytest.mark.parametrize(
    "verb", [pytest.param(verb, marks=[] if verb == "train-detector" else pytest.mark.slow) for verb in VERBS]
)
@pytest.mark.parametrize(
    "form", [("-m", "--", "stylealign"), pytest.param(("-m", "stylealign", "--"), marks=pytest.mark.slow)]
)
def test_every_verb_that_trains_runs_under_torchrun_with_its_flags(
    verb: str, form: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    flags = [str(data) if word == "DATA" else word for word in VERBS[verb]]
    torchrun(*form, verb, *flags, "--run", str(tmp_path / "run"), cwd=tmp_path)
    assert read_card(tmp_path / "run")["step"] == 2
    lines = [line for line in metrics_of(tmp_path / "run") if "lr" in line]
    assert [(line["step"], line["images_seen"]) for line in lines] == [(1, 4), (2, 8)]  # once, not once a process


def test_processes_share_their_statistics_before_they_are_saved(tmp_path: Path) -> None:
    torchrun(str(ROOT / "tests" / "builders" / "two_processes.py"), str(tmp_path), cwd=tmp_path)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    # Rank 0 sees a mean of 0.5, rank 1 of 15; momentum 0.1, from 0. Saved after two steps and after three.
    assert first["own"][:2] == pytest.approx([0.05, 0.095])
    assert second["own"][:2] == pytest.approx([1.5, 2.85])
    shared = (0.095 + 2.85) / 2
    assert first["before"][2] == second["before"][2] == pytest.approx(shared)
    assert first["own"][2] == pytest.approx(0.9 * shared + 0.05)
    assert first["mean"] == second["mean"] == pytest.approx(0.9 * shared + 0.1 * (0.5 + 15) / 2)
    for key in ("var", "ema_mean", "weight"):
        assert first[key] == second[key]
    saved = read_tensors(tmp_path / "run.partial" / "checkpoints" / "step_00000003" / "model.safetensors")
    assert float(saved["0.running_mean"]) == pytest.approx(first["ema_mean"])
