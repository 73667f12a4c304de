"""Every structured input within limits: deep nesting, endless numbers and values of another kind are named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from builders.layouts import picture, points
from stylealign.data.dataset import FaceDataset, content_hash
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, ReadOptions
from stylealign.data.predictions import read_predictions
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, MAX_POINTS, get_schema, schema_from_dict
from stylealign.jobs.check import Check
from stylealign.jobs.check import main as check
from stylealign.predicting.given_boxes import BoxFile
from stylealign.predicting.onnx_network import read_metadata, to_metadata
from stylealign.training.weights import read_card, read_state


def coco(folder: Path, text: str) -> None:
    path = folder / "train.json"
    path.write_text('{"images": [], "annotations": ' + text + "}")
    list(FORMATS["coco"].read(path, ReadOptions(schema=FIVE)))


def predictions(folder: Path, text: str) -> None:
    (folder / "p.jsonl").write_text('{"id": "a", "landmarks": ' + text + "}\n")
    read_predictions(folder / "p.jsonl")


def boxes(folder: Path, text: str) -> None:
    (folder / "b.json").write_text('{"a.png": ' + text + "}")
    BoxFile(folder / "b.json")


def box_lines(folder: Path, text: str) -> None:
    (folder / "b.jsonl").write_text('{"image": "a.png", "box_xyxy": ' + text + "}\n")
    BoxFile(folder / "b.jsonl")


def card(folder: Path, text: str) -> None:
    (folder / "card.json").write_text('{"kind": "detector", "network": ' + text + "}")
    read_card(folder)


def metadata(folder: Path, text: str) -> None:
    texts = to_metadata({"model": "m", "model_hash": "h", "crop": {}, "schema": {}}, "fp32")
    read_metadata(texts | {"crop": text}, folder / "x.onnx")


def made(folder: Path) -> Path:
    """A data set of one face."""
    face = FaceSample(id="f", image=picture(folder / "x.png"), landmarks=points(5))
    return write_dataset(folder / "set", [face], schema=FIVE, name="s", images="copy").folder


def index(folder: Path, text: str) -> None:
    path = made(folder) / "index.jsonl"
    line = path.read_text()
    path.write_text(line[: line.rindex('"landmarks": ')] + '"landmarks": ' + text + "}\n")
    FaceDataset.open(folder / "set")[0]


@pytest.mark.parametrize("read", [coco, predictions, boxes, box_lines, card, metadata, index])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 70 + "]" * 70, "[" + "9" * 5000 + "]"], ids=["open", "deep", "long"]
)
def test_every_reader_of_json_refuses_what_cannot_be_meant(
    text: str, read: Callable[[Path, str], None], tmp_path: Path
) -> None:
    named = r"(train\.json|p\.jsonl:1|b\.json|b\.jsonl:1|card\.json|x\.onnx|index\.jsonl:1): "
    with pytest.raises(UserError, match=named) as error:
        read(tmp_path, text)
    assert "nested deeper than 64" in str(error.value) or "a number of 5,000 digits" in str(error.value)


@pytest.mark.parametrize("number", [300_000_000, MAX_POINTS + 1, 0, -3, True, 1.5, "x"])
def test_a_mark_up_has_a_sane_number_of_points(number: object, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"name": "a", "num_points": number, "flip_pairs": [[0, 1]]}))
    with pytest.raises(UserError, match=r"s\.yaml.*num_points"):
        get_schema(tmp_path / "s.yaml")


def test_a_dense_mesh_of_a_face_is_a_mark_up() -> None:
    assert schema_from_dict({"name": "mesh", "num_points": 53_215}, "x").num_points == 53_215


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"provenance": [1]}, "provenance is [1], expected a mapping"),
        ({"provenance": {"content_id": 3}}, "provenance.content_id is 3, expected text"),
        ({"provenance": {"content_id": "a"}}, "not a face of format 1"),
        ({"attributes": [True]}, "attributes is [True], expected names with true or false"),
        ({"attributes": None}, "attributes is None"),
        ({"attributes": {"pose": "yes"}}, "expected names with true or false"),
        ({"id": 3}, "id is 3, expected text"),
        ({"image": ["a"]}, "image is ['a'], expected a path"),
        ({"id": "\ud800"}, "expected text that UTF-8 can hold"),
        ({"split": None}, "split is None, expected a word"),
        ({"digest": 7}, "digest is 7"),
        ({"visible": [1, 1, 1, 1, 1]}, "visible is [1, 1, 1, 1, 1], expected a text of 0 and 1"),
        ({"trust": "much"}, "trust is 'much', expected a number"),
        ({"landmarks": [[10**99, 1], *FIVE.num_points * [[1, 1]]][:5]}, "not a finite number"),
        ({"box_xyxy": [1, 2, 3, 1e308]}, "not a finite number"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_line_of_another_kind_is_named(values: dict, message: str, tmp_path: Path) -> None:
    folder = made(tmp_path)
    row = json.loads((folder / "index.jsonl").read_text()) | values
    (folder / "index.jsonl").write_text(json.dumps({**row, "landmarks": row.pop("landmarks")}) + "\n")
    with pytest.raises(UserError, match=r"index\.jsonl:1: ") as error:
        check(Check(path=folder))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"content_hash": None}, "content_hash: found None, expected text"),
        ({"image_root": 3}, "image_root: found 3, expected a folder"),
        ({"image_root": "a" * 300}, "is missing"),
        ({"splits": 1.5}, "splits: found 1.5, expected a count of each split"),
        ({"splits": {"train": "many"}}, "expected a count of each split"),
        ({"count": "1"}, "count: found '1', expected a number of faces"),
        ({"name": ["a"]}, "name: found ['a'], expected a name"),
        ({"how": [1]}, "how: found [1], expected a mapping"),
    ],
)
def test_a_key_of_another_kind_is_named(values: dict, message: str, tmp_path: Path) -> None:
    folder = made(tmp_path)
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))
    with pytest.raises(UserError) as error:
        check(Check(path=folder))
    assert message in str(error.value)


def test_words_of_a_stranger_are_printed_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Rich would take `[/red]` for mark-up that was never opened, and fail."""
    folder = made(tmp_path)
    row = json.loads((folder / "index.jsonl").read_text())
    row |= {"split": "[/red]", "attributes": {"[/b]": True}}
    (folder / "index.jsonl").write_text(json.dumps({**row, "landmarks": row.pop("landmarks")}) + "\n")
    meta = yaml.safe_load((folder / "dataset.yaml").read_text()) | {"name": "[/i]", "licence": "[/u] :smile:"}
    meta["content_hash"] = content_hash(folder / "index.jsonl", FIVE)
    (folder / "dataset.yaml").write_text(yaml.safe_dump(meta))
    check(Check(path=folder))
    said = capsys.readouterr().out
    assert all(word in said for word in ("[/red]", "[/b]", "[/i]", "[/u] :smile:"))


def test_a_line_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path)
    monkeypatch.setattr("stylealign.data.dataset.MAX_LINE", 100)
    with pytest.raises(UserError, match=r"index\.jsonl:1: a line of \d+ bytes, expected at most 100"):
        FaceDataset.open(folder)[0]


@pytest.mark.parametrize(
    "values",
    [
        {"model": {}},
        {"model": ["1"]},
        {"other_schemas": 7},
        {"crop": 3},
        {"model_hash": 5},
        {"schema": 1.5},
        {"kind": []},
    ],
)
def test_a_card_of_another_kind_is_named(values: dict, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"kind": "detector"} | values))
    with pytest.raises(UserError, match=rf"card\.json: {next(iter(values))}: found"):
        read_card(tmp_path)


def test_weights_that_unpack_to_more_than_they_are_are_not_unpacked(tmp_path: Path) -> None:
    import zipfile

    torch.save({"a": torch.zeros(100_000)}, tmp_path / "good.pth")
    assert read_state(tmp_path / "good.pth")["a"].shape == (100_000,)
    with zipfile.ZipFile(tmp_path / "good.pth") as good, zipfile.ZipFile(tmp_path / "bad.pth", "w") as bad:
        for part in good.infolist():
            bad.writestr(part.filename, good.read(part), zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"bad\.pth: unpacks to [\d,]+ bytes, expected no more than it has"):
        read_state(tmp_path / "bad.pth")
