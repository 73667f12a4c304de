"""Whole or not at all: what a stopped, a refused and a repeated job leave behind."""

from pathlib import Path

import pytest

from stylealign.data import atomic
from stylealign.data.atomic import partial_of, whole_folder, write_whole
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
