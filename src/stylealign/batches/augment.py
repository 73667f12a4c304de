"""Random motions and colours of faces, on tensors: one affine a face moves image and
landmarks together, so labels stay exact.

Batches arrive as crops with a margin of context (batch.CropCache) and leave as crops of the network's size, resampled
once. Every random number comes from one generator on the CPU, drawn in one block: a device, or a switched-off
operation, changes none of the others. Knows no files and no models.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.batch import Batch
from stylealign.data.image import LUMA
from stylealign.face.schema import LandmarkSchema

# Columns of the block of random numbers; more than in use, so that an operation can be added without moving the rest
_DRAWS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """How training faces are varied. A geometric value is the largest change, 0 is none; draws are uniform between."""

    rotation: float = 25.0
    """Degrees, to either side."""
    scale: float = 0.12
    """Natural logarithm of the size factor: 0.12 is 0.89 to 1.13 times."""
    shift: float = 0.06
    """Share of the crop's side, along x and along y."""
    flip: bool = True
    """Mirror half of the faces (never where the schema knows no mirror twins)."""
    colour: float = 0.2
    """Brightness and contrast factors of 1 - colour to 1 + colour."""
    grey_prob: float = 0.1
    """Share of faces without colour."""
    blur_prob: float = 0.1
    """Share of faces blurred by a Gaussian of sigma 0.5 to 2.5 px a 128 px crop."""
    occlusion_prob: float = 0.25
    """Share of faces with a soft-edged ellipse in front, a sixth to a half of the crop wide: a plain
    colour, or another face's pixels."""
    noise: float = 0.0
    """Largest standard deviation of Gaussian pixel noise, in [-1, 1] units."""

    def __post_init__(self) -> None:
        if min(self.rotation, self.scale, self.shift, self.noise) < 0:
            raise ValueError("rotation, scale, shift and noise of augment: expected 0 or more")
        if not 0 <= self.colour < 1:
            raise ValueError(f"augment.colour is {self.colour}, expected at least 0 and below 1")
        for name in ("grey_prob", "blur_prob", "occlusion_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} is {getattr(self, name)}, expected 0 to 1")

    @property
    def is_geometric(self) -> bool:
        """Whether faces leave their place, so that crops need a margin of context."""
        return bool(self.rotation or self.scale or self.shift)


NO_AUGMENTATION = AugmentConfig(
    rotation=0.0, scale=0.0, shift=0.0, flip=False, colour=0.0, grey_prob=0.0, blur_prob=0.0, occlusion_prob=0.0
)


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


def random_affines(draws: Tensor, size_in: int, size: int, config: AugmentConfig) -> Tensor:
    """(B, 2, 3) float64 out_from_in from (B, >=5) uniform draws: mirror, turn and scale round the
    centre, shift, cut the margin."""
    signed = 2 * draws.double() - 1
    angle = torch.deg2rad(config.rotation * signed[:, 0])
    scale = torch.exp(config.scale * signed[:, 1])
    mirror = torch.where((draws[:, 4] < 0.5) & config.flip, -1.0, 1.0).double()
    c, s = scale * angle.cos(), scale * angle.sin()
    linear = torch.stack(
        [torch.stack([c * mirror, -s], dim=1), torch.stack([s * mirror, c], dim=1)], dim=1
    )  # (B, 2, 2)
    middle_in, middle_out = (size_in - 1) / 2, (size - 1) / 2
    offset = middle_out + config.shift * size * signed[:, 2:4] - middle_in * linear.sum(dim=2)
    return torch.cat([linear, offset[:, :, None]], dim=2)


def _colour(image: Tensor, draws: Tensor, amount: float) -> Tensor:
    """Brightness (a factor on [0, 1] values), then contrast round the face's mean; (B, 2) draws."""
    brightness, contrast = (1 + amount * (2 * draws - 1)).to(image.dtype).T.view(2, -1, 1, 1, 1)
    mean = (image.mean(dim=(1, 2, 3), keepdim=True) + 1) * brightness  # in [0, 2], as image + 1
    gain = brightness * contrast
    return image.mul_(gain).add_(gain - 1 + (1 - contrast) * mean).clamp_(-1, 1)


def _grey(image: Tensor) -> Tensor:
    weights = torch.tensor(LUMA, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True).expand_as(image)


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Separable Gaussian blur of (n, 3, S, S), a sigma (n,) in px each."""
    radius = max(1, int(np.ceil(3 * float(sigma.max()))))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma[:, None].to(offsets) ** 2))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(3, dim=0)[:, None]  # (3 n, 1, K)
    planes = F.pad(image.reshape(1, -1, *image.shape[-2:]), [radius] * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, :, None, :], groups=len(kernel))
    return F.conv2d(planes, kernel[:, :, :, None], groups=len(kernel)).view(image.shape)


def _occlude(image: Tensor, other: Tensor, draws: Tensor) -> Tensor:
    """Lay a soft-edged ellipse over (n, 3, S, S): plain colour, or the pixels of `other` there.
    draws (n, 8): x y w h plain r g b."""
    size = image.shape[-1]
    draws = draws.to(image)
    centre, radii = draws[:, :2] * (size - 1), size * (1 / 12 + draws[:, 2:4] / 6)
    pixels = torch.arange(size, dtype=image.dtype, device=image.device)
    away = (pixels - centre[..., None]) / radii[..., None]  # (n, 2, S)
    distance = (away[:, 0, None, :] ** 2 + away[:, 1, :, None] ** 2).sqrt()[:, None]  # 1 on the edge
    alpha = ((1 - distance) * radii.mean(dim=1).view(-1, 1, 1, 1) + 0.5).clamp(0, 1)  # an edge about a pixel wide
    plain = (2 * draws[:, 5:8] - 1)[:, :, None, None]
    front = torch.where((draws[:, 4] < 0.5).view(-1, 1, 1, 1), plain, other)
    return image + alpha * (front - image)


def _chosen(draws: Tensor, probability: float, device: torch.device) -> Tensor:
    return torch.nonzero(draws < probability).view(-1).to(device)


def augment(
    batch: Batch, size: int, config: AugmentConfig, generator: torch.Generator, schema: LandmarkSchema
) -> Batch:
    """Vary every face of a batch of margin crops at random and cut it to `size` x `size`.

    Args:
        batch: (B, 3, S, S) images with S >= size at the resolution of the final crop; on any device.
        size: side of the result in px.
        config: what may happen, how much.
        generator: a CPU generator; the result is a function of its state.
        schema: knows which landmark a mirrored one becomes.

    Returns:
        A new batch: landmarks and visibility moved (and renumbered where mirrored) with the image, and
        `crop_from_source` composed with the motion, so that its inverse still takes predictions to source pixels.
    """
    device, num = batch.image.device, len(batch.image)
    draws = torch.rand(num, _DRAWS, generator=generator)
    if not schema.flip_pairs:
        draws[:, 4] = 1.0
    out_from_in = random_affines(draws, batch.image.shape[-1], size, config)
    mirrored = (out_from_in[:, :, :2].det() < 0).to(device)
    out_from_in = out_from_in.to(device)

    # Where things are.
    landmarks, visible = transform(out_from_in, batch.landmarks), batch.visible
    order = torch.as_tensor(schema.flip_permutation.copy(), device=device)
    landmarks = torch.where(mirrored[:, None, None], landmarks[:, order], landmarks)
    visible = torch.where(mirrored[:, None], visible[:, order], visible)
    points = batch.point_weight
    if points.numel():
        points = torch.where(mirrored[:, None], points[:, order], points)
    crop_from_source = compose(out_from_in.to(batch.crop_from_source.dtype), batch.crop_from_source)

    # What they look like.
    image = warp(batch.image, out_from_in, size)
    if config.colour:
        image = _colour(image, draws[:, 5:7].to(device), config.colour)
    if len(some := _chosen(draws[:, 7], config.grey_prob, device)):
        image[some] = _grey(image[some])
    if len(some := _chosen(draws[:, 8], config.blur_prob, device)):
        image[some] = _blur(image[some], (0.5 + 2 * draws[some.cpu(), 9]) * size / 128)
    if len(some := _chosen(draws[:, 10], config.occlusion_prob, device)):
        image[some] = _occlude(image[some], image[(some + 1) % num], draws[some.cpu(), 11:19])
    if config.noise:
        strength = (config.noise * draws[:, 19]).view(-1, 1, 1, 1).to(device)
        image = (image + strength * torch.randn(image.shape, generator=generator).to(device)).clamp_(-1, 1)
    return batch._replace(
        image=image.contiguous(memory_format=torch.channels_last),
        landmarks=landmarks,
        visible=visible,
        crop_from_source=crop_from_source,
        point_weight=points,
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
