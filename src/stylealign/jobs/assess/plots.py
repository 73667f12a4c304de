"""Plots of the translator report (drift of the points, gap of every swap) and of what a threshold of trust keeps.

Numbers in, PNG out; no tensors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stylealign.evaluation.draw import COLOURS, new_figure, save_figure
from stylealign.face.curves import sample_curves
from stylealign.face.schema import LandmarkSchema


def arrows(drift: np.ndarray, length: float, mean_shape: np.ndarray) -> tuple[np.ndarray, float]:
    """Arrows (P, 2) in the units of the mean shape, and how many times too long they are, to be seen.

    Args:
        drift: (P, 2) displacements over the denominator.
        length: the mean face's denominator, in the units of the mean shape.
        mean_shape: (P, 2).
    """
    moved = drift * length
    longest = float(np.linalg.norm(moved, axis=1).max())
    wanted = 0.12 * float(np.ptp(mean_shape, axis=0).max())
    steps = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    times = max((s for s in steps if s * longest <= wanted), default=1.0) if longest > 0 else 1.0
    return moved * times, times


def drift_plot(
    schema: LandmarkSchema,
    mean_shape: np.ndarray,
    gap: np.ndarray,
    drift: np.ndarray,
    length: float,
    path: Path | BinaryIO,
) -> None:
    """Each point of the mean face with the arrow of its mean displacement, coloured by its structure gap.

    Args:
        schema: the numbering, for the curves.
        mean_shape: (P, 2) (x, y), y down.
        gap: (P,) in NME points (per cent).
        drift: (P, 2) mean displacements over the denominator.
        length: the mean face's denominator, in the units of `mean_shape`.
        path: PNG file to write.
    """
    figure = new_figure(6.2, 5.4)
    axes = figure.subplots()
    for indices in schema.boundaries.values():
        curve = sample_curves(mean_shape, indices, 10 * len(indices))
        axes.plot(curve[:, 0], curve[:, 1], color="#cccccc", linewidth=1, zorder=1)
    shafts, times = arrows(drift, length, mean_shape)
    axes.quiver(
        *mean_shape.T,
        *shafts.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        color="#333333",
        width=0.004,
        zorder=3,
        headwidth=4,
    )
    most = max(float(np.abs(gap).max()), 0.1)
    dots = axes.scatter(
        mean_shape[:, 0],
        mean_shape[:, 1],
        c=gap,
        s=38,
        cmap="coolwarm",
        vmin=-most,
        vmax=most,
        zorder=2,
        edgecolors="#888888",
        linewidths=0.4,
    )
    axes.update_datalim(mean_shape + shafts)  # no arrow leaves the picture
    axes.autoscale_view()
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()
    axes.set_title(f"mean displacement of each point, drawn {times:g} times as long", fontsize=10)
    figure.colorbar(dots, ax=axes, label="structure gap (NME points)", shrink=0.8)
    save_figure(figure, path)


def matrix_plot(gap: np.ndarray, path: Path | BinaryIO) -> None:
    """(n, m) gaps in NME points as a grid of numbers on colours: row i is structure i, column j style j."""
    n, m = gap.shape
    figure = new_figure(0.72 * m + 1.8, 0.6 * n + 1.1)
    axes = figure.subplots()
    most = max(float(np.abs(gap).max()), 0.1)
    shown = axes.imshow(gap, cmap="coolwarm", vmin=-most, vmax=most)
    for i, j in np.ndindex(n, m):
        axes.text(j, i, f"{gap[i, j]:+.1f}", ha="center", va="center", fontsize=8)
    axes.set(xlabel="style of face", ylabel="structure of face", xticks=range(m), yticks=range(n))
    axes.set_xticklabels([str(j + 1) for j in range(m)])
    axes.set_yticklabels([str(i + 1) for i in range(n)])
    figure.colorbar(shown, ax=axes, label="gap (NME points)", shrink=0.9)
    save_figure(figure, path)


def keep_curve_plot(rows: Sequence[Mapping[str, float]], path: Path | BinaryIO) -> None:
    """What every threshold of disagreement would keep of a set of faces, and how good what it keeps is.

    Args:
        rows: of a keep-rate curve: `max_disagreement` (the threshold), `kept` (share), and where the truth is known
            `mean_error` of the kept; all fractions.
        path: PNG file to write.
    """
    figure = new_figure(6.4, 3.4)
    axes = figure.subplots()
    threshold = 100 * np.array([row["max_disagreement"] for row in rows])
    axes.plot(threshold, [100 * row["kept"] for row in rows], color=COLOURS[0], linewidth=1.6)
    axes.set(xlabel="faces dropped above this disagreement (% of the denominator)", ylim=(0, 105))
    axes.set_ylabel("faces kept (%)", color=COLOURS[0])
    axes.grid(alpha=0.3)
    if all("mean_error" in row for row in rows):
        right = axes.twinx()
        right.plot(threshold, [100 * row["mean_error"] for row in rows], color=COLOURS[1], linewidth=1.6)
        right.set_ylabel("NME of the kept (%)", color=COLOURS[1])
    save_figure(figure, path)
