"""What is assessed: a translator, or a style arm, behind one call from two faces to a picture."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.styling.arm import NUM_DRAWS, Arm
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.swapping import encode_contents

POOLED = 4  # side to which feature maps are averaged before a probe reads them
CHUNK = 16

Translate = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(content images, content landmarks, style images, style landmarks) -> (B, 3, S, S), pair by pair."""
Code = Callable[[Tensor, Tensor], list[Tensor]]
"""(images, landmarks) -> code, one row a face."""


class Subject(NamedTuple):
    """A translator or an arm, and what of it can be looked into."""

    name: str
    hash: str
    schema: LandmarkSchema
    crop: CropConfig
    translate: Translate
    style: Code | None = None
    """its style code; None where it has none"""
    structure: Code | None = None
    """its structure code"""
    by_fit: bool = False
    """whether donors have to be chosen by their shape"""
    nats: Callable[[Tensor, Tensor], float] | None = None
    """KL(q||p) per picture, of a translator that is a VAE"""


def subject_of(translator: LoadedTranslator, name: str) -> Subject:
    """A loaded translator. Its KL is known where it has a prior.

    Of one that bends donors, these are chosen by shape, and there are no codes to look into: it takes the whole
    photograph along.
    """
    if translator.bends_donor:
        return Subject(name, translator.hash, translator.schema, translator.crop, translator.translate, by_fit=True)
    return Subject(
        name,
        translator.hash,
        translator.schema,
        translator.crop,
        translator.translate,
        style=translator.encode_style,
        structure=lambda images, landmarks: encode_contents(translator, landmarks, images),
        nats=translator.kl_nats if translator.has_prior else None,
    )


def subject_of_arm(
    arm: Arm, name: str, schema: LandmarkSchema, crop: CropConfig, seed: int = 0, strength: float = 1.0,
    by_fit: bool = False,
) -> Subject:  # fmt: skip
    """A style arm at a fixed strength. It has no codes. `by_fit`: donors are chosen for it by their shape.

    Its draws are seeded anew at every call, so that the same faces give the same pictures.
    """

    def styled(images: Tensor, landmarks: Tensor, style_images: Tensor, style_landmarks: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(len(images), NUM_DRAWS, generator=generator, dtype=torch.float64)
        content, donors = _batch(images, landmarks), _batch(style_images, style_landmarks)
        return arm(content, donors, torch.full((len(images),), strength), draws).image

    return Subject(name, f"arm {name}, strength {strength:g}", schema, crop, styled, by_fit=by_fit)


def _batch(images: Tensor, landmarks: Tensor) -> Batch:
    n = len(images)
    visible = torch.ones(landmarks.shape[:2], dtype=torch.bool)
    affines = torch.eye(2, 3, dtype=torch.float64).expand(n, 2, 3)
    return Batch(images, landmarks, visible, affines, torch.arange(n), torch.ones(n))


@torch.no_grad()
def swapped(subject: Subject, batch: Batch, contents: Tensor, donors: Tensor, others: Batch | None = None) -> Tensor:
    """Faces contents[k] of a batch in the style of donors[k] of the same batch, or of `others`.

    (n, 3, S, S) clamped to [-1, 1], on the CPU.
    """
    parts, others = [], batch if others is None else others
    for c, d in zip(contents.split(CHUNK), donors.split(CHUNK), strict=True):
        made = subject.translate(batch.image[c], batch.landmarks[c], others.image[d], others.landmarks[d])
        parts.append(made.float().clamp(-1, 1).cpu())
    return torch.cat(parts)


@torch.no_grad()
def codes(code: Code, batch: Batch, pooled: bool) -> Tensor:
    """The codes (N, D) of all faces; `pooled`: maps larger than POOLED x POOLED are averaged to that."""
    rows = []
    for index in torch.arange(len(batch.image)).split(CHUNK):
        parts = []
        for feature in code(batch.image[index], batch.landmarks[index]):
            f = feature.float().cpu()
            if pooled and f.ndim == 4 and max(f.shape[-2:]) > POOLED:
                f = torch.nn.functional.adaptive_avg_pool2d(f, POOLED)
            parts.append(f.flatten(1))
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows)
