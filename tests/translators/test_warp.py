"""The translator `warp`: where each landmark comes to lie, what is refused, who is chosen, what is laid in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stylealign.errors import UserError
from stylealign.face.crop import CropConfig
from stylealign.face.geometry import face_size
from stylealign.face.schema import FIVE, IBUG68, convert
from stylealign.toyfaces import landmarks as landmarks_of
from stylealign.toyfaces import random_structure
from stylealign.translators import trained_names, untrained_names
from stylealign.translators.loaded import load_translator, named_translator, open_untrained
from stylealign.translators.warp.field import TOUCH, bend, determinants, donor_places
from stylealign.translators.warp.fit import (
    WarpConfig,
    descriptors,
    faults,
    fitting_donors,
    reference_shape,
    refused_pairs,
)
from stylealign.translators.warp.look import SIDE, looks_of
from stylealign.translators.warp.network import warped
from stylealign.translators.warp.openings import area, openings_of, outline_distance

SIZE, LIMITS, OPENINGS = 256, WarpConfig(), openings_of(IBUG68)
MOUTH = OPENINGS[2].outline


def shapes(count: int, seed: int = 0) -> np.ndarray:
    """(count, 68, 2) landmarks of drawn faces, wholly inside of 256 px."""
    found = [landmarks_of(random_structure(np.random.default_rng((seed, i))), SIZE) for i in range(count)]
    return 0.7 * (convert(np.stack(found), "wflw98", "ibug68").astype(np.float64) - SIZE / 2) + SIZE / 2


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Landmarks (n, 68, 2) of drawn faces and of the donors that fit them best."""
    contents, donors = shapes(6), shapes(40, seed=1)
    found = fitting_donors(contents, donors, 1, 0, np.full(6, -1), IBUG68, LIMITS)
    rows = np.flatnonzero(found.donors[:, 0] >= 0)
    assert len(rows) >= 4
    return contents[rows], donors[found.donors[rows, 0]]


def touching(content: np.ndarray) -> np.ndarray:
    """(68,) bool: landmarks of a face that have another in their place, as closed lips do."""
    apart = np.linalg.norm(content[:, None] - content[None], axis=-1) + 1e9 * np.eye(len(content))
    return apart.min(axis=1) < 1.01 * TOUCH * face_size(content)


def test_the_donor_s_landmarks_lie_on_the_content_s_to_a_third_of_a_pixel(pairs) -> None:
    """Two colours of the donor's picture say where in it each pixel was, the third has dots on some of its landmarks:
    dots are seen where the content's landmarks are, and the colours there name the donor's."""
    y, x = np.mgrid[:SIZE, :SIZE]
    for content, donor in zip(*pairs, strict=True):
        apart = [j for j in range(0, 68, 6) if not touching(content)[j]]
        dots = sum(np.exp(-((x - donor[j, 0]) ** 2 + (y - donor[j, 1]) ** 2) / 8) for j in apart)
        picture = torch.from_numpy(np.stack([x / SIZE, y / SIZE, np.minimum(dots, 1)])).float()[None]
        points, donors = (torch.from_numpy(p)[None] for p in (content, donor))
        made, ok = warped(None, points, picture, donors, IBUG68, size=SIZE)
        assert bool(ok.all())
        unit = (torch.from_numpy(content).float() + 0.5) * 2 / SIZE - 1
        there = torch.nn.functional.grid_sample(made, unit[None, None], align_corners=False)[0, :, 0].T.numpy()
        off = np.linalg.norm(there[:, :2] * SIZE - donor, axis=1)
        assert float(off[~touching(content)].max()) < 0.3
        assert float(np.median(there[apart, 2])) > 0.9
        assert float(made[0, 2].mean()) < 0.1, "and nowhere else"


def test_the_map_takes_every_landmark_to_the_donor_s_and_only_turns_and_scales_what_is_far_away(pairs) -> None:
    content, donor = (torch.from_numpy(p) for p in pairs)
    found = bend(content, donor)
    off = (donor_places(found, content) - donor).norm(dim=-1).numpy()
    assert all(float(row[~touching(points)].max()) < 0.02 for row, points in zip(off, pairs[0], strict=True))
    turned = content * 1.2 + torch.tensor([30.0, -12.0])
    same = bend(content, turned)
    anywhere = torch.rand(len(content), 50, 2, dtype=torch.float64) * 400 - 70
    expected = anywhere * 1.2 + torch.tensor([30.0, -12.0])
    torch.testing.assert_close(donor_places(same, anywhere), expected, atol=0.02, rtol=0)


def test_the_determinant_is_that_of_small_differences(pairs) -> None:
    content, donor = (torch.from_numpy(p[:2]) for p in pairs)
    found = bend(content, donor)
    at = torch.rand(30, 2, dtype=torch.float64) * 1.6 - 0.8
    size, step = found.content[:, None, 2:], 1e-4
    middle = at * size + found.content[:, None, :2]

    def moved(x: float, y: float) -> Tensor:
        ahead, back = (
            donor_places(found, middle + s * step * size * torch.tensor([x, y], dtype=torch.float64)) for s in (1, -1)
        )
        return (ahead - back) / (2 * step) / found.donor[:, None, 2:]

    by_x, by_y = moved(1, 0), moved(0, 1)
    expected = by_x[..., 0] * by_y[..., 1] - by_x[..., 1] * by_y[..., 0]
    torch.testing.assert_close(determinants(found, at)[0], expected, atol=1e-3, rtol=1e-3)


def test_pairs_that_fold_stretch_or_miss_are_refused_each_for_its_reason(pairs) -> None:
    content, donor = pairs[0][:1], pairs[1][:1]

    def found(donor: np.ndarray, content: np.ndarray = content):
        a, b = torch.from_numpy(content), torch.from_numpy(donor)
        return faults(bend(a, b), a, b, OPENINGS, LIMITS.stretch)

    assert not bool(found(donor).refused(LIMITS))
    crossed = donor.copy()
    crossed[:, [36, 45]] = crossed[:, [45, 36]]  # outer corners of the eyes change places
    assert bool(found(crossed).folded)
    narrow = donor.copy()  # half of a face squeezed to a third, as of a head turned away
    middle = donor[:, 27:31].mean(axis=1, keepdims=True)
    narrow[..., 0] = np.where(
        donor[..., 0] < middle[..., 0], middle[..., 0] + 0.2 * (donor - middle)[..., 0], donor[..., 0]
    )
    assert float(found(narrow).stretched) > LIMITS.stretched
    shut = content.copy()
    shut[:, [65, 66, 67]] = shut[:, [63, 62, 61]]  # lips that touch, of a donor whose lips do not
    gaping = donor.copy()
    gaping[:, 65:68, 1] += 0.15 * SIZE
    assert float(found(gaping, shut).apart) > LIMITS.apart
    unknown = np.full_like(donor, np.nan)
    assert bool(found(unknown).unknown)
    assert all(bool(found(*pair).refused(LIMITS)) for pair in ((crossed,), (narrow,), (gaping, shut), (unknown,)))
    some = donor.copy()
    some[:, 3] = np.nan  # one landmark less does no harm
    assert not bool(found(some).refused(LIMITS))


@pytest.mark.parametrize("count", [1, 40])
def test_what_is_quickly_seen_refuses_no_other_pairs(count: int) -> None:
    """`refused_pairs` looks at what is cheap first; `faults` looks at all of it."""
    contents, donors = shapes(40, seed=3), shapes(40, seed=4)
    donors[::5, 3] = np.nan
    donors[7] = np.nan
    a, b = torch.from_numpy(contents), torch.from_numpy(donors)
    expected = faults(bend(a, b), a, b, OPENINGS, LIMITS.stretch).refused(LIMITS).numpy()
    assert 0.2 < expected.mean() < 0.95
    found = [
        refused_pairs(contents[i : i + count], donors[i : i + count], OPENINGS, LIMITS) for i in range(0, 40, count)
    ]
    assert (np.concatenate(found) == expected).all()


@pytest.mark.parametrize("k", [1, 3])
def test_donors_are_those_of_a_search_one_by_one(k: int) -> None:
    """However many pairs are looked at together, and counted as if so many as are wanted were looked at a time."""
    donors = shapes(60, seed=6)
    strict = WarpConfig(stretch=1.5, stretched=0.005)  # few fit, so that the search goes far
    most = 0
    for content in shapes(3, seed=5)[:, None]:
        found, queue = (
            fitting_donors(content, donors, k, 0, np.array([-1]), IBUG68, strict),
            plain_queue(content, donors),
        )
        taken: list[int] = []
        tried = refused = 0
        for start in range(0, len(queue), k):
            if len(taken) < k:
                some = queue[start : start + k]
                bad = refused_pairs(np.repeat(content, len(some), axis=0), donors[some], OPENINGS, strict)
                taken += some[~bad][: k - len(taken)].tolist()
                tried, refused = tried + len(some), refused + int(bad.sum())
        assert found.donors[0].tolist() == taken + [-1] * (k - len(taken))
        assert (found.tried[0], found.refused[0]) == (tried, refused)
        most = max(most, tried)
    assert most > 30


def test_donors_are_the_nearest_in_shape_and_a_function_of_the_seed(pairs) -> None:
    content = pairs[0][:1]
    turned = content[:, :, ::-1].copy() * [1, -1] * 0.7 + 300  # a quarter turn, smaller, elsewhere: the same shape
    donors = np.concatenate([shapes(30, seed=2), content, turned])
    found = fitting_donors(content, donors, 3, 5, np.array([30]), IBUG68, LIMITS)
    assert found.donors[0, 0] == 31
    assert 30 not in found.donors, "never the face itself"
    reference = reference_shape(donors)
    apart = np.linalg.norm(descriptors(donors, reference, IBUG68) - descriptors(content, reference, IBUG68), axis=1)
    assert (np.diff(apart[found.donors[0]]) >= 0).all()
    assert found.tried[0] >= 3 + found.refused[0]
    few = WarpConfig(offered=5)
    by_seed = [fitting_donors(content, donors, 1, seed, np.array([30]), IBUG68, few).donors[0, 0] for seed in range(8)]
    again = [fitting_donors(content, donors, 1, seed, np.array([30]), IBUG68, few).donors[0, 0] for seed in range(8)]
    assert by_seed == again
    assert len(set(by_seed)) > 1
    nobody = fitting_donors(content, np.full((4, 68, 2), np.nan), 2, 0, np.array([-1]), IBUG68, LIMITS)
    assert nobody.donors.tolist() == [[-1, -1]]
    assert nobody.short.tolist() == [0]


def test_among_donors_near_in_shape_those_are_taken_that_differ_in_look(pairs) -> None:
    content, donors = pairs[0][:1], shapes(40, seed=2)
    nobody, asked = np.array([-1]), []
    plain = fitting_donors(content, donors, 40, 0, nobody, IBUG68, LIMITS)
    order = plain.donors[0][plain.donors[0] >= 0]  # all that fit, the nearest first
    assert len(order) >= 12
    look = np.zeros((40, 1))
    look[order[[3, 5, 11]], 0] = 5.0, -4.0, 99.0

    def looks(positions: np.ndarray) -> np.ndarray:
        asked.append(positions)
        return look[positions]

    def taken(k: int, variety: float, offered: int = 1000) -> list[int]:
        config = WarpConfig(variety=variety, offered=offered)
        return fitting_donors(content, donors, k, 0, nobody, IBUG68, config, looks).donors[0].tolist()

    near = (1 + int(np.flatnonzero(plain_queue(content, donors) == order[8])[0])) / 40  # as far as the ninth that fits
    assert taken(3, near) == [order[0], order[3], order[5]]
    assert taken(3, 1.0)[:2] == [order[0], order[11]], "the farther may be gone, the more they differ"
    assert asked[0].tolist() == list(range(40))
    # The nearest alone, and where none is left among the near ones, the next nearest.
    asked.clear()
    assert taken(3, 0.0) == order[:3].tolist()
    assert taken(1, near) == [order[0]]
    assert not asked, "no look is needed"
    assert set(taken(len(order), near)) == set(order)
    found = fitting_donors(content, donors, len(order) + 1, 0, nobody, IBUG68, WarpConfig(variety=near), looks)
    assert (found.tried[0], found.refused[0]) == (40, 40 - len(order))
    with pytest.raises(ValueError, match="variety is 2, expected 0 to 1"):
        WarpConfig(variety=2)


def plain_queue(content: np.ndarray, donors: np.ndarray) -> np.ndarray:
    """Positions of donors, the nearest in shape first, whether they can be bent or not."""
    reference = reference_shape(np.concatenate([content, donors]))
    ours, theirs = (descriptors(points, reference, IBUG68) for points in (content, donors))
    return np.argsort(np.linalg.norm(theirs - ours, axis=1), kind="stable")


def test_looks_tell_a_hat_from_none_and_no_outlier_from_all() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(rng.normal(size=(30, 4, 4, 3)), 4, axis=1).repeat(4, axis=2)
    people[1] = people[0]
    people[1, :4] = 3.0
    people[2] = people[0] + 0.01 * rng.normal(size=(SIDE, SIDE, 3))
    people[29] *= 50
    looks = looks_of(people)
    apart = np.linalg.norm(looks - looks[0], axis=1)
    assert 0 < apart[2] < 0.1 * apart[1]
    others = np.linalg.norm(looks[:, None] - looks[None], axis=2)
    assert others[29].mean() < 1.3 * np.median(others[others > 0])
    np.testing.assert_allclose(looks_of(3 * people + 7), looks, atol=1e-9)
    grey = looks_of(np.zeros((2, SIDE, SIDE, 3)))
    assert grey.shape == (2, looks.shape[1])
    assert not grey.any()


def test_an_open_mouth_takes_its_inside_from_the_content_in_the_donor_s_tone_and_a_closed_one_nothing(pairs) -> None:
    content, donor = pairs[0][:1].copy(), pairs[1][:1].copy()
    content[:, 65:68, 1] = content[:, [63, 62, 61], 1] + 30
    donor[:, 65:68, 1] = donor[:, [63, 62, 61], 1] + 4
    points, donors = torch.from_numpy(content), torch.from_numpy(donor)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2).double()
    inside = (outline_distance(grid, points[:, list(MOUTH)]) < -4).view(SIZE, SIZE)
    outside = (outline_distance(grid, points[:, list(MOUTH)]) > 8).view(SIZE, SIZE)
    assert int(inside.sum()) > 100
    image = torch.where((outline_distance(grid, points[:, list(MOUTH)]) < 0).view(SIZE, SIZE), 0.9, 0.3)
    image = image.expand(1, 3, SIZE, SIZE).contiguous()  # bright teeth in a bright face
    dark = torch.full((1, 3, SIZE, SIZE), -0.6)
    made, _ = warped(image, points, dark, donors, IBUG68)
    teeth = float(made[0, 0][inside].mean())
    assert -0.55 < teeth < 0.5, "lighter than the donor's skin, darker than in the bright face"
    assert float((made[0, 0][outside] + 0.6).abs().max()) < 1e-5, "all else is the donor's"
    made, _ = warped(image, points, dark, points, IBUG68)
    assert float((made + 0.6).abs().max()) < 1e-5, "a donor whose mouth is as open shows its own"


def test_of_a_donor_with_one_eye_shut_both_are_the_content_s(pairs) -> None:
    content, donor = pairs[0][:1].copy(), pairs[0][:1].copy()
    for eye in ((37, 38, 40, 41), (43, 44, 46, 47)):  # wide open, both
        content[:, list(eye), 1] += np.array([-4, -4, 4, 4]) * 1.5
    donor[:, [43, 44, 46, 47]] = donor[:, [42, 45, 45, 42]] + [0, 0.5]
    donor[:, [37, 38, 40, 41]] = content[:, [37, 38, 40, 41]]
    points, donors = torch.from_numpy(content), torch.from_numpy(donor)
    image, dark = torch.full((1, 3, SIZE, SIZE), 0.2), torch.full((1, 3, SIZE, SIZE), -0.6)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    grid = torch.stack([x, y], dim=-1).view(1, -1, 2).double()
    inside = [(outline_distance(grid, points[:, list(o.outline)]) < -2).view(SIZE, SIZE) for o in OPENINGS[:2]]
    for eye in inside:
        image[:, :, eye] = 0.9
    made, _ = warped(image, points, dark, donors, IBUG68)
    assert all(float(made[0, 0][eye].mean()) > -0.5 for eye in inside), "lighter than the donor in both"


def test_an_eye_whose_outline_is_not_known_leaves_both_the_donor_s(pairs) -> None:
    content, donor = pairs[0][:1].copy(), pairs[0][:1].copy()
    middle = donor[:, 42:48, 1].mean()
    donor[:, 42:48, 1] = middle + 0.1 * (donor[:, 42:48, 1] - middle)  # one eye shut
    image, dark = torch.linspace(-1, 1, SIZE).expand(1, 3, SIZE, SIZE), torch.full((1, 3, SIZE, SIZE), -0.6)
    made, _ = warped(image, torch.from_numpy(content), dark, torch.from_numpy(donor), IBUG68)
    assert float((made + 0.6).abs().max()) > 0.01, "the content's eyes are laid in where both are known"
    content[:, 38] = np.nan  # a lid of the other eye
    points, donors = torch.from_numpy(content), torch.from_numpy(donor)
    made, ok = warped(image, points, dark, donors, IBUG68)
    assert bool(ok.all())
    assert float((made + 0.6).abs().max()) < 1e-5, "all is the donor's"
    # What is not laid in is the donor's, drawn out: it counts among the faults.
    found = bend(points, donors)
    told, of_one = (faults(found, points, donors, some, LIMITS.stretch) for some in (OPENINGS, OPENINGS[2:]))
    assert float(told.stretched) == float(of_one.stretched)


def test_what_is_laid_in_comes_into_the_donor_s_light_and_of_a_grey_donor_is_grey(pairs) -> None:
    """Skin and teeth by how much of each colour they give back; blue light on the content, warm light on the donor."""
    content, donor = pairs[0][:1].copy(), pairs[1][:1].copy()
    content[:, 65:68, 1] = content[:, [63, 62, 61], 1] + 30
    donor[:, 65:68, 1] = donor[:, [63, 62, 61], 1] + 4
    points, donors = torch.from_numpy(content), torch.from_numpy(donor)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    distance = outline_distance(torch.stack([x, y], dim=-1).view(1, -1, 2).double(), points[:, list(MOUTH)])
    distance = distance.view(SIZE, SIZE)
    skin, teeth = torch.tensor([0.7, 0.55, 0.45]), torch.tensor([0.8, 0.8, 0.8])
    blue, warm = torch.tensor([0.8, 1.0, 1.2]), torch.tensor([1.2, 1.0, 0.8])

    def picture(colour: Tensor) -> Tensor:
        return (2 * colour - 1)[None, :, None, None].expand(1, 3, SIZE, SIZE).contiguous()

    image = torch.where(distance < 0, picture(teeth * blue), picture(skin * blue))

    def warmth(of: Tensor) -> float:
        laid, _ = warped(image, points, of, donors, IBUG68)
        red, _, blues = laid[0, :, distance < -4].mean(dim=1) / 2
        return float(red - blues)

    true, raw = float((teeth * warm)[0] - (teeth * warm)[2]), float((teeth * blue)[0] - (teeth * blue)[2])
    assert abs(warmth(picture(skin * warm)) - true) < 0.65 * abs(raw - true)
    assert abs(warmth(picture(torch.full((3,), 0.5)))) < 1e-3


def test_outlines_have_an_inside_and_an_area() -> None:
    square = torch.tensor([[[2.0, 2], [6, 2], [6, 6], [2, 6]]])
    points = torch.tensor([[[4.0, 4], [4, 3], [8, 4], [9, 10], [0, 2]]])
    torch.testing.assert_close(outline_distance(points, square), torch.tensor([[-2.0, -1, 2, 5, 2]]))
    assert float(area(square)) == 16
    assert [o.name for o in OPENINGS] == ["eye", "eye", "mouth"]
    assert OPENINGS[2].outline == (60, 61, 62, 63, 64, 65, 66, 67)
    assert openings_of(FIVE) == ()


def test_a_name_in_place_of_a_run_and_what_may_be_meant_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert untrained_names() == ["warp"]
    assert "warp" not in trained_names()
    monkeypatch.chdir(tmp_path)
    assert named_translator("warp") == "warp"
    assert named_translator(Path("runs/warp")) is None
    assert named_translator(None) is None
    (tmp_path / "warp").mkdir()
    (tmp_path / "warp" / "card.json").write_text("{}")
    with pytest.raises(UserError, match="a run folder here is called so too: give that folder's whole path"):
        named_translator("warp")
    with pytest.raises(UserError):
        load_translator(tmp_path / "warp")
    one, other = (open_untrained("warp", schema, CropConfig()) for schema in (IBUG68, FIVE))
    assert one.hash != other.hash


def test_refused_pairs_are_those_of_the_limits(pairs) -> None:
    contents, donors = pairs
    assert not refused_pairs(contents, donors, OPENINGS, LIMITS).any()
    strict = WarpConfig(stretch=1.01, stretched=0.0)
    assert refused_pairs(contents, donors, OPENINGS, strict).all()
    with pytest.raises(ValueError, match="stretch 1"):
        WarpConfig(stretch=1.0)
