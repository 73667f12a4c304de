"""Many pictures -> faces, in order: decoding and finding ahead in threads, the network on batches of faces of several pictures.

Holds at most a group of pictures and a few ahead, however many there are. Writes nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from stylealign.errors import UserError
from stylealign.image import image_size
from stylealign.predicting.answering import Answer, answer
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.places import Places
from stylealign.predicting.sources import Photo, Source, read_photo
from stylealign.predicting.stages import Clock, ahead

THREADS = 2  # pictures decoded side by side
GROUP_PIXELS = 64_000_000  # of pictures that wait at one place: before the network, in its group, behind it


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
        spots = [spot for looked in group if looked.places for spot in looked.places.spots]
        with clock("network"):
            answers = iter(answer(network, spots, refine, flip, batch_size))
        for looked in group:
            yield looked._replace(answers=[next(answers) for _ in (looked.places.spots if looked.places else ())])

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
