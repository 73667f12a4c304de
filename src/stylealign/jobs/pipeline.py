"""The job `pipeline`: the whole paper from one recipe, each stage an ordinary verb writing an ordinary folder.

    <out>/data        drawn faces (or a data set of your own)
    <out>/detectors   a run an arm and seed, at equal updates, without and with the synthetic faces
    <out>/pseudo      where the recipe asks for it: faces without labels, labelled by arms that are trained
    <out>/translator  structure of one face, style of another
    <out>/synthetic   every labelled face in many styles
    <out>/evaluation  the table;  <out>/report.html  the pictures to look at

Arms that need nothing of later stages are trained first, so that those may use their detectors, and an arm after those
whose detectors it names. A stopped pipeline continues with the same command: every stage resumes, and finished stages
are kept. All stages' values are read before the first one starts, and one that names what no stage before it makes is
refused.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from stylealign.config import config_text, from_dict, merged, plain, refuse_another, saved_config
from stylealign.data.atomic import making, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError, counted, quoted
from stylealign.evaluation.tables import share_a_folder, slug
from stylealign.jobs.evaluate.tables import show
from stylealign.progress import say
from stylealign.training.cluster import Cluster, On
from stylealign.training.slurm import place_for

Section = Annotated[dict[str, Any], tyro.conf.Suppress]
Sections = Annotated[dict[str, dict[str, Any]], tyro.conf.Suppress]
OUT = "{out}"
"""In a recipe's values, the pipeline's folder."""
MOST_SHOWN = 4
"""Detectors that the report shows, all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pipeline:
    """Draw or take faces, train a translator, generate, train detectors without and with
    synthetic faces, compare, report."""

    out: Path
    """Folder to make; each stage writes into it."""
    data: Path | None = None
    """A data set of your own (with train, val and test splits) instead of drawn faces."""
    seeds: tuple[int, ...] = (0,)
    """A detector is trained in each arm for each seed."""
    synthetic_share: float = 0.5
    """Share of synthetic faces in a batch of an arm that names them and no share of its own."""
    jobs: int = 1
    """Trainings side by side, each a process of its own with an even share of the cores."""
    on: On = "local"
    """Where detectors are trained: here, or on a cluster's nodes (`--cluster...`)."""
    cluster: Cluster = field(default_factory=Cluster)
    faces: Section = field(default_factory=dict)
    """Values of `draw-faces` (recipe only)."""
    pseudo_label: Section = field(default_factory=dict)
    """Values of `pseudo-label` (recipe only): <out>/pseudo, for the translator to learn from. Empty: no such stage."""
    translator: Section = field(default_factory=dict)
    """Values of `train-translator` (recipe only)."""
    generate: Section = field(default_factory=dict)
    """Values of `generate` (recipe only)."""
    detector: Section = field(default_factory=dict)
    """Values of `train-detector` (recipe only)."""
    arms: Sections = field(default_factory=lambda: {"real": {}, "real+synthetic": {"synthetic": f"{OUT}/synthetic"}})
    """Name -> values of `train-detector` on top of the detector's (recipe only); others are compared with the first.
    `{out}` in a value of any section stands for the pipeline's folder, as in `synthetic: "{out}/synthetic"`; a detector
    is in `{out}/detectors/ARM_sSEED`."""
    evaluate: Section = field(default_factory=dict)
    """Values of `evaluate` (recipe only)."""
    report: Section = field(default_factory=dict)
    """Values of `report` (recipe only)."""

    def __post_init__(self) -> None:
        if not self.arms or share_a_folder(self.arms):
            raise ValueError(
                f"arms: found {quoted(self.arms) or 'none'}, expected at least one, and names that differ in more "
                "than signs and case"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: found {self.seeds}, expected at least one, each once")
        if self.jobs < 1:
            raise ValueError(f"jobs is {self.jobs}, expected at least 1")


class Stage(NamedTuple):
    """A stage of the pipeline."""

    what: str
    """for people"""
    run: Callable[[], None]
    out: Path | None = None
    """what it makes, of a stage that refuses to be done twice"""


def _filled(values: Any, out: Path) -> Any:
    """A recipe's values, of lists and mappings, with the pipeline's folder for OUT."""
    if isinstance(values, dict):
        return {key: _filled(value, out) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_filled(value, out) for value in values]
    return values.replace(OUT, str(out)) if isinstance(values, str) else values


def stages_of(config: Pipeline) -> list[Stage]:
    """Every stage with its configuration, so that a wrong key of the last is refused before the first has begun."""
    from stylealign.jobs import draw_faces
    from stylealign.jobs.evaluate import job as evaluate
    from stylealign.jobs.generate import job as generating
    from stylealign.jobs.pseudo_label import job as labelling
    from stylealign.jobs.report import job as report
    from stylealign.jobs.study.plan import Cell, refuse_unequal
    from stylealign.jobs.train_detector import job as detector
    from stylealign.jobs.train_detector.beside import train_all
    from stylealign.jobs.train_translator import job as translator

    out = config.out
    data, synthetic = config.data or out / "data", out / "synthetic"

    def read(job: Any, section: str, fixed: dict[str, Any], *more: dict[str, Any]) -> Any:
        values = merged(_filled(getattr(config, section), out), *(_filled(one, out) for one in more), fixed)
        return from_dict(job, values, section)

    faces = read(draw_faces.DrawFaces, "faces", {"out": str(data)})
    pseudo = None
    if config.pseudo_label:
        pseudo = read(labelling.PseudoLabel, "pseudo_label", {"data": str(data), "out": str(out / "pseudo")})
    run = out / "translator"
    translators = read(translator.TrainTranslator, "translator", {"data": str(data), "run": str(run)})
    made = {"data": str(data), "translator": str(run), "out": str(synthetic)}
    styled = read(generating.Generate, "generate", made)
    cells: list[Cell] = []
    for arm, own in config.arms.items():
        share = {"synthetic_share": config.synthetic_share} if "synthetic" in own else {}
        for seed in config.seeds:
            fixed = {"run": str(out / "detectors" / f"{slug(arm)}_s{seed}"), "loop": {"seed": seed}}
            values = ({"real": str(data)}, share, own)
            cells.append(Cell(arm, "all", read(detector.config_class(), "detector", fixed, *values)))
    refuse_unequal(cells, "arm", "expected equal updates")
    arms = [f"{cell.row}={cell.run}" for cell in cells]
    table = read(evaluate.Evaluate, "evaluate", {"data": str(data), "arms": arms, "out": str(out / "evaluation")})
    # Of many detectors one an arm is shown: its other seeds look alike.
    shown = [cell.run for cell in cells if len(cells) <= MOST_SHOWN or cell.config.loop.seed == config.seeds[0]]
    inputs = (data, synthetic, table.out, *([pseudo.out] if pseudo else []), run, *shown)
    titled = {"title": "stylealign: the whole job"}
    fixed = {"inputs": [str(path) for path in inputs], "out": str(out / "report.html")}
    page = from_dict(report.Report, merged(titled, _filled(config.report, out), fixed), "report")

    def train(those: list[Cell]) -> None:
        named = {cell.run.name: cell.config for cell in those}
        train_all(named, config.on, config.jobs, config.cluster, out, "detectors")

    def score() -> None:
        if table.out.exists():
            show(json.loads((table.out / "evaluation.json").read_text(encoding="utf-8")))
        else:
            evaluate.main(table)

    finished: set[Path] = {data}
    makers = {data, run, synthetic, out / "pseudo", *(cell.run for cell in cells)}
    stages = [Stage("drawing faces", lambda: draw_faces.main(faces), data)] if config.data is None else []
    waiting = list(config.arms)

    def lacks(values: Any) -> set[Path]:
        return _places_in(values, out, makers) - finished

    def trainings(more: str = "") -> None:
        """Stages of the arms that need nothing that is not made by then; those that need these come after them."""
        while ready := [arm for arm in waiting if not lacks(merged(config.detector, config.arms[arm]))]:
            those = [cell for cell in cells if cell.row in ready]
            stages.append(Stage(_of_training(those, config, more), partial(train, those)))
            finished.update(cell.run for cell in those)
            waiting[:] = [arm for arm in waiting if arm not in ready]

    def refuse_lacking(section: str, values: Any) -> None:
        if missing := lacks(values):
            there = ", ".join(sorted(str(path) for path in finished))
            raise UserError(
                f"{section}: {min(missing)} is made by no stage before; expected one of {there} (seeds "
                f"{', '.join(map(str, config.seeds))})"
            )

    trainings()
    if pseudo is not None:
        refuse_lacking("pseudo_label", config.pseudo_label)
        stages.append(Stage("labelling faces by trained detectors", lambda: labelling.main(pseudo), pseudo.out))
        finished.add(pseudo.out)
    refuse_lacking("translator", config.translator)
    stages.append(Stage("training the translator", lambda: translator.main(translators)))
    finished.add(run)
    refuse_lacking("generate", config.generate)
    stages.append(Stage("generating synthetic faces", lambda: generating.main(styled)))
    finished.add(synthetic)
    trainings(" with what was made")
    for arm in waiting:
        refuse_lacking(f"arm {arm!r}", merged(config.detector, config.arms[arm]))
    return [*stages, Stage("evaluating", score), Stage("writing the report", lambda: report.main(page))]


def _places_in(values: Any, out: Path, makers: set[Path]) -> set[Path]:
    """What a recipe's values name of the pipeline's folder: each place as the folder of `makers` that it is in, or as
    itself where no stage makes it and it is not there."""
    if isinstance(values, dict | list | tuple):
        parts = values.values() if isinstance(values, dict) else values
        return set().union(*(_places_in(value, out, makers) for value in parts))
    if not isinstance(values, str):
        return set()
    path = Path(_filled(values, out))
    of = makers & {path, *path.parents}
    return of or ({path} if values.startswith(f"{OUT}/") and not path.exists() else set())


def _of_training(cells: Sequence[Any], config: Pipeline, more: str = "") -> str:
    """What is said of the training of some arms."""
    arms = list(dict.fromkeys(cell.row for cell in cells))
    return f"training detectors{more}: {', '.join(arms)}, {counted(len(config.seeds), 'seed')}, equal updates"


@making("out", with_children=True)
def main(config: Pipeline) -> None:
    out = config.out
    stages = stages_of(config)
    if config.data is not None:
        FaceDataset.open(config.data)  # refused before anything is made
    place_for(config.on, config.jobs, config.cluster, out)  # a cluster that cannot be asked is said before hours
    saved = out / "pipeline.yaml"
    if saved.exists():
        holds = f"{out}: holds a pipeline of another recipe"
        there = saved_config(saved, Pipeline)
        refuse_another(there, plain(config), holds, "choose another --out or remove it")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: not empty and not a pipeline's folder; choose another --out")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(saved, config_text(config))

    for number, stage in enumerate(stages, start=1):
        if stage.out is None or not stage.out.exists():
            say(f"{number}/{len(stages)}  {stage.what}")
            stage.run()
    say(f"look at {out / 'report.html'}")
