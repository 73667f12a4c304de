"""Tiny detectors of the table, crops and batches for them, and what a way of learning is
given, without a job round it."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from builders import tiny
from stylealign.batches.batch import Batch
from stylealign.config import from_dict
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS, build_detector
from stylealign.detectors.learning import Learning
from stylealign.detectors.losses import LossConfig
from stylealign.detectors.san.cyclegan import CycleGANConfig
from stylealign.face.schema import SCHEMAS, LandmarkSchema
from stylealign.jobs.train_styles import AuxiliaryStyles, ClusterConfig
from stylealign.training.loop import LoopConfig, start_engine
from stylealign.training.optim import OptimizerConfig

SCHEMA = SCHEMAS["ibug68"]
SIZE = 32

# The smallest form of the published table's detectors on a trunk, beside `trunk` and `trunk_width`.
ON_TRUNK: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "wing": {"hidden": 16},
    "lab": {"channels": 8, "width": 4, "hidden": 8, "adversarial_from": 0.5},
    "san": {"generator": {"width": 4, "blocks": 1}, "features": 4, "hidden": 4, "top": 8, "kernel": 3},
    "dvln": {"embedding": 8, "candidates": 2, "evidence": 2, "hidden": 4},
}


def on_trunk_config(name: str, trunk_width: float = 0.125, **more: Any) -> Any:
    """The configuration of a tiny detector on a MobileNetV2."""
    values = {"trunk": "mobilenet_v2", "trunk_width": trunk_width, **ON_TRUNK[name], **more}
    return from_dict(DETECTORS[name].config, values, DETECTORS[name].section)


def tiny_config(name: str) -> Any:
    """The configuration of a detector's tiny preset."""
    preset = next(preset for preset in DETECTORS[name].presets if preset.version == "tiny")
    return from_dict(DETECTORS[name].config, preset.network, name)


def schemas_of(name: str) -> tuple[LandmarkSchema, ...]:
    return (SCHEMA, SCHEMAS["wflw98"]) if DETECTORS[name].several_heads else (SCHEMA,)


def make(name: str, size: int = SIZE) -> nn.Module:
    """A tiny detector with fresh weights and a mean shape."""
    torch.manual_seed(0)
    model = build_detector(name, schemas_of(name), size, tiny_config(name))
    model.mean_shape.copy_(face(SCHEMA, size))  # type: ignore[operator,union-attr]
    return model


def face(schema: LandmarkSchema, size: int) -> Tensor:
    """(P, 2) a spread of points inside the crop that no two landmarks share."""
    angle = torch.linspace(0, 5.5, schema.num_points)
    radius = torch.linspace(0.15, 0.4, schema.num_points)[:, None]
    return size / 2 + torch.stack([angle.cos(), angle.sin()], dim=1) * radius * size


def images(num: int, size: int = SIZE, seed: int = 0) -> Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(schema: LandmarkSchema, num: int = 4, size: int = SIZE, seed: int = 0) -> Batch:
    noise = torch.randn(num, schema.num_points, 2, generator=torch.Generator().manual_seed(seed))
    return Batch(
        image=images(num, size, seed),
        landmarks=face(schema, size) + noise,
        visible=torch.ones(num, schema.num_points, dtype=torch.bool),
        crop_from_source=torch.eye(2, 3, dtype=torch.float64).expand(num, 2, 3),
        index=torch.arange(num),
        weight=torch.ones(num),
    )


def job(name: str, run: Path, faces: FaceDataset, **loop: Any) -> Any:
    """A few updates of the tiny network on drawn faces, with whatever else it needs."""
    entry = DETECTORS[name]
    config = tiny.detector_job(
        run, faces.folder, {"preview_every": 0, **loop}, model=name, **{entry.section: tiny_config(name)}
    )
    if entry.several_heads:
        config = dataclasses.replace(config, other=(faces.folder,), other_share=0.5)
    if entry.style_generators:
        small = CycleGANConfig(discriminator_width=4, discriminator_layers=1)
        clusters = ClusterConfig(clusters=2, pair="two_largest", min_faces=1)
        config = dataclasses.replace(
            config, san_styles=AuxiliaryStyles(steps=2, batch_size=2, styles=clusters, cyclegan=small)
        )
    return config


def learning_of(
    model: nn.Module, schemas: tuple[LandmarkSchema, ...], *, size: int = SIZE, steps: int = 10, batch_size: int = 4,
    **changes: Any,
) -> Learning:  # fmt: skip
    """What a way of learning is given, on the CPU: the usual loss and optimizer, learning rate 1e-2, no decay."""
    values: dict[str, Any] = {
        "loss": LossConfig(), "optimizer": OptimizerConfig(), "lr": 1e-2, "weight_decay": 0.0, "pretrained": False,
        "mean_shapes": tuple(face(schema, size).numpy() for schema in schemas), **changes,
    }  # fmt: skip
    engine = start_engine(LoopConfig(steps=steps, batch_size=batch_size, accelerator="cpu"))
    return Learning(
        model=model, engine=engine, schemas=schemas, size=size, steps=steps, batch_size=batch_size, **values
    )
