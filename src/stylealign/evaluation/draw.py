"""Pictures for people: landmark overlays, contact sheets, style sheets, error curves, errors on the mean face.

Images are (H, W, 3) uint8 RGB arrays; plots are written as PNG to a path or an open binary file. This file knows
nothing of datasets, models or folders. matplotlib is imported inside the plots only, without its global state and
without a display.
"""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stylealign.data.image import warp
from stylealign.errors import counted, shortened
from stylealign.evaluation.metrics import auc
from stylealign.face import geometry
from stylealign.face.curves import sample_curves
from stylealign.face.schema import LandmarkSchema

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREDICTED_RGB = (72, 219, 251)
TRUTH_RGB = (255, 159, 28)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#8a6d00")  # Okabe and Ito's
_SUBPIXEL_BITS = 4


# --------------------------------------------------------------------------------------------------------------------
# Overlays


def _fixed(points: np.ndarray) -> np.ndarray:
    """OpenCV's fixed-point coordinates: landmarks are drawn where they are, not at the nearest pixel."""
    clipped = np.clip(np.nan_to_num(points), -1e4, 1e4)  # a point may lie outside; OpenCV's integers must not overflow
    return np.round(clipped * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _draw_points(canvas: np.ndarray, landmarks: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    for x, y in _fixed(landmarks[np.isfinite(landmarks).all(axis=1)]).tolist():
        cv2.circle(canvas, (x, y), round(radius * (1 << _SUBPIXEL_BITS)), colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_landmarks(
    image: np.ndarray,
    landmarks: np.ndarray,
    schema: LandmarkSchema | None = None,
    truth: np.ndarray | None = None,
    radius: float | None = None,
) -> np.ndarray:
    """Return a copy of the image with landmarks as dots and, given a schema, its boundaries as thin curves.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (P, 2) (x, y) px of this image, drawn in blue; one that is not finite, and its curve, are not drawn.
        schema: the numbering, for the curves.
        truth: (P, 2) true landmarks, drawn in orange below the others and joined to them by a line: the error.
        radius: of the dots in px; not given: by the size of the image.
    """
    canvas = np.ascontiguousarray(image).copy()
    radius = max(0.9, min(image.shape[:2]) / 150) if radius is None else radius
    if schema is not None:
        for indices in schema.boundaries.values():
            if not np.isfinite(landmarks[list(indices)]).all():
                continue
            curve = _fixed(sample_curves(landmarks, indices, 10 * len(indices)))
            cv2.polylines(canvas, [curve.reshape(-1, 1, 2)], False, PREDICTED_RGB, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    if truth is not None:
        both = np.isfinite(truth).all(axis=1) & np.isfinite(landmarks).all(axis=1)
        for start, end in zip(_fixed(truth[both]).tolist(), _fixed(landmarks[both]).tolist(), strict=True):
            cv2.line(canvas, start, end, TRUTH_RGB, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
        _draw_points(canvas, truth, radius, TRUTH_RGB)
    _draw_points(canvas, landmarks, radius, PREDICTED_RGB if schema is None else (255, 255, 255))
    return canvas


def colour_of(i: int, num_points: int) -> tuple[int, int, int]:
    """RGB, 0 to 255, of landmark i: hues go round once, brightness alternates from one landmark to the next."""
    r, g, b = colorsys.hsv_to_rgb(i / num_points, 0.9, 1.0 if i % 2 == 0 else 0.75)
    return round(255 * r), round(255 * g), round(255 * b)


def draw_numbered(image: np.ndarray, landmarks: np.ndarray, schema: LandmarkSchema) -> np.ndarray:
    """A copy of an image with the mark-up's curves and every landmark as a dot in the colour of its number.

    A mirrored face drawn so has the same colours in the same places exactly if the mirror table is right.

    Args:
        image: (H, W, 3) uint8 RGB.
        landmarks: (P, 2) (x, y) px of this image.
        schema: the mark-up, for its curves.
    """
    canvas = draw_landmarks(image, landmarks, schema)
    for i, (x, y) in enumerate(np.clip(landmarks, -1e4, 1e4)):
        if not np.isfinite((x, y)).all():
            continue
        cv2.circle(
            canvas,
            (round(16 * float(x)), round(16 * float(y))),
            16 * max(2, len(image) // 90),
            colour_of(i, len(landmarks)),
            -1,
            cv2.LINE_AA,
            4,
        )
    return canvas


def flipped(crop: np.ndarray, landmarks: np.ndarray, schema: LandmarkSchema) -> tuple[np.ndarray, np.ndarray]:
    """Mirror a square crop (S, S, 3) uint8 and its landmarks (P, 2) px, renumbered by the mark-up's mirror table."""
    affine = geometry.flip_affine(len(crop))
    return warp(crop, affine, len(crop)), geometry.apply(affine, landmarks)[schema.flip_permutation]


# --------------------------------------------------------------------------------------------------------------------
# Sheets


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Centre an image on white."""
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _labelled(tile: np.ndarray, label: str, strip: int) -> np.ndarray:
    """Add a white strip a line of text high for each line of the label; a line that is too long loses its beginning."""
    font = ImageFont.load_default(strip - 6)
    pages = []
    for line in label.split("\n"):
        cut = 0
        while cut < len(line) and font.getlength(line if not cut else "..." + line[cut:]) > tile.shape[1] - 4:
            cut += 1
        page = Image.new("RGB", (tile.shape[1], strip), "white")
        ImageDraw.Draw(page).text((2, 1), line if not cut else "..." + line[cut:], fill="black", font=font)
        pages.append(np.asarray(page))
    return np.concatenate([tile, *pages])


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, labels: Sequence[str] | None = None, gap: int = 4
) -> np.ndarray:
    """Lay images out row by row on white: (H, W, 3) uint8 RGB. Smaller images are centred in the largest one's place.

    Args:
        images: (h, w, 3) uint8 RGB each, at least one.
        columns: images per row.
        labels: text under each image, of one line or several.
        gap: white pixels between images.
    """
    if not images or columns < 1 or (labels is not None and len(labels) != len(images)):
        raise ValueError(
            f"a sheet of {counted(len(images), 'image')} in {counted(columns, 'column')} with "
            f"{counted(len(labels or ()), 'label')}"
        )
    height, width = max(image.shape[0] for image in images), max(image.shape[1] for image in images)
    tiles = [_padded(image, height, width) for image in images]
    if labels is not None:
        strip = min(24, max(16, width // 10))
        lines = max(label.count("\n") for label in labels)  # tiles of one height
        labels = [label + "\n" * (lines - label.count("\n")) for label in labels]
        tiles = [_labelled(tile, label, strip) for tile, label in zip(tiles, labels, strict=True)]
    columns, rows = min(columns, len(tiles)), -(-len(tiles) // columns)
    cell_h, cell_w = tiles[0].shape[0] + gap, width + gap
    sheet = np.full((rows * cell_h + gap, columns * cell_w + gap, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = gap + i // columns * cell_h, gap + i % columns * cell_w
        sheet[top : top + tile.shape[0], left : left + width] = tile
    return sheet


def style_sheet(
    contents: Sequence[np.ndarray], styles: Sequence[np.ndarray], grid: Sequence[Sequence[np.ndarray]], gap: int = 4
) -> np.ndarray:
    """Lay translations out: row i shows content i (first column) in every style (first row): (H, W, 3) uint8 RGB.

    Args:
        contents: n images giving structure, all images of one size.
        styles: m images giving style.
        grid: n rows of m images; `grid[i][j]` has the structure of content i and the style of style j.
        gap: white pixels between images; the header row and column stand apart by three times as much.
    """
    if len(grid) != len(contents) or any(len(row) != len(styles) for row in grid):
        raise ValueError(
            f"a grid of rows {[len(row) for row in grid]} for {counted(len(contents), 'content')}, "
            f"{counted(len(styles), 'style')}"
        )
    size = contents[0].shape[0]
    corner = np.full_like(contents[0], 255)
    header = contact_sheet([corner, *styles], len(styles) + 1, gap=gap)
    body = [
        contact_sheet([content, *row], len(styles) + 1, gap=gap)[:-gap]
        for content, row in zip(contents, grid, strict=True)
    ]
    sheet = np.concatenate(
        [
            header,
            np.full((gap, header.shape[1], 3), 255, np.uint8),
            *body,
            np.full((gap, header.shape[1], 3), 255, np.uint8),
        ]
    )
    cut = size + 2 * gap
    return np.concatenate(
        [sheet[:, :cut], np.full((sheet.shape[0], 2 * gap, 3), 255, np.uint8), sheet[:, cut:]], axis=1
    )


# --------------------------------------------------------------------------------------------------------------------
# Plots


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, inches wide and high."""
    from matplotlib.figure import Figure  # a Figure of its own draws with Agg; pyplot would pick a display

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def save_figure(figure: "Figure", path: Path | BinaryIO) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, format="png", metadata={"Software": None})  # same numbers, same bytes


def _label(text: str) -> str:
    """A name as a figure can show it: short, and its dollars no formulas."""
    return shortened(text, 100).replace("$", r"\$")


def ced_plot(curves: Mapping[str, np.ndarray], path: Path | BinaryIO, limit: float = 0.10, title: str = "") -> None:
    """Plot cumulative error distributions: share of faces (%) against NME (%), exact steps.

    Args:
        curves: name -> (N,) per-face NME, fractions; of several seeds one after the other.
        path: PNG file to write.
        limit: right end of the plot, a fraction; the legend gives the AUC up to it.
        title: a line above.
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.subplots()
    for i, (name, nme) in enumerate(curves.items()):
        errors = np.sort(np.asarray(nme, np.float64))
        x = np.concatenate([[0.0], errors, [max(limit, errors[-1])]])
        y = np.concatenate([[0.0], np.arange(1, errors.size + 1) / errors.size, [1.0]])
        label = f"{_label(name)} (AUC {100 * auc(errors, limit):.1f})"
        line = ("-", "--", "-.")[i // len(COLOURS) % 3]
        axes.step(
            100 * x, 100 * y, where="post", color=COLOURS[i % len(COLOURS)], linestyle=line, linewidth=1.6, label=label
        )
    axes.set(
        xlim=(0, 100 * limit),
        ylim=(0, 100),
        xlabel="NME (%)",
        ylabel="faces with at most that error (%)",
        title=_label(title),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)
    save_figure(figure, path)


def mean_face_plot(
    schema: LandmarkSchema,
    mean_shape: np.ndarray,
    values: np.ndarray | Mapping[str, np.ndarray],
    path: Path | BinaryIO,
    unit: str = "NME (%)",
) -> None:
    """Plot one number per landmark as coloured dots on the mean face, a panel per system, one colour scale for all.

    Args:
        schema: the numbering, for the curves.
        mean_shape: (P, 2) (x, y), y down, any unit; NaN: a landmark that no face has.
        values: (P,) numbers in the unit shown, or name -> numbers.
        path: PNG file to write.
        unit: what the colours mean.
    """
    panels = values if isinstance(values, Mapping) else {"": values}
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(3.6 * columns + 0.9, 3.7 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    known = np.concatenate([np.asarray(v, np.float64) for v in panels.values()])
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    dots = None
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, (name, numbers) in zip(grid.ravel(), panels.items(), strict=False):
        for indices in schema.boundaries.values():
            if not np.isfinite(mean_shape[list(indices)]).all():
                continue
            curve = sample_curves(mean_shape, indices, 10 * len(indices))
            axes.plot(curve[:, 0], curve[:, 1], color="#bbbbbb", linewidth=1, zorder=1)
        dots = axes.scatter(
            mean_shape[:, 0], mean_shape[:, 1], c=numbers, s=34, cmap="viridis", vmin=low, vmax=high, zorder=2
        )
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set_title(_label(name), fontsize=10)
    if dots is not None:
        figure.colorbar(dots, ax=grid, label=unit, shrink=0.8)
    save_figure(figure, path)


def lines_plot(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    path: Path | BinaryIO,
    xlabel: str = "step",
    ylabel: str = "",
    log: bool = True,
    spread: Mapping[str, np.ndarray] | None = None,
    marked: bool = False,
) -> None:
    """Plot named lines, such as training losses.

    Args:
        series: name -> (x, y), (n,) each.
        path: PNG file to write.
        xlabel: below the x axis.
        ylabel: beside the y axis.
        log: make the y axis logarithmic, where every value is positive.
        spread: name -> (n,) half lengths of a bar at each value of that line.
        marked: x takes few values, all positive: each is marked and named, and they are spaced by ratio.
    """
    figure = new_figure(6.4, 3.4)
    axes = figure.subplots()
    for i, (name, (x, y)) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(x, y, color=colour, linewidth=1.2, label=_label(name), marker="o" if marked else None, markersize=4)
        if spread and name in spread:
            axes.errorbar(x, y, spread[name], color=colour, linestyle="none", linewidth=1, capsize=2)
    if log and all((np.asarray(y) > 0).all() for _, y in series.values()):
        axes.set_yscale("log")
    if marked:
        places = sorted({float(place) for x, _ in series.values() for place in x})
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{place:,.0f}" for place in places])
        axes.set_xticks([], minor=True)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2 if len(series) > 5 else 1)
    save_figure(figure, path)
