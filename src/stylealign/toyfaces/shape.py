"""The structure of a drawn face: who it is, what it does and where it looks, as 98 points in three dimensions.

Knows nothing of colour, light, hair or pixels' contents: those are the style (`style.py`) and the painting (`paint.py`).

Head frame: x to the image's right, y down, z towards the viewer; the origin lies between the eyes at the depth of the ears;
one unit is about 73 mm, so that an ordinary face is 1.9 units wide at the ears and its chin is at y = 1.55.
The model is mirror-symmetric: `mirror_structure` and the schema's flip permutation undo each other exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

NUM_POINTS = 98
_CAMERA_DISTANCE = 14.0  # units; gives the nose tip of a frontal face about 8 % more scale than the ears
_FRONT_DEPTH = 0.80  # depth of the cheeks' front, which becomes the outline on the far side of a turned head
_PIVOT = np.array([0.0, 0.55, 0.45])  # this point of the head is put at the frame's centre (plus shift)


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


@lru_cache(maxsize=64)
def _spline_matrix(num_points: int, num_samples: int) -> np.ndarray:
    """The natural cubic spline through `num_points` equally spaced knots, as a (num_samples, num_points) matrix."""
    n = num_points
    moments = np.zeros((n, n))  # second derivatives as linear functions of the values
    if n > 2:
        system = np.diag(np.full(n - 2, 4.0)) + np.diag(np.ones(n - 3), 1) + np.diag(np.ones(n - 3), -1)
        second_difference = np.zeros((n - 2, n))
        rows = np.arange(n - 2)
        second_difference[rows, rows], second_difference[rows, rows + 1], second_difference[rows, rows + 2] = 6, -12, 6
        moments[1:-1] = np.linalg.solve(system, second_difference)
    t = np.linspace(0, n - 1, num_samples)
    k = np.minimum(t.astype(int), n - 2)
    b = (t - k)[:, None]
    a = 1 - b
    identity = np.eye(n)
    return a * identity[k] + b * identity[k + 1] + ((a**3 - a) * moments[k] + (b**3 - b) * moments[k + 1]) / 6


def smooth_curve(points: np.ndarray, samples_per_gap: int = 8) -> np.ndarray:
    """A natural cubic spline through points (n, d), passing exactly through each; (samples_per_gap * (n - 1) + 1, d)."""
    return _spline_matrix(len(points), samples_per_gap * (len(points) - 1) + 1) @ points


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


def _lower_face(s: Structure) -> tuple[float, float, float, float]:
    """Heights (y) of the nose tip, the nose base, the line between the lips and the chin, with the mouth at rest."""
    base = 0.66 * (0.55 + 0.45 * s.face_length) * s.nose_length
    chin = 1.55 * s.face_length
    return base - 0.12, base, base + (0.34 * (chin - base)), chin


def _opening(s: Structure) -> float:
    """Distance between the inner lips in units; a broad smile parts them a little."""
    return 0.46 * s.mouth_open + 0.09 * max(0.0, s.smile - 0.35)


def _contour(s: Structure) -> np.ndarray:
    """The 33 points of the outline (33, 3) of the head turned by the structure's yaw.

    On the far side of a turned head the outline is where the cheek's front curves away: the points slide there along the
    horizontal section of the face, taken for a half ellipse from the ear's depth to the front.
    """
    *_, chin = _lower_face(s)
    w, j, c = s.face_width, s.face_width * s.jaw_width, s.face_width * s.chin_width
    half = np.array(
        [
            (0.0, chin, 0.80),
            (0.26 * c, chin - 0.045, 0.75),
            (0.53 * (j + c) / 2, chin * 0.90 - 0.02, 0.52),
            (0.74 * j, chin * 0.72, 0.26),
            (0.855 * (w + j) / 2, chin * 0.48, 0.08),
            (0.93 * w, chin * 0.20, 0.0),
            (0.95 * w, -0.10, -0.02),
        ]
    )
    both = np.concatenate([half[:0:-1] * (-1, 1, 1), half])
    dense = smooth_curve(both, 24)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense[:, :2], axis=0), axis=1))])
    wanted = np.linspace(0, length[-1], 33)
    points = np.stack([np.interp(wanted, length, dense[:, i]) for i in range(3)], axis=1)
    points = (points + points[::-1] * (-1, 1, 1)) / 2  # exact symmetry, whatever the rounding
    drop = 0.62 * _opening(s) * np.clip((points[:, 1] - 0.45) / (chin - 0.45), 0, 1) ** 1.5
    points[:, 1] += drop

    yaw = np.radians(s.yaw)
    far = points[:, 0] * np.sign(yaw) > 0
    x, z = points[far, 0], points[far, 2]
    angle = np.arctan2((_FRONT_DEPTH - z) * abs(np.sin(yaw)), np.abs(x) * np.cos(yaw))
    points[far, 0] = x * np.cos(angle)
    points[far, 2] = z + (_FRONT_DEPTH - z) * np.sin(angle)
    return points


def _brow(s: Structure) -> np.ndarray:
    """Image-right brow (9, 3) in the order 42..50: inner top to outer tip, then back along the bottom."""
    top, bottom = np.linspace(0, 1, 5), np.array([0.80, 0.55, 0.28, 0.0])  # 0 inner, 1 outer
    t = np.concatenate([top, bottom])
    inner, outer = 0.17 - 0.035 * s.brow_frown, 0.74
    x = (inner + (outer - inner) * t) * (0.6 + 0.2 * s.face_width + 0.2 * s.eye_spacing)
    line = -0.30 - 0.1 * s.brow_height - 0.13 * s.brow_raise
    arch = -0.085 * s.brow_arch * np.sin(np.pi * np.clip(t, 0, 1) ** 1.25) - 0.02 * t + 0.07 * t**4
    frown = s.brow_frown * (0.10 * (1 - t) ** 2 - 0.02 * t)
    thickness = 0.095 * s.brow_thickness * (1 - t**2.2) * (0.85 + 0.3 * t)
    side = np.concatenate([np.full(5, -0.6), np.full(4, 0.4)])
    y = line + arch + frown + side * thickness
    y[4] = line + arch[4] + frown[4]
    return np.stack([x, y, 0.84 - 0.42 * x**2], axis=1)


def eye_depth(x: np.ndarray) -> np.ndarray:
    """Depth of the face at the height of the eyes, at |x| units from the middle."""
    return 0.74 - 0.45 * np.asarray(x) ** 2


def _eye(s: Structure, closed: float, gaze_out: float) -> tuple[np.ndarray, np.ndarray]:
    """Image-right eye: eight points (8, 3) in the order 68..75 (inner corner, top, outer corner, bottom) and the pupil (3,)."""
    centre = 0.435 * s.eye_spacing * (0.5 + 0.5 * s.face_width)
    half = 0.20 * s.eye_size
    squint = 0.3 * max(0.0, s.smile) * (1 - closed)
    high = 0.105 * s.eye_height * s.eye_size * (1 - 0.35 * squint) * (1 + 0.2 * max(0.0, s.brow_raise))
    low = 0.075 * s.eye_height * s.eye_size * (1 - 0.8 * squint)
    shut = 0.045 * s.eye_size

    def lid(u: np.ndarray, top: bool) -> np.ndarray:
        profile = 1 - np.abs(u) ** 2.1
        open_y = -high * profile * (1 - 0.12 * u) if top else low * profile * (1 + 0.15 * u)
        return (1 - closed) * open_y + closed * shut * profile

    def lift(u: np.ndarray) -> np.ndarray:
        return 0.02 - (0.012 + 0.1 * s.eye_tilt) * (u + 1) / 2 * 1.5

    u_top, u_bottom = np.array([-1.0, -0.5, 0.0, 0.5]), np.array([1.0, 0.5, 0.0, -0.5])
    u = np.concatenate([u_top, u_bottom])
    y = np.concatenate([lid(u_top, True), lid(u_bottom, False)]) + lift(u)
    x = centre + half * u
    points = np.stack([x, y, eye_depth(x) + 0.03 * (1 - u**2)], axis=1)

    u_pupil = np.array(np.clip(0.42 * gaze_out, -0.6, 0.6))
    top, bottom = lid(u_pupil, True), lid(u_pupil, False)
    wanted = 0.3 * (top + bottom) - 0.01 + 0.05 * s.gaze_y
    y_pupil = np.clip(wanted, top + 0.2 * (bottom - top), bottom - 0.2 * (bottom - top)) + lift(u_pupil)
    x_pupil = centre + half * u_pupil
    return points, np.array([x_pupil, y_pupil, eye_depth(x_pupil) + 0.03])


def _nose(s: Structure) -> np.ndarray:
    """The nine points of the nose (9, 3): bridge 51..54, base 55..59 from image left to right."""
    tip, base, *_ = _lower_face(s)
    depth = np.array([0.80, 0.80 + 0.10 * s.nose_depth, 0.80 + 0.24 * s.nose_depth, 0.80 + 0.38 * s.nose_depth])
    bridge = np.stack([np.zeros(4), 0.0 + tip * np.array([0.0, 0.36, 0.70, 1.0]), depth], axis=1)
    w = 0.205 * s.nose_width * (1 + 0.10 * max(0.0, s.smile))
    wing = (w, base - 0.035, 0.82)
    half = (0.52 * w, base + 0.01, 0.80 + 0.13 * s.nose_depth)
    middle = (0.0, base + 0.025, 0.80 + 0.17 * s.nose_depth)
    mirrored = [(-x, y, z) for x, y, z in (wing, half)]
    return np.concatenate([bridge, np.array([*mirrored, middle, half, wing])])


def _mouth(s: Structure) -> np.ndarray:
    """The twenty points of the lips (20, 3) in the order 76..95."""
    *_, line, _ = _lower_face(s)
    opening = _opening(s)
    half = 0.335 * s.mouth_width * (1 + 0.22 * s.smile - 0.24 * s.mouth_open)
    thin = 1 - 0.22 * max(0.0, s.smile)
    upper, lower = 0.095 * s.upper_lip * thin, 0.125 * s.lower_lip * thin

    def rest(u: np.ndarray) -> np.ndarray:
        """The line between the closed lips, u = -1 ... 1 from corner to corner."""
        lifted = -0.10 * s.smile - 0.06 * s.smirk * u
        return line + 0.03 * s.smile + 0.22 * opening + lifted * u**2 + 0.012 * np.cos(2 * np.pi * u) - 0.012

    u_outer_top = np.array([-1.0, -0.58, -0.2, 0.0, 0.2, 0.58, 1.0])
    u_outer_bottom = np.array([0.66, 0.34, 0.0, -0.34, -0.66])
    u_inner_top = np.array([-0.84, -0.42, 0.0, 0.42, 0.84])
    u_inner_bottom = np.array([0.42, 0.0, -0.42])

    def gap(u: np.ndarray) -> np.ndarray:
        return opening * np.clip(1 - (u / 0.84) ** 2, 0, 1) ** 0.75

    height_top = upper * np.array([0.0, 0.58, 1.0, 0.84, 1.0, 0.58, 0.0])
    height_bottom = lower * np.array([0.62, 0.95, 1.0, 0.95, 0.62])
    y = [
        rest(u_outer_top) - 0.28 * gap(u_outer_top) - height_top,
        rest(u_outer_bottom) + 0.72 * gap(u_outer_bottom) + height_bottom,
        rest(u_inner_top) - 0.28 * gap(u_inner_top),
        rest(u_inner_bottom) + 0.72 * gap(u_inner_bottom),
    ]
    u = np.concatenate([u_outer_top, u_outer_bottom, u_inner_top, u_inner_bottom])
    bulge = np.concatenate([np.full(12, 0.0), np.full(8, 0.02)])
    depth = 0.98 - 0.2 * np.abs(u) ** 1.8 * (half / 0.335) ** 2 + bulge
    depth[7:12] -= 0.03 + 0.12 * opening
    return np.stack([half * u, np.concatenate(y), depth], axis=1)


def _mirrored(points: np.ndarray) -> np.ndarray:
    return points * (-1, 1, 1)


def head_points(structure: Structure) -> np.ndarray:
    """The 98 landmarks in the head frame, (98, 3); the contour has already slid to the outline of the turned head."""
    s = structure
    brow = _brow(s)
    right, right_pupil = _eye(s, s.eye_closed_right, s.gaze_x)
    left, left_pupil = _eye(s, s.eye_closed_left, -s.gaze_x)
    return np.concatenate(
        [
            _contour(s),
            _mirrored(brow[[4, 3, 2, 1, 0, 8, 7, 6, 5]]),  # 33..41
            brow,  # 42..50
            _nose(s),
            _mirrored(left[[4, 3, 2, 1, 0, 7, 6, 5]]),  # 60..67
            right,  # 68..75
            _mouth(s),
            _mirrored(left_pupil[None]),
            right_pupil[None],
        ]
    )


def rotation(structure: Structure) -> np.ndarray:
    """The (3, 3) matrix that turns head-frame vectors into view-frame ones: yaw, then pitch, then roll."""
    yaw, pitch, roll = np.radians([structure.yaw, structure.pitch, structure.roll])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    lean = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return lean @ nod @ turn


def unit_px(structure: Structure, size: int) -> float:
    """Pixels per head unit at the depth of the pivot."""
    return structure.scale * size / 2


def project(structure: Structure, points: np.ndarray | Sequence, size: int) -> np.ndarray:
    """Head-frame points (n, 3) to pixels (n, 2), (x, y), of a frame of `size` pixels: rotation and weak perspective."""
    view = (np.asarray(points, dtype=np.float64).reshape(-1, 3) - _PIVOT) @ rotation(structure).T
    nearer = _CAMERA_DISTANCE / (_CAMERA_DISTANCE - view[:, 2:])
    centre = (size - 1) / 2 + size * np.array([structure.shift_x, structure.shift_y])
    return centre + view[:, :2] * nearer * unit_px(structure, size)


def landmarks(structure: Structure, size: int) -> np.ndarray:
    """The 98 landmarks (98, 2) float32 as (x, y) pixels of a frame of `size` x `size`; pixel centres are integers."""
    return project(structure, head_points(structure), size).astype(np.float32)


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
    """Draw a face's structure. `max_yaw` in degrees; `expression` and `placement` scale how much they vary (0: neutral, centred)."""
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
