"""How `vunet` learns: reconstruction from a sampled style, and a KL steered to its target."""

import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.training.loop import mean_over_processes
from stylealign.training.optim import set_lr
from stylealign.translators.learning import Learner, Learning
from stylealign.translators.losses import KLConfig, KLController, num_elements, translator_loss
from stylealign.translators.vunet import VUNet, initialise


def learn_vunet(learning: Learning) -> Learner:
    """Reconstruction from a sampled style, and the KL steered to its target (losses.py)."""
    engine, size, reconstruction, steps = learning.engine, learning.size, learning.reconstruction, learning.steps
    model, first = learning.model, learning.first
    assert isinstance(model, VUNet)
    assert isinstance(learning.own, KLConfig)
    # From one fixed batch, the same in every process.
    initialise(model, first.image, learning.maps(first.landmarks), torch.Generator().manual_seed(learning.seed))
    reconstruction.calibrate(first.image.to(engine.device))
    kl = KLController(learning.own).to(engine.device)
    wrapped, optimizer = engine.setup(model, learning.adam_of(model))

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        set_lr(optimizer, learning.lr_at(step))
        batch = learning.vary(batch, step)
        out = wrapped(batch.image, learning.maps(batch.landmarks))
        weight = kl.weight(step, steps)
        terms = translator_loss(reconstruction, out.image, batch.image, out.posterior, out.prior, weight)
        optimizer.zero_grad(set_to_none=True)
        engine.backward(terms["total"])
        optimizer.step()
        kl.update(mean_over_processes(engine, terms["kl"]))
        elements = num_elements(reconstruction.config, size)
        return {**terms, "kl_weight_per_nat": weight * (3 * size * size / elements)}

    return Learner(
        modules={"model": wrapped, "kl": kl, "reconstruction": reconstruction},
        optimizers={"model": optimizer},
        update=update,
    )
