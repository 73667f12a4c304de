"""The values everything speaks: an annotated face, where it came from, and an answer. Frozen, with read-only arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stylealign.face.geometry import compose

Mode = Literal["transfer", "interpolate", "prior", "arm"]
CropFromSource = tuple[tuple[float, float, float], tuple[float, float, float]]


def _frozen(array: object, dtype: type, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    values: np.ndarray = np.array(array, dtype=dtype)  # a copy: the caller's array is never touched
    if values.ndim != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, values.shape, strict=True)
    ):
        raise ValueError(f"{what} has shape {values.shape}, expected {tuple('P' if s is None else s for s in shape)}")
    if not np.isfinite(values).all():
        missing = ""
        if what.endswith(": landmarks") and np.isnan(values).any():
            missing = "; a point that nobody placed is any number with visible False and point_trust 0"
        raise ValueError(f"{what} holds a value that is not a finite number{missing}")
    values.setflags(write=False)
    return values


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How a synthetic face was made."""

    content_id: str
    """The real face whose label it has, through however many data sets made one of another: `FaceSample.origin`."""
    style_id: str | None
    """The face whose style it has; None for a sample of the prior, and where no arm that looks at another face changed
    it; 'a + b' for an interpolation."""
    translator: str
    """Hash of the translator's weights; the names of style arms where those made it (mode `arm`), `none` where they
    left the face as it was."""
    seed: int
    mode: Mode = "transfer"
    crop_from_source: CropFromSource | None = None
    """The affine from the pixels of that face's picture to this image's; None where there is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSample:
    """One face. Coordinates are (x, y) pixels of the source image, pixel centres at integers."""

    id: str
    image: Path
    landmarks: np.ndarray | None = None
    """(P, 2) float32, or None for an unlabelled face."""
    box_xyxy: np.ndarray | None = None
    """(4,) float32: x0, y0, x1, y1. None: the whole image."""
    visible: np.ndarray | None = None
    """(P,) bool, or None where the data set does not say."""
    attributes: Mapping[str, bool] = field(default_factory=dict)
    """Named subsets: WFLW's pose, expression, illumination, make_up, occlusion, blur; label budgets; one's own."""
    split: str = "train"
    provenance: Provenance | None = None
    """None for a real face."""
    trust: float | None = None
    """How far the landmarks are to be believed, in [0, 1]: the face's weight in training. None: fully, as if 1."""
    point_trust: np.ndarray | None = None
    """(P,) float32 in [0, 1], on top of `trust`; a landmark of trust 0 counts as not labelled. None: all 1.
    One that is hidden besides is missing: nobody placed it, and its numbers mean nothing."""
    orientation: int = 1
    """EXIF's number, 1 to 8, of how the picture was held when it was labelled: crops are cut as it was seen then.
    Coordinates are of the stored pixels all the same."""

    def __post_init__(self) -> None:
        freeze = object.__setattr__
        for name, said in (("id", self.id), ("split", self.split)):
            if not isinstance(said, str):
                raise ValueError(f"{name} is {said!r}, expected text")
        if self.orientation not in range(1, 9):
            raise ValueError(f"{self.id}: orientation is {self.orientation!r}, expected 1 to 8")
        freeze(self, "image", Path(self.image))
        if self.landmarks is not None:
            freeze(self, "landmarks", _frozen(self.landmarks, np.float32, (None, 2), f"{self.id}: landmarks"))
        if self.box_xyxy is not None:
            freeze(self, "box_xyxy", _frozen(self.box_xyxy, np.float32, (4,), f"{self.id}: box"))
        if self.visible is not None:
            points = None if self.landmarks is None else len(self.landmarks)
            freeze(self, "visible", _frozen(self.visible, np.bool_, (points,), f"{self.id}: visible"))
        if self.trust is not None and not 0 <= self.trust <= 1:
            raise ValueError(f"{self.id}: trust is {self.trust}, expected 0 to 1")
        if self.point_trust is not None:
            points = None if self.landmarks is None else len(self.landmarks)
            freeze(self, "point_trust", _frozen(self.point_trust, np.float32, (points,), f"{self.id}: point_trust"))
            if self.point_trust.min(initial=1) < 0 or self.point_trust.max(initial=0) > 1:
                raise ValueError(f"{self.id}: point_trust holds a value outside of 0 to 1")

    @property
    def origin(self) -> str:
        """The id of the real face whose label it has: its own, unless it was made from another."""
        return self.id if self.provenance is None else self.provenance.content_id

    def from_origin(self, moved: np.ndarray) -> CropFromSource | None:
        """What `moved` (2, 3), an affine of this picture's pixels, is for the pixels of the origin's picture; None
        where it is not known how that became this one."""
        if self.provenance is not None:
            if self.provenance.crop_from_source is None:
                return None
            moved = compose(moved, np.array(self.provenance.crop_from_source))
        return tuple(tuple(float(v) for v in row) for row in moved)  # type: ignore[return-value]

    @property
    def labelled_points(self) -> np.ndarray:
        """(P,) bool of a labelled face: the landmarks that count as labels, which those of trust 0 do not.

        ValueError of a face without."""
        if self.landmarks is None:
            raise ValueError(f"face '{self.id}' has no landmarks")
        return np.ones(len(self.landmarks), bool) if self.point_trust is None else self.point_trust > 0

    @property
    def labels(self) -> np.ndarray:
        """(P, 2) float32 of a labelled face: its landmarks, NaN where one does not count as a label.

        ValueError of a face without."""
        labels = np.array(self.landmarks, dtype=np.float32)
        labels[~self.labelled_points] = np.nan
        return labels

    @property
    def missing_points(self) -> np.ndarray:
        """(P,) bool of a labelled face: the landmarks that nobody placed, which are hidden and of trust 0."""
        return ~self.labelled_points & (False if self.visible is None else ~self.visible)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for values in state.values():
            if isinstance(values, np.ndarray):
                values.setflags(write=False)  # which pickle forgets

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FaceSample):
            return NotImplemented
        same = all(
            getattr(self, name) == getattr(other, name)
            for name in ("id", "image", "split", "provenance", "trust", "orientation")
        )
        arrays = all(
            (a is None) == (b is None) and (a is None or np.array_equal(a, b))
            for a, b in (
                (getattr(self, n), getattr(other, n)) for n in ("landmarks", "box_xyxy", "visible", "point_trust")
            )
        )
        return same and arrays and dict(self.attributes) == dict(other.attributes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """A face's landmarks as predicted, in px of the source image: to be written to a file, or as a file holds them."""

    id: str
    """The face's id; read from a file, what that calls the face: its id, or its image's path."""
    landmarks: np.ndarray
    """(P, 2) (x, y), pixel centres at integers, counted from 0."""
    score: np.ndarray | None = None
    """(P,) in [0, 1] where the detector gives one."""
    covariance: np.ndarray | None = None
    """(P, 2, 2) px^2: how unsure the detector is of each landmark, where it says so."""
    box_xyxy: np.ndarray | None = None
    """(4,) that the face was cut round, where that is known."""
    schema: str | None = None
    """Name of the mark-up, where a file says it."""
    where: str = ""
    """file:line it was read from, for messages."""
