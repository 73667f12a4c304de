"""A folder as the original release leaves it, a label list and mosaics, written without the code that reads them."""

from pathlib import Path

import numpy as np

from stylealign.data.dataset import FaceDataset
from stylealign.data.image import read_image, write_image
from stylealign.jobs.gen_landmark import GenLandmark

FRAME, TILE = 96, 64


def original_map(points_in_frame: np.ndarray) -> np.ndarray:
    """The original's structure map, written here anew: one Gaussian a point at a whole pixel, maximum, 127..255."""
    value = np.zeros((TILE, TILE))
    for x, y in points_in_frame * (TILE / FRAME):
        cx, cy = int(x), int(y)
        for v in range(max(0, cy - 3), min(TILE, cy + 4)):
            for u in range(max(0, cx - 3), min(TILE, cx + 4)):
                value[v, u] = max(value[v, u], np.exp(-((u - cx) ** 2 + (v - cy) ** 2) / 2))
    return np.repeat(((value + 1) * 127.5).astype(np.uint8)[..., None], 3, axis=2)


class Release:
    """A label list and mosaics of `n` faces, of a loader that had swallowed `swallowed` batches before the first."""

    def __init__(
        self, folder: Path, rows: int = 10, n: int = 3, grids: int = 5, swallowed: int = 1, checkpoint: int = 10000
    ):
        rng = np.random.default_rng(rows)
        self.folder, self.n = folder, n
        self.labels = rng.uniform(8, FRAME - 8, (rows, 5, 2)).round(3)
        folder.mkdir(parents=True)
        lines = [" ".join(f"{v:.3f}" for v in face.ravel()) + f" person {i}.jpg" for i, face in enumerate(self.labels)]
        (folder / "labels.txt").write_text("\n".join(lines) + "\n")
        self.colour = rng.integers(0, 256, (rows, 3))
        pointer = 0  # the loader, written as the original's: a pointer, topped up with the first items
        for batch in range(swallowed + grids):
            shown = list(range(pointer, min(pointer + n, rows)))
            pointer += n
            if pointer >= rows:
                shown += list(range(n - len(shown)))
                pointer = 0
            if batch >= swallowed:
                mosaic = np.zeros(((n + 1) * TILE, (n + 1) * TILE, 3), np.uint8)
                for j, row in enumerate(shown):
                    mosaic[:TILE, (j + 1) * TILE : (j + 2) * TILE] = original_map(self.labels[row])
                    mosaic[(j + 1) * TILE : (j + 2) * TILE, :TILE] = self.colour[row]
                    for s, style in enumerate(shown):
                        mosaic[(s + 1) * TILE : (s + 2) * TILE, (j + 1) * TILE : (j + 2) * TILE] = self.tile(row, style)
                write_image(folder / f"transfer_{checkpoint + batch - swallowed + 1:07d}.png", mosaic)

    def tile(self, structure: int, style: int) -> np.ndarray:
        """A 'translated face' that says which it is: the style's colour, and the structure's number in one corner."""
        tile = np.full((TILE, TILE, 3), self.colour[style], np.uint8)
        tile[0, 0] = structure
        return tile

    def config(self, **more) -> GenLandmark:
        return GenLandmark(
            **{
                "gen_dir": self.folder, "out_dir": self.folder.parent / "made",
                "label_file": self.folder / "labels.txt",
                "batch_size": self.n, "frame": FRAME, "tile": TILE, **more,
            }
        )  # fmt: skip

    def check(self, made: FaceDataset, per_frame: bool = False) -> None:
        """Every face has the label of the structure it shows, and names both of its parents."""
        for face in made:
            picture = read_image(face.image)
            row = int(picture[0, 0, 0]) if not per_frame else int(face.provenance.content_id.split()[1])
            expected = self.labels[row] if per_frame else (self.labels[row] + 0.5) * TILE / FRAME - 0.5
            assert np.abs(face.landmarks - expected).max() < 1e-3
            assert face.provenance.content_id == f"person {row}"
            style = int(face.provenance.style_id.split()[1])
            assert np.array_equal(picture[-1, -1], self.colour[style])
