"""What a painter needs: a canvas that fills soft-edged polygons under a map of light, and a few shapes and textures.

Knows no face. Polygons are (n, 2) arrays of (x, y) canvas pixels, pixel centres at integers; colours are RGB in [0, 1].
"""

from collections.abc import Sequence

import cv2
import numpy as np

Paint = tuple[float, float, float] | np.ndarray
"""One colour, or a picture (H, W, 3) of the canvas's size to take colours from."""
_FRACTION_BITS = 4  # OpenCV's fixed-point polygons: 1/16 pixel


def mix(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, t: float) -> tuple[float, float, float]:
    """The colour `t` of the way from a to b."""
    red, green, blue = (1 - t) * np.asarray(a) + t * np.asarray(b)
    return float(red), float(green), float(blue)


def ellipse(centre: np.ndarray, radii: Sequence[float], num: int = 32, degrees: float = 0.0) -> np.ndarray:
    """An axis-aligned ellipse, turned by `degrees`, as a polygon."""
    t = np.linspace(0, 2 * np.pi, num, endpoint=False)
    a = np.radians(degrees)
    x, y = radii[0] * np.cos(t), radii[1] * np.sin(t)
    return np.stack([centre[0] + x * np.cos(a) - y * np.sin(a), centre[1] + x * np.sin(a) + y * np.cos(a)], axis=1)


def ribbon(curve: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """The outline (2n, 2) of a brush stroke along `curve` (n, 2), whose full width is one number or one a point."""
    tangent = np.gradient(curve, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    offset = normal * np.broadcast_to(np.asarray(width), (len(curve),))[:, None] / 2
    return np.concatenate([curve + offset, (curve - offset)[::-1]])


def smooth_noise(rng: np.random.Generator, cells: int | tuple[int, int], size: int) -> np.ndarray:
    """(size, size) float32 noise in [0, 1] that varies over 1 / cells of the picture; (rows, columns) may differ."""
    rows, columns = (cells, cells) if isinstance(cells, int) else cells
    coarse = rng.random((rows, columns), dtype=np.float32)
    return np.clip(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


def strands(rng: np.random.Generator, crown: np.ndarray, size: int, num: int = 700) -> np.ndarray:
    """(size, size) float32 in [0, 1]: fine rays running out from `crown` (2,), as combed hair does."""
    fine = cv2.resize(rng.random((num, 12), dtype=np.float32), (64, num), interpolation=cv2.INTER_LINEAR)
    broad = cv2.resize(rng.random((num // 16, 5), dtype=np.float32), (64, num), interpolation=cv2.INTER_CUBIC)
    flags = cv2.WARP_POLAR_LINEAR | cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    polar = 0.5 * fine + 0.5 * broad
    rays = cv2.warpPolar(polar, (size, size), (float(crown[0]), float(crown[1])), 1.6 * size, flags)
    return np.clip(rays, 0, 1)


class Canvas:
    """A square picture being painted: `image` (H, W, 3) float32, the `light` on it, and `cover` (H, W), what hides the
    face."""

    def __init__(self, image: np.ndarray):
        self.image = image
        self.size = image.shape[0]
        self.light = np.ones_like(image)
        self.cover = np.zeros(image.shape[:2], np.float32)

    def mask(self, polygon: np.ndarray) -> np.ndarray:
        """The polygon's antialiased area as (H, W) float32 in [0, 1]."""
        area = np.zeros((self.size, self.size), np.uint8)
        points = np.rint(polygon * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillPoly(area, [points], 255, cv2.LINE_AA, _FRACTION_BITS)
        return area.astype(np.float32) * np.float32(1 / 255)

    def fill(
        self,
        polygon: np.ndarray,
        colour: Paint,
        alpha: float = 1.0,
        soft: float = 0.0,
        clip: np.ndarray | None = None,
        lit: bool = True,
        covers: bool = False,
    ) -> None:
        """Paint a polygon.

        Args:
            polygon: (n, 2) px.
            colour: of it.
            alpha: how opaque it is.
            soft: blur of its edge, px.
            clip: (H, W) area that it stays in.
            lit: whether the canvas's light falls on it.
            covers: whether it hides the face.
        """
        if alpha <= 0:
            return
        margin = 3 * soft + 2
        low = np.floor(polygon.min(axis=0) - margin).astype(int).clip(0, self.size)
        high = np.ceil(polygon.max(axis=0) + margin + 1).astype(int).clip(0, self.size)
        width, height = high - low
        if width <= 0 or height <= 0:
            return
        area = np.zeros((height, width), np.uint8)
        points = np.rint((polygon - low) * (1 << _FRACTION_BITS)).astype(np.int32)
        cv2.fillPoly(area, [points], 255, cv2.LINE_AA, _FRACTION_BITS)
        if soft > 0.3:
            area = cv2.GaussianBlur(area, (0, 0), soft, borderType=cv2.BORDER_REPLICATE)
        weight = area.astype(np.float32) * np.float32(alpha / 255)
        self._lay((slice(low[1], high[1]), slice(low[0], high[0])), weight, colour, clip, lit, covers)

    def fill_mask(self, weight: np.ndarray, colour: Paint, lit: bool = True, covers: bool = False) -> None:
        """Paint where `weight` (H, W) float32 says, as strongly as it says."""
        self._lay((slice(None), slice(None)), weight, colour, None, lit, covers)

    def _lay(
        self,
        where: tuple[slice, slice],
        weight: np.ndarray,
        colour: Paint,
        clip: np.ndarray | None,
        lit: bool,
        covers: bool,
    ) -> None:
        if clip is not None:
            weight = weight * clip[where]
        if covers:
            np.maximum(self.cover[where], weight, out=self.cover[where])
        picture = colour[where] if isinstance(colour, np.ndarray) else np.asarray(colour, np.float32)
        if lit:
            picture = self.light[where] * picture
        target = self.image[where]
        target += weight[..., None] * (picture - target)


def light_map(
    size: int,
    px: float,
    centre: np.ndarray,
    quadratic: np.ndarray,
    bumps: np.ndarray,
    direction: np.ndarray,
    ambient: np.ndarray,
    lamp: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Light on a lumpy ellipsoid: (size, size, 3) float32 factors and (size, size) strength of the highlight.

    `centre` (2,) px and `quadratic` (3, 3) give the ellipsoid x'Qx = 1 in view units of `px` pixels; `bumps` (K, 5)
    rows of x, y in pixels, sigma x, sigma y and height in units, raise Gaussian hills on it. `direction` (3,) points
    to the lamp in the view frame (x right, y down, z to the viewer). Lambert's law with a soft edge between light and
    shade; Blinn's highlight.
    """
    axis = np.arange(size, dtype=np.float32)
    x, y = (axis - centre[0])[None, :] / px, (axis - centre[1])[:, None] / px
    q = quadratic.astype(np.float32)
    # z of the front surface: q22 z^2 + 2 (q02 x + q12 y) z + (q00 x^2 + 2 q01 x y + q11 y^2 - 1) = 0
    half_b = q[0, 2] * x + q[1, 2] * y
    c = q[0, 0] * x * x + 2 * q[0, 1] * x * y + q[1, 1] * y * y - 1
    z = (np.sqrt(np.maximum(half_b * half_b - q[2, 2] * c, 0.004)) - half_b) / q[2, 2]
    nx = q[0, 0] * x + q[0, 1] * y + q[0, 2] * z
    ny = q[0, 1] * x + q[1, 1] * y + q[1, 2] * z
    nz = np.maximum(q[0, 2] * x + q[1, 2] * y + q[2, 2] * z, 0.12)
    # Gaussians are separable, so that the slope of all the hills together is one matrix product each way.
    dx = (axis[None] - bumps[:, :1]) / (bumps[:, 2:3] * px)
    dy = (axis[None] - bumps[:, 1:2]) / (bumps[:, 3:4] * px)
    ex, ey = np.exp(-0.5 * dx * dx), np.exp(-0.5 * dy * dy)
    height = bumps[:, 4:5]
    slope_x = (ey * height / bumps[:, 2:3]).T @ (-dx * ex)
    slope_y = (-dy * ey * height / bumps[:, 3:4]).T @ ex
    nx = nx / nz - slope_x.astype(np.float32)
    ny = ny / nz - slope_y.astype(np.float32)
    inverse = 1 / np.sqrt(nx * nx + ny * ny + 1)
    facing = (nx * direction[0] + ny * direction[1] + direction[2]) * inverse
    half = direction + np.array([0, 0, 1])
    half = half / np.linalg.norm(half)
    shine = np.clip((nx * half[0] + ny * half[1] + half[2]) * inverse, 0, 1) ** 28
    lambert = np.clip((facing + 0.25) / 1.25, 0, 1)
    sky = 0.95 - 0.10 * ny * inverse  # a little more ambient light from above than from below
    light = sky[..., None] * ambient.astype(np.float32) + lambert[..., None] * lamp.astype(np.float32)
    return light.astype(np.float32), shine.astype(np.float32)
