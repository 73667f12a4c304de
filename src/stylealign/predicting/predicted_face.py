"""The one value of a predicted face: what the network answered, where it was asked, and in which picture or frame.

Everything from the network's answer on speaks it: tracking, overlays, predictions.jsonl, the Python API and the demo.
Coordinates are (x, y) px of the picture as stored (of the frame, in a video), pixel centres at integers.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from stylealign.evaluation.point_trust import face_confidence, point_confidence
from stylealign.face.covariance import scales
from stylealign.face.geometry import face_size
from stylealign.face.schema import LandmarkSchema


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Face:
    """A face and its landmarks."""

    landmarks: np.ndarray
    """(P, 2) float64; in a video smoothed, where that was asked for"""
    box: np.ndarray
    """(4,) landmark box x0, y0, x1, y1 that the last crop was cut round"""
    score: np.ndarray | None
    """(P,) in [0, 1]: heatmap peaks, or of models without heatmaps 2 ** (-d / 0.02), d the distance of the mirrored
    face's answer in face sizes; None where there are no heatmaps and no mirrored face was asked about"""
    covariance: np.ndarray | None = None
    """(P, 2, 2) px^2: how unsure the detector is of each landmark, calibrated (evaluation/point_trust.py); None where
    its card has no trust, or one that needs the mirrored face and that was not asked about"""
    found_by: str
    """given, whole (the picture is one face), the finder's name, or track (followed from the frame before)"""
    orientation: Literal["given", "found", "assumed"] | None = None
    """How it is known which way up the face is: the user said how the picture is to be turned; the finder or the
    detector's own answers told; or nothing did, and the picture is taken as it is held. None in a video"""
    upright_at: int | None = None
    """Doubt: degrees clockwise by which the face seems to have to be turned, and was not"""
    roll: float | None = None
    """Degrees clockwise by which the face is turned in the stored picture; None of a detector that has not learnt every
    roll"""
    image: str = ""
    """The picture or video by the name it was given under; empty for an array"""
    number: int = 0
    """Number within the picture or frame"""
    frame: int | None = None
    """Of a video, counted from 0"""
    time: float | None = None
    """Seconds from the start of a video"""
    track: int | None = None
    """The same person's number from frame to frame"""
    landmarks_raw: np.ndarray | None = None
    """(P, 2) before smoothing; None where nothing was smoothed"""

    @property
    def id(self) -> str:
        """The picture's name; `@frame` in a video; `#2` for the second face (in a video, the second track)."""
        frame = "" if self.frame is None else f"@{self.frame}"
        number = self.number if self.track is None else self.track
        return f"{self.image}{frame}" + (f"#{number + 1}" if number else "")

    @property
    def scale(self) -> np.ndarray | None:
        """(P,) px: the standard deviation of each landmark, the root of the mean of x's and y's variances."""
        return None if self.covariance is None else scales(self.covariance)

    @property
    def point_confidence(self) -> np.ndarray | None:
        """(P,) in [0, 1]: how likely each landmark lies within 5 % of the face's size of the truth, where the detector
        has a trust; else its `score`, which is not calibrated."""
        if self.covariance is None:
            return self.score
        found: np.ndarray = point_confidence(self.covariance, face_size(self.unsmoothed))
        return found

    @property
    def confidence(self) -> float | None:
        """The share of the landmarks that are expected within 5 % of the face's size of the truth, 0 to 1; None where
        the detector has no trust."""
        if self.covariance is None:
            return None
        return float(face_confidence(self.covariance, face_size(self.unsmoothed)))

    @property
    def unsmoothed(self) -> np.ndarray:
        """(P, 2) landmarks as the network answered."""
        return self.landmarks if self.landmarks_raw is None else self.landmarks_raw

    def to_line(self, schema: LandmarkSchema) -> str:
        """The face's line of predictions.jsonl (docs/formats.md): four decimals, no key where nothing is known."""
        record: dict[str, Any] = {"id": self.id, "image": self.image, "schema": schema.name, "face": self.number}
        for key in ("frame", "track"):
            if getattr(self, key) is not None:
                record[key] = getattr(self, key)
        if self.time is not None:
            record["time"] = round(self.time, 4)
        record["found_by"] = self.found_by
        for key in ("orientation", "upright_at"):
            if getattr(self, key) is not None:
                record[key] = getattr(self, key)
        if self.roll is not None:
            record["roll"] = round(self.roll, 1)
        record |= {"box_xyxy": _numbers(self.box), "landmarks": _numbers(self.landmarks)}
        if self.score is not None:
            record["score"] = _numbers(self.score)
        if self.covariance is not None:
            record["confidence"] = round(self.confidence or 0.0, 4)
            record["scale"] = _numbers(scales(self.covariance))
            record["covariance"] = _significant(self.covariance.reshape(-1, 4)[:, [0, 1, 3]])
        if self.landmarks_raw is not None:
            record["landmarks_raw"] = _numbers(self.landmarks_raw)
        return json.dumps(record, ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Face":
        """The face of a line that `to_line` wrote."""
        record = json.loads(line)
        return cls(
            landmarks=np.array(record["landmarks"]), box=np.array(record["box_xyxy"]),
            score=_array(record, "score"), covariance=_matrices(record), found_by=record["found_by"],
            image=record["image"],
            orientation=record.get("orientation"), upright_at=record.get("upright_at"), roll=record.get("roll"),
            number=record["face"],
            frame=record.get("frame"), time=record.get("time"), track=record.get("track"),
            landmarks_raw=_array(record, "landmarks_raw"),
        )  # fmt: skip


def _numbers(values: np.ndarray) -> list[Any]:
    numbers: list[Any] = np.asarray(values, np.float64).round(4).tolist()
    return numbers


def _significant(values: np.ndarray) -> list[list[float]]:
    """Seven digits each, however small: a covariance stays positive definite."""
    return [[float(f"{value:.7g}") for value in row] for row in values]


def _array(record: Mapping[str, Any], key: str) -> np.ndarray | None:
    return np.array(record[key]) if key in record else None


def _matrices(record: Mapping[str, Any]) -> np.ndarray | None:
    """(P, 2, 2) of P triples xx, xy, yy."""
    triples = _array(record, "covariance")
    return None if triples is None else triples[:, [0, 1, 1, 2]].reshape(-1, 2, 2)


def named(faces: Iterable[Face], image: str) -> list[Face]:
    """The faces of one picture or frame with its name, numbered in their order."""
    return [replace(face, image=image, number=i) for i, face in enumerate(faces)]


def largest(faces: Iterable[Face]) -> Face:
    """The face whose landmarks reach farthest."""
    return max(faces, key=lambda face: float(np.ptp(face.landmarks, axis=0).max()))
