"""How `spade` learns: reconstruction from another view of the same face, and losses on faces in a stranger's style.

The style encoder sees the face under another random warp, mirrored half of the time: where things are in that view
says nothing of where they are in the face, so the code cannot serve for layout. Faces in a neighbour's style have no
truth to compare with. A patch discriminator asks that they look real; a frozen landmark detector, that its landmarks
stay where they are on the photograph; and the style encoder, that the neighbour's code can be read from them. Knows
no files.
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from stylealign.batches.augment import NO_AUGMENTATION, AugmentConfig
from stylealign.batches.batch import Batch
from stylealign.training.optim import set_lr
from stylealign.translators.adversary import Adversary
from stylealign.translators.codes import code_distance, code_size
from stylealign.translators.learning import Learner, Learning, landmark_drift
from stylealign.translators.patches import PatchDiscriminator, hinge_discriminator, hinge_generator
from stylealign.translators.reconstruction import num_elements
from stylealign.translators.regions import region_masks

VIEW = dataclasses.replace(NO_AUGMENTATION, rotation=15, scale=0.12, shift=0.06, flip=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpadeLearningConfig:
    """Weights of the losses beside `reconstruction`, and the discriminator."""

    view: AugmentConfig = VIEW
    """What the style encoder's view is put through, drawn anew: motions only, for looks are what it shall read."""
    adversarial: float = 0.1
    """Looking real, of both the reconstruction and the swap; 0: no discriminator."""
    landmark: float = 0.05
    """A mean drift of the swap's landmarks by 1 % of the crop's side; 0: no detector."""
    style: float = 0.1
    """Difference between the code read from the swap and the donor's, in differences between donors."""
    code: float = 1e-3
    """Mean square of the codes."""
    forget: float = 0.2
    """Share of faces whose regional codes are left out, so that donors without landmarks can be used."""
    discriminator_width: int = 32
    """Channels after its first halving."""
    discriminator_halvings: int = 3
    """Patches of 38 px; 2: of 18 px."""
    discriminator_lr: float = 1.0
    """Its learning rate over the generator's."""

    def __post_init__(self) -> None:
        if min(self.adversarial, self.landmark, self.style, self.code, self.discriminator_lr) < 0:
            raise ValueError(
                "adversarial, landmark, style, code and discriminator_lr of spade_learning: expected 0 or more"
            )
        if not 0 <= self.forget <= 1:
            raise ValueError(f"spade_learning.forget is {self.forget}, expected 0 to 1")
        if self.discriminator_width < 1 or self.discriminator_halvings < 1:
            raise ValueError("discriminator_width and discriminator_halvings of spade_learning: expected at least 1")


def learn_spade(learning: Learning) -> Learner:
    """Reconstruction from another view, swaps that look real and keep their landmarks, small codes (see above)."""
    weights, engine = learning.own, learning.engine
    assert isinstance(weights, SpadeLearningConfig)
    reconstruction, size, schema, watch = learning.reconstruction, learning.size, learning.schema, learning.watch
    reconstruction.calibrate(learning.first.image.to(engine.device))
    discriminator = PatchDiscriminator(weights.discriminator_width, weights.discriminator_halvings)
    wrapped, optimizer = engine.setup(learning.model, learning.adam_of(learning.model))
    adversary = Adversary(learning, discriminator, weights.discriminator_lr)

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        lr = learning.lr_at(step)
        set_lr(optimizer, lr)
        face = learning.vary(batch, step)
        view = learning.vary(batch, step, 1, weights.view)
        masks = region_masks(face.landmarks, size, schema)

        # The translator.
        view_masks = region_masks(view.landmarks, size, schema)
        out = wrapped(learning.maps(face.landmarks), masks, view.image, view_masks, weights.forget)
        terms = reconstruction(out.image, face.image)
        total = reconstruction.total(terms, size) / num_elements(reconstruction.config, size)
        terms["code"] = code_size(out.style)
        total = total + weights.code * terms["code"]
        if weights.style:
            terms["style"] = code_distance(out.again, out.donor)
            total = total + weights.style * terms["style"]
        if weights.landmark and watch is not None:
            terms["landmark"] = landmark_drift(watch, out.swapped, face.image)
            total = total + weights.landmark * terms["landmark"]
        fakes = torch.cat([out.image, out.swapped])
        if weights.adversarial:
            terms["adversarial"] = hinge_generator(adversary.judged(fakes))
            total = total + weights.adversarial * terms["adversarial"]
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()

        if weights.adversarial:
            terms["discriminator"] = adversary.learn(face.image, fakes, lr, hinge_discriminator)
        return {"total": total, **terms}

    return Learner(
        modules={"model": wrapped, "discriminator": adversary.module, "reconstruction": reconstruction},
        optimizers={"model": optimizer, "discriminator": adversary.optimizer},
        update=update,
    )
