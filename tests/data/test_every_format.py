"""The contract that every entry of FORMATS keeps: what it says of itself, and that faces written are read back."""

import re
from pathlib import Path

import pytest

from builders.layouts import three_faces, write_and_read
from builders.places import ROOT
from stylealign.data.formats import FORMATS, having
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, IBUG68, SCHEMAS, WFLW98, LandmarkSchema


@pytest.mark.parametrize("name", FORMATS)
def test_an_entry_says_what_others_ask_of_it(name: str) -> None:
    entry = FORMATS[name]
    for words in (entry.summary, entry.source, entry.writes):
        assert words == words.strip()
        assert "\n" not in words
    assert entry.summary
    assert entry.source
    assert bool(entry.writes) == (entry.write is not None)
    assert set(entry.flags) <= {"images", "frame", "point_names"}
    assert set(entry.keeps) <= {"visible", "attributes", "box_xyxy", "id"}
    assert not isinstance(entry.schema, str) or entry.schema in SCHEMAS
    assert entry.recognise is None or entry.count_points is not None  # `init` counts what it recognises


def test_the_page_promises_what_is_read_back() -> None:
    """Its table of layouts that are written, against `keeps`, which faces written are held to below."""
    words = {"box_xyxy": "box", "visible": "visibility", "attributes": "attributes|six flags", "id": "id"}
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").partition("| kept beside landmarks |")[2]
    rows = dict(re.findall(r"^\| `(.+?)` \| (.+?) \|", page, flags=re.MULTILINE))
    for name in having("write"):
        told = {field for field, word in words.items() if re.search(rf"\b({word})\b", rows[name])}
        assert told == set(FORMATS[name].keeps), name


def test_names_of_predict_are_different() -> None:
    names = [entry.predicted.name for entry in FORMATS.values() if entry.predicted]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("schema", [WFLW98, IBUG68, FIVE], ids=lambda schema: schema.name)
@pytest.mark.parametrize("name", having("write"))
def test_faces_written_are_read_back(name: str, schema: LandmarkSchema, tmp_path: Path) -> None:
    if FORMATS[name].num_points not in (None, schema.num_points):
        pytest.skip(f"{name} holds faces of {FORMATS[name].num_points} points only")
    write_and_read(name, schema, tmp_path)


@pytest.mark.parametrize("name", having("recognise"))
def test_a_format_that_init_tries_recognises_what_it_reads_and_no_pictures(name: str, tmp_path: Path) -> None:
    entry = FORMATS[name]
    dataset = three_faces(tmp_path / "dataset", WFLW98)
    assert entry.recognise is not None
    assert not entry.recognise(tmp_path / "pictures")
    assert entry.predicted is not None
    faces = [FaceSample(id=f.id, image=f.image, landmarks=f.landmarks) for f in dataset.select(labelled=True)]
    entry.predicted.write(tmp_path, faces, WFLW98)
    assert entry.recognise(tmp_path)
