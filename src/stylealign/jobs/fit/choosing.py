"""Which network, size and batch a number of faces and minutes get: a small table.

| start | network | when |
|---|---|---|
| imagenet | fpn over MobileNetV2 (package: EfficientNet-Lite0), ImageNet weights | `--pretrained` is given |
| package | the network of the detector in the package, and its weights | otherwise |
| scratch | ResNet-18 of width 16 | `--start scratch` |

With few labels a start that has seen pictures goes further in the same updates than fresh weights; which of the three
is best in the same minutes, on faces of one's own, has not been measured yet. The crop is the largest of SIZES at which
the minutes are enough for LEAST_UPDATES, by how long a few updates take now where it will train; it is cut closer where
the landmarks go round the face (docs/results.md, "Which crop there").
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from stylealign.config import from_dict, merged, read_json
from stylealign.data.packaged import COMPACT
from stylealign.detectors import DETECTORS, build_detector
from stylealign.errors import counted
from stylealign.face.schema import LandmarkSchema
from stylealign.jobs.init import recipe_for
from stylealign.jobs.train_detector.pretrained import PACKAGE
from stylealign.training.devices import place, training_device

Start = Literal["imagenet", "package", "scratch"]
SIZES = (96, 64)
LEAST_UPDATES = 600
"""Updates below which a smaller crop is the better use of the time."""
MARGIN = 1.5
"""An update of a training, with its augmentation and styles, over one of the network alone."""


def crop_scale(schema: LandmarkSchema) -> float:
    """Side of the crop over the landmarks' box: that of a mark-up with the face's outline is the face's, of others less
    than what has to be seen."""
    return 1.2 if len(schema.parts.get("contour", ())) > 1 else 1.4


_FPN = {"model": "fpn", "fpn": {"loss": {"terms": ["coordinates", "js"]}}, "lr": 1e-3, "weight_decay": 0.02}


class Choice(NamedTuple):
    """What was chosen, and why."""

    start: Start
    values: dict[str, Any]
    """Of `train-detector`"""
    seconds: float
    """An update takes so long, about"""
    why: str


def network_values(start: Start, pretrained: Path | None) -> dict[str, Any]:
    """Values of `train-detector` that make the network and say what it starts from."""
    if start == "imagenet":
        trunk = "efficientnet_lite0" if pretrained == PACKAGE else "mobilenet_v2"
        return merged(_FPN, {"fpn": {"trunk": trunk}, "pretrained": str(pretrained)})
    if start == "package":
        card = read_json(COMPACT / "card.json")
        section = DETECTORS[card["model"]].section
        learning = {"lr": 1e-3, "weight_decay": 0.02} if card["model"] == "fpn" else {"lr": 3e-3}
        return {"model": card["model"], section: card["network"], **learning, "init_from": str(COMPACT)}
    recipe = recipe_for(0)
    return {key: recipe[key] for key in ("model", "resnet", "lr")}


Measure = Callable[[dict[str, Any], LandmarkSchema, int, int, torch.device], float]


def measure(values: dict[str, Any], schema: LandmarkSchema, size: int, batch_size: int, device: torch.device) -> float:
    """Seconds of an update of the bare network on noise, on that device: the median of three after the first."""
    name = values["model"]
    section = DETECTORS[name].section
    network: Any = from_dict(DETECTORS[name].config, values.get(section, {}), section)
    state = torch.get_rng_state()
    model = place(build_detector(name, (schema,), size, network), device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.randn(batch_size, 3, size, size).contiguous(memory_format=torch.channels_last).to(device)
    took = []
    for _ in range(4):
        before = time.monotonic()
        model(images).landmarks.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()  # a GPU is only told what to do
        took.append(time.monotonic() - before)
    torch.set_rng_state(state)
    return sorted(took[1:])[1]


def choose(
    start: Start,
    pretrained: Path | None,
    schema: LandmarkSchema,
    num_train: int,
    seconds: float,
    size: int | None = None,
    accelerator: str = "cpu",
    measure: Measure = measure,
) -> Choice:
    """Network, size, batch and rhythm for a number of labelled faces and so many seconds of training.

    Args:
        start: what it starts from.
        pretrained: ImageNet weights, for `imagenet`.
        schema: the mark-up.
        num_train: labelled faces to learn from.
        seconds: there are for training.
        size: side of the crop the person wants; None: chosen.
        accelerator: where it will train: auto, cpu or cuda.
        measure: (values, mark-up, size, batch, device) -> seconds of an update of the bare network.
    """
    recipe = recipe_for(num_train)
    batch = recipe["loop"]["batch_size"]
    values = network_values(start, pretrained)
    sizes, device = SIZES if size is None else (size,), training_device(accelerator)
    if start == "scratch" and size is None:
        sizes = SIZES[-1:]
    for side in sizes:
        each = MARGIN * measure(values, schema, side, batch, device)
        if seconds / each >= LEAST_UPDATES:
            break
    else:
        while batch > 16 and seconds / each < LEAST_UPDATES / 2:
            batch, each = batch // 2, each / 2
    loop = {"steps": 1000, "batch_size": batch, "evaluate_every": 250, "preview_every": 250, "checkpoint_every": 100,
        "log_every": 20}  # fmt: skip
    style = {"style": recipe["style"]} if "style" in recipe else {}
    found = merged(values, {"crop": {"size": side, "scale": crop_scale(schema)}, "loop": loop, **style})
    what = {
        "imagenet": f"a feature pyramid with the ImageNet weights of {pretrained}",
        "package": f"{values['model']} with the weights of the detector in the package",
        "scratch": "a ResNet-18 of width 16 from fresh weights",
    }[start]
    why = (
        f"{what}, crops of {side} px, {counted(batch, 'face')} an update: about {seconds / each:,.0f} updates of "
        f"{each:.2f} s for {counted(num_train, 'face')}{', restyled by the mixture' if style else ''}"
    )
    return Choice(start, found, each, why)
