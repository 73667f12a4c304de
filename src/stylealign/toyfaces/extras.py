"""What is put before the face: glasses, hats, hands, bars, microphones. All of it tells the canvas what it hides."""

from collections.abc import Callable

import numpy as np

from stylealign.toyfaces.canvas import Canvas, ellipse, ribbon
from stylealign.toyfaces.scene import Scene
from stylealign.toyfaces.shape import smooth_curve
from stylealign.toyfaces.style import Style


def _rim(kind: str, side: int, spacing: float) -> np.ndarray:
    """Outline of a lens (n, 3) in the head frame."""
    half_width, half_height, power = {
        "round": (0.29, 0.27, 1.0),
        "square": (0.33, 0.22, 0.55),
        "sun": (0.35, 0.27, 0.7),
    }[kind]
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 0.445 * spacing + half_width * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** power
    y = 0.06 + half_height * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** power
    return np.stack([side * x, y, 0.92 - 0.30 * x**2], axis=1)


def draw_glasses(canvas: Canvas, scene: Scene, style: Style) -> None:
    """Two lenses, a bridge and the temple that shows; dark lenses hide the eyes."""
    if style.glasses == "none":
        return
    u, spacing, yaw = scene.unit, scene.structure.eye_spacing, scene.structure.yaw
    thick = {"round": 0.030, "square": 0.048, "sun": 0.040}[style.glasses] * u
    for side in (-1, 1):
        rim = _rim(style.glasses, side, spacing)
        lens = scene.at(rim)
        if side * yaw < 15:
            hinge = rim[np.argmax(np.abs(rim[:, 0]))] + (0, -0.06, 0)
            temple = scene.at([hinge, (0.99 * side * scene.structure.face_width, -0.02, 0.0)])
            canvas.fill(ribbon(temple, 0.8 * thick), style.glasses_colour)
        if style.glasses == "sun":
            canvas.fill(lens, (0.06, 0.06, 0.08), 0.94, covers=True)
            glare = lens.mean(axis=0) + u * np.array([-0.08, -0.08])
            canvas.fill(
                ellipse(glare, (0.16 * u, 0.05 * u), degrees=-35),
                (0.6, 0.65, 0.7),
                0.35,
                0.03 * u,
                clip=canvas.mask(lens),
            )
        else:
            canvas.fill(lens, (0.9, 0.95, 1.0), 0.07)
            streak = lens.mean(axis=0) + u * np.array([0.1, -0.1])
            canvas.fill(
                ellipse(streak, (0.13 * u, 0.02 * u), degrees=-50),
                (1.0, 1.0, 1.0),
                0.25,
                0.012 * u,
                clip=canvas.mask(lens),
            )
        ring = np.concatenate([lens, lens[:2]])
        canvas.fill(ribbon(ring, thick), style.glasses_colour)
    inner = 0.445 * spacing - 0.29
    bridge = scene.at([(-inner, 0.0, 0.90), (0.0, -0.05, 0.97), (inner, 0.0, 0.90)])
    canvas.fill(ribbon(smooth_curve(bridge), thick), style.glasses_colour)


def draw_hat(canvas: Canvas, scene: Scene, style: Style) -> None:
    """A cap: crown over the hair, brim over the forehead."""
    u, at = scene.unit, scene.at
    colour = np.asarray(style.occluder_colour)
    width = scene.structure.face_width
    left, right = at([(-1.02 * width, -0.50, 0.0)])[0], at([(1.02 * width, -0.50, 0.0)])[0]
    front = smooth_curve(at([(x, -0.72 - 0.10 * (1 - x * x), 0.86 - 0.8 * x * x) for x in (-1.0, -0.6, 0.0, 0.6, 1.0)]))
    along = np.linspace(0, np.pi, 24)[1:-1, None]
    axis, up = (right - left) / 2, at([(0, -1, 0)])[0] - at([(0, 0, 0)])[0]
    dome = (
        (left + right) / 2
        + np.cos(along) * axis * (1.06 + style.hair_volume * 0.5)
        + np.sin(along) ** 0.8 * up * (1.02 + style.hair_volume)
    )
    crown = np.concatenate([[left], front, [right], dome])
    brim_out = [
        (x, -0.62 - 0.04 * (1 - x * x), 0.55 + 0.95 * (1 - x * x)) for x in (-0.98, -0.8, -0.4, 0.0, 0.4, 0.8, 0.98)
    ]
    brim = np.concatenate([front, smooth_curve(at(brim_out))[::-1]])
    canvas.fill(
        brim + np.array([0, 0.16 * u]), (0.05, 0.03, 0.03), 0.42, 0.07 * u, clip=canvas.mask(scene.face), lit=False
    )
    canvas.fill(crown, tuple(colour), covers=True)
    canvas.fill(ribbon(front, 0.05 * u), tuple(colour * 0.6), 0.8, 0.01 * u)
    middle = at([(0, -0.82, 0.86), (0, -1.35, 0.5)])
    canvas.fill(ribbon(middle, 0.02 * u), tuple(colour * 0.6), 0.6, 0.008 * u)
    canvas.fill(brim, tuple(colour * 0.85), covers=True)
    canvas.fill(ribbon(smooth_curve(at(brim_out)), 0.03 * u), tuple(colour * 0.55), 0.7, 0.008 * u)


def _hand(canvas: Canvas, style: Style, place: Callable[[np.ndarray], np.ndarray], u: float) -> None:
    """A palm with four fingers and a thumb; `place` maps units, fingertips up, to the canvas."""
    skin = np.asarray(style.skin)
    shade = tuple(0.55 * skin)
    parts = [np.array([(-0.24, 0.5), (0.24, 0.5), (0.30, 4.0), (-0.30, 4.0)])]
    parts.append(ellipse(np.array([0.0, 0.32]), (0.36, 0.42)))
    thumb = smooth_curve(np.array([(-0.26, 0.42), (-0.46, 0.22), (-0.52, -0.02)]))
    fingers = [
        ((-0.26, 0.1), (-0.31, -0.46)),
        ((-0.09, 0.05), (-0.10, -0.60)),
        ((0.09, 0.05), (0.12, -0.57)),
        ((0.25, 0.1), (0.32, -0.40)),
    ]
    for shape in parts:
        canvas.fill(place(shape), tuple(skin), covers=True)
    for curve in [thumb, *(np.array(f) for f in fingers)]:
        ends = np.linspace(0, 1, 12)[:, None] * (curve[-1] - curve[0]) + curve[0] if len(curve) == 2 else curve
        t = np.linspace(0, 1, len(ends))
        width = 0.175 * np.sqrt(np.clip(1 - np.clip((t - 0.86) / 0.14, 0, 1) ** 2, 0, 1)) * (1.04 - 0.14 * t)
        shape = place(ribbon(ends, np.maximum(width, 0.01)))
        canvas.fill(place(ribbon(ends, np.maximum(width, 0.01) + 0.03)), shade, 0.5, 0.012 * u)
        canvas.fill(shape, tuple(skin), covers=True)
        nail = ends[-2]
        canvas.fill(place(ellipse(nail, (0.05, 0.06), 14)), tuple(np.minimum(1, skin * 1.05 + 0.06)), 0.7, 0.006 * u)
    knuckles = place(np.array([(-0.3, 0.12), (0.0, 0.06), (0.3, 0.12)]))
    canvas.fill(ribbon(smooth_curve(knuckles), 0.05 * u), shade, 0.25, 0.03 * u)


def _microphone(canvas: Canvas, style: Style, place: Callable[[np.ndarray], np.ndarray], u: float) -> None:
    """A ball of mesh on a handle that leaves the picture below."""
    colour = np.asarray(style.occluder_colour)
    canvas.fill(
        place(np.array([(-0.13, 0.2), (0.13, 0.2), (0.10, 4.0), (-0.10, 4.0)])), tuple(0.6 * colour), covers=True
    )
    canvas.fill(place(np.array([(-0.17, 0.22), (0.17, 0.22), (0.15, 0.36), (-0.15, 0.36)])), tuple(colour), covers=True)
    ball = place(ellipse(np.zeros(2), (0.31, 0.31)))
    inside = canvas.mask(ball)
    canvas.fill(ball, (0.20, 0.20, 0.22), covers=True)
    for k in np.linspace(-0.3, 0.3, 9):
        for line in (np.array([(k, -0.4), (k, 0.4)]), np.array([(-0.4, k), (0.4, k)])):
            canvas.fill(ribbon(place(line), 0.022 * u), (0.45, 0.45, 0.48), 0.7, clip=inside)
    canvas.fill(place(ellipse(np.array([-0.09, -0.11]), (0.11, 0.09))), (0.9, 0.9, 0.95), 0.35, 0.05 * u, clip=inside)


def draw_occluder(canvas: Canvas, scene: Scene, style: Style) -> None:
    """A hand, a bar or a microphone before the face (a hat sits on it: `draw_hat`)."""
    if style.occluder in ("none", "hat"):
        return
    u = scene.unit
    origin = scene.at([(0, 0.0, 0.45)])[0] + u * np.array([style.occluder_x, style.occluder_y])
    angle = np.radians(style.occluder_angle)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def place(points: np.ndarray) -> np.ndarray:
        return origin + u * style.occluder_size * points @ turn.T

    if style.occluder == "hand":
        _hand(canvas, style, place, u)
    elif style.occluder == "microphone":
        _microphone(canvas, style, place, u)
    else:
        bar = np.array([(-4.0, -0.17), (4.0, -0.17), (4.0, 0.17), (-4.0, 0.17)])
        colour = np.asarray(style.occluder_colour)
        canvas.fill(place(bar), tuple(colour), covers=True)
        canvas.fill(place(bar * (1, 0.35) - (0, 0.07)), tuple(np.minimum(1, colour * 1.35 + 0.04)), 0.7, 0.03 * u)
