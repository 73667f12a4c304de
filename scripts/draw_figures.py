"""Draw the pictures in docs/images from drawn faces (never from photographs): python scripts/draw_figures.py"""

from pathlib import Path

import numpy as np

from stylealign.image import write_image
from stylealign.toyfaces import draw_swap_sheet, random_structure, random_style

FOLDER = Path(__file__).parents[1] / "docs" / "images"

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    structures = [random_structure(np.random.default_rng((1, i))) for i in range(6)]
    styles = [random_style(np.random.default_rng((2, i))) for i in (0, 1, 3, 5)]
    write_image(FOLDER / "styles.png", draw_swap_sheet(structures, styles, 112))
