"""Several detectors, each looking several times, at faces that nobody has labelled: answers in source pixels.

A detector is trained on crops round landmarks, which an unlabelled face has not got. So the first look is at the picture's own box (or its
middle), and every further look at the box of the landmarks found before. Knows nothing of trust and writes nothing.
"""

from collections.abc import Iterator, Sequence
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
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import track

FACES_AT_ONCE = 32  # decoded pictures held in memory


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
    """Rounds of cutting again round the landmarks found, where faces have no landmarks and the detector was trained on such crops."""
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
        """(2, 3) look_from_crop of a crop of this side."""
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
                f"{run}: this detector answers in {detector.schema.name} ({detector.schema.num_points} points), expected {expected.name} "
                f"({expected.num_points} points) as {'the data set has' if schema else f'{runs[0]} does'}: one mark-up for all"
            )
        loaded.append(detector)
    return loaded


class Answers(NamedTuple):
    """What an ensemble says of a data set."""

    positions: np.ndarray
    """(N,) the faces whose pictures could be read, in order"""
    landmarks: np.ndarray
    """(N, M, P, 2) float64 source px, a row for each look of each detector"""
    settled: np.ndarray
    """(N, P) px by which the last round of cutting again moved the plain answer; 0 where there was none"""
    unreadable: list[str]
    """Why, for each picture that could not be"""


@torch.no_grad()
def _answer(
    detector: LoadedDetector, images: list[np.ndarray], boxes: list[np.ndarray], looks: Sequence[Look]
) -> np.ndarray:
    """(n, looks, P, 2) float64 source px."""
    crop, order = detector.crop, detector.schema.flip_permutation
    motions = [look.affine(crop.size) for look in looks]
    affines = [
        geometry.compose(motion, geometry.crop_affine(box, crop.scale, crop.size))
        for box in boxes
        for motion in motions
    ]
    crops = np.stack([warp(images[i // len(looks)], affine, crop.size) for i, affine in enumerate(affines)])
    device = next(detector.model.parameters()).device
    found = np.concatenate(
        [
            detector.model(to_float(torch.from_numpy(part)).to(device)).landmarks.double().cpu().numpy()
            for part in np.split(crops, range(64, len(crops), 64))
        ]
    )
    home = [geometry.apply(geometry.invert(affine), points) for affine, points in zip(affines, found, strict=True)]
    answers = np.stack(home).reshape(len(images), len(looks), -1, 2)
    for j, look in enumerate(looks):
        if look.mirrored:
            answers[:, j] = answers[:, j, order]
    return answers


def _usable(box: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The box of found landmarks, or the start where it is three times smaller or larger: a detector that has lost the face."""
    ratio = (box[2:] - box[:2]).max() / (start[2:] - start[:2]).max()
    return box if 1 / 3 < ratio < 3 else start


def _group(
    detectors: list[LoadedDetector],
    samples: list[FaceSample],
    images: list[np.ndarray],
    config: LookConfig,
    use_labels: bool,
) -> tuple[np.ndarray, np.ndarray]:
    looks = looks_of(config, detectors[0].schema)
    blind = [s if use_labels else FaceSample(id=s.id, image=s.image, box_xyxy=s.box_xyxy) for s in samples]
    starts = [[box_of(s, d.crop.box) for s in blind] for d in detectors]
    follows = [d.crop.box == "landmarks" and not use_labels for d in detectors]
    boxes = [list(b) for b in starts]
    before: np.ndarray | None = None
    for _ in range(config.refine if any(follows) else 0):
        plain = [_answer(d, images, box, looks[:1])[:, 0] for d, box in zip(detectors, boxes, strict=True)]
        before = np.mean(plain, axis=0)
        for j, follow in enumerate(follows):
            if follow:
                boxes[j] = [_usable(geometry.landmark_box(p), s) for p, s in zip(before, starts[j], strict=True)]
    answers = [_answer(d, images, box, looks) for d, box in zip(detectors, boxes, strict=True)]
    now = np.mean([a[:, 0] for a in answers], axis=0)
    moved = np.zeros(now.shape[:2]) if before is None else np.linalg.norm(now - before, axis=-1)
    return np.concatenate(answers, axis=1), moved


def ask(detectors: list[LoadedDetector], faces: FaceDataset, config: LookConfig, use_labels: bool = False) -> Answers:
    """Ask every detector about every face; a picture that cannot be read is a line of `unreadable`, and the rest is done.

    Args:
        detectors: of one mark-up, each with its own crop protocol.
        faces: labelled or not.
        config: how often they look.
        use_labels: cut the crops round the faces' labels, as on a test set; otherwise labels are not looked at, not even for the box.
    """
    positions: list[int] = []
    found, moved, unreadable = [], [], []

    def groups() -> Iterator[tuple[list[int], list[FaceSample], list[np.ndarray]]]:
        members: list[int] = []
        samples: list[FaceSample] = []
        images: list[np.ndarray] = []
        for i in track(range(len(faces)), "asking the detectors"):
            sample = faces[i]
            try:
                images.append(read_image(sample.image))
            except UserError as error:
                unreadable.append(str(error))
                continue
            members.append(i)
            samples.append(sample)
            if len(members) == FACES_AT_ONCE:
                yield members, samples, images
                members, samples, images = [], [], []
        if members:
            yield members, samples, images

    for members, samples, images in groups():
        answers, motion = _group(detectors, samples, images, config, use_labels)
        positions += members
        found.append(answers)
        moved.append(motion)
    if not positions:
        raise UserError(f"{faces.folder}: none of its {len(faces)} pictures can be read; the first: {unreadable[0]}")
    return Answers(np.array(positions), np.concatenate(found), np.concatenate(moved), unreadable)
