"""LAB, Look at Boundary (Wu et al., CVPR 2018): boundaries are drawn first, then landmarks are
regressed from the picture and them.

The drawing network is hourglass.py, its messages messages.py, the regressor regressor.py, the adversary learning.py.
Knows no files.
"""

import torch
from torch import Tensor, nn

from stylealign.data.image import LUMA
from stylealign.detectors.hourglass import halvings
from stylealign.detectors.lab.config import LABConfig
from stylealign.detectors.lab.hourglass import BoundaryEstimator, PyramidEstimator
from stylealign.detectors.lab.messages import boundary_tree
from stylealign.detectors.lab.regressor import BoundaryRegressor, FeatureRegressor
from stylealign.detectors.on_trunk import LAST
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.trunks import build_trunk
from stylealign.errors import UserError
from stylealign.face.schema import LandmarkSchema


def brightness(image: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 1, H, W), the luma of ITU-R BT.601."""
    return torch.einsum("bchw,c->bhw", image, image.new_tensor(LUMA))[:, None]


class LAB(nn.Module):
    """(B, 3, size, size) crops in [-1, 1] -> landmarks (B, P, 2) in crop px, boundary maps (B, K, h, w) of the last
    stack; `stages` holds the maps of every stack, first to last. On a trunk, estimator and regressor are given its
    features instead of the image.

    Buffer `mean_shape` (P, 2) px holds the mean of the training labels, as in resnet.py. The
    schema needs boundaries: UserError.
    """

    def __init__(self, schema: LandmarkSchema, size: int, config: LABConfig):
        super().__init__()
        num_maps = len(schema.boundaries)
        if num_maps == 0:
            raise UserError(
                f"lab draws facial boundaries, and schema {schema.name} has none: list its curves under "
                "`boundaries` in the schema's "
                "YAML, or choose another detector"
            )
        self.size, self.config = size, config
        stride = config.map_stride(size)
        parents = boundary_tree(schema) if config.message_passing else None
        self.trunk: nn.Module | None = None
        if config.trunk is None:
            channels_in = 1 if config.grayscale else 3
            depth = max(1, min(config.depth, halvings(-(-size // stride))))
            self.estimator: BoundaryEstimator | PyramidEstimator = BoundaryEstimator(
                channels_in, num_maps, stacks=config.stacks, channels=config.channels, depth=depth, stride=stride,
                parents=parents, kernel=config.message_kernel,
            )  # fmt: skip
            self.regressor: BoundaryRegressor | FeatureRegressor = BoundaryRegressor(
                channels_in, num_maps, schema.num_points, size, config
            )
        else:
            self.trunk, channels = build_trunk(config.trunk, size, config.trunk_width, LAST, stride)
            self.estimator = PyramidEstimator(
                channels, num_maps, channels=config.channels, parents=parents, kernel=config.message_kernel
            )
            self.regressor = FeatureRegressor(channels, num_maps, schema.num_points, size, stride, config)
        self.register_buffer("mean_shape", torch.zeros(schema.num_points, 2))
        self.init_weights()

    def init_weights(self) -> None:
        """He et al.'s normal draws for convolutions; the last layer starts near zero, so that
        training starts at the mean shape. A trunk and its pyramid have their own."""
        theirs = [part for part in (self.trunk, getattr(self.estimator, "pyramid", None)) if part is not None]
        kept = {module for part in theirs for module in part.modules()}
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module not in kept:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for stack in self.estimator.stacks:
            nn.init.normal_(stack.draw.weight, std=0.01)  # type: ignore[union-attr,arg-type]  # maps start empty
        nn.init.kaiming_normal_(self.regressor.whole[0].weight, nonlinearity="relu")  # type: ignore[arg-type]  # one place comes out
        fc = self.regressor.fc
        nn.init.normal_(fc.weight, std=0.1 * fc.in_features**-0.5)
        nn.init.zeros_(fc.bias)

    def forward(self, image: Tensor) -> DetectorOutput:
        if self.config.grayscale:
            image = brightness(image)
        seen = image
        if self.trunk is not None:  # which knows colours
            seen = self.trunk(image.expand(-1, 3, -1, -1))
        maps = self.estimator(seen)
        offsets = self.regressor(seen, maps[-1])
        with torch.autocast(image.device.type, enabled=False):
            landmarks = self.mean_shape + offsets * (self.size / 16)
        return DetectorOutput(landmarks, boundaries=maps[-1], stages=maps)
