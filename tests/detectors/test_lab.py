"""LAB: the tree and its messages in order, fusions and losses by hand, the adversary's
label, the network on any mark-up."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.networks import learning_of
from stylealign.batches.batch import Batch
from stylealign.batches.structure_maps import boundary_maps
from stylealign.detectors.hourglass import Hourglass
from stylealign.detectors.lab.config import LABConfig
from stylealign.detectors.lab.learning import (
    adversarial_loss,
    boundary_loss,
    curve_is_labelled,
    discriminator_loss,
    learn_lab,
    share_near,
)
from stylealign.detectors.lab.messages import BlockConv, MessagePassing, boundary_tree, levels
from stylealign.detectors.lab.network import LAB, brightness
from stylealign.detectors.lab.regressor import FeatureFusion, input_fusion
from stylealign.errors import UserError
from stylealign.face.curves import sample_curves
from stylealign.face.schema import SCHEMAS, LandmarkSchema

WFLW, IBUG = SCHEMAS["wflw98"], SCHEMAS["ibug68"]
TWO = LandmarkSchema(name="two", num_points=5, boundaries={"a": (0, 1, 2), "b": (2, 3)})
TINY = {"stacks": 2, "channels": 8, "depth": 2, "width": 4, "hidden": 16}


def net(schema: LandmarkSchema = TWO, size: int = 32, **more) -> LAB:
    torch.manual_seed(0)
    model = LAB(schema, size, LABConfig(**{**TINY, **more}))
    model.mean_shape.copy_(torch.rand(schema.num_points, 2) * size)
    return model


def images(num: int, size: int = 32) -> Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(num)) * 2 - 1


# --------------------------------------------------------------------------------------------------------------------
# The tree


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda s: s.name)
def test_every_schema_has_one_tree_that_joins_what_shares_landmarks(schema: LandmarkSchema) -> None:
    parents = boundary_tree(schema)
    assert parents == boundary_tree(schema)
    assert sum(parent < 0 for parent in parents) == 1
    assert sorted(i for level in levels(parents) for i in level) == list(range(len(schema.boundaries)))
    assert len(levels(parents)) <= 4
    # Boundaries that share a landmark are joined by edges between boundaries that do: lids with lids, lips with lips.
    curves = [set(curve) for curve in schema.boundaries.values()]

    def group(i: int) -> set[int]:
        found, grown = {i}, True
        while grown:
            more = {j for j in range(len(curves)) for k in found if k in (parents[j], j) or parents[k] == j}
            more = {j for j in more if any(curves[j] & curves[k] for k in found)}
            grown, found = not more <= found, found | more
        return found

    for i, curve in enumerate(curves):
        for j, other in enumerate(curves):
            assert not curve & other or j in group(i)


def test_the_tree_of_the_dense_mark_ups_by_name() -> None:
    for schema in (WFLW, IBUG):
        names = [*schema.boundaries, None]
        parent = {names[i]: names[p] for i, p in enumerate(boundary_tree(schema))}
        assert parent["nose_bridge"] is None
        assert parent["left_eye_bottom"] == "left_eye_top"
        assert parent["right_eye_top"].startswith("right_brow")
        assert parent["nose_bottom"] == "nose_bridge"
        assert parent["contour"] == "outer_upper_lip"


def test_a_schema_without_parts_or_mirror_has_a_star_of_what_it_lists() -> None:
    schema = LandmarkSchema(name="bare", num_points=8, boundaries={k: (2 * i, 2 * i + 1) for i, k in enumerate("abcd")})
    assert boundary_tree(schema) == (-1, 0, 0, 0)
    chain = LandmarkSchema(name="chain", num_points=6, boundaries={k: (i, i + 1) for i, k in enumerate("abcde")})
    assert boundary_tree(chain) == (1, 2, -1, 2, 3)


# --------------------------------------------------------------------------------------------------------------------
# Messages


def passing(parents: tuple[int, ...], **weights: list[list[float]]) -> MessagePassing:
    """One channel a boundary; every message a plain factor, given level by level."""
    module = MessagePassing(parents, 1, 1)
    with torch.no_grad():
        for name in ("up", "down"):
            for conv, values in zip(getattr(module, name), weights[name], strict=True):
                conv.weight.copy_(torch.tensor(values).view(-1, 1, 1, 1))
                conv.bias.zero_()
    return module


def through(module: MessagePassing, *features: float) -> list[float]:
    return module(torch.tensor(features).view(1, -1, 1, 1)).flatten().tolist()


def test_messages_of_a_root_with_two_children_by_hand() -> None:
    # root 3, children 1 and 2. Up: 3 + 0.5 * 1 - 1 * 2 = 1.5. Down: 1 + 2 * 1.5 = 4, relu(2 - 3 * 1.5) = 0.
    module = passing((-1, 0, 0), up=[[0.5, -1.0]], down=[[2.0, -3.0]])
    assert through(module, 3.0, 1.0, 2.0) == [1.5, 4.0, 0.0]
    with torch.no_grad():
        module.up[0].bias.fill_(0.25)  # of the receiver
    assert through(module, 3.0, 1.0, 2.0) == [1.75, 4.5, 0.0]


def test_a_boundary_speaks_after_it_has_heard_all_below_it() -> None:
    # A chain root - middle - leaf of ones. Up: middle 1 + 1 = 2, THEN root 1 + 2 = 3. Down: middle 2 + 3 = 5, leaf 1 +
    # 5 = 6. Were all to speak at once, the root would have heard 1 and stand at 2.
    assert through(passing((-1, 0, 1), up=[[1.0], [1.0]], down=[[1.0], [1.0]]), 1.0, 1.0, 1.0) == [3.0, 5.0, 6.0]


def test_one_pass_carries_from_one_end_of_a_chain_to_the_other() -> None:
    module = passing((1, 2, -1, 2, 3), up=[[1.0, 1.0], [1.0, 1.0]], down=[[1.0, 1.0], [1.0, 1.0]])
    assert levels((1, 2, -1, 2, 3)) == [[2], [1, 3], [0, 4]]  # the order of the features: 2 1 3 0 4
    before, after = (np.array(through(module, 0.0, 0.0, 0.0, end, 0.0)) for end in (1.0, 2.0))
    assert (after != before).all()  # the end that moved was boundary 0; even boundary 4 has heard
    module = passing((1, 2, -1, 2, 3), up=[[0.0, 0.0], [0.0, 0.0]], down=[[0.0, 0.0], [0.0, 0.0]])
    before, after = (np.array(through(module, 0.0, 0.0, 0.0, end, 0.0)) for end in (1.0, 2.0))
    assert (after != before).tolist() == [False, False, False, True, False]  # no messages, no hearsay


def test_a_block_convolution_is_one_small_convolution_a_pair() -> None:
    torch.manual_seed(0)
    pairs = [(0, 2), (1, 0), (3, 2)]
    module, x = BlockConv(pairs, 4, 3, channels_in=2, channels_out=3, kernel=3), torch.randn(2, 8, 5, 5)
    torch.nn.init.normal_(module.bias)
    expected = module.bias.view(1, 9, 1, 1).expand(2, 9, 5, 5).clone()
    for n, (source, target) in enumerate(pairs):
        weight = module.weight[3 * n : 3 * n + 3]
        expected[:, 3 * target : 3 * target + 3] += torch.nn.functional.conv2d(
            x[:, 2 * source : 2 * source + 2], weight, padding=1
        )
    torch.testing.assert_close(module(x), expected)


def test_a_stack_hears_the_stack_before_it() -> None:
    model = net().eval()
    with torch.no_grad():
        _, before = model(images(2)).stages
        model.estimator.stacks[1].from_before.weight.normal_()  # starts as nothing
        _, after = model(images(2)).stages
    assert not torch.allclose(before, after)


# --------------------------------------------------------------------------------------------------------------------
# The network


@pytest.mark.parametrize(
    ("schema", "size", "more"),
    [
        (TWO, 32, {}), (TWO, 48, {"stacks": 1, "grayscale": False}), (TWO, 64, {"stride": 4, "feature_fusion": 2}),
        (IBUG, 32, {"message_passing": False}), (WFLW, 32, {"input_fusion": False, "feature_fusion": 0}),
        (TWO, 128, {}),
    ],
)  # fmt: skip
def test_any_schema_with_curves_and_any_crop(schema: LandmarkSchema, size: int, more: dict) -> None:
    model = net(schema, size, **more)
    out = model(images(1, size))  # in training, a batch of one
    stride = more.get("stride") or (4 if size >= 128 else 2)
    shape = (1, len(schema.boundaries), size // stride, size // stride)
    assert out.landmarks.shape == (1, schema.num_points, 2)
    assert out.landmarks.dtype == torch.float32
    assert [maps.shape for maps in out.stages] == [shape] * model.config.stacks
    assert out.boundaries is out.stages[-1]
    assert float((out.landmarks - model.mean_shape).detach().abs().max()) < 0.1 * size


@pytest.mark.parametrize("more", [{}, {"message_passing": False}, {"grayscale": False, "input_fusion": False}])
def test_every_parameter_learns(more: dict) -> None:
    model = net(**more)
    out = model(images(4))
    target = torch.rand_like(out.boundaries)
    loss = boundary_loss(out.stages, target, torch.ones(4, 2, dtype=torch.bool), torch.ones(4))
    (loss + out.landmarks.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_the_variant_without_messages_is_smaller() -> None:
    with_messages, without = (
        sum(p.numel() for p in net(IBUG, message_passing=on).estimator.parameters()) for on in (True, False)
    )
    assert without < with_messages


def test_a_batch_of_eight_equals_eight_singles_and_evaluation_repeats() -> None:
    model = net().eval()
    with torch.no_grad():
        singles = torch.cat([model(image[None]).landmarks for image in images(8)])
        torch.testing.assert_close(model(images(8)).landmarks, singles, atol=1e-4, rtol=1e-5)
        assert torch.equal(model(images(8)).landmarks, model(images(8)).landmarks)


def test_training_starts_at_the_mean_shape() -> None:
    model = net().eval()
    with torch.no_grad():
        model.regressor.fc.weight.zero_()
        assert torch.equal(model(images(2)).landmarks[1], model.mean_shape)


def test_the_landmarks_feel_the_maps() -> None:
    model = net().eval()
    image, maps = brightness(images(2)), torch.rand(2, 2, 16, 16, requires_grad=True)
    model.regressor(image, maps).sum().backward()
    assert bool((maps.grad.abs().sum(dim=(2, 3)) > 0).all())


def test_a_schema_without_curves_is_refused() -> None:
    with pytest.raises(UserError, match="schema dots has none: list its curves under `boundaries`"):
        LAB(LandmarkSchema(name="dots", num_points=3), 32, LABConfig(**TINY))


@pytest.mark.parametrize(
    "wrong", [{"stacks": 0}, {"stride": 3}, {"message_kernel": 2}, {"feature_fusion": 5}, {"near": 0}, {"enough": 1.5}]
)
def test_shapes_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        LABConfig(**wrong)


def test_input_fusion_by_hand() -> None:
    image = torch.stack([torch.full((4, 4), 2.0), torch.full((4, 4), -1.0)])[None]  # two channels
    maps = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # the right half
    fused = input_fusion(image, maps)
    across = torch.tensor(
        [0.0, 0.25, 0.75, 1.0]
    )  # cell centres at 0.5 and 2.5, so 1 and 2 lie a quarter and three in between
    assert fused.shape == (1, 4, 4, 4)
    for channel, expected in enumerate([torch.full((4,), 2.0), 2 * across, torch.full((4,), -1.0), -across]):
        torch.testing.assert_close(fused[0, channel], expected.expand(4, 4))


def test_feature_fusion_concatenates_the_features_with_what_the_gate_lets_through() -> None:
    torch.manual_seed(0)
    fusion, features, maps = FeatureFusion(6, 2, 4).eval(), torch.randn(3, 6, 4, 4), torch.rand(3, 2, 16, 16)
    fused = fusion(features, maps)
    small = torch.nn.functional.avg_pool2d(maps, 4)
    gate = fusion.gate(torch.cat([small, features], dim=1))
    assert torch.equal(fused[:, :6], features)
    torch.testing.assert_close(fused[:, 6:], features * gate)
    assert 0 < float(gate.detach().min()) < float(gate.detach().max()) < 1


def test_brightness_of_grey_is_itself() -> None:
    grey = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(brightness(grey.expand(2, 3, 4, 4)), grey)


@pytest.mark.parametrize("side", [16, 12, 7])
def test_an_hourglass_keeps_any_size(side: int) -> None:
    assert Hourglass(2, 8)(torch.randn(2, 8, side, side)).shape == (2, 8, side, side)


# --------------------------------------------------------------------------------------------------------------------
# Losses


def test_boundary_loss_by_hand() -> None:
    target = torch.zeros(2, 2, 2, 2)
    first, last = torch.full((2, 2, 2, 2), 0.5), torch.zeros(2, 2, 2, 2)
    last[0, 1, 0, 0] = 3.0
    labelled = torch.tensor([[True, True], [True, False]])
    first[1, 1] = float("1e9")  # not labelled, so no matter
    # Each labelled curve: 4 cells of 0.25 in the first stack = 1; one has 9 more in the last. (1 + 10 + 1) / 3 curves.
    assert float(boundary_loss((first, last), target, labelled, torch.ones(2))) == pytest.approx(4.0)
    assert float(boundary_loss((first, last), target, labelled, torch.tensor([3.0, 1.0]))) == pytest.approx(34 / 7)
    assert float(boundary_loss((first, last), target, labelled & False, torch.ones(2))) == 0


def test_curves_with_an_unlabelled_landmark_are_known() -> None:
    landmarks = torch.zeros(2, 5, 2)
    landmarks[1, 2, 0] = float("nan")
    landmarks[0, 4] = float("nan")  # on no curve
    assert curve_is_labelled(landmarks, TWO).tolist() == [[True, True], [False, False]]


def test_the_share_near_by_hand_makes_the_label_true_and_false() -> None:
    # Curve a: the line y = 10 from x = 0 to 20, curve b: from (20, 10) down to (20, 30). Landmark 4 is on neither.
    truth = torch.tensor([[[0.0, 10], [10, 10], [20, 10], [20, 30], [5, 5]]]).repeat(3, 1, 1)
    predicted = truth.clone()
    predicted[:, 4] = 1000.0  # not counted
    predicted[1] += torch.tensor(
        [0.0, 1.4]
    )  # three of a are 1.4 off, corner and end of b slide along it and 1.4 beyond its end
    predicted[2, 0] = torch.tensor([20.0, 25])  # on b, but it belongs to a
    near = share_near(predicted, truth, 1.5, TWO)
    torch.testing.assert_close(near, torch.tensor([1.0, 1.0, 0.8]))
    near = share_near(predicted, truth, 1.3, TWO)  # now a's three are far, b's end too; b's corner is on b
    torch.testing.assert_close(near, torch.tensor([1.0, 0.2, 0.8]))
    assert (near >= 0.8).tolist() == [True, False, True]


def test_the_share_near_agrees_with_walking_along_the_curves() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 64, (3, 68, 2))
    predicted = truth + rng.normal(0, 3, truth.shape)
    truth[1, 0] = np.nan  # no contour
    expected = []
    for face, found in zip(truth, predicted, strict=True):
        near = []
        for curve in IBUG.boundaries.values():
            if np.isfinite(face[list(curve)]).all():
                walked = sample_curves(face, curve, 4000)
                gap = np.linalg.norm(found[list(curve)][:, None] - walked, axis=-1).min(axis=1)
                near += list(gap < 1.5)
        expected.append(np.mean(near))
    found = share_near(torch.as_tensor(predicted), torch.as_tensor(truth), 1.5, IBUG)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert float(share_near(torch.zeros(1, 68, 2), torch.full((1, 68, 2), float("nan")), 1.5, IBUG)) == 1


def logit(probability: float) -> Tensor:
    return torch.tensor([math.log(probability / (1 - probability))])


def test_the_discriminator_s_loss_by_hand_for_either_label() -> None:
    one, weight = torch.ones(1), torch.ones(1)
    effective = discriminator_loss(logit(0.9), logit(0.3), one, weight)
    assert float(effective) == pytest.approx(-math.log(0.9) - math.log(1 - abs(0.3 - 1)))
    useless = discriminator_loss(logit(0.9), logit(0.3), 0 * one, weight)
    assert float(useless) == pytest.approx(-math.log(0.9) - math.log(1 - abs(0.3 - 0)))
    sure = discriminator_loss(torch.tensor([-500.0]), torch.tensor([500.0]), 0 * one, weight)
    assert float(sure) == pytest.approx(1000.0)  # wrong beyond what a float can say of a probability, and finite


def test_the_adversarial_loss_by_hand() -> None:
    assert float(adversarial_loss(logit(0.3), torch.ones(1))) == pytest.approx(math.log(0.7))
    both = adversarial_loss(torch.cat([logit(0.3), logit(0.9)]), torch.tensor([3.0, 1.0]))
    assert float(both) == pytest.approx((3 * math.log(0.7) + math.log(0.1)) / 4)
    drawn = torch.zeros(1, requires_grad=True)
    adversarial_loss(drawn, torch.ones(1)).backward()
    assert float(drawn.grad) < 0  # more belief is less loss


# --------------------------------------------------------------------------------------------------------------------
# Learning


def faces(num: int, size: int = 32) -> Batch:
    """Pictures of their own boundaries."""
    rng = np.random.default_rng(0)
    shape = np.array([[6.0, 8], [16, 5], [26, 9], [20, 26], [10, 24]])
    landmarks = torch.as_tensor(shape + rng.uniform(-4, 4, (num, 1, 2)), dtype=torch.float32)
    image = boundary_maps(landmarks, size, 1.5, TWO).amax(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 2 - 1
    visible = torch.ones(num, 5, dtype=torch.bool)
    return Batch(image, landmarks, visible, torch.zeros(num, 2, 3), torch.arange(num), torch.ones(num))


def learner(steps: int = 4, lr: float = 3e-3, **more):
    model = net(**more)
    model.mean_shape.copy_(faces(8).landmarks.mean(dim=0))
    return learn_lab(learning_of(model, (TWO,), steps=steps, lr=lr, mean_shapes=()))


def learn(learner, first: int, last: int, batch: Batch) -> list[dict[str, Tensor]]:
    terms = []
    for step in range(first, last):
        torch.manual_seed(step)
        terms.append(learner.update((batch,), step))
    return terms


def test_the_adversary_joins_when_the_rest_has_learnt() -> None:
    found = learner(adversarial_from=0.5)
    before = copy.deepcopy(found.modules["discriminator"].state_dict())
    early = learn(found, 0, 2, faces(4))
    assert all(set(terms) == {"total", "coordinates", "boundary", "error_px"} for terms in early)
    now = found.modules["discriminator"].state_dict()
    assert all(torch.equal(value, now[name]) for name, value in before.items())
    late = learn(found, 2, 4, faces(4))
    assert all({"adversarial", "discriminator", "effective"} < set(terms) for terms in late)
    terms = late[0]
    expected = terms["coordinates"] + terms["boundary"] + 0.1 * terms["adversarial"]
    torch.testing.assert_close(terms["total"], expected)
    now = found.modules["discriminator"].state_dict()
    assert not any(torch.equal(value, now[name]) for name, value in before.items())
    alone = learn(learner(adversarial_weight=0.0), 2, 3, faces(4))
    assert "adversarial" not in alone[0]


def test_training_continued_from_a_copy_ends_in_the_same_bytes() -> None:
    whole = learner(adversarial_from=0.25)
    learn(whole, 0, 2, faces(4))
    modules = {name: copy.deepcopy(module.state_dict()) for name, module in whole.modules.items()}
    optimizers = {name: copy.deepcopy(optimizer.state_dict()) for name, optimizer in whole.optimizers.items()}
    learn(whole, 2, 4, faces(4))
    again = learner(adversarial_from=0.25)
    for name, module in again.modules.items():
        module.load_state_dict(modules[name])
    for name, optimizer in again.optimizers.items():
        optimizer.load_state_dict(optimizers[name])
    learn(again, 2, 4, faces(4))
    for name, module in whole.modules.items():
        other = again.modules[name].state_dict()
        assert all(torch.equal(value, other[key]) for key, value in module.state_dict().items())


def test_unlabelled_landmarks_stop_no_training() -> None:
    batch = faces(4)
    batch.landmarks[0, 0] = float("nan")
    batch.landmarks[1] = float("nan")
    terms = learn(learner(adversarial_from=0.0), 0, 2, batch)[-1]
    assert all(math.isfinite(float(value.detach())) for value in terms.values())


def test_one_batch_is_learnt() -> None:
    small = {"stacks": 1, "depth": 1, "feature_fusion": 1, "dropout": 0.0, "adversarial_from": 0.9}
    found, batch = learner(40, lr=1e-2, **small), faces(8)
    terms = learn(found, 0, 40, batch)
    assert float(terms[-1]["error_px"].detach()) < float(terms[0]["error_px"].detach()) / 2
    assert float(terms[-1]["boundary"].detach()) < float(terms[0]["boundary"].detach()) / 2
    maps = found.modules["model"](batch.image).boundaries.detach()
    target = boundary_maps((batch.landmarks - 0.5) / 2, 16, 1.0, TWO)
    assert np.corrcoef(maps.flatten(), target.flatten())[0, 1] > 0.7  # drawn where they are, cell for cell
