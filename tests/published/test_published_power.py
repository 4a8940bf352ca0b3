"""Printed numbers of power and design: standard errors of an exponent gap, runs for 80 % power, c-optimal designs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.planning.design import c_optimal, contrast_variance, merge_neighbours
from algoprog.scaling.planning.information import covariance, law_jacobian
from algoprog.scaling.planning.power import GapStudy, gap_errors, log_gain_gradient, points_needed

ALPHA = np.array([0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("decades", "sigma", "errors", "points"),
    [
        (1, 0.003, (0.0036, 0.0237, 0.1559), (9, 352, 15245)),
        (2, 0.001, (0.0006, 0.0020, 0.0130), (1, 3, 107)),
        (2, 0.003, (0.0018, 0.0061, 0.0390), (3, 24, 957)),
        (3, 0.003, (0.0012, 0.0029, 0.0174), (1, 6, 190)),
        (3, 0.006, (0.0024, 0.0057, 0.0348), (4, 21, 760)),
        (4, 0.003, (0.0009, 0.0017, 0.0098), (1, 2, 61)),
        (5, 0.003, (0.0007, 0.0012, 0.0063), (1, 1, 26)),
    ],
)
def test_gap_errors_and_points(
    decades: float, sigma: float, errors: tuple[float, ...], points: tuple[int, ...]
) -> None:
    """.065 against .075, E 1.9, central r 2.6 and 2.2, 8 points from 1e15 up: E known, shared, separate; last digit."""
    found = gap_errors(GapStudy(decades=decades, sigma=sigma))
    values = (found.known, found.shared, found.separate)
    assert tuple(round(value, 4) for value in values) == errors
    assert tuple(points_needed(value, 8, 0.01) for value in values) == points


def test_eighty_percent_power_at_a_gap_of_a_hundredth_needs_an_error_of_00357() -> None:
    assert points_needed(0.00357, 8, 0.01) == 8 and points_needed(0.00358, 8, 0.01) == 9


def test_sharing_e_narrows_the_gap_about_sixfold() -> None:
    for decades in (2.0, 3.0):
        found = gap_errors(GapStudy(decades=decades))
        assert found.separate / found.shared == pytest.approx(6.2, abs=0.3)


def test_c_optimal_design_for_the_exponent() -> None:
    """E 1.9, r 2.4, alpha .08 over 1e15-1e18 with E free: bottom, middle and top.

    The optimum on 41 budgets is 25 / 50 / 25 % with a variance 2.55 times below equal spacing. The design 22 / 57 / 21 %,
    at which undamped multiplicative iterations end every other step, gives 2.50.
    """
    flops = np.geomspace(1e15, 1e18, 41)
    jacobian = law_jacobian(PowerLaw(1.9, 2.4, 0.08, 10**16.5), flops)
    equal = contrast_variance(jacobian, ALPHA, np.full(41, 1 / 41))
    assert equal == pytest.approx(41 * covariance(jacobian, 1.0)[1, 1], rel=1e-6)
    shares = c_optimal(jacobian, ALPHA)
    spots = merge_neighbours("a", flops, shares)
    assert [round(spot.share, 2) for spot in spots] == [0.25, 0.50, 0.25]
    assert [spot.flops for spot in spots] == pytest.approx([1e15, 10**16.5, 1e18], rel=0.05)
    assert equal / contrast_variance(jacobian, ALPHA, shares) == pytest.approx(2.55, abs=0.005)
    circling = np.zeros(41)
    circling[[0, 20, 40]] = 0.217, 0.568, 0.215
    assert equal / contrast_variance(jacobian, ALPHA, circling) == pytest.approx(2.50, abs=0.01)


@pytest.mark.parametrize(
    ("flops", "gain", "factors"),
    [
        (1e17, 24.0, (1.59, 1.99, 2.70)),
        (1e18, 60.2, (1.68, 2.68, 4.69)),
        (1.34e22, 2695, (2.45, 11.1, 52.7)),
        (1e23, 6022, (2.69, 15.0, 88.4)),
    ],
)
def test_error_factor_of_a_gain(flops: float, gain: float, factors: tuple[float, ...]) -> None:
    """36.3 C^-.065 against 81.7 C^-.091, both centred at 1e16 with error .01 of ln r and .001, .003, .005 of alpha."""
    old, new = (PowerLaw(1.9, a * 1e16**-alpha, alpha, 1e16) for a, alpha in ((36.3, 0.065), (81.7, 0.091)))
    assert old.compute(new.loss(flops)) / flops == pytest.approx(gain, rel=2e-3)
    slope = log_gain_gradient(old, new, flops)
    for error, factor in zip((0.001, 0.003, 0.005), factors, strict=True):
        variance = slope**2 @ np.array([0.01, error, 0.01, error, 0.0]) ** 2
        assert math.exp(1.96 * math.sqrt(variance)) == pytest.approx(factor, rel=5e-3)
