"""The job `stress`: labelled faces of a data set, made harder at rising strength -> a data set in our format.

Every chosen cause at every chosen strength becomes a split of its own, such as `blur_3`, of the same faces. Strength 0
is the crop as it is, so that a curve of errors over strengths (`evaluate`, `study`) starts at the same protocol. What
is done to a face is a function of (seed, its line in the data set, cause), and at each strength the same thing goes
further. How it is done to a picture is toyfaces/hardships.py's.
"""

import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stylealign.data.atomic import making
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import DatasetWriter
from stylealign.data.describe import whole_faces
from stylealign.data.image import one_opencv_thread, read_image, warp
from stylealign.data.threads import on_every_core
from stylealign.errors import UserError, counted
from stylealign.face.crop import SIZES
from stylealign.face.geometry import apply, compose, crop_affine, landmark_box, scale_of
from stylealign.face.orientation import shown_picture
from stylealign.face.sample import FaceSample, Provenance
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say, track
from stylealign.toyfaces import hardships
from stylealign.toyfaces.side_view import own_yaw, side_view, turn_to

StressCause = Literal["tilt", "illumination", "make_up", "occlusion", "blur", "pose"]
CAUSES: tuple[StressCause, ...] = ("tilt", "illumination", "make_up", "occlusion", "blur")
ON_REQUEST: tuple[StressCause, ...] = ("pose",)  # of mark-ups alone whose points' depth is known
LEVELS = 4
_FURTHEST = 75.0  # degrees of yaw at the last strength
_IMPOSSIBLE = {  # causes of WFLW that photographs do not allow
    "expression": "a photographed face cannot be made to laugh; draw-faces --cause expression draws faces that do",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stress:
    """Make the labelled faces of a data set harder, a split for each cause and strength: light, make-up, occlusion,
    blur, tilt, and heads turned aside."""

    data: Path
    """Data set whose faces are taken."""
    out: Path
    """Data set folder to make; splits are called cause_strength, such as blur_3."""
    split: str = "val"
    """Split of `data` to take."""
    subset: str | None = None
    """Take only the faces of that split with this attribute."""
    causes: tuple[str, ...] = CAUSES
    """Which of tilt (a roll and a squeeze of the picture), illumination, make_up, occlusion, blur; and pose, the head
    turned aside by up to 75 degrees, on request: of 98, 68 or five points alone, and it looks a little drawn."""
    strengths: tuple[int, ...] = (0, 1, 2, 3, 4)
    """From 0, the face as it is, to 4."""
    size: int = 256
    """Side in pixels of the crop that is written."""
    scale: float = 2.2
    """Side of that crop over the longer side of the landmarks' box: room for the crop that a detector cuts from it."""
    seed: int = 0
    """Draws where the light comes from, what is before the face and so on."""
    png: bool = False
    """Write PNG instead of JPEG of quality 95."""

    def __post_init__(self) -> None:
        for cause in self.causes:
            if cause not in (*CAUSES, *ON_REQUEST):
                raise UserError(
                    f"causes: found '{cause}', expected {', '.join((*CAUSES, *ON_REQUEST))}"
                    + (f" ({_IMPOSSIBLE[cause]})" if cause in _IMPOSSIBLE else "")
                )
        for name in ("causes", "strengths"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"{name}: found {values}, expected at least one, each once")
        if not all(0 <= s <= LEVELS for s in self.strengths):
            raise UserError(f"strengths: found {self.strengths}, expected numbers from 0 to {LEVELS}")
        if not 32 <= self.size <= SIZES[1] or not self.scale >= 1 or self.seed < 0:
            raise UserError(
                f"size {self.size}, scale {self.scale} and seed {self.seed}: "
                f"expected 32 to {SIZES[1]}, at least 1, and 0 or more"
            )


class Harder(NamedTuple):
    """One face under one cause at one strength."""

    image: np.ndarray
    """(S, S, 3) uint8"""
    landmarks: np.ndarray
    """(P, 2) px of `image`"""
    visible: np.ndarray | None
    """(P,) bool; None where the data set does not say and nothing was laid over the face"""
    moved: np.ndarray
    """(2, 3) image_from_source"""


def stress_face(
    source: np.ndarray,
    sample: FaceSample,
    schema: LandmarkSchema,
    cause: str,
    strength: int,
    rng: np.random.Generator,
    size: int,
    scale: float,
) -> Harder:
    """Cut a labelled face from its picture (H, W, 3) uint8 and make it harder.

    `rng` decides how: seeded alike, the same is done at every strength, further.
    """
    assert sample.landmarks is not None, "only labelled faces are stressed"
    t = strength / LEVELS
    try:
        affine = crop_affine(landmark_box(sample.landmarks), scale, size)
    except ValueError as error:
        raise UserError(f"face '{sample.id}' in {sample.image}: {error}") from None
    if cause == "tilt":
        image, tilt = hardships.tilted(source, affine, sample.landmarks, t, rng, size)
        moved = hardships.compose(tilt, affine)
        return Harder(image, apply(moved, sample.landmarks), sample.visible, moved)
    if cause == "pose" and strength:
        turn = t * turn_to(_FURTHEST, own_yaw(sample.landmarks, schema), rng)
        image, landmarks, seen = side_view(source, sample.landmarks, schema, turn, affine, size)
        return Harder(image, landmarks, seen if sample.visible is None else seen & sample.visible, affine)
    crop, landmarks, visible = warp(source, affine, size), apply(affine, sample.landmarks), sample.visible
    if cause == "pose":
        return Harder(crop, landmarks, visible, affine)
    scene = hardships.fitted_scene(landmarks, schema, size)
    if cause == "illumination":
        crop = hardships.illuminate(crop, scene, t, rng)
    elif cause == "make_up":
        crop = hardships.make_up(crop, landmarks, schema, scene, t, rng)
    elif cause == "occlusion":
        crop, covered = hardships.occlude(crop, landmarks, scene, t, rng)
        visible = ~covered if visible is None else visible & ~covered
    else:
        crop = hardships.blur(crop, scene.unit, t, rng)
    return Harder(crop, landmarks, visible, affine)


def _moved_box(box: np.ndarray | None, moved: np.ndarray) -> np.ndarray | None:
    """A given box round the same centre, as large on the face as before."""
    if box is None:
        return None
    centre, half = apply(moved, (box[:2] + box[2:]) / 2), (box[2:] - box[:2]) / 2 * scale_of(moved)
    return np.concatenate([centre - half, centre + half])


def _harden(faces: FaceDataset, config: Stress, i: int) -> list[tuple[FaceSample, np.ndarray]]:
    """Every version of face i, which has no picture yet, and its pixels."""
    stored = faces[i]
    sample, source, view_from_source = shown_picture(stored, read_image(stored.image))
    versions = []
    for cause in config.causes:
        for strength in config.strengths:
            rng = np.random.default_rng((config.seed, faces.row_number(i), zlib.crc32(cause.encode())))
            harder = stress_face(source, sample, faces.schema, cause, strength, rng, config.size, config.scale)
            crop_from_source = None
            if cause != "pose" or not strength:
                crop_from_source = stored.from_origin(compose(harder.moved, view_from_source))
            made = replace(
                sample,
                id=f"{sample.id}@{cause}_{strength}",
                landmarks=harder.landmarks,
                box_xyxy=_moved_box(sample.box_xyxy, harder.moved),
                visible=harder.visible,
                split=f"{cause}_{strength}",
                provenance=Provenance(
                    content_id=sample.origin, style_id=None, translator=f"stress {cause} {strength}",
                    seed=config.seed, mode="arm", crop_from_source=crop_from_source,
                ),
            )  # fmt: skip
            versions.append((made, harder.image))
    return versions


def _samples(faces: FaceDataset, config: Stress, writer: DatasetWriter) -> Iterator[FaceSample]:
    """Make, write and describe every face."""
    with closing(on_every_core(partial(_harden, faces, config), range(len(faces)))) as todo:
        for number, versions in enumerate(track(todo, "making faces harder", len(faces))):
            for made, pixels in versions:
                name = f"{made.split}/{number:06d}.{'png' if config.png else 'jpg'}"
                yield replace(made, image=writer.add_image(name, pixels))


@making("out")
def main(config: Stress) -> None:
    """Run the job. Raises UserError when `out` is there, or the split has no labelled face."""
    faces = FaceDataset.open(config.data).select(config.split, config.subset, labelled=True)
    faces = whole_faces(faces, "what is made harder")
    # One thread: the crops are too small for more to pay
    with one_opencv_thread(), DatasetWriter.made_from(faces, config, "stress", "made harder") as writer:
        for sample in _samples(faces, config, writer):
            writer.add(sample)
    num_causes, num_strengths = len(config.causes), len(config.strengths)
    each = f"{counted(num_causes, 'cause')} x {counted(num_strengths, 'strength')}, a split each"
    say(f"{config.out}: {counted(len(faces), 'face')} x {each}")
