"""The page on networks of one's own (docs/your_own_network.md): its modules, its commands and its Python, in order."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.places import ROOT, SRC
from builders.tiny import detector_job
from stylealign.cli import main
from stylealign.detectors import DETECTORS
from stylealign.face.crop import CropConfig
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.translators import TRANSLATORS

PAGE = (ROOT / "docs" / "your_own_network.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
FEWER = [("--count 300", "--count 24"), ("--loop.steps 300", "--loop.steps 3 --loop.batch-size 4")]


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """The tables, afterwards as they were."""
    yield
    DETECTORS.pop("mine", None)
    TRANSLATORS.pop("mycolour", None)


def test_the_blocks_of_the_page_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With fewer faces and updates; everything else is what the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    modules, names = iter(["my_det.py", "my_tr.py"]), dict[str, Any]()
    for kind, text in BLOCKS:
        if kind == "yaml":
            (tmp_path / "beside.yaml").write_text(text, encoding="utf-8")
        elif kind == "python" and ("DETECTORS[" in text or "TRANSLATORS[" in text):
            (tmp_path / next(modules)).write_text(text, encoding="utf-8")
        elif kind == "python":
            exec(compile(text, "your_own_network.md", "exec"), names)
        else:
            for before, after in FEWER:
                text = text.replace(before, after)
            for line in text.splitlines():
                program, *words = shlex.split(line)
                if program == "export":
                    for name, _, value in (word.partition("=") for word in words):
                        path = os.pathsep.join([value, str(SRC)]) if name == "PYTHONPATH" else value
                        monkeypatch.setenv(name, path)
                    continue
                assert program == "stylealign"
                if words[0] == "export":
                    pytest.importorskip("onnxruntime")
                if "runs/features" in words:  # the reader's
                    job = detector_job(Path("runs/features"), Path("faces"), {"steps": 1}, crop=CropConfig(size=64))
                    train_detector(job)
                    words += ["--split", "train"]  # the drawn faces of val are too few here
                if words[0] == "study":  # detectors/test_from_outside.py runs one
                    words += ["--dry-run"]
                assert main(words) == 0, (line, capfd.readouterr().err)
    assert next(modules, None) is None
    assert capfd.readouterr().out.splitlines()[-1] == "photo (128, 128, 3)"
    assert (tmp_path / "mine.onnx").exists()


def test_a_whole_detector_takes_thirty_lines() -> None:
    first = next(text for kind, text in BLOCKS if kind == "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 35
