"""Random motions and looks of faces, on tensors: one motion a face moves image and landmarks together, so labels stay
exact.

Batches arrive as crops with a margin of context (crops.CropCache) and leave as crops of the network's size, resampled
once. Every random number comes from one generator on the CPU: those of the usual keys in one block, those of each
operation of the table from a generator of its own. A device, or a switched-off operation, changes none of the others.
Knows no files and no models.
"""

import zlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stylealign.batches.augment.affine import move_by_affine
from stylealign.batches.augment.config import AugmentConfig, OperationConfig
from stylealign.batches.augment.motion import Motion, as_homography, evened, move, still
from stylealign.batches.augment.operation import NUM_DRAWS
from stylealign.batches.augment.table import AUGMENTATIONS
from stylealign.batches.batch import Batch, take_faces
from stylealign.batches.together import in_all, own, rolled
from stylealign.data.image import LUMA
from stylealign.face.schema import LandmarkSchema

# Columns of the block of random numbers; more than in use, so that an operation can be added without moving the rest
_DRAWS = 20


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


def _blur(image: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Separable Gaussian blur of (n, 3, S, S), a sigma (n,) in px each; `largest` is that of the whole batch."""
    radius = max(1, int(np.ceil(3 * largest)))
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


class _Drawn:
    """An operation on its share of a batch: which faces, how strongly, and their random numbers."""

    def __init__(self, operation: OperationConfig, count: int, generator: torch.Generator):
        draws = own(torch.rand(in_all(count), 2 + NUM_DRAWS, generator=generator, dtype=torch.float64))
        low, high = operation.strength
        self.entry, self.name = AUGMENTATIONS[operation.name], operation.name
        self.rows = torch.nonzero(draws[:, 0] < operation.prob).view(-1)
        self.strength = low + (high - low) * draws[self.rows, 1]
        self.draws = draws[self.rows, 2:]

    def answer(self, batch: Batch) -> Batch | Motion:
        """What the function of the table makes of its faces."""
        if self.entry.kind == "geometric":  # asks for the picture's side alone
            batch = batch._replace(image=batch.image[:, :0])
        some = take_faces(batch, self.rows)
        return self.entry.function(some, self.strength.to(some.image), self.draws)


def _draw_operations(config: AugmentConfig, count: int, base: int) -> list[_Drawn]:
    """Every operation with numbers of its own: by its name, and by how often that was there before."""
    seen, drawn = dict[str, int](), []
    for operation in config.operations:
        number = seen[operation.name] = seen.get(operation.name, -1) + 1
        key = (base, zlib.crc32(operation.name.encode()), number)
        seed = int(np.random.default_rng(key).integers(2**62))
        drawn.append(_Drawn(operation, count, torch.Generator().manual_seed(seed)))
    return [one for one in drawn if len(one.rows)]


def _composed(batch: Batch, drawn: list[_Drawn], schema: LandmarkSchema) -> Motion:
    """The motions of all geometric operations as one: bends add, homographies multiply."""
    matrix, bend = still(len(batch.image)), None
    for one in drawn:
        if one.entry.kind != "geometric" or (one.name == "flip" and not schema.flip_pairs):
            continue
        motion = one.answer(batch)
        assert isinstance(motion, Motion)
        matrix[one.rows] = motion.matrix @ matrix[one.rows]
        if motion.bend is not None:
            if bend is None:
                bend = motion.bend.new_zeros(len(batch.image), *motion.bend.shape[1:])
            bend[one.rows.to(bend.device)] += motion.bend
    return Motion(matrix, None if bend is None else evened(bend, batch.image.shape[-1]))


def _renumbered(batch: Batch, mirrored: Tensor, schema: LandmarkSchema) -> Batch:
    """Landmarks of mirrored faces (B,) in the order of their mirror twins, and where people would have put them.

    Labels that lean to the right in their pictures lean to the left in the mirrored ones, where people would have put
    them to the right again: by twice the lean, along the x axis of the picture as it was labelled and now lies in the
    crop.
    """
    order = torch.as_tensor(schema.flip_permutation.copy(), device=batch.image.device)
    mirrored = mirrored.to(batch.image.device)
    if batch.lean.numel():
        right = batch.rights().to(batch.crop_from_source)[:, :, None]
        back = (-2 * batch.lean * mirrored)[:, None] * (batch.crop_from_source[:, :, :2] @ right)[:, :, 0]
        batch = batch._replace(landmarks=batch.landmarks + back[:, None].to(batch.landmarks))
    points = batch.point_weight
    if points.numel():
        points = torch.where(mirrored[:, None], points[:, order], points)
    return batch._replace(
        landmarks=torch.where(mirrored[:, None, None], batch.landmarks[:, order], batch.landmarks),
        visible=torch.where(mirrored[:, None], batch.visible[:, order], batch.visible),
        point_weight=points,
    )


def _with_looks(batch: Batch, drawn: list[_Drawn]) -> Batch:
    """All operations that are not motions, one after another, each on its faces."""
    image, visible = batch.image.contiguous(), batch.visible
    for one in drawn:
        if one.entry.kind == "geometric":
            continue
        found = one.answer(batch._replace(image=image, visible=visible))
        assert isinstance(found, Batch)
        rows = one.rows.to(image.device)
        image[rows] = found.image
        if one.entry.kind == "occluding":
            visible = visible.clone()
            visible[rows] = found.visible
    return batch._replace(image=image, visible=visible)


def apply(name: str, batch: Batch, strength: Tensor, draws: Tensor, schema: LandmarkSchema) -> Batch:
    """One operation of the table on every face of a batch, which keeps its size.

    Args:
        name: of the table.
        batch: (B, 3, S, S) crops.
        strength: (B,) in [0, 1].
        draws: (B, NUM_DRAWS) uniform in [0, 1), float64, on the CPU.
        schema: knows which landmark a mirrored one becomes.
    """
    found = AUGMENTATIONS[name].function(batch, strength, draws)
    if isinstance(found, Motion):
        return _renumbered(move(batch, found, batch.image.shape[-1]), found.matrix.det() < 0, schema)
    return found


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
        `crop_from_source` composed with the motion, so that its inverse still takes predictions to source pixels (of
        faces that an operation of the table bent or tilted: nearly, see `motion.move`).
    """
    device, num = batch.image.device, len(batch.image)
    draws_of_all = torch.rand(in_all(num), _DRAWS, generator=generator)
    if not schema.flip_pairs:
        draws_of_all[:, 4] = 1.0
    draws = own(draws_of_all)
    # Before the noise, and also for the noise alone: neither it nor the operations move each other's numbers.
    base = int(torch.randint(2**62, (), generator=generator)) if config.noise or config.operations else 0
    noise = None
    if config.noise:
        noise = own(torch.randn(in_all(num), batch.image.shape[1], size, size, generator=generator))
    drawn = _draw_operations(config, num, base)

    # Where things are.
    out_from_in = random_affines(draws, batch.image.shape[-1], size, config)
    if any(one.entry.kind == "geometric" for one in drawn):
        first = _composed(batch, drawn, schema)
        motion = Motion(as_homography(out_from_in) @ first.matrix, first.bend)
        batch, mirrored = move(batch, motion, size), motion.matrix.det() < 0
    else:
        batch, mirrored = move_by_affine(batch, out_from_in, size), out_from_in[:, :, :2].det() < 0
    batch = _renumbered(batch, mirrored, schema)

    # What they look like.
    image = batch.image
    if config.colour:
        image = _colour(image, draws[:, 5:7].to(device), config.colour)
    if len(some := _chosen(draws[:, 7], config.grey_prob, device)):
        image[some] = _grey(image[some])
    if len(some := _chosen(draws[:, 8], config.blur_prob, device)):
        sigma = (0.5 + 2 * draws_of_all[:, 9]) * size / 128
        largest = float(sigma[draws_of_all[:, 8] < config.blur_prob].max())
        image[some] = _blur(image[some], own(sigma)[some.cpu()], largest)
    some = _chosen(draws[:, 10], config.occlusion_prob, device)
    if len(some) or (config.occlusion_prob and in_all(1) > 1):  # processes have to come to `rolled` together
        image[some] = _occlude(image[some], rolled(image, -1)[some], draws[some.cpu(), 11:19])
    if noise is not None:
        strength = (config.noise * draws[:, 19]).view(-1, 1, 1, 1).to(device)
        image = (image + strength * noise.to(device)).clamp_(-1, 1)
    batch = batch._replace(image=image)
    if drawn:
        batch = _with_looks(batch, drawn)
    return batch._replace(image=batch.image.contiguous(memory_format=torch.channels_last))
