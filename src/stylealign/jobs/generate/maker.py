"""What draws the pictures of `generate`: all that a translator and style arms have in common.

A maker is given a plan and some positions in it, and answers pictures. It knows no units, no index and no stopped
runs: what it draws depends on the plan and the positions alone, so the same call gives the same bytes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from stylealign.data.dataset import FaceDataset
from stylealign.face.crop import CropConfig
from stylealign.face.sample import Mode
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.generate.pairing import Paired
from stylealign.training.seen import say_held_out

GREY = 224  # of a style sheet: of its header where no donor stands, of a tile where a pair cannot be drawn
GREY_TILE = GREY / 127.5 - 1
"""The same in a picture in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which faces are drawn in whose styles, how many at a time, and where the files go."""

    contents: FaceDataset
    """The faces that give structure, all labelled"""
    donors: FaceDataset | None
    pairs: np.ndarray | None
    """(N, styles_per_face * donors a style) positions of each face's donors: the first ones of all its styles, then the
    second ones; None where no donor is looked at"""
    folder: Path
    styles_per_face: int
    seed: int
    faces_per_unit: int
    image_format: str
    quality: int
    sheet_size: int

    @cached_property
    def used_donors(self) -> np.ndarray:
        """The positions of donors that occur in `pairs`, ascending."""
        return np.empty(0, dtype=np.int64) if self.pairs is None else np.unique(self.pairs)

    def donors_of(self, faces: Iterable[int]) -> np.ndarray:
        """The positions of donors of some faces, ascending."""
        return np.empty(0, dtype=np.int64) if self.pairs is None else np.unique(self.pairs[list(faces)])

    def say_held_out(self) -> None:
        """Warn of labels and styles that are taken from faces which detectors are measured on."""
        say_held_out("these faces inherit labels of", self.contents)
        if self.donors is not None:
            say_held_out("styles are taken from pictures of", self.donors.take(self.used_donors))

    def style_id(self, face: int, style: int) -> str | None:
        """The name of the donor (`a + b` of two) of a face's style of that number."""
        if self.pairs is None or self.donors is None:
            return None
        names, positions = self._names, self.pairs[face, style :: self.styles_per_face].tolist()
        for j in positions:
            if j not in names:
                names[j] = self.donors.head(j)["id"]
        return " + ".join(names[j] for j in positions)

    @cached_property
    def _names(self) -> dict[int, str]:
        """Names of donors that were asked for: many faces have a donor in common."""
        return {}


class Drawn(NamedTuple):
    """Some pictures, in the order they were asked for."""

    images: Tensor
    """(b, 3, S, S) in [-1, 1], not clamped"""
    made_by: tuple[str, ...]
    """what made each, for its provenance"""
    visible: np.ndarray | None = None
    """(b, P) bool, which landmarks can be seen; None: those of the photograph"""
    styled: bool = True
    """whether the pictures have the look of their donors; else they are the faces as they were, or nobody's"""
    lost: np.ndarray | None = None
    """(b, P) bool, landmarks that a bent donor lacks, so that nobody knows where they lie in the picture; None: none"""


class Tiles(NamedTuple):
    """The pictures of a style sheet of n faces in m styles."""

    header: np.ndarray
    """(m, S, S, 3) uint8, the faces that give the styles"""
    style_ids: list[str | None]
    """their names"""
    images: Tensor
    """(n * m, 3, S, S), row by row"""
    told: Sequence[tuple[np.ndarray | None, np.ndarray | None]] = ()
    """`visible` and `lost` (P,) of each, as of `Drawn`; empty: None of all"""


class Maker(Protocol):
    """What draws the pictures of a plan."""

    @property
    def what(self) -> str:
        """What it is, for sentences: "translator", "style arms"."""

    @property
    def schema(self) -> LandmarkSchema:
        """The mark-up of the faces it draws."""

    @property
    def crop(self) -> CropConfig:
        """How their faces are cut."""

    @property
    def hash(self) -> str:
        """SHA-256 of all that its pictures depend on beside the plan."""

    @property
    def cards(self) -> list[dict[str, Any]]:
        """Those of the trained translators at work."""

    def judged(self, plan: Plan) -> list[dict[str, Any]]:
        """The cards of the translators at work, whose judges are asked first."""

    @property
    def mode(self) -> Mode:
        """What provenance says of how the styles were used."""

    @property
    def donors_per_style(self) -> int:
        """How many donors each picture looks at."""

    def pair(self, contents: FaceDataset, donors: FaceDataset, styles: int, seed: int) -> Paired:
        """The faces that are drawn, and so many styles' donors for each. Raises UserError where there are too few."""

    def num_preparations(self, plan: Plan) -> int:
        """How many pieces of work have to be done, in any order, before anything is drawn."""

    def is_prepared(self, plan: Plan, number: int) -> bool:
        """Whether one of them is done."""

    def prepare(self, plan: Plan, number: int) -> None:
        """Do one of them."""

    def draw(self, plan: Plan, faces: range, structures: np.ndarray) -> Iterator[Drawn]:
        """The pictures of some faces, face by face in all its styles; `structures` (n, P, 2) are their landmarks in px
        of the crop."""

    def tiles(
        self, plan: Plan, sheet: int, faces: np.ndarray, structures: np.ndarray, rng: np.random.Generator
    ) -> Tiles:
        """The pictures of a style sheet of its number, with styles drawn from `rng`."""


class NothingToPrepare:
    """Of a maker that begins to draw at once."""

    def num_preparations(self, plan: Plan) -> int:
        return 0

    def is_prepared(self, plan: Plan, number: int) -> bool:
        return True

    def prepare(self, plan: Plan, number: int) -> None:
        pass


def seeded(*key: int) -> torch.Generator:
    """A generator of random numbers on the CPU that is a function of `key`."""
    return torch.Generator().manual_seed(int(np.random.default_rng(key).integers(2**62)))
