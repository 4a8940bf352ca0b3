"""Power and design: information against simulation, optimality against its certificate, formulas against numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.scaling.breakpoints.two_piece import TwoPieceLaw
from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import fit_frontiers
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.planning.check import _refit, check_power
from algoprog.scaling.planning.design import c_optimal, contrast_variance, merge_neighbours, whole_runs
from algoprog.scaling.planning.information import break_jacobian, covariance, detectable_break, law_jacobian
from algoprog.scaling.planning.power import (
    GAP,
    GapStudy,
    gain_error,
    gap_errors,
    joint_jacobian,
    largest_in_range_flops,
    log_gain_gradient,
    points_needed,
)
from algoprog.scaling.planning.report import power_json, power_report

LAW = PowerLaw(1.9, 2.4, 0.08, 10**16.5)
ALPHA = np.array([0.0, 1.0, 0.0])


def equal_steps(points: int, decades: float = 3.0) -> np.ndarray:
    return np.geomspace(1e15, 10 ** (15 + decades), points)


def test_jacobians_against_central_differences() -> None:
    flops, d = equal_steps(7), 10**16.3

    def log_loss(rho: float, alpha: float, e: float, change: float) -> np.ndarray:
        law = TwoPieceLaw(e, math.exp(rho - alpha * math.log(d / LAW.C0)), alpha, alpha + change, d)
        return np.log(law.loss(flops))

    at, step = np.array([math.log(2.4), 0.08, 1.9, 0.0]), 1e-6
    numeric = [(log_loss(*(at + step * u)) - log_loss(*(at - step * u))) / (2 * step) for u in np.eye(4)]
    assert break_jacobian(LAW, flops, d) == pytest.approx(np.array(numeric).T, rel=1e-6, abs=1e-8)
    assert np.array_equal(break_jacobian(LAW, flops, d)[:, :3], law_jacobian(LAW, flops))


def test_covariance_is_the_inverse_and_infinite_where_nothing_is_known() -> None:
    jacobian = law_jacobian(LAW, equal_steps(6))
    assert covariance(jacobian, 0.01) == pytest.approx(1e-4 * np.linalg.inv(jacobian.T @ jacobian), rel=1e-6)
    weights = np.array([2.0, 1.0, 1.0, 3.0, 1.0, 1.0])
    repeated = np.repeat(jacobian, weights.astype(int), axis=0)
    assert covariance(jacobian, 1.0, weights) == pytest.approx(covariance(repeated, 1.0), rel=1e-9)
    assert np.isinf(covariance(jacobian[:2], 1.0)).all() and np.isinf(covariance(jacobian * [1, 1, 0], 1.0)).all()


@pytest.mark.parametrize("points", [5, 8, 16])
def test_standard_error_of_alpha_without_irreducible_loss(points: int) -> None:
    """(sigma/R) sqrt(12 (n-1)/(n (n+1))) for a straight line in equal steps; 8 points on two decades: .2345 sigma."""
    law, decades = PowerLaw(0.0, 3.0, 0.1, 1e16), 2.0
    found = math.sqrt(covariance(law_jacobian(law, equal_steps(points, decades))[:, :2], 1.0)[1, 1])
    expected = math.sqrt(12 * (points - 1) / (points * (points + 1))) / (decades * math.log(10))
    assert found == pytest.approx(expected, rel=1e-9)
    if points == 8:
        assert found == pytest.approx(0.2345, abs=5e-5)


def test_range_counts_for_more_than_runs() -> None:
    """SE falls as 1/R with E known, about as 1/R^2 with E free, and as the root of the number of runs."""

    def errors(points: int, decades: float) -> tuple[float, float]:
        jacobian = law_jacobian(PowerLaw(1.9, 2.4, 0.08, 10 ** (15 + decades / 2)), equal_steps(points, decades))
        return math.sqrt(covariance(jacobian[:, :2], 1.0)[1, 1]), math.sqrt(covariance(jacobian, 1.0)[1, 1])

    (known, free), (known_wide, free_wide) = errors(16, 1.5), errors(16, 3.0)
    assert known / known_wide == pytest.approx(2.0, rel=0.03) and free / free_wide == pytest.approx(4.0, rel=0.15)
    assert free / errors(64, 1.5)[1] == pytest.approx(2.0, rel=0.1)


def test_smallest_change_without_irreducible_loss_is_four_times_the_error_of_alpha() -> None:
    law, flops = PowerLaw(0.0, 3.0, 0.1, 10**16.5), equal_steps(400)
    alpha = math.sqrt(covariance(law_jacobian(law, flops)[:, :2], 0.003)[1, 1])
    assert detectable_break(law, flops, 10**16.5, 0.003).known == pytest.approx(2.8 * 4 * alpha, rel=0.01)
    for part in (0.25, 0.5, 0.6):
        span = 3 * math.log(10)
        formula = 0.003 / (span * math.sqrt(400 * (part * (1 - part)) ** 3 / 3))
        assert detectable_break(law, flops, 10 ** (15 + 3 * part), 0.003).known == pytest.approx(
            2.8 * formula, rel=0.02
        )


def test_gain_gradient_against_central_differences() -> None:
    study = GapStudy()

    def log_gain(theta: np.ndarray, flops: float) -> float:
        old = PowerLaw(theta[4], math.exp(theta[0]), theta[1], study.middle)
        new = PowerLaw(theta[4], math.exp(theta[2]), theta[3], study.middle)
        return math.log(old.compute(new.loss(flops)) / flops)

    at = np.array([math.log(2.6), 0.065, math.log(2.2), 0.075, 1.9])
    for flops in (1e15, 3e16, 1e19):
        step = 1e-6
        numeric = [(log_gain(at + step * u, flops) - log_gain(at - step * u, flops)) / (2 * step) for u in np.eye(5)]
        assert log_gain_gradient(study.old, study.new, flops) == pytest.approx(numeric, rel=1e-5, abs=1e-6)


@given(gap=st.floats(0.003, 0.05), decades=st.floats(1.0, 5.0), points=st.integers(4, 20), e=st.floats(0.1, 2.2))
@settings(max_examples=30, deadline=None)
def test_knowing_more_never_hurts(gap: float, decades: float, points: int, e: float) -> None:
    study = GapStudy(gap=gap, decades=decades, points=points, irreducible=e)
    errors = gap_errors(study)
    assert 0 < errors.known <= errors.shared * (1 + 1e-9) and errors.shared <= errors.separate * (1 + 1e-9)
    assert gap_errors(replace(study, sigma=2 * study.sigma)).shared == pytest.approx(2 * errors.shared)
    found = gain_error(study, study.middle)
    assert found.known <= found.shared * (1 + 1e-9)
    largest = largest_in_range_flops(study)
    if largest is not None:
        matched = study.old.compute(study.new.loss(largest))
        assert matched <= study.flops[-1] * (1 + 1e-6) and largest <= study.flops[-1] * (1 + 1e-9)


def test_simulated_refits_agree_with_the_information() -> None:
    """Spread of the gap to three Monte-Carlo errors; coverage of t intervals."""
    study = GapStudy(points=16)
    found = check_power(study, 400, seed=1)
    assert abs(found.spread - gap_errors(study).shared) < 3 * found.spread_error + 0.05 * gap_errors(study).shared
    assert abs(found.mean_gap - study.gap) < 3.5 * found.mean_error
    assert found.coverage_interval[0] < 0.95 < found.coverage_interval[1] + 0.02 and found.power > 0.95


def test_too_small_a_study_rarely_sees_the_gap() -> None:
    found = check_power(GapStudy(decades=1.0, points=6), 200)
    assert found.power < 0.25 and found.power_interval[0] < found.power < found.power_interval[1]


def test_a_refit_of_the_check_is_a_fit_of_the_package() -> None:
    study = GapStudy(points=6)
    best = _refit(study, 2, np.random.default_rng(3))
    noise = study.sigma * np.random.default_rng(3).standard_normal((2, 12))
    rows = [
        pd.DataFrame({"arch": arch, "flops": study.flops, "loss": law.loss(study.flops) * np.exp(part)})
        for arch, law, part in (("a", study.old, noise[1, :6]), ("b", study.new, noise[1, 6:]))
    ]
    fit = fit_frontiers(pd.concat(rows), loss="squared")
    assert (fit.laws["a"].alpha, fit.laws["b"].alpha) == pytest.approx(tuple(best.laws.alpha[1]), rel=1e-6)


@pytest.mark.parametrize("by_cost", [False, True])
def test_the_design_has_the_certificate_of_optimality(by_cost: bool) -> None:
    """Equivalence theorem: no candidate's (J F^-1 c)^2 exceeds c F^-1 c, and the used ones reach it."""
    flops = equal_steps(61)
    jacobian, cost = law_jacobian(LAW, flops), flops / 1e15 if by_cost else None
    shares = c_optimal(jacobian, ALPHA, cost)
    rows = jacobian if cost is None else jacobian / np.sqrt(cost)[:, None]
    inverse = np.linalg.inv((rows * shares[:, None]).T @ rows)
    reach = (rows @ inverse @ ALPHA) ** 2
    best = float(ALPHA @ inverse @ ALPHA)
    assert shares.sum() == pytest.approx(1.0) and reach.max() <= best * (1 + 1e-6)
    assert reach[shares > 1e-6] == pytest.approx(np.full(3, best), rel=1e-6)
    assert contrast_variance(jacobian, ALPHA, shares, cost) == pytest.approx(best, rel=1e-6)


def test_multiplicative_iterations_reach_the_design_only_when_damped() -> None:
    """w_i ~ w_i (J F^-1 c)^2 circles for ever between two designs; with its square root it converges to ours."""
    jacobian = law_jacobian(LAW, equal_steps(41))
    optimum = contrast_variance(jacobian, ALPHA, c_optimal(jacobian, ALPHA))

    def iterate(power: float) -> tuple[np.ndarray, np.ndarray]:
        shares = previous = np.full(41, 1 / 41)
        for _ in range(6000):
            inverse = np.linalg.inv((jacobian * shares[:, None]).T @ jacobian)
            previous, shares = shares, shares * np.abs(jacobian @ inverse @ ALPHA) ** power
            shares = shares / shares.sum()
        return previous, shares

    before, after = iterate(1.0)
    assert contrast_variance(jacobian, ALPHA, after) == pytest.approx(optimum, rel=1e-4)
    assert after == pytest.approx(before, abs=1e-4)
    before, after = iterate(2.0)
    assert np.abs(after - before).max() > 0.1 and contrast_variance(jacobian, ALPHA, after) > 1.01 * optimum


def test_neighbours_on_the_grid_are_one_budget() -> None:
    spots = merge_neighbours("a", np.array([1.0, 10.0, 100.0, 1000.0]), np.array([0.0, 0.3, 0.3, 0.0]))
    assert len(spots) == 1 and spots[0].share == pytest.approx(0.6) and spots[0].flops == pytest.approx(10**1.5)
    apart = merge_neighbours("a", np.array([1.0, 10.0, 100.0, 1000.0]), np.array([0.25, 0.0, 0.5, 0.25]))
    assert [spot.share for spot in apart] == [0.25, 0.75]
    assert merge_neighbours("a", np.array([1.0, 10.0]), np.zeros(2)) == []


@given(st.lists(st.floats(0.02, 1.0), min_size=1, max_size=6), st.integers(6, 60))
def test_whole_runs_add_up_and_stay_close(weights: list[float], runs: int) -> None:
    shares = np.array(weights) / sum(weights)
    counts = whole_runs(shares, runs)
    assert sum(counts) == runs and min(counts) >= 1
    assert all(abs(count - runs * share) < 1 + len(weights) / 2 for count, share in zip(counts, shares, strict=True))


def test_points_needed() -> None:
    assert points_needed(0.00357, 8, 0.01) == 8 and points_needed(0.0036, 8, 0.01) == 9
    assert points_needed(math.inf, 8, 0.01) == math.inf


def test_report_holds_the_study_and_is_json() -> None:
    report = power_report(GapStudy(decades=2.5), refits=40)
    assert [row.decades for row in report.rows] == [1.0, 2.0, 2.5, 3.0, 4.0, 5.0]
    assert sum(spot.share for spot in report.by_runs.spots) == pytest.approx(1.0)
    assert sum(report.by_runs.runs) == 16 and report.by_runs.variance_ratio > 1 and report.by_flops.variance_ratio > 1
    spent = sum(spot.flops * runs for spot, runs in zip(report.by_flops.spots, report.by_flops.runs, strict=True))
    assert spent == pytest.approx(report.total_flops, rel=1e-6)
    shares = np.array([spot.share for spot in report.by_runs.spots])
    assert (shares > 0).all() and json.dumps(power_json(report), allow_nan=False)


def test_gap_design_is_checked_by_the_joint_information() -> None:
    """The placement's variance, from its own budgets: a fresh covariance agrees with the reported ratio."""
    study = GapStudy()
    placed = power_report(study, refits=20).by_runs
    old, new = (np.array([s.flops for s in placed.spots if s.arch == arch]) for arch in ("old", "new"))
    weights = np.array([s.share for s in placed.spots]) * 2 * study.points
    joint = covariance(joint_jacobian(study.old, study.new, old, new), study.sigma, weights)
    assert gap_errors(study).shared ** 2 / (GAP @ joint @ GAP) == pytest.approx(placed.variance_ratio, rel=0.01)


@pytest.mark.parametrize(
    "bad",
    [
        {"gap": 0.0}, {"gap": -0.065}, {"sigma": 0.0}, {"decades": -1.0}, {"points": 3}, {"irreducible": -0.1},
        {"alpha": math.nan}, {"flops_min": math.inf}, {"reducible_new": 0.0}, {"decades": 400.0},
    ],
)  # fmt: skip
def test_bad_studies_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        GapStudy(**bad)  # type: ignore[arg-type]


def test_designs_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="determine"):
        c_optimal(law_jacobian(LAW, equal_steps(2)), ALPHA)
    with pytest.raises(InputError, match="determine"):
        c_optimal(law_jacobian(LAW, equal_steps(5)) * [1, 1, 0], ALPHA)
    with pytest.raises(InputError, match="too few runs"):
        whole_runs(np.array([0.5, 0.5]), 1)
    with pytest.raises(InputError, match="refits"):
        check_power(GapStudy(), 5)
