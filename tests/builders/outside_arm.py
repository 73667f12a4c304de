"""A style arm that is not in the package: what somebody adds in a file of their own.

Importing it adds it to the table, as `STYLEALIGN_PLUGINS=builders.outside_arm stylealign ...` does.
"""

from torch import Tensor

from stylealign.batches.batch import Batch
from stylealign.styling.arms import ARMS, ArmEntry

NAME = "darker"


def darker(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
    """Take up to half of the light away; the donor is not looked at."""
    left = 1 - 0.5 * strength.view(-1, 1, 1, 1).to(content.image)
    return content._replace(image=(content.image + 1) * left - 1)


ENTRY = ArmEntry(summary="less light", arm=darker, looks_at_donor=False)
ARMS[NAME] = ENTRY
