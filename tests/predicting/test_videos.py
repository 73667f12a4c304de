"""Videos: when frames are shown, and who is who from frame to frame."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from builders.dot_network import DotNetwork, find_dots
from builders.dots import PLACES, paint
from stylealign.errors import UserError
from stylealign.predicting.clock import Clock
from stylealign.predicting.finders import FoundFace
from stylealign.predicting.sources import Source
from stylealign.predicting.tracking import TrackConfig, Tracker
from stylealign.predicting.video import Video, VideoWriter


def dot_face(centre: tuple[float, float], width: int) -> np.ndarray:
    return paint(PLACES + np.array(centre), width, 90, np.array([30, 20, 40]))


def find_two(image: np.ndarray) -> list[FoundFace]:
    """A finder of a dot face in each half of the picture."""
    half = image.shape[1] // 2
    left, right = find_dots(image[:, :half]), find_dots(image[:, half:])
    return [*left, *(face._replace(box=face.box + np.array([half, 0, half, 0])) for face in right)]


@pytest.mark.parametrize(
    ("remember", "black", "tracks"), [(5, 1, 2), (5, 5, 2), (5, 6, 4), (1, 1, 2), (1, 2, 4), (0, 1, 4)]
)
def test_a_lost_face_is_remembered_in_its_place(remember: int, black: int, tracks: int) -> None:
    """A black frame made two people four: the numbers of both come back, each where it was."""
    config = TrackConfig(check_every=1, find_every=1000, remember=remember, smooth=True)
    tracker = Tracker(DotNetwork(scale=2.2), find_two, config)

    def frame(t: int) -> np.ndarray:
        both = dot_face((40 + t, 45), 80), dot_face((40, 45 + t), 80)
        return np.concatenate(both, axis=1)

    before = [tracker(frame(t), t / 10) for t in range(3)][-1]
    for t in range(black):
        assert not tracker(np.zeros_like(frame(0)), 0.3 + t / 10)
    after = tracker(frame(4), 2.0)
    assert (tracker.num_tracks, tracker.num_lost, tracker.num_found_again) == (tracks, 2, 2 if tracks == 2 else 0)
    if tracks == 2:
        where = {face.track: face.box[0] for face in before}
        assert all(abs(face.box[0] - where[face.track]) < 10 for face in after)


def test_a_quick_look_comes_first_and_the_finder_where_it_sees_nothing_new() -> None:
    asked: list[str] = []

    def quick(image: np.ndarray) -> list[FoundFace]:
        asked.append("quick")
        return find_dots(image) if len(asked) == 1 else []

    def thorough(image: np.ndarray) -> list[FoundFace]:
        asked.append("thorough")
        return []

    config = TrackConfig(check_every=1, find_every=1000, remember=0)
    tracker = Tracker(DotNetwork(scale=2.2), thorough, config, first_look=quick)
    frame = dot_face((40, 45), 80)
    assert len(tracker(frame, 0.0)) == 1
    assert asked == ["quick"]
    for t in range(1, 9):
        assert not tracker(np.zeros_like(frame), t / 10)
    # The face is lost in the second frame; later, one search in four is thorough.
    assert asked[1:] == ["quick", "thorough", *["quick"] * 3, "thorough", *["quick"] * 4, "thorough"]


LASTS_MS = [20] * 4 + [200] * 4 + [40] * 4


def test_times_of_frames_are_the_stream_s_own(tmp_path: Path) -> None:
    """A video of variable rate: the frame's number over the mean rate is up to 0.27 s off here."""
    frames = [Image.fromarray(paint(at, 80, 60, np.full(3, 30))) for at in np.arange(12)[:, None, None] + PLACES + 20]
    frames[0].save(tmp_path / "v.gif", save_all=True, append_images=frames[1:], duration=LASTS_MS)
    video = Video(Source("video", tmp_path / "v.gif", "v"))
    times = [frame.time for frame in video.frames(Clock())]
    np.testing.assert_allclose(times, np.r_[0, np.cumsum(LASTS_MS)[:-1]] / 1000, atol=0.001)
    assert (video.times_from, video.guessed) == ("stamps", 0)


@pytest.mark.parametrize(
    ("stamps_ms", "times", "guessed"),
    [
        ([5000, 5040, 5200], [0, 0.04, 0.2], 0),  # from the first frame on
        ([0, 0, 0], [0, 0.1, 0.2], 2),  # none
        ([0, 40, 40, 300, float("nan")], [0, 0.04, 0.14, 0.3, 0.4], 2),  # some
    ],
)
def test_a_frame_without_a_stamp_is_a_guess_and_never_before_the_last(
    stamps_ms: list[float], times: list[float], guessed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Capture:
        def __init__(self, _: str):
            self.read_so_far = 0

        def isOpened(self) -> bool:
            return True

        def get(self, what: int) -> float:
            if what == cv2.CAP_PROP_POS_MSEC:
                return stamps_ms[self.read_so_far - 1]
            return 10.0 if what == cv2.CAP_PROP_FPS else len(stamps_ms)

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.read_so_far += 1
            return (self.read_so_far <= len(stamps_ms), np.zeros((4, 4, 3), np.uint8))

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    video = Video(Source("video", Path("v.mp4"), "v"))
    assert [frame.time for frame in video.frames(Clock())] == pytest.approx(times)
    assert (video.guessed, video.times_from) == (guessed, "guess" if guessed else "stamps")


@pytest.mark.parametrize("name", ["take: 1.mp4", "http:x.mp4", "50%d.mp4", "-a.mp4"])
def test_a_video_s_name_is_no_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV takes what stands before a colon for a protocol, and asked the network for `http:x.mp4`."""
    monkeypatch.chdir(tmp_path)
    writer = VideoWriter(Path(name), 25)
    for _ in range(3):
        writer.write(np.zeros((16, 24, 3), np.uint8))
    writer.close()
    video = Video(Source("video", Path(name), name))
    assert [frame.image.shape for frame in video.frames(Clock())] == [(16, 24, 3)] * 3
    assert video.problem() is None


@pytest.mark.parametrize(
    ("fps", "kept"),
    [(25, 25), (29.97003, 29.97), (66.6667, 66.67), (90.1234, 90.12), (333.3333, 333.33), (700.123, 700.1)],
)
def test_a_rate_that_mpeg_4_cannot_say_is_rounded(fps: float, kept: float, tmp_path: Path) -> None:
    """Above 65.535 frames a second three decimals are parts of a second too many, and the video was not opened."""
    writer = VideoWriter(tmp_path / "a.mp4", fps)
    for _ in range(3):
        writer.write(np.zeros((16, 24, 3), np.uint8))
    writer.close()
    writer.refuse_cut()
    assert Video(Source("video", tmp_path / "a.mp4", "a")).fps == pytest.approx(kept, abs=0.002)


@pytest.mark.parametrize("number", [-1, 2**31, 10**12])
def test_a_camera_that_no_machine_has_is_refused_before_opencv_sees_it(number: int) -> None:
    """OpenCV ends the process at -1, and calls a number that is too large a fault of ours."""
    with pytest.raises(UserError, match=f"camera {number}: there is no such camera, expected a number from 0 to"):
        Video(Source("camera", Path(str(number)), f"camera{number}"))


def test_smoothing_goes_by_the_time_between_frames() -> None:
    """The same pictures shown ten times as long apart: the filter trembles less and lags less."""
    shown = {}
    for seconds in (0.04, 0.4):
        tracker = Tracker(DotNetwork(scale=2.2), find_dots, TrackConfig(smooth=True, beta=0))
        for t, x in enumerate((40, 44)):
            (face,) = tracker(dot_face((x, 45), 100), t * seconds)
        shown[seconds] = float((face.landmarks - face.unsmoothed).mean(axis=0)[0])
    weight = {s: 1 / (1 + 1 / (2 * np.pi * s)) for s in shown}  # of the new frame, cutoff 1 Hz
    for s, lag in shown.items():
        assert lag == pytest.approx(-4 * (1 - weight[s]), abs=0.4)
