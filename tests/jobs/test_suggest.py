"""`suggest`: a typical face of each kind that the labelled ones lack, and files for a labelling tool."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders.dots import dots
from builders.tiny import detector_job
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.jobs import prepare
from stylealign.jobs.prepare import Prepare
from stylealign.jobs.suggest.job import Suggest, _known
from stylealign.jobs.suggest.job import main as suggest
from stylealign.jobs.suggest.ranking import (
    LOOK,
    Candidate,
    Sample,
    balanced,
    choose_typical,
    describe_face,
    suggested,
)
from stylealign.jobs.train_detector import job as detector


def test_a_face_s_description_knows_no_place_and_no_size() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 60, (5, 2))
    image = rng.integers(0, 256, (80, 80, 3), dtype=np.uint8)
    one = describe_face(image, points)
    assert one.shape == (5 * 2 + LOOK * LOOK * 3,)
    large = image.repeat(3, axis=0).repeat(3, axis=1)
    assert np.abs(describe_face(large, (points + 0.5) * 3 - 0.5) - one)[:10].max() < 1e-5
    flat = describe_face(np.full_like(image, 51), points)
    assert flat[10:] == pytest.approx(0.2)
    assert np.isfinite(describe_face(image, np.where(np.arange(5)[:, None] == 2, np.nan, points))).all()


def test_shape_and_look_count_alike() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([100 * rng.normal(size=(50, 4)), rng.normal(size=(50, 9))], axis=1)
    even = balanced(features, 2)
    assert np.square(even[:, :4]).sum(axis=1).mean() == pytest.approx(1)
    assert np.square(even[:, 4:]).sum(axis=1).mean() == pytest.approx(1)


def test_one_of_each_kind_that_is_not_labelled_is_chosen() -> None:
    """Four heaps of faces; one heap has a label. The middle face of each other heap is chosen, the largest heap's
    first."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [50, 0], [0, 50], [50, 50]])
    heaps = [np.concatenate([[c], c + rng.normal(0, 1, (n, 2)) - rng.normal(0, 0.01, 2)]) for c, n in
             zip(centres, (9, 30, 20, 10), strict=True)]  # fmt: skip
    features, firsts = np.concatenate(heaps), np.cumsum([0, *(len(h) for h in heaps)])
    known = centres[:1] + 0.1
    chosen = choose_typical(features, known, 3)
    heap_of = np.searchsorted(firsts, chosen, side="right") - 1
    assert heap_of.tolist() == [1, 2, 3]
    assert np.linalg.norm(features[chosen] - centres[1:], axis=1).max() < 1
    assert sorted(choose_typical(features[:3], known, 9)) == [0, 1, 2]  # no more than there are
    assert len(set(choose_typical(np.zeros((6, 2)), np.empty((0, 2)), 4))) == 4  # all alike


def candidate(name: str, unsure: float) -> Candidate:
    return Candidate(
        sample=FaceSample(id=name, image=Path(name)), landmarks=np.zeros((5, 2)), unsure=unsure,
        features=np.array([unsure, 1.0], dtype=np.float32),
    )  # fmt: skip


def test_a_sample_of_many_is_kept_whatever_their_order() -> None:
    faces = [candidate(f"{i}", float(i)) for i in range(200)]
    kept = []
    for order in (faces, faces[::-1]):
        sample = Sample(10)
        for face in order:
            sample.add(face)
        assert sample.seen == 200
        kept.append([c.sample.id for c in sample.kept()])
    assert kept[0] == kept[1]
    assert len(kept[0]) == 10


def test_the_least_sure_stand_first(tmp_path: Path) -> None:
    faces = [candidate(f"{i}", u) for i, u in enumerate((0.1, 0.5, 0.3))]
    schema = dots(tmp_path / "d", 3).schema
    assert suggested(faces, np.empty((0, 0)), schema, 3) == [1, 2, 0]
    assert suggested([], np.empty((0, 0)), schema, 3) == []


def test_no_labelled_picture_is_offered_wherever_its_label_lies(tmp_path: Path) -> None:
    """Labelled where they are, or in a data set that has copies of them; one is unlabelled, and one another picture of
    the same size in bytes."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    faces = list(dots(tmp_path / "made", 6))
    for face in faces:
        shutil.copy(face.image, folder / face.image.name)
    names = [face.image.name for face in faces]
    content = bytearray((folder / names[0]).read_bytes())
    content[-5] ^= 1
    (folder / "other.png").write_bytes(content)
    (folder / "empty.png").write_bytes(b"")
    labelled = [replace(face, image=folder / face.image.name, split="train") for face in faces[:5]]
    schema = dots(tmp_path / "schema", 2).schema
    write_dataset(tmp_path / "data", labelled, schema=schema, image_root=folder)
    prepare.main(Prepare(reader="dataset", path=tmp_path / "data", out=tmp_path / "copied", copy=True))
    for data in ("data", "copied"):
        config = Suggest(
            pictures=folder, detectors=(Path("x"),), out=tmp_path / "out", labelled=tmp_path / data, whole_image=True
        )
        known, pictures = _known(config, schema)
        assert len(known) == 5
        assert {path.name for path in folder.iterdir() if path not in pictures} == {names[5], "other.png", "empty.png"}
    assert folder / "not there.png" not in pictures


def test_pictures_to_label_next_with_first_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faces = dots(tmp_path / "labelled", 12)
    run = tmp_path / "run"
    detector.main(detector_job(run, faces.folder, {"steps": 2}))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, face in enumerate(dots(tmp_path / "others", 9, seed=5)):
        shutil.copy(face.image, folder / f"{i}.png")
    shutil.copy(next(iter(faces)).image, folder / "known.png")
    (folder / "broken.png").write_bytes(b"no picture")
    words = ["suggest", str(folder), "--detectors", str(run), "--labelled", str(faces.folder), "--count", "4",
             "--whole-image", "--formats", "coco", "csv", "--accelerator", "cpu"]  # fmt: skip
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("Next: correct the landmarks of ")
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "suggested.csv").open()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    unsure = [float(row["disagreement"]) for row in rows]
    assert unsure == sorted(unsure, reverse=True)
    written = FaceDataset.open(out / "data")
    assert [str(face.image) for face in written] == [row["image"] for row in rows]
    assert {p.name for p in out.iterdir()} == {"coco", "csv", "data", "sheet.png", "suggested.csv"}
    assert main(["prepare", "--reader", "coco", "--path", str(out / "coco"), "--schema", "five",
                 "--out", str(tmp_path / "again")]) == 0  # fmt: skip
    again = {face.image.name: face.landmarks for face in FaceDataset.open(tmp_path / "again")}
    for face in written:
        assert np.abs(again[face.image.name] - face.landmarks).max() < 0.01
    capsys.readouterr()
    assert main([*words, "--out", str(out)]) == 2
    assert "already there" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no picture without a label in which a face was found"):
        suggest(Suggest(pictures=empty, detectors=(run,), out=tmp_path / "none", accelerator="cpu"))
    assert not (tmp_path / "none").exists()
