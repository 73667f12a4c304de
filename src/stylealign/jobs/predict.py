"""The job `predict`: pictures, folders, videos, a camera -> landmarks.

    predictions.jsonl   a face a line (docs/formats.md)
    drawn/              with --draw: overlays, a picture a picture, a video a video
    pts/, ...           with --formats
    summary.json        what was done, what was left out and why, jitter of videos, time of each stage
    left_out.txt        a sentence a line, only where something was left out

The folder is written as `<name>.partial` and renamed when it is whole. Exit status 3: done, but something was left out.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import numpy as np
import tyro

from stylealign.config import to_dict
from stylealign.data.atomic import refuse_existing, whole_folder
from stylealign.data.image import write_image
from stylealign.data.predictions import PREDICTIONS_FILE
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.predicting.finders import Finder, cascade_finder, yunet_finder
from stylealign.predicting.given_boxes import BoxFile, checked_box, refuse_outside
from stylealign.predicting.many import GROUP_PIXELS, Looked, look_at
from stylealign.predicting.network import LandmarkNetwork, open_network
from stylealign.predicting.orientation import map_box
from stylealign.predicting.overlap import Clock, ahead
from stylealign.predicting.overlay import overlay
from stylealign.predicting.sources import Photo, Source, expand
from stylealign.predicting.spots import Places, Rotate, places_in
from stylealign.predicting.tracking import TrackConfig, Tracker
from stylealign.predicting.video import Video, VideoWriter
from stylealign.predicting.writing import FaceRecord, refuse_formats, safe_name, write_formats
from stylealign.progress import say, track
from stylealign.training.processes import num_cores

LEFT_OUT = 3  # exit status: the rest was done


@dataclass(frozen=True, kw_only=True, slots=True)
class Predict:
    """Find the landmarks of faces in pictures, folders, videos or a camera's frames."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Pictures, folders, globs, videos; a number is a camera."""
    out: Path = Path("predictions")
    """Folder to make."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["--onnx"])] = None
    """Run folder of a finished detector, or an .onnx file that `export` wrote (torch is not imported then); not given: the one that
    came with the package."""
    box: tuple[tuple[float, float, float, float], ...] = ()
    """x0 y0 x1 y1 of a face (round brows, chin and cheeks), px; several faces: four numbers each. For one picture, or the same in all."""
    boxes: Path | None = None
    """File of boxes: CSV image,x0,y0,x1,y1, or JSON (docs/formats.md)."""
    whole_image: bool = False
    """Every picture is a crop of one face: look for none."""
    yunet: Path | None = None
    """YuNet's ONNX file, to find faces with instead of OpenCV's cascades."""
    faces: int = 0
    """Keep the largest so many faces of a picture; 0: all."""
    refine: int = 1
    """Rounds of cutting again round the landmarks found (pictures; in a video each frame refines the one before)."""
    flip: bool = False
    """Average with the answer on the mirrored face: twice the work, and a confidence for models that have none."""
    check: bool = True
    """Drop found places where the answer follows the crop rather than the picture: no face is there. Given ones are kept."""
    rotate: Rotate = "0"
    """Degrees clockwise by which pictures must be turned to hold faces upright; auto: try all four with the finder."""
    formats: tuple[Literal["pts", "wflw", "coco", "csv"], ...] = ()
    """Also write these layouts."""
    draw: bool = False
    """Also write overlays."""
    track: TrackConfig = field(default_factory=TrackConfig)
    max_frames: int = 0
    """Stop a video or camera after so many frames; 0: at its end."""
    batch_size: int = 16
    """Faces that the network sees at a time."""
    timing: bool = False
    """Print the share of time in decoding, finding, network and drawing."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("no input; expected pictures, folders, videos or a camera's number")
        if sum([bool(self.box), self.boxes is not None, self.whole_image]) > 1:
            raise ValueError("--box, --boxes and --whole-image: expected at most one of them")
        if min(self.faces, self.refine, self.max_frames) < 0 or self.batch_size < 1:
            raise ValueError(
                f"faces {self.faces}, refine {self.refine}, max_frames {self.max_frames}, batch_size {self.batch_size}: "
                "expected 0 or more, and a batch of at least 1"
            )


def make_finder(config: Predict) -> Finder | None:
    """The finder that the configuration asks for; None where faces are given and need not be turned."""
    given = bool(config.box) or config.boxes is not None or config.whole_image
    if given and config.rotate != "auto":
        return None
    return yunet_finder(config.yunet) if config.yunet else cascade_finder()


def placer(config: Predict, crop_scale: float, finder: Finder | None) -> Callable[[Source, Photo], Places]:
    """A function that says where to look in a photo."""
    box_file = BoxFile(config.boxes) if config.boxes else None
    fixed = [checked_box(box, f"--box, face {i + 1}") for i, box in enumerate(config.box)]

    def place(source: Source, photo: Photo) -> Places:
        boxes = box_file.of(source.name) if box_file else fixed or None
        for box in boxes or ():
            refuse_outside(box, photo.image.shape[1], photo.image.shape[0], source.name)
        return places_in(
            photo.image, photo.view_from_source, finder=finder, crop_scale=crop_scale, boxes=boxes,
            whole=config.whole_image, rotate=config.rotate, most=config.faces,
        )  # fmt: skip

    return place


class _Output:
    """The folder being written, and what has been said so far."""

    def __init__(self, folder: Path, network: LandmarkNetwork, draw: bool):
        self.folder, self.schema, self.draw = folder, network.schema, draw
        self.left_out: list[str] = []
        self.faces = self.pictures = 0
        self.videos: dict[str, dict[str, Any]] = {}
        self.file: TextIO = open(folder / PREDICTIONS_FILE, "w", encoding="utf-8")  # noqa: SIM115  closed by main

    def leave_out(self, sentence: str) -> None:
        self.left_out.append(sentence)
        say(f"left out: {sentence}")

    def add(self, record: FaceRecord) -> None:
        self.file.write(record.line(self.schema))
        self.faces += 1

    def drawn(self, name: str, suffix: str) -> Path:
        path = self.folder / "drawn" / safe_name(name, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _records(looked: Looked) -> list[FaceRecord]:
    if looked.places is None:
        return []
    home = geometry.invert(looked.places.view_from_source)
    return [
        FaceRecord(looked.source.name, a.landmarks, map_box(home, a.box), by, a.confidence, face=i)
        for i, (a, by) in enumerate(zip(looked.answers, looked.places.found_by, strict=True))
    ]


def _photos(config: Predict, network: LandmarkNetwork, sources: list[Source], out: _Output, clock: Clock) -> None:
    place = placer(config, network.crop.scale, make_finder(config))

    def draw(looked: Looked) -> tuple[Looked, list[FaceRecord]]:
        records = _records(looked)
        if config.draw and records and looked.photo and looked.places:
            with clock("drawing"):
                drawn = overlay(
                    looked.photo.image, looked.places.view_from_source, [r.landmarks for r in records], [r.box for r in records], network.schema
                )  # fmt: skip
                write_image(out.drawn(looked.source.name, ".jpg"), drawn, 90)
        return looked._replace(photo=None), records

    answered = look_at(sources, network, place, clock, config.refine, config.flip, config.batch_size, config.check)
    depth = config.batch_size if config.draw else 0  # a whole group: the network must not wait for its drawings

    def pixels(looked: Looked) -> float:
        return looked.photo.image.size / 3 if looked.photo else 0.0

    for looked, records in track(ahead(draw, answered, 1, depth, pixels, GROUP_PIXELS), "predicting", len(sources)):
        if looked.problem:
            out.leave_out(looked.problem)
        else:
            out.pictures += 1
        for record in records:
            out.add(record)


def _video(
    config: Predict, network: LandmarkNetwork, finder: Finder, source: Source, out: _Output, clock: Clock
) -> None:
    video = Video(source)

    def timed_finder(image: np.ndarray) -> Any:
        with clock("finding"):
            return finder(image)

    tracker = Tracker(
        network, timed_finder, config.track, video.fps,
        refine=config.refine, flip=config.flip, batch_size=config.batch_size, most=config.faces,
    )  # fmt: skip
    writer: VideoWriter | None = None
    with_face = 0

    def follow(frames: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, list[FaceRecord]]]:
        for number, frame in enumerate(frames):
            with clock("network"):
                tracks = tracker(frame)
            yield (
                frame,
                [
                    FaceRecord(
                        source.name, t.shown, t.box, t.found_by, t.confidence, face=i, frame=number, time=number / video.fps,
                        track=t.number, raw=t.landmarks if config.track.smooth else None,
                    )
                    for i, t in enumerate(tracks)
                ],
            )  # fmt: skip

    def draw(item: tuple[np.ndarray, list[FaceRecord]]) -> list[FaceRecord]:
        nonlocal writer
        frame, records = item
        if config.draw:
            with clock("drawing"):
                if writer is None:
                    writer = VideoWriter(out.drawn(source.name, ".mp4"), video.fps, frame.shape[1], frame.shape[0])
                writer.write(
                    overlay(
                        frame,
                        np.eye(2, 3),
                        [r.landmarks for r in records],
                        [r.box for r in records],
                        network.schema,
                        None,
                    )
                )
        return records

    try:
        with closing(video.frames(clock, config.max_frames)) as frames:
            total = min(config.max_frames, video.expected or config.max_frames) if config.max_frames else video.expected
            for records in track(ahead(draw, follow(frames), 1, 4), source.name, total):
                with_face += bool(records)
                for record in records:
                    out.add(record)
    finally:
        if writer is not None:
            writer.close()
    out.pictures += video.read
    out.videos[source.name] = {
        "frames": video.read,
        "frames_with_faces": with_face,
        "fps": round(video.fps, 3),
        "tracks": tracker._next,
        "lost": tracker.lost,
        "times_looked_for_faces": tracker.finds,
        "jitter": tracker.jitter.value,
        "jitter_smoothed": tracker.smooth_jitter.value if config.track.smooth else None,
    }
    problem = video.problem() or (None if with_face else f"{source.name}: no face found in {video.read} frames")
    if problem:
        out.leave_out(problem)


def _refuse(config: Predict, sources: list[Source], network: LandmarkNetwork) -> None:
    moving = [s for s in sources if s.kind != "photo"]
    refuse_formats(config.formats, network.schema, bool(moving))
    if config.flip and not network.schema.flip_pairs:
        raise UserError(
            f"--flip: schema {network.schema.name} has no flip_pairs, so that mirrored answers cannot be averaged"
        )
    if moving and (config.box or config.boxes or config.whole_image or config.rotate != "0"):
        raise UserError(
            f"{moving[0].name}: --box, --boxes, --whole-image and --rotate are for pictures, not for videos"
        )
    given = bool(config.box) or config.boxes is not None
    if network.crop.box == "given" and not given and not config.whole_image:
        say(
            "warning: this detector was trained on its data set's own boxes, whose kind is not known here: found faces are cut as if "
            "those were landmark boxes (stylealign calibrate measures what that costs; --boxes gives boxes of the right kind)"
        )


def run_predict(config: Predict, network: LandmarkNetwork) -> int:
    """Do the job with a network that is already open; the exit status."""
    refuse_existing(config.out)
    sources, wrong = expand(config.inputs)
    if not sources:
        raise UserError("; ".join(wrong))
    _refuse(config, sources, network)
    with whole_folder(config.out) as partial:
        out = _Output(partial, network, config.draw)
        clock = Clock()
        with out.file:
            for sentence in wrong:
                out.leave_out(sentence)
            photos = [s for s in sources if s.kind == "photo"]
            if photos:
                _photos(config, network, photos, out, clock)
            moving = [s for s in sources if s.kind != "photo"]
            finder = make_finder(dataclasses.replace(config, rotate="0")) if moving else None
            for source in moving:
                assert finder is not None
                try:
                    _video(config, network, finder, source, out, clock)
                except UserError as error:
                    out.leave_out(str(error))
        timing = clock.summary(out.faces, out.pictures)
        write_formats(partial, config.formats, network.schema)
        if out.left_out:
            (partial / "left_out.txt").write_text("".join(f"{s}\n" for s in out.left_out), encoding="utf-8")
        summary = {
            "faces": out.faces, "pictures_and_frames": out.pictures, "left_out": out.left_out, "videos": out.videos, "timing": timing,
            "model_hash": network.card.get("model_hash"), "schema": network.schema.name, "crop": to_dict(network.crop), "config": to_dict(config),
        }  # fmt: skip
        (partial / "summary.json").write_text(
            json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    _report(config, out, timing)
    return LEFT_OUT if out.left_out else 0


def _report(config: Predict, out: _Output, timing: dict[str, Any]) -> None:
    for name, video in out.videos.items():
        if video["jitter"] is not None:
            smoothed = "" if video["jitter_smoothed"] is None else f", smoothed {100 * video['jitter_smoothed']:.2f} %"
            say(f"{name}: jitter {100 * video['jitter']:.2f} % of the face{smoothed}")
    if config.timing:
        shares = ", ".join(f"{k} {100 * v['share']:.0f} %" for k, v in timing["stages"].items())
        say(f"{timing['faces_per_s']} faces/s, {timing['pictures_per_s']} pictures/s; busy time: {shares}")
    left = f"; {len(out.left_out)} left out ({config.out / 'left_out.txt'} says why)" if out.left_out else ""
    say(f"{out.faces:,} faces in {out.pictures:,} pictures and frames -> {config.out}{left}")


def main(config: Predict) -> int:
    """Load the model and predict; the exit status."""
    refuse_existing(config.out)
    # Half of the cores for the network, half for the stages beside it: on two cores, a third faster than all for it.
    threads = max(1, num_cores() // 2)
    return run_predict(config, open_network(config.model, config.accelerator, threads))
