"""The words by which whoever labels says of a point that it is hidden, in tools that leave the words to their user."""

HIDDEN = ("hidden", "occluded", "invisible")
"""In small letters; the first is what we write."""


def says_hidden(word: str) -> bool:
    """Whether a flag, choice or label is one of the words, in capitals or not."""
    return word.strip().lower() in HIDDEN
