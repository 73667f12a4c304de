"""The documentation says what is there: names, tests, links, commands and Python blocks."""

import ast
import functools
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from builders.places import ROOT
from stylealign.cli import main, recipes
from stylealign.jobs import VERBS

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("weights/*/README.md")])
MAP = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8")
DOTTED = re.compile(r"`([a-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+)`")


def cells_of(row: str) -> list[str]:
    """The texts of a table's row."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def blocks(language: str) -> list[tuple[str, str]]:
    """(page and line, text) of every fenced block of a language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            found.append((f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", match.group(1)))
    return found


def commands() -> list[tuple[str, str]]:
    """(first place, command) of every command in the shell blocks; lines ending in a backslash are joined."""
    found: dict[str, str] = {}
    for place, text in blocks("(?:bash|sh|console)"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                found.setdefault(shlex.join(words), place)
    return [(place, command) for command, place in found.items()]


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


@functools.cache
def functions_of(module: str) -> set[str]:
    """The names of a test file's functions."""
    tree = ast.parse(next((ROOT / "tests").rglob(f"{module}.py")).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", named(tests=True))
def test_every_test_of_the_map_exists(name: str) -> None:
    module, function = name.split(".")
    assert function in functions_of(module)


def test_every_row_of_the_map_names_a_function_and_a_test() -> None:
    number = 0
    for section in MAP.split("\n## ")[1:]:
        flat = re.sub(r"\n +", " ", section)
        notes = dict(re.findall(r"^(\d+)\. (.*)$", flat, re.MULTILINE))
        for row in re.findall(r"^\|(?! what |---).*$", section, re.MULTILINE):
            number += 1
            cells = cells_of(row)
            assert len(cells) == 4, row
            assert DOTTED.search(cells[2]), row
            note = re.search(r"\[(\d+)\]$", cells[0])
            tests = DOTTED.findall(cells[3]) or re.findall(r"`(test_\w+\.\w+)`", notes[note[1]] if note else "")
            assert tests, row
            assert all(n.startswith("test_") for n in tests), row
            assert not re.match(r"note \d", cells[3]) or (note and cells[3] == f"note {note[1]}"), row
    assert number > 50


def test_every_section_the_code_quotes_is_in_the_map() -> None:
    quoted = set()
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for first, last in re.findall(r"paper_map\.md[`,]* (\d(?:\.\d)?)(?:-(\d\.\d))?(?!\\)", text):
            quoted |= {first, last} - {""}
    headings = re.findall(r"^## (\d(?:\.\d)?)(?:–(\d\.\d))?", MAP, re.MULTILINE)
    assert len(quoted) > 5
    for section in quoted:
        assert any(first <= section <= (last or first) for first, last in headings), f"docs/paper_map.md {section}"


# --------------------------------------------------------------------------------------------------------------------
# Architecture and words

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_layers_of_the_page_are_those_of_the_test() -> None:
    tree = ast.parse((ROOT / "tests" / "test_layers.py").read_text(encoding="utf-8"))
    (layers,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "LAYERS")
    section = ARCHITECTURE.split("## Layers")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\d+\. `(\w+)`:", section, re.MULTILINE)) == ast.literal_eval(layers)


def test_the_tree_of_the_page_is_that_of_the_folders() -> None:
    tree = ARCHITECTURE.split("```\nsrc/stylealign/\n")[1].split("```")[0]
    listed, above = [], ""
    for indent, name in re.findall(r"^( +)(\w+)/", tree, re.MULTILINE):
        above = name if len(indent) == 2 else above
        listed.append(name if len(indent) == 2 else f"{above}/{name}")
    source = ROOT / "src" / "stylealign"
    folders = {path.parent.relative_to(source).as_posix() for path in source.rglob("*.py")} - {"."}
    assert listed == sorted(folders | {"recipes", "weights"})


def test_tables_in_docs_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import write_tables

    expected = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert write_tables.page() == expected, "run scripts/write_tables.py"


def test_an_entry_without_a_line_in_docs_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import write_tables

    tables = (
        write_tables.DETECTORS, write_tables.TRANSLATORS, write_tables.ARMS, write_tables.AUGMENTATIONS,
        write_tables.FORMATS,
    )  # fmt: skip
    for table in tables:
        before = write_tables.page()
        first = next(iter(table))
        monkeypatch.setitem(table, "newcomer", table[first])
        assert "- `newcomer`: " in write_tables.page()
        monkeypatch.delitem(table, "newcomer")
        assert write_tables.page() == before


def test_the_readme_names_every_package() -> None:
    file_map = (ROOT / "README.md").read_text(encoding="utf-8").split("## File map")[1].split("```")[1]
    packages = {path.parent.name for path in (ROOT / "src" / "stylealign").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/", file_map, re.MULTILINE)) == packages | {"recipes"}


GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
RETIRED = {
    pattern: cells_of(row)[1]
    for row in re.findall(r"^\| `.*$", GLOSSARY.split("## Retired words")[1], re.MULTILINE)
    for pattern in re.findall(r"`([^`]+)`", cells_of(row)[0])
}
COCO = (
    "data/formats/coco_file.py",
    "data/formats/coco.py",
    "data/formats/__init__.py",
    "docs/formats.md",
    "docs/tutorial.md",
    "docs/tables.md",
)
GAN = ("san/cyclegan.py", "lab/learning.py", "spade/learning.py", "translators/patches.py", "jobs/train_styles.py")
MAY_STAY = {
    "key-?points?": (
        *COCO,
        "data/formats/label_studio.py",
        "jobs/prepare.txt",
        "jobs/export-dataset.txt",
        "docs/api.md",
        "api/augmentation.py",
        "api/predicted.py",
    ),  # they, albumentations and supervision call landmarks that
    "bbox": (*COCO, "data/formats/aflw.py"),  # the name of a field of theirs
    "fakes?": (*GAN, "jobs/train-detector.txt", "jobs/train-styles.txt"),  # the usual name in a discriminator's loss
}
PROSE = sorted(
    [
        *(path for path in PAGES if path.name not in ("glossary.md", "CHANGELOG.md")),
        *(ROOT / "docs" / "jobs").glob("*.txt"),
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "src").rglob("*.yaml"),
    ]
)


@functools.cache
def prose() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in PROSE}


@pytest.mark.parametrize("pattern", RETIRED)
def test_retired_words_are_not_used(pattern: str) -> None:
    word = re.compile(rf"(?<![\w-]){pattern}(?![\w-])", re.IGNORECASE)
    found = []
    for path, text in prose().items():
        if path.as_posix().endswith(MAY_STAY.get(pattern, ("nowhere",))) or not word.search(text):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found += [f"{path.relative_to(ROOT)}:{number}"] * bool(word.search(line))
    assert not found, f"say {RETIRED[pattern]}"


OF_THE_READER = ("gen_annotation.py", "my_det.py", "my_tr.py")


def test_files_that_are_named_are_there() -> None:
    """In comments and pages; NAME.py and others are the reader's, and docs/faults.md names files of others."""
    there = [
        path.as_posix() for folder in ("src", "tests", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*")
    ]
    missing = []
    for path in PROSE:
        if path.name != "faults.md":
            for name in re.findall(r"(?<![\w*/<.])((?:[\w-]+/)*[a-z_0-9]+\.py)\b", path.read_text(encoding="utf-8")):
                if not any(one.endswith(f"/{name}") for one in there) and name not in OF_THE_READER:
                    missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


# --------------------------------------------------------------------------------------------------------------------
# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{page.name}: {target}"


def test_pages_can_be_read_where_lines_are_not_wrapped() -> None:
    """A line has at most 120 characters, a cell of a table at most 80."""
    wrong = []
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            long = any(len(cell) > 80 for cell in cells_of(line)) if line.startswith("|") else len(line) > 120
            wrong += [f"{page.relative_to(ROOT)}:{number}"] * long
    assert not wrong


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 1000


def test_nothing_refers_to_documents_that_are_not_here() -> None:
    elsewhere = re.compile(r"\b(METHOD|DESIGN)(?: section)?s? \d|\b(FINDINGS|ANCHORS)\b")
    for path in [*PAGES, *(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.yaml")]:
        found = elsewhere.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize(("place", "command"), commands())
def test_every_command_in_the_pages_is_one(
    place: str, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.startswith("your_own_network.md"):
        pytest.skip("test_your_own_network runs that page: its networks are in no table here")
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
    if place.startswith(("tutorial.md", "api.md", "your_own_network.md")):
        pytest.skip("test_init, test_translator and test_your_own_network run these pages, in order")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (96, 96)).save("photo.jpg")
    exec(compile(text, place, "exec"), {"__name__": "__main__"})
