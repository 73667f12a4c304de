"""`generate` by style arms: each picture is a face's own crop, restyled.

A picture depends on (configuration, face, number of the style) alone: its arms are drawn by a generator of its own,
and every picture is a batch of one. There is nothing to prepare: a face and its donor are cut when they are needed.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylealign.batches.batch import Batch, to_float
from stylealign.batches.crops import crop_sample
from stylealign.batches.pixels import known_points
from stylealign.config import to_dict
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample, Mode
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.generate.donor_points import labels_of
from stylealign.jobs.generate.maker import GREY, GREY_TILE, Drawn, NothingToPrepare, Plan, Tiles, seeded
from stylealign.jobs.generate.pairing import Paired, paired_by_chance, paired_by_fit
from stylealign.styling.arms import ARMS
from stylealign.styling.chain import ChainConfig, Link, acting_arms, chooses_by_fit, open_chain, restyle
from stylealign.training.weights import read_card
from stylealign.translators.loaded import named_translator, open_untrained
from stylealign.translators.warp.fit import WarpConfig

UNCHANGED = "none"
"""What provenance names in place of arms that all left a face as it was."""
_PICTURE, _SHEET = 17, 19  # streams of random numbers


@dataclass(frozen=True)
class ByArms(NothingToPrepare):
    """A chain of style arms as a `Maker`."""

    chain: tuple[Link, ...]
    schema: LandmarkSchema
    crop: CropConfig
    hash: str
    """SHA-256 of the arms' configuration and of the weights of learned ones"""
    cards: list[dict[str, Any]]
    """Of learned arms"""
    donors_per_style: int
    warp: WarpConfig
    """How many donors are offered, and which are refused, where they are chosen by fit"""
    skip_unfit: bool = False

    what = "style arms"

    @property
    def mode(self) -> Mode:
        return "arm"

    def judged(self, plan: Plan) -> list[dict[str, Any]]:
        return self.cards

    def pair(self, contents: FaceDataset, donors: FaceDataset, styles: int, seed: int) -> Paired:
        if not chooses_by_fit(self.chain):
            return paired_by_chance(contents, donors, styles * self.donors_per_style, seed)
        landmarks, _, trusted = labels_of(donors, self.schema)
        landmarks[~trusted] = np.nan
        unknown = int(np.isnan(landmarks).any(axis=2).all(axis=1).sum())
        left_out = f" ({unknown} without landmarks of {self.schema.name} that are trusted)" if unknown else ""
        return paired_by_fit(
            contents, donors, landmarks, styles, seed, self.warp, skip_unfit=self.skip_unfit, left_out=left_out
        )

    def draw(self, plan: Plan, faces: range, structures: np.ndarray) -> Iterator[Drawn]:
        for i in faces:
            sample = plan.contents[i]
            content = self._cut(sample)
            for style in range(plan.styles_per_face):
                donor = None
                if plan.donors is not None and plan.pairs is not None:
                    donor = self._cut(plan.donors[int(plan.pairs[i, style])])
                key = (plan.seed, i, style, _PICTURE)
                found = restyle(content, donor, self.chain, seeded(*key))
                arms = acting_arms(self.chain, seeded(*key))
                if torch.equal(found.image, content.image):
                    arms = []
                styled = any(ARMS[kind].looks_at_donor for kind in arms)
                visible, lost = _told(sample, content, found)
                yield Drawn(found.image, (" + ".join(arms) or UNCHANGED,), visible, styled=styled, lost=lost)

    def tiles(
        self, plan: Plan, sheet: int, faces: np.ndarray, structures: np.ndarray, rng: np.random.Generator
    ) -> Tiles:
        size = self.crop.size
        ids: list[str | None] = [None] * plan.sheet_size
        donors: list[Batch | None] = [None] * len(ids)
        header = np.full((len(ids), size, size, 3), GREY, np.uint8)
        if plan.donors is not None:
            positions = rng.choice(len(plan.donors), min(len(ids), len(plan.donors)), replace=False)
            if chooses_by_fit(self.chain) and plan.pairs is not None:
                positions = np.unique(plan.pairs[faces, 0])
            plan.donors.refuse_changed_images(positions)
            samples = [plan.donors[int(j)] for j in positions]
            header = np.stack([crop_sample(sample, self.crop)[0] for sample in samples])
            donors, ids = [self._cut(sample) for sample in samples], [sample.id for sample in samples]
        images, told = [], []
        for row, sample in enumerate(plan.contents[int(i)] for i in faces):
            content = self._cut(sample)
            for column, donor in enumerate(donors):
                generator = seeded(plan.seed, sheet, row, column, _SHEET)
                found = restyle(content, donor, self.chain, generator)
                same = torch.equal(found.image, content.image)
                images.append(torch.full_like(found.image, GREY_TILE) if same else found.image)
                visible, lost = _told(sample, content, found)
                told.append((None if visible is None else visible[0], lost[0]))
        return Tiles(header, ids, torch.cat(images), told)

    def _cut(self, sample: FaceSample) -> Batch:
        """A face as a batch of one; its landmarks are NaN where they are of another mark-up."""
        points = self.schema.num_points
        pixels, landmarks, affine = crop_sample(sample, self.crop)
        if landmarks is None or len(landmarks) != points:
            landmarks = np.full((points, 2), np.nan)
        visible = np.ones(points, dtype=bool)
        if sample.visible is not None and len(sample.visible) == points:
            visible = sample.visible.copy()
        return Batch(
            image=to_float(torch.from_numpy(pixels)[None]),
            landmarks=torch.from_numpy(landmarks.astype(np.float32))[None],
            visible=torch.from_numpy(visible)[None], crop_from_source=torch.from_numpy(affine)[None],
            index=torch.zeros(1, dtype=torch.int64), weight=torch.ones(1),
        )  # fmt: skip


def _told(sample: FaceSample, content: Batch, found: Batch) -> tuple[np.ndarray | None, np.ndarray]:
    """`visible` and `lost` (1, P) of a face that arms made `found` of, as of `Drawn`."""
    visible = found.visible.numpy()
    known = sample.visible is not None or not visible.all()
    lost = known_points(content.landmarks) & ~known_points(found.landmarks)
    return visible if known else None, lost.numpy()


def _card_of(run: Path, schema: LandmarkSchema, crop: CropConfig) -> dict[str, Any]:
    """The card of a learned arm's run; of an untrained translator, whose name stands there, the one that it gets."""
    name = named_translator(run)
    return read_card(run, "translator") if name is None else open_untrained(name, schema, crop).card


def open_arms(
    style: ChainConfig,
    crop: CropConfig,
    schema: LandmarkSchema,
    device: torch.device,
    warp: WarpConfig,
    skip_unfit: bool,
) -> ByArms:
    """The arms of a configuration, ready to draw faces of that mark-up, cut so.

    Where donors are chosen by fit, `warp.offered` of them are looked at for each face, by the limits of the arms; with
    `skip_unfit` faces that fewer fit than styles are asked for are left out.

    Raises UserError where an arm cannot, and of other limits than those of arms that bend.
    """
    groups = style.groups()
    cards = [_card_of(arm.run, schema, crop) for group in groups for arm in group if arm.run]
    chain = open_chain(style, 1.0, crop, schema, device)
    by_fit = ["donors by fit"] * chooses_by_fit(chain)  # before, they came by chance
    described = json.dumps([to_dict(groups), [card["model_hash"] for card in cards], *by_fit], sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()
    usual = to_dict(WarpConfig(offered=warp.offered))
    if by_fit and (others := [key for key, value in to_dict(warp).items() if value != usual[key]]):
        raise UserError(
            f"warp.{others[0]}: found another than {usual[others[0]]}, which style arms that bend donors keep to: of "
            "`warp` they heed `offered` alone, `--translator warp` heeds all"
        )
    return ByArms(chain, schema, crop, digest, cards, int(style.needs_donors()), warp, skip_unfit)
