"""How `bilateral` learns to put a photograph into another's light without ever seeing the same face in two lights.

Each face is learnt from twice. As a pair: its light and colours are changed at random for the content, another view
of the face as it was is the donor, and the face itself is the truth. Now and then donor and truth are blurred and
given noise together, by amounts that the network has to find. As a swap: the face as it is, in its neighbour's style.
There is no truth for that, but landmarks say which place of one face is which of the other: the smoothed colour at
each landmark, and the mean and spread of colours in each region of the face, shall be the donor's. A frozen
detector's landmarks must stay where they are. Knows no files.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment import NO_AUGMENTATION, AugmentConfig, apply
from stylealign.batches.augment.operation import NUM_DRAWS
from stylealign.batches.batch import Batch
from stylealign.batches.together import in_all, own, rolled, shared
from stylealign.face.schema import LandmarkSchema
from stylealign.training.optim import set_lr
from stylealign.translators.bilateral.network import LEAST_BLUR, Bilateral, gaussian_blur
from stylealign.translators.codes import code_size
from stylealign.translators.learning import Learner, Learning, landmark_drift
from stylealign.translators.reconstruction import num_elements
from stylealign.translators.regions import at_size, region_masks

VIEW = dataclasses.replace(NO_AUGMENTATION, rotation=10, scale=0.1, shift=0.05, flip=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class BilateralLearningConfig:
    """Weights of the terms beside the pairs' reconstruction, and how pairs are made."""

    view: AugmentConfig = VIEW
    """What the donor's view is put through. It is mirrored where its face is: light comes from a side."""
    point: float = 2.0
    """Smoothed colours at the swap's landmarks, against those at the donor's."""
    region: float = 1.0
    """Mean and spread of colours in each region of the swap, against the donor's."""
    landmark: float = 0.05
    """A mean drift of the swap's landmarks by 1 % of the crop's side; 0: no detector."""
    smooth: float = 0.3
    """Mean absolute difference of neighbouring cells of the grid."""
    code: float = 1e-3
    """Mean square of the codes."""
    quality: float = 0.5
    """Pairs: errors of blur and of noise, each in shares of the largest the network knows."""
    forget: float = 0.2
    """Share of donors whose regional codes are left out, so that donors without landmarks can be used."""
    light: float = 0.5
    """Pairs: standard deviation of the logarithm of a random light over the face."""
    cast: float = 0.15
    """Pairs: standard deviation of a random offset of each colour, on images in [-1, 1]."""
    quality_prob: float = 0.5
    """Pairs: share whose donor and truth are blurred together, and share of those that are noisy together."""

    def __post_init__(self) -> None:
        for name in ("point", "region", "landmark", "smooth", "code", "quality", "light", "cast"):
            if getattr(self, name) < 0:
                raise ValueError(f"bilateral_learning.{name} is {getattr(self, name)}, expected 0 or more")
        for name in ("forget", "quality_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"bilateral_learning.{name} is {getattr(self, name)}, expected 0 to 1")


def relit(image: Tensor, light: float, cast: float) -> Tensor:
    """Faces (B, 3, S, S) under a random soft light, gamma and colour cast, some hardly changed.

    Drawn from torch's global generator.
    """
    num, device = in_all(len(image)), image.device
    amount = own(torch.rand(num, 1, 1, 1)).to(device)
    grey, colour = (own(torch.randn(num, channels, 3, 3)).to(device) for channels in (1, 3))
    field_ = light * grey + 0.4 * light * colour
    field_ = F.interpolate(field_, size=image.shape[-1], mode="bicubic", align_corners=True)
    gamma = (0.3 * amount * own(torch.randn(num, 1, 1, 1)).to(device)).exp()
    offset = cast * amount * own(torch.randn(num, 3, 1, 1)).to(device)
    bright = ((image + 1) / 2).clamp(1e-4, 1) ** gamma * (amount * field_).exp()
    return (2 * bright - 1 + offset).clamp(-1, 1)


def mirrored_as(view: Batch, face: Batch, schema: LandmarkSchema) -> Batch:
    """The views of faces (B, 3, S, S), each mirrored, landmarks renumbered, where of it and its face one alone is.

    A picture and its mirror image are lit from different sides.
    """
    apart = view.crop_from_source[:, :, :2].det() * face.crop_from_source[:, :, :2].det() < 0
    if not bool(apart.any()):
        return view
    ones = torch.ones(len(apart))
    turned = apply("flip", view, ones, ones[:, None].expand(-1, NUM_DRAWS).double(), schema)

    def chosen(mirrored: Tensor, plain: Tensor) -> Tensor:
        if not plain.numel():  # a field that is empty stays so
            return plain
        return torch.where(apart.to(plain.device).view(-1, *[1] * (plain.ndim - 1)), mirrored, plain)

    return Batch(*(chosen(mirrored, plain) for mirrored, plain in zip(turned, view, strict=True)))


def smoothed_points(image: Tensor, landmarks: Tensor) -> Tensor:
    """Colours (B, P, 3) at landmarks (B, P, 2) px of a picture smoothed by a twenty-fourth of its side.

    A landmark that is not finite gives some colour, which `point_loss` passes over.
    """
    size = image.shape[-1]
    sigma = torch.full((len(image),), size / 24, device=image.device, dtype=image.dtype)
    smooth = gaussian_blur(image, sigma, max(1, round(size / 12)))
    places = ((2 * landmarks + 1) / size - 1).nan_to_num(0.0)
    found = F.grid_sample(smooth, places[:, :, None], mode="bilinear", padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def point_loss(found: Tensor, wanted: Tensor, labelled: Tensor) -> Tensor:
    """Mean absolute difference of colours (B, P, 3) at the landmarks that are labelled (B, P), in both faces."""
    if in_all(1) == 1 and bool(labelled.all()):
        return F.l1_loss(found, wanted)
    return ((found - wanted).abs() * labelled[..., None]).sum() / (3 * shared(labelled.sum())).clamp_min(1)


def region_statistics(image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, R, 3) of colours in each region; of a face without masks 0 and the least spread,
    which `region_loss` passes over."""
    weights, flat = masks.flatten(2), image.flatten(2).transpose(1, 2)
    weights = weights / weights.sum(dim=2, keepdim=True).clamp_min(1e-4)
    mean = weights @ flat
    spread = (weights @ flat.square() - mean.square()).clamp_min(1e-4).sqrt()
    return mean, spread


def region_loss(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], known: Tensor) -> Tensor:
    """Mean absolute differences of regions' statistics (B, R, 3), summed: of the faces (B,) whose regions are known,
    as are their donors'."""
    pairs = list(zip(found, wanted, strict=True))
    if in_all(1) == 1 and bool(known.all()):
        return torch.stack([F.l1_loss(f, w) for f, w in pairs]).sum()
    each = torch.stack([(f - w).abs().mean(dim=(1, 2)) for f, w in pairs]).sum(dim=0)
    return (each * known).sum() / shared(known.float().sum()).clamp_min(1e-8)


def grid_roughness(grid: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring cells of (B, 12, D, h, w), along x, y and lightness."""
    steps = [(grid.narrow(d, 1, n - 1) - grid.narrow(d, 0, n - 1)) for d in (2, 3, 4) if (n := grid.shape[d]) > 1]
    return torch.stack([step.abs().mean() for step in steps]).sum() if steps else grid.new_zeros(())


def learn_bilateral(learning: Learning) -> Learner:
    """Pairs of one face in two lights, swaps in a neighbour's style with its colours place by place (see above)."""
    weights, engine = learning.own, learning.engine
    assert isinstance(weights, BilateralLearningConfig)
    reconstruction, size, schema, watch = learning.reconstruction, learning.size, learning.schema, learning.watch
    model = learning.model.to(engine.device)
    assert isinstance(model, Bilateral)
    network, radius = model.config, model.blur_radius
    reconstruction.calibrate(learning.first.image.to(engine.device))
    wrapped, optimizer = engine.setup(model, learning.adam_of(model))

    def degraded(image: Tensor, sigma: Tensor, strength: Tensor, field_: Tensor) -> Tensor:
        return (gaussian_blur(image, sigma, radius) + strength[:, None, None, None] * field_).clamp(-1, 1)

    def update(batch: Batch, step: int) -> dict[str, Tensor]:
        set_lr(optimizer, learning.lr_at(step))
        face = learning.vary(batch, step)
        view = mirrored_as(learning.vary(batch, step, 1, weights.view), face, schema)
        num, device = len(face.image), face.image.device
        masks = region_masks(face.landmarks, size, schema)
        view_masks = region_masks(view.landmarks, size, schema)

        # Pairs: content relit; donor and truth degraded together, the truth by the very noise the network is given.
        # Blurred and noisy apart from each other, or the one would be read from the other.
        whole = in_all(num)
        soft, noisy = (own(torch.rand(whole)).to(device) < weights.quality_prob for _ in range(2))
        least, most = math.log(0.3), math.log(max(0.3, network.max_blur * size))
        sigma = torch.where(soft, (least + (most - least) * own(torch.rand(whole)).to(device)).exp(), 1e-2)
        strength = noisy * network.max_noise * own(torch.rand(whole)).to(device).square()
        fields = own(torch.randn(3 * whole, 1, size, size)).to(device)
        truth = degraded(face.image, sigma, strength, fields[:num])
        donor_view = degraded(view.image, sigma, strength, fields[2 * num :])

        # Swaps: faces as they are, in the style of their neighbour's view. Both in one pass.
        image = torch.cat([relit(face.image, weights.light, weights.cast), face.image])
        coarse = at_size(masks, network.grid)
        forget = own(torch.rand(whole)).to(device) < weights.forget
        twice = torch.cat([coarse, coarse])
        made, style, look = wrapped(image, twice, fields[: 2 * num], donor_view, view_masks, forget)
        paired, swapped = made[:num], made[num:]

        terms = reconstruction(paired, truth)
        total = reconstruction.total(terms, size) / num_elements(reconstruction.config, size)
        points = smoothed_points(swapped, face.landmarks)
        labelled = torch.isfinite(face.landmarks).all(dim=2)
        wanted_points = rolled(smoothed_points(face.image, face.landmarks), 1)
        terms["point"] = point_loss(points, wanted_points, labelled & rolled(labelled, 1))
        found, wanted = region_statistics(swapped, masks), region_statistics(face.image, masks)
        known = masks.sum(dim=(1, 2, 3)) > 0
        terms["region"] = region_loss(found, (rolled(wanted[0], 1), rolled(wanted[1], 1)), known & rolled(known, 1))
        terms["smooth"] = grid_roughness(look.grid)
        terms["code"] = code_size(style[:2])
        wrong_blur = F.l1_loss(look.blur[:num], sigma.clamp_min(LEAST_BLUR)) / (network.max_blur * size + LEAST_BLUR)
        wrong_noise = F.l1_loss(look.noise[:num], strength) / (network.max_noise + 1e-6)
        terms["quality"] = wrong_blur + wrong_noise
        if weights.landmark and watch is not None:
            terms["landmark"] = landmark_drift(watch, swapped, face.image)
        for name in ("point", "region", "smooth", "code", "quality", "landmark"):
            if name in terms:
                total = total + getattr(weights, name) * terms[name]
        optimizer.zero_grad(set_to_none=True)
        engine.backward(total)
        optimizer.step()
        return {"total": total, **terms}

    return Learner(
        modules={"model": wrapped, "reconstruction": reconstruction}, optimizers={"model": optimizer}, update=update
    )
