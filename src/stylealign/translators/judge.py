"""The judge: a landmark detector that the translator never learnt from says whether swapped faces kept their landmarks.

Reconstructions look best exactly when the style code carries the layout, so they decide nothing. What decides is the
judge's NME on faces in a stranger's style, beside its NME on the same real faces. Knows networks and landmarks, no
files.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stylealign.batches.batch import Batch, take_faces
from stylealign.errors import UserError
from stylealign.evaluation import metrics
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.base import LoadedTranslator

MAX_GAP = 0.010  # NME a translator may cost before its faces are refused: the paper's whole gain is 0.005 to 0.008
MAX_MORE_FAILURES = 0.10  # share of swapped faces above 0.10 beyond the real faces' share
LEAKS = 0.8  # NME to the style's landmarks over NME to the label, below which the faces are laid out like the style's
WEAK_JUDGE = 0.08  # NME on real faces above which a judge says little


def swap_partners(num: int, seed: int) -> np.ndarray:
    """(num,) the face that gives each face its style, never itself: a seeded cyclic order of at least 2 faces."""
    assert num >= 2, "a face alone has no partner"
    order = np.random.default_rng((seed, 77)).permutation(num)
    partners = np.empty(num, dtype=np.int64)
    partners[order] = np.roll(order, 1)
    return partners


@torch.no_grad()
def answers(judge: nn.Module, images: Tensor, judge_size: int, chunk: int = 16) -> np.ndarray:
    """Landmarks (B, P, 2) float64, in px of the images, of a detector whose input may have another side than they."""
    scale = images.shape[-1] / judge_size
    resized = (
        images if scale == 1 else nn.functional.interpolate(images, size=judge_size, mode="bilinear", antialias=True)
    )
    found = torch.cat([judge(part).landmarks for part in resized.split(chunk)]).cpu().double().numpy()
    return (found + 0.5) * scale - 0.5


@torch.no_grad()
def judge_swaps(
    translator: LoadedTranslator,
    batch: Batch,
    judge: nn.Module,
    judge_size: int,
    schema: LandmarkSchema,
    seed: int,
    chunk: int = 16,
    donors: Batch | None = None,
) -> dict[str, Any]:
    """The judge's figures on real faces and on the same faces translated into a stranger's style.

    Args:
        translator: whose faces are judged.
        batch: labelled faces, cut as the translator asks.
        judge: (B, 3, judge_size, judge_size) -> an output with `landmarks`.
        judge_size: side of its input in px.
        schema: the mark-up.
        seed: draws who gives whom a style.
        chunk: faces a pass.
        donors: row i gives face i its style; None: the faces give it to each other.

    Returns:
        faces: how many.
        real_nme, swap_nme: NME (fractions) on real and on swapped faces, and `gap`, the second minus the first.
        style_nme: of swapped faces against the landmarks of the face that gave the style; where it is smaller than
            `swap_nme`, the style code carries the layout.
        share_above_10, real_share_above_10: share of swapped and of real faces whose NME is above 0.10.
        parts: both NMEs of each facial part.
        style_distance: mean colour distance of the swapped to the style's and to the content's picture (mean absolute
            difference of 4 x 4 thumbnails, in [0, 2]); a translator that changes style is nearer to the style's.
    """
    if donors is None:
        donors = take_faces(batch, torch.from_numpy(swap_partners(len(batch.image), seed)))
    parts = torch.arange(len(batch.image)).split(chunk)
    swapped = torch.cat(
        [translator.translate(batch.image[i], batch.landmarks[i], donors.image[i], donors.landmarks[i]) for i in parts]
    ).clamp(-1, 1)

    truth, style_truth = (b.landmarks.cpu().double().numpy() for b in (batch, donors))
    denominators = metrics.denominators(truth, None, schema, metrics.usual_denominator(schema, boxed=False))
    found = {"real": answers(judge, batch.image, judge_size, chunk), "swap": answers(judge, swapped, judge_size, chunk)}
    nme = {k: metrics.nme_per_face(v, truth, denominators) for k, v in found.items()}
    per_point = {k: metrics.point_errors(v, truth) / denominators[:, None] for k, v in found.items()}

    def thumbnails(images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 4)

    colours = thumbnails(swapped)
    real_colours = thumbnails(batch.image)
    return {
        "faces": len(truth),
        "real_nme": float(nme["real"].mean()),
        "swap_nme": float(nme["swap"].mean()),
        "style_nme": float(metrics.nme_per_face(found["swap"], style_truth, denominators).mean()),
        "gap": float(nme["swap"].mean() - nme["real"].mean()),
        "share_above_10": float((nme["swap"] > 0.10).mean()),
        "real_share_above_10": float((nme["real"] > 0.10).mean()),
        "parts": {p: {k: float(v[:, list(i)].mean()) for k, v in per_point.items()} for p, i in schema.parts.items()},
        "style_distance": {
            "to_style": float((colours - thumbnails(donors.image)).abs().mean()),
            "to_content": float((colours - real_colours).abs().mean()),
        },
    }


def too_far(judge: dict[str, Any]) -> bool:
    """Whether swapped faces are too far from their labels to train on. NaN is no recommendation."""
    more_failures = judge["share_above_10"] - judge["real_share_above_10"]
    return not (judge["gap"] <= MAX_GAP and more_failures <= MAX_MORE_FAILURES)


def leaks(judge: dict[str, Any]) -> bool:
    """Whether swapped faces are laid out like the face that gave the style; False where that was not measured."""
    return judge.get("style_nme", float("nan")) < LEAKS * judge["swap_nme"]


def gate(card: dict[str, Any], accept_gap: bool, what: str) -> list[str]:
    """What to say of a translator before its faces are learnt from: the judge's figures, and warnings.

    Raises UserError, with the figures, for one whose faces do not have their labels' landmarks, unless `accept_gap`.
    For one that was never judged there is only a warning.
    """
    judge = card.get("judge")
    if not isinstance(judge, dict):
        return ["warning: this translator was never judged: look at the sheets before you train on these faces"]
    if not too_far(judge):
        return [f"judge: {verdict(judge)}"]
    if not accept_gap:
        raise UserError(
            f"{what}: refused by its judge: {verdict(judge)}. The limits are a gap of {100 * MAX_GAP:.1f} points and "
            f"{MAX_MORE_FAILURES:.0%} more faces above 10 %. Train the translator better, or take its faces all the "
            "same with --accept-gap (in a recipe of `pipeline`: generate: {accept_gap: true})"
        )
    return [
        f"judge: {verdict(judge)}",
        "WARNING: accepted all the same (accept_gap): these faces do not have the landmarks they are labelled with",
    ]


def verdict(judge: dict[str, Any]) -> str:
    """The judge's figures and what they say: may the translator be used?"""
    figures = (
        f"NME on swapped faces {judge['swap_nme']:.2%}, on the same real faces {judge['real_nme']:.2%}: structure gap "
        f"{100 * judge['gap']:+.2f} points, {judge['share_above_10']:.1%} of swapped faces above 10 %, "
        f"{judge['real_share_above_10']:.1%} of real ones"
    )
    if judge["real_nme"] > WEAK_JUDGE:
        figures += ". The judge is weak (above 8 % on real faces): train it longer, or name a better one with --judge"
    if leaks(judge):
        figures += (
            f". LEAKING: they lie {judge['style_nme']:.2%} from the landmarks of the face that gave the style, nearer "
            "than to their own label: the style code carries the layout, and the structure map is ignored"
        )
    if too_far(judge):
        return f"{figures}. Too far from its labels: a detector trained on these faces would learn wrong labels"
    if judge["gap"] < -0.005:
        return f"{figures}. Keeps its labels; swapped faces are easier than real ones, a sign of lost variety"
    return f"{figures}. Keeps its labels"
