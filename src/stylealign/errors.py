"""The one exception a user is meant to read, and the one that says a signal told us to end. Knows nothing of faces."""

LONGEST = 1_900
"""Characters of a message at most: what a person reads, whatever a stranger's file puts into it."""


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, its middle left out where it is longer: a sentence says where first and what was expected last."""
    if len(text) <= longest:
        return text
    gap = f" ... ({len(text) - longest:,} characters left out) ... "
    tail = longest // 4
    return text[: longest - tail - len(gap)] + gap + text[-tail:]


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
