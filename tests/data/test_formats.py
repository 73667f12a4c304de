"""Readers: good lines give faces, bad ones one message with file and line, for every published layout."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders.layouts import HEIGHT, WIDTH, csv_text, numbers, own_schema, picture, points, pts, wflw, wflw_line
from stylealign.data.formats import FORMATS, BadEntry, ReadOptions, schema_of
from stylealign.data.formats.entry import schema_of_count, split_of, stem_of
from stylealign.errors import UserError
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, get_schema


def read(reader: str, source: Path, schema: str | None = None, **options: object) -> list[FaceSample | BadEntry]:
    found = schema_of(reader, source, schema)
    assert found is not None
    return list(FORMATS[reader].read(source, ReadOptions(schema=found, **options)))  # type: ignore[arg-type]


def only(entries: list[FaceSample | BadEntry]) -> FaceSample:
    assert len(entries) == 1
    assert isinstance(entries[0], FaceSample), str(entries[0])
    return entries[0]


def refused(entries: list[FaceSample | BadEntry]) -> BadEntry:
    bad = [e for e in entries if isinstance(e, BadEntry)]
    assert len(bad) == 1
    return bad[0]


# --------------------------------------------------------------------------------------------------------- every reader


@pytest.mark.parametrize("reader", FORMATS)
def test_a_source_that_is_not_there_is_refused_with_its_path(reader: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such"):
        schema_of(reader, tmp_path / "nowhere", "ibug68")


@pytest.mark.parametrize("reader", [r for r in FORMATS if r not in ("folder", "dataset")])
def test_an_empty_folder_is_refused_saying_what_was_expected(reader: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such|found no|found none"):
        read(reader, tmp_path, "ibug68", extract_to=tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("list_98pt_rect_attr_test", "test"),
        ("helen/testset", "test"),
        ("ibug", "test"),
        ("afw", "train"),
        ("val", "val"),
        ("contest", "train"),
    ],
)
def test_a_split_is_a_word_of_a_name_and_not_a_part_of_one(name: str, split: str) -> None:
    assert split_of(name) == split


def test_ids_are_paths_without_suffix() -> None:
    assert [stem_of(n) for n in ("a/b.jpg", "a\\b.PNG", "./c.v2.png", "d.v2")] == ["a/b", "a/b", "c.v2", "d.v2"]


def test_a_count_of_points_tells_the_built_in_markup_or_asks_for_ones_own() -> None:
    assert {schema_of_count(s.num_points, "x").name for s in SCHEMAS.values()} == set(SCHEMAS)
    with pytest.raises(UserError, match=r"x: 21 points .* --schema"):
        schema_of_count(21, "x")


# ----------------------------------------------------------------------------------------------------------------- WFLW

FACE = points(98)
TABLE = [
    ("good", wflw_line(FACE, "a/1.png"), None),
    ("197 fields", f"{numbers(FACE)} a/1.png", None),
    ("blanks and tabs", "  " + wflw_line(FACE, "a/1.png").replace(" ", "\t ") + " ", None),
    ("short", wflw_line(FACE[:-1], "a/1.png"), "205 fields, expected 207"),
    ("long", wflw_line(FACE, "a/1.png extra"), "208 fields, expected 207"),
    (
        "not a number",
        wflw_line(FACE, "a/1.png").replace(f"{FACE[0, 1]:.6f}", "abc", 1),
        "field 2 is 'abc', expected a number",
    ),
    ("nan", wflw_line(FACE, "a/1.png").replace(f"{FACE[1, 0]:.6f}", "nan", 1), r"landmark 1 is \(nan,"),
    ("infinite", wflw_line(FACE, "a/1.png").replace(f"{FACE[1, 0]:.6f}", "1e999", 1), r"landmark 1 is \(inf,"),
    (
        "far outside",
        wflw_line(FACE + np.array([3 * WIDTH, 0]), "a/1.png"),
        "more than one image side outside the 60 x 40 image",
    ),
    ("one place", wflw_line(np.full((98, 2), 7.0), "a/1.png"), "all landmarks are at"),
    ("missing image", wflw_line(FACE, "a/2.png"), "no such image"),
    ("image is a folder", wflw_line(FACE, "a"), "is not a file"),
    ("image cut short", wflw_line(FACE, "cut.jpg"), "cut short or damaged"),
    ("text named .jpg", wflw_line(FACE, "text.jpg"), "not an image"),
    ("image above the root", wflw_line(FACE, "../../1.png"), "does not lie below"),
    ("image at an absolute path", wflw_line(FACE, "/etc/1.png"), "does not lie below"),
    ("box of no area", wflw_line(FACE, "a/1.png", box="5 5 5 9"), "expected x0 < x1"),
    ("box nan", wflw_line(FACE, "a/1.png", box="nan 5 9 9"), "expected x0 < x1"),
    ("box elsewhere", wflw_line(FACE, "a/1.png", box="500 5 600 9"), "does not touch"),
    ("flag of 2", wflw_line(FACE, "a/1.png", flags=(0, 2, 0, 0, 0, 0)), "expected six of 0 or 1"),
]


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize(("line", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_wflw_lines_give_a_face_or_one_message_with_file_and_line(
    line: str, message: str | None, newline: str, tmp_path: Path
) -> None:
    images = tmp_path / "WFLW_images"
    picture(images / "a" / "1.png")
    cut = picture(tmp_path / "whole.jpg").read_bytes()
    (images / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    (images / "text.jpg").write_text("hello")
    good = wflw_line(FACE, "a/1.png")
    entries = read("wflw", wflw(tmp_path, [good, line, "", good], newline=newline))
    assert len(entries) == 3  # a blank line is no entry
    if message is None:
        assert all(isinstance(e, FaceSample) for e in entries)
        assert np.array_equal(entries[1].landmarks, FACE.astype(np.float32))
    else:
        bad = refused(entries)
        assert bad.where.endswith("list_98pt_rect_attr_test.txt:2")
        assert re.search(message, bad.message), bad.message


def test_wflw_keeps_box_attributes_and_several_faces_of_an_image_apart(tmp_path: Path) -> None:
    picture(tmp_path / "WFLW_images" / "a" / "1.png")
    lines = [wflw_line(FACE, "a/1.png", (1, 0, 0, 1, 0, 1)), wflw_line(points(98, 1), "a/1.png")]
    first, second = read("wflw", wflw(tmp_path, lines))
    assert isinstance(first, FaceSample)
    assert isinstance(second, FaceSample)
    assert (first.id, second.id, first.split) == ("a/1#test1", "a/1#test2", "test")
    assert first.box_xyxy.tolist() == [2, 3, 50, 38]
    assert first.attributes == {
        "pose": True,
        "expression": False,
        "illumination": False,
        "make_up": True,
        "occlusion": False,
        "blur": True,
    }


def test_wflw_subset_lists_are_matched_by_image_and_coordinates(tmp_path: Path) -> None:
    picture(tmp_path / "WFLW_images" / "a.png")
    faces = [points(98, i) for i in range(3)]
    plain = [f"{numbers(f)} a.png" for f in faces]
    folder = tmp_path / "WFLW_annotations" / "list_98pt_test"
    folder.mkdir(parents=True)
    (folder / "list_98pt_test.txt").write_text("\n".join(plain))
    (folder / "list_98pt_test_largepose.txt").write_text(plain[2] + "\n")
    (folder / "list_98pt_test_makeup.txt").write_text(f"{plain[0]}\n{plain[2]}\n")
    (folder / "list_98pt_test_blur.txt").write_text(plain[1].replace(f"{faces[1][0, 0]:.6f}", "1.5", 1) + "\n")
    entries = read("wflw", tmp_path)
    assert [dict(e.attributes) for e in entries[:3]] == [{"make_up": True}, {}, {"pose": True, "make_up": True}]
    bad = refused(entries)
    assert bad.where.endswith("list_98pt_test_blur.txt:1")
    # the ids are those that the 207-field list gives
    full = read("wflw", wflw(tmp_path, [wflw_line(f, "a.png") for f in faces]))
    assert [e.id for e in full if isinstance(e, FaceSample)] == [e.id for e in entries[:3]]


def test_a_wflw_list_file_alone_is_a_source(tmp_path: Path) -> None:
    picture(tmp_path / "WFLW_images" / "a.png")
    folder = (
        wflw(tmp_path, [wflw_line(FACE, "a.png")], split="train")
        / "WFLW_annotations"
        / "list_98pt_rect_attr_train_test"
    )
    face = only(read("wflw", folder / "list_98pt_rect_attr_train.txt"))
    assert (face.split, face.image) == ("train", tmp_path / "WFLW_images" / "a.png")


# ----------------------------------------------------------------------------------------------------------------- .pts


@pytest.mark.parametrize("header", [True, False])
def test_pts_count_from_one(header: bool, tmp_path: Path) -> None:
    landmarks = points(68)
    pts(tmp_path / "helen" / "testset" / "a b.pts", landmarks, header)
    face = only(read("ibug", tmp_path))
    assert (face.id, face.split) == ("helen/testset/a b", "test")
    np.testing.assert_allclose(face.landmarks, landmarks, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        (lambda t: t.replace("n_points: 68", "n_points: 70"), "f.pts", "68 points, expected 70"),
        (lambda t: t.replace("n_points: 68", "n_points: many"), "f.pts:2", "expected a whole number"),
        (lambda t: t[: len(t) // 2].rsplit("\n", 1)[0] + "\n", "f.pts", "no closing brace"),
        (lambda t: t.replace("{\n", "{\n1 2 3\n"), "f.pts:4", "expected two numbers x y"),
        (lambda t: t.replace("{\n", "{\nx y\n"), "f.pts:4", "expected two numbers x y"),
        (lambda t: t + "1 2\n", "f.pts:73", "after the closing brace"),
        (lambda t: "version: 1\n", "f.pts", "no points"),
        (lambda t: "\n".join(t.splitlines()[3:-2]), "f.pts:1", "67 landmarks, expected 68 of ibug68"),
    ],
)
def test_bad_pts_files_are_named_with_their_line(change, where: str, message: str, tmp_path: Path) -> None:
    path = pts(tmp_path / "f.pts", points(68))
    path.write_text(change(path.read_text()))
    bad = refused(read("ibug", tmp_path))
    assert bad.where == str(tmp_path / where)
    assert message in bad.message
    assert bad.face == "f"


def test_pts_need_exactly_one_image(tmp_path: Path) -> None:
    pts(tmp_path / "f.pts", points(68))
    picture(tmp_path / "f.jpg")
    assert "several images" in refused(read("ibug", tmp_path)).message
    (tmp_path / "f.jpg").unlink()
    (tmp_path / "f.png").unlink()
    assert "no such image" in refused(read("ibug", tmp_path)).message


# ----------------------------------------------------------------------------------------------------------------- COFW


def _cofw_arrays(count: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pictures = [
        rng.integers(0, 256, (HEIGHT, WIDTH, 3) if i % 2 else (HEIGHT, WIDTH), dtype=np.uint8) for i in range(count)
    ]
    landmarks = np.stack([points(29, i) for i in range(count)])
    hidden = rng.integers(0, 2, (count, 29))
    phis = np.concatenate([landmarks[..., 0] + 1, landmarks[..., 1] + 1, hidden], axis=1)
    return pictures, landmarks, hidden, phis


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_cofw_of_either_matlab_version_gives_pictures_points_and_occlusion(version: str, tmp_path: Path) -> None:
    pictures, landmarks, hidden, phis = _cofw_arrays(3)
    boxes = np.tile([5.0, 6, 30, 20], (3, 1))
    if version == "v5":
        from scipy.io import savemat

        cells = np.empty((3, 1), dtype=object)
        for i, p in enumerate(pictures):
            cells[i, 0] = p
        savemat(tmp_path / "COFW_test.mat", {"IsT": cells, "phisT": phis, "bboxesT": boxes})
    else:
        import h5py

        with h5py.File(tmp_path / "COFW_test_color.mat", "w", userblock_size=512) as hdf:
            references = [hdf.create_dataset(f"#refs#/{i}", data=p.T).ref for i, p in enumerate(pictures)]
            cells = hdf.create_dataset("IsT", (1, 3), dtype=h5py.ref_dtype)
            for i, reference in enumerate(references):
                cells[0, i] = reference
            hdf["phisT"], hdf["bboxesT"] = phis.T, boxes.T
    faces = read("cofw", tmp_path, extract_to=tmp_path / "out")
    assert [f.id for f in faces] == ["test/0001", "test/0002", "test/0003"]
    for face, picture_, points_, occluded in zip(faces, pictures, landmarks, hidden, strict=True):
        np.testing.assert_allclose(face.landmarks, points_, atol=1e-4)
        assert np.array_equal(face.visible, occluded == 0)
        assert face.box_xyxy.tolist() == [4, 5, 34, 25]
        assert np.array_equal(np.asarray(Image.open(face.image)), picture_)
        assert face.split == "test"


def test_a_mat_file_of_something_else_is_refused_naming_what_was_expected(tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "COFW_train.mat", {"x": 1})
    with pytest.raises(UserError, match=r"COFW_train.mat: expected .*phisTr"):
        read("cofw", tmp_path, extract_to=tmp_path / "out")
    (tmp_path / "COFW_train.mat").write_bytes(b"not a mat file at all" * 20)
    with pytest.raises(UserError, match=r"COFW_train.mat: expected"):
        read("cofw", tmp_path, extract_to=tmp_path / "out")


# ----------------------------------------------------------------------------------------------------------------- AFLW


def test_aflw_splits_by_its_permutation_and_marks_frontal_faces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scipy.io import savemat

    monkeypatch.setattr("stylealign.data.formats.aflw._NUM_TRAIN", 2)
    landmarks = np.stack([points(19, i) for i in range(3)])
    names = np.empty((3, 1), dtype=object)
    for i in range(3):
        names[i, 0] = f"0/image{i}.jpg"
        picture(tmp_path / "data" / "flickr" / "0" / f"image{i}.jpg")
    mask = np.ones((3, 19))
    mask[1, 4] = 0
    savemat(
        tmp_path / "AFLWinfo_release.mat",
        {"nameList": names, "data": np.concatenate([landmarks[..., 0], landmarks[..., 1]], axis=1), "mask_new": mask,
         "bbox": np.tile([3.0, 50, 4, 30], (3, 1)), "ra": [[3, 1, 2]]},
    )  # fmt: skip
    faces = read("aflw", tmp_path)
    assert [f.split for f in faces] == ["train", "test", "train"]
    assert [f.attributes["frontal"] for f in faces] == [True, False, True]
    assert faces[1].visible.sum() == 18
    assert faces[0].box_xyxy.tolist() == [3, 4, 50, 30]  # the file has left right top bottom
    np.testing.assert_allclose(faces[2].landmarks, landmarks[2], atol=1e-4)


# ----------------------------------------------------------------------------------------------------------------- COCO


def _coco(tmp_path: Path, annotations: list, name: str = "val.json") -> Path:
    picture(tmp_path / "images" / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": annotations,
    }
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / name).write_text(json.dumps(content))
    return tmp_path


def _keypoints(landmarks: np.ndarray, v: int = 2) -> list[float]:
    return [float(n) for x, y in landmarks for n in (x, y, v)]


def test_coco_keypoints_boxes_visibility_and_unlabelled_faces(tmp_path: Path) -> None:
    landmarks = points(5)
    hidden = _keypoints(landmarks)
    hidden[2] = 1
    source = _coco(
        tmp_path,
        [
            {"image_id": 7, "keypoints": hidden, "bbox": [1, 2, 30, 20], "attributes": {"glasses": True}},
            {"image_id": 7, "keypoints": [0] * 15},
        ],
    )
    first, second = read("coco", source)
    assert (first.id, second.id, first.split) == ("a", "a#1", "val")
    np.testing.assert_allclose(first.landmarks, landmarks, atol=1e-4)
    assert first.visible.tolist() == [False, True, True, True, True]
    assert first.box_xyxy.tolist() == [1, 2, 31, 22]
    assert first.attributes == {"glasses": True}
    assert second.landmarks is None


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"image_id": 8, "keypoints": _keypoints(points(5))}, "names no image"),
        ({"image_id": 7, "keypoints": _keypoints(points(4))}, "keypoints has 12 numbers, expected 15"),
        ({"image_id": 7, "keypoints": [*_keypoints(points(5))[:-1], 0]}, "1 of 5 landmarks not labelled"),
        ({"image_id": 7, "keypoints": [*_keypoints(points(5))[:-1], 3]}, "not 0, 1 or 2"),
        ({"image_id": 7, "keypoints": ["a"] * 15}, "expected numbers"),
        ({"image_id": 7, "keypoints": _keypoints(points(5)), "bbox": [1, 2, 3]}, "bbox has 3 numbers, expected 4"),
        ({"image_id": 7, "keypoints": _keypoints(points(5)), "bbox": [1, 2, 0, 3]}, "expected x0 < x1"),
        ([], "names no image"),
    ],
)
def test_bad_coco_annotations_are_named(annotation: object, message: str, tmp_path: Path) -> None:
    bad = refused(read("coco", _coco(tmp_path, [annotation]), "five"))
    assert bad.where.endswith("val.json: annotations[0]")
    assert message in bad.message


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (["mine", "x/y#3"], ["mine", "x/y#3"]),
        (["mine", None], ["a", "a#1"]),
        (["mine", "mine"], ["a", "a#1"]),
        (["mine", ""], ["a", "a#1"]),
        (["mine", 7], ["a", "a#1"]),
        (["mine", "\ud800"], ["a", "a#1"]),
        ([None, None], ["a", "a#1"]),
    ],
)
def test_coco_faces_keep_the_ids_that_all_of_a_file_s_have(own: list, expected: list[str], tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "keypoints": _keypoints(points(5, i)), **({} if face is None else {"face_id": face})}
        for i, face in enumerate(own)
    ]
    assert [face.id for face in read("coco", _coco(tmp_path, annotations))] == expected


def test_coco_ids_that_another_file_has_too_are_not_taken(tmp_path: Path) -> None:
    _coco(tmp_path, [{"image_id": 7, "keypoints": _keypoints(points(5)), "face_id": "mine"}])
    (first,) = tmp_path.rglob("*.json")
    shutil.copy(first, first.with_name("z.json"))
    assert [face.id for face in read("coco", tmp_path)] == ["mine", "a"]
    crowd = {"image_id": 7, "keypoints": _keypoints(points(5)), "iscrowd": 1}  # passed over, whatever it is called
    _coco(tmp_path, [crowd, {"image_id": 7, "keypoints": _keypoints(points(5)), "face_id": "mine"}])
    first.with_name("z.json").unlink()
    assert [face.id for face in read("coco", tmp_path)] == ["mine"]


def test_json_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": [],\n "annotations": [}\n')
    with pytest.raises(UserError, match=r"x.json:2: not valid JSON"):
        read("coco", tmp_path)


# ------------------------------------------------------------------------------------------------------------ CSV, list


def test_csv_of_a_folder_with_splits_and_unlabelled_images(tmp_path: Path) -> None:
    for name in ("a.png", "b,1.png", "c.png"):
        picture(tmp_path / "images" / name)
    (tmp_path / "train.csv").write_text(
        csv_text([("a.png", points(5)), ('"b,1.png"', points(5, 1)), ("a.png", points(5, 2))], 5)
    )
    (tmp_path / "test.csv").write_text(csv_text([("c.png", points(5, 3))], 5).replace("\n", "\r\n"))
    (tmp_path / "unlabelled.txt").write_text("c.png\n")
    faces = read("csv", tmp_path)
    assert [(f.id, f.split) for f in faces] == [
        ("c", "test"), ("a", "train"), ("b,1", "train"), ("a#4", "train"), ("c#1", "unlabelled"),
    ]  # fmt: skip
    np.testing.assert_allclose(faces[1].landmarks, points(5), atol=1e-4)
    assert faces[-1].landmarks is None


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (lambda t: t.rsplit(",", 1)[0] + "\n", 2, "10 fields, expected 11"),
        (lambda t: t.rstrip() + ",4\n", 2, "12 fields, expected 11"),
        (lambda t: t.rsplit(",", 1)[0] + ",?\n", 2, "coordinate 10 is '?', expected a number"),
        (lambda t: t.rsplit(",", 1)[0] + ",\n", 2, "coordinate 10 is '', expected a number"),
        (lambda t: t.rsplit(",", 1)[0] + ",nan\n", 2, "landmark 4 is"),
        (lambda t: t.replace("a.png", "b.png"), 2, "no such image"),
        (lambda t: t.replace("a.png", ""), 2, "no image name"),
        (lambda t: t.replace("a.png", "\udcff.png"), 2, "no such image"),
    ],
)
def test_bad_csv_lines_are_named(change, line: int, message: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "x.csv").write_bytes(change(csv_text([("a.png", points(5))], 5)).encode("utf-8", "surrogateescape"))
    bad = refused(read("csv", tmp_path))
    assert bad.where == f"{tmp_path / 'x.csv'}:{line}"
    assert message in bad.message


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("image,x0,y0,x1", "no column 'y1'"),
        ("x0,y0", "no column 'image'"),
        ("image,x0,y0,age", "column 'age'"),
        ("image,x0,y0,x0,y0", "a column twice"),
        ("image,x0,y0,box_x0,box_y0,box_x1", "no column 'box_y1'"),
    ],
)
def test_csv_headers_are_checked(header: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(header + "\n")
    with pytest.raises(UserError, match=f"x.csv:1: {message}"):
        read("csv", tmp_path / "x.csv", "five")


def test_csv_boxes_splits_and_faces_without_landmarks(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    header = "image,split," + csv_text([], 5).strip().removeprefix("image,") + ",box_x0,box_y0,box_x1,box_y1"
    (tmp_path / "x.csv").write_text(f"{header}\na.png,val,{',' * 9},1,2,30,35\n")
    face = only(read("csv", tmp_path / "x.csv"))
    assert (face.landmarks, face.split, face.box_xyxy.tolist()) == (None, "val", [1, 2, 30, 35])


@pytest.mark.parametrize("name", ["a\\b\\1.png", "./images/a/b/1.png", "images\\a\\b\\1.png", ".\\a\\b\\1.png"])
def test_lists_made_on_windows_or_seen_from_their_own_folder(name: str, tmp_path: Path) -> None:
    image = picture(tmp_path / "images" / "a" / "b" / "1.png")
    (tmp_path / "x.csv").write_text(csv_text([(name, points(5))], 5))
    (tmp_path / "x.txt").write_text(f"{numbers(points(5))} {name}\n")
    content = {"images": [{"id": 1, "file_name": name}],
               "annotations": [{"image_id": 1, "keypoints": _keypoints(points(5))}]}  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(content))
    for reader, path in (("csv", "x.csv"), ("list", "x.txt"), ("coco", "x.json")):
        face = only(read(reader, tmp_path / path, "five"))
        assert face.image.resolve() == image.resolve(), reader


def test_the_originals_list_is_pixels_unless_a_frame_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "a b.png", width=192, height=96)
    landmarks = points(5) * 2
    (tmp_path / "label.txt").write_text(f"{numbers(landmarks)} a b.png\n")
    plain, framed = only(read("list", tmp_path)), only(read("list", tmp_path, frame=384))
    np.testing.assert_allclose(plain.landmarks, landmarks, atol=1e-4)
    # 384 -> 192 x 96: half and a quarter, areas corresponding
    np.testing.assert_allclose(framed.landmarks, (landmarks + 0.5) * [0.5, 0.25] - 0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{numbers(points(5)[:-1])} a.png", "8 numbers before the file name, expected 10"),
        (f"{numbers(points(5))} 3.5 a.png", "11 numbers before the file name, expected 10"),
        (f"{numbers(points(5))}", "10 numbers before the file name, expected 10"),
        (f"{numbers(points(5))} b.png", "no such image"),
        (f"{numbers(points(5) * 50)} a.png", "see --frame"),
        (f"nan {numbers(points(5))[9:]} a.png", "landmark 0 is"),
    ],
)
def test_bad_list_lines_are_named(line: str, message: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "label.txt").write_text(f"{numbers(points(5))} a.png\r\n{line}\r\n")
    bad = refused(read("list", tmp_path))
    assert bad.where.endswith("label.txt:2")
    assert message in bad.message


# -------------------------------------------------------------------------------------------------- own mark-up, folder


@pytest.mark.parametrize("reader", ["csv", "coco", "list", "ibug"])
def test_a_markup_of_ones_own_works_through_every_general_reader(reader: str, tmp_path: Path) -> None:
    schema, landmarks, source = own_schema(tmp_path), points(3), tmp_path / "data"
    picture(source / "f.png")
    if reader == "csv":
        (source / "x.csv").write_text(csv_text([("f.png", landmarks)], 3))
    elif reader == "list":
        (source / "x.txt").write_text(f"{numbers(landmarks)} f.png\n")
    elif reader == "ibug":
        pts(source / "f.pts", landmarks)
    else:
        content = {
            "images": [{"id": 1, "file_name": "f.png"}],
            "annotations": [{"image_id": 1, "keypoints": _keypoints(landmarks)}],
        }
        (source / "x.json").write_text(json.dumps(content))
    face = only(read(reader, source, str(schema)))
    np.testing.assert_allclose(face.landmarks, landmarks, atol=1e-4)
    if reader != "ibug":
        with pytest.raises(UserError, match="3 points a face is no built-in mark-up"):
            read(reader, source)


def test_a_folder_gives_unlabelled_faces_and_finds_broken_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "é.png")
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-200])
    (tmp_path / "notes.txt").write_text("x")
    entries = read("folder", tmp_path, "ibug68")
    assert [e.id for e in entries if isinstance(e, FaceSample)] == ["a", "a.png", "b/é"]
    assert all(e.landmarks is None and e.split == "unlabelled" for e in entries if isinstance(e, FaceSample))
    assert "cut short" in refused(entries).message
    assert len(read("folder", tmp_path, "ibug68", check_images=False)) == 4
    assert all(isinstance(e, FaceSample) for e in read("folder", tmp_path, "ibug68", check_images=False))


def test_pictures_with_too_many_pixels_are_refused_by_their_header(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for check_images in (True, False):
        entries = list(
            FORMATS["folder"].read(
                tmp_path, ReadOptions(schema=get_schema("five"), max_pixels=100, check_images=check_images)
            )
        )
        assert "60 x 40 pixels, expected at most 100" in refused(entries).message
