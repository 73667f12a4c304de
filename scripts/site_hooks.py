"""Hooks of MkDocs (mkdocs.yml): pages of what lies outside of docs/, and links that fit the site.

The README becomes the first page, each verb's help text a section of the page of verbs, cards and notebooks pages of
their own. A link to a page of the repository becomes one of the site; a link to a file that is no page (code, recipes,
tests) becomes its path.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

PAGES = {  # file of the repository -> page of the site
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "src/stylealign/weights/compact/README.md": "detector_card.md",
    "src/stylealign/weights/accurate/README.md": "accurate_card.md",
    "src/stylealign/weights/translator/README.md": "translator_card.md",
    "docs/jobs": "verbs.md",
    "docs/notebooks": "notebooks/own_faces.md",
    "docs/notebooks/own_faces.ipynb": "notebooks/own_faces.md",
    "docs/notebooks/styles.ipynb": "notebooks/styles.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def page_of(file: str) -> str | None:
    """The site's page of a file, both relative to the root (docs/x.md is x.md); None where it has none."""
    if file in PAGES:
        return PAGES[file]
    return file.removeprefix("docs/") if file.startswith("docs/") and (ROOT / file).is_file() else None


def relinked(text: str, file: str, page: str) -> str:
    """The Markdown of `file` with links that hold on `page`; a link to what is no page becomes its path as code."""

    def link(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, _, anchor = target.partition("#")
        source = os.path.normpath(Path(file).parent / path)
        if page_of(source) is None:
            return f"{words} (`{source}`)" if words.strip("`") not in source else f"`{source}`"
        relative = os.path.relpath(str(page_of(source)), Path(page).parent)
        return f"{mark}[{words}]({relative}{'#' + anchor if anchor else ''})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.S | re.M)  # code stays as it is
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def verbs() -> str:
    """A section for each verb: its --help."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/jobs").glob("*.txt"))}
    first = {"stylealign": texts.pop("stylealign"), **texts}
    sections = [f"## {name}\n\n```text\n{text.rstrip()}\n```\n" for name, text in first.items()]
    return "# Verbs\n\nWhat `--help` prints, verb by verb.\n\n" + "\n".join(sections)


def names() -> str:
    """The public names, from their docstrings."""
    import sys

    sys.path.insert(0, str(ROOT / "src"))
    import stylealign

    where = stylealign._PUBLIC
    sections = [f"::: {where[name]}.{name}\n" for name in where]
    return "# Public names\n\nAll are imported from `stylealign`.\n\n" + "\n".join(sections)


def notebook(path: Path) -> str:
    """A notebook's cells as Markdown."""
    said = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).rstrip()
        said.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    where = path.relative_to(ROOT).as_posix()
    return "\n\n".join(said) + f"\n\n*This page is the notebook `{where}`; a test runs its cells.*\n"


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    made = {"verbs.md": verbs(), "names.md": names()}
    for file, page in PAGES.items():
        if file.endswith(".ipynb"):
            made[page] = relinked(notebook(ROOT / file), file, page)
        elif file.endswith(".md"):
            made[page] = relinked((ROOT / file).read_text(encoding="utf-8"), file, page)
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    for file in list(files):
        if file.src_uri.endswith((".ipynb", ".txt")):
            files.remove(file)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn the links of docs/."""
    if page.file.generated_by is not None:
        return markdown
    return relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)
