"""The report's page and its pieces: text, pictures, tables and facts as HTML that needs nothing else."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from stylealign.data.image import read_image
from stylealign.evaluation.tables import Table

GENERATOR = "stylealign report"
_MAX_PNG_BYTES = 400_000
_CSS = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 72rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.2 }
h2 { font-size: 1.25rem; border-top: 1px solid #ddd; padding-top: 1.2rem; margin-top: 2.2rem }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem } p, li { overflow-wrap: anywhere }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #e4e4e4 }
th { background: #f6f6f4; font-weight: 600 } th:first-child, td:first-child { text-align: left }
.note, .facts { color: #666; font-size: .82rem } img { max-width: 100%; height: auto; display: block }
figure { margin: .8rem 0 } figcaption { color: #666; font-size: .82rem; margin-top: .2rem }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row figure { flex: 1 1 20rem; margin: 0 }
.lead { font-size: 1.15rem; max-width: 46rem }
details { margin: .6rem 0 } summary { cursor: pointer; font-weight: 600 } nav a { margin-right: 1rem }
"""


def escaped(value: object) -> str:
    """A value as text that HTML shows as it is."""
    return html.escape(str(value))


def data_uri(picture: bytes, kind: str) -> str:
    """A picture file's content, `png` or `jpeg`, as the address of a picture inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def embed(path: Path) -> str:
    """A picture file as a data URI. Large PNG sheets of photographs become JPEG: a page of 20 MB opens on no phone."""
    kind = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}[path.suffix.lower()]
    if kind == "jpeg" or path.stat().st_size <= _MAX_PNG_BYTES:
        return data_uri(path.read_bytes(), kind)
    buffer = io.BytesIO()
    Image.fromarray(read_image(path)).save(buffer, "JPEG", quality=88)
    return data_uri(buffer.getvalue(), "jpeg")


def figure_of(source: str, caption: str) -> str:
    """A picture by its address (`data_uri`), with a caption."""
    return f'<figure><img src="{source}" alt="{escaped(caption)}"><figcaption>{escaped(caption)}</figcaption></figure>'


def table_of(table: Table, level: str = "h3") -> str:
    """A table with its title as a heading of this level, and its note below."""
    head = "".join(f"<th>{escaped(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<{level}>{escaped(table.title)}</{level}><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="note">{escaped(table.note)}</p>'
    )


def facts_of(facts: Mapping[str, object]) -> str:
    """A line of those facts that are known; empty where none is."""
    known = [f"{escaped(key)}: {escaped(value)}" for key, value in facts.items() if value not in (None, "", {}, [])]
    return f'<p class="facts">{" · ".join(known)}</p>' if known else ""


def heading_of(kind: str, name: str) -> str:
    """The heading of a section: what it is and its name, where that says more.

    >>> heading_of("Evaluation", "evaluation"), heading_of("Data set", "data"), heading_of("Run", "first_run")
    ('Evaluation', 'Data set: data', 'Run: first_run')
    """
    same = name.replace("_", " ").casefold() == kind.casefold()
    return kind if same else f"{kind}: {name}"


def page(title: str, sections: Sequence[tuple[str, str]], lead: str = "", about: str = "") -> str:
    """The whole HTML page of (heading, body) sections, under a first sentence and what the page is about."""
    first = f'<p class="lead">{escaped(lead)}</p>' if lead else ""
    first += f"<p>{escaped(about)}</p>" if about else ""
    links = "".join(f'<a href="#s{i}">{escaped(heading)}</a> ' for i, (heading, _) in enumerate(sections))
    bodies = "".join(
        f'<section id="s{i}"><h2>{escaped(heading)}</h2>{body}</section>\n'
        for i, (heading, body) in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="{GENERATOR}"><title>{escaped(title)}</title><style>{_CSS}</style></head>\n'
        f"<body><h1>{escaped(title)}</h1>{first}"
        f"{f'<nav>{links}</nav>' if len(sections) > 1 else ''}\n{bodies}</body></html>\n"
    )
