"""Which rectangle of a labelling tool is a face's box: that of its group, else the smallest that it lies in."""

from pathlib import Path

import numpy as np
import pytest

from builders.layouts import picture
from builders.tools import (
    PLACES,
    THREE,
    cvat,
    cvat_points,
    label_studio,
    labelled,
    labelme,
    one,
    point,
    read,
    rectangle,
    regions,
)
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, WriteOptions
from stylealign.data.formats.notes import Notes
from stylealign.face.sample import FaceSample

ROUND, WIDER, ELSEWHERE = (5, 15, 35, 35), (4, 14, 40, 36), (45, 1, 58, 9)


def around(corners: tuple[int, int, int, int], label: str, group: int | None = None) -> dict:
    places = [list(corners[:2]), list(corners[2:])]
    return {"label": label, "points": places, "group_id": group, "shape_type": "rectangle", "flags": {label: True}}


def region(id: str, corners: tuple[int, int, int, int], label: str) -> dict:
    x0, y0, x1, y1 = corners
    value = {"x": x0 / 60 * 100, "y": y0 / 40 * 100, "width": (x1 - x0) / 60 * 100, "height": (y1 - y0) / 40 * 100}
    return rectangle(id) | {"value": {**value, "rotation": 0, "rectanglelabels": [label]}}


def box(face: FaceSample) -> list[float] | None:
    return None if face.box_xyxy is None else face.box_xyxy.round(3).tolist()


def test_labelme_s_rectangles_without_a_group(tmp_path: Path) -> None:
    notes = Notes()
    shapes = [around(ELSEWHERE, "hat"), around(WIDER, "face"), *labelled(), around(ROUND, "cheeks")]
    face = one(read("labelme", labelme(tmp_path / "a", shapes), notes=notes))
    assert (box(face), dict(face.attributes)) == (list(WIDER), {"face": True})  # called face, though not the smallest
    assert [note.partition(":")[0] for note in notes] == [
        "rectangles 'hat' without points passed over", "rectangles 'cheeks' without points passed over"
    ]  # fmt: skip
    assert box(one(read("labelme", labelme(tmp_path / "b", [around(ELSEWHERE, "hat"), *labelled()])))) is None


def test_labelme_s_faces_each_with_a_rectangle_without_a_group(tmp_path: Path) -> None:
    beside = [point(name, xy, 2) for name, xy in zip(THREE.point_names, PLACES + np.array([15, 0]), strict=True)]
    right = (22, 15, 50, 36)
    folder = labelme(tmp_path, [around(right, "face"), *labelled(group=1), *beside, around(ROUND, "face")])
    assert [box(face) for face in read("labelme", folder) if isinstance(face, FaceSample)] == [
        list(ROUND), list(right)
    ]  # fmt: skip


@pytest.mark.parametrize("corners", [ELSEWHERE, ROUND])
def test_a_box_that_does_not_lie_round_its_face_comes_back(corners: tuple[int, int, int, int], tmp_path: Path) -> None:
    image = picture(tmp_path / "pictures" / "a.png")
    face = FaceSample(id="a", image=image, landmarks=PLACES, box_xyxy=np.array(corners, float))
    dataset = write_dataset(tmp_path / "data", [face], schema=THREE, image_root=image.parent)
    for name in ("labelme", "label-studio", "cvat", "imglab"):
        out, write = tmp_path / name, FORMATS[name].write
        out.mkdir()
        assert write is not None
        write(dataset, out, WriteOptions())
        assert box(one(read(name, out))) == list(corners), name


def test_label_studio_s_rectangles_without_points(tmp_path: Path) -> None:
    notes = Notes()
    found = [region("h", ELSEWHERE, "hat"), region("w", WIDER, "body"), *regions(), region("f", ROUND, "body")]
    assert box(one(read("label-studio", label_studio(tmp_path, found), notes=notes))) == list(ROUND)
    where = f"{tmp_path / 'tasks.json'}: tasks[0]"
    assert list(notes) == [f"rectangles without points passed over: {where}, {where}"]


def test_label_studio_s_rectangle_round_points_beside_another_face(tmp_path: Path) -> None:
    found = [region("r", WIDER, "face"), *regions("r"), region("f", ROUND, "face"), *regions()]
    first, second = (one([face]) for face in read("label-studio", label_studio(tmp_path, found)))
    assert (box(first), box(second)) == (list(WIDER), list(ROUND))


def test_cvat_s_box_without_a_group_round_a_face_of_one(tmp_path: Path) -> None:
    skeleton = f'<skeleton label="face" group_id="3">{cvat_points()}</skeleton>'
    free = '<box label="face" xtl="5" ytl="15" xbr="35" ybr="35"/>'
    assert box(one(read("cvat", cvat(tmp_path, free + skeleton)))) == list(ROUND)
