"""The translator `repaint`: where a bent donor is trusted, what stays of its pixels, and what it learns to paint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from builders.dots import paint
from builders.translator_contract import fresh, saved, some_faces, tiny
from stylealign.batches.batch import Batch
from stylealign.batches.pixels import take
from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.schema import FIVE, IBUG68, convert
from stylealign.styling.chain import ArmConfig, ChainConfig, chooses_by_fit, open_chain
from stylealign.toyfaces import landmarks as landmarks_of
from stylealign.toyfaces import random_structure
from stylealign.training.loop import LoopConfig, start_engine, unwrap
from stylealign.translators.learning import Learning
from stylealign.translators.patches import PatchDiscriminator
from stylealign.translators.reconstruction import RECONSTRUCTION_PRESETS, Reconstruction
from stylealign.translators.repaint.learning import RepaintLearningConfig, bend_and_back, learn_repaint, weighed
from stylealign.translators.repaint.network import LoadedRepaint, Repaint, RepaintConfig, bent_with_mask
from stylealign.translators.repaint.trust import least_stretch, untrusted
from stylealign.translators.schedule import LearningRateConfig
from stylealign.translators.warp.field import bend, pixel_places
from stylealign.translators.warp.network import warped
from stylealign.translators.warp.openings import openings_of, outline_distance

SIZE, OPENINGS = 96, openings_of(IBUG68)
MOUTH = list(OPENINGS[2].outline)


def drawn_landmarks(count: int, seed: int = 0) -> Tensor:
    """(count, 68, 2) of drawn faces, well inside of SIZE px."""
    found = [landmarks_of(random_structure(np.random.default_rng((seed, i))), SIZE) for i in range(count)]
    points = convert(np.stack(found), "wflw98", "ibug68").astype(np.float64)
    return torch.from_numpy(0.7 * (points - SIZE / 2) + SIZE / 2).float()


def grain(count: int, size: int = SIZE, seed: int = 0) -> Tensor:
    """(count, 3, size, size) soft random pictures: no two places are alike."""
    noise = torch.randn(count, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=size, mode="bicubic", align_corners=False).clamp(-1, 1)


def batch_of(image: Tensor, landmarks: Tensor) -> Batch:
    num = len(image)
    visible = torch.ones(landmarks.shape[:2], dtype=torch.bool)
    return Batch(image, landmarks, visible, torch.zeros(num, 2, 3), torch.arange(num), torch.ones(num))


def mask_of(content: Tensor, donor: Tensor) -> Tensor:
    """(SIZE, SIZE) of one pair of landmarks (P, 2)."""
    found = bend(content[None], donor[None])
    return untrusted(found, pixel_places(found, SIZE), content[None], donor[None], OPENINGS)[0, 0]


def opened(points: Tensor, by: float) -> Tensor:
    """The face with its lower lip and chin `by` px lower."""
    moved = points.clone()
    moved[[57, 56, 58, 55, 59, 65, 66, 67], 1] += by
    moved[5:12, 1] += by
    return moved


def shut(points: Tensor) -> Tensor:
    """The face with its inner lips together."""
    closed = points.clone()
    middle = (points[[61, 62, 63]] + points[[67, 66, 65]]) / 2
    closed[[61, 62, 63]] = closed[[67, 66, 65]] = middle
    return closed


# --------------------------------------------------------------------------------------------------------------------
# Where it is trusted


@pytest.mark.parametrize(
    "linear",
    [[[1, 0], [0, 1]], [[0.5, 0], [0, 3]], [[0, 2], [-0.25, 0]], [[1, 0.5], [0, 1]], [[-1, 0], [0, 1]],
     [[0, 1], [1, 0]], [[0, 0], [0, 0]]],
)  # fmt: skip
def test_least_stretch_is_the_smaller_singular_value_and_0_where_it_turns_over(linear: Any) -> None:
    # Rows of `linear` are what a step right and a step down become.
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")
    right, down = torch.tensor(linear, dtype=torch.float32)
    found = least_stretch((x[..., None] * right + y[..., None] * down)[None], torch.ones(1))
    expected = np.linalg.svd(linear)[1].min() if np.linalg.det(linear) > 0 else 0.0
    torch.testing.assert_close(found, torch.full((1, 6, 6), float(expected)), atol=1e-3, rtol=0)
    # A face that is twice as large in the donor's crop is drawn out half as much.
    twice = least_stretch(2 * (x[..., None] * right + y[..., None] * down)[None], torch.full((1,), 2.0))
    torch.testing.assert_close(twice, found)


def test_a_face_on_itself_turned_or_enlarged_is_trusted_everywhere() -> None:
    points = drawn_landmarks(2)
    turn = torch.tensor([[0.9, -0.3], [0.3, 0.9]])
    for donor in (points, points @ turn.T * 1.4 + 5):
        assert float(mask_of(points[0], donor[0]).max()) == 0
    nothing = torch.full_like(points[0], torch.nan)
    assert float(mask_of(points[0], nothing).max()) == 0


def test_an_open_mouth_of_a_shut_one_is_painted_and_the_other_way_only_between_the_lips() -> None:
    closed = shut(drawn_landmarks(1)[0])
    wide = opened(closed, 9)
    grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy"), -1).view(1, -1, 2)
    distance = outline_distance(grid.float(), wide[None, MOUTH]).view(SIZE, SIZE)
    mask = mask_of(wide, closed)
    assert float(mask[distance < -1].min()) > 0.95
    assert float(mask[: int(wide[27, 1])].max()) == 0, "nothing above the nose"
    between = mask_of(closed, wide)
    line = outline_distance(grid.float(), closed[None, MOUTH]).view(SIZE, SIZE)
    assert float(between[line < 0.7].mean()) > 0.8
    assert 0 < float(between.mean()) < float(mask.mean())


def test_an_opening_of_which_a_landmark_is_missing_leaves_the_mask_finite() -> None:
    closed = shut(drawn_landmarks(1)[0])
    wide = opened(closed, 9)
    for points in (closed, wide):
        points[62] = torch.nan
        assert bool(mask_of(wide, closed).isfinite().all())
        assert bool(mask_of(closed, wide).isfinite().all())


def test_a_cheek_that_a_turned_head_hides_is_painted_and_the_other_is_not() -> None:
    content = drawn_landmarks(1)[0]
    middle, donor = content[27:31, 0].mean(), content.clone()
    left = content[:, 0] < middle
    donor[left, 0] = middle + 0.25 * (content[left, 0] - middle)
    mask = mask_of(content, donor)
    top, bottom = int(content[1, 1]), int(content[5, 1])
    assert float(mask[top:bottom, int(content[3, 0]) + 3 : int(middle) - 3].mean()) > 0.8
    assert float(mask[top:bottom, int(middle) + 8 : int(content[13, 0])].mean()) < 0.05


# --------------------------------------------------------------------------------------------------------------------
# What stays of the donor


def noisy(size: int, channels: int = 3) -> Repaint:
    torch.manual_seed(0)
    model = Repaint(RepaintConfig(fine=4, width=4, max_width=8), size, channels).eval()
    nn.init.normal_(model.last.weight, std=0.5)
    return model


def test_what_is_trusted_stays_the_donor_s_pixels_to_the_last_bit() -> None:
    model, image = noisy(32), grain(2, 32)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 10:20, 5:15] = 1
    made = model(image, mask, torch.rand(2, 3, 32, 32))
    assert torch.equal(made[:, :, 20:], image[:, :, 20:])
    assert not torch.equal(made[:, :, 10:20, 5:15], image[:, :, 10:20, 5:15])
    assert torch.equal(model(image, 0 * mask, torch.rand(2, 3, 32, 32)), image)
    fresh_one = Repaint(RepaintConfig(fine=4, width=4), 32, 3)
    assert torch.equal(fresh_one(image, mask, torch.rand(2, 3, 32, 32)), image), "it begins by changing nothing"


def opened_repaint(size: int) -> LoadedRepaint:
    translator = fresh("repaint")
    card, crop = {"model": "repaint", "model_hash": "0"}, CropConfig(size=size, scale=1.6)
    model = noisy(size, translator.structure_maps(torch.zeros(1, 5, 2)).shape[1])
    return LoadedRepaint(model, FIVE, crop, translator.structure, card, torch.device("cpu"))


def test_landmarks_lie_where_the_content_s_do_and_larger_pictures_keep_the_donor_s_detail() -> None:
    translator = opened_repaint(64)
    content = torch.tensor([[22.0, 24], [42, 24], [32, 34], [24, 46], [40, 46]])[None]
    donor = content * 1.3 - 8 + torch.tensor([[2.0, -1], [-1, 2], [1, 1], [8, -2], [-7, 1]])  # a narrow mouth
    pixels = paint(donor[0].numpy().astype(np.float64), 64, 64, np.array([20, 30, 40]))
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    style = translator.encode_style(picture, donor)
    made = translator.decode(translator.encode_structure(content), style)
    bent, _ = warped(None, content, picture, donor, FIVE, size=64)
    mask = bent_with_mask(content, picture, donor, FIVE, 64).mask
    assert 0.01 < float(mask.mean()) < 0.2
    kept = (mask == 0).expand_as(made)
    torch.testing.assert_close(made[kept], bent[kept], atol=1e-6, rtol=0)
    there = take(made, content[:, None])[0, :, 0].T
    wanted = take(picture, donor[:, None])[0, :, 0].T
    free = take(mask, content[:, None])[0, 0, 0] == 0
    assert int(free.sum()) >= 2
    assert float((there - wanted)[free].abs().max()) < 0.15, "a dot is where the content's landmark is"
    large = translator.decode_on(translator.encode_structure(content), style, torch.zeros(1, 3, 128, 128))
    at_large = bent_with_mask((content + 0.5) * 2 - 0.5, picture, donor, FIVE, 128)
    kept = (at_large.mask == 0).expand_as(large)
    torch.testing.assert_close(large[kept], at_large.image[kept])
    assert not torch.equal(large, at_large.image)


# --------------------------------------------------------------------------------------------------------------------
# What it learns from


def test_faces_bent_there_and_back_are_themselves_but_for_what_is_painted() -> None:
    points = drawn_landmarks(12)
    points[::2] = torch.stack([opened(p, 6) for p in points[::2]])
    pair = bend_and_back(batch_of(grain(12), points), IBUG68)
    assert 3 <= len(pair.rows) <= 12
    rows = pair.rows
    assert torch.equal(pair.truth, grain(12)[rows]), "the truth is the face as it was"
    trusted = (pair.mask == 0).expand_as(pair.truth)
    assert torch.equal(pair.back[trusted], pair.truth[trusted])
    harm = (pair.back - pair.truth).abs().mean(dim=1, keepdim=True)
    lost = pair.mask > 0.9
    assert bool(lost.any())
    assert float(harm[lost].mean()) > 0.1, "what is painted is really damaged"
    # The neighbours are those that the faces were bent to, bent onto the faces by the same map.
    near = batch_of(grain(12), points).image[(rows - 1) % 12]
    other = bent_with_mask(points[rows], near, points[(rows - 1) % 12], IBUG68, SIZE)
    assert torch.equal(pair.donor, other.image)
    assert torch.equal(pair.mask, other.mask)


def test_neighbours_that_cannot_be_bent_are_passed_over() -> None:
    points = drawn_landmarks(3)
    points[1] = torch.nan
    pair = bend_and_back(batch_of(grain(3), points), IBUG68)
    assert set(pair.rows.tolist()) <= {0}
    points[:] = torch.nan
    assert len(bend_and_back(batch_of(grain(3), points), IBUG68).rows) == 0


def test_a_lid_that_is_not_known_makes_no_picture_that_is_not_a_number() -> None:
    points = drawn_landmarks(12)
    points[::2, 38] = torch.nan  # in one eye; the neighbour's other eye is nearly shut
    middle = points[1::2, 42:48, 1].mean(dim=1, keepdim=True)
    points[1::2, 42:48, 1] = middle + 0.4 * (points[1::2, 42:48, 1] - middle)
    pair = bend_and_back(batch_of(grain(12), points), IBUG68)
    assert bool((pair.rows % 2 == 1).any())
    assert all(bool(torch.isfinite(part).all()) for part in (pair.back, pair.donor, pair.mask))


def test_a_patch_counts_by_how_much_of_it_was_painted() -> None:
    values = torch.tensor([[1.0, 2], [3, 4]])[None, None]
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, 4:] = 1
    assert float(weighed(values, mask)) == 2
    mask[..., 4:, 4:6] = 1  # half of another patch
    assert float(weighed(values, mask)) == pytest.approx((2 + 0.5 * 4) / 1.5)
    assert float(weighed(values, 0 * mask)) == 0


def learning_of(faces: Batch, own: RepaintLearningConfig) -> Learning:
    """Of one batch that is the same at every step, without features and without a detector."""
    torch.manual_seed(0)
    size = faces.image.shape[-1]
    engine = start_engine(LoopConfig(steps=40, batch_size=len(faces.image), accelerator="cpu"))
    return Learning(
        model=Repaint(RepaintConfig(fine=4, width=8, max_width=16), size, 1), own=own, engine=engine, schema=IBUG68,
        size=size, maps=lambda points: torch.zeros(len(points), 1, size, size),
        vary=lambda batch, step, view=0, motions=None: batch, first=faces,
        reconstruction=Reconstruction(RECONSTRUCTION_PRESETS["pixels"]), watch=None,
        lr=LearningRateConfig(start=1e-2, flat_frac=0.9), steps=1000, seed=0,
    )  # fmt: skip


def plain_faces() -> Batch:
    """Three faces of 48 px and one colour with dark mouths, the second one open: it is to be painted from shut ones."""
    closed = shut(drawn_landmarks(1)[0]) / 2
    points = torch.stack([closed, opened(closed, 3), closed])
    grid = torch.stack(torch.meshgrid(torch.arange(48), torch.arange(48), indexing="xy"), -1).view(1, -1, 2)
    inside = outline_distance(grid.float().expand(3, -1, -1), points[:, MOUTH]).view(3, 1, 48, 48) < 0
    return batch_of(torch.where(inside, -0.8, 0.5).expand(3, 3, 48, 48).contiguous(), points)


def test_it_learns_to_paint_what_the_donor_lacks() -> None:
    learner = learn_repaint(learning_of(plain_faces(), RepaintLearningConfig(adversarial=0)))
    terms = [{k: v.item() for k, v in learner.update(plain_faces(), step).items()} for step in range(70)]
    assert "discriminator" not in terms[0]
    early, late = (sum(term["total"] for term in some) for some in (terms[:5], terms[-5:]))
    assert late < 0.75 * early  # 0.67 on one processor; each pair is another, so that one update says little
    assert 0 < terms[0]["painted"] < 0.3


def test_the_discriminator_learns_and_batches_without_a_pair_are_survived() -> None:
    learner = learn_repaint(learning_of(plain_faces(), RepaintLearningConfig(discriminator_width=4)))
    first = learner.update(plain_faces(), 0)
    assert {"adversarial", "discriminator", "pixel", "gradient", "painted", "total"} == set(first)
    faces = plain_faces()
    nothing = learner.update(faces._replace(landmarks=torch.full_like(faces.landmarks, torch.nan)), 1)
    assert all(bool(torch.isfinite(value)) for value in nothing.values())
    assert nothing["painted"].item() == 0
    assert isinstance(unwrap(learner.modules["discriminator"]), PatchDiscriminator)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Repaint(RepaintConfig(), 12, 3), "size 12 must be at least 16"),
        (lambda: RepaintConfig(fine=0), "expected at least 1 each"),
        (lambda: RepaintLearningConfig(landmark=-1), "expected 0 or more"),
        (lambda: RepaintLearningConfig(discriminator_halvings=0), "expected at least 1"),
        (lambda: fresh("repaint").encode_style(torch.zeros(1, 3, 16, 16)), "translator 'repaint' bends the donor's"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(make: Any, sentence: str) -> None:
    with pytest.raises((ValueError, UserError), match=sentence):
        make()


# --------------------------------------------------------------------------------------------------------------------
# As a style arm


def test_as_an_arm_its_donors_are_chosen_by_fit_and_those_that_cannot_be_bent_leave_the_face_alone(
    tmp_path: Path,
) -> None:
    run, crop = saved("repaint", tmp_path / "run"), CropConfig(size=tiny("repaint").size, scale=1.6)
    config = ChainConfig(arms=(ArmConfig(kind="translator", run=run, strength=(1.0, 1.0)),))
    chain = open_chain(config, 1.0, crop, FIVE, torch.device("cpu"))
    assert chooses_by_fit(chain)
    assert not chooses_by_fit(open_chain(ChainConfig(preset="histogram"), 1.0, crop, FIVE, torch.device("cpu")))
    image, landmarks = some_faces(3, crop.size)
    donors = batch_of(image.flip(0), landmarks.flip(0))
    donors.landmarks[1] = donors.landmarks[1][[1, 0, 2, 3, 4]]  # eyes that change places
    donors.landmarks[2] = torch.nan
    made = chain[0].arms[0](batch_of(image, landmarks), donors, torch.ones(3), torch.rand(3, 16))
    assert not torch.equal(made.image[0], image[0])
    assert torch.equal(made.image[1:], image[1:])
