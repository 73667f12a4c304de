"""What stands between a visitor and the page: whom a request may be for, how large it may be, and whom it may ask.

An ASGI application round another one. Knows HTTP and no gradio.
"""

import ipaddress
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from stylealign.errors import counted

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROOM = 1 << 20  # bytes of a request beside its file: form fields, JSON


def names_of(host: str, more: tuple[str, ...] = ()) -> frozenset[str]:
    """Names under which a page that listens on `host` may be asked for, beside any address in numbers."""
    return frozenset(name.lower() for name in ("localhost", host, socket.gethostname(), *more))


def _is_ours(netloc: str, names: frozenset[str]) -> bool:
    """Whether the `host[:port]` of a request means this page.

    A name that is not ours but leads here is how a web page elsewhere would reach us (DNS rebinding); an address in
    numbers cannot be made to.
    """
    try:
        host = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    if host.rstrip(".") in names:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _size_of(folder: Path) -> int:
    """Bytes of all files below a folder; those that go meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


class Gate:
    """Lets a request through to `app`, or answers it with a status and a sentence.

    Refused are names that are not ours, requests of other sites' pages, addresses to be fetched, bodies whose length
    is not said or too large, and uploads for which there is no room left.
    """

    def __init__(self, app: App, *, names: frozenset[str], folder: Path, max_bytes: int, max_total: int):
        """`folder`: where uploads and results lie, `max_total` bytes at a time; `max_bytes`: of one upload."""
        self.app, self.names, self.folder = app, names, folder
        self.max_bytes, self.max_total = max_bytes, max_total
        self._arriving = 0  # bytes of uploads that are being received

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # the page uses no websockets
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        problem = self._refusal(scope, headers)
        if problem:
            await _answer(send, *problem)
            return
        length = int(headers.get("content-length", 0))
        self._arriving += length
        try:
            await self.app(scope, receive, send)
        finally:
            self._arriving -= length

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and sentence of a request that is not let through."""
        if not _is_ours(headers.get("host", ""), self.names):
            return 421, "this page is not known under that name; --names adds one"
        path = unquote(scope["path"])
        if "://" in path or "/proxy=" in path:
            return 403, "this page fetches nothing from elsewhere"
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers["host"]:
            return 403, "asked by the page of another site"
        if not headers.get("content-length", "").isdecimal():
            return 411, "expected a body whose length is said"
        digits = headers["content-length"]
        length = int(digits) if len(digits) < 20 else sys.maxsize  # Python refuses to read thousands of digits
        is_upload = path.rstrip("/").endswith("/upload")
        most = ROOM + (self.max_bytes if is_upload else 0)
        if length > most:
            return 413, f"{counted(length, 'byte')}, expected at most {most:,}"
        if is_upload and _size_of(self.folder) + self._arriving + length > self.max_total:
            return 413, "no room left for uploads: those of the last hour are still kept"
        return None


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = sentence.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_alone = threading.Event()  # set while nobody may be asked


def _refuse_asking(event: str, arguments: tuple[Any, ...]) -> None:
    if not _alone.is_set() or event not in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        return
    if event != "socket.getaddrinfo" and isinstance(arguments[1], str | bytes):
        return  # a socket of this machine's file system
    raise PermissionError("the demo asks nobody for anything")


@contextmanager
def asking_nobody() -> Iterator[None]:
    """Within it this process opens no connection and looks up no name, whatever library is made to try."""
    sys.addaudithook(_refuse_asking)
    _alone.set()
    try:
        yield
    finally:
        _alone.clear()
