"""Job: published data -> a dataset folder, of one source or several merged.

Nothing is left behind when a face is bad. Knows splits, subsets and merging; data/formats/ knows the formats.
"""

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from stylealign.config import to_dict
from stylealign.data.atomic import making, partial_of, refuse_existing, whole_folder
from stylealign.data.carve import carved, named_shares
from stylealign.data.convention import say_of_other_ways
from stylealign.data.conversion import converted
from stylealign.data.dataset import FaceDataset, origins
from stylealign.data.dataset_writer import DatasetWriter, called
from stylealign.data.describe import describe
from stylealign.data.formats import (
    FORMATS,
    BadEntry,
    ReadOptions,
    check_name,
    counts_points,
    listed,
    schema_of,
    taking,
)
from stylealign.data.formats.entry import folder_of, is_text, lines_of
from stylealign.data.formats.missing import Missing
from stylealign.data.image import image_size
from stylealign.data.lists import FaceLists, named_lists
from stylealign.data.once import Copies, Twins, in_several_splits
from stylealign.data.shards import ShardConfig, refuse_few, shown
from stylealign.errors import UserError, counted
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema, convert, get_schema
from stylealign.progress import say, track
from stylealign.toyfaces.numbering import numbered_otherwise

SKIPPED_FILE = "skipped.txt"
_SKIPPED_IN_META = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A source and how to read it: what a source in a recipe and a command line of one source have in common."""

    reader: Annotated[
        str | None,
        tyro.conf.arg(
            constructor_factory=lambda: Literal[tuple(FORMATS)],
            help=f"Its format.\n{listed({name: entry.summary for name, entry in FORMATS.items()})}",
            help_behavior_hint="(default: None)",
        ),
    ] = None
    path: Path | None = None
    """Its folder (or file)."""
    split: str | None = None
    """Put all of its faces into this split."""
    splits: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FILE ...")] = ()
    """`name=list.txt` each: faces whose image the list names form that split; faces in no list are left out. Lists
    hold an image path (or a face's id) a line and are looked for in the source's folder first."""
    subsets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FILE ...")] = ()
    """`name=list.txt` each: faces whose image the list names get this attribute, as in few=splits/train_0157.txt."""
    schema: str | None = None
    """Mark-up of its landmarks: a built-in name or your own YAML file; for formats that do not tell."""
    frame: int | None = None
    """`list` only: coordinates are of a square frame of this side (the original: 384), and scaled to each picture."""
    images: Path | None = None
    """Folder that image names are relative to, where it is not the layout's own."""
    point_names: Path | None = None
    """What a labelling tool's points are called, in the mark-up's order: a text file with a name a line. Not given: as
    the mark-up says (`point_names`), else the numbers in the names, else as the source declares them."""
    box_frac: float | None = None
    """Give faces without landmarks and box a centred square box of this share of the picture's shorter side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source(Reading):
    """One published data set to read."""

    reader: str
    path: Path
    name: str = ""
    """Prefix of its faces' ids when several sources are merged; not given: as for a data set."""

    def __post_init__(self) -> None:
        check_name("reader", self.reader, FORMATS)
        named_lists(self.splits, "splits")
        named_lists(self.subsets, "subsets")
        if self.split is not None and self.splits:
            raise ValueError("give split (one for all faces) or splits (lists), not both")
        if self.frame is not None and ("frame" not in FORMATS[self.reader].flags or self.frame < 1):
            raise ValueError(
                f"frame {self.frame} with reader {self.reader}: expected a side in pixels, and reader "
                + " or ".join(taking("frame"))
            )
        if self.images is not None and "images" not in FORMATS[self.reader].flags:
            raise ValueError(
                f"images with reader {self.reader}: only {', '.join(taking('images'))} name pictures in a list"
            )
        if self.point_names is not None and "point_names" not in FORMATS[self.reader].flags:
            raise ValueError(
                f"point_names with reader {self.reader}: only {', '.join(taking('point_names'))} name their points"
            )
        if self.box_frac is not None and not 0 < self.box_frac <= 1:
            raise ValueError(f"box_frac is {self.box_frac}, expected above 0 and at most 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepare(Reading):
    """Make a dataset folder of published data: of one source, or of several merged."""

    out: Path
    """The dataset folder to make."""
    sources: tuple[Source, ...] = ()
    """Several sources to merge, in a recipe; their ids get the source's name in front."""
    convert: str | None = None
    """Re-express all landmarks in this mark-up (what is approximate is listed in docs/schemas.md)."""
    copy: bool = False
    """Copy the pictures into the dataset folder; otherwise it points at them where they are."""
    skip_bad: bool = False
    """Leave out bad faces and list them in skipped.txt; otherwise the first one ends the work."""
    missing: Missing = "refuse"
    """What to do with a face that lacks some landmarks (-1 -1, 0 0, NaN, an empty cell, COCO's v 0): refuse makes it a
    bad face; keep reads it, and trainings and scores leave the missing landmarks out."""
    carve: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SHARE ...")] = ()
    """`name=share` each: split `name` gets this share of the labelled faces of split train, as in val=0.05. Faces of
    one picture stay together."""
    carve_seed: int = 0
    """Decides which pictures `carve` takes."""
    check_images: bool = True
    """Decode every picture to the end, to find those cut short; False reads their headers only."""
    name: str = ""
    """Name of the data set; if not given its folder's, of a folder `data` (runs/300w/data) the one above."""
    licence: str = ""
    """Licence of the data, kept in dataset.yaml."""
    shards: int = 0
    """Cut the faces and write them into tar files of so many faces, which trainings on a million faces stream
    (docs/scale.md); 0: a data set folder of loose files. A thousand is a good number."""
    shard: ShardConfig = field(default_factory=ShardConfig)

    def __post_init__(self) -> None:
        named_shares(self.carve)
        refuse_few(self.shards)
        if self.carve_seed < 0:
            raise ValueError(f"carve_seed is {self.carve_seed}, expected 0 or more")
        if bool(self.sources) == (self.reader is not None or self.path is not None):
            raise ValueError("expected either one source (reader and path) or a recipe with sources")
        if not self.sources and (self.reader is None or self.path is None):
            missing = " and ".join(f"--{name}" for name in ("reader", "path") if getattr(self, name) is None)
            raise ValueError(
                f"missing {missing}: expected what is read and its format (`stylealign init PATH` tells it)"
            )
        if self.sources:
            own = [f.name for f in dataclasses.fields(Reading) if f.name not in ("reader", "path")]
            given = [name for name in own if getattr(self, name)]
            if given:
                raise ValueError(f"{', '.join(given)}: belongs to each of the sources, not beside them")
            names = [_name(s) for s in self.sources]
            if len(set(names)) < len(names):
                raise ValueError(f"sources are named {', '.join(names)}, expected different names")
        else:
            _only(self)


def _only(config: Prepare) -> Source:
    """The one source that a command line describes."""
    return Source(**{f.name: getattr(config, f.name) for f in dataclasses.fields(Reading)})


def _name(source: Source) -> str:
    return source.name or called(source.path)


def _point_names(source: Source, schema: LandmarkSchema) -> tuple[str, ...]:
    """What the source calls each landmark: by the user's list, else as the mark-up says; empty: neither does."""
    if source.point_names is None:
        return schema.point_names
    names = tuple(text for _, text in lines_of(source.point_names))
    if len(names) != schema.num_points or len(set(names)) != len(names):
        raise UserError(
            f"{source.point_names}: {counted(len(set(names)), 'different name')}, expected {schema.num_points} of "
            f"{schema.name}, one a line"
        )
    return names


def _centred_box(image: Path, frac: float) -> np.ndarray:
    width, height = image_size(image)
    half = frac * min(width, height) / 2
    x, y = (width - 1) / 2, (height - 1) / 2
    return np.array([x - half, y - half, x + half, y + half])


def _schemas(sources: list[Source], wanted: str | None) -> tuple[list[LandmarkSchema], LandmarkSchema]:
    """The mark-up of each source, and the one of the data set."""
    own = [schema_of(s.reader, s.path, s.schema) for s in sources]
    known = [s for s in own if s is not None]
    if not known and wanted is None:
        raise UserError(
            f"{sources[0].path}: pictures without landmarks; say with --schema which mark-up they are to be used with"
        )
    target = get_schema(wanted) if wanted is not None else known[0]
    for source, schema in zip(sources, own, strict=True):
        if schema is not None and schema != target:
            if wanted is None:
                raise UserError(
                    f"{source.path}: its landmarks are {schema.name}, expected {target.name} as of {sources[0].path}; "
                    "use --convert"
                )
            convert(np.zeros((schema.num_points, 2)), schema.name, target.name)  # raises where no conversion is known
    return [target if s is None else s for s in own], target


def _text(line: str) -> str:
    """A line with bytes of file names that are no UTF-8 written out."""
    return line.encode(errors="backslashreplace").decode()


def _image_root(source: Source) -> Path:
    """A folder that holds every picture of a source."""
    return source.images or FORMATS[source.reader].image_root(source.path)


def _how(config: Prepare, sources: list[Source]) -> dict[str, Any]:
    """What dataset.yaml says of how the data set was made: by `prepare`; of one made by another verb, by that still.

    So a training goes on to refuse labels that it must not see, of faces that were converted or merged.
    """
    told = {"command": "prepare", "config": shown(to_dict(config))}
    before = [FaceDataset.open(s.path).meta for s in sources if s.reader == "dataset"]
    made = [meta["how"] for meta in before if "verb" in (meta.get("how") or {})]
    if made and len(sources) == 1:
        return {**made[0], "prepared": told}
    merged = origins(before)
    return {**told, "inputs": {"data": merged}} if merged else told


def _refuse_odd_names(config: Prepare) -> None:
    """Raise UserError for a path or name that dataset.yaml cannot hold, since it is no UTF-8."""

    def walk(value: object, key: str) -> None:
        if isinstance(value, dict | list):
            for name, part in value.items() if isinstance(value, dict) else enumerate(value):
                walk(part, f"{key}.{name}" if key else str(name))
        elif isinstance(value, str) and not is_text(value):
            raise UserError(f"{key}: {value}: its bytes are no UTF-8, expected a name that is: rename it")

    walk(to_dict(config), "")


def _by_source(dataset: FaceDataset, sources: list[Source]) -> Iterator[tuple[Source, FaceDataset]]:
    """The faces of each source in the data set that was made of them; a source without any is passed over."""
    if len(sources) == 1:
        yield sources[0], dataset
        return
    rows: dict[str, list[int]] = {_name(source): [] for source in sources}
    longest = sorted(rows, key=len, reverse=True)  # a name may be the beginning of another
    for i, face in enumerate(dataset.ids()):
        rows[next(name for name in longest if face.startswith(f"{name}/"))].append(i)
    for source in sources:
        if rows[_name(source)]:
            yield source, dataset.take(rows[_name(source)])


@making("out")
def main(config: Prepare) -> None:
    """Read the sources and write the data set, or shards of it."""
    refuse_existing(config.out)
    _refuse_odd_names(config)
    if not config.shards:
        _write(config, config.out)
        return
    from stylealign.batches.shards import pack

    with whole_folder(config.out) as partial:
        loose = partial / "loose"
        _write(config, loose)
        pack(FaceDataset.open(loose), partial, config.shards, config.shard)
        if (loose / SKIPPED_FILE).exists():
            os.replace(loose / SKIPPED_FILE, partial / SKIPPED_FILE)
        shutil.rmtree(loose)
    say(f"wrote shards of {counted(config.shards, 'face')}: {config.out}")


def _write(config: Prepare, out: Path) -> None:
    """Read the sources and write a data set folder."""
    sources = list(config.sources) or [_only(config)]
    schemas, target = _schemas(sources, config.convert)
    extracted = partial_of(out) / "images"
    own = config.copy or any(FORMATS[s.reader].holds_pictures for s in sources)
    skipped: list[str] = []
    left_out: dict[str, int] = {}
    notes: list[str] = []
    twins = Twins()

    def bad(entry: BadEntry) -> None:
        if not config.skip_bad:
            raise UserError(f"{entry} (--skip-bad leaves such faces out and lists them)")
        skipped.append(str(entry))

    def faces(source: Source, schema: LandmarkSchema) -> Iterable[FaceSample]:
        prefix = f"{_name(source)}/" if len(sources) > 1 else ""
        options = ReadOptions(
            schema=schema, split=source.split, images=source.images, frame=source.frame,
            check_images=config.check_images, extract_to=extracted / prefix,
            missing=config.missing, point_names=_point_names(source, schema),
        )  # fmt: skip
        copies, root = Copies(extracted), _image_root(source)
        own_ids = root if source.reader == "dataset" else None  # others make ids of pictures' paths
        lists = FaceLists(folder_of(source.path), source.splits, source.subsets, own_ids)
        for entry in track(FORMATS[source.reader].read(source.path, options), f"reading {source.path.name}"):
            if isinstance(entry, BadEntry):
                lists.mark(entry.face)
                bad(entry)
                continue
            sample = lists.assign(entry, bool(source.splits))
            if sample is None:
                left_out[_name(source)] = left_out.get(_name(source), 0) + 1
                continue
            if source.box_frac is not None and sample.landmarks is None and sample.box_xyxy is None:
                sample = dataclasses.replace(sample, box_xyxy=_centred_box(sample.image, source.box_frac))
            face = converted(sample, schema, target)
            if isinstance(face, str):
                bad(BadEntry(f"{source.path}: face '{sample.id}'", face))
                continue
            if before := twins.of(sample):
                options.notes.add("faces stand twice (same picture and landmarks)", f"{sample.id} as {before}")
            image = copies.of(sample.image, root, prefix) if own else sample.image
            yield dataclasses.replace(face, id=prefix + sample.id, image=image)
        for entry in lists.unmatched():
            bad(entry)
        notes.extend(f"{_name(source)}: {note}" for note in options.notes)

    with DatasetWriter(
        out,
        schema=target,
        name=config.name or called(config.out),
        images="own" if own else "reference",
        image_root=None if own else Path(os.path.commonpath([os.path.abspath(_image_root(s)) for s in sources])),
        source=", ".join(f"{_name(s)} ({s.reader})" for s in sources),
        licence=config.licence,
        how=_how(config, sources),
    ) as writer:
        found = (sample for source, schema in zip(sources, schemas, strict=True) for sample in faces(source, schema))
        for sample in carved(found, named_shares(config.carve), config.carve_seed) if config.carve else found:
            writer.add(sample)
        if skipped:
            writer.how = {
                **writer.how,
                "num_skipped": len(skipped),
                "skipped": [_text(line) for line in skipped[:_SKIPPED_IN_META]],
            }
            lines = "".join(f"{_text(line)}\n" for line in skipped)
            (writer.partial / SKIPPED_FILE).write_text(lines, encoding="utf-8")
        if left_out:
            writer.how = {**writer.how, "in_no_split_list": left_out}
        if notes:
            writer.how = {**writer.how, "notes": [_text(note) for note in notes]}

    dataset = FaceDataset.open(out)
    describe(dataset)
    for source, schema in zip(sources, schemas, strict=True):
        if counts_points(source.reader, source.schema):
            say(
                f"{source.path}: {counted(schema.num_points, 'landmark')} a face and no --schema: taken for "
                f"{schema.name}; --schema names another"
            )
    for source, view in (views := list(_by_source(dataset, sources))):
        if warning := numbered_otherwise(view):
            say(f"warning: {source.path}: {warning}")
    if shared := in_several_splits(dataset):
        say(f"warning: {config.out}: {shared}")
    say_of_other_ways({str(source.path): view for source, view in views})
    for note in notes:
        say(note)
    for name, count in left_out.items():
        say(f"{name}: {counted(count, 'face')} in no split list, left out")
    if skipped:
        say(f"{counted(len(skipped), 'bad entry')} left out, listed in {config.out / SKIPPED_FILE}")
    if out == config.out:
        say(f"wrote {out}")
