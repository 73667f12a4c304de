"""Pictures of n structures in m styles: each is encoded once, then pairs are decoded. Knows no folders.

A translator is here whatever has the members of `Translator`, such as any `LoadedTranslator` (base.py).
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from stylealign.batches.batch import to_float, to_uint8
from stylealign.batches.crops import crop_sample, sample_affine
from stylealign.data.dataset import FaceDataset
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.crop import CropConfig
from stylealign.face.sample import FaceSample
from stylealign.face.schema import LandmarkSchema


class Translator(Protocol):
    """What `generate` and style arms need of an open translator; base.py says what its methods take and give."""

    @property
    def schema(self) -> LandmarkSchema: ...
    @property
    def crop(self) -> CropConfig: ...
    @property
    def card(self) -> dict[str, Any]: ...
    @property
    def hash(self) -> str: ...
    @property
    def needs_content(self) -> bool: ...
    @property
    def style_needs_landmarks(self) -> bool: ...
    @property
    def pairs_a_pass(self) -> int: ...

    def encode_style(self, image: Tensor, landmarks: Tensor | None = None) -> list[Tensor]: ...
    def encode_structure(self, landmarks: Tensor, image: Tensor | None = None) -> list[Tensor]: ...
    def decode(self, features: list[Tensor], style: list[Tensor]) -> Tensor: ...
    def sample_prior(self, features: list[Tensor], generator: torch.Generator) -> Tensor: ...


def take_rows(features: Iterable[Tensor], index: Tensor) -> list[Tensor]:
    """Features (or codes) of the faces at these positions."""
    return [f.index_select(0, index.to(f.device)) for f in features]


def decode_pairs(
    translator: Translator, features: list[Tensor], style: list[Tensor], rows: Tensor, columns: Tensor
) -> Iterator[Tensor]:
    """Structure rows[p] in style columns[p] for every pair p: pictures (b, 3, S, S), linear, some at a time."""
    style = [s.to(features[0].device) for s in style]
    count = translator.pairs_a_pass
    for r, c in zip(rows.split(count), columns.split(count), strict=True):
        yield translator.decode(take_rows(features, r), take_rows(style, c))


def encode_contents(translator: Translator, structures: Tensor, images: Tensor | None) -> list[Tensor]:
    """Content features of (n, P, 2) landmarks, and of photographs (n, 3, S, S) for a translator that needs them."""
    if not translator.needs_content:
        return translator.encode_structure(structures)
    if images is None:
        raise UserError("this translator changes the content's own photograph, and none was given beside the landmarks")
    return translator.encode_structure(structures, images)


def encode_faces(
    translator: Translator, faces: FaceDataset, positions: Iterable[int], structures: np.ndarray
) -> list[Tensor]:
    """Content features of faces of a data set whose landmarks in crop pixels are known (`structures_of`).

    Their pictures are read only for a translator that needs them.
    """
    images = None
    samples = [faces[int(i)] for i in positions]
    missing = np.stack([~sample.labelled_points for sample in samples])
    if missing.any():  # no curve goes through a landmark that is no label
        structures = np.where(missing[..., None], np.float32(np.nan), structures)
    if translator.needs_content:
        pixels, _ = crops_of(samples, translator.crop, translator.schema)
        images = to_float(torch.from_numpy(pixels))
    return encode_contents(translator, torch.from_numpy(structures), images)


def decode_grid(translator: Translator, features: list[Tensor], style: list[Tensor]) -> Tensor:
    """Pictures (n, m, 3, S, S), linear: [i, j] has the content of row i and the style of row j."""
    n, m = len(features[0]), len(style[0])
    rows, columns = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
    return torch.cat(list(decode_pairs(translator, features, style, rows, columns))).unflatten(0, (n, m))


def swap_matrix(
    translator: Translator,
    structures: Tensor,
    styles: Tensor,
    style_landmarks: Tensor | None = None,
    contents: Tensor | None = None,
) -> Tensor:
    """Every structure in every style: n + m encodings, n * m decodings.

    Args:
        structures: (n, P, 2) landmarks in crop pixels.
        styles: (m, 3, S, S) pictures in [-1, 1].
        style_landmarks: (m, P, 2), for translators whose style encoder sees them.
        contents: (n, 3, S, S) photographs of the structures, for translators that change them.

    Returns:
        (n, m, 3, S, S), linear: [i, j] has structure i and style j.
    """
    return decode_grid(
        translator,
        encode_contents(translator, structures, contents),
        translator.encode_style(styles, style_landmarks),
    )


def pictures(images: Tensor) -> np.ndarray:
    """(B, 3, S, S) -> (B, S, S, 3) uint8; refuses what is not a number."""
    if not bool(torch.isfinite(images).all()):
        raise UserError(
            "pictures were made that are not finite. Of a trained translator: its training diverged; train it again "
            "with a lower lr"
        )
    return to_uint8(images).cpu().numpy()


def structures_of(samples: list[FaceSample], crop: CropConfig) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, P, 2) float32 in crop pixels, as crop_sample gives them, and crop_from_source (n, 2, 3)."""
    affines = [sample_affine(s, crop) for s in samples]
    moved = [geometry.apply(a, s.landmarks) for a, s in zip(affines, samples, strict=True) if s.landmarks is not None]
    return np.stack(moved).astype(np.float32), np.stack(affines)


def crops_of(samples: list[FaceSample], crop: CropConfig, schema: LandmarkSchema) -> tuple[np.ndarray, Tensor]:
    """Pictures (n, S, S, 3) uint8 of faces, and landmarks (n, P, 2), NaN of a face without any in this mark-up."""
    found = [crop_sample(s, crop) for s in samples]
    landmarks = torch.full((len(found), schema.num_points, 2), torch.nan)
    for row, (_, points, _) in zip(landmarks, found, strict=True):
        if points is not None and len(points) == len(row):
            row[:] = torch.from_numpy(points)
    return np.stack([pixels for pixels, _, _ in found]), landmarks


def mixed(a: list[Tensor], b: list[Tensor], share: float) -> list[Tensor]:
    """Style codes between `a` (share 0) and `b` (share 1)."""
    return [torch.lerp(x, y, share) for x, y in zip(a, b, strict=True)]
