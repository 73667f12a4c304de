"""The one table of style arms. A new arm is a function that keeps the contract of arm.py, and an entry of `ARMS`.

An entry says all that others ask of an arm: `train-detector` and `generate` open it from here, presets, error
sentences and `--help` take its name, the contract tests its needs. Nothing else lists arms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import LandmarkSchema
from stylealign.styling.arm import Arm
from stylealign.styling.context import context
from stylealign.styling.degrade import degrade, degrade_like
from stylealign.styling.free import adain, adain_pyramid, fda, histogram, jitter
from stylealign.styling.learned import open_translator_arm
from stylealign.styling.light import relight, shadow
from stylealign.styling.make_up import make_up
from stylealign.styling.occlude import occlude, occlude_aligned
from stylealign.styling.warp import warp


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmEntry:
    """What others have to know of an arm. Exactly one of `arm`, `for_schema` and `from_run` says how it is opened."""

    summary: str
    """What it gives a face, in one plain line"""
    arm: Arm | None = None
    """The arm itself"""
    for_schema: Callable[[LandmarkSchema], Arm] | None = None
    """mark-up -> arm, for an arm that has to know which landmark is which"""
    from_run: Callable[[Path, CropConfig, LandmarkSchema, torch.device], Arm] | None = None
    """(finished run, how the faces are cut, their mark-up, device) -> arm, for an arm that was trained"""
    looks_at_donor: bool = True
    """Whether it takes anything from the donor; a chain without such an arm is given no donors"""
    needs_donor_landmarks: bool = False
    """Whether it leaves a face alone whose donor has no landmarks"""
    donors_by_fit: bool = False
    """Whether donors are chosen for it by their shape, the nearest of some drawn ones"""

    takes_look: bool = False
    """Whether it takes the donor's light and colours as a whole, so that one other picture is a style by itself"""

    def __post_init__(self) -> None:
        if [self.arm, self.for_schema, self.from_run].count(None) != 2:
            raise ValueError(f"arm '{self.summary}': expected exactly one of arm, for_schema and from_run")

    @property
    def needs_run(self) -> bool:
        """Whether it is opened from a finished run."""
        return self.from_run is not None

    @property
    def needs_schema(self) -> bool:
        """Whether it can only be opened for a known mark-up."""
        return self.arm is None


ARMS: dict[str, ArmEntry] = {
    # Free: statistics of the whole crop.
    "jitter": ArmEntry(
        summary="another hue, saturation, contrast, brightness and gamma, at random", arm=jitter, looks_at_donor=False
    ),
    "histogram": ArmEntry(summary="the donor's histogram of every colour channel", arm=histogram, takes_look=True),
    "adain": ArmEntry(
        summary="the donor's mean and spread of lightness and of two colour differences", arm=adain, takes_look=True
    ),
    "adain_pyramid": ArmEntry(
        summary="the donor's spread in every band of a pyramid: its sharpness and grain too",
        arm=adain_pyramid,
        takes_look=True,
    ),
    "fda": ArmEntry(summary="the donor's low frequencies: its broad light and colour", arm=fda, takes_look=True),
    # Those that keep the face's own pixels: light, camera, things before the face, what is behind it, make-up.
    "relight": ArmEntry(summary="the light, shadows and tint of the donor's face", arm=relight, takes_look=True),
    "shadow": ArmEntry(summary="a drawn shadow with a soft edge", arm=shadow, looks_at_donor=False),
    "degrade": ArmEntry(
        summary="a worse camera: out of focus, moved, few pixels, noise or JPEG", arm=degrade, looks_at_donor=False
    ),
    "degrade_like": ArmEntry(summary="a camera as soft and as noisy as the donor's", arm=degrade_like),
    "occlude": ArmEntry(summary="a drawn object before the face, such as a hand, a bar, glasses or a hat", arm=occlude),
    "occlude_aligned": ArmEntry(
        summary="a region of the donor over the same region of the face",
        arm=occlude_aligned,
        needs_donor_landmarks=True,
    ),
    "context": ArmEntry(summary="the donor's hair and background round the face", arm=context),
    "warp": ArmEntry(
        summary="a donor of like shape, its photograph bent onto the face's landmarks",
        for_schema=warp,
        needs_donor_landmarks=True,
        donors_by_fit=True,
    ),
    "make_up": ArmEntry(summary="colours on lips, lids and cheeks", for_schema=make_up, looks_at_donor=False),
    # Learned.
    "translator": ArmEntry(
        summary="the face as a trained translator draws it in the donor's style", from_run=open_translator_arm
    ),
}


def names_without_run() -> list[str]:
    """The names of the arms that need no finished run, in the table's order: each is a preset as well."""
    return [name for name, entry in ARMS.items() if not entry.needs_run]


def names_of_looks() -> list[str]:
    """The names of the arms that need no training and take their style from one other picture, in the table's order."""
    return [name for name, entry in ARMS.items() if entry.takes_look]


def open_arm(name: str, schema: LandmarkSchema, crop: CropConfig, device: torch.device, run: Path | None = None) -> Arm:
    """An arm, ready to use.

    Args:
        name: of the table.
        schema: mark-up of the faces it will restyle.
        crop: how they are cut, with whatever margin.
        device: where a learned arm works.
        run: the finished run of a learned arm.

    Raises:
        UserError: a name that is not in the table, a learned arm without a run, a mark-up that it cannot work on.
    """
    if name not in ARMS:
        raise UserError(f"no style arm is called {name!r}; there are {', '.join(ARMS)}")
    entry = ARMS[name]
    if entry.arm is not None:
        return entry.arm
    if entry.for_schema is not None:
        return entry.for_schema(schema)
    assert entry.from_run is not None  # the entry has seen to it
    if run is None:
        raise UserError(f"arm {name}: needs a run folder")
    return entry.from_run(run, crop, schema, device)
