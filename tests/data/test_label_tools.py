"""Labelling tools: what their files say of points is kept both ways, and what cannot be known is asked for."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.layouts import HEIGHT, WIDTH, picture, points
from builders.tools import (
    CVAT_HEAD,
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
    wrong,
    xy,
)
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, BadEntry, WriteOptions
from stylealign.data.formats.notes import Notes
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, LandmarkSchema

TOOLS = [name for name, entry in FORMATS.items() if entry.write is not None and "visible" in entry.keeps]
# --------------------------------------------------------------------------------------------------------------------
# Round trips

faces_drawn = st.lists(
    st.fixed_dictionaries({
        "seed": st.integers(0, 99),
        "visible": st.lists(st.booleans(), min_size=5, max_size=5),
        "missing": st.lists(st.booleans(), min_size=5, max_size=5).filter(lambda gone: sum(gone) < 4),
        "image": st.integers(0, 1),
        "split": st.sampled_from(["train", "test", "few"]),
        "boxed": st.booleans(),
        "pose": st.booleans(),
    }),
    min_size=1, max_size=4,
)  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("named", [False, True], ids=["numbers", "names"])
def test_every_point_and_flag_comes_back(name: str, named: bool, tmp_path: Path) -> None:
    schema = LandmarkSchema(name="mine", num_points=5, point_names=tuple("edcba") if named else ())
    images = [picture(tmp_path / "pictures" / name, seed=i) for i, name in enumerate(("a b.png", "sub/a.jpg"))]
    round_ = iter(range(1000))

    @settings(max_examples=12)
    @given(faces_drawn)
    def holds(drawn: list[dict]) -> None:
        folder = tmp_path / f"{next(round_)}"
        samples = []
        for i, face in enumerate(drawn):
            gone, seen = np.array(face["missing"]), np.array(face["visible"])
            landmarks = points(5, 1000 * i + face["seed"]) + 0.1234  # of no two faces alike, which tell them apart
            landmarks[gone] = landmarks[~gone].mean(axis=0)
            samples.append(FaceSample(
                id=f"f{i}", image=images[face["image"]], landmarks=landmarks, split=face["split"], visible=seen & ~gone,
                point_trust=(~gone).astype(np.float32) if gone.any() else None,
                box_xyxy=(1.5, 2.5, 40.25, 30) if face["boxed"] else None, attributes={"pose": face["pose"]},
            ))  # fmt: skip
        write = FORMATS[name].write
        assert write is not None
        before = write_dataset(
            folder / "data", samples, schema=schema, name="x", image_root=tmp_path / "pictures", how={}
        )
        (folder / "out").mkdir()
        write(before, folder / "out", WriteOptions())
        left = [one([entry]) for entry in read(name, folder / "out", schema, missing="keep")]
        assert len(left) == len(samples)
        for was in samples:
            assert was.landmarks is not None
            there = was.labelled_points
            distances = [
                np.abs(face.landmarks - was.landmarks)[there].max()
                if face.split == was.split and face.landmarks is not None else 99
                for face in left
            ]  # fmt: skip
            face = left.pop(int(np.argmin(distances)))
            assert min(distances) <= 0.01
            assert np.array_equal(face.missing_points, was.missing_points)
            assert face.visible is not None
            assert np.array_equal(face.visible, was.visible)
            assert bool(face.attributes.get("pose")) == was.attributes["pose"]
            if was.box_xyxy is not None:
                assert face.box_xyxy is not None
                assert np.abs(face.box_xyxy - was.box_xyxy).max() <= 0.01
            assert face.image.read_bytes() == was.image.read_bytes()

    holds()


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_takes_faces_there_and_back_by_the_commands(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Faces of a mark-up of one's own with names: exported, looked at by `init`, and prepared with what that wrote."""
    monkeypatch.chdir(tmp_path)
    schema = LandmarkSchema(name="mine", num_points=5, point_names=("z", "y", "x10", "x9", "w"))
    samples = [
        FaceSample(id=f"f{i}", image=picture(tmp_path / "in" / f"{i}.png", seed=i), landmarks=points(5, i))
        for i in range(3)
    ]
    write_dataset(tmp_path / "data", samples, schema=schema, name="x", image_root=tmp_path / "in", how={})
    assert main(["export-dataset", "--data", "data", "--format", name, "--out", "tool"]) == 0
    assert main(["init", "tool", "--out", "mine"]) == 0, capsys.readouterr().err
    (found,) = re.findall(r"--reader (\S+)", (tmp_path / "mine" / "commands.sh").read_text())
    assert found == name
    assert main(["prepare", "--reader", name, "--path", "tool", "--schema", "mine/schema.yaml", "--out", "again"]) == 0
    again = FaceDataset.open("again")
    if again.schema.point_names:
        names = {f"{schema.name}_{i}": n for i, n in enumerate(schema.point_names)}
        order = [schema.point_names.index(names.get(n, n)) for n in again.schema.point_names]
    else:
        order = list(range(5))
    for was in samples:
        assert was.landmarks is not None
        distances = [
            np.abs(face.landmarks - was.landmarks[order]).max() for face in again if face.landmarks is not None
        ]
        assert min(distances) <= max(0.01, FORMATS[name].rounding)
    capsys.readouterr()


# --------------------------------------------------------------------------------------------------------------------
# What tools write


def test_points_stand_in_the_order_of_their_names_not_of_the_file(tmp_path: Path) -> None:
    shuffled = [labelled()[i] for i in (2, 0, 1)]
    assert np.allclose(one(read("labelme", labelme(tmp_path / "l", shuffled))).landmarks, PLACES)
    skeleton = '<skeleton label="face">{}</skeleton>'.format(
        "".join(f'<points label="{THREE.point_names[i]}" outside="0" points="{xy(i)}"/>' for i in (1, 2, 0))
    )
    assert np.allclose(one(read("cvat", cvat(tmp_path / "c", skeleton))).landmarks, PLACES, atol=0.01)


def test_several_faces_of_a_picture_are_told_apart(tmp_path: Path) -> None:
    shapes = [*labelled(group=1), *labelled(group=2)]
    faces = read("labelme", labelme(tmp_path / "l", shapes))
    assert [one([face]).id for face in faces] == ["a", "a#1"]
    assert "point 'left eye' stands 2 times in one face" in wrong(
        read("labelme", labelme(tmp_path / "m", [*labelled(), *labelled()]))
    )
    two = cvat_points(more='group_id="4"') + cvat_points(more='group_id="7"')
    boxes = '<box label="face" xtl="1" ytl="2" xbr="40" ybr="35" group_id="7"/>'
    first, second = (one([face]) for face in read("cvat", cvat(tmp_path / "c", two + boxes)))
    assert first.box_xyxy is None
    assert second.box_xyxy is not None
    assert second.box_xyxy.tolist() == [1, 2, 40, 35]


def test_hidden_and_missing_points_of_labelme_and_cvat(tmp_path: Path) -> None:
    shapes = labelled()[:2]
    shapes[0]["flags"] = {"occluded": True}
    source = labelme(tmp_path / "l", shapes)
    assert "1 of 3 landmarks not labelled, the first is 2 'nose' (--missing keep" in wrong(read("labelme", source))
    face = one(read("labelme", source, missing="keep"))
    assert face.visible is not None
    assert face.visible.tolist() == [False, True, False]
    assert face.missing_points.tolist() == [False, False, True]
    skeleton = (
        f'<skeleton label="face"><points label="left eye" outside="0" occluded="1" points="{xy(0)}"/>'
        f'<points label="right eye" outside="0" occluded="0" points="{xy(1)}"/>'
        f'<points label="nose" outside="1" occluded="0" points="{xy(2)}"/></skeleton>'
    )
    other = one(read("cvat", cvat(tmp_path / "c", skeleton), missing="keep"))
    assert other.visible is not None
    assert other.visible.tolist() == face.visible.tolist()
    assert other.missing_points.tolist() == face.missing_points.tolist()


def test_points_without_names_of_their_own_keep_their_order_and_need_all(tmp_path: Path) -> None:
    notes = Notes()
    whole = f'<points label="face" points="{xy(0)};{xy(1)};{xy(2)}"/>'
    face = one(read("cvat", cvat(tmp_path / "c", whole), point_names=(), notes=notes))
    assert np.allclose(face.landmarks, PLACES, atol=0.01)
    assert any("no names of their own" in note for note in notes)
    shapes = labelled(("landmark",) * 3)
    assert np.allclose(one(read("labelme", labelme(tmp_path / "l", shapes), point_names=())).landmarks, PLACES)
    said = wrong(read("labelme", labelme(tmp_path / "l", shapes[:2]), point_names=()))
    assert "2 points called 'landmark', expected 3 of three: without names of their own none may be missing" in said


def test_names_that_do_not_tell_the_landmark_of_a_published_mark_up_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("mouth r", "mouth l", "nose", "eye r", "eye l")
    placed = points(5)
    labelme(tmp_path / "l", [point(name, xy) for name, xy in zip(names, placed, strict=True)])
    command = ["prepare", "--reader", "labelme", "--path", "l", "--out", "data"]
    assert main(command) == 2
    assert "does not tell which landmark of five each is" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("eye l\neye r\nnose\nmouth l\nmouth r\n")
    assert main([*command, "--point-names", "names.txt"]) == 0
    (face,) = FaceDataset.open("data")
    assert np.allclose(face.landmarks, placed[::-1])
    (tmp_path / "names.txt").write_text("eye l\neye r\n")
    assert main([*command[:-1], "other", "--point-names", "names.txt"]) == 2
    assert "names.txt: 2 different names, expected 5 of five" in capsys.readouterr().err
    assert main(["prepare", "--reader", "list", "--path", "l", "--out", "x", "--point-names", "names.txt"]) == 2
    assert "name their points" in capsys.readouterr().err


def test_the_order_that_cvat_declares_holds_and_is_said(tmp_path: Path) -> None:
    meta = "<label><name>face</name><type>skeleton</type></label>" + "".join(
        f"<label><name>{name}</name><type>points</type><parent>face</parent></label>" for name in ("c", "a", "b")
    )
    parts = "".join(f'<points label="{name}" points="{xy(i)}"/>' for i, name in enumerate(("a", "b", "c")))
    source, notes = cvat(tmp_path, f'<skeleton label="face">{parts}</skeleton>', meta), Notes()
    face = one(read("cvat", source, point_names=(), notes=notes))
    assert np.allclose(face.landmarks, PLACES[[2, 0, 1]], atol=0.01)
    assert list(notes) == ["names of points, in the order that the file declares: c, a, b"]
    assert FORMATS["cvat"].point_names is not None
    assert list(FORMATS["cvat"].point_names(source)) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (("p1", "p2", "p3"), 3, None),
        (("p0", "p1", "p2"), 3, None),
        (("p1", "p2", "p9"), 3, "numbered from 1 to 9, expected 0 to 2 or 1 to 3 of n"),
        (
            ("left eye", "right eye", "nse"),
            4,
            "3 different names of points, expected 4 of n: 'left eye' stands in 1 of 1",
        ),
    ],
)
def test_numbers_in_names_tell_the_order(
    names: tuple[str, ...], count: int, message: str | None, tmp_path: Path
) -> None:
    schema = LandmarkSchema(name="n", num_points=count)
    source = labelme(tmp_path, labelled(names)[::-1])
    if message is None:
        assert np.allclose(one(read("labelme", source, schema)).landmarks, PLACES)
        return
    with pytest.raises(Exception, match=re.escape(message)):
        read("labelme", source, schema)


def test_a_name_of_one_file_alone_is_told(tmp_path: Path) -> None:
    labelme(tmp_path, labelled())
    labelme(tmp_path, labelled(("left eye", "right eye", "nse")), "b.json")
    with pytest.raises(Exception, match=r"4 different names of points, expected 3 of three: 'nose' stands in 1 of 2"):
        read("labelme", tmp_path, point_names=())
    bad = [str(entry) for entry in read("labelme", tmp_path) if isinstance(entry, BadEntry)]
    assert len(bad) == 1
    assert "the first is 2 'nose'; it has 'nse', which is none of their names" in bad[0]


def test_label_studio_counts_in_percent_and_tells_faces_by_their_rectangles(tmp_path: Path) -> None:
    around = rectangle("r")
    around["value"] |= {"x": 10, "y": 10, "width": 60, "height": 70}
    pose = {"id": "q", "type": "choices", "value": {"choices": ["pose"]}}
    face = one(read("label-studio", label_studio(tmp_path / "one", [*regions(), around, pose])))
    assert np.allclose(face.landmarks, PLACES, atol=1e-4)
    assert face.box_xyxy is not None
    assert face.box_xyxy.tolist() == [6, 4, 42, 32]
    assert face.attributes == {"pose": True}
    elsewhere = label_studio(tmp_path / "elsewhere", [*regions(), rectangle("lamp")])
    assert one(read("label-studio", elsewhere)).box_xyxy is None
    two = label_studio(tmp_path / "two", [*regions("r"), *regions("s"), rectangle("r"), rectangle("s", 90)])
    first, second = (one([face]) for face in read("label-studio", two))
    assert first.box_xyxy is not None
    assert second.box_xyxy is not None
    assert first.box_xyxy.tolist() == [30, 20, 45, 30]
    assert np.allclose(second.box_xyxy, [20, 20, 30, 35])  # turned about its first corner
    assert "point 'left eye' stands 2 times" in wrong(
        read("label-studio", label_studio(tmp_path / "mixed", [*regions(), *regions()]))
    )


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"annotations": [], "predictions": [{"result": []}]}, "tasks with predictions alone passed over"),
        ({"annotations": [{"was_cancelled": True, "result": []}]}, "tasks without an annotation passed over"),
        ({"annotations": [{"result": []}, {"result": regions()}]}, "tasks have several annotations"),
        ({"annotations": [{"result": regions(image_rotation=90)}]}, "image_rotation is 90, expected 0"),
        ({"annotations": [{"result": regions(original_width=None)}]}, "no original_width and original_height"),
        ({"annotations": [{"result": regions(original_width=70)}]}, "declared 70 x 40, but the file is 60 x 40"),
        ({"data": {"image": "/data/local-files/?d=faces%2Fa.png"}}, "pictures found by the end of the name"),
        ({"data": {"image": "/data/upload/4/0123abcd-a.png"}}, "pictures found by the end of the name"),
        ({"data": {"image": "s3://bucket/faces/a.png"}}, "pictures found by the end of the name"),
        ({"data": {"image": "https://x.org/b.png?a=1"}}, "no such image"),
        ({"data": {"image": "../../etc/b.png"}}, "does not lie below"),
        ({"data": {"image": 3}}, "no address of a picture in its data"),
    ],
)
def test_what_label_studio_says_of_a_task(task: dict, said: str, tmp_path: Path) -> None:
    notes = Notes()
    found = read("label-studio", label_studio(tmp_path, regions(), **task), notes=notes)
    assert said in "".join(map(str, [*found, *notes]))


def test_imglab_s_parts_are_whole_pixels_unless_they_were_ours(tmp_path: Path) -> None:
    picture(tmp_path / "caf\u00e9.png")
    parts = "".join(
        f"<part name='{name}' x='{x:.0f}' y='{y:.0f}'/>" for name, (x, y) in zip(THREE.point_names, PLACES, strict=True)
    )
    text = (
        "<?xml version='1.0' encoding='ISO-8859-1'?><dataset><images><image file='caf\u00e9.png'>"
        f"<box top='2' left='1' width='40' height='29' occluded='1'>{parts}</box>"
        "<box top='2' left='1' width='4' height='2' ignore='1'/><box top='2' left='1' width='4' height='2'/>"
        "</image></images></dataset>"
    )
    (tmp_path / "test.xml").write_text(text, encoding="utf-8")  # dlib says Latin-1 and writes the bytes it has
    notes = Notes()
    face = one(read("imglab", tmp_path, notes=notes))
    assert np.allclose(face.landmarks, PLACES.round())
    assert face.box_xyxy is not None
    assert face.box_xyxy.tolist() == [1, 2, 40, 30]
    assert face.attributes == {"occluded": True}
    assert face.split == "test"
    assert [note.split(":")[0] for note in notes] == [
        "boxes to be ignored passed over",
        "boxes without parts passed over",
    ]
    moved = text.replace("x='20'", "x='20' exact='24.5 30'").replace("x='30'", "x='30' exact='30.25 20.5'")
    (tmp_path / "test.xml").write_text(moved, encoding="utf-8")
    face = one(read("imglab", tmp_path))
    assert face.landmarks is not None
    assert face.landmarks[1].tolist() == [30.25, 20.5]  # ours
    assert face.landmarks[2].tolist() == [20, 30]  # moved by hand since


@pytest.mark.parametrize("word", ["hidden", "Occluded", "INVISIBLE "])
def test_words_for_hidden_points_are_read_in_capitals_too_and_others_are_said(word: str, tmp_path: Path) -> None:
    notes = Notes()
    shapes = labelled()
    shapes[0]["flags"], shapes[1]["flags"] = {word: True, "visible": False}, {word: False, "blurred": True}
    face = one(read("labelme", labelme(tmp_path / "labelme", shapes), notes=notes))
    assert face.visible is not None
    assert face.visible.tolist() == [False, True, True]
    choices = [
        {"id": f"None{i}", "type": "choices", "value": {"choices": [said]}} for i, said in ((0, word), (1, "far"))
    ]
    face = one(read("label-studio", label_studio(tmp_path / "choices", [*regions(), *choices]), notes=notes))
    assert face.visible is not None
    assert face.visible.tolist() == [False, True, True]
    named = regions()
    named[0]["value"]["keypointlabels"] = [word, THREE.point_names[0]]
    face = one(read("label-studio", label_studio(tmp_path / "labels", named), notes=notes))
    assert face.visible is not None
    assert face.visible.tolist() == [False, True, True]
    assert [note.partition(":")[0] for note in notes] == [
        "flags 'blurred' of points passed over, expected hidden", "choices 'far' of points passed over, expected hidden"
    ]  # fmt: skip


def test_what_moved_by_a_pixel_in_an_imglab_file_of_ours_has_moved(tmp_path: Path) -> None:
    image = picture(tmp_path / "pictures" / "a.png")
    face = FaceSample(id="a", image=image, landmarks=PLACES + 0.2, box_xyxy=(5.2, 15.0, 35.0, 34.9))
    data = write_dataset(tmp_path / "data", [face], schema=THREE, image_root=image.parent)
    FORMATS["imglab"].write(data, tmp_path, WriteOptions())  # type: ignore[misc]
    path = tmp_path / "train.xml"
    text = path.read_text(encoding="utf-8")
    for step in (-1, 1):
        x, left, width = 20 + step, 5 + step, 31 + step
        moved = text.replace('x="20"', f'x="{x}"').replace('left="5" width="31"', f'left="{left}" width="{width}"')
        assert moved.count(f'"{x}"') > text.count(f'"{x}"')
        assert f'left="{left}"' in moved
        path.write_text(moved, encoding="utf-8")
        found = one(read("imglab", path))
        assert found.landmarks is not None
        assert found.box_xyxy is not None
        assert found.landmarks[2].tolist() == [x, 30]
        assert np.allclose(found.landmarks[:2], PLACES[:2] + 0.2, atol=1e-4)
        assert found.box_xyxy.tolist() == [left, 15, left + width - 1, 35]


# --------------------------------------------------------------------------------------------------------------------
# Pictures


def test_a_picture_is_found_where_the_tool_says_or_by_the_end_of_its_name(tmp_path: Path) -> None:
    notes = Notes()
    for number, name in enumerate(("../a.png", "..\\a.png", "C:\\Users\\me\\a.png", "/home/me/faces/a.png")):
        labelme(tmp_path / f"{number}", labelled(), "json/a.json", imagePath=name)
        assert one(read("labelme", tmp_path / f"{number}", notes=notes)).image == tmp_path / f"{number}" / "a.png"
    assert [note.split(":")[0] for note in notes] == ["pictures found by the end of the name that the file has"]
    labelme(tmp_path / "far", labelled(), "json/a.json", imagePath="../../0/b.png")
    picture(tmp_path / "0" / "b.png")
    assert "does not lie below" in wrong(read("labelme", tmp_path / "far"))
    face = one(read("labelme", tmp_path / "far" / "json", images=tmp_path / "0"))
    assert face.image == tmp_path / "0" / "b.png"


def test_a_declared_size_is_compared(tmp_path: Path) -> None:
    double = labelled()
    for shape in double:
        shape["points"] = [[2 * v for v in shape["points"][0]]]
    face = one(read("labelme", labelme(tmp_path / "l", double, imageHeight=2 * HEIGHT, imageWidth=2 * WIDTH)))
    assert np.allclose(face.landmarks, PLACES)  # numbers that count from the corner of the first pixel
    said = wrong(read("labelme", labelme(tmp_path / "m", labelled(), imageHeight=70)))
    assert f"declared {WIDTH} x 70, but the file is {WIDTH} x {HEIGHT}" in said
    said = wrong(read("cvat", cvat(tmp_path / "c", cvat_points(), image='name="a.png" width="60" height="70"')))
    assert f"declared {WIDTH} x 70, but the file is {WIDTH} x {HEIGHT}" in said


# --------------------------------------------------------------------------------------------------------------------
# Wrong input


def _video(folder: Path) -> None:
    (folder / "a.xml").write_text(f'{CVAT_HEAD}<track id="0" label="face"></track></annotations>')


def _text(name: str, text: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("cvat", _video, "a CVAT file of a video, expected one of images: export it as CVAT for images 1.1"),
        ("cvat", _text("a.xml", "<annotations><image name='a'>"), "a.xml:1: not valid XML (no element found"),
        ("cvat", _text("a.xml", '<!DOCTYPE a [<!ENTITY x "y">]><annotations/>'), "a document type (<!DOCTYPE>)"),
        ("cvat", _text("a.xml", "<annotations>" + "<a>" * 99), "nested deeper than 64 levels"),
        ("cvat", _text("b.txt", "x"), "found no CVAT file in it or below it"),
        ("cvat", _text("a.xml", "<annotations></annotations>"), "no face in it has points"),
        ("labelme", _text("a.json", '{"shapes": [], "imagePath": "a"'), "no face in it has points"),
        ("labelme", _text("a.json", b'{"shapes": [], "imagePath": "\xff"}'), "no face in it has points"),
        ("labelme", _text("a.txt", "x"), "found no labelme file in it or below it"),
        ("label-studio", _text("a.json", '[{"data": {}, "annotations": 3}]'), "annotations are 3, expected a list"),
        ("label-studio", _text("a.json", '[{"image": "a", "kp-1": [], "annotator": 1}]'), "no Label Studio export"),
        ("imglab", _text("a.xml", "<dataset><images><image/></images></dataset>"), "an image without a file"),
        ("imglab", _text("a.xml", "<dataset/>"), "no face in it has points"),
        ("imglab", _text("a.txt", "x"), "found no imglab file in it"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_sentence(
    name: str, write: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in")
    assert main(["prepare", "--reader", name, "--path", str(tmp_path / "in"), "--out", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Error" not in said
    assert not (tmp_path / "data").exists()


def test_what_lies_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelme(tmp_path / "l", labelled())
    prepare = ["prepare", "--out", str(tmp_path / "data"), "--path"]
    assert main([*prepare, str(tmp_path / "l"), "--reader", "coco"]) == 2
    said = capsys.readouterr().err
    assert "1 labelme file (.json with `shapes`)" in said
    assert "--reader labelme reads it" in said
    five = ["--reader", "folder", "--schema", "five", "--box-frac", "0.5"]
    assert main(["prepare", "--out", str(tmp_path / "pictures"), "--path", str(tmp_path / "l"), *five]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "labelme files (.json with `shapes`) passed over: --reader labelme reads them: a.json" in said
    cvat(tmp_path / "l", cvat_points())
    assert main(["init", str(tmp_path / "l"), "--out", str(tmp_path / "i")]) == 2
    assert "looks like 2 formats at once, cvat and labelme" in capsys.readouterr().err
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.xml").write_text("<annotation><object/></annotation>")
    (tmp_path / "v" / "b.zip").write_bytes(b"PK")
    assert main(["init", str(tmp_path / "v"), "--out", str(tmp_path / "i")]) == 2
    said = capsys.readouterr().err
    assert "1 Pascal VOC file (.xml)" in said
    assert "b.zip (unpack them first)" in said


def test_predictions_are_labels_to_correct(tmp_path: Path) -> None:
    """What `predict --formats` writes leads to the pictures where they are, and is read back from there."""
    image = picture(tmp_path / "photos" / "a.png")
    face = FaceSample(id="a", image=image, landmarks=points(5), split="predicted")
    for name in TOOLS:
        entry = FORMATS[name].predicted
        assert entry is not None
        out = tmp_path / "predictions" / name
        out.mkdir(parents=True)
        entry.write(out, [face], FIVE)
        if name == "label-studio":  # what nobody has looked at is no label
            assert read(name, out, FIVE, images=tmp_path / "photos") == []
            tasks = out / "label_studio" / "tasks.json"
            tasks.write_text(tasks.read_text().replace('"predictions"', '"annotations"'))
        again = one(read(name, out, FIVE, images=tmp_path / "photos"))
        assert again.image == image
        assert np.abs(again.landmarks - face.landmarks).max() <= 0.01
