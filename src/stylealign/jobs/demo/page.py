"""The page, made of gradio's components. The only file that knows gradio, which is imported when a page is built.

No statistics are sent, nothing is shared, and fonts are the visitor's own, so that neither the page nor the server
asks anybody else.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported: it would say that it was

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from stylealign.api.detector import Detector
from stylealign.api.translator import StyleTranslator
from stylealign.errors import UserError
from stylealign.jobs.demo.examples import example_pair
from stylealign.jobs.demo.gate import Gate
from stylealign.jobs.demo.pair import Keep, PhotoWithFaces, described, files_of, marked, open_photos, swapped

HEAD = (
    "# Two faces, each in the other's style\n"
    "Give two photos. Their landmarks are found, and each face is shown in the style of the other, with landmarks "
    "where they were. The slider goes from each face's own style to the other's. Photos stay on the computer that "
    "shows this page, and are deleted after an hour."
)
WAYS: dict[Keep, str] = {
    "photo": "its photograph, in the light and colours of the other",
    "structure": "its structure, filled with the other's face",
}
EMPTY = "Give two photos, each with a face."
KEPT_S = 3600  # seconds that uploads and results are kept
VISITORS = 50  # whose photos are remembered at a time, of at most 10 MB each
FONTS = (["system-ui", "sans-serif"], ["ui-monospace", "monospace"])


def import_gradio() -> Any:
    """Gradio, or a UserError that says how to get it."""
    try:
        import gradio
    except ImportError:
        raise UserError("the demo needs gradio, which is not installed: pip install 'stylealign[demo]'") from None
    if int(gradio.__version__.split(".")[0]) < 6:
        raise UserError(f"the demo needs gradio 6, found {gradio.__version__}: pip install 'stylealign[demo]'")
    return gradio


def keeping_out_addresses(take: Callable[[Any], Awaitable[str | None]]) -> Callable[[Any], Awaitable[str | None]]:
    """What takes an upload into a component's folder, but for a file whose "path" is an address to fetch."""

    async def take_file(path: Any) -> str | None:
        if "://" in str(path):
            raise PermissionError("not a file that was uploaded")
        return await take(path)

    return take_file


def links_to(files: Mapping[str, bytes]) -> str:
    """HTML: a link to each file, which lies in the page itself, so that nothing has to be kept for it."""
    links = (
        f'<a download="{name}" href="data:application/octet-stream;base64,{b64encode(content).decode()}">{name}</a>'
        for name, content in files.items()
    )
    return f"Landmarks in pixels of the photos: {' and '.join(links)}" if files else ""


def build_page(
    detector: Detector, ways: Mapping[Keep, StyleTranslator], max_pixels: int, keep: Keep | None = None
) -> Any:
    """The page as gradio Blocks.

    Args:
        detector: finds faces and landmarks.
        ways: what is kept of a face -> its translator, of the same mark-up.
        max_pixels: photos of more are refused by their header.
        keep: the way that the page opens with; None: the first.
    """
    gr = import_gradio()

    def given(payload: Any) -> str | None:
        """The uploaded file as it is: what is wrong with it is ours to say, not gradio's."""
        return None if payload is None else payload.path

    def made_of(opened: dict[int, PhotoWithFaces], way: Keep, strength: float) -> tuple[list[Any], str]:
        """What is said and the two translated faces."""
        if len(opened) < 2:
            return [None, None], ""
        both, problems = swapped(ways[way], opened, strength)
        return list(both), " ".join(problems)

    def photos_changed(
        first: str | None, second: str | None, way: Keep, strength: float, before: dict[int, PhotoWithFaces]
    ) -> list[Any]:
        opened, problems = open_photos(detector, (first, second), before, max_pixels)
        drawn = [marked(opened[i], detector.schema) if i in opened else None for i in (0, 1)]
        both, problem = made_of(opened, way, strength)
        said = "\n\n".join([*described(opened), *problems]) or EMPTY
        return [said, problem, links_to(files_of(opened, detector.schema)), *drawn, *both, opened]

    def style_changed(way: Keep, strength: float, opened: dict[int, PhotoWithFaces]) -> list[Any]:
        both, problem = made_of(opened, way, strength)
        return [problem, *both]

    def next_example(number: int) -> list[Any]:
        return [*example_pair(number), number + 1]

    def upload(name: str) -> Any:
        photo = gr.Image(
            type="filepath", image_mode=None, sources=["upload", "clipboard"], label=f"{name} photo",
            elem_id=name.lower(), height=320, format="png",
        )  # fmt: skip
        photo.async_move_resource_to_block_cache = keeping_out_addresses(photo.async_move_resource_to_block_cache)
        photo.preprocess = given  # not by a class of our own: gradio writes a .pyi file beside the source of such
        return photo

    def picture(label: str, name: str) -> Any:
        return gr.Image(label=label, elem_id=name, interactive=False, buttons=["download", "fullscreen"], format="png")

    with gr.Blocks(analytics_enabled=False, title="stylealign", delete_cache=(KEPT_S, KEPT_S)) as page:
        gr.Markdown(HEAD)
        opened, number = gr.State({}, time_to_live=KEPT_S), gr.State(0)
        with gr.Row():
            photos = [upload(name) for name in ("First", "Second")]
        example = gr.Button("No photo at hand? Two drawn faces", elem_id="example", size="sm")
        notes = gr.Markdown(EMPTY, elem_id="said")
        files = gr.HTML(elem_id="files")
        with gr.Row():
            way = gr.Radio(
                [(WAYS[kept], kept) for kept in ways], value=keep if keep in ways else next(iter(ways)),
                label="What is kept of each face", elem_id="keep",
            )  # fmt: skip
            strength = gr.Slider(
                0, 1, 1, step=0.05, label="Style: 0 is each face's own, 1 the other's", elem_id="strength"
            )
        problem = gr.Markdown("", elem_id="problem")
        with gr.Row():
            made = [
                picture("Landmarks of the first, look of the second", "made_first"),
                picture("Landmarks of the second, look of the first", "made_second"),
            ]
        with gr.Row():
            drawn = [
                picture("Landmarks of the first", "marked_first"),
                picture("Landmarks of the second", "marked_second"),
            ]
        # One at a time: a network answers one thread.
        queue: dict[str, Any] = {"concurrency_id": "networks", "concurrency_limit": 1, "api_visibility": "private"}
        for photo in photos:
            photo.change(
                photos_changed, [*photos, way, strength, opened],
                [notes, problem, files, *drawn, *made, opened], **queue,
            )  # fmt: skip
        for control in (way, strength):
            control.change(
                style_changed, [way, strength, opened], [problem, *made], trigger_mode="always_last",
                show_progress="hidden", **queue,
            )  # fmt: skip
        example.click(next_example, [number], [*photos, number], **queue)
    page.queue(api_open=False, max_size=20)
    return page


def serve(
    page: Any, host: str, port: int, *, names: frozenset[str], folder: Path, max_bytes: int, max_total: int,
    browser: bool = False,
) -> str:  # fmt: skip
    """Serve the page from a thread, behind a gate (the arguments are the gate's); its address.

    Raises UserError where the port is taken.
    """
    gr = import_gradio()
    from starlette.middleware import Middleware

    gate = Middleware(Gate, names=names, folder=folder, max_bytes=max_bytes, max_total=max_total)
    os.environ.pop("GRADIO_ALLOWED_PATHS", None)  # an empty list of ours would let this one in
    theme = gr.themes.Default(font=FONTS[0], font_mono=FONTS[1])
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, inbrowser=browser, share=False, prevent_thread_lock=True, quiet=True,
            max_file_size=max_bytes, allowed_paths=[], show_error=False, enable_monitoring=False, ssr_mode=False,
            pwa=False, mcp_server=False, footer_links=[], run_history=False, theme=theme,
            state_session_capacity=VISITORS, app_kwargs={"middleware": [gate]},
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: cannot be listened on ({str(error).splitlines()[0]})") from None
    return address
