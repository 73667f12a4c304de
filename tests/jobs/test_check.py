"""check: says what is wrong, describes what is right, and draws faces so that a wrong mirror table shows."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from builders.dots import dots
from builders.layouts import own_schema, picture, points
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.evaluation.draw import colour_of, draw_numbered, flipped
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, SCHEMAS, LandmarkSchema
from stylealign.jobs import check
from stylealign.jobs.check import Check


def test_a_dataset_is_described_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dataset = dots(tmp_path / "set", attributes={"few": ("dots0", "dots3")})
    check.main(Check(path=dataset.folder, draw=5, out=tmp_path / "drawn", size=48))
    out, err = capsys.readouterr()
    for text in ("five, 5 landmarks", "faces", "12", "few", "landmark boxes", dataset.content_hash):
        assert text in out
    assert "nothing wrong found" in err
    sheet = read_image(tmp_path / "drawn" / "faces_00.png")
    assert sheet.shape[1] > 5 * 48
    assert sheet.shape[0] > 2 * 48  # each face and its mirror image


def test_drawing_goes_over_several_sheets_and_never_draws_more_than_there_is(tmp_path: Path) -> None:
    dataset = dots(tmp_path / "set", count=18)
    check.main(Check(path=dataset.folder, draw=99, out=tmp_path / "drawn", size=32))
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == ["faces_00.png", "faces_01.png"]
    check.main(Check(path=dataset.folder, draw=3, split="val", out=tmp_path / "val", size=32))
    with pytest.raises(UserError, match="no face with split 'nope'"):
        check.main(Check(path=dataset.folder, draw=3, split="nope", out=tmp_path / "nope", size=32))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"landmarks": points(5) + 5000}, "landmark 0 is at .50.* more than one image side outside the 60 x 40 image"),
        ({"landmarks": points(5) * [1, 0] - [0, 41]}, "landmark 0 is at .* outside the 60 x 40 image"),
        ({"landmarks": points(5) / 100}, "all landmarks lie within the first pixel"),
        ({"landmarks": np.full((5, 2), 7.0)}, r"all landmarks are at \(7, 7\), expected a face"),
        ({"landmarks": points(5), "box_xyxy": (70, 2, 90, 30)}, "box .* does not touch the 60 x 40 image"),
        ({"box_xyxy": (20, 2, 10, 30)}, "box .* expected x0 < x1"),
    ],
)
def test_a_face_that_cannot_be_in_its_picture_is_named(change: dict, said: str, tmp_path: Path) -> None:
    """Whoever wrote the data set; readers refuse the same."""
    image = picture(tmp_path / "a.png")
    faces = [FaceSample(id="good", image=image, landmarks=points(5)), FaceSample(id="bad", image=image, **change)]
    write_dataset(tmp_path / "set", faces, schema=FIVE, name="x")
    with pytest.raises(UserError, match=rf"1 problem\n.*index\.jsonl:2: face 'bad': {said}"):
        check.main(Check(path=tmp_path / "set"))


def test_a_face_at_the_bound_and_one_with_missing_points_are_right(tmp_path: Path) -> None:
    image, edge = picture(tmp_path / "a.png"), points(5)
    edge[:2] = [[-60, -40], [120, 80]]  # one picture's side outside, exactly
    lost = points(5)
    lost[3] = 1e6
    there = np.array([1, 1, 1, 0, 1])
    faces = [
        FaceSample(id="edge", image=image, landmarks=edge),
        FaceSample(id="lost", image=image, landmarks=lost, visible=there, point_trust=there),
        FaceSample(id="none", image=image, landmarks=lost, visible=0 * there, point_trust=0 * there),
    ]
    write_dataset(tmp_path / "set", faces, schema=FIVE, name="x")
    check.main(Check(path=tmp_path / "set", draw=3, out=tmp_path / "drawn", size=32))
    assert (tmp_path / "drawn" / "faces_00.png").exists()


def test_unlabelled_faces_are_drawn_too(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [FaceSample(id="a", image=picture(tmp_path / "a.png"))], schema=FIVE, name="x")
    check.main(Check(path=tmp_path / "set", draw=1, out=tmp_path / "drawn", size=32))
    assert (tmp_path / "drawn" / "faces_00.png").exists()


def test_problems_end_it_with_their_number_and_the_first_few(tmp_path: Path) -> None:
    dataset = dots(tmp_path / "set", count=9)
    for sample in dataset:
        sample.image.unlink()
    with pytest.raises(UserError, match=r"9 problems\n.*image of face 'dots0' is missing(.|\n)*and 4 more"):
        check.main(Check(path=dataset.folder))


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda s: s.name)
def test_a_colour_keeps_its_side_of_the_face_in_the_mirrored_drawing(schema: LandmarkSchema) -> None:
    """A symmetric face looks the same mirrored; with a lost mirror table the colours change sides, and this notices."""
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(8, 56, (schema.num_points, 2))
    twins = schema.flip_permutation
    mirrored = landmarks[twins] * [-1, 1] + [63, 0]
    landmarks = (landmarks + mirrored) / 2
    crop = np.full((64, 64, 3), 128, np.uint8)
    _, after = flipped(crop, landmarks, schema)
    np.testing.assert_allclose(after, landmarks, atol=1e-9)
    _, wrong = flipped(crop, landmarks, dataclasses.replace(schema, flip_pairs=(), boundaries={}))
    assert np.abs(wrong - landmarks).max() > 1


def test_landmarks_are_drawn_in_the_colour_of_their_number() -> None:
    landmarks = np.array([[10.0, 10], [50, 10], [30, 30], [15, 50], [45, 50]])
    drawn = draw_numbered(np.zeros((64, 64, 3), np.uint8), landmarks, FIVE)
    for i, (x, y) in enumerate(landmarks.astype(int)):
        assert drawn[y, x].tolist() == list(colour_of(i, 5))
    assert len({colour_of(i, 98) for i in range(98)}) == 98


def test_a_markup_file_is_described_and_a_bad_one_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = own_schema(tmp_path)
    check.main(Check(path=path))
    assert "schema three: 3 landmarks" in capsys.readouterr().out
    path.write_text(path.read_text().replace("[[0, 1]]", "[[0, 7]]"))
    with pytest.raises(UserError, match="names point 7, expected 0 to 2"):
        check.main(Check(path=path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reader: csv\npath: faces\nout: x\n", "a recipe of `stylealign prepare`"),
        ("reader: csv\npath: faces\n", "a recipe of `stylealign prepare`"),
    ],
)
def test_a_recipe_finds_its_verb(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "r.yaml").write_text(text)
    check.main(Check(path=tmp_path / "r.yaml"))
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader: csv\npath: a\nskipbad: true\n", "did you mean 'skip_bad'"),
        ("[1]", "expected a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        check.main(Check(path=tmp_path / "r.yaml"))


def _run(folder: Path) -> Path:
    import torch

    from stylealign.training.weights import save_model

    folder.mkdir()
    (folder / "config.yaml").write_text("steps: 3\n")
    (folder / "metrics.jsonl").write_text('{"step": 3, "total": 0.5}\n')
    save_model(folder, {"w": torch.zeros(2)}, {"kind": "detector", "schema": "five", "crop": {"size": 64}})
    return folder


def test_a_run_is_described_and_changed_weights_are_found(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = _run(tmp_path / "run")
    check.main(Check(path=run))
    out = capsys.readouterr().out
    assert "finished" in out
    assert "step 3, total 0.5" in out
    assert "detector: mark-up five" in out
    (run / "model.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match=r"1 problem\n.*hash differs"):
        check.main(Check(path=run))
    (run / "card.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        check.main(Check(path=run))


@pytest.mark.parametrize("name", ["step_00000003", "best", "finished_00000003"])
def test_changed_weights_are_found_in_every_model_that_a_run_keeps(name: str, tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    (run / "checkpoints").mkdir()
    _run(run / "checkpoints" / name)
    check.main(Check(path=run))
    (run / "checkpoints" / name / "model.safetensors").write_bytes(b"other")
    with pytest.raises(UserError, match=rf"1 problem\n.*{name}/model.safetensors: .*hash differs"):
        check.main(Check(path=run))
    (run / "checkpoints" / name).rename(run / "checkpoints" / f"{name}.partial")  # of a kill: no model
    check.main(Check(path=run))


def test_a_run_that_has_not_finished_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = _run(tmp_path / "run.partial")
    (run / "card.json").unlink()
    check.main(Check(path=tmp_path / "run"))
    assert "not finished: run the same command again" in capsys.readouterr().out


def test_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.partial").mkdir()
    for path, message in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path, "expected a dataset folder"),
        (tmp_path / "set", "half-written"),
    ):
        with pytest.raises(UserError, match=message):
            check.main(Check(path=path))
    with pytest.raises(UserError, match="--draw is for dataset folders"):
        check.main(Check(path=tmp_path, draw=1))


def test_a_synthetic_dataset_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    dots(tmp_path / "set", made_from=["a", "b"])
    check.main(Check(path=tmp_path / "set"))
    assert "synthetic: 12 faces (12 transfer)" in capsys.readouterr().out
    assert json.loads((tmp_path / "set" / "index.jsonl").read_text().splitlines()[0])["provenance"]["content_id"] == "a"
    assert FaceDataset.open(tmp_path / "set")[0].provenance.content_id == "a"
