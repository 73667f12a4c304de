"""The contract of style arms, held by every entry of ARMS (builders/arm_contract.py), and each free arm's own claim."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from builders.arm_contract import (
    CHECKS,
    CROP,
    NUM,
    Case,
    case_of,
    drawn_faces,
    draws_of,
    markers_on_the_landmarks_stay_there_to_a_tenth_of_a_pixel,
)
from builders.painted import untrained_translator
from stylealign.batches.augment import warp
from stylealign.batches.batch import Batch, take_faces
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE, WFLW98
from stylealign.styling.arms import ARMS, ArmEntry, open_arm
from stylealign.styling.chain import ChainConfig, open_chain, restyle
from stylealign.styling.free import BETA, MAX_GAIN, adain, adain_pyramid, fda, histogram, jitter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Batch, Batch]:
    return drawn_faces(tmp_path_factory.mktemp("arms"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_translator(tmp_path_factory.mktemp("run") / "translator", WFLW98)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ARMS)
def test_every_arm_keeps_the_contract(name: str, check, faces: tuple[Batch, Batch], run: Path) -> None:
    check(case_of(name, faces, run))


def test_the_marker_check_sees_a_shift_of_a_quarter_pixel(faces: tuple[Batch, Batch]) -> None:
    def shifted(content: Batch, donors: Batch, strength: Tensor, draws: Tensor) -> Batch:
        move = torch.tensor([[[1, 0, 0.25], [0, 1, 0]]], dtype=torch.float64).expand(NUM, 2, 3)
        return content._replace(image=warp(content.image, move, content.image.shape[-1]))

    with pytest.raises(AssertionError):
        markers_on_the_landmarks_stay_there_to_a_tenth_of_a_pixel(
            Case(ArmEntry(summary="a shift", arm=shifted), shifted, *faces)
        )


def test_an_arm_is_opened_in_exactly_one_way() -> None:
    with pytest.raises(ValueError, match="arm 'nothing': expected exactly one of arm, for_schema and from_run"):
        ArmEntry(summary="nothing")
    with pytest.raises(ValueError, match="exactly one"):
        ArmEntry(summary="two", arm=jitter, for_schema=lambda schema: jitter)
    for name, said in (("jiter", "no style arm is called 'jiter'; there are jitter, "), ("translator", "needs a run")):
        with pytest.raises(UserError, match=said):
            open_arm(name, FIVE, CropConfig(), CPU)


# ----------------------------------------------------------------------------------------------------- each one's claim


@pytest.mark.parametrize("name", ["warp", "translator"])
def test_what_lies_over_a_bent_donor_s_landmark_is_over_the_face_s(name: str, faces: tuple[Batch, Batch]) -> None:
    content = faces[0]._replace(visible=faces[0].visible | True)
    hidden = torch.zeros_like(content.visible)
    hidden[:, 10:20] = True
    donors = content._replace(visible=~hidden, image=content.image.flip(0))  # of the same shape: all can be bent
    arm = open_arm(name, WFLW98, CROP, CPU, Path("warp") if name == "translator" else None)
    draws = draws_of()
    for strength, shown in ((1.0, True), (0.6, True), (0.1, False)):
        answer = arm(content, donors, torch.full((NUM,), strength), draws)
        assert torch.equal(answer.visible, ~hidden if shown else content.visible)
    unknown = donors._replace(landmarks=torch.full_like(donors.landmarks, torch.nan))
    assert torch.equal(arm(content, unknown, torch.ones(NUM), draws).visible, content.visible), "what is left alone"


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
    found = adain(content, donors, torch.ones(NUM), draws_of())
    for ours, theirs in zip(statistics(found.image), statistics(donors.image), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.01, atol=2e-3)


def test_adain_stretches_a_grey_picture_s_colours_by_the_limit_at_most(faces: tuple[Batch, Batch]) -> None:
    content = soft(faces[0], 0.02, 1)
    found = adain(content, soft(faces[1], 0.2, 2), torch.ones(NUM), draws_of())
    ratio = statistics(found.image)[1] / statistics(content.image)[1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, MAX_GAIN), rtol=0.01, atol=0.0)


def test_the_pyramid_takes_the_donor_s_sharpness_and_mean(faces: tuple[Batch, Batch]) -> None:
    content, donors = soft(faces[0], 0.1, 1), soft(faces[1], 0.1, 2)
    donors = donors._replace(image=(donors.image + F.avg_pool2d(donors.image, 3, 1, 1, count_include_pad=False)) / 2)
    found = adain_pyramid(content, donors, torch.ones(NUM), draws_of()).image

    def fine(image: Tensor) -> Tensor:
        return (image - F.interpolate(F.avg_pool2d(image, 2), scale_factor=2.0)).std(dim=(1, 2, 3))

    ours, theirs, before = fine(found), fine(donors.image), fine(content.image)
    assert bool((before / theirs > 1.5).all())
    assert bool(((ours / theirs - 1).abs() < 0.25).all())
    torch.testing.assert_close(found.mean(dim=(2, 3)), donors.image.mean(dim=(2, 3)), rtol=0, atol=0.01)


def test_the_pyramid_of_a_face_as_its_own_donor_is_the_face(faces: tuple[Batch, Batch]) -> None:
    for size in (80, 77, 45):
        content = faces[0]._replace(image=faces[0].image[:, :, :size, :size])
        for arm in (adain, adain_pyramid, fda):
            found = arm(content, content, torch.ones(NUM), draws_of())
            torch.testing.assert_close(found.image, content.image, rtol=0, atol=1e-4)


def test_histogram_matching_gives_each_value_the_donor_s_value_of_its_rank(faces: tuple[Batch, Batch]) -> None:
    """The oracle sorts: with as many pixels, the n-th smallest value becomes the donor's n-th smallest."""
    content, donors = soft(faces[0], 0.3, 1), soft(faces[1], 0.1, 2)
    found = histogram(content, donors, torch.ones(NUM), draws_of()).image
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
    found = fda(content, donors, torch.ones(NUM), draws).image
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
    twice = take_faces(faces[0], torch.zeros(4, dtype=torch.int64))
    found = jitter(twice, faces[1], torch.ones(NUM), draws_of()).image
    assert float((found[0] - found[1]).abs().mean()) > 0.02
    little = jitter(twice, faces[1], torch.full((NUM,), 0.1), draws_of()).image
    assert float((little - twice.image).abs().mean()) < 0.3 * float((found - twice.image).abs().mean())


def test_what_a_bent_donor_lacks_is_no_label_of_the_face_and_no_other_is_touched(faces: tuple[Batch, Batch]) -> None:
    content, _ = faces
    donors = content._replace(landmarks=content.landmarks.clone())
    donors.landmarks[0, 76:96] = float("nan")  # its mouth
    arm, draws = case_of("warp", faces).arm, draws_of()
    found = arm(content, donors, torch.ones(NUM), draws)
    assert torch.isnan(found.landmarks[0]).all(dim=1).nonzero().view(-1).tolist() == list(range(76, 96))
    assert torch.equal(found.landmarks[0, :76], content.landmarks[0, :76])
    assert torch.equal(found.landmarks[1:], content.landmarks[1:])
    hardly = arm(content, donors, torch.full((NUM,), 0.2), draws)  # more of the face's own photograph than of the donor
    assert torch.equal(hardly.landmarks, content.landmarks)
    links = open_chain(ChainConfig(preset="warp"), 1.0, CROP, WFLW98, CPU)
    restyled = restyle(content, donors, links, torch.Generator().manual_seed(0))
    assert torch.equal(torch.isnan(restyled.landmarks), torch.isnan(found.landmarks))
