"""The weights in the package: whole, small, described, and good enough to be used where a user names none."""

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import stylealign
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import write_image
from stylealign.data.packaged import COMPACT
from stylealign.detectors.loaded import load_detector
from stylealign.errors import UserError
from stylealign.evaluation.metrics import nme_per_face
from stylealign.face import geometry
from stylealign.face.schema import convert, get_schema
from stylealign.jobs.assess.opening import beside
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.evaluate.arms import parse_arms
from stylealign.jobs.study.job import check_data
from stylealign.jobs.train_detector.job import config_class
from stylealign.predicting.on_datasets import answer_dataset
from stylealign.toyfaces import draw_face, face_of
from stylealign.training.weights import read_card
from stylealign.translators.loaded import load_translator

WEIGHTS = COMPACT.parent
MOST_BYTES = 12_000_000


def drawn_faces(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(picture, 68 landmarks) of drawn faces, which no shipped network has seen."""
    found = []
    for i in range(count):
        structure, style, _ = face_of(DrawFaces(out=Path("drawn"), count=count), i)
        image, landmarks, _ = draw_face(structure, style, 192)
        found.append((image, convert(landmarks, "wflw98", "ibug68")))
    return found


def eye_distances(landmarks: np.ndarray) -> np.ndarray:
    """(N,) between the outer corners, of (N, 68, 2)."""
    return np.linalg.norm(landmarks[:, 36] - landmarks[:, 45], axis=1)


@pytest.mark.parametrize("name", ["compact", "accurate", "translator"])
def test_weights_are_small_and_their_card_names_hash_data_and_licence(name: str) -> None:
    folder = WEIGHTS / name
    twin = ["twin.json", "twin.onnx"] if name == "compact" else []
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "card.json", "model.safetensors", *twin]
    for part in ("model.safetensors", *twin[1:]):
        assert (folder / part).stat().st_size <= MOST_BYTES
    card, said = json.loads((folder / "card.json").read_text()), (folder / "README.md").read_text(encoding="utf-8")
    assert card["model_hash"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    for words in ("**Data.**", "**Licence.**", "non-commercial", "300-W", "**Numbers", "**Meant for.**", "limits.**"):
        assert words in said, words
    assert "/home" not in json.dumps(card)
    assert "runs/" not in json.dumps(card)
    if card["kind"] == "detector":
        assert f"| 300-W `val`, {card['val']['faces']} | {100 * card['val']['nme']:.2f} |" in said
    else:
        assert f"| {100 * card['judge']['gap']:+.2f} points" in said


def test_the_detector_finds_landmarks_on_faces_of_a_kind_it_never_saw() -> None:
    detector = stylealign.load()
    faces = drawn_faces(8)
    truth = np.stack([landmarks for _, landmarks in faces])
    boxes = [[geometry.landmark_box(landmarks)] for landmarks in truth]
    found = detector.predict_batch([image for image, _ in faces], boxes)
    assert detector.schema == get_schema("ibug68")
    nme = nme_per_face(np.stack([each[0].landmarks for each in found]), truth, eye_distances(truth))
    assert np.median(nme) < 0.10  # the mean shape stands at some 20 %


def test_predict_needs_no_model_and_no_network(tmp_path: Path) -> None:
    image, truth = drawn_faces(4)[3]
    write_image(tmp_path / "face.png", image)
    box = [str(round(float(v), 1)) for v in geometry.landmark_box(truth)]
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "face.png"), "--box", *box, "--out", str(out), "--draw"]) == 0
    found = np.array(json.loads((out / "predictions.jsonl").read_text())["landmarks"])
    assert np.linalg.norm(found - truth, axis=1).mean() < 0.10 * np.linalg.norm(truth[36] - truth[45])
    assert (out / "drawn").is_dir()


def test_the_translator_keeps_the_photograph_and_brings_the_light() -> None:
    translator = stylealign.StyleTranslator.load()
    faces = drawn_faces(16)
    (grey, a), (coloured, b) = faces[3], faces[10]
    made = translator.translate(grey, a, coloured, b)
    own = translator.translate(grey, a, grey, a)

    def apart(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.abs(x.astype(float).mean(axis=(0, 1)) - y.astype(float).mean(axis=(0, 1))).mean())

    assert apart(own.crop, own.content) < 5  # of 255
    assert apart(made.crop, made.style) < 0.5 * apart(made.content, made.style)
    edges = [np.abs(np.diff(x.astype(float).mean(axis=2), axis=1)).ravel() for x in (made.crop, made.content)]
    assert np.corrcoef(*edges)[0, 1] > 0.6  # what was drawn stands where it stood
    assert load_translator(WEIGHTS / "translator").schema == get_schema("ibug68")


@pytest.mark.slow
def test_the_card_says_what_the_detector_does_on_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.environ.get("STYLEALIGN_DATA")
    if not data or not (Path(data) / "300w").is_dir():
        pytest.skip("needs real faces: STYLEALIGN_DATA names a folder with 300w/ in it")
    monkeypatch.setenv("STYLEALIGN_CACHE", str(tmp_path / "cache"))
    assert main(["prepare", "--reader", "ibug", "--path", f"{data}/300w", "--out", str(tmp_path / "data")]) == 0
    faces = FaceDataset.open(tmp_path / "data").select("test")  # Common
    truth = np.stack([face.landmarks for face in faces])
    nme = nme_per_face(answer_dataset(COMPACT, faces).landmarks, truth, eye_distances(truth))
    assert len(faces) == 554
    assert 100 * nme.mean() == pytest.approx(3.04, abs=0.02)


def test_a_detector_in_the_package_has_a_name_wherever_a_run_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_card(Path("compact")) == read_card(COMPACT)
    assert [arm.paths for arm in parse_arms(["box=compact", "compact"])] == [(COMPACT,), (COMPACT,)]
    assert load_detector(Path("compact")).card["model_hash"] == read_card(COMPACT)["model_hash"]
    with pytest.raises(UserError, match="largest: no such run"):
        read_card(Path("largest"))
    assert beside(tmp_path, {"config": {"judge": "compact"}}, "judge", "judge") == Path("compact")
    for start, said in (("compact", "no data: give --real"), ("largest", "init_from largest: no such file or folder")):
        cell = SimpleNamespace(name="row", config=config_class()(run=tmp_path / "run", init_from=Path(start)))
        with pytest.raises(UserError, match=said):
            check_data([cell])  # type: ignore[list-item]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compact").mkdir()  # somebody's own folder comes first
    with pytest.raises(UserError, match="compact: not a run folder"):
        load_detector(Path("compact"))
