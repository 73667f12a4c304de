"""Styles: clusters that find what was planted, the CycleGAN's terms by hand, and `train-styles` after a kill."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.tiny import drawn, metrics_of
from stylealign.batches.batch import to_float
from stylealign.batches.crops import CropCache
from stylealign.data.dataset import FaceDataset
from stylealign.data.image import image_size
from stylealign.detectors.resnet import ResNet18, ResNetConfig
from stylealign.detectors.san.cyclegan import (
    CycleGANConfig,
    Discriminator,
    Discriminators,
    Generator,
    GeneratorConfig,
    Generators,
    ImagePool,
    Translations,
    decayed,
    discriminator_loss,
    generator_terms,
)
from stylealign.detectors.san.photo_styles import pooled_features, standardised, style_clusters, style_statistics
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.jobs import train_styles
from stylealign.jobs.draw_faces import DrawFaces
from stylealign.jobs.draw_faces import main as draw_faces
from stylealign.jobs.train_styles import ClusterConfig, TrainStyles, choose_pair, find_clusters, load_styles, main
from stylealign.training.loop import LoopConfig
from stylealign.training.weights import read_card, read_tensors

LOOP = LoopConfig(
    steps=6, batch_size=2, log_every=1, checkpoint_every=2, preview_every=3, ema_decay=0.0, accelerator="cpu"
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    return drawn(tmp_path_factory.mktemp("data") / "drawn", count=40)


@pytest.fixture(scope="module")
def pictures(faces: FaceDataset) -> Tensor:
    return to_float(torch.from_numpy(CropCache(faces, CropConfig(size=32)).images.copy()))


# --------------------------------------------------------------------------------------------------------------------
# Clusters


def planted(pictures: Tensor) -> tuple[Tensor, np.ndarray]:
    """20 faces as they are, 13 at night, 7 out of focus and without colour: (pictures, which)."""
    which = np.repeat([0, 1, 2], [20, 13, 7])
    dark = (pictures + 1) * 0.2 - 1
    grey = (
        nn.functional.avg_pool2d(pictures, 7, 1, 3, count_include_pad=False)
        .mean(dim=1, keepdim=True)
        .expand_as(pictures)
    )
    choices = torch.stack([pictures, dark, grey])
    return choices[torch.as_tensor(which), torch.arange(40)], which


def test_planted_styles_are_found_smallest_first_and_the_same_every_time(pictures: Tensor) -> None:
    shown, which = planted(pictures)
    features = standardised(style_statistics(shown))
    found = style_clusters(features, 3, seed=0)
    assert [len(c) for c in found] == sorted(len(c) for c in found)
    assert sorted(np.concatenate(found).tolist()) == list(range(40))
    counts = np.array([np.bincount(which[c], minlength=3) for c in found])  # cluster x planted style
    night = counts[:, 1].argmax()
    assert counts[night, 1] == 13
    assert counts[night].sum() <= 15
    assert counts[:, 2].max() >= 6  # with the drawn faces that are out of focus anyway
    assert counts[:, 2].argmax() != night
    again = style_clusters(features, 3, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_pooled_features_are_the_network_s_own(pictures: Tensor) -> None:
    torch.manual_seed(0)
    network = ResNet18(1, 32, ResNetConfig(width=2, head="pool")).eval()
    with torch.no_grad():
        (found,) = pooled_features(network, pictures[:3])
        assert found.shape == (3, 16)
        torch.testing.assert_close(network.fc(found).view(3, 1, 2) * 2, network(pictures[:3]).landmarks)


def test_imagenet_weights_of_the_user_s_may_tell_styles_apart(faces: FaceDataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = ResNet18(1, 32, ResNetConfig(head="pool")).state_dict()
    del state["mean_shape"]
    torch.save(state, tmp_path / "resnet18.pth")
    cache, config = (
        CropCache(faces, CropConfig(size=32)),
        ClusterConfig(imagenet=tmp_path / "resnet18.pth", min_faces=1),
    )
    found = find_clusters(cache, config, 0, torch.device("cpu"))
    assert sorted(np.concatenate(found).tolist()) == list(range(40))
    other = find_clusters(cache, dataclasses.replace(config, imagenet=None), 0, torch.device("cpu"))
    assert [c.tolist() for c in found] != [c.tolist() for c in other]
    with pytest.raises(UserError, match="no such file"):
        find_clusters(cache, dataclasses.replace(config, imagenet=tmp_path / "none.pth"), 0, torch.device("cpu"))


def test_standardised_groups_weigh_the_same_and_constants_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    groups = [5 + 3 * torch.rand(50, 2, generator=rng), torch.rand(50, 10, generator=rng), torch.ones(50, 4)]
    columns = standardised(groups)
    assert columns.shape == (50, 12)
    np.testing.assert_allclose(columns.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose((columns[:, :2] ** 2).sum(axis=1).mean(), 1)
    np.testing.assert_allclose((columns[:, 2:] ** 2).sum(axis=1).mean(), 1)


def test_statistics_know_light_and_sharpness() -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32)).remainder(2).float().expand(1, 3, 32, 32) - 0.5
    colour, histograms, energy = style_statistics(torch.cat([board, 0 * board, 0 * board + 0.5]))
    assert colour[:, :3].tolist() == pytest.approx(np.array([[0.0] * 3, [0.0] * 3, [0.5] * 3]))
    torch.testing.assert_close(histograms.sum(dim=1), torch.full((3,), 3.0))  # three histograms of shares
    assert energy[0, 1] == pytest.approx(math.log(1.0))  # neighbours differ by 1
    assert energy[0, 4] == pytest.approx(math.log(1e-6))  # at half the size the board is plain


def test_the_pair_and_its_size(faces: FaceDataset) -> None:
    clusters = [np.arange(2), np.arange(2, 8), np.arange(8, 30)]
    a, b = choose_pair(clusters, ClusterConfig())
    assert (len(a), len(b)) == (2, 22)
    a, b = choose_pair(clusters, ClusterConfig(pair="two_largest"))
    assert (len(a), len(b)) == (6, 22)
    cache = CropCache(faces, CropConfig(size=32))
    with pytest.raises(UserError, match=r"40 faces make clusters of \d+, \d+, \d+; expected at least 30 in each"):
        find_clusters(cache, ClusterConfig(min_faces=30), 0, torch.device("cpu"))
    with pytest.raises(UserError, match="3 faces, of which 2 look different, for 3 clusters"):
        style_clusters(np.array([[0.0], [0.0], [1.0]]), 3, 0)
    with pytest.raises(ValueError, match="at least 2"):
        ClusterConfig(clusters=1)


# --------------------------------------------------------------------------------------------------------------------
# CycleGAN


def test_generator_and_discriminator_shapes() -> None:
    generator = Generator(GeneratorConfig(width=2, blocks=1))
    out = generator(torch.randn(2, 3, 32, 32) * 9)
    assert out.shape == (2, 3, 32, 32)
    assert float(out.detach().abs().max()) <= 1
    published = Generator(GeneratorConfig())
    assert sum(isinstance(m, nn.InstanceNorm2d) for m in published.modules()) == 3 + 2 * 6 + 2


@pytest.mark.parametrize(("layers", "patch"), [(1, 16), (2, 34), (3, 70)])
def test_a_discriminator_judges_patches_of_the_published_size(layers: int, patch: int) -> None:
    """One answer depends on the pixels of one patch: without normalisation, which looks at the whole picture."""
    torch.manual_seed(0)
    network = Discriminator(2, layers)
    for i, module in enumerate(network.layers):
        if isinstance(module, nn.InstanceNorm2d):
            network.layers[i] = nn.Identity()
    image = torch.zeros(1, 3, 128, 128, requires_grad=True)
    answer = network(image)
    answer[0, 0, answer.shape[2] // 2, answer.shape[3] // 2].backward()
    assert image.grad is not None
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == patch


def test_the_generators_pass_is_each_generator_s_own() -> None:
    torch.manual_seed(0)
    pair = Generators(GeneratorConfig(width=2, blocks=1)).eval()
    a, b = torch.rand(2, 3, 32, 32), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        made = pair(a, b)
        expected = Translations(pair.a(a), pair.b(b), pair.b(pair.a(a)), pair.a(pair.b(b)), pair.a(b), pair.b(a))
        torch.testing.assert_close(pair.aggregate(a), (pair.a(a) + pair.b(a)) / 2)
    for name, found, wanted in zip(Translations._fields, made, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5, msg=name)


def full(value: float) -> Tensor:
    return torch.full((2, 3, 4, 4), value)


def test_the_losses_by_hand() -> None:
    a, b = full(0.5), full(-0.5)
    made = Translations(full(0), full(0), back_a=full(0.3), back_b=full(0.1), same_b=full(-0.4), same_a=full(0.2))
    judged_a, judged_b = torch.tensor([0.0, 1.0]), torch.tensor([3.0])
    terms = generator_terms(made, a, b, judged_a, judged_b, CycleGANConfig())
    assert terms["adversarial"].item() == pytest.approx(0.5 + 4)
    assert terms["cycle"].item() == pytest.approx(10 * (0.2 + 0.6))
    assert terms["identity"].item() == pytest.approx(0.1 * 10 * (0.3 + 0.1))
    assert terms["total"].item() == pytest.approx(4.5 + 8 + 0.4)
    half = generator_terms(made, a, b, judged_a, judged_b, CycleGANConfig(cycle=5.0, identity=0.5))
    assert (half["cycle"].item(), half["identity"].item()) == pytest.approx((4.0, 1.0))
    assert discriminator_loss(torch.tensor([1.0, 0.0]), torch.tensor([2.0])).item() == (0.5 + 4) / 2


def test_the_learning_rate_stands_for_half_of_the_training_and_falls_to_nothing() -> None:
    factors = [decayed(step, 100) for step in range(101)]
    assert factors[:51] == [1.0] * 51
    assert factors[75] == pytest.approx(0.5)
    assert factors[100] == 0
    assert decayed(0, 1) == 1


def numbered(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def test_the_pool_fills_then_gives_back_an_old_one_every_other_time() -> None:
    torch.manual_seed(0)
    pool = ImagePool(4, 2)
    assert torch.equal(pool.exchange(numbered(1, 2, 3)), numbered(1, 2, 3))
    assert int(pool.count) == 3
    pool.exchange(numbered(4))
    assert torch.equal(pool.images, numbered(1, 2, 3, 4))
    old = 0
    for value in range(5, 405):
        held = set(pool.images[:, 0, 0, 0].tolist())
        out = float(pool.exchange(numbered(value))[0, 0, 0, 0])
        now = set(pool.images[:, 0, 0, 0].tolist())
        if out == value:
            assert now == held  # passed by
        else:
            assert out in held  # an old one, whose place it took
            assert now == held - {out} | {float(value)}
            old += 1
    assert 160 <= old <= 240
    assert int(pool.count) == 4
    fakes = numbered(7.0, 8.0).clone().requires_grad_()
    assert not pool.exchange(fakes).requires_grad
    assert torch.equal(ImagePool(0, 2).exchange(numbered(7, 8)), numbered(7, 8))


def test_a_pool_is_its_state_and_the_global_generator() -> None:
    pools = [ImagePool(3, 2), ImagePool(3, 2)]
    torch.manual_seed(1)
    pools[0].exchange(numbered(1, 2, 3, 4))
    pools[1].load_state_dict(pools[0].state_dict())
    outs = []
    for pool in pools:
        torch.manual_seed(2)
        outs.append(pool.exchange(numbered(5, 6, 7, 8)))
    assert torch.equal(*outs)
    assert torch.equal(pools[0].images, pools[1].images)


# --------------------------------------------------------------------------------------------------------------------
# The job


def job(run: Path, faces: FaceDataset, **changes: Any) -> TrainStyles:
    given = {
        "data": faces.folder, "run": run, "split": None, "crop": CropConfig(size=32), "loop": LOOP,
        "styles": ClusterConfig(min_faces=2),
        "generator": GeneratorConfig(width=2, blocks=1),
        "cyclegan": CycleGANConfig(discriminator_width=2, discriminator_layers=1, pool=3), **changes,
    }  # fmt: skip
    return TrainStyles(**given)


@pytest.fixture(scope="module")
def trained(faces: FaceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "styles"
    main(job(run, faces))
    return run


def test_a_run_leaves_generators_that_open_and_its_pictures(trained: Path, faces: FaceDataset) -> None:
    card = read_card(trained, "styles")
    assert (card["model"], card["step"], card["network"]) == ("cyclegan", 6, {"width": 2, "blocks": 1})
    assert len(card["clusters"]) == 3
    assert sum(card["clusters"]) == len(faces)
    assert card["pair"] == [card["clusters"][0], card["clusters"][2]]
    assert sorted(p.name for p in (trained / "previews").iterdir()) == [
        "clusters.png",
        "step_00000003.png",
        "step_00000006.png",
    ]
    width, height = image_size(trained / "previews" / "step_00000006.png")
    assert width >= 4 * 32  # a row: the face, G_A, G_B, aggregated
    assert height >= 8 * 32
    generators, _ = load_styles(trained)
    assert not generators.training
    assert not any(p.requires_grad for p in generators.parameters())
    torch.manual_seed(LOOP.seed)
    fresh = Generators(GeneratorConfig(width=2, blocks=1))
    assert not torch.equal(fresh.a.layers[1].weight, generators.a.layers[1].weight)
    first = metrics_of(trained)[0]
    assert {"adversarial", "cycle", "identity", "total", "discriminator_a", "discriminator_b"} <= set(first)
    with pytest.raises(UserError, match=r"no such run"):
        load_styles(trained.with_name("nothing"))


def test_a_finished_run_is_left_alone(trained: Path, faces: FaceDataset, capsys: pytest.CaptureFixture[str]) -> None:
    main(job(trained, faces))
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_stopped_run_continued_ends_in_the_same_bytes(
    ema_decay: float, faces: FaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = dataclasses.replace(LOOP, ema_decay=ema_decay, preview_every=0)
    main(job(tmp_path / "whole", faces, loop=loop))
    terms: Callable[..., Any] = train_styles.generator_terms
    calls = []

    def stop_in_the_fourth_update(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return terms(*given)

    with monkeypatch.context() as patch:
        patch.setattr(train_styles, "generator_terms", stop_in_the_fourth_update)
        with pytest.raises(KeyboardInterrupt):
            main(job(tmp_path / "killed", faces, loop=loop))
    assert not (tmp_path / "killed").exists()
    main(job(tmp_path / "killed", faces, loop=loop))
    assert metrics_of(tmp_path / "killed") == metrics_of(tmp_path / "whole")
    for name in (
        "model.safetensors",
        "checkpoints/step_00000006/train_state.safetensors",
    ):  # the pools are in the second
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_discriminators_stand_still_for_the_generators_step_and_both_learn(faces: FaceDataset, tmp_path: Path) -> None:
    torch.manual_seed(LOOP.seed)
    config = job(tmp_path / "run", faces, loop=dataclasses.replace(LOOP, steps=1))
    main(config)
    torch.manual_seed(LOOP.seed)
    Generators(config.generator)
    fresh = Discriminators(config.cyclegan).a.layers[0].weight
    state = read_tensors(tmp_path / "run" / "checkpoints" / "step_00000001" / "train_state.safetensors")
    learnt = state["/modules/discriminators/a.layers.0.weight"]
    # Adam's first step is the learning rate wherever there is a gradient: one step, not two.
    torch.testing.assert_close((learnt - fresh).abs().detach(), torch.full_like(fresh, 2e-4), atol=1e-5, rtol=0)


def test_unlabelled_faces_serve_too(tmp_path: Path) -> None:
    draw_faces(DrawFaces(out=tmp_path / "faces", count=1, unlabelled=9, size=32, val_frac=0, test_frac=0, png=True))
    unlabelled = FaceDataset.open(tmp_path / "faces")
    styles = ClusterConfig(clusters=2, min_faces=1)
    main(job(tmp_path / "run", unlabelled, split="train", styles=styles, loop=dataclasses.replace(LOOP, steps=1)))
    assert sum(read_card(tmp_path / "run", "styles")["clusters"]) == 10
