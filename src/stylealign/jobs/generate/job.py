"""The job `generate`: every labelled face in k styles of other faces -> a data set in our format.

A picture is decoded from the structure of one face (its landmarks, which it inherits exactly) and the style of another. Work is
cut into units of a few faces whose results depend on nothing but (configuration, unit): donors are encoded once, in fixed batches;
a structure is encoded once for its k styles; a unit runs on one thread whatever the machine has, because a convolution's last bits
change with the number of threads. So a stopped run continues, and several processes share the work, with the same bytes.

While it works:  <out>.partial/{generate.yaml, styles/ (codes of the donors), units/ (finished index lines), images/, sheets/}
When done:       <out>/{dataset.yaml, index.jsonl, images/, sheets/}
The units themselves are rendering.py's, who wears whose style is swapping.py's.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from stylealign.config import plain, read_yaml, refuse_another, to_dict
from stylealign.data.atomic import partial_of, whole_file, write_whole
from stylealign.data.dataset import FaceDataset, describe_data, write_meta
from stylealign.data.rows import content_hash
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.generate.arms import Looks, open_looks, open_work
from stylealign.jobs.generate.pairing import own_positions, pair_styles
from stylealign.jobs.generate.rendering import Work, run_all
from stylealign.progress import say
from stylealign.styling.chain import ChainConfig
from stylealign.training.loop import LoopConfig, start_engine
from stylealign.translators.judge import gate
from stylealign.translators.swapping import Translator

GPU_WORKERS = 4  # one decodes while the others write pictures
# Say where, or that it was wanted, not what.
_PLACES = ("data", "donors", "translator", "out", "accelerator", "devices", "num_nodes", "accept_gap")


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Render every labelled face in the styles of other faces, by a translator or by style arms: a synthetic data set that inherits
    their landmarks."""

    data: Path
    """Data set whose labelled faces give structure and landmarks."""
    out: Path
    """Data set folder to make; the same command continues a stopped run."""
    translator: Path | None = None
    """Run folder of a trained translator."""
    style: ChainConfig = field(default_factory=ChainConfig)
    """Style arms instead of a translator: every picture is a face's own crop in another look."""
    crop: CropConfig = field(default_factory=lambda: CropConfig(size=160, scale=1.75))
    """How faces are cut for style arms (a translator knows its own): as here, a detector's 128 px at 1.4 with the context it turns in."""
    split: str = "train"
    """Split of `data` to use."""
    subset: str | None = None
    """Use only the faces of that split with this attribute, such as a label budget."""
    donors: Path | None = None
    """Data set whose faces give styles; labels are not needed. Default: `data`."""
    donor_split: str | None = None
    """Split of the donors. Default: `split` where the donors are `data` (its whole split, also with a `subset`), else all faces."""
    donor_subset: str | None = None
    """Use only donors with this attribute."""
    styles_per_face: int = 8
    """Pictures made of each face, each in another style; 8 in the paper's release."""
    mode: Literal["transfer", "interpolate", "prior"] = "transfer"
    """transfer: the style of one donor (its posterior mean). interpolate: a mix of two donors. prior: a style drawn from p(z|y)."""
    mix: float = 0.5
    """interpolate: share of the second donor."""
    seed: int = 0
    """Draws the donors (and the prior's samples)."""
    skip_unlabelled: bool = False
    """Leave faces without landmarks out of the structures instead of refusing them; they can be donors all the same."""
    accept_gap: bool = False
    """Go on with a translator whose judge found its faces too far from their labels (a structure gap above 1.0 point); refused otherwise."""
    image_format: Literal["jpg", "png"] = "jpg"
    quality: int = 95
    """Of JPEG files."""
    sheets: int = 4
    """Style sheets (structures x styles) to look at."""
    sheet_size: int = 6
    """Structures and styles on a sheet."""
    faces_per_unit: int = 8
    """Faces done, and kept if the run is stopped, at a time."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = 1
    """Devices (or CPU processes) a node; under torchrun its own number counts."""
    num_nodes: int = 1

    def __post_init__(self) -> None:
        for name in ("styles_per_face", "faces_per_unit", "sheet_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.seed < 0 or self.sheets < 0:
            raise ValueError(f"seed {self.seed} and sheets {self.sheets}: expected 0 or more")
        if not 0 <= self.mix <= 1:
            raise ValueError(f"mix is {self.mix}, expected from 0 to 1")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality is {self.quality}, expected from 1 to 100")


def _select(config: Generate) -> tuple[FaceDataset, FaceDataset | None]:
    """The content faces (all labelled) and the donors (None for the prior, and for arms that need none)."""
    data = FaceDataset.open(config.data)
    contents = data.select(config.split, config.subset)
    labelled = [i for i in range(len(contents)) if contents.head(i)["labelled"]]
    if len(labelled) < len(contents) and not (config.skip_unlabelled and labelled):
        raise UserError(
            f"{config.data}: {len(contents) - len(labelled)} of {len(contents)} faces of split '{config.split}' have no landmarks, which a "
            "structure needs: choose a --subset of labelled faces, or leave them out with --skip-unlabelled (they may be donors all the same)"
        )
    contents = contents.take(labelled)
    if config.mode == "prior" or (
        config.translator is None and config.style.groups() and not config.style.needs_donors()
    ):
        return contents, None
    split = config.donor_split or (config.split if config.donors is None else None)
    donors = data if config.donors is None else FaceDataset.open(config.donors)
    return contents, donors.select(split, config.donor_subset) if split or config.donor_subset else donors


def describe(
    config: Generate, translator: Translator | Looks, contents: FaceDataset, donors: FaceDataset | None
) -> dict[str, Any]:
    """What fixes the result, as plain YAML values: the same description, the same bytes."""
    idle = (
        () if isinstance(translator, Looks) else ("style", "crop")
    )  # of arms; a translator's data sets never had them
    values = {
        "verb": "generate",
        "inputs": {
            "data": describe_data(contents),
            "donors": None if donors is None else describe_data(donors),
            "translator": {"hash": translator.hash, "crop": to_dict(translator.crop)},
        },
        "config": {k: v for k, v in to_dict(config).items() if k not in (*_PLACES, *idle)},
    }
    return plain(values)


def _refuse_other(there: Any, now: dict[str, Any], where: Path) -> None:
    holds = f"{where}: holds the work of another configuration"
    refuse_another(there if isinstance(there, dict) else {}, now, holds, "choose another --out or remove it")


def _is_whole(folder: Path, schema: LandmarkSchema) -> bool:
    """Whether a folder's dataset.yaml was written to its end, and for the index beside it."""
    try:
        meta = read_yaml(folder / "dataset.yaml")
        return isinstance(meta, dict) and meta.get("content_hash") == content_hash(folder / "index.jsonl", schema)
    except (UserError, OSError):
        return False


def _join(work: Work, how: dict[str, Any]) -> None:
    """Turn the units into one index and write dataset.yaml."""
    config, contents, folder = work.config, work.contents, work.folder
    with whole_file(folder / "index.jsonl") as index:
        for unit in range(work.num_units):
            index.write(work.unit_file(unit).read_bytes())
    count = len(contents) * config.styles_per_face
    names = (
        contents.name
        if work.donors is None or work.donors.name == contents.name
        else f"{contents.name} and {work.donors.name}"
    )
    write_meta(
        folder, schema=contents.schema, name=config.out.name, count=count, splits={"train": count}, labelled=count, image_root="images",
        source=f"generated from {names} by {'style arms' if work.mode == 'arm' else 'translator'} {work.translator.hash[:12]}", licence=contents.meta.get("licence", ""), how=how,
    )  # fmt: skip


def _begin(work: Work, how: dict[str, Any]) -> None:
    """Say what is known of the translator, and make the folder."""
    config, partial = work.config, work.folder
    for card in work.cards():
        for line in gate(card, config.accept_gap, str(config.translator or "style arms")):
            say(line)
    if config.split == "test":
        say("warning: these faces inherit labels of split test: a detector trained on them must not be tested there")
    for name in ("styles", "units", "images", "sheets"):
        (partial / name).mkdir(parents=True, exist_ok=True)
    write_whole(partial / "generate.yaml", yaml.safe_dump(how, sort_keys=False, allow_unicode=True).encode())


def _render(work: Work, how: dict[str, Any], device: str, rank: int, world: int, barrier: Callable[[], None]) -> None:
    """Do this process's share of what is not done yet; the first process joins the units at the end."""
    config, partial, main_process = work.config, work.folder, rank == 0
    if _is_whole(partial, work.contents.schema):
        return
    threads = torch.get_num_threads()
    workers = GPU_WORKERS if device != "cpu" else max(1, threads)
    done = sum(work.is_done(u) for u in range(work.num_units)) if main_process else 0
    if done:
        say(f"continuing {config.out}: {done} of {work.num_units} units are done")
    # So that a picture's last bits do not depend on the machine's cores; the workers share those.
    torch.set_num_threads(1)
    try:
        todo = [n for n in range(work.num_style_files) if not work.style_file(n).exists()]
        run_all(work.encode_styles, [n for n in todo if n % world == rank], workers, "encoding styles")
        barrier()
        sheets = [s for s in range(config.sheets) if not (partial / "sheets" / f"sheet_{s:02d}.png").exists()]
        run_all(work.write_sheet, [s for s in sheets if s % world == rank], workers, "style sheets")
        units = [u for u in range(rank, work.num_units, world) if not work.is_done(u)]
        run_all(work.render, units, workers, f"generating (units of {config.faces_per_unit} faces)")
    finally:
        torch.set_num_threads(threads)
    barrier()
    if main_process:
        _join(work, how)


def generate(
    config: Generate,
    translator: Translator | Looks,
    *,
    device: str = "cpu",
    rank: int = 0,
    world: int = 1,
    barrier: Callable[[], None] = lambda: None,
) -> None:
    """Make (or continue) the data set with an open translator or open arms; process `rank` of `world` does every world-th piece of work.

    Raises UserError for a translator that its judge found too far from its labels (unless `accept_gap`), another schema, unlabelled
    content faces, too few donors, or an `out` of another configuration.
    """
    main_process = rank == 0
    contents, donors = _select(config)
    if translator.schema != contents.schema:
        raise UserError(
            f"the translator {config.translator} draws {translator.schema.name} faces, but {config.data} holds {contents.schema.name}: "
            "expected the same schema"
        )
    how = describe(config, translator, contents, donors)
    partial = partial_of(config.out)
    if config.out.exists():
        meta = read_yaml(config.out / "dataset.yaml") if (config.out / "dataset.yaml").exists() else {}
        if not isinstance(meta, dict) or not isinstance(meta.get("how"), dict) or meta["how"].get("verb") != "generate":
            raise UserError(f"{config.out}: exists and was not made by generate; choose another --out")
        _refuse_other(meta["how"], how, config.out)
        if main_process:
            say(f"{config.out}: already there, made with this configuration; nothing to do")
        return
    if (partial / "generate.yaml").exists():
        _refuse_other(read_yaml(partial / "generate.yaml"), how, partial)
    if donors is None or config.mode == "prior":
        pairs = None
    else:
        draws = config.styles_per_face * (2 if config.mode == "interpolate" else 1)
        pairs = pair_styles(len(contents), len(donors), draws, config.seed, own_positions(contents, donors))
    work = open_work(config, translator, contents=contents, donors=donors, pairs=pairs, folder=partial)
    for card in work.cards():  # before a folder is made
        gate(card, config.accept_gap, str(config.translator or "style arms"))
    fresh = not partial.exists()
    barrier()  # everyone has looked before anyone writes
    if main_process:
        _begin(work, how)
    barrier()
    try:
        _render(work, how, device, rank, world, barrier)
    except UserError:
        # A picture that cannot be read, say: units that are done are kept, but a folder with nothing done is not left behind.
        if main_process and fresh and not any((partial / "units").iterdir()):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if main_process:
        shutil.rmtree(partial / "styles", ignore_errors=True)
        shutil.rmtree(partial / "units", ignore_errors=True)
        (partial / "generate.yaml").unlink(missing_ok=True)
        os.rename(partial, config.out)
        k = config.styles_per_face
        say(
            f"finished: {config.out}: {len(contents)} faces x {k} styles = {len(contents) * k} faces"
            + (f"; look at {config.out / 'sheets'}" if config.sheets else "")
        )
    barrier()


def main(config: Generate) -> None:
    """Generate; under torchrun, or with several devices, the processes share the work."""
    from stylealign.translators.loaded import load_translator

    # Nothing is trained: the loop's own fields keep their defaults.
    engine = start_engine(
        LoopConfig(accelerator=config.accelerator, devices=config.devices, num_nodes=config.num_nodes)
    )
    if config.translator is None:
        maker: Translator | Looks = open_looks(config, engine.device)
    elif config.style.groups():
        raise UserError(
            "--translator and --style are both given: expected one of the two (a chain may hold a translator as an arm)"
        )
    else:
        maker = load_translator(config.translator, engine.device)
    generate(
        config, maker, device=engine.device.type, rank=engine.global_rank, world=engine.world_size, barrier=lambda: engine.barrier()
    )  # fmt: skip
