"""The job `draw-faces`: a data set of drawn faces with exact landmarks, without any download."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stylealign.data.atomic import making
from stylealign.data.dataset_writer import DatasetWriter
from stylealign.data.image import one_opencv_thread
from stylealign.errors import UserError, counted
from stylealign.face.crop import SIZES
from stylealign.face.geometry import landmark_box
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS
from stylealign.progress import say, track
from stylealign.toyfaces.faces import FaceOptions, attributes, face_of
from stylealign.toyfaces.paint import draw_face


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawFaces(FaceOptions):
    """Draw faces with exact 98-point landmarks and the six attributes of WFLW into a dataset folder."""

    out: Path
    """Dataset folder to make."""
    count: int = 1000
    """Labelled faces, over all splits."""
    unlabelled: int = 0
    """More faces without landmarks, in split train: donors of style."""
    size: int = 160
    """Width and height of a picture in pixels."""
    png: bool = False
    """Write PNG instead of JPEG of quality 95."""

    def __post_init__(self) -> None:
        FaceOptions.__post_init__(self)
        if self.count < 1:
            raise UserError(f"count: found {self.count}, expected at least 1")
        if self.unlabelled < 0:
            raise UserError(f"unlabelled: found {self.unlabelled}, expected 0 or more")
        if not 32 <= self.size <= SIZES[1]:
            raise UserError(f"size: found {self.size}, expected 32 to {SIZES[1]} pixels")


def _samples(config: DrawFaces, writer: DatasetWriter) -> Iterator[FaceSample]:
    """Draw, write and describe every face."""
    jobs = [(i, False) for i in range(config.count)] + [(i, True) for i in range(config.unlabelled)]
    for index, unlabelled in track(jobs, "drawing faces"):
        structure, style, split = face_of(config, index, unlabelled)
        image, landmarks, visible = draw_face(structure, style, config.size)
        name = f"{'unlabelled' if unlabelled else 'face'}{index:06d}"
        yield FaceSample(
            id=name,
            image=writer.add_image(f"{name[:-3]}/{name}.{'png' if config.png else 'jpg'}", image),
            landmarks=None if unlabelled else landmarks,
            box_xyxy=landmark_box(landmarks),
            visible=None if unlabelled else visible,
            attributes=attributes(structure, style),
            split=split,
        )


def _described(config: DrawFaces) -> dict[str, Any]:
    """All options but the folder, for dataset.yaml: how many faces and how large, then how they are drawn."""
    values = {name: value for name, value in asdict(config).items() if name != "out"}
    return {name: values[name] for name in ("count", "unlabelled", "size")} | values


@making("out")
def main(config: DrawFaces) -> None:
    """Draw the faces and write the data set. Raises UserError when `out` is already there."""
    # One thread: the pictures are too small for more to pay
    with (
        one_opencv_thread(),
        DatasetWriter(
            config.out,
            schema=SCHEMAS["wflw98"],
            images="own",
            source="drawn by stylealign draw-faces",
            licence="no rights reserved: no person is shown",
            how=_described(config),
        ) as writer,
    ):
        for sample in _samples(config, writer):
            writer.add(sample)
    say(
        f"{config.out}: {counted(config.count, 'face')} of {config.size} x {config.size} pixels"
        + (f", {config.unlabelled} unlabelled" if config.unlabelled else "")
    )
