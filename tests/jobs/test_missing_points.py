"""Faces that lack a landmark go through every job: it is no label, no place and no error, and stays missing."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import stylealign
from builders import networks, translator_contract
from builders.places import ROOT
from builders.tiny import detector_job, drawn, translator_job
from stylealign.batches.crops import CropCache, crop_sample, mean_shape
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.describe import whole_faces
from stylealign.data.predictions import write_predictions
from stylealign.detectors import DETECTORS
from stylealign.errors import UserError
from stylealign.evaluation.scoring import read_truth
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample, Prediction
from stylealign.jobs.generate.donor_points import donor_points
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_translator.job import main as train_translator
from stylealign.predicting.validation import Validation
from stylealign.training.weights import read_card
from stylealign.translators import trained_names
from stylealign.translators.loaded import load_translator
from stylealign.translators.swapping import encode_faces, structures_of

MISSING = 62  # of wflw98: the middle of an upper eyelid
CORNER = 72  # an outer eye corner, an end of the usual denominator
FAR = (5000.0, -5000.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn(tmp_path_factory.mktemp("whole") / "faces")


@pytest.fixture(scope="module")
def lacking(whole: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """The same faces; every second one lacks the middle of an eyelid and has nonsense for numbers there."""
    samples = []
    for i, sample in enumerate(whole):
        assert sample.landmarks is not None
        there = np.ones(98, bool)
        if i % 2:
            there[MISSING] = False
        landmarks = np.where(there[:, None], sample.landmarks, FAR)
        samples.append(
            dataclasses.replace(sample, landmarks=landmarks, visible=there, point_trust=there.astype(np.float32))
        )
    folder = tmp_path_factory.mktemp("lacking") / "faces"
    return write_dataset(folder, samples, schema=whole.schema, name="lacking", image_root=whole.image_root)


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_crops_and_mean_shapes_are_those_of_the_other_landmarks(
    whole: FaceDataset, lacking: FaceDataset, tmp_path: Path
) -> None:
    ours, theirs = (CropCache(faces, CropConfig(size=32), folder=tmp_path) for faces in (lacking, whole))
    inner = np.arange(98) != MISSING  # no eyelid is at the edge of a face
    assert np.array_equal(ours.affines, theirs.affines)
    assert np.array_equal(ours.landmarks[:, inner], theirs.landmarks[:, inner])
    assert np.isnan(ours.landmarks[1::2, MISSING]).all()
    placed = theirs.landmarks[::2, MISSING].mean(axis=0)
    assert np.allclose(mean_shape([ours], [1.0])[MISSING], placed, atol=1e-4)


def test_a_visible_landmark_of_trust_0_is_no_label_wherever_faces_are_cut(whole: FaceDataset, tmp_path: Path) -> None:
    doubted = []
    for sample in whole.take(range(4)):
        trust = np.ones(98, np.float32)
        trust[MISSING] = 0
        doubted.append(dataclasses.replace(sample, visible=None, point_trust=trust))
    faces = write_dataset(tmp_path / "d", doubted, schema=whole.schema, name="d", image_root=whole.image_root)
    crop, expected = CropConfig(size=32), np.arange(98) == MISSING
    cut = np.stack([crop_sample(sample, crop)[1] for sample in faces])
    bent_by = donor_points(faces, faces.schema, None, torch.device("cpu")).landmarks
    for landmarks in (CropCache(faces, crop, folder=tmp_path).landmarks, cut, bent_by):
        assert (np.isnan(landmarks).any(axis=2) == expected).all()


def refuse_odd_losses(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert values
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("resnet18", "lab"))) for n in DETECTORS]
)
def test_every_detector_learns_from_them_with_finite_losses(name: str, lacking: FaceDataset, tmp_path: Path) -> None:
    train_detector(networks.job(name, tmp_path / "run", lacking, steps=2))
    refuse_odd_losses(tmp_path / "run")


@pytest.mark.parametrize("name", trained_names())
def test_every_translator_learns_from_them_with_finite_losses(name: str, lacking: FaceDataset, tmp_path: Path) -> None:
    preset = translator_contract.tiny(name)
    changes = {"crop": CropConfig(size=preset.size, scale=1.6), name: preset.network}
    train_translator(translator_job(tmp_path / "run", lacking.folder, loop={"steps": 2}, model=name, **changes))
    refuse_odd_losses(tmp_path / "run")


@pytest.fixture(scope="module")
def trained(lacking: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_detector(detector_job(folder / "detector", lacking.folder, loop={"steps": 3}))
    train_translator(translator_job(folder / "translator", lacking.folder, loop={"steps": 3}))
    return folder


def test_faces_generated_from_them_lack_the_same_landmark(lacking: FaceDataset, trained: Path, tmp_path: Path) -> None:
    run("generate", "--data", lacking.folder, "--translator", trained / "translator", "--accept-gap",
        "--styles-per-face", 1, "--out", tmp_path / "made")  # fmt: skip
    before = {sample.id: sample for sample in lacking}
    made = FaceDataset.open(tmp_path / "made")
    for sample in made:
        assert sample.provenance is not None
        assert np.array_equal(sample.missing_points, before[sample.provenance.content_id].missing_points)
    assert any(sample.missing_points.any() for sample in made)


def test_a_missing_landmark_is_no_part_of_a_structure(lacking: FaceDataset, whole: FaceDataset, trained: Path) -> None:
    translator = load_translator(trained / "translator")
    structures, _ = structures_of([lacking[1]], translator.crop)
    known, _ = structures_of([whole[1]], translator.crop)
    known[0, MISSING] = np.nan
    ours = encode_faces(translator, lacking, [1], structures)
    theirs = encode_faces(translator, whole, [1], known)
    assert all(bool((a == b).all()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", ["run", "jsonl"])
def test_scores_leave_it_out(
    kind: str, lacking: FaceDataset, whole: FaceDataset, trained: Path, tmp_path: Path
) -> None:
    arm = trained / "detector"
    if kind == "jsonl":  # right but for the landmark that is missing, where it is far away
        rows, lack = [], {sample.id for sample in lacking if sample.missing_points.any()}
        for sample in whole.select("test"):
            assert sample.landmarks is not None
            found = sample.landmarks.astype(np.float64).copy()
            if sample.id in lack:
                found[MISSING] = FAR
            rows.append(Prediction(id=sample.id, landmarks=found))
        arm = tmp_path / "p.jsonl"
        write_predictions(arm, rows, "wflw98")
    run("evaluate", "--data", lacking.folder, "--arms", f"ours={arm}", "--out", tmp_path / "e", "--resamples", 100)
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())["arms"][0]
    if kind == "jsonl":
        assert found["nme"]["mean"] < 1e-5
        assert found["parts"]["eyes"]["mean"] < 1e-5
        assert np.abs(found["mean_offset_px"]).max() < 1e-3


def test_the_page_on_scores_from_arrays_leaves_it_out(lacking: FaceDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    (block,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "evaluate_landmarks(" in text)
    monkeypatch.chdir(lacking.folder.parent)
    names: dict[str, Any] = {"stylealign": stylealign}
    exec(compile(block, "api.md", "exec"), names)
    assert np.array_equal(np.isnan(names["truth"]).any(axis=2), [sample.missing_points for sample in lacking])
    corners = lacking.landmarks_array()[:, [60, CORNER]]
    eyes = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=-1)
    assert names["scores"].nme == pytest.approx(2**0.5 / eyes)


@pytest.mark.parametrize("format", ["csv", "coco", "ibug"])
def test_it_is_written_as_the_layout_says_it_and_read_back(format: str, lacking: FaceDataset, tmp_path: Path) -> None:
    run("export-dataset", "--data", lacking.folder, "--format", format, "--out", tmp_path / "out")
    reading = ["prepare", "--reader", format, "--path", tmp_path / "out", "--schema", "wflw98"]
    assert main([*map(str, reading), "--out", str(tmp_path / "refused")]) == 2
    run(*reading, "--missing", "keep", "--out", tmp_path / "back")
    back = list(FaceDataset.open(tmp_path / "back"))
    assert sum(sample.missing_points.any() for sample in back) == len(lacking) // 2

    def known(sample: FaceSample) -> np.ndarray:
        assert sample.landmarks is not None
        return sample.landmarks[np.arange(98) != MISSING].ravel()

    ours, theirs = (sorted(known(s).round(2).tolist() for s in faces) for faces in (lacking, back))
    assert np.allclose(ours, theirs, atol=0.02)
    for sample in back:
        assert sample.landmarks is not None
        if sample.missing_points.any():
            assert sample.missing_points.tolist() == [i == MISSING for i in range(98)]
            others = sample.landmarks[np.arange(98) != MISSING]
            assert np.allclose(sample.landmarks[MISSING], others.mean(axis=0), atol=1e-3)


@pytest.mark.parametrize("format", ["wflw", "list"])
def test_a_layout_that_cannot_say_it_refuses_the_face_by_name(
    format: str, lacking: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["export-dataset", "--data", str(lacking.folder), "--format", format, "--out", str(tmp_path / "o")]) == 2
    )
    said = capsys.readouterr().err
    assert f"missing, the first is {MISSING}, which {format} cannot say" in said
    assert not (tmp_path / "o").exists()


def test_trust_keeps_it_missing(lacking: FaceDataset, trained: Path, tmp_path: Path) -> None:
    run("trust", "--data", lacking.folder, "--detectors", trained / "detector", "--out", tmp_path / "trusted",
        "--accelerator", "cpu", "--sheet-faces", 0)  # fmt: skip
    before = {sample.id: sample for sample in lacking}
    for sample in FaceDataset.open(tmp_path / "trusted"):
        assert np.array_equal(sample.missing_points, before[sample.id].missing_points)


def test_jobs_that_need_whole_faces_leave_the_others_out_and_say_so(
    lacking: FaceDataset, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("stress", "--data", lacking.folder, "--split", "test", "--causes", "blur", "--strengths", 2, "--size", 32,
        "--out", tmp_path / "harder")  # fmt: skip
    assert "left out for want of some landmarks" in capsys.readouterr().err
    harder = FaceDataset.open(tmp_path / "harder")
    assert not any(sample.missing_points.any() for sample in harder)


def test_faces_that_all_lack_one_are_refused_where_whole_ones_are_needed(lacking: FaceDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="every face lacks some of its landmarks"):
        whole_faces(lacking.take(range(1, len(lacking), 2)), "this test")


def test_check_draws_them(lacking: FaceDataset, tmp_path: Path) -> None:
    run("check", lacking.folder, "--draw", 4, "--out", tmp_path / "sheets")
    assert list((tmp_path / "sheets").iterdir())


@pytest.fixture(scope="module")
def profiles(whole: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    """The same faces; every second one of a split lacks an outer eye corner, as profiles do."""
    samples, seen = [], dict.fromkeys(("train", "val", "test"), 0)
    for sample in whole:
        there = np.ones(98, bool)
        there[CORNER] = seen[sample.split] % 2 == 1
        seen[sample.split] += 1
        assert sample.landmarks is not None
        landmarks = np.where(there[:, None], sample.landmarks, FAR)
        samples.append(
            dataclasses.replace(sample, landmarks=landmarks, visible=there, point_trust=there.astype(np.float32))
        )
    folder = tmp_path_factory.mktemp("profiles") / "faces"
    return write_dataset(folder, samples, schema=whole.schema, name="profiles", image_root=whole.image_root)


def test_faces_without_an_end_of_the_denominator_are_left_out_of_scores_and_said(
    profiles: FaceDataset, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", "--data", profiles.folder, "--arms", f"ours={trained / 'detector'}", "--out", tmp_path / "e",
        "--resamples", 100)  # fmt: skip
    faces = profiles.select("test")
    known = [not sample.missing_points[CORNER] for sample in faces]
    assert 0 < sum(known) < len(known)
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert found["dataset"]["faces"] == sum(known)
    assert found["dataset"]["left_out"] == len(known) - sum(known)
    assert "left out: an end of inter_ocular" in capsys.readouterr().err
    assert "without it left out" in (tmp_path / "e" / "evaluation.md").read_text()
    run("evaluate", "--data", profiles.folder, "--arms", f"ours={trained / 'detector'}", "--out", tmp_path / "all",
        "--denominator", "landmark_box", "--resamples", 100)  # fmt: skip
    assert json.loads((tmp_path / "all" / "evaluation.json").read_text())["dataset"]["faces"] == len(known)


def test_a_training_measures_the_others_and_labels_are_judged_all_the_same(
    profiles: FaceDataset, trained: Path, tmp_path: Path
) -> None:
    train_detector(detector_job(tmp_path / "run", profiles.folder, loop={"steps": 2}))
    val = read_card(tmp_path / "run")["val"]
    assert val["faces"] == sum(not sample.missing_points[CORNER] for sample in profiles.select("val"))
    assert val["denominator"] == "inter_ocular"
    for verb in ("trust", "pseudo-label"):
        run(verb, "--data", profiles.folder, "--detectors", trained / "detector", tmp_path / "run", "--split", "train",
            "--out", tmp_path / verb, "--accelerator", "cpu", "--sheet-faces", 0)  # fmt: skip


def test_where_every_face_lacks_an_end_the_landmarks_box_stands_in_unless_it_was_asked_for(
    profiles: FaceDataset, tmp_path: Path
) -> None:
    lacking = profiles.take(i for i, sample in enumerate(profiles) if sample.missing_points[CORNER])
    folder = tmp_path / "lacking"
    write_dataset(folder, list(lacking), schema=profiles.schema, name="lacking", image_root=profiles.image_root)
    faces = FaceDataset.open(folder)
    assert read_truth(faces, "all").denominator == "landmark_box"
    with pytest.raises(UserError, match="no face has both ends of inter_ocular"):
        read_truth(faces, "all", denominator="inter_ocular")
    assert Validation(faces, CropConfig(size=32)).denominator == "landmark_box"


def test_a_length_of_the_mark_up_s_own_divides_errors_and_is_told_by_its_landmarks(
    whole: FaceDataset, tmp_path: Path
) -> None:
    anchors = {"nose_mouth": ((54,), (76, 82))}
    schema = dataclasses.replace(whole.schema, name="mine", anchors=anchors)
    own = write_dataset(tmp_path / "own", list(whole), schema=schema, name="own", image_root=whole.image_root)
    usual = read_truth(own, "all")
    assert usual.denominator == "nose_mouth"
    assert usual.describe()["divided_by"] == "distance of landmark 54 from the middle of landmarks 76, 82"
    points = usual.landmarks
    away = np.linalg.norm(points[:, 54] - (points[:, 76] + points[:, 82]) / 2, axis=-1)
    assert np.allclose(usual.lengths, away)
    assert np.allclose(read_truth(own, "all", denominator="nose_mouth").lengths, away)
    with pytest.raises(UserError, match=r"unknown denominator 'nose': expected one of .*, landmark_box, nose_mouth"):
        read_truth(own, "all", denominator="nose")
