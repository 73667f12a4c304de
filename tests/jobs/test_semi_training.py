"""Learning from faces without labels: the mean teacher, rounds of self-training, starting
from other weights, pre-training."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from builders.dots import dots
from builders.tiny import LOOP, detector_job, metrics_of
from stylealign.batches import together
from stylealign.batches.augment import NO_AUGMENTATION, AugmentConfig, augment, invert, transform
from stylealign.batches.batch import Batch, take_faces
from stylealign.batches.crops import CropCache, mean_shape
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.detectors import build_detector
from stylealign.detectors import learning as learning_module
from stylealign.detectors.encoder import Encoder, EncoderConfig, elastic, gaussians_at, picture_loss, soft_points
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNetConfig
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.sample import Provenance
from stylealign.face.schema import FIVE, IBUG68
from stylealign.jobs import prepare, pretrain, self_train
from stylealign.jobs.prepare import Prepare, Source
from stylealign.jobs.pretrain import Pretrain
from stylealign.jobs.pseudo_label.labelling import describe
from stylealign.jobs.self_train import SelfTrain
from stylealign.jobs.train_detector import beside
from stylealign.jobs.train_detector.job import TrainDetector
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.trust import Trust
from stylealign.styling.chain import StyleConfig
from stylealign.training.faces import DataSource, Part, resolve_data
from stylealign.training.fan_out import Job
from stylealign.training.mean_teacher import (
    TeacherConfig,
    labelled_by_teacher,
    ramp,
    teacher_faces,
    unlabelled_in_batch,
)
from stylealign.training.processes import Pool
from stylealign.training.seen import data_learnt
from stylealign.training.warm_start import start_from
from stylealign.training.weights import read_card, read_tensors

SIZE, MARGIN_SIZE = 32, 40


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """12 labelled dot faces, 8 of them to train on."""
    return dots(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """6 dot faces without labels."""
    folder = tmp_path_factory.mktemp("data")
    known = dots(folder / "known", 6, seed=5, splits=("unlabelled",), name="blind")
    samples = [dataclasses.replace(s, landmarks=None) for s in known]
    return write_dataset(folder / "blind", samples, schema=FIVE, name="blind", image_root=known.image_root)


@pytest.fixture(scope="module")
def teaching(faces: FaceDataset, blind: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps with a teacher."""
    run = tmp_path_factory.mktemp("runs") / "teaching"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        train_detector(teacher_job(run, faces, blind))
    return run


def teacher_job(run: Path, faces: FaceDataset, blind: FaceDataset, **changes: Any) -> Any:
    teacher = TeacherConfig(data=blind.folder, share=0.5, ramp_up=0.5)
    return detector_job(run, faces.folder, **{"teacher": teacher, "style": StyleConfig(preset="free"), **changes})


# --------------------------------------------------------------------------------------------------------------------
# The mean teacher


class Fixed(nn.Module):
    """Answers the same landmarks for a picture, and others for its mirror image: told apart by the sign of red."""

    def __init__(self, plain: torch.Tensor, mirrored: torch.Tensor):
        super().__init__()
        self.plain, self.mirrored = plain, mirrored

    def forward(self, image: torch.Tensor) -> DetectorOutput:
        left = image[:, 0, :, : SIZE // 2].mean(dim=(1, 2)) > 0
        return DetectorOutput(torch.where(left[:, None, None], self.plain, self.mirrored))


def half_red(num: int) -> Batch:
    """Pictures red on the left, with a margin, and labels that nobody must look at."""
    image = torch.full((num, 3, MARGIN_SIZE, MARGIN_SIZE), -1.0)
    image[:, 0, :, : MARGIN_SIZE // 2] = 1.0
    return Batch(
        image, torch.full((num, 5, 2), 1e6), torch.zeros(num, 5, dtype=torch.bool),
        torch.eye(2, 3).double().expand(num, 2, 3),
        torch.arange(num), torch.ones(num),
    )  # fmt: skip


PLAIN = torch.tensor([[8.0, 9], [22, 10], [15, 16], [10, 24], [20, 23]])


def test_a_teachers_label_is_the_mean_of_both_answers_and_its_trust_their_agreement() -> None:
    """The mirror image's answers, mirrored back and renumbered, agree but for the nose: 3.2 px, a tenth of
    the crop, two halves of 0.05."""
    back = PLAIN.clone()
    back[2, 0] += 3.2
    mirrored = torch.stack([SIZE - 1 - back[:, 0], back[:, 1]], dim=1)[[1, 0, 2, 4, 3]]
    found = labelled_by_teacher(Fixed(PLAIN, mirrored), half_red(2), SIZE, TeacherConfig(half=0.05), FIVE, 0.7)
    expected = PLAIN + 4.0  # the margin of 40 px round 32
    expected[2, 0] += 1.6
    torch.testing.assert_close(found.landmarks, expected.expand(2, 5, 2))
    torch.testing.assert_close(found.point_weight, torch.tensor([1.0, 1, 0.25, 1, 1]).expand(2, 5))
    torch.testing.assert_close(found.weights(), 0.7 * found.point_weight)
    assert bool(found.visible.all())
    config = TeacherConfig(half=0.05, threshold=0.3)
    strict = labelled_by_teacher(Fixed(PLAIN, mirrored), half_red(2), SIZE, config, FIVE, 0.7)
    assert strict.point_weight[0].tolist() == [1, 1, 0, 1, 1]

    leaning = Fixed(
        PLAIN + torch.tensor([2.0, 0]), mirrored + torch.tensor([2.0, 0])
    )  # right of its places, both times
    known = labelled_by_teacher(leaning, half_red(2), SIZE, TeacherConfig(half=0.05), FIVE, 0.7, leans=True)
    torch.testing.assert_close(known.landmarks.mean((0, 1)), (PLAIN + torch.tensor([6.0, 4.0])).mean(0))


def test_a_teachers_labels_that_lean_right_lean_right_in_mirrored_faces_too() -> None:
    """As people's do (`Batch.lean`): crops of twice their pictures' size, answers 2 px to the right on either side."""
    right = torch.tensor([2.0, 0])
    shape = (PLAIN + (torch.tensor([SIZE - 1.0, 0]) + PLAIN * torch.tensor([-1.0, 1]))[[1, 0, 2, 4, 3]]) / 2
    batch = half_red(16)._replace(crop_from_source=2 * torch.eye(2, 3).double().expand(16, 2, 3))
    teacher = Fixed(shape + right, shape + right)  # which is its own mirror image
    known = labelled_by_teacher(teacher, batch, SIZE, TeacherConfig(), FIVE, 1.0, leans=True)
    torch.testing.assert_close(known.leans(), torch.ones(16))  # px of the picture
    mirroring = dataclasses.replace(NO_AUGMENTATION, flip=True)
    seen = augment(known, SIZE, mirroring, torch.Generator().manual_seed(3), FIVE)
    assert 0 < int((seen.crop_from_source[:, :, :2].det() < 0).sum()) < 16
    torch.testing.assert_close(seen.landmarks, (shape + right).expand(16, 5, 2))
    unknown = labelled_by_teacher(teacher, batch, SIZE, TeacherConfig(), FIVE, 1.0)
    assert not unknown.leans().any()


def test_a_teachers_lean_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two faces on which it leans by 1 px and by 3, one in each of two processes: both learn what one process would."""

    class ByFace(nn.Module):
        def forward(self, image: torch.Tensor) -> DetectorOutput:
            return DetectorOutput(PLAIN + image[:, :1, 0, 0, None] * torch.tensor([1.0, 0]))

    whole = half_red(2)
    whole.image[0, 0], whole.image[1, 0] = 1.0, 3.0
    one = labelled_by_teacher(ByFace(), whole, SIZE, TeacherConfig(), FIVE, 1.0, leans=True)
    sent: list[torch.Tensor] = []

    def part(rank: int) -> Batch:
        return labelled_by_teacher(
            ByFace(), take_faces(whole, torch.tensor([rank])), SIZE, TeacherConfig(), FIVE, 1.0, leans=True
        )

    monkeypatch.setattr(together, "_sum", lambda value: sent.append(value) or value)
    for rank in range(2):
        with together.spread(rank, 2):
            part(rank)
    assert len(sent) == 2
    monkeypatch.setattr(together, "_sum", lambda value: sent[0] + sent[1])
    for rank in range(2):
        with together.spread(rank, 2):
            found = part(rank)
        torch.testing.assert_close(found.landmarks[0], one.landmarks[rank])
        torch.testing.assert_close(found.point_weight[0], one.point_weight[rank])
        torch.testing.assert_close(found.leans()[0], one.leans()[rank])


def test_a_teachers_labels_move_exactly_with_the_picture_mirrored_or_not() -> None:
    """Taken home through the inverse of crop_from_source, they are where the teacher saw them; a
    mirrored face's are renumbered."""
    mirrored = torch.stack([SIZE - 1 - PLAIN[:, 0], PLAIN[:, 1]], dim=1)[[1, 0, 2, 4, 3]]
    before = labelled_by_teacher(Fixed(PLAIN, mirrored), half_red(16), SIZE, TeacherConfig(), FIVE, 1.0)
    before = before._replace(point_weight=torch.arange(5.0).expand(16, 5))  # to see where each goes
    after = augment(before, SIZE, AugmentConfig(), torch.Generator().manual_seed(3), FIVE)
    home = transform(invert(after.crop_from_source), after.landmarks.double())
    flipped = after.crop_from_source[:, :, :2].det() < 0
    assert 0 < int(flipped.sum()) < 16
    order = torch.tensor([1, 0, 2, 4, 3])
    for i in range(16):
        rows = order if flipped[i] else torch.arange(5)
        torch.testing.assert_close(home[i].float(), (PLAIN + 4)[rows], atol=1e-4, rtol=0)
        assert after.point_weight[i].tolist() == rows.tolist()


def test_the_teachers_weight_rises_as_published() -> None:
    assert ramp(0, 100, 0.5) == pytest.approx(math.exp(-5))
    assert ramp(25, 100, 0.5) == pytest.approx(math.exp(-1.25))
    assert [ramp(50, 100, 0.5), ramp(99, 100, 0.5), ramp(0, 100, 0.0)] == [1, 1, 1]


def test_a_run_with_a_teacher_stopped_and_continued_is_bitwise_the_same(
    teaching: Path, tmp_path: Path, faces: FaceDataset, blind: FaceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = learning_module.landmark_loss, []

    def failing(*arguments: Any) -> torch.Tensor:
        calls.append(len(arguments[0]))
        if len(calls) == 5:  # one update after the checkpoint of step 3
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(learning_module, "landmark_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        train_detector(teacher_job(tmp_path / "run", faces, blind))
    assert set(calls) == {4}  # two labelled faces and two others: the batch is no larger
    monkeypatch.setattr(learning_module, "landmark_loss", original)
    train_detector(teacher_job(tmp_path / "run", faces, blind))
    assert metrics_of(tmp_path / "run") == metrics_of(teaching)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (teaching / "model.safetensors").read_bytes()


def test_a_teachers_run_says_what_it_saw_and_how_far_it_was_trusted(teaching: Path, blind: FaceDataset) -> None:
    assert read_card(teaching)["teacher_data"]["content_hash"] == blind.content_hash
    steps = [row for row in metrics_of(teaching) if "teacher_trust" in row]
    assert len(steps) == 6
    assert all(0 < row["teacher_trust"] <= 1 and row["teacher_used"] == 1 for row in steps)


def test_unlabelled_faces_change_what_is_learnt(
    teaching: Path, tmp_path: Path, faces: FaceDataset, blind: FaceDataset
) -> None:
    """With weight 0 the same batches teach nothing but the normalisations; the full weight ends elsewhere."""
    silent = TeacherConfig(data=blind.folder, share=0.5, ramp_up=0.5, weight=0.0)
    train_detector(teacher_job(tmp_path / "silent", faces, blind, teacher=silent))
    loud, quiet = (read_tensors(run / "model.safetensors")["fc.weight"] for run in (teaching, tmp_path / "silent"))
    assert not torch.equal(loud, quiet)


def test_a_teacher_is_refused_where_it_cannot_teach(tmp_path: Path, faces: FaceDataset, blind: FaceDataset) -> None:
    for changes, sentence in (
        ({"model": "lab"}, "expected one of resnet18, wing"),
        ({"loop": {"ema_decay": 0.0}}, "the teacher is the averaged weights"),
    ):
        with pytest.raises(UserError, match=sentence):
            train_detector(teacher_job(tmp_path / "run", faces, blind, **changes))
    other = write_dataset(
        tmp_path / "other",
        [dataclasses.replace(s, landmarks=None) for s in blind],
        schema=IBUG68,
        name="o",
        image_root=blind.image_root,
    )
    with pytest.raises(UserError, match="its mark-up is ibug68, expected five"):
        train_detector(teacher_job(tmp_path / "run", faces, other))
    with pytest.raises(UserError, match=r"a batch of 4 faces with teacher.share 0.01 has 0 unlabelled ones"):
        unlabelled_in_batch(4, 0.01, 1)
    assert unlabelled_in_batch(32, 0.25, 2) == 8


# --------------------------------------------------------------------------------------------------------------------
# Starting from another run


def test_a_detector_starts_from_another_with_all_its_weights(teaching: Path) -> None:
    model = build_detector("resnet18", (FIVE,), SIZE, ResNetConfig(width=4))
    start = start_from(model, teaching, FIVE)
    assert start["fresh"] == []
    learnt = read_card(teaching)["data"]
    assert start["data"] == learnt
    assert data_learnt({"data": learnt, "start": start}) == learnt
    other = {**learnt[0], "split": "val"}
    assert data_learnt({"data": [other], "start": start}) == [other, *learnt]
    there = read_tensors(teaching / "model.safetensors")
    assert all(torch.equal(value, there[key]) for key, value in model.state_dict().items())


def test_a_start_that_saw_more_labels_than_the_training_is_warned_of(
    teaching: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(role: str, split: str, subset: str | None, of: FaceDataset = faces) -> str:
        model = build_detector("resnet18", (FIVE,), SIZE, ResNetConfig(width=4))
        start_from(model, teaching, FIVE, [Part(of, 1.0, {"role": role, "split": split, "subset": subset})])
        return capsys.readouterr().err

    warning = "learnt from split train, subset all of dots, expected split {}: labels that must not be seen"
    assert warning.format("train, subset few") in said("real", "train", "few")
    assert warning.format("val, subset all") in said("real", "val", None)
    assert said("real", "train", None) + said("synthetic", "train", "few") == ""


def test_unlabelled_faces_that_are_measured_on_are_warned_of(
    faces: FaceDataset, blind: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    for data, split, said in ((faces, None, "val"), (faces, "val", "val"), (faces, "train", ""), (blind, None, "")):
        teacher_faces(TeacherConfig(data=data.folder, split=split), FIVE, 0.9)
        found = capsys.readouterr().err
        assert ("must not be measured there" in found) == bool(said)
        assert f"shows pictures of split {said}" in found or not said


def test_heads_that_do_not_fit_start_fresh_and_are_named(teaching: Path) -> None:
    for schema in (IBUG68, dataclasses.replace(FIVE, name="other_five")):  # another number of points; other points
        model = build_detector("resnet18", (schema,), SIZE, ResNetConfig(width=4))
        head = model.fc.weight.clone()
        assert start_from(model, teaching, schema)["fresh"] == ["fc.weight", "fc.bias"]
        assert torch.equal(model.fc.weight, head)
        assert torch.equal(
            model.layer4[1].bn2.running_var, read_tensors(teaching / "model.safetensors")["layer4.1.bn2.running_var"]
        )


def test_a_start_of_which_next_to_nothing_fits_is_refused(teaching: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"of this detector's 20 convolutions fitting \(there: resnet18, width 4\): expected the same network",
    ):
        start_from(build_detector("resnet18", (FIVE,), SIZE, ResNetConfig(width=6)), teaching, FIVE)
    (tmp_path / "card.json").write_text(json.dumps({"kind": "translator"}))
    with pytest.raises(UserError, match="holds a translator, expected a detector or an encoder"):
        start_from(build_detector("resnet18", (FIVE,), SIZE, ResNetConfig(width=4)), tmp_path, FIVE)


# --------------------------------------------------------------------------------------------------------------------
# Self-training


def test_self_training_labels_with_what_it_learnt_and_continues_where_it_stopped(
    faces: FaceDataset,
    blind: FaceDataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {
        "crop": {"size": 32}, "resnet": {"width": 4},
        "loop": {"steps": 2, "batch_size": 4, "preview_every": 0, "accelerator": "cpu"},
    }  # fmt: skip
    write_dataset(tmp_path / "blind", list(blind), schema=FIVE, name="blind", image_root=blind.image_root)
    job = SelfTrain(
        labelled=faces.folder, unlabelled=tmp_path / "blind", out=tmp_path / "out", rounds=1, share=0.5, detector=small,
        pseudo_label={"keep": 0.5, "sheet_faces": 0, "accelerator": "cpu"},
    )  # fmt: skip
    trained: list[Path] = []
    monkeypatch.setattr(
        self_train.detector, "main", lambda config: (trained.append(config.run), train_detector(config))
    )
    self_train.main(job)
    assert [str(run.relative_to(tmp_path / "out")) for run in trained] == [
        "round_0/s0",
        "round_0/s1",
        "round_1/s0",
        "round_1/s1",
    ]
    pseudo = FaceDataset.open(tmp_path / "out" / "round_1" / "pseudo")
    assert len(pseudo) == 3  # half of 6
    assert [d["run"] for d in pseudo.meta["how"]["inputs"]["detectors"]] == [str(run) for run in trained[:2]]
    assert [(d["faces"], d["share"]) for d in read_card(trained[2])["data"]] == [(8, 0.5), (3, 0.5)]
    table = json.loads((tmp_path / "out" / "rounds.json").read_text())
    assert [(row["round"], len(row["val_nme"]), row.get("pseudo_faces")) for row in table] == [(0, 2, None), (1, 2, 3)]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("card.json")}
    self_train.main(job)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("card.json")}
    with pytest.raises(UserError, match=r"another recipe \(share: 0.5 there, 0.25 now\)"):
        self_train.main(dataclasses.replace(job, share=0.25))

    # What is missing may be trained in another way: by commands beside each other, which give the same.
    def in_this_process(jobs: list[Job], place: Pool, what: str) -> dict[str, str]:
        assert (what, place.slots, [each.name for each in jobs]) == ("round 1", 2, ["round 1, seed 1"])
        return {each.name: "" for each in jobs if main(list(each.command[3:])) != 0}

    monkeypatch.setattr(self_train.detector, "main", train_detector)
    monkeypatch.setattr(beside, "run_jobs", in_this_process)
    shutil.rmtree(trained[3])
    self_train.main(dataclasses.replace(job, jobs=2))
    assert json.loads((tmp_path / "out" / "rounds.json").read_text()) == table
    shutil.rmtree(tmp_path / "blind")
    write_dataset(tmp_path / "blind", list(blind)[1:], schema=FIVE, name="blind", image_root=blind.image_root)
    with pytest.raises(UserError, match=r"round_1/pseudo: labels of other faces than .*blind holds now \(content hash"):
        self_train.main(job)


def test_a_recipe_written_before_a_key_was_added_is_the_same(tmp_path: Path) -> None:
    job = SelfTrain(labelled=tmp_path, unlabelled=tmp_path, out=tmp_path / "out")
    saved = tmp_path / "out" / "self_train.yaml"
    self_train._same(saved, job)
    saved.write_text("".join(line for line in saved.read_text().splitlines(True) if not line.startswith("split:")))
    self_train._same(saved, job)
    with pytest.raises(UserError, match=r"another recipe \(split: 'train' there, 'dev' now\)"):
        self_train._same(saved, dataclasses.replace(job, split="dev"))


def test_self_training_keeps_its_own_values_to_itself(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="real: self-train sets it"):
        SelfTrain(labelled=tmp_path, unlabelled=tmp_path, out=tmp_path, detector={"real": "x"})


# --------------------------------------------------------------------------------------------------------------------
# Pre-training


def test_points_are_the_mean_places_of_their_heatmaps() -> None:
    scores = torch.full((1, 2, 4, 4), -1e4)
    scores[0, 0, 2, 1] = 0.0  # row 2, column 1: centres at 2.5 / 4 and 1.5 / 4
    scores[0, 1, 0, 0] = scores[0, 1, 0, 3] = 0.0  # halfway between two corners
    torch.testing.assert_close(soft_points(scores), torch.tensor([[[0.375, 0.625], [0.5, 0.125]]]))


def test_a_gaussian_is_1_at_its_point_and_falls_as_said() -> None:
    maps = gaussians_at(torch.tensor([[[0.375, 0.625]]]), 4, 0.25)
    assert maps.shape == (1, 1, 4, 4)
    assert maps[0, 0, 2, 1].item() == 1.0
    assert maps[0, 0, 2, 2].item() == pytest.approx(math.exp(-0.5))  # a cell is one sigma
    assert maps[0, 0, 0, 1].item() == pytest.approx(math.exp(-2.0))


def test_the_elastic_warp_shows_what_lies_at_the_offset() -> None:
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(elastic(image, torch.zeros(2, 2, 4, 4)), image, atol=1e-5, rtol=0)
    right = torch.zeros(2, 2, 4, 4)
    right[:, 0] = 2 / 16  # two pixels to the right
    torch.testing.assert_close(elastic(image, right)[..., :14], image[..., 2:], atol=1e-4, rtol=0)


def test_a_picture_compared_with_itself_costs_nothing_and_a_shade_of_grey_its_distance() -> None:
    image = torch.rand(1, 3, 16, 16)
    assert picture_loss(image, image).item() == 0
    assert picture_loss(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 16, 16), 0.5)).item() == pytest.approx(0.5)


def test_geometry_reaches_the_picture_through_the_points_alone() -> None:
    torch.manual_seed(0)
    net = Encoder(32, EncoderConfig(width=4, points=3, style_width=8)).eval()
    geometry, style = torch.rand(2, 1, 3, 32, 32)
    drawn, points, others = net(geometry, style)
    assert drawn.shape == (1, 3, 16, 16)
    assert points.shape == others.shape == (1, 3, 2)
    net.points = lambda image: torch.full((2, 3, 2), 0.5)  # type: ignore[method-assign]
    fixed = net(geometry, style)[0]
    assert not torch.equal(drawn, fixed)
    assert torch.equal(fixed, net(torch.rand(1, 3, 32, 32), style)[0])


def test_a_dot_found_in_either_view_is_taken_back_to_where_it_was(blind: FaceDataset, tmp_path: Path) -> None:
    """A bright dot in the margin crop; its centroid in each view, which is turned, scaled, moved,
    mirrored and bent, leads home."""
    y, x = torch.meshgrid(torch.arange(MARGIN_SIZE * 2.0), torch.arange(MARGIN_SIZE * 2.0), indexing="ij")
    places = torch.tensor([[38.0, 41.0], [30, 35], [48, 44], [41, 30]]).double()
    image = torch.stack(
        [torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 8).expand(3, -1, -1) for px, py in places.tolist()]
    )
    batch = half_red(4)._replace(image=image)
    config = dataclasses.replace(encoder_job(tmp_path, blind, blind), crop=CropConfig(size=64))
    made = pretrain.views(batch, 64, config, torch.Generator().manual_seed(1))
    assert torch.equal(made[0].affine[:, :, :2].det() < 0, made[1].affine[:, :, :2].det() < 0)
    for view in made:
        mass = view.image[:, :1] / view.image[:, :1].sum(dim=(2, 3), keepdim=True)
        centres = (torch.arange(64) + 0.5) / 64
        points = torch.stack([(mass.sum(dim=2) * centres).sum(dim=2), (mass.sum(dim=3) * centres).sum(dim=2)], dim=2)
        assert float((view.to_crop(points)[:, 0] - places).norm(dim=1).max()) < 0.4
    assert float((made[0].affine - made[1].affine).abs().max()) > 1


def test_other_colours_are_given_where_the_picture_lies(blind: FaceDataset, tmp_path: Path) -> None:
    """`meta` stands for a GPU: torch refuses whatever brings it together with what lies in the processor's memory."""
    image, generator = torch.zeros(4, 3, 32, 32, device="meta"), torch.Generator().manual_seed(0)
    made = pretrain.in_other_colours(image, encoder_job(tmp_path, blind, blind), generator, IBUG68)
    assert made.device.type == "meta"
    assert made.shape == image.shape


def encoder_job(run: Path, faces: FaceDataset, blind: FaceDataset) -> Pretrain:
    return Pretrain(
        run=run, data=(faces.folder, blind.folder), split="train", probe=faces.folder, crop=CropConfig(size=32),
        encoder=EncoderConfig(width=4, points=4, style_width=8), loop=LOOP,
    )  # fmt: skip


def test_pre_training_resumes_bitwise_and_a_detector_starts_from_its_trunk(
    faces: FaceDataset, blind: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain.main(encoder_job(tmp_path / "whole", faces, blind))
    original, calls = pretrain.picture_loss, []

    def failing(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(pretrain, "picture_loss", failing)
    with pytest.raises(KeyboardInterrupt):
        pretrain.main(encoder_job(tmp_path / "run", faces, blind))
    monkeypatch.setattr(pretrain, "picture_loss", original)
    pretrain.main(encoder_job(tmp_path / "run", faces, blind))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()
    card = read_card(tmp_path / "run", "encoder")
    assert [d["faces"] for d in card["data"]] == [8, 6]
    assert card["probe"]["faces"] == 4
    train_detector(detector_job(tmp_path / "started", faces.folder, init_from=tmp_path / "run", loop={"steps": 1}))
    start = read_card(tmp_path / "started")["start"]
    assert (start["kind"], start["fresh"]) == ("encoder", ["fc.weight", "fc.bias"])


# --------------------------------------------------------------------------------------------------------------------
# What pseudo-labels may be trained beside


def test_pseudo_labels_go_beside_a_budget_unless_their_detectors_saw_more(
    tmp_path: Path, faces: FaceDataset, blind: FaceDataset
) -> None:
    few = write_dataset(
        tmp_path / "few", [dataclasses.replace(s, attributes={"few": i < 3}) for i,
            s in enumerate(faces.select("train"))],
        schema=FIVE, name="few", image_root=faces.image_root,
    )  # fmt: skip

    def pseudo(name: str, subset: str | None, of_made_faces: bool = False) -> Path:
        learnt = [{"content_hash": few.content_hash, "split": "train", "subset": subset}]
        how = {"verb": "pseudo-label", "inputs": {"detectors": [{"run": "r", "data": learnt}]}}
        samples = [dataclasses.replace(s, id=f"p{s.id}", split="train") for s in faces]
        if of_made_faces:  # whose pictures were made from the labelled ones
            how["inputs"]["data"] = {"content_hash": few.content_hash}
            samples = [
                dataclasses.replace(
                    s, provenance=Provenance(content_id=s.id[1:], style_id=None, translator="t", seed=0)
                )
                for s in samples[: len(few)]
            ]  # fmt: skip
        return write_dataset(
            tmp_path / name, samples, schema=FIVE, name=name, image_root=faces.image_root, how=how
        ).folder

    def check(source: Path, num_pseudo: int, sentence: str | None) -> None:
        mixed = (DataSource(path=few.folder, subset="few"), DataSource(path=source))
        for values in ({"real": few.folder, "subset": "few", "synthetic": source}, {"data": mixed}):
            config = TrainDetector(run=tmp_path / "run", **values)
            if sentence:
                with pytest.raises(UserError, match=sentence):
                    resolve_data(config)
            else:
                assert [len(part.faces) for part in resolve_data(config)] == [3, num_pseudo]

    beyond = "labelled by r, which learnt from split train, subset all of .*expected split train, subset few"
    for source, num_pseudo, sentence in (
        (pseudo("within", "few"), 12, None),
        (pseudo("beyond", None), 0, beyond),
        (pseudo("made_within", "few", True), 3, None),
        (pseudo("made_beyond", None, True), 0, beyond),
    ):
        copied = tmp_path / f"{source.name}_copied"
        prepare.main(Prepare(reader="dataset", path=source, out=copied))
        weighed = tmp_path / f"{source.name}_weighed"
        judge = SimpleNamespace(card={"model_hash": "f" * 64, "model": "resnet18"})
        how = describe(
            Trust(data=copied, detectors=(Path("t"),), out=weighed), "trust", FaceDataset.open(copied), [judge]
        )
        write_dataset(
            weighed, list(FaceDataset.open(copied)), schema=FIVE, name="w", image_root=faces.image_root, how=how
        )
        for made in (source, copied, weighed):
            check(made, num_pseudo, sentence)
    sources = (Source(reader="dataset", path=few.folder), Source(reader="dataset", path=tmp_path / "beyond"))
    prepare.main(Prepare(sources=sources, out=tmp_path / "merged"))  # it is known all the same
    check(tmp_path / "merged", 0, beyond)


def test_a_landmark_that_one_source_never_trusts_is_the_others_mean(tmp_path: Path) -> None:
    def cache(*faces: list[list[float]]) -> Any:
        crop = SimpleNamespace(size=10)
        found = SimpleNamespace(
            landmarks=np.array(faces, np.float32), size=14, crop=crop, dataset=SimpleNamespace(folder=tmp_path)
        )
        found.label_sums = lambda: CropCache.label_sums(found)
        return found

    nan = float("nan")
    real = cache([[4, 4], [6, 8]], [[6, 4], [8, 8]])  # crop px with a margin of 2: means (3, 2) and (5, 6)
    pseudo = cache([[10, 10], [nan, nan]], [[nan, nan], [nan, nan]])
    np.testing.assert_allclose(mean_shape([real], [1.0]), [[3, 2], [5, 6]])
    np.testing.assert_allclose(
        mean_shape([real, pseudo], [0.75, 0.25]), [[0.75 * 3 + 0.25 * 8, 0.75 * 2 + 0.25 * 8], [5, 6]]
    )
    with pytest.raises(UserError, match=r"landmark 1 is labelled in no training face \(1 such"):
        mean_shape([pseudo], [1.0])
