"""Trust, pseudo-labels and what training makes of them: a perfect detector finds the
truth, a filter says what it drops."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from builders.dots import PLACES, dots
from builders.tiny import tree
from stylealign.batches.augment import NO_AUGMENTATION, augment
from stylealign.batches.batch import Batch, join
from stylealign.batches.crops import CropCache
from stylealign.batches.source import BatchSource
from stylealign.config import from_dict, read_yaml
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import write_image
from stylealign.data.rows import to_row
from stylealign.detectors.dvln import candidate_losses
from stylealign.detectors.heatmap import map_weights
from stylealign.detectors.lab.learning import curve_weights
from stylealign.detectors.loaded import LoadedDetector
from stylealign.detectors.losses import LossConfig, landmark_loss
from stylealign.detectors.output import DetectorOutput
from stylealign.errors import UserError
from stylealign.evaluation.trust import choose, face_and_point_trust, keep_curve, match_poses, spread, trust
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import AFLW19, FIVE
from stylealign.jobs import trust as trust_job
from stylealign.jobs.pseudo_label import job as pseudo_label
from stylealign.jobs.pseudo_label import parts
from stylealign.jobs.pseudo_label.config import PseudoLabel
from stylealign.jobs.trust import Trust
from stylealign.predicting import ensemble
from stylealign.predicting.ensemble import LookConfig, ask, load_ensemble, looks_of
from stylealign.predicting.on_datasets import answer_crops, lean_on
from stylealign.training.fan_out import Job
from stylealign.training.processes import Pool

TRUTH = PLACES * 1.3 + [60.0, 55.0]
SIDE = 120


class Surveyor(nn.Module):
    """A perfect detector of one face: the pictures hold their own coordinates (red 2 x, green 2 y), from
    which it reads how a crop was cut.

    `drawn_to_middle` spoils it: every answer is off by that share of the way from the face's middle to the crop's.
    `lean`: every answer is off to the right by that share of the crop's side.
    """

    def __init__(self, drawn_to_middle: float = 0.0, lean: float = 0.0):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))
        self.drawn_to_middle, self.lean = drawn_to_middle, lean

    def forward(self, image: torch.Tensor) -> DetectorOutput:
        found = []
        for red, green, _ in ((image.double() + 1) * 127.5).numpy():
            v, u = np.mgrid[: red.shape[0], : red.shape[1]]
            inside = (red > 6) & (red < 232) & (green > 6) & (green < 232)
            source = np.stack([red[inside] / 2, green[inside] / 2, np.ones(inside.sum())], axis=1)
            crop = np.stack([u[inside], v[inside]], axis=1)
            crop_from_source = np.linalg.lstsq(source, crop, rcond=None)[0].T
            mirrored = np.linalg.det(crop_from_source[:, :2]) < 0
            points = geometry.apply(crop_from_source, TRUTH[FIVE.flip_permutation] if mirrored else TRUTH)
            middle = geometry.landmark_box(points).reshape(2, 2).mean(axis=0)
            found.append(
                points + self.drawn_to_middle * ((red.shape[0] - 1) / 2 - middle) + [self.lean * red.shape[0], 0]
            )
        return DetectorOutput(torch.tensor(np.array(found)).float())


def loaded(drawn_to_middle: float = 0.0, schema=FIVE) -> LoadedDetector:
    card = {"model_hash": "f" * 64, "model": "surveyor", "data": []}
    return LoadedDetector(model=Surveyor(drawn_to_middle), schema=schema, crop=CropConfig(size=48), card=card)


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """Four unlabelled faces with coordinates for colours, boxes off by up to a quarter;
    the third picture is no picture."""
    folder = tmp_path_factory.mktemp("surveyed")
    y, x = np.mgrid[:SIDE, :SIDE]
    samples = []
    for i, (shift, size) in enumerate(((0, 1.0), (6, 1.2), (0, 1.0), (-5, 0.85))):
        write_image(folder / f"{i}.png", np.stack([2 * x, 2 * y, 0 * x], axis=-1).astype(np.uint8))
        box = geometry.landmark_box(TRUTH)
        middle, half = (box[:2] + box[2:]) / 2 + shift, (box[2:] - box[:2]).max() / 2 * size
        samples.append(
            FaceSample(
                id=f"f{i}", image=folder / f"{i}.png", box_xyxy=[*(middle - half), *(middle + half)], split="unlabelled"
            )
        )
    made = write_dataset(folder / "data", samples, schema=FIVE, name="surveyed", image_root=folder)
    (folder / "2.png").write_bytes(b"no picture")
    return made


@pytest.fixture
def perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    for job in (pseudo_label, trust_job):
        monkeypatch.setattr(job, "load_ensemble", lambda *_: [loaded()])


# --------------------------------------------------------------------------------------------------------------------
# Trust


def test_trust_is_one_half_at_half_and_a_quarter_at_twice_that() -> None:
    np.testing.assert_allclose(trust(np.array([0.0, 0.02, 0.04, 0.06]), 0.02), [1, 0.5, 0.25, 0.125])


def test_a_point_is_trusted_by_the_larger_of_its_own_and_its_faces_disagreement() -> None:
    face, point = face_and_point_trust(np.array([[0.0, 0.04], [0.02, 0.02]]), 0.02)
    np.testing.assert_allclose(face, [0.5, 0.5])
    np.testing.assert_allclose(point, [[1.0, 0.5], [1.0, 1.0]])
    np.testing.assert_allclose(face[:, None] * point, [[0.5, 0.25], [0.5, 0.5]])


def test_disagreement_is_the_mean_distance_from_the_mean_answer() -> None:
    answers = np.array([[[[0.0, 0.0], [1, 1]], [[6, 8], [1, 1]]]])  # their mean is (3, 4), 5 px from either
    np.testing.assert_allclose(spread(answers), [[5.0, 0.0]])


def test_those_who_agree_best_are_kept() -> None:
    disagreement = np.array([0.05, 0.01, 0.03, 0.02])
    assert choose(disagreement, 0.5, None, "x").tolist() == [1, 3]
    assert choose(disagreement, 1.0, 0.03, "x").tolist() == [1, 2, 3]
    rows = keep_curve(disagreement, np.array([0.5, 0.1, 0.3, 0.2]))
    half = next(row for row in rows if row["kept"] == 0.5)
    assert half["max_disagreement"] == 0.02
    np.testing.assert_allclose(
        [half["mean_disagreement"], half["mean_error"], half["mean_error_of_dropped"]], [0.015, 0.15, 0.4]
    )


def test_a_filter_that_drops_everything_says_so_with_threshold_and_curve() -> None:
    with pytest.raises(
        UserError,
        match=r"data: max_disagreement 0.001 drops all 4 faces; the least disagreement is 0.0100; .*50% at 0.0250",
    ):
        choose(np.array([0.05, 0.01, 0.03, 0.02]), 1.0, 0.001, "data")


def test_matched_poses_are_as_frequent_as_the_labelled_sets() -> None:
    rng = np.random.default_rng(0)

    def faces(turns: np.ndarray) -> np.ndarray:  # the nose moves to the side as a head turns
        shapes = np.repeat(PLACES[None], len(turns), axis=0) + rng.normal(0, 0.01, (len(turns), 5, 2))
        shapes[:, 2, 0] += turns
        return shapes

    wanted = faces(np.repeat([-8.0, 0, 8], [10, 20, 10]))
    turns = np.repeat([-8.0, 0, 8], [30, 140, 30])
    disagreement = np.where(turns == 0, 0.01, 0.03) + rng.uniform(0, 0.001, 200)
    kept, missing = match_poses(faces(turns), disagreement, wanted, 80, 3)
    assert missing == 0
    assert [int((turns[kept] == t).sum()) for t in (-8, 0, 8)] == [20, 40, 20]
    frontal = np.flatnonzero(turns == 0)
    assert set(kept[turns[kept] == 0]) == set(frontal[np.argsort(disagreement[frontal])[:40]])
    assert match_poses(faces(turns), disagreement, wanted, 160, 3)[1] == 20  # 40 of either side wanted, 30 there
    for count in (0, 1, 2, 3, 5, 7):  # shares of a face are added up, so that no place is lost
        kept, missing = match_poses(faces(turns), disagreement, wanted, count, 3)
        assert (len(kept), missing) == (count, 0)


def test_a_share_that_leaves_no_face_of_the_matched_poses_is_refused(tmp_path: Path) -> None:
    faces = dots(tmp_path / "faces")
    config = PseudoLabel(
        data=faces.folder, detectors=(tmp_path / "run",), out=tmp_path / "out", match=faces.folder, keep=0.01
    )
    with pytest.raises(UserError, match=r"faces: keep 0.01 of 12 faces with the head poses of .*faces leaves none"):
        pseudo_label._choose(config, faces, faces.landmarks_array(), np.arange(12.0))


# --------------------------------------------------------------------------------------------------------------------
# Trust in the data


def test_trust_is_read_back_as_written_and_costs_no_byte_where_there_is_none(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((60, 60, 3), np.uint8))
    plain = FaceSample(id="a", image=tmp_path / "a.png", landmarks=PLACES + 30)
    told = dataclasses.replace(plain, id="b", trust=0.3, point_trust=[0.1, 1, 0, 0.5, 1])
    assert list(to_row(plain, "a.png", "d")) == ["id", "image", "split", "digest", "landmarks"]
    data = write_dataset(tmp_path / "data", [plain, told], schema=FIVE, name="t", image_root=tmp_path)
    assert [data[0], data[1]] == [plain, told]
    assert data[1] != dataclasses.replace(told, trust=0.4)
    assert data.head(1)["trust"] == 0.3
    cache = CropCache(data, CropConfig(size=16))
    batch = cache.batch(np.array([1, 0]), weight=2.0)
    np.testing.assert_allclose(batch.weight, [0.6, 2.0])
    np.testing.assert_allclose(batch.weights(), [[0.06, 0.6, 0, 0.3, 0.6], [2.0] * 5], rtol=1e-6)
    assert batch.landmarks.isnan().any(dim=2).tolist() == [[False, False, True, False, False], [False] * 5]
    assert BatchSource([cache, cache], [1, 1], 4, 0).batch(0).point_weight.shape == (4, 5)


@pytest.mark.parametrize(
    ("field", "value"),
    [("trust", 1.5), ("trust", float("nan")), ("point_trust", [0.5] * 4 + [2.0]), ("point_trust", [1.0] * 4)],
)
def test_an_impossible_trust_is_refused(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        FaceSample(id="a", image=tmp_path, landmarks=PLACES, **{field: value})


def test_mirroring_takes_each_weight_along_with_its_landmark() -> None:
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.5]])
    batch = Batch(
        torch.zeros(1, 3, 16, 16), torch.zeros(1, 5, 2), torch.ones(1, 5, dtype=torch.bool),
        torch.eye(2, 3).double()[None],
        torch.zeros(1, dtype=torch.int64), torch.ones(1), weights,
    )  # fmt: skip
    found = {
        tuple(np.round(augment(batch, 16, dataclasses.replace(NO_AUGMENTATION, flip=True),
                    torch.Generator().manual_seed(s), FIVE).point_weight[0].tolist(), 4))
        for s in range(8)
    }  # fmt: skip
    assert found == {(0.1, 0.2, 0.3, 0.4, 0.5), (0.2, 0.1, 0.3, 0.5, 0.4)}


def test_batches_without_point_weights_join_as_weights_of_one() -> None:
    batch = Batch(
        torch.zeros(2, 3, 4, 4),
        torch.zeros(2, 5, 2),
        torch.ones(2, 5, dtype=torch.bool),
        torch.zeros(2, 2, 3),
        torch.arange(2),
        torch.ones(2),
    )
    told = batch._replace(point_weight=torch.full((2, 5), 0.5))
    assert join([batch, told]).weights().tolist() == [[1.0] * 5] * 2 + [[0.5] * 5] * 2


# --------------------------------------------------------------------------------------------------------------------
# Trust in the losses


def test_a_point_of_weight_0_changes_neither_loss_nor_gradient() -> None:
    target = torch.zeros(1, 3, 2)
    predicted = torch.tensor([[[1.0, 1], [2, 2], [50, 50]]], requires_grad=True)
    seen, loss = torch.ones(1, 3, dtype=torch.bool), LossConfig(kind="l1")
    found = landmark_loss(predicted, target, seen, torch.tensor([[1.0, 1, 0]]), loss)
    found.backward()
    assert found.item() == 1.5  # the mean of 1 and 2
    assert predicted.grad is not None
    assert predicted.grad[0, 2].tolist() == [0, 0]


def test_a_face_of_weight_one_half_counts_half() -> None:
    predicted, target = torch.tensor([[[2.0, 2]], [[8, 8]]]), torch.zeros(2, 1, 2)
    seen = torch.ones(2, 1, dtype=torch.bool)
    found = landmark_loss(predicted, target, seen, torch.tensor([1.0, 0.5]), LossConfig(kind="l1"))
    assert float(found) == pytest.approx((2 * 1 + 8 * 0.5) / 1.5)


def test_maps_curves_and_candidates_weigh_points_too() -> None:
    landmarks, seen = torch.zeros(1, 5, 2), torch.tensor([[True, True, True, True, False]])
    points = torch.tensor([[0.5, 1.0, 0.0, 0.25, 0.75]])
    landmarks[0, 1] = torch.nan
    assert map_weights(landmarks, seen, points, 0.0).tolist() == [[0.5, 0, 0, 0.25, 0, 0.75]]
    assert map_weights(landmarks, seen, torch.tensor([2.0]), 0.0).tolist() == [[2, 0, 2, 2, 0, 2]]
    assert curve_weights(points, FIVE).tolist() == [[0.25]]  # the mouth goes from point 3 to point 4
    candidates = torch.tensor([[[[3.0, 3], [9, 9]]]])  # one face, one candidate, two points
    all_seen = torch.ones(1, 2, dtype=torch.bool)
    losses, amount = candidate_losses(
        candidates, torch.zeros(1, 2, 2), all_seen, LossConfig(kind="l1"), torch.tensor([[1.0, 0.5]])
    )
    assert (losses.item(), amount.item()) == (pytest.approx((3 + 4.5) / 1.5), 1.5)


# --------------------------------------------------------------------------------------------------------------------
# Looking


def test_looks_are_a_plain_one_jittered_ones_and_their_mirror_images() -> None:
    looks = looks_of(LookConfig(jitters=2), FIVE)
    assert [look.mirrored for look in looks] == [False] * 3 + [True] * 3
    np.testing.assert_allclose(looks[0].affine(32), np.eye(2, 3))
    np.testing.assert_allclose(looks[3].affine(32), geometry.flip_affine(32))
    assert looks == looks_of(LookConfig(jitters=2), FIVE) != looks_of(LookConfig(jitters=2, seed=1), FIVE)
    assert len(looks_of(LookConfig(jitters=2), dataclasses.replace(FIVE, name="x", flip_pairs=()))) == 3


def test_a_perfect_detector_finds_the_truth_from_every_look(surveyed: FaceDataset) -> None:
    answers = ask([loaded()], surveyed, LookConfig(jitters=3, rotation=15, scale=0.2, shift=0.1, refine=1))
    assert answers.positions.tolist() == [0, 1, 3]
    assert answers.landmarks.shape == (3, 8, 5, 2)
    np.testing.assert_allclose(answers.landmarks, np.broadcast_to(TRUTH, (3, 8, 5, 2)), atol=0.1)


def test_a_detector_that_leans_does_so_alike_on_both_sides_of_a_mirror(surveyed: FaceDataset) -> None:
    """Of a card that tells, every look answers alike, and the mean is the plain answer; of one that does not, looks
    fall apart in two."""
    spoilt = LoadedDetector(model=Surveyor(lean=0.02), schema=FIVE, crop=CropConfig(size=48), card={})
    faces = surveyed.take([1, 3])
    cache = CropCache(faces, spoilt.crop)
    plain = answer_crops(spoilt.model, cache).landmarks
    assert lean_on(spoilt.model, cache) == pytest.approx(0.02, abs=1e-4)
    for told in (0.02, 0.0):
        right = dataclasses.replace(spoilt, lean=told)
        looks = ask([right], faces, LookConfig(refine=0), use_labels=True).landmarks
        assert np.allclose(looks[:, 0], looks[:, 1], atol=0.1) == bool(told)
        averaged = answer_crops(spoilt.model, cache, flip_average=True, lean=told).landmarks
        assert np.allclose(averaged, plain, atol=0.1) == bool(told)


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_every_round_of_cutting_again_takes_the_crop_nearer(surveyed: FaceDataset, rounds: int) -> None:
    """The spoilt detector errs by 0.4 of the box's offset, and so does the next box: 0.4 ** (rounds +
    1) of the first offset is left."""
    answers = ask([loaded(0.4)], surveyed.take([1, 3]), LookConfig(flip=False, refine=rounds))
    off = (answers.landmarks[:, 0] - TRUTH).mean(axis=1)
    np.testing.assert_allclose(off, np.array([[6.0, 6], [-5, -5]]) * 0.4 ** (rounds + 1), atol=0.1)
    before = 0.4**rounds - 0.4 ** (rounds + 1) if rounds else 0.0
    np.testing.assert_allclose(answers.settled, np.array([[6.0], [5]]) * 2**0.5 * before * np.ones(5), atol=0.15)


def test_a_picture_that_cannot_be_read_is_counted_and_the_rest_is_done(surveyed: FaceDataset) -> None:
    answers = ask([loaded()], surveyed, LookConfig(refine=0))
    assert len(answers.unreadable) == 1
    assert "2.png" in answers.unreadable[0]
    with pytest.raises(UserError, match="none of 1 picture can be read"):
        ask([loaded()], surveyed.take([2]), LookConfig())


def test_detectors_of_another_markup_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a": loaded(), "b": loaded(schema=AFLW19)}
    monkeypatch.setattr(ensemble, "load_detector", lambda run, _: found[str(run)])
    with pytest.raises(
        UserError,
        match=r"^b: this detector answers in aflw19 \(19 points\), expected five \(5 points\) as the data set has",
    ):
        load_ensemble([Path("a"), Path("b")], FIVE, "cpu")
    assert len(load_ensemble([Path("a"), Path("a")], FIVE, "cpu")) == 2


# --------------------------------------------------------------------------------------------------------------------
# The jobs


def test_pseudo_labels_of_a_perfect_detector_are_the_truth_and_fully_trusted(
    surveyed: FaceDataset, tmp_path: Path, perfect: None, capsys
) -> None:
    pseudo_label.main(
        PseudoLabel(data=surveyed.folder, detectors=(Path("run"),), out=tmp_path / "out", accelerator="cpu")
    )
    made = FaceDataset.open(tmp_path / "out")
    assert made.ids() == ["f0", "f1", "f3"]
    for sample in made:
        np.testing.assert_allclose(sample.landmarks, TRUTH, atol=0.1)
        assert sample.trust is not None
        assert sample.trust > 0.95
        assert sample.point_trust is not None
        assert sample.point_trust.min() > 0.95
        assert (sample.split, dict(sample.attributes)) == ("train", {"pseudo": True})
        assert sample.image.parent == surveyed.folder.parent
    assert made.verify() == []
    assert made.meta["how"]["inputs"]["detectors"][0]["hash"] == "f" * 64
    told = json.loads((tmp_path / "out" / "trust.json").read_text())
    assert (told["faces"], told["kept"], told["unreadable"]) == (4, 3, 1)
    assert "1 picture left out that could not be read" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"dataset.yaml", "index.jsonl", "trust.json",
        "keep_rate.png", "disagreement.png", "sheets"}  # fmt: skip


def test_parts_of_the_faces_asked_beside_each_other_give_the_same_data_set(
    surveyed: FaceDataset, tmp_path: Path, perfect: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group a face: one part has the picture that cannot be read and nothing else."""
    for module in (ensemble, parts):
        monkeypatch.setattr(module, "FACES_AT_ONCE", 1)
    asked: list[str] = []

    def in_this_process(jobs: list[Job], place: Pool, what: str) -> dict[str, str]:
        for each in jobs:
            pseudo_label.main(from_dict(PseudoLabel, read_yaml(Path(each.command[-1]))))
            asked.append(each.name)
        return {}

    monkeypatch.setattr(parts, "run_jobs", in_this_process)
    config = PseudoLabel(
        data=surveyed.folder, detectors=(Path("run"),), out=tmp_path / "one" / "out", accelerator="cpu"
    )
    pseudo_label.main(config)
    beside = dataclasses.replace(config, out=tmp_path / "four" / "out", jobs=4)
    pseudo_label.main(beside)
    assert asked == ["part 1 of 4", "part 2 of 4", "part 3 of 4", "part 4 of 4"]
    found = tree(tmp_path / "four")
    assert found.keys() == tree(tmp_path / "one").keys(), "no part is left"
    assert found == {name: data.replace(b"/one/", b"/four/") for name, data in tree(tmp_path / "one").items()}


def test_parts_of_a_stopped_command_are_removed_by_one_without_jobs_and_another_folder_is_not(
    surveyed: FaceDataset, tmp_path: Path, perfect: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ensemble, parts):
        monkeypatch.setattr(module, "FACES_AT_ONCE", 1)

    def stopped_after_the_first(jobs: list[Job], place: Pool, what: str) -> dict[str, str]:
        pseudo_label.main(from_dict(PseudoLabel, read_yaml(Path(jobs[0].command[-1]))))
        raise KeyboardInterrupt

    monkeypatch.setattr(parts, "run_jobs", stopped_after_the_first)
    config = PseudoLabel(data=surveyed.folder, detectors=(Path("run"),), out=tmp_path / "out", accelerator="cpu")
    with pytest.raises(KeyboardInterrupt):
        pseudo_label.main(dataclasses.replace(config, jobs=4))
    assert list((tmp_path / "out.parts").glob("*.safetensors")), "as a kill leaves it"
    pseudo_label.main(config)
    assert not (tmp_path / "out.parts").exists()
    (tmp_path / "other.parts").mkdir()
    (tmp_path / "other.parts" / "precious.txt").touch()
    pseudo_label.main(dataclasses.replace(config, out=tmp_path / "other"))
    assert (tmp_path / "other.parts" / "precious.txt").exists()


def test_parts_are_whole_groups_and_together_all_faces() -> None:
    for faces, of in ((1, 1), (32, 1), (33, 2), (1000, 7), (64, 5)):
        ranges = [parts.range_of((k, of), faces) for k in range(of)]
        assert [i for each in ranges for i in each] == list(range(faces))
        assert all(each.start % 32 == 0 or not each for each in ranges)


def test_a_filter_that_drops_all_leaves_nothing_behind(surveyed: FaceDataset, tmp_path: Path, perfect: None) -> None:
    job = PseudoLabel(
        data=surveyed.folder, detectors=(Path("run"),), out=tmp_path / "out", max_disagreement=1e-9, accelerator="cpu"
    )
    with pytest.raises(UserError, match="max_disagreement 1e-09 drops all 3 faces"):
        pseudo_label.main(job)
    assert list(tmp_path.iterdir()) == []


def test_one_look_alone_is_refused(surveyed: FaceDataset, tmp_path: Path, perfect: None) -> None:
    job = PseudoLabel(
        data=surveyed.folder,
        detectors=(Path("run"),),
        out=tmp_path / "out",
        look=LookConfig(flip=False),
        accelerator="cpu",
    )
    with pytest.raises(UserError, match="cannot disagree with itself"):
        pseudo_label.main(job)


def test_labels_are_trusted_by_their_distance_from_what_an_independent_detector_finds(
    surveyed: FaceDataset, tmp_path: Path, perfect: None
) -> None:
    """The eyes are 31.2 px apart. Face 0 has true labels, face 1 all of them off by 3.12 px,
    face 3 its nose alone by 15.6 px."""
    moved = [TRUTH, np.add(TRUTH, [3.12, 0]), TRUTH, TRUTH + np.eye(5)[:, 2:3] * [0, 15.6]]
    from_face = [Provenance(content_id=f"c{i}", style_id=None, translator="t", seed=0) for i in range(4)]
    samples = [
        dataclasses.replace(s, landmarks=m, provenance=p) for s, m, p in zip(surveyed, moved, from_face, strict=True)
    ]
    how = {"verb": "generate", "inputs": {"data": {"content_hash": "of the real faces"}}}
    data = write_dataset(
        tmp_path / "data",
        samples[:2] + samples[3:],
        schema=FIVE,
        name="made",
        image_root=surveyed.folder.parent,
        how=how,
    )
    trust_job.main(Trust(data=data.folder, detectors=(Path("run"),), out=tmp_path / "out", half=0.1, accelerator="cpu"))
    made = FaceDataset.open(tmp_path / "out")
    np.testing.assert_allclose(
        [s.trust for s in made], [1, 0.5, 0.5], atol=0.02
    )  # the nose's 0.5 is 0.1 over five points
    np.testing.assert_allclose(
        made[2].point_trust, [1, 1, 0.5**4, 1, 1], atol=0.02
    )  # 0.5 - 0.1 beyond its face's: 4 halves
    np.testing.assert_array_equal(made[2].landmarks, np.float32(moved[3]))
    assert made[1].provenance == from_face[1]
    assert made.meta["how"]["inputs"]["data"] == {
        "content_hash": "of the real faces"
    }  # so that training still sees whose labels they are
    trust_job.main(
        Trust(
            data=data.folder,
            detectors=(Path("run"),),
            out=tmp_path / "kept",
            max_disagreement=0.05,
            weigh=False,
            sheet_faces=0,
            accelerator="cpu",
        )
    )
    kept = FaceDataset.open(tmp_path / "kept")
    assert (kept.ids(), kept[0].trust) == (["f0"], None)


def test_known_labels_are_compared_with_but_never_looked_at(
    tmp_path: Path, surveyed: FaceDataset, perfect: None
) -> None:
    samples = [dataclasses.replace(surveyed[i], landmarks=np.add(TRUTH, [500.0, 0])) for i in (0, 1)]
    data = write_dataset(tmp_path / "data", samples, schema=FIVE, name="made", image_root=surveyed.folder.parent)
    pseudo_label.main(
        PseudoLabel(data=data.folder, detectors=(Path("run"),), out=tmp_path / "out", sheet_faces=0, accelerator="cpu")
    )
    np.testing.assert_allclose(FaceDataset.open(tmp_path / "out")[0].landmarks, TRUTH, atol=0.1)
    assert json.loads((tmp_path / "out" / "trust.json").read_text())["nme"] == pytest.approx(500 / 31.2, rel=0.01)
