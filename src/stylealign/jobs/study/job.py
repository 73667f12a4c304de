"""The job itself: what is not finished is trained, side by side; then everything finished is scored and shown."""

from collections.abc import Callable, Sequence

import numpy as np

from stylealign.config import (
    config_text,
    plain,
    refuse_another,
    saved_config,
)
from stylealign.data.atomic import alone, partial_of, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.data.packaged import run_folder
from stylealign.errors import UserError, counted, quoted
from stylealign.evaluation.scoring import read_truth
from stylealign.evaluation.tables import Table, print_table
from stylealign.jobs.evaluate.arms import fitted
from stylealign.jobs.study.plan import ALL, Cell, Study, plan, rows_of
from stylealign.jobs.study.scores import ScoredOn, score_study
from stylealign.jobs.study.tables import show_study, write_study
from stylealign.jobs.train_detector.beside import command_of, node_of, step_of
from stylealign.jobs.train_detector.configuration import config_class
from stylealign.jobs.train_detector.opened import unlabelled_faces
from stylealign.jobs.train_detector.pretrained import PACKAGE
from stylealign.progress import open_console, say
from stylealign.styling.chain import trained_arms
from stylealign.training.devices import said_of_precision, training_device
from stylealign.training.faces import resolve_data, resolve_others, validation_faces
from stylealign.training.fan_out import Place, run_jobs
from stylealign.training.session import replaced_data
from stylealign.training.slurm import place_for, states_of
from stylealign.training.weights import read_card

# --------------------------------------------------------------------------------------------------------------------
# Before the first training


def scored_on(study: Study) -> list[ScoredOn]:
    """The split to choose by, if `data` has it, and the tests. Raises UserError where one is not there, or none is."""
    real = FaceDataset.open(study.data)
    found = []
    if study.val_split in real.meta["splits"]:
        found.append(ScoredOn("val", real, study.val_split))
    else:
        say(f"{study.data}: no split {study.val_split} to choose by")
    for text in () if study.val_only else study.tests:
        folder, _, split = text.rpartition(":")
        dataset = FaceDataset.open(folder) if folder else real
        dataset.select(None if split == ALL else split, labelled=True)
        found.append(ScoredOn("test", dataset, split))
    if not found:
        splits = quoted(real.meta["splits"])
        flags = "--val-split" if study.val_only else "--val-split or --tests"
        raise UserError(f"{study.data}: no split {study.val_split!r}, there are {splits}; expected {flags} to name one")
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise UserError(
            f"tests: two are called {', '.join(n for n in set(names) if names.count(n) > 1)}; name data sets apart"
        )
    return found


def check_unchanged(cell: Cell) -> None:
    """Refuse a cell whose folder holds something else than its configuration now says, or was trained on
    faces that have changed since."""
    now = plain(cell.config)
    for folder in (cell.run, partial_of(cell.run)):
        learnt = folder == cell.run or any(folder.rglob("metrics.jsonl"))
        if learnt and (folder / "config.yaml").exists():
            there = saved_config(folder / "config.yaml", config_class())
            holds = f"cell {cell.name!r}: {folder} holds a run of another configuration"
            refuse_another(there, now, holds, "name the row anew, choose another --out, or remove that folder")
    if cell.finished:
        replaced = replaced_data(cell.run, cell.config)
        if replaced:
            raise UserError(
                f"cell {cell.name!r}: {cell.run} was trained on other faces than {replaced[0]} holds now; "
                "choose another --out, or remove that folder"
            )


def check_data(cells: Sequence[Cell], tests: Sequence[ScoredOn] = (), may_convert: bool = False) -> None:
    """Open what each cell will be trained and measured on, so that what is missing, or of a mark-up that cannot be
    scored, is said before hours are spent."""
    seen = set()
    for cell in cells:
        c = cell.config
        for name in ("pretrained", "styles", "init_from"):
            path = getattr(c, name)
            if path is not None and path != PACKAGE and not run_folder(path).exists():
                raise UserError(f"cell {cell.name!r}: {name} {path}: no such file or folder")
        key = repr((
            c.real, c.synthetic, c.real_split, c.subset, c.data, c.other, c.other_split, c.val, c.val_split, c.mix,
            c.model, c.teacher, c.style,
        ))  # fmt: skip
        if key in seen:
            continue
        seen.add(key)
        try:
            schema = resolve_data(c)[0].faces.schema
            resolve_others(c)
            validation_faces(c, schema)
            unlabelled_faces(c, schema)
            for test in tests:
                nothing = np.zeros((1, schema.num_points, 2))
                fitted(nothing, schema.name, test.dataset.schema, test.name, may_convert)
            for run in trained_arms(c.style):
                read_card(run, "translator")
            for donors in c.style.donors if c.style.needs_donors() else ():
                FaceDataset.open(donors)
        except UserError as error:
            raise UserError(f"cell {cell.name!r}: {error}") from None


# --------------------------------------------------------------------------------------------------------------------
# Training


def train_in_processes(cells: Sequence[Cell], place: Place) -> dict[str, str]:
    """Train cells beside each other, each by the command a person would type; those that
    failed, with their logs' last lines."""
    return run_jobs([command_of(cell.config, cell.name, cell.row) for cell in cells], place, "study")


def list_cells(study: Study, cells: Sequence[Cell]) -> None:
    """Print every cell: how far it is, whether it is at work or in a cluster's queue, and on which machine."""
    rows: list[tuple[str, ...]] = []
    in_queue = states_of(study.out)
    for cell in cells:
        step, loop = step_of(cell.run), cell.config.loop
        state = "finished" if cell.finished else f"step {step} of {loop.steps}" if step else "to do"
        if not cell.finished and cell.name in in_queue:
            state += f", {in_queue[cell.name]}"
        rows.append((
            cell.row, cell.budget, str(loop.seed), f"{loop.steps} x {loop.batch_size}", state, node_of(cell.run),
            str(cell.run.relative_to(study.out)),
        ))  # fmt: skip
    console = open_console()
    print_table(
        console, Table(f"Cells of {study.out}", ("row", "budget", "seed", "updates", "state", "node", "run"), rows, "")
    )
    console.print(f"{sum(cell.finished for cell in cells)} of {len(cells)} finished")


def main(study: Study, train: Callable[[Sequence[Cell], Place], dict[str, str]] = train_in_processes) -> None:
    """Plan, train what is not finished, score, print. Exits with status 1 where a training
    failed; the others are kept and scored.

    `train` gets the unfinished cells and where to train them, and returns those that failed with the reason.
    """
    cells = plan(study)
    if study.list:
        list_cells(study, cells)
        return
    with alone(study.out, with_children=True):  # so that a second study waits for the trainings of a killed one to end
        _train_and_score(study, cells, train)


def _train_and_score(study: Study, cells: list[Cell], train: Callable[[Sequence[Cell], Place], dict[str, str]]) -> None:
    tests = scored_on(study)
    for cell in cells:
        check_unchanged(cell)
    unfinished = [cell for cell in cells if not cell.finished] if study.train else []
    check_data(unfinished, tests, study.convert)
    place = place_for(study.on, study.jobs, study.cluster, study.out) if unfinished else None
    if study.out.exists() and not (study.out / "study.yaml").exists() and any(study.out.iterdir()):
        raise UserError(f"{study.out}: not empty and not a study's folder; choose another --out")
    for test in tests:  # faces without a usable denominator are refused now, not after the last training
        read_truth(test.dataset, test.split, None, study.denominator)
    study.out.mkdir(parents=True, exist_ok=True)
    write_whole(study.out / "study.yaml", config_text(study))
    failed: dict[str, str] = {}
    if place is not None:
        say(f"{len(cells) - len(unfinished)} of {counted(len(cells), 'cell')} finished; training {len(unfinished)}")
        if study.on == "local":  # in the cells' own logs nobody would see it
            loops = [cell.config.loop for cell in unfinished]
            notes = {said_of_precision(loop.precision, training_device(loop.accelerator)) for loop in loops}
            for note in sorted(notes - {""}):
                say(note)
        failed = train(unfinished, place)
    finished = [cell for cell in cells if cell.finished]
    if finished:
        result = score_study(study, rows_of(study), finished, tests)
        write_study(study.out, result)
        show_study(result)
        say(f"finished: {len(finished)} of {counted(len(cells), 'cell')}; every table in {study.out / 'study.md'}")
    else:
        say(f"no cell of {len(cells)} is finished")
    for name, why in failed.items():
        say(f"cell {name!r} failed: {why}")
    if failed:
        say("the same command trains what failed again")
        raise SystemExit(1)
