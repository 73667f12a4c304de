"""Memory and processor time of long jobs of `predict`: many photos, long videos.

    python benchmarks/long_jobs.py PHOTOS [--model RUN_OR_ONNX] [--number 300 3000] [--frames 1000 10000]
                                   [--large-frames 50 250]

PHOTOS is a folder of pictures with a face each, which are linked as often as it takes. The videos, of 320 x 240 and of
1920 x 1080 pixels, show the face of the first photo going round in a circle. Each job is done twice, of the first
length and of the second, each time in a process of its own; nothing is drawn. Memory is the most that a process held at
once: constant where both are about the same. Milliseconds are of processor time for each further picture or frame, the
time of a start taken off.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from stylealign.predicting.sources import expand, read_photo

MEGABYTE = 2**20 if sys.platform == "darwin" else 2**10  # in units of the system's ru_maxrss


class Cost(NamedTuple):
    """What a process took."""

    seconds: float
    """of all its threads' processor time"""
    megabytes: float
    """at most"""


def make_video(photo: Path, path: Path, width: int, height: int, frames: int) -> None:
    """The photo, two thirds as high as the frame, going round in a circle."""
    side = 2 * height // 3
    face = cv2.cvtColor(cv2.resize(read_photo(photo).image, (side, side)), cv2.COLOR_RGB2BGR)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (width, height))
    for i in range(frames):
        frame = np.full((height, width, 3), 127, np.uint8)
        x = int((width - side) * (0.5 + 0.2 * np.cos(i / 12)))
        y = int((height - side) * (0.5 + 0.4 * np.sin(i / 12)))
        frame[y : y + side, x : x + side] = face
        writer.write(frame)
    writer.release()


def link_photos(photos: list[Path], folder: Path, count: int) -> None:
    """So many pictures in a folder: links to the photos, over and over."""
    folder.mkdir()
    for i, photo in enumerate(islice(cycle(photos), count)):
        (folder / f"{i:06d}{photo.suffix}").symlink_to(photo.resolve())


def cost_of(source: Path, out: Path, *flags: str) -> Cost:
    """What `predict` takes for a folder or a video."""
    command = [sys.executable, "-m", "stylealign", "predict", str(source), "--out", str(out), *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 3):  # 3: some pictures show no face
        sys.exit(said)
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / MEGABYTE)


def line(what: str, lengths: tuple[int, int], few: Cost, many: Cost) -> str:
    each = 1000 * (many.seconds - few.seconds) / (lengths[1] - lengths[0])
    return f"| {what} | {lengths[0]:,} / {lengths[1]:,} | {few.megabytes:.0f} / {many.megabytes:.0f} | {each:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", type=Path)
    for name, usual in (("number", (300, 3000)), ("frames", (1000, 10_000)), ("large-frames", (50, 250))):
        parser.add_argument(
            f"--{name}", type=int, nargs=2, default=usual, metavar=("FEW", "MANY"), help="two lengths; 0 0: leave out"
        )
    given = parser.parse_args()
    photos = [source.path for source in expand([str(given.photos)])[0] if source.kind == "photo"]
    if not photos:
        parser.error(f"{given.photos}: no pictures there")
    model = () if given.model is None else ("--model", str(given.model))
    print("| what | how many | most memory, MB | ms of processor time each |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if given.number[1]:
            costs = []
            for count in given.number:
                link_photos(photos, scratch / f"{count}", count)
                costs.append(cost_of(scratch / f"{count}", scratch / f"answers{count}", *model))
            print(line("photos", tuple(given.number), *costs), flush=True)
        for (width, height), lengths in (((1920, 1080), given.large_frames), ((320, 240), given.frames)):
            if lengths[1]:
                video = scratch / f"{height}.mp4"
                make_video(photos[0], video, width, height, lengths[1])
                costs = [
                    cost_of(video, scratch / f"{height}_{count}", "--max-frames", str(count), *model)
                    for count in lengths
                ]
                print(line(f"frames of {width} x {height}", tuple(lengths), *costs), flush=True)


if __name__ == "__main__":
    main()
