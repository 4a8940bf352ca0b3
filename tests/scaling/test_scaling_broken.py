"""The smoothly broken power law: limits, inverse, recovery, statuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.scaling import BrokenLaw, InputError, PowerLaw, Status, fit_broken
from algoprog.scaling.broken_fit import _jacobian, _residual

LAW = BrokenLaw(E=1.7, a=2.0, alpha=0.05, c=0.06, d=3e16, f=0.4, C0=1e16)
FLOPS = np.geomspace(1e14, 1e19, 24)

laws = st.builds(
    BrokenLaw,
    E=st.floats(0, 2.5),
    a=st.floats(0.5, 5),
    alpha=st.floats(0.02, 0.2),
    c=st.floats(-0.01, 0.3),
    d=st.floats(1e15, 1e18),
    f=st.floats(0.05, 1.0),
    C0=st.just(1e16),
)


def slope(law: BrokenLaw, flops: float) -> float:
    """Local exponent of L - E by central differences."""
    x, h = math.log(flops), 1e-4
    rise = law.log_reducible(np.array([x + h, x - h]))
    return -float(rise[0] - rise[1]) / (2 * h)


def test_exponents_on_both_sides_of_the_break() -> None:
    assert slope(LAW, 1e10) == pytest.approx(0.05, abs=1e-6)
    assert slope(LAW, 3e16) == pytest.approx(0.05 + 0.03, abs=1e-6)
    assert slope(LAW, 1e24) == pytest.approx(0.11, abs=1e-6) and LAW.alpha_after == pytest.approx(0.11)


def test_without_a_change_it_is_a_power_law() -> None:
    plain = PowerLaw(1.7, 2.0, 0.05, 1e16)
    assert replace(LAW, c=0.0).loss(FLOPS) == pytest.approx(plain.loss(FLOPS), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(laws, st.floats(12, 22))
def test_compute_inverts_loss(law: BrokenLaw, decade: float) -> None:
    flops = 10**decade
    assert law.compute(law.loss(flops)) == pytest.approx(flops, rel=1e-6)
    losses = law.loss(np.geomspace(1e12, 1e22, 50))
    assert (np.diff(losses) < 0).all()


def test_compute_outside_what_the_law_reaches() -> None:
    assert LAW.compute(1.7) == LAW.compute(1.0) == math.inf
    assert LAW.compute(LAW.loss(3e16)) == pytest.approx(3e16, rel=1e-12)
    assert LAW.compute(np.array([[3.0, 1.0]])).shape == (1, 2)
    plateau = BrokenLaw(0.0, 2.0, 0.0, 0.1, 1e16, 0.1)
    assert plateau.compute(2.5) == 0.0 and plateau.compute(1.0) == pytest.approx(1e16 * 2**10, rel=1e-6)
    stuck = BrokenLaw(0.0, 2.0, 0.1, -0.1, 1e16, 0.1, 1e16)
    assert stuck.compute(1.9) == math.inf


def test_jacobian_against_central_differences() -> None:
    x, y, p = np.linspace(-3, 4, 11), np.linspace(1.2, 0.8, 11), np.array([0.3, 0.05, 0.4, 0.7, -0.5, 0.9])
    for k in range(6):
        step = np.zeros(6)
        step[k] = 1e-6
        expected = (_residual(p + step, x, y) - _residual(p - step, x, y)) / 2e-6
        assert _jacobian(p, x, y)[:, k] == pytest.approx(expected, abs=1e-8)


def test_noise_free_law_is_recovered() -> None:
    fit = fit_broken(FLOPS, LAW.loss(FLOPS))
    assert fit.status is Status.CONVERGED and fit.law is not None and fit.agreeing >= 2
    for name in ("E", "alpha", "c", "d", "f"):
        assert getattr(fit.law, name) == pytest.approx(getattr(LAW, name), rel=1e-4), name
    assert fit.law.loss(1e22) == pytest.approx(LAW.loss(1e22), rel=1e-6)


def test_units_and_order_do_not_matter() -> None:
    loss = LAW.loss(FLOPS) * np.exp(0.002 * np.random.default_rng(0).standard_normal(24))
    one, order = fit_broken(FLOPS, loss), np.random.default_rng(1).permutation(24)
    two = fit_broken(FLOPS[order] * 1e5, loss[order])
    assert one.law is not None and two.law is not None
    assert two.law.loss(1e23) == pytest.approx(one.law.loss(1e18), rel=1e-6)
    assert one.rms == pytest.approx(0.002, rel=0.4) and one.sigma == pytest.approx(one.rms * math.sqrt(24 / 18))


def test_a_plain_power_law_does_not_determine_a_break() -> None:
    fit = fit_broken(FLOPS, PowerLaw(1.7, 2.0, 0.05, 1e16).loss(FLOPS))
    assert fit.rms < 1e-6 and fit.status is not Status.CONVERGED or fit.law is not None and abs(fit.law.c) < 1e-3


def test_few_points() -> None:
    none = fit_broken(FLOPS[:5], LAW.loss(FLOPS[:5]))
    assert none.law is None and none.status is Status.TOO_FEW and math.isnan(none.rms)
    seven = fit_broken(FLOPS[::4], LAW.loss(FLOPS[::4]))
    assert seven.status is Status.TOO_FEW and seven.law is not None


@pytest.mark.parametrize("seed", range(3))
def test_wild_data_never_raise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fit = fit_broken(np.exp(rng.uniform(0, 60, 12)), np.exp(rng.normal(0, 3, 12)))
    assert isinstance(fit.status, Status) and fit.law is not None


@pytest.mark.parametrize(
    ("flops", "loss"),
    [([1.0, 2.0], [1.0]), ([], []), ([1.0, -2.0], [1.0, 1.0]), ([1.0, 2.0], [1.0, math.nan]), ([[1.0]], [[1.0]])],
)
def test_bad_points_are_refused(flops: list[float], loss: list[float]) -> None:
    with pytest.raises(InputError, match="bad "):
        fit_broken(np.array(flops), np.array(loss))


@pytest.mark.parametrize(
    "change", [{"E": -1.0}, {"a": 0.0}, {"d": math.nan}, {"f": 0.0}, {"alpha": -0.1}, {"c": -0.2}, {"c": math.inf}]
)
def test_bad_laws_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="broken power law"):
        replace(LAW, **change)
