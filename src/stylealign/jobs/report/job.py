"""The job `report`: one HTML page of evaluations, studies, runs, predictions and datasets, to look at or to send.

Every picture is inside the page and nothing is fetched from outside: it opens from disk and stays readable for good.
One sentence of verdict comes first (verdict.py), then of each folder pictures, then tables. This file measures nothing;
it shows what lies in the folders it is given.
"""

from dataclasses import dataclass
from pathlib import Path

from stylealign.data.atomic import making, write_whole
from stylealign.data.dataset_writer import called
from stylealign.data.packaged import run_folder
from stylealign.errors import UserError
from stylealign.jobs.report.page import GENERATOR, heading_of, page
from stylealign.jobs.report.sections import SECTIONS
from stylealign.jobs.report.verdict import verdict_of
from stylealign.progress import say, track


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Show evaluations, studies, runs, predictions and datasets on one HTML page that needs nothing else."""

    inputs: tuple[Path, ...]
    """Folders to show, in this order: of `evaluate`, `study`, `assess`, `predict`, runs, datasets."""
    out: Path
    """The page to write, such as report.html. An earlier report there is replaced; any other file is not."""
    title: str = "stylealign report"
    """Heading of the page."""
    note: str = ""
    """A sentence to stand behind the first one, which says what was found."""
    about: str = ""
    """What the page is about, in a few sentences below its first one."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("inputs: nothing to report; give evaluation, run or dataset folders")


def report(config: Report) -> Path:
    """Write the page; returns its path.

    Raises:
        UserError: an input that is no evaluation, run or dataset folder; `out` is a folder, or a file that is no
            report.
    """
    out = config.out
    if out.is_dir():
        raise UserError(f"{out}: a folder; expected the name of the page to write, such as {out / 'report.html'}")
    if out.exists():
        with out.open("rb") as file:
            if f'content="{GENERATOR}"'.encode() not in file.read(2000):
                raise UserError(f"{out}: exists and is not a report of ours; choose another --out or remove it")
    sections = []
    inputs = tuple(map(run_folder, config.inputs))
    for folder in track(inputs, "writing the report"):
        kind = next((kind for kind in SECTIONS if (folder / kind).is_file()), None)
        if kind is None:
            found = f"holds none of {', '.join(SECTIONS)}" if folder.exists() else "does not exist"
            raise UserError(f"{folder}: {found}; expected a folder that a verb of stylealign made")
        what, section = SECTIONS[kind]
        sections.append((heading_of(what, called(folder)), section(folder)))
    lead = f"{verdict_of(inputs)} {config.note}".strip()
    write_whole(out, page(config.title, sections, lead, config.about))
    return out


@making("out")
def main(config: Report) -> None:
    """Write the page and say where it is."""
    out = report(config)
    say(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
