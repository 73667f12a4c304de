"""The beginning of `fit`: what lies there, which mark-up it is, who is held out, and the data set made of it."""

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.formats import FORMATS, format_of
from stylealign.data.formats.files import pictures_below
from stylealign.data.groups import groups_of, splits_by_group
from stylealign.data.image import write_image
from stylealign.data.once import KnownPictures
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import SCHEMAS, get_schema
from stylealign.jobs import prepare
from stylealign.jobs.fit.choosing import crop_scale
from stylealign.jobs.fit.config import Fit, out_of
from stylealign.jobs.fit.stopwatch import Stopwatch
from stylealign.jobs.fit.unlabelled import some_of, write_unlabelled
from stylealign.jobs.init import MarkedUp, marked_up, pairs_sheet, schema_text
from stylealign.predicting.finders import MtcnnFinder
from stylealign.predicting.places import how_found
from stylealign.progress import say
from stylealign.toyfaces.numbering import FEW_POINTS, LIMIT, misfit

MOST_UNLABELLED = 2000


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
    return found if config.eyes is not None else _known(found)


def _known(found: MarkedUp) -> MarkedUp:
    """The same with the built-in mark-up whose mirror pairs the faces have, if its points are theirs; says why."""
    pairs = {frozenset(pair) for pair in found.schema.flip_pairs}
    for known in SCHEMAS.values():
        if known.num_points != found.schema.num_points or {frozenset(p) for p in known.flip_pairs} != pairs:
            continue
        same, away = f"the mirror pairs are those of {known.name}", misfit(found.faces, known)
        if known.num_points < FEW_POINTS:
            say(
                f"{same} too, but {counted(known.num_points, 'landmark')} are too few to tell whether they are its: "
                f"errors are divided by the face's box. If they are, --schema {known.name}"
            )
        elif away is not None and away <= LIMIT:
            say(f"{same}, and the landmarks lie as its do: it is taken for the mark-up (--schema names another)")
            return found._replace(schema=known)
        else:
            why = "too few faces tell where the landmarks lie" if away is None else "the landmarks lie elsewhere"
            say(f"{same}, but {why}: it is not taken for the mark-up (--schema {known.name} does)")
    return found


def _digest(faces: list[FaceSample]) -> str:
    """SHA-256 of who is labelled and where."""
    found = hashlib.sha256()
    for face in sorted(faces, key=lambda face: face.id):
        found.update(f"{face.id} {face.split}\n".encode("utf-8", "surrogateescape"))
        for values in (face.landmarks, face.visible, face.box_xyxy):
            found.update(b"-" if values is None else np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def refuse_other_labels(config: Fit, plan: dict[str, Any]) -> None:
    """Raises UserError where the labels have changed since the plan was made.

    Not asked where the fit lies among them, whose own tables are there by now.
    """
    among = config.path.absolute() in out_of(config).absolute().parents
    if "labels" in plan and not among and _digest(_marked_up(config, plan["reader"]).faces) != plan["labels"]:
        raise UserError(
            f"{config.path}: its labels have changed since this fit read them; choose another --out, or remove "
            f"{out_of(config)}, to fit them as they are now"
        )


def look(config: Fit, out: Path, watch: Stopwatch) -> dict[str, Any]:
    """Find out all that is planned once, and write what it needs into `out`; returns what plan.yaml holds."""
    is_dataset = (config.path / "dataset.yaml").is_file()
    reader = "dataset" if is_dataset else format_of(config.path)
    found = _marked_up(config, reader)
    root = FaceDataset.open(config.path).image_root if is_dataset else FORMATS[reader].image_root(config.path)
    groups = groups_of(found.faces, config.group, root, config.path, reader)
    say(groups.sentence())
    splits = splits_by_group(found.faces, groups, config.val_frac, config.seed, anew=config.group != "auto")
    now = {**{f.id: f.split for f in found.faces}, **{f: s for s, ids in splits.items() for f in ids}}
    if not {"train", "val"} & set(now.values()):
        raise UserError(f"{config.path}: no labelled face in split train or val, expected some to learn from")
    (out / "splits").mkdir(parents=True, exist_ok=True)
    for split, ids in splits.items():
        (out / "splits" / f"{split}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    (out / "schema.yaml").write_text(schema_text(found.schema, len(found.faces)), encoding="utf-8")
    write_image(out / "pairs.png", pairs_sheet(found.faces, found.schema))
    if found.unsure:
        say(
            f"warning: the mirror pairs were guessed, and fit badly: look at {out / 'pairs.png'}; where they are "
            "wrong, `stylealign init` writes a mark-up to put them right in"
        )

    finder, scale, began = MtcnnFinder(), crop_scale(found.schema), time.monotonic()
    places = how_found(found.faces, finder, scale)
    each = (time.monotonic() - began) / max(1, places.asked)
    say(places.sentence())
    if places.found == 0:
        say("none of the labelled faces is found by the finder: these are no faces to it, and it will not be used")

    beside = config.unlabelled or (config.path if config.path.is_dir() and not is_dataset else None)
    count = 0
    if beside is not None and places.how != "boxes":
        labelled = KnownPictures(face.image for face in found.faces)
        most = int(min(MOST_UNLABELLED, 0.05 * watch.total / max(each, 1e-3)))
        held = {groups.of[face] for face, split in now.items() if split != "train"}
        allowed = (  # nobody who is held out is looked at
            path
            for path in pictures_below(beside, out)
            if not groups.holds(path.relative_to(beside).with_suffix("").as_posix(), held)
        )
        pictures, there = some_of(allowed, beside, most, labelled)
        if pictures:
            folder = out / "unlabelled"
            count = write_unlabelled(pictures, beside, folder, found.schema, places.how, finder, scale)
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
        "missing": "keep", "labels": _digest(found.faces),
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
