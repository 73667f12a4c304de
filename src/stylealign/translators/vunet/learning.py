"""How `vunet` learns: reconstruction from a sampled style, and a KL steered to its target."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.training.loop import mean_over_processes
from stylealign.training.optim import set_lr
from stylealign.translators.kl import KLConfig, KLController, kl_nats
from stylealign.translators.learning import Learner, Learning
from stylealign.translators.reconstruction import Reconstruction, num_elements
from stylealign.translators.vunet.network import VUNet, initialise


def translator_loss(
    reconstruction: Reconstruction,
    image: Tensor,
    target: Tensor,
    posterior: Sequence[Tensor],
    prior: Sequence[Tensor],
    weight: Tensor,
) -> dict[str, Tensor]:
    """The named terms of a training step; "total" is what is optimised.

    Args:
        reconstruction: the loss between pictures.
        image: (B, 3, S, S) what was made.
        target: (B, 3, S, S) the truth.
        posterior, prior: means of both distributions, a latent each.
        weight: of one nat.

    Returns:
        The reconstruction's terms (means), "reconstruction" (scaled), "kl" (nats) and "total".
    """
    terms = reconstruction(image, target)
    summed = reconstruction.total(terms, target.shape[-1])
    nats = kl_nats(posterior, prior)
    return {**terms, "reconstruction": summed, "kl": nats, "total": summed + weight * nats}


def learn_vunet(learning: Learning) -> Learner:
    """Reconstruction from a sampled style, and the KL steered to its target (kl.py)."""
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
