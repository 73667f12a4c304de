"""The job `translate`: the face of one picture in the style of others -> one picture file.

    one style          the translated face (with --paste: the photograph with it in its place)
    several styles     a row: the face, and under each style what it gives
    --sheet            every picture's face in every picture's style, n x n

The file appears when it is complete. Exit status 3: done, but a picture was left out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro
from PIL import Image

from stylealign.api.detector import Detector
from stylealign.data.atomic import making, refuse_existing, write_whole
from stylealign.data.image import encode_image
from stylealign.errors import UserError
from stylealign.face.orientation import view_of
from stylealign.predicting.finders import yunet_finder
from stylealign.predicting.network import open_network
from stylealign.predicting.predicted_face import largest
from stylealign.predicting.sources import read_photo
from stylealign.progress import say, track

if TYPE_CHECKING:
    from stylealign.api.translator import StyleTranslator

LEFT_OUT = 3  # exit status: the rest was done


@dataclass(frozen=True, kw_only=True, slots=True)
class Translate:
    """Show the face of the first picture in the style of each of the others.

    The largest face of each picture is taken. What "style" is, the translator says: `spade` and `vunet` draw a new
    face on the landmarks of the first picture; `bilateral` and the free styles keep its photograph and change light
    and colours.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Pictures: the first gives the face, each further one a style."""
    out: Path = Path("translated.png")
    """Picture file to write."""
    translator: str | None = None
    """Run folder of a finished train-translator, or a free style, which needs no training:
    histogram, adain, adain_pyramid, fda, relight. Not given: the translator that came with the package."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["--onnx"])] = None
    """The detector that finds the landmarks: run folder or .onnx file.
    Not given: the one that came with the package."""
    strength: float = 1.0
    """0: the face's own style, 1: the other's.
    Translators go from one style code to the other, free styles blend the pixels."""
    sheet: bool = False
    """Every face in every style, n x n."""
    paste: bool = False
    """Write the first photograph with the translated face in its place, its edge faded (one style)."""
    size: int = 256
    """Side of the written faces, px. A translator that draws knows no more detail than its own size holds."""
    whole_image: bool = False
    """Every picture is a crop of one face: look for none."""
    yunet: Path | None = None
    """YuNet's ONNX file, to find faces with instead of MTCNN."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the networks run."""

    def __post_init__(self) -> None:
        if len(self.inputs) < 2:
            raise ValueError(
                f"{len(self.inputs)} pictures; expected a face and at least one style: translate a.jpg b.jpg"
            )
        if self.out.suffix.lower() not in Image.registered_extensions():
            raise ValueError(f"out is {self.out}, expected a picture's name such as translated.png")
        if self.paste and (self.sheet or len(self.inputs) > 2):
            raise ValueError("--paste writes one photograph: expected one face and one style")
        if not 0 <= self.strength <= 1 or not 16 <= self.size <= 2048:
            raise ValueError(f"strength {self.strength} and size {self.size}: expected 0 to 1, and 16 to 2048")


def refuse_other_mark_up(translator: "StyleTranslator", detector: Detector, name: str) -> None:
    """Raise UserError where the detector's landmarks are not those that the translator draws."""
    if translator.schema is not None and translator.schema != detector.schema:
        raise UserError(
            f"{name}: a translator of {translator.schema.name} faces, but the detector finds {detector.schema.name}: "
            "expected the same mark-up (another --translator or --model)"
        )


def _landmarks(config: Translate, detector: Detector, left_out: list[str]) -> dict[str, np.ndarray]:
    """Landmarks (P, 2) of the largest face of each picture, by its name.

    A picture without a face becomes a sentence of `left_out`, or a UserError where nothing is left to do.
    """
    found: dict[str, np.ndarray] = {}
    for name in track(list(dict.fromkeys(config.inputs)), "looking for faces", len(set(config.inputs))):
        try:
            faces = detector.predict(Path(name), whole_image=config.whole_image)
            if not faces:
                raise UserError(f"{name}: no face found")
        except UserError as error:
            if name == config.inputs[0] and not config.sheet:
                raise
            left_out.append(str(error))
            continue
        if len(faces) > 1:
            say(f"{name}: {len(faces)} faces; the largest is taken")
        found[name] = largest(faces).landmarks
    if len(found) < 2:
        raise UserError("; ".join(left_out) or f"{config.inputs[0]}: expected another picture that gives the style")
    return found


def _picture(config: Translate, translator: "StyleTranslator", landmarks: dict[str, np.ndarray]) -> np.ndarray:
    """What is written: a face, a photograph, a row or a sheet."""
    from stylealign.evaluation.draw import style_sheet

    styles = [name for name in config.inputs if name in landmarks]
    contents = styles if config.sheet else styles[:1]
    if not config.sheet:
        styles = styles[1:]
    grid = [
        [
            translator.translate(
                a, landmarks[a], b, landmarks[b], strength=config.strength, size=config.size, paste=config.paste
            )
            for b in styles
        ]
        for a in track(contents, "translating", len(contents))
    ]
    if len(styles) > 1 or config.sheet:
        return style_sheet(
            [row[0].content for row in grid], [made.style for made in grid[0]], [[m.crop for m in row] for row in grid]
        )
    if not config.paste:
        return grid[0][0].crop
    pasted = grid[0][0].picture
    assert pasted is not None
    return view_of(pasted, read_photo(Path(contents[0])).view_from_source)  # the file written has no EXIF to turn it


def run_translate(config: Translate, detector: Detector, translator: "StyleTranslator") -> int:
    """Do the job with models that are already open; the exit status."""
    refuse_existing(config.out)
    refuse_other_mark_up(translator, detector, config.translator or "the translator that came with stylealign")
    left_out: list[str] = []
    landmarks = _landmarks(config, detector, left_out)
    picture = _picture(config, translator, landmarks)
    write_whole(config.out, encode_image(picture, config.out.suffix))
    for sentence in left_out:
        say(f"left out: {sentence}")
    others = [name for name in landmarks if name != config.inputs[0]]
    whose = others[0] if len(others) == 1 else f"{len(others)} others"
    what = "every face in every style" if config.sheet else f"{config.inputs[0]} in the style of {whose}"
    say(f"{what} -> {config.out}" + (f"; {len(left_out)} left out" if left_out else ""))
    return LEFT_OUT if left_out else 0


@making("out")
def main(config: Translate) -> int:
    """Load the models and translate; the exit status."""
    from stylealign.api.translator import StyleTranslator

    refuse_existing(config.out)
    translator = StyleTranslator.load(config.translator, accelerator=config.accelerator)
    finder = yunet_finder(config.yunet) if config.yunet else None
    return run_translate(config, Detector(open_network(config.model, config.accelerator), finder), translator)
