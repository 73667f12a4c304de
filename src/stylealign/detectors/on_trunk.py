"""Detectors of the table on a trunk of trunks/ in place of their own first layers: its ImageNet weights, and the
simplest of them, the regression of coordinates. Knows no files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stylealign.batches.together import Dropout
from stylealign.detectors.heads.parts import started
from stylealign.detectors.learning import Learner, Learning, learn_coordinates
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.detectors.trunks import build_trunk, load_imagenet_trunk, trunks_in
from stylealign.errors import UserError

LAST = 32  # stride of a trunk's last features
ANY_SIZE = 64  # of the crop: the names of weights are the same for all
Load = Callable[[nn.Module, Mapping[str, Tensor], str], None]


def last_numbers(channels: int, size: int, flatten: bool) -> int:
    """How many numbers `last_of` gives for a trunk with so many channels at stride 32."""
    return channels * (-(-size // LAST)) ** 2 if flatten else channels


def last_of(features: list[Tensor], flatten: bool) -> Tensor:
    """(B, N): the last features, every place apart or their mean over places."""
    return features[-1].flatten(1) if flatten else features[-1].mean(dim=(2, 3))


class LastFeatures(nn.Module):
    """Features of a trunk, fine to coarse -> (B, numbers): its last ones, every place apart (`flatten`) or their mean
    over places, each number normalised over the batch, for a hidden layer.

    Trunks differ in how large their features are (MobileNetV2's last ones have a spread of 0.23), and two layers with
    fresh weights learn the slower the smaller they are: without the normalisation Wing stood at 5.67 % on val of 300-W
    after 1,500 updates, with it at 4.59. A single layer (`TrunkRegressor`) loses: 5.29 with it and 4.75 without after
    1,000 (three seeds).
    """

    def __init__(self, channels: int, size: int, flatten: bool):
        super().__init__()
        self.flatten, self.numbers = flatten, last_numbers(channels, size, flatten)
        self.norm = nn.BatchNorm1d(self.numbers, affine=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = last_of(features, self.flatten)
        with torch.autocast(x.device.type, enabled=False):
            return self.norm(x.float())


class TrunkRegressor(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px: what detectors/resnet.py does, from the
    last features of a trunk.

    Buffer `mean_shape` (P, 2) px holds the mean of the training labels.
    """

    mean_shape: Tensor

    def __init__(self, num_points: int, size: int, config: ResNetConfig):
        super().__init__()
        assert config.trunk is not None
        self.num_points, self.size = num_points, size
        self.trunk, (channels,) = build_trunk(config.trunk, size, config.trunk_width, LAST, LAST)
        self.flatten = size < 128 if config.head is None else config.head == "flatten"
        self.dropout = Dropout(config.dropout)
        self.fc = started(nn.Linear(last_numbers(channels, size, self.flatten), 2 * num_points), 0.1)
        self.register_buffer("mean_shape", torch.zeros(num_points, 2))

    def forward(self, image: Tensor) -> DetectorOutput:
        x = last_of(self.trunk(image), self.flatten)
        with torch.autocast(x.device.type, enabled=False):  # bf16 has 8 bits: half a pixel at 128
            offsets = self.fc(self.dropout(x.float())).view(-1, self.num_points, 2)
            return DetectorOutput(self.mean_shape + offsets * (self.size / 16))


def build_regressor(num_points: int, size: int, config: ResNetConfig) -> nn.Module:
    """The regression of coordinates, by a ResNet-18 or on the trunk that `config` names."""
    return (ResNet18 if config.trunk is None else TrunkRegressor)(num_points, size, config)


def learn_regressor(learning: Learning) -> Learner:
    """The usual way, a loss on coordinates."""
    refuse_lone_faces(learning, "resnet18")
    return learn_coordinates(learning)


def refuse_lone_faces(learning: Learning, name: str, cut: int = LAST) -> None:
    """Raises UserError where a process has one face at a time and batch normalisation would see a single number: in
    `LastFeatures`, and in a trunk whose last features are a single cell."""
    trunks = [trunk for _, trunk in trunks_in(learning.model)]
    if not trunks or learning.batch_size >= 2 * learning.engine.world_size:
        return
    cell = learning.size <= cut
    if cell or any(isinstance(module, LastFeatures) for module in learning.model.modules()):
        why = f"a crop of {learning.size} px leaves one cell at stride {cut}" if cell else "each feature is normalised"
        raise UserError(
            f"{name}: {why}, and batch_size {learning.batch_size} is one face at a time a process: expected at least "
            "2, for batch normalisation"
        )


@dataclass(frozen=True)
class IntoTrunk:
    """What loads ImageNet weights into the trunks that a detector stands on, or where it stands on none into layers of
    its own, by `own`; without `own` it is then refused."""

    section: str
    """Key of its configuration, for sentences"""
    own: Load | None = None

    def __call__(self, model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
        found = trunks_in(model)
        for name, trunk in found:
            load_imagenet_trunk(trunk, name, ANY_SIZE, state, where, f"--{self.section}.trunk-width")
        if found:
            return
        if self.own is None:
            raise UserError(
                f"{where}: {self.section} has no layers of its own that ImageNet weights fit: expected a trunk, as in "
                f"--{self.section}.trunk mobilenet_v2"
            )
        self.own(model, state, where)
