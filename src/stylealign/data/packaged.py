"""The models that came with the package: their folders, and the names that detectors among them have wherever a run
is asked for. Knows no network."""

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"
COMPACT = WEIGHTS / "compact"
"""The detector that is taken where none is named"""
TRANSLATOR = WEIGHTS / "translator"
DETECTORS = {"compact": COMPACT, "accurate": WEIGHTS / "accurate"}


def run_folder(run: Path | str) -> Path:
    """The folder of a model: of the detector in the package with that name, where there is no such folder; else `run`.

    >>> run_folder("compact") == COMPACT, run_folder("runs/mine") == Path("runs/mine")
    (True, True)
    """
    path = Path(run)
    return path if path.exists() else DETECTORS.get(str(run), path)
