"""Answers that lean to one side: measured from two answers, kept in a card, turned round with a mirrored crop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dots import PLACES
from stylealign.errors import UserError
from stylealign.evaluation.lean import lean_of_card, measured_lean
from stylealign.face.geometry import mirrored_back
from stylealign.face.schema import FIVE
from stylealign.predicting.onnx_network import to_metadata

SIZE = 48
ORDER = FIVE.flip_permutation


@given(st.floats(-0.05, 0.05))
def test_who_leans_the_same_way_on_both_crops_is_measured_and_comes_home_to_the_same_place(lean: float) -> None:
    truth = np.stack([PLACES + SIZE / 2 + shift for shift in (-3.0, 0.0, 4.0)])
    mirror_truth = truth[:, ORDER] * [-1, 1] + [SIZE - 1, 0]
    right = np.array([lean * SIZE, 0])
    plain, mirrored = truth + right, mirror_truth + right
    assert measured_lean(plain, mirrored_back(mirrored, SIZE, ORDER), SIZE) == pytest.approx(lean, abs=1e-12)
    np.testing.assert_allclose(mirrored_back(mirrored, SIZE, ORDER, lean), plain, atol=1e-9)


def test_a_card_without_one_has_none_and_one_that_means_nothing_is_refused() -> None:
    assert lean_of_card({}, "card.json") == 0
    assert lean_of_card({"lean": 0.004}, "card.json") == 0.004
    for wrong in ("left", True, None, 0.5, float("nan"), [0.1]):
        with pytest.raises(UserError, match=r"card.json: lean: found .*, expected a number from -0.1 to 0.1"):
            lean_of_card({"lean": wrong}, "card.json")


def test_an_onnx_file_says_it_too() -> None:
    card = {"model": "resnet18", "model_hash": "f" * 64, "crop": {}, "schema": {}, "lean": 0.004}
    assert to_metadata(card, "fp32")["lean"] == "0.004"
    assert "lean" not in to_metadata({**card, "lean": 0.0}, "fp32")
