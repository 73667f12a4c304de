"""The judge: a landmark detector that never met the translator looks at swapped faces and says whether they kept their labels.

Reconstructions look best exactly when the style code leaks structure; the judge's NME on faces drawn in a stranger's style,
beside its NME on the same real faces, is the number that decides. Knows networks and landmarks, no files.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stylealign import metrics
from stylealign.batch import Batch
from stylealign.schema import LandmarkSchema
from stylealign.translators.loaded import LoadedTranslator

MAX_GAP = (
    0.010  # NME a translator may cost before its faces are warned against: the paper's whole gain is 0.005 to 0.008
)
MAX_MORE_FAILURES = 0.10  # share of swapped faces above 0.10 beyond the real faces' share
WEAK_JUDGE = 0.08  # NME on real faces above which a judge says little


def swap_partners(num: int, seed: int) -> np.ndarray:
    """(num,) a style donor for each face, never itself: a seeded cyclic order of at least 2 faces."""
    assert num >= 2, "a face alone has no partner"
    order = np.random.default_rng((seed, 77)).permutation(num)
    partners = np.empty(num, dtype=np.int64)
    partners[order] = np.roll(order, 1)
    return partners


@torch.no_grad()
def judge_swaps(
    translator: LoadedTranslator,
    batch: Batch,
    judge: nn.Module,
    judge_size: int,
    schema: LandmarkSchema,
    seed: int,
    chunk: int = 16,
) -> dict[str, Any]:
    """The judge's NME (fractions) on real faces and on the same faces translated into a stranger's style.

    `gap` = swap NME - real NME; `share_above_10` the share of swapped faces above 0.10, `real_share_above_10` of real ones;
    `parts` both NMEs per facial part;
    `style_distance` the mean colour distance of the outputs to the style's and to the content's picture (mean absolute
    difference of 4 x 4 thumbnails, in [0, 2]): a translator that changes style is nearer to the style's.
    """
    partners = torch.from_numpy(swap_partners(len(batch.image), seed))
    swapped = torch.cat(
        [
            translator.translate(batch.image[i], batch.landmarks[i], batch.image[partners[i]], batch.landmarks[partners[i]])
            for i in torch.arange(len(partners)).split(chunk)
        ]
    )  # fmt: skip
    swapped = swapped.clamp(-1, 1)

    def landmarks(images: Tensor) -> np.ndarray:
        scale = images.shape[-1] / judge_size
        resized = (
            images
            if scale == 1
            else nn.functional.interpolate(images, size=judge_size, mode="bilinear", antialias=True)
        )
        found = torch.cat([judge(part).landmarks for part in resized.split(chunk)]).double().cpu().numpy()
        return (found + 0.5) * scale - 0.5

    truth = batch.landmarks.double().cpu().numpy()
    boxes = np.concatenate([truth.min(axis=1), truth.max(axis=1)], axis=1)
    denominators = metrics.denominators(truth, boxes, schema, metrics.usual_denominator(schema))
    found = {"real": landmarks(batch.image), "swap": landmarks(swapped)}
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
        "gap": float(nme["swap"].mean() - nme["real"].mean()),
        "share_above_10": float((nme["swap"] > 0.10).mean()),
        "real_share_above_10": float((nme["real"] > 0.10).mean()),
        "parts": {p: {k: float(v[:, list(i)].mean()) for k, v in per_point.items()} for p, i in schema.parts.items()},
        "style_distance": {
            "to_style": float((colours - real_colours[partners]).abs().mean()),
            "to_content": float((colours - real_colours).abs().mean()),
        },
    }


def too_far(judge: dict[str, Any]) -> bool:
    """Whether swapped faces are too far from their labels to train on. NaN is no recommendation."""
    more_failures = judge["share_above_10"] - judge["real_share_above_10"]
    return not (judge["gap"] <= MAX_GAP and more_failures <= MAX_MORE_FAILURES)


def verdict(judge: dict[str, Any]) -> str:
    """The judge's figures and what they say: may the translator be used?"""
    figures = (
        f"NME on swapped faces {judge['swap_nme']:.2%}, on the same real faces {judge['real_nme']:.2%}: structure gap "
        f"{100 * judge['gap']:+.2f} points, {judge['share_above_10']:.1%} of swapped faces above 10 %, {judge['real_share_above_10']:.1%} of real ones"
    )
    if judge["real_nme"] > WEAK_JUDGE:
        figures += ". The judge is weak (above 8 % on real faces): train it longer, or name a better one with --judge"
    if too_far(judge):
        return f"{figures}. Too far from its labels: training a detector on these faces would teach it wrong labels"
    if judge["gap"] < -0.005:
        return f"{figures}. Keeps its labels; swapped faces are easier than real ones, a sign of lost variety"
    return f"{figures}. Keeps its labels"
