"""The notebooks of docs/notebooks run from their first cell to their last."""

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.ipynb")))
def test_a_notebook_runs_from_its_first_cell_to_its_last(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    written = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert written["nbformat"] == 4
    known: dict[str, object] = {"__name__": "notebook"}
    for number, cell in enumerate(written["cells"]):
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == [], "outputs stay out of the repository"
        code = "".join(cell["source"])
        for command in re.findall(r"^!stylealign (.*)$", code, flags=re.M):
            fewer = command.replace("--count 300", "--count 24")
            subprocess.run([sys.executable, "-m", "stylealign", *fewer.split()], check=True, capture_output=True)
        code = re.sub(r"^!.*$", "", code, flags=re.M).replace("STEPS = 2000", "STEPS = 3")
        exec(compile(code, f"{name}, cell {number}", "exec"), known)
    import matplotlib.pyplot as plt

    assert plt.get_fignums()
    plt.close("all")
