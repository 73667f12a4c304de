"""The landmarks of a drawn face: a structure as 98 points in three dimensions, turned, and projected to pixels.

Knows nothing of colour, light or hair: those are style.py's and paint.py's.

Head frame: x to the image's right, y down, z towards the viewer; the origin lies between the eyes at the depth of the
ears; one unit is about 73 mm, so that an ordinary face is 1.9 units wide at the ears and its chin is at y = 1.55. The
model is mirror-symmetric: `mirror_structure` and the schema's flip permutation undo each other exactly.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from stylealign.toyfaces.person import Structure

NUM_POINTS = 98
_CAMERA_DISTANCE = 14.0  # units; gives the nose tip of a frontal face about 8 % more scale than the ears
FRONT = ((-0.1, 0.1, 0.3, 0.5, 0.65, 0.85, 1.0), (0.72, 0.76, 0.79, 0.79, 0.74, 0.58, 0.55))
# Depth of the cheeks' front at heights in units of eyes to chin: the outline on the far side of a turned head.
_PIVOT = np.array([0.0, 0.55, 0.45])  # this point of the head is put at the frame's centre (plus shift)


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
    """A natural cubic spline that passes exactly through points (n, d): (samples_per_gap * (n - 1) + 1, d)."""
    return _spline_matrix(len(points), samples_per_gap * (len(points) - 1) + 1) @ points


def _lower_face(s: Structure) -> tuple[float, float, float, float]:
    """Heights (y) of the nose tip, the nose base, the line between the lips and the chin, with the mouth at rest."""
    base = 0.66 * (0.55 + 0.45 * s.face_length) * s.nose_length
    chin = 1.55 * s.face_length
    return base - 0.12, base, base + (0.34 * (chin - base)), chin


def _opening(s: Structure) -> float:
    """Distance between the inner lips in units; a broad smile parts them a little."""
    return 0.46 * s.mouth_open + 0.09 * max(0.0, s.smile - 0.35)


def slide(points: np.ndarray, yaw: float, front: np.ndarray | float) -> np.ndarray:
    """Move points (n, 3) of the head's frontal outline to the outline of the head turned by `yaw` degrees.

    Points of the near side stay. Those of the far side move along the horizontal section of the face, taken for a half
    ellipse from their own depth to `front` (one depth or one a point), to where it curves away from the viewer.
    """
    points = np.array(points, dtype=np.float64)
    angle = np.radians(yaw)
    far = points[:, 0] * np.sign(angle) > 0
    x, z = points[far, 0], points[far, 2]
    room = np.maximum(np.broadcast_to(front, len(points))[far] - z, 0)
    along = np.arctan2(room * abs(np.sin(angle)), np.abs(x) * np.cos(angle))
    points[far, 0] = x * np.cos(along)
    points[far, 2] = z + room * np.sin(along)
    return points


def _contour(s: Structure) -> np.ndarray:
    """The 33 points of the outline (33, 3) of the head turned by the structure's yaw."""
    *_, chin = _lower_face(s)
    w, j, c = s.face_width, s.face_width * s.jaw_width, s.face_width * s.chin_width
    half = np.array(
        [
            (0.0, chin, 0.80),
            (0.24 * c, chin - 0.045, 0.71),
            (0.50 * (j + c) / 2, chin * 0.89 - 0.02, 0.42),
            (0.71 * j, chin * 0.70, 0.16),
            (0.85 * (w + j) / 2, chin * 0.46, 0.03),
            (0.93 * w, chin * 0.19, -0.02),
            (0.95 * w, -0.10, -0.04),
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

    front = np.interp(points[:, 1] / chin, *FRONT)
    return slide(points, s.yaw, front)


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
    """Image-right eye: points 68..75 (8, 3), from the inner corner along the top to the outer one and back, and the
    pupil (3,)."""
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
        return opening * np.clip(1 - (u / 0.84) ** 2, 0, 1) ** 0.58

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
