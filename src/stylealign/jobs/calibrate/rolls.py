"""How far a detector's error grows when faces are turned in the picture, and how many it answers in a wrong turn.

The picture round each face is turned about the face's middle, the label and its box with it, and the face is answered
as `predict --boxes` does.
"""

from typing import Any, NamedTuple

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, warp
from stylealign.errors import counted
from stylealign.evaluation.metrics import denominators, nme_per_face, usual_denominator
from stylealign.evaluation.tables import Table
from stylealign.face import geometry
from stylealign.face.orientation import shown_picture
from stylealign.face.sample import FaceSample
from stylealign.jobs.calibrate.boxes import true_box
from stylealign.jobs.calibrate.config import Calibrate
from stylealign.predicting.candidates import Candidate
from stylealign.predicting.faces import find_faces
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.sources import Photo
from stylealign.progress import track

ROUND = 3.0  # side of the turned picture over the longer side of the face's box
LARGEST = 768  # px of that side
WRONG = 45.0  # degrees off, above which a face was answered in a wrong turn


class Turned(NamedTuple):
    """A face whose picture was turned."""

    image: np.ndarray
    """(S, S, 3) uint8"""
    landmarks: np.ndarray
    """(P, 2) px of it"""
    box: np.ndarray
    """(4,) px: the box of the landmarks, or a given one as large as before round its own middle"""
    size: float
    """Length in px of one px of the source"""


def turned_face(source: np.ndarray, sample: FaceSample, degrees: float, kind: str) -> Turned:
    """Turn a labelled face (H, W, 3) uint8 by degrees clockwise; `kind`: `CropConfig.box`."""
    box = true_box(sample, kind)
    size = int(np.clip(np.ceil(max(box[2:] - box[:2]) * ROUND), 16, LARGEST))
    middle = (size - 1) / 2
    turn = geometry.rotate_scale_affine((middle, middle), degrees, 1.0)
    moved = geometry.compose(turn, geometry.crop_affine(box, ROUND, size))
    assert sample.landmarks is not None
    landmarks, factor = geometry.apply(moved, sample.landmarks), geometry.scale_of(moved)
    if kind == "landmarks":
        box = geometry.landmark_box(landmarks)
    else:
        centre, half = geometry.apply(moved, (box[:2] + box[2:]) / 2), factor * (box[2:] - box[:2]) / 2
        box = np.concatenate([centre - half, centre + half])
    return Turned(warp(source, moved, size), landmarks, box, factor)


def measure_rolls(config: Calibrate, network: LandmarkNetwork, faces: FaceDataset) -> dict[str, Any]:
    """The content of calibration.json: NME (fractions) and the share of wrong turns at every roll."""
    boxed = all(faces[i].box_xyxy is not None for i in range(len(faces)))
    denominator = usual_denominator(network.schema, boxed)
    rolls = [roll if k % 2 == 0 else -roll for k, roll in enumerate(config.rolls)]
    turn = config.rotate == "auto"
    errors, off = np.empty((len(faces), len(rolls))), np.empty((len(faces), len(rolls)))
    for i in track(range(len(faces)), "turning faces"):
        sample, source, _ = shown_picture(faces[i], read_image(faces[i].image))
        turned = [turned_face(source, sample, roll, network.crop.box) for roll in rolls]
        asked = [[Candidate(Photo(t.image, np.eye(2, 3)), t.box, orientation="assumed")] for t in turned]
        answers = find_faces(network, asked, config.refine, False, config.batch_size, check=turn, turn=turn)
        found = np.stack([each.faces[0].landmarks for each in answers])
        truth = np.stack([t.landmarks for t in turned])
        label = np.asarray(sample.landmarks, np.float64)[None]
        boxes = None if sample.box_xyxy is None else sample.box_xyxy[None]
        length = denominators(label, boxes, network.schema, denominator, [sample.id])[0]  # as it is labelled
        errors[i] = nme_per_face(found, truth, np.array([t.size for t in turned]) * length)
        off[i] = [abs(geometry.roll_between(t.landmarks, each)) for t, each in zip(turned, found, strict=True)]
    means, medians, wrong = errors.mean(axis=0), np.median(errors, axis=0), (off > WRONG).mean(axis=0)
    return {
        "denominator": denominator,
        "refine": config.refine,
        "rotate": config.rotate,
        "learnt_every_roll": network.upright is not None,
        "rolls": [
            {"roll": roll, "nme": float(means[k]), "median": float(medians[k]), "wrong": float(wrong[k])}
            for k, roll in enumerate(rolls)
        ],
    }


def table_of_rolls(found: dict[str, Any]) -> Table:
    """The same for a person, in per cent."""
    rows: list[tuple[str, ...]] = [
        (f"{row['roll']:g}", f"{100 * row['nme']:.2f}", f"{row['nme'] / found['rolls'][0]['nme']:.2f}",
         f"{100 * row['median']:.2f}", f"{100 * row['wrong']:.1f}")
        for row in found["rolls"]
    ]  # fmt: skip
    header = ("roll", "NME %", "times the first", "median %", "wrong turns %")
    learnt = "has" if found["learnt_every_roll"] else "has not"
    note = (
        f"Degrees clockwise; {counted(found['faces'], 'face')} of {found['split']}, boxes turned with them, "
        f"{found['denominator']}; refine {found['refine']}, rotate {found['rotate']}; this detector {learnt} learnt "
        f"every roll. A wrong turn is more than {WRONG:g} degrees off."
    )
    return Table("NME by roll", header, rows, note)
