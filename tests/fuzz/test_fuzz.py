"""A few hundred damaged inputs of every kind, and those that once led to a fault; `make fuzz` reads 100,000."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz import child as child_module
from fuzz.__main__ import Child, environment, plan, show, summed, write_seeds
from fuzz.child import fault_of, judged
from fuzz.kinds import KINDS
from fuzz.mutations import damage
from stylealign.data.formats import FORMATS
from stylealign.errors import UserError

FOUND = Path(__file__).parent / "found"
COUNT = 120
LIGHT = [name for name, kind in KINDS.items() if kind.weight >= 1]  # the others start processes or load torch


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("fuzz")
    write_seeds(work, KINDS)
    return work


@pytest.fixture(scope="module")
def reader(work: Path) -> Iterator[Child]:
    """One child for all that is not expected to end it."""
    reader = Child(work, 0)
    yield reader
    reader.close()


def test_every_format_is_fuzzed() -> None:
    assert set(FORMATS) <= KINDS.keys()


def test_damaged_inputs_are_read_or_refused_with_a_sentence(reader: Child, capsys: pytest.CaptureFixture[str]) -> None:
    batches = []
    for name, count in plan(COUNT, list(KINDS)).items():
        count = count if name in LIGHT else min(count, 5)
        task = {"kind": name, "start": 0, "stop": count}
        batches.append({**task, **summed(reader.run(task))})
    faults = show(batches)
    said = capsys.readouterr().out
    assert not faults, said
    assert sum(batch.get("sentence", 0) for batch in batches) > COUNT / 5, said
    assert sum(batch.get("fine", 0) for batch in batches) > COUNT / 20, said


@pytest.mark.parametrize("folder", sorted(FOUND.glob("*/*")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_what_once_led_to_a_fault_does_so_no_more(folder: Path, reader: Child) -> None:
    (answer,) = reader.run({"kind": folder.parent.name, "folder": str(folder)})
    assert answer["verdict"] != "fault", answer


def test_the_same_seed_damages_in_the_same_way() -> None:
    content = json.dumps({"a": [1, 2, {"b": "text"}]}, indent=1).encode() * 3
    one, two = ([damage(content, random.Random(f"{seed} {i}")) for i in range(50)] for seed in (0, 0))
    assert one == two
    assert len(set(one)) > 40
    assert one != [damage(content, random.Random(f"1 {i}")) for i in range(50)]


def test_what_is_a_fault_and_what_a_sentence() -> None:
    def verdict(error: BaseException | None, lines: bool = False) -> str:
        def read(folder: Path, rng: random.Random) -> None:
            if error is not None:
                raise error

        return judged(read, Path("/in"), random.Random(0), lines)[0]

    assert verdict(None) == "fine"
    assert verdict(UserError("a.json: found 3, expected a list")) == "sentence"
    assert verdict(FileNotFoundError(2, "No such file or directory", "a.json")) == "sentence"
    for fault in (
        ValueError("x"), MemoryError(), RecursionError(), SystemExit(2), OSError("cannot be opened"), UserError(""),
        UserError("two\nlines"), UserError("a.json: KeyError: 'x'"),
    ):  # fmt: skip
        assert verdict(fault) == "fault", fault
    assert verdict(UserError("two\nlines"), lines=True) == "sentence"


@pytest.mark.slow  # of the fuzzer itself
def test_a_crash_a_loop_and_greed_are_blamed_on_the_input(work: Path, tmp_path: Path) -> None:
    """The limits themselves: a reader that dies, never ends, eats memory or writes elsewhere, and one that does not."""
    plugin = tmp_path / "sitecustomize.py"
    plugin.write_text(
        "import os, sys\n"
        "def spoil():\n"
        "    import fuzz.child as child, fuzz.kinds as kinds\n"
        "    child.SECONDS = 0.3\n"
        "    def read(folder, rng):\n"
        "        text = (folder / 'b.csv').read_text() if (folder / 'b.csv').is_file() else ''\n"
        "        if text == 'crash': os.abort()\n"
        "        while text == 'loop': pass\n"
        "        if text == 'greed': return len(bytearray(3 << 30))\n"
        "        if text == 'climb': (folder / '../../escaped').write_text('x')\n"
        "    kinds.KINDS['boxes'] = kinds.KINDS['boxes']._replace(read=read)\n"
        "if 'fuzz.child' in ' '.join(sys.orig_argv): spoil()\n"
    )
    inputs = []
    for word in ("crash", "loop", "greed", "climb", "nothing"):
        (tmp_path / word).mkdir()
        (tmp_path / word / "b.csv").write_text(word)
        inputs.append({"kind": "boxes", "folder": str(tmp_path / word)})
    reader = Child(work, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        answers = [next(iter(reader.run(task))) for task in inputs]
    reader.close()
    assert [answer["verdict"] for answer in answers] == ["fault"] * 4 + ["fine"]
    for answer, said in zip(answers, ("SIGABRT", "CPU time", "MemoryError", "escaped"), strict=False):
        assert said in answer["said"], answer


def test_the_command_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fuzz", "--kinds", "boxes", "--count", "30", "--out", str(tmp_path)]
    first = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "boxes" in first.stdout
    begun = time.monotonic()
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert again.stdout == first.stdout
    assert "inputs," not in again.stderr, f"read again, {time.monotonic() - begun:.1f} s"


def test_a_fault_is_named_by_its_place_in_the_package() -> None:
    with pytest.raises(KeyError) as caught:
        KINDS["nobody"]
    assert "KeyError at" in fault_of(caught.value)
    assert child_module.MEGABYTES <= 1000
    assert child_module.SECONDS <= 5
