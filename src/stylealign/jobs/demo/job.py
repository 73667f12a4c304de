"""The job `demo`: a page in the browser, served from this machine until it is stopped."""

import math
import os
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from stylealign.jobs.demo.gate import asking_nobody, names_of
from stylealign.predicting.network import open_network
from stylealign.progress import say

LOOK_S = 0.3  # seconds between two looks whether a signal has come


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """Serve a page: give two photos, see the landmarks of both, take them home as files, and see each face in the
    other's style, with a slider between styles. Two drawn faces are there to try it with.

    Nothing but this machine is asked for anything, and only this machine can see the page, unless --host says
    otherwise. Uploads lie in a temporary folder, which goes when the demo is stopped (Ctrl-C). Needs gradio: pip
    install 'stylealign[demo]'.
    """

    model: Annotated[Path | None, tyro.conf.arg(aliases=["--onnx"])] = None
    """The detector: run folder or .onnx file; not given: the one that came with the package."""
    keep: Literal["photo", "structure"] | None = None
    """What is kept of each face when the page opens; the page has a switch. photo: its photograph, in the other's look.
    structure: the other's photograph bent into its structure. Not given: what the translator keeps."""
    translator: str | None = None
    """Run folder of a finished train-translator, or a free style: histogram, adain, adain_pyramid, fda, relight, or
    warp. Not given: the translator that came with the package, and warp to keep the structure."""
    port: int = 7860
    """Where the page is: http://127.0.0.1:7860"""
    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets everybody who reaches this machine use the page."""
    max_megabytes: float = 20.0
    """Largest file that may be uploaded."""
    max_total_megabytes: float = 2000.0
    """Largest size of all uploads and results together; they are kept for an hour."""
    names: tuple[str, ...] = ()
    """Names by which visitors reach the page, beside addresses in numbers and this machine's own name."""
    max_megapixels: float = 50.0
    """Largest photo, width x height, in millions of pixels."""
    browser: bool = False
    """Open the page in this machine's browser."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the networks run."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, expected 1 to 65535")
        if not self.max_megabytes <= self.max_total_megabytes < math.inf:
            raise ValueError(
                f"max_total_megabytes {self.max_total_megabytes:g}: expected a number of at least max_megabytes "
                f"({self.max_megabytes:g})"
            )
        if not (0 < self.max_megabytes <= 1000 and 0 < self.max_megapixels <= 1000):
            raise ValueError(
                f"max_megabytes {self.max_megabytes:g} and max_megapixels {self.max_megapixels:g}: expected above 0, "
                "at most 1000"
            )


def _stop(*_: Any) -> None:
    sys.exit(0)


def wait_for_signal() -> None:
    """Wait for ever; a signal's handler runs soon, whichever thread the system gave the signal to.

    `signal.pause` would go on waiting where it was another thread than this one.
    """
    never = threading.Event()
    while not never.wait(LOOK_S):
        pass


def main(config: Demo) -> int:
    """Serve the page until somebody stops it."""
    before = signal.signal(signal.SIGTERM, _stop)  # an ordinary end, so that the temporary folder goes
    try:
        with tempfile.TemporaryDirectory(prefix="stylealign-demo-") as folder:
            return _serve(config, folder)
    finally:
        signal.signal(signal.SIGTERM, before)


def _serve(config: Demo, folder: str) -> int:
    os.environ["GRADIO_TEMP_DIR"] = folder  # before any component is made: each remembers it
    from stylealign.api.detector import Detector
    from stylealign.api.translator import StyleTranslator
    from stylealign.jobs.demo.page import build_page, import_gradio, serve
    from stylealign.jobs.demo.pair import with_the_other_way
    from stylealign.jobs.translate import refuse_other_mark_up

    translator = StyleTranslator.load(config.translator, accelerator=config.accelerator)
    detector = Detector(open_network(config.model, config.accelerator))
    refuse_other_mark_up(translator, detector, config.translator or "the translator that came with stylealign")
    import_gradio()
    ways = with_the_other_way(translator, detector, config.accelerator)
    page = build_page(detector, ways, round(config.max_megapixels * 1e6), config.keep)
    address = serve(
        page, config.host, config.port, names=names_of(config.host, config.names), folder=Path(folder),
        max_bytes=round(config.max_megabytes * 1e6), max_total=round(config.max_total_megabytes * 1e6),
        browser=config.browser,
    )  # fmt: skip
    if config.host not in ("127.0.0.1", "localhost", "::1"):
        say(
            f"warning: listening on {config.host}: everybody who reaches this machine can use the page and its "
            "processors"
        )
    say(f"the demo is at {address} (Ctrl-C stops it)")
    try:
        with asking_nobody():
            wait_for_signal()
    except KeyboardInterrupt:
        say("stopped")
    finally:
        page.close(verbose=False)
    return 0
