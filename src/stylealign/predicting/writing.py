"""What `predict` leaves behind: predictions.jsonl while it works, other formats (data/formats/) from it at the end.

The folder is written as `<name>.partial` and renamed when it is complete. Knows neither networks nor finders.
"""

import errno
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TextIO

from stylealign.data.formats import predicted
from stylealign.data.formats.writing import name_below
from stylealign.data.predictions import PREDICTIONS_FILE
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.predicting.predicted_face import Face
from stylealign.progress import say


class Output:
    """The folder being written, and what has come of the work so far."""

    def __init__(self, folder: Path, schema: LandmarkSchema):
        self.folder, self.schema = folder, schema
        self.left_out: list[str] = []
        self.faces = self.pictures = self.frames = self.none = 0
        self.orientations: Counter[str] = Counter()
        self.videos: dict[str, dict[str, Any]] = {}
        self.overlays: dict[str, str] = {}
        # Closed by whoever made this.
        self.file: TextIO = open(folder / PREDICTIONS_FILE, "w", encoding="utf-8")  # noqa: SIM115

    def leave_out(self, sentence: str) -> None:
        self.left_out.append(sentence)
        say(f"left out: {sentence}")

    def add(self, faces: Iterable[Face]) -> None:
        for face in faces:
            self.file.write(face.to_line(self.schema))
            self.faces += 1
            if face.orientation:
                self.orientations[face.orientation] += 1
            if face.upright_at:
                self.orientations["doubted"] += 1
                say(
                    f"warning: {face.id}: the face seems to be upright only where the picture is turned by "
                    f"{face.upright_at} degrees, and was answered otherwise"
                )

    def path_of_drawn(self, name: str, suffix: str) -> Path:
        """Where the overlay of a picture or video goes: `a_landmarks.jpg` of a.png, where no a.jpg is beside it."""
        return self.folder / "drawn" / safe_name(self.overlays.get(name, name), f"_landmarks{suffix}")


def refuse_formats(formats: tuple[str, ...], schema: LandmarkSchema, moving: bool) -> None:
    """Raise UserError for a format that cannot hold these predictions, before any work is done."""
    for name in formats:
        entry = predicted()[name]
        if entry.num_points not in (None, schema.num_points):
            raise UserError(
                f"--formats {name}: the detector answers in {counted(schema.num_points, 'point')}, {name} holds "
                f"{entry.num_points}"
            )
        if moving and not entry.frames:
            able = " or ".join(other for other, known in predicted().items() if known.frames)
            raise UserError(f"--formats {name}: frames of a video have no picture files to name; expected {able}")


def read_faces(folder: Path) -> Iterator[Face]:
    """The faces of a folder's predictions.jsonl, one at a time."""
    with open(folder / PREDICTIONS_FILE, encoding="utf-8") as file:
        yield from map(Face.from_line, file)


def _samples(folder: Path) -> Iterator[FaceSample]:
    """The same as what writers of data sets take."""
    for face in read_faces(folder):
        yield FaceSample(id=face.id, image=Path(face.image), landmarks=face.landmarks, split="predicted")


def overlay_names(names: Sequence[str]) -> dict[str, str]:
    """Where the overlay of each picture or video goes below a folder, without what comes behind it; all of them differ.

    `a` of a.png where nothing else is called a; of paths from the root what lies below the folder common to them.
    """
    paths = {name: PurePath(name) for name in names}
    if far := [path.parent for path in paths.values() if path.is_absolute()]:
        with suppress(ValueError):  # on two drives
            common = os.path.commonpath(far)
            near = {name: path.relative_to(common) if path.is_absolute() else path for name, path in paths.items()}
            paths = near if len(set(near.values())) == len(near) else paths
    full = {name: name_below(path.as_posix()) for name, path in paths.items()}
    bare = {name: str(PurePosixPath(path).with_suffix("")) for name, path in full.items()}
    count = Counter(each for name in full for each in {full[name], bare[name]})
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in full:
        further = (f"{full[name]}~{number}" for number in itertools.count(2))
        choices = itertools.chain([bare[name]] * (count[bare[name]] == 1), [full[name]], further)
        found[name] = next(choice for choice in choices if choice not in taken)
        taken.add(found[name])
    return found


def safe_name(name: str, suffix: str) -> str:
    """A path below a folder for an output of this name: `a/b.jpg#2` -> `a/b.jpg#2.pts`."""
    return name_below(name) + suffix


_OF_ONE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOENT)  # a name that the disk refuses, a lost file


def why_not_written(error: UserError | OSError) -> str:
    """What stands in the way of one file while others can be written. An error that they would meet too, such as that
    of a full disk, is raised again."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno not in _OF_ONE:
        raise error
    return str(error.strerror)


def write_formats(folder: Path, formats: tuple[str, ...], schema: LandmarkSchema) -> list[str]:
    """Read predictions.jsonl of the folder again and write it in the formats asked for, beside it.

    Returns a sentence for each that cannot be written, of which nothing is left.
    """
    failed = []
    for name in dict.fromkeys(formats):
        before = set(folder.iterdir())
        try:
            predicted()[name].write(folder, _samples(folder), schema)
        except (UserError, OSError) as error:
            file = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            failed.append(f"--formats {name}: not written: {file}{why_not_written(error)}")
            for path in set(folder.iterdir()) - before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return failed
