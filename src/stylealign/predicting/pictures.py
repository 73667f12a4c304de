"""Pictures -> their faces, in order: decoded and searched ahead in threads, answered in batches across pictures.

    sources --find_in_pictures--> pictures with candidates --answer_pictures--> pictures with faces

Holds at most a group of pictures and a few ahead, however many there are. Writes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from stylealign.data.image import image_size
from stylealign.data.threads import ahead
from stylealign.errors import UserError, counted
from stylealign.predicting.candidates import Candidate, Search, candidates_in
from stylealign.predicting.clock import Clock
from stylealign.predicting.faces import Found, find_faces
from stylealign.predicting.given_boxes import GivenBoxes
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.predicted_face import Face, named
from stylealign.predicting.sources import Photo, Source, read_photo

THREADS = 2  # pictures decoded side by side
NAMED = 5  # confidences in a sentence
GROUP_PIXELS = 64_000_000  # of pictures that wait: as many before the network, in its group, and behind it


class Picture(NamedTuple):
    """A picture on its way from a file to landmarks."""

    source: Source
    photo: Photo | None = None
    """decoded, in the view that most of its candidates are in; None where there is nothing to do in it"""
    candidates: tuple[Candidate, ...] = ()
    faces: tuple[Face, ...] = ()
    """of those candidates that the network was asked about and found to be faces"""
    none: int = 0
    """of those candidates, how many are no faces by the detector's answers"""
    problem: str | None = None
    """why there are no faces, or not all, a sentence with the file's name"""
    undrawn: str | None = None
    """why there is no overlay of them, such a sentence"""

    @property
    def num_pixels(self) -> float:
        """Pixels that are held in memory."""
        return self.photo.image.size / 3 if self.photo else 0.0


def find_in_picture(source: Source, search: Search, boxes: GivenBoxes | None, clock: Clock) -> Picture:
    """A picture with its candidates; a UserError about it, or an unreadable file, becomes its `problem`."""
    try:
        with clock("decoding"):
            photo = read_photo(source.path)
        with clock("finding"):
            given = None if boxes is None else boxes.of(source.name)
            if given == []:
                return Picture(source, problem=f"{source.name}: no face: its list of boxes is empty")
            candidates = candidates_in(photo, search, given, source.name)
    except UserError as error:
        return Picture(source, problem=str(error))
    if not candidates:
        where = "the finder saw none (--box or --whole-image says where it is)"
        return Picture(source, problem=f"{source.name}: no face found: {where}")
    views = Counter(candidate.photo.view_from_source.tobytes() for candidate in candidates)
    view = np.frombuffer(views.most_common(1)[0][0]).reshape(2, 3)
    return Picture(source, photo._replace(view_from_source=view), tuple(candidates))


def _num_pixels(source: Source) -> float:
    """Pixels of a picture, by its header; 0 where that cannot be read."""
    try:
        width, height = image_size(source.path)
    except (UserError, OSError):
        return 0.0
    return float(width * height)


def find_in_pictures(
    sources: Iterable[Source], search: Search, boxes: GivenBoxes | None, clock: Clock, batch_size: int = 16
) -> Iterator[Picture]:
    """Every picture with its candidates, in order, computed ahead in threads, as far as the network's batches take.

    So finding goes on while the network works, and the network need not wait for it afterwards.
    """

    def find(source: Source) -> Picture:
        return find_in_picture(source, search, boxes, clock)

    return ahead(find, sources, THREADS, batch_size + THREADS, _num_pixels, GROUP_PIXELS)


def answer_pictures(
    pictures: Iterable[Picture],
    network: LandmarkNetwork,
    clock: Clock,
    refine: int = 1,
    flip: bool = False,
    batch_size: int = 16,
    check: bool = True,
    turn: bool = False,
    least_confidence: float = 0.0,
    most: int = 0,
) -> Iterator[Picture]:
    """Pictures with candidates -> the same with faces, in order; the last arguments are those of `find_faces`."""
    group: list[Picture] = []
    for picture in pictures:
        group.append(picture)
        candidates = sum(len(each.candidates) for each in group)
        pixels = sum(each.num_pixels for each in group)
        if candidates >= batch_size or pixels >= GROUP_PIXELS or len(group) >= 4 * batch_size:
            yield from _answer_group(
                group, network, clock, refine, flip, batch_size, check, turn, least_confidence, most
            )
            group = []
    yield from _answer_group(group, network, clock, refine, flip, batch_size, check, turn, least_confidence, most)


def _answer_group(
    group: list[Picture],
    network: LandmarkNetwork,
    clock: Clock,
    refine: int,
    flip: bool,
    batch_size: int,
    check: bool,
    turn: bool,
    least_confidence: float,
    most: int,
) -> list[Picture]:
    """The pictures with faces; one that cannot be answered gets a `problem`, and the others are answered without it."""
    asked = [picture.candidates for picture in group]
    try:
        with clock("network"):
            found = find_faces(network, asked, refine, flip, batch_size, check, turn, least_confidence, most)
    except UserError as error:
        if len(group) == 1:
            return [group[0]._replace(problem=f"{group[0].source.name}: {error}")]
        rest = network, clock, refine, flip, batch_size, check, turn, least_confidence, most
        return [answered for picture in group for answered in _answer_group([picture], *rest)]
    answered = []
    for picture, each in zip(group, found, strict=True):
        name = picture.source.name
        problem = _left_out(name, each) if picture.candidates else picture.problem
        answered.append(picture._replace(faces=tuple(named(each.faces, name)), none=each.none, problem=problem))
    return answered


def _left_out(name: str, found: Found) -> str | None:
    """What became of candidates that is to be said: all are no faces, or some are faces that do not stand upright, or
    that the detector is not sure enough of."""
    if found.askew:
        turns = " and ".join(f"{degrees}" for degrees in sorted(set(found.askew)))
        count = counted(len(found.askew), "face stands", "faces stand")
        return (
            f"{name}: by the detector's answers {count} upright only where the picture is turned by {turns} degrees "
            "(--rotate auto turns it, --no-check keeps the answers as they are)"
        )
    if found.unsure:
        count = counted(len(found.unsure), "face has", "faces have")
        said = " and ".join(f"{confidence:.2f}" for confidence in found.unsure[:NAMED])
        return f"{name}: {count} a confidence of {said}, below --least-confidence"
    if not found.faces:
        what = (
            "what the finder saw is none" if found.none == 1 else f"none of the {found.none} that the finder saw is one"
        )
        return f"{name}: no face found: {what} to the detector (--no-check keeps it)"
    return None
