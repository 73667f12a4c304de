"""Turned heads as a data set: whole, repeatable, labelled inside the picture, and tied to the faces they come from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders.dots import dots
from builders.tiny import detector_job, tree
from stylealign.data.dataset import FaceDataset, sources_of
from stylealign.data.dataset_writer import write_dataset
from stylealign.errors import UserError
from stylealign.face.schema import SCHEMAS
from stylealign.jobs import VERBS, draw_faces, stress
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.prepare import Prepare
from stylealign.jobs.stress import Stress
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.turn_heads import TurnHeads, main, turns_of
from stylealign.toyfaces.side_view import pose_of
from stylealign.training.faces import DataSource, resolve_data


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn faces, two of them in `val`."""
    folder = tmp_path_factory.mktemp("turn") / "faces"
    draw_faces.main(DrawFaces(out=folder, count=8, size=96, val_frac=0.25, test_frac=0, max_yaw=25, png=True))
    return folder


def test_every_copy_is_another_view_inside_its_picture_and_the_same_twice(faces: Path, tmp_path: Path) -> None:
    config = TurnHeads(data=faces, out=tmp_path / "turned", size=96, png=True)
    main(config)
    turned, before = FaceDataset.open(tmp_path / "turned"), FaceDataset.open(faces)
    assert not turned.verify()
    assert set(turned.meta["splits"]) == {"train"}
    assert len(turned) >= 9  # of 12: a few look as far aside already
    yaws = {s.id: abs(pose_of(s.landmarks, before.schema).angles[0]) for s in before}
    for face in turned:
        assert 0 <= face.landmarks.min() <= face.landmarks.max() <= 95
        assert face.provenance.content_id in yaws
        assert not face.visible.all() or abs(pose_of(face.landmarks, turned.schema).angles[0]) > 5
        assert abs(pose_of(face.landmarks, turned.schema).angles[0]) > yaws[face.provenance.content_id]
    main(replace(config, out=tmp_path / "again"))
    one, other = ({k: v for k, v in tree(tmp_path / n).items() if k != "dataset.yaml"} for n in ("turned", "again"))
    assert one == other
    with pytest.raises(UserError, match="turned"):
        main(config)


def test_boxes_stay_of_the_kind_that_the_faces_have(faces: Path, tmp_path: Path) -> None:
    """A finder's boxes leave out the chin and go beyond the brows: so do those of turned heads."""

    def tight(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        return np.concatenate([low, high]), np.tile(high - low, 2)

    theirs = np.array([-0.1, -0.25, 0.05, -0.125])  # of the landmarks' width and height
    dataset = FaceDataset.open(faces)
    boxed = [replace(s, box_xyxy=box + theirs * size) for s in dataset for box, size in [tight(s.landmarks)]]
    write_dataset(tmp_path / "boxed", boxed, schema=dataset.schema, name="x", image_root=dataset.image_root)
    main(TurnHeads(data=tmp_path / "boxed", out=tmp_path / "out", copies=1))
    for sample in FaceDataset.open(tmp_path / "out"):
        box, size = tight(sample.landmarks)
        np.testing.assert_allclose((sample.box_xyxy - box) / size, theirs, atol=1e-3)


def test_a_detector_trains_on_them_and_never_on_those_of_its_val(faces: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        main(TurnHeads(data=faces, out=tmp_path / split, split=split, copies=1, size=96))
    job = detector_job(tmp_path / "run", faces, {"steps": 1, "preview_every": 0}, synthetic_share=0.5)
    train_detector(replace(job, synthetic=tmp_path / "train"))
    with pytest.raises(UserError, match="of split val"):
        train_detector(replace(job, run=tmp_path / "other", synthetic=tmp_path / "val"))


def test_what_is_made_of_turned_heads_is_of_the_split_and_budget_of_the_real_faces(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = FaceDataset.open(faces)
    few = {name: i < 3 for i, name in enumerate(data.select("train").ids())}
    samples = [replace(s, attributes={"few": few.get(s.id, False)}) for s in data]
    real = write_dataset(tmp_path / "real", samples, schema=data.schema, name="real", image_root=data.image_root)
    for split in ("train", "val"):
        main(TurnHeads(data=real.folder, out=tmp_path / f"turned_{split}", split=split, copies=1, size=96))
        stress.main(
            Stress(data=tmp_path / f"turned_{split}", out=tmp_path / split, split=split, causes=("blur",),
                   strengths=(2,), size=64)
        )  # fmt: skip
    hard = FaceDataset.open(tmp_path / "train")
    assert sources_of(hard.meta)[1:] == [real.content_hash]
    assert {sample.provenance.content_id for sample in hard} <= set(few)
    of_few = sum(few[sample.provenance.content_id] for sample in hard)
    assert 0 < of_few < len(hard)
    config = detector_job(tmp_path / "run", real.folder, {"steps": 1, "preview_every": 0}, subset="few")
    by_flags = resolve_data(replace(config, synthetic=tmp_path / "train", synthetic_share=0.5))
    sources = (DataSource(path=real.folder, subset="few"), DataSource(path=tmp_path / "train", split=None))
    by_recipe = resolve_data(replace(config, real=None, subset=None, data=sources))
    assert [len(part.faces) for part in by_flags] == [len(part.faces) for part in by_recipe] == [3, of_few]
    assert f"{of_few} of {len(hard)} faces made from faces of few" in capsys.readouterr().err
    with pytest.raises(UserError, match="of split val"):
        resolve_data(replace(config, subset=None, synthetic=tmp_path / "val", synthetic_share=0.5))


def test_what_comes_next_is_said_only_where_it_would_be_taken() -> None:
    after = VERBS["turn-heads"]
    assert "--synthetic y" in after.next_words(TurnHeads(data=Path("x"), out=Path("y")))
    assert after.next_words(TurnHeads(data=Path("x"), out=Path("y"), split="test")) == ""
    folder = Prepare(reader="folder", path=Path("x"), schema="five", out=Path("y"))
    assert VERBS["prepare"].next_words(folder) == ""


def test_copies_differ_and_faces_go_further_to_their_own_side() -> None:
    config = TurnHeads(data=Path("x"), out=Path("y"), copies=3, degrees=(20, 80))
    for seed in range(20):
        right = turns_of(15.0, config, np.random.default_rng(seed))
        assert right == sorted(right)
        assert 0 <= right[0] < right[1] < right[2] <= 80 - 0.7 * 15
        frontal = turns_of(1.0, config, np.random.default_rng(seed))
        assert len(set(np.sign(frontal))) == 1  # one side for all copies
    sides = {np.sign(turns_of(1.0, config, np.random.default_rng(seed))[2]) for seed in range(20)}
    assert sides == {-1.0, 1.0}
    assert turns_of(-85.0, config, np.random.default_rng(0))[0] == 0.0  # turned as far already


def test_faces_that_cannot_be_turned_are_said(faces: Path, tmp_path: Path) -> None:
    data = FaceDataset.open(faces)
    rng = np.random.default_rng(0)
    torn = [replace(s, landmarks=rng.permutation(s.landmarks)) for s in data.select("train")]
    write_dataset(tmp_path / "torn", torn, schema=data.schema, name="torn")
    with pytest.raises(UserError, match="none of 6 faces can be turned"):
        main(TurnHeads(data=tmp_path / "torn", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    aflw = [replace(s, landmarks=s.landmarks[:19], visible=None) for s in data.select("train")]
    write_dataset(tmp_path / "aflw", aflw, schema=SCHEMAS["aflw19"], name="aflw")
    with pytest.raises(UserError, match="schema aflw19: where its points lie on a head is not known"):
        main(TurnHeads(data=tmp_path / "aflw", out=tmp_path / "out"))
    dots(tmp_path / "dots", count=3)  # five points are known
    main(TurnHeads(data=tmp_path / "dots", out=tmp_path / "five", size=64))
    assert FaceDataset.open(tmp_path / "five").schema.name == "five"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"degrees": (60.0, 30.0)}, "found 60 to 30, expected 10 to 90"),
        ({"degrees": (25.0, 120.0)}, "found 25 to 120"),
        ({"copies": 0}, "found 0, expected 1 to 100"),
        ({"scale": 0.5}, "scale 0.5"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(values: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        TurnHeads(data=Path("x"), out=Path("y"), **values)
