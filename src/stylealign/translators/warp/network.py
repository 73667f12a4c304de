"""The translator `warp`: the donor's photograph in the content's structure. It has nothing to learn, and no codes.

What is drawn is the donor: its hair, hat, light, background and skin. Its style "code" is its photograph with its
landmarks, and the content gives landmarks, and pixels where the donor has none to show (openings.py).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stylealign.batches.pixels import take
from stylealign.batches.structure_maps import StructureConfig
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.warp.field import Bend, bend, pixel_places
from stylealign.translators.warp.openings import lacking, lay_in, openings_of, outlined

VERSION = 2  # raised when the same faces give other pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class NoShape:
    """A translator without a network has no shape to set."""


class Warp(nn.Module):
    """A network without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.config = NoShape()


def build_warp(config: Any, size: int, structure: StructureConfig, schema: LandmarkSchema) -> Warp:
    """The same for every size and mark-up."""
    return Warp()


def warped(
    image: Tensor | None, landmarks: Tensor, donor: Tensor, donor_landmarks: Tensor, schema: LandmarkSchema,
    size: int | None = None, found: Bend | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Donors bent onto contents, whatever becomes of them (fit.py says which pairs are not to be).

    Args:
        image: (B, 3, S, S) the contents, for what the donors lack; None: nothing is laid in.
        landmarks: (B, P, 2) theirs, px.
        donor: (B, 3, T, T) the donors; T may be another side than S.
        donor_landmarks: (B, P, 2) theirs, px.
        schema: the mark-up, which says where mouth and eyes are.
        size: S, where `image` is None; else not looked at.
        found: the maps, where they are there already.

    Returns:
        (B, 3, S, S), and (B,) bool: whether enough landmarks are known (else the content, or the donor as it lies).
    """
    side = size if image is None else image.shape[-1]
    assert side is not None
    found = bend(landmarks, donor_landmarks) if found is None else found
    # Cubic, since what is interpolated once bilinearly is a fifth less sharp.
    made = take(donor, pixel_places(found, side).to(donor), mode="bicubic").clamp(-1, 1)
    if image is None:
        return made, found.ok
    sizes, openings = (found.content[:, 2], found.donor[:, 2]), openings_of(schema)
    lacks = {opening: lacking(opening, landmarks, donor_landmarks, sizes) & found.ok for opening in openings}
    for opening in openings:
        # Both eyes or neither, lest they differ in colour.
        laid = torch.stack([lack for other, lack in lacks.items() if other.name == opening.name]).any(dim=0)
        rows = torch.nonzero(laid & outlined(opening.name, openings, landmarks)).view(-1)
        if len(rows):
            made[rows] = lay_in(made[rows], image[rows], landmarks[rows], opening.outline, sizes[0][rows])
    return torch.where(found.ok[:, None, None, None], made, image), found.ok


class LoadedWarp(LoadedTranslator):
    """`warp`, opened for a mark-up. The donors' crops may be of another side than the contents'."""

    bends_donor = True

    @property
    def needs_content(self) -> bool:  # type: ignore[override]  # which others know without a mark-up
        """Whether the mark-up says where mouth and eyes are, in which the content's own pixels may have to be laid."""
        return bool(openings_of(self.schema))

    @property
    def style_needs_landmarks(self) -> bool:
        return True

    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]:
        if landmarks is None:
            raise UserError(
                f"translator '{self.card.get('model')}' bends the donor's photograph by its landmarks: encode_style "
                "needs them beside the image"
            )
        return [image.to(self.device), landmarks.to(self.device)]

    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]:
        if not self.needs_content:
            return [landmarks.to(self.device)]
        if image is None:
            raise UserError(
                "translator 'warp' lays in of the content's own photograph what a donor lacks: encode_structure needs "
                "the image beside the landmarks"
            )
        return [landmarks.to(self.device), image.to(self.device)]

    @torch.no_grad()
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor:
        image = features[1] if self.needs_content else None
        donor, donor_landmarks = style
        made, _ = warped(image, features[0], donor, donor_landmarks, self.schema, size=self.crop.size)
        return made.contiguous()

    @torch.no_grad()
    def decode_on(self, features: list[Tensor], style: list[Tensor], image: Tensor) -> Tensor | None:
        size, own = image.shape[-1], self.crop.size
        landmarks = (features[0] + 0.5) * (size / own) - 0.5
        content = image.to(self.device) if self.needs_content else None
        donor, donor_landmarks = style
        return warped(content, landmarks, donor, donor_landmarks, self.schema, size=size)[0].contiguous()
