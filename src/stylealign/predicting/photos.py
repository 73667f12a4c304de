"""Many pictures -> faces, in order: decoding and finding ahead in threads, the network on batches of faces of several pictures.

Holds at most a group of pictures and a few ahead, however many there are. Writes nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from stylealign.errors import UserError
from stylealign.predicting.answering import Answer, answer
from stylealign.predicting.network import LandmarkNetwork
from stylealign.predicting.places import Places
from stylealign.predicting.sources import Photo, Source, read_photo
from stylealign.predicting.stages import Clock, ahead

THREADS, AHEAD = 2, 4  # pictures decoded side by side, and how many may wait
GROUP_PIXELS = 64_000_000  # pictures of more pixels than this in all go to the network before the batch is full


class Looked(NamedTuple):
    """A picture and what was found in it."""

    source: Source
    photo: Photo | None
    places: Places | None
    answers: list[Answer]
    problem: str | None
    """why there is nothing, a sentence with the file's name"""


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

    group: list[Looked] = []
    for looked in ahead(prepare, sources, THREADS, AHEAD):
        group.append(looked)
        faces = sum(len(each.places.spots) for each in group if each.places)
        pixels = sum(each.photo.image.size // 3 for each in group if each.photo)
        if faces >= batch_size or pixels >= GROUP_PIXELS or len(group) >= 4 * batch_size:
            yield from finish(group)
            group = []
    yield from finish(group)
