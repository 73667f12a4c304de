"""Example photos of the page, drawn when they are asked for first: faces of toyfaces, nobody's pictures."""

from functools import cache

import numpy as np

from stylealign.toyfaces import draw_face, random_structure, random_style

PAIRS = ((2, 3), (4, 7), (0, 6))
"""Seeds of two faces each that the detector in the package finds and that `warp` can bend into each other."""
SIDE = 320


@cache
def _drawn(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image, _, _ = draw_face(random_structure(rng), random_style(rng), SIDE)
    return image


def example_pair(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Two drawn faces, (SIDE, SIDE, 3) uint8; after the last pair comes the first again."""
    first, second = PAIRS[number % len(PAIRS)]
    return _drawn(first), _drawn(second)
