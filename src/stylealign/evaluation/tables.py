"""A table in words, for Markdown, HTML and the terminal alike, and how its numbers are written. Computes nothing.

What each verb says in tables stands in its own folder: jobs/evaluate, jobs/study and jobs/assess have a tables.py.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stylealign.errors import counted
from stylealign.progress import draw_table

THRESHOLDS = (0.08, 0.10)
LEVELS = (90, 95, 99)
MIN_SEEDS = 3
"""Seeds below which nothing is said of whether an arm pays: of two, an interval over seeds means little."""


class Table(NamedTuple):
    """A table in words, for Markdown and HTML alike."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str


def millions(number: int) -> str:
    """A count in millions, three digits."""
    value = number / 1e6
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def slug(name: str) -> str:
    """The name as part of a file name: letters and digits of any script stay."""
    return re.sub(r"([^\w.+-]|_)+", "-", unicodedata.normalize("NFC", name)).strip("-.") or "arm"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Each name's slug, with a number where one before it has the same: names that differ only in characters that
    file names lack, or in case, which some file systems do not tell apart."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain, number, taken = slug(name), 1, {each.casefold() for each in found.values()}
        found[name] = plain
        while found[name].casefold() in taken:
            number += 1
            found[name] = f"{plain}-{number}"
    return found


def share_a_folder(names: Iterable[str]) -> bool:
    """Whether two of some names, or two that are the same, are one as the name of a file or folder."""
    names = list(names)
    return len(set(names)) < len(names) or any(part != slug(name) for name, part in slugs(names).items())


def percent(figure: Mapping[str, Any] | None, digits: int = 2) -> str:
    """A figure of evaluation.json in per cent, with its spread over seeds."""
    if figure is None:
        return "-"
    sd = figure.get("sd")
    return f"{100 * figure['mean']:.{digits}f}" + (f" ± {100 * sd:.{digits}f}" if sd is not None else "")


def p_value(p: float) -> str:
    """A p value as tables show it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def heading(subset: str) -> str:
    """A subset's name as published tables spell it."""
    return {"make_up": "make-up"}.get(subset, subset)


def landmarks_scored(described: Mapping[str, Any], visible_only: bool = False) -> str:
    """Which landmarks of a data set were scored, as a result describes it, and how many faces have none."""
    said = "visible landmarks only" if visible_only else "all landmarks"
    missing = described.get("missing") or {"landmarks": 0, "faces": 0}  # older results do not say
    if missing["landmarks"]:
        said += f" but {counted(missing['landmarks'], 'missing one')} of {counted(missing['faces'], 'face')}"
    if described.get("unlabelled"):
        said += f", {counted(described['unlabelled'], 'face')} without landmarks left out"
    return said


def subset_differences(pairs: Sequence[Mapping[str, Any]], subsets: Sequence[str], note: str) -> Table:
    """Paired differences on each subset; a dash where results are older than this table."""
    rows = []
    for pair in pairs:
        parts = (pair.get("subsets", {}).get(name) for name in subsets)
        said = (
            "-" if p is None else f"{100 * p['difference']:+.2f} ({100 * p['low']:+.2f} to {100 * p['high']:+.2f})"
            for p in parts
        )
        rows.append((f"{pair['arm']} - {pair['baseline']}", *said))
    return Table("Paired differences per subset", ("difference", *map(heading, subsets)), rows, note)


def markdown_of(table: Table) -> list[str]:
    """The lines of a table in Markdown, without its title and note."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return [lines[0], "|" + " --- |" * len(table.header), *lines[1:]]


def print_table(console: Any, table: Table, columns: int | None = None) -> None:
    """Print the first columns of a table on a rich console; its note is left to the caller."""
    draw_table(console, table.title, table.header[:columns], table.rows)
