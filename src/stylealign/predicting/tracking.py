"""Faces from frame to frame: the landmarks of the last frame place the crop of the next; a finder is asked only now and then.

A face is lost when
  1. the centre of its landmark box leaves the picture, or jumps by more than half its side from one frame to the next;
  2. the side of its landmark box changes by more than half from one frame to the next;
  3. its answer follows the crop rather than the picture: a second look, at a crop shifted by 8 % of the box (every `check_every`
     frames), moves the landmarks by more than half of the shift (answering.hanging);
  4. an older face's box overlaps it by half.
The finder is asked in a frame that has no face or has just lost one, and every `find_every` frames for newcomers, who must pass rule 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stylealign.face import geometry
from stylealign.face.geometry import face_size
from stylealign.predicting.finders import Finder, overlap
from stylealign.predicting.landmarks import Spot, answer, hanging
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.one_euro import Jitter, OneEuro

JUMP, GROWTH = 0.5, 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackConfig:
    """How faces are followed through a video."""

    check_every: int = 5
    """Frames between two checks that a followed face is still one."""
    find_every: int = 15
    """Frames between two looks for new faces, while all known ones are followed."""
    smooth: bool = False
    """One-Euro filter over each landmark; the unsmoothed ones are kept as `landmarks_raw`."""
    min_cutoff: float = 1.0
    """Of the filter, Hz: lower trembles less at rest."""
    beta: float = 20.0
    """Of the filter, Hz a face size a second: higher lags less in motion."""

    def __post_init__(self) -> None:
        if min(self.check_every, self.find_every) < 1 or self.min_cutoff <= 0 or self.beta < 0:
            raise ValueError(
                f"track.check_every {self.check_every}, find_every {self.find_every}, min_cutoff {self.min_cutoff}, beta {self.beta}: "
                "expected at least 1, at least 1, above 0, at least 0"
            )


@dataclass
class Track:
    """One followed face."""

    number: int
    landmarks: np.ndarray
    """(P, 2) px, as the network answered"""
    shown: np.ndarray
    """the same, smoothed where asked for"""
    confidence: np.ndarray | None
    box: np.ndarray
    """(4,) of the crop it was answered in"""
    found_by: str
    filter: OneEuro | None = field(default=None, repr=False)


def _on_frame(image: np.ndarray, boxes: Sequence[np.ndarray]) -> list[Spot]:
    return [Spot(image, box, np.eye(2, 3)) for box in boxes]


class Tracker:
    """Follows the faces of one video; give it every frame, in order."""

    def __init__(
        self,
        network: LandmarkNetwork,
        finder: Finder,
        config: TrackConfig,
        fps: float,
        *,
        refine: int = 1,
        flip: bool = False,
        batch_size: int = 16,
        most: int = 0,
    ):
        self.network, self.finder, self.config, self.most = network, finder, config, most
        self.seconds, self.refine, self.flip, self.batch_size = 1 / fps, refine, flip, batch_size
        self.tracks: list[Track] = []
        self.frame = -1
        self.lost = self.finds = 0
        self.jitter, self.smooth_jitter = Jitter(), Jitter()
        self._next = 0

    def __call__(self, image: np.ndarray) -> list[Track]:
        """The faces of the next frame, (H, W, 3) uint8 RGB, longest followed first."""
        self.frame += 1
        before = len(self.tracks)
        if self.tracks:
            self._follow(image)
        self.lost += before - len(self.tracks)
        if not self.tracks or len(self.tracks) < before or self.frame % self.config.find_every == 0:
            self._look_for_more(image)
        for track in self.tracks:
            self.jitter.add(track.number, self.frame, track.landmarks, face_size(track.landmarks))
            self.smooth_jitter.add(track.number, self.frame, track.shown, face_size(track.landmarks))
        return list(self.tracks)

    def _follow(self, image: np.ndarray) -> None:
        """Answer every known face round where it was, and let go of those that are lost."""
        boxes = [geometry.landmark_box(t.landmarks) for t in self.tracks]
        answers = answer(self.network, _on_frame(image, boxes), 0, self.flip, self.batch_size)
        kept: list[Track] = []
        kept_boxes: list[np.ndarray] = []
        for track, old, found in zip(self.tracks, boxes, answers, strict=True):
            box = geometry.landmark_box(found.landmarks)
            if is_lost(old, box, image.shape[1], image.shape[0]) or any(overlap(box, b) > 0.5 for b in kept_boxes):
                self._end(track)
                continue
            track.landmarks, track.confidence, track.box, track.found_by = (
                found.landmarks,
                found.confidence,
                old,
                "track",
            )
            track.shown = self._shown(track)
            kept.append(track)
            kept_boxes.append(box)
        if kept and self.frame % self.config.check_every == 0:
            hang = hanging(self.network, _on_frame(image, kept_boxes), [t.landmarks for t in kept], self.batch_size)
            for track, hangs in zip(kept, hang, strict=True):
                if hangs:
                    self._end(track)
            kept = [t for t, hangs in zip(kept, hang, strict=True) if not hangs]
        self.tracks = kept

    def _end(self, track: Track) -> None:
        self.jitter.forget(track.number)
        self.smooth_jitter.forget(track.number)

    def _shown(self, track: Track) -> np.ndarray:
        if not self.config.smooth:
            return track.landmarks
        if track.filter is None:
            track.filter = OneEuro(self.config.min_cutoff, self.config.beta)
        return track.filter(track.landmarks, self.seconds, face_size(track.landmarks))

    def _look_for_more(self, image: np.ndarray) -> None:
        if self.most and len(self.tracks) >= self.most:
            return
        self.finds += 1
        known = [geometry.landmark_box(t.landmarks) for t in self.tracks]
        found = [f for f in self.finder(image) if not any(overlap(f.box, b) > 0.3 for b in known)]
        found = sorted(found, key=lambda f: -float(f.box[2] - f.box[0]))
        if not found:
            return
        answers = answer(
            self.network, _on_frame(image, [f.box for f in found]), self.refine, self.flip, self.batch_size
        )
        hang = hanging(
            self.network, _on_frame(image, [f.box for f in found]), [a.landmarks for a in answers], self.batch_size
        )
        for face, new, hangs in zip(found, answers, hang, strict=True):
            box = geometry.landmark_box(new.landmarks)
            if hangs or any(overlap(box, b) > 0.5 for b in known) or (self.most and len(self.tracks) >= self.most):
                continue
            track = Track(self._next, new.landmarks, new.landmarks, new.confidence, new.box, face.by)
            track.shown = self._shown(track)
            self._next += 1
            self.tracks.append(track)
            known.append(box)


def is_lost(old: np.ndarray, new: np.ndarray, width: int, height: int) -> bool:
    """Rules 1 and 2, for the landmark boxes of two frames in a row."""
    side, now = float((old[2:] - old[:2]).max()), float((new[2:] - new[:2]).max())
    centre, moved = (new[:2] + new[2:]) / 2, np.abs((new[:2] + new[2:]) - (old[:2] + old[2:])).max() / 2
    outside = not (0 <= centre[0] <= width - 1 and 0 <= centre[1] <= height - 1)
    return bool(outside or moved > JUMP * side or not 1 / GROWTH < now / max(side, 1e-9) < GROWTH)
