"""Tables on a terminal of any width: nothing of them is lost, and each part says whose row it is."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from stylealign.progress import draw_table

CELLS = st.text("abc [b]:é人-1.5", max_size=30)
LINES = "┏┓┡┩┳╇├┤┼└┘┴━─"


def drawn(width: int, header: list[str], rows: list[list[str]]) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False)
    draw_table(console, "", header, rows)
    return [line for line in out.getvalue().splitlines() if line.strip()]


def words_of(lines: list[str]) -> list[str]:
    """What stands in each column, a column after the other, without blanks; parts end at a ┏."""
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("┏"):
            first = len(found)
            found += [[] for _ in line.split("┳")]
        elif line[0] not in LINES:
            for i, cell in enumerate(line.strip("┃│").replace("┃", "│").split("│"), first):
                found[i].append(cell.replace(" ", ""))
    return ["".join(column) for column in found]


@settings(max_examples=60)
@given(st.data(), st.integers(1, 6), st.integers(0, 3), st.integers(20, 100))
def test_every_word_of_a_table_is_shown_at_any_width(data: st.DataObject, columns: int, rows: int, width: int) -> None:
    header = [data.draw(CELLS) for _ in range(columns)]
    body = [[data.draw(CELLS) for _ in range(columns)] for _ in range(rows)]
    lines = drawn(width, header, body)
    told = [column.replace(" ", "") for column in map("".join, zip(header, *body, strict=True))]
    parts = sum(line.startswith("┏") for line in lines)
    assert parts <= max(columns - 1, 1)
    assert sorted(words_of(lines)) == sorted([*told[1:], *[told[0]] * parts])
    assert max(map(cell_len, lines)) <= width


def test_a_wide_table_comes_in_parts_that_each_name_their_rows() -> None:
    header = ["subset", *(f"blur_{i}" for i in range(12))]
    lines = drawn(60, header, [["faces", *map(str, range(12))], ["labelled", *map(str, range(12))]])
    assert sum(line.startswith("┏") for line in lines) == 3
    assert sum("labelled" in line for line in lines) == 3
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("name", ["net[bold]", "a:smile:b", "[/red]"])
def test_names_are_shown_as_they_are(name: str) -> None:
    assert any(name in line for line in drawn(80, ["arm", "NME %"], [[name, "4.0"]]))
