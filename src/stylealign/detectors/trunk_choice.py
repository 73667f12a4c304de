"""The choice of a trunk in a detector's configuration: its name, and what it leaves without a meaning. Knows no
network; the trunks are trunks/."""

from dataclasses import MISSING, fields
from typing import Any, Literal

TrunkName = Literal["mobilenet_v2", "efficientnet_lite0", "resnet18", "resnet50", "hrnet_w18", "hourglass", "vit_tiny"]


def refuse_beside_trunk(config: Any, section: str, *own: str) -> None:
    """Raises ValueError where a configuration with fields `trunk` and `trunk_width` names a trunk and sets one of its
    fields `own`, which shape the layers that the trunk replaces; and for a width of no trunk."""
    if not config.trunk_width > 0:
        raise ValueError(f"{section}.trunk_width is {config.trunk_width}, expected above 0")
    if config.trunk is None:
        if config.trunk_width != 1:
            raise ValueError(f"{section}.trunk_width is {config.trunk_width}, and {section}.trunk names no trunk")
        return
    for field in fields(config):
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name in own and getattr(config, field.name) != usual:
            raise ValueError(
                f"{section}.{field.name} is of the layers that {section}.trunk {config.trunk} replaces: leave one of "
                "the two out"
            )
