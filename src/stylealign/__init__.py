"""stylealign: face-landmark detectors from few labels, by separating a face's structure from its style.

An independent implementation of "Aggregation via Separation" (ICCV 2019). The names below are imported when first used,
so that `import stylealign` does no work. `__init__.pyi` says the same to editors and type checkers.
"""

from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "load": "stylealign.api.detector",
    "Detector": "stylealign.api.detector",
    "Face": "stylealign.api.detector",
    "StyleTranslator": "stylealign.api.translator",
    "StyleAugmentation": "stylealign.api.augmentation",
    "training_batches": "stylealign.api.training_batches",
    "evaluate_landmarks": "stylealign.api.scores",
    "FaceDataset": "stylealign.data.dataset",
    "write_dataset": "stylealign.data.dataset_writer",
    "FaceSample": "stylealign.face.sample",
    "Prediction": "stylealign.face.sample",
    "LandmarkSchema": "stylealign.face.schema",
    "SCHEMAS": "stylealign.face.schema",
    "get_schema": "stylealign.face.schema",
    "UserError": "stylealign.errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        import importlib

        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'stylealign' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
