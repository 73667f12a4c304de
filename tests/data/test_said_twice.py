"""What a file says twice is compared: sizes, names, categories, counts. What it says is missing is no coordinate."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from builders.layouts import csv_text, numbers, picture, points, pts, wflw, wflw_line
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import write_dataset
from stylealign.data.formats import FORMATS, BadEntry, Entry, ReadOptions
from stylealign.data.formats.declared_size import SCALED, TURNED, fit
from stylealign.data.image import image_size, read_image
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.orientation import upright_affine
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE, get_schema

WIDTH, HEIGHT = 60, 40


def read(reader: str, source: Path, schema: str = "five", **options: Any) -> tuple[list[Entry], list[str]]:
    """The entries of a source, and what was noted of it."""
    given = ReadOptions(schema=get_schema(schema), **options)
    return list(FORMATS[reader].read(source, given)), list(given.notes)


def faces(entries: list[Entry]) -> list[FaceSample]:
    found = [entry for entry in entries if isinstance(entry, FaceSample)]
    assert len(found) == len(entries), [str(entry) for entry in entries]
    return found


def bad(entries: list[Entry]) -> BadEntry:
    (found,) = [entry for entry in entries if isinstance(entry, BadEntry)]
    return found


def coco(
    folder: Path,
    annotations: list[dict[str, Any]],
    size: tuple[int, int] | None = (WIDTH, HEIGHT),
    categories: list[dict[str, Any]] | None = None,
    name: str = "train.json",
    images: tuple[str, ...] = ("a.png",),
) -> Path:
    """A COCO file of pictures that are made elsewhere; an annotation without an image_id is of the first."""
    declared = {} if size is None else {"width": size[0], "height": size[1]}
    listed = [{"id": i, "file_name": image, **declared} for i, image in enumerate(images)]
    content = {"images": listed, "annotations": [{"image_id": 0, **a} for a in annotations]}
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(json.dumps(content if categories is None else {**content, "categories": categories}))
    return folder


def triples(landmarks: np.ndarray, v: int = 2) -> list[float]:
    return [float(n) for x, y in landmarks for n in (x, y, v)]


# ---------------------------------------------------------------------------------------------------- declared sizes


def dot_picture(path: Path, landmarks: np.ndarray, orientation: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """A JPEG, stored so that EXIF turns it into a picture of this size that is white at the landmarks."""
    upright = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y in np.rint(landmarks).astype(int):
        upright[y - 1 : y + 2, x - 1 : x + 2] = 255
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # of Image.transpose
    image = Image.fromarray(upright)
    image = image if undo is None else image.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(exist_ok=True, parents=True)
    image.save(path, quality=95, exif=exif)


def brightness(sample: FaceSample) -> float:
    """Of the stored picture at the landmarks, 0 to 255, the darkest of them."""
    pixels = read_image(sample.image)
    assert sample.landmarks is not None
    return float(min(pixels[round(float(y)), round(float(x))].min() for x, y in sample.landmarks))


PLACES = np.array([[10.0, 8], [50, 8], [30, 20], [14, 33], [46, 33]])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_landmarks_made_on_the_upright_picture_are_brought_to_the_stored_one(orientation: int, tmp_path: Path) -> None:
    dot_picture(tmp_path / "images" / "a.jpg", PLACES, orientation)
    dot_picture(tmp_path / "images" / "b.jpg", PLACES, 6)  # tells that the tool turned pictures: its size is another
    box = [8, 6, 44, 29]
    source = coco(
        tmp_path,
        [{"keypoints": triples(PLACES), "bbox": box}, {"image_id": 1, "keypoints": triples(PLACES)}],
        images=("a.jpg", "b.jpg"),
    )
    entries, notes = read("coco", source)
    first, second = faces(entries)
    assert min(brightness(first), brightness(second)) > 200
    assert first.box_xyxy is not None
    assert np.allclose(sorted(geometry_of(first.box_xyxy)), sorted(box[2:]))
    assert notes == [
        "faces' landmarks and boxes turned as EXIF says, by the declared size: " + ("b" if orientation == 1 else "a, b")
    ]


def geometry_of(box: np.ndarray) -> list[float]:
    return [float(box[2] - box[0]), float(box[3] - box[1])]


def test_a_turn_that_keeps_the_size_is_taken_as_stored_and_said(tmp_path: Path) -> None:
    dot_picture(tmp_path / "images" / "a.jpg", PLACES, 3)
    entries, notes = read("coco", coco(tmp_path, [{"keypoints": triples(PLACES)}], images=("a.jpg",)))
    assert np.allclose(faces(entries)[0].landmarks, PLACES)
    assert notes == ["pictures have the same size turned by EXIF; landmarks are taken as of the stored pixels: a.jpg"]


def test_a_turned_picture_among_stored_and_turned_ones_is_refused(tmp_path: Path) -> None:
    dot_picture(tmp_path / "images" / "a.jpg", PLACES, 3)
    dot_picture(tmp_path / "images" / "b.jpg", PLACES, 6)
    dot_picture(tmp_path / "images" / "c.jpg", PLACES[:, ::-1], 6, (HEIGHT, WIDTH))  # stored 60 x 40, as declared
    source = coco(tmp_path, [{"keypoints": triples(PLACES)}], images=("a.jpg", "b.jpg", "c.jpg"))
    assert "a.jpg: EXIF turns it; some declared sizes are as stored" in bad(read("coco", source)[0]).message


def test_landmarks_of_another_format_in_turned_pictures_are_said_to_be_taken_as_stored(tmp_path: Path) -> None:
    dot_picture(tmp_path / "images" / "a.jpg", PLACES, 6, (WIDTH, HEIGHT))
    (tmp_path / "train.csv").write_text(csv_text([("a.jpg", PLACES[:, ::-1])], 5))
    entries, notes = read("csv", tmp_path)
    assert np.allclose(faces(entries)[0].landmarks, PLACES[:, ::-1])
    assert notes == ["faces lie in pictures that EXIF turns; their landmarks are taken as of the pixels as stored: a"]


def test_coco_without_a_size_counts_stored_pixels(tmp_path: Path) -> None:
    dot_picture(tmp_path / "images" / "a.jpg", PLACES, 6, (WIDTH, HEIGHT))
    source = coco(tmp_path, [{"keypoints": triples(PLACES[:, ::-1])}], None, images=("a.jpg",))
    entries, notes = read("coco", source)
    assert np.allclose(faces(entries)[0].landmarks, PLACES[:, ::-1])
    assert notes == ["faces lie in pictures that EXIF turns; their landmarks are taken as of the pixels as stored: a"]


@pytest.mark.parametrize("factor", [0.5, 2])
def test_landmarks_made_at_another_size_are_scaled(factor: float, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", round(WIDTH * factor), round(HEIGHT * factor))
    entries, notes = read("coco", coco(tmp_path, [{"keypoints": triples(PLACES), "bbox": [8, 6, 44, 29]}]))
    (face,) = faces(entries)
    assert np.allclose(face.landmarks, (PLACES + 0.5) * factor - 0.5)
    assert face.box_xyxy is not None
    assert np.allclose(geometry_of(face.box_xyxy), np.array([44, 29]) * factor)
    assert notes == ["faces' landmarks and boxes scaled to the file's size, by the declared size: a"]


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT + 9), (HEIGHT, WIDTH), (500, 20)])
def test_another_size_is_refused_with_both(size: tuple[int, int], tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    found = bad(read("coco", coco(tmp_path, [{"keypoints": triples(PLACES)}], size))[0])
    assert f"declared {size[0]} x {size[1]}, but the file is 60 x 40" in found.message


@pytest.mark.parametrize("size", [None, (0, 0), (-1, -1)])
def test_a_size_that_is_not_declared_is_no_other_size(size: tuple[int, int] | None, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    assert np.allclose(
        faces(read("coco", coco(tmp_path, [{"keypoints": triples(PLACES)}], size))[0])[0].landmarks, PLACES
    )


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("scale", [1.0, 0.37, 3.0])
def test_a_fit_undoes_turning_and_resizing_for_every_size(turn: int, scale: float) -> None:
    for stored in ((640, 480), (99, 400), (31, 17)):
        view = upright_affine(turn, *stored)
        upright = stored if turn < 5 else stored[::-1]
        declared = (max(1, round(upright[0] / scale)), max(1, round(upright[1] / scale)))
        found = fit(declared, stored, turn)
        assert found is not None
        place = np.array([[3.0, 5.0], [20.0, 11.0]])
        seen = (geometry.apply(view, place) + 0.5) * (np.array(declared) / upright) - 0.5
        if turn < 5:  # its size does not tell
            assert found.either == (turn != 1)
            seen = (place + 0.5) * (np.array(declared) / stored) - 0.5
        assert np.allclose(geometry.apply(found.stored_from_declared, seen), place)
        assert set(found.how) <= {TURNED, SCALED}


# ------------------------------------------------------------------------------------------ names, categories, counts


def named(prefix: str, order: np.ndarray, words: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [{"id": 1, "name": "face", "keypoints": [words[i] if words else f"{prefix}{i}" for i in order]}]


WORDS = ("left eye", "right eye", "nose", "left mouth", "right mouth")
OTHER = np.array([3, 0, 4, 2, 1])


@pytest.mark.parametrize("words", [(), WORDS], ids=["numbers", "words"])
def test_key_points_of_another_order_are_put_in_order_by_their_names(words: tuple[str, ...], tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    for name, order in (("train.json", np.arange(5)), ("val.json", OTHER)):
        keypoints = triples(PLACES[order])
        coco(tmp_path, [{"category_id": 1, "keypoints": keypoints}], categories=named("p", order, words), name=name)
    entries, notes = read("coco", tmp_path)
    assert all(np.allclose(face.landmarks, PLACES) for face in faces(entries))
    assert len(notes) == 1
    assert "put in order by name" in notes[0]


def test_names_with_numbers_tell_the_order_by_themselves(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    source = coco(tmp_path, [{"category_id": 1, "keypoints": triples(PLACES[OTHER])}], categories=named("kp_", OTHER))
    assert np.allclose(faces(read("coco", source)[0])[0].landmarks, PLACES)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["left eye", "right eye", "tip", "left mouth", "right mouth"], "point 2 is called 'tip'"),
        (["left eye"] * 5, "1 different name, expected 5"),
        (["left eye", "right eye"], "2 different names, expected 5"),
        ([1, 2, 3, 4, 5], "expected names"),
    ],
)
def test_names_that_do_not_fit_are_refused_with_the_first(names: list, message: str, tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    annotation = {"category_id": 1, "keypoints": triples(PLACES)}
    coco(tmp_path, [annotation], categories=named("", np.arange(5), WORDS))
    coco(tmp_path, [annotation], categories=[{"id": 1, "name": "face", "keypoints": names}], name="val.json")
    with pytest.raises(UserError, match=r"val.json: categories\[0\].keypoints") as error:
        read("coco", tmp_path)
    assert message in str(error.value)


CATEGORIES = [{"id": 1, "name": "Human Face"}, {"id": 2, "name": "hand"}, {"id": 3, "name": "cup"}]


def test_of_several_categories_faces_are_read_and_the_others_counted_by_name(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    hand = {"category_id": 2, "keypoints": triples(points(21))}
    annotations = [hand, {"category_id": 3, "bbox": [1, 1, 9, 9]}, {"category_id": 1, "keypoints": triples(PLACES)}]
    source = coco(tmp_path, annotations, categories=CATEGORIES)
    entries, notes = read("coco", source)
    assert np.allclose(faces(entries)[0].landmarks, PLACES)
    assert [note.split(":")[0] for note in notes] == [
        "annotations of the category 'hand' passed over", "annotations of the category 'cup' passed over",
    ]  # fmt: skip
    count_points = FORMATS["coco"].count_points
    assert count_points is not None
    assert count_points(source) == 5  # the hand comes first


def test_a_category_that_the_file_does_not_list_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    source = coco(tmp_path, [{"category_id": 9, "keypoints": triples(PLACES)}], categories=CATEGORIES)
    assert "category_id is 9, expected one of 1, 2, 3" in bad(read("coco", source)[0]).message


def test_crowds_are_passed_over(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    annotations = [{"iscrowd": 1, "bbox": [1, 1, 30, 30]}, {"iscrowd": 0, "keypoints": triples(PLACES)}]
    entries, notes = read("coco", coco(tmp_path, annotations))
    assert len(faces(entries)) == 1
    assert "crowds" in notes[0]


def test_a_count_of_no_key_points_beside_some_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    source = coco(tmp_path, [{"num_keypoints": 0, "keypoints": triples(PLACES)}])
    assert "num_keypoints is 0, but 5 of its keypoints" in bad(read("coco", source)[0]).message
    source = coco(tmp_path, [{"num_keypoints": 0, "keypoints": triples(PLACES, 0)}])
    assert faces(read("coco", source)[0])[0].landmarks is None


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    source = coco(tmp_path, [], images=("a.png", "b.png"))
    content = json.loads((source / "train.json").read_text())
    content["images"][1]["id"] = 0
    (source / "train.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"images\[1\]: the id 0 is that of another image"):
        read("coco", source)


@pytest.mark.parametrize("reader", ["coco", "wflw"])
def test_a_box_without_width_and_height_gives_way_to_the_landmarks(reader: str, tmp_path: Path) -> None:
    if reader == "coco":
        picture(tmp_path / "images" / "a.png")
        source, landmarks = coco(tmp_path, [{"keypoints": triples(PLACES), "bbox": [0, 0, 0, 0]}]), PLACES
    else:
        picture(tmp_path / "WFLW_images" / "a.png")
        landmarks = points(98)
        source = wflw(tmp_path, [wflw_line(landmarks, "a.png", box="0 0 0 0")])
    entries, notes = read(reader, source, "five" if reader == "coco" else "wflw98")
    assert np.allclose(faces(entries)[0].box_xyxy, geometry.landmark_box(landmarks), atol=1e-4)
    assert "box of their landmarks is taken" in notes[0]


# --------------------------------------------------------------------------------------------------- missing landmarks


def _csv(folder: Path, cells: tuple[str, str]) -> Path:
    picture(folder / "images" / "a.png")
    lines = csv_text([("a.png", PLACES)], 5).splitlines()
    values = lines[1].split(",")
    values[5:7] = cells
    (folder / "train.csv").write_text(f"{lines[0]}\n{','.join(values)}\n")
    return folder


def _list(folder: Path, cells: tuple[str, str]) -> Path:
    picture(folder / "images" / "a.png")
    values = numbers(PLACES).split()
    values[4:6] = cells
    (folder / "train.txt").write_text(f"{' '.join(values)} a.png\n")
    return folder


def _pts(folder: Path, cells: tuple[str, str]) -> Path:
    lines = pts(folder / "a.pts", PLACES, header=False).read_text().splitlines()
    lines[2] = " ".join(cells)
    (folder / "a.pts").write_text("\n".join(lines) + "\n")
    return folder


def _coco(folder: Path, cells: tuple[str, str]) -> Path:
    picture(folder / "images" / "a.png")
    keypoints = triples(PLACES)
    keypoints[6:8] = map(float, cells)
    return coco(folder, [{"keypoints": keypoints}])


def _coco_v0(folder: Path, cells: tuple[str, str]) -> Path:
    picture(folder / "images" / "a.png")
    keypoints = triples(PLACES)
    keypoints[6:9] = [*map(float, cells), 0]
    return coco(folder, [{"keypoints": keypoints}])


ABSENT: list[tuple[str, Callable[[Path, tuple[str, str]], Path], tuple[str, str]]] = [
    *[("csv", _csv, cells) for cells in (("", ""), ("nan", "NaN"), ("0", "0.0"), ("-1", "-1"))],
    *[("list", _list, cells) for cells in (("nan", "nan"), ("0", "0"), ("-1", "-1.000"))],
    *[("ibug", _pts, cells) for cells in (("nan", "nan"), ("0", "0"), ("-1", "-1"))],
    *[("coco", _coco, cells) for cells in (("0", "0"), ("-1", "-1"))],
    ("coco", _coco_v0, ("30", "20")),
]


@pytest.mark.parametrize(("reader", "write", "cells"), ABSENT, ids=[f"{r}-{w.__name__}-{c}" for r, w, c in ABSENT])
def test_a_missing_landmark_is_refused_or_kept_as_missing(
    reader: str, write: Callable[[Path, tuple[str, str]], Path], cells: tuple[str, str], tmp_path: Path
) -> None:
    source = write(tmp_path, cells)
    found = bad(read(reader, source)[0])
    assert "1 of 5 landmarks not labelled" in found.message
    assert "--missing keep" in found.message
    entries, notes = read(reader, source, missing="keep")
    (face,) = faces(entries)
    assert face.missing_points.tolist() == [False, False, True, False, False]
    assert face.visible is not None
    assert face.visible.tolist() == [True, True, False, True, True]
    assert face.landmarks is not None
    assert np.allclose(face.landmarks[2], np.delete(PLACES, 2, axis=0).mean(axis=0), atol=1e-4)
    assert np.allclose(np.delete(face.landmarks, 2, axis=0), np.delete(PLACES, 2, axis=0), atol=1e-4)
    assert notes == ["faces lack landmarks, which have point_trust 0 there: a"]


def test_the_frame_of_a_list_does_not_hide_a_missing_landmark(tmp_path: Path) -> None:
    _list(tmp_path, ("0", "0"))
    assert "not labelled" in bad(read("list", tmp_path, frame=384)[0]).message


@pytest.mark.parametrize("missing", ["refuse", "keep"])
def test_a_face_of_missing_landmarks_alone_is_none(missing: str, tmp_path: Path) -> None:
    pts(tmp_path / "a.pts", np.full((5, 2), -2.0))
    assert "as do all of them" in bad(read("ibug", tmp_path, missing=missing)[0]).message


def test_hidden_points_of_merl_rav_are_hidden_and_points_outside_are_outside(tmp_path: Path) -> None:
    hidden = PLACES + 1
    hidden[2] = -hidden[2]
    pts(tmp_path / "a.pts", hidden - 1)
    outside = PLACES.copy()
    outside[0] = (-3, -2)
    pts(tmp_path / "b.pts", outside)
    entries, notes = read("ibug", tmp_path)
    first, second = faces(entries)
    assert np.allclose(first.landmarks, PLACES)
    assert first.visible is not None
    assert first.visible.tolist() == [True, True, False, True, True]
    assert np.allclose(second.landmarks, outside)
    assert second.visible is None
    assert len(notes) == 1
    assert "MERL-RAV" in notes[0]


# ------------------------------------------------------------------------------------------------------ files not seen


@pytest.mark.parametrize("suffix", [".Jpg", ".PNG", ".JPEG"])
def test_suffixes_are_found_in_any_case(suffix: str, tmp_path: Path) -> None:
    made = pts(tmp_path / "a.pts", PLACES)
    image = Image.open(tmp_path / "a.png").convert("RGB")
    (tmp_path / "a.png").unlink()
    image.save(tmp_path / f"a{suffix}", format="PNG" if "N" in suffix else "JPEG")
    made.rename(tmp_path / "a.PTS")
    assert np.allclose(faces(read("ibug", tmp_path)[0])[0].landmarks, PLACES)
    recognise, count_points = FORMATS["ibug"].recognise, FORMATS["ibug"].count_points
    assert recognise is not None
    assert recognise(tmp_path)
    assert count_points is not None
    assert count_points(tmp_path) == 5


@pytest.mark.parametrize(("reader", "name"), [("csv", "train.csv"), ("list", "train.txt"), ("coco", "train.json")])
def test_list_files_are_found_in_any_case(reader: str, name: str, tmp_path: Path) -> None:
    {"csv": _csv, "list": _list, "coco": _coco}[reader](tmp_path, ("30", "20"))
    (tmp_path / name).rename(tmp_path / name.upper())
    assert len(faces(read(reader, tmp_path)[0])) == 1


def test_a_face_in_two_files_is_named(tmp_path: Path) -> None:
    text = pts(tmp_path / "a.pts", PLACES).read_text()
    (tmp_path / "a.PTS").write_text(text)
    if len(list(tmp_path.glob("*.*"))) < 3:
        pytest.skip("a file system that does not tell a.pts from a.PTS")
    found = bad([entry for entry in read("ibug", tmp_path)[0] if isinstance(entry, BadEntry)])
    assert "stands twice: a.PTS, a.pts" in found.message


def test_pictures_without_a_face_and_files_that_are_no_picture_are_named(tmp_path: Path) -> None:
    pts(tmp_path / "a.pts", PLACES)
    picture(tmp_path / "b.png")
    (tmp_path / "c.heic").write_bytes(b"?")
    (tmp_path / ".hidden").write_bytes(b"?")
    assert read("ibug", tmp_path)[1] == ["pictures without a .pts beside them passed over: b.png"]
    entries, notes = read("folder", tmp_path)
    assert len(faces(entries)) == 2
    assert [note.split(" passed")[0] for note in notes] == [".pts files", ".heic files"]


def test_a_picture_that_changed_since_the_data_set_was_made_is_refused(tmp_path: Path) -> None:
    image = picture(tmp_path / "pictures" / "a.png")
    sample = FaceSample(id="a", image=image, landmarks=PLACES)
    write_dataset(tmp_path / "d", [sample], schema=FIVE, name="d", image_root=image.parent)
    assert faces(read("dataset", tmp_path / "d")[0]) == list(FaceDataset.open(tmp_path / "d"))
    picture(image, seed=9)
    assert "has changed since the data set was made" in bad(read("dataset", tmp_path / "d")[0]).message


def test_a_list_that_leads_out_of_its_folder_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = picture(tmp_path / "secret.png")
    assert image_size(outside) == (WIDTH, HEIGHT)
    opened: list[str] = []
    monkeypatch.setattr(
        "stylealign.data.formats.entry._inspect", lambda *a: opened.append(str(a[0])) or (WIDTH, HEIGHT)
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "train.txt").write_text(f"{numbers(PLACES)} ../secret.png\n")
    assert "does not lie below" in bad(read("list", tmp_path / "in", frame=384)[0]).message
    source = coco(tmp_path / "in", [{"keypoints": triples(PLACES)}], images=("../secret.png",))
    assert "does not lie below" in bad(read("coco", source)[0]).message
    assert opened == []
