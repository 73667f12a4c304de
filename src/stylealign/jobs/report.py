"""The job `report`: one self-contained HTML page of evaluations, studies, runs, predictions and datasets, to look at or to send.

Every picture is inside the page and nothing is fetched from outside: it opens from disk and stays readable for good. This file
measures nothing; it shows what lies in the folders it is given.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stylealign.config import read_yaml
from stylealign.data.atomic import write_whole
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.evaluation.draw import lines_plot
from stylealign.evaluation.tables import Table, tables
from stylealign.jobs.assess import tables as assessment_tables
from stylealign.jobs.assess.plots import keep_curve_plot
from stylealign.jobs.study import tables as study_tables
from stylealign.progress import say, track

GENERATOR = "stylealign report"
_NOT_CURVES = {"step", "images_seen", "seconds", "lr", "kl_weight_per_nat"}
_MAX_PNG_BYTES = 400_000
_MOST_OVERLAYS = 24
_CSS = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 72rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.25rem; border-top: 1px solid #ddd; padding-top: 1.2rem; margin-top: 2.2rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem } p, li { overflow-wrap: anywhere }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4 }
th { background: #f6f6f4; font-weight: 600 } th:first-child, td:first-child { text-align: left }
.note, .facts { color: #666; font-size: .82rem } img { max-width: 100%; height: auto; display: block }
figure { margin: .8rem 0 } figcaption { color: #666; font-size: .82rem; margin-top: .2rem }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row figure { flex: 1 1 20rem; margin: 0 }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 } nav a { margin-right: 1rem }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Show evaluations, studies, runs, predictions and datasets on one HTML page that needs nothing else."""

    inputs: tuple[Path, ...]
    """Folders to show, in this order: of `evaluate`, `study`, `assess`, `predict`, runs of translators and detectors, datasets."""
    out: Path
    """The page to write, such as report.html. An earlier report there is replaced; any other file is not."""
    title: str = "stylealign report"
    """Heading of the page."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("inputs: nothing to report; give evaluation, run or dataset folders")


# --------------------------------------------------------------------------------------------------------------------
# Pieces of HTML


def _text(value: object) -> str:
    return html.escape(str(value))


def _data_uri(picture: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def embed(path: Path) -> str:
    """A picture file as a data URI. Large PNG sheets of photographs become JPEG: a page of 20 MB opens on no phone."""
    kind = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}[path.suffix.lower()]
    if kind == "jpeg" or path.stat().st_size <= _MAX_PNG_BYTES:
        return _data_uri(path.read_bytes(), kind)
    buffer = io.BytesIO()
    Image.fromarray(read_image(path)).save(buffer, "JPEG", quality=88)
    return _data_uri(buffer.getvalue(), "jpeg")


def _figure(source: str, caption: str) -> str:
    return f'<figure><img src="{source}" alt="{_text(caption)}"><figcaption>{_text(caption)}</figcaption></figure>'


def _table(table: Table, level: str = "h3") -> str:
    head = "".join(f"<th>{_text(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<{level}>{_text(table.title)}</{level}><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">{_text(table.note)}</p>'
    )


def _facts(facts: Mapping[str, object]) -> str:
    known = [f"{_text(key)}: {_text(value)}" for key, value in facts.items() if value not in (None, "", {}, [])]
    return f'<p class="facts">{" · ".join(known)}</p>' if known else ""


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None


# --------------------------------------------------------------------------------------------------------------------
# Sections


def evaluation_section(folder: Path) -> str:
    """Tables, error curves, errors on the mean face, best, median and worst faces."""
    evaluation = _read_json(folder / "evaluation.json")
    try:
        parts = [_table(table) for table in tables(evaluation)]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / 'evaluation.json'}: not an evaluation of this version ({error!r})") from None
    plots = {
        "ced.png": "Cumulative error: share of faces with at most a given NME",
        "per_point.png": "NME of each landmark, on the mean face",
    }
    shown = [_figure(embed(folder / name), caption) for name, caption in plots.items() if (folder / name).exists()]
    parts.insert(1, f'<div class="row">{"".join(shown)}</div>')
    drawn = "true landmarks orange, predicted ones blue and white"
    for name in ("worst", "median", "best"):
        if (folder / f"{name}.png").exists():
            figure = _figure(
                embed(folder / f"{name}.png"), f"{name.capitalize()} faces by mean NME of all arms: {drawn}"
            )
            parts.append(
                f"<details{' open' if name == 'worst' else ''}><summary>{name.capitalize()} faces</summary>{figure}</details>"
            )
    return "".join(parts)


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (steps, values) of a metrics.jsonl; a last line cut short by a kill is passed over."""
    points: dict[str, list[tuple[float, float]]] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            if number == len(lines):
                break
            raise UserError(f"{path}:{number}: not a JSON object") from None
        for name, value in record.items():
            if name not in _NOT_CURVES and isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(name, []).append((record.get("step", number), value))
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
            figures.append(_figure(_data_uri(buffer.getvalue(), "png"), caption))
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
    return (_table(table) if rows else "<h3>Judge</h3>") + _facts(rest)


def assessment_section(folder: Path) -> str:
    """The translator report: tables, the drift on the mean face, the gap of every swap, sheets."""
    found = _read_json(folder / "assessment.json")
    try:
        parts = [_table(table) for table in assessment_tables.tables(found)]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / 'assessment.json'}: not a translator report of this version ({error!r})") from None
    plots = {
        "drift.png": "Which way the judge sees each point move, and what that costs",
        "matrix.png": "Structure gap of every swap on the sheet below, faces numbered as they stand there",
    }
    shown = [_figure(embed(folder / name), caption) for name, caption in plots.items() if (folder / name).exists()]
    parts.insert(2, f'<div class="row">{"".join(shown)}</div>')
    sheets = {
        "swaps": "Rows: structure of the first picture; columns: style of the uppermost",
        "truth": "Structure, style, the translator's answer, the true answer",
        "styles": "One face in the styles of the uppermost",
        "reconstructions": "Faces, each beside itself drawn from its own two codes",
    }
    for name, caption in sheets.items():
        if (folder / "sheets" / f"{name}.png").exists():
            parts.append(_figure(embed(folder / "sheets" / f"{name}.png"), caption))
    return "".join(parts)


def _previews(folder: Path) -> str:
    """The first, the middle and the last preview."""
    pictures = sorted((folder / "previews").glob("*.png"))
    chosen = sorted({0, len(pictures) // 2, len(pictures) - 1}) if pictures else []
    return f'<div class="row">{"".join(_figure(embed(pictures[i]), pictures[i].stem.replace("_", " ")) for i in chosen)}</div>'


def run_section(folder: Path) -> str:
    """Card, judge's figures, training curves, previews."""
    parts = []
    if (folder / "card.json").exists():
        card = _read_json(folder / "card.json")
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
            facts["validation NME"] = (
                f"{100 * val['nme']:.2f} % ({val.get('denominator')}, {val.get('faces')} faces of {val.get('name')})"
            )
        parts.append(_facts(facts))
    else:
        parts.append('<p class="facts">not finished</p>')
    if (folder / "judge.json").exists():
        parts.append(_judge(_read_json(folder / "judge.json")))
    if (folder / "metrics.jsonl").exists():
        parts.append(_curves_figures(folder / "metrics.jsonl"))
    if (folder / "assessment" / "assessment.json").exists():
        parts.append(f"<h3>Translator report</h3>{assessment_section(folder / 'assessment')}")
    parts.append(_previews(folder))
    if (folder / "config.yaml").exists():
        config = _text((folder / "config.yaml").read_text(encoding="utf-8"))
        parts.append(f'<details><summary>Configuration</summary><div class="wide"><pre>{config}</pre></div></details>')
    return "".join(parts)


def study_section(folder: Path) -> str:
    """The methods, and of each test set the curve over labels and the tables of every label budget."""
    found = _read_json(folder / "study.json")
    try:
        methods = study_tables.models_table(found)
        parts = [f"<details><summary>{_text(methods.title)}</summary>{_table(methods)}</details>"]
        for one in sorted(found["sets"], key=lambda one: one["role"] == "val"):
            if len(one["blocks"]) > 1:
                buffer = io.BytesIO()
                study_tables.curve_plot(one, buffer)
                caption = f"NME over labelled faces on {one['name']}; bars are a standard deviation over seeds"
                parts.append(_figure(_data_uri(buffer.getvalue(), "png"), caption))
            for block in one["blocks"]:
                parts.append(f"<h3>{_text(study_tables.title(one, block))}</h3>")
                parts.append(f'<p class="note">{_text(study_tables.protocol(found, one, block))}</p>')
                parts += [_table(table, "h4") for table in study_tables.block_tables(found, one, block)]
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"{folder / 'study.json'}: not a study of this version ({error!r})") from None
    return "".join(parts)


def predictions_section(folder: Path) -> str:
    """What `predict` did and left out, and the first overlays."""
    found = _read_json(folder / "summary.json")
    try:
        facts = {
            "faces": found["faces"], "pictures and frames": found["pictures_and_frames"], "mark-up": found["schema"],
            "weights": str(found["model_hash"])[:12], "faces/s": found["timing"]["faces_per_s"],
        }  # fmt: skip
        left, videos = found["left_out"], found["videos"]
        header = ("video", "frames", "with faces", "tracks", "lost", "jitter, % of the face")
        rows = [
            (name, *(str(v[key]) for key in ("frames", "frames_with_faces", "tracks", "lost")), f"{100 * (v['jitter'] or 0):.2f}")
            for name, v in videos.items()
        ]  # fmt: skip
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / 'summary.json'}: not a summary of this version ({error!r})") from None
    parts = [_facts(facts)]
    if rows:
        parts.append(_table(Table("Videos", header, rows, "Jitter: see `stylealign predict --help`.")))
    if left:
        items = "".join(f"<li>{_text(sentence)}</li>" for sentence in left)
        parts.append(f"<details><summary>Left out: {len(left)}</summary><ul>{items}</ul></details>")
    drawn = sorted((folder / "drawn").glob("*.jpg"))
    shown = [_figure(embed(path), path.stem) for path in drawn[:_MOST_OVERLAYS]]
    if len(drawn) > len(shown):
        parts.append(f'<p class="note">the first {len(shown)} of {len(drawn)} overlays</p>')
    return "".join(parts) + (f'<div class="row">{"".join(shown)}</div>' if shown else "")


def _keep_curve(path: Path) -> str:
    """What every threshold of trust would have kept of a filtered data set, from its trust.json."""
    found = _read_json(path)
    rows = found.get("curve") if isinstance(found, Mapping) else None
    if not rows:
        return ""
    buffer = io.BytesIO()
    try:
        keep_curve_plot(rows, buffer)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a keep-rate curve of this version ({error!r})") from None
    caption = "Keep-rate curve: faces that each threshold of disagreement keeps"
    return _figure(_data_uri(buffer.getvalue(), "png"), caption)


def dataset_section(folder: Path) -> str:
    """What dataset.yaml says, and style sheets."""
    meta = read_yaml(folder / "dataset.yaml")
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
    sheets = sorted((folder / "sheets").glob("*.png"))
    curve = _keep_curve(folder / "trust.json") if (folder / "trust.json").exists() else ""
    return _facts(facts) + curve + "".join(_figure(embed(sheet), caption.format(sheet.name)) for sheet in sheets)


_KINDS = {
    "evaluation.json": ("Evaluation", evaluation_section),
    "assessment.json": ("Translator report", assessment_section),
    "dataset.yaml": ("Dataset", dataset_section),
    "study.json": ("Study", study_section),
    "summary.json": ("Predictions", predictions_section),
    "config.yaml": ("Run", run_section),
    "card.json": ("Model", run_section),
}


def page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole HTML page of (heading, body) sections."""
    links = "".join(f'<a href="#s{i}">{_text(heading)}</a> ' for i, (heading, _) in enumerate(sections))
    bodies = "".join(
        f'<section id="s{i}"><h2>{_text(heading)}</h2>{body}</section>\n' for i, (heading, body) in enumerate(sections)
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="{GENERATOR}"><title>{_text(title)}</title><style>{_CSS}</style></head>\n'
        f"<body><h1>{_text(title)}</h1>{f'<nav>{links}</nav>' if len(sections) > 1 else ''}\n{bodies}</body></html>\n"
    )


def report(config: Report) -> Path:
    """Write the page; returns its path.

    Raises:
        UserError: an input that is no evaluation, run or dataset folder; `out` is a folder, or a file that is no report.
    """
    out = config.out
    if out.is_dir():
        raise UserError(f"{out}: a folder; expected the name of the page to write, such as {out / 'report.html'}")
    if out.exists():
        with out.open("rb") as file:
            if f'content="{GENERATOR}"'.encode() not in file.read(2000):
                raise UserError(f"{out}: exists and is not a report of ours; choose another --out or remove it")
    sections = []
    for folder in track(config.inputs, "writing the report"):
        kind = next((kind for kind in _KINDS if (folder / kind).is_file()), None)
        if kind is None:
            found = f"holds none of {', '.join(_KINDS)}" if folder.exists() else "does not exist"
            raise UserError(f"{folder}: {found}; expected a folder that a verb of stylealign made")
        what, section = _KINDS[kind]
        sections.append((f"{what} {folder.absolute().name}", section(folder)))
    write_whole(out, page(config.title, sections))
    return out


def main(config: Report) -> None:
    """Write the page and say where it is."""
    out = report(config)
    say(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
