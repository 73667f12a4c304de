"""Chromium without a window, driven as a person would drive it: a small client of the DevTools protocol over a pipe.

Needs no packages. The browser resolves no name and asks nobody but 127.0.0.1, and every request of the page is noted.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe", "--window-size=1280,1500", "about:blank",
)  # fmt: skip


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One page of a browser of its own. `with Page(folder) as page: page.open(address)`."""

    def __init__(self, profile: Path):
        """`profile`: an empty folder for the browser's own files."""
        binary = find_chromium()
        assert binary is not None, "no chromium on this machine"
        to_browser, self._write = os.pipe()  # the browser reads file 3 and writes file 4
        self._read, from_browser = os.pipe()

        def place_pipes() -> None:
            a, b = os.dup(to_browser), os.dup(from_browser)  # neither of them 3 or 4, whatever those were
            os.dup2(a, 3)
            os.dup2(b, 4)

        with open(profile / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                [binary, f"--user-data-dir={profile}", *FLAGS],
                stdout=log,
                stderr=log,
                preexec_fn=place_pipes,
                close_fds=False,
                env={**os.environ, "HOME": str(profile)},
            )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer, self._number, self._session = b"", 0, None
        self.requests: list[str] = []
        """Addresses the page asked for, other than data: and blob: ones"""
        self.errors: list[str] = []
        """Uncaught errors of the page's scripts"""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Page":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser went away"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        if message.get("method") == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            if not address.startswith(("data:", "blob:", "about:", "chrome:")):
                self.requests.append(address)
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(message["params"]["exceptionDetails"])[:300])
        return message

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def ask(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 600) -> Any:
        """Ask until the answer is true; the answer."""
        end = time.monotonic() + seconds
        while not (answer := self.ask(script)):
            assert time.monotonic() < end, f"never so: {script}\n{self.ask('document.body.innerText')[:2000]}"
            time.sleep(0.1)
        return answer

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in an upload field, as the file dialogue would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert node, f"no {selector} in the page"
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def click(self, selector: str, share: float = 0.5) -> None:
        """Press and release the mouse on an element, `share` of its width from the left."""
        x, y = self.ask(
            f"(() => {{ const e = document.querySelector({selector!r}); e.scrollIntoView({{block: 'center'}});"
            f" const r = e.getBoundingClientRect(); return [r.x + {share} * r.width, r.y + r.height / 2] }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def pixels(self, selector: str) -> bytes:
        """An <img>'s file, as the page got it."""
        script = (
            f"fetch(document.querySelector({selector!r}).src).then(r => r.arrayBuffer())"
            ".then(b => btoa(Array.from(new Uint8Array(b), c => String.fromCharCode(c)).join('')))"
        )
        return base64.b64decode(self.ask(script))

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))
