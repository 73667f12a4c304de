"""How `repaint` learns to paint what a bent donor lacks, without ever seeing the same face in two structures.

A face is bent to its neighbour's structure, where the neighbour's open mouth and eyes are laid in, and back: the
damage is that of a real pair, and the face as it was is the truth. What the mask trusts is the truth's own. The
neighbour itself, bent onto the face by the same map and with the same mask, is the real pair; there is no truth for
that, but a patch discriminator asks that it look real, and a frozen detector that its landmarks be where they are on
the face's photograph. A loss is counted where the mask is, since all else stays a photograph. Neighbours that cannot
be bent are passed over. Knows no files.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.batch import Batch, take_faces
from stylealign.batches.together import rolled, shared
from stylealign.face.schema import LandmarkSchema
from stylealign.training.optim import set_lr
from stylealign.translators.adversary import Adversary
from stylealign.translators.learning import Learner, Learning, landmark_drift
from stylealign.translators.patches import PatchDiscriminator
from stylealign.translators.reconstruction import num_elements
from stylealign.translators.repaint.network import bent_with_mask
from stylealign.translators.warp.field import bend
from stylealign.translators.warp.fit import ARM_SPACING, WarpConfig, faults
from stylealign.translators.warp.network import warped
from stylealign.translators.warp.openings import openings_of

# More is bent for learning than for use, where donors are chosen by fit: what is painted should be seen often.
LIMITS = WarpConfig(stretched=0.15, apart=0.05)
_LEAST_SHARE = 0.02  # of a batch's pixels, by which losses are divided at least


@dataclass(frozen=True, kw_only=True, slots=True)
class RepaintLearningConfig:
    """Weights of the losses beside `reconstruction`, and the discriminator."""

    adversarial: float = 0.1
    """Looking real where it was painted, of faces bent there and back and of bent neighbours; 0: no discriminator."""
    landmark: float = 0.05
    """A mean drift of the bent neighbour's landmarks by 1 % of the crop's side; 0: no detector."""
    discriminator_width: int = 24
    """Channels after its first halving."""
    discriminator_halvings: int = 3
    """Patches of 38 px; 2: of 18 px."""
    discriminator_lr: float = 1.0
    """Its learning rate over the network's."""

    def __post_init__(self) -> None:
        if min(self.adversarial, self.landmark, self.discriminator_lr) < 0:
            raise ValueError("adversarial, landmark and discriminator_lr of repaint_learning: expected 0 or more")
        if self.discriminator_width < 1 or self.discriminator_halvings < 1:
            raise ValueError("discriminator_width and discriminator_halvings of repaint_learning: expected at least 1")


class Damaged(NamedTuple):
    """What is learnt from: faces bent there and back, and their neighbours bent onto them."""

    rows: Tensor
    """(n,) positions of the faces whose neighbour can be bent onto them"""
    truth: Tensor
    """(n, 3, S, S) the faces as they are"""
    back: Tensor
    """(n, 3, S, S) the faces bent to the neighbour's structure and back where the mask is, as they are elsewhere"""
    donor: Tensor
    """(n, 3, S, S) the neighbours, bent onto the faces"""
    mask: Tensor
    """(n, 1, S, S) what is not to be trusted of both"""


def bend_and_back(face: Batch, schema: LandmarkSchema) -> Damaged:
    """Real damage with known truth: face i by the structure of face i - 1, and face i - 1 bent onto it."""
    before = Batch(*(rolled(t, 1) if len(t) else t for t in face))
    away = bend(face.landmarks, before.landmarks)
    limits, openings = LIMITS, openings_of(schema)
    bad = faults(away, face.landmarks, before.landmarks, openings, limits.stretch, ARM_SPACING).refused(limits)
    rows = torch.nonzero(~bad).view(-1)
    own, near = take_faces(face, rows.cpu()), take_faces(before, rows.cpu())
    size = face.image.shape[-1]
    if not len(rows):
        return Damaged(rows, own.image, own.image, own.image, own.image[:, :1])
    there, _ = warped(near.image, near.landmarks, own.image, own.landmarks, schema)
    # Both lie on the neighbour's landmarks, so one map bends them.
    bent = bent_with_mask(own.landmarks, torch.cat([there, near.image], dim=1), near.landmarks, schema, size)
    back, donor = bent.image.split(3, dim=1)
    return Damaged(rows, own.image, own.image + bent.mask * (back - own.image), donor, bent.mask)


def weighed(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of a patch discriminator's values (B, 1, h, w), each patch by how much of it was painted."""
    weight = F.adaptive_avg_pool2d(mask, (values.shape[-2], values.shape[-1]))
    return (weight * values.float()).sum() / shared(weight.sum()).clamp_min(1e-3)


def learn_repaint(learning: Learning) -> Learner:
    """Faces bent there and back against themselves, neighbours against a discriminator and a detector (see above)."""
    weights, engine = learning.own, learning.engine
    assert isinstance(weights, RepaintLearningConfig)
    reconstruction, size, schema, watch = learning.reconstruction, learning.size, learning.schema, learning.watch
    reconstruction.calibrate(learning.first.image.to(engine.device))
    discriminator = PatchDiscriminator(weights.discriminator_width, weights.discriminator_halvings)
    wrapped, optimizer = engine.setup(learning.model, learning.adam_of(learning.model))
    adversary = Adversary(learning, discriminator, weights.discriminator_lr)

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        lr = learning.lr_at(step)
        set_lr(optimizer, lr)
        face = learning.vary(batch, step)
        with torch.no_grad():
            pair = bend_and_back(face, schema)
        num = len(pair.rows)
        if not num:  # every process takes part in every step
            pair = Damaged(pair.rows, *(t.new_zeros(1, *t.shape[1:]) for t in pair[1:]))
        # Of a mean over the pairs of all processes, this one's part: 1 where there is one process.
        part = num / float(shared(torch.tensor(float(num), device=face.image.device)).clamp_min(1e-8))
        maps = learning.maps(face.landmarks[pair.rows] if num else face.landmarks[:1])
        mask = torch.cat([pair.mask, pair.mask])
        made = wrapped(torch.cat([pair.back, pair.donor]), mask, torch.cat([maps, maps]))
        restored, swapped = made.chunk(2)

        terms = {name: part * term for name, term in reconstruction(restored, pair.truth).items()}
        painted = part * pair.mask.mean()
        share = shared(painted).clamp_min(_LEAST_SHARE)
        total = reconstruction.total(terms, size) / num_elements(reconstruction.config, size) / share
        terms["painted"] = painted
        if weights.landmark and watch is not None:
            drift = landmark_drift(watch, swapped, face.image[pair.rows] if num else pair.truth)
            terms["landmark"] = part * drift
            total = total + weights.landmark * terms["landmark"]
        if weights.adversarial:
            terms["adversarial"] = -weighed(adversary.judged(made), mask)
            total = total + weights.adversarial * terms["adversarial"]
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()

        def apart(of_truth: Tensor, of_made: Tensor) -> Tensor:
            told, made_up = F.relu(1 - of_truth.float()), F.relu(1 + of_made.float())
            return weighed(told, pair.mask) + weighed(made_up, mask)

        if weights.adversarial:
            terms["discriminator"] = adversary.learn(pair.truth, made, lr, apart)
        return {"total": total, **terms}

    modules: dict[str, nn.Module] = {
        "model": wrapped, "discriminator": adversary.module, "reconstruction": reconstruction,
    }  # fmt: skip
    return Learner(
        modules=modules, optimizers={"model": optimizer, "discriminator": adversary.optimizer}, update=update
    )
