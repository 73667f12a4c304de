"""Draw any structure in any style: from the 98 points of `shape.py` and the looks of `style.py` to a picture.

Everything is painted on a canvas two to four times the size, back to front, then averaged down. What is painted
follows the landmarks: skin ends at the contour, brows, eyes and lips are bounded by splines through their points.
"""

import math

import cv2
import numpy as np

from stylealign.data.image import LUMA
from stylealign.toyfaces.canvas import Canvas, ellipse, light_map, mix, ribbon, smooth_noise, strands
from stylealign.toyfaces.extras import draw_glasses, draw_hat, draw_occluder
from stylealign.toyfaces.features import draw_beard, draw_brow, draw_eye, draw_folds, draw_mouth, draw_nose
from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.scene import Scene, make_scene
from stylealign.toyfaces.shape import rotation, smooth_curve
from stylealign.toyfaces.style import Style

_COVERED = 0.5  # a landmark under more than this much of an occluder, a lens or a lock counts as not visible


def _background(style: Style, rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32 behind everything; the same picture whatever the face is."""
    first, second = (np.asarray(c, np.float32) for c in style.background_colours)
    axis = np.linspace(0, 1, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    along = math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]
    if style.background == "gradient":
        t = (along - along.min()) / np.ptp(along)
    elif style.background == "stripes":
        t = 1 / (1 + np.exp(-9 * np.sin(along * rng.uniform(14, 45))))
    elif style.background == "noise":
        t = 0.6 * smooth_noise(rng, 6, size) + 0.4 * smooth_noise(rng, 22, size)
    else:
        t = 0.35 * smooth_noise(rng, 3, size)
    picture = first + t[..., None].astype(np.float32) * (second - first)
    if style.background == "blobs":
        spots = np.ascontiguousarray(picture)
        for _ in range(int(rng.integers(6, 16))):
            x, y, radius = rng.random() * size, rng.random() * size, rng.uniform(0.04, 0.16) * size
            tint = mix(second, rng.random(3), 0.35)
            cv2.circle(spots, (int(x), int(y)), int(radius), tint, -1, cv2.LINE_AA)
        picture = cv2.GaussianBlur(spots, (0, 0), 0.012 * size)
    return np.ascontiguousarray(picture, np.float32)


def _light(canvas: Canvas, scene: Scene, structure: Structure, style: Style, reduce: int) -> np.ndarray:
    """Put the light on the canvas; returns the skin's highlight (H, W). Computed small, since shading is smooth."""
    turn = rotation(structure)
    radii = np.array([1.10, 1.55, 1.05])
    quadratic = turn @ np.diag(1 / radii**2) @ turn.T
    width = 0.5 + 0.5 * structure.nose_width
    mouth, chin = scene.head[90], scene.head[16]
    hills = [  # point in the head frame, sigma x, sigma y, height
        ((0, 0.12, 0.84), 0.085, 0.16, 0.055),
        ((0, 0.35, 0.95), 0.095 * width, 0.15, 0.10),
        (scene.head[54] + np.array([0, -0.01, 0]), 0.125 * width, 0.11, 0.15),
        (scene.head[55] + np.array([0.03, -0.05, 0]), 0.07, 0.07, 0.035),
        (scene.head[59] + np.array([-0.03, -0.05, 0]), 0.07, 0.07, 0.035),
        ((-0.5, 0.42, 0.66), 0.24, 0.20, 0.06 + 0.03 * structure.smile),
        ((0.5, 0.42, 0.66), 0.24, 0.20, 0.06 + 0.03 * structure.smile),
        ((-0.40, -0.03, 0.68), 0.20, 0.13, -0.065),
        ((0.40, -0.03, 0.68), 0.20, 0.13, -0.065),
        ((-0.42, -0.30, 0.74), 0.30, 0.09, 0.030),
        ((0.42, -0.30, 0.74), 0.30, 0.09, 0.030),
        (mouth, 0.26, 0.20, 0.06),
        (mouth + np.array([0, 0.24, 0]), 0.20, 0.06, -0.025),
        (chin + np.array([0, -0.16, 0.05]), 0.19, 0.13, 0.07),
        ((0, -0.75, 0.75), 0.5, 0.3, 0.04),
    ]
    small = canvas.size // reduce
    where = (scene.at(np.array([h[0] for h in hills])) + 0.5) / reduce - 0.5
    bumps = np.concatenate([where, np.array([h[1:] for h in hills])], axis=1)
    azimuth, elevation = math.radians(style.light_azimuth), math.radians(style.light_elevation)
    direction = np.array(
        [math.sin(azimuth) * math.cos(elevation), -math.sin(elevation), math.cos(azimuth) * math.cos(elevation)]
    )
    middle = (scene.at([(0, 0.2, -0.12)])[0] + 0.5) / reduce - 0.5
    ambient = style.ambient * np.asarray(style.ambient_colour)
    lamp = style.lamp * np.asarray(style.light_colour)
    light, shine = light_map(small, scene.unit / reduce, middle, quadratic, bumps, direction, ambient, lamp)
    canvas.light = cv2.resize(light, (canvas.size, canvas.size), interpolation=cv2.INTER_LINEAR)
    shine = cv2.resize(shine, (canvas.size, canvas.size), interpolation=cv2.INTER_LINEAR)
    return shine * np.float32(0.55 * style.gloss * style.lamp)


def _body(canvas: Canvas, scene: Scene, style: Style) -> None:
    """Shirt and neck, in the shadow of the head."""
    u = scene.unit
    joint = scene.at([(0, 1.25, -0.30)])[0]
    x, y = joint
    neck_half = 0.56 if style.beard != "none" or style.hair in ("short", "buzz", "bald") else 0.47
    neck = np.array(
        [
            (-neck_half, -0.7),
            (neck_half, -0.7),
            (neck_half, 0.35),
            (neck_half + 0.18, 0.75),
            (0, 1.1),
            (-neck_half - 0.18, 0.75),
            (-neck_half, 0.35),
        ]
    )
    shoulders = np.array(
        [
            (-neck_half - 0.1, 0.60),
            (0, 1.02),
            (neck_half + 0.1, 0.60),
            (1.2, 0.86),
            (1.9, 1.15),
            (2.2, 3.5),
            (-2.2, 3.5),
            (-1.9, 1.15),
            (-1.2, 0.86),
        ]
    )
    neck_shape = joint + u * neck
    clip = canvas.mask(neck_shape)
    canvas.fill(neck_shape, mix(style.skin, (0.35, 0.2, 0.15), 0.10))
    lean = -0.10 * math.sin(math.radians(style.light_azimuth))
    canvas.fill(scene.face + u * np.array([lean, 0.16]), (0.10, 0.05, 0.05), 0.45, 0.11 * u, clip=clip, lit=False)
    top = np.concatenate([smooth_curve(joint + u * shoulders[:3]), joint + u * shoulders[3:]])
    canvas.fill(top, style.clothes)
    collar = smooth_curve(joint + u * shoulders[:3])
    canvas.fill(ribbon(collar, 0.09 * u), mix(style.clothes, (0, 0, 0), 0.25), 0.8, 0.01 * u)
    canvas.fill(
        np.array([(x - 2.3 * u, y + 1.3 * u), (x - 0.9 * u, y + 1.2 * u), (x - 1.2 * u, y + 3.5 * u)]),
        (0, 0, 0),
        0.2,
        0.2 * u,
        clip=canvas.mask(top),
    )


def _hair_picture(scene: Scene, style: Style, rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) colours to take hair from: strands running from the crown, or curls."""
    crown = scene.at([(0.5 * style.parting, -1.62, 0.1)])[0]
    if style.hair == "curly":
        grain = 0.5 * smooth_noise(rng, 40, size) + 0.5 * smooth_noise(rng, 70, size)
    elif style.hair == "buzz":
        grain = 0.4 + 0.3 * smooth_noise(rng, 120, size)
    else:
        grain = strands(rng, crown, size)
    base = np.asarray(style.hair_colour, np.float32)
    sheen = np.float32(0.05) * (grain[..., None] ** 4)
    return base * (0.70 + 0.60 * grain[..., None]) + sheen


def _back_hair(canvas: Canvas, scene: Scene, hair: np.ndarray, style: Style) -> None:
    """Hair that hangs behind the neck and shoulders."""
    if style.hair == "bun":
        canvas.fill(ellipse(scene.at([(0.0, -1.55, -0.45)])[0], (0.42 * scene.unit, 0.36 * scene.unit)), hair)
    if scene.long_hair is not None:
        canvas.fill(scene.long_hair, hair * np.float32(0.62))


def _head(
    canvas: Canvas, scene: Scene, structure: Structure, style: Style, shine: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Skin of the head with its colouring; returns the face's mask (H, W)."""
    u, at = scene.unit, scene.at
    skull = canvas.mask(scene.skull)
    nose = smooth_curve(scene.px[51:55])
    far = np.array([np.sign(structure.yaw) * 0.035 * u, 0])
    profile = np.concatenate(
        [nose + far, scene.px[[57]], scene.px[[55 if structure.yaw > 0 else 59]], at([(0, 0.1, 0.6)])]
    )
    face = canvas.mask(scene.face)
    if abs(structure.yaw) > 12:
        face = np.maximum(face, canvas.mask(profile))
    if style.hair in ("bald", "buzz"):
        canvas.fill_mask(skull, mix(style.skin, (0.3, 0.15, 0.1), 0.06))
    canvas.fill_mask(face, style.skin)

    red = mix(style.skin, (0.78, 0.22, 0.18), 0.55)
    for side in (-1, 1):
        canvas.fill(
            ellipse(at([(0.52 * side, 0.50, 0.68)])[0], (0.22 * u, 0.17 * u)),
            red,
            0.35 * style.flush,
            0.12 * u,
            clip=face,
        )
        rouge = (0.85, 0.25, 0.32)
        canvas.fill(
            ellipse(at([(0.58 * side, 0.42, 0.6)])[0], (0.20 * u, 0.12 * u), degrees=-20 * side),
            rouge,
            0.55 * style.blush,
            0.09 * u,
            clip=face,
        )
        tired = mix(style.skin, (0.35, 0.18, 0.25), 0.5)
        canvas.fill(
            ellipse(at([(0.42 * side, 0.10, 0.72)])[0], (0.17 * u, 0.05 * u)),
            tired,
            0.25 + 0.2 * style.age,
            0.05 * u,
            clip=face,
        )
    canvas.fill(ellipse(at(scene.head[[54]])[0], (0.10 * u, 0.09 * u)), red, 0.35 * style.flush, 0.06 * u, clip=face)
    if style.freckles > 0:
        for _ in range(int(70 * style.freckles)):
            x, y = rng.normal(0, 0.38), rng.normal(0.34, 0.14)
            spot = at([(x, y, 0.85 - 0.45 * x * x)])[0]
            canvas.fill(ellipse(spot, (0.018 * u, 0.018 * u), 8), (0.50, 0.27, 0.16), 0.45, clip=face)
    canvas.image += (face * shine)[..., None]
    return face


def _hair_and_ears(canvas: Canvas, scene: Scene, style: Style, hair: np.ndarray, face: np.ndarray) -> None:
    """Hair round and over the face, and the ears where no hair hides them."""
    u = scene.unit
    opening = canvas.mask(scene.opening)
    outside = 1 - opening
    if style.hair != "bald":
        cap = canvas.mask(scene.cap) * outside
        if style.hair == "buzz":
            cap = cv2.GaussianBlur(cap, (0, 0), 0.03 * u) * (1 - canvas.mask(scene.face_below)) * 0.72
        else:
            rim = cv2.GaussianBlur(opening, (0, 0), 0.09 * u)
            shade = np.clip(cv2.GaussianBlur(cap, (0, 0), 0.05 * u) * face * opening, 0, 1)
            canvas.fill_mask(0.35 * shade, (0.12, 0.06, 0.05), lit=False)
            hair = hair * (1 - 0.28 * rim[..., None])
        canvas.fill_mask(cap, hair, covers=True)
    for lock in scene.locks:
        canvas.fill(lock, hair, 1.0, 0.004 * u, clip=outside, covers=True)
    if scene.fringe is not None:
        canvas.fill(scene.fringe + np.array([0, 0.05 * u]), (0.1, 0.05, 0.05), 0.35, 0.04 * u, clip=face, lit=False)
        canvas.fill(scene.fringe, hair, 1.0, 0.004 * u, covers=True)
    behind = 1 - canvas.mask(scene.face)
    for outer, inner in scene.ears:
        canvas.fill(outer, mix(style.skin, (0.75, 0.25, 0.2), 0.12 + 0.12 * style.flush), clip=behind)
        canvas.fill(inner, mix(style.skin, (0.35, 0.12, 0.08), 0.5), 0.65, 0.02 * u, clip=behind)


def _photograph(picture: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """What the camera does to (S, S, 3) float32: tone, lens, sensor and file. Returns uint8."""
    size = picture.shape[0]
    picture = (picture * np.float32(style.exposure) - 0.5) * np.float32(style.contrast) + 0.5
    if style.tone != "colour":
        grey = picture @ np.array(LUMA, np.float32)
        tint = (1.0, 1.0, 1.0) if style.tone == "grey" else (1.07, 0.95, 0.76)
        picture = grey[..., None] * np.asarray(tint, np.float32)
    picture = np.clip(picture, 0, 1)
    if style.blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), max(style.blur / 100 * size, 0.3))
    if style.motion > 0:
        length = max(1, round(style.motion / 100 * size))
        picture = cv2.blur(picture, (length | 1, 1))  # odd, so that nothing moves
    if style.downscale > 1:
        few = max(4, round(size / style.downscale))
        picture = cv2.resize(
            cv2.resize(picture, (few, few), interpolation=cv2.INTER_AREA), (size, size), interpolation=cv2.INTER_LINEAR
        )
    if style.noise > 0:
        picture = picture + style.noise * rng.standard_normal(picture.shape, dtype=np.float32)
    result = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    if style.jpeg < 100:
        _, code = cv2.imencode(".jpg", result[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, style.jpeg])
        result = np.ascontiguousarray(np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1])
    return result


def draw_face(structure: Structure, style: Style, size: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw `structure` in `style` as a picture of `size` x `size` pixels.

    Returns the image (size, size, 3) uint8 RGB, the landmarks (98, 2) float32 as (x, y) pixels, and visible (98,) bool,
    False under an occluder, a dark lens or hair. The landmarks are a function of the structure alone; the same
    arguments give the same picture.
    """
    reduce = 2 if size >= 112 else 3 if size >= 72 else 4
    full = size * reduce
    textures, sensor = np.random.default_rng((style.seed, 0)), np.random.default_rng((style.seed, 1))
    scene = make_scene(structure, style, size, reduce)
    canvas = Canvas(
        _background(style, textures, full) * np.float32(0.35 + 0.65 * min(1.0, style.ambient + 0.5 * style.lamp))
    )
    shine = _light(canvas, scene, structure, style, reduce)
    hair = _hair_picture(scene, style, textures, full)

    _back_hair(canvas, scene, hair, style)
    _body(canvas, scene, style)
    face = _head(canvas, scene, structure, style, shine, textures)
    draw_folds(canvas, scene, structure, style, face)
    draw_beard(canvas, scene, style, hair, face)
    draw_eye(canvas, scene, structure, style, 60, 96, face)
    draw_eye(canvas, scene, structure, style, 68, 97, face)
    draw_brow(canvas, scene, style, list(range(33, 42)), face)
    draw_brow(canvas, scene, style, [46, 45, 44, 43, 42, 50, 49, 48, 47], face)
    draw_mouth(canvas, scene, structure, style, face)
    draw_nose(canvas, scene, structure, style, face)
    _hair_and_ears(canvas, scene, style, hair, face)
    if style.occluder == "hat":
        draw_hat(canvas, scene, style)
    draw_glasses(canvas, scene, style)
    draw_occluder(canvas, scene, style)

    picture = cv2.resize(canvas.image, (size, size), interpolation=cv2.INTER_AREA)
    at = np.rint(scene.px).astype(int).clip(0, full - 1)
    visible = canvas.cover[at[:, 1], at[:, 0]] < _COVERED
    return _photograph(picture, style, sensor), scene.landmarks, visible
