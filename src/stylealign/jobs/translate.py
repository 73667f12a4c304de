"""The job `translate`: the face of one picture in the style of others -> one picture file.

    one style          the face, the style and the translated face side by side (with --paste: two whole photographs)
    several styles     a row: the face, and under each style what it gives
    --sheet            every picture's face in every picture's style, n x n

The file appears when it is complete. Exit status 3: done, but a picture was left out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from stylealign.api.detector import Detector
from stylealign.data.atomic import making, refuse_existing, write_whole
from stylealign.data.image import IMAGE_SUFFIXES, encode_image
from stylealign.errors import UserError, counted
from stylealign.face.orientation import view_of
from stylealign.predicting.finders import yunet_finder
from stylealign.predicting.network import open_network
from stylealign.predicting.predicted_face import largest
from stylealign.predicting.sources import read_photo
from stylealign.progress import say, track

if TYPE_CHECKING:
    from stylealign.api.translator import StyleTranslator, Translation

GREY = 224  # of a tile of a pair that cannot be drawn
LEFT_OUT = 3  # exit status: the rest was done


@dataclass(frozen=True, kw_only=True, slots=True)
class Translate:
    """Show the face of the first picture in the style of each of the others.

    The largest face of each picture is taken. Two things can be kept of the first picture: its photograph, in another
    light and other colours (`bilateral`, the free styles), or its structure, on which another picture is laid (`warp`
    and `repaint` bend that picture itself; `spade` and `vunet` draw a new face).
    """

    inputs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="PHOTO ...")]
    """Pictures: the first gives the face, each further one a style."""
    out: Path = Path("translated.png")
    """Picture file to write."""
    keep: Literal["photo", "structure"] | None = None
    """photo: the first photograph in the other's look. structure: the other photograph in the first one's structure.
    Not given: what the translator keeps; without one, the photograph."""
    translator: str | None = None
    """Run folder of a finished train-translator, or what needs no training: a free style (histogram, adain,
    adain_pyramid, fda, relight) or warp. Not given: warp to keep the structure, else the translator that came with the
    package."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["--onnx"])] = None
    """The detector that finds the landmarks: run folder or .onnx file.
    Not given: the one that came with the package."""
    strength: float = 1.0
    """0: the face's own style, 1: the other's.
    Translators go from one style code to the other, free styles blend the pixels."""
    sheet: bool = False
    """Every face in every style, n x n."""
    paste: bool = False
    """Write whole photographs, before and after (one style): the first photograph in the new look, or with the new face
    in its place."""
    only_after: bool = False
    """With one style, write the result alone."""
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
                f"{counted(len(self.inputs), 'picture')}; expected a face and at least one style: translate a.jpg b.jpg"
            )
        if self.out.suffix.lower() not in IMAGE_SUFFIXES:  # Pillow knows more kinds, many of which it only reads
            raise ValueError(
                f"out is {self.out}, expected a picture's name such as translated.png ({', '.join(IMAGE_SUFFIXES)})"
            )
        if self.only_after and (self.sheet or len(self.inputs) > 2):
            raise ValueError("--only-after writes one picture: expected one face and one style")
        if self.paste and (self.sheet or len(self.inputs) > 2):
            raise ValueError("--paste writes one photograph: expected one face and one style")
        if not 0 <= self.strength <= 1 or not 16 <= self.size <= 2048:
            raise ValueError(f"strength {self.strength} and size {self.size}: expected 0 to 1, and 16 to 2048")


def refuse_what_it_does_not_keep(translator: "StyleTranslator", config: Translate) -> None:
    """Raise UserError where --keep asks for what the translator does not do."""
    if config.keep is not None and config.keep != translator.keeps:
        raise UserError(
            f"{config.translator}: keeps the {translator.keeps} of the first picture, but --keep asks for the "
            f"{config.keep}: give another --translator, or none"
        )


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
            say(f"{name}: {counted(len(faces), 'face')}; the largest is taken")
        found[name] = largest(faces).landmarks
    if len(found) < 2:
        raise UserError("; ".join(left_out) or f"{config.inputs[0]}: expected another picture that gives the style")
    return found


def _picture(
    config: Translate, translator: "StyleTranslator", landmarks: dict[str, np.ndarray], left_out: list[str]
) -> np.ndarray:
    """What is written: a face beside what it was made from, photographs, a row or a sheet."""
    from stylealign.evaluation.draw import contact_sheet, style_sheet

    styles = [name for name in config.inputs if name in landmarks]
    contents = styles if config.sheet else styles[:1]
    if not config.sheet:
        styles = styles[1:]
    several = len(styles) > 1 or config.sheet

    def translation(a: str, b: str) -> "Translation | None":
        """One picture; None, and a sentence of `left_out`, for a pair that cannot be drawn among others that can."""
        try:
            return translator.translate(
                a, landmarks[a], b, landmarks[b], strength=config.strength, size=config.size, paste=config.paste
            )
        except UserError as error:
            if not several:
                raise UserError(f"{a} and {b}: {error}") from None
            left_out.append(f"{a} and {b}: {error}")
            return None

    def crop_of(name: str, found: "list[Translation | None]", which: Literal["content", "style"]) -> np.ndarray:
        there = next((made for made in found if made is not None), None) or translation(name, name)
        return grey if there is None else getattr(there, which)

    grid = [[translation(a, b) for b in styles] for a in track(contents, "translating", len(contents))]
    pairs = [(a, b, m) for a, row in zip(contents, grid, strict=True) for b, m in zip(styles, row, strict=True) if m]
    for remarks in (
        [f"{b} is mirrored, which fits {a} better" for a, b, made in pairs if made.mirrored],
        [f"{b} in the structure of {a}: look closely: {made.doubt}" for a, b, made in pairs if made.doubt],
    ):
        if remarks:
            more = f" (and {counted(len(remarks) - 1, 'more pair')} like it)" if len(remarks) > 1 else ""
            say(remarks[0] + more)
    if several:
        if not any(made for row in grid for made in row):
            raise UserError("; ".join(left_out))
        grey = np.full((config.size, config.size, 3), GREY, np.uint8)
        rows = [crop_of(a, row, "content") for a, row in zip(contents, grid, strict=True)]
        header = [crop_of(b, [row[j] for row in grid], "style") for j, b in enumerate(styles)]
        return style_sheet(rows, header, [[grey if m is None else m.crop for m in row] for row in grid])
    made = grid[0][0]
    assert made is not None
    if not config.paste:
        return made.crop if config.only_after else contact_sheet([made.content, made.style, made.crop], 3)
    assert made.picture is not None
    photo = read_photo(Path(contents[0]))
    after = view_of(made.picture, photo.view_from_source)  # the file written has no EXIF to turn it
    return after if config.only_after else np.hstack([view_of(photo.image, photo.view_from_source), after])


def run_translate(config: Translate, detector: Detector, translator: "StyleTranslator") -> int:
    """Do the job with models that are already open; the exit status."""
    refuse_existing(config.out)
    refuse_what_it_does_not_keep(translator, config)
    refuse_other_mark_up(translator, detector, config.translator or "the translator that came with stylealign")
    left_out: list[str] = []
    landmarks = _landmarks(config, detector, left_out)
    picture = _picture(config, translator, landmarks, left_out)
    write_whole(config.out, encode_image(picture, config.out.suffix))
    for sentence in left_out:
        say(f"left out: {sentence}")
    others = [name for name in landmarks if name != config.inputs[0]]
    whose = others[0] if len(others) == 1 else f"{len(others)} others"
    what = f"{config.inputs[0]} in the style of {whose}"
    if translator.keeps == "structure":
        what = f"{whose} in the structure of {config.inputs[0]}"
    if config.sheet:
        what = "every face in every style"
    say(f"{what} -> {config.out}" + (f"; {len(left_out)} left out" if left_out else ""))
    return LEFT_OUT if left_out else 0


@making("out")
def main(config: Translate) -> int:
    """Load the models and translate; the exit status."""
    from stylealign.api.translator import StyleTranslator

    refuse_existing(config.out)
    name = config.translator or ("warp" if config.keep == "structure" else None)
    translator = StyleTranslator.load(name, accelerator=config.accelerator)
    finder = yunet_finder(config.yunet) if config.yunet else None
    return run_translate(config, Detector(open_network(config.model, config.accelerator), finder), translator)
