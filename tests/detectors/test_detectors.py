import math

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.places import SRC
from stylealign.detectors import build_detector
from stylealign.detectors.losses import LossConfig, coordinate_loss, landmark_loss, mean_error, wing
from stylealign.detectors.resnet import BasicBlock, ResNet18, ResNetConfig, load_imagenet
from stylealign.errors import UserError
from stylealign.face.schema import SCHEMAS

TINY = ResNetConfig(width=4)


def net(num_points: int = 5, size: int = 32, config: ResNetConfig = TINY, seed: int = 0) -> ResNet18:
    torch.manual_seed(seed)
    model = ResNet18(num_points, size, config)
    model.mean_shape.copy_(torch.rand(num_points, 2) * size)
    return model


def images(num: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(UserError, match="resnet18"):
        build_detector("resnet19", (SCHEMAS["ibug68"],), 32, TINY)


# --------------------------------------------------------------------------------------------------------------------
# ResNet-18


def test_width_64_has_the_parameters_and_names_of_the_published_network() -> None:
    model = ResNet18(500, 224, ResNetConfig(head="pool"))
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # torchvision's resnet18 with 1,000 outputs
    names = set(model.state_dict())
    assert {
        "conv1.weight", "bn1.running_mean", "bn1.num_batches_tracked", "layer1.0.conv1.weight", "layer1.1.bn2.bias",
        "layer2.0.downsample.0.weight", "layer2.0.downsample.1.running_var", "layer3.1.conv2.weight",
        "layer4.0.downsample.0.weight",
        "layer4.1.bn2.weight", "fc.weight", "fc.bias",
    } < names  # fmt: skip
    assert "layer1.0.downsample.0.weight" not in names
    assert len(names - {"mean_shape"}) == 122
    assert model.state_dict()["layer4.0.downsample.0.weight"].shape == (512, 256, 1, 1)


@pytest.mark.parametrize("size", [256, 128, 64, 32, 100])
@pytest.mark.parametrize("head", ["pool", "flatten", None])
@pytest.mark.parametrize("max_pool", [None, False])
def test_any_crop_size_fits_either_head(size: int, head: str | None, max_pool: bool | None) -> None:
    model = ResNet18(3, size, ResNetConfig(width=1, head=head, max_pool=max_pool)).eval()  # type: ignore[arg-type]
    assert model(torch.zeros(1, 3, size, size)).landmarks.shape == (1, 3, 2)
    assert model.flatten == (head == "flatten" or (head is None and size < 128))
    assert isinstance(model.maxpool, torch.nn.MaxPool2d) == (size >= 128 and max_pool is None)


def test_training_starts_at_the_mean_shape() -> None:
    model = net()
    assert float((model(images(4)).landmarks.detach() - model.mean_shape).abs().max()) < 2.0
    with torch.no_grad():
        model.fc.weight.zero_()
    assert torch.equal(model(images(1)).landmarks[0], model.mean_shape)


def test_features_are_the_stem_and_the_four_stages() -> None:
    shapes = [tuple(f.shape[1:]) for f in net(size=64).features(images(2, 64))]
    assert shapes == [(4, 32, 32), (4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]


def imagenet_file(**changes: Tensor) -> dict[str, Tensor]:
    model = ResNet18(500, 224, ResNetConfig(head="pool"))
    state = {k: v for k, v in model.state_dict().items() if k != "mean_shape"}
    return {**state, "bn1.running_mean": torch.randn(64), **changes}


def test_imagenet_weights_load_and_see_their_own_normalisation() -> None:
    torch.manual_seed(1)
    state = imagenet_file()
    model = ResNet18(68, 64, ResNetConfig()).eval()
    head = model.fc.weight.clone()
    load_imagenet(model, state, "file")
    assert torch.equal(model.fc.weight, head)
    assert torch.equal(model.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])
    # The stem on our [-1, 1] equals the file's stem on its own normalised input, away from the border.
    image = images(2, 64)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    theirs = torch.nn.functional.conv2d(((image + 1) / 2 - mean) / std, state["conv1.weight"], stride=2, padding=3)
    theirs = (theirs - state["bn1.running_mean"].view(1, -1, 1, 1)) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(
        model.bn1(model.conv1(image))[:, :, 2:-2, 2:-2], theirs[:, :, 2:-2, 2:-2], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("changes", "width", "sentence"),
    [
        ({}, 16, "w.pth: weight 'conv1.weight' has shape .*expected .*--resnet.width 64"),
        ({"layer3.0.conv3.weight": torch.zeros(1)}, 64, "w.pth: weight 'layer3.0.conv3.weight' is unknown"),
        ({"layer2.0.conv1.weight": torch.zeros(8, 8, 1, 1)}, 64, "weight 'layer2.0.conv1.weight' has shape"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_key(
    changes: dict[str, Tensor], width: int, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        load_imagenet(ResNet18(5, 64, ResNetConfig(width=width)), imagenet_file(**changes), "w.pth")


def test_a_missing_weight_is_named() -> None:
    state = imagenet_file()
    del state["layer1.1.bn2.weight"]
    with pytest.raises(UserError, match=r"'layer1\.1\.bn2\.weight' is missing"):
        load_imagenet(ResNet18(5, 64, ResNetConfig()), state, "w.pth")


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 9])
def test_a_shortcut_s_gradient_is_right_at_any_width(channels: int) -> None:
    """Below 8 channels, in channels-last order and without AVX-512, a library's came out wrong or ended all."""
    torch.manual_seed(0)
    shortcut = BasicBlock(channels, 12, 2).to(memory_format=torch.channels_last).downsample
    assert isinstance(shortcut, torch.nn.Sequential)
    assert shortcut.state_dict()["0.weight"].shape == (12, channels, 1, 1)
    x = torch.randn(4, channels, 17, 16).to(memory_format=torch.channels_last).requires_grad_()
    made = shortcut[0](x)
    weights = shortcut[0].weight
    torch.testing.assert_close(made, torch.einsum("bcij,oc->boij", x[:, :, ::2, ::2], weights[:, :, 0, 0]))
    (made * (asked := torch.randn_like(made))).sum().backward()
    expected = torch.einsum("bcij,boij->oc", x.detach()[:, :, ::2, ::2], asked)
    assert weights.grad is not None
    assert x.grad is not None
    torch.testing.assert_close(weights.grad[:, :, 0, 0], expected, rtol=1e-4, atol=1e-4)
    from_every_other = torch.einsum("oc,boij->bcij", weights.detach()[:, :, 0, 0], asked)
    torch.testing.assert_close(x.grad[:, :, ::2, ::2], from_every_other, rtol=1e-4, atol=1e-4)
    assert x.grad[:, :, 1::2].abs().max() == 0


def test_one_batch_is_learnt_tenfold() -> None:
    model = net(config=ResNetConfig(width=8))
    image, target = images(8), torch.rand(8, 5, 2, generator=torch.Generator().manual_seed(1)) * 32
    model.mean_shape.copy_(target.mean(dim=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    errors = []
    for _ in range(60):
        predicted = model(image).landmarks
        loss = landmark_loss(predicted, target, torch.ones(8, 5, dtype=torch.bool), torch.ones(8), LossConfig())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(mean_error(predicted, target)))
    assert min(errors) < errors[0] / 10


# --------------------------------------------------------------------------------------------------------------------
# Losses


def test_wing_by_hand_below_at_and_above_the_knee() -> None:
    # C = 10 - 10 ln 6 = -7.917595
    found = wing(torch.tensor([0.0, 2.0, -2.0, 10.0, 12.0], dtype=torch.float64))
    expected = [0.0, 10 * math.log(2), 10 * math.log(2), 10 * math.log(6), 12 + 7.917594692]
    np.testing.assert_allclose(found, expected, atol=1e-8)
    below, above = wing(torch.tensor([10 - 1e-6, 10 + 1e-6], dtype=torch.float64))
    assert float(above - below) == pytest.approx(1e-6 * (1 + 10 / 12), rel=1e-3)  # joined; slopes w / (w + eps) and 1


def test_the_other_losses_by_hand() -> None:
    error = torch.tensor([-3.0, 0.5])
    assert coordinate_loss(error, LossConfig(kind="l1")).tolist() == [3.0, 0.5]
    assert coordinate_loss(error, LossConfig(kind="l2")).tolist() == [9.0, 0.25]
    assert coordinate_loss(error, LossConfig(kind="smooth_l1")).tolist() == [2.5, 0.125]
    assert coordinate_loss(error, LossConfig(kind="smooth_l1", smooth_l1_beta=2.0)).tolist() == [2.0, 0.0625]


KINDS = ["wing", "smooth_l1", "l1", "l2"]


def scene(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    predicted = torch.as_tensor(rng.uniform(0, 32, (4, 5, 2)), dtype=torch.float32).requires_grad_()
    return (
        predicted,
        torch.as_tensor(rng.uniform(0, 32, (4, 5, 2)), dtype=torch.float32),
        torch.ones(4, 5, dtype=torch.bool),
        torch.ones(4),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_unlabelled_landmarks_never_contribute(kind: str) -> None:
    config = LossConfig(kind=kind)  # type: ignore[arg-type]
    predicted, target, visible, weight = scene()
    target[0] = float("nan")
    target[2, 3, 1] = float("nan")
    loss = landmark_loss(predicted, target, visible, weight, config)
    loss.backward()
    gradient = predicted.grad
    assert gradient is not None
    assert bool(gradient.isfinite().all())
    assert float(gradient[0].abs().sum()) == 0
    assert float(gradient[2, 3].abs().sum()) == 0
    kept = torch.ones(4, 5, dtype=torch.bool)
    kept[0], kept[2, 3] = False, False
    by_hand = coordinate_loss((predicted - target)[kept], config).mean()
    torch.testing.assert_close(loss, by_hand)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_labelled_is_no_loss(kind: str) -> None:
    predicted, target, visible, weight = scene()
    loss = landmark_loss(predicted, torch.full_like(target, float("nan")), visible, weight, LossConfig(kind=kind))  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == 0
    assert bool(predicted.grad.isfinite().all())  # type: ignore[union-attr]


def test_weights_and_hidden_landmarks_by_hand() -> None:
    # Two faces of one landmark: coordinate errors (1, 3) and (4, 4), so their L1 means are 2 and 4.
    predicted = torch.tensor([[[1.0, 3.0]], [[4.0, 4.0]]])
    target, visible = torch.zeros(2, 1, 2), torch.tensor([[True], [False]])
    l1 = LossConfig(kind="l1")
    assert float(landmark_loss(predicted, target, visible, torch.tensor([1.0, 1.0]), l1)) == pytest.approx(3.0)
    assert float(landmark_loss(predicted, target, visible, torch.tensor([3.0, 1.0]), l1)) == pytest.approx(
        (3 * 2 + 4) / 4
    )
    assert float(landmark_loss(predicted, target, visible, torch.tensor([6.0, 2.0]), l1)) == pytest.approx(2.5)
    half = LossConfig(kind="l1", hidden_weight=0.5)
    assert float(landmark_loss(predicted, target, visible, torch.tensor([1.0, 1.0]), half)) == pytest.approx(
        (2 + 2) / 1.5
    )


def test_mean_error_is_a_distance_over_labelled_landmarks() -> None:
    predicted = torch.tensor([[[3.0, 4.0], [9.0, 9.0]]])
    target = torch.tensor([[[0.0, 0.0], [float("nan"), 0.0]]])
    assert float(mean_error(predicted, target)) == 5.0


def test_losses_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        LossConfig(wing_epsilon=0.0)


def test_models_and_losses_know_no_paths_and_no_yaml() -> None:
    folder = SRC / "stylealign" / "detectors"
    for name in ("resnet.py", "losses.py", "output.py"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "pathlib" not in text
        assert "yaml" not in text
