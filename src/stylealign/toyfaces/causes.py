"""The six causes of WFLW's hard subsets, each drawn at rising strength on an otherwise unchanged face.

Strength 0 is the face without the cause (frontal, at rest, evenly lit, bare, nothing before it, sharp), 4 its full
extent. In between the same face changes in the same way, step by step, so that errors can be read as a curve. The
other five causes stay as they were drawn. What photographs allow of this is in hardships.py.
"""

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.style import Style, hsv, mix_colours

Cause = Literal["pose", "expression", "illumination", "make_up", "occlusion", "blur"]
CAUSES: tuple[Cause, ...] = ("pose", "expression", "illumination", "make_up", "occlusion", "blur")
LEVELS = 4
"""The largest strength."""

_FACES = {  # what a face at strength 4 does; at rest everything else is 0
    "laugh": {"smile": 1.0, "mouth_open": 0.75, "brow_raise": 0.3},
    "shout": {"mouth_open": 1.0, "brow_frown": 0.9, "smile": -0.2},
    "surprise": {"mouth_open": 0.8, "brow_raise": 1.0},
    "scowl": {"smile": -0.9, "brow_frown": 1.0, "brow_raise": -0.6},
    "blink": {"eye_closed_left": 1.0, "eye_closed_right": 1.0, "smile": 0.4},
    "wink": {"eye_closed_left": 1.0, "smirk": -1.0, "smile": 0.8},
}
_AT_REST = ("smile", "smirk", "mouth_open", "eye_closed_left", "eye_closed_right", "brow_raise", "brow_frown")


def _pose(structure: Structure, t: float, rng: np.random.Generator) -> Structure:
    """Up to 55 degrees of yaw, 15 of pitch and 30 of roll."""
    yaw, pitch, roll = rng.choice([-1, 1], 3) * rng.uniform(0.8, 1.0, 3) * (55, 15, 30)
    return replace(structure, yaw=float(t * yaw), pitch=float(t * pitch), roll=float(t * roll))


def _expression(structure: Structure, t: float, rng: np.random.Generator) -> Structure:
    """From a face at rest to one of six that are not."""
    goal = _FACES[str(rng.choice(list(_FACES)))]
    return replace(structure, **{name: t * goal.get(name, 0.0) for name in _AT_REST})  # type: ignore[arg-type]


def _illumination(style: Style, t: float, rng: np.random.Generator) -> Style:
    """From even white light to a lamp of some colour at one side, too dark or, for a third of the faces, too bright."""
    side, elevation, hue = float(rng.choice([-1, 1])), rng.uniform(-5, 40), rng.random()
    full = float(rng.uniform(1.5, 1.9) if rng.random() < 1 / 3 else rng.uniform(0.55, 0.75))
    return replace(
        style,
        light_azimuth=side * (10 + 75 * t),
        light_elevation=float((1 - t) * 30 + t * elevation),
        light_colour=mix_colours((1.0, 1.0, 1.0), hsv(hue, 0.6, 1.0), t),
        ambient_colour=mix_colours((1.0, 1.0, 1.0), hsv(hue + 0.5, 0.25, 1.0), t),
        ambient=0.65 - 0.5 * t,
        lamp=0.4 + 0.5 * t,
        exposure=full**t,
    )


def _make_up(style: Style, t: float, rng: np.random.Generator) -> Style:
    """From a bare face to opaque lips, lids and cheeks, in any colours."""
    return replace(
        style,
        lipstick=t,
        lipstick_colour=hsv(rng.random(), rng.uniform(0.4, 1.0), rng.uniform(0.1, 0.8)),
        eye_shadow=t,
        eye_shadow_colour=hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.1, 0.9)),
        blush=0.9 * t,
        lashes=0.2 + 0.8 * t,
    )


def _occlusion(style: Style, t: float, rng: np.random.Generator) -> Style:
    """A hand, a bar or a microphone comes in from the side and grows; glasses are added at 3, dark ones at 4."""
    thing = str(rng.choice(["hand", "bar", "microphone"]))
    angle, height = math.radians(rng.uniform(0, 180)), float(rng.uniform(0.3, 0.9))
    away = 1.3 * (1 - t) + 0.15
    return replace(
        style,
        occluder=thing if t > 0 else "none",  # type: ignore[arg-type]
        occluder_colour=hsv(rng.random(), rng.uniform(0.0, 0.7), rng.uniform(0.12, 0.7)),
        occluder_x=math.cos(angle) * away,
        occluder_y=height + math.sin(angle) * away,
        occluder_angle=float(rng.uniform(-60, 60)),
        occluder_size=0.6 + 0.8 * t,
        glasses="sun" if t > 0.9 else "square" if t > 0.6 else "none",
    )


def _blur(style: Style, t: float, rng: np.random.Generator) -> Style:
    """From a sharp picture to a smeared or defocused one of few pixels, noisy and squeezed."""
    moving = rng.random() < 0.4
    return replace(
        style,
        blur=0.0 if moving else 2.4 * t,
        motion=7.0 * t if moving else 0.0,
        downscale=1 + 2.5 * t,
        noise=0.06 * t,
        jpeg=100 if t == 0 else round(90 - 75 * t),
    )


def raise_cause(
    structure: Structure, style: Style, cause: Cause, strength: int, rng: np.random.Generator
) -> tuple[Structure, Style]:
    """The face with one cause at `strength` (0 ... 4); `rng` decides how, in the same way at every strength."""
    t = strength / LEVELS
    if cause == "pose":
        return _pose(structure, t, rng), style
    if cause == "expression":
        return _expression(structure, t, rng), style
    change = {"illumination": _illumination, "make_up": _make_up, "occlusion": _occlusion, "blur": _blur}[cause]
    return structure, change(style, t, rng)
