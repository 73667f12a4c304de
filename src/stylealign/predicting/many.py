"""Many pictures -> faces, in order: decoding and finding ahead in threads, the network on batches of faces of several pictures.

Holds at most a group of pictures and a few ahead, however many there are. Writes nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from stylealign.data.image import image_size
from stylealign.errors import UserError
from stylealign.predicting.landmarks import Answer, answer, hanging
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.overlap import Clock, ahead
from stylealign.predicting.sources import Photo, Source, read_photo
from stylealign.predicting.spots import Places

THREADS = 2  # pictures decoded side by side
GROUP_PIXELS = 64_000_000  # of pictures that wait at one place: before the network, in its group, behind it


def answer_places(
    network: LandmarkNetwork, places: Sequence[Places], refine: int, flip: bool, batch_size: int, check: bool = True
) -> list[tuple[Places, list[Answer]]]:
    """Answer the spots of several pictures in common batches; with `check`, found spots whose answer hangs on the crop are dropped.

    Spots that the user gave are never dropped.
    """
    spots = [spot for place in places for spot in place.spots]
    answers = answer(network, spots, refine, flip, batch_size)
    found = [i for i, by in enumerate(by for place in places for by in place.found_by) if by not in ("given", "whole")]
    dropped: set[int] = set()
    if check and found:
        hang = hanging(network, [spots[i] for i in found], [answers[i].landmarks for i in found], batch_size)
        dropped = {i for i, hangs in zip(found, hang, strict=True) if hangs}
    out, first = [], 0
    for place in places:
        kept = [i for i in range(len(place.spots)) if first + i not in dropped]
        less = place._replace(spots=[place.spots[i] for i in kept], found_by=[place.found_by[i] for i in kept])
        out.append((less, [answers[first + i] for i in kept]))
        first += len(place.spots)
    return out


class Looked(NamedTuple):
    """A picture and what was found in it."""

    source: Source
    photo: Photo | None
    places: Places | None
    answers: list[Answer]
    problem: str | None
    """why there is nothing, a sentence with the file's name"""


def _pixels(source: Source) -> float:
    """Of a picture, by its header."""
    try:
        width, height = image_size(source.path)
    except (UserError, OSError):
        return 0.0
    return float(width * height)


def look_at(
    sources: Iterable[Source],
    network: LandmarkNetwork,
    place: Callable[[Source, Photo], Places],
    clock: Clock,
    refine: int = 1,
    flip: bool = False,
    batch_size: int = 16,
    check: bool = True,
) -> Iterator[Looked]:
    """Answer every photo, in order; `place` says where to look in one. Its UserErrors, and unreadable files, become `problem`."""

    def prepare(source: Source) -> Looked:
        try:
            with clock("decoding"):
                photo = read_photo(source.path)
            with clock("finding"):
                places = place(source, photo)
        except UserError as error:
            return Looked(source, None, None, [], str(error))
        problem = None if places.spots else f"{source.name}: no face found"
        return Looked(source, photo if places.spots else None, places, [], problem)

    def finish(group: list[Looked]) -> Iterator[Looked]:
        asked = [looked for looked in group if looked.places and looked.places.spots]
        with clock("network"):
            answered = iter(
                answer_places(network, [a.places for a in asked if a.places], refine, flip, batch_size, check)
            )
        for looked in group:
            if not looked.places or not looked.places.spots:
                yield looked
                continue
            places, answers = next(answered)
            doubt = (
                None
                if answers
                else f"{looked.source.name}: no face found (what the finder saw is none to the detector; --no-check keeps it)"
            )
            yield looked._replace(places=places, answers=answers, problem=doubt)

    # As many ahead as a group takes: finding must not stand still while the network works, nor the network wait for it afterwards.
    group: list[Looked] = []
    for looked in ahead(prepare, sources, THREADS, batch_size + THREADS, _pixels, GROUP_PIXELS):
        group.append(looked)
        faces = sum(len(each.places.spots) for each in group if each.places)
        pixels = sum(each.photo.image.size // 3 for each in group if each.photo)
        if faces >= batch_size or pixels >= GROUP_PIXELS or len(group) >= 4 * batch_size:
            yield from finish(group)
            group = []
    yield from finish(group)
