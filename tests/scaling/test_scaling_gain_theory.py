"""Closed forms of the gain between two laws against central differences, brute force and simulation; growth over years."""

from __future__ import annotations

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from algoprog.scaling import InputError, PowerLaw, law_gain
from algoprog.scaling.gain_theory import (
    infinite_beyond,
    log_gain_variance,
    log_slope_new,
    log_slope_old,
    parity,
    peak,
    planned_factor,
    sensitivities,
    zero_beyond,
)
from algoprog.scaling.growth import ComputeTrend, GrowthRate, gain_growth, mean_growth

LSTM, TRANSFORMER = PowerLaw(1.9, 36.3, 0.065), PowerLaw(1.9, 81.7, 0.091)
laws = st.builds(
    PowerLaw,
    E=st.floats(1.5, 2),
    a=st.floats(1, 4),
    alpha=st.floats(0.05, 0.12),
    C0=st.sampled_from([1e15, 1e16, 1e18]),
)
decades = st.floats(14, 22)


def finite(old: PowerLaw, new: PowerLaw, flops: float) -> None:
    """Only where the gain is finite with some room around."""
    assume(new.loss(flops * 1.01) - old.E > 1e-2)


@given(laws, laws, decades)
def test_sensitivities_are_the_central_differences(old: PowerLaw, new: PowerLaw, decade: float) -> None:
    flops = 10**decade
    finite(old, new, flops)

    def log_gain(v: np.ndarray) -> float:
        a, b = PowerLaw(v[4], math.exp(v[0]), v[1], old.C0), PowerLaw(v[5], math.exp(v[2]), v[3], new.C0)
        return math.log(law_gain(a, b, flops))

    at = np.array([math.log(old.a), old.alpha, math.log(new.a), new.alpha, old.E, new.E])
    for i, found in enumerate(astuple(sensitivities(old, new, flops))):
        step = np.zeros(6)
        step[i] = 1e-6
        central = (log_gain(at + step) - log_gain(at - step)) / 2e-6
        assert found == pytest.approx(central, rel=1e-4, abs=1e-4)


@given(laws, laws, decades)
def test_log_slopes_are_the_central_differences(old: PowerLaw, new: PowerLaw, decade: float) -> None:
    flops = 10**decade
    finite(old, new, flops)
    x, h = np.asarray(math.log(flops)), 1e-4
    for anchor, slope in (("new", log_slope_new), ("old", log_slope_old)):
        pair = [law_gain(old, new, flops * math.exp(s * h), anchor) for s in (1, -1)]  # type: ignore[arg-type]
        assume(min(pair) > 0)
        central = math.log(pair[0] / pair[1]) / (2 * h)
        assert float(slope(old.parameters, new.parameters, x)) == pytest.approx(central, rel=1e-3, abs=1e-3)


@given(laws, laws, decades)
def test_a_shared_error_of_e_cancels(old: PowerLaw, new: PowerLaw, decade: float) -> None:
    finite(old, new, 10**decade)
    shared = np.zeros((6, 6))
    shared[4:, 4:] = 0.1**2
    assert log_gain_variance(old, new, 10**decade, shared) == pytest.approx(0, abs=1e-9)


def test_delta_method_agrees_with_simulation() -> None:
    rng = np.random.default_rng(0)
    old, new = PowerLaw(1.9, 3.0, 0.065, 1e16), PowerLaw(1.9, 2.5, 0.091, 1e16)
    sd = np.array([0.002, 0.0003, 0.002, 0.0003, 0.002, 0.002])
    mixing = np.eye(6) + 0.3 * rng.standard_normal((6, 6))
    sigma = np.outer(sd, sd) * (mixing @ mixing.T)
    drawn = rng.multivariate_normal([math.log(3.0), 0.065, math.log(2.5), 0.091, 1.9, 1.9], sigma, 4000)
    gains = [
        math.log(law_gain(PowerLaw(v[4], math.exp(v[0]), v[1], 1e16), PowerLaw(v[5], math.exp(v[2]), v[3], 1e16), 1e18))
        for v in drawn
    ]
    assert np.var(gains) == pytest.approx(log_gain_variance(old, new, 1e18, sigma), rel=0.08)


@given(laws, laws)
def test_parity_is_where_both_gains_are_one(old: PowerLaw, new: PowerLaw) -> None:
    new = PowerLaw(old.E, new.a, new.alpha, new.C0)
    assume(abs(old.alpha - new.alpha) > 5e-3)
    flops = parity(old, new)
    assert flops is not None
    assume(1e-100 < flops < 1e100)
    assert law_gain(old, new, flops) == pytest.approx(1, rel=1e-6)
    assert law_gain(old, new, flops, "old") == pytest.approx(1, rel=1e-6)


def test_parity_without_a_meeting_point_or_a_closed_form() -> None:
    assert parity(LSTM, PowerLaw(1.9, 30.0, 0.065)) is None
    with pytest.raises(InputError, match="no closed form of parity; got 'E 1.9 and 1.85'"):
        parity(LSTM, PowerLaw(1.85, 81.7, 0.091))


@settings(max_examples=50)
@given(laws, laws)
def test_peak_beats_a_fine_grid(old: PowerLaw, new: PowerLaw) -> None:
    found = peak(old, new)
    if not (new.E > old.E and new.alpha > old.alpha):
        assert found is None
        return
    if found is None:
        return  # beyond the largest float
    flops, gain = found
    assume(1e-200 < flops < 1e200)
    grid = np.geomspace(flops / 100, flops * 100, 401)
    others = [law_gain(old, new, float(c)) for c in grid]
    assert gain >= max(others) * (1 - 1e-9)
    assert gain == pytest.approx(max(others), rel=1e-4)


@given(laws, laws)
def test_ends_of_both_gains(old: PowerLaw, new: PowerLaw) -> None:
    last, zero = infinite_beyond(old, new), zero_beyond(old, new)
    assert (last < math.inf) <= (new.E < old.E) and (zero < math.inf) <= (new.E > old.E)
    if 1e-200 < last < 1e200:
        assert law_gain(old, new, last * 1.01) == math.inf and law_gain(old, new, last / 1.01) < math.inf
        assert math.isnan(float(log_slope_new(old.parameters, new.parameters, np.asarray(math.log(last * 1.01)))))
        with pytest.raises(InputError, match="no derivative here"):
            sensitivities(old, new, last * 1.01)
    if 1e-200 < zero < 1e200:
        assert law_gain(old, new, zero * 1.01, "old") == 0.0 and law_gain(old, new, zero / 1.01, "old") > 0.0


def test_slope_of_h_tends_to_one_where_the_new_floor_is_lower() -> None:
    lower = PowerLaw(1.85, 81.7, 0.091)
    assert float(log_slope_old(LSTM.parameters, lower.parameters, np.asarray(400.0))) == pytest.approx(1, abs=1e-6)


def test_bad_covariances_are_refused() -> None:
    for bad in (np.eye(5), np.triu(np.ones((6, 6)))):
        with pytest.raises(InputError, match="symmetric matrix of shape"):
            log_gain_variance(LSTM, TRANSFORMER, 1e17, bad)


def test_planned_factor_needs_less_at_lower_levels() -> None:
    wide, narrow = (
        planned_factor(LSTM, TRANSFORMER, 1e17, se_log_a=(0.01, 0.01), se_alpha=(0.001, 0.001), level=level)
        for level in (0.95, 0.5)
    )
    assert wide > narrow > 1


def test_growth_rates() -> None:
    trend = ComputeTrend(1e16, 2013, 4.1)
    assert trend.at(2013) == pytest.approx(1e16) and trend.at(2014) == pytest.approx(4.1e16)
    rate = gain_growth(0.5, trend)
    assert rate.log_rate == pytest.approx(0.5 * math.log(4.1)) and rate.factor == pytest.approx(math.sqrt(4.1))
    assert rate.annual == pytest.approx(rate.factor - 1)
    assert mean_growth(8.0, 3.0).doubling_months == pytest.approx(12)
    assert GrowthRate(0.0).doubling_months == math.inf and GrowthRate(-math.log(2)).doubling_months == pytest.approx(
        -12
    )
    for gain, years in ((0.0, 1.0), (math.inf, 1.0), (2.0, 0.0)):
        with pytest.raises(InputError, match="no mean growth"):
            mean_growth(gain, years)
    with pytest.raises(InputError, match="bad growth of a compute trend"):
        ComputeTrend(1e16, 2013, 0.0)
