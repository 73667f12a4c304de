"""Whole or not at all: what a stopped, a refused and a repeated job leave behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from stylealign.data import atomic, lock
from stylealign.data.atomic import alone, making, partial_of, whole_folder, write_whole
from stylealign.errors import UserError


def test_a_folder_appears_when_its_block_has_ended_well_and_without_what_a_stopped_run_left(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    partial_of(out).mkdir(parents=True)
    (partial_of(out) / "old").write_text("left behind")
    with whole_folder(out) as partial:
        assert not out.exists()
        (partial / "new").write_text("done")
    assert [p.name for p in out.iterdir()] == ["new"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [UserError("wrong"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_block_that_does_not_end_well(tmp_path: Path, error: BaseException) -> None:
    def half_a_job() -> None:
        with whole_folder(tmp_path / "out") as partial:
            (partial / "half").write_text("half")
            raise error

    with pytest.raises(type(error)):
        half_a_job()
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out: already there"), whole_folder(tmp_path / "out"):
        pytest.fail("the block must not be entered")


def test_a_file_keeps_its_old_content_until_the_new_one_is_complete(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "deep" / "a.json"
    write_whole(path, "old")
    monkeypatch.setattr(atomic.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


HOLD = "import sys, pathlib; from stylealign.data.atomic import alone\nwith alone(pathlib.Path(sys.argv[1])): {}"


@contextmanager
def held_by_another(target: Path, then: str = "print('held', flush=True); input()") -> Iterator[subprocess.Popen]:
    """Another process that holds `target` until the block ends, or until it is told or killed."""
    command = [sys.executable, "-c", HOLD.format(then), str(target)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_command_is_told_who_is_at_work_and_the_killed_one_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with held_by_another(out) as other:
        said = rf"out: `-c .*out` \(process {other.pid} on \S+, since 20\S+ \S+\) is at work on it; wait until that"
        with pytest.raises(UserError, match=said) as refused, alone(out):
            pytest.fail("two at once")
        assert "\n" not in str(refused.value)
        with pytest.raises(UserError, match="is at work on it"), whole_folder(out):
            pytest.fail("two at once")
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert (out.parent / "out.lock").exists()
        with alone(out):
            pass
    assert not (out.parent / "out.lock").exists()


def test_a_lock_is_gone_after_a_normal_end_and_after_a_refusal_with_the_folders_made_for_it(tmp_path: Path) -> None:
    @making("out")
    def job(config: SimpleNamespace) -> str:
        assert (config.out.parent / "out.lock").exists()
        with whole_folder(config.out) as partial:  # asks for the same lock again
            if config.wrong:
                raise UserError("wrong")
            (partial / "a").touch()
        assert (config.out.parent / "out.lock").exists(), "held to the end"
        return "done"

    with pytest.raises(UserError, match="wrong"):
        job(SimpleNamespace(out=tmp_path / "new" / "out", wrong=True))
    assert list(tmp_path.iterdir()) == []
    assert job(SimpleNamespace(out=tmp_path / "new" / "out", wrong=False)) == "done"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def test_two_threads_are_not_alone(tmp_path: Path) -> None:
    refused = []

    def second() -> None:
        try:
            with alone(tmp_path / "out"):
                pass
        except UserError as error:
            refused.append(str(error))

    with alone(tmp_path / "out"), alone(tmp_path / "sub" / ".." / "out"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_a_lock_that_its_holder_removed_between_two_looks_is_locked_anew(tmp_path: Path, monkeypatch) -> None:
    """Else the second would hold a file without a name, and a third could lock the next one of that name."""
    path, real, times = tmp_path / "out.lock", lock.fcntl.flock, []

    def flock(file: int, how: int) -> None:
        if not times:
            path.unlink()
        times.append(file)
        real(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with alone(tmp_path / "out"):
        assert len(times) == 2
        assert os.path.samestat(path.stat(), os.fstat(times[1]))


def test_a_lock_never_writes_through_a_link_of_another(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"out\.lock"), alone(tmp_path / "out"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("target", ["link", "link/deep/out"])
def test_nothing_is_made_in_the_place_of_a_link_to_nothing_or_below_it(tmp_path: Path, target: str) -> None:
    """Refused before the work, not after it; the link stays, and lies where its target is looked for."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to("big/none")
    there = tmp_path / "runs" / "big" / "none"
    said = f"^{tmp_path / 'runs' / 'link'}: a link to {there}, which is not there; name that place itself, or remove"
    with pytest.raises(UserError, match=said), alone(tmp_path / "runs" / target):
        pytest.fail("the block must not be entered")
    assert [(p.name, p.is_symlink()) for p in tmp_path.rglob("*")] == [("runs", False), ("link", True)]
    with whole_folder(there):  # which was the advice
        pass
    with alone(tmp_path / "runs" / target):  # no more a link to nothing
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"command": 1, "process": "x", "host": 3, "since": null}'])
def test_a_lock_with_anything_in_it_is_named_all_the_same(tmp_path: Path, content: str) -> None:
    with held_by_another(tmp_path / "out"):
        (tmp_path / "out.lock").write_text(content)
        with pytest.raises(UserError, match="is at work on it"), alone(tmp_path / "out"):
            pass
