"""What predict is made of: views, boxes, finders, answers, threads, the One-Euro filter, tracking. Without torch."""

import json
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from builders.dot_network import DotNetwork, find_dots
from builders.dots import PLACES, paint
from builders.layouts import picture
from stylealign.data.formats import ibug, imglab, labelme
from stylealign.data.lists import FaceLists
from stylealign.data.threads import ahead
from stylealign.data.xml_elements import read_elements
from stylealign.errors import UserError
from stylealign.evaluation.point_trust import PointTrust
from stylealign.face import geometry
from stylealign.face.orientation import map_box, turn_affine, upright_affine, view_of
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE
from stylealign.jobs.calibrate.boxes import jittered, safe_range
from stylealign.predicting.candidates import Candidate, Search, candidates_in, whole_box
from stylealign.predicting.clock import Clock
from stylealign.predicting.faces import find_faces
from stylealign.predicting.finders import (
    FoundFace,
    Mapping,
    box_of_five,
    landmark_box_of,
    one_each,
    yunet_finder,
)
from stylealign.predicting.given_boxes import BoxFile
from stylealign.predicting.landmarks import find_landmarks, movement_with_crop, usable_box
from stylealign.predicting.one_euro import Jitter, OneEuro
from stylealign.predicting.predicted_face import Face, named
from stylealign.predicting.sources import Photo, expand, read_photo
from stylealign.predicting.tracking import TrackConfig, Tracker, is_lost
from stylealign.predicting.writing import overlay_names, safe_name

EYE = np.eye(2, 3)


def dot_face(
    centre: tuple[float, float] = (50, 45), width: int = 100, height: int = 90
) -> tuple[np.ndarray, np.ndarray]:
    landmarks = PLACES + np.array(centre)
    return paint(landmarks, width, height, np.array([30, 20, 40])), landmarks


# --------------------------------------------------------------------------------------------------------------------
# Views


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_view_has_the_pixels_where_its_affine_says_and_pillow_agrees(orientation: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (3, 5, 3), dtype=np.uint8)
    affine = upright_affine(orientation, 5, 3)
    view = view_of(image, affine)
    for y in range(3):
        for x in range(5):
            u, v = geometry.apply(affine, np.array([x, y])).round().astype(int)
            assert (view[v, u] == image[y, x]).all()
    methods = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    upright = Image.fromarray(image).transpose(methods[orientation]) if orientation > 1 else image
    assert (np.asarray(upright) == view).all()


def test_turning_by_90_degrees_is_clockwise() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[0, 0] = 255  # the top left corner goes to the top right
    assert view_of(image, turn_affine(90, 4, 2))[0, -1, 0] == 255


def test_a_box_goes_through_a_turn_and_back() -> None:
    box = np.array([1.0, 2, 5, 9])
    turn = turn_affine(270, 20, 30)
    assert np.allclose(map_box(geometry.invert(turn), map_box(turn, box)), box)


# --------------------------------------------------------------------------------------------------------------------
# Sources


def test_inputs_become_sources_once_each_and_wrong_ones_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b/c.jpg", "b/clip.mp4", "b/notes.txt", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources, wrong = expand(["a.png", "b", "*.png", "0", "empty", "gone.jpg", "*.bmp"])
    assert [(s.kind, s.name) for s in sources] == [
        ("photo", "a.png"), ("photo", "b/c.jpg"), ("video", "b/clip.mp4"), ("camera", "camera0"),
    ]  # fmt: skip
    assert wrong == [
        "empty: no picture and no video in this folder",
        "gone.jpg: no such file or folder",
        "*.bmp: nothing is called so",
    ]


def test_landmarks_of_a_photo_stored_on_its_side_are_those_of_its_stored_pixels(tmp_path: Path) -> None:
    upright, landmarks = dot_face()
    stored = np.rot90(upright)  # turned to the left; orientation 6 turns it back to the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "phone.png", exif=exif)
    photo = read_photo(tmp_path / "phone.png")
    assert (view_of(photo.image, photo.view_from_source) == upright).all()
    candidates = candidates_in(photo, Search(crop_scale=1.8, finder=find_dots))
    found = find_landmarks(DotNetwork(), candidates)[0].landmarks
    expected = geometry.apply(geometry.invert(upright_affine(6, 90, 100)), landmarks)
    assert np.abs(found - expected).max() < 0.3
    x, y = found[2].round().astype(int)
    assert stored[y, x, 2] > 200  # the nose's blue


# --------------------------------------------------------------------------------------------------------------------
# Boxes


def test_boxes_are_read_from_every_layout_and_found_by_the_end_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,x0,y0,x1,y1\nb/c.jpg,1,2,30,40\nb/c.jpg,5,6,7,8\n")
    (tmp_path / "a.json").write_text(json.dumps({"b/c.jpg": [[1, 2, 30, 40], [5, 6, 7, 8]]}))
    rows = [{"image": "b/c.jpg", "box_xyxy": [1, 2, 30, 40]}, {"id": "b/c.jpg", "box_xyxy": [5, 6, 7, 8]}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for name in ("a.csv", "a.json", "list.json", "a.jsonl"):
        boxes = BoxFile(tmp_path / name).of("/photos/b/c.jpg")
        assert [b.tolist() for b in boxes] == [[1, 2, 30, 40], [5, 6, 7, 8]], name
        with pytest.raises(UserError, match=r"x/c.jpg: no box in"):
            BoxFile(tmp_path / name).of("x/c.jpg")


def test_the_longest_end_of_a_path_names_a_picture_and_no_box_is_two_pictures(tmp_path: Path) -> None:
    """A box of one 001.jpg was taken for that of another; a picture named by its longer end was left out."""
    file = tmp_path / "a.csv"

    def given(names: str, pictures: list[str]) -> list[list[float] | str]:
        """Of each picture the number of its row, or why it has no box."""
        rows = [f"{name},{row},0,9,9\n" for row, name in enumerate(names.split())]
        file.write_text("image,x0,y0,x1,y1\n" + "".join(rows))
        boxes = BoxFile(file, pictures)
        found: list[list[float] | str] = []
        for name in pictures:
            try:
                found.append([float(box[0]) for box in boxes.of(name)])
            except UserError as error:
                found.append(str(error))
        return found

    assert given("a.jpg sub/a.jpg", ["photos/sub/a.jpg", "photos/a.jpg"]) == [[1], [0]]
    assert given("a.jpg", ["photos/sub/a.jpg"]) == [[0]]
    assert given("photos/a.jpg a.jpg", ["a.jpg", "photos/a.jpg"]) == [[1], [0]]
    apart = "expected names that tell the pictures apart"
    assert given("a.jpg", ["a.jpg", "sub/a.jpg"]) == [[0], f"sub/a.jpg: 'a.jpg' in {file} fits 'a.jpg' too; {apart}"]
    assert given("001.jpg 001.jpg", ["ann/001.jpg", "bob/001.jpg"]) == [
        f"ann/001.jpg: '001.jpg' in {file} fits 'bob/001.jpg' too; {apart}",
        f"bob/001.jpg: '001.jpg' in {file} fits 'ann/001.jpg' too; {apart}",
    ]
    assert given("x/a.jpg y/a.jpg", ["a.jpg"]) == [f"a.jpg: boxes under 2 fitting names (x/a.jpg, y/a.jpg) in {file}"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", {"b/c.jpg": [[1, 2, 30, 40]], "b/nobody.jpg": []}),
        ("a.json", [{"image": "b/c.jpg", "box": [1, 2, 30, 40]}, {"image": "b/nobody.jpg", "box_xyxy": []}]),
    ],
)
def test_a_picture_with_an_empty_list_of_boxes_is_known_to_have_none(name: str, content: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    boxes = BoxFile(tmp_path / name)
    assert [b.tolist() for b in boxes.of("/photos/b/c.jpg")] == [[1, 2, 30, 40]]
    assert boxes.of("/photos/b/nobody.jpg") == []
    with pytest.raises(UserError, match=r"other.jpg: no box in"):
        boxes.of("other.jpg")
    for wrong in ([[]], [[], [1, 2, 30, 40]], [[1, 2, 30, 40], []]):
        (tmp_path / "wrong.json").write_text(json.dumps({"a.jpg": wrong}))
        with pytest.raises(UserError, match=r"a.jpg: found .*expected a list of boxes"):
            BoxFile(tmp_path / "wrong.json")


@contextmanager
def piped(text: str) -> Iterator[Path]:
    """A pipe with a text in it, by the name that a shell gives to `<(command)`."""
    out, into = os.pipe()
    try:
        os.write(into, text.encode())
        os.close(into)
        yield Path(f"/dev/fd/{out}")
    finally:
        os.close(out)


needs_pipes = pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="pipes have no names here")


@needs_pipes
@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage,x0,y0,x1,y1\r\nb/c.jpg,1,2,30,40\r\n",
        '{"b/c.jpg": [[1, 2, 30, 40]]}',
        '{\n "b/c.jpg": [1, 2, 30, 40],\n "d.jpg": [1, 2, 3, 4]\n}\n',
        '[{"image": "b/c.jpg", "box_xyxy": [1, 2, 30, 40]}]',
        '{"image": "b/c.jpg", "box_xyxy": [1, 2, 30, 40]}\n',
        '\n{"id": "b/c.jpg", "box": [1, 2, 30, 40]}\n\n{"id": "d.jpg", "box_xyxy": [1, 2, 30, 40]}\n',
    ],
)
def test_boxes_are_read_from_a_pipe_in_every_layout(text: str) -> None:
    with piped(text) as path:
        assert [b.tolist() for b in BoxFile(path).of("b/c.jpg")] == [[1, 2, 30, 40]]


@needs_pipes
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,x0,y0,x1,y1\na.jpg,1,2,0,4\n", r"/dev/fd/\d+:2: box \(1, 2, 0, 4\) has no area"),
        ("", r"/dev/fd/\d+: the header is ''"),
        ('{"a.jpg": [[1, 2, 3', r"/dev/fd/\d+:1: not valid JSON"),
        ('{"image": "a", "box": [1, 2, 9, 9]}\n{"image": 3}\n', r"/dev/fd/\d+:2: expected \{"),
    ],
)
def test_what_is_wrong_in_a_pipe_is_named_by_its_line(text: str, said: str) -> None:
    with piped(text) as path, pytest.raises(UserError, match=said):
        BoxFile(path)


@needs_pipes
def test_a_list_of_a_split_may_be_a_pipe(tmp_path: Path) -> None:
    face = FaceSample(id="b/c", image=tmp_path / "b" / "c.png")
    with piped("b/c.png\n") as path:
        lists = FaceLists(tmp_path, (f"val={path}",), ())
    assigned = lists.assign(face, True)
    assert assigned is not None
    assert assigned.split == "val"
    assert not list(lists.unmatched())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,x0,y0,x1,y1\na.jpg,1,2,0,4\n", r"boxes.csv:2: box \(1, 2, 0, 4\) has no area"),
        ("image,x0,y0,x1,y1\na.jpg,1,2,wide,4\n", r"boxes.csv:2: found .* expected a box of four numbers"),
        ("image,x0,y0,x1,y1,x2,y2\na.jpg,1,2,9,4,5,6\n", r"columns of landmarks .x2 among them., expected boxes"),
        ("image,x,y,w,h\na.jpg,1,2,3,4\n", r"expected columns image,x0,y0,x1,y1"),
    ],
)
def test_wrong_boxes_are_refused_with_their_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        BoxFile(tmp_path / "boxes.csv")


# --------------------------------------------------------------------------------------------------------------------
# Finders


def test_a_landmark_box_from_a_finders_box_by_hand() -> None:
    m = Mapping(right=0.1, down=0.2, scale=0.9)
    box = landmark_box_of(np.array([0.0, 0, 80, 120]), 0, m)  # a mean side of 100, round (40, 60)
    assert np.allclose(box, [50 - 45, 80 - 45, 50 + 45, 80 + 45])
    lying = landmark_box_of(np.array([0.0, 0, 80, 120]), 90, m)  # the chin to the left, the face's right hand down
    assert np.allclose((lying[:2] + lying[2:]) / 2, [40 - 20, 60 + 10])


def test_one_face_keeps_one_box_and_neighbours_keep_theirs() -> None:
    def found(*box: float) -> FoundFace:
        return FoundFace(np.array(box), 1.0, "dots")

    first, inner, beside = found(0, 0, 10, 10), found(3, 3, 6, 6), found(9, 0, 19, 10)
    assert one_each([first, inner, beside, found(1, 0, 11, 10)]) == [first, beside]


def test_five_points_give_a_box_that_turns_with_nothing_and_grows_with_the_face() -> None:
    points = np.array([[-10.0, 0], [10, 0], [0, 10], [-8, 20], [8, 20]])
    box, twice = box_of_five(points), box_of_five(2 * points + 7)
    assert np.allclose(twice, 2 * box + 7)
    assert np.allclose(box_of_five(points[[1, 0, 2, 4, 3]]), box)


def test_a_file_that_is_no_yunet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        yunet_finder(tmp_path / "yunet.onnx")
    (tmp_path / "yunet.onnx").write_text("not a network")
    with pytest.raises(UserError, match=r"yunet.onnx: not a YuNet face finder"):
        yunet_finder(tmp_path / "yunet.onnx")


# --------------------------------------------------------------------------------------------------------------------
# Answers


def test_landmarks_do_not_depend_on_size_crop_or_quarter_turn_of_the_picture() -> None:
    import cv2

    image, landmarks = dot_face()
    network = DotNetwork()
    box = geometry.landmark_box(landmarks)

    def found(picture: np.ndarray, box: np.ndarray, view: np.ndarray = EYE) -> np.ndarray:
        return find_landmarks(network, [Candidate(Photo(picture, view), box)])[0].landmarks

    whole = found(image, box)
    assert np.abs(whole - landmarks).max() < 0.3
    cut = found(image[10:80, 20:85], box - [20, 10, 20, 10])
    assert np.abs(cut + np.array([20, 10]) - whole).max() < 1e-3
    large = found(cv2.resize(image, None, fx=2, fy=2), 2 * box + 0.5)
    assert np.abs((large + 0.5) / 2 - 0.5 - whole).max() < 0.3
    turn = turn_affine(90, 100, 90)
    turned = view_of(image, turn)
    back = turn_affine(270, 90, 100)  # the turned picture is held upright by turning it on
    candidate = Candidate(Photo(turned, back), map_box(back, map_box(turn, box)))
    assert (
        np.abs(geometry.apply(geometry.invert(turn), find_landmarks(network, [candidate])[0].landmarks) - whole).max()
        < 1e-3
    )


def test_refinement_brings_a_loose_box_to_the_landmarks() -> None:
    image, landmarks = dot_face()
    exact = geometry.landmark_box(landmarks)
    loose = jittered(exact, 1.3, (0.2, -0.1))
    once = find_landmarks(DotNetwork(), [Candidate(Photo(image, EYE), loose)], refine=1)[0]
    assert np.abs(once.box - exact).max() < 1
    unrefined = find_landmarks(DotNetwork(), [Candidate(Photo(image, EYE), loose)], refine=0)[0]
    assert np.array_equal(unrefined.box, loose)


def test_a_detector_that_has_lost_the_face_gets_its_first_box_again() -> None:
    start = np.array([0.0, 0, 30, 30])
    assert usable_box(np.array([0.0, 0, 9, 5]), start) is start
    assert usable_box(np.array([0.0, 0, 20, 5]), start) is not start


def test_batches_across_pictures_answer_as_single_faces_do() -> None:
    pictures = [dot_face((50 + 3 * i, 45 - i)) for i in range(5)]
    candidates = [Candidate(Photo(image, EYE), geometry.landmark_box(p)) for image, p in pictures]
    network = DotNetwork()
    together = find_landmarks(network, candidates, batch_size=2)
    assert network.batches == [2, 2, 1] * 2
    for candidate, both in zip(candidates, together, strict=True):
        alone = find_landmarks(network, [candidate])[0]
        assert np.array_equal(alone.landmarks, both.landmarks)
        assert np.array_equal(alone.score, both.score)


def test_mirror_averaging_renumbers_and_gives_a_confidence_to_networks_without_one() -> None:
    image, landmarks = dot_face()
    size = 48

    class Biased(DotNetwork):
        """Answers the true places moved 1 px to the right, also on mirrored crops, and gives no confidence."""

        def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, None]:
            truth, _ = super().__call__(crops)
            swapped = truth[
                :, [1, 0, 2, 4, 3]
            ]  # colours stay with their dots: on a mirrored face this is the numbering
            mirrored = (truth[:, 0, 0] > truth[:, 1, 0])[:, None, None]
            return np.where(mirrored, swapped, truth) + np.array([1.0, 0.0]), None

    box = geometry.landmark_box(landmarks)
    plain = find_landmarks(Biased(size), [Candidate(Photo(image, EYE), box)], refine=0)[0]
    flipped = find_landmarks(Biased(size), [Candidate(Photo(image, EYE), box)], refine=0, flip=True)[0]
    px = 1 / geometry.scale_of(geometry.crop_affine(box, 1.8, size))
    assert plain.score is None
    assert np.allclose(plain.landmarks - flipped.landmarks, [px, 0], atol=0.02)  # the bias goes: right once, left once
    face = math.sqrt((flipped.landmarks.max(0) - flipped.landmarks.min(0)).prod()) / px
    assert np.allclose(flipped.score, 2 ** (-(2 / face) / 0.02), rtol=0.1)  # 2 px apart

    known = Biased(size)  # that its card tells: right both times, as people label
    known.lean = 1 / size
    leaning = find_landmarks(known, [Candidate(Photo(image, EYE), box)], refine=0, flip=True)[0]
    assert np.allclose(leaning.landmarks, plain.landmarks, atol=0.02)
    assert np.all(leaning.score > 0.95)


def test_a_whole_pictures_crop_is_the_picture() -> None:
    affine = geometry.crop_affine(whole_box(60, 60, 1.4), 1.4, 30)
    assert np.allclose(affine, [[0.5, 0, -0.25], [0, 0.5, -0.25]])  # pixel areas correspond


def test_turned_pictures_are_tried_in_four_ways_and_the_surest_wins() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[5, 50] = 255  # upright when this is at the bottom right: by a turn of 90 degrees

    def finder(view: np.ndarray) -> list[FoundFace]:
        y, x = np.argwhere(view[..., 0] == 255)[0]
        down = y > view.shape[0] / 2 and x > view.shape[1] / 2
        return [FoundFace(np.array([1.0, 2, 11, 12]), 5.0 if down else 1.0, "frontal")]

    (found,) = candidates_in(Photo(image, EYE), Search(crop_scale=1.4, finder=finder, rotate="auto"))
    view_from_source = found.photo.view_from_source
    assert np.array_equal(view_from_source, turn_affine(90, 60, 40))
    assert map_box(geometry.invert(view_from_source), found.box).tolist() == [2, 28, 12, 38]


# --------------------------------------------------------------------------------------------------------------------
# Threads and names


def test_looking_ahead_keeps_the_order_and_never_holds_more_than_its_depth() -> None:
    lock, started, taken, most = threading.Lock(), 0, 0, 0

    def work(i: int) -> int:
        nonlocal started, most
        with lock:
            started += 1
            most = max(most, started - taken)
        time.sleep(0.002 * (i % 3))
        return i * i

    out = []
    for value in ahead(work, range(20), 3, 4):
        out.append(value)
        with lock:
            taken += 1
    assert out == [i * i for i in range(20)]
    assert 2 <= most <= 6  # depth, the one handed over, the one just begun


def test_heavy_items_wait_for_each_other() -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        return i

    results = ahead(work, range(10), 1, 8, weigh=lambda i: 5.0, heaviest=11.0)
    assert next(results) == 0
    time.sleep(0.02)
    assert begun == [0, 1, 2]  # the third made it 15
    assert list(results) == list(range(1, 10))


def test_an_error_ahead_comes_out_in_its_turn_and_ends_the_work() -> None:
    def work(i: int) -> int:
        if i == 3:
            raise UserError("the third")
        return i

    seen = []
    with pytest.raises(UserError, match="the third"):
        seen.extend(ahead(work, range(100), 2, 4))
    assert seen == [0, 1, 2]


def test_a_stage_inside_another_is_not_counted_twice() -> None:
    clock = Clock()
    with clock("outer"):
        time.sleep(0.01)
        for _ in range(2):
            with clock("inner"):
                time.sleep(0.02)
    stages: Any = clock.summary(1, 1)["stages"]
    assert 0.04 <= stages["inner"]["busy_s"] < 0.2
    assert 0.01 <= stages["outer"]["busy_s"] < stages["inner"]["busy_s"]


def test_ids_are_unique_and_outputs_stay_in_their_folder() -> None:
    face = Face(landmarks=PLACES, box=np.zeros(4), score=None, found_by="given")
    assert [f.id for f in named([face, face], "a/b.jpg")] == ["a/b.jpg", "a/b.jpg#2"]
    face = replace(face, image="a/b.jpg", frame=12)
    assert replace(face, track=0).id == "a/b.jpg@12"
    assert replace(face, track=3).id == "a/b.jpg@12#4"
    assert safe_name("../../etc/x.jpg", ".pts") == "etc/x.jpg.pts"
    assert safe_name("/data/x.jpg", ".jpg") == "data/x.jpg.jpg"


def test_a_face_comes_back_from_its_line_of_predictions() -> None:
    whole = Face(
        landmarks=PLACES + 0.25, box=np.array([1.0, 2, 3, 4.5]), score=np.full(5, 0.5), found_by="track",
        image="ä b.mp4", number=1, frame=3, time=0.12, track=2, landmarks_raw=PLACES,
    )  # fmt: skip
    bare = Face(landmarks=PLACES, box=np.zeros(4), score=None, found_by="whole", image="a.jpg")
    for face in (whole, bare):
        again = Face.from_line(face.to_line(FIVE))
        for name in Face.__slots__:
            assert np.array_equal(getattr(again, name), getattr(face, name)), name
        assert again.id == face.id


def test_the_safe_range_ends_where_the_line_between_two_measurements_crosses_the_limit() -> None:
    at, values = np.array([0.8, 0.9, 1.0, 1.1, 1.2]), np.array([3.0, 1.2, 1.0, 1.0, 1.04])
    low, high = safe_range(at, values, 1.05, 1.0)
    assert low == pytest.approx(1.0 - 0.1 * 0.05 / 0.2)
    assert high == 1.2
    assert jittered(np.array([0.0, 0, 10, 20]), 2.0, (0.1, 0)).tolist() == [-3, -10, 17, 30]


# --------------------------------------------------------------------------------------------------------------------
# Video


def test_the_one_euro_filter_by_hand() -> None:
    # With beta 0 the cutoff is 1 Hz: alpha = 1 / (1 + 10 / (2 pi)) at 10 frames a second, an ordinary exponential
    # filter.
    still = OneEuro(min_cutoff=1.0, beta=0.0)
    a = 1 / (1 + 1 / (2 * math.pi * 0.1))
    assert still(np.array([[0.0, 5.0]]), 0.1).tolist() == [[0, 5]]
    assert np.allclose(still(np.array([[10.0, 5.0]]), 0.1), [[10 * a, 5]])
    assert np.allclose(still(np.array([[10.0, 5.0]]), 0.1), [[10 * a + (10 - 10 * a) * a, 5]])
    # With beta 2: speed (10 - 0) / 0.1 s / 4 px a face = 25, filtered at 1 Hz (same alpha): cutoff 1 + 2 * 25 a. The
    # resting y stays.
    quick = OneEuro(min_cutoff=1.0, beta=2.0)
    quick(np.array([[0.0, 5.0]]), 0.1, 4)
    alpha = 1 / (1 + 1 / (2 * math.pi * (1 + 2 * 25 * a) * 0.1))
    assert np.allclose(quick(np.array([[10.0, 5.0]]), 0.1, 4), [[10 * alpha, 5]])


def test_jitter_is_zero_in_even_motion_and_three_sigma_in_noise() -> None:
    rng = np.random.default_rng(0)
    even, noisy = Jitter(), Jitter()
    for t in range(400):
        even.add(0, t, PLACES + 3 * t, 24)
        noisy.add(0, t, PLACES + 3 * t + rng.normal(0, 0.1, (5, 2)), 24)
    assert even.value == pytest.approx(0, abs=1e-9)
    assert noisy.value == pytest.approx(3.07 * 0.1 / 24, rel=0.05)
    gap = Jitter()
    for t in (0, 1, 3, 4):
        gap.add(0, t, PLACES, 1)
    assert gap.value is None


@pytest.mark.parametrize(
    ("new", "lost"),
    [
        ((22, 20, 52, 50), False), ((36, 20, 66, 50), True),  # moved by 2, by 16 of 30
        ((15, 15, 55, 55), False), ((10, 10, 60, 60), True),  # grown to 40, to 50
        ((27, 27, 43, 43), True),  # shrunk to 16
        ((-18, 20, 12, 50), True),  # centre outside
    ],
)  # fmt: skip
def test_a_face_is_lost_when_it_jumps_grows_or_leaves(new: tuple[float, ...], lost: bool) -> None:
    assert is_lost(np.array([20.0, 20, 50, 50]), np.array(new, float), 100, 100) == lost


def test_an_answer_on_a_face_stays_and_one_on_nothing_follows_the_crop() -> None:
    image, landmarks = dot_face()
    blank = np.full_like(image, 30)
    for turn in (EYE, turn_affine(180, 100, 90)):
        candidates = [Candidate(Photo(picture, turn), np.zeros(4)) for picture in (image, blank)]
        stays, follows = movement_with_crop(DotNetwork(scale=2.2), candidates, [landmarks, landmarks])
        assert abs(stays) < 0.1
        assert follows == pytest.approx(1, abs=0.01)
        there = [c._replace(box=geometry.landmark_box(geometry.apply(turn, landmarks))) for c in candidates]
        known = [each.landmarks for each in find_landmarks(DotNetwork(scale=2.2), there, refine=0)]
        stays, follows = movement_with_crop(DotNetwork(scale=2.2), there, known, answered=True)
        assert abs(stays) < 0.1
        assert follows == pytest.approx(1, abs=0.01)


def test_candidates_that_are_no_face_are_dropped_unless_the_user_gave_them() -> None:
    image, landmarks = dot_face((40, 45), 200)
    face, nothing = geometry.landmark_box(landmarks), np.array([140.0, 30, 165, 55])

    def finder(_: np.ndarray) -> list[FoundFace]:
        return [FoundFace(nothing, 9.0, "frontal"), FoundFace(face, 1.0, "profile")]

    network = DotNetwork(scale=2.2)
    found = candidates_in(Photo(image, EYE), Search(crop_scale=2.2, finder=finder))
    given = candidates_in(Photo(image, EYE), Search(crop_scale=2.2), boxes=[nothing, face])
    (kept,), both = (each.faces for each in find_faces(network, [found, given], 0, False, 3))
    assert kept.found_by == "profile"
    assert np.abs(kept.landmarks - landmarks).max() < 0.3
    assert [face.found_by for face in both] == ["given", "given"]
    assert len(find_faces(network, [found], 0, False, 3, check=False)[0].faces) == 2


def test_the_largest_faces_are_kept_of_those_that_are_faces() -> None:
    image = np.full((90, 300, 3), 30, np.uint8)
    places = [PLACES * scale + np.array(centre) for scale, centre in ((0.8, (40, 45)), (1.2, (130, 45)))]
    for landmarks in places:
        image = np.maximum(image, paint(landmarks, 300, 90, np.array([30, 20, 40])))
    small, large = (geometry.landmark_box(landmarks) for landmarks in places)
    nothing = np.array([215.0, 10, 285, 80])  # the largest of all
    network, expected = DotNetwork(scale=2.2), {0: {0, 1}, 1: {1}, 2: {0, 1}, 3: {0, 1}}
    for boxes in ([small, large, nothing], [nothing, large, small]):
        asked = [Candidate(Photo(image, EYE), box, "frontal") for box in boxes]
        for most, wanted in expected.items():
            (found,) = find_faces(network, [asked], 0, most=most)
            kept = [int(np.argmin([np.abs(each - face.landmarks).max() for each in places])) for face in found.faces]
            assert (set(kept), len(kept), found.none) == (wanted, len(wanted), 1)


def test_a_tracker_follows_loses_and_finds_again() -> None:
    config = TrackConfig(check_every=2, find_every=1000)
    tracker = Tracker(DotNetwork(scale=2.2), find_dots, config)
    path = [(40 + 2.0 * t, 45.0) for t in range(12)]
    for t, centre in enumerate(path):
        image, landmarks = dot_face(centre, 160)
        (face,) = tracker(image, t / 25)
        assert (face.track, face.frame, face.time) == (0, t, t / 25)
        assert np.abs(face.landmarks - landmarks).max() < 0.6
        assert face.found_by == ("frontal" if t == 0 else "track")
    assert tracker.num_searches == 1
    blank = np.full_like(image, 30)
    assert [len(tracker(blank, 1 + t)) for t in range(4)][-1] == 0  # rule 3, at the latest with the second frame
    assert tracker.num_lost == 1
    (again,) = tracker(dot_face((100, 40), 160)[0], 9)
    assert again.track == 1  # remembered, but not in its place
    assert tracker.num_searches >= 3


def test_a_face_that_is_cut_away_is_lost_at_once_where_the_detector_says_how_sure_it_is() -> None:
    image, landmarks = dot_face()
    there = geometry.landmark_box(landmarks)
    for trust, seen in ((None, 1), (PointTrust(basis="peaks", temperature=(4.0,)), 0)):
        network = DotNetwork(scale=2.2)
        network.trust = trust
        finder = lambda picture: [FoundFace(there, 1.0, "frontal")] if picture.max() > 40 else []  # noqa: E731
        tracker = Tracker(network, finder, TrackConfig(check_every=1000, find_every=1000))
        for frame in range(1, 4):
            assert len(tracker(image, float(frame))) == 1
        assert len(tracker(np.full_like(image, 30), 4.0)) == seen


def test_overlays_are_named_by_their_pictures_and_lie_no_deeper_than_those() -> None:
    assert overlay_names(["a.png", "b/a.png", "b/c.jpg", "b/c.png"]) == {
        "a.png": "a", "b/a.png": "b/a", "b/c.jpg": "b/c.jpg", "b/c.png": "b/c.png",
    }  # fmt: skip
    assert overlay_names(["/home/me/x/a.png", "/home/me/y/a.png"]) == {
        "/home/me/x/a.png": "x/a", "/home/me/y/a.png": "y/a",
    }  # fmt: skip
    assert overlay_names(["/home/me/a.png"]) == {"/home/me/a.png": "a"}
    both = overlay_names(["a.png", "/home/me/a.png"])  # would be one file: the long name stays
    assert both == {"a.png": "a", "/home/me/a.png": "home/me/a"}
    for names in (
        ["one/a.jpg", "../one/a.jpg", "../../one/a.jpg"], ["a.jpg", "a.png", "a.jpg.gif"], ["b/c.jpg", "b\\c.jpg"],
        ["a.jpg", "a", "a~2.jpg", "../a"],
    ):  # fmt: skip
        found = overlay_names(names)
        assert len(set(found.values())) == len(names), found
        assert not any(path.startswith(("/", "..")) for path in found.values())


def test_faces_of_pictures_of_one_name_keep_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "x" / "y")
    names = ["one/a.jpg", "../one/a.jpg", "../../one/a.jpg", "one/a.png"]
    faces = [FaceSample(id=name, image=Path(name), landmarks=np.full((5, 2), i)) for i, name in enumerate(names)]
    for name in names:
        picture(Path(name))
    for write, folder in ((ibug.write_predicted, "pts"), (labelme.write_predicted, "labelme")):
        write(tmp_path, faces, FIVE)
        assert len([path for path in (tmp_path / folder).rglob("*") if path.is_file()]) == len(names)
    assert overlay_names([]) == {}


def test_predicted_imglab_leads_from_its_own_folder_to_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names were those given to `predict`, which lead nowhere from the folder that it makes."""
    for folder in ("photos", "found", "x"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "x")
    names = ["../photos/a & b.png", str(tmp_path / "photos" / "c.png"), "d.png"]
    for name in names:
        picture(Path(name))
    faces = [FaceSample(id=name, image=Path(name), landmarks=PLACES + 30) for name in names]
    imglab.write_predicted(Path("../found"), faces, FIVE)
    images = read_elements(Path("../found/predictions_imglab.xml"), "dataset", ("image",))
    files = [str(element.get("file")) for element in images]
    assert files == ["../photos/a & b.png", "../photos/c.png", "../x/d.png"]
    assert all((tmp_path / "found" / file).samefile(name) for file, name in zip(files, names, strict=True))


def test_a_folder_gives_its_pictures_and_no_answers_no_hidden_files_and_says_what_is_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "a.jpg", "b/c.png", "._a.jpg", ".cache/d.png", "predictions/drawn/a.jpg", "predictions.partial/drawn/a.jpg",
        "before/drawn/a.jpg", "elsewhere/e.png",
    ):  # fmt: skip
        picture(Path(name))
    for name in ("predictions.jsonl", "summary.json"):
        Path("before", name).touch()
    Path("predictions.lock").touch()
    Path("gone.jpg").symlink_to("nowhere.jpg")
    Path("linked").symlink_to("elsewhere", target_is_directory=True)
    found, wrong = expand(["."], Path("predictions"))
    assert [source.name for source in found] == ["a.jpg", "b/c.png", "elsewhere/e.png"]
    assert wrong == []
    said = capsys.readouterr().err
    assert said == (
        ".: passed over, a link to a folder or to nothing, or a folder of `predict`'s answers: before, gone.jpg, "
        "linked\n"
    )
