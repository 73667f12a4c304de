"""What looks alike in a tool's export is told apart: pictures of one name, orders of points, boxes, hands and faces."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps

from builders.layouts import HEIGHT, WIDTH, csv_text, picture, points
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
    regions,
    wrong,
    xy,
)
from stylealign.cli import main
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, BadEntry, ReadOptions, WriteOptions
from stylealign.data.formats.notes import Notes
from stylealign.data.formats.sniff import kind_of
from stylealign.data.image import read_image
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema

SHUFFLED = (2, 0, 4, 1, 3)
"""Numbers of five points (eyes, nose, corners of the mouth) in the order in which a file declares them"""
FACE = np.array([[15.0, 12], [45, 12], [30, 20], [19, 31], [41, 31]])


def faces_of(source: Path, name: str, schema: LandmarkSchema = THREE, **options: Any) -> list[FaceSample]:
    found = read(name, source, schema, **options)
    assert all(isinstance(entry, FaceSample) for entry in found), [str(entry) for entry in found]
    return found  # type: ignore[return-value]


def coco(path: Path, images: list[str], annotations: list[dict], categories: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"id": i, "file_name": image} for i, image in enumerate(images)]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")


def three(image: int = 0, category: int = 1, shift: float = 0) -> dict:
    keypoints = [float(v) for x, y in PLACES + shift for v in (x, y, 2)]
    return {"image_id": image, "category_id": category, "keypoints": keypoints}


NAMED = {"id": 1, "name": "face", "keypoints": list(THREE.point_names)}


# ----------------------------------------------------------------------------------------------------- order of points


def _declared_shuffled(name: str, folder: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [FACE + rng.normal(0, 0.8, (5, 2)) for _ in range(12)]
    for i in range(12):
        picture(folder / "images" / f"{i}.png", seed=i)
    if name == "coco":
        category = {"id": 1, "name": "face", "keypoints": [f"p{i}" for i in SHUFFLED]}
        annotations = [
            {"image_id": n, "category_id": 1, "keypoints": [v for i in SHUFFLED for v in (*shape[i].tolist(), 2)]}
            for n, shape in enumerate(shapes)
        ]
        coco(folder / "faces.json", [f"{i}.png" for i in range(12)], annotations, [category])
        return
    labels = "".join(f"<label><name>{i}</name><type>points</type><parent>face</parent></label>" for i in SHUFFLED)
    text = "".join(
        f'<image id="{n}" name="{n}.png" width="{WIDTH}" height="{HEIGHT}"><skeleton label="face">'
        + "".join(f'<points label="{i}" outside="0" points="{x},{y}"/>' for i, (x, y) in enumerate(shape))
        + "</skeleton></image>"
        for n, shape in enumerate(shapes)
    )
    meta = f"<meta><task><labels><label><name>face</name><type>skeleton</type></label>{labels}</labels></task></meta>"
    (folder / "annotations.xml").write_text(f"{CVAT_HEAD}{meta}{text}</annotations>")


@pytest.mark.parametrize("name", ["cvat", "coco"])
def test_mirror_pairs_are_those_of_the_numbers_whatever_order_declares_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _declared_shuffled(name, tmp_path / "tool")
    assert main(["init", "tool", "--out", "mine"]) == 0
    schema = yaml.safe_load(Path("mine/schema.yaml").read_text())
    assert sorted(schema["flip_pairs"]) == [[0, 1], [3, 4]]
    assert [int(called[-1]) for called in schema["point_names"]] == [0, 1, 2, 3, 4]
    assert main(["prepare", "--reader", name, "--path", "tool", "--schema", "mine/schema.yaml", "--out", "data"]) == 0
    for face in FaceDataset.open("data"):
        assert face.landmarks is not None
        assert np.abs(face.landmarks - FACE).max() < 4


def test_numbers_tell_the_order_where_a_declared_point_is_never_labelled(tmp_path: Path) -> None:
    labels = "".join(f"<label><name>{i}</name><parent>face</parent></label>" for i in (2, 0, 1))
    parts = "".join(f'<points label="{i}" outside="0" points="{xy(i)}"/>' for i in (1, 2))
    source = cvat(tmp_path, f'<skeleton label="face">{parts}</skeleton>', labels)
    (face,) = faces_of(source, "cvat", LandmarkSchema(name="mine", num_points=3), missing="keep")
    assert face.missing_points.tolist() == [True, False, False]
    assert np.allclose(face.landmarks[1:], PLACES[1:], atol=0.01)  # type: ignore[index]


def test_the_order_is_that_of_the_skeleton_that_is_read(tmp_path: Path) -> None:
    order = {"face": THREE.point_names, "profile": THREE.point_names[::-1]}
    meta = "".join(
        f"<label><name>{name}</name><parent>{label}</parent></label>"
        for label, names in order.items()
        for name in names
    )
    shapes = "".join(
        f'<skeleton label="{label}">'
        + "".join(f'<points label="{n}" outside="0" points="{xy(i)}"/>' for i, n in enumerate(THREE.point_names))
        + "</skeleton>"
        for label in order
    )
    (face,) = faces_of(cvat(tmp_path, shapes, meta), "cvat", LandmarkSchema(name="mine", num_points=3))
    assert np.allclose(face.landmarks, PLACES, atol=0.01)


def test_a_later_file_s_points_come_after_those_of_files_before(tmp_path: Path) -> None:
    for part, names in (("t1", ("b", "a")), ("t2", ("b", "a", "c"))):
        meta = "".join(f"<label><name>{name}</name><parent>face</parent></label>" for name in names)
        parts = "".join(f'<points label="{n}" outside="0" points="{xy(i)}"/>' for i, n in enumerate(names))
        cvat(tmp_path / part, f'<skeleton label="face">{parts}</skeleton>', meta)
    assert list(FORMATS["cvat"].point_names(tmp_path)) == ["b", "a", "c"]  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------ pictures of one name


def test_a_project_s_subsets_may_have_pictures_of_one_name(tmp_path: Path) -> None:
    for subset in ("Train", "Validation", "set_1"):
        picture(tmp_path / "images" / subset / "a.png")
    images = "".join(
        f'<image id="{i}" name="a.png" subset="{subset}" width="{WIDTH}" height="{HEIGHT}">{cvat_points()}</image>'
        for i, subset in enumerate(("Train", "Validation", "set_1"))
    )
    (tmp_path / "annotations.xml").write_text(f"{CVAT_HEAD}{images}</annotations>")
    found = {face.split: face.image.parent.name for face in faces_of(tmp_path, "cvat")}
    assert found == {"train": "Train", "val": "Validation", "set_1": "set_1"}


@pytest.mark.parametrize(("word", "split"), [("Train", "train"), ("valid", "val"), ("Validation", "val"),
                                             ("testing", "test"), ("few", "few")])  # fmt: skip
@pytest.mark.parametrize("name", ["csv", "coco", "labelme", "label-studio", "imglab"])
def test_a_split_is_called_as_tools_call_it_in_every_file_that_has_a_word_for_one(
    name: str, word: str, split: str, tmp_path: Path
) -> None:
    images = tmp_path / "pictures"
    face = FaceSample(id="a", image=picture(images / "a.png"), landmarks=PLACES, split="mine")
    data = write_dataset(tmp_path / "data", [face], schema=THREE, name="x", image_root=images, how={})
    out = tmp_path / "out"
    out.mkdir()
    write = FORMATS[name].write
    assert write is not None
    write(data, out, WriteOptions())
    for path in (path for path in out.rglob("*") if path.suffix in (".csv", ".json", ".xml")):
        path.write_text(path.read_text().replace("mine", word))
    assert [found.split for found in faces_of(out, name)] == [split]


def test_regions_lie_on_the_picture_that_they_say(tmp_path: Path) -> None:
    right = [{**region, "to_name": "right"} for region in regions("r")]
    left = [{**region, "to_name": "left"} for region in regions("l")]
    two = label_studio(tmp_path / "two", left + right, data={"left": "left.png", "right": "right.png"})
    for name in ("left.png", "right.png"):
        picture(two / name)
    assert [face.image.name for face in faces_of(two, "label-studio")] == ["left.png", "right.png"]

    thumb = label_studio(tmp_path / "thumb", [{**r, "to_name": "photo"} for r in regions()],
                         data={"preview": "thumb.png", "photo": "a.png"})  # fmt: skip
    picture(thumb / "thumb.png", 6, 4)
    assert one(read("label-studio", thumb)).image.name == "a.png"

    unsure = label_studio(tmp_path / "unsure", regions(), data={"first": "a.png", "second": "b.png"})
    assert "several pictures, 'first', 'second', and to_name" in wrong(read("label-studio", unsure))

    pages = [{**r, "to_name": "pages", "item_index": 1} for r in regions()]
    paged = label_studio(tmp_path / "paged", pages, data={"pages": ["a.png", "b.png"]})
    picture(paged / "b.png")
    assert one(read("label-studio", paged)).image.name == "b.png"
    beyond = label_studio(
        tmp_path / "beyond", [{**r, "item_index": 2} for r in pages], data={"pages": ["a.png", "b.png"]}
    )
    assert "no picture 2 in 'pages'" in wrong(read("label-studio", beyond))


def test_two_pictures_are_not_found_as_one(tmp_path: Path) -> None:
    for part in ("s1", "s2"):
        labelme(tmp_path / "moved", labelled(), f"{part}/a.json", imagePath=f"D:\\work\\{part}\\a.png")
    picture(tmp_path / "moved" / "img" / "a.png")
    (tmp_path / "moved" / "a.png").rename(tmp_path / "moved" / "img" / "a.png")
    assert [str(entry).count("no such image") for entry in read("labelme", tmp_path / "moved")] == [1, 1]
    flat = tmp_path / "flat"
    for part in ("s1", "s2"):
        labelme(flat, labelled(), f"{part}/a.json", imagePath=f"D:\\work\\{part}\\a.png")
    for entry in read("labelme", flat):
        assert isinstance(entry, BadEntry)
        assert "D:\\work\\s1\\a.png" in entry.message
        assert "D:\\work\\s2\\a.png" in entry.message

    (tmp_path / "own" / "s1").mkdir(parents=True)
    labelme(tmp_path / "own" / "s1", labelled(), "a.json")
    labelme(tmp_path / "own" / "s1", labelled(), "b.json", imagePath="..\\s2\\a.png")
    right, other = read("labelme", tmp_path / "own")
    assert isinstance(right, FaceSample)
    assert isinstance(other, BadEntry)
    assert "no such image ..\\s2\\a.png" in other.message


def test_an_upload_s_tag_tells_it_apart_and_a_date_is_no_tag(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    tasks = [
        {"data": {"image": f"/data/upload/1/{tag}-a.png"}, "annotations": [{"result": regions()}]}
        for tag in ("1111aaaa", "2222bbbb")
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    assert all("expected a picture each" in str(entry) for entry in read("label-studio", tmp_path))
    (tmp_path / "tasks.json").write_text(json.dumps(tasks[:1]))
    assert one(read("label-studio", tmp_path)).image.name == "a.png"
    local = label_studio(tmp_path / "local", regions(), "/data/local-files/?d=20240102-a.png")
    assert "no such image" in wrong(read("label-studio", local))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_that_of_the_file_in_another_unicode_form(form: str, tmp_path: Path) -> None:
    written, other = unicodedata.normalize("NFC", "é a.png"), unicodedata.normalize(form, "é a.png")
    picture(tmp_path / "cvat" / "images" / other)
    cvat(tmp_path / "cvat", cvat_points(), image=f'name="{written}" width="{WIDTH}" height="{HEIGHT}"')
    assert one(read("cvat", tmp_path / "cvat")).image.name == other
    (tmp_path / "csv").mkdir()
    picture(tmp_path / "csv" / "images" / other)
    (tmp_path / "csv" / "train.csv").write_text(csv_text([(written, PLACES)], 3))
    assert one(read("csv", tmp_path / "csv")).image.name == other


def test_a_frame_of_a_video_has_its_file_s_suffix(tmp_path: Path) -> None:
    """CVAT exports a task of a video as images, names its frames without one, and keeps its mode."""
    head = f"{CVAT_HEAD}<meta><task><mode>interpolation</mode></task></meta>"
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    for name in ("frame_000000.PNG", "frame_000001.png", "frame_000001.jpg"):
        picture(tmp_path / "images" / name)
    path = tmp_path / "annotations.xml"
    path.write_text(f'{head}<image id="0" name="frame_000000" {size}>{cvat_points()}</image></annotations>')
    assert one(read("cvat", tmp_path)).image.name == "frame_000000.PNG"
    path.write_text(f'{head}<image id="1" name="frame_000001" {size}>{cvat_points()}</image></annotations>')
    assert "no such image" in wrong(read("cvat", tmp_path))


def test_a_list_means_the_picture_of_its_suffix(tmp_path: Path) -> None:
    rows = []
    for i, name in enumerate(("a.png", "a.jpg", "b.png")):
        picture(tmp_path / name, seed=i)
        rows.append((name, points(5, i)))
    (tmp_path / "faces.csv").write_text(csv_text(rows, 5))
    (tmp_path / "val.txt").write_text(
        "a.jpg\nb.jpg\n"
    )  # there is no b.jpg: the list is of b.png, saved in another form
    (tmp_path / "train.txt").write_text("a.png\n")
    command = ["prepare", "--reader", "csv", "--path", str(tmp_path), "--schema", "five", "--out", str(tmp_path / "d")]
    assert main([*command, "--splits", "val=val.txt", "train=train.txt", "--subsets", "few=train.txt"]) == 0
    found = {face.image.name: (face.split, "few" in face.attributes) for face in FaceDataset.open(tmp_path / "d")}
    assert found == {"a.png": ("train", True), "a.jpg": ("val", False), "b.png": ("val", False)}
    (tmp_path / "both.txt").write_text("a\n")
    command[-1] = str(tmp_path / "e")
    assert main([*command, "--splits", "val=val.txt", "train=both.txt"]) == 2


@pytest.mark.parametrize("name", ["coco", "csv", "list"])
def test_a_name_may_begin_with_the_folder_of_pictures(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    if name == "coco":
        coco(tmp_path / "faces.json", ["images/a.png"], [three()], [NAMED])
    elif name == "csv":
        (tmp_path / "faces.csv").write_text(csv_text([("images/a.png", PLACES)], 3))
    else:
        numbers = " ".join(str(value) for place in PLACES for value in place)
        (tmp_path / "faces.txt").write_text(f"{numbers} images/a.png\n")
    assert one(read(name, tmp_path)).image == tmp_path / "images" / "a.png"


def test_faces_of_several_files_about_one_picture_have_ids_of_their_own(tmp_path: Path) -> None:
    for i in range(3):
        shapes = [point(name, place + i) for name, place in zip(THREE.point_names, PLACES, strict=True)]
        labelme(tmp_path, shapes, f"{i}.json")
    assert len({face.id for face in faces_of(tmp_path, "labelme")}) == 3


# --------------------------------------------------------------------------------------------------- COCO's own layout


def test_coco_s_own_names_tell_splits_and_which_file_has_points(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        picture(tmp_path / "images" / split / "0001.png")
        coco(tmp_path / "annotations" / f"person_keypoints_{split}.json", ["0001.png"], [three()], [NAMED])
        box = {"image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}
        plain = [{"id": 1, "name": "face"}]
        coco(tmp_path / "annotations" / f"instances_{split}.json", ["0001.png"], [box], plain)
        coco(tmp_path / "annotations" / f"captions_{split}.json", ["0001.png"], [{"image_id": 0, "caption": "x"}], [])
    found = {(face.id, face.split, face.landmarks is not None) for face in faces_of(tmp_path, "coco")}
    assert found == {("train2017/0001", "train", True), ("val2017/0001", "val", True)}


def test_images_of_a_coco_file_without_a_face_are_said(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    path, notes = tmp_path / "train.json", Notes()
    coco(path, ["a.png", "b.png", "c.png"], [three(0), three(2, category=2)], [NAMED, {"id": 2, "name": "hand"}])
    assert [face.id for face in faces_of(tmp_path, "coco", notes=notes)] == ["a"]
    assert f"images without a face passed over: {path}: b.png, {path}: c.png" in list(notes)


@pytest.mark.parametrize("hand", ["hand", "HandLandmarks"])
def test_a_category_of_one_file_counts_in_the_others(hand: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    face = "FaceLandmarks" if hand == "HandLandmarks" else "face"
    coco(tmp_path / "one.json", ["a.png"], [three()], [{**NAMED, "name": face}])
    coco(tmp_path / "two.json", ["a.png"], [three(shift=3)], [{**NAMED, "name": hand}])
    assert np.allclose(one(read("coco", tmp_path)).landmarks, PLACES)


# ------------------------------------------------------------------------------------------ hands, boxes, turned views


def _skeleton(label: str) -> str:
    parts = "".join(f'<points label="{n}" outside="0" points="{xy(i)}"/>' for i, n in enumerate(THREE.point_names))
    return f'<skeleton label="{label}">{parts}</skeleton>'


def test_hands_are_no_faces_in_whichever_file_they_are_alone(tmp_path: Path) -> None:
    meta = "".join(
        f"<label><name>{name}</name><parent>{label}</parent></label>"
        for label in ("face", "hand")
        for name in THREE.point_names
    )
    cvat(tmp_path / "t1", _skeleton("face"), meta)
    cvat(tmp_path / "t2", _skeleton("hand"), meta)
    assert one(read("cvat", tmp_path)).image.parent.parent.name == "t1"
    with pytest.raises(UserError, match="shapes of the label 'hand' alone are drawn, expected some of 'face'"):
        read("cvat", tmp_path / "t2")


def test_a_thing_s_box_is_not_the_face_s(tmp_path: Path) -> None:
    lamp = '<box label="lamp" xtl="50" ytl="1" xbr="58" ybr="9"/>'
    assert one(read("cvat", cvat(tmp_path / "lamp", cvat_points() + lamp))).box_xyxy is None
    person = '<box label="person" xtl="0" ytl="0" xbr="59" ybr="39"/>'
    glasses = '<box label="glasses" xtl="8" ytl="18" xbr="32" ybr="26"/>'
    box = '<box label="face" xtl="5" ytl="8" xbr="40" ybr="38"/>'
    face = one(read("cvat", cvat(tmp_path / "all", cvat_points() + person + glasses + box)))
    assert face.box_xyxy is not None
    assert face.box_xyxy.tolist() == [5, 8, 40, 38]
    turned = '<box label="face" xtl="4" ytl="14" xbr="44" ybr="34" rotation="90.00"/>'
    face = one(read("cvat", cvat(tmp_path / "turned", cvat_points() + turned)))
    assert face.box_xyxy is not None
    assert np.allclose(face.box_xyxy, [14, 4, 34, 44])


def test_labelme_s_rectangles_without_a_group_are_the_face_s_round_which_they_lie(tmp_path: Path) -> None:
    def box(label: str, corners: list, group: int | None = None) -> dict:
        return {"label": label, "points": corners, "group_id": group, "shape_type": "rectangle", "flags": {}}

    for own, other in ((1, None), (None, 1)):
        shapes = [*labelled(group=own), box("face", [[5, 8], [40, 38]], other)]
        face = one(read("labelme", labelme(tmp_path / str(own), shapes)))
        assert face.box_xyxy is not None
        assert face.box_xyxy.tolist() == [5, 8, 40, 38]
    options = ReadOptions(schema=THREE, point_names=THREE.point_names)
    hat = labelme(tmp_path / "hat", [box("hat", [[5, 8], [40, 38]])])
    assert list(FORMATS["labelme"].read(hat, options)) == []
    assert "rectangles 'hat' without points passed over" in next(iter(options.notes))


SPOTS = np.array([[10, 8], [50, 8], [30, 20], [14, 33]])
FOUR = LandmarkSchema(name="mine", num_points=4, point_names=tuple("abcd"))


def written_for(name: str, folder: Path, orientations: dict[str, int]) -> Path:
    """A tool's files about pictures of these names that EXIF turns, in `tool` below the folder; white at SPOTS."""
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[SPOTS[:, 1], SPOTS[:, 0]] = 255
    (folder / "in").mkdir(parents=True)
    for image, orientation in orientations.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(stored).save(folder / "in" / image, exif=exif)
    faces = [
        FaceSample(id=image, image=folder / "in" / image, landmarks=SPOTS, box_xyxy=(8, 6, 55, 36))
        for image in orientations
    ]
    data = write_dataset(folder / "data", faces, schema=FOUR, name="x", image_root=folder / "in", how={})
    (folder / "tool").mkdir()
    write = FORMATS[name].write
    assert write is not None
    write(data, folder / "tool", WriteOptions())
    return folder / "tool"


@pytest.mark.parametrize("name", ["labelme", "cvat", "label-studio"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tools_show_pictures_as_exif_turns_them(name: str, orientation: int, tmp_path: Path) -> None:
    """What is written for a tool lies right on the upright picture, and is read back to the stored pixels."""
    written_for(name, tmp_path, {"a.png": orientation})
    shown = np.asarray(ImageOps.exif_transpose(Image.open(next((tmp_path / "tool").rglob("*.png")))).convert("L"))
    if name == "labelme":
        content = json.loads(next((tmp_path / "tool").rglob("*.json")).read_text())
        assert (content["imageWidth"], content["imageHeight"]) == shown.shape[::-1]
        for shape in content["shapes"]:
            if shape["shape_type"] == "point":
                (x, y) = shape["points"][0]
                near = shown[max(0, round(y) - 1) : round(y) + 1, max(0, round(x) - 1) : round(x) + 1]
                assert near.max() == 255  # numbers count from the corner: half a pixel is not told apart
    back = one(read(name, tmp_path / "tool", FOUR))
    assert np.allclose(back.landmarks, SPOTS, atol=0.01)
    assert back.box_xyxy is not None
    assert np.allclose(back.box_xyxy, [8, 6, 55, 36], atol=0.01)
    assert read_image(back.image).shape[:2] == (HEIGHT, WIDTH)


def without_size(path: Path) -> None:
    """Take the declared size out of a labelme or CVAT file, as old ones have none."""
    text = re.sub(r'"image(Height|Width)": \d+', r'"image\1": null', path.read_text())
    path.write_text(re.sub(r' (width|height)="\d+"(?=[^<]*<box)', "", text))


@pytest.mark.parametrize("name", ["labelme", "cvat"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tool_s_file_without_a_size_counts_the_picture_as_the_tool_shows_it(
    name: str, orientation: int, tmp_path: Path
) -> None:
    (path,) = (p for p in written_for(name, tmp_path, {"a.png": orientation}).rglob("*.*") if kind_of(p) == name)
    before = path.read_text()
    without_size(path)
    assert path.read_text() != before
    options = ReadOptions(schema=FOUR, point_names=FOUR.point_names)
    back = one(list(FORMATS[name].read(tmp_path / "tool", options)))
    assert np.allclose(back.landmarks, SPOTS, atol=0.01)
    assert back.box_xyxy is not None
    assert np.allclose(back.box_xyxy, [8, 6, 55, 36], atol=0.01)
    said = "faces' landmarks and boxes turned as EXIF says, as the tool shows pictures: "
    assert [note.removesuffix(back.id) for note in options.notes] == ([] if orientation == 1 else [said])


def test_pictures_whose_size_is_declared_tell_those_whose_size_is_not(tmp_path: Path) -> None:
    """`a` has no size; `b` was labelled on the stored pixels, `c` on the picture as EXIF turns it."""
    files = written_for("labelme", tmp_path, {"a.png": 6, "b.png": 6, "c.png": 6}) / "train"
    without_size(files / "a.json")
    content = json.loads((files / "b.json").read_text())
    by_label = dict(zip(FOUR.point_names, SPOTS.tolist(), strict=True))
    for shape in content["shapes"]:
        at = by_label.get(shape["label"])
        shape["points"] = [[8, 6], [55, 36]] if at is None else [at]
    (files / "b.json").write_text(json.dumps(content | {"imageWidth": WIDTH, "imageHeight": HEIGHT}))
    both = read("labelme", files, FOUR)
    assert "a.png: EXIF turns it; some declared sizes are as stored and some as turned" in str(both[0])
    (files / "b.json").rename(files / "b.txt")
    for face in faces_of(files, "labelme", FOUR):
        assert np.allclose(face.landmarks, SPOTS, atol=0.01)
    (files / "b.txt").rename(files / "b.json")
    (files / "c.json").unlink()
    (files / "a.json").write_text(json.dumps(content | {"imagePath": "a.png", "imageWidth": None}))
    for face in faces_of(files, "labelme", FOUR):
        assert np.allclose(face.landmarks, SPOTS, atol=0.51)  # on stored pixels: from the corner, not from the centre


def test_a_label_beside_a_point_s_name_may_hide_it(tmp_path: Path) -> None:
    dots = regions()
    dots[1]["value"]["keypointlabels"].append("occluded")
    dots[2]["value"]["keypointlabels"].append("blurred")
    options = ReadOptions(schema=THREE, point_names=THREE.point_names)
    (face,) = FORMATS["label-studio"].read(label_studio(tmp_path, dots), options)
    assert isinstance(face, FaceSample)
    assert face.visible is not None
    assert face.visible.tolist() == [True, False, True]
    assert "labels 'blurred' of points that have another before it passed over" in next(iter(options.notes))


# ----------------------------------------------------------------------------------------------- numbers and sentences


def test_shares_of_a_picture_are_not_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "faces.csv").write_text(csv_text([("a.png", PLACES / [WIDTH, HEIGHT])], 3))
    assert "shares of the image's sides? Expected pixels" in wrong(read("csv", tmp_path))


@pytest.mark.parametrize("kind", ["csv", "cvat", "imglab", "pts"])
def test_digits_with_underscores_are_no_number(kind: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    if kind == "csv":
        (tmp_path / "faces.csv").write_text(csv_text([("a.png", PLACES)], 3).replace("20.250000", "2_0"))
    elif kind == "cvat":
        cvat(tmp_path, cvat_points().replace("20.25", "2_0"))
    elif kind == "imglab":
        parts = "".join(f'<part name="{i}" x="1{i}" y="2_0"/>' for i in range(3))
        box = f'<box top="1" left="1" width="50" height="30">{parts}</box>'
        text = f"<dataset><images><image file='a.png'>{box}</image></images></dataset>"
        (tmp_path / "faces.xml").write_text(text)
    else:
        (tmp_path / "a.pts").write_text("version: 1\nn_points: 3\n{\n10 2_0\n30 20\n20 30\n}\n")
    name = {"pts": "ibug"}.get(kind, kind)
    assert "2_0" in wrong(
        read(name, tmp_path, LandmarkSchema(name="mine", num_points=3) if kind == "imglab" else THREE)
    )


@pytest.mark.parametrize(
    ("mark", "encoding", "first"), [(";", "utf-8", ""), ("\t", "utf-16", ""), (";", "utf-8", "sep=;\n")]
)
def test_a_spreadsheet_s_csv_is_read(mark: str, encoding: str, first: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    text = first + csv_text([("a.png", PLACES)], 3).replace(",", mark)
    (tmp_path / "faces.csv").write_text(text, encoding=encoding)
    assert np.allclose(one(read("csv", tmp_path)).landmarks, PLACES)


def test_what_is_not_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": regions()}]}
    path = tmp_path / "one.json"
    picture(tmp_path / "a.png")
    path.write_text(json.dumps(task))
    assert np.allclose(one(read("label-studio", tmp_path)).landmarks, PLACES)
    path.write_text(json.dumps({"id": 1, "result": regions(), "task": task}))
    assert kind_of(path) == "label-studio-cloud"
    path.write_text(json.dumps({"asset": {"name": "a.png"}, "regions": []}))
    assert kind_of(path) == "vott"
    path.write_text(json.dumps([{"image": "a.png", "kp-1": [], "lead_time": 2}]))
    with pytest.raises(UserError, match=r"JSON-MIN.*export it as JSON"):
        read("label-studio", tmp_path)
    lines = [{"label": "brow", "points": [[1, 1], [9, 9]], "shape_type": "linestrip", "flags": {}}]
    with pytest.raises(UserError, match="shapes of kind 'linestrip' passed over"):
        FORMATS["labelme"].count_points(labelme(tmp_path / "lines", lines))  # type: ignore[misc]
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.csv").write_text("file|x0|y0\n")
    with pytest.raises(UserError, match=r"no column 'image' in 'file\|x0\|y0', expected the header"):
        read("csv", tmp_path / "odd")
