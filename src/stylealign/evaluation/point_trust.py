"""How sure a detector is of each point, made true: its raw answer of that -> covariances that its errors have.

A detector answers a covariance a point, or the peak of a map, or nothing but what it says of the mirrored face. Each is
a base covariance B (px^2 of the crop) that is larger where errors are larger, and in no unit. With eigenvalues b of B,
the calibrated covariance has the same axes and the eigenvalues

    T_p s (b / s) ** g

s being typical of the faces that it was fitted on, T_p a temperature (Guo et al., ICML 2017) for all points or one a
point, and g the power by which what is raw has to be stretched (1: not at all). They are fitted by the likelihood of
Gaussian errors. Arrays in, numbers out; knows no network and no files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from stylealign.errors import UserError, counted
from stylealign.face.covariance import isotropic, not_positive, scales

Basis = Literal["covariance", "peaks", "mirror"]
BASES: dict[Basis, str] = {
    "covariance": "the covariances that the detector answers",
    "peaks": "the peaks of its heatmaps",
    "mirror": "the distance of its answer on the mirrored face",
}
MIRROR_FLOOR = 0.01  # of the crop's side: a standard deviation that two answers are given where they agree by chance
LEAST_PEAK = 0.01
MOST_POWER = 8.0
FEWEST = 16  # faces below which one temperature is all that is fitted
WORTH = 0.002  # nats a point by which a larger model must be better on faces that it was not fitted on
NEAR = 0.05  # of the face's size: a landmark that far from the truth is near it

A = TypeVar("A")


# --------------------------------------------------------------------------------------------------------------------
# Bases


def base_of(basis: Basis, covariance: np.ndarray | None, peaks: np.ndarray | None) -> np.ndarray | None:
    """(..., P, 2, 2) float64 base of an answer: its covariance (..., P, 2, 2) px^2 of the crop or its heatmaps' peaks
    (..., P); None where it has none of that kind, and of `mirror` (`mirror_base`)."""
    if basis == "covariance" and covariance is not None:
        return np.asarray(covariance, np.float64)
    if basis == "peaks" and peaks is not None:
        return isotropic(np.maximum(np.asarray(peaks, np.float64), LEAST_PEAK) ** -2)
    return None


def mirror_base(plain: np.ndarray, mirrored: np.ndarray, size: int) -> np.ndarray:
    """(..., P, 2, 2) base of two answers (..., P, 2) px of a crop of `size` px, on it and, mirrored back, on its mirror
    image."""
    apart = np.asarray(plain, np.float64) - np.asarray(mirrored, np.float64)
    return isotropic((apart**2).sum(axis=-1) + (MIRROR_FLOOR * size) ** 2)


def refuse_not_positive(covariance: np.ndarray, where: str) -> None:
    """Raise UserError that names the first of (N, P, 2, 2) that is no covariance."""
    wrong = not_positive(covariance)
    if wrong.any():
        face, point = np.argwhere(wrong)[0]
        found = ", ".join(f"{value:g}" for value in covariance[face, point].reshape(-1))
        raise UserError(
            f"{where}: covariance of landmark {point} of face {face}: found [{found}], expected a positive definite "
            f"matrix ({counted(int(wrong.sum()), 'such landmark')})"
        )


# --------------------------------------------------------------------------------------------------------------------
# What is fitted


def stretched(xx: A, xy: A, yy: A, temperature: Any, typical: float, power: float) -> tuple[A, A, A]:
    """Entries of covariances -> entries of the calibrated ones. Operators alone: NumPy arrays and torch tensors.

    Args:
        xx, xy, yy: of symmetric positive matrices, (..., P).
        temperature: (P,) of the same kind, or a number.
        typical, power: s and g above.
    """
    a, b, d = xx, xy, yy  # type: Any, Any, Any
    middle = (a + d) / 2
    half = (((a - d) / 2) ** 2 + b * b + 1e-12 * middle * middle) ** 0.5  # half the distance of the eigenvalues
    larger = middle + half
    smaller = (a * d - b * b) / larger
    first, second = (temperature * typical * (value / typical) ** power for value in (larger, smaller))
    mean, slope = (first + second) / 2, (first - second) / (2 * half)
    return mean + slope * (a - middle), slope * b, mean + slope * (d - middle)


@dataclass(frozen=True, kw_only=True, slots=True)
class PointTrust:
    """What makes a detector's raw answer of how sure it is a covariance. Stored in the model's card."""

    basis: Basis
    """What it is made from"""
    temperature: tuple[float, ...]
    """One for all points, or one a point"""
    typical: float = 1.0
    """px^2 of the crop"""
    power: float = 1.0

    def calibrated(self, base: np.ndarray) -> np.ndarray:
        """(..., P, 2, 2) px^2 of the crop -> the same, as errors are."""
        temperature = np.array(self.temperature)
        if len(temperature) == 1:
            temperature = temperature[0]
        xx, xy, yy = stretched(base[..., 0, 0], base[..., 0, 1], base[..., 1, 1], temperature, self.typical, self.power)
        return np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)

    def to_dict(self) -> dict[str, Any]:
        """As a card has it."""
        return {"basis": self.basis, "temperature": list(self.temperature), "typical": self.typical,
                "power": self.power}  # fmt: skip


def trust_of_card(card: Mapping[str, Any], num_points: int, where: str) -> PointTrust | None:
    """The trust of a model's card; None where it has none. Raises UserError for one that means nothing."""
    found = card.get("trust")
    if found is None:
        return None
    expected = (
        f"expected a basis ({', '.join(BASES)}), a list of 1 or {counted(num_points, 'temperature')}, typical and "
        "power, numbers above 0 (power: at least 0)"
    )
    try:
        trust = PointTrust(
            basis=found["basis"], temperature=tuple(float(t) for t in found["temperature"]),
            typical=float(found["typical"]), power=float(found["power"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where}: trust: found {str(found)[:200]}, {expected}") from None
    numbers = (*trust.temperature, trust.typical, trust.power)
    good = len(trust.temperature) in (1, num_points) and np.isfinite(numbers).all() and min(numbers[:-1]) > 0
    if not good or trust.power < 0 or trust.basis not in BASES:
        raise UserError(f"{where}: trust: found {str(found)[:200]}, {expected}")
    return trust


# --------------------------------------------------------------------------------------------------------------------
# Fitting


@dataclass(frozen=True, slots=True)
class _Seen:
    """Squared errors along the axes of their bases, and the bases' eigenvalues. Temperatures are px^2 here: times the
    typical eigenvalue."""

    squared: np.ndarray
    """(N, P, 2) px^2"""
    values: np.ndarray
    """(N, P, 2), over the typical one"""
    known: np.ndarray
    """(N, P) bool"""

    def rows(self, which: np.ndarray) -> "_Seen":
        return _Seen(self.squared[which], self.values[which], self.known[which])

    def temperature(self, power: float, a_point: bool) -> np.ndarray:
        """(1,) or (P,): the most likely."""
        ratio = np.where(self.known[..., None], self.squared / self.values**power, 0.0)
        over = (0, 2) if a_point else None
        count = 2 * self.known.sum(axis=0 if a_point else None)
        whole = ratio.sum() / max(2 * self.known.sum(), 1)
        found = np.atleast_1d(ratio.sum(axis=over) / np.maximum(count, 1))
        return np.maximum(np.where(np.atleast_1d(count) > 0, found, whole), 1e-12)

    def surprise(self, temperature: np.ndarray, power: float) -> float:
        """Mean negative log-likelihood of a point's error, nats."""
        variance = temperature[:, None] * self.values**power
        each = 0.5 * (np.log(2 * np.pi * variance) + self.squared / variance).sum(axis=-1)
        return float(each[self.known].mean())

    def power(self, a_point: bool) -> float:
        """The most likely power, each with the temperatures that are most likely under it."""
        from scipy.optimize import minimize_scalar  # half a second to import, and only calibration needs it

        answer = minimize_scalar(
            lambda g: self.surprise(self.temperature(g, a_point), g), bounds=(0.0, MOST_POWER), method="bounded"
        )
        return float(answer.x)


def fit_trust(
    errors: np.ndarray, base: np.ndarray, basis: Basis, known: np.ndarray | None = None
) -> tuple[PointTrust, dict[str, float]]:
    """The trust that makes errors likeliest, and how likely they are by it.

    One temperature, one a point, and either with a power are tried: the simplest that none betters by WORTH on the
    other half of the faces, each half once. Of fewer than FEWEST faces one temperature is fitted.

    Args:
        errors: (N, P, 2) px of the crop: answers less truth.
        base: (N, P, 2, 2) px^2 of the crop, positive definite.
        basis: what the bases are.
        known: (N, P) bool: landmarks whose truth is known; None: all.

    Returns:
        the trust; `surprise_before` and `surprise`: mean negative log-likelihood of a point's error, nats, by the base
        as it is and calibrated, on these faces.

    Raises UserError for a base that is not positive, and where no landmark is known.
    """
    known = np.isfinite(errors).all(axis=-1) & (True if known is None else known)
    if not known.any():
        raise UserError("calibrating trust: no landmark of these faces is labelled, expected at least one")
    refuse_not_positive(base, "calibrating trust")
    values, axes = np.linalg.eigh(base)
    squared = np.einsum("npxk,npx->npk", axes, np.where(known[..., None], errors, 0.0)) ** 2
    typical = float(np.exp(np.log(values[known]).mean()))
    seen = _Seen(squared, values / typical, known)

    candidates = [(False, False)]  # a temperature a point, a power
    if len(errors) >= FEWEST:
        candidates += [(False, True), (True, False), (True, True)]
    halves = [seen.rows(np.arange(len(errors)) % 2 == k) for k in (0, 1)]

    def held_out(a_point: bool, free: bool) -> float:
        surprise = 0.0
        for fitted, judged in (halves, halves[::-1]):
            power = fitted.power(a_point) if free else 1.0
            surprise += judged.surprise(fitted.temperature(power, a_point), power) / 2
        return surprise

    best = candidates[0]
    if len(candidates) > 1:
        scores = [held_out(*each) for each in candidates]
        best = next(each for each, score in zip(candidates, scores, strict=True) if score <= min(scores) + WORTH)
    power = seen.power(best[0]) if best[1] else 1.0
    temperature = seen.temperature(power, best[0])
    relative = tuple(float(t) for t in temperature / typical)
    trust = PointTrust(basis=basis, temperature=relative, typical=typical, power=power)
    return trust, {
        "surprise_before": seen.surprise(np.array([typical]), 1.0),
        "surprise": seen.surprise(temperature, power),
    }


# --------------------------------------------------------------------------------------------------------------------
# What a person is told


def point_confidence(covariance: np.ndarray, size: np.ndarray | float) -> Any:
    """How likely each landmark lies within NEAR of its face's size of the truth, 0 to 1.

    Args:
        covariance: (..., P, 2, 2) px^2.
        size: (...,) `geometry.face_size`, px.

    Returns:
        (..., P): 1 - exp(-r^2 / (var_x + var_y)), the share of a Gaussian without a direction within r.
    """
    reach = (NEAR * np.asarray(size, np.float64)) ** 2
    return 1 - np.exp(-reach[..., None] / (2 * scales(covariance) ** 2))


def face_confidence(covariance: np.ndarray, size: np.ndarray | float) -> Any:
    """(...,) the share of a face's landmarks that are expected within NEAR of its size of the truth, 0 to 1: the mean
    of `point_confidence`, which says what it takes."""
    return point_confidence(covariance, size).mean(axis=-1)
