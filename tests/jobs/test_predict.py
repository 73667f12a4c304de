"""The jobs predict and calibrate, and the Python API: layouts, wrong inputs, videos, and nothing half-written left."""

import dataclasses
import doctest
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from builders.dot_network import DotNetwork, UprightNetwork, find_dots
from builders.dots import PLACES, dots, paint
from builders.places import SRC
from builders.tiny import detector_job, drawn, tree
from stylealign.api import detector as detector_api
from stylealign.api.detector import Detector
from stylealign.cli import main
from stylealign.data.atomic import lock_of
from stylealign.data.formats.coco import read as read_coco
from stylealign.data.formats.entry import ReadOptions
from stylealign.data.image import read_image, write_image
from stylealign.data.predictions import read_predictions
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.face.schema import FIVE
from stylealign.jobs import predict
from stylealign.jobs.calibrate.boxes import measure_boxes as measure
from stylealign.jobs.calibrate.config import Calibrate
from stylealign.jobs.predict import Predict, run_predict
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.predicting.on_datasets import answer_dataset
from stylealign.predicting.sources import Source
from stylealign.predicting.video import Video, VideoWriter

GROUND = np.array([30, 20, 40])


def at(x: float, y: float = 45) -> np.ndarray:
    """The dots of a face round that point."""
    return PLACES + np.array([x, y])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A detector of six steps and the drawn faces it saw."""
    folder = tmp_path_factory.mktemp("trained")
    data = drawn(folder / "faces", 12)
    train_detector(detector_job(folder / "run", folder / "faces"))
    return folder / "run", data


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `in` of three dot faces, which is where we are; and a finder that sees them."""
    (tmp_path / "in" / "b").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b/c.png", "d e.png")):
        write_image(tmp_path / "in" / name, paint(at(50 + 3 * i), 100, 90, GROUND))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "MtcnnFinder", lambda quick=False: find_dots)
    return tmp_path


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def run(*inputs: str, out: str = "out", **options: Any) -> int:
    return run_predict(Predict(inputs=inputs, out=Path(out), **options), DotNetwork(scale=2.2))


# --------------------------------------------------------------------------------------------------------------------
# Pictures


def test_a_folder_gives_a_line_a_face_in_order_and_a_readable_overlay(photos: Path) -> None:
    assert run("in", draw=True, batch_size=2, timing=True) == 0
    found = lines(photos / "out")
    assert [f["id"] for f in found] == ["in/a.png", "in/b/c.png", "in/d e.png"]
    for i, face in enumerate(found):
        assert np.abs(np.array(face["landmarks"]) - at(50 + 3 * i)).max() < 0.3
        assert face["schema"] == "five"
        assert len(face["score"]) == 5
        drawn_on = read_image(photos / "out" / "drawn" / face["image"].replace(".png", "_landmarks.jpg"))
        assert drawn_on.shape == (90, 100, 3)
        assert np.abs(drawn_on.astype(int) - read_image(photos / face["image"])).max() > 100
    timing = json.loads((photos / "out" / "summary.json").read_text())["timing"]
    assert set(timing["stages"]) == {"decoding", "finding", "network", "drawing"}
    assert timing["faces"] == 3
    assert not (photos / "out" / "left_out.txt").exists()


def test_every_layout_is_read_back_as_what_was_predicted(photos: Path) -> None:
    assert run("in", formats=("pts", "coco", "csv")) == 0
    expected = {f["id"]: np.array(f["landmarks"]) for f in lines(photos / "out")}
    by_csv = {r.id: r.landmarks for r in read_predictions(photos / "out" / "predictions.csv")}
    by_pts = {r.id: r.landmarks for r in read_predictions(photos / "out" / "pts")}
    by_line = {r.id: r.landmarks for r in read_predictions(photos / "out")}
    options = ReadOptions(schema=FIVE, images=photos)
    entries = read_coco(photos / "out" / "predictions_coco.json", options)
    by_coco = {e.image.relative_to(photos).as_posix(): e.landmarks for e in entries if isinstance(e, FaceSample)}
    assert set(by_csv) == set(by_line) == set(by_coco) == set(expected)
    for name, landmarks in expected.items():
        for found in (by_csv[name], by_line[name], by_coco[name], by_pts[name.removesuffix(".png")]):
            assert np.abs(found - landmarks).max() < 1e-3


def test_a_wflw_list_is_refused_for_other_mark_ups_before_any_work(photos: Path) -> None:
    with pytest.raises(UserError, match="5 points, wflw holds 98"):
        run("in", formats=("wflw",))
    assert not list(photos.glob("out*"))


def test_boxes_come_from_a_file_or_the_command_line(photos: Path) -> None:
    assert run("in/a.png", out="first", box=((38, 35, 62, 59), (37, 34, 63, 60))) == 0
    assert [f["id"] for f in lines(photos / "first")] == ["in/a.png", "in/a.png#2"]
    assert {f["found_by"] for f in lines(photos / "first")} == {"given"}
    assert (
        run("in/a.png", out="second", boxes=photos / "first" / "predictions.jsonl", refine=0) == 0
    )  # its own are boxes
    for a, b in zip(lines(photos / "first"), lines(photos / "second"), strict=True):
        assert np.abs(np.array(a["landmarks"]) - b["landmarks"]).max() < 1e-3


def test_a_picture_that_is_said_to_have_no_box_has_no_face(photos: Path) -> None:
    (photos / "boxes.json").write_text(json.dumps({"a.png": [[38, 35, 62, 59]], "c.png": []}))
    for rotate in ("0", "auto"):
        assert run("in/a.png", "in/b/c.png", out=rotate, boxes=Path("boxes.json"), rotate=rotate) == predict.LEFT_OUT
        assert [face["image"] for face in lines(photos / rotate)] == ["in/a.png"]
        said = "in/b/c.png: no face: its list of boxes is empty"
        assert json.loads((photos / rotate / "summary.json").read_text())["left_out"] == [said]


def test_where_nothing_can_be_done_nothing_is_left_in_the_way(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(photos / "nobody.png", np.full((60, 60, 3), 20, np.uint8))
    (photos / "text.jpg").write_text("this is no picture")
    with pytest.raises(UserError, match=r"no face: nobody.png: no face found.* \(and 1 more\)"):
        run("nobody.png", "text.jpg")
    assert not (photos / "out").exists()
    assert run("nobody.png", "in") == predict.LEFT_OUT


def test_a_video_without_a_frame_is_nothing_done(photos: Path) -> None:
    cv2.VideoWriter("none.avi", cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (320, 192)).release()
    with pytest.raises(UserError, match=r"^no face: none.avi: no frame of this video can be read$"):
        run("none.avi")
    assert not (photos / "out").exists()
    assert run("none.avi", "in") == predict.LEFT_OUT
    assert json.loads((photos / "out" / "summary.json").read_text())["videos"] == {}


def test_wrong_pictures_get_a_sentence_each_and_the_rest_is_done(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def png(width: int, height: int) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")

    whole = (photos / "in" / "a.png").read_bytes()
    (photos / "in" / "text.jpg").write_text("this is no picture")
    (photos / "in" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "in" / "huge.png").write_bytes(png(60_000, 60_000))
    write_image(photos / "in" / "nobody.png", np.full((60, 60, 3), 20, np.uint8))
    (photos / "empty").mkdir()
    assert run("in", "empty", "gone.jpg") == predict.LEFT_OUT
    assert len(lines(photos / "out")) == 3
    said = (photos / "out" / "left_out.txt").read_text().splitlines()
    for start in (
        "empty: no picture and no video", "gone.jpg: no such file", "in/cut.png: image cut short",
        "in/huge.png: 60000 x 60000 pixels", "in/nobody.png: no face found", "in/text.jpg: not an image",
    ):  # fmt: skip
        assert sum(s.startswith(start) for s in said) == 1, start
    assert len(said) == 6
    err = capsys.readouterr().err
    assert "3 faces in 3 pictures -> out/predictions.jsonl; 6 left out (out/left_out.txt says why)" in err
    assert json.loads((photos / "out" / "summary.json").read_text())["left_out"] == said


@pytest.mark.parametrize("mode", ["I;16", "CMYK", "L", "RGBA", "P"])
def test_pictures_of_every_mode_are_looked_at(mode: str, photos: Path) -> None:
    rgb = paint(at(50), 100, 90, GROUND)
    if mode == "I;16":
        picture = Image.fromarray(rgb.max(axis=2).astype(np.uint16) * 257)
    elif mode == "RGBA":
        picture = Image.fromarray(np.dstack([rgb, np.full((90, 100), 255, np.uint8)]))
    else:
        picture = Image.fromarray(rgb).convert(mode)
    name = "x.tif" if mode == "CMYK" else "x.png"
    picture.save(photos / name)
    assert run(name, box=((38, 35, 62, 59),)) == 0
    (face,) = lines(photos / "out")
    if mode in ("CMYK", "RGBA", "P"):  # colours are still there
        assert np.abs(np.array(face["landmarks"]) - at(50)).max() < 1.5


def test_a_box_outside_of_its_picture_is_left_out_with_the_pictures_name(photos: Path) -> None:
    (photos / "boxes.csv").write_text("image,x0,y0,x1,y1\na.png,38,35,62,59\nc.png,200,35,240,59\n")
    assert run("in", boxes=photos / "boxes.csv") == predict.LEFT_OUT
    assert [f["image"] for f in lines(photos / "out")] == ["in/a.png"]
    said = (photos / "out" / "left_out.txt").read_text()
    assert "in/b/c.png: box (200, 35, 240, 59) lies outside of the picture of 100 x 90 pixels" in said
    assert "in/d e.png: no box in" in said


def test_a_finished_folder_is_never_written_over_and_a_stopped_job_leaves_none(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("in") == 0
    before = tree(photos / "out")
    with pytest.raises(UserError, match="out: already there"):
        run("in")
    assert tree(photos / "out") == before

    class Broken(DotNetwork):
        def __call__(self, crops: np.ndarray) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_predict(Predict(inputs=("in",), out=Path("other")), Broken())
    assert not list(photos.glob("other*"))


def test_an_output_that_cannot_be_written_is_a_sentence(
    photos: Path, capsys: pytest.CaptureFixture[str], trained: Any
) -> None:
    (photos / "file").touch()  # a file in the way, which stops root as well
    assert main(["predict", "in", "--model", str(trained[0]), "--out", "file/out"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "file" in err


def test_a_name_that_is_no_utf8_is_left_out_and_the_rest_is_done(photos: Path) -> None:
    picture = (photos / "in" / "a.png").read_bytes()
    for folder in (b"in", b"in/b"):
        (photos / os.fsdecode(folder) / os.fsdecode(b"caf\xe9.png")).write_bytes(picture)
    assert (
        run("in", os.fsdecode(b"in/caf\xe9.png"), os.fsdecode(b"gone\xe9"), formats=("csv", "pts")) == predict.LEFT_OUT
    )
    assert len(lines(photos / "out")) == 3
    said = (photos / "out" / "left_out.txt").read_text(encoding="utf-8")
    assert "in/caf\\udce9.png: its name is no UTF-8" in said
    assert "in/b/caf\\udce9.png: its name is no UTF-8" in said
    assert json.loads((photos / "out" / "summary.json").read_text(encoding="utf-8"))["faces"] == 3
    with pytest.raises(UserError, match="no UTF-8"):
        run(os.fsdecode(b"in/caf\xe9.png"), out="alone")
    assert not (photos / "alone").exists()


def test_one_picture_that_stands_in_the_way_costs_no_other_its_answer(photos: Path) -> None:
    """A name without room for what overlays add to it, and a side that OpenCV does not move."""
    long = f"{'n' * 246}.png"
    (photos / "in" / long).write_bytes((photos / "in" / "a.png").read_bytes())
    assert run("in", draw=True) == predict.LEFT_OUT
    assert [face["image"] for face in lines(photos / "out")] == ["in/a.png", "in/b/c.png", "in/d e.png", f"in/{long}"]
    said = (photos / "out" / "left_out.txt").read_text()
    assert said == f"in/{long}: left without an overlay: File name too long\n"
    assert len(list((photos / "out" / "drawn").rglob("*.jpg"))) == 3

    (photos / "in" / long).unlink()
    write_image(photos / "in" / "band.png", np.zeros((40, 40_000, 3), np.uint8))
    assert run("in", out="whole", whole_image=True, draw=True) == predict.LEFT_OUT
    assert run("in/a.png", "in/b/c.png", "in/d e.png", out="alone", whole_image=True) == 0
    assert lines(photos / "whole") == lines(photos / "alone")
    (sentence,) = (photos / "whole" / "left_out.txt").read_text().splitlines()
    assert sentence.startswith("in/band.png: a picture's side is too long to be moved: 40000 x")
    with pytest.raises(UserError, match=r"no face: in/band\.png: a picture's side is too long"):
        run("in/band.png", out="none", whole_image=True)


def test_a_picture_that_goes_away_costs_the_format_that_asks_for_it_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = predict.Output.add

    def add_and_lose(out: predict.Output, faces: Any) -> None:
        add(out, faces)
        (photos / "in" / "d e.png").unlink(missing_ok=True)

    monkeypatch.setattr(predict.Output, "add", add_and_lose)
    assert run("in", formats=("coco", "csv", "labelme", "imglab")) == predict.LEFT_OUT
    assert len(lines(photos / "out")) == 3
    assert sorted(path.name for path in (photos / "out").iterdir()) == [
        "left_out.txt", "predictions.csv", "predictions.jsonl", "summary.json",
    ]  # fmt: skip
    said = (photos / "out" / "left_out.txt").read_text().splitlines()
    assert [line.split(": in/d e.png: ")[0] for line in said] == [
        f"--formats {name}: not written" for name in ("coco", "labelme", "imglab")
    ]


def test_files_of_a_folder_that_are_no_pictures_are_named(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(7):
        (photos / "in" / f"{i}.heic").touch()
    (photos / "in" / ".hidden").touch()
    assert run("in") == 0
    said = capsys.readouterr().err
    assert (
        "in: passed over, no picture or video by its suffix: 0.heic, 1.heic, 2.heic, 3.heic, 4.heic and 2 more" in said
    )


def test_the_way_up_is_in_each_record_and_what_is_upside_down_is_said(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = read_image(photos / "in" / "a.png")[::-1, ::-1]
    write_image(photos / "in" / "turned.png", np.ascontiguousarray(turned))
    upright = UprightNetwork()
    assert run_predict(Predict(inputs=("in",), out=Path("out"), refine=0), upright) == predict.LEFT_OUT
    assert {face["orientation"] for face in lines(photos / "out")} == {"found"}
    said = (photos / "out" / "left_out.txt").read_text()
    assert said.startswith("in/turned.png: by the detector's answers 1 face stands upright only where")
    assert json.loads((photos / "out" / "summary.json").read_text())["orientation"] == {"found": 3}

    assert run_predict(Predict(inputs=("in",), out=Path("auto"), refine=0, rotate="auto"), upright) == 0
    assert json.loads((photos / "auto" / "summary.json").read_text())["orientation"] == {"found": 4}

    capsys.readouterr()
    box = ((20.0, 20.0, 80.0, 70.0),)  # the user's: kept, and doubted
    assert run_predict(Predict(inputs=("in/turned.png",), out=Path("box"), refine=0, box=box), upright) == 0
    (face,) = lines(photos / "box")
    assert (face["orientation"], face["upright_at"]) == ("assumed", 180)
    assert json.loads((photos / "box" / "summary.json").read_text())["orientation"] == {"assumed": 1, "doubted": 1}
    assert "warning: in/turned.png: the face seems to be upright only where" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------------
# Videos


def film(path: Path, centres: list[tuple[float, float]], blank: range = range(0)) -> None:
    """Twice as large as the pictures: a codec's colours are coarse."""
    writer = VideoWriter(path, 20.0)
    for i, (x, y) in enumerate(centres):
        frame = np.full((96, 160, 3), 30, np.uint8) if i in blank else paint(at(x, y), 160, 96, GROUND)
        writer.write(cv2.resize(frame, (320, 192)))
    writer.close()


def test_a_video_is_followed_smoothed_drawn_and_measured(photos: Path) -> None:
    film(photos / "clip.mp4", [(45 + 3.0 * t, 48) for t in range(18)], blank=range(9, 12))
    config = predict.TrackConfig(smooth=True, check_every=1, remember=2)
    assert run("clip.mp4", draw=True, formats=("csv",), track=config) == 0
    found = lines(photos / "out")
    frames = [f["frame"] for f in found]
    assert set(range(9)) <= set(frames)
    assert set(range(12, 18)) <= set(frames)
    assert not set(frames) & {10, 11}
    first, last = found[0], found[-1]
    assert first["id"] == "clip.mp4@0"
    assert last["id"] == "clip.mp4@17#2"  # lost, and found again as another
    assert last["time"] == pytest.approx(17 / 20)
    for face in found:
        if face["frame"] in (4, 8, 16):
            assert np.abs(np.array(face["landmarks_raw"]) - 2 * at(45 + 3 * face["frame"], 48)).max() < 1.5
    video = json.loads((photos / "out" / "summary.json").read_text())["videos"]["clip.mp4"]
    assert video["frames"] == 18
    assert (video["lost"], video["found_again"], video["times_from"]) == (1, 0, "stamps")
    assert video["jitter"] < 0.05
    assert video["jitter_smoothed"] < 0.05
    again = Video(Source("video", photos / "out" / "drawn" / "clip_landmarks.mp4", "drawn"))
    assert again.expected == 18
    assert (again.width, again.height) == (320, 192)


def test_an_overlay_that_cannot_be_written_costs_no_landmarks(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(photos / "clip.mp4", [(45 + 3.0 * t, 48) for t in range(6)])

    def refuse(self: VideoWriter, width: int, height: int) -> None:
        raise UserError(f"clip_landmarks.mp4: a video of {width} x {height} cannot be written here")

    monkeypatch.setattr(VideoWriter, "_open", refuse)
    assert run("clip.mp4", draw=True) == predict.LEFT_OUT
    assert [face["frame"] for face in lines(photos / "out")] == list(range(6))
    assert (photos / "out" / "left_out.txt").read_text() == (
        "clip.mp4: left without an overlay: clip_landmarks.mp4: a video of 320 x 192 cannot be written here\n"
    )
    assert not (photos / "out" / "drawn").exists()


def test_ctrl_c_is_the_end_of_a_camera_whose_answers_and_overlay_are_kept(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = cv2.VideoCapture

    class Camera:
        """A dot face for as long as one looks; while it shows the tenth frame somebody presses Ctrl-C."""

        def __init__(self) -> None:
            self.shown = 0

        def isOpened(self) -> bool:
            return True

        def get(self, what: int) -> float:
            return 20.0 if what == cv2.CAP_PROP_FPS else 0.0

        def read(self) -> tuple[bool, np.ndarray]:
            self.shown += 1
            if self.shown == 10:
                if lock_of(Path("lost")).exists():
                    lock_of(Path("lost")).write_text('{"token": "theirs"}')
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)
            return self.shown < 1000, cv2.resize(paint(at(60, 48), 160, 96, GROUND), (320, 192))[..., ::-1]

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", lambda what: Camera() if what == 0 else real(what))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started pytest deaf to it
    try:
        assert run("0", draw=True, formats=("csv",)) == 0
        with pytest.raises(KeyboardInterrupt):  # the folder has become another command's
            run("0", out="lost")
        assert not (photos / "lost").exists()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    frames = [face["frame"] for face in lines(photos / "out")]
    assert 0 < len(frames) <= 10
    assert frames == list(range(len(frames)))
    assert (photos / "out" / "summary.json").exists()
    assert json.loads((photos / "out" / "summary.json").read_text())["videos"]["camera0"]["frames"] == len(frames)
    drawn = Video(Source("video", photos / "out" / "drawn" / "camera0_landmarks.mp4", "drawn"))
    assert drawn.expected == len(frames)
    assert "camera0: ended by Ctrl-C" in capsys.readouterr().err


def test_videos_that_cannot_be_read_are_left_out(photos: Path) -> None:
    writer = cv2.VideoWriter(str(photos / "long.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (320, 192))
    for _ in range(30):
        writer.write(cv2.resize(paint(at(60), 160, 96, GROUND), (320, 192))[..., ::-1])
    writer.release()
    whole = (photos / "long.avi").read_bytes()
    (photos / "in" / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (photos / "in" / "text.mp4").write_text("no video")
    film(photos / "in" / "nobody.mp4", [(60, 48)] * 4, blank=range(4))
    assert run("in", "63") == predict.LEFT_OUT
    said = (photos / "out" / "left_out.txt").read_text()
    assert "camera 63: there is no such camera" in said
    assert "in/text.mp4: not a video that OpenCV can read" in said
    assert "in/nobody.mp4: no face found in 4 frames: the finder saw none" in said
    assert re.search(r"in/cut.avi: 1\d of 30 frames that the file counts can be read: cut short", said)
    assert len({f["image"] for f in lines(photos / "out")}) == 4  # the pictures, and what there is of the cut video
    assert "the finder saw 2, and none is a face to the detector" in predict._faceless("a.mp4", 9, 2, 0)
    assert "9 frames: 3 faces of a confidence below" in predict._faceless("a.mp4", 9, 2, 3)


def test_a_video_takes_no_boxes_and_no_picture_layouts(photos: Path) -> None:
    film(photos / "clip.mp4", [(60, 48)] * 2)
    with pytest.raises(UserError, match=r"clip.mp4: --box"):
        run("clip.mp4", box=((1, 1, 9, 9),))
    with pytest.raises(UserError, match=r"--formats pts: frames of a video"):
        run("clip.mp4", formats=("pts",))


# --------------------------------------------------------------------------------------------------------------------
# A trained detector, from the command line and from Python


def test_the_command_line_finds_drawn_faces_with_the_real_finder(
    trained: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stylealign.toyfaces import draw_face, random_structure, random_style

    rng = np.random.default_rng(1)
    picture, landmarks, _ = draw_face(random_structure(rng), random_style(rng), 192)
    canvas = np.pad(picture, ((40, 28), (150, 78), (0, 0)), mode="edge")
    write_image(tmp_path / "face.png", canvas)
    words = ["predict", str(tmp_path / "face.png"), "--model", str(trained[0]), "--out", str(tmp_path / "out")]
    assert main([*words, "--refine", "0", "--no-check"]) == 0
    (face,) = lines(tmp_path / "out")
    assert face["found_by"] == "mtcnn"
    true = geometry.landmark_box(landmarks + np.array([150, 40]))
    box = np.array(face["box_xyxy"])
    assert np.abs(box[:2] + box[2:] - true[:2] - true[2:]).max() / 2 < 0.25 * (true[2:] - true[:2]).max()
    assert 0.7 < (box[2] - box[0]) / (true[2:] - true[:2]).max() < 1.4


def test_predict_answers_as_evaluation_does_where_boxes_are_the_labels(trained: tuple[Path, Any]) -> None:
    run_folder, data = trained
    expected = answer_dataset(run_folder, data).landmarks
    detector = detector_api.load(run_folder)
    samples = [data[i] for i in range(len(data))]
    boxes = [[geometry.landmark_box(s.landmarks)] for s in samples]
    found = detector.predict_batch([s.image for s in samples], boxes, refine=0)
    assert np.abs(np.stack([f[0].landmarks for f in found]) - expected).max() < 1e-3


def test_the_examples_of_the_api_are_true(trained: tuple[Path, Any]) -> None:
    run_folder, data = trained
    names = {"run": run_folder, "photo": data[0].image, "box": geometry.landmark_box(data[0].landmarks)}
    test = doctest.DocTestFinder().find(detector_api, "api", globs=names)
    results = [doctest.DocTestRunner().run(each) for each in test]
    assert sum(r.attempted for r in results) >= 8
    assert sum(r.failed for r in results) == 0


def test_the_api_refuses_what_is_no_picture_and_boxes_that_miss_it() -> None:
    detector = Detector(DotNetwork(), find_dots)
    image = paint(at(50), 100, 90, GROUND)
    with pytest.raises(ValueError, match=r"values from .* to .* \(undo a normalisation first"):
        detector.predict(image.astype(np.float32))
    with pytest.raises(UserError, match=r"picture 0: box .* lies outside"):
        detector.predict(image, boxes=[[500, 0, 520, 20]])
    with pytest.raises(UserError, match=r"gone.png: no such image"):
        detector.predict("gone.png")
    assert detector.predict(np.full((50, 50, 3), 9, np.uint8)) == []
    (face,) = detector.predict(image)
    assert np.abs(face.landmarks - at(50)).max() < 0.3
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.box = None  # type: ignore[misc]


def test_another_kind_of_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "card.json").write_text('{"kind": "translator"}')
    write_image(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    assert main(["predict", str(tmp_path / "a.png"), "--model", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "holds a translator, expected a detector" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_predict_without_its_network_needs_no_torch() -> None:
    code = (
        "import sys\nimport stylealign\nslow = {'numpy', 'scipy', 'cv2', 'PIL', 'yaml', 'tyro', 'rich', 'torch'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\nassert callable(stylealign.load)\n"
        "import stylealign.jobs.predict, stylealign.jobs.calibrate.job\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------------------------------------------------
# Calibration


def test_calibration_is_lowest_at_the_exact_box_and_finds_where_a_detector_breaks(tmp_path: Path) -> None:
    data = dots(tmp_path / "dots", 6, splits=("val",))
    config = Calibrate(data=tmp_path / "dots", out=tmp_path / "out", scales=(0.5, 1.0, 1.1), shifts=(0.05, 0.6))
    found = measure(config, DotNetwork(), data)
    scale, shift = dict(map(tuple, found["scale"])), dict(map(tuple, found["shift"]))
    assert scale[1.0] == shift[0.0] == found["nme"] < 0.02
    assert scale[0.5] > 0.1  # a crop of 0.9 times the face cuts dots off
    assert shift[0.6] > 0.1
    assert found["safe_scale"][0] > 0.5
    assert found["safe_shift"] < 0.6
    with pytest.raises(ValueError, match=r"shifts \(0.1, 0.1\): one is given twice"):
        dataclasses.replace(config, shifts=(0.1, 0.1))
    refined = measure(dataclasses.replace(config, refine=1), DotNetwork(), data)
    assert dict(map(tuple, refined["shift"]))[0.6] < shift[0.6]


def test_calibrate_prints_the_curve_and_writes_it(
    trained: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder, data = trained
    words = ["calibrate", "--data", str(data.folder), "--model", str(run_folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--scales", "0.9", "1.1", "--shifts", "0.1", "--faces", "3", "--split", "train"]) == 0
    printed = capsys.readouterr()
    assert "NME grows by less than 5 % for boxes of" in printed.out
    assert f"warning: {run_folder} learnt from 3 of 3 faces of split train of {data.folder}: on faces" in printed.err
    found = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert [at for at, _ in found["scale"]] == [0.9, 1.0, 1.1]
    assert found["faces"] == 3
    assert read_image(tmp_path / "out" / "calibration.png").std() > 5
