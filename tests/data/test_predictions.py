"""Predictions made elsewhere: every format gives the same numbers, and every fault names its file and line."""

import json
from pathlib import Path

import numpy as np
import pytest

from stylealign.data.predictions import read_predictions, write_predictions
from stylealign.errors import UserError
from stylealign.evaluation.matching import match_predictions
from stylealign.face.sample import FaceSample, Prediction

POINTS = np.array([[[1.5, 2.0], [3.0, 4.25]], [[5.0, 6.0], [7.0, 8.0]], [[9.0, 10.0], [11.0, 12.0]]])
IDS = ("a/testset/1_1", "a/testset/2_1", "b/testset/2_2")
HEADER = "image,x0,y0,x1,y1"


def samples() -> list[FaceSample]:
    return [FaceSample(id=i, image=Path(f"/data/{i}.jpg"), landmarks=p) for i, p in zip(IDS, POINTS, strict=True)]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def csv_text(header: str = HEADER, names: tuple[str, ...] = tuple(f"{i}.jpg" for i in IDS), shift: float = 0.0) -> str:
    lines = [",".join([name, *(str(v + shift) for v in p.ravel())]) for name, p in zip(names, POINTS, strict=True)]
    return "\n".join([header, *lines]) + "\n"


def pts_text(points: np.ndarray) -> str:
    return "version: 1\nn_points: 2\n{\n" + "".join(f"{x + 1} {y + 1}\n" for x, y in points) + "}\n"


def row_of(name: str) -> Prediction:
    return Prediction(id=name, landmarks=POINTS[0], where="here:1")


def matched(path: Path, **options: bool) -> np.ndarray:
    rows = match_predictions(read_predictions(path, **options), samples(), path=path)
    return np.stack([row.landmarks for row in rows])


def test_csv_pts_and_json_lines_of_the_same_predictions_read_the_same(tmp_path: Path) -> None:
    for id, points in zip(IDS, POINTS, strict=True):
        write(tmp_path / "pts" / f"{id}.pts", pts_text(points))
    (tmp_path / "p").mkdir()
    answers = [Prediction(id=i, landmarks=p) for i, p in zip(IDS, POINTS, strict=True)]
    write_predictions(tmp_path / "p" / "predictions.jsonl", answers, "two")
    paths = [
        write(tmp_path / "p.csv", csv_text()),
        tmp_path / "pts",
        tmp_path / "p",
        tmp_path / "p" / "predictions.jsonl",
    ]
    for mark in ("", "\ufeff"):  # which Windows programs put first
        write(tmp_path / "p.csv", mark + csv_text())
        written = (tmp_path / "p" / "predictions.jsonl").read_text(encoding="utf-8-sig")
        write(tmp_path / "p" / "predictions.jsonl", mark + written)
        for path in paths:
            np.testing.assert_allclose(matched(path), POINTS)


def test_a_csv_counted_from_one_is_shifted_only_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", csv_text(shift=1.0))
    np.testing.assert_allclose(matched(path), POINTS + 1)
    np.testing.assert_allclose(matched(path, pixels_from_one=True), POINTS)


def test_columns_are_read_by_name(tmp_path: Path) -> None:
    """All x and then all y is as common as x and y in turn; read by position it would score as nonsense."""
    lines = [",".join([i, *(str(v) for v in p.T.ravel())]) for i, p in zip(IDS, POINTS, strict=True)]
    np.testing.assert_allclose(matched(write(tmp_path / "p.csv", "\n".join(["id,x1,x2,y1,y2", *lines]))), POINTS)


@pytest.mark.parametrize(
    "names",
    [
        IDS,
        ("1_1", "2_1.jpg", "2_2.png"),  # bare file names, unique
        tuple(f"./{i}.jpg" for i in IDS),
        tuple(f"C:\\faces\\{i}.jpg".replace("/", "\\") for i in IDS),
        tuple(f"/elsewhere/300w/{i}.png" for i in IDS),
        tuple(f"testset/{i.split('/')[-1]}.jpg" for i in IDS),
    ],
)
def test_faces_are_found_by_id_path_or_file_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    np.testing.assert_allclose(matched(write(tmp_path / "p.csv", csv_text(names=names))), POINTS)


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    lines = csv_text().splitlines()
    np.testing.assert_allclose(matched(write(tmp_path / "p.csv", "\n".join([lines[0], *lines[:0:-1]]))), POINTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            csv_text() + "a/testset/1_1.jpg,1,2,3,4\n",
            r"p\.csv:5: 'a/testset/1_1\.jpg' is predicted twice, first at .*p\.csv:2",
        ),
        (csv_text() + "a/testset/9_9.jpg,1,2,3,4\n", r"p\.csv:5: 'a/testset/9_9\.jpg' is no face of this dataset"),
        (
            csv_text() + "a/trainset/1_1.jpg,1,2,3,4\n",
            r"p\.csv:5: 'a/trainset/1_1\.jpg' is no face",
        ),  # same name, other folder
        ("\n".join(csv_text().splitlines()[:3]), r"p\.csv: no prediction for 1 of 3 faces, first 'b/testset/2_2'"),
        (csv_text().replace("4.25", "four"), r"p\.csv:2: coordinate 3 is 'four'"),
        (csv_text().replace("4.25", "nan"), r"p\.csv:2: coordinate 3 is 'nan'"),
        (csv_text().replace(",12.0", ""), r"p\.csv:4: the line has 4 fields; its header has 5"),
        (csv_text(header="image,x0,y0,x0,y1"), r"p\.csv:1: column 3 is called 'x0'"),
        (csv_text(header="image,x0,y0,x2,y2"), r"p\.csv:1: .*without gaps"),
        ("\n".join(csv_text().splitlines()[1:]), r"p\.csv:1: column 1 is called '1\.5'"),  # no header
        (HEADER + "\n", "no prediction in it"),
        ("", "no prediction in it"),
    ],
)
def test_a_faulty_csv_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        matched(write(tmp_path / "p.csv", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "x"', r"p\.jsonl:1: not valid JSON"),
        ("[1]", r"p\.jsonl:1: expected"),
        ('{"id": "x", "landmarks": []}', r"p\.jsonl:1: expected"),
        ('{"id": "x", "landmarks": [[1, 2, 3]]}', r"p\.jsonl:1: 'landmarks' must be"),
        ('\n{"id": "x", "landmarks": [[1, null]]}', r"p\.jsonl:2: coordinate 1 is None"),
        ('{"id": "x", "landmarks": [[1, true]]}', r"p\.jsonl:1: coordinate 1 is True"),
        ("", "no prediction"),
    ],
)
def test_faulty_json_lines_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_predictions(write(tmp_path / "p.jsonl", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nn_points: 2\n{\n1 2\n", "cut short"),
        ("version: 1\nn_points: 3\n{\n1 2\n3 4\n}\n", "2 points, expected 3"),
        ("version: 1\nn_points: 2\n{\n1 2\n3 x\n}\n", r"1\.pts:5"),
        ("version: 1\nn_points: 2\n{\n1 2\n3 nan\n}\n", r"1\.pts: point 1 is not a finite"),
    ],
)
def test_a_faulty_pts_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "1.pts", text)
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path)


def test_a_name_that_fits_two_pictures_is_refused() -> None:
    twins = [FaceSample(id=f"frame#{k}", image=Path(f"/data/{k}/frame.jpg"), landmarks=POINTS[0]) for k in range(2)]
    row = row_of("frame.jpg")
    with pytest.raises(UserError, match=r"fits 2 faces \(frame#0, frame#1\); name the face by its id"):
        match_predictions([row], twins)
    assert match_predictions([row_of("frame#1"), row_of("frame#0")], twins)[0].id == "frame#0"


def test_rows_about_faces_outside_the_selection_are_passed_over() -> None:
    some, rest = samples()[:1], samples()[1:]
    rows = [row_of(i) for i in IDS]
    assert [row.id for row in match_predictions(rows, some, rest)] == [IDS[0]]
    with pytest.raises(UserError, match="no face of this dataset"):
        match_predictions(rows, some)


def test_paths_that_hold_no_predictions_are_refused(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path, "found neither"),
        (write(tmp_path / "p.mat", "x"), r"unknown kind of predictions '\.mat'"),
    ):
        with pytest.raises(UserError, match=message):
            read_predictions(path)


def test_scores_and_boxes_are_written_and_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    answer = Prediction(id="ä", landmarks=POINTS[0], score=np.array([0.5, 1.0]), box_xyxy=np.array([0, 1, 2, 3.0]))
    write_predictions(tmp_path / "p.jsonl", [answer], "two")
    assert json.loads((tmp_path / "p.jsonl").read_text()) == {
        "id": "ä", "schema": "two", "landmarks": [[1.5, 2.0], [3.0, 4.25]],
        "score": [0.5, 1.0], "box_xyxy": [0, 1, 2, 3],
    }  # fmt: skip

    def broken():
        yield answer
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_predictions(tmp_path / "q.jsonl", broken(), "two")
    assert not (tmp_path / "q.jsonl").exists()


@pytest.mark.parametrize("suffix", [".PTS", ".Pts"])
def test_a_folder_of_pts_files_is_read_whatever_the_case_of_their_suffix(suffix: str, tmp_path: Path) -> None:
    for id, points in zip(IDS, POINTS, strict=True):
        write(tmp_path / f"{id}{suffix}", pts_text(points))
    assert [row.id for row in read_predictions(tmp_path)] == sorted(IDS)


@pytest.mark.parametrize("header", ["image", "image,x0,y" + "9" * 5000, "image,x0,y²"])
def test_headers_that_name_no_coordinates_are_refused_in_a_short_sentence(header: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"{header}\na.png,1,2\n")
    with pytest.raises(UserError, match=r"a.csv:1: .*image,x0,y0") as error:
        read_predictions(path)
    assert len(str(error.value)) < 500
