"""`bilateral`: what its grid, its blur and its losses compute by hand-worked cases, and that nothing in a photograph
moves."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.dots import PLACES, paint
from builders.translator_contract import FACE, fresh, network, some_faces, tiny
from stylealign.batches.augment import NO_AUGMENTATION, AugmentConfig, augment, invert, transform
from stylealign.batches.batch import Batch, to_float
from stylealign.batches.structure_maps import StructureConfig
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE
from stylealign.styling.learned import translator_arm
from stylealign.training.loop import LoopConfig, start_engine
from stylealign.translators.base import PAIRS_A_PASS
from stylealign.translators.bilateral.learning import (
    VIEW,
    BilateralLearningConfig,
    grid_roughness,
    learn_bilateral,
    mirrored_as,
    region_loss,
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
from stylealign.translators.learning import Learning
from stylealign.translators.reconstruction import RECONSTRUCTION_PRESETS, Reconstruction
from stylealign.translators.regions import region_masks
from stylealign.translators.schedule import LearningRateConfig
from stylealign.translators.swapping import swap_matrix

SIZE = tiny("bilateral").size
CODES = tiny("bilateral").network.codes


def test_a_constant_grid_is_one_affine_map_and_the_identity_grid_changes_nothing() -> None:
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    affine = torch.randn(3, 4)
    grid = affine.reshape(1, 12, 1, 1, 1).expand(2, 12, 3, 4, 4)
    expected = torch.einsum("ck,bkhw->bchw", affine[:, :3], image) + affine[:, 3].view(1, 3, 1, 1)
    torch.testing.assert_close(apply_affine(image, slice_grid(grid, luma(image))), expected)
    identity = identity_grid(BilateralConfig(grid=4, bins=3), image).expand(2, -1, -1, -1, -1)
    torch.testing.assert_close(apply_affine(image, slice_grid(identity, luma(image))), image)


def test_the_grid_is_looked_up_by_place_and_by_lightness() -> None:
    """Two cells over four pixels have their centres at 0.5 and 2.5; two bins over [-1, 1] have theirs at -0.5 and
    0.5."""
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
    """(P, 2) px: where the dots of a (3, S, S) picture are, each the centre of mass of what differs from the ground
    round it."""
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


def test_regions_that_nobody_knows_teach_nothing() -> None:
    """The second of three faces lacks a landmark: it teaches no region of its own, nor the third, whose donor it is."""
    torch.manual_seed(2)
    image, landmarks = some_faces(3, SIZE)
    landmarks[1, 2] = torch.nan
    masks = region_masks(landmarks, SIZE, FIVE)
    made = torch.rand_like(image).requires_grad_()
    mean, spread = region_statistics(image, masks)
    known = masks.sum((1, 2, 3)) > 0
    loss = region_loss(region_statistics(made, masks), (mean.roll(1, 0), spread.roll(1, 0)), known & known.roll(1))
    loss.backward()
    assert made.grad is not None
    assert [bool(g.any()) for g in made.grad] == [True, False, False]
    mean_made, spread_made = region_statistics(made.detach(), masks)
    by_hand = (mean_made[0] - mean[2]).abs().mean() + (spread_made[0] - spread[2]).abs().mean()
    torch.testing.assert_close(loss.detach(), by_hand)


def test_regions_that_are_known_teach_all_faces_and_none_where_none_is() -> None:
    torch.manual_seed(2)
    statistics = [(torch.rand(3, 6, 3), torch.rand(3, 6, 3)) for _ in range(2)]
    expected = sum(nn.functional.l1_loss(a, b) for a, b in zip(*statistics, strict=True))
    torch.testing.assert_close(region_loss(*statistics, torch.ones(3, dtype=torch.bool)), expected)
    assert float(region_loss(*statistics, torch.zeros(3, dtype=torch.bool))) == 0


def learning_of(faces: Batch, vary: Any, **own: Any) -> Learning:
    """Without features and without a detector, in one process."""
    torch.manual_seed(0)
    size = faces.image.shape[-1]
    return Learning(
        model=network("bilateral"), own=BilateralLearningConfig(**own), schema=FIVE, size=size,
        engine=start_engine(LoopConfig(steps=4, batch_size=len(faces.image), accelerator="cpu")),
        maps=lambda points: torch.zeros(len(points), 1, size, size), vary=vary, first=faces,
        reconstruction=Reconstruction(RECONSTRUCTION_PRESETS["pixels"]), watch=None, lr=LearningRateConfig(),
        steps=4, seed=0,
    )  # fmt: skip


def test_a_donor_s_view_is_lit_from_the_side_from_which_its_face_is() -> None:
    """Eight faces, lit from the right or from the left, of which the job mirrors some and its views as they are cut."""
    num = 8
    ramp = torch.linspace(-0.8, 0.8, SIZE).expand(num, 3, SIZE, SIZE)
    side = torch.where(torch.arange(num) % 3 > 0, 1.0, -1.0).view(-1, 1, 1, 1)
    eye = torch.eye(2, 3, dtype=torch.float64).expand(num, 2, 3)
    points = (FACE * (SIZE / 32)).expand(num, 5, 2)
    batch = Batch(side * ramp, points, torch.ones(num, 5, dtype=torch.bool), eye, torch.arange(num), torch.ones(num))

    def vary(batch: Batch, step: int, view: int = 0, motions: AugmentConfig | None = None) -> Batch:
        still = dataclasses.replace(NO_AUGMENTATION, flip=True)
        return augment(batch, SIZE, motions or still, torch.Generator().manual_seed(17 * step + view), FIVE)

    learning, seen = learning_of(batch, vary, quality_prob=0.0), []
    learning.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    learner = learn_bilateral(learning)
    for step in range(4):
        learner.update(batch, step)
        faces, views, masks = seen[-1][0][num:], seen[-1][3], seen[-1][4]
        light = [(image[..., SIZE // 2 :] - image[..., : SIZE // 2]).mean((1, 2, 3)) for image in (faces, views)]
        assert 0 < int((light[0] * side.flatten() < 0).sum()) < num, "some are mirrored, some are not"
        assert bool((light[0] * light[1] > 0).all())
        assert bool((masks.sum((1, 2, 3)) > 0).all())
    face = vary(batch, 0)
    view = mirrored_as(vary(batch, 0, 1, VIEW), face, FIVE)
    assert torch.equal(view.crop_from_source[:, :, :2].det() < 0, face.crop_from_source[:, :, :2].det() < 0)
    home = transform(invert(view.crop_from_source), view.landmarks)
    back = torch.as_tensor(FIVE.flip_permutation.copy())
    mirrored = (view.crop_from_source[:, :, :2].det() < 0)[:, None, None]
    torch.testing.assert_close(torch.where(mirrored, home[:, back], home), points, atol=1e-3, rtol=0)


def test_a_grid_is_rough_where_neighbouring_cells_differ() -> None:
    assert grid_roughness(torch.full((1, 12, 2, 4, 4), 3.0)) == 0
    ramp = torch.arange(4.0).expand(1, 12, 2, 4, 4)  # one step a cell along x, none along y and lightness
    assert grid_roughness(ramp) == 1


def test_each_face_has_a_noise_of_its_own_whoever_stands_beside_it() -> None:
    image, _ = some_faces(4, SIZE)
    fields = noise_fields(image)
    assert torch.equal(noise_fields(image[2:]), fields[2:])
    assert not torch.equal(fields[0], fields[1])
    assert abs(float(fields.std()) - 1) < 0.1


def test_as_a_style_arm_the_bilateral_translator_changes_the_photograph_it_is_given() -> None:
    translator = fresh("bilateral")
    crop = CropConfig(size=SIZE, scale=translator.crop.scale)
    image, landmarks = some_faces(2, SIZE)
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


def test_pictures_rendered_some_at_a_time_have_the_bits_of_all_at_once() -> None:
    translator, (image, landmarks) = fresh("bilateral"), some_faces(PAIRS_A_PASS + 3, SIZE)
    image, seen, fine, masks, field = features = translator.encode_structure(landmarks, image)
    style = translator.encode_style(image.flip(0), landmarks.flip(0))
    whole = translator.model.render(image, translator.model.look([seen, fine], masks, style), field)
    assert torch.equal(translator.decode(features, style), whole)


def test_regions_of_content_and_style_count_where_they_are_known() -> None:
    translator, (image, landmarks) = fresh("bilateral"), some_faces(3, SIZE)
    style, style_landmarks = image.flip(0), landmarks.flip(0)
    made = translator.translate(image, landmarks, style, style_landmarks)
    for other in ((landmarks + 2, style_landmarks), (landmarks, style_landmarks + 3), (landmarks, None)):
        assert not torch.equal(translator.translate(image, other[0], style, other[1]), made)


def test_what_is_missing_is_said() -> None:
    image, landmarks = some_faces(2, SIZE)
    with pytest.raises(UserError, match="none was given"):
        swap_matrix(fresh("bilateral"), landmarks, image)
    with pytest.raises(UserError, match="size 60 must be the grid 16 times a power of two"):
        Bilateral(BilateralConfig(), 60)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: BilateralConfig(bins=0), "expected at least 1"),
        (lambda: BilateralConfig(max_blur=-1), "expected 0 or more"),
        (lambda: BilateralLearningConfig(smooth=-1), "smooth is -1, expected 0 or more"),
        (lambda: BilateralLearningConfig(quality_prob=2), "expected 0 to 1"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()
