"""A finder of faces learnt from labels: what it is asked, what it is not asked, and that it finds drawn faces."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

import stylealign
from stylealign.batches.canvases import CanvasConfig, Labelled, Pictures, draw_canvas, labelled_pictures
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.image import read_image, write_image
from stylealign.detectors.finder import (
    STRIDE,
    CentreFinder,
    FinderConfig,
    FinderOutput,
    centres_of,
    finder_terms,
    squares_of,
)
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.orientation import map_box, upright_affine, view_of
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema
from stylealign.jobs.fit.after import Result, next_page
from stylealign.jobs.train_finder import HeldOut, TrainFinder, _near, train
from stylealign.predicting.places import Places
from stylealign.toyfaces import draw_face, random_structure, random_style

FACES = np.array([[10.0, 12, 29, 31], [40.3, 5.1, 58.9, 23.7]])


def told(size: int, faces: np.ndarray) -> FinderOutput:
    """The answer of a network that knows the faces exactly."""
    truth = centres_of([faces], [np.empty((0, 4))], size)
    cells = size // STRIDE
    centre, side, offset = (
        torch.full((1, cells, cells), -9.0),
        torch.zeros(1, cells, cells),
        torch.zeros(1, 2, cells, cells),
    )
    for (picture, row, column), value, moved in zip(truth.at, truth.side, truth.offset, strict=True):
        centre[picture, row, column], side[picture, row, column], offset[picture, :, row, column] = 9.0, value, moved
    return FinderOutput(centre, side, offset)


def test_a_finder_is_trained_by_one_process_whoever_started_the_others(tmp_path: Path) -> None:
    engine, run = SimpleNamespace(world_size=2), SimpleNamespace(folder=tmp_path)  # as torchrun makes them
    with pytest.raises(UserError, match="train-finder in 2 processes: expected 1"):
        train(TrainFinder(run=tmp_path, data=tmp_path), engine, run)  # type: ignore[arg-type]


def test_labels_read_as_answers_are_the_faces() -> None:
    (found,) = squares_of(told(64, FACES), 64, 0.3)
    assert np.allclose(found.boxes[np.argsort(found.boxes[:, 0])], FACES, atol=1e-4)
    assert (found.scores > 0.99).all()
    (none,) = squares_of(told(64, np.empty((0, 4))), 64, 0.3)
    assert none.boxes.shape == (0, 4)


def test_nothing_is_learnt_where_a_face_may_be_unlabelled() -> None:
    unlabelled = np.array([[36.0, 36, 60, 60]])
    sure = told(64, np.concatenate([FACES, unlabelled]))
    wrong = finder_terms(sure, centres_of([FACES], [np.empty((0, 4))], 64))
    right = finder_terms(sure, centres_of([FACES], [unlabelled], 64))
    assert float(wrong["centre"]) > 1
    assert float(right["centre"]) < 0.01
    assert float(right["side"] + right["offset"]) < 1e-5
    covered = finder_terms(told(64, FACES[:1]), centres_of([FACES], [np.array([[0.0, 0, 64, 64]])], 64))
    assert float(covered["centre"]) > 1  # a labelled face counts also where others may be
    for box in _near(FACES[:1], 64):
        assert geometry.intersection_over_union(box, FACES[0]) == 0
    assert sum(np.prod(box[2:] - box[:2]) for box in _near(FACES[:1], 64)) == 64 * 64 - 38 * 38


def test_canvases_show_faces_where_they_say(tmp_path: Path) -> None:
    image = np.full((60, 90, 3), 40, np.uint8)
    image[20:40, 30:50] = (250, 20, 20)  # the face: pixels 30 to 49 and 20 to 39
    write_image(tmp_path / "a.png", image)
    corners = np.array([[30.0, 20], [49, 20], [49, 39], [30, 39]])
    pictures = Pictures([Labelled(tmp_path / "a.png", [corners], [np.array([60.0, 5, 80, 15])])], 400, None)
    config = CanvasConfig(rotation=0, colour=0, smallest=0.2)
    for seed in range(12):
        canvas = draw_canvas(pictures, 96, config, np.random.default_rng(seed))
        assert len(canvas.faces) in (1, 4)  # as it is, moved, or four
        assert len(canvas.unknown) == len(canvas.faces)
        red = np.abs(canvas.image.astype(int) - (250, 20, 20)).max(axis=-1) < 60
        red &= (canvas.image != canvas.image[-1, -1]).any(axis=-1)  # the ground, of a colour drawn by chance
        covered = np.zeros((96, 96), bool)
        for box in canvas.faces:
            x0, y0, x1, y1 = np.round(box).astype(int)
            covered[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = True
        assert (red & covered).sum() / (red | covered).sum() > 0.75


@pytest.mark.parametrize("orientation", [6, 7])
def test_a_picture_held_on_its_side_is_learnt_and_measured_as_it_is_shown(orientation: int, tmp_path: Path) -> None:
    """Labels are of stored pixels; `predict` shows the finder what EXIF turns."""
    image = np.full((60, 90, 3), 40, np.uint8)
    image[20:40, 30:50] = (250, 20, 20)
    corners, bare = np.array([[30.0, 20], [49, 20], [49, 39], [30, 39]]), np.array([60.0, 5, 80, 15])
    stored_from_shown = geometry.invert(upright_affine(orientation, 60, 90))
    write_image(tmp_path / "a.png", view_of(image, stored_from_shown))
    landmarks = geometry.apply(stored_from_shown, corners)
    schema = LandmarkSchema(name="corners", num_points=4)
    samples = [
        FaceSample(id="a", image=tmp_path / "a.png", landmarks=landmarks, orientation=orientation, split="val"),
        FaceSample(
            id="b", image=tmp_path / "a.png", box_xyxy=map_box(stored_from_shown, bare), orientation=orientation,
        ),
    ]  # fmt: skip
    labelled = labelled_pictures(write_dataset(tmp_path / "data", samples, schema=schema, name="side"), "val")
    seen: list[np.ndarray] = []

    def others(shown: np.ndarray) -> list[np.ndarray]:
        seen.append(shown)
        return []

    for pictures in (Pictures(labelled, 400, others), HeldOut(labelled, others, 400).shown):
        picture = pictures[0]
        assert np.array_equal(picture.image, image)
        np.testing.assert_allclose(picture.faces, [corners], atol=1e-4)
        np.testing.assert_allclose(picture.unknown, [bare], atol=1e-4)
    assert all(np.array_equal(shown, image) for shown in seen)


Drawn = list[tuple[np.ndarray, np.ndarray]]  # faces 64 px wide and their landmarks


def drawn_scene(drawn: Drawn, rng: np.random.Generator, path: Path) -> list[np.ndarray]:
    """A picture with one or two drawn faces somewhere, and their landmarks."""
    picture = cv2.resize(rng.integers(60, 200, (6, 8, 3), dtype=np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)
    found = []
    for slot in range(int(rng.integers(1, 3))):
        side = int(rng.integers(36, 60))
        face, landmarks = drawn[rng.integers(len(drawn))]
        x, y = int(rng.integers(0, 64 - side)) + 64 * slot, int(rng.integers(0, 96 - side))
        picture[y : y + side, x : x + side] = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        found.append((landmarks + 0.5) * side / 64 - 0.5 + np.array([x, y]))
    write_image(path, picture)
    return found


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 40 pictures to learn from and 10 to measure on."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(5)
    (folder / "pictures").mkdir()
    drawn = [draw_face(random_structure(rng), random_style(rng), 64)[:2] for _ in range(16)]
    samples = []
    for i in range(50):
        path, split = folder / "pictures" / f"{i}.png", "train" if i < 40 else "val"
        for k, landmarks in enumerate(drawn_scene(drawn[:12] if i < 40 else drawn[12:], rng, path)):
            samples.append(FaceSample(id=f"{i}_{k}", image=path, landmarks=landmarks, split=split))
    write_dataset(folder / "data", samples, schema=SCHEMAS["wflw98"], name="scenes")
    return folder / "data"


def test_faces_of_other_splits_and_bare_boxes_are_no_negatives(scenes: Path, tmp_path: Path) -> None:
    sample = next(iter(FaceDataset.open(scenes)))
    others = [
        FaceSample(id="b", image=sample.image, box_xyxy=np.array([0.0, 0, 9, 9])),
        FaceSample(id="c", image=sample.image, landmarks=sample.landmarks + 40, split="test"),
    ]
    mixed = write_dataset(tmp_path / "mixed", [sample, *others], schema=SCHEMAS["wflw98"], name="scenes")
    (picture,) = labelled_pictures(mixed, "train")
    assert (len(picture.faces), len(picture.unknown)) == (1, 2)
    with pytest.raises(UserError, match=r"no labelled face in split holiday.*splits"):
        labelled_pictures(mixed, "holiday")


def learnt(scenes: Path, run: Path, *flags: str) -> Path:
    words = ["--network.trunk", "resnet18", "--network.width", "0.125", "--network.neck", "16", "--size", "64"]
    shown = ["--canvas.smallest", "0.2", "--others", "none", "--loop.batch-size", "8", "--lr", "6e-3", *flags]
    assert main(["train-finder", "--data", str(scenes), "--run", str(run), *words, *shown]) == 0
    return run


@pytest.fixture(scope="module")
def finder(scenes: Path) -> Path:
    """One that has hardly learnt anything."""
    return learnt(scenes, scenes.parent / "finder", "--loop.steps", "3", "--loop.preview-every", "3")


@pytest.mark.slow
def test_a_finder_of_drawn_faces_finds_most_of_those_it_has_not_seen(scenes: Path, tmp_path: Path) -> None:
    run = learnt(scenes, tmp_path / "run", "--loop.steps", "400", "--loop.ema-decay", "0.98")
    val = json.loads((run / "card.json").read_text())["val"]
    assert val["found"] / val["labelled"] > 0.75
    assert val["others"] <= val["labelled"] / 3


def test_measuring_a_finder_in_training_leaves_it_as_it_is(scenes: Path) -> None:
    """Without a moving average the model that is measured is the one that learns, batch normalisation and all."""
    torch.manual_seed(0)
    model = CentreFinder(64, FinderConfig(width=0.25, neck=8)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert any("running_mean" in name for name in before)
    held_out = HeldOut(labelled_pictures(FaceDataset.open(scenes), "val"), None, 64)
    found = held_out.found(model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = held_out.found(model.eval())
    assert not model.training
    assert [[face.score for face in faces] for faces in found] == [[face.score for face in faces] for faces in again]


def test_predict_and_the_api_find_by_it(finder: Path, scenes: Path, tmp_path: Path) -> None:
    picture = next(s.image for s in FaceDataset.open(scenes).select("val"))
    card = json.loads((finder / "card.json").read_text())
    assert card["kind"] == "finder"
    assert (finder / "previews" / "step_00000003.png").is_file()
    (finder / "card.json").write_text(json.dumps({**card, "least_score": 0.0}))  # it takes everything for a face
    words = ["predict", str(picture), "--out", str(tmp_path / "out"), "--no-check"]
    assert main([*words, "--finder", str(finder)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert {line["found_by"] for line in lines} == {"trained"}
    detector = stylealign.load(finder=finder)
    assert len(detector.predict(read_image(picture))) <= len(lines)  # the API drops what is none to the detector


def test_fit_names_the_command_where_the_usual_finder_finds_too_few() -> None:
    for places, named in ((Places("boxes", 20, 0.4, 0.1), True), (Places("finder", 20, 0.8, 0.1), False)):
        result = Result(Path("out"), Path("run"), "Fine.", False, places, [], False, None, "stylealign fit a")
        assert ("stylealign train-finder --data out/data --run out/finder" in next_page(result)) == named


def test_what_is_no_finder_is_said(
    finder: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(scenes.parent / "pictures" / "0.png"), "--out", str(tmp_path / "out")]
    assert main([*words, "--finder", str(scenes)]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert main([*words, "--finder", str(finder), "--yunet", "a.onnx"]) == 2
    assert "expected one finder" in capsys.readouterr().err
    assert main(["predict", words[1], "--model", str(finder), "--out", str(tmp_path / "out")]) == 2
    assert "holds a finder, expected a detector" in capsys.readouterr().err
    assert main(["train-finder", "--data", str(scenes), "--run", str(tmp_path / "run"), "--size", "100"]) == 2
    assert "expected a multiple of 32" in capsys.readouterr().err
    assert not any((tmp_path / name).exists() for name in ("out", "run"))


def test_every_weight_has_a_part_in_the_answer() -> None:
    net = CentreFinder(64, FinderConfig(width=0.25, neck=8))
    out = net(torch.rand(2, 3, 64, 64))
    assert (out.centre.shape, out.offset.shape) == ((2, 16, 16), (2, 2, 16, 16))
    sum(part.square().sum() for part in out).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
