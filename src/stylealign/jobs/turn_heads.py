"""The job `turn-heads`: labelled faces of a data set, seen from the side -> a data set in our format.

Photographs of turned heads are rare in most data sets, and a detector that has seen none is wrong by a fifth of the
eyes' distance on them. How a photograph is turned is toyfaces/side_view.py's; what is done to a face is a function of
(seed, its line in the data set). Every copy stays in its face's split and keeps its attributes.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from stylealign.data.atomic import making
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import DatasetWriter
from stylealign.data.describe import whole_faces
from stylealign.data.image import image_size, one_opencv_thread, read_image
from stylealign.data.threads import on_every_core
from stylealign.errors import UserError, counted
from stylealign.face.crop import SIZES
from stylealign.face.geometry import crop_affine, landmark_box
from stylealign.face.orientation import shown_face, view_of
from stylealign.face.sample import FaceSample, Provenance
from stylealign.progress import say, track
from stylealign.toyfaces.side_view import MISFIT, SideView, face_box, head_of, own_yaw, pose_of, side_view, turn_to

_LEAST_TURN = 10.0  # degrees: less is no other view of the face
_MISFIT = "whose landmarks do not lie as on a head"
_FAR = "turned as far already"
_OUTSIDE = "whose landmarks would leave the picture"


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnHeads:
    """Show the labelled faces of a data set from the side: more faces to train on, for turned heads and profiles."""

    data: Path
    """Data set whose faces are taken: all of a face's landmarks known; WFLW's 98, iBUG's 68 or five points."""
    out: Path
    """Data set folder to make; every copy stays in its face's split."""
    split: str = "train"
    """Split of `data` to take."""
    subset: str | None = None
    """Take only the faces of that split with this attribute, such as a label budget."""
    copies: int = 2
    """Pictures a face, each turned by another part of `degrees`."""
    degrees: tuple[float, float] = (25.0, 80.0)
    """The yaw that faces have after the turn, from and to; 90: a profile. A face is turned further to its own side."""
    size: int = 256
    """Side in pixels of the crop that is written."""
    scale: float = 2.2
    """Side of that crop over the longer side of the landmarks' box: room for the crop that a detector cuts from it."""
    seed: int = 0
    """Draws how far each face is turned, and the side of those that look to neither."""
    png: bool = False
    """Write PNG instead of JPEG of quality 95."""

    def __post_init__(self) -> None:
        low, high = self.degrees
        if not _LEAST_TURN <= low < high <= 90:
            raise UserError(
                f"degrees: found {low:g} to {high:g}, expected {_LEAST_TURN:g} to 90, the smaller one first"
            )
        if not 1 <= self.copies <= 100:
            raise UserError(f"copies: found {self.copies}, expected 1 to 100")
        if not 32 <= self.size <= SIZES[1] or not self.scale >= 1 or self.seed < 0:
            raise UserError(
                f"size {self.size}, scale {self.scale} and seed {self.seed}: "
                f"expected 32 to {SIZES[1]}, at least 1, and 0 or more"
            )


def turns_of(yaw: float, config: TurnHeads, rng: np.random.Generator) -> list[float]:
    """Degrees to turn a face by, one a copy; 0 for a copy that would hardly be another view.

    The wanted yaws are drawn from equal parts of `degrees`, so that a face's copies differ.
    """
    low, high = config.degrees
    wanted = low + (high - low) * (np.arange(config.copies) + rng.random(config.copies)) / config.copies
    first = rng.integers(2**32)  # a face is turned to one side in all of its copies
    turns = [turn_to(float(to), yaw, np.random.default_rng(first)) for to in wanted]
    return [turn if abs(turn) >= _LEAST_TURN else 0.0 for turn in turns]


def _copies(faces: FaceDataset, config: TurnHeads, i: int) -> tuple[FaceSample, list[SideView | str]]:
    """The views of face i; for a copy that is not made why."""
    sample, view_from_source = shown_face(faces[i], *image_size(faces[i].image))
    assert sample.landmarks is not None, "only labelled faces are taken"
    pose = pose_of(sample.landmarks, faces.schema)
    if pose.misfit > MISFIT:
        return sample, [_MISFIT] * config.copies
    try:
        affine = crop_affine(face_box(sample.landmarks, faces.schema, pose), config.scale, config.size)
    except ValueError as error:
        raise UserError(f"face '{sample.id}' in {sample.image}: {error}") from None
    turns = turns_of(
        own_yaw(sample.landmarks, faces.schema), config, np.random.default_rng((config.seed, faces.row_number(i)))
    )
    source = view_of(read_image(sample.image), view_from_source) if any(turns) else None
    views: list[SideView | str] = []
    for turn in turns:
        if source is None or not turn:
            views.append(_FAR)
            continue
        view = side_view(source, sample.landmarks, faces.schema, turn, affine, config.size)
        inside = (view.landmarks >= 0).all() and (view.landmarks <= config.size - 1).all()
        views.append(view if inside else _OUTSIDE)
    return sample, views


def _box_as(sample: FaceSample, turned: np.ndarray) -> np.ndarray:
    """The box of a face's turned landmarks (P, 2): as much wider than they on each side, for their size, as its own."""
    tight = landmark_box(turned)
    if sample.box_xyxy is None or sample.landmarks is None:
        return tight
    before = landmark_box(sample.landmarks)
    margins = (sample.box_xyxy - before) / np.tile(before[2:] - before[:2], 2)
    return tight + margins * np.tile(tight[2:] - tight[:2], 2)


def _samples(
    faces: FaceDataset, config: TurnHeads, writer: DatasetWriter, left_out: Counter[str]
) -> Iterator[FaceSample]:
    """Make, write and describe every view; count why others are left out."""
    with closing(on_every_core(partial(_copies, faces, config), range(len(faces)))) as todo:
        for number, (sample, views) in enumerate(track(todo, "turning heads", len(faces))):
            for copy, view in enumerate(views):
                if isinstance(view, str):
                    left_out[view] += 1
                    continue
                name = f"{number:06d}_{copy}.{'png' if config.png else 'jpg'}"
                yield replace(
                    sample,
                    id=f"{sample.id}@turned{copy}",
                    image=writer.add_image(name, view.image),
                    landmarks=view.landmarks,
                    box_xyxy=_box_as(sample, view.landmarks),
                    visible=view.visible if sample.visible is None else view.visible & sample.visible,
                    provenance=Provenance(
                        content_id=sample.origin, style_id=None, translator="side view", seed=config.seed, mode="arm"
                    ),
                )


@making("out")
def main(config: TurnHeads) -> None:
    """Run the job. Raises UserError when `out` is there, or no face can be turned."""
    faces = FaceDataset.open(config.data).select(config.split, config.subset, labelled=True)
    faces = whole_faces(faces, "what is turned")
    head_of(faces.schema)  # a mark-up that is not known is said before anything is made
    made, left_out = 0, Counter[str]()
    # One thread: the pictures are too small for more to pay
    with (
        one_opencv_thread(),
        DatasetWriter.made_from(faces, config, "turn-heads", "seen from the side") as writer,
    ):
        for sample in _samples(faces, config, writer, left_out):
            writer.add(sample)
            made += 1
        if not made:
            raise UserError(
                f"{config.data}: none of {counted(len(faces), 'face')} can be turned ({_in_words(left_out)})"
            )
    why = f" (left out: {_in_words(left_out)})" if left_out else ""
    say(f"{config.out}: {counted(made, 'turned face')} of {len(faces) * config.copies:,}{why}")


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {why}" for why, number in counts.most_common())
