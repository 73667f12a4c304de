"""Photographic styles without labels: numbers that say how a picture was taken, and groups
of faces in which they are alike.

SAN (Dong et al., CVPR 2018, section 3.1) takes them from a ResNet-152 fine-tuned on copies of the faces edited by hand
in three styles; those copies were never published whole. Ours need no labels and no download: statistics of light,
colour and sharpness, or, where the user has ImageNet weights, a ResNet-18's pooled features. Knows no files.
"""

import numpy as np
import torch
from scipy.cluster.vq import kmeans, vq
from torch import Tensor, nn
from torch.nn import functional as F

from stylealign.data.image import LUMA
from stylealign.detectors.resnet import ResNet
from stylealign.errors import UserError, counted

_SCALES = 3  # the picture, and its halves
_BINS = 8
_RESTARTS = 20  # k-means from as many random starts; the tightest result counts


def _histogram(values: Tensor, low: float, high: float) -> Tensor:
    """(B, H, W) -> (B, 8) shares of pixels; each is split between the two nearest bins, so that no edge matters."""
    place = ((values - low) / (high - low)).clamp(0, 1).flatten(1)[:, None] * (_BINS - 1)
    bins = torch.arange(_BINS, device=values.device).view(1, -1, 1)
    return (1 - (place - bins).abs()).clamp_min(0).mean(dim=2)


def style_statistics(image: Tensor) -> list[Tensor]:
    """How pictures look, whatever they show: (B, 3, S, S) in [-1, 1] -> groups of numbers, (B, F) each. Our choice.

    Mean and spread of each colour; histograms of light and of two colour differences; contrast and energy of gradients
    at three scales (their ratios say how sharp the picture is), as logarithms.
    """
    red, green, blue = image.unbind(dim=1)
    grey = (image * torch.tensor(LUMA, device=image.device).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    colour = torch.cat([image.mean(dim=(2, 3)), image.std(dim=(2, 3))], dim=1)
    differences = (red - green, blue - (red + green) / 2)
    histograms = torch.cat([_histogram(grey[:, 0], -1, 1), *(_histogram(d, -1, 1) for d in differences)], dim=1)
    energy, scaled = [], grey
    for _ in range(_SCALES):
        energy.append(scaled.var(dim=(1, 2, 3)))
        energy += [(scaled[..., 1:, :] - scaled[..., :-1, :]).square().mean(dim=(1, 2, 3))]
        energy += [(scaled[..., 1:] - scaled[..., :-1]).square().mean(dim=(1, 2, 3))]
        scaled = F.avg_pool2d(scaled, 2)
    return [colour, histograms, torch.stack(energy, dim=1).clamp_min(1e-6).log()]


def pooled_features(network: nn.Module, image: Tensor) -> list[Tensor]:
    """The last stage of a ResNet, averaged over places: (B, 3, S, S) in [-1, 1] -> one group of (B, F) numbers."""
    assert isinstance(network, ResNet)
    return [network.features(image)[-1].mean(dim=(2, 3))]


def standardised(groups: list[Tensor]) -> np.ndarray:
    """(N, F) float64 for k-means: every number with mean 0 and deviation 1 over the faces,
    and every group of equal weight."""
    columns = []
    for group in groups:
        values = group.cpu().double().numpy()
        spread = values.std(axis=0)
        varies = spread > 1e-8  # a number that is the same for all faces tells no styles apart
        columns.append((values - values.mean(axis=0))[:, varies] / spread[varies] / np.sqrt(max(1, varies.sum())))
    return np.concatenate(columns, axis=1)


def style_clusters(features: np.ndarray, num: int, seed: int) -> list[np.ndarray]:
    """k-means: positions of the faces of each cluster, the smallest cluster first.

    Args:
        features: (N, F) numbers, comparable with each other.
        num: clusters.
        seed: of the random starts; the same features and seed give the same clusters.

    Raises UserError where there are fewer different faces than clusters.
    """
    different = len(np.unique(features.round(9), axis=0))
    if different < num:
        raise UserError(
            f"{counted(len(features), 'face')}, of which {different} look different, for {counted(num, 'cluster')} of "
            "styles: expected at least as many; give more faces or fewer clusters"
        )
    centres, _ = kmeans(features, num, iter=_RESTARTS, seed=seed)
    label, _ = vq(features, centres)
    found = [np.flatnonzero(label == i) for i in range(num)]
    return sorted((cluster for cluster in found if len(cluster)), key=lambda cluster: (len(cluster), cluster[0]))
