"""Faces from frame to frame: a frame's landmarks place the crop of the next, and a finder is asked now and then.

A face is lost when
  1. the centre of its landmark box leaves the picture, or jumps by more than half its side from one frame to the next;
  2. the side of its landmark box changes by more than half from one frame to the next;
  3. its answer follows the crop rather than the picture: asked again with the crop shifted by 8 % of the box (every
     `check_every` frames, and where its confidence halves from one frame to the next), the landmarks move by more than
     half of the shift (`landmarks.no_face`);
  4. an older face's box overlaps it by half.
The finder is asked in a frame that has no face or has just lost one, in those that remember a lost one, and every
`find_every` frames for newcomers, who must pass rule 3. A newcomer in the place of a face that was lost at most
`remember` frames ago is that face. Where there is a quick first look, it is taken in each of these frames, and the
finder itself is asked where that sees nothing new: in the first frame, in one that has just lost a face, and in one of
THOROUGH of the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stylealign.face import geometry
from stylealign.face.geometry import face_size
from stylealign.predicting.candidates import Candidate
from stylealign.predicting.clock import Clock
from stylealign.predicting.finders import Finder, FoundFace
from stylealign.predicting.landmarks import box_in_frame, find_landmarks, no_face, roll_of, turned_upright
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.one_euro import Jitter, OneEuro
from stylealign.predicting.predicted_face import Face
from stylealign.predicting.sources import Photo

JUMP, GROWTH = 0.5, 1.5
THOROUGH = 4
SAME_FACE = 0.5  # intersection over union of two landmark boxes above which they are one face
KNOWN_FACE = 0.3  # the same, of a finder's box, which is less exact, and that of a face that is followed
SAME_PERSON = 0.2  # the same, of a newcomer's box and the last one of a lost face, which may have moved on since


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackConfig:
    """How faces are followed through a video."""

    check_every: int = 5
    """Frames between two checks that a followed face is still one."""
    find_every: int = 15
    """Frames between two looks for new faces, while all known ones are followed."""
    remember: int = 5
    """A face that was lost keeps its number if one is found in its place after at most so many frames; 0: never."""
    smooth: bool = False
    """One-Euro filter over each landmark; the unsmoothed ones are kept as `landmarks_raw`."""
    min_cutoff: float = 1.0
    """Of the filter, Hz: lower trembles less at rest."""
    beta: float = 20.0
    """Of the filter, Hz a face size a second: higher lags less in motion."""

    def __post_init__(self) -> None:
        if min(self.check_every, self.find_every) < 1 or min(self.remember, self.beta) < 0 or self.min_cutoff <= 0:
            raise ValueError(
                f"track.check_every {self.check_every}, find_every {self.find_every}, remember {self.remember}, "
                f"min_cutoff {self.min_cutoff}, beta {self.beta}: expected at least 1, at least 1, 0 or more, above 0, "
                "0 or more"
            )


class _Lost(NamedTuple):
    """A face that is not followed any more."""

    face: Face
    """as it was last seen"""
    frame: int
    """the first without it"""


class Tracker:
    """Follows the faces of one video; give it every frame, in order.

    Attributes:
        num_tracks: how many different faces there were so far; each is a track.
        num_lost: how often a face was lost.
        num_found_again: how often a lost face was remembered and found again.
        num_searches: how often the finder was asked.
        num_refused: how many of its finds are no faces, by the detector's answers.
        jitter, smooth_jitter: how much the network's and the smoothed landmarks tremble.
    """

    def __init__(
        self,
        network: LandmarkNetwork,
        finder: Finder,
        config: TrackConfig,
        *,
        refine: int = 1,
        flip: bool = False,
        batch_size: int = 16,
        most: int = 0,
        clock: Clock | None = None,
        first_look: Finder | None = None,
    ):
        """`refine`, `flip` and `batch_size` as of `find_landmarks`; `most` faces are followed (0: all).

        `clock` counts the seconds of the stage `finding`. `first_look`: a finder that is quicker and sees less.
        """
        self.network, self.finder, self.config, self.most = network, finder, config, most
        self.refine, self.flip, self.batch_size, self.clock = refine, flip, batch_size, clock or Clock()
        self.first_look = first_look
        self.num_tracks = self.num_lost = self.num_found_again = self.num_searches = self.num_refused = 0
        self.jitter, self.smooth_jitter = Jitter(), Jitter()
        self._frame = -1
        self._faces: dict[int, Face] = {}  # of the last frame, by track
        self._lost: dict[int, _Lost] = {}  # remembered, by track
        self._filters: dict[int, tuple[OneEuro, float]] = {}  # with the time of the last call

    def __call__(self, image: np.ndarray, time: float) -> list[Face]:
        """The faces of the next frame, (H, W, 3) uint8 RGB, longest followed first; without the video's name.

        `time`: seconds from the start, more than at the frame before.
        """
        self._frame += 1
        photo, before = Photo(image, np.eye(2, 3)), self._faces
        faces = self._follow(photo, before) if before else {}
        self.num_lost += len(before) - len(faces)
        self._lost |= {track: _Lost(face, self._frame) for track, face in before.items() if track not in faces}
        longest = self.config.remember or -1  # 0: not even one that is found anew in the frame that lost it
        for track in [t for t, lost in self._lost.items() if self._frame - lost.frame > longest]:
            self._forget(track)
        lost_now = len(faces) < len(before)
        if not faces or lost_now or self._lost or self._frame % self.config.find_every == 0:
            faces |= self._find_more(photo, list(faces.values()), lost_now)
        self._faces = {track: self._placed(track, face, time) for track, face in faces.items()}
        for track, face in self._faces.items():
            size = face_size(face.unsmoothed)
            self.jitter.add(track, self._frame, face.unsmoothed, size)
            self.smooth_jitter.add(track, self._frame, face.landmarks, size)
        return list(self._faces.values())

    def _follow(self, photo: Photo, faces: dict[int, Face]) -> dict[int, Face]:
        """Faces of the frame before, answered round where they were; those that are lost are left out."""
        height, width = photo.image.shape[:2]
        old = [geometry.landmark_box(face.unsmoothed) for face in faces.values()]
        asked = [candidate_round(self.network, photo, face) for face in faces.values()]
        followed: dict[int, Face] = {}
        boxes: list[np.ndarray] = []
        where: list[Candidate] = []
        for (track, candidate), before, face in zip(
            zip(faces, asked, strict=True), old, self._answer(asked, refine=0), strict=True
        ):
            box = geometry.landmark_box(face.landmarks)
            if not is_lost(before, box, width, height) and not _overlaps(box, boxes, SAME_FACE):
                followed[track] = face
                boxes.append(box)
                where.append(candidate)
        due = self._frame % self.config.check_every == 0
        doubted = [i for i, (track, face) in enumerate(followed.items()) if due or has_halved(faces[track], face)]
        if doubted:
            tracks = list(followed)
            asked = [where[i] for i in doubted]
            wrong = self._no_face(asked, [followed[tracks[i]] for i in doubted], answered=not self.flip)
            for i, no in zip(doubted, wrong, strict=True):
                if no:
                    del followed[tracks[i]]
        return followed

    def _find_more(self, photo: Photo, followed: list[Face], lost_now: bool) -> dict[int, Face]:
        """Faces that the finder finds beside those that are followed, largest first, by new or remembered tracks."""
        if self.most and len(followed) >= self.most:
            return {}
        thorough = self.first_look is None or lost_now or self.num_searches % THOROUGH == 0
        self.num_searches += 1
        boxes = [geometry.landmark_box(face.landmarks) for face in followed]
        found: list[FoundFace] = []
        with self.clock("finding"):
            for look in (self.first_look, self.finder if thorough else None):
                if look is not None and not found:
                    found = [face for face in look(photo.image) if not _overlaps(face.box, boxes, KNOWN_FACE)]
        found = sorted(found, key=lambda face: -float(face.box[2] - face.box[0]))
        if not found:
            return {}
        candidates = [Candidate(photo, face.box, face.by) for face in found]
        answers = self._answer(candidates, self.refine)
        new: list[Face] = []
        for face, no in zip(answers, self._no_face(candidates, answers), strict=True):
            box = geometry.landmark_box(face.landmarks)
            self.num_refused += bool(no)
            if no or _overlaps(box, boxes, SAME_FACE) or (self.most and len(boxes) >= self.most):
                continue
            new.append(face)
            boxes.append(box)
        return self._numbered(new)

    def _numbered(self, faces: Sequence[Face]) -> dict[int, Face]:
        """Newly found faces by track: those of lost faces whose places they overlap most, else new ones."""
        from scipy.optimize import linear_sum_assignment  # half a second to import, and only videos need it

        lost = list(self._lost)
        overlap = np.array([
            [
                geometry.intersection_over_union(
                    geometry.landmark_box(face.landmarks), geometry.landmark_box(self._lost[track].face.unsmoothed)
                )
                for track in lost
            ]
            for face in faces
        ]).reshape(len(faces), len(lost))  # fmt: skip
        pairs = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
        known = {int(i): lost[j] for i, j in pairs if overlap[i, j] > SAME_PERSON}
        numbered: dict[int, Face] = {}
        for i, face in enumerate(faces):
            track = known.get(i, self.num_tracks)
            if i in known:
                del self._lost[track]
                self.num_found_again += 1
            else:
                self.num_tracks += 1
            numbered[track] = face
        return numbered

    def _answer(self, candidates: list[Candidate], refine: int) -> list[Face]:
        return find_landmarks(self.network, candidates, refine, self.flip, self.batch_size)

    def _no_face(self, candidates: list[Candidate], faces: list[Face], answered: bool = False) -> np.ndarray:
        return no_face(self.network, candidates, [face.landmarks for face in faces], self.batch_size, answered)

    def _placed(self, track: int, face: Face, time: float) -> Face:
        """A face with its track, frame and time, smoothed where that is asked for."""
        face = replace(face, track=track, frame=self._frame, time=time)
        if not self.config.smooth:
            return face
        smoother, before = self._filters.get(track, (OneEuro(self.config.min_cutoff, self.config.beta), time))
        self._filters[track] = smoother, time
        smoothed = smoother(face.landmarks, time - before, face_size(face.landmarks))
        return replace(face, landmarks=smoothed, landmarks_raw=face.landmarks)

    def _forget(self, track: int) -> None:
        """A track has ended."""
        del self._lost[track]
        self.jitter.forget(track)
        self.smooth_jitter.forget(track)
        self._filters.pop(track, None)


def candidate_round(network: LandmarkNetwork, photo: Photo, face: Face) -> Candidate:
    """Where a face of the frame before is looked for, turned as it was there."""
    plain = Candidate(photo, geometry.landmark_box(face.unsmoothed), "track")
    candidate = turned_upright(plain, roll_of(network, photo, face.unsmoothed))
    return candidate._replace(box=box_in_frame(candidate, face.unsmoothed))


def _overlaps(box: np.ndarray, others: Sequence[np.ndarray], limit: float) -> bool:
    return any(geometry.intersection_over_union(box, other) > limit for other in others)


def has_halved(before: Face, now: Face) -> bool:
    """Whether the confidence in a face has halved since the frame before, as where it is cut away."""
    if before.confidence is None or now.confidence is None:
        return False
    return now.confidence < before.confidence / 2


def is_lost(old: np.ndarray, new: np.ndarray, width: int, height: int) -> bool:
    """Rules 1 and 2, for the landmark boxes of two frames in a row."""
    side, now = float((old[2:] - old[:2]).max()), float((new[2:] - new[:2]).max())
    centre, moved = (new[:2] + new[2:]) / 2, np.abs((new[:2] + new[2:]) - (old[:2] + old[2:])).max() / 2
    outside = not (0 <= centre[0] <= width - 1 and 0 <= centre[1] <= height - 1)
    return bool(outside or moved > JUMP * side or not 1 / GROWTH < now / max(side, 1e-9) < GROWTH)
