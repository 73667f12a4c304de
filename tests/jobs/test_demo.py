"""The page `demo`: what it computes and refuses, and, in a real browser, that it shows it and asks nobody outside."""

import base64
import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import stylealign
from builders.chromium import Page, find_chromium
from builders.dot_network import DotNetwork, find_dots
from builders.dots import COLOURS, PLACES, paint
from stylealign.api.detector import Detector
from stylealign.api.translator import StyleTranslator
from stylealign.cli import main
from stylealign.data.image import read_image, write_image
from stylealign.errors import UserError
from stylealign.face.schema import FIVE
from stylealign.jobs.demo.examples import PAIRS, example_pair
from stylealign.jobs.demo.page import import_gradio
from stylealign.jobs.demo.pair import (
    FACE_PX,
    SHOWN_PX,
    PhotoWithFaces,
    described,
    files_of,
    marked,
    open_photo,
    open_photos,
    swapped,
    with_the_other_way,
)
from stylealign.predicting.predicted_face import Face

BLUE, BROWN = np.array([10, 15, 90]), np.array([110, 90, 40])


@pytest.fixture
def detector() -> Detector:
    return Detector(DotNetwork(scale=2.2), find_dots)


def photo(path: Path, ground: np.ndarray, x: float = 50) -> str:
    write_image(path, paint(PLACES + np.array([x, 45]), 110, 90, ground))
    return str(path)


# --------------------------------------------------------------------------------------------------------------------
# What it computes


def test_two_photos_give_marks_and_two_swapped_faces_and_a_photo_is_looked_at_once(
    tmp_path: Path, detector: Detector
) -> None:
    paths = photo(tmp_path / "a.png", BLUE), photo(tmp_path / "b.png", BROWN, 60)
    seen, said = open_photos(detector, paths, {}, 10**6)
    assert said == []
    assert np.abs(seen[1].landmarks - PLACES - np.array([60, 45])).max() < 0.3
    (first, second), problems = swapped(StyleTranslator.load("histogram"), seen, 1.0)
    assert problems == []
    assert first is not None
    assert second is not None
    assert first.shape == second.shape == (FACE_PX, FACE_PX, 3)
    assert np.abs(np.median(first, axis=(0, 1)) - BROWN).max() < 3
    assert np.abs(np.median(second, axis=(0, 1)) - BLUE).max() < 3
    drawn_on = marked(seen[0], FIVE)
    assert max(drawn_on.shape[:2]) == 480
    assert (drawn_on == 255).all(axis=2).sum() > 50  # the dots
    again, _ = open_photos(detector, (paths[0], None), seen, 10**6)
    assert again[0] is seen[0]
    assert 1 not in again


def test_what_is_wrong_with_a_photo_is_a_sentence_without_a_path(tmp_path: Path, detector: Detector) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    write_image(tmp_path / "empty.png", np.full((60, 60, 3), 50, np.uint8))
    good = photo(tmp_path / "a.png", BLUE)
    for name, words in (("text.jpg", "not an image"), ("empty.png", "no face found"), ("gone.png", "no such image")):
        seen, said = open_photos(detector, (good, str(tmp_path / name)), {}, 10**6)
        assert list(seen) == [0]
        assert len(said) == 1
        assert said[0].startswith("The second photo: ")
        assert words in said[0]
        assert str(tmp_path) not in said[0]
    _, said = open_photos(detector, (good, None), {}, 5000)
    assert "110 x 90 pixels, expected at most 5,000" in said[0]


def test_a_large_photo_is_kept_small_and_upright(tmp_path: Path, detector: Detector) -> None:
    points = PLACES * 10 + np.array([800, 500])
    image = np.full((1000, 1600, 3), 40, np.uint8)
    y, x = np.mgrid[:1000, :1600]
    for (px, py), colour in zip(points, COLOURS, strict=True):
        image[np.hypot(x - px, y - py) < 14] = colour
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned left
    Image.fromarray(np.ascontiguousarray(np.rot90(image))).save(tmp_path / "large.png", exif=exif)
    seen = open_photo(detector, str(tmp_path / "large.png"), 10**7)
    assert seen.image.shape == (round(1000 * SHOWN_PX / 1600), SHOWN_PX, 3)
    assert np.abs(seen.landmarks - points * SHOWN_PX / 1600).max() < 4
    stored = seen.faces[0].landmarks  # px of the file: x from its left, y from its top
    assert np.abs(stored - np.stack([points[:, 1], 1599 - points[:, 0]], axis=1)).max() < 4


def test_the_page_says_how_sure_it_is_and_hands_out_what_predict_writes(tmp_path: Path, detector: Detector) -> None:
    (tmp_path / "x").mkdir()
    paths = photo(tmp_path / "a.png", BLUE), photo(tmp_path / "x" / "a.png", BROWN, 60)
    seen, _ = open_photos(detector, paths, {}, 10**6)
    assert described(seen) == [f"The {n} photo: 1 face; a detector without confidence." for n in ("first", "second")]
    sure = dataclasses.replace(seen[0].faces[0], covariance=np.tile(np.eye(2), (5, 1, 1)))
    two = dataclasses.replace(seen[0], faces=(sure, sure))
    assert described({1: two}) == [
        f"The second photo: 2 faces; the largest is taken; confidence {sure.confidence:.2f}."
    ]

    files = files_of(seen, FIVE)
    assert sorted(files) == ["predictions.csv", "predictions.jsonl"]
    header, *rows = files["predictions.csv"].decode().splitlines()
    assert header.startswith("image,x0,y0,")
    assert [row.split(",")[0] for row in rows] == ["first/a.png", "second/a.png"]
    read = [Face.from_line(line) for line in files["predictions.jsonl"].decode().splitlines()]
    for found, expected in zip(read, (seen[0], seen[1]), strict=True):
        assert np.abs(found.landmarks - expected.faces[0].landmarks).max() <= 1e-4
    assert b"first" not in files_of({0: seen[0]}, FIVE)["predictions.csv"]
    assert files_of({}, FIVE) == {}


def test_both_ways_are_offered_and_a_pair_that_cannot_be_bent_is_said(tmp_path: Path, detector: Detector) -> None:
    ways = with_the_other_way(StyleTranslator.load("adain"), detector, "cpu")
    assert {kept: way.model for kept, way in ways.items()} == {"photo": "adain", "structure": "warp"}
    of_other_faces = with_the_other_way(StyleTranslator.load("warp"), detector, "cpu")  # the package's draws 68 points
    assert list(of_other_faces) == ["structure"]

    seen, _ = open_photos(detector, (photo(tmp_path / "a.png", BLUE), photo(tmp_path / "b.png", BROWN)), {}, 10**6)
    squeezed = dataclasses.replace(seen[1], landmarks=seen[1].landmarks * (1, 0.05) + (0, 60))
    made, problems = swapped(ways["structure"], {0: seen[0], 1: squeezed}, 1.0)
    assert made == (None, None)
    assert problems
    assert all(sentence.startswith("The two faces cannot be bent into each other: ") for sentence in problems)
    drawn_out = seen[1].landmarks.copy()
    drawn_out[[0, 3]] += 0.72 * (drawn_out[2] - drawn_out[[0, 3]])  # one half of the face is narrow
    made, problems = swapped(ways["structure"], {0: seen[0], 1: dataclasses.replace(seen[1], landmarks=drawn_out)}, 1.0)
    assert made[0] is not None
    assert any(s.startswith("Look closely: ") and s.endswith("heads that are turned differently.") for s in problems)


def test_the_examples_are_faces_to_the_detector_in_the_package() -> None:
    detector = stylealign.load()
    found = [detector.predict(image) for image in example_pair(0)]
    assert [len(faces) for faces in found] == [1, 1]
    again, after = example_pair(len(PAIRS)), example_pair(1)
    assert (again[0] == example_pair(0)[0]).all()
    assert (after[0] != again[0]).any()


def test_without_gradio_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'stylealign\[demo\]'"):
        import_gradio()


def test_wrong_flags_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        ("--port 0", "port is 0, expected 1 to 65535"),
        ("--max-megabytes -1", "expected above 0"),
        ("--max-total-megabytes nan", "max_total_megabytes nan: expected a number of at least max_megabytes (20)"),
        ("--max-total-megabytes inf", "max_total_megabytes inf: expected a number of at least max_megabytes (20)"),
        ("--translator nowhere", "nowhere: no such run"),
        ("--translator adain --model nowhere", "nowhere: no such run"),
    ):
        assert main(["demo", *words.split()]) == 2
        assert sentence in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------------
# In a browser

# Python runs this module in every process that finds it: here, to write down whom the server asks.
WITNESS = """
import os, sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        where = arguments[1] if event == "socket.connect" else arguments[0]
        os.write(FILE, f"{where[0] if isinstance(where, tuple) else where}\\n".encode())
FILE = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(note)
"""


class Served(NamedTuple):
    """A running demo."""

    address: str
    port: int
    process: subprocess.Popen
    folder: Path
    """tmp/ its temporary files, witness.txt whom it asked"""
    faces: tuple[Path, Path]
    """Photos with a face that its detector finds"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`stylealign demo` as a process of its own, with the detector in the package."""
    pytest.importorskip("gradio", minversion="6", reason="the demo needs gradio")
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    folder = tmp_path_factory.mktemp("demo")
    faces = folder / "face0.png", folder / "face1.png"
    for path, image in zip(faces, example_pair(1), strict=True):
        write_image(path, image)
    (folder / "tmp").mkdir()
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(WITNESS)
    port = free_port()
    source = Path(stylealign.__file__).parents[1]
    environment = {
        **os.environ, "TMPDIR": str(folder / "tmp"), "WITNESS": str(folder / "witness.txt"),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(source)]),
    }  # fmt: skip
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stylealign", "demo", "--port", str(port), "--translator", "adain",
             "--max-megabytes", "1", "--max-megapixels", "0.3", "--accelerator", "cpu"],
            stdout=log, stderr=log, env=environment, cwd=folder,
        )  # fmt: skip
    try:
        for _ in range(1200):
            if b"the demo is at" in (folder / "server.log").read_bytes() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert process.poll() is None, (folder / "server.log").read_text()
        yield Served(f"http://127.0.0.1:{port}/", port, process, folder, faces)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def shown(page: Page, name: str) -> np.ndarray:
    """A picture of the page, pixel by pixel."""
    return np.asarray(Image.open(io.BytesIO(page.pixels(f"#{name} img"))).convert("RGB"))


@pytest.mark.slow
def test_a_person_gives_two_photos_and_moves_the_slider(served: Served, tmp_path: Path) -> None:
    detector = stylealign.load()
    ways = with_the_other_way(StyleTranslator.load("adain"), detector, "cpu")
    expected, said = open_photos(detector, (str(served.faces[0]), str(served.faces[1])), {}, 10**6)
    assert said == []
    results = ("made_first", "made_second", "marked_first", "marked_second")
    (tmp_path / "text.jpg").write_text("no picture")
    write_image(tmp_path / "empty.png", np.full((200, 200, 3), 90, np.uint8))
    write_image(tmp_path / "wide.png", np.zeros((600, 600, 3), np.uint8))
    write_image(tmp_path / "heavy.png", np.random.default_rng(0).integers(0, 255, (700, 700, 3)).astype(np.uint8))
    profile = tmp_path / "profile"
    profile.mkdir()
    with Page(profile) as page:
        page.open(served.address)
        page.wait("!!document.querySelector('#second input[type=file]')")
        assert "Give two photos, each with a face." in page.ask("document.querySelector('#said').innerText")

        # What is no photo of a face is a sentence in the page, and the page goes on.
        for name, sentence in (
            ("empty.png", "The first photo: no face found"),
            ("text.jpg", "The first photo: not an image that can be read"),
            ("wide.png", "The first photo: 600 x 600 pixels, expected at most 300,000 in all"),
        ):
            page.choose_file("#first input[type=file]", tmp_path / name)
            page.wait(f"document.querySelector('#said').innerText.includes({sentence!r})")
            assert not page.ask("/Traceback|Error/.test(document.body.innerText)")
            page.click("#first button[aria-label='Remove Image']")
            page.wait("!!document.querySelector('#first input[type=file]')")
        page.choose_file("#first input[type=file]", tmp_path / "heavy.png")
        page.wait("document.body.innerText.includes('exceed the maximum allowed size')")
        assert not page.ask("!!document.querySelector('#marked_first img')")
        page.open(served.address)
        page.wait("!!document.querySelector('#second input[type=file]')")

        # Two faces.
        for side, path in zip(("first", "second"), served.faces, strict=True):
            page.choose_file(f"#{side} input[type=file]", path)
            page.wait(f"!!document.querySelector('#marked_{side} img')")
        page.wait(" && ".join(f"!!document.querySelector('#{name} img')" for name in results))
        full, _ = swapped(ways["photo"], expected, 1.0)
        for name, picture in zip(
            results, (*full, *(marked(expected[i], detector.schema) for i in (0, 1))), strict=True
        ):
            assert np.abs(shown(page, name).astype(int) - picture).max() <= 1, name
        page.screenshot(tmp_path / "swapped.png")

        # How sure it is, and what it hands out: what `predict` writes of these two files.
        for sentence in described(expected):
            assert "; confidence 0." in sentence
            page.wait(f"document.querySelector('#said').innerText.includes({sentence!r})")
        for name, content in files_of(expected, detector.schema).items():
            address = page.ask(f"document.querySelector('#files a[download=\\'{name}\\']').href")
            assert base64.b64decode(address.partition(",")[2]) == content

        # The slider.
        source = page.ask("document.querySelector('#made_first img').src")
        page.click("#strength input[type=range]", 0.25)
        page.wait(f"document.querySelector('#made_first img').src != {source!r}")
        strength = float(page.ask("document.querySelector('#strength input[type=range]').value"))
        assert 0.15 <= strength <= 0.35
        page.wait("!document.querySelector('.generating')")
        less, _ = swapped(ways["photo"], expected, strength)
        assert np.abs(less[0].astype(int) - full[0]).max() > 10
        for name, picture in zip(results, less, strict=False):
            assert np.abs(shown(page, name).astype(int) - picture).max() <= 1, name
        page.screenshot(tmp_path / "slider.png")

        # The other thing to keep, and two drawn faces.
        source = page.ask("document.querySelector('#made_first img').src")
        page.click("#keep input[value=structure]")
        page.wait(f"document.querySelector('#made_first img').src != {source!r}")
        bent, problems = swapped(ways["structure"], expected, strength)
        assert problems == []
        page.wait("!document.querySelector('.generating')")
        for name, picture in zip(results, bent, strict=False):
            assert np.abs(shown(page, name).astype(int) - picture).max() <= 1, name
        page.screenshot(tmp_path / "structure.png")
        source = page.ask("document.querySelector('#marked_second img').src")
        page.click("#example")
        page.wait(f"document.querySelector('#marked_second img').src != {source!r}")
        page.wait("document.querySelector('#said').innerText.includes('The second photo: 1 face; confidence')")
        page.screenshot(tmp_path / "example.png")

        assert page.errors == []
        assert {address.split("/")[2] for address in page.requests} == {f"127.0.0.1:{served.port}"}
    for name in ("swapped.png", "slider.png", "structure.png", "example.png"):
        assert read_image(tmp_path / name).std() > 20
    print(f"screenshots: {tmp_path}")


@pytest.mark.slow
def test_the_server_keeps_to_itself_and_leaves_nothing_behind(served: Served) -> None:
    """Runs last: it stops the server."""
    for path in ("/etc/passwd", str(served.faces[0]), str(served.folder / "server.log")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{served.address}gradio_api/file={path}")
        assert refused.value.code in (403, 404)
    assert "Traceback" not in (served.folder / "server.log").read_text()
    # A file that nobody uploaded, named in the page's own way: gradio refuses it before it is ours.
    forged = {"path": str(served.faces[0]), "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    asked_for = {"data": [forged, None, "photo", 1, None], "fn_index": 0, "session_hash": "forged"}
    join = urllib.request.Request(
        f"{served.address}gradio_api/queue/join", json.dumps(asked_for).encode(), {"content-type": "application/json"}
    )
    urllib.request.urlopen(join).close()
    with urllib.request.urlopen(f"{served.address}gradio_api/queue/data?session_hash=forged", timeout=60) as stream:
        answer = next(line for line in stream if b"process_completed" in line)
    assert b'"success":false' in answer
    assert "not uploaded by a user" in (served.folder / "server.log").read_text()
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.2", served.port), timeout=5):
        pass
    words = ["demo", "--port", str(served.port), "--translator", "adain"]
    environment = {**os.environ, "PYTHONPATH": str(Path(stylealign.__file__).parents[1])}
    taken = subprocess.run(
        [sys.executable, "-m", "stylealign", *words], capture_output=True, text=True, env=environment, check=False
    )
    assert taken.returncode == 2
    assert f"--port {served.port}: cannot be listened on" in taken.stderr
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    assert not list((served.folder / "tmp").glob("stylealign-demo-*"))
    asked = set((served.folder / "witness.txt").read_text().split())
    assert asked <= {"127.0.0.1", "localhost", "::1"}, asked
    assert asked  # gradio looks whether its own page is up: the witness was there


def test_a_seen_photo_is_not_changed_by_drawing_on_it() -> None:
    face = Face(landmarks=PLACES + 20, box=np.zeros(4), score=None, found_by="given")
    seen = PhotoWithFaces("x", np.full((40, 40, 3), 9, np.uint8), face.landmarks, (face,))
    marked(seen, FIVE)
    assert (seen.image == 9).all()
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen.path = "y"  # type: ignore[misc]
