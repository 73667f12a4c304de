"""`generate` by a translator: a picture is decoded from the structure of one face and the style of another.

Donors are encoded once, in fixed batches, into files that every process reads; a structure is encoded once for its k
styles. So no encoding depends on who works on which unit.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import to_float
from stylealign.batches.pixels import known_points
from stylealign.data.atomic import write_whole
from stylealign.data.dataset import FaceDataset
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.generate.maker import GREY, Drawn, Plan, Tiles, seeded
from stylealign.jobs.generate.pairing import Paired, paired_by_chance
from stylealign.translators.swapping import (
    Translator,
    crops_of,
    decode_grid,
    decode_pairs,
    encode_faces,
    mixed,
    take_rows,
)

DONORS_A_FILE = 16  # and at a time
_PRIOR = 2  # stream of random numbers

StyleMode = Literal["transfer", "interpolate", "prior"]


@dataclass(frozen=True)
class ByTranslator:
    """A translator as a `Maker`."""

    translator: Translator
    mode: StyleMode = "transfer"
    mix: float = 0.5
    """interpolate: share of the second donor"""

    what = "translator"

    @property
    def schema(self) -> LandmarkSchema:
        return self.translator.schema

    @property
    def crop(self) -> CropConfig:
        return self.translator.crop

    @property
    def hash(self) -> str:
        return self.translator.hash

    @property
    def cards(self) -> list[dict[str, Any]]:
        return [self.translator.card]

    def judged(self, plan: Plan) -> list[dict[str, Any]]:
        return self.cards

    @property
    def donors_per_style(self) -> int:
        return {"transfer": 1, "interpolate": 2, "prior": 0}[self.mode]

    def pair(self, contents: FaceDataset, donors: FaceDataset, styles: int, seed: int) -> Paired:
        return paired_by_chance(contents, donors, styles * self.donors_per_style, seed)

    # Style codes: encoded once, kept on disk, read by memory map.

    def num_preparations(self, plan: Plan) -> int:
        """The number of files of codes, of DONORS_A_FILE donors each."""
        return -(-len(plan.used_donors) // DONORS_A_FILE)

    def is_prepared(self, plan: Plan, number: int) -> bool:
        return _code_file(plan, number).exists()

    def prepare(self, plan: Plan, number: int) -> None:
        """Encode the donors of one file: (n, D) float32 codes, and beside it the shapes that a row consists of.

        No .npy: a unit looks into most of the files, and their headers took longer to parse than the codes to read.
        """
        _, style, _ = self._encoded(plan, plan.used_donors[number * DONORS_A_FILE :][:DONORS_A_FILE])
        style = [s.float().cpu() for s in style]
        file = _code_file(plan, number)
        write_whole(file.with_suffix(".shapes"), json.dumps([list(s.shape[1:]) for s in style]).encode())
        write_whole(file, torch.cat([s.flatten(1) for s in style], dim=1).numpy().tobytes())

    def _encoded(self, plan: Plan, donors: np.ndarray) -> tuple[np.ndarray, list[Tensor], list[str | None]]:
        """Donors by position: their crops (n, S, S, 3), their codes and their names."""
        assert plan.donors is not None
        plan.donors.refuse_changed_images(donors)
        samples = [plan.donors[int(j)] for j in donors]
        images, landmarks = crops_of(samples, self.crop, self.schema)
        none = bool((~known_points(landmarks)).all(dim=1).any())  # a donor that is without any
        known = None if none and self.translator.style_needs_landmarks else landmarks
        style = self.translator.encode_style(to_float(torch.from_numpy(images)), known)
        return images, style, [sample.id for sample in samples]

    # Pictures.

    def draw(self, plan: Plan, faces: range, structures: np.ndarray) -> Iterator[Drawn]:
        for images in self._images(plan, faces, structures):
            yield Drawn(images, (self.hash,) * len(images))

    def _images(self, plan: Plan, faces: range, structures: np.ndarray) -> Iterator[Tensor]:
        k = plan.styles_per_face
        features = encode_faces(self.translator, plan.contents, faces, structures)
        rows = torch.arange(len(faces)).repeat_interleave(k)
        if plan.pairs is None:
            for row, i in enumerate(faces):  # a generator a face: what it draws depends on no other face
                one = take_rows(features, rows[row * k : row * k + k])
                yield self.translator.sample_prior(one, seeded(plan.seed, i, _PRIOR))
            return
        pairs = plan.pairs[faces.start : faces.stop]
        style = _codes(plan, pairs[:, :k].ravel())
        if self.mode == "interpolate":
            style = mixed(style, _codes(plan, pairs[:, k:].ravel()), self.mix)
        yield from decode_pairs(self.translator, features, style, rows, torch.arange(len(rows)))

    def tiles(
        self, plan: Plan, sheet: int, faces: np.ndarray, structures: np.ndarray, rng: np.random.Generator
    ) -> Tiles:
        size = self.crop.size
        features = encode_faces(self.translator, plan.contents, faces, structures)
        if plan.donors is None:
            m = plan.sheet_size
            rows = torch.arange(len(structures)).repeat_interleave(m)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            images = self.translator.sample_prior(take_rows(features, rows), generator)
            return Tiles(np.full((m, size, size, 3), GREY, np.uint8), [None] * m, images)
        positions = rng.choice(len(plan.donors), min(plan.sheet_size, len(plan.donors)), replace=False)
        header, style, ids = self._encoded(plan, positions)
        if self.mode == "interpolate":  # each with the one before it, half of its picture beside half of the other's
            others, other_style, other_ids = self._encoded(plan, np.roll(positions, 1))
            header = np.concatenate([header[:, :, : size // 2], others[:, :, size // 2 :]], axis=2)
            style = mixed(style, other_style, self.mix)
            ids = [f"{x} + {y}" for x, y in zip(ids, other_ids, strict=True)]
        return Tiles(header, ids, decode_grid(self.translator, features, style).flatten(0, 1))


def _code_file(plan: Plan, number: int) -> Path:
    return plan.folder / "styles" / f"{number:06d}.codes"


def _codes(plan: Plan, donors: np.ndarray) -> list[Tensor]:
    """The style codes of donors by position, read from the files: (n, C, h, w) per latent."""
    shapes = json.loads(_code_file(plan, 0).with_suffix(".shapes").read_text())
    files, rows = np.divmod(np.searchsorted(plan.used_donors, donors), DONORS_A_FILE)
    sizes = [math.prod(shape) for shape in shapes]
    flat = np.empty((len(donors), sum(sizes)), np.float32)
    for number in np.unique(files):
        here = files == number
        codes = np.memmap(_code_file(plan, int(number)), np.float32, "r").reshape(-1, sum(sizes))
        flat[here] = codes[rows[here]]
    parts = torch.from_numpy(flat).split(sizes, dim=1)
    return [part.reshape(-1, *shape).contiguous() for part, shape in zip(parts, shapes, strict=True)]
