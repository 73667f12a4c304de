"""`generate` by translators that bend a donor's photograph onto a face's landmarks: donors chosen by fit.

Which donors a face gets is known, with all that is refused, before a picture is drawn: it depends on landmarks and, of
several donors, on thumbnails of those that may be taken. There is nothing to prepare. Donors are cut with more of their
picture round them than the face shows, so that a turned head brings real background along.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import Batch, to_float
from stylealign.batches.crops import crop_sample
from stylealign.data.dataset import FaceDataset
from stylealign.data.packaged import COMPACT
from stylealign.data.threads import on_every_core
from stylealign.detectors.loaded import LoadedDetector, load_detector
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.generate.donor_points import donor_points
from stylealign.jobs.generate.maker import GREY_TILE, Drawn, NothingToPrepare, Plan, Tiles
from stylealign.jobs.generate.pairing import Paired, paired_by_fit
from stylealign.progress import track
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.judge import judge_swaps
from stylealign.translators.loaded import open_untrained
from stylealign.translators.swapping import encode_contents
from stylealign.translators.warp.fit import WarpConfig, refused_pairs
from stylealign.translators.warp.look import SIDE, looks_of
from stylealign.translators.warp.openings import openings_of

MARGIN = 1.5
"""Side of a donor's crop over that of the face's."""
JUDGED = 64  # faces that the judge sees
_JUDGE = 43  # stream of random numbers


@dataclass
class ByWarp(NothingToPrepare):
    """A translator that bends donors, trained or not, as a `Maker`, for one plan."""

    translator: LoadedTranslator
    config: WarpConfig
    judge_run: Path | None
    device: torch.device
    """Where the detector works that finds donors' landmarks and judges"""
    skip_unfit: bool = False
    untrained: str | None = None
    """The translator's name, where it needed no training; None: it was trained, and judged then"""
    donor_landmarks: np.ndarray = field(default_factory=lambda: np.empty(0))
    """(M, P, 2) px of the donors' pictures, NaN where unknown: found when pairs are made"""
    _cards: list[dict[str, Any]] | None = None

    what = "translator"
    mode: Literal["transfer"] = "transfer"
    donors_per_style = 1

    @property
    def schema(self) -> LandmarkSchema:
        return self.translator.schema

    @property
    def crop(self) -> CropConfig:
        return self.translator.crop

    @property
    def hash(self) -> str:
        return self.translator.hash

    # Which donors.

    def pair(self, contents: FaceDataset, donors: FaceDataset, styles: int, seed: int) -> Paired:
        """The donors of each face by fit. Says what cannot be used, and how many pairs are refused.

        Raises UserError where faces have fewer fitting donors than styles, unless those are to be left out.
        """
        found = donor_points(donors, self.schema, self.judge_run, self.device)
        self.donor_landmarks = found.landmarks
        left_out = f" ({'; '.join(found.said)})" if found.said else ""
        return paired_by_fit(
            contents, donors, found.landmarks, styles, seed, self.config, skip_unfit=self.skip_unfit,
            looks=lambda positions: self._looks(donors, positions), left_out=left_out,
        )  # fmt: skip

    def _looks(self, donors: FaceDataset, positions: np.ndarray) -> np.ndarray:
        """How donors look (look.py), by their pictures, cut as they will be bent."""
        donors.refuse_changed_images(positions)
        crop = dataclasses.replace(self._donor_crop, size=SIDE)
        with closing(on_every_core(lambda j: crop_sample(self._sample(donors, int(j)), crop)[0], positions)) as cut:
            return looks_of(np.stack(list(track(cut, "looking at donors", len(positions)))))

    # Pictures.

    def draw(self, plan: Plan, faces: range, structures: np.ndarray) -> Iterator[Drawn]:
        assert plan.donors is not None
        assert plan.pairs is not None
        translator = self.translator
        for i in faces:
            sample = plan.contents[i]
            content = _cut(sample, self.crop)
            for j in plan.pairs[i]:
                image = _drawn(translator, content, self._cut_donor(plan.donors, int(j)))
                visible, lost = self._told(plan.donors, int(j), sample)
                yield Drawn(image, (translator.hash,), None if visible is None else visible[None], lost=lost[None])

    def _told(self, donors: FaceDataset, j: int, face: FaceSample) -> tuple[np.ndarray | None, np.ndarray]:
        """`visible` and `lost` (P,) of a face that a donor is bent onto: what lies over a landmark is the donor's."""
        visible = donors[j].visible if donors.schema == self.schema else None
        if visible is None and face.visible is not None:
            visible = np.ones_like(face.visible)
        return visible, ~np.isfinite(self.donor_landmarks[j]).all(axis=1)

    def tiles(
        self, plan: Plan, sheet: int, faces: np.ndarray, structures: np.ndarray, rng: np.random.Generator
    ) -> Tiles:
        """Each face's own nearest donor gives a column; a pair that would be refused stays grey."""
        assert plan.donors is not None
        assert plan.pairs is not None
        positions = np.unique(plan.pairs[faces, 0])
        header = np.stack([crop_sample(self._sample(plan.donors, int(j)), self._donor_crop)[0] for j in positions])
        translator, openings = self.translator, openings_of(self.schema)
        donors = [self._cut_donor(plan.donors, int(j)) for j in positions]
        theirs = np.concatenate([donor.landmarks.numpy() for donor in donors])
        images, told = [], []
        for sample in (plan.contents[int(i)] for i in faces):
            content = _cut(sample, self.crop)
            told += [self._told(plan.donors, int(j), sample) for j in positions]
            points = np.repeat(content.landmarks.numpy(), len(positions), axis=0)
            refused = refused_pairs(points, theirs, openings, self.config)
            for bad, donor in zip(refused, donors, strict=True):
                grey = torch.full_like(content.image, GREY_TILE)
                images.append(grey if bad else _drawn(translator, content, donor))
        return Tiles(header, [plan.donors.head(int(j))["id"] for j in positions], torch.cat(images), told)

    @property
    def _donor_crop(self) -> CropConfig:
        return dataclasses.replace(self.crop, box="landmarks")

    def _sample(self, donors: FaceDataset, j: int) -> FaceSample:
        """A donor with the landmarks that it is bent by; one of its missing landmarks is not counted for its box."""
        donor, points = donors[j], self.donor_landmarks[j]
        missing = ~np.isfinite(points).all(axis=1)
        return FaceSample(
            id=donor.id, image=donor.image, landmarks=np.nan_to_num(points), visible=~missing,
            point_trust=(~missing).astype(np.float32), orientation=donor.orientation,
        )  # fmt: skip

    def _cut_donor(self, donors: FaceDataset, j: int, margin: float = MARGIN) -> Batch:
        return _cut(self._sample(donors, j), self._donor_crop, margin)

    @property
    def cards(self) -> list[dict[str, Any]]:
        return [self.translator.card] if self.untrained is None else []

    # The judge.

    def judged(self, plan: Plan) -> list[dict[str, Any]]:
        """A card with what a judge finds on some of the plan's own pairs; without a judge of the mark-up, none.

        A trained translator's was judged when it was trained.
        """
        if self.untrained is None:
            return self.cards
        if self._cards is None:
            card = {"model": self.untrained, "model_hash": self.hash}
            judge = self._open_judge()
            self._cards = [card if judge is None else {**card, "judge": self._judge(plan, judge, self.untrained)}]
        return self._cards

    def _open_judge(self) -> LoadedDetector | None:
        if self.judge_run is None and not (COMPACT / "card.json").exists():
            return None
        judge = load_detector(self.judge_run or COMPACT, self.device)
        if judge.schema == self.schema:
            return judge
        if self.judge_run is None:
            return None
        raise UserError(
            f"judge {self.judge_run}: a detector of {judge.schema.name}, but these faces are of {self.schema.name}: "
            "expected the same mark-up"
        )

    def _judged_pairs(self, plan: Plan) -> list[tuple[int, int]]:
        """Faces and donors that the judge sees, of which every landmark is known. The faces take their styles in turn,
        as later styles are chosen to differ and fit less than the first."""
        assert plan.pairs is not None
        whole = np.isfinite(self.donor_landmarks).all(axis=(1, 2))
        found: list[tuple[int, int]] = []
        for i in np.random.default_rng((plan.seed, _JUDGE)).permutation(len(plan.contents)):
            styles = np.roll(plan.pairs[i], -len(found))
            if whole[styles].any() and plan.contents[int(i)].labelled_points.all():
                found.append((int(i), int(styles[whole[styles]][0])))
            if len(found) == JUDGED:
                break
        return sorted(found)

    def _judge(self, plan: Plan, judge: LoadedDetector, name: str) -> dict[str, Any]:
        assert plan.donors is not None
        pairs = self._judged_pairs(plan)
        if len(pairs) < 2:
            raise UserError(
                f"{plan.contents.folder}: fewer than 2 faces have every landmark, and a donor that has, so none can be "
                "judged"
            )
        crop, donor_crop = judge.crop, dataclasses.replace(judge.crop, box="landmarks")
        contents = [_cut(plan.contents[i], crop) for i, _ in pairs]
        donors = [_cut(self._sample(plan.donors, j), donor_crop) for _, j in pairs]
        batch, others = (Batch(*(torch.cat(parts) for parts in zip(*all_, strict=True))) for all_ in (contents, donors))
        translator = open_untrained(name, self.schema, crop, "cpu")
        judge.model.requires_grad_(False)
        return judge_swaps(translator, batch, judge.model, judge.crop.size, self.schema, plan.seed, donors=others)


def _cut(sample: FaceSample, crop: CropConfig, margin: float = 1.0) -> Batch:
    """A labelled face as a batch of one."""
    pixels, landmarks, affine = crop_sample(sample, crop, margin=margin)
    assert landmarks is not None
    return Batch(
        image=to_float(torch.from_numpy(pixels)[None]), landmarks=torch.from_numpy(landmarks.astype(np.float32))[None],
        visible=torch.ones(1, len(landmarks), dtype=torch.bool), crop_from_source=torch.from_numpy(affine)[None],
        index=torch.zeros(1, dtype=torch.int64), weight=torch.ones(1),
    )  # fmt: skip


def _drawn(translator: LoadedTranslator, content: Batch, donor: Batch) -> Tensor:
    """(1, 3, S, S)"""
    features = encode_contents(translator, content.landmarks, content.image)
    return translator.decode(features, translator.encode_style(donor.image, donor.landmarks)).cpu()
