"""Shards: the same faces as a folder's, in an order that can be resumed and shared, and what is refused."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from builders.tiny import detector_job, drawn, metrics_of
from stylealign.batches.crops import CropCache, mean_shape
from stylealign.batches.shards import WINDOW, ShardCache, pack
from stylealign.batches.source import BatchSource
from stylealign.cli import main as cli
from stylealign.data.dataset import FaceDataset
from stylealign.data.shards import INDEX, ShardConfig, ShardedFaces
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.training.faces import resolve_data

CROP = CropConfig(size=32)
EXACT = ShardConfig(crop=CROP, image_format="png")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn(tmp_path_factory.mktemp("shards") / "faces", 48)


@pytest.fixture(scope="module")
def folder(faces: FaceDataset) -> Path:
    """The same faces in shards of two: more of them than a window holds."""
    made = faces.folder.with_name("shards")
    made.mkdir()
    pack(faces, made, 2, EXACT)
    return made


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "shards"))


def test_a_batch_is_that_of_the_folder_it_was_made_from(faces: FaceDataset, folder: Path) -> None:
    train = faces.select("train")
    loose, cached = CropCache(train, CROP, 1.25), ShardCache(ShardedFaces.open(folder).select("train"), CROP, 1.25)
    assert len(cached) == len(loose) > 2 * WINDOW
    for rows in np.array_split(np.random.default_rng(0).permutation(len(loose)), 3):
        for name, mine, theirs in zip(loose.batch(rows)._fields, cached.batch(rows), loose.batch(rows), strict=True):
            assert torch.equal(mine, theirs), name
    np.testing.assert_allclose(mean_shape([cached], [1.0]), mean_shape([loose], [1.0]), rtol=1e-5)
    assert len(cached._held) <= 2 * WINDOW


@pytest.mark.parametrize(("wide", "margin"), [(1.5, 1.25), (1.28, 1.25), (1.25, 1.0)])  # 8, 1 and 8 px wider
def test_shards_of_a_wider_margin_mix_with_a_folder(
    faces: FaceDataset, tmp_path: Path, wide: float, margin: float
) -> None:
    pack(faces, tmp_path, 20, dataclasses.replace(EXACT, margin=wide))
    shards = ShardCache(ShardedFaces.open(tmp_path).select("train"), CROP, margin)
    loose = CropCache(faces.select("train"), CROP, margin)
    mixed = BatchSource([shards, loose], [0.5, 0.5], 16, 0).batch(3)
    assert mixed.image.shape == (16, 3, loose.size, loose.size)
    for i in range(8):  # the shards' faces: each is what the folder gives
        expected = loose.batch(mixed.index[i : i + 1].numpy())
        torch.testing.assert_close(mixed.landmarks[i], expected.landmarks[0], atol=1e-3, rtol=0)
        torch.testing.assert_close(mixed.crop_from_source[i], expected.crop_from_source[0], atol=1e-6, rtol=0)
        away = (mixed.image[i] - expected.image[0]).abs()
        assert float(away.mean()) < (0.05 if (shards.size - loose.size) % 2 else 0.01)  # half a pixel, or rounding
    alone = BatchSource([shards], [1.0], 4, 0).batch(0)
    assert alone.image.shape[-1] == shards.size  # all the room there is


def test_every_epoch_shows_every_face_once_in_another_order_that_can_be_cut_anywhere(folder: Path) -> None:
    cached = ShardCache(ShardedFaces.open(folder).select("train"), CROP)
    num = len(cached)
    order = cached.walk(3, 0, 0, 2 * num + 5)
    assert sorted(order[:num]) == sorted(order[num : 2 * num]) == list(range(num))
    assert not np.array_equal(order[:num], order[num : 2 * num])
    assert not np.array_equal(order[:num], cached.walk(4, 0, 0, num))
    again = ShardCache(cached.dataset, CROP)  # as a process that goes on later
    assert np.array_equal(again.walk(3, 0, num - 3, 7), order[num - 3 : num + 4])
    source = BatchSource([cached], [1.0], 6, 0)
    parts = [BatchSource([cached], [1.0], 6, 0, rank, 3).batch(4).index for rank in range(3)]
    assert torch.equal(torch.stack(parts, dim=1).flatten(), source.batch(4).index)
    assert source.epochs(2) == 12 / num


def test_an_address_of_fsspec_is_read_like_a_folder(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/faces", recursive=True)
    try:
        found = ShardedFaces.open(Path("memory://bucket/faces"))  # a path, as the command line makes it
        assert [face.id for face in found] == [face.id for face in ShardedFaces.open(folder)]
        memory.rm(f"/bucket/faces/{found.shards[3].name}")
        with pytest.raises(UserError, match=rf"memory://bucket/faces/{found.shards[3].name}: shard missing"):
            ShardedFaces.open("memory://bucket/faces")
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_training_on_shards_learns_what_one_on_the_folder_does_and_goes_on_where_it_stopped(
    faces: FaceDataset, folder: Path, tmp_path: Path
) -> None:
    def job(name: str, real: Path, **changes: Any) -> Any:
        return detector_job(tmp_path / name, real, {"preview_every": 0, "checkpoint_every": 2}, **changes)

    with_loose = dataclasses.replace(job("mixed", folder, val=faces.folder), synthetic=folder, real_split="train")
    assert [part.share for part in resolve_data(with_loose)] == [0.5, 0.5]
    train_detector(job("whole", folder, val=faces.folder))
    assert "evaluate/nme" in metrics_of(tmp_path / "whole")[-1]
    stopped = job("stopped", folder, val=faces.folder)
    read, calls = ShardCache.batch, []

    def failing(self: ShardCache, *arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return read(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardCache, "batch", failing)
        with pytest.raises(KeyboardInterrupt):
            train_detector(stopped)
    train_detector(stopped)
    assert metrics_of(tmp_path / "stopped") == metrics_of(tmp_path / "whole")


def test_a_finished_training_on_shards_that_hold_other_faces_now_is_refused(own: Path, tmp_path: Path) -> None:
    job = detector_job(tmp_path / "run", own, {"steps": 1, "preview_every": 0})
    train_detector(job)
    train_detector(job)  # nothing to do
    shutil.rmtree(own)
    own.mkdir()
    pack(drawn(tmp_path / "others", 12), own, 2, EXACT)
    with pytest.raises(UserError, match=r"has finished, and learnt from other faces than .*shards holds now"):
        train_detector(job)


def test_prepare_and_generate_write_shards(faces: FaceDataset, tmp_path: Path) -> None:
    small = ["--shards", "7", "--shard.crop.size", "32", "--shard.image-format", "png"]
    points = tmp_path / "points.csv"
    assert cli(["export-dataset", "--data", str(faces.folder), "--out", str(points), "--format", "csv"]) == 0
    source = ["prepare", "--reader", "csv", "--path", str(points), "--schema", faces.schema.name]
    assert cli([*source, "--out", str(tmp_path / "prepared"), *small]) == 0
    found = ShardedFaces.open(tmp_path / "prepared")
    assert len(found) == len(faces)
    assert [shard.faces for shard in found.shards][:2] == [7, 7]
    assert sorted(path.suffix for path in (tmp_path / "prepared").iterdir()) == [".json", *[".tar"] * len(found.shards)]
    made = ["generate", "--data", str(faces.folder), "--style.preset", "free", "--styles-per-face", "1", "--crop.size"]
    again = [*made, "40", "--sheets", "0", "--out", str(tmp_path / "made"), *small]
    assert cli(again) == 0
    styled = ShardedFaces.open(tmp_path / "made")
    assert len(styled) == len(faces.select("train"))
    assert not (tmp_path / "made" / "images").exists()
    assert cli(again) == 0  # there already, of the same configuration
    assert next(iter(styled)).provenance is not None
    job = detector_job(tmp_path / "run", faces.folder)
    assert len(resolve_data(dataclasses.replace(job, synthetic=styled.folder))) == 2
    with pytest.raises(UserError, match=r"made: made from split train of .*faces, expected split val"):
        resolve_data(dataclasses.replace(job, synthetic=styled.folder, real_split="val"))


def test_a_shard_that_is_missing_cut_short_or_changed_is_named(own: Path) -> None:
    opened = ShardedFaces.open(own)
    victim = own / opened.shards[2].name
    content = victim.read_bytes()
    victim.write_bytes(content[:-700])
    with pytest.raises(UserError, match=rf"{victim.name}: shard of [\d,]+ bytes, expected [\d,]+: cut short"):
        ShardedFaces.open(own)
    with pytest.raises(UserError, match=rf"{victim.name}: .*cut short"):  # while a training runs
        opened.read(opened.shards[2])
    victim.write_bytes(content[:600] + bytes([content[600] ^ 1]) + content[601:])
    with pytest.raises(UserError, match=rf"{victim.name}: shard has changed since it was made"):
        ShardCache(ShardedFaces.open(own), CROP).batch(np.array([4]))
    victim.unlink()
    with pytest.raises(UserError, match=rf"{victim.name}: shard missing, expected 2 faces"):
        ShardedFaces.open(own)
    with pytest.raises(UserError, match=rf"{victim.name}: missing, expected 2 faces"):
        opened.read(opened.shards[2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"shards.json: not valid JSON"),
        ('{"format": 1}', r"shards.json: format 1, expected 2"),
        ('{"format": 2}', r"shards.json: name: found 'None'"),
    ],
)
def test_an_index_that_is_none_is_a_sentence(own: Path, text: str, words: str) -> None:
    (own / INDEX).write_text(text)
    with pytest.raises(UserError, match=words):
        ShardedFaces.open(own)


def test_what_shards_cannot_do_is_said(
    faces: FaceDataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = ShardedFaces.open(folder)
    with pytest.raises(UserError, match=r"cut as square of .*, 32 px, 1.25 times as wide; expected"):
        ShardCache(opened, CropConfig(size=48), 1.25)
    with pytest.raises(UserError, match="no face with split 'few'"):
        opened.select("few")
    with pytest.raises(UserError, match="shards have no subsets"):
        opened.select("train", "few")
    with pytest.raises(UserError, match=r"holds shards .format 2.*expected a data set folder"):
        FaceDataset.open(folder)
    with pytest.raises(UserError, match="nowhere://x: no file system for this address"):
        ShardedFaces.open("nowhere://x")
    job = detector_job(tmp_path / "run", folder)
    with pytest.raises(UserError, match="arms that look at donors need data set folders"):
        train_detector(dataclasses.replace(job, style=dataclasses.replace(job.style, preset="free")))
    assert not list(tmp_path.iterdir())
    (Path(faces.folder) / "images").rename(tmp_path / "away")
    try:
        with pytest.raises(UserError, match="no such image"):
            pack(faces, tmp_path, 7, EXACT)
    finally:
        (tmp_path / "away").rename(Path(faces.folder) / "images")
    assert not (tmp_path / INDEX).exists()
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r"webdataset, which is not installed; get it with: pip install"):
        pack(faces, tmp_path, 7, EXACT)
