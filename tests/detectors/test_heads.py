"""Any trunk under any head by any loss that fits: answers in pixels, a covariance that is one, gradients everywhere."""

import dataclasses
import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders.networks import SCHEMA, batch, face, images, learning_of
from stylealign.config import from_dict
from stylealign.detectors import build_detector
from stylealign.detectors.fpn import FPN, FPNConfig, fpn_terms, learn_fpn
from stylealign.detectors.heads import HEADS
from stylealign.detectors.heads.coordinates import spread
from stylealign.detectors.heads.heatmap import moments, targets
from stylealign.detectors.heads.parts import HeadConfig, TermsConfig, Truth, cell_places
from stylealign.detectors.heads.pip import PIPHead, pip_term
from stylealign.detectors.losses import LossConfig
from stylealign.detectors.output import DetectorOutput
from stylealign.detectors.trunks import TRUNKS
from stylealign.errors import UserError
from stylealign.training.warm_start import LAST, start_from
from stylealign.training.weights import save_model

TERMS = {"coordinates": ("coordinates",), "heatmap": ("coordinates", "js"), "pip": ("pip",), "simcc": ("kl",)}
SIZE = 64


def config(head: str, terms: tuple[str, ...] | None = None, **more: Any) -> FPNConfig:
    values = {"width": 0.125, "neck": 8, "head": {"kind": head}, "loss": {"terms": list(terms or TERMS[head])}, **more}
    return from_dict(FPNConfig, values, "fpn")


def make(fpn: FPNConfig, size: int = SIZE) -> FPN:
    torch.manual_seed(0)
    model = build_detector("fpn", (SCHEMA,), size, fpn)
    assert isinstance(model, FPN)
    model.mean_shape.copy_(face(SCHEMA, size))
    return model


def settled(model: FPN) -> FPN:
    """In evaluation mode, its normalisations filled from one batch: without, a deep fresh network's numbers grow."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images(16, SIZE, seed=9))
    return model.eval()


def is_positive_definite(covariance: torch.Tensor) -> bool:
    values = torch.linalg.eigvalsh(covariance.double())
    symmetric = torch.equal(covariance, covariance.transpose(2, 3))
    return symmetric and bool((values > 0).all())


@pytest.mark.parametrize(
    ("trunk", "head"),
    [
        pytest.param(trunk, head, marks=[pytest.mark.slow] * (trunk == "hrnet_w18" and head != "heatmap"))
        for trunk, head in itertools.product(TRUNKS, HEADS)
    ],
)
def test_any_trunk_fits_under_any_head_and_learns(trunk: str, head: str) -> None:
    model = make(config(head, trunk=trunk, cut=16 if head == "simcc" else 32))
    learner = learn_fpn(learning_of(model, (SCHEMA,), size=SIZE, steps=2, lr=1e-3))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for step in range(2):
        terms = learner.update((batch(SCHEMA, size=SIZE),), step)
        assert all(bool(value.isfinite()) for value in terms.values())
    stayed = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not stayed
    out = model.eval()(images(2, SIZE))
    assert out.landmarks.shape == (2, 68, 2)
    assert out.covariance is not None
    assert out.covariance.shape == (2, 68, 2, 2)
    assert out.covariance.dtype == torch.float32
    assert is_positive_definite(out.covariance.detach())


@pytest.mark.parametrize(("head", "term"), [(head, term) for head, entry in HEADS.items() for term in entry.terms])
def test_every_loss_that_fits_brings_a_head_nearer_to_its_labels(head: str, term: str) -> None:
    model = make(config(head, (term,), trunk="resnet18", neck=16, cut=16))
    given, steps = batch(SCHEMA, size=SIZE), 40
    given.landmarks.add_(6 * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])[:, None])
    learner = learn_fpn(learning_of(model, (SCHEMA,), size=SIZE, steps=steps, lr=1e-2))
    errors: list[float] = []
    while len(errors) < steps and not (errors and max(errors[-3:]) < 0.8 * errors[0]):
        errors.append(float(learner.update((given,), len(errors))["error_px"].detach()))
    assert max(errors[-3:]) < 0.8 * errors[0], errors


@pytest.mark.parametrize("head", HEADS)
def test_what_is_not_labelled_teaches_nothing(head: str) -> None:
    model = make(config(head))
    given, other = batch(SCHEMA, size=SIZE), batch(SCHEMA, size=SIZE)
    given.landmarks[:, 5:] = torch.nan
    other.landmarks[:, 5:] = torch.nan
    other.landmarks[1], other.weight[1] = 7.0, 0.0
    out = model(given.image)
    terms = [fpn_terms(model, out, b, LossConfig()) for b in (given, other)]
    torch.stack(list(terms[0].values())).sum().backward(retain_graph=True)
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    given.weight[1] = 0.0
    again = fpn_terms(model, out, given, LossConfig())
    assert {name: v.item() for name, v in again.items()} == {name: v.item() for name, v in terms[1].items()}
    given.landmarks[:] = torch.nan
    assert all(v.item() == 0 for v in fpn_terms(model, out, given, LossConfig()).values())


@pytest.mark.parametrize("head", HEADS)
def test_a_landmark_of_no_weight_teaches_nothing_wherever_its_label_lies(head: str) -> None:
    """Nor does it as another one's neighbour: its weight is 0, or it is hidden and hidden ones weigh 0."""
    model = make(config(head, trunk="resnet18"))
    given = batch(SCHEMA, size=SIZE)
    weight, hidden = torch.ones(4, 68), torch.ones(4, 68, dtype=torch.bool)
    weight[:, 30], hidden[:, 30] = 0.0, False
    out = model(given.image)
    found = []
    for place in (10.0, 1000.0, torch.nan):
        given.landmarks[:, 30] = place
        found += [
            fpn_terms(model, out, given._replace(point_weight=weight), LossConfig()),
            fpn_terms(model, out, given._replace(visible=hidden), LossConfig(hidden_weight=0.0)),
        ]
    for terms in found:
        assert {name: float(value.detach()) for name, value in terms.items()} == pytest.approx(
            {name: float(value.detach()) for name, value in found[0].items()}
        )


@pytest.mark.parametrize("head", HEADS)
def test_bfloat16_is_close_and_answers_in_float32(head: str) -> None:
    model = settled(make(config(head)))
    with torch.no_grad():
        exact = model(images(4, SIZE))
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(images(4, SIZE))
    assert rough.landmarks.dtype == rough.covariance.dtype == torch.float32
    if head == "pip":  # of random scores, the best cell is anybody's guess
        assert float((rough.stages[0] - exact.stages[0]).abs().median()) < 0.1 * float(exact.stages[0].std())
    else:
        assert float((rough.landmarks - exact.landmarks).abs().median()) < 0.25


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs onnx and onnxruntime")
@pytest.mark.parametrize(
    ("trunk", "head"),
    [
        *(("mobilenet_v2", head) for head in HEADS),
        *(pytest.param(t, "heatmap", marks=pytest.mark.slow) for t in TRUNKS if t != "mobilenet_v2"),
    ],
)
def test_every_trunk_and_head_is_exported(trunk: str, head: str) -> None:
    from stylealign.jobs.export.graph import answering, trace
    from stylealign.predicting.onnx_network import start_session

    model = settled(make(config(head, trunk=trunk)))
    session = start_session(trace(answering(model), SIZE).SerializeToString(), 1)
    for count in (1, 3):
        picture = images(count, SIZE, seed=count)
        (landmarks,) = session.run(None, {"image": picture.numpy()})
        with torch.no_grad():
            assert np.abs(landmarks - model(picture).landmarks.numpy()).max() < 1e-3


def test_what_does_not_fit_is_refused_and_told_what_does() -> None:
    for values, said in (
        ({"head": {"kind": "pip"}}, "head pip does not learn by coordinates: expected pip, or for coordinates one of "
         "the heads coordinates, heatmap, simcc"),
        ({"head": {"kind": "simcc"}, "loss": {"terms": ["awing"]}}, "does not learn by awing: expected coordinates, "
         "js, kl, star, nll, or for awing one of the heads heatmap"),
        ({"cut": 16, "head": {"stride": 32}}, "head.stride 32 of a trunk cut after stride 16: expected at most that"),
        ({"head": {"kind": "coordinates", "stride": 4}, "loss": {"terms": ["nll"]}}, "expected no head.stride"),
        ({"loss": {"terms": []}}, "terms none: expected one or more, each once"),
        ({"loss": {"terms": ["js", "js"]}}, "terms js, js: expected one or more, each once"),
        ({"loss": {"terms": ["js"], "weights": [1, 2]}}, "weights 1.0, 2.0 for terms js: expected one above"),
        ({"loss": {"sigma": 0}}, "expected sigma above 0"),
        ({"width": 0}, "fpn of width 0.0 and neck 64: expected above 0"),
        ({"head": {"bins": 0}}, "head with bins 0.0 and neighbours 10"),
        ({"trunk": "vgg"}, "found 'vgg', expected one of 'mobilenet_v2', 'efficientnet_lite0'"),
    ):  # fmt: skip
        with pytest.raises(UserError) as refused:
            from_dict(FPNConfig, values, "fpn")
        assert said in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1


def test_one_face_at_a_time_where_one_cell_is_left_is_refused() -> None:
    model = make(config("heatmap"), 32)
    with pytest.raises(UserError, match=r"leaves one cell at stride 32, and batch_size 1 .* expected at least 2"):
        learn_fpn(learning_of(model, (SCHEMA,), size=32, batch_size=1))


def test_weights_count_and_a_spread_that_no_term_learns_costs_the_landmarks_nothing() -> None:
    given = batch(SCHEMA, size=SIZE)
    model = make(config("heatmap", loss={"terms": ["coordinates", "js"], "weights": [2.0, 10.0]}))
    terms = learn_fpn(learning_of(model, (SCHEMA,), size=SIZE, lr=0.0)).update((given,), 0)
    found = {name: float(value.detach()) for name, value in terms.items()}
    assert found["total"] == pytest.approx(2 * found["coordinates"] + 10 * found["js"])
    model = make(config("coordinates"))
    fpn_terms(model, model(given.image), given, LossConfig())["spread"].backward()
    learnt = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learnt == {"head.points_spread.weight", "head.points_spread.bias"}
    model = make(config("coordinates", ("nll",)))
    out = model(given.image)
    assert set(fpn_terms(model, out, given, LossConfig())) == {"nll"}


def test_js_weighs_10_where_nothing_is_said() -> None:
    """At 1 the maps of 300-W's study were still wide after 500 updates, and the landmarks a fifth worse."""
    assert TermsConfig().weighted() == [("coordinates", 1.0), ("js", 10.0)]
    assert TermsConfig(terms=("star", "js")).weighted() == [("star", 1.0), ("js", 10.0)]
    assert TermsConfig(weights=(2.0, 1.0)).weighted() == [("coordinates", 2.0), ("js", 1.0)]


def test_the_last_layers_of_every_head_are_named_so_that_another_mark_up_leaves_them_fresh() -> None:
    for head in HEADS:
        shapes = [make(config(head)), build_detector("fpn", (SCHEMA,), SIZE, config(head))]
        few = FPN(5, SIZE, config(head))
        own = shapes[0].state_dict()
        changed = {k for k, v in few.state_dict().items() if own[k].shape != v.shape}
        assert all(k.startswith((*LAST, "mean_shape", "head.neighbours")) for k in changed)


# --------------------------------------------------------------------------------------------------------------------
# Each head by hand


def test_cells_cover_the_crop() -> None:
    assert cell_places(2, 8, torch.zeros(1)).tolist() == [1.5, 5.5]
    assert cell_places(16, 8, torch.zeros(1))[:2].tolist() == [-0.25, 0.25]


def test_a_map_s_mean_and_spread_are_those_of_its_shares() -> None:
    scores = torch.full((1, 1, 2, 4), -100.0)
    scores[0, 0, 0, 1] = scores[0, 0, 1, 3] = 0.0  # half in each: (5.5, 3.5) and (13.5, 11.5) of cells 4 wide, 8 high
    landmarks, covariance = moments(scores, 16)
    assert landmarks[0, 0].tolist() == pytest.approx([9.5, 7.5])
    expected = [16 + 16 / 12, 16, 16, 16 + 64 / 12]
    assert covariance[0, 0].flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("corner", [False, True])
def test_moments_of_a_large_crop_lose_nothing_to_float32(corner: bool) -> None:
    """Against plain sums in float64; a covariance is a difference of squares of places, largest in a corner."""
    torch.manual_seed(0)
    size, n = 256, 64
    rounding = n * n * 2.0**-24  # of a float32 sum over the map, in whatever order a processor takes it
    scores = 5 * torch.randn(1, 3, n, n)
    if corner:
        scores[:, :, -1, -1] = 60.0
    places = (np.arange(n) + 0.5) * size / n - 0.5
    shares = scores.double().flatten(2).softmax(dim=2).unflatten(2, (n, n)).numpy()[0]
    landmarks, covariance = (answer[0].numpy() for answer in moments(scores, size))
    for share, found, spread_found in zip(shares, landmarks, covariance, strict=True):
        grid = np.stack(np.meshgrid(places, places), axis=-1).reshape(-1, 2)  # x, y of every cell
        mean = share.reshape(-1) @ grid
        np.testing.assert_allclose(found, mean, atol=1e-3)
        away = grid - mean
        wanted = (share.reshape(-1, 1) * away).T @ away + (size / n) ** 2 / 12 * np.eye(2)
        np.testing.assert_allclose(spread_found, wanted, rtol=rounding, atol=2e-2)


def test_a_drawn_gaussian_is_found_to_a_hundredth_of_a_pixel_with_its_width() -> None:
    where = torch.tensor([[[20.3, 31.9], [40.0, 12.25]]])
    truth = Truth(where, torch.ones(1, 2, dtype=torch.bool), LossConfig(), TermsConfig(sigma=4.0), 64)
    rows, columns = targets(truth, 16, 16)
    landmarks, covariance = moments((rows[..., None] * columns[:, :, None]).log(), 64)
    torch.testing.assert_close(landmarks, where, atol=0.01, rtol=0)
    wide = 16 + 16 / 12 * torch.eye(2)[0, 0]
    torch.testing.assert_close(covariance[0, 0].diagonal(), torch.stack([wide, wide]), atol=0.1, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_a_covariance_is_positive_definite_whatever_a_network_says(scale: float) -> None:
    torch.manual_seed(0)
    assert is_positive_definite(moments(scale * torch.randn(4, 9, 8, 8), 64)[1])
    assert is_positive_definite(spread(scale * torch.randn(4, 9, 3), 2.0))
    head = PIPHead((8, 8, 8), 8, 5, 64, 8, HeadConfig(kind="pip"), ())
    offsets = scale * torch.randn(4, 2, 5, 8, 8)
    assert is_positive_definite(head._covariance(scale * torch.randn(4, 5, 8, 8), offsets, torch.zeros(4, 2, 5)))


def pip_answer(neighbours: list[list[int]], own: list[list[float]], told: list[list[list[float]]]) -> tuple[Any, Any]:
    """A head of 3 points on 4 x 4 cells of 16 px whose best cells are given by `own` and that says what is given."""
    head = PIPHead((4,), 16, 3, 64, 4, HeadConfig(kind="pip", neighbours=1), ())
    head.neighbours.copy_(torch.tensor(neighbours))
    scores, offsets, others = torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2, 3, 4, 4)
    for i, (x, y) in enumerate(own):
        column, row = int(x), int(y)
        scores[0, i, row, column] = 1.0
        offsets[0, :, i, row, column] = torch.tensor([x - column, y - row])
        others[0, :, i, row, column] = torch.tensor(told[i]) - torch.tensor([column, row])
    found = torch.cat([scores, offsets.flatten(1, 2), others.flatten(1, 2)], dim=1)
    head.pyramid.forward = lambda features: torch.zeros(1, 4, 4, 4)  # type: ignore[method-assign]
    head.points.forward = lambda x: found  # type: ignore[method-assign]
    return head, head([torch.zeros(1)], torch.zeros(3, 2))


def test_pip_averages_the_best_cell_with_what_others_say_of_it() -> None:
    # In cells: 0 at (1.5, 1.25), 1 at (2.25, 3.5), 2 at (0.5, 0.5); 0 tells of 1, 1 of 0, 2 of 1.
    own, told = [[1.5, 1.25], [2.25, 3.5], [0.5, 0.5]], [[2.5, 3.0], [1.0, 1.0], [2.75, 3.1]]
    _, out = pip_answer([[1], [0], [1]], own, told)
    expected = torch.tensor([[1.25, 1.125], [2.5, 3.2], [0.5, 0.5]]) * 16 - 0.5
    torch.testing.assert_close(out.landmarks[0], expected)
    assert is_positive_definite(out.covariance)


def test_pip_learns_nothing_more_where_all_is_right() -> None:
    own = [[1.5, 1.25], [2.25, 3.5], [0.5, 0.5]]
    head, out = pip_answer([[1], [0], [1]], own, [own[1], own[0], own[1]])
    where = torch.tensor([own]) * 16 - 0.5
    truth = Truth(where, torch.ones(1, 3, dtype=torch.bool), LossConfig(), TermsConfig(terms=("pip",)), 64)
    torch.testing.assert_close(pip_term(head, out, truth), torch.zeros(1, 3), atol=1e-5, rtol=0)
    # Half a cell to the right, in the same cell: offsets of 0 and of its neighbour are wrong by .25 in the mean.
    moved = truth._replace(landmarks=where + torch.tensor([4.0, 0.0]) * torch.tensor([[[1.0], [0.0], [0.0]]]))
    found = pip_term(head, out, moved)[0].tolist()
    assert found == pytest.approx([0.125, 0.125, 0.0], abs=1e-5)
    # A label nobody gave is not told of.
    gone = truth._replace(labelled=torch.tensor([[False, True, True]]), landmarks=moved.landmarks)
    assert pip_term(head, out, gone)[0].tolist() == pytest.approx([0.125, 0.0, 0.0], abs=1e-5)
    # Scores: ten times one sixteenth for a cell that should be 1 and is 0.
    blank = out._replace(stages=(torch.zeros_like(out.stages[0]), *out.stages[1:]))
    assert pip_term(head, blank, truth)[0].tolist() == pytest.approx([10 / 16] * 3, abs=1e-5)


def test_pip_s_neighbours_count_by_their_weights() -> None:
    """Answers say that all lie in one place; the third lies half a cell to the right: 0.25, the mean of x and y."""
    head = PIPHead((4,), 16, 3, 64, 4, HeadConfig(kind="pip", neighbours=2), ())
    head.neighbours.copy_(torch.tensor([[1, 2], [0, 2], [0, 1]]))
    where = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [1.5, 1.0]]]) * 16 - 0.5
    stages = torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2, 6, 4, 4)
    terms = TermsConfig(terms=("pip",), pip_score=0.0)
    truth = Truth(where, torch.ones(1, 3, dtype=torch.bool), LossConfig(), terms, 64)
    for weights, expected in (
        ([1.0, 1.0, 1.0], [0.125, 0.125, 0.25]),
        ([1.0, 3.0, 1.0], [0.0625, 0.125, 0.25]),
        ([1.0, 1.0, 0.0], [0.0, 0.0, 0.25]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.25]),
    ):
        found = pip_term(head, DetectorOutput(where, stages=stages), truth._replace(weight=torch.tensor([weights])))
        assert found[0].tolist() == pytest.approx(expected)
    assert pip_term(head, DetectorOutput(where, stages=stages), truth)[0].tolist() == pytest.approx(
        [0.125, 0.125, 0.25]
    )


def test_pip_s_neighbours_are_the_nearest_of_the_mean_shape() -> None:
    model = make(config("pip"))
    learn_fpn(learning_of(model, (SCHEMA,), size=SIZE))
    head, shape = model.head, face(SCHEMA, SIZE)
    assert isinstance(head, PIPHead)
    for i in (0, 30, 67):
        apart = (shape - shape[i]).norm(dim=1)
        apart[i] = torch.inf
        assert set(head.neighbours[i].tolist()) == set(apart.argsort()[:10].tolist())


def test_simcc_s_rows_are_bins_of_half_a_pixel() -> None:
    model = make(config("simcc")).eval()
    with torch.no_grad():
        out: DetectorOutput = model(images(1, SIZE))
    assert [tuple(row.shape) for row in out.stages] == [(1, 68, 128), (1, 68, 128)]
    x = (out.stages[0].softmax(2) * (torch.arange(128) / 2 - 0.25)).sum(2)
    torch.testing.assert_close(out.landmarks[..., 0], x)


def test_neighbours_stay_those_that_the_weights_tell_of_where_a_training_starts_from_another(tmp_path: Path) -> None:
    """Of the same mark-up with another mean shape they came with the weights; of another mark-up both are new."""
    before = make(config("pip"))
    learn_fpn(learning_of(before, (SCHEMA,), size=SIZE))
    settled = before.head.neighbours.clone()
    save_model(tmp_path, before.state_dict(), {
        "kind": "detector", "model": "fpn", "network": {"width": 0.125}, "schema": SCHEMA.to_dict(), "data": [],
        "crop": {"size": SIZE},
    })  # fmt: skip
    mixed_up = face(SCHEMA, SIZE).numpy()[::-1].copy()
    for schema, kept in ((SCHEMA, True), (dataclasses.replace(SCHEMA, name="others"), False)):
        after = make(config("pip"))
        start_from(after, tmp_path, schema)
        learn_fpn(learning_of(after, (schema,), size=SIZE, mean_shapes=(mixed_up,)))
        assert torch.equal(after.head.neighbours, settled) == kept
        if not kept:
            fresh = make(config("pip"))
            fresh.head.settle(torch.as_tensor(mixed_up))
            assert torch.equal(after.head.neighbours, fresh.head.neighbours)
