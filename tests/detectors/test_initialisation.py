"""Before anything is learnt, every network's numbers and first losses lie in a sane range: LAB's grew five times a
stack, to boundary losses of two millions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builders.networks import SCHEMA, batch, learning_of, make
from stylealign.config import from_dict
from stylealign.detectors import DETECTORS, Preset, build_detector, presets
from stylealign.detectors.lab.hourglass import BoundaryEstimator
from stylealign.detectors.lab.messages import boundary_tree
from stylealign.detectors.trunks import TRUNKS, build_trunk
from stylealign.face.schema import SCHEMAS

LARGEST, LARGEST_LOSS = 1_000.0, 5_000.0
SIZED = [(name, preset) for name, preset in presets() if preset.version != "tiny"]


class Still:
    """An engine and an optimizer that learn nothing: the losses of a first update, without its cost."""

    def __init__(self, engine: Any):
        self.engine = engine

    def setup(self, module: nn.Module, optimizer: Any) -> tuple[nn.Module, Any]:
        return module, optimizer

    def backward(self, loss: Tensor) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def watched(module: nn.Module) -> dict[str, float]:
    """name of a layer -> its largest answer in absolute value, filled as the module is used."""
    found: dict[str, float] = {}

    def look(name: str) -> Any:
        def seen(layer: nn.Module, given: Any, answered: Any) -> None:
            if isinstance(answered, Tensor) and answered.is_floating_point():
                size = float(answered.detach().abs().max())
                found[name] = max(found.get(name, 0.0), size if size == size else torch.inf)

        return seen

    for name, layer in module.named_modules():
        if not list(layer.children()):
            layer.register_forward_hook(look(name))
    return found


def first_losses(name: str, preset: Preset) -> tuple[dict[str, float], dict[str, float]]:
    """(largest numbers of the layers, terms of the first update) of a fresh network at its size, on two faces."""
    torch.manual_seed(0)
    schemas = (SCHEMA, SCHEMAS["wflw98"]) if DETECTORS[name].several_heads else (SCHEMA,)
    config = from_dict(DETECTORS[name].config, preset.network, preset.title)
    model = build_detector(name, schemas, preset.size, config).train()
    learning = learning_of(model, schemas, size=preset.size, steps=100, batch_size=2 * len(schemas))
    model.mean_shape.copy_(torch.as_tensor(learning.mean_shapes[0]))  # type: ignore[operator,union-attr]
    object.__setattr__(learning, "engine", Still(learning.engine))
    learner, found = DETECTORS[name].learn(learning), watched(model)
    with torch.no_grad():
        terms = learner.update(tuple(batch(schema, 2, preset.size) for schema in schemas), 0)
    return found, {key: float(torch.as_tensor(value)) for key, value in terms.items()}


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        pytest.param(
            name,
            preset,
            id=f"{preset.title}, {preset.size} px",
            marks=[pytest.mark.slow] * (preset.version == "paper" and name != "lab"),
        )
        for name, preset in SIZED
    ],
)
def test_a_fresh_detector_s_numbers_and_losses_are_sane(name: str, preset: Preset) -> None:
    found, terms = first_losses(name, preset)
    assert found
    largest = max(found, key=found.__getitem__)
    assert found[largest] < LARGEST, largest
    assert all(abs(value) < LARGEST_LOSS for value in terms.values()), terms


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_fresh_trunk_s_features_are_neither_lost_nor_large(trunk: str) -> None:
    torch.manual_seed(0)
    network, _ = build_trunk(trunk, 128, 1.0, 32)
    with torch.no_grad():
        found = network.train()(torch.rand(2, 3, 128, 128) * 2 - 1)
    for features in found:
        assert 0.05 < float(features.std()) < 20


def test_every_stack_of_boundaries_starts_as_large_as_the_first() -> None:
    """Whatever the number of stacks: what one passes to the next starts at nothing, and can be learnt."""
    parents = boundary_tree(SCHEMA)
    torch.manual_seed(0)
    estimator = BoundaryEstimator(
        1, len(SCHEMA.boundaries), stacks=8, channels=32, depth=2, stride=4, parents=parents
    ).train()
    before = [stack.from_before for stack in estimator.stacks]
    assert before[0] is None
    assert all(float(layer.weight.detach().abs().max()) == 0 for layer in before[1:])
    spreads = [float(maps.detach().std()) for maps in estimator(torch.rand(2, 1, 64, 64))]
    assert max(spreads) < 4 * spreads[0]
    sum(maps.square().mean() for maps in estimator(torch.rand(2, 1, 64, 64))).backward()  # type: ignore[union-attr]
    assert all(bool(layer.weight.grad.any()) for layer in before[1:])


def test_a_network_that_grows_would_be_seen() -> None:
    model = make("resnet18")
    found = watched(model)
    with torch.no_grad():
        model.conv1.weight.mul_(1e6)  # type: ignore[union-attr]
        model(torch.rand(2, 3, 32, 32))
    assert max(found.values()) > LARGEST
