"""The arms that keep the face's own pixels, by name: light, camera, things before the face, and what is behind it."""

from stylealign.styling.arm import Arm
from stylealign.styling.context import context
from stylealign.styling.degrade import degrade, degrade_like
from stylealign.styling.light import relight, shadow
from stylealign.styling.occlude import occlude, occlude_aligned

PIXEL_ARMS: dict[str, Arm] = {
    "relight": relight,
    "shadow": shadow,
    "degrade": degrade,
    "degrade_like": degrade_like,
    "occlude": occlude,
    "occlude_aligned": occlude_aligned,
    "context": context,
}
