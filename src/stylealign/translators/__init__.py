"""Translators: networks that draw a structure map in the style of another face."""

from stylealign.translators.vunet import PRESETS as VUNET_PRESETS
from stylealign.translators.vunet import TranslatorOutput, VUNet, VUNetConfig, index_features, initialise

TRANSLATORS = {"vunet": (VUNetConfig, VUNet)}
"""Name -> (config dataclass, network built from it)."""

__all__ = [
    "TRANSLATORS",
    "VUNET_PRESETS",
    "TranslatorOutput",
    "VUNet",
    "VUNetConfig",
    "index_features",
    "initialise",
]
