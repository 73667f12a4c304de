"""The translators `spade` and `bilateral`: what they compute by hand-worked cases, what training and `generate` make of them."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.dots import PLACES, dots, paint
from builders.tiny import detector_job, metrics_of, translator_job, tree
from stylealign.batches.batch import Batch, to_float
from stylealign.batches.structure_maps import StructureConfig, structure_maps
from stylealign.data.dataset import FaceDataset
from stylealign.detectors.output import DetectorOutput
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE, IBUG68, LandmarkSchema
from stylealign.jobs.generate.job import Generate
from stylealign.jobs.generate.job import main as generate
from stylealign.jobs.train_detector.job import main as train_detector
from stylealign.jobs.train_translator.job import TrainTranslator, main
from stylealign.styling.learned import translator_arm
from stylealign.training.weights import read_card
from stylealign.translators import TRANSLATORS
from stylealign.translators.base import LoadedTranslator
from stylealign.translators.bilateral import learning as bilateral_learning
from stylealign.translators.bilateral.learning import (
    BilateralLearningConfig,
    grid_roughness,
    region_statistics,
    smoothed_points,
)
from stylealign.translators.bilateral.network import (
    Bilateral,
    BilateralConfig,
    LoadedBilateral,
    apply_affine,
    fineness,
    gaussian_blur,
    identity_grid,
    luma,
    noise_fields,
    slice_grid,
)
from stylealign.translators.codes import CodeConfig, code_distance, forget_regions, roll
from stylealign.translators.learning import FrozenLandmarks, landmark_drift
from stylealign.translators.loaded import load_translator
from stylealign.translators.patches import PatchDiscriminator, hinge_discriminator, hinge_generator
from stylealign.translators.regions import REGIONS, pool, region_masks, spread
from stylealign.translators.spade import learning as spade_learning
from stylealign.translators.spade.learning import SpadeLearningConfig
from stylealign.translators.spade.network import LoadedSpade, Spade, SpadeConfig
from stylealign.translators.swapping import swap_matrix

SIZE = 16
CODES = CodeConfig(width=4, max_width=8, global_size=6, region_size=3)
NETWORKS = {
    "spade": SpadeConfig(codes=CODES, width=4, max_width=8, hidden=4),
    "bilateral": BilateralConfig(codes=CODES, grid=4, bins=2, width=4, max_width=8),
}
FACE = torch.tensor([[10.0, 10], [22, 10], [16, 15], [12, 22], [20, 22]])  # eyes, nose, mouth


# --------------------------------------------------------------------------------------------------------------------
# Regions and codes


def region_at(masks: Tensor, x: int, y: int) -> dict[str, float]:
    return {name: round(float(masks[0, i, y, x]), 4) for i, name in enumerate(REGIONS) if masks[0, i, y, x] > 1e-4}


def test_regions_lie_where_the_landmarks_say() -> None:
    """The box of FACE is x 10..22, y 10..22; a fifth of its height more for the forehead gives an ellipse round (16, 14.8), radii 6 and 7.2."""
    masks = region_masks(FACE[None], 32, FIVE)
    assert masks.shape == (1, 6, 32, 32)
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(1, 32, 32))
    assert region_at(masks, 10, 10) == {"eyes": 1.0}
    assert region_at(masks, 20, 22) == {"mouth": 1.0}
    assert region_at(masks, 16, 15) == {"skin": 1.0}
    assert region_at(masks, 16, 5) == {"hair": 1.0}  # 1.36 radii up: outside the face, inside 1.6
    assert region_at(masks, 16, 31) == {"background": 1.0}
    assert masks[0, REGIONS.index("brows")].max() == 0  # five points name no brows


def test_regions_turn_with_the_face() -> None:
    turned = torch.stack([31 - FACE[:, 1], FACE[:, 0]], dim=1)  # a quarter turn clockwise
    expected = torch.rot90(region_masks(FACE[None], 32, FIVE), -1, (2, 3))
    torch.testing.assert_close(region_masks(turned[None], 32, FIVE), expected, atol=1e-5, rtol=0)


def test_a_face_nobody_has_labelled_has_no_regions_and_disturbs_no_other() -> None:
    unknown = FACE.clone()
    unknown[2, 0] = float("nan")
    masks = region_masks(torch.stack([unknown, FACE]), 32, FIVE)
    assert masks[0].abs().max() == 0
    torch.testing.assert_close(masks[1:], region_masks(FACE[None], 32, FIVE))


def test_codes_are_pooled_from_their_region_and_laid_down_on_it() -> None:
    left = torch.zeros(1, 3, 4, 4)
    left[:, 0, :, :2] = 1
    left[:, 1, :, 2:] = 1  # the third region is empty
    features = torch.tensor([[[[1.0, 2], [3, 4]]]])
    codes = pool(features, left)
    torch.testing.assert_close(codes, torch.tensor([[[2.0], [3.0], [0.0]]]))
    torch.testing.assert_close(spread(codes, left, 2), torch.tensor([[[[2.0, 3], [2, 3]]]]))


def test_forgetting_takes_regional_codes_only() -> None:
    torch.manual_seed(0)
    style = [torch.ones(200, 2), torch.ones(200, 6, 3)]
    forgotten = forget_regions(style, 0.25)
    assert torch.equal(forgotten[0], style[0])
    kept = forgotten[1].flatten(1)
    assert set(kept.sum(dim=1).tolist()) == {0.0, 18.0}  # a face's codes together or not at all
    assert 25 <= int((kept[:, 0] == 0).sum()) <= 75


def test_lines_and_points_are_both_in_the_combined_structure_map() -> None:
    face = torch.rand(2, 68, 2) * 20 + 6
    maps = structure_maps(face, 32, "boundaries_points", IBUG68)
    assert maps.shape == (2, len(IBUG68.boundaries) + 1, 32, 32)
    assert torch.equal(maps[:, :-1], structure_maps(face, 32, "boundaries", IBUG68))
    assert torch.equal(maps[:, -1], structure_maps(face, 32, "points", IBUG68)[:, 0])


# --------------------------------------------------------------------------------------------------------------------
# The bilateral grid


def test_a_constant_grid_is_one_affine_map_and_the_identity_grid_changes_nothing() -> None:
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    affine = torch.randn(3, 4)
    grid = affine.reshape(1, 12, 1, 1, 1).expand(2, 12, 3, 4, 4)
    expected = torch.einsum("ck,bkhw->bchw", affine[:, :3], image) + affine[:, 3].view(1, 3, 1, 1)
    torch.testing.assert_close(apply_affine(image, slice_grid(grid, luma(image))), expected)
    identity = identity_grid(BilateralConfig(grid=4, bins=3), image).expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(apply_affine(image, slice_grid(identity, luma(image))), image)


def test_the_grid_is_looked_up_by_place_and_by_lightness() -> None:
    """Two cells over four pixels have their centres at 0.5 and 2.5; two bins over [-1, 1] have theirs at -0.5 and 0.5."""
    columns = torch.tensor([0.0, 1.0]).view(1, 1, 1, 1, 2).expand(1, 1, 2, 2, 2)
    by_x = slice_grid(columns, torch.zeros(1, 1, 4, 4))
    torch.testing.assert_close(by_x, torch.tensor([0.0, 0.25, 0.75, 1.0]).expand(1, 1, 4, 4))
    by_y = slice_grid(columns.transpose(3, 4), torch.zeros(1, 1, 4, 4))
    torch.testing.assert_close(by_y, by_x.transpose(2, 3))
    bins = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 2, 2)
    guide = torch.tensor([-1.0, -0.5, 0.25, 0.9]).expand(1, 1, 4, 4)
    torch.testing.assert_close(slice_grid(bins, guide), torch.tensor([0.0, 0.0, 0.75, 1.0]).expand(1, 1, 4, 4))


def test_lightness_is_that_of_a_grey_picture_and_weighs_green_most() -> None:
    torch.testing.assert_close(luma(torch.full((1, 3, 2, 2), 0.3)), torch.full((1, 1, 2, 2), 0.3))
    assert [round(float(luma(c[None, :, None, None])), 3) for c in torch.eye(3)] == [0.299, 0.587, 0.114]


def test_blur_has_the_spread_it_is_asked_for_a_face_each_and_a_gradient() -> None:
    dot = torch.zeros(2, 1, 33, 33)
    dot[:, :, 16, 16] = 1
    sigma = torch.tensor([2.0, 0.25], requires_grad=True)
    blurred = gaussian_blur(dot, sigma, 8)
    offset = torch.arange(33.0) - 16
    along = blurred[0, 0].sum(dim=0)
    assert float((along * offset).sum().detach()) == pytest.approx(0, abs=1e-5)
    assert float((along * offset**2).sum().detach()) == pytest.approx(4, rel=2e-3)  # cut at 4 sigma
    # The least blur is none that 8 bits show: four neighbours of e^-8 each.
    torch.testing.assert_close(blurred[1], dot[1], atol=1.4e-3, rtol=0)
    blurred[0, 0, 16, 16].backward()
    assert sigma.grad is not None
    assert sigma.grad[0] < 0


def test_fineness_tells_blur_from_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    edge = torch.full((1, 3, 64, 64), -0.5)
    edge[..., 32:] = 0.5
    soft = gaussian_blur(edge, torch.tensor([1.5]), 6)
    noisy = edge + 0.1 * torch.randn(1, 1, 64, 64, generator=generator)
    sharp, blurred, noise = (fineness(image)[0].view(3, 2) for image in (edge, soft, noisy))
    assert blurred[0, 0] < sharp[0, 0] + np.log(0.5)  # mean of the finest band: not half of it is left
    assert noise[0, 1] > sharp[0, 1] + 2  # its median: an edge fills few pixels, noise all
    assert float(sharp[0, 1]) == pytest.approx(np.log(1e-3), abs=0.1)


def dot_places(image: Tensor, near: np.ndarray) -> np.ndarray:
    """(P, 2) px: where the dots of a (3, S, S) picture are, each the centre of mass of what differs from the ground round it."""
    found = []
    for x, y in near.round().astype(int):
        part = image[:, y - 6 : y + 7, x - 6 : x + 7].double().numpy()
        border = np.concatenate([part[:, 0], part[:, -1], part[:, :, 0], part[:, :, -1]], axis=1)
        weight = np.abs(part - np.median(border, axis=1)[:, None, None]).sum(axis=0)
        weight *= weight > 0.2 * weight.max()
        offset = np.arange(-6, 7)
        found.append(
            [x + (weight.sum(0) * offset).sum() / weight.sum(), y + (weight.sum(1) * offset).sum() / weight.sum()]
        )
    return np.array(found)


def test_nothing_moves_in_a_photograph_that_is_put_into_another_light() -> None:
    torch.manual_seed(1)
    size = 64
    config = BilateralConfig(codes=CODES, grid=8, bins=4, width=4, max_width=8, max_noise=0.02)
    model = Bilateral(config, size)
    nn.init.normal_(model.to_grid.weight, std=0.05)
    nn.init.normal_(model.to_grid.bias, std=0.1)
    nn.init.normal_(model.to_quality.weight, std=1.0)
    rng = np.random.default_rng(0)
    places = PLACES * 1.2 + [31.3, 30.6] + rng.normal(0, 2, (3, 5, 2))
    painted = np.stack([paint(p, size, size, rng.integers(0, 90, 3)) for p in places])
    image, landmarks = to_float(torch.from_numpy(painted)), torch.from_numpy(places).float()
    translator = LoadedBilateral(
        model, FIVE, CropConfig(size=size), StructureConfig(), {"model": "bilateral"}, torch.device("cpu")
    )
    made = translator.translate(image, landmarks, image.roll(1, 0), landmarks.roll(1, 0))
    assert float((made - image).abs().mean()) > 0.05  # it did something
    for before, after, place in zip(image, made, places, strict=True):
        assert np.abs(dot_places(after, place) - dot_places(before, place)).max() < 0.1
    half = (image[0] + image[0].roll(1, 2)) / 2  # half a pixel to the right
    assert (
        np.abs(dot_places(half, places[0]) - dot_places(image[0], places[0])).min(axis=0)[0] > 0.3
    )  # it would be seen


def test_points_and_regions_are_read_where_the_landmarks_are() -> None:
    image = torch.full((1, 3, 32, 32), -0.5)
    image[:, 0, :, 16:] = 0.5  # red on the right
    points = smoothed_points(image, torch.tensor([[[4.0, 10], [28, 10], [15.5, 20]]]))
    torch.testing.assert_close(
        points[0], torch.tensor([[-0.5, -0.5, -0.5], [0.5, -0.5, -0.5], [0, -0.5, -0.5]]), atol=1e-4, rtol=0
    )
    masks = torch.ones(1, 2, 32, 32)
    masks[:, 0, :, :16] = 0
    mean, deviation = region_statistics(image, masks)
    torch.testing.assert_close(mean[0], torch.tensor([[0.5, -0.5, -0.5], [0, -0.5, -0.5]]))
    torch.testing.assert_close(deviation[0], torch.tensor([[0.01, 0.01, 0.01], [0.5, 0.01, 0.01]]), atol=1e-4, rtol=0)


def test_a_grid_is_rough_where_neighbouring_cells_differ() -> None:
    assert grid_roughness(torch.full((1, 12, 2, 4, 4), 3.0)) == 0
    ramp = torch.arange(4.0).expand(1, 12, 2, 4, 4)  # one step a cell along x, none along y and lightness
    assert grid_roughness(ramp) == 1


# --------------------------------------------------------------------------------------------------------------------
# Losses on swaps


class Centroid(nn.Module):
    """A detector of one landmark: the centre of mass of the red channel."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor) -> DetectorOutput:
        weight = (image[:, 0] + 1) / 2
        at = torch.arange(float(image.shape[-1]))
        total = weight.sum(dim=(1, 2))
        place = torch.stack([(weight.sum(1) * at).sum(1), (weight.sum(2) * at).sum(1)], dim=1) / total[:, None]
        return DetectorOutput(self.scale * place[:, None])


def blob(x: float, y: float, size: int) -> Tensor:
    at = torch.arange(float(size))
    value = torch.exp(-((at - x) ** 2 + (at[:, None] - y) ** 2) / (2 * (size / 16) ** 2))
    return (2 * value - 1).expand(1, 3, size, size).clone()


@pytest.mark.parametrize("detector_size", [64, 32])
def test_landmark_drift_is_the_distance_moved_in_percent_of_the_side(detector_size: int) -> None:
    watch = FrozenLandmarks(Centroid(), detector_size)
    content = blob(30, 32, 64)
    assert float(landmark_drift(watch, content, content)) == 0
    moved = landmark_drift(watch, blob(30 + 3, 32 + 4, 64), content)
    assert float(moved) == pytest.approx(100 * 5 / 64, rel=2e-2)


def test_the_frozen_detector_gets_no_gradient_and_the_pictures_do() -> None:
    detector = Centroid()
    made = blob(20, 30, 64).requires_grad_()
    content = blob(30, 30, 64).requires_grad_()
    landmark_drift(FrozenLandmarks(detector, 64), made, content).backward()
    assert detector.scale.grad is None
    assert content.grad is None
    assert made.grad is not None
    assert float(made.grad.abs().max()) > 0


def test_hinge_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert float(hinge_discriminator(real, fake)) == 0.25 + 0.75
    assert float(hinge_generator(fake)) == 0.75


@pytest.mark.parametrize(("halvings", "patch"), [(2, 18), (3, 38)])
def test_a_patch_s_answer_depends_on_as_many_pixels_as_said(halvings: int, patch: int) -> None:
    torch.manual_seed(0)
    model = PatchDiscriminator(4, halvings).eval()
    image = torch.randn(1, 3, 96, 96, requires_grad=True)
    answer = model(image)
    answer[0, 0, answer.shape[2] // 2, answer.shape[3] // 2].backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [patch, patch]


# --------------------------------------------------------------------------------------------------------------------
# One interface


def fresh(name: str, seed: int = 0) -> Any:
    """An untrained translator whose answers depend on everything they may depend on."""
    torch.manual_seed(seed)
    structure = StructureConfig(kind="boundaries_points")
    model = TRANSLATORS[name].build(NETWORKS[name], SIZE, structure, FIVE)
    if isinstance(model, Bilateral):
        nn.init.normal_(model.to_grid.weight, std=0.5)
        nn.init.normal_(model.to_quality.weight, std=1.0)
    card = {"model": name, "model_hash": "0" * 64}
    return TRANSLATORS[name].loaded(model, FIVE, CropConfig(size=SIZE), structure, card, torch.device("cpu"))


def some_faces(num: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num)
    image = (torch.rand(num, 3, SIZE, SIZE, generator=generator) * 255).round() / 127.5 - 1
    return image, FACE / 2 + torch.rand(num, 5, 2, generator=generator)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_equals_its_faces_one_by_one_and_every_input_counts(name: str) -> None:
    translator = fresh(name)
    image, landmarks = some_faces(3)
    style, style_landmarks = image.flip(0), landmarks.flip(0)
    made = translator.translate(image, landmarks, style, style_landmarks)
    assert made.shape == (3, 3, SIZE, SIZE)
    assert not made.requires_grad
    for i in range(3):
        one = (t[i : i + 1] for t in (image, landmarks, style, style_landmarks))
        torch.testing.assert_close(translator.translate(*one), made[i : i + 1], atol=1e-5, rtol=0)
    assert torch.equal(made, translator.translate(image, landmarks, style, style_landmarks))
    others = {
        "content": (image.roll(1, 0), landmarks, style, style_landmarks),
        "landmarks": (image, landmarks + 2, style, style_landmarks),
        "style": (image, landmarks, style.roll(1, 0), style_landmarks),
        "regions of the style": (image, landmarks, style, style_landmarks + 3),
        "no regions of the style": (image, landmarks, style, None),
    }
    for what, changed in others.items():
        same = torch.equal(translator.translate(*changed), made)
        assert same == (what == "content" and not translator.needs_content), what
    matrix = swap_matrix(translator, landmarks, style, style_landmarks, image)
    torch.testing.assert_close(matrix[1, 1], made[1], atol=1e-5, rtol=0)


def test_each_face_has_a_noise_of_its_own_whoever_stands_beside_it() -> None:
    image, _ = some_faces(4)
    fields = noise_fields(image)
    assert torch.equal(noise_fields(image[2:]), fields[2:])
    assert not torch.equal(fields[0], fields[1])
    assert abs(float(fields.std()) - 1) < 0.1


def test_what_is_missing_is_said() -> None:
    _, landmarks = some_faces(2)
    with pytest.raises(UserError, match="changes the content's own photograph"):
        fresh("bilateral").encode_structure(landmarks)
    with pytest.raises(UserError, match="none was given"):
        swap_matrix(fresh("bilateral"), landmarks, some_faces(2)[0])
    spade = fresh("spade")
    with pytest.raises(UserError, match="has no prior to draw styles from"):
        spade.sample_prior(spade.encode_structure(landmarks), torch.Generator())
    with pytest.raises(UserError, match="size 48 must be 4 times a power of two"):
        Spade(NETWORKS["spade"], 48, 3)
    with pytest.raises(UserError, match="size 60 must be the grid 16 times a power of two"):
        Bilateral(BilateralConfig(), 60)


def test_a_training_pass_swaps_neighbours_styles() -> None:
    torch.manual_seed(0)
    model = Spade(NETWORKS["spade"], SIZE, 3).eval()
    maps, masks, view = (
        torch.rand(3, 3, SIZE, SIZE),
        region_masks(FACE.expand(3, -1, -1) / 2, SIZE, FIVE),
        some_faces(3)[0],
    )
    out = model(maps, masks, view, masks, 0.0)
    style = model.encode_style(view, masks)
    torch.testing.assert_close(out.image, model.decode(maps, masks, style))
    donor = [s[[2, 0, 1]] for s in style]
    torch.testing.assert_close(out.swapped, model.decode(maps, masks, donor))
    torch.testing.assert_close(out.again[0], model.encode_style(out.swapped, masks)[0])


def test_reading_a_swap_s_code_teaches_the_decoder_and_not_the_reader() -> None:
    torch.manual_seed(0)
    model = Spade(NETWORKS["spade"], SIZE, 3)
    maps, masks = torch.rand(2, 3, SIZE, SIZE), torch.zeros(2, 6, SIZE, SIZE)
    out = model(maps, masks, some_faces(2)[0], masks, 1.0)
    # Codes reach the swap through the decoder alone: cut there, and nothing of the encoder is left in what is read.
    model.decode = lambda maps, masks, style: Spade.decode(model, maps, masks, [s.detach() for s in style])  # type: ignore[method-assign]
    cut = model(maps, masks, some_faces(2)[0], masks, 1.0)
    cut.again[0].sum().backward()
    assert all(p.grad is None for p in model.style_encoder.parameters())
    assert model.to_image.weight.grad is not None
    torch.testing.assert_close(cut.again[0], out.again[0])


def test_code_distance_is_one_where_the_code_is_another_face_s() -> None:
    wanted = [torch.tensor([[0.0, 0], [2, 4]]), torch.zeros(2, 6, 0)]
    assert float(code_distance(wanted, wanted)) == 0
    assert float(code_distance(roll(wanted), wanted)) == 1
    style = [wanted[0].clone().requires_grad_(), wanted[1]]
    target = [wanted[0].roll(1, 0).requires_grad_(), wanted[1]]
    code_distance(style, target).backward()
    assert target[0].grad is None


# --------------------------------------------------------------------------------------------------------------------
# The whole job, tiny


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dot faces, more of them, and two detectors that know next to nothing."""
    here = tmp_path_factory.mktemp("translators")
    dots(here / "data", 9)
    dots(here / "more", 4, seed=1, splits=("train",), name="more")
    for seed, name in enumerate(("features", "judge")):
        crop = CropConfig(size=SIZE, scale=1.6)
        train_detector(detector_job(here / name, here / "data", {"steps": 1, "batch_size": 4, "seed": seed}, crop=crop))
    return here


def job(here: Path, name: str, run: Path, **changes: Any) -> TrainTranslator:
    """Four steps at 16 px, checkpoints after two and four."""
    config = translator_job(
        run, here / "data", {"steps": 4, "checkpoint_every": 2, "preview_every": 4, "batch_size": 4},
        crop=CropConfig(size=SIZE, scale=1.6), model=name, structure=StructureConfig(kind="boundaries_points"),
        feature_detector=here / "features", judge=here / "judge", spade=NETWORKS["spade"], bilateral=NETWORKS["bilateral"],
        extra=(here / "more",), extra_share=0.25,
    )  # fmt: skip
    return dataclasses.replace(config, **changes)


@pytest.fixture(scope="module")
def trained(here: Path) -> dict[str, Path]:
    for name in NETWORKS:
        main(job(here, name, here / name))
    return {name: here / name for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_run_leaves_what_every_translator_s_run_leaves(name: str, trained: dict[str, Path], here: Path) -> None:
    run = trained[name]
    assert {p.name for p in run.iterdir()} == {
        "card.json", "checkpoints", "config.yaml", "environment.json", "judge.json", "metrics.jsonl", "model.safetensors", "previews",
    }  # fmt: skip
    card = read_card(run, "translator")
    assert card["model"] == name
    assert card["config"][name]["codes"]["region_size"] == 3
    assert card["judge"]["faces"] == 3
    assert "kl_nats" not in card["judge"]
    assert [(d["name"], d["faces"]) for d in card["data"]] == [("dots", 6), ("more", 4)]
    losses = metrics_of(run)[-1]
    assert {"total", "pixel", "gradient", "feature", "landmark", "code"} <= losses.keys()
    assert all(np.isfinite(list(losses.values())))
    translator = load_translator(run)
    assert type(translator) is {"spade": LoadedSpade, "bilateral": LoadedBilateral}[name]
    assert isinstance(translator, LoadedTranslator)


@pytest.mark.parametrize(("name", "module"), [("spade", spade_learning), ("bilateral", bilateral_learning)])
def test_a_killed_training_continued_is_bitwise_the_same(
    name: str, module: Any, trained: dict[str, Path], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = [], module.landmark_drift

    def failing(*arguments: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 4:  # one update after the checkpoint of step 2
            raise KeyboardInterrupt
        return original(*arguments)

    config = job(here, name, tmp_path / "killed")
    monkeypatch.setattr(module, "landmark_drift", failing)
    with pytest.raises(KeyboardInterrupt):
        main(config)
    monkeypatch.setattr(module, "landmark_drift", original)
    main(config)
    assert metrics_of(tmp_path / "killed") == metrics_of(trained[name])
    mine, whole = tree(tmp_path / "killed"), tree(trained[name])
    for file in ("model.safetensors", "judge.json", "previews/step_00000004.png"):
        assert mine[file] == whole[file], file
    last = "checkpoints/step_00000004/train_state.safetensors"  # the discriminator and its optimizer are in it
    assert mine[last] == whole[last]


@pytest.mark.parametrize("name", NETWORKS)
def test_generate_works_with_every_translator(name: str, trained: dict[str, Path], here: Path, tmp_path: Path) -> None:
    config = Generate(
        data=here / "data", translator=trained[name], out=tmp_path / "out", styles_per_face=2, faces_per_unit=4, sheets=1,
        sheet_size=2, image_format="png", accelerator="cpu",
    )  # fmt: skip
    generate(config)
    made = FaceDataset.open(config.out)
    contents = FaceDataset.open(here / "data").select("train")
    assert len(made) == 2 * len(contents)
    again = dataclasses.replace(config, out=tmp_path / "again", faces_per_unit=3, sheets=0)  # another cut of the work
    generate(again)
    pictures = [
        {k.split("/", 2)[2]: v for k, v in tree(out).items() if k.startswith("images/")}
        for out in (config.out, again.out)
    ]
    assert pictures[0] == pictures[1]
    with pytest.raises(UserError, match=f"translator '{name}' has no prior"):
        generate(dataclasses.replace(config, out=tmp_path / "prior", mode="prior"))
    assert not (tmp_path / "prior.partial").exists()


def test_a_card_of_another_translator_is_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    def claimed(name: str, model: str) -> Path:
        copy = Path(shutil.copytree(trained[name], tmp_path / f"{name}_{model}"))
        (copy / "card.json").write_text(json.dumps({**read_card(copy), "model": model}))
        return copy

    with pytest.raises(UserError, match=r"card\.json: unknown translator 'pix2pix'; known: vunet, spade, bilateral"):
        load_translator(claimed("spade", "pix2pix"))
    for name, model in (("spade", "bilateral"), ("bilateral", "spade"), ("spade", "vunet")):
        with pytest.raises(UserError, match=r"weight '.*' is missing: it belongs to another model"):
            load_translator(claimed(name, model))


def test_more_faces_of_another_mark_up_are_refused_before_anything_is_trained(here: Path, tmp_path: Path) -> None:
    from stylealign.data.dataset import write_dataset

    other = LandmarkSchema(name="other", num_points=5)
    samples = list(FaceDataset.open(here / "more"))
    write_dataset(tmp_path / "other", samples, schema=other, name="other")
    with pytest.raises(UserError, match=r"other: holds other \(5 points\), but .* holds five"):
        main(job(here, "spade", tmp_path / "run", extra=(tmp_path / "other",)))
    assert not (tmp_path / "run.partial").exists()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CodeConfig(width=0), "expected at least 1"),
        (lambda: SpadeConfig(hidden=0), "expected at least 1"),
        (lambda: BilateralConfig(bins=0), "expected at least 1"),
        (lambda: BilateralConfig(max_blur=-1), "expected 0 or more"),
        (lambda: SpadeLearningConfig(adversarial=-1), "expected 0 or more"),
        (lambda: SpadeLearningConfig(forget=2), "expected 0 to 1"),
        (lambda: BilateralLearningConfig(smooth=-1), "smooth is -1, expected 0 or more"),
        (lambda: BilateralLearningConfig(quality_prob=2), "expected 0 to 1"),
        (lambda: TrainTranslator(data=Path("d"), run=Path("r"), extra_share=1.0), "extra_share is 1.0"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_as_a_style_arm_the_bilateral_translator_changes_the_photograph_it_is_given() -> None:
    translator = fresh("bilateral")
    crop = CropConfig(size=SIZE, scale=translator.crop.scale)
    image, landmarks = some_faces(2)
    batch = Batch(
        image, landmarks, torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 2, 3), torch.arange(2), torch.ones(2)
    )
    donors = batch._replace(image=image.flip(0), landmarks=landmarks.flip(0))
    arm = translator_arm(translator, crop)
    made = arm(batch, donors, torch.ones(2), torch.rand(2, 16)).image
    other = arm(batch._replace(image=-image), donors, torch.ones(2), torch.rand(2, 16)).image
    middle = slice(6, 10)  # inside the seam, where nothing of the photograph stays as it was
    assert float((made - image)[..., middle, middle].abs().mean()) > 0.01
    assert float((made - other)[..., middle, middle].abs().mean()) > 0.01
    assert torch.equal(arm(batch, donors, torch.zeros(2), torch.rand(2, 16)).image, image)
