"""Faces varied at random: where they are, what they look like, what covers them. The one table is table.py."""

from stylealign.batches.augment.affine import centre_crop, compose, invert, transform, warp
from stylealign.batches.augment.config import MARGIN, NO_AUGMENTATION, PRESETS, AugmentConfig, OperationConfig
from stylealign.batches.augment.table import AUGMENTATIONS
from stylealign.batches.augment.vary import apply, augment, random_affines

__all__ = [
    "AUGMENTATIONS", "MARGIN", "NO_AUGMENTATION", "PRESETS", "AugmentConfig", "OperationConfig", "apply", "augment",
    "centre_crop", "compose", "invert", "random_affines", "transform", "warp",
]  # fmt: skip
