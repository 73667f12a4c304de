"""The job `predict`: pictures, folders, videos, a camera -> landmarks.

    predictions.jsonl   a face a line (docs/formats.md)
    drawn/              with --draw: overlays, a picture a picture, a video a video
    pts/, ...           with --formats
    summary.json        what was done, what was left out and why, jitter of videos, time of each stage
    left_out.txt        a sentence a line, only where something was left out

The folder is written as `<name>.partial` and renamed when it is complete. Exit status 3: done, but something was left
out.
"""

import json
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from stylealign.config import to_dict
from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.formats import check_name, predicted
from stylealign.data.image import write_image
from stylealign.data.predictions import PREDICTIONS_FILE
from stylealign.data.threads import ahead, num_cores
from stylealign.errors import UserError, counted
from stylealign.predicting.candidates import Rotate, Search
from stylealign.predicting.clock import Clock
from stylealign.predicting.faces import is_sure, refuse_untrusted, tells_way_up
from stylealign.predicting.finders import Finder, MtcnnFinder, yunet_finder
from stylealign.predicting.given_boxes import BoxFile, GivenBoxes, SameBoxes
from stylealign.predicting.mtcnn import network_files
from stylealign.predicting.network import LandmarkNetwork, open_network
from stylealign.predicting.overlay import overlay
from stylealign.predicting.pictures import GROUP_PIXELS, Picture, answer_pictures, find_in_pictures
from stylealign.predicting.predicted_face import Face, named
from stylealign.predicting.sources import Photo, Source, expand
from stylealign.predicting.tracking import TrackConfig, Tracker
from stylealign.predicting.video import Frame, Video, VideoWriter, ended_by_key
from stylealign.predicting.writing import Output, overlay_names, refuse_formats, why_not_written, write_formats
from stylealign.progress import say, track

LEFT_OUT = 3  # exit status: the rest was done


@dataclass(frozen=True, kw_only=True, slots=True)
class Predict:
    """Find the landmarks of faces in pictures, folders, videos or a camera's frames."""

    inputs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PHOTO ...")]
    """Pictures, folders, globs, videos; a number is a camera, which Ctrl-C ends: what it showed is kept."""
    out: Path = Path("predictions")
    """Folder to make."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["--onnx"])] = None
    """Run folder of a finished detector, or an .onnx file that `export` wrote (torch is not imported then).
    Not given: `compact`, which came with the package; `accurate` errs less on faces that look roughly at the camera,
    and takes twice as long."""
    box: Annotated[tuple[tuple[float, float, float, float], ...], tyro.conf.arg(metavar="X0 Y0 X1 Y1 ...")] = ()
    """x0 y0 x1 y1 of a face (round brows, chin and cheeks), px; several faces: four numbers each.
    For one picture, or the same in all."""
    boxes: Path | None = None
    """File of boxes: CSV image,x0,y0,x1,y1, or JSON (docs/formats.md)."""
    whole_image: bool = False
    """Every picture is a crop of one face: look for none."""
    finder: Path | None = None
    """A finished `train-finder` run, to find faces with instead of MTCNN (torch is imported then)."""
    yunet: Path | None = None
    """YuNet's ONNX file, to find faces with instead of MTCNN."""
    faces: int = 0
    """Keep the largest so many faces of a picture, of those that nothing else leaves out; 0: all."""
    refine: int = 1
    """Rounds of cutting again round the landmarks found (pictures; in a video each frame refines the one before)."""
    flip: bool = False
    """Average with the answer on the mirrored face: twice the work, and a confidence for models that have none."""
    least_confidence: float = 0.0
    """Leave out faces of a lower confidence: the share of their landmarks that the detector, as its card's trust says,
    expects within 5 % of the face's size of the truth. For detectors with a trust (calibrate --what trust)."""
    check: bool = True
    """Drop found places where the answer follows the crop rather than the picture, or fits better upside down.
    Given ones are kept, and doubted."""
    rotate: Rotate = "0"
    """Degrees clockwise by which pictures must be turned to hold faces upright. auto: look for faces in all four
    turns; which way up each is, the detector's own answers tell. 0: the others only where there is no face as the
    picture is held. Detectors that have learnt every roll turn each face by themselves: auto only finds more faces."""
    formats: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            constructor_factory=lambda: tuple[Literal[tuple(predicted())], ...], help_behavior_hint="(default: none)"
        ),
    ] = ()
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
        for name in self.formats:
            check_name("formats", name, predicted())
        if not 0 <= self.least_confidence <= 1:
            raise ValueError(f"least_confidence {self.least_confidence}: expected a share of 0 to 1")
        if not self.inputs:
            raise ValueError("no input; expected pictures, folders, videos or a camera's number")
        if sum([bool(self.box), self.boxes is not None, self.whole_image]) > 1:
            raise ValueError("--box, --boxes and --whole-image: expected at most one of them")
        if self.finder is not None and self.yunet is not None:
            raise ValueError("--finder and --yunet are both given: expected one finder")
        if min(self.faces, self.refine, self.max_frames) < 0 or self.batch_size < 1:
            raise ValueError(
                f"faces {self.faces}, refine {self.refine}, max_frames {self.max_frames}, "
                f"batch_size {self.batch_size}: expected 0 or more, and a batch of at least 1"
            )


def open_finder(config: Predict) -> Finder:
    """The finder that the configuration names. Raises UserError where its networks are not there."""
    if config.finder:
        from stylealign.predicting.trained_finder import trained_finder  # torch

        return trained_finder(config.finder, config.accelerator)
    if config.yunet:
        return yunet_finder(config.yunet)
    network_files()
    return MtcnnFinder()


def _photos(config: Predict, network: LandmarkNetwork, sources: list[Source], out: Output, clock: Clock) -> None:
    given: GivenBoxes | None = SameBoxes(config.box) if config.box else None
    if config.boxes:
        given = BoxFile(config.boxes, [source.name for source in sources])
    tells = tells_way_up(network, config.check)
    needs_finder = not (given or config.whole_image) or (config.rotate == "auto" and not tells)
    search = Search(
        crop_scale=network.crop.scale, finder=open_finder(config) if needs_finder else None,
        whole_image=config.whole_image, rotate=config.rotate, network_turns=tells,
    )  # fmt: skip

    def draw(picture: Picture) -> Picture:
        if config.draw and picture.photo and picture.faces:
            with clock("drawing"):
                path = out.path_of_drawn(picture.source.name, ".jpg")
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_image(path, overlay(picture.photo, picture.faces, network.schema), 90)
                except (UserError, OSError) as error:
                    undrawn = f"{picture.source.name}: left without an overlay: {why_not_written(error)}"
                    picture = picture._replace(undrawn=undrawn)
        return picture._replace(photo=None, candidates=())  # without its pixels

    found = find_in_pictures(sources, search, given, clock, config.batch_size)
    answered = answer_pictures(
        found, network, clock, config.refine, config.flip, config.batch_size, config.check, config.rotate == "auto",
        config.least_confidence, config.faces,
    )  # fmt: skip
    depth = config.batch_size if config.draw else 0  # a whole group: the network must not wait for its drawings
    drawn = ahead(draw, answered, 1, depth, lambda picture: picture.num_pixels, GROUP_PIXELS)
    with closing(drawn):
        for picture in track(drawn, "predicting", len(sources)):
            for sentence in filter(None, (picture.problem, picture.undrawn)):
                out.leave_out(sentence)
            if picture.faces or not picture.problem:
                out.pictures += 1
            out.none += picture.none
            out.add(picture.faces)


def _video(
    config: Predict, network: LandmarkNetwork, finder: Finder, source: Source, out: Output, clock: Clock
) -> None:
    video = Video(source)
    tracker = Tracker(
        network, finder, config.track, refine=config.refine, flip=config.flip, batch_size=config.batch_size,
        most=0 if config.least_confidence else config.faces, clock=clock,  # the unsure take no place of others
        first_look=None if config.yunet or config.finder else MtcnnFinder(quick=True),
    )  # fmt: skip

    unsure = 0

    def follow(frame: Frame) -> tuple[Photo, list[Face]]:
        nonlocal unsure
        with clock("network"):
            faces = tracker(frame.image, frame.time)
        sure = [face for face in faces if is_sure(face, config.least_confidence)]
        unsure += len(faces) - len(sure)
        return Photo(frame.image, np.eye(2, 3)), named(sure[: config.faces or None], source.name)

    writer = VideoWriter(out.path_of_drawn(source.name, ".mp4"), video.fps)

    undrawn = ""

    def draw(answered: tuple[Photo, list[Face]]) -> list[Face]:
        nonlocal undrawn
        photo, faces = answered
        if config.draw and not undrawn:
            with clock("drawing"):
                try:
                    writer.write(overlay(photo, faces, network.schema, longest=None))
                except (UserError, OSError) as error:
                    undrawn = why_not_written(error)
        return faces

    total = min(config.max_frames, video.expected or config.max_frames) if config.max_frames else video.expected
    with_face = 0
    with (
        ended_by_key(video),
        closing(writer),
        closing(video.frames(clock, config.max_frames)) as frames,
        closing(ahead(draw, map(follow, frames), 1, 4)) as drawn,
    ):
        for faces in track(drawn, source.name, total):
            with_face += bool(faces)
            out.add(faces)
    writer.refuse_cut()
    if video.ended:
        say(f"{source.name}: ended by Ctrl-C")
    if not video.read:
        raise UserError(str(video.problem()))
    out.pictures += video.read
    out.frames += video.read
    out.videos[source.name] = {
        "frames": video.read,
        "frames_with_faces": with_face,
        "fps": round(video.fps, 3),
        "times_from": video.times_from,
        "tracks": tracker.num_tracks,
        "lost": tracker.num_lost,
        "found_again": tracker.num_found_again,
        "left_out_as_unsure": unsure,
        "times_looked_for_faces": tracker.num_searches,
        "no_face_to_the_detector": tracker.num_refused,
        "jitter": tracker.jitter.value,
        "jitter_smoothed": tracker.smooth_jitter.value if config.track.smooth else None,
    }
    if video.times_from == "guess":
        say(
            f"{source.name}: {video.guessed} of {counted(video.read, 'frame')} without a time stamp: their `time` is a "
            f"guess, from {video.fps:g} frames a second"
        )
    out.none += tracker.num_refused
    problem = video.problem() or (
        None if with_face else _faceless(source.name, video.read, tracker.num_refused, unsure)
    )
    for sentence in filter(None, (problem, undrawn and f"{source.name}: left without an overlay: {undrawn}")):
        out.leave_out(sentence)


def _faceless(name: str, frames: int, refused: int, unsure: int) -> str:
    """Why there is no face in a video: what the finder, the detector, or its confidence had against it."""
    why = "the finder saw none"
    if unsure:
        why = f"{counted(unsure, 'face')} of a confidence below --least-confidence"
    elif refused:
        why = f"the finder saw {refused}, and {'it is no face' if refused == 1 else 'none is a face'} to the detector"
    return f"{name}: no face found in {counted(frames, 'frame')}: {why}"


def _refuse(config: Predict, sources: list[Source], network: LandmarkNetwork) -> None:
    moving = [s for s in sources if s.kind != "photo"]
    refuse_formats(config.formats, network.schema, bool(moving))
    refuse_untrusted(config.least_confidence, network, config.flip)
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
            "warning: this detector was trained on its data set's own boxes, whose kind is not known here: found faces "
            "are cut as if those were landmark boxes (stylealign calibrate measures what that costs; --boxes gives "
            "boxes of the right kind)"
        )


def run_predict(config: Predict, network: LandmarkNetwork) -> int:
    """Do the job with a network that is already open; the exit status."""
    refuse_existing(config.out)
    sources, wrong = expand(config.inputs, config.out)
    if not sources:
        raise UserError("; ".join(wrong))
    _refuse(config, sources, network)
    with whole_folder(config.out) as partial:
        out = Output(partial, network.schema)
        clock = Clock()
        with out.file:
            for sentence in wrong:
                out.leave_out(sentence)
            photos = [s for s in sources if s.kind == "photo"]
            moving = [s for s in sources if s.kind != "photo"]
            out.overlays = overlay_names([s.name for s in photos]) | overlay_names([s.name for s in moving])
            if photos:
                _photos(config, network, photos, out, clock)
            finder = open_finder(config) if moving else None
            for source in moving:
                assert finder is not None
                try:
                    _video(config, network, finder, source, out, clock)
                except UserError as error:
                    out.leave_out(str(error))
        if out.left_out and not out.faces and not out.videos:  # nothing was done, and nothing stands in the way of more
            more = f" (and {len(out.left_out) - 1:,} more)" if len(out.left_out) > 1 else ""
            raise UserError(f"no face: {out.left_out[0]}{more}")
        timing = clock.summary(out.faces, out.pictures)
        for sentence in write_formats(partial, config.formats, network.schema):
            out.leave_out(sentence)
        if out.left_out:
            (partial / "left_out.txt").write_text("".join(f"{s}\n" for s in out.left_out), encoding="utf-8")
        summary = {
            "faces": out.faces,
            "pictures_and_frames": out.pictures,
            "orientation": dict(out.orientations),
            "no_face_to_the_detector": out.none,
            "left_out": out.left_out,
            "videos": out.videos,
            "timing": timing,
            "model_hash": network.card.get("model_hash"),
            "schema": network.schema.name,
            "crop": to_dict(network.crop),
            "config": to_dict(config),
        }
        (partial / "summary.json").write_text(
            json.dumps(summary, indent=2, ensure_ascii=False) + "\n",
            encoding="utf-8",
            errors="backslashreplace",  # which is how JSON writes bytes of names that are no UTF-8
        )
    _report(config, out, timing)
    return LEFT_OUT if out.left_out else 0


def _report(config: Predict, out: Output, timing: dict[str, Any]) -> None:
    for name, video in out.videos.items():
        if video["jitter"] is not None:
            smoothed = "" if video["jitter_smoothed"] is None else f", smoothed {100 * video['jitter_smoothed']:.2f} %"
            say(f"{name}: jitter {100 * video['jitter']:.2f} % of the face{smoothed}")
    if config.timing:
        shares = ", ".join(f"{k} {100 * v['share']:.0f} %" for k, v in timing["stages"].items())
        say(f"{timing['faces_per_s']} faces/s, {timing['pictures_per_s']} pictures/s; busy time: {shares}")
    assumed = out.orientations["assumed"]
    if assumed and (config.check or config.rotate == "auto"):
        say(
            f"{counted(assumed, 'face')}: nothing tells which way up; taken as the picture is held (`orientation` "
            "assumed)"
        )
    if out.none and out.faces:
        say(f"{counted(out.none, 'find')} of the finder dropped: no face to the detector (--no-check keeps such)")
    left = f"; {len(out.left_out)} left out ({config.out / 'left_out.txt'} says why)" if out.left_out else ""
    photos = out.pictures - out.frames
    looked = [counted(photos, "picture")] * bool(photos or not out.frames) + [counted(out.frames, "frame")] * bool(
        out.frames
    )
    drawn = f", overlays in {config.out / 'drawn'}" if (config.out / "drawn").is_dir() else ""
    where = f"{config.out / PREDICTIONS_FILE}{drawn}"
    say(f"{counted(out.faces, 'face')} in {' and '.join(looked)} -> {where}{left}")


@making("out")
def main(config: Predict) -> int:
    """Load the model and predict; the exit status."""
    refuse_existing(config.out)
    # Half of the cores for the network, half for the stages beside it: on two cores, a third faster than all for it.
    threads = max(1, num_cores() // 2)
    return run_predict(config, open_network(config.model, config.accelerator, threads))
