"""Words of sentences for people, whether they report or complain. Knows nothing of faces."""


def counted(number: int, one: str, many: str = "") -> str:
    """`1 face`, `2,400 faces`: a number and what there is so many of; `many`: the words for several, else with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
