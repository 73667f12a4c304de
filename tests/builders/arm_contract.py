"""What styling/arm.py asks of every style arm, as checks: for each entry of ARMS, and for arms that a test adds."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from builders.tiny import drawn
from stylealign.batches.batch import Batch, take_faces
from stylealign.batches.crops import CropCache
from stylealign.batches.structure_maps import gaussians
from stylealign.face.crop import CropConfig
from stylealign.face.schema import WFLW98
from stylealign.styling.arm import NUM_DRAWS, Arm
from stylealign.styling.arms import ARMS, ArmEntry, open_arm

NUM, CROP = 4, CropConfig(size=64)


class Case(NamedTuple):
    """An arm with faces to restyle."""

    entry: ArmEntry
    arm: Arm
    content: Batch
    donors: Batch

    def answer(self, strength: float = 1.0, seed: int = 0, **changes: Batch) -> Batch:
        """What the arm makes of the faces, or of others."""
        batches = self._replace(**changes)
        return self.arm(batches.content, batches.donors, torch.full((NUM,), strength), draws_of(seed))


def drawn_faces(folder: Path) -> tuple[Batch, Batch]:
    """Four drawn faces on crops of 64 px with their margin, and four others as donors."""
    cache = CropCache(drawn(folder / "drawn", 2 * NUM), CROP, 1.25, folder)
    return cache.batch(np.arange(NUM)), cache.batch(np.arange(NUM, 2 * NUM))


def case_of(name: str, faces: tuple[Batch, Batch], run: Path | None = None) -> Case:
    """An arm of the table, opened for drawn faces; `run` is for arms that need one."""
    entry = ARMS[name]
    arm = open_arm(name, WFLW98, CROP, torch.device("cpu"), run if entry.needs_run else None)
    return Case(entry, arm, *faces)


def draws_of(seed: int = 0) -> Tensor:
    return torch.rand(NUM, NUM_DRAWS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x.nan_to_num(-9e9), y.nan_to_num(-9e9)) for x, y in zip(a, b, strict=True))


def unlabelled(batch: Batch) -> Batch:
    return batch._replace(landmarks=torch.full_like(batch.landmarks, float("nan")))


def only_the_picture_changes_and_it_is_a_picture(case: Case) -> None:
    content, found = case.content, case.answer()
    assert found.image.shape == content.image.shape
    assert found.image.dtype == torch.float32
    assert bool(torch.isfinite(found.image).all())
    assert -1 - 1e-6 <= float(found.image.min()) <= float(found.image.max()) <= 1 + 1e-6
    assert same(found._replace(image=content.image, visible=content.visible), content)
    assert not bool((found.visible & ~content.visible).any()), "what was hidden is not uncovered"
    assert float((found.image - content.image).abs().mean()) > 0.002, "at its fullest an arm changes something"


def strength_0_is_the_identity(case: Case) -> None:
    found = case.answer(strength=0.0)
    assert same(found._replace(image=case.content.image), case.content)
    torch.testing.assert_close(found.image, case.content.image, rtol=0, atol=1e-6)
    # Also of a face whose neighbours are restyled.
    some = case.arm(case.content, case.donors, torch.tensor([0.0, 1.0] * (NUM // 2)), draws_of())
    torch.testing.assert_close(some.image[::2], case.content.image[::2], rtol=0, atol=1e-6)
    assert torch.equal(some.visible[::2], case.content.visible[::2])


def the_draws_decide(case: Case) -> None:
    state = torch.get_rng_state()
    first = case.answer()
    torch.rand(3)
    assert same(case.answer(), first), "a global generator has a say"
    torch.set_rng_state(state)


def a_batch_is_its_faces_one_by_one(case: Case) -> None:
    content, donors = case.content, case.donors._replace(landmarks=case.donors.landmarks.clone())
    donors.landmarks[1] = float("nan")  # a face of the batch whose donor is unlabelled
    strength, draws = torch.tensor([0.2, 1.0, 0.6, 0.9]), draws_of()
    together = case.arm(content, donors, strength, draws)
    for i in range(NUM):
        row = torch.tensor([i])
        single = case.arm(take_faces(content, row), take_faces(donors, row), strength[row], draws[row])
        torch.testing.assert_close(single.image[0], together.image[i], rtol=0, atol=1e-4)
        assert torch.equal(single.visible[0], together.visible[i])


def the_arguments_are_left_alone(case: Case) -> None:
    before = [Batch(*(t.clone() for t in batch)) for batch in (case.content, case.donors)]
    strength, draws = torch.ones(NUM), draws_of()
    case.arm(case.content, case.donors, strength, draws)
    assert all(same(a, b) for a, b in zip(before, (case.content, case.donors), strict=True))
    assert torch.equal(strength, torch.ones(NUM))
    assert torch.equal(draws, draws_of())


def faces_without_landmarks_do_no_harm(case: Case) -> None:
    nobody = case.answer(content=unlabelled(case.content), donors=unlabelled(case.donors))
    assert bool(torch.isfinite(nobody.image).all())
    assert bool(torch.isfinite(case.answer(content=unlabelled(case.content)).image).all())
    found = case.answer(donors=unlabelled(case.donors))
    assert bool(torch.isfinite(found.image).all())
    if case.entry.needs_donor_landmarks:
        assert same(found, case.content)


def flat_pictures_stay_finite(case: Case) -> None:
    for a, b in ((0.3, None), (None, -1.0), (1.0, 1.0)):
        one, two = (
            batch if value is None else batch._replace(image=torch.full_like(batch.image, value))
            for batch, value in ((case.content, a), (case.donors, b))
        )
        assert bool(torch.isfinite(case.answer(content=one, donors=two).image).all())


def it_looks_at_the_donor_where_its_entry_says_so(case: Case) -> None:
    others = take_faces(case.donors, torch.arange(NUM).roll(1))
    found = [same(case.answer(seed=seed), case.answer(seed=seed, donors=others)) for seed in range(4)]
    assert all(found) if not case.entry.looks_at_donor else not all(found)


# The landmarks in the picture.

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


def markers_on_the_landmarks_stay_there_to_a_tenth_of_a_pixel(case: Case) -> None:
    """A face with dots on some landmarks and the same face without go through the arm with the same draws; where their
    results differ is where the dots are afterwards. Under each dot the face is made flat, in both: on a slope, an arm
    that maps colours would make one side of a dot stand out more than the other, and nothing would have moved.

    Not asked of arms that draw the face anew: they have a judge, which measures where a run puts the landmarks. Nor of
    those that bend the donor's face: tests/translators/test_warp.py has dots on the donor.
    """
    if case.entry.needs_run or case.entry.donors_by_fit:
        return
    content = case.content
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
                colour = ground + dot * (torch.where(ground > 0, -0.9, 0.9) - ground)
                marked[i] = torch.where(under, colour, marked[i])
            plain, dotted = (case.answer(seed=seed, content=content._replace(image=image)) for image in (flat, marked))
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


CHECKS: tuple[Callable[[Case], None], ...] = (
    only_the_picture_changes_and_it_is_a_picture,
    strength_0_is_the_identity,
    the_draws_decide,
    a_batch_is_its_faces_one_by_one,
    the_arguments_are_left_alone,
    faces_without_landmarks_do_no_harm,
    flat_pictures_stay_finite,
    it_looks_at_the_donor_where_its_entry_says_so,
    markers_on_the_landmarks_stay_there_to_a_tenth_of_a_pixel,
)
