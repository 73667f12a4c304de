"""`generate` by style arms: the same units, files and provenance as with a translator, each picture a face's own crop restyled.

A picture depends on (configuration, face, number of the style) alone: its arms are drawn by a generator of its own, and every
picture is a batch of one. Knows nothing of when and by whom a unit is done.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import Batch, to_float
from stylealign.batches.crops import crop_sample
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample, Mode
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.generate.rendering import Work
from stylealign.styling.chain import Link, draw_arms, open_chain, restyle
from stylealign.training.weights import read_card
from stylealign.translators.swapping import Translator

if TYPE_CHECKING:
    from stylealign.jobs.generate.job import Generate

_PICTURE, _SHEET = 17, 19  # streams of random numbers


@dataclass(frozen=True)
class Looks:
    """A chain of arms in a translator's place: what `generate` asks of one beside encoding and decoding."""

    chain: tuple[Link, ...]
    schema: LandmarkSchema
    crop: CropConfig
    hash: str
    """SHA-256 of the arms' configuration and of the weights of learned ones"""
    cards: list[dict[str, Any]] = field(default_factory=list)
    """Of learned arms"""


def open_looks(config: "Generate", device: torch.device) -> Looks:
    """The arms of a `generate` without a translator. Raises UserError where there are none, or where they cannot do what is asked."""
    if not config.style.groups():
        raise UserError("missing --translator, or style arms in its place, such as --style.preset free")
    if config.mode != "transfer":
        raise UserError(f"mode {config.mode} is a translator's: style arms only transfer")
    schema = FaceDataset.open(config.data).schema
    cards = [read_card(arm.run, "translator") for group in config.style.groups() for arm in group if arm.run]
    said = json.dumps([to_dict(config.style.groups()), [card["model_hash"] for card in cards]], sort_keys=True)
    chain = open_chain(config.style, 1.0, config.crop, schema, device)
    return Looks(chain, schema, config.crop, hashlib.sha256(said.encode()).hexdigest(), cards)


@dataclass(kw_only=True)
class LooksWork(Work):
    """The work of `generate` by arms: no codes of styles, no structures; a unit cuts its faces and its donors itself."""

    looks: Looks
    _hidden: dict[tuple[int, int], np.ndarray] = field(init=False, default_factory=dict)

    @property
    def num_style_files(self) -> int:
        return 0

    @property
    def mode(self) -> Mode:
        return "arm"

    def cards(self) -> list[dict[str, Any]]:
        return self.looks.cards

    def _generator(self, *key: int) -> torch.Generator:
        return torch.Generator().manual_seed(int(np.random.default_rng((self.config.seed, *key)).integers(2**62)))

    def made_by(self, face: int, style: int) -> str:
        chosen = draw_arms(self.looks.chain, self._generator(face, style, _PICTURE))
        return " + ".join(link.kinds[i] for link, i in zip(self.looks.chain, chosen, strict=True))

    def visible(self, sample: FaceSample, face: int, style: int) -> np.ndarray | None:
        seen = self._hidden.pop((face, style))
        return None if sample.visible is None and seen.all() else seen

    def _cut(self, sample: FaceSample) -> Batch:
        """A face as a batch of one; without landmarks where they are of another mark-up."""
        points = self.looks.schema.num_points
        pixels, landmarks, affine = crop_sample(sample, self.looks.crop)
        if landmarks is None or len(landmarks) != points:
            landmarks = np.full((points, 2), np.nan)
        visible = np.ones(points, dtype=bool)
        if sample.visible is not None and len(sample.visible) == points:
            visible = sample.visible.copy()
        return Batch(
            image=to_float(torch.from_numpy(pixels)[None]), landmarks=torch.from_numpy(landmarks.astype(np.float32))[None],
            visible=torch.from_numpy(visible)[None], crop_from_source=torch.from_numpy(affine)[None],
            index=torch.zeros(1, dtype=torch.int64), weight=torch.ones(1),
        )  # fmt: skip

    def _images(self, faces: range, structures: np.ndarray) -> Iterator[Tensor]:
        for i in faces:
            content = self._cut(self.contents[i])
            for style in range(self.config.styles_per_face):
                donor = None
                if self.donors is not None and self.pairs is not None:
                    donor = self._cut(self.donors[int(self.pairs[i, style])])
                found = restyle(content, donor, self.looks.chain, self._generator(i, style, _PICTURE))
                self._hidden[i, style] = found.visible[0].numpy()
                yield found.image

    def _sheet_tiles(
        self, number: int, chosen: np.ndarray, structures: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, Sequence[str | None], Tensor]:
        size = self.looks.crop.size
        ids: list[str | None] = [None] * self.config.sheet_size
        donors: list[Batch | None] = [None] * len(ids)
        header = np.full((len(ids), size, size, 3), 224, np.uint8)
        if self.donors is not None:
            positions = rng.choice(len(self.donors), min(len(ids), len(self.donors)), replace=False)
            samples = [self.donors[int(j)] for j in positions]
            header = np.stack([crop_sample(sample, self.looks.crop)[0] for sample in samples])
            donors, ids = [self._cut(sample) for sample in samples], [sample.id for sample in samples]
        tiles = [
            restyle(self._cut(self.contents[int(i)]), donor, self.looks.chain, self._generator(number, row, column, _SHEET)).image
            for row, i in enumerate(chosen)
            for column, donor in enumerate(donors)
        ]  # fmt: skip
        return header, ids, torch.cat(tiles)


def open_work(config: "Generate", translator: Translator | Looks, **more: Any) -> Work:
    """The work of a `generate`, by a translator or by arms."""
    if isinstance(translator, Looks):
        return LooksWork(config=config, translator=cast(Translator, translator), looks=translator, **more)
    return Work(config=config, translator=translator, **more)
