"""Which face is drawn in which style, by its number.

Face i is a function of (seed, i) alone: making more faces, or none unlabelled, changes no other face.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stylealign.errors import UserError
from stylealign.toyfaces.causes import CAUSES, LEVELS, Cause, raise_cause
from stylealign.toyfaces.paint import draw_face
from stylealign.toyfaces.person import Structure, random_structure
from stylealign.toyfaces.style import Style, World, random_style

_LABELLED, _UNLABELLED, _CAUSES = 0, 1, 2  # random streams
StyleShift = Literal["none", "dark", "studio_street"]
_WORLDS: dict[str, tuple[World, World]] = {  # of the other faces, and of the shifted ones
    "none": ("none", "none"),
    "dark": ("none", "dark"),
    "studio_street": ("studio", "street"),
}
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceOptions:
    """What decides, beside its number, how a face is drawn."""

    seed: int = 0
    """Face i is a function of (seed, i)."""
    val_frac: float = 0.1
    """Share of the labelled faces in split val."""
    test_frac: float = 0.2
    """Share of the labelled faces in split test."""
    max_yaw: float = 55.0
    """Largest turn of a head, degrees (at most 60: beyond, the far landmarks would be guesses)."""
    style_shift: StyleShift = "none"
    """Other styles for the test faces. dark: night. studio_street: a poor camera at night; the others in a studio."""
    val_shift: bool = False
    """Whether the faces of split val have the test faces' styles as well."""
    unlabelled_shift: bool = True
    """Whether unlabelled faces have the test faces' styles (no difference unless style_shift is set)."""
    unlabelled_split: str = "train"
    """Split of the unlabelled faces."""
    cause: Cause | Literal["none"] = "none"
    """Draw the test faces (only) with this cause of WFLW's hard subsets at a chosen strength, otherwise as they are."""
    strength: int = 4
    """How strong `cause` is, from 0 (without it) to 4; at every strength the same faces change in the same way."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UserError(f"seed: found {self.seed}, expected 0 or more")
        if not 0 <= self.max_yaw <= 60:
            raise UserError(f"max_yaw: found {self.max_yaw}, expected 0 to 60 degrees")
        if not (self.val_frac >= 0 and self.test_frac >= 0 and self.val_frac + self.test_frac <= 1):
            raise UserError(
                f"val_frac {self.val_frac} and test_frac {self.test_frac}: expected shares that sum to at most 1"
            )
        if self.style_shift not in _WORLDS:
            raise UserError(f"style_shift: found '{self.style_shift}', expected {', '.join(_WORLDS)}")
        if self.cause not in (*get_args(Cause), "none"):
            raise UserError(f"cause: found '{self.cause}', expected {', '.join(CAUSES)} or none")
        if not 0 <= self.strength <= LEVELS:
            raise UserError(f"strength: found {self.strength}, expected 0 to {LEVELS}")
        if not (self.unlabelled_split and self.unlabelled_split.isprintable()):
            raise UserError(f"unlabelled_split: found {self.unlabelled_split!r}, expected a word")


def attributes(structure: Structure, style: Style) -> dict[str, bool]:
    """WFLW's six subsets, from the parameters: pose, expression, illumination, make_up, occlusion, blur."""
    s, t = structure, style
    night = t.exposure * (t.ambient + t.lamp) < 0.6
    return {
        "pose": abs(s.yaw) > 30 or abs(s.pitch) > 18 or abs(s.roll) > 25,
        "expression": s.mouth_open > 0.3
        or abs(s.smile) > 0.8
        or max(s.eye_closed_left, s.eye_closed_right) > 0.8
        or abs(s.brow_raise) > 0.7
        or s.brow_frown > 0.6,
        "illumination": night
        or t.exposure > 1.25
        or t.ambient < 0.35
        or min(t.light_colour) < 0.75 * max(t.light_colour),
        "make_up": max(t.lipstick, t.eye_shadow, t.blush) > 0.3,
        "occlusion": t.occluder in ("hand", "bar", "microphone") or t.glasses == "sun",
        "blur": t.blur > 0.6 or t.motion > 2 or t.downscale > 1.8,
    }


def split_of(index: int, val_frac: float, test_frac: float) -> str:
    """Split of face `index`: the golden-ratio sequence fills the shares evenly, whatever the count."""
    place = (0.5 + index * _GOLDEN) % 1.0
    return "test" if place < test_frac else "val" if place < test_frac + val_frac else "train"


def face_of(options: FaceOptions, index: int, unlabelled: bool = False) -> tuple[Structure, Style, str]:
    """Structure, style and split of one face: a function of (seed, index) and the options, not of the counts."""
    rng = np.random.default_rng((options.seed, _UNLABELLED if unlabelled else _LABELLED, index))
    split = options.unlabelled_split if unlabelled else split_of(index, options.val_frac, options.test_frac)
    shifted = options.unlabelled_shift if unlabelled else split == "test" or (options.val_shift and split == "val")
    structure = random_structure(rng, max_yaw=options.max_yaw)
    style = random_style(rng, shift=_WORLDS[options.style_shift][shifted])
    if options.cause != "none" and split == "test" and not unlabelled:
        stream = np.random.default_rng((options.seed, _CAUSES, index, CAUSES.index(options.cause)))
        structure, style = raise_cause(structure, style, options.cause, options.strength, stream)
    return structure, style, split


def draw_swap_sheet(structures: Sequence[Structure], styles: Sequence[Style], size: int = 128) -> np.ndarray:
    """Every structure in every style: ((1 + len(styles)) * size, (1 + len(structures)) * size, 3) uint8.

    Row 0 shows each structure in its own style (the style of the same index, cyclically), column 0 each style on its
    own structure. The cell at (1 + i, 1 + j) is structure j in style i, as a perfect translator would make it. The
    corner is grey.
    """
    sheet = np.full(((1 + len(styles)) * size, (1 + len(structures)) * size, 3), 128, np.uint8)

    def put(row: int, column: int, structure: Structure, style: Style) -> None:
        sheet[row * size : (row + 1) * size, column * size : (column + 1) * size] = draw_face(structure, style, size)[0]

    for j, structure in enumerate(structures):
        put(0, 1 + j, structure, styles[j % len(styles)])
    for i, style in enumerate(styles):
        put(1 + i, 0, structures[i % len(structures)], style)
        for j, structure in enumerate(structures):
            put(1 + i, 1 + j, structure, style)
    return sheet
