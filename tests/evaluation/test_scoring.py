"""What is said of an arm and of two, on errors so few that the figures are worked out by hand."""

import numpy as np
import pytest

from stylealign.evaluation.scoring import compare


def test_the_standard_error_over_seeds_is_the_one_worked_out_by_hand() -> None:
    nme = np.array([[0.2, 0.4], [0.3, 0.5], [0.7, 0.9]])  # three seeds, two faces
    base = np.array([[0.1, 0.1], [0.2, 0.2]])
    found = compare(nme, base, resamples=50, pairs=[(0, 0), (1, 0), (2, 1)])
    # Differences of the pairs: 0.2, 0.3 and 0.6; their sample variance is (0.1667² + 0.0667² + 0.2333²) / 2.
    assert found["seeds"] == {
        "mean": pytest.approx(1.1 / 3),
        "standard_error": pytest.approx((0.0433333 / 3) ** 0.5, rel=1e-5),
        "pairs": 3,
    }
    assert found["difference"] == pytest.approx(0.5 - 0.15)
    assert found["relative"] == pytest.approx((0.5 - 0.15) / 0.15)
    assert compare(nme, base, resamples=50, pairs=[(0, 0)])["seeds"] is None
