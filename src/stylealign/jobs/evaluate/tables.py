"""The tables of an evaluation in words: what evaluation.md and the report's page both show. Computes nothing.

Takes the dict that evaluation.json holds, whose scores are fractions; every number shown is in per cent unless its
heading says otherwise. Under each table stands what its numbers cannot be read without: data, split, face count,
denominator, crop protocol, seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stylealign.errors import counted
from stylealign.evaluation.metrics import divided_by
from stylealign.evaluation.reliability import TITLES, tables_of
from stylealign.evaluation.tables import (
    LEVELS,
    THRESHOLDS,
    Table,
    heading,
    landmarks_scored,
    markdown_of,
    p_value,
    percent,
    print_table,
    subset_differences,
)
from stylealign.progress import open_console

SHOWN = {
    "Errors": 8,
    "Without the constant offset": 4,
    "Paired comparison": 8,
    "NME % per subset": 12,
    **dict.fromkeys(TITLES, 5),
}  # on a terminal: table, and how many of its columns


def _per_arm(arms: Sequence[Mapping[str, Any]], key: str) -> str:
    """A fact of the arms, said once where it is the same for all."""
    values = {arm["name"]: str(arm[key]) for arm in arms}
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return "; ".join(f"{name}: {value}" for name, value in values.items())


def learnt_from(evaluation: Mapping[str, Any]) -> str:
    """Which arms learnt from faces that they are scored on, as a sentence after others; empty where none did."""
    seen = [f"{arm['name']} from {arm['learnt_from']:,}" for arm in evaluation["arms"] if arm.get("learnt_from")]
    if not seen:
        return ""
    faces = f"{evaluation['dataset']['faces']:,}"
    return f" Learnt from these very faces: {', '.join(seen)} of {faces}; its error says little of others."


def protocol_line(evaluation: Mapping[str, Any]) -> str:
    """What every table must say about itself: data, split, faces, denominator, crop protocols, seeds."""
    data, arms = evaluation["dataset"], evaluation["arms"]
    which = f"split {data['split']}" + (f", subset {data['subset']}" if data["subset"] else "")
    points = landmarks_scored(data, evaluation["visible_only"])
    apart = "; ".join(f"{arm['name']}: {arm['elsewhere']}" for arm in arms if arm.get("elsewhere"))
    return (
        f"{data['name']}, {which}, {counted(data['faces'], 'face')}, {counted(data['points'], 'point')} "
        f"({data['schema']}), {points}. Denominator: {evaluation['denominator']} "
        f"({divided_by(data, evaluation['denominator'])}). Crop: {_per_arm(arms, 'crop')}. Seeds: "
        f"{_per_arm(arms, 'seeds')}."
        + learnt_from(evaluation)
        + (
            f" In faces seen from the front, on average, answers lie elsewhere than these labels: {apart}. That is "
            "another way of labelling, or an error that all faces share."
            if apart
            else ""
        )
    )


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

    shifted = [(arm["name"], arm["nme"], arm["without_offset"]) for arm in arms if arm.get("without_offset")]
    if shifted:
        rows = [
            (name, percent(nme, 3), percent(less["nme"], 3), "({:+.2f}, {:+.2f})".format(*less["offset_px"]))
            for name, nme, less in shifted
        ]
        found = f"{counted(shifted[0][2]['faces'], 'face')} of split {shifted[0][2]['split']}"
        note = f"Offset: the middle of what each of {found} is "
        note += "off by on average; taken off every prediction. Labels may lean to one side, which a detector that "
        note += "learns from mirrored faces cannot follow (train-detector --lean-px)."
        header = ("arm", "NME %", "without offset", "offset px")
        result.append(Table("Without the constant offset", header, rows, f"{line} {note}"))

    if evaluation["paired"]:
        rows, spans = [], list[str]()
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
            over = pair.get("over_seeds")
            spans.append(f"{100 * over['low']:+.3f} to {100 * over['high']:+.3f}" if over else "-")
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
        if set(spans) != {"-"}:
            header = (*header, "95 % over faces and seeds")
            rows = [(*row, span) for row, span in zip(rows, spans, strict=True)]
        result.append(Table("Paired comparison", header, rows, f"{line} {note}"))

    subsets = {name: figures["faces"] for name, figures in arms[0]["subsets"].items()}
    if subsets:
        full = f"full ({evaluation['dataset']['faces']})"
        header = ("arm", full, *(f"{heading(name)} ({faces})" for name, faces in subsets.items()))
        rows = [
            (arm["name"], percent(arm["nme"]), *(percent(arm["subsets"][name]["nme"]) for name in subsets))
            for arm in arms
        ]
        result.append(Table("NME % per subset", header, rows, f"{line} In brackets: faces of the subset."))
        for t in THRESHOLDS[1:]:
            for key, what in (("failure_rate", "FR"), ("auc", "AUC")):
                parts = [(arm["name"], (arm, *(arm["subsets"][n] for n in subsets))) for arm in arms]
                rows = [(name, *(percent(part[key][f"{t:.2f}"]) for part in of_arm)) for name, of_arm in parts]
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
    for arm in arms:
        if arm.get("trust"):
            result += [table._replace(note=f"{line} {table.note}") for table in tables_of(arm["trust"], arm["name"])]
    note = "Point: NME %. All points stand in evaluation.json, and on the mean face in per_point.png."
    result.append(Table("Hardest points", ("arm", "point: NME %"), hardest, f"{line} {note}"))
    return result


def to_markdown(evaluation: Mapping[str, Any]) -> str:
    """The evaluation as a Markdown page."""
    data = evaluation["dataset"]
    lines = [f"# Evaluation on {data['name']}, {data['split']}", ""]
    for table in tables(evaluation):
        lines += [f"## {table.title}", "", *markdown_of(table), "", table.note, ""]
    sources = [f"- {arm['name']}: {', '.join(arm['paths'])}" for arm in evaluation["arms"]]
    lines += ["## Sources", "", *sources, f"- dataset content hash: {data['content_hash']}", ""]
    return "\n".join(lines)


def show(evaluation: Mapping[str, Any]) -> None:
    """Print what a person wants first: the errors and the paired comparison. evaluation.md holds the rest."""
    console = open_console()
    for table in tables(evaluation):
        kind = table.title.partition(":")[0]
        if kind in SHOWN:
            print_table(console, table, SHOWN[kind])
    console.print(protocol_line(evaluation))
