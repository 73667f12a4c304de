import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.networks import learning_of
from stylealign.batches import augment
from stylealign.batches.batch import Batch
from stylealign.detectors.learning import Learning
from stylealign.detectors.losses import LossConfig, landmark_loss, wing
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.resnet import ResNet18, ResNet50, ResNetConfig, load_imagenet
from stylealign.detectors.wing import Wing, WingConfig, learn_wing, move, resample, rescaled, undo, upright
from stylealign.errors import UserError
from stylealign.face import geometry
from stylealign.face.schema import SCHEMAS

TINY = {
    "cnn6": WingConfig(width=2, hidden=16, batch_norm=False),
    "cnn7": WingConfig(network="cnn7", width=2, hidden=16, batch_norm=False),
    "normalised": WingConfig(width=2, hidden=16),
    "resnet50": WingConfig(network="resnet50", width=2),
    "two_stage": WingConfig(width=2, hidden=16, two_stage=True),
    "two_stage_resnet50": WingConfig(network="resnet50", width=2, two_stage=True),
}


def images(num: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def shape(size: int = 32, points: int = 7) -> Tensor:
    """A mean shape in the middle of the crop."""
    return (0.2 + 0.6 * torch.rand(points, 2, generator=torch.Generator().manual_seed(9))) * size


def net(config: WingConfig, size: int = 32, seed: int = 0) -> Wing:
    torch.manual_seed(seed)
    model = Wing(7, size, config)
    model.mean_shape.copy_(shape(size))
    return model


def similarities(num: int, seed: int = 0, zoom: float = 1.6) -> Tensor:
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-1, 1, num), np.exp(rng.uniform(-1, 1, num) * math.log(zoom))
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    affine = np.stack([np.stack([c, -s, rng.uniform(-5, 5, num)], 1), np.stack([s, c, rng.uniform(-5, 5, num)], 1)], 1)
    return torch.as_tensor(affine)


# --------------------------------------------------------------------------------------------------------------------
# The contract


@pytest.mark.parametrize("config", TINY.values(), ids=TINY)
class TestEveryKind:
    @pytest.mark.parametrize("size", [32, 48, 64, 112, 128])
    def test_any_crop_size(self, config: WingConfig, size: int) -> None:
        out = net(config, size).eval()(images(1, size))
        assert isinstance(out, DetectorOutput)
        assert len(out.stages) == config.two_stage
        for found in (out.landmarks, *out.stages):
            assert found.shape == (1, 7, 2)
            assert found.dtype == torch.float32

    def test_training_starts_at_the_mean_shape(self, config: WingConfig) -> None:
        model = net(config)
        assert float((model(images(4)).landmarks - model.mean_shape).detach().abs().max()) < 2.0

    def test_every_parameter_has_a_finite_gradient(self, config: WingConfig) -> None:
        model = net(config)
        out = model(images(8))
        sum(found.square().sum() for found in (out.landmarks, *out.stages)).backward()  # type: ignore[union-attr]
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None, key
            assert bool(parameter.grad.isfinite().all()), key
            assert float(parameter.grad.abs().sum()) > 0, key

    def test_a_batch_of_eight_equals_eight_singles_and_itself(self, config: WingConfig) -> None:
        model = net(config).eval()
        with torch.no_grad():
            together = model(images(8)).landmarks
            singles = torch.cat([model(image[None]).landmarks for image in images(8)])
            torch.testing.assert_close(together, singles, atol=1e-4, rtol=1e-5)
            assert torch.equal(together, model(images(8)).landmarks)

    def test_bf16_is_close_to_fp32(self, config: WingConfig) -> None:
        model = net(config).eval()
        with torch.no_grad():
            exact = model(images(4)).landmarks
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(images(4)).landmarks
        assert rough.dtype == torch.float32
        assert float((rough - exact).abs().max()) < 0.05 * float((exact - model.mean_shape).abs().max()) + 0.05


# --------------------------------------------------------------------------------------------------------------------
# The networks


def test_cnn6_layer_by_layer() -> None:
    model = Wing(68, 64, WingConfig(batch_norm=False))
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim > 1]
    filters = [3, 32, 64, 128, 256, 512]
    assert shapes[:5] == [(b, a, 3, 3) for a, b in pairwise(filters)]
    assert shapes[5:] == [(1024, 512 * 2 * 2), (136, 1024)]
    assert sum(p.numel() for p in model.parameters()) == 3_806_152
    kinds = [type(m) for m in model.first.blocks]  # type: ignore[union-attr]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.MaxPool2d] * 5


def test_cnn7_has_one_block_more_and_the_same_fully_connected_layers() -> None:
    shapes = [tuple(p.shape) for p in Wing(68, 128, WingConfig(network="cnn7")).parameters() if p.ndim > 1]
    assert [s[0] for s in shapes] == [32, 64, 128, 256, 512, 512, 1024, 136]
    assert shapes[-2:] == [(1024, 512 * 2 * 2), (136, 1024)]


def test_resnet50_has_the_parameters_and_names_of_torchvision() -> None:
    # 500 landmarks are the 1,000 outputs of the published classifier.
    model = ResNet50(500, 224, ResNetConfig())
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    expected = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 2048), "fc.bias": (1000,)}
    norms = {"bn1": 64}
    inner = 64
    for stage, (num_blocks, width) in enumerate(zip([3, 4, 6, 3], [64, 128, 256, 512], strict=True), start=1):
        for i in range(num_blocks):
            name = f"layer{stage}.{i}"
            expected[f"{name}.conv1.weight"] = (width, inner, 1, 1)
            expected[f"{name}.conv2.weight"] = (width, width, 3, 3)
            expected[f"{name}.conv3.weight"] = (4 * width, width, 1, 1)
            norms |= {f"{name}.bn1": width, f"{name}.bn2": width, f"{name}.bn3": 4 * width}
            if i == 0:
                expected[f"{name}.downsample.0.weight"] = (4 * width, inner, 1, 1)
                norms[f"{name}.downsample.1"] = 4 * width
            inner = 4 * width
    for name, width in norms.items():
        expected |= {f"{name}.{kind}": (width,) for kind in ("weight", "bias", "running_mean", "running_var")}
        expected[f"{name}.num_batches_tracked"] = ()
    found = {key: tuple(value.shape) for key, value in model.state_dict().items() if key != "mean_shape"}
    assert found == expected
    assert len(found) == 320
    first = model.layer2[0]
    assert (first.conv1.stride, first.conv2.stride, first.downsample[0].stride) == ((1, 1), (2, 2), (2, 2))


def imagenet_file(kind: type[ResNet18] | type[ResNet50]) -> dict[str, Tensor]:
    torch.manual_seed(3)
    state = kind(500, 224, ResNetConfig(head="pool")).state_dict()
    return {k: v for k, v in state.items() if k != "mean_shape"}


def test_imagenet_weights_load_into_both_stages() -> None:
    state = imagenet_file(ResNet50)
    model = Wing(5, 64, WingConfig(network="resnet50", two_stage=True))
    load_imagenet(model, state, "file")
    for stage in (model.first, model.second):
        assert torch.equal(stage.resnet.layer3[5].conv2.weight, state["layer3.5.conv2.weight"])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (ResNet18(5, 64, ResNetConfig()), "w.pth: weight 'layer1.0.conv1.weight' has shape .* of a ResNet-18"),
        (Wing(5, 64, WingConfig(width=2, hidden=4)), "w.pth: ImageNet weights load into a ResNet-18 or ResNet-50"),
        (net(TINY["resnet50"]), r"w.pth: weight 'conv1.weight' .*\(2, 3, 7, 7\) of a ResNet-50.* need width 64"),
    ],
    ids=["resnet18", "cnn6", "narrow"],
)
def test_weights_of_resnet50_go_nowhere_else(model: nn.Module, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_imagenet(model, imagenet_file(ResNet50), "w.pth")


# --------------------------------------------------------------------------------------------------------------------
# The loss and its units


def test_wing_value_at_the_knee_and_straight_above() -> None:
    # w ln(1 + w / eps) at w, slope 1 above: w = 3, eps = 0.5 gives 3 ln 7 = 5.837730
    found = wing(torch.tensor([3 - 1e-9, 3.0, 5.0, -5.0], dtype=torch.float64), 3.0, 0.5)
    np.testing.assert_allclose(found, [5.837730447, 5.837730447, 7.837730447, 7.837730447], atol=1e-7)


@pytest.mark.parametrize("unit", [64.0, 4.0, 0.5])
def test_rescaled_width_and_epsilon_give_the_loss_in_pixels(unit: float) -> None:
    error = torch.linspace(-30, 30, 121, dtype=torch.float64)  # both sides of the knee
    width, epsilon = rescaled(10.0, 2.0, unit)
    assert (width, epsilon) == (10 / unit, 2 / unit)
    torch.testing.assert_close(wing(error / unit, width, epsilon) * unit, wing(error, 10.0, 2.0))


def test_a_unit_without_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected above 0"):
        rescaled(10.0, 2.0, 0.0)


def test_numbers_that_make_no_sense_are_refused() -> None:
    for bad in ({"width": 0}, {"hidden": 0}):
        with pytest.raises(ValueError, match="expected at least 1"):
            WingConfig(**bad)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------------------------
# Turning and cutting anew


def test_a_turned_scaled_moved_mean_shape_comes_back_to_its_place() -> None:
    mean = shape().double()
    faces = move(similarities(6), mean.expand(6, 7, 2))
    torch.testing.assert_close(move(upright(faces, mean), faces), mean.expand(6, 7, 2))


def test_other_faces_are_fitted_by_least_squares() -> None:
    mean, generator = shape().double(), torch.Generator().manual_seed(1)
    noise = 2 * torch.randn(6, 7, 2, generator=generator, dtype=torch.float64)
    faces = move(similarities(6), mean + noise)
    for face, affine in zip(faces, upright(faces, mean), strict=True):
        np.testing.assert_allclose(affine, geometry.similarity_fit(face.numpy(), mean.numpy()), atol=1e-9)


def test_one_look_never_zooms_by_more_than_two() -> None:
    mean = shape()
    for factor, zoom in ((0.1, 2.0), (100.0, 0.5), (0.0, 0.5)):
        affine = upright(mean[None] * factor, mean)
        assert geometry.scale_of(affine[0].double().numpy()) == pytest.approx(zoom, rel=1e-4)
        torch.testing.assert_close(
            move(affine, mean[None] * factor).mean(dim=1)[0], mean.mean(dim=0), rtol=1e-4, atol=1e-4
        )


def test_undo_is_the_inverse() -> None:
    affine = similarities(5)
    torch.testing.assert_close(undo(affine), augment.invert(affine))


def test_resampling_is_the_librarys_warp() -> None:
    affine, image = similarities(4), images(4, 48).double()
    found = resample(image, undo(affine))
    torch.testing.assert_close(found, augment.warp(image, affine, 48))


class Fixed(nn.Module):
    """A stage that answers the same whatever it sees, and remembers what it saw."""

    def __init__(self, offsets: Tensor):
        super().__init__()
        self.offsets, self.seen = offsets, torch.empty(0)

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return self.offsets


def test_the_first_stage_decides_where_the_second_looks_and_answers_come_back() -> None:
    model, mean = net(TINY["two_stage"], 64), shape(64)
    affine = similarities(3).float()  # face_from_mean
    truth = move(affine, mean.expand(3, 7, 2))
    model.first, model.second = Fixed(truth - mean), Fixed(torch.ones(3, 7, 2))
    image = images(3, 64)
    out = model(image)
    torch.testing.assert_close(out.stages[0], truth)
    # The second sees every face where the mean shape is, and its offset of a pixel each way is one of its own pixels.
    torch.testing.assert_close(model.second.seen, resample(image, affine), atol=1e-3, rtol=0.0)
    torch.testing.assert_close(out.landmarks, move(affine, (mean + 1).expand(3, 7, 2)), atol=1e-3, rtol=0.0)


def test_no_gradient_goes_from_the_second_stage_to_the_first() -> None:
    model = net(TINY["two_stage"])
    model(images(4)).landmarks.square().sum().backward()
    assert all(p.grad is None for p in model.first.parameters())
    assert all(p.grad is not None for p in model.second.parameters())  # type: ignore[union-attr]


# --------------------------------------------------------------------------------------------------------------------
# Learning


def learning(config: WingConfig, steps: int, lr: float) -> Learning:
    return learning_of(net(config), (SCHEMAS["wflw98"],), steps=steps, lr=lr, mean_shapes=(shape().numpy(),))


def batch() -> Any:
    g = torch.Generator().manual_seed(1)
    landmarks = shape() + 3 * torch.randn(8, 7, 2, generator=g)
    return Batch(
        image=images(8), landmarks=landmarks, visible=torch.ones(8, 7, dtype=torch.bool), weight=torch.ones(8),
        crop_from_source=torch.zeros(8, 2, 3), index=torch.arange(8),
    )  # fmt: skip


def test_two_stages_learn_from_the_sum_of_their_losses() -> None:
    job, one = learning(TINY["two_stage"], 10, 1e-3), batch()
    with torch.no_grad():
        out = job.model(one.image)
        first, second = (
            landmark_loss(found, one.landmarks, one.visible, one.weight, LossConfig())
            for found in (out.stages[0], out.landmarks)
        )
    terms = learn_wing(job).update((one,), 0)
    torch.testing.assert_close([terms[k].detach() for k in ("first", "second")], [first, second])
    torch.testing.assert_close(terms["total"].detach(), first + second)
    assert all(p.grad is not None for p in job.model.parameters())


@pytest.mark.parametrize(("name", "times"), [("cnn6", 5), ("normalised", 5), ("two_stage", 2)])
def test_one_batch_is_learnt(name: str, times: int) -> None:
    # Pictures of noise are only learnt by heart, and to a second stage each look shows another cut of them.
    config = WingConfig(width=4, hidden=128, batch_norm=TINY[name].batch_norm, two_stage=TINY[name].two_stage)
    learner, one = learn_wing(learning(config, 120, 4e-3)), batch()
    errors = [float(learner.update((one,), step)["error_px"]) for step in range(120)]
    assert min(errors) < errors[0] / times
