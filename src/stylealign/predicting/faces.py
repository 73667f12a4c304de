"""Candidates -> the faces among them: answered the right way up, and those left out that are none.

find_landmarks  --right_way_up-->  turned, doubted or left out  --no_face-->  left out

A network that has learnt every roll turns faces by itself (landmarks.py) and is not asked which way up they are.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from stylealign.errors import UserError
from stylealign.predicting.candidates import Candidate, Orientation, turned
from stylealign.predicting.landmarks import find_landmarks, no_face, roll_of, turned_upright
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.predicted_face import Face
from stylealign.predicting.upright import right_way_up


class Found(NamedTuple):
    """What became of the candidates of a picture."""

    faces: list[Face]
    askew: tuple[int, ...] = ()
    """left out: degrees clockwise by which each of these would have to be turned to be upright"""
    unsure: tuple[float, ...] = ()
    """left out: confidences of faces that the detector is less sure of than was asked for"""
    none: int = 0
    """left out: how many finds are no faces, by the detector's answers"""


def is_sure(face: Face, least: float) -> bool:
    """Whether a face's confidence is at least that; also of a detector that says none."""
    return face.confidence is None or face.confidence >= least


def tells_way_up(network: LandmarkNetwork, check: bool) -> bool:
    """Whether `find_faces` finds out by the network which way up a face is."""
    return network.upright is not None or (check and bool(network.schema.flip_pairs))


def refuse_untrusted(least_confidence: float, network: LandmarkNetwork, flip: bool) -> None:
    """Raise UserError where a confidence is asked for that a detector does not give."""
    trust = network.trust
    if least_confidence and trust is None:
        raise UserError(
            "least confidence: this detector's card holds no trust that says how sure it is; expected one from "
            "`stylealign calibrate --what trust`, which writes the same detector with it"
        )
    if least_confidence and trust is not None and trust.basis == "mirror" and not flip:
        raise UserError("least confidence: this detector says how sure it is by the mirrored face alone: expected flip")


def _oriented(
    network: LandmarkNetwork,
    candidates: list[Candidate],
    faces: list[Face],
    turn: bool,
    refine: int,
    flip: bool,
    batch_size: int,
) -> tuple[list[Candidate], list[Face]]:
    """Faces with their orientation; with `turn`, those that are not upright are answered again, turned."""
    plain = find_landmarks(network, candidates, refine, False, batch_size) if flip else faces
    ways = right_way_up(network, candidates, plain, refine, batch_size)
    wrong = [i for i, degrees in enumerate(ways) if degrees and turn and candidates[i].orientation != "given"]
    asked, answered = list(candidates), list(faces)
    for i in wrong:
        asked[i] = turned(candidates[i], ways[i] or 0)
    for i, face in zip(
        wrong, find_landmarks(network, [asked[i] for i in wrong], refine, flip, batch_size), strict=True
    ):
        answered[i], ways[i] = face, 0
    for i, degrees in enumerate(ways):
        given = asked[i].orientation == "given"
        orientation: Orientation = "given" if given else "assumed" if degrees is None or degrees else "found"
        answered[i] = replace(answered[i], orientation=orientation, upright_at=degrees or None)
    return asked, answered


def find_faces(
    network: LandmarkNetwork,
    candidates: Sequence[Sequence[Candidate]],
    refine: int = 1,
    flip: bool = False,
    batch_size: int = 16,
    check: bool = True,
    turn: bool = False,
    least_confidence: float = 0.0,
    most: int = 0,
) -> list[Found]:
    """The faces of several pictures, given the candidates of each, answered in common batches; without pictures' names.

    Args:
        network: applies its own crop contract.
        candidates: of each picture.
        refine, flip, batch_size: as of `find_landmarks`.
        check: look twice at every answer. Candidates that a finder found are left out where the answer moves with the
            crop, or where a mark-up has mirror twins and the face is answered better upside down or on its side; what
            the user gave is never left out, only doubted (`Face.upright_at`). Of a network that has learnt every roll
            nothing of the second kind is asked.
        turn: with `check`, answer those that are not upright again, turned.
        least_confidence: leave out faces of a lower `Face.confidence`, given ones too.
        most: the largest so many faces of a picture, largest first; smaller ones are not said to be left out. 0: all.
    """
    asked = [candidate for each in candidates for candidate in each]
    faces = find_landmarks(network, asked, refine, flip, batch_size)
    if network.upright is not None:
        rolls = [roll_of(network, c.photo, face.landmarks) for c, face in zip(asked, faces, strict=True)]
        asked = [turned_upright(c, roll) for c, roll in zip(asked, rolls, strict=True)]
        faces = [f if f.orientation in (None, "given") else replace(f, orientation="found") for f in faces]
    elif check and asked and network.schema.flip_pairs:
        asked, faces = _oriented(network, asked, faces, turn, refine, flip, batch_size)
    found_ones = [i for i, c in enumerate(asked) if check and c.found_by not in ("given", "whole")]
    askew = {i: degrees for i in found_ones if (degrees := faces[i].upright_at)}
    doubtful = [i for i in found_ones if i not in askew]
    none: set[int] = set()
    if doubtful:
        wrong = no_face(network, [asked[i] for i in doubtful], [faces[i].landmarks for i in doubtful], batch_size)
        none = {i for i, is_wrong in zip(doubtful, wrong, strict=True) if is_wrong}
    found, first = [], 0
    for each in candidates:
        those = range(first, first + len(each))
        good = [i for i in those if i not in none]
        sure: list[Face] = []
        unsure, turned_away = [], []
        for i in sorted(good, key=lambda i: -asked[i].side) if most else good:
            if i in askew:
                turned_away.append(askew[i])
            elif is_sure(faces[i], least_confidence):
                sure.append(faces[i])
            else:
                unsure.append(faces[i].confidence or 0.0)
            if len(sure) == most > 0:
                break
        found.append(Found(sure, tuple(turned_away), tuple(unsure), len(those) - len(good)))
        first += len(each)
    return found
