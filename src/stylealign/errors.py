"""The exception that a user is meant to read, the one that says a signal told us to end; numbers and names in texts.

Knows nothing of faces.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import PurePath

LONGEST = 1_900
"""Characters of a message at most: what a person reads, whatever a stranger's file puts into it."""


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, its middle left out where it is longer: a sentence says where first and what was expected last."""
    if len(text) <= longest:
        return text
    gap = f" ... ({len(text) - longest:,} characters left out) ... "
    tail = longest // 4
    return text[: longest - tail - len(gap)] + gap + text[-tail:]


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what there is so many of, in the right number: `1 face`, `2,400 faces`.

    `many`: the words for several; not given: `one` with an s, as English writes it.

    >>> counted(1, "box"), counted(2, "box"), counted(0, "bad entry"), counted(3, "face has", "faces have")
    ('1 box', '2 boxes', '0 bad entries', '3 faces have')
    """
    if number == 1:
        return f"{number} {one}"
    if not many:
        many = re.sub(r"(?<=[^aeiou])y$", "ie", one) + ("es" if re.search(r"(s|x|ch|sh)$", one) else "s")
    return f"{number:,} {many}"


def plain_number(value: object) -> float:
    """The number that a text or a number stands for. Raises ValueError or TypeError for others, as `6_0`, which Python
    takes for 60."""
    if isinstance(value, str) and "_" in value:
        raise ValueError(f"{value[:40]!r} is no number")
    return float(value)  # type: ignore[arg-type]


def quoted(names: Iterable[object]) -> str:
    """Names that a user gave, in a sentence: quoted, since they may hold commas.

    >>> print(quoted(["fpn, none", "wing"]))
    'fpn, none', 'wing'
    """
    return ", ".join(repr(str(name)) for name in names)


def typed(value: object) -> str:
    """A word as a person can type it in a command: quoted for the shell, and a path that begins with a dash, which
    would be taken for a flag, from the folder it is in.

    >>> print(typed("my faces"), typed(PurePath("-o/detector")), typed(3))
    'my faces' ./-o/detector 3
    """
    dashed = isinstance(value, PurePath) and str(value).startswith("-")
    return shlex.quote(f"./{value}" if dashed else str(value))


class UserError(Exception):
    """Something the user gave is wrong.

    The message is one sentence naming the file, line or key, what was found and what was expected. The command line
    prints it without a traceback (unless `--debug`) and exits with status 2.
    """

    def __init__(self, message: object = ""):
        super().__init__(shortened(str(message)))


class Stopped(KeyboardInterrupt):
    """A signal told a training to end, as a cluster does before it takes a machine away; what was learnt is saved."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
        """of the signal"""

    @property
    def status(self) -> int:
        """The exit status that a shell gives to a command that a signal ended."""
        return 128 + self.number
