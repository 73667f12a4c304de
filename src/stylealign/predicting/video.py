"""A video file or a camera -> frames and when each is shown, one at a time. Knows no faces."""

import errno
import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal, NamedTuple

import cv2
import numpy as np

from stylealign.data.lock import is_taken_over
from stylealign.data.threads import ahead
from stylealign.errors import UserError, counted
from stylealign.predicting.clock import Clock
from stylealign.predicting.sources import Source

AHEAD = 4
USUAL_FPS = 25.0
MOST_PARTS = 65_535  # of a second that MPEG-4 counts frames in
LAST_CAMERA = 2**31 - 1  # OpenCV takes no larger number, and ends the process at -1


def writable_rate(fps: float) -> float:
    """The frames a second that MPEG-4 can say, closest to `fps`: 3 decimals, or 2 above 65.535 and 1 above 655.35."""
    return round(fps, next((places for places in (3, 2, 1) if fps * 10**places <= MOST_PARTS), 0))


def _for_opencv(path: Path) -> str:
    """The whole path: OpenCV takes what stands before a colon, as in `take: 1.mp4`, for a protocol of the network."""
    return os.path.abspath(path)


class Frame(NamedTuple):
    """A frame of a video."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB"""
    time: float
    """seconds from the first frame; always later than the frame before"""


class Video:
    """An open video: `fps`, `width`, `height`, `expected` frames (None where unknown), and how many were `read`.

    Once it is `ended`, which somebody else may say, no further frame comes.
    `guessed` of those read had no time stamp of their own: they are taken to follow the frame before at `fps`.
    """

    def __init__(self, source: Source):
        self.name = source.name
        self.is_camera = source.kind == "camera"
        if self.is_camera:
            number = int(str(source.path))
            if not 0 <= number <= LAST_CAMERA:
                raise UserError(f"camera {number}: there is no such camera, expected a number from 0 to {LAST_CAMERA}")
            self._capture = cv2.VideoCapture(number)
        else:
            self._capture = cv2.VideoCapture(_for_opencv(source.path))
        if not self._capture.isOpened():
            if source.kind == "camera":
                raise UserError(f"camera {source.path}: there is no such camera, or it is in use")
            if not source.path.exists():
                raise UserError(f"{source.name}: no such file")
            raise UserError(f"{source.name}: not a video that OpenCV can read")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0.5 <= fps <= 1000 else USUAL_FPS
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.expected = count if source.kind == "video" and count > 0 else None
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.read = self.guessed = 0
        self.ended = False
        self._first: float | None = None
        self._before = -math.inf
        self._stopped = False

    @property
    def times_from(self) -> Literal["stamps", "arrival", "guess"]:
        """Where times of frames come from: the stream's stamps, when a camera gave each, or `fps` (of some of them)."""
        return "arrival" if self.is_camera else "guess" if self.guessed else "stamps"

    def _time(self) -> float:
        """Seconds from the first frame to the one that was just read.

        OpenCV's position is the frame's own stamp once the frame is read, also where frames last unequally; it is 0
        for a stream without stamps.
        """
        stamp = time.monotonic() if self.is_camera else self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if self._first is None:
            self._first = stamp if math.isfinite(stamp) else 0.0
            found = 0.0
        else:
            found = stamp - self._first
        if not found > self._before:  # NaN too
            self.guessed += 1
            found = self._before + 1 / self.fps
        self._before = found
        return found

    def frames(self, clock: Clock, most: int = 0) -> Generator[Frame, None, None]:
        """Frames in order, decoded a few ahead in a thread; at most `most` where that is above 0."""

        def decode(_: int) -> Frame | None:
            with clock("decoding"):
                good, image = self._capture.read()
                return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self._time()) if good else None

        numbers = range(most) if most else itertools.count()
        try:
            for frame in ahead(decode, numbers, 1, AHEAD):
                if frame is None or self.ended:
                    return
                self.read += 1
                yield frame
            self._stopped = True
        finally:
            self._capture.release()

    def problem(self) -> str | None:
        """What was wrong with the video once it has been read: nothing in it, or cut short."""
        if not self.read:
            return f"{self.name}: no frame of this video can be read"
        # Containers often count a frame or two too many.
        if not self._stopped and self.expected and self.read < 0.98 * self.expected - 2:
            return (
                f"{self.name}: {self.read} of {counted(self.expected, 'frame')} that the file counts can be read: cut "
                "short, damaged, or trimmed by hiding frames"
            )
        return None


@contextmanager
def ended_by_key(video: Video) -> Iterator[None]:
    """While the block runs, Ctrl-C is the end of a camera's frames, which have no other: what was begun with them is
    done. Pressed again, it interrupts; so it does at once for a file, and in a thread that is not the main one."""
    plain = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not (video.is_camera and plain and threading.current_thread() is threading.main_thread()):
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        video.ended = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if is_taken_over():
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class VideoWriter:
    """Writes RGB frames as MPEG-4 (.mp4), as large as the first (even sides); without a frame no file is made."""

    def __init__(self, path: Path, fps: float):
        self._path, self._fps = path, writable_rate(fps)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, frame: np.ndarray) -> None:
        """Add a (H, W, 3) uint8 RGB frame. Raises UserError where such videos cannot be written."""
        if self._writer is None:
            self._writer = self._open(*frame.shape[1::-1])
        if frame.shape[1::-1] != self._size:
            frame = cv2.resize(frame, self._size)
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._written += 1

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        codec, self._size = cv2.VideoWriter.fourcc(*"mp4v"), (width, height)
        writer = cv2.VideoWriter(_for_opencv(self._path), codec, self._fps, self._size)
        if not writer.isOpened():
            raise UserError(
                f"{self._path}: a video of {width} x {height} at {self._fps:g} frames/s cannot be written here"
            )
        return writer

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()

    def refuse_cut(self) -> None:
        """Once it is closed: raise OSError where the file has not all frames. OpenCV says nothing of a full disk."""
        if self._written:
            file = cv2.VideoCapture(_for_opencv(self._path))
            there = int(file.get(cv2.CAP_PROP_FRAME_COUNT)) if file.isOpened() else 0
            file.release()
            if there < self._written:
                said = f"{there} of {counted(self._written, 'frame')} can be read again: the disk may be full"
                raise OSError(errno.EIO, said, str(self._path))
