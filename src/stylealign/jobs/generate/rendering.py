"""The work of `generate`, in units of a few faces whose results depend on nothing but (configuration, unit).

Donors are encoded once, in fixed batches, into files; a unit encodes each of its structures once, decodes its k styles, writes the
pictures and then, as a whole or not at all, its lines of the index. Sheets to look at are written with a sidecar that says what
every tile is. Knows nothing of when and by whom a unit is done: generate.py does.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import to_float
from stylealign.data.atomic import whole_file, write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import encode_image
from stylealign.data.rows import digest_of, to_row
from stylealign.evaluation.draw import style_sheet
from stylealign.face import geometry
from stylealign.face.sample import FaceSample, Mode, Provenance
from stylealign.face.schema import SCHEMAS
from stylealign.jobs.generate.pairing import inherited_attributes
from stylealign.progress import track
from stylealign.translators.swapping import (
    Translator,
    crops_of,
    decode_grid,
    decode_pairs,
    encode_faces,
    mixed,
    pictures,
    structures_of,
    take_rows,
)

if TYPE_CHECKING:
    from stylealign.jobs.generate.job import Generate

DONORS_A_FILE, DONORS_A_PASS = 64, 16
_PRIOR, _SHEETS = 2, 3  # streams of random numbers


@dataclass(kw_only=True)
class Work:
    """What every unit needs. `pairs` is (N, k), for interpolation (N, 2k), for the prior None."""

    config: "Generate"
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
            images, landmarks = crops_of(
                [self.donors[int(j)] for j in part], self.translator.crop, self.translator.schema
            )
            style = [
                s.float().cpu() for s in self.translator.encode_style(to_float(torch.from_numpy(images)), landmarks)
            ]
            codes.append(torch.cat([s.flatten(1) for s in style], dim=1).numpy())
            shapes = [list(s.shape[1:]) for s in style]
        write_whole(self.folder / "styles" / f"{number:06d}.shapes", json.dumps(shapes).encode())
        with whole_file(self.style_file(number)) as file:
            np.save(file, np.concatenate(codes))

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
        features = encode_faces(self.translator, self.contents, faces, structures)
        rows = torch.arange(len(faces)).repeat_interleave(k)
        if self.pairs is None:
            for row, i in enumerate(faces):  # a generator a face: what it draws depends on no other face
                generator = torch.Generator().manual_seed(int(np.random.default_rng((seed, i, _PRIOR)).integers(2**62)))
                yield self.translator.sample_prior(take_rows(features, rows[row * k : row * k + k]), generator)
            return
        pairs = self.pairs[faces.start : faces.stop]
        style = self.styles(pairs[:, :k].ravel())
        if self.config.mode == "interpolate":
            style = mixed(style, self.styles(pairs[:, k:].ravel()), self.config.mix)
        yield from decode_pairs(self.translator, features, style, rows, torch.arange(len(rows)))

    def style_id(self, face: int, style: int) -> str | None:
        if self.pairs is None or self.donors is None:
            return None
        chosen = self.pairs[face, style :: self.config.styles_per_face]
        return " + ".join(self.donors.head(int(j))["id"] for j in chosen)

    @property
    def mode(self) -> Mode:
        return self.config.mode

    def made_by(self, face: int, style: int) -> str:
        """What provenance says of a picture's maker."""
        return self.translator.hash

    def visible(self, sample: FaceSample, face: int, style: int) -> np.ndarray | None:
        """Which landmarks can be seen on a picture."""
        return sample.visible

    def cards(self) -> list[dict[str, Any]]:
        """The cards of the models at work."""
        return [self.translator.card]

    def render(self, unit: int) -> None:
        """Decode and write one unit: its pictures, then, as a whole or not at all, its lines of the index."""
        config, k, faces = self.config, self.config.styles_per_face, self.faces_of(unit)
        samples = [self.contents[i] for i in faces]
        structures, affines = structures_of(samples, self.translator.crop)
        (self.folder / "images" / f"{unit:06d}").mkdir(exist_ok=True)
        lines: list[bytes] = []
        for images in self._images(faces, structures):
            for picture in pictures(images):
                row, style = divmod(len(lines), k)
                sample, face, affine = samples[row], faces[row], affines[row]
                slug = re.sub(r"[^A-Za-z0-9.-]+", "_", sample.id)[-60:]
                name = f"{unit:06d}/{face:08d}_{slug}@{style}.{config.image_format}"
                path = self.folder / "images" / name
                content = encode_image(picture, path.suffix, config.quality)
                path.write_bytes(content)
                made = FaceSample(
                    id=f"{sample.id}@{style}",
                    image=path,
                    landmarks=structures[row],
                    box_xyxy=None if sample.box_xyxy is None else geometry.apply(affine, sample.box_xyxy.reshape(2, 2)).ravel(),
                    visible=self.visible(sample, face, style),
                    attributes=inherited_attributes(sample),
                    split="train",
                    provenance=Provenance(
                        content_id=sample.id, style_id=self.style_id(face, style), translator=self.made_by(face, style), seed=config.seed,
                        mode=self.mode, crop_from_source=tuple(tuple(float(v) for v in r) for r in affine),  # type: ignore[arg-type]
                    ),
                )  # fmt: skip
                line = json.dumps(to_row(made, name, digest_of(content)), ensure_ascii=False, separators=(", ", ": "))
                lines.append(line.encode() + b"\n")
        assert len(lines) == k * len(faces)
        write_whole(self.unit_file(unit), b"".join(lines))

    # Sheets.

    def write_sheet(self, number: int) -> None:
        """sheet_00.png, and sheet_00.json which says what every tile is."""
        config, size = self.config, self.translator.crop.size
        rng = np.random.default_rng((config.seed, number, _SHEETS))
        chosen = rng.choice(len(self.contents), min(config.sheet_size, len(self.contents)), replace=False)
        samples = [self.contents[int(i)] for i in chosen]
        structures, affines = structures_of(samples, self.translator.crop)
        real, _ = crops_of(samples, self.translator.crop, self.translator.schema)
        header, ids, grid = self._sheet_tiles(number, chosen, structures, rng)
        tiles = pictures(grid).reshape(len(samples), len(header), size, size, 3)
        sheet = style_sheet(list(real), list(header), [list(row) for row in tiles])
        places = [[find_tile(sheet, tiles, i, j) for j in range(len(header))] for i in range(len(samples))]
        schema = self.contents.schema
        sidecar = {
            "format": 1, "tile": size, "schema": schema.name if SCHEMAS.get(schema.name) == schema else schema.to_dict(),
            "translator": self.translator.hash, "seed": config.seed, "mode": self.mode,
            "structure_ids": [s.id for s in samples], "style_ids": ids,
            "landmarks": [[[float(str(v)) for v in point] for point in face] for face in structures], "crop_from_source": affines.tolist(),
            "tiles_xy": places,
        }  # fmt: skip
        path = self.folder / "sheets" / f"sheet_{number:02d}.png"
        write_whole(path.with_suffix(".json"), (json.dumps(sidecar, ensure_ascii=False) + "\n").encode())
        write_whole(path, encode_image(sheet, path.suffix))

    def _sheet_tiles(
        self, number: int, chosen: np.ndarray, structures: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, Sequence[str | None], Tensor]:
        """The donors of a sheet (m, S, S, 3), their ids, and its tiles (n * m, 3, S, S), row by row."""
        config, size = self.config, self.translator.crop.size
        features = encode_faces(self.translator, self.contents, chosen, structures)
        ids: list[str | None]
        if self.donors is None:
            m = config.sheet_size
            header, ids = np.full((m, size, size, 3), 224, np.uint8), [None] * m
            rows = torch.arange(len(structures)).repeat_interleave(m)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            grid = self.translator.sample_prior(take_rows(features, rows), generator)
        else:
            a = rng.choice(len(self.donors), min(config.sheet_size, len(self.donors)), replace=False)
            header, style, ids = self._donors(a)
            if config.mode == "interpolate":
                others, other_style, other_ids = self._donors(np.roll(a, 1))
                header = np.concatenate([header[:, :, : size // 2], others[:, :, size // 2 :]], axis=2)
                style, ids = (
                    mixed(style, other_style, config.mix),
                    [f"{x} + {y}" for x, y in zip(ids, other_ids, strict=True)],
                )
            grid = decode_grid(self.translator, features, style).flatten(0, 1)
        return header, ids, grid

    def _donors(self, positions: np.ndarray) -> tuple[np.ndarray, list[Tensor], list[str | None]]:
        assert self.donors is not None
        samples = [self.donors[int(j)] for j in positions]
        images, landmarks = crops_of(samples, self.translator.crop, self.translator.schema)
        return (
            images,
            self.translator.encode_style(to_float(torch.from_numpy(images)), landmarks),
            [s.id for s in samples],
        )


def find_tile(sheet: np.ndarray, tiles: np.ndarray, i: int, j: int) -> list[int]:
    """(x, y) of the upper left pixel of tile (i, j) on a style sheet, checked against the tile itself."""
    n, _, size = tiles.shape[:3]
    # n + 2 gaps between and round n + 1 tiles, and two more below the header
    gap = (sheet.shape[0] - (n + 1) * size) // (n + 4)
    x, y = gap + (j + 1) * (size + gap) + 2 * gap, gap + (i + 1) * (size + gap) + 2 * gap
    assert np.array_equal(sheet[y : y + size, x : x + size], tiles[i, j]), "the layout of style sheets has changed"
    return [x, y]


def run_all(task: Callable[[int], None], todo: list[int], workers: int, what: str) -> None:
    """Do a task for every number, `workers` at a time, each on one thread of its own."""
    pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1))
    try:
        for _ in track(pool.map(task, todo), what, len(todo)):
            pass
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
