"""XML of strangers as plain elements, one at a time: no document types, no entities of their own, within limits.

Python's expat is told nothing of other files, and a file that declares a document type is refused, so that no entity
can stand for another file or for a billion letters. Knows no format.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from stylealign.config import MAX_DEPTH
from stylealign.errors import UserError

MAX_BYTES = 1 << 30
_BLOCK = 1 << 16


class Element(NamedTuple):
    """One element, whole."""

    tag: str
    attributes: dict[str, str]
    children: list["Element"]
    text: list[str]
    """Pieces of what stands in it beside its children"""
    line: int
    """Of the file, from 1"""

    def get(self, name: str) -> str | None:
        """An attribute, or None where there is none of the name."""
        return self.attributes.get(name)

    def words(self) -> str:
        """Its text without blanks around it."""
        return "".join(self.text).strip()

    def child(self, tag: str) -> "Element | None":
        """The first child of this tag."""
        return next((child for child in self.children if child.tag == tag), None)


class _Builder:
    """Makes elements of what expat says; `done` takes those of the tags asked for."""

    def __init__(self, tags: Collection[str], root: str):
        self._tags, self._root = tags, root
        self._open: list[Element | None] = []  # None: an element that nobody asked for, nor one around it
        self.done: list[Element] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._words
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != self._root:
            raise UserError(f"its first element is <{tag[:40]}>, expected <{self._root}>")
        if len(self._open) >= MAX_DEPTH:
            raise UserError(f"elements nested deeper than {MAX_DEPTH} levels, expected at most that")
        around = self._open[-1] if self._open else None
        element = None
        if around is not None or tag in self._tags:
            element = Element(tag, attributes, [], [], self.parser.CurrentLineNumber)
            if around is not None:
                around.children.append(element)
        self._open.append(element)

    def _end(self, tag: str) -> None:
        element = self._open.pop()
        if element is not None and (not self._open or self._open[-1] is None):
            self.done.append(element)

    def _words(self, text: str) -> None:
        if self._open[-1] is not None:
            self._open[-1].text.append(text)

    def _doctype(self, name: str, system: str | None, public: str | None, subset: bool) -> None:
        raise UserError("a document type (<!DOCTYPE>), expected none: such files may lead elsewhere")


def read_elements(path: Path, root: str, tags: Collection[str]) -> Iterator[Element]:
    """Every outermost element with one of the tags below the element `root`, which is the file's first, in order.

    Raises UserError with the file's name and line where it is no such XML, is larger than MAX_BYTES, is nested deeper
    than MAX_DEPTH, or declares a document type.
    """
    builder, size = _Builder(tags, root), 0
    try:
        with open(path, "rb") as file:
            while True:
                block = file.read(_BLOCK)
                size += len(block)
                if size > MAX_BYTES:
                    raise UserError(f"larger than {MAX_BYTES:,} bytes, expected at most that")
                builder.parser.Parse(block, not block)
                yield from builder.done
                builder.done.clear()
                if not block:
                    return
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except expat.ExpatError as error:
        raise UserError(
            f"{path}:{error.lineno}: not valid XML ({expat.ErrorString(error.code)}, column {error.offset + 1})"
        ) from None
    except UserError as error:
        raise UserError(f"{path}:{builder.parser.CurrentLineNumber}: {error}") from None
    except (LookupError, ValueError) as error:  # an encoding that is none, or not one byte a letter
        raise UserError(f"{path}: not valid XML ({str(error)[:100]})") from None


def tag_text(tag: str, attributes: Mapping[str, object], inside: str | None = None) -> str:
    """`<tag a="1"/>`, or around `inside` as it is; attributes of None are left out."""
    words = "".join(f" {key}={quoteattr(_plain(str(value)))}" for key, value in attributes.items() if value is not None)
    return f"<{tag}{words}/>" if inside is None else f"<{tag}{words}>{inside}</{tag}>"


def text_element(tag: str, words: str) -> str:
    """`<tag>words</tag>`, words escaped."""
    return f"<{tag}>{escape(_plain(words))}</{tag}>"


def _plain(text: str) -> str:
    """Text without the characters that XML has no way to write."""
    return "".join(c if c >= " " or c in "\t\n\r" else "?" for c in text)
