"""Which prediction is which face: by names where they are plain, by place where a picture holds several faces.

A second face of `group.jpg` is `group#2` in a list (its second line) and in what `predict` writes (the second face that
was found): the same notation, two numberings. So faces of one picture are paired by where they are. Reads no files and
knows no formula.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from stylealign.data.image import IMAGE_SUFFIXES
from stylealign.errors import UserError, counted, quoted
from stylealign.face.geometry import intersection_over_union, landmark_box
from stylealign.face.sample import FaceSample, Prediction
from stylealign.progress import say

SAME_PLACE = 0.2  # intersection over union of two landmark boxes above which a prediction may be that face's
# A name is doubted where its prediction overlaps the face so named by less than ELSEWHERE and another by more than
# SURELY: a detector that errs about a face answers somewhere in its crop, not on the whole of another face.
ELSEWHERE, SURELY = 0.05, 0.5
NAMED = 5  # names in a sentence; further ones are counted
_SUFFIXES = {*IMAGE_SUFFIXES, ".ppm", ".pgm", ".pts"}


def _bare(name: str) -> str:
    """The name without an image extension. Other dots belong to the name."""
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in _SUFFIXES else path.as_posix()


def _listed(names: Iterable[str]) -> str:
    """The first names, quoted, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return quoted(names[:NAMED]) + more


class _Finder:
    """Finds the faces a name may mean.

    A name with folders must agree with the face's id or with the end of its image's path, since LFPW has an
    image_0001 in its training and in its test folder; a bare file name may mean any face of that file name.
    """

    def __init__(self, samples: Sequence[FaceSample]) -> None:
        self.by_id: dict[str, list[int]] = defaultdict(list)
        self.by_stem: dict[str, set[int]] = defaultdict(set)
        self.known: list[tuple[str, str]] = []
        for i, sample in enumerate(samples):
            bare_id, bare_image = _bare(sample.id), _bare(sample.image.as_posix())
            self.known.append((f"/{bare_id}", f"/{bare_image.lstrip('/')}"))
            self.by_id[sample.id].append(i)
            self.by_stem[PurePosixPath(bare_id).name].add(i)
            self.by_stem[PurePosixPath(bare_image).name].add(i)

    def __call__(self, name: str) -> list[int]:
        name = name.replace("\\", "/").removeprefix("./")
        bare = _bare(name)
        for key in (name, bare):
            if key in self.by_id:
                return self.by_id[key]
        rooted = f"/{bare.lstrip('/')}"

        def agree(i: int) -> bool:
            return any(known.endswith(rooted) for known in self.known[i]) or rooted.endswith(self.known[i][0])

        return sorted(i for i in self.by_stem.get(PurePosixPath(bare).name, ()) if agree(i))


class _Row(NamedTuple):
    """A prediction about a face of a known picture."""

    prediction: Prediction
    named: int | None
    """the face that its name means; None where it names the picture only"""


def _by_picture(rows: Sequence[Prediction], known: Sequence[FaceSample], first: str) -> dict[Path, list[_Row]]:
    """The rows about each picture, in their order. Raises UserError for a row about no picture or about several."""
    find = _Finder(known)
    found: dict[Path, list[_Row]] = defaultdict(list)
    for row in rows:
        faces = find(row.id)
        named = faces[0] if len(faces) == 1 else None
        if not faces and (numbered := re.fullmatch(r"(.+)#\d+", row.id)):
            faces = find(numbered[1])
        if not faces:
            raise UserError(f"{row.where}: {row.id!r} is no face of this dataset; the first is {first!r}")
        pictures = {known[i].image for i in faces}
        if len(pictures) > 1:
            several = ", ".join(known[i].id for i in faces[:3])
            raise UserError(
                f"{row.where}: {row.id!r} fits {counted(len(faces), 'face')} ({several}); name the face by its id"
            )
        found[pictures.pop()].append(_Row(row, named))
    return found


def _box_of(sample: FaceSample) -> np.ndarray | None:
    """(4,) where a labelled or boxed face is in its picture; missing landmarks (of trust 0) are not looked at."""
    if sample.landmarks is None:
        return None if sample.box_xyxy is None else np.asarray(sample.box_xyxy, np.float64)
    there = slice(None) if sample.point_trust is None else sample.point_trust > 0
    points = np.asarray(sample.landmarks, np.float64)[there]
    return landmark_box(points) if len(points) else None


def _overlaps(rows: Sequence[_Row], faces: Sequence[FaceSample]) -> np.ndarray:
    """(rows, faces) intersection over union of landmark boxes; 0 where it is not known where a face is."""
    boxes = [_box_of(face) for face in faces]
    return np.array([
        [0.0 if box is None else intersection_over_union(landmark_box(row.prediction.landmarks), box) for box in boxes]
        for row in rows
    ])  # fmt: skip


def _paired(overlap: np.ndarray) -> dict[int, int]:
    """row -> face of (rows, faces) overlaps: those pairs that overlap most together, each by more than SAME_PLACE."""
    rows, faces = linear_sum_assignment(np.where(overlap > SAME_PLACE, overlap, 0.0), maximize=True)
    return {int(r): int(f) for r, f in zip(rows, faces, strict=True) if overlap[r, f] > SAME_PLACE}


class _Said:
    """What the matching did that nobody asked for, to be told once at the end."""

    def __init__(self) -> None:
        self.moved: list[str] = []
        self.doubted: list[str] = []
        self.unmatched: list[str] = []

    def tell(self, path: Path | str) -> None:
        if self.moved:
            say(
                f"{path}: {counted(len(self.moved), 'prediction')} with the name of another face of the same picture, "
                f"matched by place: {_listed(self.moved)}"
            )
        if self.doubted:
            say(
                f"warning: {path}: {counted(len(self.doubted), 'prediction')} on another face of the picture than the "
                f"one named, scored as named: {_listed(self.doubted)}"
            )
        if self.unmatched:
            say(
                f"{path}: {counted(len(self.unmatched), 'prediction')} on no face that the data set knows, not scored: "
                f"{_listed(self.unmatched)}"
            )


def _match_picture(rows: Sequence[_Row], faces: Sequence[FaceSample], scored: int, said: _Said) -> dict[int, int]:
    """row -> face of one picture, both by position here. The first `scored` faces are those that need a row."""
    by_name = {r: row.named for r, row in enumerate(rows) if row.named is not None}
    if len(by_name) == len(rows) == len(set(by_name.values())):  # each row names a face, and each another one
        if len(faces) == 1:
            return by_name
        overlap = _overlaps(rows, faces)
        doubted = [r for r, n in by_name.items() if overlap[r, n] < ELSEWHERE and overlap[r].max() > SURELY]
        if not doubted:
            return by_name
        by_place = _paired(overlap)
        moved = [r for r, n in by_name.items() if by_place.get(r) != n]
        covered = {n for n in by_name.values() if n < scored} <= set(by_place.values())
        if covered and all(r in by_place and overlap[r, by_place[r]] > overlap[r, by_name[r]] for r in moved):
            said.moved += [rows[r].prediction.id for r in moved]
            return by_place
        said.doubted += [rows[r].prediction.id for r in doubted]
        return by_name
    by_place = _paired(_overlaps(rows, faces))
    said.unmatched += [row.prediction.id for r, row in enumerate(rows) if r not in by_place]
    return by_place


def _refuse_twice(rows: Sequence[_Row], num_faces: int) -> None:
    """Raise UserError for a name that stands twice, unless all rows of a group photo bear its name alone."""
    if num_faces > 1 and len({row.prediction.id for row in rows}) == 1:
        return
    seen: dict[object, Prediction] = {}
    for row, named in rows:
        key = row.id if named is None else named
        if key in seen:
            raise UserError(f"{row.where}: {row.id!r} is predicted twice, first at {seen[key].where}")
        seen[key] = row


def match_predictions(
    rows: Sequence[Prediction],
    samples: Sequence[FaceSample],
    others: Sequence[FaceSample] = (),
    path: Path | str = "predictions",
) -> list[Prediction]:
    """Put predictions in the order of `samples`, one each, and tell the person what was not matched by its name.

    A row names its face by id ("helen/testset/1_2", with or without an image extension), by the end of the image's
    path, or by the image's file name where only one image has it; `#2` behind a picture's name is another face of it.
    Where a picture has one face and one row, or each row names another face by its id, names decide. All else is
    paired by place: those rows and faces whose landmark boxes overlap most together, each by more than SAME_PLACE. So
    are rows that name each other's faces.

    Args:
        rows: what `read_predictions` gave.
        samples: the N faces to be scored.
        others: faces of the same dataset outside the scored selection; rows about them are passed over.
        path: the file, for messages.

    Raises:
        UserError: a row about no known picture, a name that fits several pictures, two rows of one name, or a face
            without a row.
    """
    known = [*samples, *others]
    in_picture: dict[Path, list[int]] = defaultdict(list)
    for i, sample in enumerate(known):
        in_picture[sample.image].append(i)
    chosen: dict[int, Prediction] = {}
    said = _Said()
    for image, about in _by_picture(rows, known, samples[0].id).items():
        faces = in_picture[image]  # scored ones first, as in `known`
        _refuse_twice(about, len(faces))
        place = {face: i for i, face in enumerate(faces)}
        local = [row._replace(named=None if row.named is None else place[row.named]) for row in about]
        num_scored = sum(face < len(samples) for face in faces)
        for r, f in _match_picture(local, [known[i] for i in faces], num_scored, said).items():
            chosen[faces[f]] = about[r].prediction
    missing = [sample.id for i, sample in enumerate(samples) if i not in chosen]
    if missing:
        astray = f" ({len(said.unmatched)} lie on no face: {_listed(said.unmatched)})" if said.unmatched else ""
        raise UserError(
            f"{path}: no prediction for {len(missing)} of {counted(len(samples), 'face')}, first "
            f"{_listed(missing)}{astray}; every face must be predicted, or the numbers are not comparable"
        )
    said.tell(path)
    return [chosen[i] for i in range(len(samples))]
