"""The tables of an evaluation in words: what evaluation.md and the report's page both show.

Takes the dict that evaluation.json holds, whose scores are fractions; every number shown is in per cent unless its
heading says otherwise. Under each table stands what its numbers cannot be read without: data, split, face count,
denominator, crop protocol, seeds. This file computes nothing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stylealign.evaluation.metrics import DENOMINATORS

THRESHOLDS = (0.08, 0.10)
LEVELS = (90, 95, 99)


SHOWN = {
    "Errors": 8,
    "Paired comparison": 8,
    "NME % per subset": 12,
}  # on a terminal: table, and how many of its columns


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
    """The name as part of a file name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", name).strip("-.") or "arm"


def percent(figure: Mapping[str, Any] | None, digits: int = 2) -> str:
    """A figure of evaluation.json in per cent, with its spread over seeds."""
    if figure is None:
        return "-"
    sd = figure.get("sd")
    return f"{100 * figure['mean']:.{digits}f}" + (f" ± {100 * sd:.{digits}f}" if sd is not None else "")


def p_value(p: float) -> str:
    """A p value as tables show it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _per_arm(arms: Sequence[Mapping[str, Any]], key: str) -> str:
    """A fact of the arms, said once where it is the same for all."""
    values = {arm["name"]: str(arm[key]) for arm in arms}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return "; ".join(f"{name}: {value}" for name, value in values.items())


def protocol_line(evaluation: Mapping[str, Any]) -> str:
    """What every table must say about itself: data, split, faces, denominator, crop protocols, seeds."""
    data, arms = evaluation["dataset"], evaluation["arms"]
    which = f"split {data['split']}" + (f", subset {data['subset']}" if data["subset"] else "")
    points = "visible landmarks only" if evaluation["visible_only"] else "all landmarks"
    return (
        f"{data['name']}, {which}, {data['faces']} faces, {data['points']} points ({data['schema']}), {points}. "
        f"Denominator: {evaluation['denominator']} ({DENOMINATORS[evaluation['denominator']]}). "
        f"Crop: {_per_arm(arms, 'crop')}. "
        f"Seeds: {_per_arm(arms, 'seeds')}."
    )


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
    return Table("Paired differences per subset", ("difference", *subsets), rows, note)


def tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """The tables of an evaluation, every number in per cent unless its heading says otherwise."""
    arms, line = evaluation["arms"], protocol_line(evaluation)
    header = ("arm", "seeds", "NME %", "95 % interval", *(f"FR@{100 * t:.0f} %" for t in THRESHOLDS))
    header += (*(f"AUC@{100 * t:.0f} %" for t in THRESHOLDS), *(f"P{level} %" for level in LEVELS), "mean offset px")
    rows = []
    for arm in arms:
        nme = arm["nme"]
        row = [arm["name"], str(arm["seeds"]), percent(nme, 3), f"{100 * nme['low']:.3f} to {100 * nme['high']:.3f}"]
        row += [percent(arm["failure_rate"][f"{t:.2f}"]) for t in THRESHOLDS]
        row += [percent(arm["auc"][f"{t:.2f}"]) for t in THRESHOLDS]
        row += [percent(arm["percentiles"][str(level)]) for level in LEVELS]
        rows.append((*row, "({:+.2f}, {:+.2f})".format(*arm["mean_offset_px"])))
    note = (
        "± is the standard deviation over seeds, the interval a bootstrap over faces. A mean offset near one pixel in "
    )
    note += "both directions means that predictions and truth count pixels from different numbers."
    result = [Table("Errors", header, rows, f"{line} {note}")]

    if evaluation["paired"]:
        rows = []
        for pair in evaluation["paired"]:
            seeds = pair["seeds"]
            rows.append((
                f"{pair['arm']} - {pair['baseline']}",
                f"{100 * pair['difference']:+.3f}",
                f"{100 * pair['low']:+.3f} to {100 * pair['high']:+.3f}",
                "-" if pair["relative"] is None else f"{100 * pair['relative']:+.1f} %",
                p_value(pair["p_wilcoxon"]),
                p_value(pair["p_sign"]),
                f"{pair['better']} / {pair['worse']}",
                "-" if seeds is None
                else f"{100 * seeds['mean']:+.3f} ± {100 * seeds['standard_error']:.3f} ({seeds['pairs']})",
            ))  # fmt: skip
        header = (
            "difference",
            "NME points",
            "95 % interval",
            "relative",
            "p Wilcoxon",
            "p sign",
            "faces better / worse",
            "seed pairs, mean ± s.e.",
        )
        note = "Face by face, errors averaged over seeds; negative is better than the baseline."
        result.append(Table("Paired comparison", header, rows, f"{line} {note}"))

    subsets = {name: figures["faces"] for name, figures in arms[0]["subsets"].items()}
    if subsets:
        header = ("arm", *(f"{name} ({faces})" for name, faces in subsets.items()))
        rows = [(arm["name"], *(percent(arm["subsets"][name]["nme"]) for name in subsets)) for arm in arms]
        result.append(Table("NME % per subset", header, rows, f"{line} In brackets: faces of the subset."))
        for t in THRESHOLDS[1:]:
            for key, what in (("failure_rate", "FR"), ("auc", "AUC")):
                rows = [(arm["name"], *(percent(arm["subsets"][n][key][f"{t:.2f}"]) for n in subsets)) for arm in arms]
                result.append(Table(f"{what}@{100 * t:.0f} % per subset", header, rows, line))
        if evaluation["paired"]:
            result.append(
                subset_differences(evaluation["paired"], list(subsets), f"{line} Of NME, with 95 % intervals.")
            )
    if arms[0]["parts"]:
        names = list(arms[0]["parts"])
        rows = [(arm["name"], *(percent(arm["parts"][name]) for name in names)) for arm in arms]
        result.append(Table("NME % per facial part", ("arm", *names), rows, line))
    hardest: list[tuple[str, ...]] = []
    for arm in arms:
        known = [(value, i) for i, value in enumerate(arm["per_point"]) if value is not None]
        hardest.append(
            (arm["name"], ", ".join(f"{i}: {100 * value:.2f}" for value, i in sorted(known, reverse=True)[:8]))
        )
    note = "Point: NME %. All points stand in evaluation.json, and on the mean face in per_point.png."
    result.append(Table("Hardest points", ("arm", "point: NME %"), hardest, f"{line} {note}"))
    return result


def markdown_of(table: Table) -> list[str]:
    """The lines of a table in Markdown, without its title and note."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return [lines[0], "|" + " --- |" * len(table.header), *lines[1:]]


def print_table(console: Any, table: Table, columns: int | None = None) -> None:
    """Print the first columns of a table on a rich console; its note is left to the caller."""
    from rich.table import Table as RichTable

    shown = RichTable(title=table.title, title_justify="left")
    for i, name in enumerate(table.header[:columns]):
        shown.add_column(name, justify="right" if i else "left", no_wrap=i == 0)
    for row in table.rows:
        shown.add_row(*row[:columns])
    console.print(shown)


def to_markdown(evaluation: Mapping[str, Any]) -> str:
    """The evaluation as a Markdown page."""
    data = evaluation["dataset"]
    lines = [f"# Evaluation on {data['name']}, {data['split']}", ""]
    for table in tables(evaluation):
        lines += [f"## {table.title}", "", *markdown_of(table), "", table.note, ""]
    sources = [f"- {arm['name']}: {', '.join(arm['paths'])}" for arm in evaluation["arms"]]
    lines += ["## Sources", "", *sources, f"- dataset content hash: {data['content_hash']}", ""]
    return "\n".join(lines)


def wide_console() -> Any:
    """A rich console on standard output; 160 columns where that is no terminal."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 160
    return console


def show(evaluation: Mapping[str, Any]) -> None:
    """Print what a person wants first: the errors and the paired comparison. evaluation.md holds the rest."""
    console = wide_console()
    for table in tables(evaluation):
        if table.title in SHOWN:
            print_table(console, table, SHOWN[table.title])
    console.print(protocol_line(evaluation))
