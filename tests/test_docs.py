"""The documentation says what is there: names, tests, links, commands and Python blocks."""

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from builders.places import ROOT
from stylealign.cli import main, recipes
from stylealign.jobs import VERBS

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MAP = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8")
DOTTED = re.compile(r"`([a-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+)`")


def blocks(language: str) -> list[tuple[str, str]]:
    """(page and line, text) of every fenced block of a language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            found.append((f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", match.group(1)))
    return found


def commands() -> list[tuple[str, str]]:
    """(place, command) of every command in the shell blocks; lines ending in a backslash are joined."""
    found = []
    for place, text in blocks("(?:bash|sh|console)"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                found.append((place, shlex.join(words)))
    return found


# --------------------------------------------------------------------------------------------------------------------
# The map of the paper


def named(tests: bool) -> list[str]:
    names = {n for n in DOTTED.findall(MAP) if not n.endswith((".py", ".yaml", ".md"))}
    found = sorted(n for n in names if n.startswith("test_") == tests)
    return [n for n in found if n not in ("structure.integer_centres", "vunet.posterior")]  # keys of recipes


def resolve(name: str) -> Any:
    """stylealign's object of a dotted name; raises AttributeError or ModuleNotFoundError."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(["stylealign", *parts[:length]])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", named(tests=False))
def test_every_function_of_the_map_exists(name: str) -> None:
    assert resolve(name) is not None


def test_a_function_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(AttributeError):
        resolve("evaluation.metrics.nme_of_nobody")
    with pytest.raises(ModuleNotFoundError):
        resolve("nowhere.nothing")


@pytest.mark.parametrize("name", named(tests=True))
def test_every_test_of_the_map_exists(name: str) -> None:
    module, function = name.split(".")
    tree = ast.parse(next((ROOT / "tests").rglob(f"{module}.py")).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_map_names_a_function_and_a_test() -> None:
    rows = [line for line in MAP.splitlines() if line.startswith("|") and not line.startswith(("|---", "| what |"))]
    assert len(rows) > 50
    for row in rows:
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", row)[1:-1]]
        assert len(cells) == 4, row
        assert DOTTED.search(cells[2]), row
        assert DOTTED.search(cells[3]), row
        assert all(n.startswith("test_") for n in DOTTED.findall(cells[3])), row


def test_every_section_the_code_quotes_is_in_the_map() -> None:
    quoted = set()
    for path in (ROOT / "src").rglob("*.py"):
        for first, last in re.findall(r"METHOD (\d(?:\.\d)?)(?:-(\d\.\d))?", path.read_text(encoding="utf-8")):
            quoted |= {first, last} - {""}
    headings = re.findall(r"^## (\d(?:\.\d)?)(?:–(\d\.\d))?", MAP, re.MULTILINE)
    assert len(quoted) > 5
    for section in quoted:
        assert any(first <= section <= (last or first) for first, last in headings), f"METHOD {section}"


# --------------------------------------------------------------------------------------------------------------------
# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(("place", "command"), commands())
def test_every_command_in_the_pages_is_one(
    place: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert words[1] in targets
    elif words[0].startswith("scripts/"):
        assert (ROOT / words[0]).exists()
    elif words[0] == "stylealign":
        if words[1].startswith("-"):
            return
        assert words[1] in VERBS
        if "..." in words:  # the reader's part
            words.remove("...")
        recipe = words[2] if len(words) > 2 and words[2].endswith((".yaml", ".yml")) else None
        if recipe and words[1] != "check" and not (ROOT / recipe).exists() and Path(recipe).stem not in recipes():
            return  # a recipe of the reader's
        assert main([*words[1:], "--dry-run"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("place", "text"), blocks("python"))
def test_every_python_block_runs(place: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.startswith(("tutorial.md", "api.md")):
        pytest.skip("test_init runs the tutorial, test_translating the API's page, in order")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, place, "exec"), {"__name__": "__main__"})
