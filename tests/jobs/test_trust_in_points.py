"""Trust in a point from end to end: training puts it in the card, predict, evaluate, calibrate and export use it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from builders import tiny
from builders.dot_network import DotNetwork, find_dots
from builders.dots import PLACES, paint
from stylealign.batches.batch import to_float
from stylealign.batches.crops import CropCache
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import write_image
from stylealign.data.predictions import read_predictions
from stylealign.detectors.fpn import FPNConfig
from stylealign.detectors.loaded import load_detector
from stylealign.errors import UserError
from stylealign.evaluation.point_trust import PointTrust, face_confidence
from stylealign.face import geometry
from stylealign.face.covariance import moved_covariance
from stylealign.face.geometry import face_size
from stylealign.jobs.evaluate.job import Evaluate, evaluate
from stylealign.jobs.evaluate.tables import tables
from stylealign.jobs.predict import LEFT_OUT, Predict, run_predict
from stylealign.jobs.train_detector.job import main as train
from stylealign.predicting.landmarks import averaged
from stylealign.predicting.network import LandmarkNetwork, open_network
from stylealign.predicting.on_datasets import answer_crops, answer_dataset
from stylealign.predicting.predicted_face import Face

FACE = PLACES + np.array([50, 45])
PEAKS = PointTrust(basis="peaks", temperature=(4.0,))  # a base of 1 where a dot is whole: 2 px of the crop


def card_of(run: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((run / "card.json").read_text(encoding="utf-8"))
    return card


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return tiny.drawn(tmp_path_factory.mktemp("trust") / "faces", 32)


@pytest.fixture(scope="module")
def fpn(faces: FaceDataset) -> Path:
    """A tiny detector that answers covariances, six steps old, of labels said to lean."""
    run = faces.folder.parent / "fpn"
    config = tiny.detector_job(run, faces.folder, {"preview_every": 0}, model="fpn", lean_px=0.9)
    train(dataclasses.replace(config, fpn=FPNConfig(width=0.125, neck=8)))  # type: ignore[call-arg]
    return run


@pytest.fixture(scope="module")
def resnet(faces: FaceDataset) -> Path:
    """A tiny one that answers landmarks alone."""
    run = faces.folder.parent / "resnet"
    train(tiny.detector_job(run, faces.folder, {"preview_every": 0}))
    return run


def test_training_calibrates_on_val_and_evaluate_tells_how_far_that_holds(fpn: Path, faces: FaceDataset) -> None:
    assert open_network(fpn).lean == card_of(fpn)["lean"] != 0
    trust = card_of(fpn)["trust"]
    assert trust["basis"] == "covariance"
    assert trust["surprise"] < trust["surprise_before"]
    assert trust["data"]["split"] == "val"
    answers = answer_dataset(fpn, faces.select("val"))
    assert answers.covariance is not None
    squared = ((answers.landmarks - faces.select("val").landmarks_array()) ** 2).sum(axis=-1)
    expected = np.trace(answers.covariance, axis1=-2, axis2=-1)
    assert squared.mean() == pytest.approx(expected.mean(), rel=0.5)  # before: a hundredth or hundred times of it

    found = evaluate(
        Evaluate(data=faces.folder, arms=(str(fpn),), out=fpn.parent / "scores", draw=0, resamples=100, split="val")
    )
    figures = found["arms"][0]["trust"]
    assert len(figures["deciles"]) == 10
    titles = [table.title for table in tables(found)]
    assert [t for t in titles if t.endswith(": fpn")] == [
        "Reliability: fpn", "Error that remains: fpn", "Along and across: fpn",
    ]  # fmt: skip
    assert "Error that remains: fpn" in (fpn.parent / "scores" / "evaluation.md").read_text(encoding="utf-8")


def test_evaluate_is_as_sure_of_the_mean_with_the_mirrored_crop_as_predict_is(fpn: Path, faces: FaceDataset) -> None:
    """Each answer is calibrated, then the mean is taken: by a power of 2 that is not the calibrated mean."""
    network = open_network(fpn)
    cache = CropCache(faces.select("val"), network.crop)
    assert network.trust is not None
    temperature = tuple(np.linspace(0.5, 2, network.schema.num_points))
    trust = dataclasses.replace(network.trust, temperature=temperature, power=2.0)
    network.trust = trust  # type: ignore[misc]
    crops = to_float(torch.from_numpy(cache.images.copy())).contiguous().numpy()
    mirrored = np.ascontiguousarray(crops[..., ::-1])
    wanted = averaged(network.answer(crops), network.answer(mirrored), 32, network.schema, trust, network.lean)
    model = load_detector(fpn).model
    found = answer_crops(model, cache, flip_average=True, trust=trust, lean=network.lean)
    assert wanted.covariance is not None
    assert found.covariance is not None
    homes = [geometry.invert(affine) for affine in cache.affines]
    expected = np.stack([moved_covariance(c, home) for c, home in zip(wanted.covariance, homes, strict=True)])
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


def test_an_onnx_file_answers_the_same_covariances(fpn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    out = fpn.parent / "model.onnx"
    assert main(["export", str(fpn), "--out", str(out)]) == 0
    assert "scales of points: 0.0" in capsys.readouterr().out
    ours, theirs = open_network(fpn), open_network(out)
    crops = np.random.default_rng(0).uniform(-1, 1, (3, 3, 32, 32)).astype(np.float32)
    a, b = ours.answer(crops), theirs.answer(crops)
    assert a.covariance is not None
    assert b.covariance is not None
    assert ours.trust == theirs.trust
    assert ours.lean == theirs.lean != 0
    np.testing.assert_allclose(
        b.covariance, a.covariance, rtol=1e-2, atol=1e-2 * np.abs(a.covariance).max(axis=(2, 3)).min()
    )
    np.testing.assert_array_equal(theirs(crops)[0], b.landmarks)


def test_a_model_of_before_gets_a_trust_in_a_copy_and_itself_stays_as_it_was(
    fpn: Path, resnet: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    without = fpn.parent / "without"
    shutil.copytree(fpn, without)
    card = card_of(without)
    del card["trust"]
    measured = card.pop("val")
    (without / "card.json").write_text(json.dumps(card), encoding="utf-8")
    before, common = tiny.tree(without), ["--data", str(faces.folder), "--what", "trust", "--accelerator", "cpu"]
    assert main(["calibrate", *common, "--model", str(without), "--out", str(fpn.parent / "copy")]) == 0
    assert "Reliability: without" in capsys.readouterr().out
    assert tiny.tree(without) == before
    copy = card_of(fpn.parent / "copy")
    assert {k: v for k, v in copy.items() if k not in ("trust", "lean", "val")} == {
        k: v for k, v in card.items() if k != "lean"
    }
    assert copy["val"] == {**measured, "nme": pytest.approx(measured["nme"], rel=1e-3)}
    assert copy["lean"] == pytest.approx(card_of(fpn)["lean"], rel=1e-3)  # measured anew
    assert copy["trust"]["temperature"] == pytest.approx(card_of(fpn)["trust"]["temperature"], rel=1e-3)
    assert open_network(fpn.parent / "copy").trust is not None

    assert not {"trust", "lean"} & set(card_of(resnet))
    assert main(["calibrate", *common, "--model", str(resnet), "--out", str(fpn.parent / "mirrored")]) == 0
    said = capsys.readouterr().err
    assert "it says by the mirrored face alone" in said
    assert "learnt from" not in said  # of the faces of val
    network = open_network(fpn.parent / "mirrored")
    assert network.trust is not None
    assert network.trust.basis == "mirror"
    assert network.answer(np.zeros((1, 3, 32, 32), np.float32)).covariance is None


# --------------------------------------------------------------------------------------------------------------------
# predict


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two dot faces in one picture, the second with a dot that cannot be seen."""
    image = np.zeros((90, 200, 3), np.uint8)
    image[:, :100] = paint(FACE, 100, 90, np.array([30, 20, 40]))
    image[:, 100:] = paint(FACE, 100, 90, np.array([30, 20, 40]))
    x, y = (FACE[2] + np.array([100, 0])).astype(int)
    image[y - 4 : y + 5, x - 4 : x + 5] = (30, 20, 40)
    write_image(tmp_path / "a.png", image)
    monkeypatch.chdir(tmp_path)
    return tmp_path


BOXES = ((38.0, 33.0, 62.0, 57.0), (138.0, 33.0, 162.0, 57.0))


def predicted(network: LandmarkNetwork, out: str = "out", **options: Any) -> tuple[int, list[dict[str, Any]]]:
    status = run_predict(Predict(inputs=("a.png",), out=Path(out), box=BOXES, **options), network)
    text = (Path(out) / "predictions.jsonl").read_text(encoding="utf-8")
    return status, [json.loads(line) for line in text.splitlines()]


def trusted() -> DotNetwork:
    network = DotNetwork(scale=2.2)
    network.trust = PEAKS
    return network


def test_a_line_has_each_points_scale_in_px_of_the_picture_and_a_confidence_of_the_face(photo: Path) -> None:
    _, (plain, *_) = predicted(DotNetwork(scale=2.2))
    assert not {"scale", "covariance", "confidence"} & set(plain)
    status, (seen, hidden) = predicted(trusted(), "trusted")
    assert status == 0
    scale = np.array(seen["scale"])
    side = max(np.ptp(np.array(seen["box_xyxy"]).reshape(2, 2), axis=0)) * 2.2
    np.testing.assert_allclose(scale, 2.0 * side / 48, rtol=0.01)  # 2 px of the crop
    np.testing.assert_allclose(np.array(seen["covariance"])[:, [0, 2]], scale[:, None] ** 2 * [1, 1], rtol=1e-3)
    assert hidden["scale"][2] > 20 * hidden["scale"][0]
    assert hidden["confidence"] < seen["confidence"] <= 1
    (first, second) = read_predictions(photo / "trusted")
    assert first.covariance is not None
    wanted = face_confidence(first.covariance, face_size(first.landmarks))
    assert seen["confidence"] == pytest.approx(float(wanted), abs=1e-3)
    assert second.covariance is not None
    sure, unsure = (Face.from_line(json.dumps(line)) for line in (seen, hidden))
    assert sure.confidence == pytest.approx(float(wanted), abs=1e-3)
    assert sure.point_confidence is not None
    assert sure.point_confidence.mean() == pytest.approx(sure.confidence)
    assert unsure.point_confidence is not None
    assert unsure.point_confidence.argmin() == 2  # the hidden one


def test_faces_of_less_confidence_are_left_out_and_named(photo: Path) -> None:
    _, (seen, hidden) = predicted(trusted())
    limit = (seen["confidence"] + hidden["confidence"]) / 2
    status, found = predicted(trusted(), "some", least_confidence=limit)
    assert status == LEFT_OUT
    assert [face["box_xyxy"] for face in found] == [seen["box_xyxy"]]
    said = (photo / "some" / "left_out.txt").read_text(encoding="utf-8")
    assert said == f"a.png: 1 face has a confidence of {hidden['confidence']:.2f}, below --least-confidence\n"


def test_an_unsure_face_takes_no_place_of_a_sure_one(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--faces 1` where the larger face is the one that is not sure, in a picture and in a video."""
    from stylealign.jobs import predict
    from stylealign.predicting.finders import FoundFace
    from stylealign.predicting.video import VideoWriter

    _, (seen, hidden) = predicted(trusted(), refine=0)
    assert seen["confidence"] > 1.2 * hidden["confidence"]
    limit = 0.87 * seen["confidence"]
    image = np.asarray(Image.open("a.png"))
    writer = VideoWriter(photo / "v.mp4", 10)
    for _ in range(3):
        writer.write(image.repeat(4, axis=0).repeat(4, axis=1))  # a codec's colours are coarse
    writer.close()

    def finder(view: np.ndarray) -> list[FoundFace]:
        first, second = (np.array(box) * view.shape[0] / 90 for box in BOXES)
        return [FoundFace(first, 1.0, "frontal"), FoundFace(second + np.array([-2, -2, 2, 2]), 1.0, "frontal")]

    monkeypatch.setattr(predict, "MtcnnFinder", lambda quick=False: finder)
    for name, factor in (("a.png", 1), ("v.mp4", 4)):
        config = Predict(inputs=(name,), out=Path(f"of_{name}"), faces=1, least_confidence=limit, refine=0)
        run_predict(config, trusted())
        text = (photo / f"of_{name}" / "predictions.jsonl").read_text(encoding="utf-8")
        found = [json.loads(line)["landmarks"] for line in text.splitlines()]
        assert len(found) == (1 if name == "a.png" else 3)
        assert all(np.abs(np.array(landmarks) - factor * FACE).max() < 3 * factor for landmarks in found)


def test_a_confidence_is_refused_where_no_trust_gives_one(photo: Path) -> None:
    network = DotNetwork(scale=2.2)
    with pytest.raises(UserError, match=r"card holds no trust .* calibrate --what trust"):
        predicted(network, least_confidence=0.5)
    network.trust = PointTrust(basis="mirror", temperature=(1.0,))
    with pytest.raises(UserError, match="by the mirrored face alone: expected flip"):
        predicted(network, least_confidence=0.5)
    _, faces = predicted(network, "flipped", flip=True)
    assert len(faces[0]["scale"]) == 5
    with pytest.raises(ValueError, match=r"least_confidence 1\.5: expected a share of 0 to 1"):
        Predict(inputs=("a.png",), least_confidence=1.5)


@pytest.mark.parametrize(
    ("covariance", "said"),
    [
        ([[1, 0, 1]], "'covariance' must be a list of 2 triples"),
        ([[1, 0, 1], [1, 2, 1]], r"covariance of landmark 1 is \[1, 2, 1\]; expected xx, xy, yy of a positive matrix"),
        ([[1, 0, 1], [1, 0, "x"]], "expected a finite number"),
    ],
)
def test_a_prediction_whose_covariance_is_none_is_refused_by_its_line(
    tmp_path: Path, covariance: list[Any], said: str
) -> None:
    record = {"id": "a", "landmarks": [[1, 2], [3, 4]], "covariance": covariance}
    (tmp_path / "p.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"p\.jsonl:1: .*{said}"):
        read_predictions(tmp_path / "p.jsonl")


def test_a_video_leaves_out_the_faces_of_each_frame_that_it_is_unsure_of(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stylealign.jobs import predict
    from stylealign.predicting.video import VideoWriter

    monkeypatch.setattr(predict, "MtcnnFinder", lambda quick=False: find_dots)
    writer = VideoWriter(photo / "v.mp4", 10)
    for _ in range(3):
        frame = paint(FACE, 160, 96, np.array([30, 20, 40]))
        writer.write(frame.repeat(2, axis=0).repeat(2, axis=1))  # a codec's colours are coarse
    writer.close()
    network = trusted()
    assert run_predict(Predict(inputs=("v.mp4",), out=Path("sure")), network) == 0
    assert run_predict(Predict(inputs=("v.mp4",), out=Path("unsure"), least_confidence=0.999), network) == LEFT_OUT
    summary = json.loads((photo / "unsure" / "summary.json").read_text(encoding="utf-8"))
    assert summary["videos"]["v.mp4"]["left_out_as_unsure"] == 3
    assert not (photo / "unsure" / "predictions.jsonl").read_text(encoding="utf-8")
