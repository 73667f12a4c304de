"""LAB's configuration. Knows no network."""

from dataclasses import dataclass

from stylealign.detectors.trunk_choice import TrunkName, refuse_beside_trunk
from stylealign.errors import counted


@dataclass(frozen=True, kw_only=True, slots=True)
class LABConfig:
    """The network's shape, and how it learns."""

    stacks: int = 4
    """Hourglasses one after another; its authors: fewer of them hurts more than fewer channels."""
    channels: int = 256
    """Of the hourglasses, or of the pyramid on a trunk; 32 fits a CPU."""
    depth: int = 4
    """How often each hourglass halves the map."""
    stride: int | None = None
    """Pixels of the crop per cell of the boundary maps. Not given: 2 below 128 px, else 4; on a trunk 4."""
    sigma: float = 1.0
    """Width of a drawn boundary in cells."""
    grayscale: bool = True
    """Look at brightness alone (a trunk sees it in all three channels)."""
    message_passing: bool = True
    """Boundaries tell each other what they see. False: the simplified model its authors call `wo_mp`."""
    message_kernel: int = 3
    """Side of the messages' convolutions."""
    width: int = 64
    """Channels of the regressor's first stage; 16 fits a CPU."""
    max_pool: bool | None = None
    """The regressor halves the resolution after its first convolution; not given: from 128 px upwards."""
    hidden: int = 512
    """Channels of the convolution over the whole last map."""
    input_fusion: bool = True
    """The regressor sees the image (on a trunk: its finest features) times each boundary map beside the image."""
    feature_fusion: int = 4
    """How many of the regressor's four stages, counted from the last, are gated by the boundary maps."""
    dropout: float = 0.4
    """Before the last layer."""
    boundary_weight: float = 1.0
    """Of the squared error of the boundary maps, summed over a map's cells and over stacks."""
    adversarial_weight: float = 0.1
    """Of the adversary's loss. 0: no adversary."""
    adversarial_from: float = 0.75
    """Fraction of the training after which the adversary joins."""
    near: float = 1.5
    """A landmark is near its boundary within this many 64ths of the crop."""
    enough: float = 0.8
    """Maps are effective where at least this share of landmarks is near."""
    trunk: TrunkName | None = None
    """Draw boundaries from this trunk, one of fpn's, and a pyramid instead of hourglasses, and regress from them and
    its features instead of from the image; --pretrained then takes its ImageNet weights."""
    trunk_width: float = 1.0
    """Of that trunk, over its usual one; ImageNet weights need 1."""

    def __post_init__(self) -> None:
        refuse_beside_trunk(self, "lab", "stacks", "depth", "max_pool")
        if self.trunk is not None and self.stride == 2:
            raise ValueError(
                f"lab.stride is 2 and trunk {self.trunk}, whose finest features have 4: expected 4 or none"
            )
        if min(self.stacks, self.channels, self.depth, self.width, self.hidden) < 1:
            raise ValueError(
                f"lab of {counted(self.stacks, 'stack')}, {counted(self.channels, 'channel')}, depth {self.depth}, "
                f"width {self.width}, hidden {self.hidden}: expected at least 1 of each"
            )
        if self.stride not in (None, 2, 4) or self.message_kernel % 2 == 0 or not 0 <= self.feature_fusion <= 4:
            raise ValueError(
                f"lab with stride {self.stride}, message_kernel {self.message_kernel}, feature_fusion "
                f"{self.feature_fusion}: expected "
                "2, 4 or none, an odd number, and 0 to 4 stages"
            )
        if not (self.sigma > 0 and self.near > 0 and 0 <= self.dropout < 1):
            raise ValueError(
                f"lab with sigma {self.sigma}, near {self.near}, dropout {self.dropout}: expected above 0, "
                "above 0, 0 to below 1"
            )
        shares = (self.adversarial_from, self.enough)
        if min(self.boundary_weight, self.adversarial_weight) < 0 or not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                f"lab with boundary_weight {self.boundary_weight}, adversarial_weight "
                f"{self.adversarial_weight}, adversarial_from "
                f"{self.adversarial_from}, enough {self.enough}: expected weights of 0 or more, and 0 to 1"
            )

    def map_stride(self, size: int) -> int:
        """Pixels per cell of the boundary maps, for a crop of this side."""
        return self.stride or (4 if size >= 128 or self.trunk is not None else 2)
