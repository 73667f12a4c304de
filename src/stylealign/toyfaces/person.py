"""The structure of a drawn face as numbers: who it is, what it does, where it looks and where in the frame it is.

Knows nothing of points (`shape.py` places them) nor of looks (`style.py`).
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """Everything that decides where the 98 landmarks are. Sizes are factors (1 = ordinary), angles are degrees."""

    # identity
    face_width: float = 1.0
    """Width at the ears."""
    face_length: float = 1.0
    """Distance from the eyes to the chin; nose and mouth follow."""
    jaw_width: float = 1.0
    """Width at the corners of the jaw, relative to the face."""
    chin_width: float = 1.0
    """Small is pointed, large is square."""
    eye_size: float = 1.0
    """Length of the eyes."""
    eye_height: float = 1.0
    """How far open the resting eyes are."""
    eye_spacing: float = 1.0
    """Distance between the eyes."""
    eye_tilt: float = 0.0
    """Rise of the outer corners in units of 0.1; negative droops."""
    nose_length: float = 1.0
    """Bridge to base."""
    nose_width: float = 1.0
    """Across the wings."""
    nose_depth: float = 1.0
    """How far the tip stands out."""
    mouth_width: float = 1.0
    """Corner to corner, at rest."""
    upper_lip: float = 1.0
    """Thickness of the upper lip."""
    lower_lip: float = 1.0
    """Thickness of the lower lip."""
    brow_height: float = 0.0
    """Resting height of the brows in units of 0.1."""
    brow_thickness: float = 1.0
    """Thickness of the brows at the inner end."""
    brow_arch: float = 1.0
    """Height of the brows' arch."""
    # expression
    smile: float = 0.0
    """-1 corners pulled down ... 1 broad smile."""
    smirk: float = 0.0
    """Extra lift of the image-right corner of the mouth, and as much drop of the other; -1 ... 1."""
    mouth_open: float = 0.0
    """0 closed ... 1 wide open; the jaw goes down with it."""
    eye_closed_left: float = 0.0
    """Image-left eye: 0 as at rest ... 1 shut."""
    eye_closed_right: float = 0.0
    """Image-right eye: 0 as at rest ... 1 shut."""
    brow_raise: float = 0.0
    """-1 lowered ... 1 raised."""
    brow_frown: float = 0.0
    """0 ... 1: inner ends drawn down and together."""
    gaze_x: float = 0.0
    """-1 looks to the image's left ... 1 to its right."""
    gaze_y: float = 0.0
    """-1 looks up ... 1 down."""
    # pose
    yaw: float = 0.0
    """Positive turns the nose to the image's right."""
    pitch: float = 0.0
    """Positive lowers the nose."""
    roll: float = 0.0
    """Positive turns the face clockwise in the image."""
    # placement in the frame
    scale: float = 0.6
    """Two units of the head (brow to chin, about) as a fraction of the frame."""
    shift_x: float = 0.0
    """Displacement from the frame's centre, as a fraction of the frame."""
    shift_y: float = 0.0
    """Displacement from the frame's centre, as a fraction of the frame."""


def mirror_structure(structure: Structure) -> Structure:
    """The same face seen in a mirror: signed sideways quantities negated, the eyes' states exchanged."""
    return replace(
        structure,
        smirk=-structure.smirk,
        gaze_x=-structure.gaze_x,
        yaw=-structure.yaw,
        roll=-structure.roll,
        shift_x=-structure.shift_x,
        eye_closed_left=structure.eye_closed_right,
        eye_closed_right=structure.eye_closed_left,
    )


def _around(rng: np.random.Generator, mean: float, spread: float, reach: float = 2.2) -> float:
    """A normal number cut off at `reach` spreads."""
    return float(mean + spread * np.clip(rng.standard_normal(), -reach, reach))


def random_structure(
    rng: np.random.Generator,
    *,
    max_yaw: float = 55.0,
    expression: float = 1.0,
    placement: float = 1.0,
) -> Structure:
    """A random face's structure.

    `max_yaw` is in degrees; `expression` and `placement` scale how much these vary (0: neutral, centred).
    """
    identity = {
        "face_width": _around(rng, 1.0, 0.06),
        "face_length": _around(rng, 1.0, 0.06),
        "jaw_width": _around(rng, 1.0, 0.07),
        "chin_width": _around(rng, 1.0, 0.14),
        "eye_size": _around(rng, 1.0, 0.08),
        "eye_height": _around(rng, 1.0, 0.15),
        "eye_spacing": _around(rng, 1.0, 0.05),
        "eye_tilt": _around(rng, 0.05, 0.2),
        "nose_length": _around(rng, 1.0, 0.06),
        "nose_width": _around(rng, 1.0, 0.14),
        "nose_depth": _around(rng, 1.0, 0.12),
        "mouth_width": _around(rng, 1.0, 0.08),
        "upper_lip": _around(rng, 1.0, 0.22),
        "lower_lip": _around(rng, 1.0, 0.2),
        "brow_height": _around(rng, 0.0, 0.3),
        "brow_thickness": _around(rng, 1.0, 0.25),
        "brow_arch": _around(rng, 0.9, 0.35),
    }
    moods = rng.random(6)
    wink, blink = moods[0] < 0.03, moods[1] < 0.06
    closed = rng.uniform(0.9, 1.0, 2) if blink else rng.uniform(0.0, 0.25, 2).clip(0.0, 0.2)
    if wink:
        closed[rng.integers(2)] = 1.0
    face = {
        "smile": _around(rng, 0.25, 0.4) if moods[2] < 0.75 else rng.uniform(-0.7, 0.9),
        "smirk": _around(rng, 0.0, 0.2),
        "mouth_open": rng.uniform(0.25, 1.0) if moods[3] < 0.22 else max(0.0, rng.uniform(-0.2, 0.15)),
        "eye_closed_left": closed[0],
        "eye_closed_right": closed[1],
        "brow_raise": _around(rng, 0.0, 0.3) if moods[4] < 0.85 else rng.uniform(0.5, 1.0),
        "brow_frown": rng.uniform(0.3, 1.0) if moods[5] < 0.12 else max(0.0, _around(rng, 0.0, 0.12)),
        "gaze_x": _around(rng, 0.0, 0.4),
        "gaze_y": _around(rng, 0.0, 0.3),
    }
    turned = rng.random() < 0.3
    yaw = rng.uniform(-max_yaw, max_yaw) if turned else _around(rng, 0.0, min(13.0, max_yaw / 2.2))
    pitch, roll = _around(rng, 2.0, 7.0), _around(rng, 0.0, 7.0)
    shifts = rng.uniform(-0.05, 0.05, 2) * placement
    return Structure(
        **identity,
        **{name: float(value) * expression for name, value in face.items()},
        yaw=float(yaw),
        pitch=pitch,
        roll=roll,
        scale=0.58 + placement * float(rng.uniform(-0.09, 0.09)),
        shift_x=float(shifts[0]),
        shift_y=0.03 + float(shifts[1]),
    )
