"""What a report says first: one sentence on what was found and whether that is sure. Numbers in, words out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stylealign.config import read_json
from stylealign.errors import counted
from stylealign.evaluation.metrics import length_of
from stylealign.evaluation.tables import MIN_SEEDS
from stylealign.jobs.assess.tables import AIMS
from stylealign.jobs.evaluate import tables as evaluation_tables
from stylealign.jobs.study import tables as study_tables
from stylealign.training.seen import data_learnt

FEW = 20
"""Faces below which an error is called a rough one."""


def _who(arm: str, baseline: str) -> str:
    """What made the difference, where an arm's name says that: real+synthetic against real is "synthetic faces"."""
    added = arm.removeprefix(f"{baseline}+") if arm.startswith(f"{baseline}+") else ""
    return {"": arm, "synthetic": "synthetic faces"}.get(added, added)


def _unit(described: Mapping[str, Any], denominator: str) -> str:
    """What errors on a described data set are divided by, in words that follow "of"."""
    words = length_of(described, denominator)
    return words.replace("sqrt(width * height)", "the geometric mean side") if "sqrt" in words else f"the {words}"


def _subject(arm: str) -> str:
    """An arm's name at the beginning of a sentence."""
    return "The detector" if arm == "detector" else f"{arm[:1].upper()}{arm[1:]}"


def _interval(pair: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % interval of one paired comparison, points: over faces and seeds where that is known, else over faces."""
    over = pair.get("over_seeds") or pair
    return 100 * over["low"], 100 * over["high"]


def comparison(pair: Mapping[str, Any]) -> str:
    """One paired comparison (evaluation.json) as a sentence: whether the arm pays, with seeds enough to say so, else
    the difference alone."""
    points, (low, high) = 100 * pair["difference"], _interval(pair)
    who = _who(pair["arm"], pair["baseline"])
    over = pair.get("over_seeds")
    if not over:
        than = "" if who != pair["arm"] else f" than with {pair['baseline']}"
        return (
            f"With {who} the error is {abs(points):.2f} points {'lower' if points < 0 else 'higher'}{than} (95 % "
            f"interval over faces alone {low:+.2f} to {high:+.2f}); whether that pays takes {MIN_SEEDS} seeds of both."
        )
    against = "" if who != pair["arm"] else f" against {pair['baseline']}"
    what = f"{'lowered' if points < 0 else 'raised'} the error by {abs(points):.2f} points{against}"
    interval = f"interval over faces and {counted(over['seeds'], 'seed')}"
    if low > 0 or high < 0:
        span = f"{min(abs(low), abs(high)):.2f} to {max(abs(low), abs(high)):.2f}"
        return f"{who[:1].upper()}{who[1:]} {what} (95 % {interval} {span})."
    return f"{who[:1].upper()}{who[1:]} {what}, but the {interval} ({low:+.2f} to {high:+.2f}) includes 0: not shown."


def _others(pairs: Sequence[Mapping[str, Any]], over_seeds: bool) -> str:
    """The comparisons beside the one that was told, whose interval is `over_seeds` or not, in a sentence; empty where
    there are none."""
    if not pairs:
        return ""
    told = []
    for pair in sorted(pairs, key=lambda pair: pair["difference"]):
        points, (low, high) = 100 * pair["difference"], _interval(pair)
        unsure = "" if low > 0 or high < 0 else ", not shown"
        alone = ", over faces alone" if over_seeds and not pair.get("over_seeds") else ""
        told.append(f"{pair['arm']} {points:+.2f} ({low:+.2f} to {high:+.2f}{alone}{unsure})")
    return f" Likewise against {pairs[0]['baseline']}, in points: {'; '.join(told)}."


def evaluation_verdict(evaluation: Mapping[str, Any]) -> str:
    """What an evaluation found: the difference of the arm that is best on average, then those of the others; or the
    error of the only one."""
    arms, data = evaluation["arms"], evaluation["dataset"]
    best = min(arms, key=lambda arm: arm["nme"]["mean"])
    nme = best["nme"]
    unit = _unit(data, evaluation["denominator"])
    faces = f"{counted(data['faces'], 'face')} of split {data['split']}"
    error = (
        f"a mean error of {100 * nme['mean']:.2f} % of {unit} on {faces} (95 % interval {100 * nme['low']:.2f} to "
        f"{100 * nme['high']:.2f})"
    )
    rough = f"; with so few faces that is rough (expected {FEW} or more)" if data["faces"] < FEW else ""
    seen = evaluation_tables.learnt_from(evaluation)
    if not evaluation["paired"]:
        return f"{_subject(best['name'])} has {error}{rough}.{seen}"
    pair = min(evaluation["paired"], key=lambda pair: pair["difference"])
    others = _others([other for other in evaluation["paired"] if other is not pair], bool(pair.get("over_seeds")))
    return f"{comparison(pair)} {_subject(best['name'])} is the best here, with {error}{rough}.{others}{seen}"


def study_verdict(study: Mapping[str, Any]) -> str:
    """What a study found: on its first test set (else the faces to choose by), at its largest label budget."""
    one = min(study["sets"], key=lambda one: one["role"] == "val")
    block = max(one["blocks"], key=lambda block: max(arm["labels"] for arm in block["arms"]))
    said = study_tables.verdicts(study, one, block)
    if said:
        return f"{study_tables.title(one, block)}: {' '.join(said)}"
    best = min(block["arms"], key=lambda arm: arm["nme"]["mean"])
    return f"{best['name']} has the least error, {100 * best['nme']['mean']:.2f} % ({study_tables.title(one, block)})."


def assessment_verdict(found: Mapping[str, Any]) -> str:
    """How far a translator keeps landmarks and takes styles over, beside the aims of its report."""
    gap = found["structure"]["gap"]
    top = found["retrieval"]["statistics"]["translator"]["top1"]
    points, low, high = (100 * gap[key] for key in ("mean", "low", "high"))
    kept = "keep" if gap["mean"] <= AIMS["gap"] else "do not keep"
    taken = "take" if top >= AIMS["top1"] else "do not take"
    return (
        f"Faces in another's style {kept} their landmarks (gap {points:+.2f} points, {low:+.2f} to {high:+.2f}; aim at "
        f"most {100 * AIMS['gap']:+.2f}) and {taken} the donor's style (nearest of all in {top:.0%}; aim at least "
        f"{AIMS['top1']:.0%})."
    )


def _held_out(card: Mapping[str, Any], val: Mapping[str, Any]) -> str:
    """What the validation faces of a run are to it, as its card says, behind their name; empty where it does not say
    whose they are."""
    if not val.get("content_hash"):
        return ""
    learnt = [one for one in data_learnt(card) if one.get("content_hash") == val["content_hash"]]
    seen = [one for one in learnt if one.get("split") in (None, val.get("split"))]
    if not seen:
        return " that it did not learn from"
    which = "some of which" if all(one.get("subset") for one in seen) else "which"
    return f", {which} it learnt from: that says little of others"


def run_verdict(card: Mapping[str, Any]) -> str:
    """What a finished run's card says it can do."""
    val = card.get("val") or {}
    if "nme" not in val:
        return ""
    unit = _unit(val, val["denominator"])
    return (
        f"This {card.get('model')} has a mean error of {100 * val['nme']:.2f} % of {unit} on {val.get('faces')} faces "
        f"of {val.get('name')}{_held_out(card, val)}."
    )


VERDICTS = {
    "study.json": study_verdict, "evaluation.json": evaluation_verdict, "assessment.json": assessment_verdict,
    "card.json": run_verdict,
}  # fmt: skip
"""The file that a folder is known by -> the sentence its content is worth; the first that a report has counts."""


def verdict_of(folders: tuple[Path, ...]) -> str:
    """The sentence of the folder that says most, of those shown; empty where none says anything."""
    for name, verdict in VERDICTS.items():
        for folder in folders:
            if (folder / name).is_file():
                try:
                    said = verdict(read_json(folder / name))
                except (LookupError, TypeError, ValueError, AttributeError):  # of another version: its section says so
                    continue
                if said:
                    return said
    return ""
