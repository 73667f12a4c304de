"""The style-aggregated network: its targets, loss and decoding by hand, what its streams
share, and what never learns."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.dots import dots
from builders.networks import learning_of
from builders.tiny import detector_job, metrics_of
from stylealign.batches.augment import NO_AUGMENTATION
from stylealign.batches.crops import CropCache
from stylealign.data.dataset import FaceDataset
from stylealign.detectors.heatmap import decode, map_loss, map_weights, target_maps
from stylealign.detectors.learning import Learner
from stylealign.detectors.san import network as san_module
from stylealign.detectors.san.cyclegan import CycleGANConfig, GeneratorConfig, Generators
from stylealign.detectors.san.network import SAN, SANConfig, learn_san, load_vgg, parameter_groups
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.jobs import train_styles as styles_job
from stylealign.jobs.train_detector.job import TrainDetector, fill_generators
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_styles import AuxiliaryStyles, ClusterConfig, TrainStyles
from stylealign.jobs.train_styles import main as train_styles
from stylealign.predicting.on_datasets import answer_dataset
from stylealign.training.loop import LoopConfig
from stylealign.training.optim import OptimizerConfig, set_lr
from stylealign.training.weights import read_card

GENERATOR = GeneratorConfig(width=2, blocks=1)
TINY = SANConfig(generator=GENERATOR, width=2, features=4, hidden=4, top=4, kernel=3)
LOOP = LoopConfig(steps=4, batch_size=4, accelerator="cpu", preview_every=0)


def network(num_points: int = 5, size: int = 32, **changes: Any) -> SAN:
    torch.manual_seed(0)
    given = {"generator": GENERATOR, "width": 2, "features": 4, "hidden": 4, "top": 4, "kernel": 3, **changes}
    return SAN(num_points, size, SANConfig(**given))


def images(num: int = 4, size: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.rand(num, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --------------------------------------------------------------------------------------------------------------------
# Targets, loss, decoding


def test_a_target_by_hand() -> None:
    maps = target_maps(torch.tensor([[[11.5, 3.5], [12.5, 3.5]]]), 4, 8, 4.0)  # centres of cells: 3.5, 11.5, 19.5, 27.5
    assert maps.shape == (1, 3, 4, 4)
    first = maps[0, 0]
    assert first[0, 1] == 1
    assert float(first[0, 2]) == pytest.approx(math.exp(-64 / 32))  # 8 px to the right; row is y, column is x
    assert float(first[1, 2]) == pytest.approx(math.exp(-128 / 32))
    assert float(first[1, 1]) == pytest.approx(math.exp(-2))
    assert first[0, 3] == 0  # exp(-8) is below 0.01
    assert float(maps[0, 1, 0, 1]) == pytest.approx(math.exp(-1 / 32))
    torch.testing.assert_close(maps[0, 2], 1 - torch.maximum(maps[0, 0], maps[0, 1]))


def test_values_below_a_hundredth_are_zero_and_nothing_else_is() -> None:
    maps = target_maps(torch.tensor([[[15.0, 17.0]]]), 32, 1, 4.0)[0, 0]
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    plain = torch.exp(-((x - 15) ** 2 + (y - 17) ** 2) / 32)
    torch.testing.assert_close(maps, torch.where(plain < 0.01, 0.0, plain))
    assert float(maps[maps > 0].min()) >= 0.01


def test_unlabelled_landmarks_have_no_part_in_the_background_nor_in_the_loss() -> None:
    nan = math.nan
    landmarks = torch.tensor([[[9.0, 9.0], [nan, nan]], [[nan, nan], [nan, nan]], [[9.0, 9.0], [20.0, 20.0]]])
    maps = target_maps(landmarks, 8, 4, 2.0)
    assert torch.isfinite(maps).all()
    torch.testing.assert_close(maps[0, 2], 1 - maps[0, 0])
    visible = torch.tensor([[True, True], [True, True], [True, False]])
    weights = map_weights(landmarks, visible, torch.tensor([1.0, 1.0, 2.0]), 0.25)
    assert weights.tolist() == [[1, 0, 1], [0, 0, 0], [2, 0.5, 2]]
    assert map_weights(landmarks, visible, torch.ones(3), 0.0)[2].tolist() == [1, 0, 1]  # the published mask


def test_the_loss_by_hand() -> None:
    maps, target = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    maps[0, 0, 0, 0], maps[0, 1] = 3.0, 1.0  # squares 9 and 4 x 1
    maps[1, 2, 1, 1] = -2.0  # square 4
    weights = torch.tensor([[1.0, 0.5, 1], [1, 1, 1]])
    assert float(map_loss(maps, target, weights, torch.ones(2))) == (9 + 0.5 * 4 + 4) / (2 * 2)
    assert float(map_loss(maps, target, 3 * weights, 3 * torch.ones(2))) == (9 + 0.5 * 4 + 4) / (2 * 2)


def decode_slowly(maps: np.ndarray, stride: int, radius: int, floor: float) -> np.ndarray:
    """One map at a time, cell by cell."""
    found = np.zeros((*maps.shape[:2], 2))
    height, width = maps.shape[2:]
    for b, p in np.ndindex(*maps.shape[:2]):
        top = maps[b, p].argmax()
        cy, cx = top // width, top % width
        total = sx = sy = 0.0
        for y in range(max(0, cy - radius), min(height, cy + radius + 1)):
            for x in range(max(0, cx - radius), min(width, cx + radius + 1)):
                if (value := float(maps[b, p, y, x])) > floor:
                    total, sx, sy = total + value, sx + value * x, sy + value * y
        place = (sx / total, sy / total) if total > 0 else (float(cx), float(cy))
        found[b, p] = [v * stride + (stride - 1) / 2 for v in place]
    return found


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6), height=st.integers(1, 9), width=st.integers(1, 9), radius=st.integers(1, 4),
    stride=st.sampled_from([1, 4, 8]), lift=st.sampled_from([-2.0, -0.3, 0.0]), floor=st.sampled_from([0.0, 0.1]),
)  # fmt: skip
def test_decoding_is_what_a_loop_over_cells_finds(
    seed: int, height: int, width: int, radius: int, stride: int, lift: float, floor: float
) -> None:
    maps = np.random.default_rng(seed).random((2, 3, height, width)).astype(np.float32) + np.float32(lift)
    found = decode(torch.from_numpy(maps), stride, radius, floor)
    np.testing.assert_allclose(found.numpy(), decode_slowly(maps, stride, radius, floor), atol=1e-3)


def test_decoding_half_way_between_cells_at_the_border_and_of_an_empty_map() -> None:
    maps = torch.zeros(1, 4, 8, 8)
    maps[0, 0, 2, 3] = maps[0, 0, 2, 4] = 0.7  # half-way along x
    maps[0, 1, 0, 7] = 1.0  # a corner: the patch is cut
    maps[0, 2] = -1.0
    maps[0, 2, 5, 6] = -0.5  # nothing above 0: the cell of the maximum
    maps[0, 3, 0, 0], maps[0, 3, 7, 7] = 1.0, 0.9  # a second bump beyond the patch does not pull
    expected = torch.tensor([[[15.5, 9.5], [29.5, 1.5], [25.5, 21.5], [1.5, 1.5]]])
    torch.testing.assert_close(decode(maps, 4), expected)


@pytest.mark.parametrize(("sigma", "most"), [(0.5, 0.06), (1.0, 0.02)])
def test_a_landmark_comes_back_from_its_own_target_to_a_fraction_of_a_cell(sigma: float, most: float) -> None:
    landmarks = 16 + 32 * torch.rand(1, 200, 2, generator=torch.Generator().manual_seed(0))
    found = decode(target_maps(landmarks, 16, 4, 4 * sigma)[:, :-1], 4)
    assert float((found - landmarks).norm(dim=-1).mean()) / 4 < most  # mean error in cells


# --------------------------------------------------------------------------------------------------------------------
# The network


@pytest.mark.parametrize(("size", "stride"), [(32, 4), (48, 4), (64, 4), (128, 8)])
@pytest.mark.parametrize("aggregate", [True, False])
def test_shapes(size: int, stride: int, aggregate: bool) -> None:
    model = network(size=size, aggregate=aggregate).eval()
    out = model(images(1, size))
    side = size // stride
    assert out.landmarks.shape == (1, 5, 2)
    assert out.landmarks.dtype == torch.float32
    assert out.heatmaps is not None
    assert out.heatmaps.shape == (1, 5, side, side)
    assert [s.shape for s in out.stages] == [(1, 6, side, side)] * (4 if aggregate else 3)
    assert torch.equal(out.stages[-1][:, :-1], out.heatmaps)
    assert torch.equal(decode(out.heatmaps, stride), out.landmarks)
    assert ("generators" in dict(model.named_children())) == aggregate


def test_a_side_without_whole_cells_is_refused() -> None:
    with pytest.raises(UserError, match="100 px"):
        network(size=100, stride=8)
    with pytest.raises(ValueError, match="odd"):
        SANConfig(kernel=4)


def test_a_batch_answers_as_single_faces_do_and_twice_the_same() -> None:
    model = network().eval()
    faces = images(8)
    together = model(faces)
    singles = [model(face[None]) for face in faces]
    torch.testing.assert_close(together.landmarks, torch.cat([s.landmarks for s in singles]), atol=2e-3, rtol=0)
    torch.testing.assert_close(together.heatmaps, torch.cat([s.heatmaps for s in singles]), atol=1e-5, rtol=1e-4)
    assert torch.equal(together.landmarks, model(faces).landmarks)


def test_the_aggregated_image_is_the_mean_of_the_two_generators() -> None:
    model = network().eval()
    faces = images()
    assert model.generators is not None
    looks = model.looks(faces)
    assert torch.equal(looks[:4], faces)
    torch.testing.assert_close(looks[4:], (model.generators.a(faces) + model.generators.b(faces)) / 2)
    assert float((model.generators.a(faces) - model.generators.b(faces)).detach().abs().max()) > 1e-3


def test_both_looks_go_through_the_same_weights() -> None:
    """Where the generators change nothing both streams answer alike, and go on doing so whatever
    happens to a weight they share."""
    model = network().eval()
    model.looks = lambda image: torch.cat([image, image])  # type: ignore[method-assign]
    before = model(images()).stages
    assert torch.equal(before[0], before[1])
    for part in (model.features, model.narrow, model.stage1):
        with torch.no_grad():
            part[0].weight += 0.05
        after = model(images()).stages
        assert torch.equal(after[0], after[1])
        assert not torch.allclose(after[0], before[0], atol=1e-6)
        before = after


def test_each_stage_sees_what_it_should() -> None:
    """Stage 2: both looks' features and stage-1 maps. Stage 3: both features and stage 2's maps, not stage 1's."""
    f, maps = 4, 6
    model = network()
    assert model.stage2[0].in_channels == 2 * f + 2 * maps
    assert model.stage3[0].in_channels == 2 * f + maps
    alone = network(aggregate=False)
    assert (alone.stage2[0].in_channels, alone.stage3[0].in_channels) == (f + maps, f + maps)
    kernels = [m.kernel_size[0] for m in network(kernel=7).stage2 if isinstance(m, torch.nn.Conv2d)]
    assert kernels == [7, 7, 7, 3, 3, 3, 3, 1, 1]
    assert [m.kernel_size[0] for m in model.stage1 if isinstance(m, torch.nn.Conv2d)] == [3, 3, 3, 3, 1, 1]


def test_the_published_shape() -> None:
    model = SAN(68, 128, SANConfig(batch_norm=False))
    convolutions = [m for m in model.features if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512]
    assert [i for i, m in enumerate(model.features) if isinstance(m, torch.nn.Conv2d)] == [
        0,
        2,
        5,
        7,
        10,
        12,
        14,
        17,
        19,
        21,
    ]
    assert [m.out_channels for m in model.narrow if isinstance(m, torch.nn.Conv2d)] == [256, 128]
    assert model.stage1[-3].out_channels == 512
    assert model.stride == 8


def test_every_trained_parameter_gets_a_finite_gradient_and_the_generators_none() -> None:
    model = network().train()
    out = model(images())
    target = model.targets(torch.rand(4, 5, 2) * 32)
    torch.stack([map_loss(s, target, torch.ones(4, 6), torch.ones(4)) for s in out.stages]).sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("generators."):
            assert not parameter.requires_grad
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    assert model.generators is not None
    assert model.training
    assert not any(m.training for m in model.generators.modules())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_imagenet_weights_answer_as_they_were_trained_to(batch_norm: bool) -> None:
    """On (x - mean) / std of [0, 1] values a VGG of torchvision's makes what ours makes of [-1, 1]
    values, away from the border."""
    donor, model = network(batch_norm=batch_norm, width=3), network(batch_norm=batch_norm, width=3).eval()
    state = {
        f"features.{k}": torch.rand_like(v) if v.is_floating_point() else v
        for k, v in donor.features.state_dict().items()
    }
    donor.features.load_state_dict({k.removeprefix("features."): v for k, v in state.items()})
    load_vgg(model, {**state, "classifier.0.weight": torch.zeros(3)}, "vgg.pth")
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    faces = images(2)
    theirs = donor.eval().features[:2]((faces / 2 + 0.5 - mean) / std)
    torch.testing.assert_close(
        model.features[:2](faces)[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-4, rtol=1e-4
    )
    with pytest.raises(UserError, match=r"features\.0\.weight.*width 64"):
        load_vgg(network(batch_norm=batch_norm), state, "vgg.pth")


# --------------------------------------------------------------------------------------------------------------------
# How it learns


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return dots(tmp_path_factory.mktemp("data") / "dots", count=16)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEALIGN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


SMALL_STYLES = AuxiliaryStyles(
    steps=2,
    batch_size=2,
    styles=ClusterConfig(clusters=2, min_faces=1),
    cyclegan=CycleGANConfig(discriminator_width=2, discriminator_layers=1),
)


def learner(
    faces: FaceDataset, folder: Path, san: SANConfig = TINY, styles: Path | None = None, loop: LoopConfig = LOOP,
    **changes: Any
) -> tuple[SAN, Learner]:  # fmt: skip
    """A SAN with its generators, from a run or trained here, as `train-detector` gives
    them, and its way of learning."""
    torch.manual_seed(0)
    model = SAN(5, 32, san)
    config = TrainDetector(
        run=folder, model="san", san=san, styles=styles, san_styles=SMALL_STYLES, loop=loop, real=faces.folder,
        crop=CropConfig(size=32), augment=NO_AUGMENTATION,
    )  # fmt: skip
    fill_generators(config, model, faces.select("train"), folder)
    options = {"weight_decay": 0.05, "mean_shapes": (np.zeros((5, 2)),), **changes}
    return model, learn_san(
        learning_of(model, (faces.schema,), steps=loop.steps, batch_size=loop.batch_size, **options)
    )


def test_training_moves_the_detector_and_never_the_generators(
    faces: FaceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, learnt = learner(faces, tmp_path)
    said = capsys.readouterr().err
    assert "starts from nothing" in said
    assert (tmp_path / "styles" / "card.json").exists()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    cache = CropCache(faces, CropConfig(size=32))
    assert model.generators is not None
    trained = Generators(GENERATOR).state_dict()
    assert any(not torch.equal(v, trained[k]) for k, v in model.generators.state_dict().items())
    for module in learnt.modules.values():
        module.train()
    for step in range(3):
        terms = learnt.update((cache.batch(np.arange(4)),), step)
        assert set(terms) == {"total", "original", "aggregated", "stage2", "stage3", "error_px"}
        parts = [value.item() for name, value in terms.items() if name not in ("total", "error_px")]
        assert terms["total"].item() == pytest.approx(sum(parts), rel=1e-5)
    for key, value in model.state_dict().items():
        if key.startswith("generators."):
            assert torch.equal(value, before[key]), key
        elif key.endswith("weight"):
            assert not torch.equal(value, before[key]), key

    # The same folder again, as after a kill: the generators are found, not trained anew.
    stamp = (tmp_path / "styles" / "card.json").stat().st_mtime_ns
    again, _ = learner(faces, tmp_path)
    assert (tmp_path / "styles" / "card.json").stat().st_mtime_ns == stamp
    assert torch.equal(again.generators.a.layers[1].weight, model.generators.a.layers[1].weight)  # type: ignore[union-attr]

    # Given as a run; of another shape, refused.
    given, _ = learner(faces, tmp_path / "elsewhere", styles=tmp_path / "styles")
    assert torch.equal(given.generators.b.layers[1].weight, model.generators.b.layers[1].weight)  # type: ignore[union-attr]
    assert not (tmp_path / "elsewhere").exists()
    wider = SANConfig(generator=GeneratorConfig(width=3, blocks=1), width=2, features=4, hidden=4, top=4, kernel=3)
    with pytest.raises(UserError, match=r"blocks 1 and width 2, this detector's 1 and 3; give --san.generator.width 2"):
        learner(faces, tmp_path / "wider", wider, styles=tmp_path / "styles")


def test_the_cascade_learns_dots(faces: FaceDataset, tmp_path: Path) -> None:
    config = SANConfig(aggregate=False, width=4, features=8, hidden=8, top=16, kernel=3, sigma=1 / 8)
    loop = LoopConfig(steps=30, batch_size=8, accelerator="cpu")
    model, learnt = learner(faces, tmp_path, config, loop=loop, lr=3e-2)
    batch = CropCache(faces, CropConfig(size=32)).batch(np.arange(8))
    model.train()
    terms = [learnt.update((batch,), step) for step in range(30)]
    assert terms[-1]["total"].item() < terms[0]["total"].item() / 3
    assert terms[-1]["error_px"].item() < terms[0]["error_px"].item() / 2


def test_sgd_has_the_published_multiples_and_adamw_none(faces: FaceDataset, tmp_path: Path) -> None:
    plain = SANConfig(aggregate=False, width=2, features=4, hidden=4, top=4, kernel=3, batch_norm=False)
    model, learnt = learner(faces, tmp_path, plain, optimizer=OptimizerConfig(kind="sgd"), lr=1.0, weight_decay=0.5)
    groups = learnt.optimizers["model"].param_groups
    set_lr(learnt.optimizers["model"], 1.0)
    got = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    expected = {
        id(p): ((4.0 if name.startswith(("stage2", "stage3")) else 1.0) * (2.0 if name.endswith("bias") else 1.0),
            0.0 if name.endswith("bias") else 0.5)
        for name, p in model.named_parameters()
    }  # fmt: skip
    assert got == expected
    assert all(g["nesterov"] for g in groups)
    _, learnt = learner(faces, tmp_path, plain)
    assert not any("lr_scale" in g for g in learnt.optimizers["model"].param_groups)


def test_groups_hold_every_trained_parameter_once() -> None:
    model = network()
    listed = [id(p) for g in parameter_groups(model, 0.1) for p in g["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_a_run_of_another_kind_is_refused(faces: FaceDataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "card.json").write_text('{"kind": "detector"}')
    with pytest.raises(UserError, match="holds a detector, expected a styles"):
        learner(faces, tmp_path / "x", styles=tmp_path / "run")


def test_too_few_faces_are_a_sentence(faces: FaceDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"faces make clusters of .*expected at least 8"):
        train_styles(TrainStyles(data=faces.folder, run=tmp_path / "run", crop=CropConfig(size=32), loop=LOOP))


def test_the_job_killed_twice_ends_in_the_same_bytes_and_one_file_predicts(
    faces: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While its generators are trained, and while it is trained itself."""
    loop = {"steps": 4, "checkpoint_every": 2, "preview_every": 0}
    given: dict[str, Any] = {"model": "san", "san": TINY, "san_styles": SMALL_STYLES, "loop": loop}
    train_detector(detector_job(tmp_path / "whole", faces.folder, **given))

    def failing_at(call: int, function: Any) -> Any:
        calls = []

        def wrapped(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return function(*arguments)

        return wrapped

    killed = detector_job(tmp_path / "killed", faces.folder, **given)
    for module, name, call in ((styles_job, "generator_terms", 2), (san_module, "map_loss", 13)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failing_at(call, getattr(module, name)))
            with pytest.raises(KeyboardInterrupt):
                train_detector(killed)
        assert not (tmp_path / "killed").exists()
    train_detector(killed)
    for name in ("model.safetensors", "styles/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")

    (seen,) = read_card(tmp_path / "whole" / "styles", "styles")["data"]
    assert (seen["split"], seen["faces"]) == ("train", len(faces.select("train")))
    shutil.rmtree(tmp_path / "whole" / "styles")  # the generators are in the model's own file
    found = answer_dataset(tmp_path / "whole", faces).landmarks
    assert found.shape == (16, 5, 2)
    assert np.isfinite(found).all()
