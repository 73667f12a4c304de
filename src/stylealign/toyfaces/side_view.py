"""A photographed face seen from the side: the picture is laid on a head, and the head is turned.

"Face profiling" of 300W-LP (Zhu et al., CVPR 2016, section 5) without its model of 3-D faces: the depth comes from the
drawn head (shape.py), laid on the face's own landmarks by its pose, and is smooth between them. A turn about the head's
upright axis moves every place along its own row, so that hiding is settled row by row: the nearest place is seen. What
the photograph does not show (a temple, an ear's back) is stretched from its neighbours, the background likewise.

Landmarks stay on the skin they lie on, hidden or not, but for the far side's contour, which people label on the cheek's
outline as it is seen: it slides there along its row. Knows no files. Pictures are (S, S, 3) uint8, landmarks (P, 2) px,
angles degrees; positive yaw turns the nose to the image's right.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial.transform import Rotation

from stylealign.data.image import warp
from stylealign.errors import UserError
from stylealign.face.geometry import apply, compose, invert, landmark_box, resize_affine, rotate_scale_affine
from stylealign.face.schema import CONVERSIONS, SCHEMAS, LandmarkSchema
from stylealign.toyfaces.person import Structure
from stylealign.toyfaces.shape import FRONT, head_points

MISFIT = 0.13
"""Head units (half a face's width) that landmarks of eyes, brows and nose may lie beside the drawn head's."""
_CONTOUR = 9  # landmarks of a contour that tell where a face ends
_APART = 0.25  # head units between a landmark and places of the drawn head beside it
_GRID = 256  # px of the upright square that maps are worked out on
_NODES = 72  # of the depth's thin-plate surface a side
_FINE = 4  # places a px that are followed along a row
_CHIN = 1.55  # height of the chin at rest, the unit of FRONT's heights
_GAP = 9  # half px: gaps of what a turn stretches are narrower
_AXIS = (0.0, 0.0, -0.1)  # a place on the upright axis of the turn, head units
_STILL = (-2.5, -1.5, 1.7, 2.7)  # heights: still above, turned fully from, to, still below (nearly: the trunk)
_PITCH = 0.5  # of the fitted pitch is believed: a long nose looks like a lowered head
_FRONTAL = 6.0  # degrees of yaw below which a face looks to neither side
_OWN_YAW = 0.7  # of a face's fitted yaw is counted: noses make heads look more turned than they are
_JUTS = 0.05  # head units: a nose that far beyond the cheek's end is seen in profile
_STABLE = ("brows", "nose", "eyes")  # parts that an expression moves little

# Places of the head that no mark-up names, (x, y, z) in head units, of the image's right half and of the middle.
_SKULL = ((0.0, -0.85, 0.72), (0.0, -1.4, 0.35), (0.0, -1.75, -0.2), (0.6, -0.8, 0.6), (0.45, -1.3, 0.3))
_SIDE = ((0.95, -0.6, 0.05), (0.7, -1.45, -0.5), (0.5, 1.9, -0.15), (0.75, 1.5, -0.25), (0.6, 2.6, -0.2))
_NECK = ((0.0, 2.0, 0.0), (0.0, 2.6, 0.0))
_BEHIND = ((1.03, -0.1, -0.25), (1.03, 0.4, -0.22), (1.2, 0.0, -0.75), (1.15, 0.6, -0.7), (1.15, -0.7, -0.7))
# Where the head ends, (x, y, z): above the landmarks on the far side and on the near one, below them on both.
_END_FAR = ((0.0, -1.8, 0.0), (0.45, -1.4, 0.2), (0.75, -0.95, 0.3), (0.92, -0.5, 0.05))
_END_NEAR = ((0.0, -1.8, 0.0), (0.6, -1.5, -0.3), (0.95, -1.1, -0.4), (1.15, -0.7, -0.5))
_END_NECK = ((0.62, 1.75, 0.0), (0.62, 2.6, 0.0))


class Pose(NamedTuple):
    """How the drawn head lies under a face's landmarks, by weak perspective."""

    unit: float
    """px a head unit"""
    rotation: np.ndarray
    """(3, 3), proper: head frame to the view, whose z points to the viewer"""
    shift: np.ndarray
    """(2,) px: where the head's origin lies"""
    misfit: float
    """mean distance between the landmarks and the head's, in head units"""

    @property
    def angles(self) -> np.ndarray:
        """(3,) degrees of yaw (positive: the nose points to the image's right), pitch and roll (clockwise as seen)."""
        roll, pitch, yaw = Rotation.from_matrix(self.rotation).as_euler("ZXY", degrees=True)
        return np.array([yaw, -pitch, roll])

    def place(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) px of (n, 3) places of the head: x, y, and the depth towards the viewer."""
        seen = self.unit * points @ self.rotation.T
        return seen + np.array([*self.shift, 0.0])


class SideView(NamedTuple):
    """A face after the turn."""

    image: np.ndarray
    """(S, S, 3) uint8"""
    landmarks: np.ndarray
    """(P, 2) px of `image`"""
    visible: np.ndarray
    """(P,) bool: False for what the head hides; the far side's contour lies on the outline, so it is seen"""


@lru_cache(maxsize=1)
def _at_rest() -> np.ndarray:
    """(98, 3) the landmarks of the drawn head at rest."""
    return head_points(Structure())


def head_of(schema: LandmarkSchema) -> np.ndarray:
    """(P, 3) a mark-up's landmarks on the drawn head at rest, in head units.

    Raises UserError for a mark-up that the drawn head's 98 points do not convert to.
    """
    points = _at_rest()
    if schema.name == "wflw98":
        return points
    if ("wflw98", schema.name) not in CONVERSIONS or schema != SCHEMAS[schema.name]:
        known = ", ".join(["wflw98", *(target for source, target in CONVERSIONS if source == "wflw98")])
        raise UserError(f"schema {schema.name}: where its points lie on a head is not known; expected one of {known}")
    groups, _ = CONVERSIONS["wflw98", schema.name]
    return np.stack([points[list(group)].mean(axis=0) for group in groups])


def pose_of(landmarks: np.ndarray, schema: LandmarkSchema) -> Pose:
    """The drawn head's pose under (P, 2) landmarks, by least squares over eyes, brows and nose."""
    head = head_of(schema)
    stable = [i for part in _STABLE for i in schema.parts.get(part, ())]
    stable = stable if len(stable) >= 6 else list(range(len(head)))
    model, seen = head[stable], np.asarray(landmarks, dtype=np.float64)[stable]
    solved = np.linalg.lstsq(np.column_stack([model, np.ones(len(model))]), seen, rcond=None)[0]
    left, values, right = np.linalg.svd(solved[:3].T, full_matrices=False)
    two, unit = left @ right, max(float(values.mean()), 1e-6)
    roll, nod, yaw = Rotation.from_matrix(np.stack([two[0], two[1], np.cross(two[0], two[1])])).as_euler("ZXY")
    rotation = Rotation.from_euler("ZXY", [roll, _PITCH * nod, yaw]).as_matrix()
    two = rotation[:2]
    shift = (seen - unit * model @ two.T).mean(axis=0)
    away = np.linalg.norm(seen - unit * model @ two.T - shift, axis=1)
    return Pose(unit, rotation, shift, float(away.mean()) / unit)


def own_yaw(landmarks: np.ndarray, schema: LandmarkSchema) -> float:
    """Degrees of yaw by which (P, 2) px landmarks look aside, as `turn_to` takes them.

    A nose that juts out beyond the far cheek is seen before the background: such a photograph shows no more of a head
    that is turned further, and its yaw counts as that of a profile.
    """
    upright = apply(_upright(landmarks, schema, pose_of(landmarks, schema)), np.asarray(landmarks, dtype=np.float64))
    pose = pose_of(upright, schema)
    yaw = float(pose.angles[0])
    side = 1 if yaw > 0 else -1
    nose = upright[list(schema.parts.get("nose", ()))]
    ends = _end(upright, schema, pose, side, far=True)[nose[:, 1].round().astype(int).clip(0, _GRID - 1)]
    beyond = float((side * (nose[:, 0] - ends)).max(initial=0)) / pose.unit
    return side * 90 / _OWN_YAW if beyond > _JUTS else yaw


def turn_to(yaw: float, own: float, rng: np.random.Generator) -> float:
    """Degrees by which a face of the fitted yaw `own` is turned so that it comes to `yaw`, to the side it looks to.

    A face that looks to neither is turned to a side that is drawn. 0: it is turned as far already.
    """
    drawn = float(rng.choice([-1, 1]))
    side = float(np.sign(own)) if abs(own) >= _FRONTAL else drawn
    return side * max(0.0, yaw - _OWN_YAW * abs(own))


def side_view(
    source: np.ndarray,
    landmarks: np.ndarray,
    schema: LandmarkSchema,
    degrees: float,
    image_from_source: np.ndarray,
    size: int,
) -> SideView:
    """Turn a labelled face of a picture by `degrees` of yaw and cut it out.

    Turn a face further to the side that it already looks to: its other cheek is not in the photograph.

    Args:
        source: (H, W, 3) uint8.
        landmarks: (P, 2) px of `source`, all of them known.
        schema: its mark-up; one that `head_of` knows.
        degrees: -90 to 90, added to the yaw that the face has; 0 leaves all where it is.
        image_from_source: (2, 3) the crop that is cut.
        size: its side in px.
    """
    cut = warp(source, compose(resize_affine(2.0), image_from_source), 2 * size)
    points = apply(image_from_source, np.asarray(landmarks, dtype=np.float64))
    upright_from_image = _upright(points, schema, pose_of(points, schema))
    image_from_upright = invert(upright_from_image)
    level = apply(upright_from_image, points)
    head = _turned(level, schema, degrees)
    moved, visible = _moved(level, schema, head)

    at = apply(upright_from_image, np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(float))
    near = at.clip(0, _GRID - 1).astype(np.float32)  # beyond the grid places move as at its edge
    along = cv2.remap(head.shown, near[..., 0], near[..., 1], cv2.INTER_LINEAR) + at[..., 0] - near[..., 0]
    shown = apply(image_from_upright, np.stack([along, at[..., 1]], axis=-1))
    maps = apply(resize_affine(2.0), shown).astype(np.float32)
    image = cv2.remap(cut, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return SideView(image, apply(image_from_upright, moved), visible)


class _Turned(NamedTuple):
    """A turned head on the upright grid; rows are the same before and after."""

    pose: Pose
    angles: np.ndarray
    """(G,) radians by which each row is turned"""
    shown: np.ndarray
    """(G, G) float32: the x before the turn of what is seen at each place"""
    depth: np.ndarray
    """(G, G) float32: how far each place stood out before the turn"""
    nearest: np.ndarray
    """(G, G) float32: the depth after the turn of what is seen there; -inf off the head"""
    cheek: np.ndarray
    """(G, _FINE * G) x after the turn of every place that is followed, nose and lips cut off"""

    def place(self, x: np.ndarray, z: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and depth after the turn of places at x and depth z before."""
        x0, _, z0 = self.pose.place(np.array([_AXIS]))[0]
        cos, sin = np.cos(angle), np.sin(angle)
        return x0 + (x - x0) * cos + (z - z0) * sin, (z - z0) * cos - (x - x0) * sin


def face_box(landmarks: np.ndarray, schema: LandmarkSchema, pose: Pose) -> np.ndarray:
    """(4,) x0 y0 x1 y1 round the face of (P, 2) landmarks: that of a mark-up with a contour; else with the drawn
    head's landmarks, laid under it by its pose."""
    if len(schema.parts.get("contour", ())) >= _CONTOUR:
        return landmark_box(landmarks)
    return landmark_box(np.concatenate([landmarks, pose.place(_at_rest())[:, :2]]))


def _upright(landmarks: np.ndarray, schema: LandmarkSchema, pose: Pose) -> np.ndarray:
    """upright_from_image (2, 3): the grid in which the head stands upright and the face's box is in the middle."""
    x0, y0, x1, y1 = face_box(landmarks, schema, pose)
    middle = (float(x0 + x1) / 2, float(y0 + y1) / 2)
    scale = _GRID / (2.3 * max(float(x1 - x0), float(y1 - y0), 1e-6))
    to_middle = (_GRID / 2 - middle[0], _GRID / 2 - middle[1])
    return rotate_scale_affine(middle, -float(pose.angles[2]), scale, to_middle)


def _both(places: tuple[tuple[float, float, float], ...]) -> np.ndarray:
    """Places of the image's right half, and their mirror twins."""
    right = np.array(places)
    return np.concatenate([right, right * (-1, 1, 1)])


def _depth(landmarks: np.ndarray, schema: LandmarkSchema, pose: Pose, side: int) -> np.ndarray:
    """(G, G) float32 depth of each place towards the viewer, smooth. `side`: where the nose goes, -1 left, 1 right.

    What lies behind the far cheek is left out: it stays behind.
    """
    behind = np.array(_BEHIND) * (-side, 1, 1)
    skull = np.unique(np.concatenate([_both(_SKULL), _both(_SIDE), np.array(_NECK), behind]), axis=0)
    more, own = pose.place(skull), pose.place(head_of(schema))
    if len(schema.parts.get("contour", ())) < _CONTOUR:  # few points: the drawn head's beside them
        rest = pose.place(_at_rest())
        away = np.linalg.norm(rest[:, None, :2] - landmarks[None], axis=2).min(axis=1)
        more = np.concatenate([more, rest[away > _APART * pose.unit]])
    places = np.concatenate([landmarks, more[:, :2]]) / _GRID
    surface = RBFInterpolator(places, np.concatenate([own[:, 2], more[:, 2]]), smoothing=1e-5)
    axis = np.linspace(0, 1 - 1 / _GRID, _NODES)
    nodes = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    coarse = surface(nodes).reshape(_NODES, _NODES).astype(np.float32)
    return cv2.GaussianBlur(cv2.remap(coarse, *_node_maps(), cv2.INTER_CUBIC), (0, 0), _GRID / 128)


@lru_cache(maxsize=1)
def _node_maps() -> tuple[np.ndarray, np.ndarray]:
    """Where each place of the grid lies between the nodes of the depth."""
    at = np.arange(_GRID, dtype=np.float32) * ((_NODES - 1) / (_GRID - 1))
    x, y = np.meshgrid(at, at)
    return x, y


def _end(landmarks: np.ndarray, schema: LandmarkSchema, pose: Pose, half: int, far: bool) -> np.ndarray:
    """(G,) x where the head ends in each row, before the turn, on the half -1 (left) or 1.

    By the contour's landmarks, on the near side with the ear behind them; where a mark-up has none, by the drawn
    head's, laid under the face.
    """
    contour = list(schema.parts.get("contour", ()))
    if len(contour) >= _CONTOUR:
        jaw, rest = landmarks[contour], head_of(schema)[contour]
    else:
        rest = _at_rest()[:33]
        jaw = pose.place(rest)[:, :2]
    chosen = rest[:, 0] * half > 0.45  # not the chin, where rows run along the contour
    jaw, rest = jaw[chosen], rest[chosen]
    ear = np.interp(rest[:, 1], [-0.1, 1.3], [-0.01, 0.0] if far else [0.25, 0.08])
    jaw = jaw + half * pose.unit * np.stack([ear, np.zeros_like(ear)], axis=1)
    above, neck = (
        pose.place(np.array(ends) * (half, 1, 1))[:, :2] for ends in (_END_FAR if far else _END_NEAR, _END_NECK)
    )
    jaw = jaw[jaw[:, 1] < neck[0, 1] - 0.3 * pose.unit]
    ends = np.concatenate([above, jaw, neck])
    ends = ends[np.argsort(ends[:, 1], kind="stable")]
    rows = np.interp(np.arange(_GRID), ends[:, 1], ends[:, 0]).astype(np.float32)
    return cv2.GaussianBlur(rows[None], (0, 0), _GRID / 64, borderType=cv2.BORDER_REPLICATE)[0]


def _finer(depth: np.ndarray) -> np.ndarray:
    """A depth at all the places of a row that are followed."""
    at = (np.arange(_FINE * _GRID, dtype=np.float32) / _FINE)[None].repeat(_GRID, axis=0)
    rows = np.arange(_GRID, dtype=np.float32)[:, None].repeat(_FINE * _GRID, axis=1)
    return cv2.remap(depth, at, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _front(pose: Pose) -> np.ndarray:
    """(G,) float32 depth of the cheeks in each row, without nose and lips."""
    heights, depths = np.array(FRONT)
    places = pose.place(np.stack([np.zeros_like(heights), heights * _CHIN, depths], axis=1))
    return np.interp(np.arange(_GRID), places[:, 1], places[:, 2]).astype(np.float32)


def _turned(landmarks: np.ndarray, schema: LandmarkSchema, degrees: float) -> _Turned:
    """Turn the head under (P, 2) landmarks of the upright grid."""
    pose, side = pose_of(landmarks, schema), 1 if degrees > 0 else -1
    depth, rows = _depth(landmarks, schema, pose, side), np.arange(_GRID)
    left, right = (_end(landmarks, schema, pose, half, far=half == side) for half in (-1, 1))
    still, top, bottom, trunk = pose.place(np.array([(0, y, 0) for y in _STILL]))[:, 1]
    angles = np.radians(degrees) * _ramp(rows, still, top) * (1 - 0.85 * _ramp(rows, bottom, trunk))
    head = _Turned(pose, angles, np.empty(0), depth, np.empty(0), np.empty(0))

    before = np.arange(_FINE * _GRID) / _FINE
    after, near = head.place(before[None], _finer(depth), angles[:, None])
    cheek, _ = head.place(before[None], _finer(np.minimum(depth, _front(pose)[:, None])), angles[:, None])
    cells = np.round(after * 2).astype(int)  # half a px: finer than is looked at, coarser than is followed
    on_head = (before >= left[:, None]) & (before <= right[:, None])
    # The far half's rim lies so far back that a turn may take it beyond the near rim: there it is hidden.
    near_end = (right if side < 0 else left) * _FINE
    rim = after[rows, near_end.round().astype(int).clip(0, _FINE * _GRID - 1)]
    far_half = side * (before - pose.shift[0]) > 0
    on_head &= ~(far_half & (side * (after - rim[:, None]) < 2))
    x, depths = _nearest(before, near, cells, on_head & (cells >= 0) & (cells < 2 * _GRID))
    closed = cv2.morphologyEx(depths, cv2.MORPH_CLOSE, np.ones((1, _GAP), np.uint8))
    x[depths < closed - 0.1 * pose.unit] = np.nan  # seen through the gaps of what is stretched before it
    shown = _filled(x, right if side > 0 else left, side)
    return head._replace(shown=shown, nearest=closed.reshape(_GRID, _GRID, 2).max(axis=2), cheek=cheek)


def _nearest(
    before: np.ndarray, near: np.ndarray, cells: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the places that fall into a cell, (G, 2 G), the nearest: its x before the turn (nan: none) and its depth."""
    x, depths = np.full((_GRID, 2 * _GRID), np.nan), np.full((_GRID, 2 * _GRID), -np.inf, np.float32)
    for row in range(_GRID):
        place = np.flatnonzero(seen[row])
        place = place[np.argsort(near[row, place], kind="stable")]  # the nearest is written last
        x[row, cells[row, place]], depths[row, cells[row, place]] = before[place], near[row, place]
    return x, depths


def _filled(x: np.ndarray, far_end: np.ndarray, side: int) -> np.ndarray:
    """(G, G) float32 x before the turn at every place, from that of the cells (G, 2 G) that the head fills.

    Beyond the far outline the background goes on from the far end of the head, which is hidden; on the other side from
    what is seen last. Half a grid beyond the grid nothing moves.
    """
    rows, shown = np.arange(_GRID), np.empty((_GRID, _GRID), np.float32)
    for row in rows:
        known = np.flatnonzero(~np.isnan(x[row]))
        if len(known) < _FINE:
            shown[row] = rows
            continue
        beyond = known[-1] + 1 if side > 0 else known[0] - 1
        after, before = np.append(known, beyond), np.append(x[row, known], far_end[row])
        order = np.argsort(after, kind="stable")
        shown[row] = np.interp(2 * rows, [-_GRID, *after[order], 3 * _GRID], [-_GRID / 2, *before[order], 1.5 * _GRID])
    return cv2.GaussianBlur(shown, (0, 0), 0.7)


def _moved(landmarks: np.ndarray, schema: LandmarkSchema, head: _Turned) -> tuple[np.ndarray, np.ndarray]:
    """(P, 2) landmarks after the turn, and which of them are seen."""
    rows = np.arange(_GRID)
    x, y = landmarks.T
    at = landmarks.astype(np.float32)
    z = cv2.remap(head.depth, at[:, :1], at[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    side = 1 if head.angles.sum() > 0 else -1
    moved, depth = head.place(x, z, np.interp(y, rows, head.angles))
    row, column = (np.round(v).astype(int).clip(0, _GRID - 1) for v in (y, moved))
    visible = head.nearest[row, column] <= depth + 0.1 * head.pose.unit
    contour = list(schema.parts.get("contour", ()))
    visible[contour] = True
    middle = head.pose.place(np.array([(0.0, 0.6, 0.8)]))[0, 0]
    for i in contour:
        if (x[i] - middle) * side > 0:  # it slides along its row, towards the middle, to where the cheek ends
            low, high = sorted((_FINE * middle, _FINE * x[i]))
            passed = side * head.cheek[row[i], round(max(low, 0)) : round(min(high, _FINE * _GRID - 1)) + 1]
            moved[i] = side * max(side * moved[i], passed.max(initial=-np.inf))
    return np.stack([moved, y], axis=1), visible
