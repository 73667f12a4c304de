"""Trained translators as style arms: the face is cut as the translator saw faces, drawn in a donor's style, laid back.

Outside the translator's square the photograph stays; the seam is soft. What lies inside is the translator's picture
of the landmarks, so this arm is as true to them as the translator is (its judge says how far). Of a translator that
changes the photograph it is the photograph itself in other light, at the translator's resolution. Knows no training.
"""

from pathlib import Path

import torch
from torch import Tensor

from stylealign.batches.augment import invert, transform, warp
from stylealign.batches.batch import Batch
from stylealign.batches.pixels import MIN_POINTS, shown_of
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.progress import say
from stylealign.styling.arm import Arm
from stylealign.training.weights import read_card
from stylealign.translators import TRANSLATORS
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.judge import too_far, verdict
from stylealign.translators.loaded import named_translator, open_translator
from stylealign.translators.swapping import Translator, encode_contents
from stylealign.translators.warp.field import bend
from stylealign.translators.warp.fit import ARM_SPACING, WarpConfig, faults
from stylealign.translators.warp.openings import openings_of

SEAM = 1 / 16  # of the translator's square: how wide the photograph and the drawing fade into each other


def translator_from_crop(batch: Batch, crop: CropConfig, translator: CropConfig) -> Tensor:
    """The affine of each face from px of its upright crop to px of the translator's square: (B, 2, 3) float64.

    Both squares stand on the middle of the face's box. Where the translator's box is that of the landmarks, it is
    measured on those that are known, as geometry.crop_affine does (an upright crop only scales a box). For faces
    without any and for boxes that were given: the crop was cut round the middle of the same box, and `crop.size /
    crop.scale` px of it are the box's longer side.

    Args:
        batch: faces cut by `crop`, with whatever margin.
        crop: how they were cut.
        translator: how the translator's faces are cut.
    """
    num, side = len(batch.image), batch.image.shape[-1]
    middle = torch.full((num, 2), (side - 1) / 2, dtype=torch.float64)
    longer = torch.full((num,), crop.size / crop.scale, dtype=torch.float64)
    if translator.box == "landmarks":
        points = batch.landmarks.cpu().double()
        there = torch.isfinite(points)
        low = torch.where(there, points, torch.inf).amin(dim=1)
        high = torch.where(there, points, -torch.inf).amax(dim=1)
        known = (high - low).amax(dim=1) > 0  # of a face without landmarks it is minus infinity
        middle = torch.where(known[:, None], (low + high) / 2, middle)
        longer = torch.where(known, (high - low).amax(dim=1), longer)
    scale = translator.size / (longer * translator.scale)
    eye = torch.eye(2, dtype=torch.float64) * scale[:, None, None]
    offset = (translator.size - 1) / 2 - scale[:, None] * middle
    return torch.cat([eye, offset[:, :, None]], dim=2).to(batch.image.device)


def _window(size: int, like: Tensor) -> Tensor:
    """(1, 1, size, size): 1 inside, falling to 0 at the border over SEAM of the side."""
    pixel = torch.arange(size, dtype=like.dtype, device=like.device)
    inside = torch.minimum(pixel, size - 1 - pixel) / max(1.0, SEAM * size)
    ramp = inside.clamp(0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return (ramp[:, None] * ramp)[None, None]


def translator_arm(translator: Translator, crop: CropConfig) -> Arm:
    """An open translator as an arm, for crops cut by `crop` with whatever margin. It leaves faces alone of which fewer
    than MIN_POINTS landmarks are known, and one that bends donors those whose donor cannot be bent onto them."""
    size, openings, limits = translator.crop.size, openings_of(translator.schema), WarpConfig()
    bends = isinstance(translator, LoadedTranslator) and translator.bends_donor

    def arm(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        image = content.image
        labelled = torch.isfinite(content.landmarks).all(dim=2).sum(dim=1) >= MIN_POINTS
        if bends:
            found = bend(content.landmarks, donors.landmarks)
            labelled &= ~faults(
                found, content.landmarks, donors.landmarks, openings, limits.stretch, ARM_SPACING
            ).refused(limits)
        if not bool(labelled.any()):
            return content
        frames, donor_frames = (translator_from_crop(b, crop, translator.crop) for b in (content, donors))
        style = translator.encode_style(
            warp(donors.image, donor_frames, size).clamp(-1, 1), transform(donor_frames, donors.landmarks)
        )
        picture = warp(image, frames, size).clamp(-1, 1) if translator.needs_content else None
        features = encode_contents(translator, transform(frames, content.landmarks), picture)
        made = translator.decode(features, style).to(image).clamp(-1, 1)
        layers = torch.cat([made, _window(size, image).expand(len(made), 1, size, size)], dim=1)
        back = warp(layers, invert(frames), image.shape[-1])
        share = torch.where(labelled, strength, torch.zeros_like(strength)).view(-1, 1, 1, 1) * back[:, 3:]
        answer = content._replace(image=torch.where(share > 0, image + share * (back[:, :3] - image), image))
        return shown_of(donors, answer, labelled & (strength >= 0.5)) if bends else answer

    return arm


def run_bends_donors(run: Path) -> bool:
    """Whether a finished run (or an untrained translator's name) is of a translator for which donors have to be chosen
    by their shape."""
    entry = TRANSLATORS.get(named_translator(run) or read_card(run, "translator")["model"])
    return entry is not None and entry.loaded.bends_donor


def open_translator_arm(run: Path, crop: CropConfig, schema: LandmarkSchema, device: torch.device) -> Arm:
    """The translator of a finished run as an arm; what its judge found wrong is said. The name of one that needs no
    training may stand in the run's place: it gets the faces as they are cut.

    Raises:
        UserError: a translator of another mark-up, or of boxes that cannot be found again in these crops.
    """
    translator = open_translator(run, schema, crop, device)
    if translator.schema != schema:
        raise UserError(
            f"{run}: a translator of {translator.schema.name} faces, but the training faces are annotated with "
            f"{schema.name}: expected the same"
        )
    if translator.crop.box == "given" and crop.box == "landmarks":
        raise UserError(
            f"{run}: the translator saw faces cut by the given box, which cannot be told from a crop by the landmarks: "
            "train the detector with --crop.box given"
        )
    judge = translator.card.get("judge")
    if not isinstance(judge, dict):
        say(f"{run}: this translator was never judged; nobody knows whether its faces keep their landmarks")
    elif too_far(judge):
        say(f"WARNING: {run}: its faces do not have the landmarks they are learnt with: {verdict(judge)}")
    return translator_arm(translator, crop)
