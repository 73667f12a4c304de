"""What pyproject.toml cannot say: the long description is the README without what only a clone can show.

Everything else is in pyproject.toml.
"""

import re
from pathlib import Path


def long_description() -> str:
    """README.md, without pictures and without links to files of the repository, whose address is not known here."""
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n\n(\*[^*]+\*\n\n)?", "", text)  # with the picture goes its caption
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)


if __name__ == "__main__":
    from setuptools import setup

    setup(long_description=long_description(), long_description_content_type="text/markdown")
