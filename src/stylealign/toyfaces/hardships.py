"""One photographed face made harder: a crop, its landmarks and a strength in, the harder crop out. Knows no files.

The hardships of WFLW's subsets, as far as a photograph allows: light, make-up, things before the face, blur, and of
pose what an affine can do. An expression cannot be put on a photograph; drawn faces have it (causes.py). None of this
shares code with the style arms, so that a detector is not tested on the very pictures it was trained on: objects are
those of drawn faces, light falls on a lumpy ellipsoid, compression is a JPEG library's. Pictures are (S, S, 3) uint8,
landmarks (P, 2) px; strength t is in [0, 1].
"""

import colorsys
import math

import cv2
import numpy as np

from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.face.geometry import apply, compose, rotate_scale_affine
from stylealign.face.schema import LandmarkSchema
from stylealign.toyfaces.canvas import Canvas, ellipse, light_map
from stylealign.toyfaces.extras import draw_glasses, draw_hat, draw_occluder
from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.scene import Scene, make_scene
from stylealign.toyfaces.shape import smooth_curve
from stylealign.toyfaces.style import SKINS, Style, mix_colours

_EYE_DISTANCE = {"inter_ocular": 1.28, "inter_pupil": 0.88}  # head units between the anchors of an ordinary drawn face
_PIVOT_BELOW_EYES = 0.55  # head units; the drawn head's pivot, which its placement refers to
_GAMMA = 2.2  # of photographs: light adds in linear values


def fitted_scene(landmarks: np.ndarray, schema: LandmarkSchema, size: int) -> Scene:
    """A drawn frontal head with its eyes where a photographed one has them; a turned one is fitted by its size as well.

    Raises:
        UserError: a mark-up that names no eyes.
    """
    name = next((n for n in _EYE_DISTANCE if n in schema.anchors), None)
    if name is None:
        raise UserError(
            f"schema {schema.name}: has no anchors inter_ocular or inter_pupil, which say where the eyes are"
        )
    left, right = (landmarks[list(group)].mean(axis=0).astype(np.float64) for group in schema.anchors[name])
    across = right - left
    box = float(np.ptp(landmarks, axis=0).max())
    unit = max(float(np.hypot(*across)) / _EYE_DISTANCE[name], box / 2.6)
    roll = math.atan2(across[1], across[0])
    down = np.array([-math.sin(roll), math.cos(roll)])
    shift = ((left + right) / 2 + _PIVOT_BELOW_EYES * unit * down - (size - 1) / 2) / size
    structure = Structure(
        roll=math.degrees(roll), scale=2 * unit / size, shift_x=float(shift[0]), shift_y=float(shift[1])
    )
    return make_scene(structure, Style(), size, 1)


def _to_bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def pose_affine(landmarks: np.ndarray, t: float, rng: np.random.Generator) -> np.ndarray:
    """A turn in the picture's plane and a squeeze across the face, about the middle of the landmarks' box: (2, 3).

    At t = 1 the turn is 30 to 40 degrees and the squeeze to 60 to 70 %. A turned head looks otherwise: its far cheek
    disappears and its nose stands out. An affine cannot do that, hence the name `tilt`.
    """
    middle = (landmarks.min(axis=0) + landmarks.max(axis=0)) / 2
    angle = float(rng.choice([-1, 1]) * rng.uniform(30, 40)) * t
    narrow = 1 - float(rng.uniform(0.3, 0.4)) * t
    squeeze = np.array([[narrow, 0, middle[0] * (1 - narrow)], [0, 1, 0]])
    return compose(rotate_scale_affine((float(middle[0]), float(middle[1])), angle, 1.0), squeeze)


def illuminate(picture: np.ndarray, scene: Scene, t: float, rng: np.random.Generator) -> np.ndarray:
    """Dim the photograph's light and shine a coloured lamp from one side; a third of the faces gets over-exposed."""
    size = picture.shape[0]
    side, elevation = float(rng.choice([-1, 1])), math.radians(rng.uniform(-10, 35))
    azimuth = side * math.radians(rng.uniform(50, 85))
    colour = np.array(colorsys.hsv_to_rgb(rng.random(), float(rng.uniform(0, 0.6)), 1.0))
    full = float(rng.uniform(1.5, 2.5) if rng.random() < 1 / 3 else rng.uniform(0.3, 0.7))
    direction = np.array(
        [math.sin(azimuth) * math.cos(elevation), -math.sin(elevation), math.cos(azimuth) * math.cos(elevation)]
    )
    hills = [  # point in the head frame, sigma x, sigma y, height
        ((0, 0.4, 0.95), 0.11, 0.22, 0.12),
        ((0, 0.96, 0.85), 0.26, 0.20, 0.06),
        ((-0.44, 0.0, 0.7), 0.2, 0.13, -0.06),
        ((0.44, 0.0, 0.7), 0.2, 0.13, -0.06),
        ((-0.5, 0.45, 0.66), 0.24, 0.2, 0.07),
        ((0.5, 0.45, 0.66), 0.24, 0.2, 0.07),
    ]
    bumps = np.concatenate([scene.at(np.array([h[0] for h in hills])), np.array([h[1:] for h in hills])], axis=1)
    roll = math.radians(scene.structure.roll)
    turn = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    quadratic = turn @ np.diag(1 / np.array([1.15, 1.6, 1.1]) ** 2) @ turn.T
    ambient, lamp = np.full(3, 1 - 0.92 * t), 1.1 * t * colour
    light, _ = light_map(
        size, scene.unit, scene.at([(0, 0.2, -0.12)])[0], quadratic, bumps, direction, ambient / 0.95, lamp
    )
    if t == 0:
        light = np.ones_like(light)
    linear = (picture.astype(np.float32) / 255) ** _GAMMA * light * np.float32(full**t)
    return _to_bytes(np.clip(linear, 0, 1) ** (1 / _GAMMA))


def _paint(picture: np.ndarray, area: np.ndarray, colour: tuple[float, float, float], alpha: float) -> np.ndarray:
    """Lay a colour on (S, S, 3) float32 where `area` (S, S) says, scaled by the light there: the shading stays."""
    grey = cv2.GaussianBlur(picture.mean(axis=2), (0, 0), 1.0)
    middle = float((grey * area).sum() / max(float(area.sum()), 1e-6))
    shade = np.clip(grey / max(middle, 0.05), 0.3, 1.6) * (0.35 + 0.9 * middle)
    paint = np.asarray(colour, np.float32) * shade[..., None]
    return picture + (alpha * area)[..., None] * (paint - picture)


def make_up(
    picture: np.ndarray, landmarks: np.ndarray, schema: LandmarkSchema, scene: Scene, t: float, rng: np.random.Generator
) -> np.ndarray:
    """Lips, lids, brows and cheeks painted, up to opaque, in the places that the mark-up's curves bound.

    Raises:
        UserError: a mark-up without curves of the lips and the eyes.
    """
    curves = {name: landmarks[list(points)].astype(np.float64) for name, points in schema.boundaries.items()}
    needed = ("outer_upper_lip", "outer_lower_lip", "left_eye_top", "right_eye_top")
    if lacking := [name for name in needed if name not in curves]:
        raise UserError(f"schema {schema.name}: has no curve {lacking[0]}, which make-up on photographs needs")
    colours = [
        colorsys.hsv_to_rgb(rng.random(), float(rng.uniform(0.4, 1)), float(rng.uniform(0.2, 1))) for _ in range(3)
    ]
    canvas, u = Canvas(np.zeros_like(picture, dtype=np.float32)), scene.unit
    painted = picture.astype(np.float32) / 255

    def soft(polygon: np.ndarray, edge: float) -> np.ndarray:
        return cv2.GaussianBlur(canvas.mask(polygon), (0, 0), edge * u)

    def around(upper: str, lower: str) -> np.ndarray:
        return np.concatenate([smooth_curve(curves[upper]), smooth_curve(curves[lower])[::-1]])

    lips = canvas.mask(around("outer_upper_lip", "outer_lower_lip"))
    if "inner_upper_lip" in curves and "inner_lower_lip" in curves:
        lips = lips * (1 - canvas.mask(around("inner_upper_lip", "inner_lower_lip")))
    painted = _paint(painted, cv2.GaussianBlur(lips, (0, 0), 0.015 * u), colours[0], 0.9 * t)
    up = scene.at([(0, -1, 0)])[0] - scene.at([(0, 0, 0)])[0]
    for name in ("left_eye_top", "right_eye_top"):
        lid = smooth_curve(curves[name])
        arch = (0.06 + 0.12 * np.sin(np.linspace(0, math.pi, len(lid))))[:, None] * up
        painted = _paint(painted, soft(np.concatenate([lid, (lid + arch)[::-1]]), 0.02), colours[1], 0.9 * t)
        painted = _paint(painted, soft(np.concatenate([lid, (lid + 0.03 * up)[::-1]]), 0.008), (0.05, 0.04, 0.05), t)
    for side in (-1, 1):
        cheek = ellipse(scene.at([(0.55 * side, 0.45, 0.62)])[0], (0.22 * u, 0.14 * u))
        painted = _paint(painted, soft(cheek, 0.08), colours[2], 0.55 * t)
    return _to_bytes(painted)


def occlude(
    picture: np.ndarray, landmarks: np.ndarray, scene: Scene, t: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lay hands, bars, microphones, glasses and caps of drawn faces over the face; one more grows each quarter of t.

    Returns the picture and (P,) bool: which landmarks are covered.
    """
    canvas = Canvas(picture.astype(np.float32) / 255)
    canvas.light *= np.float32(0.35 + 0.8 * canvas.image.mean())
    things = ["hand", "bar", "microphone", str(rng.choice(["sun", "hat"]))]
    rng.shuffle(things)
    for number, thing in enumerate(things):
        grow = min(1.0, 4 * t - number)  # the first grows in the first quarter, and so on
        drawn = [float(v) for v in rng.random(7)]  # also for what is not shown, so that the rest stays as it is
        if grow <= 0:
            continue
        angle = 2 * math.pi * drawn[0]
        style = Style(
            occluder="none" if thing == "sun" else thing,  # type: ignore[arg-type]
            glasses="sun" if thing == "sun" else "none",
            occluder_colour=colorsys.hsv_to_rgb(drawn[1], 0.8 * drawn[2], 0.15 + 0.7 * drawn[3]),
            skin=mix_colours(SKINS[1], SKINS[6], drawn[1]),
            occluder_x=0.6 * math.cos(angle),
            occluder_y=0.6 + 0.5 * math.sin(angle),
            occluder_angle=120 * drawn[4] - 60,
            occluder_size=(0.5 + 0.4 * drawn[5]) * (0.5 + 0.5 * grow),
        )
        if thing == "hat":
            draw_hat(canvas, scene, style)
        draw_glasses(canvas, scene, style)
        draw_occluder(canvas, scene, style)
    at = np.rint(landmarks).astype(int).clip(0, len(picture) - 1)
    return _to_bytes(canvas.image), canvas.cover[at[:, 1], at[:, 0]] > 0.5


def blur(picture: np.ndarray, unit: float, t: float, rng: np.random.Generator) -> np.ndarray:
    """Blur the picture, give it fewer pixels, noise and a JPEG file's losses.

    At t = 1: a box blur (twice) of 0.12 or a motion blur of 0.25 head units, 12 px a head unit, JPEG quality 20.
    """
    size = picture.shape[0]
    moving, angle, grain = rng.random() < 0.5, rng.random() * 180, rng.standard_normal(picture.shape, dtype=np.float32)
    if t == 0:
        return picture
    if moving:
        width = round(0.25 * unit * t) | 1  # odd, so that nothing moves
        line = np.zeros((width, width), np.float32)
        line[width // 2] = 1.0
        turn = cv2.getRotationMatrix2D((width // 2, width // 2), angle, 1.0)
        kernel = cv2.warpAffine(line, turn, (width, width))
        out = cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    else:
        width = round(0.12 * unit * t) | 1
        out = cv2.blur(cv2.blur(picture, (width, width)), (width, width))
    few = max(8, round(size * (min(unit, 12.0) / unit) ** t))
    small = cv2.resize(out, (few, few), interpolation=cv2.INTER_AREA)
    noisy = np.clip(small + 12 * t * grain[:few, :few] + 0.5, 0, 255).astype(np.uint8)
    code = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(95 - 75 * t)])[1]
    back = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]
    return cv2.resize(np.ascontiguousarray(back), (size, size), interpolation=cv2.INTER_LINEAR)


def tilted(
    source: np.ndarray,
    crop_from_source: np.ndarray,
    landmarks: np.ndarray,
    t: float,
    rng: np.random.Generator,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut the crop anew through `pose_affine`, from the source picture, so that no border shows.

    Returns the new crop (size, size, 3) and the affine new_from_crop (2, 3).
    """
    affine = pose_affine(apply(crop_from_source, landmarks), t, rng)
    return warp(source, compose(affine, crop_from_source), size), affine
