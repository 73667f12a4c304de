"""MATLAB's files of strangers as arrays: numbers, text, cells and structures of them, of version 5 and of version 7.3.

Version 5 is read here, byte by byte: SciPy's reader, made to be fast, reads past the end of a damaged file and takes
the process with it. Every length is compared with what is there before it is used, and what packed data unpacks to is
bounded. Version 7.3 is HDF5 and read by h5py, but only what lies in the file itself: no link, and no data set kept in
another file. Knows no format of faces.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stylealign.errors import UserError, counted

if TYPE_CHECKING:
    import h5py

MAX_BYTES = 1 << 30
"""Of a file, and of all that it unpacks to."""
_MAX_CELLS, _MAX_DEPTH = 1_000_000, 8
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_MATRIX, _PACKED = 14, 15
_CELL, _STRUCTURE, _CHAR, _NUMERIC, _COMPLEX = 1, 2, 4, range(6, 16), 0x800


class BadMatlab(Exception):
    """What is wrong with a file, in words that follow its name."""


class _Header(NamedTuple):
    """The first parts of a matrix."""

    kind: int
    """MATLAB's class: a cell array, text, numbers, ..."""
    is_complex: bool
    shape: tuple[int, ...]
    name: str
    end: int
    """Where its values begin"""


def _part(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """(type, content, where the next one begins) of the part that begins at `at`."""
    if at + 8 > len(data):
        raise BadMatlab("cut short")
    first = int.from_bytes(data[at : at + 4], "little" if order == "<" else "big")
    if first >> 16:  # a small one: its length and its content stand in the same eight bytes
        kind, size, begin, following = first & 0xFFFF, first >> 16, at + 4, at + 8
        if size > 4:
            raise BadMatlab(f"a small part of {counted(size, 'byte')}, expected at most 4")
    else:
        size = int.from_bytes(data[at + 4 : at + 8], "little" if order == "<" else "big")
        kind, begin = first, at + 8
        following = begin + (size if kind == _PACKED else (size + 7) // 8 * 8)
    if begin + size > len(data):
        raise BadMatlab(f"a part of {counted(size, 'byte')} where {len(data) - begin:,} are left")
    return kind, data[begin : begin + size], following


def _header(data: memoryview, order: str) -> _Header:
    kind, flags, at = _part(data, 0, order)
    if kind != 6 or len(flags) != 8:
        raise BadMatlab("a matrix without flags")
    word = int(np.frombuffer(flags, f"{order}u4")[0])
    kind, sizes, at = _part(data, at, order)
    if kind != 5 or len(sizes) % 4 or not 2 <= len(sizes) // 4 <= 32:
        raise BadMatlab("a matrix without its sizes")
    shape = tuple(int(n) for n in np.frombuffer(sizes, f"{order}i4"))
    if min(shape) < 0:
        raise BadMatlab(f"a matrix of sizes {shape}")
    kind, name, at = _part(data, at, order)
    if kind != 1:
        raise BadMatlab("a matrix without a name")
    return _Header(word & 0xFF, bool(word & _COMPLEX), shape, bytes(name).decode("latin-1"), at)


def _matrix(data: memoryview, order: str, structures: bool, depth: int = 0) -> np.ndarray:
    """A matrix: numbers as stored, text as an array of its rows, cells as an array of arrays, structures of dicts."""
    if not len(data):
        return np.zeros((0, 0))  # an empty cell
    header = _header(data, order)
    count = math.prod(header.shape)
    if header.kind == _CELL or (header.kind == _STRUCTURE and structures):
        fields, at = _fields(data, header.end, order) if header.kind == _STRUCTURE else ([], header.end)
        if depth >= _MAX_DEPTH:
            raise BadMatlab(f"cells in cells on more than {_MAX_DEPTH} levels")
        if count * max(1, len(fields)) > min(_MAX_CELLS, len(data) // 8):
            raise BadMatlab(f"{counted(count, 'cell')} in {counted(len(data), 'byte')}")
        cells = np.empty(count, object)
        for i in range(count):
            parts = []
            for _ in fields or [""]:
                kind, content, at = _part(data, at, order)
                if kind != _MATRIX:
                    raise BadMatlab(f"cell {i + 1} is no matrix")
                parts.append(_matrix(content, order, structures, depth + 1))
            cells[i] = dict(zip(fields, parts, strict=True)) if header.kind == _STRUCTURE else parts[0]
        return cells.reshape(header.shape, order="F")
    kind, content, _ = _part(data, header.end, order)
    if header.kind == _CHAR:
        return _text(kind, content, header.shape, order)
    if header.kind not in _NUMERIC or header.is_complex or kind not in _NUMBERS:
        raise BadMatlab("a matrix of another kind, expected real numbers, text or cells of them")
    stored = np.dtype(f"{order}{_NUMBERS[kind]}")
    if len(content) != count * stored.itemsize:
        raise BadMatlab(f"{counted(len(content), 'byte')} of numbers, expected {count} x {stored.itemsize}")
    return np.frombuffer(content, stored).astype(stored.newbyteorder("=")).reshape(header.shape, order="F")


def _fields(data: memoryview, at: int, order: str) -> tuple[list[str], int]:
    """The names of a structure's fields, at least one, and where its values begin."""
    kind, size, at = _part(data, at, order)
    width = int(np.frombuffer(size, f"{order}i4")[0]) if kind == 5 and len(size) == 4 else 0
    kind, names, at = _part(data, at, order)
    if kind != 1 or not 0 < width <= 64 or not len(names) or len(names) % width:
        raise BadMatlab("a structure without the names of its fields")
    rows = [bytes(names[i : i + width]) for i in range(0, len(names), width)]
    return [row.split(b"\0")[0].decode("latin-1") for row in rows], at


def _text(kind: int, content: memoryview, shape: Sequence[int], order: str) -> np.ndarray:
    """(rows,) texts; MATLAB's characters stand column by column."""
    if kind not in _TEXTS or len(shape) != 2:
        raise BadMatlab("text of another kind")
    codec = _TEXTS[kind] if kind in (1, 2, 16) else f"{_TEXTS[kind]}-{'le' if order == '<' else 'be'}"
    text = bytes(content).decode(codec, "replace")
    rows, columns = shape
    if rows == 1:
        return np.array([text])
    if len(text) != rows * columns:
        raise BadMatlab(f"{counted(len(text), 'character')}, expected {rows} x {columns}")
    return np.array([text[row::rows] for row in range(rows)], dtype=np.str_)


def _variables(
    content: memoryview, names: Sequence[str], order: str, structures: bool
) -> Iterator[tuple[str, np.ndarray]]:
    at, left = 128, MAX_BYTES
    while at < len(content):
        kind, part, at = _part(content, at, order)
        if kind == _PACKED:
            start = memoryview(zlib.decompressobj().decompress(part, 1 << 12))
            if _header(start[8:], order).name not in names:
                continue
            unpacker = zlib.decompressobj()
            whole = memoryview(unpacker.decompress(part, left + 1))
            left -= len(whole)
            if left < 0:
                raise BadMatlab(f"unpacks to more than {MAX_BYTES:,} bytes")
            if not unpacker.eof:
                raise BadMatlab("its packed data are cut short")
            kind, part, _ = _part(whole, 0, order)
        if kind == _MATRIX and len(part):
            name = _header(part, order).name
            if name in names:
                yield name, _matrix(part, order, structures)


def is_hdf5(path: Path) -> bool:
    """Whether a MATLAB file is one of version 7.3."""
    with open(path, "rb") as file:
        head = file.read(1024)
    return b"\x89HDF\r\n\x1a\n" in head or head.startswith(b"MATLAB 7.3")


def read_mat(path: Path, names: Sequence[str], structures: bool = False) -> dict[str, np.ndarray]:
    """The variables of these names in a MATLAB file of version 5; the others are passed over.

    Numbers come as they are stored, text as an array of its rows, cells as an array of such arrays and, with
    `structures`, structures as an array of dicts of them. Raises UserError for anything else, and where a name is
    missing.
    """
    expected = f"expected a MATLAB file with {', '.join(names)}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadMatlab(f"more than {MAX_BYTES:,} bytes")
        content = memoryview(path.read_bytes())
        order = {b"IM": "<", b"MI": ">"}.get(bytes(content[126:128]))
        if order is None:
            raise BadMatlab("not one of version 5 or later")
        found = dict(_variables(content, names, order, structures))
        if missing := [name for name in names if name not in found]:
            raise BadMatlab(f"no {', '.join(missing)} in it")
        return found
    except (BadMatlab, zlib.error, MemoryError) as error:
        raise UserError(f"{path}: {expected} ({error or 'more memory than there is'})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def hdf5_array(file: "h5py.File", place: Any, most: int = MAX_BYTES) -> np.ndarray:
    """The values of a data set of an HDF5 file, if they are numbers or references, at most `most` bytes.

    `place` is a name at the top of the file, or a reference. Nothing is read that lies in another file. Raises
    BadMatlab for anything else; h5py raises what it likes on damage.
    """
    import h5py

    if isinstance(place, str):
        if place not in file:
            raise BadMatlab(f"no {place} in it")
        if type(file.get(place, getlink=True)) is not h5py.HardLink:
            raise BadMatlab(f"{place} is a link to another place")
    elif not isinstance(place, h5py.Reference) or not place:
        raise BadMatlab("a reference to nothing")
    found = file[place]
    if not isinstance(found, h5py.Dataset) or found.size is None:
        raise BadMatlab("no array where one is expected")
    if found.external or found.is_virtual:
        raise BadMatlab("an array that is kept in an external file, expected all in one")
    if found.dtype.kind not in "iufb" and h5py.check_ref_dtype(found.dtype) is not h5py.Reference:
        raise BadMatlab(f"values of type {found.dtype}, expected numbers")
    size = max(found.size, math.prod(found.chunks or ())) * found.dtype.itemsize
    if size > most:
        raise BadMatlab(f"an array of {found.shape}, {counted(size, 'byte')}, expected at most {most:,}")
    return np.asarray(found)
