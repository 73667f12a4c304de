"""Where things are: the repository, the research data where there is any, the golden losses."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
GOLDEN = ROOT / "tests" / "golden"
DATA = Path(os.environ.get("STYLEALIGN_DATA", ROOT.parent / "shared" / "data"))
"""Real faces: tests that need them skip where this folder is not."""
