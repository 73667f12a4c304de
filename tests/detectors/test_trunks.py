"""Every trunk: features at strides 4 to 32 for any crop, ImageNet weights under the names that their files have."""

import contextlib
import hashlib
from functools import lru_cache

import pytest
import torch
from torch import nn

from stylealign.detectors.resnet import ResNet18, ResNet50, ResNetConfig
from stylealign.detectors.trunks import STRIDES, TRUNKS, build_trunk, full_names, load_imagenet_trunk
from stylealign.detectors.trunks.vit import resized_places
from stylealign.errors import UserError
from stylealign.training.optim import OptimizerConfig, make_optimizer

KNOWN = [name for name, entry in TRUNKS.items() if entry.imagenet]
# SHA-256 of the sorted lines "name shape" of files of weights (without what no trunk uses), begun: the two packages'
# files; for the others the networks of timm 1.0.31, whose ResNets have torchvision's names.
FILES = {
    "mobilenet_v2": (306, "a9904cca7f49e6a0"), "efficientnet_lite0": (288, "c994cbaaa9824166"),
    "resnet18": (120, "504739f3083bec5e"), "resnet50": (318, "c1f7fd3808aa49e7"),
    "hrnet_w18": (1830, "9545829b6f86d022"), "vit_tiny": (150, "4ee61c07ed70cab6"),
}  # fmt: skip


@lru_cache(maxsize=1)
def file_of(name: str, size: int = 64) -> dict[str, torch.Tensor]:
    """A state dict as such a file has it: the trunk's names, and a classifier's."""
    torch.manual_seed(0)
    entry = TRUNKS[name]
    assert entry.imagenet is not None
    trunk, _ = build_trunk(name, size, 1.0, 32)
    state = {k: v.clone() for k, v in trunk.state_dict().items() if not k.startswith(entry.imagenet.added or ("\0",))}
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.normal_()
    return {**state, f"{entry.imagenet.unused[-1]}weight": torch.zeros(1000, 8)}


@pytest.mark.parametrize("size", [64, 96, 128, 256])
@pytest.mark.parametrize("name", TRUNKS)
def test_features_have_strides_4_to_32_at_any_crop_and_end_where_the_trunk_is_cut(name: str, size: int) -> None:
    for cut in (16, 32):
        trunk, channels = build_trunk(name, size, 0.125, cut)
        with torch.no_grad():
            found = trunk.eval()(torch.rand(1, 3, size, size) * 2 - 1)
        strides = [s for s in STRIDES if s <= cut]
        assert [x.shape[1] for x in found] == list(channels)
        assert [tuple(x.shape[2:]) for x in found] == [(size // s, size // s) for s in strides]


@pytest.mark.parametrize("name", [name for name in TRUNKS if name != "vit_tiny"])
def test_sides_that_do_not_halve_are_rounded_up(name: str) -> None:
    trunk, _ = build_trunk(name, 72, 0.125, 32)
    with torch.no_grad():
        assert [x.shape[-1] for x in trunk.eval()(torch.zeros(1, 3, 72, 72))] == [18, 9, 5, 3]


def test_a_crop_that_squares_do_not_fill_is_refused() -> None:
    with pytest.raises(UserError, match=r"a crop of 72 px: trunk vit_tiny has squares of 16 px, expected a multiple"):
        build_trunk("vit_tiny", 72, 1.0, 32)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_cut_trunk_is_the_beginning_of_the_whole_one(name: str) -> None:
    cut, whole = (build_trunk(name, 64, 0.125, at)[0].state_dict() for at in (16, 32))
    assert set(cut) <= set(whole)
    assert len(cut) < len(whole) or name == "vit_tiny"  # what it leaves out has no weights
    assert all(whole[key].shape == value.shape for key, value in cut.items())


@pytest.mark.parametrize("name", KNOWN)
def test_names_and_shapes_are_those_of_the_files(name: str) -> None:
    found = full_names(name, 224)
    lines = "\n".join(f"{key} {shape}" for key, shape in sorted(found.items()))
    assert (len(found), hashlib.sha256(lines.encode()).hexdigest()[:16]) == FILES[name]


def test_names_are_torchvisions() -> None:
    names = full_names("mobilenet_v2", 64)
    assert names["features.0.0.weight"] == (32, 3, 3, 3)
    assert names["features.1.conv.0.0.weight"] == (32, 1, 3, 3)  # the first block has nothing to widen
    assert names["features.1.conv.1.weight"] == (16, 32, 1, 1)
    assert names["features.4.conv.1.0.weight"] == (144, 1, 3, 3)
    assert names["features.17.conv.2.weight"] == (320, 960, 1, 1)
    for name, network in (("resnet18", ResNet18), ("resnet50", ResNet50)):
        theirs = network(5, 64, ResNetConfig()).state_dict()
        assert full_names(name, 64) == {
            k: tuple(v.shape) for k, v in theirs.items() if not k.startswith("fc.") and k != "mean_shape"
        }


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        *(pytest.param(n, 32, marks=[pytest.mark.slow] * (n == "hrnet_w18")) for n in KNOWN),
        ("mobilenet_v2", 16),  # a file holds more than a cut trunk takes; the stem is the same
    ],
)
def test_a_file_loads_and_the_picture_it_expects_is_folded_in(name: str, cut: int) -> None:
    entry = TRUNKS[name].imagenet
    assert entry is not None
    state = file_of(name)
    plain, _ = build_trunk(name, 64, 1.0, cut)
    plain.load_state_dict({k: v for k, v in state.items() if k in plain.state_dict()}, strict=False)
    folded, _ = build_trunk(name, 64, 1.0, cut)
    load_imagenet_trunk(folded, name, 64, state, "file.pth")
    seen: list[torch.Tensor] = []

    def enough(module: nn.Module, given: object, answered: torch.Tensor) -> None:
        seen.append(answered)
        raise StopIteration

    for trunk in (plain, folded):
        trunk.eval().get_submodule(entry.norm or entry.stem).register_forward_hook(enough)
    crop = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (entry.mean, entry.std))
    for trunk, picture in ((plain, ((crop + 1) / 2 - mean) / std), (folded, crop)):
        with torch.no_grad(), contextlib.suppress(StopIteration):
            trunk(picture)
    expected, found = (x if entry.norm is None else x[:, :, 2:-2, 2:-2] for x in seen)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    same = set(folded.state_dict()) - {f"{entry.stem}.weight", f"{entry.stem}.bias", f"{entry.norm}.running_mean"}
    assert all(torch.equal(folded.state_dict()[key], state[key]) for key in same if key in state)


@pytest.mark.parametrize(("cut", "finest"), [(32, 4), (16, 8)])
def test_efficientnets_features_are_about_1_large_though_its_weights_make_them_large(cut: int, finest: int) -> None:
    """The weights of Google's normalisations at the end of blocks are 3 to 9; fresh ones are 1."""
    state = {k: v * 9 if k.endswith("_bn2.weight") else v for k, v in file_of("efficientnet_lite0").items()}
    large, _ = build_trunk("efficientnet_lite0", 64, 1.0, cut, finest)
    even, _ = build_trunk("efficientnet_lite0", 64, 1.0, cut, finest)
    large.load_state_dict({k: v for k, v in state.items() if k in large.state_dict()}, strict=False)
    load_imagenet_trunk(even, "efficientnet_lite0", 64, state, "file.pth")
    crop = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        raw, found = large.train()(crop), even.train()(crop)
    assert all(6 < float(x.std()) < 25 for x in raw)
    assert all(0.7 < float(x.std()) < 1.4 for x in found)
    again, _ = build_trunk("efficientnet_lite0", 64, 1.0, cut, finest)  # as a checkpoint is read
    again.load_state_dict(even.state_dict())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(again.train()(crop), even(crop), strict=True))


@pytest.mark.parametrize("name", KNOWN)
def test_what_does_not_fit_is_named(name: str) -> None:
    entry = TRUNKS[name].imagenet
    assert entry is not None
    state = file_of(name)
    trunk, _ = build_trunk(name, 64, 1.0, 16)
    without = {k: v for k, v in state.items() if k != f"{entry.stem}.weight"}
    with pytest.raises(UserError, match=f"file.pth: weight '{entry.stem}.weight' is missing; expected those of "):
        load_imagenet_trunk(trunk, name, 64, without, "file.pth")
    with pytest.raises(UserError, match=r"file.pth: weight 'strange' is unknown; expected those of "):
        load_imagenet_trunk(trunk, name, 64, {**state, "strange": torch.zeros(1)}, "file.pth")
    narrow, _ = build_trunk(name, 64, 0.5, 16)
    with pytest.raises(UserError, match=r"has shape .*, expected .* of .*"):
        load_imagenet_trunk(narrow, name, 64, state, "file.pth")


def test_weights_of_another_network_and_for_a_trunk_without_any_are_refused() -> None:
    trunk, _ = build_trunk("mobilenet_v2", 64, 1.0, 32)
    with pytest.raises(UserError, match=r"'features.0.0.weight' is missing; expected those of torchvision's mob"):
        load_imagenet_trunk(trunk, "mobilenet_v2", 64, file_of("resnet18"), "file.pth")
    hourglass, _ = build_trunk("hourglass", 64, 0.125, 32)
    with pytest.raises(UserError, match=r"no ImageNet weights are known for trunk hourglass, expected one of mob"):
        load_imagenet_trunk(hourglass, "hourglass", 64, {}, "file.pth")


def test_a_transformer_s_places_are_brought_to_the_crop() -> None:
    ramp = torch.arange(14.0).repeat(14)[None, :, None]  # grows from left to right
    table = torch.cat([torch.full((1, 1, 1), 9.0), ramp], dim=1)
    small = resized_places(table, 17)
    assert small[0, 0] == 9
    assert small[0, 1:].view(4, 4).std(dim=0).max() < 1e-5
    steps = small[0, 1:].view(4, 4)[0].diff()
    assert 3 < steps.min() <= steps.max() < 4
    assert torch.equal(resized_places(table, 197), table)


def test_tensorflow_s_border_lies_right_and_below() -> None:
    from stylealign.detectors.trunks.mobile import SameConv

    conv = SameConv(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 0, 0] = 1.0
    assert conv(picture)[0, 0].tolist() == [[1, 0], [0, 0]]
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 2, 2] = 1.0  # seen by all four windows, 0..2 and 2..4
    assert conv(picture)[0, 0].tolist() == [[1, 1], [1, 1]]


def test_places_and_the_token_of_a_transformer_do_not_decay() -> None:
    """They multiply nothing. Weights of linear layers and convolutions decay, biases and normalisations do not."""
    trunk, _ = build_trunk("vit_tiny", 32, 0.25, 32)
    decaying, others = make_optimizer(trunk, 1e-3, 0.05, OptimizerConfig()).param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): name for name, parameter in trunk.named_parameters()}
    decay = {names[id(parameter)] for parameter in decaying["params"]}
    assert {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "blocks.11.mlp.fc2.weight"} <= decay
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.0.mlp.fc1.bias"} <= set(names.values()) - decay
    assert len(decaying["params"]) + len(others["params"]) == len(names)
