"""The page's gate: whom it answers, what it lets in, and that it asks nobody for anything."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.dot_network import DotNetwork, find_dots
from builders.dots import PLACES, paint
from builders.places import SRC
from stylealign.data.image import write_image
from stylealign.jobs.demo.gate import ROOM, Gate, names_of

NAMES = names_of("127.0.0.1", ("faces.example",))


def answer(gate: Gate, path: str = "/", method: str = "GET", **headers: str) -> int:
    """The status that a request gets; 200 where it reaches the page."""
    sent: list[Any] = []
    given = {"host": "127.0.0.1:7860", **{key.replace("_", "-"): value for key, value in headers.items()}}
    scope = {
        "type": "http", "method": method, "path": path,
        "headers": [(key.encode(), value.encode()) for key, value in given.items()],
    }  # fmt: skip

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    asyncio.run(gate(scope, receive, send))
    return sent[0]["status"]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    return Gate(page, names=NAMES, folder=tmp_path, max_bytes=1000, max_total=ROOM + 5000)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200), ("localhost", 200), ("LocalHost.:7860", 200), ("[::1]:7860", 200), ("10.1.2.3", 200),
        ("faces.example:7860", 200), ("evil.example", 421), ("127.0.0.1.evil.example:7860", 421), ("", 421),
        ("[::1", 421),
    ],
)  # fmt: skip
def test_only_our_own_names_are_answered(gate: Gate, host: str, status: int) -> None:
    assert answer(gate, host=host) == status


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1:1/x", "/gradio_api/file=HTTPS://example.com/x", "/gradio_api/file/ftp://x/y",
        "/gradio_api/file=http%3A%2F%2F127.0.0.1%3A1%2Fx", "/gradio_api/proxy=x.hf.space/y",
    ],
)  # fmt: skip
def test_no_address_is_fetched(gate: Gate, path: str) -> None:
    assert answer(gate, path) == 403
    assert answer(gate, "/gradio_api/file=/tmp/gradio/a.png") == 200


def test_a_page_of_another_site_may_not_post(gate: Gate) -> None:
    join = "/gradio_api/queue/join"
    theirs = ("http://evil.example", "null", "http://[", "http://[::1")
    for origin, status in (("http://127.0.0.1:7860", 200), *((each, 403) for each in theirs)):
        assert answer(gate, join, "POST", origin=origin, content_length="10") == status
    assert answer(gate, join, "POST", content_length="10") == 200  # no browser


def test_bodies_are_limited_one_by_one_and_all_together(gate: Gate, tmp_path: Path) -> None:
    upload, join = "/gradio_api/upload", "/gradio_api/queue/join"
    assert answer(gate, upload, "POST") == 411
    assert answer(gate, upload, "POST", content_length="-1") == 411
    assert answer(gate, join, "POST", content_length=str(ROOM)) == 200
    assert answer(gate, join, "POST", content_length=str(ROOM + 1)) == 413
    assert answer(gate, upload, "POST", content_length=str(ROOM + 1000)) == 200
    assert answer(gate, upload, "POST", content_length=str(ROOM + 1001)) == 413
    assert answer(gate, upload, "POST", content_length="9" * 5000) == 413
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "kept.png").write_bytes(b"x" * 4001)
    assert answer(gate, upload, "POST", content_length=str(ROOM + 999)) == 200
    assert answer(gate, upload, "POST", content_length=str(ROOM + 1000)) == 413
    gate._arriving = 500  # of another visitor, just now
    assert answer(gate, upload, "POST", content_length=str(ROOM + 999)) == 413
    assert gate._arriving == 500


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    words = [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_while_it_waits_no_connection_is_opened_and_no_name_looked_up() -> None:
    done = run_python(
        "import socket\n"
        "from stylealign.jobs.demo.gate import asking_nobody\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "there = server.getsockname()\n"
        "socket.create_connection(there).close()\n"
        "with asking_nobody():\n"
        "    for ask in (lambda: socket.create_connection(there), lambda: socket.getaddrinfo('example.com', 80),\n"
        "                lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', there)):\n"
        "        try:\n"
        "            ask()\n"
        "        except PermissionError:\n"
        "            print('refused')\n"
        "socket.create_connection(there).close()\n"
    )
    assert done.stdout.split() == ["refused"] * 3, done.stderr


def test_a_signal_that_another_thread_gets_ends_it() -> None:
    done = run_python(
        "import signal, threading, time\n"
        "from stylealign.jobs.demo.job import _stop, wait_for_signal\n"
        "signal.signal(signal.SIGTERM, _stop)\n"
        "def other():\n"
        "    time.sleep(0.3)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "    time.sleep(20)\n"
        "threading.Thread(target=other, daemon=True).start()\n"
        "start = time.monotonic()\n"
        "try:\n"
        "    wait_for_signal()\n"
        "finally:\n"
        "    print('waited', time.monotonic() - start < 10)\n"
    )
    assert (done.returncode, done.stdout.split()) == (0, ["waited", "True"]), done.stderr


# --------------------------------------------------------------------------------------------------------------------
# The page itself, by HTTP


def ask(address: str, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(address + path, data, {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_page_takes_uploads_and_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio", minversion="6", reason="the demo needs gradio")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    from gradio import processing_utils

    from stylealign.api.detector import Detector
    from stylealign.api.translator import StyleTranslator
    from stylealign.jobs.demo.page import build_page, serve

    fetched: list[str] = []

    async def fetch(url: str, *_: Any, **__: Any) -> str:
        fetched.append(url)
        raise AssertionError

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", fetch)
    ways = {"photo": StyleTranslator.load("histogram")}
    page = build_page(Detector(DotNetwork(scale=2.2), find_dots), ways, 10**6)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = serve(page, "127.0.0.1", port, names=NAMES, folder=tmp_path, max_bytes=10**5, max_total=10**7).rstrip("/")
    try:
        assert ask(address, "/")[0] == 200
        assert ask(address, "/", host="evil.example")[0] == 421
        assert ask(address, "/gradio_api/file=http://127.0.0.1:9/x")[0] == 403
        large = http.client.HTTPConnection("127.0.0.1", port)
        large.putrequest("POST", "/gradio_api/upload")
        large.putheader("content-length", str(ROOM + 10**5 + 1))
        large.endheaders()
        assert large.getresponse().status == 413  # before a byte of it was sent
        large.close()

        write_image(tmp_path.parent / "a.png", paint(PLACES + np.array([50, 45]), 110, 90, np.array([10, 15, 90])))
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        body += (tmp_path.parent / "a.png").read_bytes() + b"\r\n--b--\r\n"
        status, said = ask(address, "/gradio_api/upload", body, content_type="multipart/form-data; boundary=b")
        assert status == 200
        (path,) = json.loads(said)

        def changed(path: str, session: str) -> str:
            file = {"path": path, "url": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
            asked = {"data": [file, file, "photo", 1, None], "fn_index": 0, "session_hash": session}
            status, _ = ask(
                address, "/gradio_api/queue/join", json.dumps(asked).encode(), content_type="application/json"
            )
            assert status == 200
            _, told = ask(address, f"/gradio_api/queue/data?session_hash={session}")
            return next(line for line in told.decode().splitlines() if "process_completed" in line)

        assert '"success":true' in changed(path, "good")
        for where in ("http://127.0.0.1:9/x.png", "https://example.com/x.png"):
            assert '"success":false' in changed(where, "forged")
        assert fetched == []
    finally:
        page.close(verbose=False)
