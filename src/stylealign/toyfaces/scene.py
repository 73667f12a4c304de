"""Where things are on the canvas, as polygons: a structure's landmarks, and the hair, ears and neck of a style.

Knows no paint. Everything is placed in the head frame of `shape.py` and projected with the landmarks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.shape import head_points, project, rotation, slide, smooth_curve, unit_px
from stylealign.toyfaces.style import Style

_SKULL = np.array([0.0, -0.32, -0.26])
_SKULL_RADII = np.array([0.97, 1.06, 1.10])


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """The outlines of one face on its canvas; polygons are (n, 2) canvas pixels."""

    structure: Structure
    size: int
    """Width of the finished picture."""
    reduce: int
    """Canvas pixels per picture pixel."""
    unit: float
    """Canvas pixels per head unit."""
    head: np.ndarray
    """The landmarks in the head frame, (98, 3)."""
    landmarks: np.ndarray
    """The landmarks in the picture, (98, 2) float32."""
    px: np.ndarray
    """The landmarks on the canvas, (98, 2)."""
    face: np.ndarray
    """Skin from the chin to the top of the forehead; its lower edge is the contour."""
    face_below: np.ndarray
    """The same without the forehead."""
    skull: np.ndarray
    """The bare head behind the face."""
    cap: np.ndarray
    """Outer edge of the hair on the skull."""
    opening: np.ndarray
    """The part of the face that this cut leaves bare: hairline and contour."""
    long_hair: np.ndarray | None
    """Hair behind the shoulders, if long."""
    locks: tuple[np.ndarray, ...]
    """Hair at the sides of the face, before the neck."""
    fringe: np.ndarray | None
    """Hair over the forehead, before the brows."""
    ears: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Outer and inner outline of each ear that shows."""

    def at(self, points: np.ndarray | Sequence) -> np.ndarray:
        """Head-frame points (n, 3) on the canvas, (n, 2)."""
        return (project(self.structure, points, self.size) + 0.5) * self.reduce - 0.5


def _ellipsoid(
    structure: Structure, centre_px: np.ndarray, radii: np.ndarray, unit: float, num: int = 72
) -> np.ndarray:
    """Outline of a turned ellipsoid: the ellipse whose matrix is the upper left of R diag(r^2) R'."""
    turn = rotation(structure)
    values, axes = np.linalg.eigh((turn @ np.diag(radii**2) @ turn.T)[:2, :2])
    t = np.linspace(0, 2 * np.pi, num, endpoint=False)
    return centre_px + unit * (np.stack([np.cos(t), np.sin(t)], axis=1) * np.sqrt(values)) @ axes.T


def _both_sides(right: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Points from the image's right to the middle (last, x = 0), completed with their mirror images: left to right."""
    half = np.array(right)
    return np.concatenate([half * (-1, 1, 1), half[-2::-1]])


def _hairline(style: Style, width: float) -> np.ndarray:
    """Edge of the hair on the face from temple to temple (n, 3), the image's left to its right."""
    high = -0.86 - 0.10 * style.hairline
    recede = 0.10 * max(0.0, style.hairline)
    line = _both_sides(
        [
            (0.96 * width, 0.06, -0.02),
            (0.93 * width, -0.28, 0.10),
            (0.80 * width, -0.56 - recede, 0.38),
            (0.50 * width, high + 0.10 - 1.2 * recede, 0.66),
            (0.0, high, 0.80),
        ]
    )
    if style.hair in ("parted", "long", "bob"):  # rises to the parting, sweeps down on either side
        gap = 0.45 * style.parting
        away = np.abs(line[:, 0] - gap)
        line[2:7, 1] += 0.16 * np.clip(away[2:7], 0, 0.7) - 0.10
    return line


def _long_hair(style: Style, width: float) -> tuple[list | None, list]:
    """Right half of the outline behind, and the right lock before the shoulder, in the head frame."""
    if style.hair not in ("long", "bob"):
        return None, []
    end = style.hair_length if style.hair == "long" else 0.75 + 0.25 * style.hair_length
    out = 1.0 * width + style.hair_volume + (0.10 if style.hair == "bob" else 0.0)
    flare = 0.12 if style.hair == "long" else 0.0
    cap = 0.97 * width + 0.75 * style.hair_volume  # the half width of the hair on the skull, to leave no step above
    outline = [
        (0.88 * cap, -0.80, -0.2),
        (1.0 * cap, -0.30, -0.2),
        (out + 0.04, 0.35, -0.1),
        (out + flare, 0.7 * end + 0.15, -0.1),
        (out + flare - 0.08, end - 0.06, -0.1),
        (0.88 * out, end + 0.05, -0.1),
    ]
    lock_inner = [
        (0.72 * width, end + 0.04, 0.0),
        (0.66 * width, 0.7 * end + 0.2, 0.0),
        (0.70 * width, 0.62, 0.0),
        (0.75 * width, 0.0, 0.0),
    ]
    return outline, [*outline, *lock_inner]


def _cap_radii(style: Style) -> np.ndarray:
    volume = {"buzz": 0.015, "bald": 0.0, "bun": 0.05, "curly": 0.16 + style.hair_volume}.get(
        style.hair, style.hair_volume
    )
    return _SKULL_RADII + volume * np.array([0.75, 1.0, 0.8])


def make_scene(structure: Structure, style: Style, size: int, reduce: int) -> Scene:
    """Place a face and its hair on a canvas of size * reduce pixels."""
    head = head_points(structure)
    landmarks = project(structure, head, size)
    px = (landmarks + 0.5) * reduce - 0.5
    unit = unit_px(structure, size) * reduce
    width = structure.face_width

    def at(points: np.ndarray | Sequence) -> np.ndarray:
        return (project(structure, points, size) + 0.5) * reduce - 0.5

    forehead = slide(
        _both_sides(
            [
                (0.945 * width, -0.30, 0.0),
                (0.90 * width, -0.62, 0.05),
                (0.76 * width, -0.95, 0.10),
                (0.45 * width, -1.20, 0.2),
                (0.0, -1.30, 0.3),
            ]
        ),
        structure.yaw,
        0.74,
    )
    contour = smooth_curve(px[:33], 4)
    top = at(forehead)
    face = np.concatenate([contour, smooth_curve(np.concatenate([px[32:33], top[::-1], px[0:1]]), 4)[1:-1]])
    face_below = np.concatenate([contour, at([(0, 0.0, 0.7)])])
    centre = at(_SKULL[None])[0]
    skull = _ellipsoid(structure, centre, _SKULL_RADII * (width, 1, 1), unit)
    cap = _ellipsoid(structure, centre, _cap_radii(style) * (width, 1, 1), unit)
    textures = np.random.default_rng((style.seed, 2))
    turns = np.arange(len(cap)) * 2 * np.pi / len(cap)
    if style.hair == "curly":
        cap = centre + (cap - centre) * (1 + 0.045 * np.sin(19 * turns + textures.uniform(0, 6)))[:, None]
    elif style.hair in ("short", "fringe", "parted"):
        waves = np.sin(np.outer(turns, (2, 3, 4, 5, 7)) + textures.uniform(0, 6, 5)) @ textures.uniform(-0.02, 0.02, 5)
        cap = centre + (cap - centre) * (1 + waves)[:, None]
    hairline = smooth_curve(at(slide(_hairline(style, width), structure.yaw, 0.78)), 8)
    if style.hair in ("short", "curly", "fringe", "parted"):  # no scalp ends in a clean line
        tufts = np.interp(np.linspace(0, 1, len(hairline)), np.linspace(0, 1, 29), textures.uniform(-1, 1, 29))
        tufts *= np.sin(np.linspace(0, np.pi, len(hairline))) ** 0.5
        hairline += 0.035 * unit * tufts[:, None] * np.array([0.4, 1.0])
    opening = np.concatenate([hairline, contour[::-1]])

    fringe = None
    if style.hair == "fringe":
        x = np.linspace(-0.88, 0.88, 15)
        ragged = textures.uniform(-0.05, 0.05, 15)
        lower = np.stack(
            [x * width, -0.46 + ragged + 0.10 * x * x - 0.03 * style.hairline, 0.84 - 0.55 * x * x], axis=1
        )
        upper = _both_sides(
            [(0.93 * width, -0.3, 0.1), (0.86 * width, -0.8, 0.3), (0.5 * width, -1.15, 0.6), (0.0, -1.25, 0.6)]
        )
        fringe = np.concatenate(
            [at(slide(lower, structure.yaw, 0.84)), smooth_curve(at(slide(upper, structure.yaw, 0.74)))[::-1]]
        )

    back, lock = _long_hair(style, width)
    long_hair: np.ndarray | None = None
    locks: tuple[np.ndarray, ...] = ()
    if back is not None:
        right = np.array(back)
        both = np.concatenate([right * (-1, 1, 1), right[::-1]])
        long_hair = smooth_curve(at(both), 5)
        locks = tuple(smooth_curve(at(np.array(lock) * (side, 1, 1)), 5) for side in (-1, 1))

    ears = []
    if style.hair not in ("long", "bob"):
        t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        for side in (-1, 1):
            wide = 0.20 * (1 - 0.25 * np.sin(t))  # broader above than below
            shape = np.stack([0.55 * wide * np.cos(t), 0.31 * np.sin(t), -0.80 * wide * np.cos(t)], axis=1)
            base = np.array([0.965 * width, 0.12, -0.08])
            outer, inner = base + shape, base + (0.01, -0.02, 0.01) + 0.55 * shape
            ears.append((at(outer * (side, 1, 1)), at(inner * (side, 1, 1))))
    return Scene(
        structure=structure, size=size, reduce=reduce, unit=unit, head=head, landmarks=landmarks.astype(np.float32),
        px=px, face=face, face_below=face_below, skull=skull, cap=cap, opening=opening, long_hair=long_hair,
        locks=locks, fringe=fringe, ears=tuple(ears),
    )  # fmt: skip
