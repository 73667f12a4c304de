"""Reconstruction, KL, schedules and VGG-19 weights against oracles."""

import math
from pathlib import Path

import h5py
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stylealign.errors import UserError
from stylealign.translators.kl import KL_PRESETS, KLConfig, KLController, kl_nats, kl_warning, kl_weight, per_nat
from stylealign.translators.perceptual import FrozenFeatures, VGG19Features, load_vgg19
from stylealign.translators.reconstruction import (
    RECONSTRUCTION_PRESETS,
    Reconstruction,
    ReconstructionConfig,
    gradient_l1,
    gram_matrix,
)
from stylealign.translators.schedule import LEARNING_RATE_PRESETS, LearningRateConfig, learning_rate, released_lr
from stylealign.translators.vunet.learning import translator_loss


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# KL


def test_kl_is_that_of_torch_distributions_summed_over_elements_and_scales() -> None:
    posterior, prior = (
        [random(3, 4, 4, 4), random(3, 4, 8, 8, seed=1)],
        [random(3, 4, 4, 4, seed=2), random(3, 4, 8, 8, seed=3)],
    )
    expected = 0.0
    for q, p in zip(posterior, prior, strict=True):
        kl = torch.distributions.kl_divergence(torch.distributions.Normal(q, 1.0), torch.distributions.Normal(p, 1.0))
        expected += kl.sum(dim=(1, 2, 3)).mean().item()
    assert kl_nats(posterior, prior).item() == pytest.approx(expected, rel=1e-5)
    assert kl_nats(prior, prior).item() == 0


def test_released_kl_weight_is_flat_to_half_way_and_one_from_three_quarters() -> None:
    config = KL_PRESETS["released"]
    assert [kl_weight(s, 50_000, config) for s in (0, 25_000)] == [1e-6, 1e-6]
    assert [kl_weight(s, 50_000, config) for s in (37_500, 50_000)] == [1.0, 1.0]
    assert kl_weight(31_250, 50_000, config) == pytest.approx(0.5, rel=1e-5)
    values = [kl_weight(s, 50_000, config) for s in range(0, 50_001, 500)]
    assert values == sorted(values)


@pytest.mark.parametrize("strength", [0.1, 1000.0])
def test_the_controller_finds_the_weight_that_gives_the_target(strength: float) -> None:
    config = KLConfig(target_nats=120.0)
    controller = KLController(config)
    for step in range(3000):  # a world in which KL falls with the weight
        before = float(controller.weight(step, 3000))
        controller.update(torch.tensor(120 * math.sqrt(strength / before)))
        assert abs(math.log(float(controller.weight(step, 3000)) / before)) <= config.max_change + 1e-6
    assert float(controller.weight(0, 1)) == pytest.approx(strength, rel=0.01)


def test_the_controllers_weight_stays_within_its_bounds_and_in_the_state_dict() -> None:
    config = KLConfig(min_weight=0.01, max_weight=2.0)
    controller = KLController(config)
    for nats, bound in ((1e6, 2.0), (0.0, 0.01)):
        for _ in range(400):
            controller.update(torch.tensor(nats))
        assert float(controller.weight(0, 1)) == pytest.approx(bound)
    other = KLController(config)
    other.load_state_dict(controller.state_dict())
    assert float(other.weight(0, 1)) == pytest.approx(0.01)


def test_a_scheduled_weight_ignores_feedback() -> None:
    controller = KLController(KL_PRESETS["released"])
    controller.update(torch.tensor(1e6))
    assert float(controller.weight(0, 100)) == pytest.approx(1e-6)
    assert float(controller.weight(100, 100)) == 1.0


def test_leaky_kl_is_warned_about_and_measured_good_values_are_not() -> None:
    assert kl_warning(170, 64) is None
    warning = kl_warning(2200, 80)
    assert warning is not None
    assert "2200 nats" in warning


def test_released_weights_against_the_mean_convert_to_weights_per_nat() -> None:
    assert per_nat(0.5, RECONSTRUCTION_PRESETS["released"], 64) == 0.5 * 3 * 64 * 64
    assert per_nat(0.5, ReconstructionConfig(), 64) == 0.5


# Reconstruction


def test_gram_matrix_equals_explicit_loops() -> None:
    feature = random(2, 3, 4, 5)
    expected = torch.zeros(2, 3, 3)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                for y in range(4):
                    for x in range(5):
                        expected[b, i, j] += feature[b, i, y, x] * feature[b, j, y, x] / (4 * 4 * 5)
    torch.testing.assert_close(gram_matrix(feature), expected)


def test_gradient_term_ignores_a_constant_offset_and_measures_edges() -> None:
    image = random(1, 3, 8, 8)
    assert gradient_l1(image + 0.3, image, 3).item() == pytest.approx(0, abs=1e-6)
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert gradient_l1(ramp, torch.zeros_like(ramp), 1).item() == pytest.approx(1.0)  # right 1, down 0
    assert gradient_l1(ramp, torch.zeros_like(ramp), 2).item() == pytest.approx(
        (1 + 2) / 2
    )  # a step is two pixels at half size


def two_levels(image: Tensor) -> list[Tensor]:
    return [100 * image, nn.functional.avg_pool2d(image, 2) ** 2]


def test_perfect_reconstructions_cost_nothing_and_every_term_is_named() -> None:
    loss = Reconstruction(ReconstructionConfig(), two_levels, num_levels=2)
    image = random(4, 3, 16, 16)
    loss.calibrate(image)
    terms = loss(image, image)
    assert set(terms) == {"pixel", "gradient", "feature", "gram"}
    assert all(term.item() == 0 for term in terms.values())
    assert set(Reconstruction(RECONSTRUCTION_PRESETS["pixels"])(image, image)) == {"pixel", "gradient"}


def test_calibration_makes_an_unrelated_face_cost_one_per_level_whatever_the_features_units() -> None:
    image = random(4, 3, 16, 16)
    loss = Reconstruction(ReconstructionConfig(), two_levels, num_levels=2)
    loss.calibrate(image)
    terms = loss(image.roll(1, 0), image)
    assert terms["feature"].item() == pytest.approx(2, rel=1e-5)
    assert terms["gram"].item() == pytest.approx(2, rel=1e-5)
    assert set(loss.state_dict()) == {"feature_scale", "gram_scale"}


def test_total_is_the_weighted_mean_terms_times_the_number_of_image_elements() -> None:
    config = ReconstructionConfig(pixel=2.0, gradient=0.5, feature=0, gram=0)
    loss = Reconstruction(config)
    image, target = random(2, 3, 16, 16), random(2, 3, 16, 16, seed=1)
    terms = loss(image, target)
    expected = 2 * (image - target).abs().mean(0).sum() + 3 * 16 * 16 * 0.5 * terms["gradient"]
    assert loss.total(terms, 16).item() == pytest.approx(expected.item(), rel=1e-5)
    q, p = [random(2, 4, 4, 4)], [random(2, 4, 4, 4, seed=1)]
    everything = translator_loss(loss, image, target, q, p, torch.tensor(3.0))
    assert everything["total"].item() == pytest.approx((expected + 3 * kl_nats(q, p)).item(), rel=1e-5)
    assert everything["kl"].item() == pytest.approx(kl_nats(q, p).item())


def test_released_total_is_five_times_features_plus_a_tenth_of_grams_unscaled() -> None:
    loss = Reconstruction(RECONSTRUCTION_PRESETS["released"], two_levels, num_levels=2)
    image, target = random(2, 3, 16, 16), random(2, 3, 16, 16, seed=1)
    loss.calibrate(image)  # leaves uncalibrated features alone
    expected = 0.0
    for a, b in zip(two_levels(image), two_levels(target), strict=True):
        expected += 5 * ((a - b).abs().mean() + 0.1 * (gram_matrix(a) - gram_matrix(b)).abs().mean()).item()
    assert loss.total(loss(image, target), 16).item() == pytest.approx(expected, rel=1e-5)


def test_weights_that_ask_for_features_without_a_network_are_refused() -> None:
    with pytest.raises(UserError, match="VGG-19"):
        Reconstruction(ReconstructionConfig())
    with pytest.raises(UserError, match="at least one"):
        ReconstructionConfig(pixel=0, gradient=0, feature=0, gram=0)
    with pytest.raises(UserError, match=r"-0\.5"):
        ReconstructionConfig(pixel=-0.5)


# Learning rate


def test_released_learning_rate_is_flat_for_a_thousand_steps_then_falls_to_zero() -> None:
    assert released_lr(0) == released_lr(1000) == 1e-3
    assert released_lr(50_000) == 0
    assert released_lr(25_500) == pytest.approx(5e-4)
    paper = LEARNING_RATE_PRESETS["paper"]
    assert learning_rate(0, 100, paper) == 1e-2
    assert learning_rate(100, 100, paper) == pytest.approx(1e-4)


def test_warm_up_rises_from_above_zero_to_the_first_rate() -> None:
    config = LearningRateConfig(start=1.0, warmup_frac=0.1, flat_frac=0.5)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert rates[50] == 1.0
    assert rates[100] == 0


# Features


def vgg_state(width: float = 0.02) -> dict[str, Tensor]:
    """A random state dict with torchvision's names, the convolutions before and after conv5_2 included."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for out in (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512):
        layers += [nn.MaxPool2d(2)] if out == 0 else [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
        channels = out or channels
    features = nn.Sequential(*layers)
    return {f"features.{key}": value for key, value in features.state_dict().items()}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return vgg_state()


def reference_features(state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The activations after features.3, 8, 13, 22, 31: relu1_2, 2_2, 3_2, 4_2, 5_2 of torchvision's numbering."""
    levels = []
    for index in range(32):
        if f"features.{index}.weight" in state:
            x = nn.functional.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1)
        elif index in (4, 9, 18, 27):
            x = nn.functional.max_pool2d(x, 2)
        else:
            x = x.relu()
        if index in (3, 8, 13, 22, 31):
            levels.append(x)
    return levels


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision_weights_see_normalised_rgb_and_give_post_relu_levels(
    state: dict, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"vgg19{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    network = load_vgg19(path)
    image = random(1, 3, 32, 32)
    levels = network(image)
    rgb = (image + 1) / 2
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    for level, expected in zip(levels[1:], reference_features(state, (rgb - mean) / std), strict=True):
        torch.testing.assert_close(level, expected * 255 * 0.226, rtol=1e-4, atol=1e-4)
    assert len(levels) == network.num_levels == 6
    assert not any(p.requires_grad for p in network.parameters())


def test_the_input_level_is_bgr_grey_levels_less_caffes_means_for_both_kinds_of_weights() -> None:
    white = torch.ones(1, 3, 16, 16)
    for convention in ("caffe", "torchvision"):
        level = VGG19Features(convention)(white)[0]
        assert level[0, :, 0, 0].tolist() == pytest.approx([255 - 103.939, 255 - 116.779, 255 - 123.68], rel=1e-5)
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    assert VGG19Features("caffe")(red)[0][0, :, 0, 0].tolist() == pytest.approx(
        [-103.939, -116.779, 255 - 123.68], rel=1e-5
    )


def write_keras(path: Path, state: dict[str, Tensor], leave_out: str = "") -> None:
    names = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "3_4", "4_1", "4_2", "4_3", "4_4", "5_1", "5_2"]
    weights = [key for key in state if key.endswith("weight")]
    with h5py.File(path, "w") as file:
        for name, key in zip(names, weights, strict=True):
            layer = f"block{name[0]}_conv{name[2]}"
            if layer == leave_out:
                continue
            group = file.create_group(layer)
            group[f"{layer}_W_1:0"] = state[key].permute(2, 3, 1, 0).numpy()
            group[f"{layer}_b_1:0"] = state[key.replace("weight", "bias")].numpy()


def test_keras_weights_see_caffe_input(state: dict, tmp_path: Path) -> None:
    path = tmp_path / "vgg19_notop.h5"
    write_keras(path, state)
    image = random(1, 3, 32, 32)
    levels = load_vgg19(path)(image)
    for level, expected in zip(levels[1:], reference_features(state, levels[0]), strict=True):
        torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-3)


def test_wrong_weight_files_are_refused_naming_the_file_and_the_key(state: dict, tmp_path: Path) -> None:
    def refused(name: str, match: str) -> None:
        with pytest.raises(UserError, match=match) as error:
            load_vgg19(tmp_path / name)
        assert name in str(error.value)

    refused("absent.pth", "no such")
    (tmp_path / "noise.pth").write_bytes(b"not a checkpoint")
    refused("noise.pth", "not readable")
    (tmp_path / "noise.h5").write_bytes(b"not hdf5")
    refused("noise.h5", "not readable")
    (tmp_path / "weights.npz").write_bytes(b"")
    refused("weights.npz", "npz")
    torch.save({k: v for k, v in state.items() if k != "features.12.bias"}, tmp_path / "part.pth")
    refused("part.pth", r"features\.12\.bias")
    torch.save({**state, "features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "grey.pth")
    refused("grey.pth", r"\(64, 1, 3, 3\)")
    torch.save([1, 2], tmp_path / "list.pth")
    refused("list.pth", "state dict")
    write_keras(tmp_path / "part.h5", state, leave_out="block3_conv2")
    refused("part.h5", "block3_conv2")


def test_a_pickle_with_code_is_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"features.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="not readable"):
        load_vgg19(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_frozen_features_of_a_network_pass_gradients_to_the_image_only() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3))
    features = FrozenFeatures(network, ("2", "3"))
    image = random(2, 3, 8, 8).requires_grad_()
    levels = features(image)
    assert [level.shape[1] for level in levels] == [4, 5]
    levels[1].square().sum().backward()
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
    assert all(p.grad is None for p in features.network.parameters())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())


def test_a_network_made_for_one_side_looks_at_pictures_of_another() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 8 * 8, 2))
    features, image = FrozenFeatures(network, ("0",), 8), random(2, 3, 12, 12)
    resized = nn.functional.interpolate(image, size=8, mode="bilinear", antialias=True)
    assert torch.equal(features(image)[0], features(resized)[0])
    assert torch.equal(features(resized)[0], FrozenFeatures(network, ("0",))(resized)[0])


def test_configurations_that_cannot_work_are_refused() -> None:
    for wrong in ({"target_nats": -1.0}, {"begin_frac": 0.9, "end_frac": 0.1}, {"start": 1e-9}, {"min_weight": 0.0}):
        with pytest.raises(UserError):
            KLConfig(**wrong)
    with pytest.raises(UserError):
        LearningRateConfig(start=0)
