"""The detectors of the published table on a trunk: the contract, ImageNet weights, and what each then looks at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builders.detector_contract import DetectorContract
from builders.networks import ON_TRUNK, SCHEMA, batch, images, learning_of, on_trunk_config, schemas_of
from stylealign.config import from_dict
from stylealign.data.dataset import FaceDataset
from stylealign.detectors import DETECTORS, Preset, build_detector
from stylealign.detectors.lab.network import LAB
from stylealign.detectors.on_trunk import LastFeatures, TrunkRegressor
from stylealign.detectors.trunks import TRUNKS, build_trunk, trunks_in
from stylealign.errors import UserError


def made(name: str, size: int = 32, **more: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_detector(name, schemas_of(name), size, on_trunk_config(name, **more))


@pytest.mark.parametrize("name", ON_TRUNK)
class TestOnATrunk(DetectorContract):
    @pytest.fixture(autouse=True)
    def _on_a_trunk(self, name: str) -> Iterator[None]:
        values = {"trunk": "mobilenet_v2", "trunk_width": 0.125, **ON_TRUNK[name]}
        preset = Preset("on a trunk", "tiny", 32, values)
        with pytest.MonkeyPatch.context() as patch:  # one of its own: the contract undoes the test's
            patch.setitem(DETECTORS, name, DETECTORS[name]._replace(presets=(preset,)))
            yield

    @pytest.mark.slow
    def test_a_run_comes_back_from_its_folder_and_a_killed_one_ends_the_same(
        self, name: str, drawn: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        super().test_a_run_comes_back_from_its_folder_and_a_killed_one_ends_the_same(name, drawn, tmp_path, monkeypatch)


# --------------------------------------------------------------------------------------------------------------------
# ImageNet weights


@pytest.fixture(scope="module")
def file() -> dict[str, Tensor]:
    """A state dict as torchvision's file of mobilenet_v2 has it."""
    torch.manual_seed(1)
    state = build_trunk("mobilenet_v2", 64, 1.0, 32)[0].state_dict()
    return {**state, "classifier.1.weight": torch.zeros(1000, 8)}


@pytest.mark.parametrize("name", ON_TRUNK)
def test_imagenet_weights_load_into_every_trunk_and_nowhere_else(name: str, file: dict[str, Tensor]) -> None:
    load, section = DETECTORS[name].pretrained, DETECTORS[name].section
    assert load is not None
    model = made(name, trunk_width=1.0, **({"two_stage": True} if name == "wing" else {}))
    trunks = [trunk for _, trunk in trunks_in(model)]
    assert len(trunks) == (2 if name == "wing" else 1)
    inside = {id(p) for trunk in trunks for p in trunk.parameters()}
    before = {key: p.detach().clone() for key, p in model.named_parameters() if id(p) not in inside}
    load(model, file, "file.pth")
    for trunk in trunks:
        assert torch.equal(trunk.state_dict()["features.17.conv.2.weight"], file["features.17.conv.2.weight"])
    assert before
    assert all(torch.equal(value, model.get_parameter(key)) for key, value in before.items())
    with pytest.raises(UserError, match=rf"file.pth: weight 'features.0.0.weight' .* as in --{section}.trunk-width 1"):
        load(made(name, trunk_width=0.5), file, "file.pth")
    with pytest.raises(UserError, match=r"weight 'features.0.0.weight' is missing; expected those of torchvision's mo"):
        load(made(name), {"conv1.weight": torch.zeros(1)}, "file.pth")


def test_a_lab_without_a_trunk_has_no_place_for_them(file: dict[str, Tensor]) -> None:
    entry = DETECTORS["lab"]
    assert entry.pretrained is not None
    plain = build_detector("lab", (SCHEMA,), 32, from_dict(entry.config, entry.presets[0].network))
    with pytest.raises(UserError, match=r"file.pth: lab has no layers of its own .* --lab.trunk mobilenet_v2"):
        entry.pretrained(plain, file, "file.pth")


# --------------------------------------------------------------------------------------------------------------------
# What does not fit


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        (
            "resnet18",
            {"width": 16},
            r"resnet.width is of the layers that resnet.trunk mobilenet_v2 replaces: leave one",
        ),
        ("resnet18", {"mixstyle": {"prob": 0.5}}, r"resnet.mixstyle is of the layers that resnet.trunk mobilenet_v2"),
        ("wing", {"network": "cnn7"}, r"wing.network is of the layers"),
        ("dvln", {"mixstyle": {"prob": 0.5}}, r"dvln.mixstyle is of the layers"),
        ("san", {"width": 8}, r"san.width is of the layers"),
        ("lab", {"stacks": 1}, r"lab.stacks is of the layers"),
        ("lab", {"stride": 2}, r"lab.stride is 2 and trunk mobilenet_v2, whose finest features have 4: expected 4 or"),
        ("resnet18", {"trunk": None}, r"resnet.trunk_width is 0.125, and resnet.trunk names no trunk"),
        ("san", {"trunk_width": 0.0}, r"san.trunk_width is 0.0, expected above 0"),
    ],
)
def test_what_a_trunk_leaves_without_a_meaning_is_refused(name: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        on_trunk_config(name, **values)


@pytest.mark.parametrize("name", ["resnet18", "wing", "lab"])
def test_lone_faces_of_a_single_cell_are_refused(name: str) -> None:
    model = made(name)
    with pytest.raises(UserError, match=r"a crop of 32 px leaves one cell at stride 32, and batch_size 1 is one face"):
        DETECTORS[name].learn(learning_of(model, schemas_of(name), batch_size=1))


def test_lone_faces_of_any_size_are_refused_where_each_number_is_normalised() -> None:
    with pytest.raises(UserError, match="wing: each feature is normalised, and batch_size 1 is one face at a time"):
        DETECTORS["wing"].learn(learning_of(made("wing", 64), schemas_of("wing"), batch_size=1, size=64))
    DETECTORS["resnet18"].learn(learning_of(made("resnet18", 64), schemas_of("resnet18"), batch_size=1, size=64))


# --------------------------------------------------------------------------------------------------------------------
# What each looks at


def test_a_regression_starts_at_the_mean_shape_and_takes_means_of_large_crops() -> None:
    for size, inputs in ((96, 40 * 9), (128, 40)):
        model = made("resnet18", size)
        assert isinstance(model, TrunkRegressor)
        assert model.fc.in_features == inputs
    model.mean_shape.copy_(torch.rand(68, 2) * 128)
    nn.init.zeros_(model.fc.weight)
    assert torch.equal(model.eval()(images(1, 128)).landmarks[0], model.mean_shape)


@pytest.mark.parametrize("name", ["wing", "dvln"])
@pytest.mark.parametrize("size", [64, 128])
def test_hidden_layers_see_numbers_of_one_size_whatever_the_trunk_answers(name: str, size: int) -> None:
    """The spread of MobileNetV2's last features is a quarter; here they are made eight times as large, and moved."""
    seen: list[Tensor] = []
    model = made(name, size).train()
    (last,) = (module for module in model.modules() if isinstance(module, LastFeatures))
    ((_, trunk),) = trunks_in(model)
    last.register_forward_hook(lambda module, given, out: seen.append(out))
    trunk.register_forward_hook(lambda module, given, out: [*out[:-1], 8 * out[-1] + 0.3])
    model(images(16, size))
    cells = (size // 32) ** 2 if name == "wing" or size < 128 else 1
    assert seen[0].shape == (16, 40 * cells)
    assert seen[0].mean(dim=0).abs().max() < 1e-3
    assert 0.8 < seen[0].std(dim=0).median() < 1.2


def lab(**more: Any) -> LAB:
    model = made("lab", 64, **more)
    assert isinstance(model, LAB)
    return model


def test_lab_s_boundaries_come_of_the_trunk_and_reach_the_landmarks() -> None:
    model = lab().eval()
    out = model(images(2, 64))
    assert out.boundaries is not None
    assert out.boundaries.shape == (2, len(SCHEMA.boundaries), 16, 16)
    assert [tuple(maps.shape) for maps in out.stages] == [(2, len(SCHEMA.boundaries), 16, 16)]
    assert model.trunk is not None
    features = [x.detach().requires_grad_() for x in model.trunk(images(2, 64))]
    maps = out.boundaries.detach().requires_grad_()
    model.regressor(features, maps).square().sum().backward()
    # Landmarks are read from the trunk at every stride, and from each curve.
    assert all(bool(x.grad.abs().sum() > 0) for x in features if x.grad is not None)
    assert all(x.grad is not None for x in features)
    assert maps.grad is not None
    assert bool((maps.grad.abs().sum(dim=(0, 2, 3)) > 0).all())


def test_lab_s_coordinates_teach_its_trunk_and_its_boundaries() -> None:
    model = lab().train()
    faces = batch(SCHEMA, 2, 64)
    (model(faces.image).landmarks - faces.landmarks).abs().mean().backward()
    moved = {key.split(".")[0] for key, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert moved == {"trunk", "estimator", "regressor"}


def test_a_grey_lab_sees_brightness_and_another_colours() -> None:
    grey, colour = lab().eval(), lab(grayscale=False).eval()
    crop = images(1, 64)
    turned = crop.clone()  # another colour of the same brightness
    turned[:, 0] += 0.1
    turned[:, 2] -= 0.1 * 0.299 / 0.114
    for model, same in ((grey, True), (colour, False)):
        with torch.no_grad():
            first, second = (model(x).boundaries for x in (crop, turned))
        assert torch.allclose(first, second, atol=1e-5) == same


def test_san_sends_both_looks_through_one_trunk() -> None:
    model = made("san", 64).eval()
    seen: list[int] = []
    (_, trunk), *others = trunks_in(model)
    assert not others
    trunk.register_forward_hook(lambda _m, given, _o: seen.append(len(given[0])))
    out = model(images(3, 64))
    assert seen == [6]
    assert [tuple(maps.shape[1:]) for maps in out.stages] == [(69, 16, 16)] * 4
    assert out.heatmaps is not None


def test_dvln_s_decision_reads_the_trunk_s_fine_features_and_teaches_it_nothing() -> None:
    model = made("dvln", 64).eval()
    (_, trunk), *_ = trunks_in(model)
    logits = model(images(2, 64)).stages[1]
    logits.sum().backward()
    assert all(p.grad is None for p in trunk.parameters())
    trunk.register_forward_hook(lambda _m, _i, found: [found[0] + torch.randn_like(found[0]), *found[1:]])
    assert not torch.equal(model(images(2, 64)).stages[1], logits)  # candidates come of the last features alone


@pytest.mark.parametrize("trunk", [trunk for trunk in TRUNKS if trunk != "hrnet_w18"])  # which takes a second
def test_every_detector_stands_on_every_trunk_where_sides_do_not_halve(trunk: str) -> None:
    for name in ON_TRUNK:
        with torch.no_grad():
            found = made(name, 80, trunk=trunk).eval()(images(1, 80)).landmarks
        assert found.shape == (1, 68, 2), name
