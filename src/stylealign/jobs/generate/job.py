"""The job `generate`: every labelled face in k styles of other faces -> a data set in our format.

A picture has the structure of one face (its landmarks, which it inherits exactly) and the style of another. Work is
cut into units of a few faces whose results depend on nothing but (configuration, unit); a unit runs on one thread
whatever the machine has, because a convolution's last bits change with the number of threads. So a stopped run
continues, and several processes share the work, with the same bytes.

While it works:  <out>.partial/{generate.yaml, styles/ (codes of the donors), units/ (finished index lines),
                 images/, sheets/}
When done:       <out>/{dataset.yaml, index.jsonl, images/, sheets/}

rendering.py        the units: files, index lines, sheets
maker.py            what draws them: a translator (by_translator.py), one that bends donors (by_warp.py), style arms
                    (by_arms.py)
pairing.py          which face gets whose style;  donor_points.py  where the landmarks of donors are
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from stylealign.batches.shards import pack
from stylealign.config import config_text, read_yaml, to_dict
from stylealign.data.atomic import partial_of, whole_file, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.data.dataset_writer import called, write_meta
from stylealign.data.rows import content_hash
from stylealign.data.shards import INDEX, ShardConfig, refuse_few
from stylealign.errors import UserError, counted
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.generate.by_arms import open_arms
from stylealign.jobs.generate.by_translator import ByTranslator, StyleMode
from stylealign.jobs.generate.by_warp import ByWarp
from stylealign.jobs.generate.description import describe, refuse_other, refuse_other_result
from stylealign.jobs.generate.maker import Maker, Plan
from stylealign.jobs.generate.pairing import other_donors
from stylealign.jobs.generate.rendering import Work, run_all
from stylealign.progress import say
from stylealign.styling.chain import ChainConfig
from stylealign.training.loop import LoopConfig, start_engine
from stylealign.training.seen import say_more_seen
from stylealign.training.session import alone_among, going_on_later
from stylealign.translators import TRANSLATORS
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.judge import gate
from stylealign.translators.loaded import load_translator, named_translator, open_untrained
from stylealign.translators.swapping import Translator
from stylealign.translators.warp.fit import WarpConfig

GPU_WORKERS = 4  # one decodes while the others write pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Render every labelled face in the styles of other faces, by a translator or by style arms: a synthetic data set
    that inherits their landmarks."""

    data: Path
    """Data set whose labelled faces give structure and landmarks."""
    out: Path
    """Data set folder to make; the same command continues a stopped run."""
    translator: Path | None = None
    """Run folder of a trained translator; or the name of one that needs no training, such as `warp`: donors'
    photographs, bent onto the faces' landmarks."""
    style: ChainConfig = field(default_factory=ChainConfig)
    """Style arms instead of a translator: every picture is a face's own crop in another look."""
    crop: CropConfig = field(default_factory=lambda: CropConfig(size=160, scale=1.75))
    """How style arms and untrained translators cut faces (a trained one knows its own). As here, there is room to turn
    a 128 px crop at 1.4."""
    warp: WarpConfig = field(default_factory=WarpConfig)
    split: str = "train"
    """Split of `data` to use."""
    subset: str | None = None
    """Use only the faces of that split with this attribute, such as a label budget."""
    donors: Path | None = None
    """Data set whose faces give styles; labels are not needed. Default: `data`."""
    donor_split: str | None = None
    """Split of the donors. Default: `split`, whole, where the donors are `data`; of others their `train`, or all faces
    where they have none."""
    donor_subset: str | None = None
    """Use only donors with this attribute."""
    styles_per_face: int = 8
    """Pictures made of each face, each in another style; 8 in the paper's release."""
    mode: StyleMode = "transfer"
    """transfer: one donor's style (its posterior mean). interpolate: a mix of two. prior: a style drawn from p(z|y)."""
    mix: float = 0.5
    """interpolate: share of the second donor."""
    seed: int = 0
    """Draws the donors (and the prior's samples)."""
    skip_unlabelled: bool = False
    """Leave faces without landmarks out of the structures instead of refusing them; they can be donors all the same."""
    skip_unfit: bool = False
    """warp, repaint, arms that bend: leave out faces that fewer donors fit than styles are asked for, instead of
    refusing them."""
    judge: Path | None = None
    """warp, repaint: the detector run that finds the landmarks of donors without labels, and judges the faces of warp.
    Not given: the one that came with the package, where it is of the same mark-up."""
    accept_gap: bool = False
    """Go on with a translator that its judge refuses: its faces lie too far from their labels (by over 1.0 point)."""
    image_format: Literal["jpg", "png"] = "jpg"
    quality: int = 95
    """Quality of JPEG files, 1 to 100."""
    sheets: int = 4
    """Style sheets (structures x styles) to look at; grey is a pair that cannot be bent."""
    sheet_size: int = 6
    """Structures and styles on a sheet."""
    faces_per_unit: int = 8
    """Faces done, and kept if the run is stopped, at a time."""
    shards: int = 0
    """Write the faces into tar files of so many faces, which trainings on a million faces stream (docs/scale.md); 0:
    loose files."""
    shard: ShardConfig = field(default_factory=ShardConfig)
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Devices (or CPU processes) a node; under torchrun its own number counts."""
    num_nodes: int = 1

    def __post_init__(self) -> None:
        refuse_few(self.shards)
        for name in ("styles_per_face", "faces_per_unit", "sheet_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.seed < 0 or self.sheets < 0:
            raise ValueError(f"seed {self.seed} and sheets {self.sheets}: expected 0 or more")
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix is {self.mix}, expected from 0 to 1")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}, expected from 1 to 100")


class Processes(NamedTuple):
    """Which of several processes this one is, and where it works."""

    device: str = "cpu"
    rank: int = 0
    world: int = 1
    barrier: Callable[[], None] = lambda: None
    """waits until every process has come to it"""


ONE_PROCESS = Processes()


def _select(config: Generate, donors_needed: bool) -> tuple[FaceDataset, FaceDataset | None]:
    """The content faces (all labelled) and the donors (None where none are needed)."""
    data = FaceDataset.open(config.data)
    contents = data.select(config.split, config.subset)
    labelled = [i for i in range(len(contents)) if contents.head(i)["labelled"]]
    if len(labelled) < len(contents) and not (config.skip_unlabelled and labelled):
        raise UserError(
            f"{config.data}: {len(contents) - len(labelled)} of {counted(len(contents), 'face')} of split "
            f"'{config.split}' without landmarks, which a structure needs: choose a --subset of labelled faces, or "
            "leave them out with --skip-unlabelled (they may be donors all the same)"
        )
    contents = contents.take(labelled)
    if not donors_needed:
        return contents, None
    if config.donors is None:
        return contents, data.select(config.donor_split or config.split, config.donor_subset)
    return contents, other_donors(config.donors, config.donor_split, config.donor_subset)


def _is_whole(folder: Path, schema: LandmarkSchema) -> bool:
    """Whether a folder's dataset.yaml was written to its end, and for the index beside it."""
    try:
        meta = read_yaml(folder / "dataset.yaml")
        return isinstance(meta, dict) and meta.get("content_hash") == content_hash(folder / "index.jsonl", schema)
    except (UserError, OSError):
        return False


def _join(work: Work, name: str, how: dict[str, Any]) -> None:
    """Turn the units into one index and write dataset.yaml."""
    contents, donors, folder = work.plan.contents, work.plan.donors, work.plan.folder
    with whole_file(folder / "index.jsonl") as index:
        for unit in range(work.num_units):
            index.write(work.unit_file(unit).read_bytes())
    count = len(contents) * work.plan.styles_per_face
    names = contents.name
    if donors is not None and donors.name != contents.name:
        names = f"{contents.name} and {donors.name}"
    write_meta(
        folder, schema=contents.schema, name=name, count=count, splits={"train": count}, labelled=count,
        image_root="images", source=f"generated from {names} by {work.maker.what} {work.maker.hash[:12]}",
        licence=contents.meta.get("licence", ""), how=how,
    )  # fmt: skip


def _pack(config: Generate, folder: Path) -> None:
    """The faces of a folder as shards, and its loose files gone; a second call goes on from a stopped one."""
    if not (folder / INDEX).exists():
        pack(FaceDataset.open(folder), folder, config.shards, config.shard)
    for name in ("index.jsonl", "dataset.yaml"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "images", ignore_errors=True)


def _judged(config: Generate, work: Work) -> list[str]:
    """What the judges of its translators found, in lines. Raises UserError where one was refused, unless accepted."""
    where = str(config.translator or work.maker.what)
    return [line for card in work.maker.judged(work.plan) for line in gate(card, config.accept_gap, where)]


def _begin(config: Generate, work: Work, how: dict[str, Any]) -> None:
    """Say what is known of the translator, and make the folder."""
    for line in _judged(config, work):
        say(line)
    plan = work.plan
    for card in work.maker.cards:
        say_more_seen(f"translator {config.translator}", card, plan.contents, config.split, config.subset)
    plan.say_held_out()
    for name in ("styles", "units", "images", "sheets"):
        (plan.folder / name).mkdir(parents=True, exist_ok=True)
    write_whole(plan.folder / "generate.yaml", config_text(how))


def _render(config: Generate, work: Work, how: dict[str, Any], processes: Processes) -> None:
    """Do this process's share of what is not done yet; the first process joins the units at the end."""
    plan, maker, (device, rank, world, barrier) = work.plan, work.maker, processes
    if _is_whole(plan.folder, plan.contents.schema) or (plan.folder / INDEX).exists():
        return
    threads = torch.get_num_threads()
    workers = GPU_WORKERS if device != "cpu" else max(1, threads)
    done = sum(work.is_done(u) for u in range(work.num_units)) if rank == 0 else 0
    if done:
        say(f"continuing {config.out}: {done} of {counted(work.num_units, 'unit')} done")
    # So that a picture's last bits do not depend on the machine's cores; the workers share those.
    torch.set_num_threads(1)
    try:
        todo = [n for n in range(maker.num_preparations(plan)) if not maker.is_prepared(plan, n)]
        run_all(lambda n: maker.prepare(plan, n), [n for n in todo if n % world == rank], workers, "encoding styles")
        barrier()
        sheets = [s for s in range(config.sheets) if not work.sheet_file(s).exists()]
        run_all(work.write_sheet, [s for s in sheets if s % world == rank], workers, "style sheets")
        units = [u for u in range(rank, work.num_units, world) if not work.is_done(u)]
        run_all(work.render, units, workers, f"generating (units of {counted(plan.faces_per_unit, 'face')})")
    finally:
        torch.set_num_threads(threads)
    barrier()
    if rank == 0:
        _join(work, called(config.out), how)


def generate(config: Generate, translator: Translator, **processes: Any) -> None:
    """Make (or continue) the data set by an open translator, in the configuration's mode; see `make_dataset`."""
    make_dataset(config, _maker_of(config, translator), Processes(**processes))


def _maker_of(
    config: Generate, translator: Translator, untrained: str | None = None, device: torch.device | None = None
) -> Maker:
    """An open translator as a maker. `untrained`: its name, where it needed no training; `device`: where a detector
    looks at donors, where that is not the translator's own."""
    if not isinstance(translator, LoadedTranslator) or not translator.bends_donor:
        return ByTranslator(translator, config.mode, config.mix)
    if config.mode != "transfer":  # a photograph that is bent is no style code
        raise UserError(
            f"mode {config.mode}: translator '{translator.card.get('model')}' has no prior to draw styles from and no "
            "style codes to mix: it only transfers"
        )
    return ByWarp(translator, config.warp, config.judge, device or translator.device, config.skip_unfit, untrained)


def make_dataset(config: Generate, maker: Maker, processes: Processes = ONE_PROCESS) -> None:
    """Make (or continue) the data set; process `rank` of `world` does every world-th piece of work.

    Raises UserError for a translator that its judge found too far from its labels (unless `accept_gap`), another
    schema, unlabelled content faces, too few donors, or an `out` of another configuration.
    """
    barrier, main_process = processes.barrier, processes.rank == 0
    contents, donors = _select(config, maker.donors_per_style > 0)
    if maker.schema != contents.schema:
        raise UserError(
            f"the translator {config.translator} draws {maker.schema.name} faces, but {config.data} holds "
            f"{contents.schema.name}: expected the same schema"
        )
    how = describe(to_dict(config), maker, contents, donors)
    partial = partial_of(config.out)
    if config.out.exists():
        refuse_other_result(config.out, how)
        if main_process:
            say(f"{config.out}: already there, made with this configuration; nothing to do")
        return
    if (partial / "generate.yaml").exists():
        refuse_other(read_yaml(partial / "generate.yaml"), how, partial)
    elif (partial / "dataset.yaml").exists() or (partial / INDEX).exists():  # stopped just before its renaming
        refuse_other_result(partial, how)
    pairs = None
    if donors is not None:
        faces, pairs = maker.pair(contents, donors, config.styles_per_face, config.seed)
        contents = contents.take(faces)
    plan = Plan(
        contents=contents, donors=donors, pairs=pairs, folder=partial, styles_per_face=config.styles_per_face,
        seed=config.seed, faces_per_unit=config.faces_per_unit, image_format=config.image_format,
        quality=config.quality, sheet_size=config.sheet_size,
    )  # fmt: skip
    work = Work(plan=plan, maker=maker, inputs=how["inputs"])
    _judged(config, work)  # before a folder is made
    fresh = not partial.exists()
    barrier()  # everyone has looked before anyone writes
    try:
        if main_process:
            _begin(config, work, how)
        barrier()
        _render(config, work, how, processes)
        if main_process and config.shards:
            _pack(config, partial)
    except BaseException as error:
        # What is done is kept, but a folder with nothing done is not left; codes of styles alone are done where the
        # same command may go on (an interruption, a full disk), not where it is refused (an unreadable picture).
        parts = ("units",) if isinstance(error, UserError) else ("units", "styles", "sheets", "images")
        done = any(file.suffix != ".partial" for part in parts for file in (partial / part).glob("*"))
        if main_process and fresh and not done:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if main_process:
        shutil.rmtree(partial / "styles", ignore_errors=True)
        shutil.rmtree(partial / "units", ignore_errors=True)
        (partial / "generate.yaml").unlink(missing_ok=True)
        os.rename(partial, config.out)
        k = config.styles_per_face
        say(
            f"finished: {config.out}: {counted(len(contents), 'face')} x {counted(k, 'style')} = "
            f"{counted(len(contents) * k, 'face')}" + (f"; look at {config.out / 'sheets'}" if config.sheets else "")
        )
    barrier()


def open_maker(config: Generate, device: torch.device) -> Maker:
    """The translator or the style arms of a configuration. Raises UserError where it names neither, or both."""
    if config.translator is None:
        if not config.style.groups():
            raise UserError("missing --translator, or style arms in its place, such as --style.preset free")
        if config.mode != "transfer":
            raise UserError(f"mode {config.mode} is a translator's: style arms only transfer")
        schema = FaceDataset.open(config.data).schema
        return open_arms(config.style, config.crop, schema, device, config.warp, config.skip_unfit)
    if config.style.groups():
        raise UserError(
            "--translator and --style are both given: expected one of the two (a chain may hold a translator as an arm)"
        )
    name = named_translator(config.translator)
    if name is None:
        return _maker_of(config, load_translator(config.translator, device))
    schema = FaceDataset.open(config.data).schema
    at = "cpu" if TRANSLATORS[name].loaded.bends_donor else device  # donors are cut and bent one by one
    return _maker_of(config, open_untrained(name, schema, config.crop, at), name, device)


def main(config: Generate) -> None:
    """Generate; under torchrun, or with several devices, the processes share the work."""
    # Nothing is trained: the loop's own fields keep their defaults.
    engine = start_engine(
        LoopConfig(accelerator=config.accelerator, devices=config.devices, num_nodes=config.num_nodes)
    )
    processes = Processes(engine.device.type, engine.global_rank, engine.world_size, lambda: engine.barrier())
    with alone_among(engine, config.out), going_on_later(config.out):
        make_dataset(config, open_maker(config, engine.device), processes)
