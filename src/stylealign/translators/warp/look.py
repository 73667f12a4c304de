"""How faces look, in a few numbers of a thumbnail, so that donors can be told apart. Knows no landmarks and no files.

Colours and light at 8 px, of the face and of what is round it, and where edges are at 16 px: what a bent photograph
keeps of its donor.
"""

import numpy as np

SIDE = 16
"""Of a thumbnail, px"""


def looks_of(thumbnails: np.ndarray) -> np.ndarray:
    """(M, D) numbers of thumbnails (M, SIDE, SIDE, 3), of any scale: near where faces look alike.

    A look is how a face differs from the median of all these, colours and edges weighing alike. None is longer than
    most: who is lit or dressed as nobody else would differ most from everyone, and be chosen again and again.
    """
    pixels = np.asarray(thumbnails, np.float64)
    colours = pixels.reshape(len(pixels), SIDE // 2, 2, SIDE // 2, 2, -1).mean(axis=(2, 4))
    across, down = np.diff(pixels, axis=2)[:, 1:], np.diff(pixels, axis=1)[:, :, 1:]
    return np.concatenate([_shortened(part) for part in (colours, np.stack([across, down]).swapaxes(0, 1))], axis=1)


def _shortened(values: np.ndarray) -> np.ndarray:
    """(M, D) differences of (M, ...) values from their median, whose median length is 1 and the longest too."""
    flat = values.reshape(len(values), -1)
    flat = flat - np.median(flat, axis=0)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    typical = max(float(np.median(length)), 1e-12) if len(length) else 1.0
    return flat / np.maximum(length, typical)
