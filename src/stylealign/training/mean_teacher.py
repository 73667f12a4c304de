"""Mean teacher (Tarvainen & Valpola, NeurIPS 2017): unlabelled faces in every batch,
labelled by the detector's own average.

The averaged weights answer the plain crop and its mirror image; their mean becomes the face's label and their agreement
its trust. Then the face goes the way of every labelled face: the augmentation moves picture and label together, so a
label moves exactly, and the loss weighs it. What the teacher says depends on nothing but its weights and the crop: a
resumed run is given the same labels. Knows no files but the data set's.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stylealign.batches.augment import centre_crop
from stylealign.batches.batch import Batch, right_of
from stylealign.batches.together import shared
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError, counted
from stylealign.face import geometry
from stylealign.face.schema import LandmarkSchema
from stylealign.training.seen import say_held_out


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherConfig:
    """Learn from unlabelled faces by agreement with one's own averaged weights."""

    data: Path | None = None
    """Data set of faces; labels it has serve to cut the crops and are not learnt, so what `pseudo-label` wrote
    is best. Not given: no teacher."""
    split: str | None = None
    """Only its faces of this split."""
    subset: str | None = None
    """Only its faces with this attribute."""
    share: float = 0.25
    """Share of every batch."""
    weight: float = 1.0
    """Of such a face at full trust, beside a labelled one."""
    ramp_up: float = 0.3
    """Share of the training over which that weight rises from almost nothing: an early teacher knows nothing."""
    half: float = 0.05
    """Distance between the two answers, over the crop's side, at which a landmark is trusted by one half;
    trust is 2 ** (-distance / half)."""
    threshold: float = 0.0
    """Trust below which a landmark is not learnt."""

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.weight >= 0 and 0 <= self.ramp_up <= 1):
            raise ValueError(
                f"teacher: share {self.share}, weight {self.weight}, ramp_up {self.ramp_up}: expected above 0 and "
                "below 1, at least 0, 0 to 1"
            )
        if not (self.half > 0 and 0 <= self.threshold <= 1):
            raise ValueError(f"teacher: half {self.half} and threshold {self.threshold}: expected above 0, and 0 to 1")


def ramp(step: int, steps: int, ramp_up: float) -> float:
    """exp(-5 (1 - t)^2), t rising from 0 to 1 over the first `ramp_up` of the training
    (Tarvainen & Valpola, section 3.1)."""
    t = 1.0 if ramp_up == 0 else min(1.0, step / (ramp_up * steps))
    return math.exp(-5 * (1 - t) ** 2)


def teacher_faces(config: TeacherConfig, schema: LandmarkSchema, ema_decay: float) -> FaceDataset:
    """The unlabelled faces. Raises UserError without averaged weights, and for another mark-up."""
    assert config.data is not None
    if not ema_decay:
        raise UserError(
            "teacher.data with loop.ema_decay 0: the teacher is the averaged weights; expected a decay such as 0.998"
        )
    faces = FaceDataset.open(config.data)
    if faces.schema != schema:
        raise UserError(
            f"teacher.data {config.data}: its mark-up is {faces.schema.name}, expected {schema.name} as "
            "the labelled faces have"
        )
    chosen = faces.select(config.split, config.subset) if config.split or config.subset else faces
    say_held_out(f"teacher.data {config.data} shows pictures of", chosen)
    return chosen


def unlabelled_in_batch(batch_size: int, share: float, world: int) -> int:
    """How many faces of a batch are unlabelled: whole ones for every process, and at least one labelled beside them."""
    found = round(batch_size * share / world) * world
    if not 0 < found < batch_size:
        raise UserError(
            f"a batch of {counted(batch_size, 'face')} with teacher.share {share} has {found} unlabelled ones: "
            "expected at least 1 of each kind"
        )
    return found


@torch.no_grad()
def labelled_by_teacher(
    teacher: nn.Module,
    batch: Batch,
    size: int,
    config: TeacherConfig,
    schema: LandmarkSchema,
    factor: float,
    leans: bool = False,
) -> Batch:
    """Margin crops with the teacher's landmarks for labels, and with its trust in them for weights.

    Args:
        teacher: the averaged detector, in evaluation mode.
        batch: (B, 3, S, S) crops with their margin, S >= size; their labels are not looked at.
        size: side of the detector's crop in px.
        config: how far to trust.
        schema: knows which landmark a mirrored one is; where it does not, there is one answer, trusted fully.
        factor: of all weights, such as the ramp's.
        leans: whether the labels it learnt from are known to lean to one side (evaluation/lean.py): by how much its
            answers do is measured on these faces, those of all processes, and is the labels' lean.
    """
    image, lean, axis = centre_crop(batch, size).image, batch.lean, batch.right
    found = teacher(image).landmarks.float()
    trust = torch.ones_like(found[..., 0])
    if schema.flip_pairs:
        mirrored = teacher(image.flip(3).contiguous(memory_format=torch.channels_last)).landmarks.float()
        mirrored = geometry.mirrored_back(mirrored, size, schema.flip_permutation)
        if leans:
            right = shared((found - mirrored)[..., 0].mean()) / 2  # px of the crop
            mirrored[..., 0] += 2 * right
            lean = (right / batch.crop_from_source[:, :, 0].norm(dim=1)).to(batch.weight)
            axis = right_of(batch.crop_from_source)
        away = (found - mirrored).norm(dim=-1) / size
        trust = torch.exp2(-away / config.half)
        trust = torch.where(trust < config.threshold, 0.0, trust)
        found = (found + mirrored) / 2
    margin = (batch.image.shape[-1] - size) / 2
    return batch._replace(
        landmarks=found + margin, visible=torch.ones_like(trust, dtype=torch.bool),
        weight=torch.full_like(batch.weight, factor),
        point_weight=trust, lean=lean, right=axis,
    )  # fmt: skip


def trust_terms(batch: Batch) -> dict[str, Tensor]:
    """For the log: the mean trust, and the share of landmarks that are learnt at all."""
    return {"teacher_trust": batch.point_weight.mean(), "teacher_used": (batch.point_weight > 0).float().mean()}
