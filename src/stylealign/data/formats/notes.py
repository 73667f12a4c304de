"""What a reader has to say of a source that is no fault of a face: counted, with the first names, and said once."""

from collections.abc import Iterator

_NAMES = 5


class Notes:
    """Sentences with how often each is true and of what first."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, what: str, name: str) -> None:
        """Count `name` (a face, a file) under `what`, a heading for one and for many, as `faces moved`."""
        self._counts[what] = self._counts.get(what, 0) + 1
        names = self._names.setdefault(what, [])
        if len(names) < _NAMES:
            names.append(name)

    def take(self, others: "Notes") -> None:
        """Count all that others have as if it were added now, after what is here."""
        for what, count in others._counts.items():
            self._counts[what] = self._counts.get(what, 0) + count
            names = self._names.setdefault(what, [])
            names += others._names[what][: _NAMES - len(names)]

    def __iter__(self) -> Iterator[str]:
        """`faces moved: a, b`, a line each, in the order they first came up; of many the first and their number."""
        for what, count in self._counts.items():
            more = count - len(self._names[what])
            all_of_them = f" and {more:,} more ({count:,} in all)" if more else ""
            yield f"{what}: {', '.join(self._names[what])}{all_of_them}"
