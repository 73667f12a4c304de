"""Numbers that a person hands over, of whatever library -> plain ones, or a ValueError that names them.

Knows tensors by their methods, so that it needs no torch to read them.
"""

import operator
from typing import Any

import numpy as np


def numbers_of(values: Any, name: str) -> np.ndarray:
    """A float64 array of a list, an array or a tensor, on whatever device, of whatever precision, with a gradient or
    without; what a masked array covers is NaN. Raises ValueError for what holds other things than numbers."""
    if hasattr(values, "detach") and hasattr(values, "is_floating_point"):
        values = values.detach().cpu().double().numpy()
    try:
        found = np.asarray(np.ma.filled(np.ma.asanyarray(values, dtype=np.float64), np.nan))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: found {values!r:.60}, expected numbers ({error})") from None
    return found


def whole(value: Any, name: str, least: int) -> int:
    """A whole number of whatever library, `least` or more. Raises ValueError for others."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} is {value!r:.60}, expected a whole number, {least} or more")
    return number
