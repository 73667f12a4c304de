"""The features of a face: beard, eyes, brows, nose, mouth, folds, each painted inside splines through its landmarks."""

import math

import numpy as np

from stylealign.toyfaces.canvas import Canvas, ellipse, mix, ribbon
from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.scene import Scene
from stylealign.toyfaces.shape import smooth_curve
from stylealign.toyfaces.style import Style


def draw_beard(canvas: Canvas, scene: Scene, style: Style, hair: np.ndarray, face: np.ndarray) -> None:
    """Hair of the lower face, never beyond the outline."""
    if style.beard == "none":
        return
    u, head = scene.unit, scene.head
    base, corner, chin = head[57, 1], head[82], head[16, 1]
    lip = head[79, 1]
    edges = {  # upper edge from the image's right to the middle, as head-frame points
        "stubble": [(0.80, 0.50, 0.25), (0.58, 0.75, 0.6), (0.36, base + 0.12, 0.8), (0.0, base + 0.06, 0.95)],
        "full": [(0.86, 0.28, 0.15), (0.64, 0.72, 0.55), (0.36, base + 0.13, 0.8), (0.0, base + 0.07, 0.95)],
        "goatee": [
            (0.42, chin + 0.1, 0.7),
            (corner[0] + 0.12, corner[1] + 0.05, 0.8),
            (0.26, base + 0.12, 0.85),
            (0.0, base + 0.08, 0.95),
        ],
        "moustache": [
            (corner[0] + 0.13, corner[1] + 0.07, 0.8),
            (corner[0] * 0.92, 0.5 * (lip + base) + 0.03, 0.85),
            (0.2, base + 0.07, 0.9),
            (0.0, base + 0.08, 0.95),
        ],
    }
    right = np.array(edges[style.beard])
    upper = np.concatenate([right, right[-2::-1] * (-1, 1, 1)])
    if style.beard == "moustache":
        lower = [(-corner[0] * 0.95, corner[1], 0.85), (0, lip + 0.05, 0.98), (corner[0] * 0.95, corner[1], 0.85)]
        outline = np.concatenate([smooth_curve(scene.at(upper)), scene.at(lower)])
    elif style.beard == "goatee":
        outline = np.concatenate(
            [smooth_curve(scene.at(upper)), scene.at([(-0.3, chin + 0.2, 0.7), (0.3, chin + 0.2, 0.7)])]
        )
    else:
        outside = scene.px[3:30] + 0.3 * (scene.px[3:30] - scene.px[54])
        outline = np.concatenate([smooth_curve(scene.at(upper)), outside])
    strength = {"stubble": 0.30, "full": 0.88, "goatee": 0.85, "moustache": 0.88}[style.beard]
    canvas.fill(
        outline,
        hair * np.float32(0.8),
        strength,
        {"stubble": 0.07, "full": 0.045}.get(style.beard, 0.025) * u,
        clip=face,
    )
    if style.beard in (
        "full",
        "goatee",
    ):  # bare skin under the lower lip's corners would look pasted: shade the lip's foot
        canvas.fill(
            ellipse(scene.at(head[[85]] + (0, 0.06, 0))[0], (0.13 * u, 0.05 * u)),
            hair * np.float32(0.7),
            0.5,
            0.03 * u,
            clip=face,
        )


def draw_eye(
    canvas: Canvas, scene: Scene, structure: Structure, style: Style, first: int, pupil: int, face: np.ndarray
) -> None:
    """One eye: socket, lids, white, iris, pupil, lashes. `first` is 60 or 68, `pupil` 96 or 97."""
    u, px, head = scene.unit, scene.px, scene.head
    side = -1 if first == 60 else 1
    closed = structure.eye_closed_left if first == 60 else structure.eye_closed_right
    top = smooth_curve(px[first : first + 5])
    bottom = smooth_curve(px[[first + 4, first + 5, first + 6, first + 7, first]])
    outline = np.concatenate([top, bottom[1:-1]])
    up = (
        scene.at(head[[first + 2]] + (0, -0.1, 0))[0] - px[first + 2]
    ) / 0.1  # canvas pixels per unit, upwards in the head
    inner = px[64] if side < 0 else px[68]
    crease = top + up * (0.035 + 0.02 * np.sin(np.linspace(0, np.pi, len(top))))[:, None]

    deep = mix(style.skin, (0.30, 0.13, 0.10), 0.5)
    canvas.fill(
        ellipse(inner + 0.5 * (px[51] - inner) - up * 0.02, (0.09 * u, 0.13 * u)), deep, 0.30, 0.07 * u, clip=face
    )
    lid = np.concatenate([top, (top + up * (0.05 + 0.09 * np.sin(np.linspace(0, np.pi, len(top))))[:, None])[::-1]])
    canvas.fill(lid, style.eye_shadow_colour, 0.85 * style.eye_shadow, 0.022 * u, clip=face)
    if closed < 0.7:
        canvas.fill(ribbon(crease, 0.022 * u), deep, 0.7, 0.006 * u, clip=face)

    opening = canvas.mask(outline) if closed < 0.95 else None
    if opening is not None:
        canvas.fill(outline, (0.93, 0.92, 0.90))
        centre, r = px[pupil], 0.088 * structure.eye_size
        t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        circle = np.stack([np.cos(t), np.sin(t), np.zeros_like(t)], axis=1)
        disc = scene.at(head[pupil] + r * circle) - centre
        canvas.fill(centre + disc, mix(style.iris, (0.03, 0.03, 0.04), 0.55), clip=opening)
        canvas.fill(centre + 0.82 * disc, style.iris, soft=0.012 * u, clip=opening)
        canvas.fill(
            centre + 0.55 * disc + (0, 0.022 * u), mix(style.iris, (1, 0.95, 0.8), 0.3), 0.6, 0.014 * u, clip=opening
        )
        canvas.fill(centre + 0.42 * disc, (0.03, 0.03, 0.035), clip=opening)
        canvas.fill(ribbon(top - up * 0.015, 0.055 * u), (0.15, 0.10, 0.10), 0.45, 0.014 * u, clip=opening)
        spot = centre + 0.030 * u * np.array([math.copysign(1, style.light_azimuth), -1.1])
        canvas.fill(ellipse(spot, (0.021 * u, 0.021 * u), 12), (0.75 + 0.4 * style.lamp,) * 3, 0.95, clip=opening)
        corner = inner - side * np.array([-0.012 * u, 0])
        canvas.fill(ellipse(corner, (0.028 * u, 0.02 * u), 10), (0.80, 0.50, 0.47), 0.7, 0.006 * u, clip=opening)
        canvas.fill(ribbon(bottom, 0.014 * u), mix(style.skin, (0.45, 0.2, 0.18), 0.55), 0.8, clip=face)

    along = np.linspace(0, 1, len(top)) if side > 0 else np.linspace(1, 0, len(top))  # 0 inner ... 1 outer
    thick = (0.016 + 0.026 * style.lashes * (0.4 + 0.6 * along)) * np.minimum(1, 6 * along + 0.3) * u
    ink = mix(style.hair_colour, (0.05, 0.03, 0.03), 0.85)
    canvas.fill(ribbon(top, thick), ink, 0.92, clip=face)
    if style.lashes > 0.45:
        tip = top[-1] if side > 0 else top[0]
        wing = np.array([tip, tip + u * np.array([0.07 * side, -0.045]), tip + u * np.array([-0.05 * side, -0.02])])
        canvas.fill(wing, ink, 1.4 * (style.lashes - 0.4), 0.004 * u, clip=face)


def draw_brow(canvas: Canvas, scene: Scene, style: Style, indices: list[int], face: np.ndarray) -> None:
    """A brow: the shape bounded by its nine points; `indices` run from the outer tip along the top, then the bottom."""
    px, u = scene.px, scene.unit
    top = smooth_curve(px[indices[:5]])
    bottom = smooth_curve(px[[*indices[5:], indices[0]]])
    shape = np.concatenate([top, bottom[:-1]])
    ink = mix(style.hair_colour, (0.10, 0.06, 0.05), 0.70)
    canvas.fill(shape, ink, 0.85, 0.010 * u, clip=face)
    inside = canvas.mask(shape)
    lean = (px[indices[1]] - px[indices[3]]) * 0.06  # hairs lean towards the temple
    for t in np.linspace(0.04, 0.92, 16):
        low, high = bottom[round((1 - t) * (len(bottom) - 1))], top[round(t * (len(top) - 1))]
        canvas.fill(
            ribbon(np.stack([low - lean, high + lean]), 0.012 * u), mix(ink, (0.03, 0.02, 0.02), 0.6), 0.25, clip=inside
        )


def draw_nose(canvas: Canvas, scene: Scene, structure: Structure, style: Style, face: np.ndarray) -> None:
    """What shading does not give: wings, nostrils, the line of the base, a shadow, the ridge of a turned nose."""
    u, px, head = scene.unit, scene.px, scene.head
    dark = mix(style.skin, (0.25, 0.08, 0.06), 0.6)
    lateral = math.sin(math.radians(style.light_azimuth))
    shade = min(1.0, 0.5 * style.lamp / max(style.ambient, 0.1))
    cast = np.array([-0.16 * lateral, 0.08])
    canvas.fill(ellipse(px[57] + u * cast, (0.20 * u, 0.075 * u)), dark, 0.5 * shade, 0.045 * u, clip=face)
    flank = smooth_curve(px[51:55]) + u * np.array([-0.15 * np.sign(lateral), 0.0])
    canvas.fill(ribbon(flank, 0.11 * u), dark, 0.35 * shade * abs(lateral), 0.05 * u, clip=face)

    yaw = structure.yaw
    if abs(yaw) > 12:  # the ridge hides what lies behind it, and shows as an edge
        near = 55 if yaw > 0 else 59
        ridge = smooth_curve(px[51:55]) + np.array([np.sign(yaw) * 0.03 * u, 0])
        flat = scene.at([(-0.16 * np.sign(yaw), 0.12, 0.62)])
        solid = min(1.0, (abs(yaw) - 12) / 15)
        canvas.fill(np.concatenate([ridge, px[[57, near]], flat]), style.skin, solid, 0.012 * u)
        canvas.fill(ribbon(ridge[6:], np.linspace(0.012, 0.03, len(ridge) - 6) * u), dark, 0.6 * solid, 0.01 * u)

    base = smooth_curve(px[55:60])
    canvas.fill(ribbon(base, 0.028 * u), dark, 0.75, 0.008 * u)
    for wing, side in ((55, -1), (59, 1)):
        if side * yaw > 35:  # hidden behind the nose
            continue
        offsets = [(0.010, 0.0, 0), (0.022, -0.06, 0), (-0.002, -0.115, 0.02), (-0.05, -0.13, 0.05)]
        arc = scene.at(head[wing] + np.array(offsets) * (side, 1, 1))
        canvas.fill(ribbon(smooth_curve(arc), np.linspace(0.028, 0.010, 25) * u), dark, 0.65, 0.012 * u, clip=face)
    for index, side in ((56, -1), (58, 1)):
        centre = scene.at(head[[index]] + (0.012 * side, -0.035, 0))[0]
        narrow = 1 - 0.75 * min(1.0, max(0.0, side * math.sin(math.radians(yaw)) * 1.4))
        radii = (0.058 * structure.nose_width * narrow * u, (0.026 - 0.0006 * structure.pitch) * u)
        canvas.fill(
            ellipse(centre, radii, 20, structure.roll - 14 * side), (0.16, 0.05, 0.04), 0.85, 0.008 * u, lit=True
        )


def draw_mouth(canvas: Canvas, scene: Scene, structure: Structure, style: Style, face: np.ndarray) -> None:
    """Lips, the dark between them, teeth and tongue."""
    u, px, head = scene.unit, scene.px, scene.head
    outer_top, outer_bottom = smooth_curve(px[76:83]), smooth_curve(px[[82, 83, 84, 85, 86, 87, 76]])
    inner_top, inner_bottom = smooth_curve(px[88:93]), smooth_curve(px[[92, 93, 94, 95, 88]])
    dark_skin = 1 - float(np.mean(style.skin))
    bare = mix(mix(style.skin, (0.74, 0.27, 0.27), 0.50), (0.35, 0.14, 0.15), 0.55 * dark_skin)
    lips = mix(bare, style.lipstick_colour, 0.9 * style.lipstick)
    upper = np.concatenate([outer_top, inner_top[::-1]])
    lower = np.concatenate([outer_bottom, inner_bottom[::-1]])
    shadow = mix(style.skin, (0.25, 0.1, 0.08), 0.5)
    canvas.fill(
        ellipse(scene.at(head[[85]] + (0, 0.07, -0.02))[0], (0.16 * u, 0.04 * u)), shadow, 0.4, 0.035 * u, clip=face
    )
    inside = np.concatenate([inner_top, inner_bottom[1:-1]])
    opening = float(np.linalg.norm(px[90] - px[94])) / u
    hole = canvas.mask(inside)
    if opening > 0.015:
        canvas.fill(inside, (0.20, 0.05, 0.05))
        if opening > 0.16:
            tongue = scene.at(head[[94]] + (0, -0.02, -0.1))[0]
            canvas.fill(ellipse(tongue, (0.20 * u, 0.35 * opening * u)), (0.70, 0.30, 0.30), 0.9, 0.03 * u, clip=hole)
        depth = min(0.115, 0.75 * opening)
        edge = head[88:93] + np.array([0, depth, -0.05])
        edge[:, 1] = 0.35 * edge[:, 1] + 0.65 * edge[2, 1]  # the teeth's edge is flatter than the lip above
        down = scene.at(edge)
        teeth = np.concatenate([inner_top, smooth_curve(down)[::-1]])
        canvas.fill(teeth, (0.92, 0.89, 0.83), clip=hole)
        if opening > 0.10:
            gaps = scene.at(np.array([(x, head[90, 1], 0.95) for x in (-0.165, -0.085, 0.0, 0.085, 0.165)]))
            drop = scene.at([(0, 0.12, 0)])[0] - scene.at([(0, 0, 0)])[0]
            for gap in gaps:
                canvas.fill(
                    ribbon(np.stack([gap - drop, gap + drop]), 0.01 * u),
                    (0.6, 0.52, 0.45),
                    0.5,
                    0.004 * u,
                    clip=canvas.mask(teeth) * hole,
                )
        canvas.fill(ribbon(inner_top, 0.05 * u), (0.15, 0.03, 0.03), 0.5, 0.016 * u, clip=hole)
    canvas.fill(lower, lips)
    canvas.fill(upper, mix(lips, (0.22, 0.04, 0.06), 0.17))
    gleam = scene.at(head[[84, 85, 86]] + (0, -0.075 * structure.lower_lip, 0.02))
    strength = (0.14 + 0.3 * style.lipstick + 0.25 * style.gloss) * min(1.0, 2 * style.lamp)
    lower_mask = canvas.mask(lower)
    canvas.fill(ribbon(smooth_curve(gleam), 0.028 * u), (1.0, 0.92, 0.9), strength, 0.016 * u, clip=lower_mask)
    canvas.fill(
        ribbon(outer_bottom[4:-4], 0.03 * u), mix(lips, (0.2, 0.05, 0.05), 0.4), 0.35, 0.014 * u, clip=lower_mask
    )
    line = ribbon(inner_top, 0.022 * u)
    if opening <= 0.05:
        canvas.fill(line, (0.22, 0.06, 0.06), 0.8, 0.005 * u)
    for corner, inner in ((76, 88), (82, 92)):
        canvas.fill(ribbon(px[[corner, inner]], 0.02 * u), (0.25, 0.08, 0.08), 0.6, 0.006 * u)


def draw_folds(canvas: Canvas, scene: Scene, structure: Structure, style: Style, face: np.ndarray) -> None:
    """Lines that age and smiling draw."""
    u, head = scene.unit, scene.head
    dark = mix(style.skin, (0.28, 0.10, 0.07), 0.55)
    depth = min(1.0, 0.15 + 0.5 * style.age + 0.5 * max(0.0, structure.smile))
    for wing, corner, side in ((55, 76, -1), (59, 82, 1)):
        if side * structure.yaw > 30:
            continue
        bend = 0.5 * (head[wing] + head[corner]) + (0.10 * side, -0.02, -0.02)
        fold = smooth_curve(
            scene.at([head[wing] + (0.05 * side, -0.08, -0.02), bend, head[corner] + (0.10 * side, -0.02, -0.05)]), 8
        )
        canvas.fill(
            ribbon(fold, np.interp(np.linspace(0, 1, len(fold)), [0, 0.4, 1], [0.012, 0.035, 0.008]) * u),
            dark,
            0.55 * depth,
            0.016 * u,
            clip=face,
        )
    for level in (-0.62, -0.76):
        strength = 0.35 * max(0.0, style.age - 0.3) + 0.35 * max(0.0, structure.brow_raise - 0.3)
        line = smooth_curve(
            scene.at([(x, level + 0.04 * x * x, 0.80 - 0.4 * x * x) for x in (-0.45, -0.2, 0.0, 0.2, 0.45)])
        )
        canvas.fill(ribbon(line, 0.018 * u), dark, strength, 0.01 * u, clip=face)
    for side in (-1, 1):
        line = scene.at([(0.055 * side, -0.33, 0.82), (0.045 * side, -0.16, 0.82)])
        canvas.fill(ribbon(line, 0.02 * u), dark, 0.6 * structure.brow_frown, 0.01 * u, clip=face)
