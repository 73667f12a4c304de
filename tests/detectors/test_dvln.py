"""DVLN: heads that do not meet but in the trunk, candidates that differ, a decision between
them, and what each learns from."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from builders.networks import learning_of
from stylealign.batches.batch import Batch
from stylealign.detectors.dvln import (
    DVLN,
    DVLNConfig,
    candidate_losses,
    dvln_losses,
    learn_dvln,
    load_trunk,
    sample_at,
    settle,
    turned_shapes,
)
from stylealign.detectors.losses import LossConfig, coordinate_loss, landmark_loss
from stylealign.errors import UserError
from stylealign.face.schema import COFW29, FIVE, LandmarkSchema

TINY = DVLNConfig(width=4, embedding=16, candidates=3, evidence=2, hidden=8)
L1 = LossConfig(kind="l1")


def images(num: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def net(schemas: tuple[LandmarkSchema, ...] = (FIVE, COFW29), size: int = 32, seed: int = 0, **changes: Any) -> DVLN:
    torch.manual_seed(seed)
    model = DVLN(schemas, size, dataclasses.replace(TINY, **changes))
    for name in model.mean_shape_names():
        shape = getattr(model, name)
        shape.copy_(4 + torch.rand(shape.shape) * (size - 8))
    return model


def faces(num: int, num_points: int, size: int = 32, seed: int = 0) -> Batch:
    landmarks = torch.rand(num, num_points, 2, generator=torch.Generator().manual_seed(seed)) * size
    return Batch(
        image=images(num, size, seed),
        landmarks=landmarks,
        visible=torch.ones(num, num_points, dtype=torch.bool),
        crop_from_source=torch.zeros(num, 2, 3, dtype=torch.float64),
        index=torch.arange(num),
        weight=torch.ones(num),
    )


def labels(landmarks: list, visible: list | None = None, weight: list | None = None) -> Batch:
    """A batch of nothing but labels."""
    target = torch.tensor(landmarks)
    seen = torch.ones(target.shape[:2], dtype=torch.bool) if visible is None else torch.tensor(visible)
    return faces(len(target), target.shape[1])._replace(
        landmarks=target, visible=seen, weight=torch.ones(len(target)) if weight is None else torch.tensor(weight)
    )


def learner_of(model: DVLN, batch_size: int = 8, **changes: Any) -> Any:
    """`learn_dvln` of a CPU job."""
    schemas = (FIVE, COFW29)[: len(model.heads)]
    model.config = dataclasses.replace(model.config, **changes)
    shapes = tuple(np.full((s.num_points, 2), 10.0 + i) for i, s in enumerate(schemas))
    return learn_dvln(learning_of(model, schemas, batch_size=batch_size, weight_decay=0.05, mean_shapes=shapes))


# --------------------------------------------------------------------------------------------------------------------
# The network


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("decision", ["fuse", "choose"])
def test_the_first_head_answers_in_crop_pixels(size: int, decision: str) -> None:
    model = net(size=size, decision=decision).eval()
    out = model(images(2, size))
    assert out.landmarks.shape == (2, 5, 2)
    assert out.landmarks.dtype == torch.float32
    assert [tuple(s.shape) for s in out.stages] == [(2, 3, 5, 2), (2, 3)]


def test_each_head_answers_its_own_faces_in_its_own_mark_up() -> None:
    model = net().eval()
    image = images(5)
    both = model(image, (2, 3))
    assert [tuple(s.shape) for s in both.stages] == [(2, 3, 5, 2), (2, 3), (3, 3, 29, 2), (3, 3)]
    assert both.landmarks.shape == (2, 5, 2)
    torch.testing.assert_close(both.landmarks, model(image[:2]).landmarks)
    torch.testing.assert_close(both.stages[2], model(image[2:], (0, 3)).stages[2])
    with pytest.raises(AssertionError):
        model(image, (2, 2))


def test_a_head_never_moves_another_but_both_move_the_trunk() -> None:
    model = net()
    out = model(images(8), (4, 4))
    batch = faces(4, 29)
    terms = dvln_losses(out.stages[2], out.stages[3], batch, LossConfig(), 0.1)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in model.heads[0].parameters())
    for part in (model.heads[1], model.trunk, model.embed):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name


def test_every_parameter_learns_in_one_step_with_both_heads() -> None:
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    learner = learner_of(model)
    terms = learner.update((faces(6, 5), faces(4, 29, seed=1)), 0)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0, name
        assert not torch.equal(parameter, before[name]), name
    assert terms["error_px"].item() > 0
    # Six faces of ten are the first head's.
    each = [sum(terms[f"{t}_{head}"].item() for t in ("fused", "candidates", "decision")) for head in (0, 1)]
    assert terms["total"].item() == pytest.approx(0.6 * each[0] + 0.4 * each[1], rel=1e-5)
    assert torch.equal(model.mean_shape_1, torch.full((29, 2), 11.0))  # filled from the job's


def test_a_head_without_faces_in_a_batch_stays_finite() -> None:
    model = net()
    terms = learner_of(model).update((faces(4, 5), faces(0, 29)), 0)
    assert all(math.isfinite(v.item()) for v in terms.values())
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_batch_of_eight_equals_eight_singles() -> None:
    for decision in ("fuse", "choose"):
        model = net(decision=decision).eval()
        with torch.no_grad():
            singles = torch.cat([model(image[None]).landmarks for image in images(8)])
            torch.testing.assert_close(model(images(8)).landmarks, singles, atol=1e-4, rtol=1e-5)


def test_evaluation_is_deterministic_and_a_seed_fixes_training() -> None:
    assert torch.equal(net().eval()(images(2)).landmarks, net().eval()(images(2)).landmarks)
    states = []
    for _ in range(2):
        model = net(dropout=0.2)
        learner = learner_of(model)
        for step in range(2):
            torch.manual_seed(step)
            learner.update((faces(4, 5, seed=step), faces(4, 29, seed=step)), step)
        states.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_imagenet_weights_fit_the_trunk() -> None:
    model = DVLN((FIVE, COFW29), 64, DVLNConfig(embedding=4, hidden=4))
    state = {k: torch.full_like(v, 0.5) for k, v in model.trunk.state_dict().items()}
    load_trunk(model, {**state, "fc.weight": torch.zeros(1000, 512)}, "w.pth")
    assert model.trunk.layer3[0].conv1.weight.mean().item() == pytest.approx(0.5)
    assert not [name for name in model.state_dict() if name.startswith(("trunk.fc", "trunk.mean_shape"))]


# --------------------------------------------------------------------------------------------------------------------
# Candidates and the decision


def test_candidates_start_as_the_mean_shape_turned_about_its_centre() -> None:
    shape = torch.tensor([[10.0, 20.0], [14.0, 20.0]])  # two landmarks round (12, 20)
    found = turned_shapes(shape, 3, 90.0)
    # By -90, 0 and +90 degrees; y points down, so that + takes x to y.
    expected = [[[12.0, 22.0], [12.0, 18.0]], [[10.0, 20.0], [14.0, 20.0]], [[12.0, 18.0], [12.0, 22.0]]]
    torch.testing.assert_close(found, torch.tensor(expected))
    torch.testing.assert_close(turned_shapes(shape, 1, 90.0)[0], shape)


def test_candidates_differ_and_stay_near_their_starts_at_first() -> None:
    model = net().eval()
    candidates = model(images(4)).stages[0]
    starts = turned_shapes(model.mean_shape, 3, 15.0)
    assert (candidates - starts).abs().max().item() < 2.0
    for a in range(3):
        for b in range(a):
            assert float((candidates[:, a] - candidates[:, b]).detach().norm(dim=-1).mean()) > 0.5


def test_fusing_and_choosing_by_hand() -> None:
    candidates = torch.tensor([[[[0.0, 0.0]], [[4.0, 8.0]]], [[[1.0, 1.0]], [[3.0, 5.0]]]])  # two faces, two candidates
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, -5.0]])  # the first face's weights: 1/4 and 3/4
    torch.testing.assert_close(settle(candidates, logits, choose=False)[0], torch.tensor([[3.0, 6.0]]))
    assert settle(candidates, logits, choose=True).tolist() == [[[4.0, 8.0]], [[1.0, 1.0]]]


def test_choosing_is_for_evaluation_and_training_fuses() -> None:
    model = net(decision="choose")
    for training in (True, False):
        model.train(training)
        out = model(images(4))
        torch.testing.assert_close(out.landmarks, settle(*out.stages, choose=not training))


def test_the_decision_looks_at_pixels_where_the_landmarks_are() -> None:
    # A map of stride 4 over 16 px whose cells hold the x of their centre: 1.5, 5.5, 9.5, 13.5.
    maps = (torch.arange(4) * 4 + 1.5).expand(1, 1, 4, 4).contiguous()
    places = torch.tensor([[[1.5, 3.0], [7.5, 8.0], [13.5, 13.5], [-40.0, 2.0]]])
    torch.testing.assert_close(sample_at(maps, places, 16)[0, :, 0], torch.tensor([1.5, 7.5, 13.5, 1.5]))


def test_the_decision_teaches_neither_trunk_nor_candidates() -> None:
    model = net()
    model(images(4)).stages[1].square().sum().backward()
    assert all(p.grad is None for p in [*model.trunk.parameters(), *model.embed.parameters()])
    assert model.heads[0].offsets.weight.grad is None
    assert float(model.heads[0].look.weight.grad.abs().sum()) > 0


# --------------------------------------------------------------------------------------------------------------------
# Losses


def test_the_three_terms_by_hand() -> None:
    # One face, one landmark at (0, 0), three candidates whose L1 losses are 3, 1 and 8; the
    # decision weighs them 1/4, 1/4, 1/2.
    candidates = torch.tensor([[[[3.0, 3.0]], [[2.0, 0.0]], [[8.0, 8.0]]]])
    logits = torch.log(torch.tensor([[0.25, 0.25, 0.5]]))
    found = dvln_losses(candidates, logits, labels([[[0.0, 0.0]]]), L1, relax=0.2)
    assert float(found["candidates"]) == pytest.approx(0.8 * 1 + 0.1 * 3 + 0.1 * 8)
    assert float(found["decision"]) == pytest.approx(math.log(4))  # the best candidate has weight 1/4
    # The fused point is (3/4 + 2/4 + 8/2, 3/4 + 8/2) = (5.25, 4.75).
    assert float(found["fused"]) == pytest.approx(5.0)


def test_the_decision_is_drawn_to_the_best_candidate_of_each_face() -> None:
    candidates = torch.tensor([[[[9.0, 9.0]], [[1.0, 1.0]]], [[[2.0, 2.0]], [[4.0, 4.0]]]])
    logits = torch.zeros(2, 2, requires_grad=True)
    dvln_losses(candidates, logits, labels([[[0.0, 0.0]], [[0.0, 0.0]]]), L1, 0.1)["decision"].backward()
    # Softmax minus the target, over two faces: candidate 1 is the first face's best, candidate 0 the second's.
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25, -0.25], [-0.25, 0.25]]))


def test_losses_weigh_faces_and_hidden_landmarks_as_any_detector_does() -> None:
    # One candidate has nobody to share with, and all of it is the usual loss.
    config = LossConfig(hidden_weight=0.3)
    batch = faces(4, 5)._replace(
        visible=torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.5,
        weight=torch.tensor([1.0, 2.0, 0.0, 0.5]),
    )
    batch.landmarks[0, 2] = math.nan
    candidates = torch.rand(4, 1, 5, 2, generator=torch.Generator().manual_seed(4)) * 32
    usual = landmark_loss(candidates[:, 0], batch.landmarks, batch.visible, batch.weight, config)
    found = dvln_losses(candidates, torch.zeros(4, 1), batch, config, relax=0.4)
    torch.testing.assert_close(found["candidates"], usual)
    torch.testing.assert_close(found["fused"], usual)
    assert float(found["decision"]) == 0


@pytest.mark.parametrize("kind", ["wing", "smooth_l1", "l1", "l2"])
def test_unlabelled_landmarks_never_contribute(kind: str) -> None:
    config = LossConfig(kind=kind)  # type: ignore[arg-type]
    batch = faces(3, 5)
    batch.landmarks[0] = math.nan
    batch.landmarks[1, 3, 1] = math.nan
    generator = torch.Generator().manual_seed(5)
    candidates = (torch.rand(3, 2, 5, 2, generator=generator) * 32).requires_grad_()
    logits = torch.randn(3, 2, generator=generator).requires_grad_()
    losses, amount = candidate_losses(candidates, batch.landmarks, batch.visible, config)
    assert amount.tolist() == [0, 4, 5]
    assert losses[0].tolist() == [0, 0]
    kept = [0, 1, 2, 4]
    by_hand = coordinate_loss(candidates[1, 0, kept] - batch.landmarks[1, kept], config).mean()
    torch.testing.assert_close(losses[1, 0], by_hand)

    sum(dvln_losses(candidates, logits, batch, config, 0.1).values()).backward()  # type: ignore[union-attr]
    assert candidates.grad is not None
    assert logits.grad is not None
    assert bool(candidates.grad.isfinite().all() & logits.grad.isfinite().all())
    unlabelled = (candidates.grad[0], candidates.grad[1, :, 3], logits.grad[0])
    assert all(float(gradient.abs().sum()) == 0 for gradient in unlabelled)
    assert float(candidates.grad[2].abs().sum()) > 0


def test_candidates_specialise() -> None:
    """Two kinds of faces that look alike: one hypothesis can only be their mean, two take one kind each."""
    torch.manual_seed(0)
    candidates = torch.tensor([[[0.1, 0.0]], [[-0.1, 0.0]]]).requires_grad_()  # (K, P, 2): the same for every face
    batch = labels([[[5.0, 0.0]], [[-5.0, 0.0]]])
    optimizer = torch.optim.SGD([candidates], lr=0.2)
    for _ in range(200):
        optimizer.zero_grad()
        terms = dvln_losses(candidates.expand(2, 2, 1, 2), torch.zeros(2, 2), batch, LossConfig(kind="l2"), 0.0)
        terms["candidates"].backward()
        optimizer.step()
    torch.testing.assert_close(candidates.detach()[:, 0, 0], torch.tensor([5.0, -5.0]), atol=0.05, rtol=0)


# --------------------------------------------------------------------------------------------------------------------
# Learning


def test_a_single_data_set_is_refused_unless_asked_for() -> None:
    with pytest.raises(UserError, match="at least two data sets: give --other"):
        learner_of(net((FIVE,)))
    terms = learner_of(net((FIVE,)), single=True).update((faces(4, 5),), 0)
    assert math.isfinite(terms["total"].item())


def test_batches_of_one_face_are_refused() -> None:
    with pytest.raises(UserError, match="batch_size 1 is one face"):
        learner_of(net(), batch_size=1)


def test_both_heads_learn_a_batch() -> None:
    model = net(width=8, embedding=32)
    learner = learner_of(model)
    batches = (faces(4, 5), faces(4, 29, seed=1))
    errors = []
    for _ in range(60):
        terms = learner.update(batches, 3)
        errors.append([float(terms["candidates_0"]), float(terms["candidates_1"])])
    assert (np.array(errors[-1]) < 0.6 * np.array(errors[0])).all()


@pytest.mark.parametrize("wrong", [{"candidates": 0}, {"relax": 1.0}, {"dropout": -0.1}, {"spread": -1.0}])
def test_shapes_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        DVLNConfig(**wrong)
