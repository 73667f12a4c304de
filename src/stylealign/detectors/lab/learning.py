"""LAB's losses, and how it learns: boundary maps, coordinates, and an adversary that tells effective maps from others.

The network is network.py. LAB, CVPR 2018, section 3.3; docs/paper_map.md 4.2.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.batches.structure_maps import boundary_maps
from stylealign.batches.together import shared
from stylealign.detectors.lab.network import LAB
from stylealign.detectors.learning import Learner, Learning
from stylealign.detectors.losses import landmark_loss, mean_error
from stylealign.detectors.on_trunk import refuse_lone_faces
from stylealign.face.curves import curve_segments
from stylealign.face.schema import LandmarkSchema
from stylealign.training.optim import set_lr


class BoundaryDiscriminator(nn.Module):
    """Boundary maps (B, K, h, w) -> (B,) logit of whether landmarks can be found from them.

    Its layers are not stated in anything readable; chosen: four convolutions of stride 2 with leaky ReLUs, and the mean
    of a last one, without normalisation, so that a face's answer depends on no other face.
    """

    def __init__(self, num_maps: int, width: int):
        super().__init__()
        before = num_maps
        layers: list[nn.Module] = []
        for channels in (width, 2 * width, 4 * width, 4 * width):
            layers += [nn.Conv2d(before, channels, 3, 2, 1), nn.LeakyReLU(0.2)]
            before = channels
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return self.layers(maps).float().mean(dim=(1, 2, 3))


def curve_is_labelled(landmarks: Tensor, schema: LandmarkSchema) -> Tensor:
    """(B, P, 2) -> (B, K) bool: every landmark of the curve is labelled."""
    known = torch.isfinite(landmarks).all(dim=-1)
    return torch.stack([known[:, list(curve)].all(dim=1) for curve in schema.boundaries.values()], dim=1)


def curve_weights(points: Tensor, schema: LandmarkSchema) -> Tensor:
    """(B, P) weights of landmarks -> (B, K) of curves: a curve goes through all of its landmarks
    and weighs what the least does."""
    return torch.stack([points[:, list(curve)].amin(dim=1) for curve in schema.boundaries.values()], dim=1)


def boundary_loss(stages: tuple[Tensor, ...], target: Tensor, labelled: Tensor, weight: Tensor) -> Tensor:
    """Squared error summed over a map's cells and over stacks, averaged over labelled curves; a
    scalar, 0 where nothing is labelled.

    Args:
        stages: maps of every stack, each (B, K, h, w).
        target: (B, K, h, w).
        labelled: (B, K) bool; other curves contribute nothing.
        weight: (B,) of each face, or (B, K) of each curve; multiplying all of them by a factor changes nothing.
    """
    weights = (weight if weight.ndim == 2 else weight[:, None]).to(target.dtype) * labelled
    each = torch.stack([(maps.float() - target).square().sum(dim=(2, 3)) for maps in stages]).sum(dim=0)  # (B, K)
    return (each * weights).sum() / shared(weights.sum()).clamp_min(1e-8)


def share_near(predicted: Tensor, landmarks: Tensor, near: float, schema: LandmarkSchema) -> Tensor:
    """(B,) the share of predicted landmarks nearer than `near` px to the true curve they belong
    to; 1 where no curve is labelled.

    Landmarks that belong to no curve (pupils) are not counted, and one that belongs to several counts for each. That it
    is the landmark's own curve, and not whichever is nearest, is not stated in anything readable; chosen: a brow on an
    eye is no success. Measured on the CPU from point to curve, without a map. No gradient.

    Args:
        predicted: (B, P, 2) px.
        landmarks: (B, P, 2) px, NaN where unlabelled.
        near: px.
        schema: its boundaries.
    """
    curves = tuple(schema.boundaries.values())
    found, truth = (t.detach().float().cpu().numpy() for t in (predicted, landmarks))
    start, end, owner = curve_segments(truth, curves, longest=2 * near, tolerance=0.01 * near)
    near_count, count = np.zeros(len(found)), np.zeros(len(found))
    order = np.argsort(owner, kind="stable")
    start, end, owner = start[order], end[order], owner[order]
    for k, curve in enumerate(curves):
        mine = owner % len(curves) == k
        a, step, face = start[mine], (end - start)[mine], owner[mine] // len(curves)
        if not len(face):
            continue
        offset = found[face][:, list(curve)] - a[:, None]  # (N, n, 2)
        length = np.maximum((step**2).sum(axis=-1), 1e-12)[:, None]
        along = np.clip((offset * step[:, None]).sum(axis=-1) / length, 0, 1)
        squared = ((offset - along[..., None] * step[:, None]) ** 2).sum(axis=-1)  # (N, n)
        faces, first = np.unique(face, return_index=True)
        nearest = np.minimum.reduceat(squared, first, axis=0)  # (faces, n)
        near_count[faces] += (nearest < near**2).sum(axis=1)
        count[faces] += len(curve)
    share = np.where(count > 0, near_count / np.maximum(count, 1), 1.0)
    return torch.as_tensor(share, dtype=torch.float32, device=predicted.device)


def discriminator_loss(real: Tensor, drawn: Tensor, effective: Tensor, weight: Tensor) -> Tensor:
    """L_D = -E[log D(M)] - E[log(1 - |D(M^) - d_fake|)], D the sigmoid of a logit
    (LAB's equation of the discriminator).

    1 - |D - d| is D where d is 1 and 1 - D where d is 0, so both terms are logistic losses
    and no logarithm is taken of a 0.

    Args:
        real: (B,) logits of true maps M.
        drawn: (B,) logits of drawn maps M^.
        effective: (B,) d_fake, 1 where the drawn maps gave good landmarks, else 0.
        weight: (B,) of each face.
    """
    each = F.softplus(-real) + F.softplus(drawn) - effective * drawn
    return (weight * each).sum() / shared(weight.sum()).clamp_min(1e-8)


def adversarial_loss(drawn: Tensor, weight: Tensor) -> Tensor:
    """L_A = E[log(1 - D(M^))] from logits (B,): falls as the discriminator believes the drawn maps."""
    return -(weight * F.softplus(drawn)).sum() / shared(weight.sum()).clamp_min(1e-8)


def learn_lab(learning: Learning) -> Learner:
    """Estimator and regressor jointly, then the same with the adversary (LAB's authors, issue 5 of their repository).

    Estimator loss: boundary_loss + adversarial_weight * L_A; regressor loss: `landmark_loss`, whose gradient reaches
    the estimator too. The adversary starts to learn when it joins, at adversarial_from of the training, with the same
    optimizer and learning rate; neither is stated in anything readable; chosen.
    """
    assert isinstance(learning.model, LAB)
    refuse_lone_faces(learning, "lab")
    engine, schema, lab = learning.engine, learning.schemas[0], learning.model.config
    stride, near = lab.map_stride(learning.size), lab.near * learning.size / 64
    joins = lab.adversarial_from * learning.steps if lab.adversarial_weight else learning.steps
    adversary = BoundaryDiscriminator(len(schema.boundaries), lab.width).to(engine.device)
    model, optimizer = engine.setup(learning.model, learning.optimizer_of(learning.model))
    discriminator, judge = engine.setup(adversary, learning.optimizer_of(adversary))

    def update(batches: tuple[Batch, ...], step: int) -> dict[str, Tensor]:
        (batch,) = batches
        set_lr(optimizer, learning.lr_at(step))
        out = model(batch.image)
        labelled = curve_is_labelled(batch.landmarks, schema)
        side = out.boundaries.shape[-1]
        target = boundary_maps((batch.landmarks - (stride - 1) / 2) / stride, side, lab.sigma, schema)
        boundary = boundary_loss(out.stages, target, labelled, curve_weights(batch.weights(), schema))
        coordinates = landmark_loss(out.landmarks, batch.landmarks, batch.visible, batch.weights(), learning.loss)
        terms = {"coordinates": coordinates, "boundary": boundary}
        total = coordinates + lab.boundary_weight * boundary
        drawn = out.boundaries.float() * labelled[:, :, None, None]  # curves nobody drew are empty in the true maps
        if step >= joins:
            terms["adversarial"] = adversarial_loss(discriminator(drawn), batch.weight)
            total = total + lab.adversarial_weight * terms["adversarial"]
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()
        if step >= joins:
            set_lr(judge, learning.lr_at(step))
            effective = (share_near(out.landmarks, batch.landmarks, near, schema) >= lab.enough).float()
            real, fake = discriminator(torch.cat([target, drawn.detach()])).chunk(2)
            terms["discriminator"] = discriminator_loss(real, fake, effective, batch.weight)
            terms["effective"] = effective.mean()
            judge.zero_grad(set_to_none=True)
            engine.backward(terms["discriminator"])
            judge.step()
        return {"total": total, **terms, "error_px": mean_error(out.landmarks, batch.landmarks)}

    return Learner(
        modules={"model": model, "discriminator": discriminator},
        optimizers={"model": optimizer, "discriminator": judge},
        update=update,
    )
