"""Sentences for people: a number and its noun agree, everywhere."""

import ast
import re
from itertools import pairwise

from builders.places import SRC
from stylealign.errors import counted

PACKAGE = SRC / "stylealign"
# fmt: off
NOUNS = (
    "answer", "arm", "batch", "bin", "block", "box", "byte", "cause", "cell", "character", "channel", "column",
    "component", "coordinate", "crop", "device", "digit", "donor", "entry", "face", "field", "file", "format", "frame",
    "group", "image", "label", "landmark", "layer", "level", "line", "mosaic", "name", "number", "overlay", "pair",
    "photo", "picture", "place", "point", "prediction", "process", "resample", "row", "run", "seed", "set", "sheet",
    "split", "step", "stack", "strength", "style", "swap", "temperature", "term", "thread", "time", "triple", "unit",
    "update", "value", "video", "weight",
)
# fmt: on
PLURALS = "|".join(counted(2, noun).removeprefix("2 ") for noun in NOUNS)
# Of a number only this may stand between it and its noun: `3 more labelled faces`, not `a.jpg holds two faces`.
FOLLOWED = re.compile(rf" (?:(?:more|other|labelled|training|different|bad|such|key|real) ){{0,2}}({PLURALS})\b")
# What is no count, or never one: names, sides of pictures, limits, powers of two, rates, what a file of another
# version may say in words.
NO_COUNT = re.compile(
    r"_?[A-Z_]+$|what$|name$|.*[._](name|suffix|preset|per_s'\])$|name\.capitalize|path$|height$|max_pixels$|most$"
    r"|world$|config\.(grid|size)$|self\.bottleneck$|len\(text\) - longest$|val\.get|labels$|_same\(|', '\.join|kind$"
)


def out_of_number(source: str) -> list[str]:
    """`{n} faces` in the f-strings of a source text, where n is a count that `counted` did not write."""
    found = []
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, text in pairwise(parts):
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant) and FOLLOWED.match(text.value):
                expression = ast.unparse(value.value)
                whole = value.format_spec is None or ast.unparse(value.format_spec) == "f','"
                if whole and not NO_COUNT.match(expression) and not expression.startswith("counted("):
                    found.append(f"{node.lineno}: {{{expression}}}{text.value[:40]}")
    return found


def test_a_number_and_its_noun_agree() -> None:
    assert (counted(1, "face"), counted(0, "face"), counted(2400, "face")) == ("1 face", "0 faces", "2,400 faces")
    assert (counted(2, "box"), counted(2, "bad entry"), counted(2, "key")) == ("2 boxes", "2 bad entries", "2 keys")
    assert [counted(n, "face has", "faces have") for n in (1, 2)] == ["1 face has", "2 faces have"]


def test_no_sentence_of_the_package_leaves_the_number_open() -> None:
    assert out_of_number('f"{len(a)} more faces"')
    assert out_of_number('f"{n:,} boxes, {counted(n, 1)} faces"')
    assert not out_of_number('f"{counted(len(a), 1)} faces" f"{self.name} faces" f"{x:.1f} points"')
    open_ones = {
        path.relative_to(PACKAGE).as_posix(): found
        for path in sorted(PACKAGE.rglob("*.py"))
        if (found := out_of_number(path.read_text(encoding="utf-8")))
    }
    assert not open_ones, "write them by stylealign.errors.counted"


def test_no_sentence_writes_both_numbers_at_once() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"[a-z]{2}\((s|es|ies)\)(?!\w)", node.value), f"{path.name}:{node.lineno}"
