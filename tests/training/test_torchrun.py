"""Several processes under torchrun: the documented command of every verb that trains, and the losses of one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from builders import every_training
from builders.places import ROOT, SRC
from builders.tiny import drawn, metrics_of
from stylealign.training.weights import read_card, read_tensors

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
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


def torchrun(*words: str, cwd: Path, processes: int = 2, **environment: str) -> str:
    """Standard error of a command that several processes have run."""
    environment = {
        **os.environ, "PYTHONPATH": f"{SRC}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1",
        "STYLEALIGN_CACHE": str(cwd / "cache"), **environment,
    }  # fmt: skip
    done = subprocess.run(
        [*TORCHRUN, str(processes), *words], env=environment, cwd=cwd, capture_output=True, text=True, check=False,
        timeout=540,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("torchrun") / "faces", 40).folder


@pytest.mark.slow  # 15 s each; the next one is not
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("form", [("-m", "--", "stylealign"), ("-m", "stylealign", "--")])
def test_every_verb_that_trains_runs_under_torchrun_with_its_flags(
    verb: str, form: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    flags = [str(data) if word == "DATA" else word for word in VERBS[verb]]
    torchrun(*form, verb, *flags, "--run", str(tmp_path / "run"), cwd=tmp_path)
    assert read_card(tmp_path / "run")["step"] == 2
    lines = [line for line in metrics_of(tmp_path / "run") if "lr" in line]
    assert [(line["step"], line["images_seen"]) for line in lines] == [(1, 4), (2, 8)]  # once, not once a process


def losses(run: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl that updates wrote: each term of the loss and its total."""
    lines = [{k: v for k, v in line.items() if k != "error_px"} for line in metrics_of(run) if "lr" in line]
    assert [line["step"] for line in lines] == list(range(1, every_training.STEPS + 1))
    return lines


def assert_same_training(found: Path, wanted: Path) -> None:
    """Equal losses at every update to 1e-5, and equal weights and statistics at the end.

    Of the terms beside the total, an adversary's is a mean of logits of both signs: small, and rounded as they are.
    """
    for mine, theirs in zip(losses(found), losses(wanted), strict=True):
        assert mine["total"] == pytest.approx(theirs["total"], rel=1e-5), found.name
        assert mine == pytest.approx(theirs, rel=1e-5, abs=5e-5), found.name
    mine, theirs = (read_tensors(run / "model.safetensors") for run in (found, wanted))
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{found} {n}: {m}")


def test_two_processes_learn_as_one_does_whatever_is_drawn_at_random(data: Path, tmp_path: Path) -> None:
    script, name = ROOT / "tests" / "builders" / "every_training.py", every_training.EVERYTHING
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "faces").symlink_to(data)
    every_training.train(tmp_path / "data", tmp_path / "one", name)
    torchrun(str(script), str(tmp_path / "data"), str(tmp_path / "two"), name, cwd=tmp_path)
    assert_same_training(tmp_path / "two" / name, tmp_path / "one" / name)


@pytest.mark.slow  # 3 minutes of CPU
def test_every_detector_and_translator_learns_alike_in_one_two_and_four_processes(tmp_path: Path) -> None:
    script, data = str(ROOT / "tests" / "builders" / "every_training.py"), tmp_path / "data"
    every_training.prepare(data)
    every_training.train(data, tmp_path / "one")
    # The last two are stopped, and go on in another number of processes: the numbers, and the update they stop at.
    ways = {
        "two": [(2, "")],
        "four": [(4, "")],
        "two_then_four": [(2, "2"), (4, "")],
        "four_then_one": [(4, "3"), (1, "")],
    }
    for way, parts in ways.items():
        for processes, stop in parts:
            torchrun(script, str(data), str(tmp_path / way), cwd=tmp_path, processes=processes, STOP=stop)
        for name in every_training.NAMES:
            assert_same_training(tmp_path / way / name, tmp_path / "one" / name)
