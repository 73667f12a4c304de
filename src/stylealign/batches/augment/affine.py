"""Affines of a batch of crops: composed, inverted, applied to landmarks and to pixels; geometry.py is for one face.

(B, 2, 3), named `<to>_from_<from>`; pixel centres are integers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.batch import Batch


def compose(c_from_b: Tensor, b_from_a: Tensor) -> Tensor:
    """(B, 2, 3) c_from_a: first `b_from_a`, then `c_from_b` (the batched twin of geometry.compose)."""
    linear = c_from_b[:, :, :2] @ b_from_a
    return torch.cat([linear[:, :, :2], linear[:, :, 2:] + c_from_b[:, :, 2:]], dim=2)


def transform(to_from: Tensor, landmarks: Tensor) -> Tensor:
    """Map (B, P, 2) landmarks through (B, 2, 3) affines, computed in the affines' precision."""
    moved = landmarks.to(to_from.dtype) @ to_from[:, :, :2].transpose(1, 2) + to_from[:, None, :, 2]
    return moved.to(landmarks.dtype)


def invert(to_from: Tensor) -> Tensor:
    """The inverse of (B, 2, 3) affines: what takes their results back."""
    inverse = torch.linalg.inv(to_from[:, :, :2])
    return torch.cat([inverse, -inverse @ to_from[:, :, 2:]], dim=2)


def warp(image: Tensor, out_from_in: Tensor, size: int) -> Tensor:
    """Resample (B, C, H, W) through (B, 2, 3) pixel affines into (B, C, size, size):
    bilinear, border pixels replicated.

    Pixel centres are integers, so a pixel x of n lies at (2 x + 1) / n - 1 in the units of
    `grid_sample` with align_corners=False.
    """
    height, width = image.shape[-2:]
    in_from_out = invert(out_from_in)
    # in_norm_from_out_norm, by undoing and redoing that formula on either side.
    half_out = torch.tensor([[[size / 2, 0, (size - 1) / 2], [0, size / 2, (size - 1) / 2]]], dtype=torch.float64)
    to_norm = torch.tensor([[[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1]]], dtype=torch.float64)
    place = in_from_out.device
    theta = compose(to_norm.to(place), compose(in_from_out, half_out.to(place).expand(len(image), 2, 3)))
    grid = F.affine_grid(theta.to(image.dtype), [len(image), 1, size, size], align_corners=False)
    # Planes: with channels last, grid_sample takes half as long again on a CPU.
    return F.grid_sample(image.contiguous(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def move_by_affine(batch: Batch, out_from_in: Tensor, size: int) -> Batch:
    """Crops, landmarks and `crop_from_source` moved by (B, 2, 3) affines; the result is `size` px wide."""
    out_from_in = out_from_in.to(batch.image.device)
    return batch._replace(
        landmarks=transform(out_from_in, batch.landmarks),
        crop_from_source=compose(out_from_in.to(batch.crop_from_source.dtype), batch.crop_from_source),
        image=warp(batch.image, out_from_in, size),
    )


def centre_crop(batch: Batch, size: int) -> Batch:
    """Cut the margin off and change nothing else; a batch without a margin comes back as it is."""
    margin = batch.image.shape[-1] - size
    if margin == 0:
        return batch
    out_from_in = torch.tensor(
        [[[1.0, 0.0, -margin / 2], [0.0, 1.0, -margin / 2]]], dtype=torch.float64, device=batch.image.device
    )
    out_from_in = out_from_in.expand(len(batch.image), 2, 3)
    if margin % 2 == 0 and margin > 0:
        cut = slice(margin // 2, margin // 2 + size)
        image = batch.image[:, :, cut, cut]
    else:
        image = warp(batch.image, out_from_in, size)
    return batch._replace(
        image=image.contiguous(memory_format=torch.channels_last),
        landmarks=transform(out_from_in, batch.landmarks),
        crop_from_source=compose(out_from_in.to(batch.crop_from_source.dtype), batch.crop_from_source),
    )
