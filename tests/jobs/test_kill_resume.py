"""SIGKILL, then the same command again: the result is byte for byte that of a run nobody stopped."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from builders.painted import untrained_translator
from builders.places import SRC
from builders.tiny import detector_job, drawn, metrics_of, translator_job, tree
from stylealign.cli import main
from stylealign.config import save_config
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.errors import UserError
from stylealign.jobs.train_detector.beside import train_all
from stylealign.jobs.train_detector.job import TrainDetector as DetectorJob
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.training.cluster import Cluster
from stylealign.training.run import Run
from stylealign.training.session import replaced_data
from stylealign.training.weights import read_card

SOURCE = SRC
LOOP = {"steps": 16, "checkpoint_every": 4, "log_every": 2, "preview_every": 0}


@pytest.fixture(autouse=True, scope="module")
def _cache_and_one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A sum's last bits change with the number of threads: here and in the killed processes there is one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(SOURCE))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn(tmp_path_factory.mktemp("data") / "drawn")


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    """`python -m stylealign ...`, politer than this process, so that the one who watches is never the one who waits."""
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "stylealign", *arguments],
            stdout=file,
            stderr=file,
            preexec_fn=lambda: os.nice(5),
        )


def kill_when(process: subprocess.Popen, folder: Path, pattern: str, log: Path) -> None:
    """SIGKILL as soon as `folder` holds a file or folder like `pattern` whose name says that it is whole."""
    deadline = time.monotonic() + 300
    try:
        while not any(p for p in folder.glob(pattern) if p.suffix != ".partial"):
            assert process.poll() is None, f"ended before it could be killed:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"nothing like {pattern} in {folder}:\n{log.read_text()}"
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()


def command(verb: str, folder: Path, faces: FaceDataset, translator: Path | None = None) -> list[str]:
    """A command of `verb` that writes `folder`/out."""
    folder.mkdir()
    out = folder / "out"
    if verb == "generate":
        rest = ["--data", faces.folder, "--translator", translator, "--out", out, "--styles-per-face", 6]
        return [verb, *map(str, rest), "--accept-gap", "--faces-per-unit", "1", "--sheets", "1", "--accelerator", "cpu"]
    job = translator_job if verb == "train-translator" else detector_job
    save_config(job(out, faces.folder, loop=LOOP), folder / "job.yaml")
    return [verb, str(folder / "job.yaml")]


def assert_same(killed: Path, whole: Path) -> None:
    if (whole / "dataset.yaml").exists():
        assert tree(killed) == tree(whole)
        return
    assert metrics_of(killed) == metrics_of(whole)
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert {p.name for p in killed.iterdir()} == {p.name for p in whole.iterdir()}


def done_when(verb: str) -> str:
    return "units/*.jsonl" if verb == "generate" else "checkpoints/step_*"


@pytest.mark.parametrize(
    "verb",
    [
        "generate",
        # 13 s; in short, test_train_translator.py stops one and goes on, test_every_detector.py the other
        pytest.param("train-translator", marks=pytest.mark.slow),
        pytest.param("train-detector", marks=pytest.mark.slow),
    ],
)
def test_a_killed_command_given_again_ends_in_the_same_bytes(
    verb: str, tmp_path: Path, faces: FaceDataset, capfd: pytest.CaptureFixture[str]
) -> None:
    translator = tmp_path / "translator"
    if verb == "generate":
        untrained_translator(translator, faces.schema)
    assert main(command(verb, tmp_path / "whole", faces, translator)) == 0
    killed = command(verb, tmp_path / "killed", faces, translator)
    process = start(killed, tmp_path / "log")
    kill_when(process, tmp_path / "killed" / "out.partial", done_when(verb), tmp_path / "log")
    assert process.returncode == -9
    assert not (tmp_path / "killed" / "out").exists(), "killed too late to show anything"
    capfd.readouterr()
    assert main(killed) == 0
    assert "continuing" in capfd.readouterr().err
    assert_same(tmp_path / "killed" / "out", tmp_path / "whole" / "out")


@pytest.mark.slow
def test_a_translator_killed_three_times_ends_in_the_same_bytes(tmp_path: Path, faces: FaceDataset) -> None:
    """While its features are trained, while its judge is, and while it is trained
    itself; every process is a new one."""
    log = tmp_path / "log"
    whole, killed = (command("train-translator", tmp_path / name, faces) for name in ("whole", "killed"))
    for arguments, name in ((whole, "whole"), (killed, "killed")):
        if name == "killed":
            partial = tmp_path / "killed" / "out.partial"
            for pattern in ("features*/checkpoints/step_*", "judge*/checkpoints/step_*", "checkpoints/step_*"):
                kill_when(start(arguments, log), partial, pattern, log)
                assert not (tmp_path / "killed" / "out").exists()
        assert start(arguments, log).wait(300) == 0, log.read_text()
    assert_same(tmp_path / "killed" / "out", tmp_path / "whole" / "out")
    for name in ("features", "judge"):
        assert_same(tmp_path / "killed" / "out" / name, tmp_path / "whole" / "out" / name)


def stop_at_the_end(job: DetectorJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that is interrupted after its last checkpoint, before its result is there."""

    def stop(self: Run, *_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            train_detector(job)


def test_a_stopped_training_does_not_go_on_over_other_faces(
    tmp_path: Path, faces: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(faces.folder, data)
    job = detector_job(tmp_path / "run", data, loop=LOOP)
    stop_at_the_end(job, monkeypatch)
    shutil.rmtree(data)
    write_dataset(data, list(faces)[3:], schema=faces.schema, name=faces.name, image_root=Path("/"))
    with pytest.raises(UserError, match=r"run.partial: learnt from other faces than drawn holds now \(content hash"):
        train_detector(job)
    shutil.rmtree(data)
    shutil.copytree(faces.folder, data)
    train_detector(job)
    assert (tmp_path / "run" / "card.json").exists()
    shutil.rmtree(data)
    write_dataset(data, list(faces)[3:], schema=faces.schema, name=faces.name, image_root=Path("/"))
    with pytest.raises(UserError, match=r"has finished, and learnt from other faces than .*data holds now"):
        train_detector(job)


@pytest.mark.parametrize("jobs", [1, 2])
def test_finished_trainings_of_other_faces_are_refused_by_the_jobs_they_belong_to(
    tmp_path: Path, faces: FaceDataset, jobs: int
) -> None:
    data = tmp_path / "data"
    shutil.copytree(faces.folder, data)
    config = detector_job(tmp_path / "run", data, loop={"steps": 1, "preview_every": 0})
    train_detector(config)
    train_all({"one": config}, "local", jobs, Cluster(), tmp_path, "detectors")  # nothing to do
    shutil.rmtree(data)
    write_dataset(data, list(faces)[3:], schema=faces.schema, name=faces.name, image_root=Path("/"))
    with pytest.raises(UserError, match=r"has finished, and learnt from other faces than .*data holds now"):
        train_all({"one": config}, "local", jobs, Cluster(), tmp_path, "detectors")


def test_a_data_set_that_is_named_and_not_learnt_from_is_no_other(tmp_path: Path, faces: FaceDataset) -> None:
    made, run = tmp_path / "made", tmp_path / "run"
    shutil.copytree(faces.folder, tmp_path / "data")
    write_dataset(made, list(faces)[3:], schema=faces.schema, name="made", image_root=Path("/"))
    job = detector_job(run, tmp_path / "data", synthetic=made, synthetic_share=0.0)
    run.mkdir()
    (run / "card.json").write_text(
        json.dumps({"kind": "detector", "data": [{"content_hash": faces.content_hash}], "model_hash": "0"})
    )
    assert replaced_data(run, job) is None
    shutil.copy(made / "dataset.yaml", tmp_path / "data" / "dataset.yaml")
    assert replaced_data(run, job) == (str(tmp_path / "data"), FaceDataset.open(made).content_hash)


def test_a_stopped_training_is_not_measured_on_other_faces_either(
    tmp_path: Path, faces: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = tmp_path / "held_out"
    shutil.copytree(faces.folder, held_out)
    job = detector_job(tmp_path / "run", faces.folder, loop=LOOP, val=held_out)
    stop_at_the_end(job, monkeypatch)
    shutil.rmtree(held_out)
    write_dataset(held_out, list(faces)[3:], schema=faces.schema, name="other", image_root=Path("/"))
    with pytest.raises(UserError, match=r"run.partial: learnt from other faces than other holds now"):
        train_detector(job)
    shutil.rmtree(held_out)
    shutil.copytree(faces.folder, held_out)
    train_detector(job)
    card = read_card(tmp_path / "run")
    assert "val_data" not in card
    assert card["val"]["content_hash"] == faces.content_hash
