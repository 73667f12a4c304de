"""Several detectors, asked several times each about faces that nobody has labelled: answers in source pixels.

A "look" is one crop of a face, turned, scaled, shifted or mirrored, and the answer to it. A detector is trained on
crops round landmarks, which an unlabelled face has not got. So the first crop is cut round the face's own box (or the
picture's middle), and every further one round the landmarks found before. Knows nothing of
trust and writes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from stylealign.batches.batch import to_float
from stylealign.batches.crops import box_of
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, warp
from stylealign.detectors.loaded import LoadedDetector, load_detector
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.orientation import shown_crop_affine
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.landmarks import usable_box
from stylealign.progress import track

FACES_AT_ONCE = 32  # decoded pictures held in memory
CROPS_AT_ONCE = 64  # that a network sees


@dataclass(frozen=True, kw_only=True, slots=True)
class LookConfig:
    """How often each detector looks at a face."""

    flip: bool = True
    """Look at the mirror image too (never where the mark-up knows no mirror twins)."""
    jitters: int = 0
    """Looks at slightly turned, scaled and shifted crops beside the plain one; the same ones for every face."""
    rotation: float = 8.0
    """Degrees, to either side, of those."""
    scale: float = 0.06
    """Natural logarithm of their size factor."""
    shift: float = 0.03
    """Share of the crop's side by which they are moved, along x and along y."""
    refine: int = 3
    """Rounds of cutting again round the landmarks found.
    Only where faces have no landmarks and the detector was trained on crops round landmarks."""
    seed: int = 0
    """Draws the jitters."""

    def __post_init__(self) -> None:
        if min(self.jitters, self.refine, self.seed, self.rotation, self.scale, self.shift) < 0:
            raise ValueError("looks: expected jitters, refine, seed, rotation, scale and shift of 0 or more")


class Look(NamedTuple):
    """A motion of the crop: degrees, size factor, shift in shares of the side, and whether it is mirrored."""

    degrees: float = 0.0
    factor: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False

    def affine(self, size: int) -> np.ndarray:
        """(2, 3) affine from px of a plain crop, `size` px wide, to those of this look."""
        middle = (size - 1) / 2
        x, y = (v * size for v in self.shift)
        moved = geometry.rotate_scale_affine((middle, middle), self.degrees, self.factor, (x, y))
        return geometry.compose(geometry.flip_affine(size), moved) if self.mirrored else moved


def looks_of(config: LookConfig, schema: LandmarkSchema) -> list[Look]:
    """The plain look, the jittered ones, and the mirror images of all of them."""
    draws = np.random.default_rng((config.seed, 0x100C)).uniform(-1, 1, (config.jitters, 4))
    looks = [
        Look(config.rotation * a, float(np.exp(config.scale * b)), (config.shift * c, config.shift * d))
        for a, b, c, d in draws
    ]
    looks = [Look(), *looks]
    return looks + [look._replace(mirrored=True) for look in looks if config.flip and schema.flip_pairs]


def load_ensemble(
    runs: Sequence[Path], schema: LandmarkSchema | None, device: torch.device | str
) -> list[LoadedDetector]:
    """The detectors of finished runs, all of one mark-up (that of a data set, where `schema` is given)."""
    loaded: list[LoadedDetector] = []
    for run in runs:
        detector = load_detector(run, device)
        expected = schema or (loaded[0].schema if loaded else detector.schema)
        if detector.schema != expected:
            raise UserError(
                f"{run}: this detector answers in {detector.schema.name} "
                f"({counted(detector.schema.num_points, 'point')}), expected {expected.name} "
                f"({counted(expected.num_points, 'point')}) as {'the data set has' if schema else f'{runs[0]} does'}: "
                "one mark-up for all"
            )
        loaded.append(detector)
    return loaded


class Answers(NamedTuple):
    """The answers of several detectors about a data set."""

    positions: np.ndarray
    """(N,) the faces whose pictures could be read, in order"""
    landmarks: np.ndarray
    """(N, M, P, 2) float64 source px, a row for each look of each detector"""
    settled: np.ndarray
    """(N, P) px by which the last round of cutting again moved the plain answer; 0 where there was none"""
    unreadable: list[str]
    """Why a picture could not be read, a sentence each"""


class _Read(NamedTuple):
    """A face of the data set with its decoded picture."""

    position: int
    sample: FaceSample
    image: np.ndarray


@torch.no_grad()
def _answer(
    detector: LoadedDetector, group: Sequence[_Read], boxes: list[np.ndarray], looks: Sequence[Look]
) -> np.ndarray:
    """(n, looks, P, 2) float64 source px: a detector's answers for n faces, cut round a box (4,) px each."""
    crop, order = detector.crop, detector.schema.flip_permutation
    asked = [(face, box, look) for face, box in zip(group, boxes, strict=True) for look in looks]
    affines = [
        geometry.compose(look.affine(crop.size), shown_crop_affine(face.sample.orientation, box, crop.scale, crop.size))
        for face, box, look in asked
    ]
    crops = np.stack([warp(face.image, affine, crop.size) for (face, _, _), affine in zip(asked, affines, strict=True)])
    device = next(detector.model.parameters()).device
    found = np.concatenate(
        [
            detector.model(to_float(torch.from_numpy(part)).to(device)).landmarks.cpu().double().numpy()
            for part in np.split(crops, range(CROPS_AT_ONCE, len(crops), CROPS_AT_ONCE))
        ]
    )
    home = []
    for (_, _, look), affine, points in zip(asked, affines, found, strict=True):
        if look.mirrored:  # back to the same crop without the mirror
            affine = geometry.compose(geometry.flip_affine(crop.size), affine)
            points = geometry.mirrored_back(points, crop.size, order, detector.lean)
        home.append(geometry.apply(geometry.invert(affine), points))
    return np.stack(home).reshape(len(group), len(looks), -1, 2)


def _groups(faces: Iterable[FaceSample], unreadable: list[str], total: int | None) -> Iterator[list[_Read]]:
    """The faces whose pictures can be read, FACES_AT_ONCE at a time; why others cannot is added to `unreadable`."""
    group: list[_Read] = []
    for i, sample in enumerate(track(faces, "asking the detectors", total)):
        try:
            group.append(_Read(i, sample, read_image(sample.image)))
        except UserError as error:
            unreadable.append(str(error))
        if len(group) == FACES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _answer_group(
    detectors: list[LoadedDetector], group: list[_Read], config: LookConfig, use_labels: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(n, M, P, 2) source px of n faces, a row for each look of each detector, and (n, P) `Answers.settled`."""
    looks = looks_of(config, detectors[0].schema)
    samples = [face.sample for face in group]
    if not use_labels:
        samples = [FaceSample(id=s.id, image=s.image, box_xyxy=s.box_xyxy) for s in samples]
    first_boxes = [[box_of(s, d.crop.box) for s in samples] for d in detectors]
    refined = [d.crop.box == "landmarks" and not use_labels for d in detectors]
    boxes = [list(b) for b in first_boxes]
    before: np.ndarray | None = None
    for _ in range(config.refine if any(refined) else 0):
        plain = [_answer(d, group, box, looks[:1])[:, 0] for d, box in zip(detectors, boxes, strict=True)]
        before = np.mean(plain, axis=0)
        found = [geometry.landmark_box(points) for points in before]
        for j in np.flatnonzero(refined):
            boxes[j] = [usable_box(box, first) for box, first in zip(found, first_boxes[j], strict=True)]
    answers = [_answer(d, group, box, looks) for d, box in zip(detectors, boxes, strict=True)]
    now = np.mean([a[:, 0] for a in answers], axis=0)
    moved = np.zeros(now.shape[:2]) if before is None else np.linalg.norm(now - before, axis=-1)
    return np.concatenate(answers, axis=1), moved


class Asked(NamedTuple):
    """A group of faces with their decoded pictures, and what the detectors answered."""

    positions: list[int]
    """Of the faces, among all that were given"""
    samples: list[FaceSample]
    images: list[np.ndarray]
    landmarks: np.ndarray
    """(n, M, P, 2), as of Answers"""
    settled: np.ndarray
    """(n, P)"""


def ask_in_groups(
    detectors: list[LoadedDetector],
    faces: Iterable[FaceSample],
    config: LookConfig,
    unreadable: list[str],
    use_labels: bool = False,
    total: int | None = None,
) -> Iterator[Asked]:
    """What every detector answers, FACES_AT_ONCE faces at a time: memory does not grow with their number.

    As of `ask`; why a picture cannot be read is added to `unreadable`. `total` is for the progress.
    """
    for group in _groups(faces, unreadable, total):
        landmarks, settled = _answer_group(detectors, group, config, use_labels)
        samples, images = [face.sample for face in group], [face.image for face in group]
        yield Asked([face.position for face in group], samples, images, landmarks, settled)


def ask(detectors: list[LoadedDetector], faces: FaceDataset, config: LookConfig, use_labels: bool = False) -> Answers:
    """What every detector answers about every face. A picture that cannot be read becomes a line of `unreadable`.

    Args:
        detectors: of one mark-up, each with its own crop protocol.
        faces: labelled or not.
        config: how often they look.
        use_labels: cut the crops round the faces' labels, as on a test set; otherwise labels are not looked at, not
            even for the box.
    """
    answers = answers_of_groups(detectors, faces, config, use_labels)
    refuse_unread(answers, faces)
    return answers


def answers_of_groups(
    detectors: list[LoadedDetector], faces: FaceDataset, config: LookConfig, use_labels: bool = False
) -> Answers:
    """As `ask`, also where no picture can be read."""
    num_points = detectors[0].schema.num_points
    positions: list[int] = []
    found, moved = list[np.ndarray](), [np.zeros((0, num_points))]
    unreadable: list[str] = []
    for group in ask_in_groups(detectors, faces, config, unreadable, use_labels, len(faces)):
        positions += group.positions
        found.append(group.landmarks)
        moved.append(group.settled)
    landmarks = np.concatenate(found) if found else np.zeros((0, 0, num_points, 2))
    return Answers(np.array(positions, dtype=np.int64), landmarks, np.concatenate(moved), unreadable)


def refuse_unread(answers: Answers, faces: FaceDataset) -> None:
    """Raise UserError where no picture could be read."""
    if not len(answers.positions):
        raise UserError(
            f"{faces.folder}: none of {counted(len(faces), 'picture')} can be read; the first: {answers.unreadable[0]}"
        )
