"""What the Python API takes as a picture, row by row of docs/api.md's table; what it gives to other libraries."""

import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stylealign
from builders.dot_network import DotNetwork, find_dots
from builders.dots import PLACES, paint
from builders.places import ROOT
from stylealign import StyleAugmentation
from stylealign.api.detector import Detector
from stylealign.api.pictures import picture_of, rgb_of
from stylealign.errors import UserError
from stylealign.predicting.video import VideoWriter

IMAGE = paint(PLACES + np.array([50, 45]), 100, 90, np.array([30, 20, 40]))
GREY = np.rint(IMAGE @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(DotNetwork(scale=2.2), find_dots)


def png() -> bytes:
    written = io.BytesIO()
    Image.fromarray(IMAGE).save(written, format="PNG")
    return written.getvalue()


def on_disk(folder: Path) -> Path:
    (folder / "a.png").write_bytes(png())
    return folder / "a.png"


def upload() -> io.BytesIO:
    file = io.BytesIO(png())
    file.name = "upload.png"
    return file


RGBA = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])
PLANES = np.ascontiguousarray(IMAGE.transpose(2, 0, 1))
INPUTS: dict[str, Any] = {
    "path, as text or `Path`": [lambda folder: str(on_disk(folder)), on_disk],
    "bytes of a picture file": [lambda _: png(), lambda _: bytearray(png())],
    "open file (mode `rb`), upload": [lambda folder: on_disk(folder).open("rb"), lambda _: upload()],
    "Pillow image": [lambda _: Image.fromarray(IMAGE), lambda folder: Image.open(on_disk(folder))],
    "array (H, W, 3), uint8": [lambda _: IMAGE],
    "array (H, W, 4), uint8: laid on white": [lambda _: RGBA],
    "array of floating point, 0 to 1": [lambda _: IMAGE / 255, lambda _: (IMAGE / 255).astype(np.float32)],
    "array (3, H, W)": [lambda _: PLANES, lambda _: PLANES / 255],
    "tensor (3, H, W), on any device": [
        lambda _: torch.from_numpy(PLANES),
        lambda _: (torch.from_numpy(PLANES).float() / 255).requires_grad_(),
    ],
    "tensor (H, W, 3)": [lambda _: torch.from_numpy(IMAGE)],
    'OpenCV\'s array, with `channels="bgr"`': [lambda _: IMAGE[..., ::-1]],
}
GREYS = [GREY, GREY[..., None], GREY / 255, torch.from_numpy(GREY)[None], Image.fromarray(GREY)]


@pytest.mark.parametrize("form", INPUTS)
def test_every_form_of_the_table_gives_the_same_face(form: str, detector: Detector, tmp_path: Path) -> None:
    (expected,) = detector.predict(IMAGE)
    for make in INPUTS[form]:
        (face,) = detector.predict(make(tmp_path), channels="bgr" if "bgr" in form else "rgb")
        assert np.abs(face.landmarks - expected.landmarks).max() < 0.05


def test_grey_pictures_are_the_same_in_every_form(detector: Detector) -> None:
    box = [[20, 15, 80, 75]]
    landmarks = [detector.predict(grey, boxes=box)[0].landmarks for grey in GREYS]
    assert np.abs(np.stack(landmarks) - landmarks[0]).max() < 0.3


def test_what_resizing_rounds_past_black_and_white_is_black_and_white(detector: Detector) -> None:
    for kind in (np.float16, np.float32, np.float64):
        least = np.nextafter(kind(1), kind(2))
        for past, end in ((least, 255), (kind(1.001), 255), (-np.finfo(kind).eps, 0), (kind(-0.001), 0)):
            assert (rgb_of(np.full((4, 5, 3), past, kind)) == end).all()
    white = torch.ones(1, 3, 480, 640)
    sizes = (100, 112, 133, 160, 224, 300)
    smaller = [torch.nn.functional.interpolate(white, (s, s), mode="bilinear", antialias=True)[0] for s in sizes]
    assert max(float(each.max()) for each in smaller) > 1
    assert all((rgb_of(each) == 255).all() for each in smaller)


def test_a_pillow_image_and_bytes_heed_their_orientation(detector: Detector) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    written = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(IMAGE))).save(written, format="PNG", exif=exif)
    (face,) = detector.predict(written.getvalue())
    (same,) = detector.predict(Image.open(written))
    assert np.array_equal(face.landmarks, same.landmarks)
    (upright,) = detector.predict(IMAGE)
    x, y = upright.landmarks.T
    assert np.abs(face.landmarks - np.stack([y, 99 - x], axis=1)).max() < 1e-6


def test_lists_and_stacks_are_for_predict_batch(detector: Detector, tmp_path: Path) -> None:
    for several in ([IMAGE, on_disk(tmp_path), png()], np.stack([IMAGE] * 3), torch.from_numpy(np.stack([PLANES] * 3))):
        assert [len(faces) for faces in detector.predict_batch(several)] == [1, 1, 1]


def test_the_table_of_the_page_is_what_is_tested() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = page.partition("## What a picture may be")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    others = [
        "what you have",
        "grey: (H, W), (H, W, 1), (1, H, W)",
        "list of any of these, or a stack of arrays",
        "video",
    ]
    assert sorted(rows) == sorted([*INPUTS, *others])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, r"a path, bytes, an open file.*found an object of type int"),
        (None, "found an object of type NoneType"),
        (IMAGE.astype(np.int64), r"found an array of shape \(90, 100, 3\) and type int64"),
        (IMAGE.astype(np.float32), r"with values from .* to .* \(undo a normalisation first; 0 to 255 belongs"),
        (np.full((8, 8, 3), np.nan), "with values from nan to nan"),
        (torch.zeros(3, 9, 9) - 1, r"a tensor of shape \(3, 9, 9\) and type float32 with values from -1 to -1"),
        (np.full((8, 8, 3), 1.002), r"with values from 1\.002 to 1\.002 "),  # not `from 1 to 1`
        (np.full((8, 8, 3), -0.002), r"with values from -0\.002 to -0\.002 "),
        (np.zeros((9, 9, 5), np.uint8), r"found an array of shape \(9, 9, 5\)"),
        (np.zeros((2, 9, 9, 3), np.uint8), r"found an array of shape \(2, 9, 9, 3\)"),
        (np.zeros((0, 9, 3), np.uint8), r"found an array of shape \(0, 9, 3\)"),
        ([IMAGE, IMAGE], r"found a list of ndarray \(2 long\): several pictures are for predict_batch"),
        (io.StringIO("text"), "opened as text; expected it opened with mode 'rb'"),
    ],
)
def test_anything_else_is_named_with_the_forms_that_are_taken(given: Any, said: str, detector: Detector) -> None:
    with pytest.raises(ValueError, match=said):
        detector.predict(given)


def test_values_that_no_command_takes_are_refused(detector: Detector, tmp_path: Path) -> None:
    box = [10, 10, 60, 60]
    for values, said in (
        ({"least_confidence": 2.0}, "least_confidence is 2.0, expected 0 to 1"),
        ({"least_confidence": float("nan")}, "least_confidence is nan"),
        ({"least_confidence": "0.5"}, "least_confidence is '0.5', expected 0 to 1"),
        ({"refine": -1}, "refine is -1, expected a whole number, 0 or more"),
        ({"refine": 1.5}, "refine is 1.5"),
        ({"boxes": [box], "whole_image": True}, "boxes and whole_image: expected one of the two"),
    ):
        with pytest.raises(ValueError, match=said):
            detector.predict(IMAGE, **values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size is 0, expected a whole number, 1 or more"):
        detector.predict_batch([IMAGE], batch_size=0)
    with pytest.raises(ValueError, match="most is -1"):
        next(detector.predict_video("none.avi", most=-1))
    for video in (True, None, 0.5, b"x.avi"):
        with pytest.raises(ValueError, match=r"video is .*, expected a file's path or a camera's number"):
            next(detector.predict_video(video))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"none.avi: no such file"):
        next(detector.predict_video("none.avi"))
    with pytest.raises(UserError, match=r"clip.mp4: a video; expected a picture here"):
        detector.predict("clip.mp4")
    with pytest.raises(UserError, match="accelerator: found 'tpu', expected auto, cpu, cuda or mps"):
        stylealign.load(accelerator="tpu")
    with pytest.raises(ValueError, match="model is b'x', expected a folder's path"):
        stylealign.load(b"x")  # type: ignore[arg-type]
    text = tmp_path / "photo.jpg"
    text.write_bytes(b"\xff\xd8\xff" * 9)
    with open(text) as file, pytest.raises(ValueError, match=r"photo.jpg: opened as text; expected it opened"):
        detector.predict(file)


def test_one_box_in_the_place_of_a_list_is_said(detector: Detector) -> None:
    for boxes in ([10, 10, 80, 80], np.array([10, 10, 80, 80]), 5):
        with pytest.raises(ValueError, match=r"boxes are .*10|boxes are 5.*expected a list of them"):
            detector.predict(IMAGE, boxes=boxes)  # type: ignore[arg-type]


def test_one_picture_is_not_taken_for_many(detector: Detector) -> None:
    tensor = torch.from_numpy(IMAGE).permute(2, 0, 1)
    for one in (IMAGE, IMAGE[..., 0], tensor, tensor[:1]):
        with pytest.raises(ValueError, match=r"expected to be a list, or to have four axes; found an? "):
            detector.predict_batch(one)
    greys = np.stack([IMAGE[..., 0]] * 2)
    assert len(detector.predict_batch(greys, [[[10, 10, 60, 60]], None])) == 2  # of the second, faces are found


def test_bytes_that_are_no_picture_and_channels_that_are_none(detector: Detector) -> None:
    said = r"picture of 7 bytes: not an image that can be read \(cannot identify image file\), expected JPEG"
    with pytest.raises(UserError, match=said):
        detector.predict(b"nothing")
    file = io.BytesIO(png()[:200])
    file.name = "upload.png"
    with pytest.raises(UserError, match=r"upload.png: image cut short or damaged"):
        detector.predict(file)
    with pytest.raises(ValueError, match=r"channels is 'gbr', expected 'rgb' or 'bgr'"):
        detector.predict(IMAGE, channels="gbr")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="several pictures are expected to be a list; found an object of type str"):
        detector.predict_batch("a.png")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")  # of a coroutine that nobody awaits
def test_an_upload_that_has_to_be_awaited_is_told_what_to_give(detector: Detector) -> None:
    class Upload:
        """As FastAPI hands them on."""

        filename = "me.jpg"

        async def read(self) -> bytes:
            return png()

    with pytest.raises(
        ValueError, match=r"me\.jpg: its read has to be awaited; expected its \.file .*await upload\.read"
    ):
        detector.predict(Upload())


def test_a_video_is_followed_frame_by_frame(detector: Detector, tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "clip.mp4", 25)
    for i in range(4):  # twice as large: a codec's colours are coarse
        frame = paint(PLACES + np.array([50 + i, 45]), 100, 90, np.array([30, 20, 40]))
        writer.write(np.kron(frame, np.ones((2, 2, 1), np.uint8)))
    writer.close()
    frames = list(detector.predict_video(tmp_path / "clip.mp4"))
    assert [[face.track for face in faces] for faces in frames] == [[0]] * 4
    assert [faces[0].frame for faces in frames] == [0, 1, 2, 3]
    assert frames[0].to_coco()["images"][0]["file_name"].endswith("clip.mp4@0")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"no.mp4: not a video"):
        next(detector.predict_video(tmp_path / "no.mp4"))


# --------------------------------------------------------------------------------------------------------------------
# Other libraries


def test_a_prediction_is_coco_json_in_one_call(detector: Detector) -> None:
    faces = detector.predict(IMAGE)
    found = json.loads(json.dumps(faces.to_coco()))
    assert found["images"] == [{"id": 1, "file_name": "picture", "width": 100, "height": 90}]
    (annotation,) = found["annotations"]
    assert np.allclose(np.reshape(annotation["keypoints"], (5, 3))[:, :2], faces[0].landmarks, atol=1e-5)
    assert found["categories"][0]["name"] == "face"
    assert detector.predict(np.full((50, 60, 3), 90, np.uint8)).to_coco()["annotations"] == []


def test_supervision_and_pandas_get_what_they_take(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = detector.predict(IMAGE)
    supervision, pandas = types.ModuleType("supervision"), types.ModuleType("pandas")
    supervision.KeyPoints = lambda **values: values  # type: ignore[attr-defined]
    pandas.DataFrame = lambda rows, columns: (rows, columns)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", supervision)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    points = faces.to_supervision()
    assert points["xy"].shape == (1, 5, 2)
    assert points["confidence"].shape == (1, 5)
    supervision.KeyPoints = lambda xy, keypoint_confidence: (xy, keypoint_confidence)  # type: ignore[attr-defined]
    assert faces.to_supervision()[1].shape == (1, 5)
    rows, columns = faces.to_pandas()
    assert len(rows) == 5
    assert list(rows[0]) == columns
    assert (rows[3]["point"], rows[3]["x"]) == (3, faces[0].landmarks[3, 0])
    for name, call in (("supervision", faces.to_supervision), ("pandas", faces.to_pandas)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=f"needs the package {name}.*pip install {name}"):
            call()


# --------------------------------------------------------------------------------------------------------------------
# Style as an augmentation


@pytest.fixture(scope="module")
def restyle(tmp_path_factory: pytest.TempPathFactory) -> StyleAugmentation:
    donor = tmp_path_factory.mktemp("donors") / "donor.png"
    Image.fromarray(255 - IMAGE).save(donor)
    return StyleAugmentation([donor], "histogram", strength=(1.0, 1.0))


def test_a_folder_of_pictures_is_the_list_of_them(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    paths = [tmp_path / "a.png", tmp_path / "more" / "b.png"]
    for path, picture in zip(paths, (255 - IMAGE, IMAGE[:, ::-1]), strict=True):
        Image.fromarray(picture).save(path)
    (tmp_path / "notes.txt").write_text("no picture")
    of_folder, of_list = StyleAugmentation(tmp_path, "histogram"), StyleAugmentation(paths, "histogram")
    for seed in range(4):
        made = of_folder(IMAGE, PLACES + 50, seed=seed)
        assert np.array_equal(made, of_list(IMAGE, PLACES + 50, seed=seed))


@pytest.mark.parametrize(
    "image",
    [IMAGE, RGBA, GREY, GREY[..., None], IMAGE / 255, (PLANES / 255).astype(np.float32), torch.from_numpy(PLANES),
     torch.from_numpy(IMAGE), torch.from_numpy(PLANES / 255).half(), Image.fromarray(IMAGE), Image.fromarray(GREY)],
)  # fmt: skip
def test_a_restyled_image_has_the_form_of_the_one_given(image: Any, restyle: StyleAugmentation) -> None:
    made = restyle(image, PLACES + 50, seed=1)
    assert type(made) is type(image)
    if isinstance(image, Image.Image):
        assert (made.size, made.mode) == (image.size, image.mode)
    else:
        assert (made.shape, made.dtype) == (image.shape, image.dtype)
    assert np.abs(np.asarray(made, dtype=float) - np.asarray(image, dtype=float)).max() > 0.1


def test_transparency_and_the_colours_under_it_stay(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    alone = StyleAugmentation([tmp_path / "a.png"], "free", prob=0)
    alpha = np.linspace(40, 255, IMAGE[..., 0].size).reshape(IMAGE.shape[:2]).astype(np.uint8)
    given = np.dstack([IMAGE, alpha])
    for image in (given, given / 255, torch.from_numpy(given).permute(2, 0, 1), Image.fromarray(given)):
        made, whole = (np.asarray(one, dtype=float) for one in (alone(image, PLACES + 50), image))
        step = 1 / 255 if whole.max() <= 1 else 1
        seen = (made[-1] if len(made) == 4 else made[..., 3]) / (255 * step)
        away = np.abs(made - whole) / step  # colours are rounded on white: by half a step, over their share
        assert (away <= 1 + 0.5 / (seen if len(made) == 4 else seen[..., None])).all()


def test_the_order_of_channels_changes_nothing_else(restyle: StyleAugmentation) -> None:
    rgb = restyle(IMAGE, PLACES + 50, seed=1)
    assert np.array_equal(restyle(IMAGE[..., ::-1], PLACES + 50, seed=1, channels="bgr")[..., ::-1], rgb)
    assert np.array_equal(restyle(RGBA[..., [2, 1, 0, 3]], PLACES + 50, seed=1, channels="bgr")[..., 2::-1], rgb)
    with pytest.raises(ValueError, match=r"expected to be open.*found 'a.png'"):
        restyle("a.png", PLACES + 50)


@pytest.mark.parametrize("image", [GREY, GREY[..., None], Image.fromarray(GREY), Image.fromarray(IMAGE)])
def test_pictures_without_an_order_of_channels_are_the_same_in_both(image: Any, restyle: StyleAugmentation) -> None:
    """Red and blue of a colourful style weigh what they weigh in a grey picture's brightness."""
    assert np.array_equal(*(restyle(image, PLACES + 50, seed=1, channels=order) for order in ("rgb", "bgr")))


def test_landmarks_are_the_same_in_every_form(restyle: StyleAugmentation) -> None:
    places = np.round(PLACES + 50)  # whole numbers, which half a precision holds
    wanted = restyle(IMAGE, places, seed=3)
    for kind in (torch.float32, torch.bfloat16):
        given = torch.tensor(places, dtype=kind, requires_grad=True)
        assert np.array_equal(restyle(IMAGE, given, seed=3), wanted)
    with pytest.raises(ValueError, match="landmarks: found 'abc', expected numbers"):
        restyle(IMAGE, "abc")  # type: ignore[arg-type]


def test_an_array_that_may_not_be_written_is_taken_and_left_as_it_is(restyle: StyleAugmentation) -> None:
    image = IMAGE.copy()
    image.flags.writeable = False
    assert np.array_equal(restyle(image, PLACES + 50, seed=3), restyle(IMAGE, PLACES + 50, seed=3))
    assert np.array_equal(image, IMAGE)
    assert rgb_of(image).flags.writeable  # torch warns of others, once a process


@pytest.mark.parametrize(("mode", "plain"), [("RGBa", "RGBA"), ("La", "LA")])
def test_multiplied_transparency_is_laid_on_white_too(mode: str, plain: str, restyle: StyleAugmentation) -> None:
    half = Image.fromarray(np.dstack([IMAGE, np.full(IMAGE.shape[:2], 128, np.uint8)])).convert(plain)
    seen, wanted = picture_of(half.convert(mode)).image, picture_of(half).image
    assert np.abs(seen.astype(int) - wanted).max() <= 2  # what multiplying has rounded away
    assert restyle(half.convert(mode), PLACES + 50, seed=3).mode == plain


def test_pipelines_of_pairs_and_of_samples_hand_everything_on(restyle: StyleAugmentation) -> None:
    class Marked(torch.Tensor):
        """As torchvision marks its images."""

    image, landmarks = torch.from_numpy(PLANES).as_subclass(Marked), torch.from_numpy(PLACES + 50)
    torch.manual_seed(1)
    made, same = restyle.on_pair(image, landmarks)
    assert same is landmarks
    assert type(made) is Marked
    torch.manual_seed(1)
    sample = {"image": image, "keypoints": landmarks, "id": 7}
    by_name, by_keyword = restyle.on_sample(sample), restyle.on_sample(**{**sample, "landmarks": 0})
    assert torch.equal(by_name["image"], made)
    assert by_name["keypoints"] is landmarks
    assert by_name["id"] == by_keyword["id"] == 7
    with pytest.raises(ValueError, match=r"a sample with picture in it: expected image and keypoints"):
        restyle.on_sample(picture=image)


def test_a_seed_is_a_whole_number_of_any_library_and_grey_with_transparency_stays_so(
    restyle: StyleAugmentation,
) -> None:
    first = restyle(IMAGE, PLACES + 50, seed=3)
    for seed in (np.int64(3), torch.tensor(3), (3,), [np.int32(3)], np.array([3])):
        assert np.array_equal(restyle(IMAGE, PLACES + 50, seed=seed), first)  # type: ignore[arg-type]
    for seed, said in ((-1, "seed is -1, expected 0 or more"), (1.5, "seed is 1.5, expected a whole number")):
        with pytest.raises(ValueError, match=said):
            restyle(IMAGE, PLACES + 50, seed=seed)  # type: ignore[arg-type]
    both = Image.fromarray(np.dstack([GREY, GREY]), "LA")
    assert restyle(both, PLACES + 50, seed=1).mode == "LA"
    for closed in (bytearray(png()), upload()):
        with pytest.raises(ValueError, match="an image is expected to be open"):
            restyle(closed, PLACES + 50)  # type: ignore[type-var]
