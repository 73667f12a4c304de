"""Speed of `predict`: end to end, and of each of its stages alone.

    python benchmarks/predict.py PHOTOS [--model RUN_OR_ONNX]

PHOTOS is a folder of pictures with a face each. Three jobs, all with overlays: 500 crops (`--whole-image`), up to 100
photos whose faces are found, and 200 frames of 1080p video in which the face of the first photo wanders. "Of the
slowest stage" is the time that the slowest stage takes alone over the time of the whole job: 1 means that the other
stages cost nothing. Where a stage alone uses every core, that cannot be reached: "cores busy" says what there was to
gain. Memory of long jobs: long_jobs.py.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from long_jobs import make_video
from stylealign.data.image import write_image
from stylealign.jobs.predict import Predict, run_predict
from stylealign.predicting.candidates import Search, candidates_in
from stylealign.predicting.faces import find_faces
from stylealign.predicting.finders import MtcnnFinder
from stylealign.predicting.network import LandmarkNetwork, open_network
from stylealign.predicting.overlay import overlay
from stylealign.predicting.sources import expand, read_photo
from stylealign.training.processes import num_cores

CROPS, PHOTOS, FRAMES = 500, 100, 200
BATCH = 16


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def seconds_and_busy(job: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and the share of all cores' time that was used."""
    before = time.process_time()
    wall = seconds(job)
    return wall, (time.process_time() - before) / wall / num_cores()


def make_crops(photos: list[Path], folder: Path) -> None:
    folder.mkdir()
    for i in range(CROPS):
        image = read_photo(photos[i % len(photos)]).image
        write_image(folder / f"{i:04d}.jpg", cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA))


def stages_alone(inputs: list[str], network: LandmarkNetwork, whole: bool, folder: Path) -> dict[str, float]:
    """Seconds that each stage takes for these pictures, with nothing beside it."""
    sources, _ = expand(inputs)
    search = Search(crop_scale=network.crop.scale, finder=None if whole else MtcnnFinder(), whole_image=whole)
    photos, candidates, answered = [], [], []
    found = {"decoding": seconds(lambda: photos.extend(read_photo(s.path) for s in sources))}
    found["finding"] = seconds(lambda: candidates.extend(candidates_in(photo, search) for photo in photos))

    def answers() -> None:
        for i in range(0, len(candidates), BATCH):
            some = find_faces(network, candidates[i : i + BATCH], batch_size=BATCH)
            answered.extend(found.faces for found in some)

    def draw() -> None:
        for i, (photo, faces) in enumerate(zip(photos, answered, strict=True)):
            write_image(folder / f"{i}.jpg", overlay(photo, faces, network.schema), 90)

    found["network"] = seconds(answers)
    folder.mkdir()
    found["drawing"] = seconds(draw)
    return found


def line(name: str, count: int, unit: str, out: Path, wall: float, busy: float, alone: dict[str, float] | None) -> str:
    stages = json.loads((out / "summary.json").read_text())["timing"]["stages"]
    shares = ", ".join(f"{stage} {100 * figures['share']:.0f} %" for stage, figures in stages.items())
    ratio = f"{max(alone.values()) / wall:.2f} ({max(alone, key=lambda s: alone[s])})" if alone else "-"
    return f"| {name} | {count / wall:.1f} {unit}/s | {shares} | {100 * busy:.0f} % | {ratio} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    network = open_network(given.model, threads=max(1, num_cores() // 2))  # as the verb does
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        photos = [s.path for s in expand([str(given.photos)])[0]]
        make_crops(photos, scratch / "crops")
        make_video(photos[0], scratch / "clip.mp4", 1920, 1080, FRAMES)
        few = [str(path) for path in photos[:PHOTOS]]
        print("| what | speed | busy time | cores busy | of the slowest stage |\n|---|---|---|---|---|")
        for what, inputs, whole in (("crops", [str(scratch / "crops")], True), ("photos", few, False)):
            alone = stages_alone(inputs, network, whole, scratch / f"{what}_alone")
            out = scratch / f"{what}_answered"
            config = Predict(inputs=tuple(inputs), out=out, whole_image=whole, draw=True, batch_size=BATCH)
            wall, busy = seconds_and_busy(lambda config=config: run_predict(config, network))  # type: ignore[misc]
            count = json.loads((out / "summary.json").read_text())["faces"]
            print(
                line(f"{CROPS if whole else len(few)} {what}, drawn", count, "faces", out, wall, busy, alone),
                flush=True,
            )
        out = scratch / "video_answered"
        wall, busy = seconds_and_busy(
            lambda: run_predict(Predict(inputs=(str(scratch / "clip.mp4"),), out=out, draw=True), network)
        )
        print(line(f"{FRAMES} frames of 1080p, one face, drawn", FRAMES, "frames", out, wall, busy, None), flush=True)
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB at most")


if __name__ == "__main__":
    main()
