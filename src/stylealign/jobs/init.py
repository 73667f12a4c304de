"""Job: look at a person's own annotated faces and write what training needs: mark-up, splits, recipe, commands.

What cannot be known is not made up: curves and error denominators are left to the person, mirror twins are guessed
(mirror.py) and drawn for checking. Nothing is copied and nothing that exists is touched.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
import yaml

from stylealign.data.atomic import making, refuse_existing, whole_folder
from stylealign.data.formats import FORMATS, BadEntry, ReadOptions, format_of
from stylealign.data.groups import groups_of, splits_by_group
from stylealign.data.image import read_image, warp, write_image
from stylealign.errors import UserError, counted, typed
from stylealign.evaluation.draw import contact_sheet, draw_numbered, flipped
from stylealign.face import geometry
from stylealign.face.mirror import flip_pairs, mirror_twins
from stylealign.face.orientation import shown_crop_affine, shown_points
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, LandmarkSchema
from stylealign.predicting.finders import MtcnnFinder
from stylealign.predicting.given_boxes import write_boxes
from stylealign.predicting.places import Places, how_found
from stylealign.progress import say

UNSURE = 0.03
"""Mirror residual, over the shape's width, above which the guess is called one; below ten faces it always is."""
TILE, SHOWN = 256, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Init:
    """Look at your own annotated faces; write their mark-up, a recipe of sensible values, and the commands."""

    path: tyro.conf.Positional[Path]
    """A CSV or COCO file, an export of a labelling tool (CVAT, labelme, Label Studio, imglab), or a folder with one of
    them or with .pts files."""
    out: Path | None = None
    """Folder to make; not given: NAME_stylealign here."""
    points: int | None = None
    """How many landmarks a face has, to be sure; not given: counted."""
    name: str = ""
    """Of the mark-up; not given: the folder's or file's."""
    eyes: tuple[int, int] | None = None
    """The landmarks of the two outer eye corners, counted from 0: their distance then normalises errors. Not given: the
    face's box does."""
    val_frac: float = 0.15
    """Share of the faces held out to choose by, where the source names no split val."""
    group: Annotated[str, tyro.conf.arg(metavar="HOW")] = "auto"
    """What is held out together: folder, column (`group` of a CSV), none, or a regular expression of a picture's path
    whose first bracket is the person, such as '(.+)_[0-9]+'. auto: guessed, and said."""
    seed: int = 0
    """Draws them."""

    def __post_init__(self) -> None:
        if not 0 < self.val_frac < 1:
            raise ValueError(f"val_frac is {self.val_frac}, expected above 0 and below 1")


def faces_of(path: Path, reader: str, schema: LandmarkSchema) -> tuple[list[FaceSample], list[BadEntry]]:
    """The labelled faces of a source, and what is wrong with others."""
    options = ReadOptions(schema=schema, check_images=False, point_names=schema.point_names)
    entries = list(FORMATS[reader].read(path, options))
    bad = [entry for entry in entries if isinstance(entry, BadEntry)]
    faces = [entry for entry in entries if isinstance(entry, FaceSample) and entry.landmarks is not None]
    if len(faces) < 2:
        raise UserError(
            f"{path}: {len(faces)} usable face"
            + (f"; first trouble: {bad[0]}" if bad else "")
            + "; expected at least 2"
        )
    return faces, bad


class MarkedUp(NamedTuple):
    """What a source of faces tells of its mark-up."""

    schema: LandmarkSchema
    faces: list[FaceSample]
    """The labelled ones that can be used"""
    bad: list[BadEntry]
    residual: float
    """How far the mirrored shapes are from the shapes, over their width: see UNSURE"""

    @property
    def unsure(self) -> bool:
        """Whether the mirror pairs are a guess that fits badly."""
        return self.residual >= UNSURE


def marked_up(path: Path, reader: str, name: str, points: int | None, eyes: tuple[int, int] | None) -> MarkedUp:
    """Count the points of a source, guess its mirror twins, and take over the names of its points.

    Args:
        path: the source.
        reader: its format.
        name: what the mark-up is to be called.
        points: how many the person says there are.
        eyes: the two outer eye corners.

    Raises:
        UserError: fewer than two usable faces, another number of points, or eye corners that are none of them.
    """
    count_points = FORMATS[reader].count_points
    assert count_points is not None  # an entry that recognises its sources counts their points
    num_points = count_points(path)
    if points is not None and points != num_points:
        raise UserError(f"{path}: {counted(num_points, 'point')} a face, not the {points} of --points")
    find_names = FORMATS[reader].point_names
    names = tuple(find_names(path)) if find_names is not None else ()
    names = names if len(names) == num_points else ()
    # Read in the order of the names, which is the one that the mark-up and its mirror pairs are written in.
    faces, bad = faces_of(path, reader, LandmarkSchema(name=name, num_points=num_points, point_names=names))
    twins, residual = mirror_twins(np.stack([seen for face in faces if (seen := shown_points(face)) is not None]))
    anchors = {}
    if eyes is not None:
        if not all(0 <= i < num_points for i in eyes) or eyes[0] == eyes[1]:
            raise UserError(f"--eyes {eyes[0]} {eyes[1]}: expected two different landmarks from 0 to {num_points - 1}")
        anchors = {"inter_ocular": ((eyes[0],), (eyes[1],))}
    schema = LandmarkSchema(
        name=name, num_points=num_points, flip_pairs=flip_pairs(twins), anchors=anchors,
        point_names=names,
    )  # fmt: skip
    return MarkedUp(schema, faces, bad, residual)


def schema_text(schema: LandmarkSchema, num_faces: int) -> str:
    """A guessed mark-up as YAML, with comments that say what to look at."""
    head = (
        f"# {counted(schema.num_points, 'landmark')}, guessed from {counted(num_faces, 'face')}. flip_pairs: look at "
        "pairs.png; a colour that changes sides is a wrong pair.\n# boundaries (curves, which lab and the translators "
        "need), anchors (what errors are divided by) and parts: docs/schemas.md.\n"
    )
    known = next((s for s in SCHEMAS.values() if s.num_points == schema.num_points), None)
    if known is not None:
        head += (
            f"# {known.name} has as many points: if that is your mark-up, use --schema {known.name} instead of "
            "this file.\n"
        )
    values = {k: v for k, v in schema.to_dict().items() if v}
    return head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)


def recipe_for(num_train: int) -> dict:
    """Sensible values of `train-detector` for a number of faces: a narrow network on small crops, minutes on a CPU.

    Restyled where that was measured to pay, which is with few labels and late in training (docs/when-style-pays.md).
    """
    narrow = num_train < 5000
    return {
        "model": "resnet18",
        "resnet": {"width": 16 if narrow else 32},
        "crop": {"size": 64 if narrow else 128, "scale": 1.4},
        **({"style": {"preset": "mixture"}} if num_train < 500 else {}),
        "lr": 6e-3,
        "loop": {
            "steps": 4000 if num_train < 1000 else 6000,
            "batch_size": 32 if num_train >= 32 else max(2, num_train // 2),
            "evaluate_every": 1000,
        },
    }


def pairs_sheet(faces: list[FaceSample], schema: LandmarkSchema) -> np.ndarray:
    """Faces, each beside itself mirrored and renumbered: a colour that changes its side of the face is a wrong pair."""
    tiles, labels = [], []
    for sample in faces[:: max(1, len(faces) // SHOWN)][:SHOWN]:
        assert sample.landmarks is not None
        affine = shown_crop_affine(sample.orientation, geometry.landmark_box(sample.landmarks), 1.4, TILE)
        crop, landmarks = warp(read_image(sample.image), affine, TILE), geometry.apply(affine, sample.landmarks)
        tiles += [draw_numbered(crop, landmarks, schema), draw_numbered(*flipped(crop, landmarks, schema), schema)]
        labels += [sample.id[-24:], "mirrored"]
    return contact_sheet(tiles, 4, labels)


def commands_for(
    config: Init, reader: str, out: Path, splits: dict[str, list[str]], bad: int, picture: Path, places: Places
) -> str:
    """The commands from here to a detector that is evaluated, exported and used, as a shell script."""
    q = typed
    prepare = f"stylealign prepare --reader {reader} --path {q(config.path)} --schema {q(out / 'schema.yaml')}"
    if splits:
        prepare += " --splits " + " ".join(
            q(f"{name}={(out / 'splits' / f'{name}.txt').absolute()}") for name in splits
        )
    data, run = q(out / "data"), q(out / "detector")
    flags = places.flags or (f" --boxes {q(out / 'boxes.csv')}" if places.how == "boxes" else "")
    return "\n".join(
        [
            "# 1. The faces, in one folder; look at them, mirrored too.",
            f"{prepare}{' --skip-bad' if bad else ''} --out {data}",
            f"stylealign check {data} --draw 16 --out {q(out / 'check')}",
            "# 2. The detector. Change recipe.yaml as you like; the same command continues a stopped training.",
            f"stylealign train-detector {q(out / 'recipe.yaml')} --real {data} --run {run}",
            "# 3. How good it is, on faces it never saw.",
            f"stylealign evaluate --data {data} --split val --arms mine={run} --out {q(out / 'evaluation')}",
            "# 4. The detector as an ONNX file, which needs no torch (pip install 'stylealign[export]').",
            f"stylealign export {run} --out {q(out / 'detector.onnx')}",
            f"# 5. Use it: put your own pictures in this one's place. Here {places.sentence()}.",
            f"stylealign predict {q(picture)} --model {run}{flags} --draw --out {q(out / 'predictions')}",
        ]
    ) + "\n"  # fmt: skip


def _name_of(config: Init) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", config.name or config.path.absolute().stem).strip("_") or "mine"


def _out_of(config: Init) -> Path:
    return config.out or Path(f"{_name_of(config)}_stylealign")


@making(_out_of)
def main(config: Init) -> None:
    """Read the faces, guess the mark-up, write the folder, and print the commands that come next."""
    name, out = _name_of(config), _out_of(config)
    refuse_existing(out)
    try:
        reader = format_of(config.path)
    except UserError:
        if not (config.path / "dataset.yaml").is_file():
            raise
        raise UserError(
            f"{config.path}: a data set folder already, expected annotations as they were made; "
            f"`stylealign fit {config.path}` and `stylealign train-detector --real {config.path}` take it as it is"
        ) from None
    found = marked_up(config.path, reader, name, config.points, config.eyes)
    schema, faces, bad, num_points = found.schema, found.faces, found.bad, found.schema.num_points
    groups = groups_of(faces, config.group, FORMATS[reader].image_root(config.path), config.path, reader)
    splits = splits_by_group(faces, groups, config.val_frac, config.seed, anew=config.group != "auto")
    if splits:
        say(groups.sentence())
    num_train = len(splits["train"]) if splits else sum(face.split == "train" for face in faces)

    with whole_folder(out) as partial:
        (partial / "splits").mkdir()
        (partial / "schema.yaml").write_text(schema_text(schema, len(faces)), encoding="utf-8")
        for split, ids in splits.items():
            (partial / "splits" / f"{split}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
        recipe = yaml.safe_dump(recipe_for(num_train), sort_keys=False, default_flow_style=None)
        (partial / "recipe.yaml").write_text(
            f"# For {counted(num_train, 'training face')}; `stylealign train-detector --help` says what everything "
            f"means.\n{recipe}",
            encoding="utf-8",
        )
        write_image(partial / "pairs.png", pairs_sheet(faces, schema))
        places = how_found(faces, MtcnnFinder(), 1.4, most=12)
        if places.how == "boxes":
            write_boxes(partial / "boxes.csv", faces)
        held = set(splits.get("val", ())) or {face.id for face in faces if face.split == "val"}
        shown = next((face for face in faces if face.id in held), faces[0])
        commands = commands_for(config, reader, out, splits, len(bad), shown.image, places)
        (partial / "commands.sh").write_text(commands, encoding="utf-8")

    middle = num_points - 2 * len(schema.flip_pairs)
    unsure = ", a guess from too little" if len(faces) < 10 else ", a guess that fits badly" if found.unsure else ""
    say(
        f"{config.path}: {counted(len(faces), 'face')} of {counted(num_points, 'point')} ({FORMATS[reader].summary})"
        + (f"; {len(bad)} cannot be used, first {bad[0]}" if bad else "")
    )
    say(
        f"{counted(len(schema.flip_pairs), 'mirror pair')} and {counted(middle, 'point')} on the mirror line"
        f"{unsure}: look at {out / 'pairs.png'}"
    )
    if not schema.anchors:
        say(
            "errors will be divided by the face's box; with --eyes I J (outer eye corners, counted from 0) by their "
            "distance, as papers do"
        )
    say(
        f"wrote {out}: schema.yaml, recipe.yaml, {'splits/, ' if splits else ''}pairs.png, and commands.sh:"
        f"\n\n{commands}"
    )
