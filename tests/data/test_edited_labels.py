"""A data set whose index somebody has edited: what is no face any more is named, by `check` and by `prepare`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.layouts import three_faces
from stylealign.data.dataset import FaceDataset
from stylealign.data.placed import misplaced
from stylealign.errors import UserError
from stylealign.face.schema import FIVE
from stylealign.jobs import prepare
from stylealign.jobs.prepare import Prepare

Row = dict[str, Any]


def edited(folder: Path, edit: Callable[[list[Row]], object]) -> FaceDataset:
    three_faces(folder / "data", FIVE)
    path = folder / "data" / "index.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    edit(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return FaceDataset.open(folder / "data")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda rows: rows[1]["landmarks"].__setitem__(3, [500, 2]), "landmark 3 is at (500, 2), more than one image"),
        (lambda rows: rows[1].update(box_xyxy=[40, 30, 3, 3]), "expected x0 < x1 and y0 < y1"),
    ],
)
def test_a_label_that_cannot_be_a_face_s_is_refused_as_every_reader_refuses_it(
    edit: Callable[[list[Row]], object], said: str, tmp_path: Path
) -> None:
    dataset = edited(tmp_path, edit)
    (problem,) = misplaced(dataset)
    assert said in problem
    config = Prepare(reader="dataset", path=dataset.folder, out=tmp_path / "out")
    with pytest.raises(UserError) as refused:
        prepare.main(config)
    assert said in str(refused.value)
    assert "index.jsonl:2: " in str(refused.value)
    prepare.main(Prepare(reader="dataset", path=dataset.folder, out=tmp_path / "out", skip_bad=True))
    assert FaceDataset.open(tmp_path / "out").ids() == ["face 0", "face 2", "none"]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda rows: rows[1].update(visible="2x 00"), "visible is '2x 00', expected a text of 0 and 1"),
        (lambda rows: rows[1].update(attributes={"pose": 5}), "attributes are {'pose': 5}"),
    ],
)
def test_a_word_that_is_none_is_not_taken_for_no(
    edit: Callable[[list[Row]], object], said: str, tmp_path: Path
) -> None:
    dataset = edited(tmp_path, edit)
    with pytest.raises(UserError, match=r"index\.jsonl:2: not a face of format 1") as refused:
        list(dataset)
    assert said in str(refused.value)


def test_two_faces_of_one_id_are_named(tmp_path: Path) -> None:
    dataset = edited(tmp_path, lambda rows: rows.__setitem__(2, rows[0]))
    changed, twice = dataset.verify()
    assert changed.endswith("edited since it was made")
    assert twice == f"{dataset.folder / 'index.jsonl'}:3: the id 'face 0' is that of another face too, expected one"
