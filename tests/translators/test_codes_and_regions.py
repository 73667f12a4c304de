"""Soft regions of a face and the style codes pooled from them, by hand-worked cases."""

import pytest
import torch
from torch import Tensor

from builders.translator_contract import FACE
from stylealign.batches.structure_maps import structure_maps
from stylealign.face.schema import FIVE, IBUG68
from stylealign.translators.codes import CodeConfig, code_distance, forget_regions, roll
from stylealign.translators.regions import REGIONS, pool, region_masks, spread


def region_at(masks: Tensor, x: int, y: int) -> dict[str, float]:
    return {name: round(float(masks[0, i, y, x]), 4) for i, name in enumerate(REGIONS) if masks[0, i, y, x] > 1e-4}


def test_regions_lie_where_the_landmarks_say() -> None:
    """The box of FACE is x 10..22, y 10..22; a fifth of its height more for the forehead gives an ellipse round (16,
    14.8), radii 6 and 7.2."""
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


def test_code_distance_is_one_where_the_code_is_another_face_s() -> None:
    wanted = [torch.tensor([[0.0, 0], [2, 4]]), torch.zeros(2, 6, 0)]
    assert float(code_distance(wanted, wanted)) == 0
    assert float(code_distance(roll(wanted), wanted)) == 1
    style = [wanted[0].clone().requires_grad_(), wanted[1]]
    target = [wanted[0].roll(1, 0).requires_grad_(), wanted[1]]
    code_distance(style, target).backward()
    assert target[0].grad is None


def test_regional_codes_that_are_not_known_are_nothing_to_come_to() -> None:
    """Of four donors the last is without regional codes: those of the first three are 1, 2 and 4 in every number."""
    wanted = [torch.arange(4.0)[:, None].expand(4, 2), torch.tensor([1.0, 2, 4, 0])[:, None, None].expand(4, 6, 3)]
    assert float(code_distance(wanted, wanted)) == 0
    off = (torch.full((4, 6, 3), 0.5) + wanted[1]).requires_grad_()
    distance = code_distance([wanted[0], off], wanted)
    # Neighbours that are both known are 1 and 2 apart; the three that are known are 0.5 off; the global term is 0.
    torch.testing.assert_close(distance.detach(), torch.tensor(0.5 / 1.5 / 2))
    distance.backward()
    assert off.grad is not None
    assert [bool(g.any()) for g in off.grad] == [True, True, True, False]
    # Nor is the code of a swap that is not known, as its content's landmarks are missing.
    unknown = off.detach() * torch.tensor([0.0, 1, 1, 1])[:, None, None]
    torch.testing.assert_close(code_distance([wanted[0], unknown], wanted), distance.detach())


def test_where_no_two_donors_are_known_regional_codes_have_no_measure_and_teach_nothing() -> None:
    wanted = [torch.arange(4.0)[:, None].expand(4, 2), torch.tensor([1.0, 0, 4, 0])[:, None, None].expand(4, 6, 3)]
    assert float(code_distance([wanted[0], wanted[1] + 0.5], wanted)) == 0


def test_lines_and_points_are_both_in_the_combined_structure_map() -> None:
    face = torch.rand(2, 68, 2) * 20 + 6
    maps = structure_maps(face, 32, "boundaries_points", IBUG68)
    assert maps.shape == (2, len(IBUG68.boundaries) + 1, 32, 32)
    assert torch.equal(maps[:, :-1], structure_maps(face, 32, "boundaries", IBUG68))
    assert torch.equal(maps[:, -1], structure_maps(face, 32, "points", IBUG68)[:, 0])


def test_codes_of_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        CodeConfig(width=0)
