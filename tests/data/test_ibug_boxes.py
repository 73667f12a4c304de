"""300-W's bounding-box files: which face gets which box, and what is said where there is none."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from builders.layouts import points, pts
from stylealign.batches.crops import box_of
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats.ibug_boxes import Boxes
from stylealign.data.formats.notes import Notes
from stylealign.errors import UserError
from stylealign.jobs import prepare
from stylealign.jobs.prepare import Prepare


def cells(boxes: dict[str, tuple[float, float, float, float]]) -> np.ndarray:
    """The variable of a file as MATLAB has it: a row of cells, each a structure."""
    row = np.empty((1, len(boxes)), object)
    for i, (name, box) in enumerate(boxes.items()):
        row[0, i] = {"imgName": name, "bb_detector": np.array([box]), "bb_ground_truth": np.array([[9.0, 9, 10, 10]])}
    return row


def write(folder: Path, name: str, boxes: dict[str, tuple[float, float, float, float]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"bounding_boxes_{name}.mat", {"bounding_boxes": cells(boxes)})


def made(source: Path, out: Path, **more: Any) -> dict[str, np.ndarray | None]:
    prepare.main(Prepare(reader="ibug", path=source, out=out, **more))
    return {face.id: face.box_xyxy for face in FaceDataset.open(out)}


def test_every_face_gets_the_detectors_box_of_its_own_set_and_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "300W"
    for i, name in enumerate(("afw/a_1", "lfpw/trainset/image_1", "lfpw/testset/image_1", "ibug/image 2 _01", "afw/b")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        pts(source / f"{name}.pts", points(68, i))
    boxes = source / "Bounding Boxes"
    write(boxes, "afw", {"a_1.jpg": (2, 3, 40, 30)})
    write(boxes, "lfpw_trainset", {"image_1.png": (3, 4, 41, 31)})
    write(boxes, "lfpw_testset", {"image_1.png": (4, 5, 42, 32)})
    write(boxes, "ibug", {"image 2_01.jpg": (5, 6, 43, 33), "unused.jpg": (1, 1, 2, 2)})
    found = made(source, tmp_path / "out")
    expected = {  # counted from 0
        "afw/a_1": (1, 2, 39, 29), "lfpw/trainset/image_1": (2, 3, 40, 30), "lfpw/testset/image_1": (3, 4, 41, 31),
        "ibug/image 2 _01": (4, 5, 42, 32),
    }  # fmt: skip
    for name, box in expected.items():
        assert found[name] is not None
        assert tuple(found[name]) == box
    assert found["afw/b"] is None
    assert "faces stand in no bounding-box file: their landmarks' box is all there is: afw/b" in capsys.readouterr().err
    faces = FaceDataset.open(tmp_path / "out")
    assert [tuple(box_of(face, "given")) for face in faces if face.id == "afw/a_1"] == [(1, 2, 39, 29)]


def test_a_flat_folder_gets_a_box_where_one_file_alone_has_the_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "s"
    (source / "lfpw").mkdir(parents=True)
    for i, name in enumerate(("image_1", "image_2")):
        pts(source / "lfpw" / f"{name}.pts", points(68, i))
    write(source, "lfpw_trainset", {"image_1.png": (3, 4, 41, 31), "image_2.png": (3, 4, 41, 31)})
    write(source, "lfpw_testset", {"image_1.png": (4, 5, 42, 32)})
    found = made(source, tmp_path / "out")
    assert found["lfpw/image_1"] is None
    assert found["lfpw/image_2"] is not None
    assert "faces stand in several bounding-box files" in capsys.readouterr().err


def test_without_such_files_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s").mkdir()
    pts(tmp_path / "s" / "a.pts", points(68))
    assert made(tmp_path / "s", tmp_path / "out") == {"a": None}
    assert "bounding" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text", "expected a MATLAB file with bounding_boxes"),
        ("other", "no bounding_boxes in it"),
        ("numbers", "cell 1 of bounding_boxes is another thing than a structure of imgName"),
        ("no box", "cell 2 of bounding_boxes is another thing than a structure of imgName"),
        ("short", "cell 1 of bounding_boxes: a box of 3 numbers, expected 4"),
        ("cut", "expected a MATLAB file with bounding_boxes"),
    ],
)
def test_a_file_that_is_none_is_refused_by_its_name(kind: str, said: str, tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    pts(source / "a.pts", points(68))
    path = source / "bounding_boxes_afw.mat"
    row = np.empty((1, 2), object)
    row[0, 0] = row[0, 1] = {"imgName": "a.jpg", "bb_detector": np.ones(4)}
    if kind == "short":
        row[0, 0] = {"imgName": "a.jpg", "bb_detector": np.zeros(3)}
    if kind == "no box":
        row[0, 1] = {"imgName": "a.jpg"}
    savemat(path, {"boxes" if kind == "other" else "bounding_boxes": np.ones((1, 4)) if kind == "numbers" else row})
    if kind == "text":
        path.write_text("no MATLAB file, only a text of some length, longer than the header of one" * 4)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UserError, match=rf"bounding_boxes_afw\.mat: .*{said}"):
        made(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_no_damage_of_a_file_is_more_than_a_sentence(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "bounding_boxes_afw.mat"
    savemat(path, {"bounding_boxes": cells({"a.jpg": (1, 2, 3, 4), "b.jpg": (5, 6, 7, 8)})}, do_compression=packed)
    whole = path.read_bytes()
    assert Boxes(tmp_path, Notes()).of("afw/b") == pytest.approx([4, 5, 6, 7])
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(128, len(whole), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged[: rng.integers(130, len(whole) + 1)]))
        with contextlib.suppress(UserError):
            Boxes(tmp_path, Notes())


def test_a_box_that_is_none_is_a_bad_face(tmp_path: Path) -> None:
    source = tmp_path / "s"
    (source / "afw").mkdir(parents=True)
    pts(source / "afw" / "a.pts", points(68))
    write(source, "afw", {"a.png": (30, 3, 2, 30)})
    with pytest.raises(UserError, match=r"box \(29.0, 2.0, 1.0, 29.0\), expected x0 < x1"):
        made(source, tmp_path / "out")
