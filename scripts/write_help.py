"""Write docs/jobs/<verb>.txt, the `--help-all` of every verb. Run it after changing a configuration; a test fails else.

python scripts/write_help.py
"""

import contextlib
import io
import os
from pathlib import Path

from stylealign.cli import parse, top_help
from stylealign.jobs import VERBS

FOLDER = Path(__file__).parents[1] / "docs" / "jobs"


def help_text(verb: str) -> str:
    """What `stylealign VERB --help-all` prints, 110 columns wide and without colour."""
    os.environ.update(COLUMNS="110", NO_COLOR="1", TERM="dumb")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        parse(verb, ["--help-all"])
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines()) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "stylealign.txt").write_text(top_help(), encoding="utf-8")
    for verb in VERBS:
        (FOLDER / f"{verb}.txt").write_text(help_text(verb), encoding="utf-8")
        print(FOLDER / f"{verb}.txt")
