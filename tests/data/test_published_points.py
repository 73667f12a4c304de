"""Published sets that are read only: MERL-RAV, LaPa, FaceSynthetics, 300W-LP and AFLW2000-3D, drawn small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from builders.layouts import picture, points
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import FORMATS, BadEntry, ReadOptions, schema_of
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema


def faces(name: str, source: Path, schema: LandmarkSchema | None = None, **options: Any) -> dict[str, FaceSample]:
    schema = schema or schema_of(name, source, None)
    assert schema is not None
    entries = list(FORMATS[name].read(source, ReadOptions(schema=schema, **options)))
    assert not [str(entry) for entry in entries if isinstance(entry, BadEntry)]
    return {entry.id: entry for entry in entries if isinstance(entry, FaceSample)}


def pts(path: Path, numbers: np.ndarray) -> None:
    picture(path.with_suffix(".jpg"))
    body = "".join(f"{x} {y}\n" for x, y in numbers)
    path.write_text(f"version: 1\nn_points:  {len(numbers)}\n{{\n{body}}}\n")


def text(path: Path, numbers: np.ndarray, head: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + "".join(f"{x} {y}\n" for x, y in numbers))
    return path


def test_merl_rav_s_signs(tmp_path: Path) -> None:
    placed = points(68)
    numbers = placed + 1
    numbers[:3] = -1
    numbers[3:5] *= -1
    pts(tmp_path / "lefthalf" / "testset" / "image00001.pts", numbers)
    pts(tmp_path / "frontal" / "trainset" / "image00002.pts", placed + 1)
    found = faces("merl-rav", tmp_path, missing="keep")
    half, front = found["lefthalf/testset/image00001"], found["frontal/trainset/image00002"]
    assert half.landmarks is not None
    assert half.visible is not None
    assert np.allclose(half.landmarks[3:], placed[3:], atol=1e-4)
    assert half.missing_points.tolist() == [True] * 3 + [False] * 65
    assert half.visible.tolist() == [False] * 5 + [True] * 63
    assert (half.split, front.split) == ("test", "train")
    assert [name for name, on in half.attributes.items() if on] == ["lefthalf"]
    assert front.point_trust is None
    assert np.allclose(front.landmarks, placed, atol=1e-4)


def test_lapa_s_folders_and_its_count(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        picture(tmp_path / split / "images" / "1.jpg")
        picture(tmp_path / split / "labels" / "1.png")
        text(tmp_path / split / "landmarks" / "1.txt", points(106), "106\n")
    found = faces("lapa", tmp_path)
    assert {id: face.split for id, face in found.items()} == {"test/1": "test", "train/1": "train", "val/1": "val"}
    assert np.allclose(found["val/1"].landmarks, points(106), atol=1e-4)
    assert list(faces("lapa", tmp_path / "val")) == ["1"]


def test_face_synthetics_points_belong_to_the_picture_not_to_its_masks(tmp_path: Path) -> None:
    picture(tmp_path / "000007.png")
    picture(tmp_path / "000007_seg.png")
    text(tmp_path / "000007_ldmks.txt", points(70))
    found = faces("face-synthetics", tmp_path)
    assert found["000007"].image == tmp_path / "000007.png"
    assert np.allclose(found["000007"].landmarks, points(70), atol=1e-4)
    out = tmp_path / "out"
    command = ["prepare", "--reader", "face-synthetics", "--path", str(tmp_path), "--convert", "ibug68"]
    assert main([*command, "--out", str(out)]) == 0
    assert np.allclose(FaceDataset.open(out)[0].landmarks, points(70)[:68], atol=1e-4)


def test_300w_lp_and_aflw2000_by_the_number_of_points(tmp_path: Path) -> None:
    flat = points(68).T + 1
    picture(tmp_path / "AFW" / "AFW_1_0.jpg")
    savemat(tmp_path / "AFW" / "AFW_1_0.mat", {"pt2d": flat, "roi": [1, 2, 3, 4]})
    (tmp_path / "landmarks").mkdir()
    savemat(tmp_path / "landmarks" / "AFW_1_0_pts.mat", {"pts_2d": flat.T})
    assert np.allclose(faces("300w-lp", tmp_path)["AFW/AFW_1_0"].landmarks, points(68), atol=1e-4)
    aflw = tmp_path / "AFLW2000"
    by_hand = flat[:, :21].copy()
    by_hand[:, 4] = -1
    picture(aflw / "image00002.jpg")
    savemat(aflw / "image00002.mat", {"pt2d": by_hand, "pt3d_68": np.concatenate([flat, flat[:1]])})
    assert np.allclose(faces("300w-lp", aflw)["image00002"].landmarks, points(68), atol=1e-4)
    own = LandmarkSchema(name="aflw21", num_points=21)
    face = faces("300w-lp", aflw, own, missing="keep")["image00002"]
    assert face.landmarks is not None
    assert np.flatnonzero(face.missing_points).tolist() == [4]
    assert np.allclose(np.delete(face.landmarks, 4, 0), np.delete(points(68)[:21], 4, 0), atol=1e-4)


def _lapa(head: str, count: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        picture(folder / "train" / "images" / "a.jpg")
        text(folder / "train" / "landmarks" / "a.txt", points(count), head)

    return write


def _mat(folder: Path) -> None:
    picture(folder / "a.jpg")
    savemat(folder / "a.mat", {"pt2d": points(20).T})


def _labels_alone(folder: Path) -> None:
    pts(folder / "a.pts", points(68))
    (folder / "a.jpg").unlink()


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("lapa", _lapa("106\n", 100), "a.txt: 100 points, expected 106 as its first line says"),
        ("lapa", _lapa("100\n", 100), "100 landmarks, expected 106 of lapa106"),
        ("lapa", _lapa("", 106), "a.txt:1: found '"),
        ("lapa", lambda folder: None, "found no folder landmarks/"),
        ("face-synthetics", lambda folder: None, "found no file *_ldmks.txt"),
        ("face-synthetics", lambda folder: text(folder / "1_ldmks.txt", points(70)), "no such image for it"),
        ("300w-lp", _mat, "found pt2d of 2 x 20, expected 2 x 68 or 3 x 68 numbers"),
        ("300w-lp", lambda folder: (folder / "a.mat").write_text("x"), "1 .mat file and no picture beside one"),
        ("merl-rav", _labels_alone, "these are the labels alone"),
        ("merl-rav", lambda folder: None, "found no .pts file"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    name: str, write: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in")
    assert main(["prepare", "--reader", name, "--path", str(tmp_path / "in"), "--out", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Error" not in said
