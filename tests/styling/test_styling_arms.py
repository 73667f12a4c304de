"""The contract of style arms (styling/arm.py), held by every entry of ARMS: landmarks stay, in the batch and in the picture."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from builders.tiny import drawn
from stylealign.batches.batch import Batch
from stylealign.batches.crops import CropCache
from stylealign.batches.structure_maps import gaussians
from stylealign.face.crop import CropConfig
from stylealign.styling.arm import NUM_DRAWS
from stylealign.styling.chain import ALONE, ARMS
from stylealign.styling.free import BETA, MAX_GAIN

NUM = 4
every_arm = pytest.mark.parametrize("kind", ARMS)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Batch, Batch]:
    """Four drawn faces on crops of 64 px with their margin, and four others as donors."""
    folder = tmp_path_factory.mktemp("arms")
    cache = CropCache(drawn(folder / "drawn", 2 * NUM), CropConfig(size=64), 1.25, folder)
    return cache.batch(np.arange(NUM)), cache.batch(np.arange(NUM, 2 * NUM))


def draws_of(seed: int = 0) -> Tensor:
    return torch.rand(NUM, NUM_DRAWS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(kind: str, faces: tuple[Batch, Batch], strength: float = 1.0, seed: int = 0) -> Batch:
    return ARMS[kind](*faces, torch.full((NUM,), strength), draws_of(seed))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x.nan_to_num(-9e9), y.nan_to_num(-9e9)) for x, y in zip(a, b, strict=True))


@every_arm
def test_only_the_picture_changes_and_it_is_a_picture(kind: str, faces: tuple[Batch, Batch]) -> None:
    found = run(kind, faces)
    assert found.image.shape == faces[0].image.shape
    assert found.image.dtype == torch.float32
    assert bool(torch.isfinite(found.image).all())
    assert -1 - 1e-6 <= float(found.image.min()) <= float(found.image.max()) <= 1 + 1e-6
    assert same(found._replace(image=faces[0].image, visible=faces[0].visible), faces[0])
    assert not bool((found.visible & ~faces[0].visible).any()), "what was hidden is not uncovered"
    assert float((found.image - faces[0].image).abs().mean()) > 0.002, "at its fullest an arm changes something"


@every_arm
def test_strength_0_is_the_identity(kind: str, faces: tuple[Batch, Batch]) -> None:
    found = run(kind, faces, strength=0.0)
    assert same(found._replace(image=faces[0].image), faces[0])
    torch.testing.assert_close(found.image, faces[0].image, rtol=0, atol=1e-6)


@every_arm
def test_the_draws_decide(kind: str, faces: tuple[Batch, Batch]) -> None:
    state = torch.get_rng_state()
    first = run(kind, faces)
    torch.rand(3)
    assert same(run(kind, faces), first), "a global generator has a say"
    torch.set_rng_state(state)


@every_arm
def test_a_batch_is_its_faces_one_by_one_and_a_face_does_not_depend_on_its_neighbours(
    kind: str, faces: tuple[Batch, Batch]
) -> None:
    content, donors = faces
    strength = torch.tensor([0.2, 1.0, 0.6, 0.9])
    draws = draws_of()
    whole = ARMS[kind](content, donors, strength, draws)
    for i in range(NUM):
        one = slice(i, i + 1)
        single = ARMS[kind](
            Batch(*(t[one] for t in content)), Batch(*(t[one] for t in donors)), strength[one], draws[one]
        )
        torch.testing.assert_close(single.image[0], whole.image[i], rtol=0, atol=1e-4)
        assert torch.equal(single.visible[0], whole.visible[i])


@every_arm
def test_the_arguments_are_left_alone(kind: str, faces: tuple[Batch, Batch]) -> None:
    before = [Batch(*(t.clone() for t in batch)) for batch in faces]
    strength, draws = torch.ones(NUM), draws_of()
    ARMS[kind](*faces, strength, draws)
    assert all(same(a, b) for a, b in zip(before, faces, strict=True))
    assert torch.equal(strength, torch.ones(NUM))
    assert torch.equal(draws, draws_of())


@every_arm
def test_donors_and_faces_without_landmarks_do_no_harm(kind: str, faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    nothing = torch.full_like(donors.landmarks, float("nan"))
    for found in (
        ARMS[kind](content, donors._replace(landmarks=nothing), torch.ones(NUM), draws_of()),
        ARMS[kind](content._replace(landmarks=nothing), donors, torch.ones(NUM), draws_of()),
    ):
        assert bool(torch.isfinite(found.image).all())


@every_arm
def test_flat_pictures_stay_finite(kind: str, faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    for a, b in ((0.3, None), (None, -1.0), (1.0, 1.0)):
        one = content if a is None else content._replace(image=torch.full_like(content.image, a))
        two = donors if b is None else donors._replace(image=torch.full_like(donors.image, b))
        assert bool(torch.isfinite(ARMS[kind](one, two, torch.ones(NUM), draws_of()).image).all())


def test_arms_that_need_no_donor_look_at_none(faces: tuple[Batch, Batch]) -> None:
    content, donors = faces
    for kind in ALONE & ARMS.keys():
        other = ARMS[kind](content, donors._replace(image=-donors.image), torch.ones(NUM), draws_of())
        assert same(other, run(kind, faces)), kind


# -------------------------------------------------------------------------------------------- landmarks in the picture

SIGMA, WINDOW = 1.0, 3


def far_apart(points: Tensor, size: int, distance: float = 11.0) -> list[int]:
    """Landmarks that have room for a marker each."""
    kept: list[int] = []
    for i, p in enumerate(points):
        inside = bool((p > WINDOW + 1).all() and (p < size - 2 - WINDOW).all())
        if inside and all(float((p - points[j]).norm()) > distance for j in kept):
            kept.append(i)
    return kept


def centroid(difference: Tensor, near: Tensor) -> Tensor:
    """(x, y) of what stands out of a (3, S, S) difference of two pictures, within WINDOW px of a place."""
    x, y = (int(v) for v in near.round())
    part = difference.norm(dim=0)[y - WINDOW : y + WINDOW + 1, x - WINDOW : x + WINDOW + 1]
    weight = (part - 0.35 * part.max()).clamp_min(0)
    pixel = torch.arange(2 * WINDOW + 1, dtype=weight.dtype) - WINDOW
    place = torch.stack([(weight.sum(dim=0) * pixel).sum(), (weight.sum(dim=1) * pixel).sum()]) / weight.sum()
    return place + torch.tensor([float(x), float(y)])


@every_arm
def test_markers_painted_on_the_landmarks_stay_there_to_a_tenth_of_a_pixel(
    kind: str, faces: tuple[Batch, Batch]
) -> None:
    """A face with dots on some landmarks and the same face without go through the arm with the same draws; where their results
    differ is where the dots are afterwards. Under each dot the face is made flat, in both: on a slope, an arm that maps colours
    would make one side of a dot stand out more than the other, and nothing would have moved."""
    content, donors = faces
    size = content.image.shape[-1]
    moved, asked = [], 0
    for seed in range(2):
        for i in range(NUM):
            some = far_apart(content.landmarks[i], size)
            flat, marked = content.image.clone(), content.image.clone()
            for j in some:
                dot = gaussians(content.landmarks[i : i + 1, j : j + 1], size, SIGMA)[0, 0]
                wide = gaussians(content.landmarks[i : i + 1, j : j + 1], size, 2 * SIGMA)[0, 0]
                ground = (wide * content.image[i]).sum(dim=(1, 2), keepdim=True) / wide.sum()
                under = (dot > 0) | (wide > 0.1)
                flat[i] = torch.where(under, ground, flat[i])
                marked[i] = torch.where(under, ground + dot * (torch.where(ground > 0, -0.9, 0.9) - ground), marked[i])
            strength = torch.ones(NUM)
            plain, dotted = (
                ARMS[kind](content._replace(image=image), donors, strength, draws_of(seed)) for image in (flat, marked)
            )
            before, after = marked[i] - flat[i], dotted.image[i] - plain.image[i]
            for j in some:
                where = content.landmarks[i, j]
                x, y = (int(v) for v in where.round())
                here = (slice(None), slice(y - 1, y + 2), slice(x - 1, x + 2))
                asked += 1
                if float(after[here].norm()) < 0.25 * float(before[here].norm()):
                    continue  # covered, or washed out: nothing to measure
                moved.append(centroid(after, where) - centroid(before, where))
    shifts = torch.stack(moved)
    assert len(shifts) > 0.4 * asked, "too few dots survive to say anything"
    assert float(shifts.norm(dim=1).median()) < 0.1
    assert float(shifts.mean(dim=0).norm()) < 0.05, "all to one side"


def test_the_marker_test_sees_a_shift_of_a_quarter_pixel(faces: tuple[Batch, Batch], monkeypatch) -> None:
    from stylealign.batches.augment import warp

    def shifted(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        move = torch.tensor([[[1, 0, 0.25], [0, 1, 0]]], dtype=torch.float64).expand(NUM, 2, 3)
        return content._replace(image=warp(content.image, move, content.image.shape[-1]))

    monkeypatch.setitem(ARMS, "shifted", shifted)
    with pytest.raises(AssertionError):
        test_markers_painted_on_the_landmarks_stay_there_to_a_tenth_of_a_pixel("shifted", faces)


# ------------------------------------------------------------------------------------------------------ each one's claim


def statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of lightness, red - blue and green - both, (B, 3) each."""
    red, green, blue = image.unbind(dim=1)
    channels = torch.stack(
        [(red + green + blue) / 3**0.5, (red - blue) / 2**0.5, (2 * green - red - blue) / 6**0.5], dim=1
    ).flatten(2)
    return channels.mean(dim=2), channels.std(dim=2, unbiased=False)


def soft(batch: Batch, contrast: float, seed: int) -> Batch:
    """The same batch with noise for pictures, far from black and white, so that nothing is cut off."""
    noise = torch.randn(batch.image.shape, generator=torch.Generator().manual_seed(seed))
    tint = torch.tensor([0.1, -0.05, 0.02]).view(1, 3, 1, 1) * seed
    return batch._replace(image=(contrast * noise + tint).clamp(-0.99, 0.99))


def test_adain_gives_the_donor_s_statistics(faces: tuple[Batch, Batch]) -> None:
    content, donors = soft(faces[0], 0.1, 1), soft(faces[1], 0.15, 2)
    found = ARMS["adain"](content, donors, torch.ones(NUM), draws_of())
    for ours, theirs in zip(statistics(found.image), statistics(donors.image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.01, atol=2e-3)


def test_adain_stretches_a_grey_picture_s_colours_by_the_limit_at_most(faces: tuple[Batch, Batch]) -> None:
    content = soft(faces[0], 0.02, 1)
    found = ARMS["adain"](content, soft(faces[1], 0.2, 2), torch.ones(NUM), draws_of())
    ratio = statistics(found.image)[1] / statistics(content.image)[1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, MAX_GAIN), rtol=0.01, atol=0.0)


def test_the_pyramid_takes_the_donor_s_sharpness_and_mean(faces: tuple[Batch, Batch]) -> None:
    content, donors = soft(faces[0], 0.1, 1), soft(faces[1], 0.1, 2)
    donors = donors._replace(image=(donors.image + F.avg_pool2d(donors.image, 3, 1, 1, count_include_pad=False)) / 2)
    found = ARMS["adain_pyramid"](content, donors, torch.ones(NUM), draws_of()).image

    def fine(image: Tensor) -> Tensor:
        return (image - F.interpolate(F.avg_pool2d(image, 2), scale_factor=2.0)).std(dim=(1, 2, 3))

    ours, theirs, before = fine(found), fine(donors.image), fine(content.image)
    assert bool((before / theirs > 1.5).all())
    assert bool(((ours / theirs - 1).abs() < 0.25).all())
    torch.testing.assert_close(found.mean(dim=(2, 3)), donors.image.mean(dim=(2, 3)), rtol=0, atol=0.01)


def test_the_pyramid_of_a_face_as_its_own_donor_is_the_face(faces: tuple[Batch, Batch]) -> None:
    for size in (80, 77, 45):
        content = faces[0]._replace(image=faces[0].image[:, :, :size, :size])
        for kind in ("adain", "adain_pyramid", "fda"):
            found = ARMS[kind](content, content, torch.ones(NUM), draws_of())
            torch.testing.assert_close(found.image, content.image, rtol=0, atol=1e-4)


def test_histogram_matching_gives_each_value_the_donor_s_value_of_its_rank(faces: tuple[Batch, Batch]) -> None:
    """The oracle sorts: with as many pixels, the n-th smallest value becomes the donor's n-th smallest."""
    content, donors = soft(faces[0], 0.3, 1), soft(faces[1], 0.1, 2)
    found = ARMS["histogram"](content, donors, torch.ones(NUM), draws_of()).image
    for ours, theirs, before in zip(
        found.flatten(0, 1), donors.image.flatten(0, 1), content.image.flatten(0, 1), strict=True
    ):
        expected = torch.empty(ours.numel())
        expected[before.flatten().argsort()] = theirs.flatten().sort().values
        error = (ours.flatten() - expected).abs()
        assert float(error.mean()) < 2 / 255
        assert float(error.quantile(0.99)) < 8 / 255  # in the tails a bin holds few pixels


def test_fda_swaps_the_amplitudes_of_the_mirrored_picture_and_keeps_its_phases(faces: tuple[Batch, Batch]) -> None:
    """The oracle is the plain Fourier transform of the picture continued by its mirror images, grey and at one beta."""
    content, donors = (
        batch._replace(image=0.3 * batch.image.mean(dim=1, keepdim=True).expand_as(batch.image)) for batch in faces
    )
    size = content.image.shape[-1]
    draws = draws_of()
    draws[:, 0] = 0.7
    found = ARMS["fda"](content, donors, torch.ones(NUM), draws).image
    reach = int(2 * size * (BETA[0] + 0.7 * (BETA[1] - BETA[0])))

    def spectrum(image: Tensor) -> Tensor:
        twice = torch.cat([image, image.flip(2)], dim=2)
        return torch.fft.fft2(torch.cat([twice, twice.flip(3)], dim=3).double() + 1)[:, 0]

    ours, before, theirs = (spectrum(batch) for batch in (found, content.image, donors.image))
    whole = slice(0, int(reach * 0.8))  # of the window, not yet fading
    scale = theirs.abs().amax()
    torch.testing.assert_close(
        ours[:, whole, whole].abs(), theirs[:, whole, whole].abs(), rtol=0, atol=1e-6 * float(scale)
    )
    beyond = slice(reach + 1, size)
    torch.testing.assert_close(ours[:, beyond, :size], before[:, beyond, :size], rtol=0, atol=1e-6 * float(scale))
    phase = (ours * before.conj())[:, whole, whole]
    sure = before[:, whole, whole].abs() > 1e-4 * scale
    assert float(sure.float().mean()) > 0.5
    assert bool((phase.real[sure] > 0).all())
    assert float((phase.imag.abs() / phase.abs().clamp_min(1e-9))[sure].max()) < 1e-3


def test_jitter_of_one_face_differs_from_another_s_and_grows_with_strength(faces: tuple[Batch, Batch]) -> None:
    twice = Batch(*(t[[0, 0, 0, 0]] for t in faces[0]))
    found = ARMS["jitter"](twice, faces[1], torch.ones(NUM), draws_of()).image
    assert float((found[0] - found[1]).abs().mean()) > 0.02
    little = ARMS["jitter"](twice, faces[1], torch.full((NUM,), 0.1), draws_of()).image
    assert float((little - twice.image).abs().mean()) < 0.3 * float((found - twice.image).abs().mean())
