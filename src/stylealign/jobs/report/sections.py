"""What the report shows of each kind of folder: a section of the page, as HTML."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.config import parse_json, read_json, read_yaml
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import lines_plot
from stylealign.evaluation.tables import Table
from stylealign.jobs.assess import tables as assessment_tables
from stylealign.jobs.assess.plots import keep_curve_plot
from stylealign.jobs.evaluate import tables as evaluation_tables
from stylealign.jobs.report.faces import faces_by_split
from stylealign.jobs.report.page import data_uri, embed, escaped, facts_of, figure_of, table_of
from stylealign.jobs.study import tables as study_tables

_NOT_CURVES = {"step", "images_seen", "seconds", "lr", "kl_weight_per_nat", "images_per_s", "memory_mb"}
_MOST_OVERLAYS = 24


@contextmanager
def _of_this_version(path: Path, what: str) -> Iterator[None]:
    """Make whatever a file that is not ours, or of another version, leads to a sentence that names it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        why = f"no {error.args[0]!r} in it" if isinstance(error, KeyError) and error.args else str(error)
        raise UserError(f"{path}: not {what} of this version ({' '.join(why.split())[:200]})") from None


def _row_of(folder: Path, captions: Mapping[str, str]) -> str:
    """The pictures of a folder that are there, side by side, each with its caption."""
    shown = [figure_of(embed(folder / name), text) for name, text in captions.items() if (folder / name).exists()]
    return f'<div class="row">{"".join(shown)}</div>'


def evaluation_section(folder: Path) -> str:
    """Error curves, errors on the mean face, worst, median and best faces; then the tables."""
    evaluation = read_json(folder / "evaluation.json")
    with _of_this_version(folder / "evaluation.json", "an evaluation"):
        tables = [table_of(table) for table in evaluation_tables.tables(evaluation)]
    plots = {
        "ced.png": "Cumulative error: share of faces with at most a given NME",
        "per_point.png": "NME of each landmark, on the mean face",
    }
    parts = [_row_of(folder, plots)]
    drawn = "true landmarks orange, predicted ones blue and white"
    for name in ("worst", "median", "best"):
        if (folder / f"{name}.png").exists():
            figure = figure_of(
                embed(folder / f"{name}.png"), f"{name.capitalize()} faces by mean NME of all arms: {drawn}"
            )
            parts.append(
                f"<details{' open' if name == 'worst' else ''}><summary>{name.capitalize()} faces</summary>"
                f"{figure}</details>"
            )
    return "".join([*parts, *tables])


MOST_CURVES = 100
"""Numbers that a line of metrics.jsonl may name: more make no figure that a person reads."""


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (steps, values) of a metrics.jsonl; a last line cut short by a kill is passed over."""
    points: dict[str, list[tuple[float, float]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}), expected a JSON object a line") from None
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line, f"{path}:{number}")
        except UserError:
            if number == len(lines):
                break
            raise
        if not isinstance(record, dict):
            raise UserError(f"{path}:{number}: not a JSON object")
        for name, value in record.items():
            if name not in _NOT_CURVES and isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(name, []).append((record.get("step", number), value))
        if len(points) > MOST_CURVES:
            raise UserError(f"{path}:{number}: more than {MOST_CURVES} different names, expected a run's numbers")
    return {name: (np.array(pairs)[:, 0], np.array(pairs)[:, 1]) for name, pairs in points.items()}


def _curves_figures(path: Path) -> str:
    curves = read_curves(path)
    groups = {
        "Training: each point the mean since the last": {k: v for k, v in curves.items() if "/" not in k},
        "Validation while training": {k.split("/", 1)[1]: v for k, v in curves.items() if "/" in k},
    }
    figures = []
    for caption, group in groups.items():
        if group:
            buffer = io.BytesIO()
            lines_plot(group, buffer)
            figures.append(figure_of(data_uri(buffer.getvalue(), "png"), caption))
    return f'<div class="row">{"".join(figures)}</div>' if figures else ""


def _judge(figures: Mapping[str, Any]) -> str:
    """The independent judge's figures on a translator's swapped faces."""
    parts = figures.get("parts") or {}
    header = ("faces", "all", *parts)
    rows: list[tuple[str, ...]] = []
    for key, what in (("real", "real"), ("swap", "in another face's style")):
        if f"{key}_nme" in figures:
            cells = [figures[f"{key}_nme"], *(part[key] for part in parts.values())]
            rows.append((what, *(f"{100 * value:.2f}" for value in cells)))
    rest = {
        key.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else value
        for key, value in figures.items()
        if key not in ("parts", "real_nme", "swap_nme") and not isinstance(value, Mapping)
    }
    nested = [
        f"{key.replace('_', ' ')}: " + ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in value.items())
        for key, value in figures.items()
        if key != "parts" and isinstance(value, Mapping)
    ]
    table = Table("Judge: NME % of a detector that never met the translator", header, rows, "; ".join(nested))
    return (table_of(table) if rows else "<h3>Judge</h3>") + facts_of(rest)


def assessment_section(folder: Path) -> str:
    """The translator report: sheets, the drift on the mean face, the gap of every swap; then the tables."""
    found = read_json(folder / "assessment.json")
    with _of_this_version(folder / "assessment.json", "a translator report"):
        tables = [table_of(table) for table in assessment_tables.tables(found)]
    sheets = {
        "swaps": "Rows: structure of the first picture; columns: style of the uppermost",
        "truth": "Structure, style, the translator's answer, the true answer",
        "styles": "One face in the styles of the uppermost",
        "pairs": "64 pairs drawn by the seed: structure, style, result; below it the judge's error",
        "worst": "The 16 that the judge finds farthest from their labels",
        "reconstructions": "Faces, each beside itself drawn from its own two codes",
    }
    parts = []
    for name, caption in sheets.items():
        if (folder / "sheets" / f"{name}.png").exists():
            parts.append(figure_of(embed(folder / "sheets" / f"{name}.png"), caption))
    plots = {
        "drift.png": "Which way the judge sees each point move, and what that costs",
        "matrix.png": "Structure gap of every swap on the first sheet, faces numbered as they stand there",
    }
    return "".join([*parts, _row_of(folder, plots), *tables])


CAPTIONS = {
    "styles": "What the style arms make of the first faces: labels stay where they are",
    "clusters": "The groups of faces, by style",
}


def _previews(folder: Path) -> str:
    """What there is once, and the first, the middle and the last preview."""
    pictures = sorted((folder / "previews").glob("*.png"))
    steps = [picture for picture in pictures if picture.stem.startswith("step_")]
    chosen = [picture for picture in pictures if picture not in steps]
    chosen += [steps[i] for i in sorted({0, len(steps) // 2, len(steps) - 1})] if steps else []
    figures = (figure_of(embed(one), CAPTIONS.get(one.stem, one.stem.replace("_", " "))) for one in chosen)
    return f'<div class="row">{"".join(figures)}</div>'


def run_section(folder: Path) -> str:
    """Card, judge's figures, training curves, previews."""
    parts = []
    if (folder / "card.json").exists():
        card = read_json(folder / "card.json")
        with _of_this_version(folder / "card.json", "a card"):
            schema = card.get("schema")
            val = card.get("val") or {}
            facts = {
                "kind": card.get("kind"),
                "model": card.get("model"),
                "mark-up": schema.get("name") if isinstance(schema, Mapping) else schema,
                "crop": ", ".join(f"{k} {v}" for k, v in (card.get("crop") or {}).items()),
                "step": card.get("step"),
                "weights": str(card.get("model_hash", ""))[:12],
            }
            if "nme" in val:
                faces = f"{val.get('faces')} faces of {val.get('name')}"
                facts["validation NME"] = f"{100 * val['nme']:.2f} % ({val.get('denominator')}, {faces})"
            parts.append(facts_of(facts))
    else:
        parts.append('<p class="facts">not finished</p>')
    if (folder / "judge.json").exists():
        with _of_this_version(folder / "judge.json", "a judge's verdict"):
            parts.append(_judge(read_json(folder / "judge.json")))
    if (folder / "metrics.jsonl").exists():
        with _of_this_version(folder / "metrics.jsonl", "a run's metrics"):
            parts.append(_curves_figures(folder / "metrics.jsonl"))
    if (folder / "assessment" / "assessment.json").exists():
        parts.append(f"<h3>Translator report</h3>{assessment_section(folder / 'assessment')}")
    parts.append(_previews(folder))
    if (folder / "config.yaml").exists():
        config = escaped((folder / "config.yaml").read_text(encoding="utf-8", errors="replace"))
        parts.append(f'<details><summary>Configuration</summary><div class="wide"><pre>{config}</pre></div></details>')
    return "".join(parts)


def study_section(folder: Path) -> str:
    """The methods, and of each test set the curve over labels and the tables of every label budget."""
    found = read_json(folder / "study.json")
    with _of_this_version(folder / "study.json", "a study"):
        methods = study_tables.models_table(found)
        parts = [f"<details><summary>{escaped(methods.title)}</summary>{table_of(methods)}</details>"]
        for one in sorted(found["sets"], key=lambda one: one["role"] == "val"):
            if len(one["blocks"]) > 1:
                buffer = io.BytesIO()
                study_tables.curve_plot(one, buffer)
                caption = f"NME over labelled faces on {one['name']}; bars are a standard deviation over seeds"
                parts.append(figure_of(data_uri(buffer.getvalue(), "png"), caption))
            for block in one["blocks"]:
                parts.append(f"<h3>{escaped(study_tables.title(one, block))}</h3>")
                parts.append(f'<p class="note">{escaped(study_tables.protocol(found, one, block))}</p>')
                parts += [table_of(table, "h4") for table in study_tables.block_tables(found, one, block)]
    return "".join(parts)


def predictions_section(folder: Path) -> str:
    """What `predict` did and left out, and the first overlays."""
    found = read_json(folder / "summary.json")
    with _of_this_version(folder / "summary.json", "a summary"):
        facts = {
            "faces": found["faces"], "pictures and frames": found["pictures_and_frames"], "mark-up": found["schema"],
            "weights": str(found["model_hash"])[:12], "faces/s": found["timing"]["faces_per_s"],
        }  # fmt: skip
        left, videos = found["left_out"], found["videos"]
        header = ("video", "frames", "with faces", "tracks", "lost", "jitter, % of the face")
        rows = [
            (
                name,
                *(str(v[key]) for key in ("frames", "frames_with_faces", "tracks", "lost")),
                "–" if v["jitter"] is None else f"{100 * v['jitter']:.2f}",  # no face in two frames on end
            )
            for name, v in videos.items()
        ]  # fmt: skip
        parts = [facts_of(facts)]
        if rows:
            parts.append(table_of(Table("Videos", header, rows, "Jitter: see `stylealign predict --help`.")))
        if left:
            items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in left)
            parts.append(f"<details><summary>Left out: {len(left)}</summary><ul>{items}</ul></details>")
    drawn = sorted((folder / "drawn").rglob("*.jpg"))  # in the folders of their photos
    shown = [
        figure_of(embed(path), path.relative_to(folder / "drawn").with_suffix("").as_posix())
        for path in drawn[:_MOST_OVERLAYS]
    ]
    if len(drawn) > len(shown):
        parts.append(f'<p class="note">the first {len(shown)} of {counted(len(drawn), "overlay")}</p>')
    return "".join(parts) + (f'<div class="row">{"".join(shown)}</div>' if shown else "")


def _keep_curve(path: Path) -> str:
    """What every threshold of trust would have kept of a filtered data set, from its trust.json."""
    found = read_json(path)
    rows = found.get("curve") if isinstance(found, Mapping) else None
    if not rows:
        return ""
    buffer = io.BytesIO()
    with _of_this_version(path, "a keep-rate curve"):
        keep_curve_plot(rows, buffer)
    caption = "Keep-rate curve: faces that each threshold of disagreement keeps"
    return figure_of(data_uri(buffer.getvalue(), "png"), caption)


def dataset_section(folder: Path) -> str:
    """What dataset.yaml says; style sheets, or of data sets without any a few faces of each split."""
    meta = read_yaml(folder / "dataset.yaml")
    with _of_this_version(folder / "dataset.yaml", "a data set"):
        schema = meta.get("schema")
        facts = {
            "name": meta.get("name"),
            "mark-up": schema.get("name") if isinstance(schema, Mapping) else schema,
            "faces": meta.get("count"),
            "splits": ", ".join(f"{name} {count}" for name, count in (meta.get("splits") or {}).items()),
            "labelled": meta.get("labelled"),
            "source": meta.get("source"),
            "licence": meta.get("licence"),
            "content": str(meta.get("content_hash", ""))[:12],
        }
    caption = "Rows: structure of the first picture; columns: style of the uppermost ({})"
    shown = []
    for sheet in sorted((folder / "sheets").glob("*.png")):  # `pseudo-label` names its own by what they show
        text = caption.format(sheet.name) if sheet.name.startswith("sheet_") else sheet.stem.replace("_", " ")
        shown.append(figure_of(embed(sheet), text))
    if not shown:
        shown = [figure_of(data_uri(picture, "jpeg"), text) for text, picture in faces_by_split(folder)]
    curve = _keep_curve(folder / "trust.json") if (folder / "trust.json").exists() else ""
    return "".join(shown) + curve + facts_of(facts)


SECTIONS = {
    "evaluation.json": ("Evaluation", evaluation_section),
    "assessment.json": ("Translator report", assessment_section),
    "dataset.yaml": ("Data set", dataset_section),
    "study.json": ("Study", study_section),
    "summary.json": ("Predictions", predictions_section),
    "config.yaml": ("Run", run_section),
    "card.json": ("Model", run_section),
}
"""The file a folder is known by -> what it is, and what shows it; the first that a folder has counts."""
