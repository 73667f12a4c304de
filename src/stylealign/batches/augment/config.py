"""How training faces are varied: the usual keys, operations of the table by name, and presets of them."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from stylealign.batches.augment.table import AUGMENTATIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationConfig:
    """One operation of the table, on a share of the faces."""

    name: str
    """A name of the table of augmentations (`AUGMENTATIONS` in batches/augment/table.py)."""
    prob: float = 0.1
    """Share of the faces."""
    strength: tuple[float, float] = (0.0, 1.0)
    """Range of each face's uniformly drawn strength; 0 leaves a face as it is, 1 is what the table says."""

    def __post_init__(self) -> None:
        if self.name not in AUGMENTATIONS:
            raise ValueError(f"no augmentation is called {self.name!r}; there are {', '.join(AUGMENTATIONS)}")
        low, high = self.strength
        if not (0 <= self.prob <= 1 and 0 <= low <= high <= 1):
            raise ValueError(
                f"augmentation {self.name} of prob {self.prob} and strength {low} to {high}: expected a share of 0 to "
                "1, and a range in 0 to 1"
            )


def _op(name: str, prob: float, low: float = 0.0, high: float = 1.0) -> OperationConfig:
    return OperationConfig(name=name, prob=prob, strength=(low, high))


# In the order in which the world makes a picture: where things are, light, what is in front, the camera.
_STRONG = (
    _op("rotate", 0.4, 0.0, 0.2), _op("scale", 0.3, 0.0, 0.4), _op("stretch", 0.3), _op("shear", 0.15, 0.0, 0.5),
    _op("perspective", 0.3), _op("turn", 0.3), _op("elastic", 0.15, 0.2, 0.8), _op("thin_plate", 0.15, 0.2, 0.8),
    _op("lens", 0.1),
    _op("exposure", 0.25), _op("gamma", 0.25), _op("contrast", 0.15), _op("saturation", 0.2), _op("hue", 0.1, 0.0, 0.2),
    _op("temperature", 0.2), _op("cast", 0.1), _op("equalise", 0.05), _op("channel_shuffle", 0.03),
    _op("shadow", 0.15, 0.3, 1.0), _op("gradient", 0.2, 0.1, 0.8), _op("lamp", 0.05), _op("vignette", 0.1),
    _op("fog", 0.05), _op("rain", 0.03), _op("glare", 0.05, 0.2, 1.0),
    _op("rectangle", 0.08, 0.1, 1.0), _op("ellipse", 0.08, 0.1, 1.0), _op("polygon", 0.08, 0.1, 1.0),
    _op("blob", 0.08, 0.1, 1.0), _op("bar", 0.05, 0.1, 0.8), _op("holes", 0.03, 0.1, 0.6),
    _op("cut_off", 0.08, 0.1, 0.9), _op("transplant", 0.05, 0.1, 1.0),
    _op("defocus_blur", 0.08, 0.1, 0.8), _op("motion_blur", 0.12, 0.1, 0.8), _op("few_pixels", 0.12, 0.1, 0.8),
    _op("gaussian_noise", 0.12, 0.05, 0.6), _op("shot_noise", 0.08, 0.05, 0.6), _op("grain", 0.05, 0.1, 0.8),
    _op("sharpen", 0.08, 0.1, 0.8), _op("posterise", 0.03, 0.2, 1.0), _op("jpeg", 0.2, 0.2, 1.0),
)  # fmt: skip

PRESETS: dict[str, tuple[OperationConfig, ...]] = {
    "standard": (),
    "strong": _STRONG,
    "any_roll": (_op("rotate", 0.3, 0.0, 0.34), _op("rotate", 0.3), *_STRONG[1:]),  # most of them to 60 degrees
}
"""Operations by name, on top of the usual keys."""

_PRESET_HELP = (
    f"Operations on top of the other keys: standard (none), strong ({len(_STRONG)} of the table, from a turn of the "
    "head to JPEG), any_roll (strong, half of them turned further, to every angle). docs/tables.md lists them."
)


MARGIN = 1.25
"""Side of the crops that are moved over that of the result: context for rotations and shifts."""


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
    preset: Annotated[Literal["standard", "strong", "any_roll"], tyro.conf.arg(help=_PRESET_HELP)] = "standard"
    ops: Annotated[tuple[OperationConfig, ...], tyro.conf.Suppress] = ()
    """Any operations of the table instead of a preset's (recipe only)."""

    def __post_init__(self) -> None:
        if min(self.rotation, self.scale, self.shift, self.noise) < 0:
            raise ValueError("rotation, scale, shift and noise of augment: expected 0 or more")
        if not 0 <= self.colour < 1:
            raise ValueError(f"augment.colour is {self.colour}, expected at least 0 and below 1")
        for name in ("grey_prob", "blur_prob", "occlusion_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} is {getattr(self, name)}, expected 0 to 1")
        if self.ops and self.preset != "standard":
            raise ValueError(f"augment has the preset {self.preset!r} and ops of its own: expected one of the two")

    @property
    def operations(self) -> tuple[OperationConfig, ...]:
        """The operations of the table, in the order of their looks; motions are done before, all at once."""
        return tuple(op for op in self.ops or PRESETS[self.preset] if op.prob > 0)

    @property
    def roll(self) -> float:
        """Degrees by which faces are turned in the picture at most, to either side: 180 is every roll."""
        ops = [180 * op.strength[1] for op in self.operations if op.name == "rotate"]
        return float(min(180.0, self.rotation + max(ops, default=0.0)))

    @property
    def is_geometric(self) -> bool:
        """Whether faces leave their place, so that crops need a margin of context."""
        moves = any(AUGMENTATIONS[op.name].kind == "geometric" for op in self.operations)
        return bool(self.rotation or self.scale or self.shift or moves)

    def motions_alone(self) -> "AugmentConfig":
        """The same without all that changes how a face looks."""
        moves = tuple(op for op in self.operations if AUGMENTATIONS[op.name].kind == "geometric")
        return dataclasses.replace(
            self, colour=0.0, grey_prob=0.0, blur_prob=0.0, occlusion_prob=0.0, noise=0.0, preset="standard", ops=moves
        )


NO_AUGMENTATION = AugmentConfig(
    rotation=0.0, scale=0.0, shift=0.0, flip=False, colour=0.0, grey_prob=0.0, blur_prob=0.0, occlusion_prob=0.0
)
