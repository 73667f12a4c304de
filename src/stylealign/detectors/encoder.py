"""An image autoencoder that keeps geometry and style apart without labels (after Jakab et al., NeurIPS 2018).

    geometry of a view:  ResNet-18 trunk -> K heatmaps -> K points -> K Gaussians, all that gets through
    style:               a few convolutions on another view of the same picture, warped differently
    decoder:             both -> the first view

The style view does not know where things are in the first one, and K Gaussians cannot say what things look like: so the
points must follow places of the face. Both views' motions are known, so the points must also agree where they are taken
back to the picture (Thewlis et al., ICCV 2017), which is learnt much sooner. A detector takes the trunk's weights
(`--init-from`). Knows no files.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.detectors.convolution import sides
from stylealign.detectors.resnet import ResNet18, ResNetConfig

# Of the softmax over places: a fresh network's maps are so flat that all points start in the middle and hardly move
SHARPNESS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """The network's shape."""

    width: int = 16
    """Of the trunk, the detector's `resnet.width`."""
    points: int = 30
    """Heatmaps, K."""
    sigma: float = 0.1
    """Of the Gaussians, over the crop's side."""
    style_width: int = 32
    """Channels of the style and of the decoder."""

    def __post_init__(self) -> None:
        if min(self.width, self.points, self.style_width) < 1 or not self.sigma > 0:
            raise ValueError("encoder: expected width, points and style_width of at least 1, and sigma above 0")


def _block(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
    )


def soft_points(heatmaps: Tensor) -> Tensor:
    """(B, K, n, n) scores -> (B, K, 2) (x, y) in [0, 1] of the crop's side: the mean
    place under the softmax of each map.

    Cell i's centre is at (i + 0.5) / n.
    """
    n = heatmaps.shape[-1]
    mass = heatmaps.flatten(2).softmax(dim=2).view_as(heatmaps)
    centres = (torch.arange(n, device=heatmaps.device, dtype=mass.dtype) + 0.5) / n
    return torch.stack([(mass.sum(dim=2) * centres).sum(dim=2), (mass.sum(dim=3) * centres).sum(dim=2)], dim=2)


def gaussians_at(points: Tensor, n: int, sigma: float) -> Tensor:
    """(B, K, 2) in [0, 1] -> (B, K, n, n): exp(-d^2 / (2 sigma^2)) round each point."""
    centres = (torch.arange(n, device=points.device, dtype=points.dtype) + 0.5) / n
    rows = torch.exp(-((centres - points[..., None]) ** 2) / (2 * sigma**2))  # (B, K, 2, n)
    return rows[:, :, 1, :, None] * rows[:, :, 0, None, :]


class Encoder(nn.Module):
    """(geometry view, style view), (B, 3, size, size) each -> the geometry view drawn again at half the size, (B, 3,
    size / 2, size / 2): where things are shows there too, and the decoder is not what is wanted."""

    def __init__(self, size: int, config: EncoderConfig):
        super().__init__()
        self.size, self.config = size, config
        # max_pool as a detector of this size has it, so that the weights have seen the same resolutions.
        self.trunk = ResNet18(1, size, ResNetConfig(width=config.width))
        self.trunk.fc, self.trunk.mean_shape = nn.Identity(), None  # type: ignore[assignment]
        channels = [config.width * 2**i for i in range(4)]
        self.lateral = nn.ModuleList(nn.Conv2d(c, config.style_width, 1) for c in channels)
        self.score = nn.Conv2d(config.style_width, config.points, 3, 1, 1)
        w = config.style_width
        self.style = nn.Sequential(_block(3, w, 2), _block(w, w, 2), _block(w, w))
        self.mix = nn.Sequential(_block(w + config.points, 2 * w), _block(2 * w, 2 * w))
        self.up = nn.Sequential(_block(2 * w, w), nn.Upsample(scale_factor=2), _block(w, w))
        self.paint = nn.Conv2d(w, 3, 3, 1, 1)

    def points(self, image: Tensor) -> Tensor:
        """(B, K, 2) in [0, 1] of the crop's side: where the K unnamed landmarks are. All four stages
        of the trunk have a part in it."""
        maps = self.trunk.features(image)[1:]
        x = self.lateral[3](maps[3])
        for i in (2, 1, 0):
            x = F.interpolate(x, size=sides(maps[i]), mode="nearest") + self.lateral[i](maps[i])
        return soft_points(SHARPNESS * self.score(F.relu(x)).float())

    def draw(self, points: Tensor, style: Tensor) -> Tensor:
        """(B, K, 2) points and (B, 3, size, size) style views -> (B, 3, size / 2, size / 2)."""
        look = self.style(style)
        drawn = gaussians_at(points, look.shape[-1], self.config.sigma)
        return self.paint(self.up(self.mix(torch.cat([look, drawn.to(look.dtype)], dim=1))))

    def forward(self, geometry: Tensor, style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(the geometry view drawn again, its points, the style view's points)."""
        points, others = self.points(torch.cat([geometry, style])).chunk(2)
        return self.draw(points, style), points, others


def unbend(points: Tensor, offsets: Tensor) -> Tensor:
    """(B, K, 2) in [0, 1] of a picture warped by `elastic` with these offsets -> where they were before."""
    at = (2 * points - 1)[:, None]
    g = offsets.shape[-1]
    field = F.interpolate(offsets, size=(8 * g, 8 * g), mode="bicubic", align_corners=True)
    moved = F.grid_sample(field, at, mode="bilinear", padding_mode="border", align_corners=False)  # (B, 2, 1, K)
    return points + moved[:, :, 0].transpose(1, 2)


def elastic(image: Tensor, offsets: Tensor) -> Tensor:
    """Warp (B, C, S, S) by (B, 2, g, g) offsets in shares of the side, laid smoothly over the picture:
    output pixel x shows x + offset."""
    size = image.shape[-1]
    field = F.interpolate(offsets, size=(size, size), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    at = (2 * torch.arange(size, device=image.device, dtype=image.dtype) + 1) / size - 1
    still = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)
    return F.grid_sample(image, still + 2 * field, mode="bilinear", padding_mode="border", align_corners=False)


def picture_loss(drawn: Tensor, target: Tensor, scales: int = 3) -> Tensor:
    """L1 of the pictures and of their differences between neighbouring pixels, at the drawn size, a
    half and a quarter of it; a scalar.

    A larger target is averaged down to the drawn one's size first.
    """
    target = F.adaptive_avg_pool2d(target, (drawn.shape[2], drawn.shape[3]))
    total = drawn.new_zeros(())
    for scale in range(scales):
        if scale:
            drawn, target = F.avg_pool2d(drawn, 2), F.avg_pool2d(target, 2)
        total = total + (drawn - target).abs().mean()
        for axis in (2, 3):
            total = total + (drawn.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    return total / scales
