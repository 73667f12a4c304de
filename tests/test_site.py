"""The documentation as a site: pages of what lies outside of docs/, links that hold there."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from builders.places import ROOT


@pytest.fixture
def site() -> object:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "scripts" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_become_links_of_the_site_and_code_stays(site: object) -> None:
    text = (
        "[a](docs/formats.md#boxes) [b](docs/jobs) ![c](docs/images/models.png) [its card](src/stylealign/weights/"
        "compact/README.md) [recipes](src/stylealign/recipes) [d](https://x.y/z)\n```\n[a](docs/formats.md)\n```\n"
    )
    assert site.relinked(text, "README.md", "index.md") == (  # type: ignore[attr-defined]
        "[a](formats.md#boxes) [b](verbs.md) ![c](images/models.png) [its card](detector_card.md) "
        "`src/stylealign/recipes` [d](https://x.y/z)\n```\n[a](docs/formats.md)\n```\n"
    )
    notebook = site.notebook(ROOT / "docs/notebooks/styles.ipynb")  # type: ignore[attr-defined]
    assert "](../when-style-pays.md)" in notebook
    assert "```python\n" in notebook


def test_every_page_is_in_the_navigation_once(site: object) -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r": (\S+\.md)$", text, flags=re.M)
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")}
    made = {*site.PAGES.values(), "names.md"}  # type: ignore[attr-defined]
    assert sorted(named) == sorted(written | made)
    assert yaml.safe_load(text)["strict"] is True


@pytest.mark.slow
def test_the_site_is_built_without_a_broken_link(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "verbs.html").exists()
