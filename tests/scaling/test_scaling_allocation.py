"""Allocation policies: the closed forms against the surface itself, both anchors against each other, spreads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from algoprog.scaling import InputError
from algoprog.scaling.allocation import (
    AllocationGain,
    Policy,
    RoundedFactor,
    allocation_spread,
    bookkeeping_slope,
)
from algoprog.scaling.surface.law import Surface

HOFFMANN = Surface(1.69, 406.4, 410.7, 0.34, 0.28)
KAPLAN = Policy.through(1.3e9, 8.64e19, 0.73)
surfaces = st.builds(
    Surface,
    E=st.floats(0, 2),
    A=st.floats(100, 3000),
    B=st.floats(100, 3000),
    alpha=st.floats(0.2, 0.5),
    beta=st.floats(0.2, 0.5),
)
policies = st.builds(Policy.through, params=st.floats(1e8, 1e10), flops=st.just(1e20), p=st.floats(0.3, 0.9))
decades = st.floats(16, 25)


@given(surfaces, policies, decades)
def test_equal_loss_at_both_ends(surface: Surface, policy: Policy, decade: float) -> None:
    """The policy at C and the optimum at C/W(C) have one loss; the same the other way round."""
    flops, gain = 10**decade, AllocationGain(surface, policy)
    n = policy.params(flops)
    loss = surface.loss(n, flops / (6 * n)) - surface.E
    assert surface.frontier.loss(flops / gain.old(flops)) - surface.E == pytest.approx(loss, rel=1e-8)
    more = flops * gain.new(flops)
    n = policy.params(more)
    loss = surface.loss(n, more / (6 * n)) - surface.E
    assert loss == pytest.approx(surface.frontier.loss(flops) - surface.E, rel=1e-8)


@given(surfaces, policies, decades)
def test_anchors_agree_at_matched_loss(surface: Surface, policy: Policy, decade: float) -> None:
    flops, gain = 10**decade, AllocationGain(surface, policy)
    assert gain.old(flops * gain.new(flops)) == pytest.approx(gain.new(flops), rel=1e-8)
    assert gain.old(flops) >= 1 - 1e-9 and gain.new(flops) >= 1 - 1e-9


@given(surfaces, policies, decades)
def test_slopes_are_the_central_differences(surface: Surface, policy: Policy, decade: float) -> None:
    gain, x, h = AllocationGain(surface, policy), np.asarray(decade * math.log(10)), 1e-4
    for value, slope in ((gain.log_old, gain.slope_old), (gain.log_new, gain.slope_new)):
        assert float(slope(x)) == pytest.approx(float(value(x + h) - value(x - h)) / (2 * h), rel=1e-4, abs=1e-5)


@given(surfaces, policies)
def test_break_even_and_asymptote(surface: Surface, policy: Policy) -> None:
    gain = AllocationGain(surface, policy)
    assume(abs(policy.p - surface.a_N) > 0.02)
    even = gain.break_even
    assert even is not None
    assume(1e5 < even < 1e60)
    assert gain.old(even) == pytest.approx(1, abs=1e-7) and gain.new(even) == pytest.approx(1, abs=1e-7)
    assert surface.optimal(even)[0] == pytest.approx(policy.params(even), rel=1e-6)
    assert min(gain.old(even * 10), gain.old(even / 10)) > 1
    assert float(gain.slope_old(np.asarray(1e5))) == pytest.approx(gain.asymptotic_slope, abs=1e-6)


def test_the_optimal_policy_wastes_nothing() -> None:
    k = HOFFMANN.G0 * 6**-HOFFMANN.a_N
    gain = AllocationGain(HOFFMANN, Policy(k, HOFFMANN.a_N))
    assert gain.break_even is None
    assert [gain.old(10.0**d) for d in (16, 20, 24)] == pytest.approx([1, 1, 1], rel=1e-9)


def test_rounded_factor_is_the_exact_one_with_exact_digits() -> None:
    gain = AllocationGain(HOFFMANN, KAPLAN)
    s, k, p = HOFFMANN, KAPLAN.k, KAPLAN.p
    terms = ((s.A * k**-s.alpha, p * s.alpha), (s.B * (6 * k) ** s.beta, (1 - p) * s.beta))
    exact = RoundedFactor(s.K ** (-1 / s.gamma), terms, 1 / s.gamma)
    x = np.linspace(35, 55, 9)
    assert exact.log_old(x) == pytest.approx(gain.log_old(x), abs=1e-9)
    assert exact.slope_old(x) == pytest.approx(gain.slope_old(x), abs=1e-9)


def test_policies() -> None:
    assert KAPLAN.params(8.64e19) == pytest.approx(1.3e9)
    turned = KAPLAN.pivoted(0.71, 1e20)
    assert turned.params(1e20) == pytest.approx(KAPLAN.params(1e20)) and turned.p == 0.71
    assert AllocationGain(HOFFMANN, KAPLAN).tokens_per_param(1e20) == pytest.approx(7.967, rel=1e-3)
    for k, p in ((0.0, 0.5), (1.0, 0.0), (1.0, 1.0), (math.inf, 0.5)):
        with pytest.raises(InputError, match="bad policy N = k C"):
            Policy(k, p)
    with pytest.raises(InputError, match="bad point of a policy"):
        Policy.through(0.0, 1e20, 0.5)


def test_spread_keeps_its_two_sources_apart() -> None:
    rng = np.random.default_rng(0)
    gain = AllocationGain(HOFFMANN, KAPLAN)
    draws = [Surface(1.69, 406.4, 410.7, 0.34 + e, 0.28 + f) for e, f in 0.002 * rng.standard_normal((300, 2))]
    others = [KAPLAN.pivoted(p, 1e20) for p in (0.71, 0.75)]
    none = allocation_spread(gain, 1e23)
    assert none.interval is None and none.policies is None
    both = allocation_spread(gain, 1e23, draws=draws, policies=others)
    only = allocation_spread(gain, 1e23, draws=draws)
    assert both.interval == only.interval and both.interval is not None and both.policies is not None
    assert both.interval[0] < both.gain < both.interval[1]
    assert both.policies == pytest.approx((6.11, 8.73), rel=1e-3)
    new = allocation_spread(gain, 1e23, anchor="new", policies=others)
    assert new.policies is not None and new.policies[0] < new.gain < new.policies[1] and new.gain > both.gain
    with pytest.raises(InputError, match="unknown anchor"):
        allocation_spread(gain, 1e23, anchor="middle")


def test_bookkeeping_curve_against_direct_minimisation() -> None:
    """Each point of the curve minimises the loss of total parameters at fixed non-embedding compute."""
    omega, flops = 47491.0, 1e17

    def loss(log_n: float) -> float:
        n = math.exp(log_n)
        return HOFFMANN.loss(n + omega * n ** (1 / 3), flops / (6 * n))

    best = minimize_scalar(loss, bounds=(math.log(1e3), math.log(1e10)), method="bounded", options={"xatol": 1e-9})
    n = math.exp(best.x)
    total = n + omega * n ** (1 / 3)
    phi = (n + omega * n ** (1 / 3) / 3) / total
    ratio = 0.34 * 406.4 / (0.28 * 410.7)
    assert 6 * n * (ratio * phi * total**-0.34) ** (-1 / 0.28) == pytest.approx(flops, rel=1e-4)


def test_without_embeddings_bookkeeping_changes_nothing() -> None:
    assert bookkeeping_slope(HOFFMANN, 0.0) == pytest.approx(HOFFMANN.a_N, rel=1e-9)
    assert bookkeeping_slope(HOFFMANN, 47491.0) > HOFFMANN.a_N + 0.2
