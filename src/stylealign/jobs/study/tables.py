"""What a study found, in words and lines: the published table's layout for each test set and
label budget. Computes nothing."""

import json
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stylealign.data.atomic import write_whole
from stylealign.errors import counted
from stylealign.evaluation.draw import lines_plot
from stylealign.evaluation.metrics import divided_by
from stylealign.evaluation.tables import (
    MIN_SEEDS,
    THRESHOLDS,
    Table,
    heading,
    landmarks_scored,
    markdown_of,
    millions,
    p_value,
    percent,
    print_table,
    slugs,
    subset_differences,
)
from stylealign.progress import open_console

LEARNT = 0.5
"""A detector has learnt once its NME is at most this part of the mean shape's in the same crops. Before that, a
comparison measures which arm starts faster."""


def _same(values: Sequence[Any]) -> str:
    """A fact of several rows, once where it is the same for all."""
    return " / ".join(dict.fromkeys(str(value) for value in values))


def protocol(result: Mapping[str, Any], one: Mapping[str, Any], block: Mapping[str, Any]) -> str:
    """What a table cannot be read without."""
    data, rows = one["dataset"], {row["name"]: row for row in result["rows"]}
    mine = [rows[arm["name"]] for arm in block["arms"]]
    # A study scored before arms said so has it of the row alone, whose budgets may differ.
    trained_on = [arm.get("trained_on", rows[arm["name"]]["trained_on"]) for arm in block["arms"]]
    labels = _same([arm["labels"] for arm in block["arms"]])
    return (
        f"{data['name']}, split {data['split']}, {counted(data['faces'], 'face')}, {counted(data['points'], 'point')} "
        f"({data['schema']}), {landmarks_scored(data)}. Denominator: {one['denominator']} "
        f"({divided_by(data, one['denominator'])}). Crop: {_same([row['crop'] for row in mine])}. "
        f"Labels: {block['budget']} ({labels} faces) of "
        f"{_same(trained_on)}. Updates: {_same([row['updates'] for row in mine])} of "
        f"{_same([row['batch_size'] for row in mine])} faces. Seeds: {_same([arm['seeds'] for arm in block['arms']])}; "
        "± is the standard deviation over them."
    )


def models_table(result: Mapping[str, Any]) -> Table:
    """Each row's network, its cost and what it learnt from."""
    header = (
        "method",
        "parameters M",
        "trainable M",
        "MACs M",
        "updates",
        "faces an update",
        "s an update",
        "crop",
        "trained on",
    )
    rows = []
    for row in result["rows"]:
        seconds = row["seconds_per_update"]
        sizes = [millions(row[key]) for key in ("parameters", "trainable", "macs")]
        rows.append((row["name"], *sizes, str(row["updates"]), str(row["batch_size"]),
                "-" if seconds is None else f"{seconds:.3f}",
                     row["crop"], row["trained_on"]))  # fmt: skip
    note = (
        "MACs of one picture: convolutions, linear layers and matrix products. Updates are the detector's own: "
        "networks trained before it or "
        "beside it are not counted. Seconds: as trained, side by side with other cells."
    )
    return Table("Methods", header, rows, note)


def _row_facts(result: Mapping[str, Any], arm: Mapping[str, Any]) -> tuple[str, ...]:
    row = next(row for row in result["rows"] if row["name"] == arm["name"])
    return (millions(row["parameters"]), millions(row["macs"]), str(row["updates"]), str(arm["seeds"]))


def block_tables(result: Mapping[str, Any], one: Mapping[str, Any], block: Mapping[str, Any]) -> list[Table]:
    """The tables of one test set at one label budget: NME, FR and AUC in the published layout, then differences."""
    arms = block["arms"]
    subsets = {name: figures["faces"] for name, figures in arms[0]["subsets"].items()}
    of_subsets = (f"{heading(name)} ({faces})" for name, faces in subsets.items())
    places = (f"full ({one['dataset']['faces']})", *of_subsets)
    tables: list[Table] = []
    figures_of: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {"NME %": itemgetter("nme")}
    for t in THRESHOLDS:
        for key, short in (("failure_rate", "FR"), ("auc", "AUC")):
            figures_of[f"{short}@{100 * t:.0f} %"] = lambda figures, key=key, t=t: figures[key][f"{t:.2f}"]  # type: ignore[misc]
    for title, figure in figures_of.items():
        scored: list[tuple[str, ...]] = []
        for arm in arms:
            on_subsets = (percent(figure(arm["subsets"][name])) for name in subsets)
            facts = _row_facts(result, arm) if not tables else ()
            scored.append((arm["name"], *facts, percent(figure(arm)), *on_subsets))
        facts = ("params M", "MACs M", "updates", "seeds") if not tables else ()
        tables.append(Table(title, ("method", *facts, *places), scored, ""))
    rows: list[tuple[str, ...]] = []
    for pair in block["paired"]:
        seeds = pair["seeds"]
        rows.append((
            f"{pair['arm']} - {pair['baseline']}", f"{100 * pair['difference']:+.3f}",
            f"{100 * pair['low']:+.3f} to {100 * pair['high']:+.3f}",
            "-" if pair["relative"] is None else f"{100 * pair['relative']:+.1f} %",
            f"{100 * pair['low_faces']:+.3f} to {100 * pair['high_faces']:+.3f}",
            "-" if seeds is None else f"{100 * seeds['mean']:+.3f} ± "
                                      f"{100 * seeds['standard_error']:.3f} ({seeds['pairs']})",
            p_value(pair["p_wilcoxon"]), f"{pair['better']} / {pair['worse']}",
        ))  # fmt: skip
    if rows:
        header = ("difference", "NME points", "95 % interval", "relative", "95 % over faces only",
                  "seed pairs, mean ± s.e.", "p Wilcoxon",
                  "faces better / worse")  # fmt: skip
        note = (
            "Face by face; negative is better than the row after the minus. The interval draws faces and seeds anew, "
            "both; with so few seeds it is "
            "somewhat too narrow."
        )
        tables.append(Table("Paired differences", header, rows, note))
        if subsets:
            tables.append(
                subset_differences(block["paired"], list(subsets), "Intervals over faces and seeds, as above.")
            )
    return tables


def verdicts(result: Mapping[str, Any], one: Mapping[str, Any], block: Mapping[str, Any]) -> list[str]:
    """One sentence a detector: does its best arm pay against its first, and by how much? The best is chosen
    on `val` where that was scored. With fewer than MIN_SEEDS seeds, or a first arm that has not learnt (LEARNT), the
    sentence says what is lacking instead."""
    choice = next((other for other in result["sets"] if other["role"] == "val"), one)
    chosen = next((other for other in choice["blocks"] if other["budget"] == block["budget"]), block)
    nme = {arm["name"]: arm["nme"]["mean"] for arm in chosen["arms"]}
    pairs = {(pair["arm"], pair["baseline"]): pair for pair in block["paired"]}
    best: dict[str, Mapping[str, Any]] = {}
    for row in result["rows"]:
        pair = pairs.get((row["name"], row["plain"]))
        known = best.get(row["plain"])
        if pair and row["name"] in nme and (known is None or nme[row["name"]] < nme[known["arm"]]):
            best[row["plain"]] = pair
    arms = {arm["name"]: arm for arm in chosen["arms"]}
    said = []
    for plain, pair in best.items():
        seeds = len(pair["common_seeds"])
        over = f"{counted(seeds, 'seed')}"
        d, low, high = (100 * pair[key] for key in ("difference", "low", "high"))
        flattered = ", these very faces" if choice is one else ""
        who = f"{pair['arm']}, the best arm on {choice['name']}{flattered}"
        lacking = _lacking(arms[plain], seeds, choice["name"])
        if lacking:
            found = f"differs from {plain} by {d:+.2f} points ({low:+.2f} to {high:+.2f}; {over})"
            said.append(f"{who}, {found}; whether it pays cannot be said yet: {' and '.join(lacking)}.")
            continue
        what = (
            f"pays here, by {-d:.2f} points ({-high:.2f} to {-low:.2f}; {over})" if high < 0
            else f"does not pay here: it costs {d:.2f} points ({low:.2f} to {high:.2f}; {over})" if low > 0
            else f"does not surely pay here: {d:+.2f} points ({low:+.2f} to {high:+.2f}; {over})"
        )  # fmt: skip
        said.append(f"{who}, {what}, against {plain}.")
    return said


def _lacking(base: Mapping[str, Any], seeds: int, faces: str) -> list[str]:
    """What a verdict against a row (its figures on the faces to choose by) still lacks; nothing: it may be given."""
    lacking = []
    if seeds < MIN_SEEDS:
        lacking.append(f"it takes at least {MIN_SEEDS} seeds of both")
    nme, mean_shape = base["nme"]["mean"], base.get("mean_shape_nme")
    if mean_shape is None:
        lacking.append("the study was scored before the mean shape's error was measured (the same command does it)")
    elif nme > LEARNT * mean_shape:
        lacking.append(
            f"{base['name']} has not learnt (NME {100 * nme:.2f} % on {faces}, expected at most half of the mean "
            f"shape's {100 * mean_shape:.2f} %; train it longer)"
        )
    return lacking


def title(one: Mapping[str, Any], block: Mapping[str, Any]) -> str:
    """What a table is of: test set and label budget."""
    return f"{one['name']}{' (to choose by)' if one['role'] == 'val' else ''}, labels: {block['budget']}"


def curve_names(result: Mapping[str, Any]) -> dict[str, str]:
    """Name of a test set -> the picture file of its curve."""
    return {name: f"nme_{part}.png" for name, part in slugs(one["name"] for one in result["sets"]).items()}


def to_markdown(result: Mapping[str, Any]) -> str:
    """The study as a Markdown page: tests first, the split to choose by after them."""
    methods = models_table(result)
    curves = curve_names(result)
    lines = [f"# Study on {result['data']['name']}", "", "## Methods", "", *markdown_of(methods), "", methods.note, ""]
    for one in sorted(result["sets"], key=lambda one: one["role"] == "val"):
        for block in one["blocks"]:
            lines += [f"## {title(one, block)}", "", protocol(result, one, block), ""]
            for table in block_tables(result, one, block):
                lines += [f"### {table.title}", "", *markdown_of(table), "", *([table.note, ""] if table.note else [])]
            lines += [text for sentence in verdicts(result, one, block) for text in (f"**{sentence}**", "")]
        if len(one["blocks"]) > 1:
            lines += [f"![NME over labels]({curves[one['name']]})", ""]
    hashes = dict.fromkeys(f"{one['dataset']['name']} {one['dataset']['content_hash']}" for one in result["sets"])
    return "\n".join([*lines, f"Content hashes: {'; '.join(hashes)}.", ""])


def write_study(out: Path, result: Mapping[str, Any]) -> None:
    """Write study.json, study.md and, of several label budgets, a curve a test set."""
    write_whole(out / "study.json", json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_whole(out / "study.md", to_markdown(result))
    curves = curve_names(result)
    for one in result["sets"]:
        if len(one["blocks"]) > 1:
            curve_plot(one, out / curves[one["name"]])


def curve_plot(one: Mapping[str, Any], path: Path | BinaryIO) -> None:
    """NME over labels on one test set, a line a row of the table, bars of a standard deviation over seeds."""
    points: dict[str, list[tuple[float, float, float]]] = {}
    for block in one["blocks"]:
        for arm in block["arms"]:
            nme = arm["nme"]
            points.setdefault(arm["name"], []).append((arm["labels"], 100 * nme["mean"], 100 * (nme.get("sd") or 0.0)))
    columns = {name: np.array(sorted(rows), float).T for name, rows in points.items()}
    series = {name: (labels, nme) for name, (labels, nme, _) in columns.items()}
    spread = {name: sd for name, (_, _, sd) in columns.items()}
    lines_plot(series, path, "labelled faces", f"NME %, {one['name']}", log=False, spread=spread, marked=True)


def show_study(result: Mapping[str, Any]) -> None:
    """Print NME, FR and AUC (at 10 %) and the differences; study.md holds the rest."""
    console = open_console()
    for one in result["sets"]:
        for block in one["blocks"]:
            console.rule(title(one, block), align="left")
            console.print(protocol(result, one, block))
            for table in block_tables(result, one, block):
                if "@8 %" not in table.title:
                    print_table(console, table, 4 if table.title == "Paired differences" else None)
            for sentence in verdicts(result, one, block):
                console.print(sentence)
