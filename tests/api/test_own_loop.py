"""What a loop of one's own takes from the package: batches of varied crops, and scores of arrays."""

import doctest
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from builders.dots import COLOURS, dots
from stylealign import FaceDataset, FaceSample, evaluate_landmarks, training_batches, write_dataset
from stylealign.api import scores
from stylealign.api import training_batches as module
from stylealign.batches.augment import AugmentConfig
from stylealign.batches.batch import to_uint8
from stylealign.errors import UserError
from stylealign.face.geometry import apply, invert
from stylealign.face.schema import FIVE

MOTIONS = AugmentConfig(colour=0, grey_prob=0, blur_prob=0, occlusion_prob=0)
TWINS = [1, 0, 2, 4, 3]  # of FIVE: eyes, nose, mouth corners


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return dots(tmp_path_factory.mktemp("loop") / "dots", 12)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path / "cache"))


def test_the_dots_lie_under_the_landmarks_and_mirrored_faces_are_renumbered(faces: FaceDataset) -> None:
    mirrored = []
    for batch in islice(training_batches(faces, size=96, batch_size=8, augment_by=MOTIONS, seed=3), 4):
        assert batch.image.shape == (8, 3, 96, 96)
        for image, landmarks in zip(to_uint8(batch.image).numpy(), batch.landmarks.numpy(), strict=True):
            x, y = landmarks.round().astype(int).clip(0, 95).T
            there = image[y, x].astype(float)
            off = [np.abs(there - COLOURS[order]).max() for order in ([0, 1, 2, 3, 4], TWINS)]
            assert min(off) < 80, off
            mirrored.append(off[1] < off[0])
            assert landmarks[0, 0] < landmarks[1, 0]  # the first eye is on the left of the picture, mirrored or not
    assert 4 < sum(mirrored) < 28


def test_a_batch_is_a_function_of_its_number_and_an_epoch_has_every_face_once(faces: FaceDataset) -> None:
    all_of_them = list(islice(training_batches(faces, size=32, batch_size=4), 6))
    (again,) = islice(training_batches(faces, size=32, batch_size=4, first=5), 1)
    assert all(torch.equal(a, b) for a, b in zip(all_of_them[5], again, strict=True))
    for epoch in (all_of_them[:2], all_of_them[2:4], all_of_them[4:]):  # of the 8 faces of split train
        assert sorted(int(i) for batch in epoch for i in batch.index) == list(range(8))
    (other,) = islice(training_batches(faces, size=32, batch_size=4, seed=1, first=5), 1)
    assert not torch.equal(other.image, again.image)


def test_a_folder_gives_its_training_faces_and_missing_points_are_nan(faces: FaceDataset, tmp_path: Path) -> None:
    there = np.array([True, True, True, True, False])
    some = [
        FaceSample(
            id=str(i), image=face.image, landmarks=face.landmarks, visible=there, point_trust=there, split=face.split
        )
        for i, face in enumerate(faces)
    ]
    write_dataset(tmp_path / "data", some, schema=FIVE, name="data")
    plain = AugmentConfig(rotation=0, scale=0, shift=0, flip=False)
    (batch,) = islice(training_batches(tmp_path / "data", size=32, batch_size=8, augment_by=plain), 1)
    assert set(batch.index.tolist()) == set(range(8))  # two of three faces are of split train
    assert torch.equal(batch.landmarks.isnan().any(dim=2), torch.from_numpy(~there).expand(8, 5))
    assert torch.equal(batch.weights() == 0, torch.from_numpy(~there).expand(8, 5))
    for given, split in ((faces, "train"), (faces.select("val"), "val")):  # of a whole data set no other face either
        expected = faces.select(split)
        (batch,) = islice(training_batches(given, size=32, batch_size=len(expected), augment_by=plain), 1)
        back = [invert(a) for a in batch.crop_from_source.double().numpy()]
        found = [apply(*pair) for pair in zip(back, batch.landmarks.numpy(), strict=True)]
        for face in expected:
            assert min(np.abs(points - face.landmarks).max() for points in found) < 0.01
    with pytest.raises(UserError, match="no face"):
        training_batches(faces.take([]))
    for wrong in ({"batch_size": 0}, {"first": -1}, {"size": 2}, {"scale": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            training_batches(faces, **wrong)  # type: ignore[arg-type]


def test_numbers_of_any_library_are_taken_and_others_named_at_once(faces: FaceDataset) -> None:
    (wanted,) = islice(training_batches(faces, size=32, batch_size=4, seed=3, first=2), 1)
    given = {name: np.int64(value) for name, value in (("size", 32), ("batch_size", 4), ("seed", 3), ("first", 2))}
    (found,) = islice(training_batches(faces, **given), 1)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))
    for name, least in (("size", 8), ("batch_size", 1), ("seed", 0), ("first", 0)):
        for wrong in (2.5, "9", None, least - 1, True):
            with pytest.raises(ValueError, match=f"{name} is {wrong!r}, expected a whole number, {least} or more"):
                training_batches(faces, **{name: wrong})  # type: ignore[arg-type]


def test_a_face_with_nan_says_how_a_missing_point_is_written(faces: FaceDataset) -> None:
    points = np.array(faces[0].landmarks)
    points[2, 0] = np.nan
    with pytest.raises(ValueError, match=r"a: landmarks holds .* visible False and point_trust 0"):
        FaceSample(id="a", image=faces[0].image, landmarks=points)


def test_scores_are_those_worked_out_by_hand() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]]) + rng.normal(0, 2, (20, 5, 2))
    predicted = truth + rng.normal(0, 4, truth.shape)
    missing = rng.random((20, 5)) < 0.3
    missing[:, :2] = False
    given = np.where(missing[..., None], np.nan, truth)
    found = evaluate_landmarks(torch.from_numpy(predicted), given.tolist(), "five", threshold=0.12)
    wanted = []
    for i in range(20):
        eyes = float(np.hypot(*(truth[i, 0] - truth[i, 1])))
        off = [float(np.hypot(*(predicted[i, p] - truth[i, p]))) for p in range(5) if not missing[i, p]]
        wanted.append(sum(off) / len(off) / eyes)
    np.testing.assert_allclose(found.nme, wanted, rtol=1e-12)
    assert found.mean == pytest.approx(np.mean(wanted))
    assert found.failure_rate == np.mean([e > 0.12 for e in wanted])
    assert 0 < found.failure_rate < 1
    grid = np.linspace(0, 0.12, 200_001)
    curve = np.mean([grid >= e for e in wanted], axis=0)
    assert found.auc == pytest.approx(curve.mean(), abs=1e-4)
    assert found.denominator == "inter_pupil"


def test_scores_take_tensors_with_a_gradient_and_masked_points_as_missing() -> None:
    truth = np.array([[[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]]])
    predicted = truth + np.array([4.0, 0])
    for kind, near in ((torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        found = evaluate_landmarks(torch.tensor(predicted, dtype=kind, requires_grad=True), torch.tensor(truth), "five")
        assert found.mean == pytest.approx(0.1, abs=near)  # 4 px of 40
    predicted[0, 4] += 40
    covered = np.ma.masked_array(truth, mask=np.arange(5)[None, :, None].repeat(2, 2) == 4)
    assert evaluate_landmarks(predicted, covered, "five").mean == pytest.approx(0.1)
    for wrong in ("abc", [[1, 2], [3]]):
        with pytest.raises(ValueError, match=r"predicted: found .*, expected numbers"):
            evaluate_landmarks(wrong, truth, "five")


def test_scores_refuse_what_they_cannot_score() -> None:
    truth = np.array([[[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]]])
    for predicted, true, sentence in (
        (truth * np.nan, truth, "predicted landmarks that are not finite"),
        (truth[:, :3], truth, "cannot be compared"),
        (truth, truth[0], "landmarks of shape"),
        (truth, np.where(np.arange(5)[:, None] == 0, np.nan, truth), "no usable inter_pupil denominator"),
    ):
        with pytest.raises(UserError, match=sentence):
            evaluate_landmarks(predicted, true, "five")
    with pytest.raises(UserError, match="needs face boxes"):
        evaluate_landmarks(truth, truth, FIVE, denominator="box")


def test_the_examples_are_true(faces: FaceDataset) -> None:
    for part in (scores, module):
        tests = doctest.DocTestFinder().find(part, globs={"donors": faces.folder})
        results = [doctest.DocTestRunner().run(each) for each in tests]
        assert sum(r.attempted for r in results) >= 4
        assert sum(r.failed for r in results) == 0
