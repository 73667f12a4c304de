"""A lock between machines that share a disk: no lock of the system's reaches across; the file and its beat do."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from stylealign.data import lock
from stylealign.data.atomic import alone, lock_of
from stylealign.errors import UserError


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SECONDS_A_BEAT", 0.05), ("SECONDS_STALE", 0.6), ("SECONDS_TO_SETTLE", 0.1)):
        monkeypatch.setattr(lock, name, seconds)


def _no_flock(file: int, how: int) -> None:
    raise OSError(95, "Operation not supported")


@pytest.fixture(params=["a disk whose locks stay on one machine", "a disk without locks", "a system without locks"])
def disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "a disk without locks":
        monkeypatch.setattr(lock, "fcntl", SimpleNamespace(flock=_no_flock, LOCK_EX=2, LOCK_NB=4))
    if request.param == "a system without locks":
        monkeypatch.setattr(lock, "fcntl", None)


def left_by_another_machine(target: Path) -> Path:
    about = {"command": "stylealign study a.yaml", "process": 7, "host": "node7", "boot": "other", "job": "12_3"}
    path = lock_of(target)
    path.write_text(json.dumps({**about, "since": "2026-11-28 10:00:00", "token": "theirs"}))
    return path


@pytest.fixture
def another_machine(tmp_path: Path) -> Iterator[Path]:
    """A folder that a process on another machine is at work on: it touches its file."""
    path, ended = left_by_another_machine(tmp_path / "out"), threading.Event()

    def beat() -> None:
        while not ended.wait(0.03):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    yield tmp_path / "out"
    ended.set()
    thread.join()


@pytest.mark.usefixtures("disk")
def test_who_works_on_another_machine_is_named_and_kept_off(another_machine: Path) -> None:
    said = r"out: `stylealign study a.yaml` \(process 7 of SLURM job 12_3 on node7, since 2026\S+ 10:00:00\) is at work"
    with pytest.raises(UserError, match=said), alone(another_machine):
        pytest.fail("two at once")
    assert lock.host_of(lock_of(another_machine)) == "node7", "its file is untouched"


@pytest.mark.usefixtures("disk")
def test_who_died_on_another_machine_is_followed_after_the_time_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, began = left_by_another_machine(tmp_path / "out"), time.monotonic()
    with alone(tmp_path / "out"):
        assert time.monotonic() - began >= 0.6
        assert json.loads(path.read_text())["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    assert "gave no sign of life for 1 s; taking over" in capsys.readouterr().err


@pytest.mark.usefixtures("disk")
def test_while_one_works_its_file_is_touched_so_that_others_see_it(tmp_path: Path) -> None:
    with alone(tmp_path / "out"):
        first, until = lock_of(tmp_path / "out").stat().st_mtime_ns, time.monotonic() + 10
        while lock_of(tmp_path / "out").stat().st_mtime_ns == first:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("disk")
def test_who_waits_for_a_sign_of_life_begins_when_the_other_ends_in_order(tmp_path: Path) -> None:
    path = left_by_another_machine(tmp_path / "out")
    thread = threading.Timer(0.2, path.unlink)
    thread.start()
    with alone(tmp_path / "out"):
        assert json.loads(path.read_text())["process"] == os.getpid()
    thread.join()


def test_who_was_taken_for_dead_and_wakes_up_ends_and_leaves_the_others_lock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep() -> None:
        left_by_another_machine(tmp_path / "out")
        time.sleep(10)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started pytest deaf to it
    try:
        with pytest.raises(KeyboardInterrupt), alone(tmp_path / "out"):
            sleep()
    finally:
        signal.signal(signal.SIGINT, before)
    assert json.loads(lock_of(tmp_path / "out").read_text())["token"] == "theirs"
    assert "node7, since 2026-11-28 10:00:00) has taken it over" in capsys.readouterr().err
    told: list[int] = []
    monkeypatch.setattr(lock.signal, "getsignal", lambda number: signal.SIG_IGN)
    monkeypatch.setattr(lock.os, "kill", lambda process, number: told.append(number))
    lock._end()
    assert told == [signal.SIGTERM], "who ignores Ctrl-C is ended too"


def test_a_file_that_says_nothing_holds_nobody_up(tmp_path: Path) -> None:
    lock_of(tmp_path / "out").touch()  # killed on a full disk
    with alone(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []
