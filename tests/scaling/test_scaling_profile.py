"""Profile-likelihood intervals: equal to constrained minimisation, exact in a linear case, honest at bounds."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import f as f_distribution
from scipy.stats import linregress
from scipy.stats import t as t_distribution

from algoprog.scaling import InputError, analyse, final_frontier, fit_frontiers, profile_irreducible
from algoprog.scaling.ceg import log_gain_new
from algoprog.scaling.intervals.correlation import with_matches
from algoprog.scaling.intervals.likelihood import likelihood
from algoprog.scaling.prior import GPT2_WEB_PRIOR

QUANTITIES = {
    "exponent": lambda laws: laws["modern"].alpha,
    "gap": lambda laws: laws["modern"].alpha - laws["lstm"].alpha,
    "ln gain": lambda laws: log_gain_new(laws["lstm"], laws["modern"], np.asarray(math.log(3e15))),
    "E": lambda laws: laws["lstm"].E,
}


def constrained(frontier: pd.DataFrame, name: str, value: float) -> float:
    """RSS of ln L minimised over (E, ln a, alpha) of both laws with one quantity held, by a general-purpose solver."""
    archs = ["lstm", "modern"]
    x = np.log(frontier["flops"].to_numpy() / 1e16)
    y = np.log(frontier["loss"].to_numpy())
    own = np.array([archs.index(arch) for arch in frontier["arch"]])
    at = math.log(3e15 / 1e16)

    def rss(p: np.ndarray) -> float:
        r = np.exp(p[1 + own] - 10 * p[3 + own] * x / 100)
        return float(np.sum((y - np.log(p[0] + r)) ** 2)) * 1e4

    def held(p: np.ndarray) -> float:
        alpha = p[3:] / 10
        if name == "exponent":
            return (alpha[1] - value) * 10
        if name == "gap":
            return (alpha[1] - alpha[0] - value) * 10
        if name == "E":
            return p[0] - value
        return (p[1] - p[2] + alpha[1] * at) / alpha[0] - at - value

    best = math.inf
    for e in (0.8, 1.4, 1.9, 2.3):
        start = np.array([e, math.log(4.5 - e), math.log(3.9 - e), 0.65, 0.9])
        found = minimize(
            rss, start, method="SLSQP", constraints={"type": "eq", "fun": held},
            bounds=[(0.0, 3.0), (-2, 3), (-2, 3), (0.05, 5), (0.05, 5)], options={"maxiter": 500, "ftol": 1e-13},
        )  # fmt: skip
        if abs(held(found.x)) < 1e-6:
            best = min(best, found.fun)
    return best / 1e4


@pytest.mark.parametrize("name", list(QUANTITIES))
def test_ends_are_where_constrained_minimisation_reaches_the_limit(study, name: str) -> None:
    frontier = final_frontier(study(budgets=10, decades=3.0, sigma=0.002, archs=("lstm", "modern")))
    fit = fit_frontiers(frontier, loss="squared")
    found = likelihood(frontier, fit)
    assert found is not None
    limit = 1.0 + f_distribution.ppf(0.95, 1, fit.degrees_of_freedom) / fit.degrees_of_freedom
    lowest = 2.0 * fit.objective
    for end in found.interval(QUANTITIES[name]):
        ratio = (constrained(frontier, name, end) / lowest - 1.0) / (limit - 1.0)
        assert ratio == pytest.approx(1.0, abs=0.1)  # of the rise: half of that of the width


def test_fixed_e_of_zero_is_a_linear_regression(study) -> None:
    """With E = 0 the law is a line in ln-ln, and the interval of its slope is Student's."""
    flops = np.geomspace(1e15, 1e18, 9)
    loss = np.exp(1.4 - 0.05 * np.log(flops / 1e16) + 0.01 * np.random.default_rng(0).standard_normal(9))
    frontier = pd.DataFrame({"arch": "modern", "flops": flops, "loss": np.sort(loss)[::-1]})
    fit = fit_frontiers(frontier, 0.0, loss="squared")
    found = likelihood(frontier, fit)
    line = linregress(np.log(flops), np.log(frontier["loss"]))
    half = t_distribution.ppf(0.975, 7) * line.stderr
    assert found is not None
    ends = found.interval(lambda laws: laws["modern"].alpha)
    assert ends == pytest.approx((-line.slope - half, -line.slope + half), rel=1e-6)


def test_the_profile_of_e_is_the_set_of_the_same_likelihood(study) -> None:
    frontier = final_frontier(study(budgets=8, archs=("lstm", "modern")))
    fit = fit_frontiers(frontier, "profile")
    found, profile = likelihood(frontier, fit), profile_irreducible(frontier, fit)
    assert found is not None and profile.interval is not None and fit.E_interval == profile.interval
    assert found.interval(QUANTITIES["E"]) == pytest.approx(profile.interval, abs=0.02)
    e, alpha = found.over_e(QUANTITIES["exponent"])
    assert np.all(np.diff(e) > 0) and np.all(np.diff(alpha) > 0)  # a larger E means a steeper law


def test_a_lower_end_at_the_bound_stays_there() -> None:
    flops = np.geomspace(1e15, 1e16, 6)
    loss = 4.0 * (flops / 1e15) ** -0.05 * np.exp(0.003 * np.array([1, -1, 0.5, -0.5, 1, -1]))
    frontier = pd.DataFrame({"arch": "lstm", "flops": flops, "loss": loss})
    found = likelihood(frontier, fit_frontiers(frontier))
    assert found is not None
    low, high = found.interval(QUANTITIES["E"])
    assert low == 0.0 < high


def test_huber_and_squares_agree_without_outliers_and_huber_resists_one(study) -> None:
    clean = final_frontier(study(budgets=14, sigma=0.002, archs=("lstm", "modern")))
    spoilt = clean.copy()
    spoilt.loc[5, "loss"] *= 0.975
    width = {}
    for kind in ("huber", "squared"):
        for name, rows in (("clean", clean), ("spoilt", spoilt)):
            found = likelihood(rows, fit_frontiers(rows, loss=kind))
            assert found is not None
            low, high = found.interval(QUANTITIES["gap"])
            width[kind, name] = high - low
    assert width["huber", "clean"] == pytest.approx(width["squared", "clean"], rel=0.3)
    assert width["huber", "spoilt"] < 0.7 * width["squared", "spoilt"]


def test_shared_noise_widens_what_rests_on_e(study) -> None:
    """Four architectures with one noise know E no better than one of them."""
    archs = ("lstm", "modern", "retro", "fourth")
    one = study(budgets=10, archs=("lstm",)).assign(seed=0)
    frames = [one.assign(arch=arch, run=[f"{arch}{i}" for i in range(len(one))]) for arch in archs]

    table = pd.concat(frames, ignore_index=True)
    fit = fit_frontiers(final_frontier(table), loss="squared")
    plain = likelihood(final_frontier(table), fit)
    shared = likelihood(final_frontier(with_matches(table, 0.05)), fit)
    assert plain is not None and shared is not None and shared.shared.rho > 0.9
    assert shared.factor(QUANTITIES["E"]) == pytest.approx(1 + 3 * shared.shared.rho, rel=0.01)
    narrow, wide = (one.interval(QUANTITIES["E"]) for one in (plain, shared))
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_what_cannot_be_profiled(study) -> None:
    frame = study(budgets=3, archs=("lstm",))
    assert likelihood(final_frontier(frame), fit_frontiers(final_frontier(frame))) is None
    empty = study(budgets=1)
    assert likelihood(final_frontier(empty), fit_frontiers(final_frontier(empty))) is None
    good = final_frontier(study())
    with pytest.raises(InputError, match="bad level"):
        likelihood(good, fit_frontiers(good), level=1.0)


# ---------------------------------------------------------------- a prior on E


def test_a_prior_on_e_pulls_as_a_measurement_would(study) -> None:
    """Near the optimum E is the mean of two estimates, each weighted with its inverse variance."""
    frontier = final_frontier(study(budgets=12, decades=4.0, sigma=0.001))
    plain = fit_frontiers(frontier, loss="squared")
    curvature = profile_irreducible(frontier, plain, grid=plain.E + np.array([-0.01, 0.0, 0.01])).objective
    second = (curvature[0] - 2 * curvature[1] + curvature[-1]) / 0.01**2
    own = plain.sigma**2 / second
    prior = (plain.E + 0.02, math.sqrt(own))
    fit = fit_frontiers(frontier, loss="squared", prior=prior)
    assert fit.E - plain.E == pytest.approx(0.01, rel=0.15)
    assert fit.prior == prior and "prior on E: normal" in fit.reason
    loose = fit_frontiers(frontier, loss="squared", prior=(0.5, 1e4))
    assert loose.E == pytest.approx(plain.E, abs=1e-6)
    tight = fit_frontiers(frontier, loss="squared", prior=(1.7, 1e-6))
    held = fit_frontiers(frontier, 1.7, loss="squared")
    assert tight.E == pytest.approx(1.7, abs=1e-4)
    assert tight.laws["modern"].alpha == pytest.approx(held.laws["modern"].alpha, rel=1e-3)


def test_a_prior_on_e_narrows_intervals_and_is_printed(study) -> None:
    frame = study(budgets=9, decades=2.0)
    plain, known = (analyse(frame, draws=150, prior=prior) for prior in (None, GPT2_WEB_PRIOR))
    for one, two in zip(plain.sources, known.sources, strict=True):
        if one.quantity == "exponent":
            for wide, narrow in ((one.sampling, two.sampling), (one.profile, two.profile)):
                assert wide is not None and narrow is not None
                assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert "A prior on the irreducible loss was used: normal, 1.7 +- 0.15 nats per token." in known.warnings
    assert not any("prior" in line for line in plain.warnings) and plain.fit.prior is None
    # The draws of E are as wide as the prior at most: it varies as the measurement that it stands for.
    assert 0.03 < np.std(known.boot.E) < 0.2


@pytest.mark.parametrize(
    ("irreducible", "prior", "message"),
    [
        (1.7, (1.7, 0.1), "a prior on an E that is fixed"),
        ("shared", (1.7, 0.0), "bad prior on E"),
        ("shared", (-1.0, 0.1), "bad prior on E"),
        ("shared", (math.nan, 0.1), "bad prior on E"),
    ],
)
def test_bad_priors_are_refused(study, irreducible, prior, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_frontiers(final_frontier(study()), irreducible, prior=prior)
