"""Damage to a file, drawn by a seeded generator: bytes, words of a text, and values of JSON."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = (
    b"", b"0", b"-1", b"1e999", b"nan", b"-inf", b"1e-320", b"9" * 30, b"9" * 5000, b"0x10", b"1_000", b"true", b"null",
    b"..", b"../../../../etc/passwd", b"/etc/passwd", b"a/../../b", b"C:\\x", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf",
    b"'", b'"', b"{", b"[", b"[" * 3000, b"{a: " * 400, b"&a [*a]", b"*a", b"!!python/object:os.system", b"!!binary",
    b"\xe2\x80\xae", b"\xf0\x9f\x99\x82", b"x" * 70000, b"-", b",,,,", b"\r", b"\t", b"%s", b"~", b"<<: *a", b"NaN",
)  # fmt: skip
NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 2**15 - 1, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**400, 1.5, -0.0, float("nan"), float("inf"), 1e308, "", "x", "1",
    "..", "../../x", "/etc/passwd", "a\x00b", "\ud800", "x" * 5000, [], {}, [[]], [None], [0], {"": 0}, [1, 2],
    [[1, 2]], ["x"], "nan", [1e308] * 4, {"name": "x"}, [[0, 0]] * 5,
)  # fmt: skip
SEPARATORS = b" \t\n,:;{}[]\"'"


def _place(rng: random.Random, length: int) -> int:
    """A place in a file; often in its head, where a format keeps what matters."""
    return rng.randrange(min(length, 512) if rng.random() < 0.4 else length)


def some_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[_place(rng, len(data))] ^= 1 << rng.randrange(8)


def some_bytes(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[_place(rng, len(data))] = rng.choice((0, 255, 127, 128, 10, rng.randrange(256)))


def a_number(data: bytearray, rng: random.Random) -> None:
    kind = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    width, at = struct.calcsize(kind), _place(rng, len(data))
    number = rng.choice(NUMBERS) if rng.random() < 0.8 else rng.getrandbits(8 * width)
    data[at : at + width] = struct.pack(kind, number % 2 ** (8 * width))


def cut(data: bytearray, rng: random.Random) -> None:
    del data[_place(rng, len(data)) :]


def a_piece_less(data: bytearray, rng: random.Random) -> None:
    at = _place(rng, len(data))
    del data[at : at + rng.choice((1, 2, 4, 16, 256, 4096))]


def a_piece_twice(data: bytearray, rng: random.Random) -> None:
    at, to = _place(rng, len(data)), _place(rng, len(data))
    piece = data[at : at + rng.choice((1, 4, 64, 1024))]
    data[to:to] = piece * rng.choice((1, 1, 2, 50))


def a_word_in(data: bytearray, rng: random.Random) -> None:
    at = _place(rng, len(data))
    data[at:at] = rng.choice(WORDS)


def emptied(data: bytearray, rng: random.Random) -> None:
    del data[:]


def a_word_changed(data: bytearray, rng: random.Random) -> None:
    """What stands between two separators."""
    at = start = end = rng.randrange(len(data))
    while start > 0 and data[start - 1] not in SEPARATORS and at - start < 400:
        start -= 1
    while end < len(data) and data[end] not in SEPARATORS and end - at < 400:
        end += 1
    data[start:end] = rng.choice(WORDS)


def lines_changed(data: bytearray, rng: random.Random) -> None:
    lines = data.split(b"\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[to:to] = [lines[at]] * rng.choice((1, 2, 300))
    elif how == 2:
        lines[at], lines[to] = lines[to], lines[at]
    elif how == 3:
        lines[at] = lines[at] + b" " + lines[to]
    else:
        lines[at] = rng.choice(WORDS)
    data[:] = b"\n".join(lines)


def a_value_changed(data: bytearray, rng: random.Random) -> None:
    """A value of JSON (of one line where each line is an object), somewhere in the tree, or a key."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    try:
        value, whole = json.loads(bytes(data)), True
    except (ValueError, RecursionError):
        try:
            value, whole = json.loads(bytes(lines[at])), False
        except (ValueError, RecursionError):
            return a_word_changed(data, rng)
    text = json.dumps(_changed(value, rng)).encode(errors="surrogatepass")
    if whole:
        data[:] = text
    else:
        lines[at] = bytearray(text)
        data[:] = b"\n".join(lines)
    return None


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.12:
            del value[key]
        elif rng.random() < 0.08:
            value[str(rng.choice(VALUES))[:50]] = value.pop(key)
        else:
            value[key] = _changed(value[key], rng)
        return value
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            del value[at]
        elif rng.random() < 0.1:
            value[at:at] = [value[at]] * rng.choice((1, 3, 200))
        else:
            value[at] = _changed(value[at], rng)
        return value
    return rng.choice(VALUES)


OF_BYTES: tuple[Callable, ...] = (
    some_bits, some_bits, some_bytes, some_bytes, a_number, a_number, cut, a_piece_less, a_piece_twice, a_word_in,
    emptied,
)  # fmt: skip
OF_TEXT: tuple[Callable, ...] = (
    a_word_changed, a_word_changed, a_word_changed, lines_changed, lines_changed, a_value_changed, a_value_changed,
    a_value_changed, a_word_in, some_bytes, cut, a_piece_twice,
)  # fmt: skip


def damage(data: bytes, rng: random.Random) -> bytes:
    """A damaged copy of a file's content: mostly one thing wrong, now and then several."""
    found = bytearray(data)
    text = b"\x00" not in data[:4096] and data[:4096].decode("utf-8", "ignore").encode() == data[:4096]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not found:
            break
        rng.choice(OF_TEXT if text else OF_BYTES)(found, rng)
    return bytes(found)


def damage_folder(folder: Path, targets: list[Path], rng: random.Random) -> None:
    """Damage one of the files of a folder; now and then one is away, a folder, or the content of another."""
    path, how = rng.choice(targets), rng.random()
    if how < 0.02:
        path.unlink()
    elif how < 0.03:
        path.unlink()
        path.mkdir()
    elif how < 0.05 and len(targets) > 1:
        path.write_bytes(rng.choice(targets).read_bytes())
    else:
        path.write_bytes(damage(path.read_bytes(), rng))
