"""The test for a break: its solver, its statistic, its calibration, and what it says about data that cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.stats import f as f_table
from scipy.stats import hypergeom

from algoprog.scaling.binomial import binomial_interval
from algoprog.scaling.breakpoints.breaks import BreakStatus, break_test
from algoprog.scaling.breakpoints.chow import chow_f
from algoprog.scaling.breakpoints.criteria import criteria
from algoprog.scaling.breakpoints.one_law import fit_one_law
from algoprog.scaling.breakpoints.sup_f import positions, simulate_null, sup_f
from algoprog.scaling.breakpoints.two_piece import CEILING, TwoPieceLaw, fit_best, fit_profile
from algoprog.scaling.breakpoints.words import break_sentence, break_warnings
from algoprog.scaling.errors import InputError
from algoprog.scaling.search import Status


def frame(
    points: int = 20, decades: float = 3.0, change: float = 0.0, sigma: float = 0.003, seed: int = 0, e: float = 1.9
):
    """A frontier of one architecture; the exponent .08 changes by ``change`` in the middle."""
    flops = np.geomspace(1e15, 10 ** (15 + decades), points)
    law = TwoPieceLaw(e, 2.4, 0.08, 0.08 + change, 10 ** (15 + decades / 2))
    noise = sigma * np.random.default_rng(seed).standard_normal(points)
    return pd.DataFrame({"arch": "modern", "flops": flops, "loss": law.loss(flops) * np.exp(noise)})


def logs(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return np.log(table["flops"].to_numpy()), np.log(table["loss"].to_numpy())


def scipy_rss(x: np.ndarray, y: np.ndarray, d: float) -> float:
    """The lowest RSS of the two-piece law at ``d`` from five starts of a general-purpose optimiser."""
    lowest = float(np.exp(y.min()))
    below, above = np.minimum(x - d, 0), np.maximum(x - d, 0)

    def residual(p: np.ndarray) -> np.ndarray:
        return np.log(p[0] + np.exp(p[1] - p[2] * below - p[3] * above)) - y

    ends = [
        least_squares(
            residual,
            [part * lowest, math.log(np.exp(y).mean() - part * lowest), 0.1, 0.1],
            bounds=([0, -20, -20, -20], [CEILING * lowest, 20, 20, 20]),
            x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=500,
        ).cost
        for part in (0.02, 0.3, 0.6, 0.85, 0.95)
    ]  # fmt: skip
    return 2 * min(ends)


@pytest.mark.parametrize(("decades", "sigma"), [(2.0, 0.003), (3.0, 0.003), (4.0, 0.001)])
def test_the_two_piece_fit_reaches_the_optimum_of_scipy(decades: float, sigma: float) -> None:
    x, y = logs(frame(16, decades, 0.02, sigma, seed=1))
    x = x - x.mean()
    at = np.linspace(-0.3, 0.3, 3) * decades * math.log(10)
    ours = fit_profile(x, y, at)
    assert ours.rss == pytest.approx([scipy_rss(x, y, d) for d in at], rel=1e-4)


@pytest.mark.parametrize(("decades", "sigma"), [(2.0, 0.003), (3.0, 0.003), (5.0, 0.001), (4.0, 0.0002)])
def test_the_scan_finds_the_lowest_point_of_the_exact_profile(decades: float, sigma: float) -> None:
    """For wide and narrow knowledge of E: the RSS that decides F agrees to a thousandth, mostly to rounding."""
    tables = [logs(frame(20, decades, 0.0, sigma, seed)) for seed in range(20)]
    x, y = tables[0][0], np.stack([y for _, y in tables])
    at = positions(x)
    found = sup_f(x, y, at)
    exact = np.array([fit_profile(x - x.mean(), row, at - x.mean()).rss.min() for row in y])
    assert found.two.rss == pytest.approx(exact, rel=2e-3)
    assert np.median(np.abs(found.two.rss / exact - 1)) < 1e-9


def test_one_law_is_never_better_than_two_pieces() -> None:
    """Down to a range and a noise where E is not known at all."""
    for decades, sigma in ((1.0, 0.01), (2.0, 0.003)):
        tables = [logs(frame(16, decades, 0.0, sigma, seed)) for seed in range(40)]
        found = sup_f(tables[0][0], np.stack([y for _, y in tables]), positions(tables[0][0]))
        assert (found.value >= 0).all() and np.isfinite(found.value).all()


@given(
    e=st.floats(0.0, 2.5),
    alphas=st.tuples(st.floats(0.04, 0.2), st.floats(0.04, 0.2)),
    place=st.sampled_from([8, 15, 22]),
)
@settings(max_examples=25, deadline=None)
def test_a_noise_free_two_piece_law_is_recovered(e: float, alphas: tuple[float, float], place: int) -> None:
    flops = np.geomspace(1e15, 1e19, 24)
    x = np.log(flops) - np.log(flops).mean()
    at = positions(np.log(flops)) - np.log(flops).mean()
    law = TwoPieceLaw(e, 2.4, *alphas, math.exp(float(at[place]) + np.log(flops).mean()))
    fit = fit_profile(x, np.log(law.loss(flops)), at[place : place + 1])
    found = fit.law(0, float(np.log(flops).mean()))
    assert found.loss(flops) == pytest.approx(law.loss(flops), rel=1e-6)
    if abs(alphas[0] - alphas[1]) > 0.005:
        assert pytest.approx(e, abs=5e-3) == found.E
        assert (found.alpha1, found.alpha2) == pytest.approx(alphas, abs=2e-3)


def test_a_batch_gives_what_its_members_give() -> None:
    tables = [logs(frame(16, 3.0, 0.0, 0.003, seed)) for seed in range(6)]
    x, y = tables[0][0], np.stack([y for _, y in tables])
    at = positions(x)
    one = fit_one_law(x, y)
    together = fit_best(x - one.log_c0, y, at - one.log_c0, one.e, 1.0)
    for i in range(6):
        alone = fit_best(x - one.log_c0, y[i : i + 1], at - one.log_c0, one.e[i : i + 1], 1.0)
        assert alone.rss[0] == pytest.approx(together.rss[i], rel=1e-9) and alone.d[0] == together.d[i]


def test_positions_leave_five_points_a_side_in_the_middle_seventy_percent() -> None:
    x = np.linspace(0.0, 10.0, 30)
    at = positions(x)
    assert at[0] == pytest.approx(1.5) and at[-1] == pytest.approx(8.5) and at.size == 31
    crowded = np.concatenate([np.zeros(1), np.linspace(6.0, 10.0, 11)])
    assert (
        positions(crowded)[0] == pytest.approx(np.sort(crowded)[4]) and positions(crowded)[-1] <= np.sort(crowded)[-5]
    )
    assert positions(np.linspace(0, 1, 9)).size == 0 and positions(np.zeros(30)).size == 0


@pytest.mark.parametrize(("points", "decades"), [(16, 2.0), (24, 3.0)])
def test_simulated_critical_values_hold_for_laws_with_irreducible_loss(points: int, decades: float) -> None:
    """1200 studies of one law, each with one set simulated under its own fit (Giacomini, Politis and White 2013).

    If the simulation is right, studies and simulated sets are alike, so half of the largest 5 % of both together are
    studies: hypergeometric. The bound has 99.8 % probability then, a false-alarm rate of 10 % breaks it three times in four.
    """
    studies = 1200
    rng = np.random.default_rng(11)
    x, truth = logs(frame(points, decades, sigma=0.0))
    y = truth + 0.003 * rng.standard_normal((studies, points))
    at = positions(x)
    found = sup_f(x, y, at)
    noise = found.one.sigma(points)[:, None] * rng.standard_normal(y.shape)
    simulated = sup_f(x, found.one.predict(x) + noise, at).value
    top = 2 * studies // 20
    beyond = int((found.value > np.sort(np.concatenate([found.value, simulated]))[-top - 1]).sum())
    low, high = hypergeom(2 * studies, studies, top).interval(0.998)
    assert low <= beyond <= high
    naive = (chow_f(x, y, [points // 2])[:, 0] > f_table(2, points - 4).ppf(0.95)).mean()
    assert naive > 0.2, "the log-log test takes the curvature that E makes for a break"


def test_p_values_count_simulated_statistics() -> None:
    """p = (1 + number at or beyond)/(draws + 1), from the stream of the seed."""
    table = frame(16, seed=4)
    x, y = logs(table)
    at = positions(x)
    simulated = simulate_null(x, fit_one_law(x, y[None]), at, 99, np.random.default_rng(3))
    value = sup_f(x, y[None], at).value[0]
    found = break_test(table, draws=99, seed=3).evidence
    assert found is not None and 0.02 < found.p_value < 1
    assert found.p_value == (1 + (simulated >= value).sum()) / 100
    assert (simulated >= found.critical).sum() == 5 and found.rejected == (found.sup_f > found.critical)


def test_a_break_is_found_where_it_is() -> None:
    table = frame(24, 4.0, 0.04, 0.002, seed=5)
    test = break_test(table, draws=199)
    found = test.evidence
    assert found is not None and test.claimed and found.p_value == pytest.approx(1 / 200)
    low, high = found.position.interval
    assert low < 1e17 < high and high / low < 30 and found.position.interior
    assert found.two.alpha2 - found.two.alpha1 == pytest.approx(0.04, abs=0.015)
    assert found.position.change_interval[0] < 0.04 < found.position.change_interval[1]
    assert found.delta_bic > 10 and found.sup_f > found.critical
    assert found.profile_f.max() == pytest.approx(found.sup_f, rel=1e-3)
    assert found.detectable.free < 0.04 and "A break is claimed" in break_sentence(test)


def test_no_break_is_claimed_in_one_law_and_the_sentence_says_what_would_be_seen() -> None:
    test = break_test(frame(20, 3.0, seed=2), draws=199)
    assert test.evidence is not None and not test.claimed
    assert f"{test.evidence.detectable.free:.3f} or more" in break_sentence(test)
    low, high = test.evidence.p_interval
    assert low < test.evidence.p_value < high


def test_the_result_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    table = frame(20, 3.0, 0.02)
    first = break_test(table, draws=99).evidence
    shuffled = break_test(table.sample(frac=1.0, random_state=3), draws=99).evidence
    other = break_test(table, draws=99, seed=1).evidence
    assert first is not None and shuffled is not None and other is not None
    assert first.p_value == shuffled.p_value and first.position == shuffled.position
    assert first.sup_f == other.sup_f and first.critical != other.critical


@pytest.mark.parametrize("unit", [1e-15, 1e3])
def test_the_unit_of_compute_does_not_matter(unit: float) -> None:
    table = frame(20, 3.0, 0.02)
    plain, scaled = (break_test(t, draws=49).evidence for t in (table, table.assign(flops=unit * table["flops"])))
    assert plain is not None and scaled is not None
    assert scaled.sup_f == pytest.approx(plain.sup_f, rel=1e-6) and scaled.p_value == plain.p_value
    assert scaled.position.flops == pytest.approx(unit * plain.position.flops, rel=1e-6)


def test_a_pure_power_law_is_reported_and_is_worse_where_there_is_an_irreducible_loss() -> None:
    found = break_test(frame(20, 4.0, sigma=0.001), draws=49).evidence
    assert found is not None
    pure, one, two = found.models
    assert [model.parameters for model in found.models] == [3, 4, 6] and pure.bic > one.bic + 20
    assert two.rss <= one.rss <= pure.rss


def test_criteria_by_hand() -> None:
    found = criteria("m", 4, 0.02, 16)
    assert found.bic == pytest.approx(16 * math.log(0.02 / 16) + 4 * math.log(16))
    assert found.aicc == pytest.approx(16 * math.log(0.02 / 16) + 8 + 40 / 11)
    assert criteria("m", 4, 0.02, 5).aicc == math.inf


def test_too_few_points_and_exact_points_are_statuses() -> None:
    few = break_test(frame(9))
    assert few.status is BreakStatus.TOO_FEW and few.evidence is None and not few.claimed
    assert "9 points of modern" in break_sentence(few)
    exact = break_test(frame(16, sigma=0.0))
    assert exact.status is BreakStatus.EXACT and "rounding" in break_sentence(exact) and break_warnings(exact) == ()


def test_warnings_tell_of_e_at_its_bound_and_of_unequal_luck() -> None:
    bound = break_test(frame(16, 2.0, e=0.0, seed=3), draws=49)
    assert bound.evidence is not None and bound.evidence.one_status is Status.BOUND_HIT
    assert any("bound 0" in told for told in break_warnings(bound))
    uneven = break_test(frame(16, 3.0).assign(budget_runs=[1] * 8 + [6] * 8), draws=49)
    assert any("1 to 6 runs" in told for told in break_warnings(uneven))


def test_bad_input_is_refused() -> None:
    table = frame(16)
    with pytest.raises(InputError, match="one architecture"):
        break_test(pd.concat([table, table.assign(arch="lstm")]))
    with pytest.raises(InputError, match="several points"):
        break_test(table.assign(run="same"))
    with pytest.raises(InputError, match="draws"):
        break_test(table, draws=5)
    with pytest.raises(InputError, match="bad loss"):
        break_test(table.assign(loss=-1.0))
    with pytest.raises(InputError, match="two-piece"):
        TwoPieceLaw(1.0, -1.0, 0.1, 0.1, 1e16)


def test_binomial_interval_against_known_values() -> None:
    """Clopper and Pearson: 0 of n ends at 1 - (alpha/2)^(1/n); 5 of 10 is .187 to .813."""
    assert binomial_interval(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert binomial_interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)
    assert binomial_interval(10, 10)[1] == 1.0
    with pytest.raises(InputError, match="hits"):
        binomial_interval(3, 2)


def test_chow_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.uniform(0, 5, 12)), rng.standard_normal((1, 12))

    def rss(part: slice) -> float:
        return float(np.polyfit(x[part], y[0, part], 1, full=True)[1][0])

    whole, parts = rss(slice(None)), rss(slice(5)) + rss(slice(5, None))
    assert chow_f(x, y, [5])[0, 0] == pytest.approx((whole - parts) / 2 / (parts / 8))
    with pytest.raises(InputError, match="split"):
        chow_f(x, y, [1])
