import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from builders.dots import dots
from stylealign.batches import crops as crops_module
from stylealign.batches.augment import NO_AUGMENTATION, augment
from stylealign.batches.batch import take_faces, to_float, to_uint8
from stylealign.batches.crops import CropCache, cache_folder, crop_sample, mean_shape, sample_affine
from stylealign.batches.source import BatchSource, epoch_order
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image, write_image
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE

CROP = CropConfig(size=32)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path / "cache"))


class Faces:
    """Stands in for a crop cache where only its length matters."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count


def mix(counts: list[int], shares: list[float], batch_size: int, seed: int = 0) -> BatchSource:
    return BatchSource([Faces(c) for c in counts], shares, batch_size, seed)  # type: ignore[misc]


# --------------------------------------------------------------------------------------------------------------------
# Pixels and crops


def test_uint8_to_float_and_back_is_exact_and_colours_do_not_wrap_round() -> None:
    every = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 16, 16, 3)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).min() == -1
    assert to_float(every).max() == 1
    assert to_uint8(torch.tensor([-3.0, 0.0, 3.0]).view(1, 3, 1, 1)).flatten().tolist() == [0, 128, 255]


def test_a_crop_holds_the_landmarks_where_it_says(tmp_path: Path) -> None:
    for sample in dots(tmp_path / "data", 4):
        pixels, landmarks, affine = crop_sample(sample, CROP, margin=1.25)
        assert pixels.shape == (40, 40, 3)
        assert landmarks is not None
        np.testing.assert_allclose(geometry.apply(geometry.invert(affine), landmarks), sample.landmarks, atol=1e-4)
        x, y = np.round(landmarks[0]).astype(int)  # the red dot
        assert pixels[y, x, 0] > 180
        assert pixels[y, x, 1] < 120


def test_a_margin_widens_the_crop_at_the_same_resolution_round_the_same_centre(tmp_path: Path) -> None:
    sample = dots(tmp_path / "data", 1)[0]
    inner, outer = sample_affine(sample, CROP), sample_affine(sample, CROP, margin=1.25)
    np.testing.assert_allclose(outer, geometry.compose(np.array([[1.0, 0, 4], [0, 1, 4]]), inner))


def test_the_box_of_a_crop_is_the_labels_or_the_given_one(tmp_path: Path) -> None:
    sample = dots(tmp_path / "data", 1)[0]
    given = sample_affine(sample, CropConfig(size=32, box="given", scale=1.0))
    np.testing.assert_allclose(geometry.scale_of(given), 32 / 50, rtol=1e-6)
    tight = sample_affine(sample, CropConfig(size=32, scale=1.0))
    assert sample.landmarks is not None
    np.testing.assert_allclose(geometry.scale_of(tight), 32 / np.ptp(sample.landmarks, axis=0).max(), rtol=1e-6)


def test_faces_that_cannot_be_cut_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((20, 20, 3), np.uint8))
    point = FaceSample(id="dot", image=tmp_path / "a.png", landmarks=np.full((5, 2), 3.0))
    with pytest.raises(UserError, match=r"face 'dot'.*no area"):
        sample_affine(point, CROP)
    with pytest.raises(UserError, match="face 'dot' has no box"):
        sample_affine(point, CropConfig(box="given"))
    with pytest.raises(ValueError, match="at least 8"):
        CropConfig(size=4)


def test_a_picture_without_any_annotation_is_cut_at_its_middle(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8))
    affine = sample_affine(FaceSample(id="a", image=tmp_path / "a.png"), CROP)
    np.testing.assert_allclose(geometry.apply(affine, np.array([29.5, 19.5])), [15.5, 15.5])


# --------------------------------------------------------------------------------------------------------------------
# The cache


def test_the_cache_holds_what_cutting_each_face_gives(tmp_path: Path) -> None:
    data = dots(tmp_path / "data", 6)
    cache = CropCache(data, CROP, margin=1.25)
    cut = cache.batch(np.array([4, 1]), index_offset=10, weight=0.5)
    assert cut.index.tolist() == [14, 11]
    assert cut.weight.tolist() == [0.5, 0.5]
    assert cut.image.is_contiguous(memory_format=torch.channels_last)
    for row, i in enumerate([4, 1]):
        pixels, landmarks, affine = crop_sample(data[i], CROP, margin=1.25)
        assert torch.equal(to_uint8(cut.image)[row], torch.from_numpy(pixels))
        np.testing.assert_allclose(cut.landmarks[row].numpy(), landmarks, atol=1e-4)
        np.testing.assert_allclose(cut.crop_from_source[row].numpy(), affine)


def test_the_cache_is_found_again_and_never_mistaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dots(tmp_path / "data", 4)
    first = CropCache(data, CROP)
    cuts: list[int] = []
    monkeypatch.setattr(crops_module, "read_image", lambda path: cuts.append(1) or np.zeros((90, 90, 3), np.uint8))
    again = CropCache(FaceDataset.open(data.folder), CROP)
    assert not cuts
    assert np.array_equal(again.images, first.images)
    assert np.array_equal(again.landmarks, first.landmarks)
    for other in (
        (data, CROP, 1.25), (data, CropConfig(size=32, scale=1.5), 1.0), (data, CropConfig(size=32, box="given"), 1.0),
        (data.take([0, 1]), CROP, 1.0), (data.take([1, 0, 2, 3]), CROP, 1.0),
        (dots(tmp_path / "other", 4, seed=1), CROP, 1.0),
    ):  # fmt: skip
        before = len(cuts)
        CropCache(*other)
        assert len(cuts) > before


def test_edited_labels_and_replaced_pictures_are_cut_anew(tmp_path: Path) -> None:
    data = dots(tmp_path / "data", 3)
    path = data[2].image
    picture = read_image(path)
    Image.fromarray(picture).save(path, compress_level=0)  # as long as any other picture of its size
    CropCache(data, CROP)
    # Landmarks edited in the index, whose hash in dataset.yaml stays what it was: the face is cut round the new ones.
    index = data.folder / "index.jsonl"
    lines = index.read_text().splitlines()
    row = json.loads(lines[1])
    row["landmarks"] = np.add(row["landmarks"], [8.0, 3.0]).tolist()
    index.write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]) + "\n")
    edited = FaceDataset.open(data.folder)
    expected, landmarks, _ = crop_sample(edited[1], CROP)
    cache = CropCache(edited, CROP)
    assert np.array_equal(cache.images[1], expected)
    np.testing.assert_allclose(cache.landmarks[1], landmarks, atol=1e-4)
    # A picture replaced by another of the same length and time.
    times = path.stat()
    path.unlink()
    Image.fromarray(picture[::-1]).save(path, compress_level=0)
    assert path.stat().st_size == times.st_size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert np.array_equal(CropCache(edited, CROP).images[2], crop_sample(edited[2], CROP)[0])


def test_the_mean_shape_is_in_px_of_the_crop_whatever_its_margin(tmp_path: Path) -> None:
    data = dots(tmp_path / "data", 5)
    expected = np.mean([crop_sample(face, CROP)[1] for face in data], axis=0)
    for margin in (1.0, 1.25):
        cache = CropCache(data, CROP, margin, folder=tmp_path / "cache")
        np.testing.assert_allclose(mean_shape([cache], [1.0]), expected, atol=1e-3)


def test_a_cache_file_cut_short_is_made_again(tmp_path: Path) -> None:
    data = dots(tmp_path / "data", 3)
    whole = CropCache(data, CROP).images.copy()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert np.array_equal(CropCache(data, CROP).images, whole)


def test_two_that_cut_the_same_crops_do_not_write_into_each_others_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one process number, as two containers that share a cache may be; the second begins in the midst of the first,
    and ends while that is still at it."""
    data, first_cuts, second_is_done = dots(tmp_path / "data", 40), threading.Event(), threading.Event()
    whole = np.stack([crop_sample(face, CROP)[0] for face in data])

    def in_the_midst_of_the_other(path: Path) -> np.ndarray:
        if not first_cuts.is_set():
            first_cuts.set()
            assert second_is_done.wait(60)
        return read_image(path)

    monkeypatch.setattr(crops_module, "read_image", in_the_midst_of_the_other)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(CropCache, data, CROP)
        assert first_cuts.wait(60)
        second = pool.submit(lambda: CropCache(data, CROP).images.copy())
        try:
            assert np.array_equal(second.result(60), whole)
        finally:
            second_is_done.set()
        assert np.array_equal(first.result(60).images, whole)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".npy"]


CUT = """import os, sys, time
from pathlib import Path
from stylealign.batches import crops
from stylealign.data.dataset import FaceDataset
from stylealign.face.crop import CropConfig

def slowly(path):
    os.write(1, b"cutting\\n")
    time.sleep(600)

crops.read_image = slowly
crops.CropCache(FaceDataset.open(sys.argv[1]), CropConfig(size=32))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="keeps them for a day: it has no flock")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_crops_that_a_killed_command_was_cutting_are_removed_by_the_next_and_no_others(
    tmp_path: Path, number: signal.Signals
) -> None:
    data, cache = dots(tmp_path / "data", 3), tmp_path / "cache"
    cutting = subprocess.Popen([sys.executable, "-c", CUT, str(data.folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert cutting.stdout is not None
        assert cutting.stdout.readline() == "cutting\n"
        (partial,) = cache.glob("*.partial")
        CropCache(dots(tmp_path / "other", 3, seed=1), CROP)
        assert partial.exists(), "of one that lives"
        cutting.send_signal(number)
        cutting.wait()
        assert partial.exists(), "as a kill leaves it"
    finally:
        cutting.kill()
        cutting.communicate()
    elsewhere, lost, earlier = (cache / f"crops-{name}.partial" for name in ("a.npy.beef-1", "b.npy.beef-2", "c.npy.7"))
    for path, days in ((elsewhere, 0.9), (lost, 1.1), (earlier, 1.1)):  # of other machines, of an earlier version
        path.touch()
        os.utime(path, (time.time() - 86_400 * days,) * 2)
    cut = CropCache(data, CROP)
    assert np.array_equal(cut.images, [crop_sample(face, CROP)[0] for face in data])
    assert list(cache.glob("*.partial")) == [elsewhere]


def test_a_cache_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STYLEALIGN_CACHE")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert cache_folder().stat().st_mode & 0o077 == 0
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    (tmp_path / "stylealign-12345").mkdir()
    with pytest.raises(UserError, match="belongs to another user"):
        cache_folder()


def test_a_full_disk_is_said_before_it_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"no room for crops of 0 MB \(No space left on device\)"):
        CropCache(dots(tmp_path / "data", 3), CROP)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failed_cache_leaves_nothing_behind(tmp_path: Path) -> None:
    data = dots(tmp_path / "data", 3)
    (tmp_path / "data_pictures" / "1.png").unlink()
    with pytest.raises(UserError, match="no such image"):
        CropCache(data, CROP)
    assert list((tmp_path / "cache").iterdir()) == []


def test_unlabelled_faces_have_nan_landmarks(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8))
    data = write_dataset(tmp_path / "data", [FaceSample(id="a", image=tmp_path / "a.png")], schema=FIVE, name="a")
    assert bool(CropCache(data, CROP).batch(np.array([0])).landmarks.isnan().all())


# --------------------------------------------------------------------------------------------------------------------
# The mix


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    weights=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    batch_size=st.integers(1, 33),
    step=st.integers(0, 10_000),
)
def test_every_batch_is_full_and_shares_hold_to_within_a_face(
    counts: list[int], weights: list[int], batch_size: int, step: int
) -> None:
    shares = [float(w) for w in weights[: len(counts)]]
    if sum(shares) == 0:
        shares[0] = 1.0
    source = mix(counts, shares, batch_size)
    drawn = {i: len(positions) for i, positions in source.indices(step)}
    assert sum(drawn.values()) == batch_size
    exact = np.array(shares) / sum(shares) * batch_size
    so_far = source.counts(step)
    assert np.abs(so_far - exact * step).max() <= 1 + 1e-6
    for i, share in enumerate(exact):
        assert abs(drawn.get(i, 0) - share) < 2
        assert share > 0 or i not in drawn


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, [16] * 6), (0.25, [8] * 6), (0.0, [0] * 6), (1.0, [32] * 6), (1 / 3, [11, 10, 11, 11, 10, 11])],
)
def test_the_synthetic_share_is_exact(share: float, expected: list[int]) -> None:
    source = mix([100, 800], [1 - share, share], 32)
    found = [{i: len(p) for i, p in source.indices(step)}.get(1, 0) for step in range(6)]
    assert found == expected


def test_every_face_comes_once_an_epoch_in_another_order_each_time() -> None:
    walk = epoch_order(10, 0, 0, 0, 30).reshape(3, 10)
    assert all(sorted(epoch) == list(range(10)) for epoch in walk.tolist())
    assert not np.array_equal(walk[0], walk[1])
    assert np.array_equal(epoch_order(10, 0, 0, 7, 15), walk.ravel()[7:22])  # wherever one starts
    assert not np.array_equal(epoch_order(10, 1, 0, 0, 10), walk[0])
    assert not np.array_equal(epoch_order(10, 0, 1, 0, 10), walk[0])


def test_a_batch_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    caches = [CropCache(dots(tmp_path / "a", 5), CROP), CropCache(dots(tmp_path / "b", 3, seed=1), CROP)]
    one, two = (BatchSource(caches, [1, 1], 4, 0) for _ in range(2))
    two.batch(3)
    for step in (0, 5, 2):
        assert all(torch.equal(a, b) for a, b in zip(one.batch(step), two.batch(step), strict=True))
    assert not torch.equal(one.batch(0).index, BatchSource(caches, [1, 1], 4, 1).batch(0).index)
    assert (one.batch(0).index >= 5).sum() == 2  # the second data set's faces are numbered after the first's


def test_processes_share_a_batch_without_overlap(tmp_path: Path) -> None:
    caches = [CropCache(dots(tmp_path / "a", 7), CROP), CropCache(dots(tmp_path / "b", 5, seed=1), CROP)]
    whole = BatchSource(caches, [2, 1], 6, 0)
    parts = [BatchSource(caches, [2, 1], 6, 0, rank, 3) for rank in range(3)]
    for step in range(5):
        found = [part.batch(step).index.tolist() for part in parts]
        assert [len(f) for f in found] == [2, 2, 2]
        assert sorted(i for part in found for i in part) == sorted(whole.batch(step).index.tolist())


@pytest.mark.parametrize(("shares", "world"), [([1.0], 1), ([0.0, 0.0], 1), ([1.0, -1.0], 1), ([1.0, 1.0], 3)])
def test_a_mix_that_cannot_be_drawn_is_refused(shares: list[float], world: int) -> None:
    with pytest.raises(UserError, match=r"shares|divided"):
        BatchSource([Faces(3), Faces(3)], shares, 4, 0, 0, world)  # type: ignore[list-item]


def test_each_source_brings_the_lean_of_its_labels(tmp_path: Path) -> None:
    caches = [CropCache(dots(tmp_path / name, 4), CROP) for name in ("a", "b")]
    batch = BatchSource(caches, [0.5, 0.5], 8, seed=0, leans=[0.0, 0.9]).batch(0)
    assert batch.lean.tolist() == [0.0] * 4 + [pytest.approx(0.9)] * 4
    assert not BatchSource(caches[:1], [1.0], 4, seed=0).batch(0).leans().any()
    assert take_faces(batch, torch.tensor([1, 6])).lean.tolist() == [0.0, pytest.approx(0.9)]


def test_labels_of_a_picture_that_exif_turns_lean_to_the_right_of_what_is_shown(tmp_path: Path) -> None:
    """Stored on its side (orientation 6): to the right, as people labelled it, is up in the file."""
    faces = dots(tmp_path / "stored", 8)
    turned = write_dataset(
        tmp_path / "turned", [dataclasses.replace(face, orientation=6) for face in faces], schema=FIVE, name="turned",
        image_root=faces.image_root,
    )  # fmt: skip
    caches = [CropCache(data, CROP) for data in (faces, turned)]
    batch = BatchSource(caches, [0.5, 0.5], 16, seed=0, leans=[1.0, 1.0]).batch(0)
    torch.testing.assert_close(batch.rights(), torch.tensor([[1.0, 0], [0, -1]]).repeat_interleave(8, dim=0))
    mirroring = dataclasses.replace(NO_AUGMENTATION, flip=True)
    size = batch.image.shape[-1]
    known, unknown = (
        augment(each, size, mirroring, torch.Generator().manual_seed(3), FIVE)
        for each in (batch, batch._replace(lean=torch.zeros(0), right=torch.zeros(0)))
    )
    mirrored = known.crop_from_source[:, :, :2].det() < 0
    assert 0 < int(mirrored[8:].sum()) < 8
    px = known.crop_from_source[:, :, :2].det().abs().sqrt().float()  # of the crop, one px of the picture
    expected = torch.stack([2 * px * mirrored, 0 * px], dim=1)[:, None].expand(-1, 5, 2)
    torch.testing.assert_close(known.landmarks - unknown.landmarks, expected, atol=1e-4, rtol=0)
