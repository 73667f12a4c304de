import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylealign.batches.augment import (
    NO_AUGMENTATION,
    AugmentConfig,
    augment,
    centre_crop,
    compose,
    invert,
    transform,
    warp,
)
from stylealign.batches.augment.vary import random_affines
from stylealign.batches.batch import Batch
from stylealign.face import geometry
from stylealign.face.schema import FIVE, IBUG68, WFLW98, LandmarkSchema

OFF = {"colour": 0.0, "grey_prob": 0.0, "blur_prob": 0.0, "occlusion_prob": 0.0}
GEOMETRY_ONLY = AugmentConfig(**OFF)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_batch(landmarks: torch.Tensor, size: int, image: torch.Tensor | None = None) -> Batch:
    num, points = landmarks.shape[:2]
    return Batch(
        image=torch.zeros(num, 3, size, size) if image is None else image,
        landmarks=landmarks,
        visible=torch.ones(num, points, dtype=torch.bool),
        crop_from_source=torch.tensor([[[2.0, 0, -7], [0, 2.0, 3]]], dtype=torch.float64).repeat(num, 1, 1),
        index=torch.arange(num),
        weight=torch.ones(num),
    )


def dot_images(places: torch.Tensor, size: int) -> torch.Tensor:
    """(B, 3, size, size): -1 with a Gaussian dot of sigma 1.5 px and height 2 at (B, 2) places."""
    pixels = torch.arange(size, dtype=torch.float32)
    axis = torch.exp(-((pixels - places[..., None]) ** 2) / (2 * 1.5**2))  # (B, 2, size)
    return (2 * axis[:, 1, :, None] * axis[:, 0, None, :] - 1)[:, None].repeat(1, 3, 1, 1)


def dot_places(images: torch.Tensor) -> torch.Tensor:
    """(B, 2) centres of mass above the ground of -1."""
    mass = (images.mean(dim=1) + 1).double()
    pixels = torch.arange(images.shape[-1], dtype=torch.float64)
    total = mass.sum(dim=(1, 2))
    return torch.stack([(mass.sum(dim=1) * pixels).sum(-1) / total, (mass.sum(dim=2) * pixels).sum(-1) / total], dim=1)


@pytest.mark.parametrize(("size_in", "size"), [(80, 64), (64, 64), (81, 64), (40, 32)])
@pytest.mark.parametrize(
    "config", [GEOMETRY_ONLY, AugmentConfig(**OFF, rotation=180.0), AugmentConfig(**OFF, flip=False)]
)
def test_a_dot_at_each_landmark_is_found_at_the_augmented_landmark(
    size_in: int, size: int, config: AugmentConfig
) -> None:
    """THE one test: image and labels move together, through rotation, scale, shift,
    mirror and the cut of the margin."""
    num = 24
    rng = np.random.default_rng(1)
    landmarks = torch.as_tensor(size_in / 2 + size * rng.uniform(-0.2, 0.2, (num, 5, 2)), dtype=torch.float32)
    mirrored = 0
    for point in range(5):
        batch = make_batch(landmarks, size_in, dot_images(landmarks[:, point], size_in))
        out = augment(batch, size, config, generator(3), FIVE)  # the same seed: the same motions for every point
        flipped = out.crop_from_source[:, :, :2].det() < 0
        renumbered = torch.where(flipped, int(FIVE.flip_permutation[point]), point)
        expected = out.landmarks[torch.arange(num), renumbered]
        assert out.image.shape == (num, 3, size, size)
        torch.testing.assert_close(dot_places(out.image), expected.double(), atol=0.2, rtol=0)
        mirrored = int(flipped.sum())
    assert (4 < mirrored < 20) if config.flip else mirrored == 0


def test_labels_that_lean_right_lean_right_in_mirrored_faces_too() -> None:
    """A person's labels 3 px right of the truth: whoever labels the mirrored picture puts them to its right again."""
    num, size, lean = 24, 64, 3.0
    truth = torch.as_tensor(32 + np.random.default_rng(1).uniform(-9, 9, (num, 5, 2)), dtype=torch.float32)
    batch = make_batch(
        truth + torch.tensor([2 * lean, 0.0]), size, dot_images(truth[:, 2], size)
    )  # crops: 2 x the source
    config = AugmentConfig(**OFF, rotation=60.0, scale=0.2)
    plain = augment(batch, size, config, generator(3), FIVE)
    out = augment(batch._replace(lean=torch.full((num,), lean)), size, config, generator(3), FIVE)
    flipped = out.crop_from_source[:, :, :2].det() < 0
    assert 4 < int(flipped.sum()) < 20

    along_x = out.crop_from_source[:, :, 0].float()  # of the source picture; a mirrored face's own x axis points back
    expected = lean * torch.where(flipped[:, None], -along_x, along_x)
    middle = 2  # the nose tip, its own mirror twin
    assert int(FIVE.flip_permutation[middle]) == middle
    torch.testing.assert_close(out.landmarks[:, middle] - dot_places(out.image).float(), expected, atol=0.15, rtol=0)
    assert bool((expected[:, 0] > 0).all()), "to the right, as nothing is turned by 90 degrees"
    torch.testing.assert_close(plain.landmarks[~flipped], out.landmarks[~flipped])
    assert bool((plain.landmarks[flipped] - out.landmarks[flipped]).abs().amax(dim=(1, 2)).gt(3).all())


def test_predictions_go_home_through_the_composed_affine() -> None:
    source = torch.as_tensor(np.random.default_rng(0).uniform(5, 25, (6, 68, 2)))
    batch = make_batch(torch.zeros(6, 68, 2), 50)
    batch = batch._replace(landmarks=transform(batch.crop_from_source, source).float())
    out = augment(batch, 40, AugmentConfig(), generator(), IBUG68)
    home = transform(invert(out.crop_from_source), out.landmarks.double())
    flipped = out.crop_from_source[:, :, :2].det() < 0
    assert 0 < int(flipped.sum()) < 6
    for face in range(6):
        order = IBUG68.flip_permutation.copy() if flipped[face] else np.arange(68)
        np.testing.assert_allclose(home[face].numpy(), source[face, order].numpy(), atol=1e-4)


def test_visibility_is_renumbered_with_the_landmarks_of_mirrored_faces() -> None:
    batch = make_batch(torch.rand(16, 98, 2) * 40, 40)
    batch = batch._replace(visible=torch.rand(16, 98, generator=generator()) < 0.5)
    out = augment(batch, 32, AugmentConfig(rotation=0, scale=0, shift=0, colour=0), generator(), WFLW98)
    flipped = out.crop_from_source[:, :, :2].det() < 0
    order = torch.as_tensor(WFLW98.flip_permutation.copy())
    assert torch.equal(out.visible[flipped], batch.visible[flipped][:, order])
    assert torch.equal(out.visible[~flipped], batch.visible[~flipped])
    centre = (40 - 32) / 2
    expected = batch.landmarks[flipped][:, order] - centre
    expected[..., 0] = 31 - expected[..., 0]
    torch.testing.assert_close(out.landmarks[flipped], expected)


def test_faces_of_a_schema_without_mirror_twins_are_never_mirrored() -> None:
    plain = LandmarkSchema(name="plain", num_points=5)
    batch = make_batch(torch.rand(32, 5, 2) * 40, 40)
    moved = augment(batch, 32, AugmentConfig(), generator(), plain)
    assert bool((moved.crop_from_source[:, :, :2].det() > 0).all())
    mirrored = augment(batch, 32, AugmentConfig(), generator(), FIVE)
    same = mirrored.crop_from_source[:, :, :2].det() > 0
    torch.testing.assert_close(mirrored.landmarks[same], moved.landmarks[same])


def test_no_augmentation_without_a_margin_changes_nothing() -> None:
    image = torch.rand(4, 3, 32, 32, generator=generator()) * 2 - 1
    batch = make_batch(torch.rand(4, 5, 2) * 32, 32, image)
    out = augment(batch, 32, NO_AUGMENTATION, generator(), FIVE)
    torch.testing.assert_close(out.image, image, atol=2e-5, rtol=0)
    torch.testing.assert_close(out.landmarks, batch.landmarks)
    same = centre_crop(batch, 32)
    assert all(torch.equal(a, b) for a, b in zip(same, batch, strict=True))


@pytest.mark.parametrize("size_in", [40, 41])
def test_centre_crop_cuts_the_margin_and_moves_labels_with_it(size_in: int) -> None:
    image = torch.rand(2, 3, size_in, size_in, generator=generator()) * 2 - 1
    batch = make_batch(torch.rand(2, 5, 2) * size_in, size_in, image)
    out = centre_crop(batch, 32)
    torch.testing.assert_close(out.landmarks, batch.landmarks - (size_in - 32) / 2)
    torch.testing.assert_close(
        transform(invert(out.crop_from_source), out.landmarks.double()),
        transform(invert(batch.crop_from_source), batch.landmarks.double()), atol=1e-5, rtol=0,
    )  # fmt: skip
    if size_in == 40:
        assert torch.equal(out.image, image[:, :, 4:36, 4:36])
    else:  # half a pixel: the mean of two neighbours each way
        expected = torch.nn.functional.avg_pool2d(image, 2, 1)[:, :, 4:36, 4:36]
        torch.testing.assert_close(out.image, expected, atol=1e-5, rtol=0)


def test_unlabelled_faces_stay_unlabelled() -> None:
    out = augment(make_batch(torch.full((3, 5, 2), float("nan")), 40), 32, AugmentConfig(), generator(), FIVE)
    assert bool(out.landmarks.isnan().all())
    assert bool(out.image.isfinite().all())


def test_the_result_is_a_function_of_the_generator_and_arguments_are_left_alone() -> None:
    image = torch.rand(8, 3, 40, 40, generator=generator()) * 2 - 1
    batch = make_batch(torch.rand(8, 5, 2) * 40, 40, image.clone())
    everything = AugmentConfig(grey_prob=0.5, blur_prob=0.5, occlusion_prob=0.5, noise=0.1)
    torch.manual_seed(1)
    a = augment(batch, 32, everything, generator(5), FIVE)
    torch.manual_seed(2)  # the global generator plays no part
    b = augment(batch, 32, everything, generator(5), FIVE)
    other = augment(batch, 32, everything, generator(6), FIVE)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a.image, other.image)
    assert torch.equal(batch.image, image)
    assert a.image.min() >= -1
    assert a.image.max() <= 1


def test_switching_an_operation_off_moves_no_other_random_number() -> None:
    batch = make_batch(torch.rand(8, 5, 2) * 40, 40, torch.rand(8, 3, 40, 40))
    full = AugmentConfig(grey_prob=0.5, blur_prob=0.5, occlusion_prob=0.5, noise=0.1)
    a = augment(batch, 32, full, generator(), FIVE)
    b = augment(batch, 32, GEOMETRY_ONLY, generator(), FIVE)
    assert torch.equal(a.landmarks, b.landmarks)


def test_colour_scales_brightness_and_contrast_and_stays_in_range() -> None:
    image = torch.full((64, 3, 32, 32), -0.5)
    batch = make_batch(torch.zeros(64, 5, 2), 32, image)
    out = augment(
        batch, 32, AugmentConfig(rotation=0, scale=0, shift=0, flip=False, **{**OFF, "colour": 0.3}), generator(), FIVE
    )
    level = (out.image.mean(dim=(1, 2, 3)) + 1) / 2  # 0.25 before; contrast round the mean does not move it
    assert 0.25 * 0.7 - 1e-4 <= level.min() < 0.25 * 0.8
    assert 0.25 * 1.2 < level.max() <= 0.25 * 1.3 + 1e-4
    assert out.image.std(dim=(1, 2, 3)).max() < 1e-5


def still(**values: float) -> AugmentConfig:
    return AugmentConfig(rotation=0, scale=0, shift=0, flip=False, **{**OFF, **values})


def test_grey_faces_have_equal_channels_and_blurred_ones_less_detail_at_the_same_mean() -> None:
    image = torch.rand(4, 3, 32, 32, generator=generator()) * 2 - 1
    batch = make_batch(torch.zeros(4, 5, 2), 32, image)
    grey = augment(batch, 32, still(grey_prob=1.0), generator(), FIVE).image
    assert torch.equal(grey[:, 0], grey[:, 2])
    blurred = augment(batch, 32, still(blur_prob=1.0), generator(), FIVE).image
    assert bool((blurred.std(dim=(1, 2, 3)) < image.std(dim=(1, 2, 3))).all())
    torch.testing.assert_close(blurred.mean(dim=(2, 3)), image.mean(dim=(2, 3)), atol=0.02, rtol=0)


def test_an_occlusion_covers_a_part_and_leaves_the_rest_untouched() -> None:
    image = torch.rand(16, 3, 32, 32, generator=generator()) * 2 - 1
    out = augment(make_batch(torch.zeros(16, 5, 2), 32, image), 32, still(occlusion_prob=1.0), generator(), FIVE).image
    changed = ((out - image).abs().amax(dim=1) > 1e-3).float().mean(dim=(1, 2))
    assert bool((changed > 0.005).all())
    assert bool((changed < 0.3).all())


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), rotation=st.floats(0, 180), scale=st.floats(0, 1), shift=st.floats(0, 0.5))
def test_motions_are_similarities_within_their_ranges(seed: int, rotation: float, scale: float, shift: float) -> None:
    batch = make_batch(torch.zeros(4, 5, 2), 40)._replace(
        crop_from_source=torch.eye(2, 3, dtype=torch.float64).repeat(4, 1, 1)
    )
    config = AugmentConfig(rotation=rotation, scale=scale, shift=shift, colour=0)
    out = augment(batch, 32, config, generator(seed), FIVE).crop_from_source
    for affine in out.numpy():
        factor = geometry.scale_of(affine)
        assert abs(np.log(factor)) <= scale + 1e-9
        np.testing.assert_allclose(affine[:, :2] @ affine[:, :2].T, factor**2 * np.eye(2), atol=1e-9)
        moved = geometry.apply(affine, np.array([[19.5, 19.5]]))[0] - 15.5
        assert np.abs(moved).max() <= 32 * shift + 1e-9
        turned = np.degrees(np.arctan2(affine[1, 1], -affine[0, 1])) - 90 if np.linalg.det(affine[:, :2]) else 0
        assert abs((turned + 180) % 360 - 180) <= rotation + 1e-6


def test_the_furthest_motions_are_those_that_were_asked_for() -> None:
    config = AugmentConfig(rotation=30, scale=0.2, shift=0.1)
    draws = torch.tensor([[1.0, 1.0, 1.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5, 0.0]], dtype=torch.float64)
    moved, mirrored = random_affines(draws, 40, 32, config).numpy()
    turned = geometry.rotate_scale_affine((19.5, 19.5), 30, np.exp(0.2), (3.2 - 4, -3.2 - 4))  # a tenth of 32 px
    np.testing.assert_allclose(moved, turned, atol=1e-9)
    np.testing.assert_allclose(mirrored, [[-1, 0, 39 - 4], [0, 1, -4]], atol=1e-9)


def test_batched_affines_agree_with_geometry() -> None:
    rng = np.random.default_rng(0)
    a, b, points = rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 2, 3)), rng.normal(size=(3, 7, 2))
    ta, tb, tp = (torch.as_tensor(v) for v in (a, b, points))
    for i in range(3):
        np.testing.assert_allclose(compose(ta, tb)[i].numpy(), geometry.compose(a[i], b[i]))
        np.testing.assert_allclose(invert(ta)[i].numpy(), geometry.invert(a[i]))
        np.testing.assert_allclose(transform(ta, tp)[i].numpy(), geometry.apply(a[i], points[i]))


def test_warp_agrees_with_bilinear_sampling_by_hand() -> None:
    image = torch.rand(1, 1, 6, 7, generator=generator())
    affine = geometry.invert(np.array([[1.0, 0, 1.25], [0, 1.0, 2.5]]))  # in = out + (1.25, 2.5)
    out = warp(image, torch.as_tensor(affine)[None], 3)
    p = image[0, 0]
    by_hand = 0.5 * (0.75 * p[2, 1] + 0.25 * p[2, 2]) + 0.5 * (0.75 * p[3, 1] + 0.25 * p[3, 2])
    assert float(out[0, 0, 0, 0]) == pytest.approx(float(by_hand), abs=1e-5)
    assert float(
        warp(image, torch.tensor([[[1.0, 0, 50], [0, 1, 50]]], dtype=torch.float64), 3)[0, 0, 0, 0]
    ) == pytest.approx(float(p[0, 0]))


@pytest.mark.parametrize("values", [{"rotation": -1.0}, {"colour": 1.0}, {"blur_prob": 1.5}, {"noise": -0.1}])
def test_values_without_meaning_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        AugmentConfig(**values)
