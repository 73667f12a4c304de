"""Job: say whether a dataset, run, model, schema or recipe is what it claims to be, describe it, and draw faces.

The drawing has every face as its crop and mirrored, landmarks coloured by number: a colour keeps its place on the
face in both (the eye on the left of the picture has the same colours) exactly if the mark-up's mirror table is right.
"""

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from stylealign.config import parse_json, read_json, read_yaml
from stylealign.data.atomic import partial_of
from stylealign.data.convention import landmarks_elsewhere, shifts_between
from stylealign.data.dataset import FaceDataset, evenly_spread
from stylealign.data.dataset_writer import called
from stylealign.data.describe import describe
from stylealign.data.image import write_image
from stylealign.data.once import in_several_splits
from stylealign.data.packaged import run_folder
from stylealign.data.placed import misplaced
from stylealign.errors import UserError, counted
from stylealign.evaluation.draw import contact_sheet, draw_numbered, flipped
from stylealign.evaluation.tables import Table, print_table
from stylealign.face.convention import LEAST_FACES, LIMIT
from stylealign.face.crop import SIZES, CropConfig
from stylealign.face.schema import SCHEMAS, LandmarkSchema, schema_from_dict
from stylealign.jobs import VERBS
from stylealign.progress import open_console, say, track
from stylealign.toyfaces.numbering import numbered_otherwise

_FACES_A_SHEET, _COLUMNS, _SHOWN = 16, 8, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Verify and describe a dataset, a run, a model folder, a schema or a recipe; optionally draw faces."""

    path: tyro.conf.Positional[Path]
    """Dataset folder, run folder, or .yaml file."""
    draw: int = 0
    """Draw this many faces, evenly spread over the data set, as crops and mirrored, with their landmarks."""
    out: Path | None = None
    """Folder for the drawings; `<name>_check` here if not given (300w_check for runs/300w/data)."""
    split: str | None = None
    """Draw faces of this split only."""
    subset: str | None = None
    """Draw faces of this subset only."""
    against: Path | None = None
    """Another data set of the same mark-up: say whether the two are labelled in one way (with --split, of that split
    alone)."""
    scale: float = 1.4
    """Side of the drawn crops over the longer side of the landmark box."""
    size: int = 192
    """Side of the drawn crops in pixels."""

    def __post_init__(self) -> None:
        if self.draw < 0 or not 16 <= self.size <= SIZES[1] or self.scale <= 0:
            raise ValueError(
                f"draw {self.draw}, size {self.size}, scale {self.scale}: expected at least 0, 16 to {SIZES[1]} and "
                "above 0"
            )


def draw_faces(dataset: FaceDataset, config: Check) -> list[Path]:
    """Write contact sheets of up to 16 faces each: a row of crops, and below each its mirror image."""
    from stylealign.batches.crops import crop_sample

    view = dataset.select(split=config.split, subset=config.subset) if config.split or config.subset else dataset
    chosen = view.take(evenly_spread(len(view), config.draw))
    folder = config.out or Path(f"{called(config.path)}_check")
    folder.mkdir(parents=True, exist_ok=True)
    crop_config, schema = CropConfig(scale=config.scale, size=config.size), dataset.schema
    tiles: list[tuple[str, np.ndarray, np.ndarray]] = []
    for sample in track(chosen, "drawing", len(chosen)):
        crop, landmarks, _ = crop_sample(sample, crop_config)
        if landmarks is None:
            tiles.append((sample.id, crop, np.ascontiguousarray(crop[:, ::-1])))
        else:
            tiles.append(
                (
                    sample.id,
                    draw_numbered(crop, landmarks, schema),
                    draw_numbered(*flipped(crop, landmarks, schema), schema),
                )
            )
    paths = []
    for start in range(0, len(tiles), _FACES_A_SHEET):
        images, labels = [], []
        page = tiles[start : start + _FACES_A_SHEET]
        for row in (page[i : i + _COLUMNS] for i in range(0, len(page), _COLUMNS)):
            blank = [np.full_like(row[0][1], 255)] * (min(_COLUMNS, len(page)) - len(row))
            images += [t[1] for t in row] + blank + [t[2] for t in row] + blank
            labels += [t[0] for t in row] + [""] * len(blank) + ["mirrored"] * len(row) + [""] * len(blank)
        paths.append(folder / f"faces_{start // _FACES_A_SHEET:02d}.png")
        write_image(paths[-1], contact_sheet(images, min(_COLUMNS, len(page)), labels))
    return paths


def comparison(moved: np.ndarray, faces: FaceDataset, others: FaceDataset) -> Table:
    """How far landmarks of one data set lie from those of another (P, 2), by the mark-up's parts."""
    far = np.linalg.norm(moved, axis=1)
    rows: list[tuple[str, ...]] = []
    for name, points in {"all": range(len(far)), **faces.schema.parts}.items():
        chosen = np.array(list(points))
        worst = int(chosen[far[chosen].argmax()])
        right, down = 100 * moved[worst]
        rows.append(
            (
                name, f"{100 * np.median(far[chosen]):.1f}", f"{100 * far[worst]:.1f}", str(worst),
                f"{right:+.1f}", f"{down:+.1f}", f"{int((far[chosen] > LIMIT).sum())} of {len(chosen)}",
            )
        )  # fmt: skip
    header = ("part", "median %", "most %", "landmark", "to the right", "down", f"above {LIMIT:.0%}")
    note = (
        f"How far landmarks of {faces.folder} lie beside those of {others.folder}, in % of the face's size, in the "
        "mean of faces seen from the front. Two sets that are labelled alike differ by at most 2.5 %."
    )
    return Table("Labelled in one way?", header, rows, note)


def compare_ways(faces: FaceDataset, others: FaceDataset) -> str | None:
    """Show whether two data sets of one mark-up are labelled in one way; a sentence where they are not."""
    moved = shifts_between(faces, others)
    if moved is None:
        say(
            f"{faces.folder} and {others.folder}: whether they are labelled in one way cannot be told; expected a "
            f"mark-up with mirror pairs and {LEAST_FACES} whole faces seen from the front in each"
        )
        return None
    table = comparison(moved, faces, others)
    console = open_console()
    print_table(console, table)
    console.print(table.note)
    where = landmarks_elsewhere(moved, faces.schema)
    return f"landmarks lie elsewhere than those of {others.folder}: {where}" if where else None


def check_dataset(config: Check, dataset: FaceDataset) -> list[str]:
    """Describe and draw a data set; returns its problems."""
    describe(dataset)
    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    synthetic, styles, modes = 0, set[str](), Counter[str]()
    for i in range(len(dataset)):
        if (provenance := dataset.head(i).get("provenance")) is not None:
            synthetic += 1
            styles |= {provenance.get("style_id")} - {None}
            modes[provenance.get("mode", "transfer")] += 1
    if synthetic:
        counts = ", ".join(f"{n:,} {m}" for m, n in modes.items())
        in_styles = f" in {counted(len(styles), 'style')}" if styles else ""
        console.print(f"synthetic: {counted(synthetic, 'face')} ({counts}){in_styles}")
    console.print(
        f"images: {dataset.image_root}" + ("" if dataset.meta["image_root"] == "images" else " (not in the folder)")
    )
    for key in ("source", "licence", "content_hash"):
        console.print(f"{key}: {dataset.meta.get(key) or 'not given'}")
    if skipped := (dataset.meta.get("how") or {}).get("num_skipped"):
        said = f"{skipped:,}" if isinstance(skipped, int) else repr(skipped)
        console.print(f"bad entries left out when it was made: {said} (skipped.txt)")
    if not dataset.schema.flip_pairs:
        console.print(
            "its mark-up has no mirror table: faces are never mirrored, and the mirrored drawings keep their numbers"
        )
    problems = dataset.verify() or misplaced(dataset)
    if config.draw and not problems:
        for path in draw_faces(dataset, config):
            say(f"drew {path}")
    return problems


def _last_line(path: Path) -> dict[str, Any]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    try:
        last = parse_json(lines[-1], str(path)) if lines else {}
    except UserError:  # a training that was stopped while it wrote
        return {}
    return last if isinstance(last, dict) else {}


def check_run(folder: Path) -> list[str]:
    """Describe a run or model folder; returns its problems."""
    console, problems = Console(highlight=False, soft_wrap=True, markup=False, emoji=False), []
    finished = not folder.name.endswith(".partial")
    last = _last_line(folder / "metrics.jsonl")
    checkpoints = sorted(p.name for p in (folder / "checkpoints").glob("step_*") if p.suffix != ".partial")
    console.print(
        f"{folder.name}: {'finished' if finished else 'not finished: run the same command again to continue it'}"
    )
    if last:
        values = ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in last.items())
        console.print(f"last line of metrics.jsonl: {values}")
    console.print(f"checkpoints: {', '.join(checkpoints) or 'none'}")
    kept = sorted(p for p in (folder / "checkpoints").glob("*/card.json") if p.parent.suffix != ".partial")
    for path in [folder / "card.json", *kept]:
        if not path.exists():
            if finished:
                problems.append(f"{path}: missing, though the run is finished")
            continue
        try:
            card = read_json(path)
        except UserError as error:
            problems.append(str(error))
            continue
        if not isinstance(card, dict):
            problems.append(f"{path}: found {type(card).__name__}, expected the card of a model")
            continue
        weights = path.with_name("model.safetensors")
        if not weights.exists():
            problems.append(f"{weights}: missing")
        elif hashlib.sha256(weights.read_bytes()).hexdigest() != card.get("model_hash"):
            problems.append(f"{weights}: the weights are not those card.json was written for (hash differs)")
        if path.parent == folder:
            schema = card.get("schema")
            name = schema if isinstance(schema, str) else schema.get("name") if isinstance(schema, dict) else None
            console.print(
                f"{card.get('kind', 'model')}: mark-up {name}, crop {card.get('crop')}, "
                f"hash {str(card.get('model_hash'))[:12]}"
            )
    return problems


def check_yaml(path: Path) -> list[str]:
    """Describe a schema file, or find the verb whose recipe the file is; raises UserError where it is neither."""
    values, console = read_yaml(path), Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping, as of a schema or a recipe")
    if "num_points" in values:
        describe_schema(schema_from_dict(values, str(path)))
        return []
    from stylealign.flags import partial_config
    from stylealign.jobs.train_translator.legacy_recipes import is_legacy_recipe, translate_recipe

    if is_legacy_recipe(values):
        translate_recipe(values, path.name)
        console.print(
            f"{path.name}: a recipe of the original; `stylealign train-translator {path} --data DATA --dry-run` says "
            "what its keys become"
        )
        return []

    classes = {name: verb.config_class() for name, verb in VERBS.items()}
    known = {verb: {f.name for f in dataclasses.fields(cls)} & values.keys() for verb, cls in classes.items()}
    likely = sorted(classes, key=lambda verb: -len(known[verb]))
    first: UserError | None = None
    for verb in (v for v in likely if len(known[v]) == len(known[likely[0]])):
        try:
            partial_config(classes[verb], values, path.name)
        except UserError as error:
            first = first or error
            continue
        console.print(
            f"{path.name}: a recipe of `stylealign {verb}`; see it resolved with `stylealign {verb} {path} --dry-run`"
        )
        return []
    raise first or UserError(f"{path}: neither a schema nor a recipe")


def describe_schema(schema: LandmarkSchema) -> None:
    """Print what a mark-up knows."""
    alone = schema.num_points - 2 * len(schema.flip_pairs)
    lines = [
        f"schema {schema.name}: {counted(schema.num_points, 'landmark')}"
        + (", built in" if SCHEMAS.get(schema.name) == schema else ""),
        f"mirror table: {counted(len(schema.flip_pairs), 'pair')}, {counted(alone, 'point')} alone"
        if schema.flip_pairs
        else "mirror table: none, faces are never mirrored",
        *(f"boundary {name}: {' '.join(map(str, points))}" for name, points in schema.boundaries.items()),
        *(f"anchor {name}: {a} - {b}" for name, (a, b) in schema.anchors.items()),
    ]
    Console(highlight=False, soft_wrap=True, markup=False, emoji=False).print("\n".join(lines))


def main(config: Check) -> None:
    """Check whatever `path` is. Raises UserError when something is wrong with it."""
    path = run_folder(config.path)
    is_dataset = (path / "dataset.yaml").exists()
    warnings: list[str] = []
    if (config.draw or config.against) and not is_dataset:
        raise UserError(f"{path}: --{'draw' if config.draw else 'against'} is for dataset folders")
    if is_dataset:
        dataset = FaceDataset.open(path)
        problems = check_dataset(config, dataset)
        if numbered := numbered_otherwise(dataset):
            warnings.append(f"{numbered}; --draw 16 shows where they lie")
        if not problems and (shared := in_several_splits(dataset)):
            warnings.append(shared)
        if config.against is not None:
            chosen = dataset.select(config.split, config.subset, labelled=True)
            others = FaceDataset.open(config.against).select(labelled=True)
            warnings += [said] if (said := compare_ways(chosen, others)) else []
        for warning in warnings:
            say(f"warning: {path}: {warning}")
    elif (path / "card.json").exists() or (path / "config.yaml").exists():
        problems = check_run(path)
    elif path.suffix in (".yaml", ".yml"):
        problems = check_yaml(path)
    elif (partial_of(path) / "config.yaml").exists():
        problems = check_run(partial_of(path))
    elif partial_of(path).exists():
        raise UserError(
            f"{path}: only a half-written {partial_of(path).name} is there; run the command that makes it again"
        )
    elif not path.exists():
        raise UserError(f"{path}: no such file or folder")
    else:
        raise UserError(
            f"{path}: expected a dataset folder (dataset.yaml), a run folder (config.yaml), or a .yaml file"
        )
    if problems:
        more = f"\n  and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        raise UserError(f"{path}: {counted(len(problems), 'problem')}\n  " + "\n  ".join(problems[:_SHOWN]) + more)
    say(f"{path}: nothing{' else' if warnings else ''} wrong found")
