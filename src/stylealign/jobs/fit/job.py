"""The job `fit`: labelled faces of any kind in, in so many minutes a detector out, with a report and what to do next.

    <out>/plan.yaml        what was found and chosen, once: format, groups, places, network, minutes of each training
    <out>/schema.yaml      the mark-up, with pairs.png to check its mirror pairs; splits/ where faces were held out
    <out>/data             the faces (`prepare`); unlabelled: pictures beside them
    <out>/first, pseudo    where there are unlabelled faces: a detector of the labelled ones, and its labels for them
    <out>/detector         the detector (`train-detector`)
    <out>/evaluation, report.html, detector.onnx, next.md

Every stage is an ordinary verb writing an ordinary folder. The same command goes on with a stopped fit: what is planned
is kept to, and finished stages are kept.
"""

import dataclasses
import json
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from stylealign.config import config_text, from_dict, merged, plain, read_yaml, refuse_another, saved_config
from stylealign.data.atomic import making, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import called
from stylealign.errors import UserError, typed
from stylealign.jobs.evaluate import job as evaluation
from stylealign.jobs.fit import BEGAN
from stylealign.jobs.fit.after import Result, next_page
from stylealign.jobs.fit.choosing import choose
from stylealign.jobs.fit.config import Fit, out_of
from stylealign.jobs.fit.looking import look, prepared, refuse_other_labels
from stylealign.jobs.fit.stopwatch import Stopwatch
from stylealign.jobs.pseudo_label import job as pseudo_label
from stylealign.jobs.report import job as report
from stylealign.jobs.report.verdict import evaluation_verdict
from stylealign.jobs.train_detector import job as detector
from stylealign.predicting.ensemble import LookConfig
from stylealign.predicting.given_boxes import write_boxes
from stylealign.predicting.places import Places
from stylealign.progress import say
from stylealign.training.weights import read_card

IMPORTED = time.monotonic() - BEGAN
"""Seconds that the imports above took; they count."""
ROUGH = 0.1
"""NME above which `predict` cannot tell a detector's answers from those about something else."""
FIRST_SHARE = 0.4
"""Of the training's time for the detector that labels the unlabelled faces."""
PSEUDO_SHARE, KEPT = 0.25, 0.5
"""Of a batch that is pseudo-labelled, and of the unlabelled faces those agreed on best, as in `self-train`."""
LEAST = 0.1
"""Minutes that a training gets where the time is used up, such as by the cutting of many crops: some updates."""
END = 10.0
"""Seconds of an idle core for evaluation, report, ONNX file and starting up."""


# --------------------------------------------------------------------------------------------------------------------
# Training


def _save(out: Path, plan: dict[str, Any]) -> None:
    write_whole(out / "plan.yaml", yaml.safe_dump(plan, sort_keys=False, allow_unicode=True))


def _train(config: Fit, plan: dict[str, Any], out: Path, name: str, minutes: float, more: dict[str, Any]) -> Path:
    """One training of so many minutes, but LEAST, which are written down before it begins."""
    run = out / name
    if not plan["minutes"].get(name, 0.0) > 0:  # minutes below 0 were written once, and refused whenever one went on
        if minutes < LEAST:
            say(f"the time is used up: {run} is trained for {60 * LEAST:g} s all the same")
        plan["minutes"][name] = round(max(minutes, LEAST), 4)
        _save(out, plan)
    values = merged(
        plan["detector"], {"run": str(run), "minutes": plan["minutes"][name]},
        {"loop": {"seed": config.seed, "accelerator": config.accelerator}}, more,
    )  # fmt: skip
    detector.main(from_dict(detector.config_class(), values, "detector"))
    return run


def train(config: Fit, plan: dict[str, Any], out: Path, watch: Stopwatch) -> dict[str, Path]:
    """The detectors by their names in the evaluation: of the labelled faces and, where there are others, of both."""
    end, data = plan["seconds_for_the_end"], str(out / "data")
    if not plan["unlabelled_faces"]:
        return {"detector": _train(config, plan, out, "detector", (watch.left() - end) / 60, {"real": data})}
    first = _train(config, plan, out, "first", FIRST_SHARE * (watch.left() - end) / 60, {"real": data})
    watch.at_least(plan["seconds_looking"] + 60 * plan["minutes"]["first"])
    watch.lap()
    if not (out / "pseudo").exists():
        pseudo_label.main(
            pseudo_label.PseudoLabel(
                data=out / "unlabelled", detectors=(first,), out=out / "pseudo", keep=KEPT,
                look=LookConfig(jitters=1), accelerator=config.accelerator,
            )
        )  # fmt: skip
    watch.lap()
    sources = [
        {"path": data, "split": "train", "share": 1 - PSEUDO_SHARE},
        {"path": str(out / "pseudo"), "split": "train", "share": PSEUDO_SHARE},
    ]
    more = {"data": sources, "init_from": str(first), "pretrained": None, "lr": plan["detector"]["lr"] / 2}
    second = _train(config, plan, out, "detector", (watch.left() - end) / 60, more)
    return {"labelled faces": first, "self-trained": second}


# --------------------------------------------------------------------------------------------------------------------
# The end


def _again(config: Fit, out: Path) -> str:
    """The same command with three times the minutes, into another folder."""
    longer = Path(f"{out}_longer")
    words = ["stylealign fit", typed(config.path), "--minutes", f"{3 * config.minutes:g}", "--out", typed(longer)]
    for field in dataclasses.fields(Fit):
        value = getattr(config, field.name)
        if field.name not in ("path", "minutes", "out") and value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            dashed = str(values[0]).startswith("-")  # of a pattern, which would be taken for a flag
            flag = f"--{field.name.replace('_', '-')}{'=' if dashed else ' '}{typed(values[0])}"
            words += [flag, *map(typed, values[1:])]
    return " ".join(words)


def finish(config: Fit, plan: dict[str, Any], out: Path, runs: dict[str, Path], faces: FaceDataset) -> Path:
    """Measure, report, export, and say what comes next; returns the better detector."""
    arms = tuple(f"{name}={run}" for name, run in runs.items())
    if not (out / "evaluation").exists():
        evaluation.main(
            evaluation.Evaluate(
                data=out / "data", arms=arms, split="val", out=out / "evaluation", accelerator=config.accelerator
            )
        )
    best = min(runs.values(), key=lambda run: read_card(run)["val"]["nme"])
    onnx = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
    if onnx and not (out / "detector.onnx").exists():
        from stylealign.jobs.export import job as export

        export.main(export.Export(run=best, out=out / "detector.onnx"))
    held_out = list(faces.select("val", labelled=True))
    places = Places(**plan["places"])
    if places.how == "boxes":
        write_boxes(out / "boxes.csv", held_out)
    inputs, note = (out / "evaluation", *runs.values(), out / "data"), plan.get("note", "")
    report.report(
        report.Report(inputs=inputs, out=out / "report.html", title=f"A detector of {called(config.path)}", note=note)
    )
    stored = json.loads((out / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    unlabelled = None if plan["unlabelled"] is None else Path(plan["unlabelled"])
    rough = read_card(best)["val"]["nme"] > ROUGH
    verdict, again = f"{evaluation_verdict(stored)} {note}".strip(), _again(config, out)
    result = Result(out, best, verdict, rough, places, held_out, onnx, unlabelled, again)
    write_whole(out / "next.md", next_page(result))
    return best


def _begin(config: Fit, out: Path) -> bool:
    """Go on in a folder of this configuration, begin an empty one (True), refuse any other."""
    saved = out / "fit.yaml"
    if saved.exists():
        there = saved_config(saved, Fit)
        refuse_another(there, plain(config), f"{out}: holds a fit of another kind", "choose another --out or remove it")
        return False
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: not empty and not a fit; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(saved, config_text(config))
    return True


def _plan(config: Fit, out: Path, watch: Stopwatch) -> tuple[dict[str, Any], FaceDataset]:
    """plan.yaml, made or found again, and the faces."""
    if (out / "plan.yaml").exists():
        plan = read_yaml(out / "plan.yaml")
        refuse_other_labels(config, plan)
        return plan, prepared(config, out, plan)
    for name in ("splits", "unlabelled", "data"):  # of a command that was killed: labels may have changed since
        shutil.rmtree(out / name, ignore_errors=True)
    began, worked = time.monotonic(), time.process_time()
    plan = look(config, out, watch)
    faces = prepared(config, out, plan)
    busy = max(1.0, (time.monotonic() - began) / max(time.process_time() - worked, 0.1))
    end = END * min(busy, 8.0)
    start = "imagenet" if config.pretrained else "package" if config.start == "auto" else config.start
    num_train = len(faces.select("train", labelled=True))
    choice = choose(
        start, config.pretrained, faces.schema, num_train, watch.left() - end, config.size, config.accelerator
    )
    if watch.left() - end < 30 * choice.seconds:
        needed = (watch.used() + end + 60 * choice.seconds) / 60
        raise UserError(
            f"--minutes {config.minutes:g}: {watch.used():.0f} s went into looking, and {end:.0f} s are needed for one "
            f"evaluation and the report, which leaves no time for 30 updates of {choice.seconds:.2f} s; give --minutes "
            f"{max(needed, config.minutes + 1):.0f} or more"
        )
    say(choice.why)
    plan |= {"why": choice.why, "detector": choice.values, "minutes": {}}
    plan |= {"seconds_looking": round(watch.used(), 1), "seconds_for_the_end": round(end, 1)}
    _save(out, plan)
    watch.lap()
    return plan, faces


@making(out_of)
def main(config: Fit) -> None:
    """From labelled faces to a detector, a report and what to do next."""
    out = out_of(config)
    began = _begin(config, out)
    try:
        watch = Stopwatch(config.minutes, out)
        watch.at_least(IMPORTED)
        plan, faces = _plan(config, out, watch)
    except BaseException:
        if began:  # nothing was learnt, and nothing of the person's lies in it
            shutil.rmtree(out, ignore_errors=True)
        raise
    if (out / "next.md").exists():
        say(f"{out}: already fitted; {out / 'next.md'} says what comes next")
        return
    runs = train(config, plan, out, watch)
    watch.lap()
    best = finish(config, plan, out, runs, faces)
    watch.lap()
    say(f"{watch.used() / 60:.1f} of {config.minutes:g} minutes")
    say((out / "next.md").read_text(encoding="utf-8").splitlines()[2])
    say(f"finished: {best}; look at {out / 'report.html'}. Next: the commands in {out / 'next.md'}")
