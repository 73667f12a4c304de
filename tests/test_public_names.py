"""What `stylealign` exports: to Python, to editors and type checkers, and into an installed package."""

import ast
import importlib

import stylealign
from builders.places import ROOT, SRC

PACKAGE = SRC / "stylealign"


def test_the_public_names_are_listed_and_are_there() -> None:
    assert dir(stylealign) == sorted(stylealign.__all__)
    for name, module in stylealign._PUBLIC.items():
        assert getattr(stylealign, name) is getattr(importlib.import_module(module), name)


def test_type_checkers_see_the_same_names_from_the_same_files() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    assert {alias.name: node.module for node in imports for alias in node.names} == stylealign._PUBLIC
    assert all(
        alias.asname == alias.name for node in imports for alias in node.names
    )  # `as` makes a name public in a stub
    assert (PACKAGE / "py.typed").exists()


def test_the_version_is_the_same_everywhere() -> None:
    for page, line in (
        ("CITATION.cff", f"version: {stylealign.__version__}"),
        ("CHANGELOG.md", f"## [{stylealign.__version__}] - "),
    ):
        assert f"\n{line}" in (ROOT / page).read_text(encoding="utf-8"), page
