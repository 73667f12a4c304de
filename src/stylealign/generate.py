"""The job `generate`: every labelled face in k styles of other faces -> a data set in our format.

A picture is decoded from the structure of one face (its landmarks, which it inherits exactly) and the style of another. Work is
cut into units of a few faces whose results depend on nothing but (configuration, unit): donors are encoded once, in fixed batches;
a structure is encoded once for its k styles; a unit runs on one thread whatever the machine has, because a convolution's last bits
change with the number of threads. So a stopped run continues, and several processes share the work, with the same bytes.

While it works:  <out>.partial/{generate.yaml, styles/ (codes of the donors), units/ (finished index lines), images/, sheets/}
When done:       <out>/{dataset.yaml, index.jsonl, images/, sheets/}
It knows no model: a translator is whatever has the members of `Translator`.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import yaml
from torch import Tensor

from stylealign import geometry
from stylealign.batch import CropConfig, crop_sample, sample_affine, to_float, to_uint8
from stylealign.config import read_yaml, to_dict
from stylealign.dataset import FaceDataset, content_hash, file_digest, partial_of, to_row, write_meta
from stylealign.draw import style_sheet
from stylealign.errors import UserError
from stylealign.image import write_image
from stylealign.progress import say, track
from stylealign.run import describe_data, first_difference
from stylealign.sample import FaceSample, Mode, Provenance
from stylealign.schema import SCHEMAS, LandmarkSchema
from stylealign.training import LoopConfig, start_engine

# Named subsets that belong to a picture's style and are therefore not inherited with its structure.
STYLE_ATTRIBUTES = frozenset({"illumination", "make_up", "makeup", "occlusion", "blur"})
MAX_GAP = 0.010  # structure gap (a fraction) above which a translator teaches wrong labels
DONORS_A_FILE, DONORS_A_PASS = 64, 16
PAIRS_A_PASS = 32  # pictures decoded at a time; part of what fixes the bytes
GPU_WORKERS = 4  # one decodes while the others write pictures
_PAIRS, _PRIOR, _SHEETS = 1, 2, 3  # streams of random numbers
_PLACES = ("data", "donors", "translator", "out", "accelerator", "devices", "num_nodes")  # say where, not what


@dataclass(frozen=True, kw_only=True, slots=True)
class Generate:
    """Render every labelled face in the styles of other faces: a synthetic data set that inherits their landmarks."""

    data: Path
    """Data set whose labelled faces give structure and landmarks."""
    translator: Path
    """Run folder of a trained translator."""
    out: Path
    """Data set folder to make; the same command continues a stopped run."""
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
    mode: Mode = "transfer"
    """transfer: the style of one donor (its posterior mean). interpolate: a mix of two donors. prior: a style drawn from p(z|y)."""
    mix: float = 0.5
    """interpolate: share of the second donor."""
    seed: int = 0
    """Draws the donors (and the prior's samples)."""
    skip_unlabelled: bool = False
    """Leave faces without landmarks out of the structures instead of refusing them; they can be donors all the same."""
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


class Translator(Protocol):
    """What `generate` needs of a translator; `translators.load.LoadedTranslator` is one."""

    @property
    def schema(self) -> LandmarkSchema: ...
    @property
    def crop(self) -> CropConfig: ...
    @property
    def card(self) -> dict[str, Any]: ...
    @property
    def hash(self) -> str: ...

    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]: ...
    def encode_structure(self, landmarks: Tensor) -> list[Tensor]: ...
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor: ...
    def sample_prior(self, features: list[Tensor], generator: torch.Generator) -> Tensor: ...


# --------------------------------------------------------------------------------------------------------------------
# Who wears whose style


def pair_styles(num_contents: int, num_donors: int, k: int, seed: int, same: np.ndarray | None = None) -> np.ndarray:
    """(num_contents, k) donors: k different ones a face, never the face itself; row i is a function of (seed, i) only.

    Args:
        same: (num_contents,) position of each face among the donors, -1 where it is not one of them.

    Raises UserError where there are fewer donors than styles asked for.
    """
    same = np.full(num_contents, -1, dtype=np.int64) if same is None else same
    own = bool((same >= 0).any())
    if k > num_donors - own:
        but = ", one of which is the face itself" if own else ""
        raise UserError(
            f"styles_per_face needs {k} different donors a face, but there are {num_donors}{but}: ask for at most {num_donors - own}"
        )
    pairs = np.empty((num_contents, k), dtype=np.int64)
    for i, itself in enumerate(same):
        drawn = np.random.default_rng((seed, i, _PAIRS)).choice(num_donors - (itself >= 0), k, replace=False)
        pairs[i] = drawn + (drawn >= itself) if itself >= 0 else drawn
    return pairs


def own_positions(contents: FaceDataset, donors: FaceDataset) -> np.ndarray:
    """(N,) position of each content face among the donors, -1 where it is none of them.

    In one and the same data set a face is its id; in another it is the same picture (by digest) under the same name.
    """
    one = contents.content_hash == donors.content_hash

    def key(head: dict[str, Any]) -> Any:
        return head["id"] if one else (head["digest"], head["id"].rsplit("/", 1)[-1])

    where = {key(donors.head(j)): j for j in reversed(range(len(donors)))}
    return np.array([where.get(key(contents.head(i)), -1) for i in range(len(contents))], dtype=np.int64)


def inherited_attributes(sample: FaceSample) -> dict[str, bool]:
    """The attributes a translated face keeps: all but those of its style (illumination, make-up, occlusion, blur).

    Pose and expression belong to the structure; label budgets and one's own subsets say which label was used, so that the
    synthetic faces of a budget can be selected by its name.
    """
    return {k: v for k, v in sample.attributes.items() if k not in STYLE_ATTRIBUTES}


# --------------------------------------------------------------------------------------------------------------------
# Encode and decode


def _rows(features: Iterable[Tensor], index: Tensor) -> list[Tensor]:
    return [f.index_select(0, index.to(f.device)) for f in features]


def decode_pairs(
    translator: Translator, features: list[Tensor], style: list[Tensor], rows: Tensor, columns: Tensor
) -> Iterator[Tensor]:
    """Decode structure rows[p] in style columns[p] for every pair p, some at a time: (b, 3, S, S) each, linear."""
    style = [s.to(features[0].device) for s in style]
    for r, c in zip(rows.split(PAIRS_A_PASS), columns.split(PAIRS_A_PASS), strict=True):
        yield translator.decode(_rows(features, r), _rows(style, c))


def _decode_grid(translator: Translator, features: list[Tensor], style: list[Tensor]) -> Tensor:
    n, m = len(features[0]), len(style[0])
    rows, columns = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
    return torch.cat(list(decode_pairs(translator, features, style, rows, columns))).unflatten(0, (n, m))


def swap_matrix(
    translator: Translator, structures: Tensor, styles: Tensor, style_landmarks: Tensor | None = None
) -> Tensor:
    """Every structure in every style: n + m encodings, n * m decodings.

    Args:
        structures: (n, P, 2) landmarks in crop pixels.
        styles: (m, 3, S, S) pictures in [-1, 1].
        style_landmarks: (m, P, 2), for translators whose style encoder sees them.

    Returns:
        (n, m, 3, S, S), linear: [i, j] has structure i and style j.
    """
    return _decode_grid(
        translator, translator.encode_structure(structures), translator.encode_style(styles, style_landmarks)
    )


def _pictures(images: Tensor) -> np.ndarray:
    """(B, 3, S, S) -> (B, S, S, 3) uint8; refuses what is not a number."""
    if not bool(torch.isfinite(images).all()):
        raise UserError(
            "the translator made pictures that are not finite: its training diverged; train it again with a lower lr"
        )
    return to_uint8(images).cpu().numpy()


def _structures(samples: list[FaceSample], crop: CropConfig) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, P, 2) float32 in crop pixels, as crop_sample gives them, and crop_from_source (n, 2, 3)."""
    affines = [sample_affine(s, crop) for s in samples]
    moved = [geometry.apply(a, s.landmarks) for a, s in zip(affines, samples, strict=True) if s.landmarks is not None]
    return np.stack(moved).astype(np.float32), np.stack(affines)


def _crops(samples: list[FaceSample], crop: CropConfig, schema: LandmarkSchema) -> tuple[np.ndarray, Tensor | None]:
    """Pictures (n, S, S, 3) uint8, and their landmarks (n, P, 2) where every face has them in the translator's schema."""
    found = [crop_sample(s, crop) for s in samples]
    landmarks = [points for _, points, _ in found if points is not None and len(points) == schema.num_points]
    known = torch.from_numpy(np.stack(landmarks).astype(np.float32)) if len(landmarks) == len(samples) else None
    return np.stack([pixels for pixels, _, _ in found]), known


# --------------------------------------------------------------------------------------------------------------------
# The work


@dataclass(kw_only=True)
class Work:
    """What every unit needs. `pairs` is (N, k), for interpolation (N, 2k), for the prior None."""

    config: Generate
    translator: Translator
    contents: FaceDataset
    donors: FaceDataset | None
    pairs: np.ndarray | None
    folder: Path
    used: np.ndarray = field(init=False)
    """Donors that occur in `pairs`, ascending."""
    _codes: dict[int, np.ndarray] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.used = np.unique(self.pairs) if self.pairs is not None else np.empty(0, dtype=np.int64)

    # Style codes: encoded once, kept on disk, read by memory map.

    @property
    def num_style_files(self) -> int:
        return -(-len(self.used) // DONORS_A_FILE)

    def style_file(self, number: int) -> Path:
        return self.folder / "styles" / f"{number:06d}.npy"

    def encode_styles(self, number: int) -> None:
        """Encode DONORS_A_FILE donors into one file of codes, (n, D) float32."""
        assert self.donors is not None
        codes = []
        mine = self.used[number * DONORS_A_FILE :][:DONORS_A_FILE]
        for part in np.split(mine, range(DONORS_A_PASS, len(mine), DONORS_A_PASS)):
            images, landmarks = _crops(
                [self.donors[int(j)] for j in part], self.translator.crop, self.translator.schema
            )
            style = [
                s.float().cpu() for s in self.translator.encode_style(to_float(torch.from_numpy(images)), landmarks)
            ]
            codes.append(torch.cat([s.flatten(1) for s in style], dim=1).numpy())
            shapes = [list(s.shape[1:]) for s in style]
        _write(self.folder / "styles" / f"{number:06d}.shapes", json.dumps(shapes).encode())
        temporary = self.style_file(number).with_suffix(".tmp")
        with open(temporary, "wb") as file:
            np.save(file, np.concatenate(codes))
        os.replace(temporary, self.style_file(number))

    def styles(self, donors: np.ndarray) -> list[Tensor]:
        """Codes of these donors, (n, C, h, w) per latent."""
        rows = []
        for position in np.searchsorted(self.used, donors):
            number, row = divmod(int(position), DONORS_A_FILE)
            if number not in self._codes:
                self._codes[number] = np.load(self.style_file(number), mmap_mode="r")
            rows.append(self._codes[number][row])
        shapes = json.loads((self.folder / "styles" / "000000.shapes").read_text())
        flat = torch.from_numpy(np.stack(rows)).split([int(np.prod(s)) for s in shapes], dim=1)
        return [f.reshape(-1, *s).contiguous() for f, s in zip(flat, shapes, strict=True)]

    # Units: faces_per_unit structures, each in k styles.

    @property
    def num_units(self) -> int:
        return -(-len(self.contents) // self.config.faces_per_unit)

    def faces_of(self, unit: int) -> range:
        start = unit * self.config.faces_per_unit
        return range(start, min(start + self.config.faces_per_unit, len(self.contents)))

    def unit_file(self, unit: int) -> Path:
        return self.folder / "units" / f"{unit:06d}.jsonl"

    def is_done(self, unit: int) -> bool:
        path = self.unit_file(unit)
        return (
            path.exists() and path.read_bytes().count(b"\n") == len(self.faces_of(unit)) * self.config.styles_per_face
        )

    def _images(self, faces: range, structures: np.ndarray) -> Iterator[Tensor]:
        k, seed = self.config.styles_per_face, self.config.seed
        features = self.translator.encode_structure(torch.from_numpy(structures))
        rows = torch.arange(len(faces)).repeat_interleave(k)
        if self.pairs is None:
            for row, i in enumerate(faces):  # a generator a face: what it draws depends on no other face
                generator = torch.Generator().manual_seed(int(np.random.default_rng((seed, i, _PRIOR)).integers(2**62)))
                yield self.translator.sample_prior(_rows(features, rows[row * k : row * k + k]), generator)
            return
        pairs = self.pairs[faces.start : faces.stop]
        style = self.styles(pairs[:, :k].ravel())
        if self.config.mode == "interpolate":
            style = _mixed(style, self.styles(pairs[:, k:].ravel()), self.config.mix)
        yield from decode_pairs(self.translator, features, style, rows, torch.arange(len(rows)))

    def style_id(self, face: int, style: int) -> str | None:
        if self.pairs is None or self.donors is None:
            return None
        chosen = self.pairs[face, style :: self.config.styles_per_face]
        return " + ".join(self.donors.head(int(j))["id"] for j in chosen)

    def render(self, unit: int) -> None:
        """Decode and write one unit: its pictures, then, as a whole or not at all, its lines of the index."""
        config, k, faces = self.config, self.config.styles_per_face, self.faces_of(unit)
        samples = [self.contents[i] for i in faces]
        structures, affines = _structures(samples, self.translator.crop)
        (self.folder / "images" / f"{unit:06d}").mkdir(exist_ok=True)
        lines: list[bytes] = []
        for images in self._images(faces, structures):
            for picture in _pictures(images):
                row, style = divmod(len(lines), k)
                sample, face, affine = samples[row], faces[row], affines[row]
                slug = re.sub(r"[^A-Za-z0-9.-]+", "_", sample.id)[-60:]
                name = f"{unit:06d}/{face:08d}_{slug}@{style}.{config.image_format}"
                path = self.folder / "images" / name
                write_image(path, picture, config.quality)
                made = FaceSample(
                    id=f"{sample.id}@{style}",
                    image=path,
                    landmarks=structures[row],
                    box_xyxy=None if sample.box_xyxy is None else geometry.apply(affine, sample.box_xyxy.reshape(2, 2)).ravel(),
                    visible=sample.visible,
                    attributes=inherited_attributes(sample),
                    split="train",
                    provenance=Provenance(
                        content_id=sample.id, style_id=self.style_id(face, style), translator=self.translator.hash, seed=config.seed,
                        mode=config.mode, crop_from_source=tuple(tuple(float(v) for v in r) for r in affine),  # type: ignore[arg-type]
                    ),
                )  # fmt: skip
                line = json.dumps(to_row(made, name, file_digest(path)), ensure_ascii=False, separators=(", ", ": "))
                lines.append(line.encode() + b"\n")
        assert len(lines) == k * len(faces)
        _write(self.unit_file(unit), b"".join(lines))

    # Sheets.

    def write_sheet(self, number: int) -> None:
        """sheet_00.png, and sheet_00.json which says what every tile is."""
        config, size = self.config, self.translator.crop.size
        rng = np.random.default_rng((config.seed, number, _SHEETS))
        chosen = rng.choice(len(self.contents), min(config.sheet_size, len(self.contents)), replace=False)
        samples = [self.contents[int(i)] for i in chosen]
        structures, affines = _structures(samples, self.translator.crop)
        real, _ = _crops(samples, self.translator.crop, self.translator.schema)
        features = self.translator.encode_structure(torch.from_numpy(structures))
        ids: list[str | None]
        if self.donors is None:
            m = config.sheet_size
            header, ids = np.full((m, size, size, 3), 224, np.uint8), [None] * m
            rows = torch.arange(len(samples)).repeat_interleave(m)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            grid = self.translator.sample_prior(_rows(features, rows), generator)
        else:
            a = rng.choice(len(self.donors), min(config.sheet_size, len(self.donors)), replace=False)
            header, style, ids = self._donors(a)
            if config.mode == "interpolate":
                others, other_style, other_ids = self._donors(np.roll(a, 1))
                header = np.concatenate([header[:, :, : size // 2], others[:, :, size // 2 :]], axis=2)
                style, ids = (
                    _mixed(style, other_style, config.mix),
                    [f"{x} + {y}" for x, y in zip(ids, other_ids, strict=True)],
                )
            grid = _decode_grid(self.translator, features, style).flatten(0, 1)
        tiles = _pictures(grid).reshape(len(samples), len(header), size, size, 3)
        sheet = style_sheet(list(real), list(header), [list(row) for row in tiles])
        places = [[_find_tile(sheet, tiles, i, j) for j in range(len(header))] for i in range(len(samples))]
        schema = self.contents.schema
        sidecar = {
            "format": 1, "tile": size, "schema": schema.name if SCHEMAS.get(schema.name) == schema else schema.to_dict(),
            "translator": self.translator.hash, "seed": config.seed, "mode": config.mode,
            "structure_ids": [s.id for s in samples], "style_ids": ids,
            "landmarks": [[[float(str(v)) for v in point] for point in face] for face in structures], "crop_from_source": affines.tolist(),
            "tiles_xy": places,
        }  # fmt: skip
        path = self.folder / "sheets" / f"sheet_{number:02d}.png"
        _write(path.with_suffix(".json"), (json.dumps(sidecar, ensure_ascii=False) + "\n").encode())
        write_image(path.with_suffix(".partial.png"), sheet)
        os.replace(path.with_suffix(".partial.png"), path)

    def _donors(self, positions: np.ndarray) -> tuple[np.ndarray, list[Tensor], list[str | None]]:
        assert self.donors is not None
        samples = [self.donors[int(j)] for j in positions]
        images, landmarks = _crops(samples, self.translator.crop, self.translator.schema)
        return (
            images,
            self.translator.encode_style(to_float(torch.from_numpy(images)), landmarks),
            [s.id for s in samples],
        )


def _mixed(a: list[Tensor], b: list[Tensor], share: float) -> list[Tensor]:
    return [torch.lerp(x, y, share) for x, y in zip(a, b, strict=True)]


def _find_tile(sheet: np.ndarray, tiles: np.ndarray, i: int, j: int) -> list[int]:
    """(x, y) of the upper left pixel of tile (i, j) on a style sheet, checked against the tile itself."""
    n, _, size = tiles.shape[:3]
    # n + 2 gaps between and round n + 1 tiles, and two more below the header
    gap = (sheet.shape[0] - (n + 1) * size) // (n + 4)
    x, y = gap + (j + 1) * (size + gap) + 2 * gap, gap + (i + 1) * (size + gap) + 2 * gap
    assert np.array_equal(sheet[y : y + size, x : x + size], tiles[i, j]), "the layout of style sheets has changed"
    return [x, y]


def _write(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _run_all(task: Callable[[int], None], todo: list[int], workers: int, what: str) -> None:
    """Do a task for every number, `workers` at a time, each on one thread of its own."""
    pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1))
    try:
        for _ in track(pool.map(task, todo), what, len(todo)):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# --------------------------------------------------------------------------------------------------------------------
# The job


def judge_lines(card: dict[str, Any]) -> list[str]:
    """What the translator's judge found, and a warning where the translator should not be used."""
    judge = card.get("judge")
    if not judge:
        return ["this translator's run holds no judge's verdict: look at the sheets before using the faces"]
    lines = [
        f"judge: NME {judge['swap_nme']:.2%} on swapped faces, {judge['real_nme']:.2%} on the same real faces: structure gap "
        f"{100 * judge['gap']:+.2f} points, {judge['share_above_10']:.1%} of swapped faces above 10 %"
    ]
    if judge["gap"] > MAX_GAP:
        lines.append(
            f"WARNING: a structure gap of {100 * judge['gap']:.2f} points (more than {100 * MAX_GAP:.0f}) means that these faces do not have "
            "the landmarks they are labelled with: a detector trained on them learns wrong labels"
        )
    return lines


def _select(config: Generate) -> tuple[FaceDataset, FaceDataset | None]:
    """The content faces (all labelled) and the donors (None for the prior)."""
    data = FaceDataset.open(config.data)
    contents = data.select(config.split, config.subset)
    labelled = [i for i in range(len(contents)) if contents.head(i)["labelled"]]
    if len(labelled) < len(contents) and not (config.skip_unlabelled and labelled):
        raise UserError(
            f"{config.data}: {len(contents) - len(labelled)} of {len(contents)} faces of split '{config.split}' have no landmarks, which a "
            "structure needs: choose a --subset of labelled faces, or leave them out with --skip-unlabelled (they may be donors all the same)"
        )
    contents = contents.take(labelled)
    if config.mode == "prior":
        return contents, None
    split = config.donor_split or (config.split if config.donors is None else None)
    donors = data if config.donors is None else FaceDataset.open(config.donors)
    return contents, donors.select(split, config.donor_subset) if split or config.donor_subset else donors


def describe(
    config: Generate, translator: Translator, contents: FaceDataset, donors: FaceDataset | None
) -> dict[str, Any]:
    """What fixes the result, as plain YAML values: the same description, the same bytes."""
    values = {
        "verb": "generate",
        "inputs": {
            "data": describe_data(contents),
            "donors": None if donors is None else describe_data(donors),
            "translator": {"hash": translator.hash, "crop": to_dict(translator.crop)},
        },
        "config": {k: v for k, v in to_dict(config).items() if k not in _PLACES},
    }
    return yaml.safe_load(yaml.safe_dump(values))


def _refuse_other(there: Any, now: dict[str, Any], where: Path) -> None:
    difference = first_difference(there if isinstance(there, dict) else {}, now)
    if difference:
        raise UserError(
            f"{where}: holds the work of another configuration ({difference}); choose another --out or remove it"
        )


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
    with open(folder / "index.tmp", "wb") as index:
        for unit in range(work.num_units):
            index.write(work.unit_file(unit).read_bytes())
    os.replace(folder / "index.tmp", folder / "index.jsonl")
    count = len(contents) * config.styles_per_face
    names = (
        contents.name
        if work.donors is None or work.donors.name == contents.name
        else f"{contents.name} and {work.donors.name}"
    )
    write_meta(
        folder, schema=contents.schema, name=config.out.name, count=count, splits={"train": count}, labelled=count, image_root="images",
        source=f"generated from {names} by translator {work.translator.hash[:12]}", licence=contents.meta.get("licence", ""), how=how,
    )  # fmt: skip


def generate(
    config: Generate,
    translator: Translator,
    *,
    device: str = "cpu",
    rank: int = 0,
    world: int = 1,
    barrier: Callable[[], None] = lambda: None,
) -> None:
    """Make (or continue) the data set with an open translator; process `rank` of `world` does every world-th piece of work.

    Raises UserError for another schema, unlabelled content faces, too few donors, or an `out` of another configuration.
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
    work = Work(config=config, translator=translator, contents=contents, donors=donors, pairs=pairs, folder=partial)
    barrier()  # everyone has looked before anyone writes

    if main_process:
        for line in judge_lines(translator.card):
            say(line)
        if config.split == "test":
            say(
                "warning: these faces inherit labels of split test: a detector trained on them must not be tested there"
            )
        for name in ("styles", "units", "images", "sheets"):
            (partial / name).mkdir(parents=True, exist_ok=True)
        _write(partial / "generate.yaml", yaml.safe_dump(how, sort_keys=False, allow_unicode=True).encode())
    barrier()

    if not _is_whole(partial, contents.schema):
        threads = torch.get_num_threads()
        workers = GPU_WORKERS if device != "cpu" else max(1, threads)
        done = sum(work.is_done(u) for u in range(work.num_units)) if main_process else 0
        if done:
            say(f"continuing {config.out}: {done} of {work.num_units} units are done")
        torch.set_num_threads(
            1
        )  # so that a picture's last bits do not depend on the machine's cores; the workers share those
        try:
            todo = [n for n in range(work.num_style_files) if not work.style_file(n).exists()]
            _run_all(work.encode_styles, [n for n in todo if n % world == rank], workers, "encoding styles")
            barrier()
            sheets = [s for s in range(config.sheets) if not (partial / "sheets" / f"sheet_{s:02d}.png").exists()]
            _run_all(work.write_sheet, [s for s in sheets if s % world == rank], workers, "style sheets")
            units = [u for u in range(rank, work.num_units, world) if not work.is_done(u)]
            _run_all(work.render, units, workers, f"generating (units of {config.faces_per_unit} faces)")
        finally:
            torch.set_num_threads(threads)
        barrier()
        if main_process:
            _join(work, how)

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
    from stylealign.translators.load import load_translator

    # Nothing is trained: the loop's own fields keep their defaults.
    engine = start_engine(
        LoopConfig(accelerator=config.accelerator, devices=config.devices, num_nodes=config.num_nodes)
    )
    translator = load_translator(config.translator, engine.device)
    generate(
        config, translator, device=engine.device.type, rank=engine.global_rank, world=engine.world_size, barrier=lambda: engine.barrier()
    )  # fmt: skip
