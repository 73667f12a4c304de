"""Which of several labels of a tool or categories of a file are those of faces, by their names."""

import re
from collections.abc import Iterable

_WORDS = re.compile("[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # of face_points, face-1, FaceLandmarks
_FACES = ({"face", "faces"}, {"head", "heads"}, {"person", "persons", "people", "human", "humans"})


def face_labels(names: Iterable[str]) -> set[str]:
    """The names with the word face in them (or, where none has, head; or person, human); empty: none tells."""
    names = list(names)
    for words in _FACES:
        if found := {name for name in names if words & {word.lower() for word in _WORDS.findall(name)}}:
            return found
    return set()
