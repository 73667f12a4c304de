"""What style arms make of the faces of a batch, to look at before a training goes on with them."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from stylealign.batches.batch import Batch, to_uint8
from stylealign.evaluation.draw import contact_sheet

FACES = 8
"""Of a sheet."""
_SIDE = 96  # px of a picture on the sheet at least


def styled_sheet(faces: Batch, donors: Batch | None, styled: Batch, size: int) -> np.ndarray:
    """(H, W, 3) uint8: faces of a batch, below each the donor it was offered, if any, and what became of it.

    Args:
        faces, donors, styled: rows that belong together, crops with their margin.
        size: side in px of the crop without it, which is shown.
    """
    rows: Sequence[tuple[str, Tensor]] = [
        ("face", faces.image),
        *([("donor", donors.image)] if donors is not None else []),
        ("as learnt from", styled.image),
    ]
    count = min(FACES, len(faces.image))
    enlarged = max(1, -(-_SIDE // size))
    tiles = []
    for _, images in rows:
        at = (images.shape[-1] - size) // 2
        shown = to_uint8(images[:count, :, at : at + size, at : at + size]).cpu().numpy()
        tiles += [tile.repeat(enlarged, axis=0).repeat(enlarged, axis=1) for tile in shown]
    return contact_sheet(tiles, count, [name for name, _ in rows for _ in range(count)])
