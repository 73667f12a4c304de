"""Candidates -> faces with landmarks: crops by the model's contract, batches, refinement, mirror averaging.

Knows the network's interface; no files, no finders.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.evaluation.point_trust import PointTrust, mirror_base
from stylealign.face import geometry
from stylealign.face.covariance import mirrored_covariance, moved_covariance
from stylealign.face.geometry import face_size, mirrored_back
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.answer import Answer
from stylealign.predicting.candidates import Candidate
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.predicted_face import Face
from stylealign.predicting.sources import Photo

# Share of the box by which the second crop of `movement_with_crop` is shifted. Detectors are trained on crops shifted
# that far.
SHIFT = 0.08
# Where landmarks move by more than this share of the crop's shift there is no face. Measured with three detectors
# (SAN, ResNet-18 and LAB of 64 px) on half of 300-W's val: at most 1 % of the faces move more, and 73 to 84 % of
# boxes in the corners of the same pictures do.
NO_FACE = 0.5
# A network that has learnt every roll is asked again, with the crop turned, about faces that are turned by more.
TURN = 20.0  # degrees
SLACK = 10.0  # degrees by which a face may lean more than that in a crop before it is cut once more
MOST_TURNS = 2
# Misfit of an answer to the mean shape, in face sizes, above which it is asked for in the other quarter turns. Of the
# faces of 300-W's val, turned or not, 1 % of the right answers lie above 0.10.
MISSHAPEN = 0.15
HALF = 0.02  # mirror disagreement, in face sizes, at which a landmark's confidence is one half


def usable_box(box: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The (4,) box of found landmarks, or the first box where it is three times smaller or larger: the face is lost."""
    ratio = (box[2:] - box[:2]).max() / (first[2:] - first[:2]).max()
    return box if 1 / 3 < ratio < 3 else first


def cut_crops(network: LandmarkNetwork, candidates: Sequence[Candidate]) -> tuple[np.ndarray, list[np.ndarray]]:
    """(B, 3, S, S) float32 RGB crops in [-1, 1] as the network takes them, and crop_from_source (2, 3) of each."""
    size, scale = network.crop.size, network.crop.scale
    affines = [candidate.crop_from_source(scale, size) for candidate in candidates]
    pixels = np.stack([warp(c.photo.image, affine, size) for c, affine in zip(candidates, affines, strict=True)])
    return np.ascontiguousarray((pixels.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)), affines


def averaged(
    plain: Answer, mirrored: Answer, size: int, schema: LandmarkSchema, trust: PointTrust | None, lean: float = 0.0
) -> Answer:
    """Answers on crops of `size` px and on their mirror images -> their mean, as sure as both are together.

    Where both err alike their mean errs as either does, so the covariance is the mean of theirs. `lean` is the
    network's.
    """
    order = schema.flip_permutation
    back = mirrored_back(mirrored.landmarks, size, order, lean)
    mean = (plain.landmarks + back) / 2
    covariance = None
    if plain.covariance is not None and mirrored.covariance is not None:
        covariance = (plain.covariance + mirrored_covariance(mirrored.covariance, order)) / 2
    elif trust is not None and trust.basis == "mirror":
        covariance = trust.calibrated(mirror_base(plain.landmarks, back, size))
    if plain.confidence is not None and mirrored.confidence is not None:
        return Answer(mean, (plain.confidence + mirrored.confidence[:, order]) / 2, covariance)
    apart = np.linalg.norm(plain.landmarks - back, axis=2) / np.array([face_size(p) for p in mean])[:, None]
    return Answer(mean, 2.0 ** (-apart / HALF), covariance)


def _answer_crops(network: LandmarkNetwork, crops: np.ndarray, flip: bool) -> Answer:
    """The answer to crops, `flip`: averaged with that to their mirror images."""
    plain = network.answer(crops)
    if not flip:
        return plain
    mirrored = network.answer(np.ascontiguousarray(crops[..., ::-1]))
    return averaged(plain, mirrored, crops.shape[-1], network.schema, network.trust, network.lean)


class Found(NamedTuple):
    """An answer about one candidate, px of the stored picture."""

    landmarks: np.ndarray
    """(P, 2)"""
    confidence: np.ndarray | None
    """(P,)"""
    covariance: np.ndarray | None
    """(P, 2, 2) px^2"""


def answer_once(
    network: LandmarkNetwork, candidates: Sequence[Candidate], flip: bool = False, batch_size: int = 16
) -> list[Found]:
    """One answer to each candidate."""
    found: list[Found] = []
    for first in range(0, len(candidates), batch_size):
        crops, affines = cut_crops(network, candidates[first : first + batch_size])
        answer = _answer_crops(network, crops, flip)
        for i, affine in enumerate(affines):
            home = geometry.invert(affine)
            confidence = None if answer.confidence is None else answer.confidence[i]
            covariance = None if answer.covariance is None else moved_covariance(answer.covariance[i], home)
            found.append(Found(geometry.apply(home, answer.landmarks[i]), confidence, covariance))
    return found


def box_in_frame(candidate: Candidate, landmarks: np.ndarray) -> np.ndarray:
    """(4,) the box of landmarks (P, 2) px of the stored picture, in px of the candidate's frame."""
    return geometry.landmark_box(geometry.apply(candidate.frame_from_source, landmarks))


def roll_of(network: LandmarkNetwork, photo: Photo, landmarks: np.ndarray) -> float | None:
    """Degrees clockwise by which a face is turned in the view, by its landmarks (P, 2) px of the stored picture; None
    for a network that has not learnt every roll."""
    if network.upright is None:
        return None
    return geometry.roll_between(network.upright, geometry.apply(photo.view_from_source, landmarks))


def _stored_roll(photo: Photo, roll: float | None) -> float | None:
    """The same in the stored picture: degrees clockwise between its upward direction and the face's."""
    if roll is None:
        return None
    up = np.array([np.sin(np.radians(roll)), -np.cos(np.radians(roll))])
    x, y = np.linalg.inv(photo.view_from_source[:, :2]) @ up
    return float(np.degrees(np.arctan2(x, -y)))


def turned_upright(candidate: Candidate, roll: float | None) -> Candidate:
    """The candidate in the frame in which a face of that roll is upright (a small one is left), its box as large, round
    the same place."""
    turned = candidate._replace(roll=roll if roll is not None and abs(roll) > TURN else 0.0)
    if turned.roll == candidate.roll:
        return candidate
    moved = geometry.compose(turned.frame_from_source, geometry.invert(candidate.frame_from_source))
    first, last = candidate.box[:2], candidate.box[2:]
    centre, half = geometry.apply(moved, (first + last) / 2), (last - first) / 2
    return turned._replace(box=np.concatenate([centre - half, centre + half]))


def _again(network: LandmarkNetwork, first: Candidate, landmarks: np.ndarray) -> Candidate:
    """Where to cut next: round the landmarks found, and turned as they are."""
    turned = turned_upright(first, roll_of(network, first.photo, landmarks))
    if network.crop.box != "landmarks":
        return turned
    return turned._replace(box=usable_box(box_in_frame(turned, landmarks), first.box))


def find_landmarks(
    network: LandmarkNetwork,
    candidates: Sequence[Candidate],
    refine: int = 1,
    flip: bool = False,
    batch_size: int = 16,
) -> list[Face]:
    """The face of every candidate, without a picture's name.

    Args:
        network: applies its own crop contract.
        candidates: of any number of pictures; they are batched together.
        refine: rounds of cutting again round the landmarks found. A detector trained on another kind of box than its
            landmarks' (crop.box `given`) is never refined: the box of its answer is not the kind it knows. One that has
            learnt every roll is asked again about faces that lean by more than TURN, turned upright, in these rounds
            or, where none is left, in further ones.
        flip: average the last answer with the mirror image's.
        batch_size: crops at a time.

    Raises:
        UserError: mirror averaging of a mark-up that knows no mirror twins.
    """
    if flip and not network.schema.flip_pairs:
        raise UserError(f"schema {network.schema.name} has no flip_pairs: answers on mirrored faces cannot be averaged")
    asked = [c._replace(box=np.asarray(c.box, dtype=np.float64)) for c in candidates]
    rounds = refine if network.crop.box == "landmarks" else 0
    for number in range(rounds):
        found = answer_once(network, asked, False, batch_size)
        if number == 0:
            _ask_misshapen(network, asked, found, False, batch_size)
        asked = [_again(network, first, each.landmarks) for first, each in zip(candidates, found, strict=True)]
    found = answer_once(network, asked, flip, batch_size)
    if rounds == 0:
        _ask_misshapen(network, asked, found, flip, batch_size)
    if network.upright is not None:
        for _ in range(MOST_TURNS):
            if not _turn_the_leaning(network, asked, found, flip, batch_size):
                break
    return [
        Face(
            landmarks=each.landmarks,
            box=_stored_box(candidate),
            score=each.confidence,
            covariance=each.covariance,
            found_by=candidate.found_by,
            orientation=candidate.orientation,
            roll=_stored_roll(candidate.photo, roll_of(network, candidate.photo, each.landmarks)),
        )
        for candidate, each in zip(asked, found, strict=True)
    ]


def _ask_misshapen(
    network: LandmarkNetwork, asked: list[Candidate], found: list[Found], flip: bool, batch_size: int
) -> None:
    """Ask a network that has learnt every roll again where its answer is no face's shape, in the other quarter turns,
    and keep the answer that is most of one. Both lists are changed in place."""
    upright = network.upright
    if upright is None:
        return
    misfits = [geometry.misfit(upright, each.landmarks) for each in found]
    some = [i for i, value in enumerate(misfits) if value > MISSHAPEN]
    others = [(i, turned_upright(asked[i], asked[i].roll + turn)) for i in some for turn in (90, 180, -90)]
    answers = answer_once(network, [candidate for _, candidate in others], flip, batch_size)
    for (i, candidate), answer in zip(others, answers, strict=True):
        value = geometry.misfit(upright, answer.landmarks)
        if value < misfits[i]:
            asked[i], found[i], misfits[i] = candidate, answer, value


def _turn_the_leaning(
    network: LandmarkNetwork, asked: list[Candidate], found: list[Found], flip: bool, batch_size: int
) -> int:
    """Ask again about faces that lean in their crops, turned upright, and keep what leans less there. Both lists are
    changed in place; how many faces were."""

    def leaning(candidate: Candidate, answer: Found) -> float:
        roll = roll_of(network, candidate.photo, answer.landmarks)
        return 0.0 if roll is None else geometry.angle_between(roll, candidate.roll)

    some = [i for i, pair in enumerate(zip(asked, found, strict=True)) if leaning(*pair) > TURN + SLACK]
    again = [_again(network, asked[i], found[i].landmarks) for i in some]
    changed = 0
    for i, candidate, answer in zip(some, again, answer_once(network, again, flip, batch_size), strict=True):
        if leaning(candidate, answer) < leaning(asked[i], found[i]):
            asked[i], found[i] = candidate, answer
            changed += 1
    return changed


def _stored_box(candidate: Candidate) -> np.ndarray:
    """(4,) the candidate's box in px of the stored picture; of one that is turned, the box round it."""
    return geometry.box_round(geometry.invert(candidate.frame_from_source), candidate.box)


def movement_with_crop(
    network: LandmarkNetwork,
    candidates: Sequence[Candidate],
    landmarks: Sequence[np.ndarray],
    batch_size: int = 16,
    answered: bool = False,
) -> np.ndarray:
    """(n,) how far landmarks move along with their crop: 0 not at all, as on a face; 1 as far as the crop does.

    A network always answers with a face; where there is none, its answer depends on where it was asked. It is asked
    twice, round the box of `landmarks` (px of the stored pictures) and round the same box shifted by SHIFT of its
    side to the right and down; the candidates' own boxes are not used. `answered`: the landmarks are its answers to
    these very candidates, whose boxes then serve, so that only the shifted ones are asked about.
    """
    boxes = [c.box if answered else box_in_frame(c, points) for c, points in zip(candidates, landmarks, strict=True)]
    shifts = [SHIFT * (b[2:] - b[:2]).max() for b in boxes]
    there = [c._replace(box=b) for c, b in zip(candidates, boxes, strict=True)]
    shifted = [c._replace(box=c.box + shift) for c, shift in zip(there, shifts, strict=True)]
    found = [
        each.landmarks for each in answer_once(network, [*([] if answered else there), *shifted], False, batch_size)
    ]
    n = len(there)
    pairs = zip(there, landmarks if answered else found[:n], found[-n:] if n else [], shifts, strict=True)
    return np.array([
        (geometry.apply(c.frame_from_source, moved) - geometry.apply(c.frame_from_source, still)).mean() / shift
        for c, still, moved, shift in pairs
    ])  # fmt: skip


def no_face(
    network: LandmarkNetwork,
    candidates: Sequence[Candidate],
    landmarks: Sequence[np.ndarray],
    batch_size: int = 16,
    answered: bool = False,
) -> np.ndarray:
    """(n,) bool: whether each answer moves with its crop by more than NO_FACE, so that there is no face. Arguments as
    of `movement_with_crop`."""
    return movement_with_crop(network, candidates, landmarks, batch_size, answered) > NO_FACE
