"""What comes after a `fit`: next.md, whose commands hold real paths and can be typed as they stand."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stylealign.errors import typed
from stylealign.face.sample import FaceSample
from stylealign.predicting.places import ENOUGH, Places


class Result(NamedTuple):
    """What a fit made."""

    out: Path
    run: Path
    """The better detector"""
    verdict: str
    """How good it is, a sentence"""
    rough: bool
    """Whether its error is so large that `predict` would take its answers for none"""
    places: Places
    held_out: Sequence[FaceSample]
    """Labelled faces it was measured on"""
    onnx: bool
    """Whether detector.onnx was written"""
    unlabelled: Path | None
    """Folder of pictures without labels"""
    again: str
    """The command that was given, with more minutes and another folder"""


def next_page(result: Result) -> str:
    """The page, as Markdown. The first held-out pictures stand for the reader's own."""
    q, out = typed, result.out
    pictures = " ".join(q(path) for path in dict.fromkeys(face.image.absolute() for face in result.held_out[:3]))
    flags = result.places.flags or (f" --boxes {q(out / 'boxes.csv')}" if result.places.how == "boxes" else "")
    found = result.places.sentence()
    lines = [
        "# What to type next", "",
        result.verdict, "",
        f"Look at {out / 'report.html'} first, and at {out / 'pairs.png'}: a colour that changes its side of the face "
        "is a wrong mirror pair.", "",
        "## Use the detector", "",
        f"{found[:1].upper()}{found[1:]}.",
    ]  # fmt: skip
    if result.places.how == "boxes":
        lines += ["", "`boxes.csv` holds the boxes of the held-out faces; yours need some of their own, in this form."]
    doubt = " --no-check" if result.rough else ""
    if result.rough:
        flags += doubt
        lines += [
            "", "The detector is rough yet, and `predict` would doubt its answers: --no-check keeps them.",
        ]  # fmt: skip
    lines += [
        "Here the pictures are held-out ones: put your own in their place.", "",
        "```bash",
        f"stylealign predict {pictures} --model {q(result.run)}{flags} --draw --out {q(out / 'predictions')}",
        "```", "",
    ]  # fmt: skip
    if result.places.found < 0.5 and result.places.whole < ENOUGH:
        finder = out / "finder"
        lines += [
            "A finder of such faces can be learnt from the same labels and finds them from then on:", "",
            "```bash",
            f"stylealign train-finder --data {q(out / 'data')} --run {q(finder)} --minutes 20",
            f"stylealign predict {pictures} --model {q(result.run)} --finder {q(finder)}{doubt} --draw "
            f"--out {q(out / 'found')}",
            "```", "",
        ]  # fmt: skip
    lines += ["## Take it elsewhere", ""]
    if result.onnx:
        lines += [
            f"`{out / 'detector.onnx'}` is the detector with its crop and mark-up, for onnxruntime. In 8 bits it is "
            "smaller and faster:", "",
            "```bash",
            f"stylealign export {q(result.run)} --precision int8 --calibrate {q(out / 'data')} "
            f"--data {q(out / 'data')} --out {q(out / 'detector_int8.onnx')}",
            "```", "",
        ]  # fmt: skip
    else:
        lines += [
            "onnx is not installed. With it (`pip install 'stylealign[export]'`):", "",
            "```bash", f"stylealign export {q(result.run)} --out {q(out / 'detector.onnx')}", "```", "",
        ]  # fmt: skip
    lines += ["## Label more", ""]
    if result.unlabelled is not None:
        lines += [
            "Pictures of kinds that the labelled ones lack, with the detector's landmarks to be corrected:", "",
            "```bash",
            f"stylealign suggest {q(result.unlabelled)} --detectors {q(result.run)} --labelled {q(out / 'data')} "
            f"--out {q(out / 'suggested')}{result.places.flags}",
            "```", "",
        ]  # fmt: skip
    else:
        lines += [
            "There were no pictures without labels. Put some beside the labelled ones (or name their folder with "
            "`--unlabelled`): the next fit learns from them too, and `stylealign suggest` says which to label.", "",
        ]  # fmt: skip
    lines += ["## Train longer", "", "```bash", result.again, "```", ""]
    return "\n".join(lines)
