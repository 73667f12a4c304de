"""`generate` goes on where it was stopped only with what it was begun with: the configuration, and the pictures."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.painted import PaintedTranslator, job, make_faces
from builders.tiny import drawn, tree
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, write_image
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.jobs.generate import rendering
from stylealign.jobs.generate.job import Generate, generate, make_dataset, open_maker
from stylealign.styling.chain import ChainConfig
from stylealign.translators.warp.fit import WarpConfig

# --------------------------------------------------------------------------------------------------------------------
# Its configuration


def left_between_its_last_two_steps(out: Path) -> None:
    """Make of a finished data set what a kill leaves between the removal of generate.yaml and the renaming."""
    os.rename(out, out.with_name(f"{out.name}.partial"))


@pytest.mark.parametrize("shards", [0, 5])
def test_whole_work_that_was_not_renamed_is_taken_by_its_own_configuration_alone(tmp_path: Path, shards: int) -> None:
    if shards:
        pytest.importorskip("webdataset")
    first = job(make_faces(tmp_path / "data", 6), tmp_path / "made", shards=shards)
    generate(first, PaintedTranslator())
    before = tree(first.out)
    left_between_its_last_two_steps(first.out)
    refused = r"made\.partial: holds the work of another configuration \(config\.seed: 0 there, 5 now\); choose another"
    with pytest.raises(UserError, match=refused):
        generate(dataclasses.replace(first, seed=5), PaintedTranslator())
    generate(first, PaintedTranslator(stop_after=0))
    assert tree(first.out) == before


def test_whole_work_of_another_command_that_was_not_renamed_is_not_taken(tmp_path: Path) -> None:
    faces = make_faces(tmp_path / "data", 6)
    drawn(tmp_path / "made", 24)
    left_between_its_last_two_steps(tmp_path / "made")
    before = tree(tmp_path / "made.partial")
    with pytest.raises(UserError, match=r"made\.partial: exists and was not made by generate; choose"):
        generate(job(faces, tmp_path / "made"), PaintedTranslator())
    assert tree(tmp_path / "made.partial") == before


# --------------------------------------------------------------------------------------------------------------------
# Its pictures

CPU = torch.device("cpu")
LOOSE = WarpConfig(stretch=10.0, stretched=0.1, apart=0.1)  # drawn faces are few, and differ more than people do


def by_translator(config: Generate) -> None:
    generate(config, PaintedTranslator())


def by_others(config: Generate) -> None:
    make_dataset(config, open_maker(config, CPU))


Begun = tuple[Generate, Callable[[Generate], None]]


@pytest.fixture(params=["translator", "arms", "warp"])
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> Begun:
    """A job, its donors of another data set than its faces, and what does it."""
    drawn(tmp_path / "data", 24)
    drawn(tmp_path / "others", 24)
    arms = {"translator": None, "style": ChainConfig(preset="adain")}
    if request.param == "translator":
        faces, donors = make_faces(tmp_path / "five", 6), make_faces(tmp_path / "wild", 6, seed=5, prefix="wild")
        return job(faces, tmp_path / "made", donors=donors.folder), by_translator
    values = {
        "data": tmp_path / "data", "donors": tmp_path / "others", "out": tmp_path / "made", "styles_per_face": 1,
        "faces_per_unit": 2, "crop": CropConfig(size=48, scale=1.6), "translator": Path("warp"), "skip_unfit": True,
        "warp": LOOSE, "sheets": 1, "sheet_size": 2,
    }  # fmt: skip
    return Generate(**{**values, **(arms if request.param == "arms" else {})}), by_others


@contextmanager
def replaced(path: Path) -> Iterator[None]:
    """Another picture of the same name, size and time, until the block ends."""
    before, times = path.read_bytes(), path.stat()
    write_image(path, np.ascontiguousarray(255 - read_image(path)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    yield
    path.write_bytes(before)


def picture_of(folder: Path, face: str | None) -> Path:
    return next(sample.image for sample in FaceDataset.open(folder) if sample.id == face)


@pytest.mark.parametrize("whose", ["face", "donor"])
def test_a_picture_that_was_replaced_since_its_index_was_made_is_refused(begun: Begun, whose: str) -> None:
    config, do = begun
    do(dataclasses.replace(config, out=config.out.with_name("whole"), sheets=0))
    last = FaceDataset.open(config.out.with_name("whole"))[-1].provenance
    assert last is not None
    assert config.donors is not None
    picture = picture_of(config.data, last.content_id) if whose == "face" else picture_of(config.donors, last.style_id)
    with replaced(picture), pytest.raises(UserError, match=rf"^{picture}: image of face .* has changed since .* was"):
        do(dataclasses.replace(config, sheets=0))


def test_pictures_replaced_between_a_stop_and_the_next_go_are_not_mixed_with_those_before(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, do = begun
    whole = dataclasses.replace(config, out=config.out.with_name("whole"))
    do(whole)
    last = FaceDataset.open(whole.out)[-1].provenance
    assert last is not None
    render, done = rendering.Work.render, []

    def stops(self: rendering.Work, unit: int) -> None:
        if done:
            raise KeyboardInterrupt
        render(self, unit)
        done.append(unit)

    with monkeypatch.context() as patch:
        patch.setattr(rendering.Work, "render", stops)
        with pytest.raises(KeyboardInterrupt):
            do(config)
    assert len(list(config.out.with_name("made.partial").glob("units/*.jsonl"))) == 1
    with replaced(picture_of(config.data, last.content_id)), pytest.raises(UserError, match="has changed since"):
        do(config)
    assert not config.out.exists()
    do(config)  # given back, it goes on
    names = ({name: held for name, held in tree(c.out).items() if name != "dataset.yaml"} for c in (config, whole))
    assert next(names) == next(names)
