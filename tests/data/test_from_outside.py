"""A format that is added from outside, as one entry of FORMATS, goes every way that ours go."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from builders.layouts import refuse_lost_faces, three_faces, write_and_read
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import FORMATS, Entry, Format, Predicted, ReadOptions, WriteOptions
from stylealign.data.formats.entry import Ids, checked_face, lines_of
from stylealign.data.formats.writing import Pictures, by_split, decimals, landmarks_of, write_lines
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, WFLW98, LandmarkSchema
from stylealign.predicting.predicted_face import Face
from stylealign.predicting.writing import refuse_formats, write_formats


def count_points(source: Path) -> int:
    _, first = next(lines_of(next(iter(sorted(source.glob("*.tsv"))))))
    return len(first.split("\t")) // 2


def read(source: Path, options: ReadOptions) -> Iterator[Entry]:
    ids = Ids()
    for path in sorted(source.glob("*.tsv")):
        for line, text in lines_of(path):
            image, *numbers = text.split("\t")
            yield checked_face(
                f"{path}:{line}", options, id=ids.of(image, line), image=source / image, root=source, split=path.stem,
                landmarks=np.array(numbers, dtype=np.float64).reshape(-1, 2),
            )  # fmt: skip


def write(dataset: FaceDataset, folder: Path, options: WriteOptions) -> None:
    pictures = Pictures(folder, dataset, options)
    for split, faces in by_split(dataset):
        lines = ("\t".join([pictures.name_of(f.image), *decimals(landmarks_of(f), places=1)]) for f in faces)
        write_lines(folder / f"{split}.tsv", lines)


def write_predicted(folder: Path, faces: Iterable[FaceSample], schema: LandmarkSchema) -> None:
    write_lines(folder / "predicted.tsv", ("\t".join([face.id, *decimals(landmarks_of(face))]) for face in faces))


TSV = Format(
    "TSV: image and coordinates with tabs between", "a folder of .tsv files", read, count_points=count_points,
    write=write, writes="<split>.tsv", rounding=0.06, predicted=Predicted("tsv", write_predicted),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "tsv", TSV)


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    write_and_read("tsv", WFLW98, tmp_path)


def test_it_is_written_and_prepared_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = three_faces(tmp_path / "dataset", FIVE)
    layout, after = tmp_path / "layout", tmp_path / "after"
    assert main(["export-dataset", "--data", str(before.folder), "--format", "tsv", "--out", str(layout)]) == 0
    assert sorted(path.name for path in layout.glob("*.tsv")) == ["test.tsv", "train.tsv"]
    assert main(["prepare", "--reader", "tsv", "--path", str(layout), "--out", str(after)]) == 0
    dataset = FaceDataset.open(after)
    assert dataset.schema == FIVE
    refuse_lost_faces("tsv", before, list(dataset))
    capsys.readouterr()


def test_predictions_are_written_in_it(tmp_path: Path) -> None:
    face = Face(
        landmarks=np.arange(10.0).reshape(5, 2),
        box=np.array([0.0, 1, 8, 9]),
        score=None,
        found_by="given",
        image="a.png",
    )
    (tmp_path / "predictions.jsonl").write_text(face.to_line(FIVE))
    refuse_formats(("tsv",), FIVE, moving=False)
    with pytest.raises(UserError, match="--formats tsv: frames of a video have no picture files to name; expected csv"):
        refuse_formats(("tsv",), FIVE, moving=True)
    write_formats(tmp_path, ("tsv",), FIVE)
    assert (tmp_path / "predicted.tsv").read_text().split("\t")[:2] == ["a.png", "0.000000"]


FLAGS = [("prepare", "--reader"), ("export-dataset", "--format"), ("predict", "--formats")]


@pytest.mark.parametrize(("verb", "flag"), FLAGS)
def test_help_and_errors_name_it(
    verb: str, flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a new process: prepare's help is written when it is imported, and another test may have done so.
    monkeypatch.delitem(sys.modules, "stylealign.jobs.prepare", raising=False)
    with pytest.raises(SystemExit):
        main([verb, "--help-all"])
    assert "tsv" in capsys.readouterr().out
    assert main([verb, flag, "tvs", "--out", "x"]) == 2
    assert "or tsv; did you mean tsv?" in capsys.readouterr().err


def test_a_recipe_names_it_and_a_slip_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("out: x\nsources: [{reader: tsv, path: a}, {reader: csv, path: b}]\n")
    assert main(["prepare", str(recipe), "--dry-run"]) == 0
    recipe.write_text("out: x\nsources: [{reader: tvs, path: a}]\n")
    assert main(["prepare", str(recipe)]) == 2
    assert "did you mean 'tsv'?" in capsys.readouterr().err
