"""What a study is going to train: its configuration, the rows of its table and its cells. Opens
no data set and trains nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from stylealign.config import from_dict, merged
from stylealign.errors import UserError, counted, quoted
from stylealign.evaluation.tables import share_a_folder, slug
from stylealign.jobs.train_detector.configuration import DetectorJob, config_class
from stylealign.training.cluster import Cluster, On

ALL = "all"
Section = Annotated[dict[str, Any], tyro.conf.Suppress]
Sections = Annotated[dict[str, dict[str, Any]], tyro.conf.Suppress]


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Train detectors in several arms, label budgets and seeds at equal updates, and score them all in one table."""

    data: Path
    """Data set of real faces: trains every cell whose values name no other, and holds the split to choose by."""
    out: Path
    """Folder of the study; the same command continues it."""
    synthetic: Path | None = None
    """Synthetic faces of the arms that set `synthetic_share` and name no `synthetic` of their own."""
    seeds: tuple[int, ...] = (0,)
    """Every row is trained once for each."""
    budgets: tuple[str, ...] = (ALL,)
    """Label budgets: attributes of the training faces, such as budget_0157; `all` for every label."""
    val_split: str = "val"
    """Split of `data` to choose by; scored always, and printed apart."""
    tests: tuple[str, ...] = ()
    """What to score beside it: a split of `data`, or FOLDER:SPLIT of another data set."""
    rows: tuple[str, ...] = ()
    """Which rows, in this order; not given: every detector in every arm."""
    baseline: str | None = None
    """Row that all others are compared with; not given: the first."""
    equal_updates: bool = True
    """Refuse rows that differ in loop.steps or loop.batch_size: a comparison at unequal
    updates measures the updates."""
    jobs: int = 1
    """Trainings side by side, each a process of its own with an even share of the cores."""
    on: On = "local"
    """Where cells are trained: here, or on a cluster's nodes (`--cluster...`)."""
    cluster: Cluster = field(default_factory=Cluster)
    denominator: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """What errors are divided by: as in `evaluate`; `auto` is what papers use on the mark-up."""
    convert: bool = False
    """Convert predictions to the mark-up of a test set where the conversion is known (98 to 68 points)."""
    thirds: bool = False
    """Score the darkest, the most blurred and the patchiest third of each test set apart, measured on the pictures."""
    resamples: int = 2000
    """Bootstrap resamples behind each interval."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where models predict; and where they are trained, unless their values say otherwise."""
    val_only: bool = False
    """Leave the tests unopened: while choosing."""
    train: bool = True
    """`--no-train`: only the table of the cells that are finished."""
    base: Section = field(default_factory=dict)
    """Values of `train-detector` common to all cells (recipe only)."""
    detectors: Sections = field(default_factory=dict)
    """Name -> values of `train-detector` on top of `base` (recipe only)."""
    arms: Sections = field(default_factory=lambda: {"{detector}": {}})
    """Name -> values of `train-detector` on top of the detector's (recipe only). `{detector}` in a name stands for
    the detector's, as in "AVS({detector})"; a name without it gives rows called "detector, arm". Each arm is
    compared with the first. `{budget}` in a value stands for the label budget, as in `synthetic:
    runs/faces_{budget}`: made from those labels alone. `{beside}` stands for the folder that `out` lies in, where a
    script may have made what several rows need, as in `styles: "{beside}/styles"`."""
    list: bool = False
    """Print the cells and how far they are; train and score nothing."""

    def __post_init__(self) -> None:
        if not self.detectors or not self.arms:
            raise ValueError("detectors and arms: nothing to train; a study starts from a recipe that names them")
        for name in ("seeds", "budgets", "rows", "tests"):
            given = getattr(self, name)
            if len(set(given)) < len(given) or (not given and name in ("seeds", "budgets")):
                raise ValueError(f"{name}: found {given}, expected at least one, each once")
        if self.jobs < 1 or self.resamples < 100:
            raise ValueError(f"jobs {self.jobs} and resamples {self.resamples}: expected at least 1 and at least 100")


class Row(NamedTuple):
    """A row of the table: a detector in an arm."""

    name: str
    detector: str
    arm: str
    plain: str | None
    """the same detector in the first arm; None: this is it"""


class Cell(NamedTuple):
    """One training of a study."""

    row: str
    budget: str
    config: DetectorJob

    @property
    def run(self) -> Path:
        return self.config.run

    @property
    def finished(self) -> bool:
        return (self.run / "card.json").exists()

    @property
    def name(self) -> str:
        return f"{self.row}, {self.budget}, seed {self.config.loop.seed}"


def row_name(detector: str, arm: str) -> str:
    """What a detector in an arm is called: `ResNet-18` in `AVS({detector})` is AVS(ResNet-18),
    in `jitter` ResNet-18, jitter."""
    return arm.replace("{detector}", detector) if "{detector}" in arm else f"{detector}, {arm}"


def rows_of(study: Study) -> list[Row]:
    """The rows of the table, in order: each arm's detectors, or those named by `rows`.
    Raises UserError for unknown ones."""
    first = next(iter(study.arms))
    known: dict[str, Row] = {}
    for arm in study.arms:
        for detector in study.detectors:
            name = row_name(detector, arm)
            if name in known:
                raise UserError(f"rows: two are called {name!r}; put {{detector}} into the arm's name")
            known[name] = Row(name, detector, arm, None if arm == first else row_name(detector, first))
    for name in [*study.rows, *([study.baseline] if study.baseline else [])]:
        if name not in known:
            raise UserError(f"no row is called {name!r}; there are {quoted(known)}")
    rows = [known[name] for name in study.rows or known]
    if study.baseline and study.baseline not in [row.name for row in rows]:
        raise UserError(
            f"baseline {study.baseline!r} is not among the rows {quoted(row.name for row in rows)}: expected a "
            "--baseline of these, or that row too"
        )
    return rows


def _within(budget: str, values: Mapping[str, Any], data: Path, row: str) -> dict[str, Any]:
    """What keeps a cell to its label budget: `subset`, or in a list of data sets (`data`) that of the study's own."""
    if "data" not in values:
        return {"subset": budget}
    own = [Path(source.get("path", "")) == data for source in values["data"]]
    if not any(own):
        raise UserError(f"row {row!r}: {data} is not among its `data`: the label budget {budget} has nothing to act on")
    return {"data": [{**s, "subset": budget} if mine else s for s, mine in zip(values["data"], own, strict=True)]}


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """A value of a recipe with `{word}` in its texts replaced by what the word stands for."""
    if isinstance(value, Mapping):
        return {key: _filled(below, words) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(below, words) for below in value]
    if isinstance(value, str):
        for word, meaning in words.items():
            value = value.replace(f"{{{word}}}", meaning)
    return value


def plan(study: Study) -> list[Cell]:
    """Every cell, a whole round of rows and budgets for one seed after another, so that a
    stopped study is a balanced one.

    Raises UserError where a value is refused or, unless told otherwise, where cells differ in their number of updates.
    """
    rows = rows_of(study)
    for kind in ([row.name for row in rows], study.budgets):
        if share_a_folder(kind):
            raise UserError(f"{quoted(kind)}: two names differ only in case, or in characters that folders cannot hold")
    cells = []
    for seed in study.seeds:
        for budget in study.budgets:
            for row in rows:
                arm = study.arms[row.arm]
                words = {"budget": budget, "beside": str(study.out.parent)}
                values = _filled(merged(study.base, study.detectors[row.detector], arm), words)
                taken = [key for key in ("run", "subset") if key in values] + ["loop.seed"] * (
                    "seed" in values.get("loop", {})
                )
                if taken:
                    raise UserError(f"row {row.name!r}: {', '.join(taken)}: the study sets it (out, budgets, seeds)")
                if "synthetic_share" in arm and "synthetic" not in values and "data" not in values:
                    if study.synthetic is None:
                        raise UserError(
                            f"row {row.name!r} needs synthetic faces; give --synthetic, or `synthetic` in its arm"
                        )
                    values["synthetic"] = str(study.synthetic)
                if not {"real", "data"} & values.keys():
                    values["real"] = str(study.data)
                if budget != ALL:
                    values |= _within(budget, values, study.data, row.name)
                run = study.out / "cells" / slug(row.name) / slug(budget) / f"s{seed}"
                loop = merged({"accelerator": study.accelerator}, values.get("loop", {}), {"seed": seed})
                config = from_dict(config_class(), {**values, "loop": loop, "run": str(run)}, f"row {row.name!r}")
                cells.append(Cell(row.name, budget, config))
    if study.equal_updates:
        refuse_unequal(cells, "row", "a comparison needs equal updates (equal_updates: false allows it)")
    return cells


def refuse_unequal(cells: Sequence[Cell], kind: str, expected: str) -> None:
    """Raise UserError where cells learn from more updates or faces than the first: that measures the updates."""
    for cell in cells:
        if cell.config.minutes:
            raise UserError(
                f"{kind} {cell.row!r} is trained for {cell.config.minutes:g} min, in which a faster network makes more "
                f"updates: {expected}"
            )
        theirs, ours = ((c.config.loop.steps, c.config.loop.batch_size) for c in (cell, cells[0]))
        if theirs != ours:
            raise UserError(
                f"{kind} {cell.row!r} has {counted(theirs[0], 'update')} of {counted(theirs[1], 'face')}, {kind} "
                f"{cells[0].row!r} {ours[0]} of {ours[1]}: {expected}"
            )
